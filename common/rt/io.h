// SPDX-License-Identifier: Apache-2.0
//
// The op interface: what the runtime asks of the kernel, with interchangeable back ends: io_uring
// (uring.c), epoll (epoll.c) where that is forbidden, and the simulator's fake (fake.c).
//
// A struct op is embedded in its owner and belongs to the back end from submission until the
// completion without `more`. Completions never run inside the call that submitted them: the loop
// collects them and calls op->done. Ops are queued here and submitted once a turn, in one enter.
//
// One submission of an op at a time: an op may be submitted again from its final completion on.
// After cancel(), completions that were on their way are still delivered, each once, in order.
//
// File descriptors come from the io that uses them (accept, socket, or sock.h with the io_uring
// back end) and are in blocking mode there: waiting is the ring's business, and io_uring answers
// EAGAIN instead of waiting on a descriptor with O_NONBLOCK.
//
// Thread: one io per worker; every call from that worker.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "common/base/addr.h"
#include "common/base/blk.h"
#include "common/base/check.h"

struct io;
struct op;

struct io_result {
    int res; // as cqe->res: bytes, fd, poll mask, or -errno
    bool more; // multishot: the op is still armed, more completions follow
    // recv_multishot: the bytes are blk[off, off + res); the callee owns the reference. The block
    // has BLK_HEADROOM bytes in front of off and BLK_TAILROOM behind its capacity for the data.
    struct blk *blk;
    uint32_t off;
};

struct op {
    void (*done)(struct op *op, const struct io_result *result);
    // private to the back end:
    uint32_t n_pending; // submissions whose final completion has not been delivered
    uint8_t kind;
};

static inline void op_init(struct op *op, void (*done)(struct op *, const struct io_result *)) {
    *op = (struct op){.done = done};
}
static inline bool op_is_pending(const struct op *op) {
    return op->n_pending != 0;
}

// A stream socket to be made: in which network namespace, with which options (sock.h applies them).
struct io_socket_params {
    int netns_fd; // -1: the current one
    uint32_t mark; // SO_MARK, 0 = none
    uint8_t family; // 4 or 6
    bool transparent; // IP_TRANSPARENT, for a foreign bind address
    bool is_tunnel; // TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT
    struct addr bind; // ip unset: none; port 0 with IP_BIND_ADDRESS_NO_PORT
    uint32_t keepalive_s; // first probe after this; 0 = off
    uint32_t keepalive_interval_s; // 0: as keepalive_s
    uint32_t keepalive_probes;
    uint32_t user_timeout_ms; // 0 = off
    // A process that dies resets the connection instead of ending it in order: what it carried must
    // not look complete. (SO_LINGER 0 until the orderly close.)
    bool cut_on_death;
};

struct io_ops {
    const char *name; // "io_uring", "fake", "epoll"
    void (*free)(struct io *io);
    // Waits until `deadline` (monotonic ns, TIME_NEVER) for at least one completion, submitting
    // what is queued; then dispatches all that are there. wait = false: only submits and collects.
    int (*turn)(struct io *io, uint64_t deadline, bool wait);
    void (*wake)(struct io *io); // ANY thread: ends a wait
    uint64_t (*now)(struct io *io); // monotonic ns (the simulator's own clock)

    // Ops. Buffers, addresses and msghdr arrays must stay valid until the final completion.
    void (*accept)(struct io *io, struct op *op, int listen_fd); // multishot; res = fd
    void (*connect)(struct io *io, struct op *op, int fd, const struct sockaddr *sa, socklen_t len);
    void (*recv_multishot)(struct io *io, struct op *op, int fd); // -ENOBUFS: no ring entry free
    void (*sendmsg)(struct io *io, struct op *op, int fd, const struct msghdr *msg, int flags);
    // What the socket takes at once. That it took all ends no wait: this completion comes in the
    // turn() that submits the op, but that may wait for something else first. Others end the wait.
    // NULL: it would save nothing.
    void (*send_silently)(struct io *io, struct op *op, int fd, const struct msghdr *msg);
    void (*poll)(struct io *io, struct op *op, int fd, uint32_t mask, bool multishot);
    void (*cancel)(struct io *io,
                   struct op *op); // the op's final completion is -ECANCELED or its own

    // Immediate, never blocking.
    int (*accept_now)(struct io *io, int listen_fd); // fd, -EAGAIN when none is queued, -errno
    ssize_t (*recv_now)(struct io *io, int fd, const struct iovec *iov, int n_iov); // bytes, -errno
    // Bytes, -errno. flags: MSG_MORE, MSG_EOR.
    ssize_t (*send_now)(struct io *io, int fd, const struct msghdr *msg, int flags);
    int (*socket)(struct io *io, const struct io_socket_params *params); // fd or -errno
    int (*socket_error)(struct io *io, int fd); // takes SO_ERROR: -errno, 0 = none
    int (*shutdown)(struct io *io, int fd, int how);
    void (*close)(struct io *io, int fd, bool reset); // reset: SO_LINGER 0, RST
    int (*local_addr)(struct io *io, int fd, struct addr *ret_addr);
    int (*peer_addr)(struct io *io, int fd, struct addr *ret_addr);
    int (*original_dst)(struct io *io, int fd, struct addr *ret_addr);
};

struct io {
    const struct io_ops *ops;
    struct blk_pool *pool;
    // Called (if set) when ring entries came back after an -ENOBUFS.
    void (*on_buffers)(struct io *io, void *arg);
    void *on_buffers_arg;
    // Called (if set) in turn(), after the wait and before the first completion is dispatched.
    void (*on_awake)(struct io *io, void *arg);
    void *on_awake_arg;
    uint64_t n_completions; // dispatched so far
    uint32_t n_ops; // ops that wait for their final completion
};

// uring.h, epoll.h: uring_new, epoll_new; fake.h: the simulator.
