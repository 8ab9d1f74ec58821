#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The second process in the virtual machine of scripts/test-kernel.sh: the end-to-end tests on the
# host's user land. What it says last is what the script outside looks for.
set -uo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mkdir -p /run/netns /run/lock
ln -sfn /proc/self/fd /dev/fd
hostname kernel-test
ip link set lo up

# the words of the command line, quoted by the script outside
eval "$(sed -n 's/.*ztun\.env=\([^ ]*\).*/\1/p' /proc/cmdline | base64 -d)"
cd "$ROOT" || exit 1
echo "kernel: $(uname -r), up after $(cut -d. -f1 /proc/uptime) s"
"$BIN/ztun" --version
export PYTHONDONTWRITEBYTECODE=1
export ZTUN_OWN_KERNEL=1
# the distribution's Python: the one that has pytest and its plug-ins from debian-packages.txt
ZTUN_BIN_DIR=$BIN /usr/bin/python3 -m pytest "${ARGS[@]}" tests/e2e </dev/null
echo "kernel-test: exit $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
