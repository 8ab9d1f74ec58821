#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make test-kernel`: end-to-end tests on Debian 12's own kernel (6.1), in QEMU by software emulation,
# on the programs of BUILD_DIR. The virtual machine sees this machine's files read-only, with a layer
# in memory above. Takes five minutes on two idle cores, at most KERNEL_TIMEOUT; not a part of
# `make test`.
#
#   scripts/test-kernel.sh [PYTEST-ARGUMENT...]     other tests of tests/e2e than the usual ones
#
#   KERNEL_TIMEOUT=1800   seconds until the machine is switched off
#   KERNEL_DEB=FILE       another linux-image package
#   KERNEL_ACCEL=tcg      or kvm, where that works
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
bin=$(cd "${BUILD_DIR:-build/release}/bin" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ztun/kernel
mkdir -p "$cache"
say() { printf 'test-kernel: %s\n' "$*"; }

if ((EUID != 0)); then
    echo "test-kernel needs root: the virtual machine's tests are root's, on files of this machine" >&2
    exit 1
fi
if ! command -v qemu-system-x86_64 >/dev/null; then
    say "installing qemu-system-x86"
    apt-get update -qq </dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 \
        </dev/null >/dev/null
fi

# The packages are unpacked, not installed.
unpacked() { # NAME DEB: the directory with the content of a package
    local dir=$cache/$1
    if [[ ! -d $dir ]]; then
        rm -rf "$dir.tmp"
        dpkg -x "$2" "$dir.tmp"
        mv "$dir.tmp" "$dir"
    fi
}

download() { # PACKAGE: its file, in the cache
    (cd "$cache" && apt-get download -q "$1" >/dev/null 2>&1) ||
        { apt-get update -qq </dev/null && (cd "$cache" && apt-get download -q "$1" >/dev/null 2>&1); } ||
        { say "$1 cannot be downloaded" >&2; return 1; }
    compgen -G "$cache/$1_*.deb" | tail -n 1
}

if [[ -n ${KERNEL_DEB:-} ]]; then
    image=$(dpkg-deb -f "$KERNEL_DEB" Package)-$(dpkg-deb -f "$KERNEL_DEB" Version)
    unpacked "$image" "$KERNEL_DEB"
else
    package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    [[ -n $package ]] || { say "apt knows no linux-image-amd64: run apt-get update" >&2; exit 1; }
    image=$package
    [[ -d $cache/$image ]] || unpacked "$image" "$(download "$package")"
fi
[[ -d $cache/busybox ]] || unpacked busybox "$(download busybox-static)"
rm -f "$cache"/*.deb
busybox=$cache/busybox/bin/busybox
[[ -x $busybox ]] || busybox=$cache/busybox/usr/bin/busybox
vmlinuz=$(compgen -G "$cache/$image/boot/vmlinuz-*")
version=${vmlinuz##*/vmlinuz-}
modules=$(compgen -G "$cache/$image/lib/modules/$version" || compgen -G "$cache/$image/usr/lib/modules/$version")
[[ -f $modules/modules.dep ]] ||
    "$busybox" depmod -b "${modules%/lib/modules/*}" "$version"

# The initramfs: busybox, tests/kernel/init, and the modules that the root directory needs.
work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$work/initramfs/bin" "$work/initramfs/modules"
cp "$busybox" "$work/initramfs/bin/busybox"
cp tests/kernel/init "$work/initramfs/init"
chmod 755 "$work/initramfs/init"
printf 'ztun.root=%s\n' "$root" >"$work/initramfs/cmdline"
add_module() { # the modules that it needs first
    local line file
    line=$(grep -E "(^|/)$1\.ko(\.[a-z]+)?:" "$modules/modules.dep" | head -n 1) || return 0
    for file in $(tr ' ' '\n' <<<"${line#*:}" | tac) "${line%%:*}"; do
        [[ -n $file && ! -e $work/initramfs/modules/${file##*/} ]] || continue
        cp "$modules/$file" "$work/initramfs/modules/"
        echo "${file##*/}" >>"$work/initramfs/modules/order"
    done
}
for module in virtio_pci 9pnet_virtio 9p overlay virtio_rng; do add_module "$module"; done
(cd "$work/initramfs" && find . | "$busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd.gz"

args=("$@")
if ((${#args[@]} == 0)); then
    # Not those whose point is speed or numbers: everything is thirty times as slow here.
    args=(-m main --color=no
        -k "(tcp or ztunnel or policy or dns or config or lifecycle or workers) and not (storm or memory or load or spread)")
fi
args+=(-v -o timeout=1200)
env=$(printf 'export PATH=%q ROOT=%q BIN=%q ZTUN_TEST_PATIENCE=%q; ARGS=(' \
    "$PATH" "$root" "$bin" "${ZTUN_TEST_PATIENCE:-15}"; printf '%q ' "${args[@]}"; printf ')')

accel=${KERNEL_ACCEL:-tcg}
[[ $accel != tcg ]] || accel=tcg,thread=multi
say "$image on $accel, $bin"
start=$SECONDS
: >"$work/console"
# no_timer_check: an emulated timer that is late is no reason to give up
share=security_model=none,multidevs=remap,readonly=on
timeout --kill-after=10 "${KERNEL_TIMEOUT:-1800}" qemu-system-x86_64 -accel "$accel" -cpu max \
    -smp 2 -m "${KERNEL_MEMORY:-2048}" -nodefaults -no-user-config -no-reboot -display none -nic none \
    -serial stdio -device virtio-rng-pci \
    -virtfs "local,path=/,mount_tag=root,$share" \
    -virtfs "local,path=$modules,mount_tag=modules,$share" \
    -kernel "$vmlinuz" -initrd "$work/initrd.gz" \
    -append "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check ztun.env=$(base64 -w0 <<<"$env")" \
    </dev/null >>"$work/console" 2>&1 &
pid=$!
tail -n +1 -f --pid=$pid "$work/console" | tr -d '\r' || true
wait $pid || true
pid=
say "$((SECONDS - start)) s"
end=$(tr -d '\r' <"$work/console" | sed -n 's/.*kernel-test: exit \([0-9]*\).*/\1/p' | tail -n 1)
if [[ $end != 0 ]]; then
    say "failed: ${end:+the tests ended with }${end:-the virtual machine ended before the tests did}"
    exit 1
fi
say "passed on $version"
