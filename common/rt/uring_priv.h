// SPDX-License-Identifier: Apache-2.0
//
// Shared by uring.c, uring_bufs.c and uring_probe.c.
#pragma once

#include <liburing.h>
#include <stdatomic.h>

#include "common/rt/ring_blks.h"
#include "common/rt/uring.h"

enum {
    URING_BUF_GROUP = 1,
    URING_WINDOW_MIN = 64,
};

// The provided-buffer ring and its blocks.
struct uring_bufs {
    struct ring_blks blks;
    struct io_uring_buf_ring *ring; // shared with the kernel
    uint32_t n_given; // blocks with the kernel
    uint32_t window; // how many the kernel is given
    bool is_registered;
    bool is_starved; // an -ENOBUFS was seen since blocks came back
};

struct uring_ready {
    struct op *op;
    int32_t res;
    uint32_t flags;
};

// A send whose success the kernel does not report.
struct uring_silent {
    struct op *op;
    int32_t len;
};

struct uring {
    struct io io;
    struct io_uring ring;
    struct uring_bufs bufs;
    struct uring_ready *ready; // completions of this turn, copied out of the queue
    size_t max_ready;
    struct uring_silent *silent; // in the submission queue
    size_t n_silent, max_silent;
    struct op wake_op;
    int wake_fd;
    // wake() and turn() agree by these two on whether an eventfd write is needed.
    atomic_bool is_waiting, is_woken;
    bool has_poll_first;
    struct uring_stats stats;
};

// 0 or -errno; the memory is touched only when the kernel fills it.
MUST_USE int uring_bufs_init(struct uring_bufs *bufs, struct io_uring *ring, struct blk_pool *pool,
                             unsigned n);
void uring_bufs_fini(struct uring_bufs *bufs, struct io_uring *ring);
// The block that a completion with IORING_CQE_F_BUFFER names; refs = 1.
struct blk *uring_bufs_take(struct uring_bufs *bufs, uint16_t id);
// Gives free blocks to the kernel, up to the window.
void uring_bufs_refill(struct uring_bufs *bufs);
void uring_bufs_starved(struct uring_bufs *bufs); // an -ENOBUFS was seen

// Opens the ring with the best flags that the kernel takes. 0 or -errno with a text.
MUST_USE int uring_setup(struct uring *u, const struct uring_options *options,
                         char error[URING_ERROR_MAX]);
// After uring_bufs_init: receives one byte over a socket pair by a multishot receive.
MUST_USE int uring_self_test(struct uring *u, char error[URING_ERROR_MAX]);
