#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Configures (when needed) and builds one preset, one build of a directory at a time.
#
#   scripts/build.sh PRESET [TARGET...]      build everything, or only these targets
#   scripts/build.sh PRESET --configure      configure only
#   scripts/build.sh PRESET --test ARG...    run ctest with these arguments
#   scripts/build.sh PRESET --link-bin       let build/bin name the programs of this preset
#
# BUILD_DIR (default build/PRESET) may be anywhere, for example outside a work tree that is shared.
# NINJAFLAGS are handed to ninja, as in NINJAFLAGS='-k 0'.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
dir=${BUILD_DIR:-build/$preset}
mkdir -p "$dir"

case ${1:-} in
--test)
    shift
    # The sanitizers of gcc 12 and clang 14 fail on kernels that randomise more address bits than
    # they expect (vm.mmap_rnd_bits=32).
    no_aslr=()
    if [[ $preset == *[at]san ]] && setarch -R true 2>/dev/null; then
        no_aslr=(setarch -R)
    fi
    # One more try for a test that a busy machine kept from its deadline; ctest says which.
    exec "${no_aslr[@]}" ctest --repeat until-pass:2 --test-dir "$dir" --output-on-failure --no-tests=ignore -j "$(nproc)" "$@"
    ;;
--link-bin)
    # A name that does not move with the preset. Replaced in one step.
    mkdir -p build "$dir/bin"
    link=$(mktemp -u build/.bin.XXXXXX)
    ln -s "$(realpath --relative-to=build "$dir/bin")" "$link"
    mv -T "$link" build/bin
    exit 0
    ;;
esac

exec 9>"$dir/.lock"
flock 9

# BoringSSL first: its output is worth seeing, and its time is not that of this build.
prefix=$(scripts/boringssl.sh)
configured=$(sed -n 's/^ZTUN_BORINGSSL_PREFIX:[^=]*=//p' "$dir/CMakeCache.txt" 2>/dev/null || true)
if [[ ! -f $dir/build.ninja || CMakePresets.json -nt $dir/build.ninja || $configured != "$prefix" ]]; then
    if ! cmake --preset "$preset" -B "$dir" >"$dir/configure.log" 2>&1; then
        cat "$dir/configure.log" >&2
        exit 1
    fi
fi
[[ ${1:-} != --configure ]] || exit 0

targets=()
(($# == 0)) || targets=(--target "$@")
# shellcheck disable=SC2086
exec cmake --build "$dir" "${targets[@]}" -- --quiet ${NINJAFLAGS:-}
