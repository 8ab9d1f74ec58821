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
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:exitcode=99}

sandbox=()
if [[ ${E2E_SANDBOX:-1} != 0 ]]; then
    sandbox=(unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private
        sh -ec 'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns /run/lock; ip link set lo up; exec "$@"' sh)
fi
status=0
# The distribution's Python: the one that has pytest and its plug-ins from debian-packages.txt.
"${sandbox[@]}" /usr/bin/python3 -m pytest --reruns 1 -rR "$@" "${dirs[@]}" </dev/null || status=$?
((status != 5)) || status=0 # nothing was selected
exit $status
