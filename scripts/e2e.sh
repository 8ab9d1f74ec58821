#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The end-to-end tests on the programs of one directory:
#
#   scripts/e2e.sh BIN_DIR [PYTEST-ARGUMENT...]
#
# The tests find the programs by ZTUN_BIN_DIR. They run in mount, network and PID namespaces of
# their own, with an empty /run: they meet nothing of the machine's, several runs do not meet each
# other, and when pytest ends the kernel removes every process, link and namespace that it made.
# There is no way out to the Internet from there; what a test has to download, an executable
# tests/e2e/prepare or tests/interop/prepare fetches before. E2E_SANDBOX=0 runs them in the open.
#
# E2E_JOBS=N runs N such sandboxes side by side that share the tests among them. Most tests wait more
# than they work, so N may be above the number of CPUs. The file of --junitxml=FILE has all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

ZTUN_BIN_DIR=$(cd "$1" && pwd)
export ZTUN_BIN_DIR
shift
dirs=()
for dir in tests/e2e tests/interop; do
    [[ ! -d $dir ]] || dirs+=("$dir")
    [[ ! -x $dir/prepare ]] || "$dir/prepare"
done
if ((${#dirs[@]} == 0)); then
    echo "there are no end-to-end tests yet"
    exit 0
fi
if ((EUID != 0)); then
    echo "the end-to-end tests need root: they make network namespaces" >&2
    exit 1
fi

# A finding of a sanitizer must end the program with a code that the tests notice.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:exitcode=99}
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:exitcode=99}

sandbox=()
if [[ ${E2E_SANDBOX:-1} != 0 ]]; then
    sandbox=(unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private
        sh -ec 'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns /run/lock; ip link set lo up; exec "$@"' sh)
fi
# The distribution's Python: the one that has pytest and its plug-ins from debian-packages.txt.
tests=("${sandbox[@]}" /usr/bin/python3 -m pytest --reruns 1 -rR)
is_good() { # STATUS; 5 is of pytest: nothing was selected
    (($1 == 0 || $1 == 5))
}

work=$(mktemp -d)
pids=()
# A sandbox dies with its unshare, which heeds nothing less.
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/tmp"
export TMPDIR=$work/tmp # what tests that are killed leave there goes, too

if ((${E2E_JOBS:-1} <= 1 || ${#sandbox[@]} == 0)); then
    "${tests[@]}" "$@" "${dirs[@]}" </dev/null &
    pids=($!)
    status=0
    wait "${pids[0]}" || status=$?
    pids=()
    is_good $status || exit $status
    exit 0
fi

mkdir "$work/queue"
export ZTUN_TEST_QUEUE=$work/queue
args=() junit=
for arg in "$@"; do
    case $arg in
    --junitxml=*) junit=${arg#*=} ;;
    *) args+=("$arg") ;;
    esac
done
for ((i = 1; i <= E2E_JOBS; i++)); do
    "${tests[@]}" "${args[@]}" --junitxml="$work/$i.xml" "${dirs[@]}" </dev/null >"$work/$i.log" 2>&1 &
    pids+=($!)
done
failed=()
for ((i = 1; i <= E2E_JOBS; i++)); do
    status=0
    wait "${pids[i - 1]}" || status=$?
    if is_good $status; then
        printf '== part %d of %d\n' "$i" "$E2E_JOBS"
        cat "$work/$i.log"
    else
        failed+=("$i")
    fi
done
pids=()
for i in "${failed[@]}"; do # last, where one looks first
    printf '== part %d of %d\n' "$i" "$E2E_JOBS"
    cat "$work/$i.log"
done
if [[ -n $junit ]]; then
    python3 - "$junit" "$work"/*.xml <<'PY'
import sys
import xml.etree.ElementTree as tree

whole = tree.Element("testsuites")
for path in sys.argv[2:]:
    whole.extend(tree.parse(path).getroot().iter("testsuite"))
tree.ElementTree(whole).write(sys.argv[1], encoding="utf-8", xml_declaration=True)
PY
fi
((${#failed[@]} == 0))
