# SPDX-License-Identifier: Apache-2.0
"""Network namespaces from within the test process.

A socket belongs for ever to the namespace in which it was made, so a test enters a pod's namespace
only to make one, and then uses ordinary Python sockets. setns() concerns the calling thread alone.
"""

import contextlib
import ctypes
import os
import subprocess
import threading

CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
depth = threading.local()


def setns(fd):
    if libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@contextlib.contextmanager
def entered(path):
    """The calling thread is in the namespace at `path` while the block runs."""
    assert not getattr(depth, "inside", False), "namespaces do not nest"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd)
    finally:
        os.close(fd)
    depth.inside = True
    try:
        yield
    finally:
        depth.inside = False
        setns(home)


def ip_batch(lines, ns=None):
    """Runs `ip` commands, one a line."""
    command = ["ip"] + (["-n", ns] if ns else []) + ["-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), text=True, capture_output=True)
    assert done.returncode == 0, f"ip {ns}: {done.stderr}\n" + "\n".join(lines)


def sysctl(path, value):
    """For the namespace that the calling thread is in."""
    with open("/proc/sys/" + path, "w") as file:
        file.write(str(value))
