#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the libFuzzer targets, each for FUZZ_TIME seconds (60), FUZZ_JOBS at a time (1).
# FUZZ='fuzz_a fuzz_b' picks some. What a run learns stays in build/fuzz/corpus/<target>; crashes go
# to build/fuzz/crashes/. A finding is fixed with its input added to tests/fuzz/corpus/<target>/,
# which `make test` replays.
set -euo pipefail
cd "$(dirname "$0")/.."

unset BUILD_DIR
scripts/build.sh fuzz
crashes=$PWD/build/fuzz/crashes
logs=$PWD/build/fuzz/logs
mkdir -p "$crashes" "$logs"

read -r -a targets <<<"${FUZZ:-}"
if ((${#targets[@]} == 0)); then
    for source in tests/fuzz/fuzz_*.c; do
        [[ ! -e $source ]] || targets+=("$(basename "$source" .c)")
    done
fi

run_target() {
    local target=$1 learned=build/fuzz/corpus/$1 args dirs
    mkdir -p "$learned"
    args=(-max_total_time="${FUZZ_TIME:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
        -artifact_prefix="$crashes/$target-" -verbosity=1)
    [[ ! -f tests/fuzz/dict/$target.dict ]] || args+=(-dict="tests/fuzz/dict/$target.dict")
    dirs=("$learned")
    [[ ! -d tests/fuzz/corpus/$target ]] || dirs+=("tests/fuzz/corpus/$target")
    build/fuzz/fuzz/"$target" "${args[@]}" "${dirs[@]}" </dev/null >"$logs/$target.log" 2>&1
}

failed=()
declare -A running=()
reap() { # one target that has ended
    local pid status=0
    wait -n -p pid "${!running[@]}" || status=$?
    local target=${running[$pid]}
    unset "running[$pid]"
    if ((status != 0)); then
        failed+=("$target")
        echo "fuzz: $target FAILED ($status)"
        tail -n 40 "$logs/$target.log" | sed 's/^/   | /'
    else
        echo "fuzz: $target ok, $(awk '/number_of_executed_units/ { print $2 }' "$logs/$target.log") runs," \
            "$(grep -o 'cov: [0-9]*' "$logs/$target.log" | tail -n 1)"
    fi
}

trap 'kill "${!running[@]}" 2>/dev/null; exit 130' INT TERM HUP
echo "fuzz: ${#targets[@]} targets, ${FUZZ_TIME:-60} s each"
for target in "${targets[@]}"; do
    ((${#running[@]} < ${FUZZ_JOBS:-1})) || reap
    run_target "$target" &
    running[$!]=$target
done
while ((${#running[@]})); do
    reap
done

echo "fuzz: ${#targets[@]} targets, ${#failed[@]} failed ${failed[*]:-}"
((${#failed[@]} == 0))
