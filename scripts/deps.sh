#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what debian-packages.txt lists. Quick and silent when everything is there.
#
#   scripts/deps.sh           all of it
#   scripts/deps.sh --build   what building the programs needs, without tests and measurements
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in
"" | --build) ;;
*)
    echo "deps: unknown argument $1" >&2
    exit 2
    ;;
esac
mapfile -t want < <(awk -v part="${1:-}" '
    part == "--build" && $0 == "# tests, demo, bench" { exit }
    { sub(/#.*/, "") }
    NF { print $1 }' "$here/debian-packages.txt")

if ! command -v dpkg-query >/dev/null; then
    echo "deps: this is not a Debian system; install the counterparts of debian-packages.txt by hand" >&2
    exit 1
fi

# BoringSSL's crate asks for Rust 1.85; a distribution's older cargo does not count.
cargo_is_usable() {
    local version
    version=$(cargo --version 2>/dev/null | awk '{ print $2 }') || return 1
    [[ -n $version && $(printf '%s\n' 1.85 "$version" | sort -V | head -n 1) == 1.85 ]]
}

have=$(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "${want[@]}" 2>/dev/null |
    awk '$2 == "installed" { sub(/:.*/, "", $1); print $1 }') || true
mapfile -t missing < <(printf '%s\n' "${want[@]}" | grep -vxF -f <(printf '%s\n' "$have") || true)
cargo_is_usable || missing+=(cargo-web rustc-web)

((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
    command -v sudo >/dev/null || { echo "deps: run 'make deps' as root" >&2; exit 1; }
fi
echo "deps: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq </dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
