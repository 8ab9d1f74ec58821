#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench`: runs the bench suite (bench/README.md) on the programs of BUILD_DIR.
#
#   scripts/bench.sh [RUN.PY-ARGUMENT...]
#
#   QUICK=1      about four minutes instead of forty
#   ROUNDS=N     rounds A B B A of each part, instead of 5 (2 with QUICK)
#   BENCH=part   one part or several, with commas: l4-bulk, l4-storm, l7-plain, scale, self, matrix ...
#   ZTUNNEL_BIN  a ztunnel to measure beside ztun
#
# Everything runs in mount, network and PID namespaces of its own, with an empty /run: the kernel
# removes every process, link and namespace that was made when the suite ends, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(cd "${BUILD_DIR:-build/release}/bin" && pwd)
if ((EUID != 0)); then
    echo "the bench suite needs root: it makes network namespaces" >&2
    exit 1
fi
exec 9>/tmp/ztun-bench.lock
if ! flock -n 9; then
    echo "another bench suite is running on this machine: they would measure each other" >&2
    exit 1
fi

# The peers that are not packages, while there is a network: the suite runs without one.
tests/interop/prepare || echo "Envoy cannot be fetched: its rows will be left out" >&2

args=(--bin "$bin")
command="make bench"
if [[ ${QUICK:-0} != 0 ]]; then
    args+=(--quick)
    command+=" QUICK=1"
fi
if [[ -n ${ROUNDS:-} ]]; then
    args+=(--rounds "$ROUNDS")
    command+=" ROUNDS=$ROUNDS"
fi
if [[ -n ${BENCH:-} ]]; then
    # shellcheck disable=SC2206
    args+=(${BENCH//,/ })
    command+=" BENCH=$BENCH"
fi

unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private \
    sh -ec 'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns
            TMPDIR=/run; export TMPDIR; ip link set lo up; exec "$@"' \
    sh python3 bench/run.py --command "$command" "${args[@]}" "$@" 9>&- </dev/null &
pid=$!
# unshare leaves SIGTERM and SIGINT to its child. What it started dies with it.
trap 'kill -KILL $pid 2>/dev/null; exit 130' INT TERM HUP
status=0
wait $pid || status=$?
exit $status
