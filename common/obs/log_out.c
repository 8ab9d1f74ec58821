// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"

void log_out_init(struct log_out *out, int fd) {
    *out = (struct log_out){.fd = fd, .own_fd = -1};
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return;
    }
    out->is_socket = S_ISSOCK(st.st_mode);
    out->is_file = S_ISREG(st.st_mode);
    if (S_ISFIFO(st.st_mode)) {
        // Opening the pipe again gives a description of our own. Not always allowed (a pipe made by
        // another user); then writes are cut to what poll() promises.
        char path[32];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        out->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    }
}

void log_out_fini(struct log_out *out) {
    if (out->own_fd >= 0) {
        close(out->own_fd);
    }
    *out = (struct log_out){.fd = -1, .own_fd = -1};
}

static bool is_writable(int fd, int timeout_ms) {
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};
    return poll(&pfd, 1, timeout_ms) > 0; // errors count: the write will name them
}

// One write that does not block: bytes written or -errno.
static ssize_t write_some(const struct log_out *out, struct slice bytes) {
    ssize_t n;
    if (out->is_socket) {
        n = send(out->fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (out->own_fd >= 0 || out->is_file) {
        n = write(out->own_fd >= 0 ? out->own_fd : out->fd, bytes.ptr, bytes.len);
    } else if (!is_writable(out->fd, 0)) {
        return -EAGAIN;
    } else {
        // A writable pipe has room for PIPE_BUF bytes.
        n = write(out->fd, bytes.ptr, MIN(bytes.len, (size_t)PIPE_BUF));
    }
    return n >= 0 ? n : -errno;
}

ssize_t log_out_write(struct log_out *out, struct slice bytes, int timeout_ms) {
    uint64_t deadline_ns = timeout_ms > 0 ? clock_mono_ns() + (uint64_t)timeout_ms * NS_PER_MS : 0;
    size_t n_written = 0;
    while (n_written < bytes.len) {
        ssize_t n = write_some(out, slice_skip(bytes, n_written));
        if (n > 0) {
            n_written += (size_t)n;
            continue;
        }
        if (n < 0 && n != -EAGAIN && n != -EINTR) {
            return n;
        }
        uint64_t now_ns = timeout_ms > 0 ? clock_mono_ns() : 0;
        if (now_ns >= deadline_ns) {
            break;
        }
        uint64_t left_ms = (deadline_ns - now_ns) / NS_PER_MS + 1;
        (void)is_writable(out->own_fd >= 0 ? out->own_fd : out->fd, (int)left_ms);
    }
    return (ssize_t)n_written;
}
