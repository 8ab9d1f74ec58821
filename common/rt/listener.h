// SPDX-License-Identifier: Apache-2.0
//
// Accepts connections of one listening socket on a loop: a multishot accept, back-off when the
// process is out of descriptors, and a close that loses no connection.
//
// Thread: the loop's. Embedded in its owner, who may free it in on_closed.
#pragma once

#include "common/rt/loop.h"

struct listener;

struct listener_handler {
    // A connection; fd passes to the callee. May pause or close the listener.
    void (*on_accept)(struct listener *listener, int fd);
    // accept failed with -errno (-EMFILE, -ENFILE, -ENOMEM ...) and is tried again after a while;
    // NULL ok.
    void (*on_error)(struct listener *listener, int err);
    void (*on_closed)(struct listener *listener);
};

struct listener_stats {
    uint64_t n_accepted;
    uint64_t n_refused; // reset because no descriptor was left for them
    uint64_t n_errors; // failed accepts: each starts a back-off
};

struct listener {
    const struct listener_handler *handler;
    struct loop *loop;
    int fd;
    struct op op;
    struct timer timer; // back-off
    struct loop_flush flush;
    uint64_t backoff_ns; // 0 = none
    bool is_paused, is_closing, is_cancelling, adopts_late;
    struct listener_stats stats;
};

enum { LISTENER_BACKOFF_MIN_MS = 10, LISTENER_BACKOFF_MAX_MS = 1000 };

// Takes over fd (a listening socket) and starts to accept.
void listener_init(struct listener *listener, struct loop *loop, int fd,
                   const struct listener_handler *handler);
// A paused listener leaves new connections in the socket's queue. Connections that were accepted
// before the pause took effect are still handed over.
void listener_pause(struct listener *listener, bool on);
// Asynchronous: on_closed follows. Connections that were accepted meanwhile, and with `adopt` those
// in the socket's queue too, are handed to on_accept; without `adopt` they are reset.
void listener_close(struct listener *listener, bool adopt);
