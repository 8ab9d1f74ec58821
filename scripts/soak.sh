#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The long run (tests/soak/soak.py): two nodes under mixed load for SOAK_TIME, with reloads, pods that
# come and go, certificates that live a minute, and a second ztun beside the first. It prints a table
# and fails if a byte was lost, a request failed that must not, or memory, descriptors or gauges did
# not come back.
#
#   SOAK_TIME=10m scripts/soak.sh [SOAK.PY-ARGUMENT...]
#
#   SOAK_BIN=DIR    the programs; default BUILD_DIR/bin. A sanitizer's are fine, and slower.
#   SOAK_LOGS=DIR   where the logs of both nodes are kept
#
# It runs in mount, network and PID namespaces of its own: nothing is left when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

ZTUN_BIN_DIR=$(cd "${SOAK_BIN:-${BUILD_DIR:-build/release}/bin}" && pwd)
export ZTUN_BIN_DIR
if ((EUID != 0)); then
    echo "the soak run needs root: it makes network namespaces" >&2
    exit 1
fi
args=(--time "${SOAK_TIME:-10m}")
[[ -z ${SOAK_LOGS:-} ]] || args+=(--logs "$(realpath -m "$SOAK_LOGS")")

# A finding of a sanitizer ends the program, which the run notices.
no_aslr=()
if ldd "$ZTUN_BIN_DIR/ztun" | grep -qE 'lib[at]san'; then
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:exitcode=99}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:exitcode=99}
    export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp:exitcode=99}
    export ZTUN_TEST_PATIENCE=${ZTUN_TEST_PATIENCE:-3} SOAK_TIMEOUT=${SOAK_TIMEOUT:-60}
    ! setarch -R true 2>/dev/null || no_aslr=(setarch -R) # see scripts/build.sh
fi

unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private \
    sh -ec 'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns /run/lock; ip link set lo up
            exec "$@"' sh "${no_aslr[@]}" python3 tests/soak/soak.py "${args[@]}" "$@" </dev/null &
pid=$!
trap 'kill -KILL $pid 2>/dev/null; exit 130' INT TERM HUP
status=0
wait $pid || status=$?
exit $status
