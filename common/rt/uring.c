// SPDX-License-Identifier: Apache-2.0
#include "common/rt/uring.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/rt/sock.h"
#include "common/rt/uring_priv.h"

// op->kind
enum {
    OP_ACCEPT,
    OP_CONNECT,
    OP_RECV,
    OP_SEND,
    OP_POLL,
    OP_SILENT = 0x40, // flag: its success is not reported
    OP_CANCELLED = 0x80, // flag: cancel() was called
};

static struct uring *uring_of(struct io *io) {
    return CONTAINER_OF(io, struct uring, io);
}

static struct io_uring_sqe *next_sqe(struct uring *u) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    while (UNLIKELY(sqe == NULL)) {
        // Full: hand over what is there. Completions are only collected in turn().
        int rc = io_uring_submit(&u->ring);
        CHECK(rc >= 0 || rc == -EBUSY || rc == -EAGAIN || rc == -EINTR);
        u->stats.n_enters++;
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static struct io_uring_sqe *start_op(struct uring *u, struct op *op, uint8_t kind) {
    CHECK(op->n_pending == 0);
    op->n_pending = 1;
    op->kind = kind;
    u->io.n_ops++;
    return next_sqe(u);
}

static void uring_accept(struct io *io, struct op *op, int listen_fd) {
    struct io_uring_sqe *sqe = start_op(uring_of(io), op, OP_ACCEPT);
    io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, op);
}

static void uring_connect(struct io *io, struct op *op, int fd, const struct sockaddr *sa,
                          socklen_t len) {
    struct io_uring_sqe *sqe = start_op(uring_of(io), op, OP_CONNECT);
    io_uring_prep_connect(sqe, fd, sa, len);
    io_uring_sqe_set_data(sqe, op);
}

static void uring_recv_multishot(struct io *io, struct op *op, int fd) {
    struct uring *u = uring_of(io);
    struct io_uring_sqe *sqe = start_op(u, op, OP_RECV);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUF_GROUP;
    io_uring_sqe_set_data(sqe, op);
}

static void uring_sendmsg(struct io *io, struct op *op, int fd, const struct msghdr *msg,
                          int flags) {
    struct uring *u = uring_of(io);
    struct io_uring_sqe *sqe = start_op(u, op, OP_SEND);
    io_uring_prep_sendmsg(sqe, fd, msg, (unsigned)flags);
    if ((flags & MSG_DONTWAIT) == 0 && u->has_poll_first) {
        // Who is willing to wait was just told that the socket is full: no use in trying first.
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    }
    io_uring_sqe_set_data(sqe, op);
}

// The kernel tries a request with MSG_DONTWAIT in the call that submits it, and never again. So
// when it has taken the request in and reports nothing, all was sent: with MSG_WAITALL a part is a
// failure, and failures are reported.
static void uring_send_silently(struct io *io, struct op *op, int fd, const struct msghdr *msg) {
    struct uring *u = uring_of(io);
    struct io_uring_sqe *sqe = start_op(u, op, OP_SEND | OP_SILENT);
    io_uring_prep_sendmsg(sqe, fd, msg, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data(sqe, op);
    size_t len = 0;
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        len += msg->msg_iov[i].iov_len;
    }
    if (UNLIKELY(u->n_silent == u->max_silent)) {
        u->max_silent = MAX(2 * u->max_silent, (size_t)64);
        u->silent = xrealloc(u->silent, u->max_silent * sizeof(*u->silent));
    }
    u->silent[u->n_silent++] = (struct uring_silent){.op = op, .len = (int32_t)len};
}

static void uring_poll(struct io *io, struct op *op, int fd, uint32_t mask, bool multishot) {
    struct io_uring_sqe *sqe = start_op(uring_of(io), op, OP_POLL);
    if (multishot) {
        io_uring_prep_poll_multishot(sqe, fd, mask);
    } else {
        io_uring_prep_poll_add(sqe, fd, mask);
    }
    io_uring_sqe_set_data(sqe, op);
}

static void uring_cancel(struct io *io, struct op *op) {
    if (op->n_pending == 0 || (op->kind & OP_CANCELLED) != 0) {
        return;
    }
    op->kind |= OP_CANCELLED;
    struct io_uring_sqe *sqe = next_sqe(uring_of(io));
    io_uring_prep_cancel(sqe, op, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data(sqe, NULL); // "not found" comes back to nobody
}

static void on_woken(struct op *op, const struct io_result *result) {
    struct uring *u = CONTAINER_OF(op, struct uring, wake_op);
    if (!result->more) {
        uring_poll(&u->io, op, u->wake_fd, POLLIN, true);
    }
}

static void uring_wake(struct io *io) {
    struct uring *u = uring_of(io);
    if (!atomic_exchange(&u->is_woken, true) && atomic_load(&u->is_waiting)) {
        // The counter is never read: each write makes the armed multishot poll fire again.
        uint64_t one = 1;
        ssize_t n = write(u->wake_fd, &one, sizeof(one));
        CHECK(n == (ssize_t)sizeof(one));
    }
}

static uint64_t uring_now(struct io *io) {
    return clock_mono_ns();
}

static void make_room(struct uring *u, size_t n) {
    if (UNLIKELY(n >= u->max_ready)) {
        u->max_ready = MAX(2 * u->max_ready, n + 64);
        u->ready = xrealloc(u->ready, u->max_ready * sizeof(*u->ready));
    }
}

// Fills the first places of `ready` with the sends that nothing was heard of.
static void collect_silent(struct uring *u) {
    bool is_taken_in = io_uring_sq_ready(&u->ring) == 0; // else the kernel has not tried them all
    size_t n_left = 0;
    for (size_t i = 0; i < u->n_silent; i++) {
        struct uring_silent silent = u->silent[i];
        u->ready[i] = (struct uring_ready){.op = NULL};
        if ((silent.op->kind & OP_SILENT) == 0) {
            continue; // it failed, and has a completion
        }
        if (is_taken_in) {
            silent.op->kind &= (uint8_t)~OP_SILENT;
            u->ready[i] = (struct uring_ready){.op = silent.op, .res = silent.len};
        } else {
            u->silent[n_left++] = silent;
        }
    }
    u->n_silent = n_left;
}

static size_t collect(struct uring *u) {
    if (UNLIKELY(io_uring_cq_has_overflow(&u->ring))) {
        // Nothing is lost (FEAT_NODROP), but it is slow: the queue should have been larger.
        u->stats.n_overflows++;
        io_uring_get_events(&u->ring);
    }
    size_t n = u->n_silent, n_cqes = 0;
    make_room(u, n);
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        struct op *op = io_uring_cqe_get_data(cqe);
        if (op != NULL) {
            op->kind &= (uint8_t)~OP_SILENT;
        }
        make_room(u, n);
        u->ready[n++] = (struct uring_ready){.op = op, .res = cqe->res, .flags = cqe->flags};
        n_cqes++;
    }
    io_uring_cq_advance(&u->ring, (unsigned)n_cqes);
    collect_silent(u);
    return n;
}

static void dispatch(struct uring *u, const struct uring_ready *ready) {
    struct op *op = ready->op;
    if (op == NULL) {
        return; // of a cancellation, or what is reported elsewhere
    }
    struct io_result result = {.res = ready->res, .more = (ready->flags & IORING_CQE_F_MORE) != 0};
    if ((ready->flags & IORING_CQE_F_BUFFER) != 0) {
        struct blk *blk = uring_bufs_take(&u->bufs, (uint16_t)(ready->flags >> 16));
        if (ready->res > 0) {
            result.blk = blk;
            result.off = BLK_HEADROOM;
        } else {
            blk_unref(blk);
        }
    }
    if (UNLIKELY(ready->res == -ENOBUFS) && (op->kind & ~OP_CANCELLED) == OP_RECV) {
        u->stats.n_no_buffers++;
        uring_bufs_starved(&u->bufs);
    }
    if (!result.more) {
        op->n_pending = 0;
        u->io.n_ops--;
    }
    u->io.n_completions++;
    op->done(op, &result);
}

// Submits, and waits until `deadline` if `wait`; only errors of our own making come back.
static int enter(struct uring *u, uint64_t deadline, bool wait) {
    int rc;
    if (wait) {
        struct __kernel_timespec timeout = {0};
        if (deadline != TIME_NEVER) {
            uint64_t now = clock_mono_ns();
            uint64_t left = deadline > now ? deadline - now : 0;
            timeout.tv_sec = (int64_t)(left / NS_PER_SEC);
            timeout.tv_nsec = (int64_t)(left % NS_PER_SEC);
        }
        struct io_uring_cqe *cqe;
        rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1,
                                              deadline != TIME_NEVER ? &timeout : NULL, NULL);
    } else {
        unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
        bool has_work = (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
        if (io_uring_sq_ready(&u->ring) == 0 && !has_work) {
            return 0;
        }
        rc = io_uring_submit_and_get_events(&u->ring);
    }
    u->stats.n_enters++;
    // EBUSY, EAGAIN: too much under way, collect first; what was not submitted stays queued.
    bool is_fine = rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN;
    return is_fine ? 0 : rc;
}

static int uring_turn(struct io *io, uint64_t deadline, bool wait) {
    struct uring *u = uring_of(io);
    uring_bufs_refill(&u->bufs);
    if (u->bufs.is_starved && u->bufs.n_given > 0) {
        u->bufs.is_starved = false;
        if (io->on_buffers != NULL) {
            io->on_buffers(io, io->on_buffers_arg);
        }
    }
    if (wait) {
        atomic_store(&u->is_waiting, true);
        wait = !atomic_load(&u->is_woken);
    }
    int rc = enter(u, deadline, wait);
    atomic_store_explicit(&u->is_waiting, false, memory_order_relaxed);
    // Cleared before the mailbox is emptied: a message that comes later sets it again.
    if (atomic_load_explicit(&u->is_woken, memory_order_relaxed)) {
        atomic_exchange(&u->is_woken, false);
    }
    if (rc < 0) {
        return rc;
    }
    size_t n = collect(u);
    if (io->on_awake != NULL) {
        io->on_awake(io, io->on_awake_arg);
    }
    for (size_t i = 0; i < n; i++) {
        dispatch(u, &u->ready[i]);
    }
    return 0;
}

static void uring_free(struct io *io) {
    struct uring *u = uring_of(io);
    CHECK(u->bufs.blks.n_free + u->bufs.n_given == u->bufs.blks.n); // no block is held
    uring_bufs_fini(&u->bufs, &u->ring);
    io_uring_queue_exit(&u->ring);
    close(u->wake_fd);
    free(u->ready);
    free(u->silent);
    free(u);
}

static int uring_accept_now(struct io *io, int listen_fd) {
    return sock_accept_now(listen_fd);
}

static ssize_t uring_recv_now(struct io *io, int fd, const struct iovec *iov, int n_iov) {
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov};
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

static ssize_t uring_send_now(struct io *io, int fd, const struct msghdr *msg, int flags) {
    ssize_t n;
    do {
        n = sendmsg(fd, msg, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

static int uring_socket(struct io *io, const struct io_socket_params *params) {
    return sock_stream(params);
}

static int uring_socket_error(struct io *io, int fd) {
    return sock_error(fd);
}

static int uring_shutdown(struct io *io, int fd, int how) {
    return shutdown(fd, how) == 0 ? 0 : -errno;
}

static void uring_close(struct io *io, int fd, bool reset) {
    sock_close(fd, reset);
}

static int uring_local_addr(struct io *io, int fd, struct addr *ret_addr) {
    return sock_local_addr(fd, ret_addr);
}

static int uring_peer_addr(struct io *io, int fd, struct addr *ret_addr) {
    return sock_peer_addr(fd, ret_addr);
}

static int uring_original_dst(struct io *io, int fd, struct addr *ret_addr) {
    return sock_original_dst(fd, ret_addr);
}

static const struct io_ops uring_ops = {
    .name = "io_uring",
    .free = uring_free,
    .turn = uring_turn,
    .wake = uring_wake,
    .now = uring_now,
    .accept = uring_accept,
    .connect = uring_connect,
    .recv_multishot = uring_recv_multishot,
    .sendmsg = uring_sendmsg,
    .send_silently = uring_send_silently,
    .poll = uring_poll,
    .cancel = uring_cancel,
    .accept_now = uring_accept_now,
    .recv_now = uring_recv_now,
    .send_now = uring_send_now,
    .socket = uring_socket,
    .socket_error = uring_socket_error,
    .shutdown = uring_shutdown,
    .close = uring_close,
    .local_addr = uring_local_addr,
    .peer_addr = uring_peer_addr,
    .original_dst = uring_original_dst,
};

int uring_new(const struct uring_options *options, struct blk_pool *pool,
              char error[URING_ERROR_MAX], struct io **ret_io) {
    struct uring *u = xcalloc(1, sizeof(*u));
    u->io.ops = &uring_ops;
    u->io.pool = pool;
    int rc = uring_setup(u, options, error);
    if (rc < 0) {
        free(u);
        return rc;
    }
    unsigned n_buffers = options->n_buffers != 0 ? options->n_buffers : 256;
    rc = uring_bufs_init(&u->bufs, &u->ring, pool, n_buffers);
    if (rc < 0) {
        snprintf(error, URING_ERROR_MAX,
                 "io_uring refuses a ring of provided buffers; use Linux 6.1 or newer (%s)",
                 strerror(-rc));
        goto fail_ring;
    }
    rc = uring_self_test(u, error);
    if (rc < 0) {
        goto fail_bufs;
    }
    u->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (u->wake_fd < 0) {
        rc = -errno;
        snprintf(error, URING_ERROR_MAX, "eventfd: %s", strerror(errno));
        goto fail_bufs;
    }
    op_init(&u->wake_op, on_woken);
    uring_poll(&u->io, &u->wake_op, u->wake_fd, POLLIN, true);
    u->io.n_ops = 0; // the wake-up does not count
    *ret_io = &u->io;
    return 0;
fail_bufs:
    uring_bufs_fini(&u->bufs, &u->ring);
fail_ring:
    io_uring_queue_exit(&u->ring);
    free(u);
    return rc;
}

void uring_get_stats(const struct io *io, struct uring_stats *ret_stats) {
    const struct uring *u = CONTAINER_OF(io, const struct uring, io);
    *ret_stats = u->stats;
    ret_stats->n_buffers = u->bufs.blks.n;
    ret_stats->n_buffers_out = u->bufs.blks.n - u->bufs.blks.n_free - u->bufs.n_given;
    ret_stats->window = u->bufs.window;
}
