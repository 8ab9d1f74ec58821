// SPDX-License-Identifier: Apache-2.0
//
// A thread with its own io, loop and block pool.
//
// worker_start and worker_stop: the thread that owns the worker (control). The rest belongs to the
// worker's thread; reach it by loop_send(&worker->loop, ...).
#pragma once

#include <pthread.h>

#include "common/rt/io_open.h"
#include "common/rt/loop.h"

struct worker;

struct worker_options {
    const char *name; // of the thread, up to 15 bytes
    int cpu; // -1: any
    uint32_t max_bulk_free; // bulk blocks kept for reuse; 0: 8
    enum io_kind io;
    struct uring_options uring;
    void *arg; // worker->arg, and the owner that mails get
    // On the worker's thread, before the first and after the last turn. `start` returns 0 or -errno
    // (then worker_start fails with it); `stop` must leave no op pending and no block held: it may
    // run loop_turn() itself. NULL ok.
    int (*start)(struct worker *worker);
    void (*stop)(struct worker *worker);
};

struct worker {
    struct worker_options options;
    void *arg;
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    // private
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_started; // the thread said how starting went
    bool is_stop_sent;
    int start_rc;
    char error[URING_ERROR_MAX];
};

// Starts the thread and waits until its loop runs. 0, or -errno and a text in `error`.
MUST_USE int worker_start(struct worker *worker, const struct worker_options *options,
                          char error[URING_ERROR_MAX]);
// Ends the loop and joins the thread: the only way to end it. Not from the worker itself, and no
// other thread may send it mail any more. Mail that came before is run first.
void worker_stop(struct worker *worker);
