// SPDX-License-Identifier: Apache-2.0
//
// What a daemon does to itself when it starts.
#pragma once

#include "common/rt/io_open.h"
#include "common/rt/loop.h"

struct log_scope;

// No core dumps (they would hold private keys and traffic secrets), as many descriptors as allowed.
// First thing in main().
void proc_harden(void);

// SIGTERM and SIGINT blocked, to be read from *ret_fd. 0 or -errno. Before threads exist.
MUST_USE int proc_signals(int *ret_fd);

// --io
enum proc_io { PROC_IO_AUTO, PROC_IO_URING, PROC_IO_EPOLL };

// The control thread's back end and loop. Where io_uring is refused, PROC_IO_AUTO says why and
// takes epoll: *ret_kind is what the workers have to take, too. 0, or -errno and a line in the log.
MUST_USE int proc_loop_open(struct loop *loop, struct blk_pool *pool, struct io **ret_io,
                            void *owner, const struct log_scope *scope, enum proc_io want,
                            enum io_kind *ret_kind);

// The calling thread gives way to the workers, and lets everyone who wakes interrupt it
// (sched_slice.h). After the workers exist, since a new thread takes over its nice.
void proc_be_nice(void);

// istio_build, io_backend, and the process's own figures. `component` is a literal.
void proc_collect_build(const char *component, const struct io *io);
