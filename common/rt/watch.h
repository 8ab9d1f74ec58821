// SPDX-License-Identifier: Apache-2.0
//
// Tells when a descriptor is readable: eventfd, signalfd, inotify, timerfd, a UDP socket.
//
// Each change of the descriptor's state calls fn once, so fn must read until EAGAIN: the descriptor
// is non-blocking (nothing but this poll goes through the ring). Thread: the loop's. Embedded in
// its owner, who may free it in on_stopped.
#pragma once

#include "common/rt/loop.h"

struct watch {
    struct loop *loop;
    int fd; // the owner's; not closed here
    uint32_t mask;
    void (*fn)(struct watch *watch, uint32_t ready); // poll bits; POLLERR after a failed poll
    void (*on_stopped)(struct watch *watch);
    struct op op;
    struct loop_flush flush;
    bool is_stopping;
};

// mask: POLLIN and the like.
void watch_init(struct watch *watch, struct loop *loop, int fd, uint32_t mask,
                void (*fn)(struct watch *, uint32_t ready));
// Asynchronous; on_stopped (NULL ok) is called when the kernel is done with it, fn no more.
void watch_stop(struct watch *watch, void (*on_stopped)(struct watch *));
