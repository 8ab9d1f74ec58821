# SPDX-License-Identifier: Apache-2.0
"""no_io_uring.py COMMAND...: runs it with io_uring_setup refused, as container runtimes do."""

import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
RETURN_ERRNO, RETURN_ALLOW = 0x00050000, 0x7fff0000
IO_URING_SETUP = 425  # on every architecture


def refuse():
    code = [(LOAD_WORD, 0, 0, 0),  # the number of the system call
            (JUMP_EQUAL, 0, 1, IO_URING_SETUP),
            (RETURN, 0, 0, RETURN_ERRNO | errno.EPERM),
            (RETURN, 0, 0, RETURN_ALLOW)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code),
                                                      ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


refuse()
os.execvp(sys.argv[1], sys.argv[1:])
