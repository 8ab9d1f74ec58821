#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything that has to hold before a change is merged. Goes on after a failure, so that one run
# shows all of them; ends with what failed, or passed at the second try only, and the line `N passed,
# N failed`, the sum of the checks, the ctest cases and the pytest cases.
#
#   scripts/test.sh [STAGE...]    all stages, or only these (names as printed)
set -uo pipefail
cd "$(dirname "$0")/.."

unset BUILD_DIR MAKEFLAGS MFLAGS MAKELEVEL
logs=$PWD/build/test
rm -rf "$logs"
mkdir -p "$logs"

passed=0
failed=0
failures=()
only=" $* "
stage_pid=

# Whatever a test starts inherits this mark, which is how leftovers are found. (The end-to-end tests
# also run in namespaces of their own, see scripts/e2e.sh.)
export ZTUN_TEST_RUN=$$-$RANDOM$RANDOM
own_group=$(ps -o pgid= -p $$ | tr -d ' ')

# The processes that carry the mark of this run, without our own subshells: one a line.
marked() {
    local file pid group
    for file in /proc/[0-9]*/environ; do
        grep -qzx "ZTUN_TEST_RUN=$ZTUN_TEST_RUN" "$file" 2>/dev/null || continue
        pid=${file#/proc/}
        pid=${pid%/environ}
        group=$(ps -o pgid= -p "$pid" 2>/dev/null | tr -d ' ')
        [[ -z $group || $group == "$own_group" ]] || echo "$pid"
    done
}

# Ends what the tests left running. Fails if there was anything: what is still there after some
# seconds, as a process that has been told to end may need a moment.
end_leftovers() {
    local left pid
    for _ in {1..50}; do
        left=$(marked)
        [[ -n $left ]] || return 0
        sleep 0.1
    done
    for pid in $left; do
        echo "left running: $(ps -o pid=,ppid=,stat=,etimes=,args= -p "$pid")"
        kill -KILL "$pid" 2>/dev/null
    done
    return 1
}

on_exit() {
    trap - EXIT INT TERM HUP
    [[ -z $stage_pid ]] || kill -TERM -- "-$stage_pid" 2>/dev/null
    # shellcheck disable=SC2046
    kill -KILL $(marked) 2>/dev/null
    exit "${1:-1}"
}
trap 'on_exit 130' INT TERM HUP

# stage NAME LIMIT_S COMMAND...: runs the command in its own process group with a time limit.
# What it prints is kept in the log, and shown when it fails.
stage() {
    local name=$1 limit_s=$2 start=$SECONDS status=0 log
    shift 2
    if [[ $only != "  " && $only != *" $name "* ]]; then
        return 0
    fi
    log=$logs/$name.log
    setsid --wait timeout --kill-after=10 "$limit_s" "$@" </dev/null >"$log" 2>&1 &
    stage_pid=$!
    wait "$stage_pid" || status=$?
    stage_pid=
    if ((status != 0)); then
        failures+=("$name")
        printf '== %-18s FAILED (%d), %d s, log: %s\n' "$name" "$status" $((SECONDS - start)) \
            "${log#"$PWD"/}"
        tail -n 40 "$log" | sed 's/^/   | /'
    else
        printf '== %-18s ok, %d s%s\n' "$name" $((SECONDS - start)) "$(counts "$name")"
    fi
    return $status
}

# check NAME ...: a stage that counts as one case.
check() {
    local is_run=1
    [[ $only == "  " || $only == *" $1 "* ]] || is_run=0
    if stage "$@"; then
        passed=$((passed + is_run))
    else
        failed=$((failed + 1))
        return 1
    fi
}

# The cases in a JUnit file: "passed failed skipped".
junit() {
    python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
passed = failed = skipped = 0
try:
    for case in tree.parse(sys.argv[1]).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None \
                or case.get("status") == "fail":
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
except (OSError, tree.ParseError):
    pass
print(passed, failed, skipped)
PY
}

counts() {
    local p f s again
    [[ -f $logs/$1.xml ]] || return 0
    read -r p f s < <(junit "$logs/$1.xml")
    printf ', %d cases' $((p + f))
    ((s == 0)) || printf ', %d skipped' "$s"
    # Passed at the second try: on a busy machine, or by chance. Worth a look.
    again=$(grep -c '^RERUN ' "$logs/$1.log")
    ((again == 0)) || printf ', %d of them at the second try' "$again"
}

# cases NAME ...: a stage that writes $logs/NAME.xml; each case in it counts.
cases() {
    local name=$1 status=0 p f s
    if [[ $only != "  " && $only != *" $name "* ]]; then
        return 0
    fi
    stage "$@" || status=$?
    read -r p f s < <(junit "$logs/$name.xml")
    # A test that could not run has not passed; a run that died without a verdict has failed.
    f=$((f + s))
    if ((status != 0 && f == 0)); then
        f=1
    fi
    if ((status == 0 && f > 0)); then
        failures+=("$name")
    fi
    passed=$((passed + p))
    failed=$((failed + f))
}

ctest_cases() {
    local name=$1 preset=$2 labels=$3
    cases "$name" 600 scripts/build.sh "$preset" --test -L "$labels" \
        --output-junit "$logs/$name.xml" "${@:4}"
}

start=$SECONDS
scripts/deps.sh || { echo "0 passed, 1 failed"; exit 1; }
scripts/boringssl.sh >/dev/null || { echo "0 passed, 1 failed"; exit 1; }
if ((SECONDS - start > 2)); then
    printf '== first run: dependencies and BoringSSL took %d s\n' $((SECONDS - start))
fi
start=$SECONDS
export NINJAFLAGS='-k 0'
no_aslr=() # see scripts/build.sh
! setarch -R true 2>/dev/null || no_aslr=(setarch -R)

check format 60 scripts/format.sh --check
check tidy 60 python3 tests/tidy.py
cases tidy-self-test 120 /usr/bin/python3 -m pytest -q --junitxml="$logs/tidy-self-test.xml" tests/test_tidy.py tests/test_metrics_doc.py \
    tests/test_tutorial_stats.py tests/test_tutorial_docs.py tests/test_tutorial_kube.py tests/test_bench.py \
    tests/test_failures.py

check build-gcc 600 scripts/build.sh release
scripts/build.sh release --link-bin
check headers 120 scripts/check-headers.sh
check build-clang 600 scripts/build.sh clang-release
ctest_cases test release '^(unit|sim|fuzz)$'
check build-asan 600 scripts/build.sh asan
ctest_cases test-asan asan '^(unit|sim|fuzz)$'
check build-tsan 600 scripts/build.sh tsan
# The pure layers have no threads.
ctest_cases test-tsan tsan '^unit$' -E '^unit\.(proto|l7)\.'
# The simulators have one thread: a look is enough.
check sim-tsan 120 "${no_aslr[@]}" env TSAN_OPTIONS=suppressions="$PWD/tests/tsan.supp" \
    sh -ec 'for sim in build/tsan/tests/sim*; do "$sim" --seeds 20; done'
check linkage 60 scripts/check-linkage.sh build/release/bin
# Charts and images. The first time Helm is fetched, with a limit of its own.
check charts-tools 300 tests/charts/prepare
cases charts 180 env ZTUN_BIN_DIR="$PWD/build/release/bin" /usr/bin/python3 -m pytest -q \
    --junitxml="$logs/charts.xml" tests/charts
# Instructions of the hot modules against the stored baseline.
check micro 120 python3 bench/micro.py --bin build/release/bin

if [[ -d tests/e2e || -d tests/interop ]]; then
    export E2E_JOBS=3
    cases e2e 600 scripts/e2e.sh build/release/bin --junitxml="$logs/e2e.xml"
    for sanitizer in asan tsan; do
        cases e2e-$sanitizer 420 "${no_aslr[@]}" scripts/e2e.sh build/$sanitizer/bin -m main \
            --junitxml="$logs/e2e-$sanitizer.xml"
    done
    cases e2e-epoll 420 "${no_aslr[@]}" env ZTUN_IO=epoll scripts/e2e.sh build/asan/bin -m main \
        --junitxml="$logs/e2e-epoll.xml"
fi

# ZTUN_TUTORIAL=all: every row, as continuous integration has it.
cases tutorial 600 env BIN_DIR=build/release/bin scripts/tutorial.sh "${ZTUN_TUTORIAL:-quick}" \
    --junitxml="$logs/tutorial.xml"

if end_leftovers; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    failures+=(leftovers)
fi

printf '== total %d s\n' $((SECONDS - start))
if ((${#failures[@]})); then
    echo "failed: ${failures[*]}"
fi
python3 scripts/failures.py "$logs" "${failures[@]}"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
