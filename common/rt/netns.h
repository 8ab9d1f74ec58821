// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces: opening them by name, and doing a few system calls inside one.
//
// A socket belongs for ever to the namespace it was made in, so entering is needed only around
// socket() (and bind/listen), on the calling thread: never around a ring operation, which may run
// in another context. A thread that cannot get back aborts the process: going on in a pod's
// namespace would hand that pod our traffic.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "common/base/check.h"

// Two namespaces are the same when these are. A path whose identity changed is another namespace.
struct netns_id {
    dev_t dev;
    ino_t inode;
};

// Opens the namespace `name`: a path when it contains '/', else a file in /run/netns. Returns the
// fd (O_CLOEXEC) or -errno (-ENOENT; -EINVAL: not a network namespace).
MUST_USE int netns_open(const char *name);
// 0 when the descriptor, which somebody else has opened, is a network namespace; else -EINVAL.
MUST_USE int netns_check(int fd);
MUST_USE int netns_id(int netns_fd, struct netns_id *ret_id);
static inline bool netns_id_eq(const struct netns_id *a, const struct netns_id *b) {
    return a->dev == b->dev && a->inode == b->inode;
}
// The fd of the namespace that the process started in; opened at the first call, never closed. Any
// thread.
int netns_own(void);

// Enters the namespace with the calling thread: 0 or -errno (then nothing changed). Not nested.
MUST_USE int netns_enter(int netns_fd);
void netns_leave(void); // back to netns_own(); aborts the process if that fails
