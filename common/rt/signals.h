// SPDX-License-Identifier: Apache-2.0
//
// Signals as events of the control thread's loop (signalfd). They are blocked in the calling
// thread; call it before any thread is made, so that all inherit that. SIGPIPE is ignored.
#pragma once

#include <signal.h>

#include "common/rt/watch.h"

struct signals {
    struct watch watch;
    int fd;
    void (*fn)(struct signals *signals, int signo);
    void (*on_stopped)(struct signals *signals);
};

// 0 or -errno. `set`: SIGTERM, SIGINT, SIGHUP ...
MUST_USE int signals_block(const sigset_t *set, int *ret_fd);
// Starts to watch the fd of signals_block, which passes to `signals`.
void signals_init(struct signals *signals, struct loop *loop, int fd,
                  void (*fn)(struct signals *, int signo));
void signals_stop(struct signals *signals, void (*on_stopped)(struct signals *)); // closes the fd
