// SPDX-License-Identifier: Apache-2.0
//
// The io_uring back end of io.h (Linux 6.1 and newer).
//
// One ring per thread, made on the thread that uses it (SINGLE_ISSUER, DEFER_TASKRUN): uring_new,
// every io call and free come from there; only wake() may come from elsewhere. One io_uring_enter a
// turn submits what is queued and waits.
//
// Receive buffers (ring_blks.h) are a provided-buffer ring. The kernel is given a window of them
// that grows when it ran dry, so that a quiet worker keeps touching the same few.
#pragma once

#include "common/rt/io.h"

enum {
    URING_ERROR_MAX = 320,
};

// Zero is the default everywhere.
struct uring_options {
    unsigned entries; // submission queue, 512
    unsigned cq_entries; // completion queue, 8 * entries
    unsigned n_buffers; // ring blocks, 256; rounded up to a power of two
    // Switches for tests and for kernels that misbehave. Everything newer than Linux 6.1 has one.
    bool disable_defer_taskrun;
    bool disable_single_issuer; // implies disable_defer_taskrun
    bool disable_registered_fd;
    bool disable_poll_first;
};

struct uring_stats {
    uint64_t n_enters; // io_uring_enter calls
    uint64_t n_overflows; // turns that found the completion queue overflowed
    uint64_t n_no_buffers; // -ENOBUFS completions
    uint32_t n_buffers; // ring blocks in all
    uint32_t n_buffers_out; // of these, held by their readers
    uint32_t window; // given to the kernel at a time
    bool has_defer_taskrun, has_single_issuer, has_registered_fd;
};

// 0 and *ret_io, or -errno and a text in `error` that says what is missing and what to change.
// The pool must outlive the io; ops->free frees it, when no op is pending and no ring block is
// held.
MUST_USE int uring_new(const struct uring_options *options, struct blk_pool *pool,
                       char error[URING_ERROR_MAX], struct io **ret_io);

void uring_get_stats(const struct io *io, struct uring_stats *ret_stats);
