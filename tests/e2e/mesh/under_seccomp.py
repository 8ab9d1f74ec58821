# SPDX-License-Identifier: Apache-2.0
"""under_seccomp.py PROFILE COMMAND...: runs it under a container's seccomp profile, but ends it with
SIGSYS at the first system call that the profile refuses."""

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
KILL_PROCESS, ALLOW = 0x80000000, 0x7fff0000


def numbers():
    """The system calls of this machine by name."""
    text = subprocess.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
                          check=True, capture_output=True, text=True, timeout=30).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.M)}


def allowed(profile):
    """The names that it allows. Nothing but plain lists is understood."""
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    names = []
    for group in profile["syscalls"]:
        assert group["action"] == "SCMP_ACT_ALLOW" and set(group) == {"comment", "action", "names"}
        names += group["names"]
    return names


def enter(profile):
    known = numbers()
    code = [(LOAD_WORD, 0, 0, 0)]
    for name in allowed(profile):
        if name in known:
            code += [(JUMP_EQUAL, 0, 1, known[name]), (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, KILL_PROCESS))
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    enter(json.loads(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])
