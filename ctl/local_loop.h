// SPDX-License-Identifier: Apache-2.0
//
// The lab supervisor's event loop: descriptors (epoll), timers, child processes. One thread, one
// loop. The supervisor moves no traffic, so this stays small and plain.
//
// A callback may stop or free any watch, timer or child, its own included.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/check.h"
#include "common/base/list.h"

struct lab_fd { // embedded in its owner
    struct list link;
    int fd; // -1 = not watched; closed by lab_fd_close
    void (*fn)(void *arg, uint32_t events); // EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
    void *arg;
};

struct lab_timer { // embedded in its owner; zeroed = not armed
    struct list link;
    uint64_t due_ns;
    void (*fn)(void *arg);
    void *arg;
    bool is_armed;
};

void lab_loop_init(void); // blocks SIGCHLD, SIGTERM, SIGINT, SIGHUP in this process
void lab_loop_fini(void);
// Runs until lab_loop_stop. `turn` is called after each round of events, before sleeping.
void lab_loop_run(void (*turn)(void *arg), void *arg);
void lab_loop_stop(void);
// SIGTERM or SIGINT calls this.
void lab_loop_on_terminate(void (*fn)(void *arg), void *arg);

// `fd` becomes the watch's. events: EPOLLIN | EPOLLOUT.
void lab_fd_open(struct lab_fd *watch, int fd, uint32_t events,
                 void (*fn)(void *arg, uint32_t events), void *arg);
void lab_fd_events(struct lab_fd *watch, uint32_t events);
void lab_fd_close(struct lab_fd *watch); // safe to repeat; a zeroed watch must have fd = -1

void lab_timer_set(struct lab_timer *timer, uint64_t delay_ms, void (*fn)(void *arg), void *arg);
void lab_timer_stop(struct lab_timer *timer);

// Calls fn with the wait status when `pid` has ended (also when it already has).
void lab_child_watch(pid_t pid, void (*fn)(void *arg, pid_t pid, int status), void *arg);
// fn will not be called for this argument any more; the processes are still reaped.
void lab_child_forget(const void *arg);
