#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the prefix of BoringSSL (include/openssl/*.h, lib/libssl.a, lib/libcrypto.a) and builds it
# first if it is not in the cache yet. All other output goes to stderr.
#
#   scripts/boringssl.sh            build if needed, print the prefix
#   scripts/boringssl.sh --prefix   print the prefix, never build
#
# BORINGSSL_ROOT=/path names a build of one's own; nothing is built then.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
manifest=$here/cmake/boringssl

say() { printf 'boringssl: %s\n' "$*" >&2; }
complete() { [[ -f $1/include/openssl/ssl.h && -f $1/lib/libssl.a && -f $1/lib/libcrypto.a ]]; }

if [[ -n ${BORINGSSL_ROOT:-} ]]; then
    if ! complete "$BORINGSSL_ROOT"; then
        say "BORINGSSL_ROOT=$BORINGSSL_ROOT lacks include/openssl/ssl.h, lib/libssl.a or lib/libcrypto.a"
        exit 1
    fi
    echo "$BORINGSSL_ROOT"
    exit 0
fi

# The manifest decides what is built, so its hash names the result.
key=$(cat "$manifest/Cargo.toml" "$manifest/Cargo.lock" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ztun
prefix=$cache/boringssl-$key

if [[ ${1:-} == --prefix ]] || complete "$prefix"; then
    echo "$prefix"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/boringssl.lock"
if ! flock -n 9; then
    say "another build is running, waiting for it"
    flock 9
fi
if complete "$prefix"; then
    echo "$prefix"
    exit 0
fi

command -v cargo >/dev/null || { say "no cargo on the PATH; run 'make deps'"; exit 1; }

work=$(mktemp -d "$cache/boringssl-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/out" "$work/src"
cp "$manifest/Cargo.toml" "$manifest/Cargo.lock" "$work/"
cp "$manifest/src/lib.rs" "$work/src/"

say "building it once into $prefix (some minutes)"
start=$SECONDS
# A clean set of flags: what the caller compiles with must not leak into the cached result.
if ! (
    cd "$work"
    unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS ASMFLAGS RUSTFLAGS CMAKE_GENERATOR MAKEFLAGS MFLAGS
    unset CMAKE_BUILD_TYPE CMAKE_TOOLCHAIN_FILE CARGO_BUILD_TARGET "${!BORING_BSSL_@}"
    BORING_BSSL_INSTALL_DIR=$work/out cargo build --release --locked --target-dir "$work/target"
) >"$work/log" 2>&1; then
    tail -n 60 "$work/log" >&2
    say "the build failed"
    exit 1
fi
complete "$work/out" || { say "the build left no libraries"; exit 1; }
# Symbols stay, for profiles; debug data would make up nine tenths of every test program.
strip --strip-debug "$work/out/lib/libssl.a" "$work/out/lib/libcrypto.a"

rm -rf "$prefix"
mv "$work/out" "$prefix"
say "done in $((SECONDS - start)) s"
echo "$prefix"
