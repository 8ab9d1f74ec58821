// SPDX-License-Identifier: Apache-2.0
//
// The epoll back end of io.h, for nodes whose seccomp profile or sysctl forbids io_uring. Slower
// (each operation is a system call of its own), with nothing left out.
//
// Descriptors are registered once, edge-triggered; what an edge said is remembered until a call
// answers EAGAIN or moves less than it could. Operations whose descriptor is known to be ready run
// at the next turn, others when their edge comes.
//
// Receive buffers are ring_blks.h's, as with io_uring.
#pragma once

#include "common/rt/io.h"

// 0 and *ret_io, or -errno. `n_buffers` 0: 256. The pool must outlive the io; ops->free frees it,
// when no op is pending and no ring block is held.
MUST_USE int epoll_new(unsigned n_buffers, struct blk_pool *pool, struct io **ret_io);
