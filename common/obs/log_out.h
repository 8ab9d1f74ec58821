// SPDX-License-Identifier: Apache-2.0
//
// Writes to the log's file descriptor without blocking and without making it non-blocking for the
// others who share it (O_NONBLOCK belongs to the open file, which is often the user's terminal).
//
// Thread: one at a time.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/check.h"
#include "common/base/slice.h"

struct log_out {
    int fd; // borrowed
    int own_fd; // a non-blocking description of the same pipe, or -1
    bool is_socket;
    bool is_file;
};

void log_out_init(struct log_out *out, int fd);
void log_out_fini(struct log_out *out);
// Writes from the front, waiting up to `timeout_ms` in all (0 = not at all). Returns the bytes
// written, less than bytes.len when the reader is too slow, or -errno: nobody will read any more.
ssize_t log_out_write(struct log_out *out, struct slice bytes, int timeout_ms) MUST_USE;
