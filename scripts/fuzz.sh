#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the libFuzzer targets, each for FUZZ_TIME seconds (60). FUZZ='fuzz_a fuzz_b' picks some.
# What a run learns stays in build/fuzz/corpus/<target>; crashes go to build/fuzz/crashes/.
# A finding is fixed with its input added to tests/fuzz/corpus/<target>/, which `make test` replays.
set -euo pipefail
cd "$(dirname "$0")/.."

unset BUILD_DIR
scripts/build.sh fuzz
crashes=$PWD/build/fuzz/crashes
mkdir -p "$crashes"

read -r -a targets <<<"${FUZZ:-}"
if ((${#targets[@]} == 0)); then
    for source in tests/fuzz/fuzz_*.c; do
        [[ ! -e $source ]] || targets+=("$(basename "$source" .c)")
    done
fi

failed=()
for target in "${targets[@]}"; do
    learned=build/fuzz/corpus/$target
    mkdir -p "$learned"
    args=(-max_total_time="${FUZZ_TIME:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0
        -artifact_prefix="$crashes/$target-" -verbosity=0)
    [[ ! -f tests/fuzz/dict/$target.dict ]] || args+=(-dict="tests/fuzz/dict/$target.dict")
    dirs=("$learned")
    [[ ! -d tests/fuzz/corpus/$target ]] || dirs+=("tests/fuzz/corpus/$target")
    echo "fuzz: $target for ${FUZZ_TIME:-60} s"
    if ! build/fuzz/fuzz/"$target" "${args[@]}" "${dirs[@]}" </dev/null; then
        failed+=("$target")
    fi
done

echo "fuzz: ${#targets[@]} targets, ${#failed[@]} failed ${failed[*]:-}"
((${#failed[@]} == 0))
