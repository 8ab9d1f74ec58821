// SPDX-License-Identifier: Apache-2.0
//
// The simulator's ops and scheduler.
#include "common/rt/fake.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/rt/fake_priv.h"

// op->kind
enum { OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND, OP_POLL };

// An op under way: what a kernel's request is.
struct fake_op {
    struct list node;
    struct op *op;
    struct fake_sock *sock;
    uint64_t not_before;
    bool is_cancelled, is_multishot, is_silent;
    bool has_no_answer; // connect: the SYN got lost
    uint32_t mask;
    uint64_t n_seen; // multishot poll: changes of the socket that were told
    int flags;
    const struct msghdr *msg;
    struct addr dst;
};

struct fake_cqe {
    struct op *op;
    struct io_result result;
};

struct fake_io {
    struct io io;
    struct fake_net *net;
    struct list node; // net->ios
    struct list ops;
    struct fake_cqe *cq;
    size_t n_cq, max_cq;
    size_t n_silent; // of these, that end no wait
    uint64_t deadline; // of its last wait
    bool is_woken, is_starved;
    struct blk *blks;
    uint8_t *mem;
    uint32_t stride;
    struct blk *free_blks;
    uint32_t n_free;
};

static struct fake_io *fake_of(struct io *io) {
    return CONTAINER_OF(io, struct fake_io, io);
}

// ---- Ring blocks ----

static void release(struct blk *blk) {
    // The owner stands in front of the first block.
    struct fake_io *f = *(struct fake_io **)(blk - blk->ring_id - 1);
    memset(blk->base, 0xdd, blk->cap); // who still looks at it sees nonsense
    blk->next_free = f->free_blks;
    f->free_blks = blk;
    f->n_free++;
}

static void make_blocks(struct fake_io *f) {
    const struct fake_options *o = &f->net->options;
    f->stride = BLK_HEADROOM + o->buffer_size + BLK_TAILROOM;
    f->mem = xmalloc((size_t)o->n_buffers * f->stride);
    f->blks = xcalloc(o->n_buffers + 1, sizeof(*f->blks));
    *(struct fake_io **)f->blks = f;
    for (uint32_t i = 0; i < o->n_buffers; i++) {
        struct blk *blk = &f->blks[i + 1];
        *blk = (struct blk){
            .base = f->mem + (size_t)i * f->stride,
            .cap = f->stride,
            .pool = f->io.pool,
            .release = release,
            .kind = BLK_RING,
            .ring_id = (uint16_t)i,
        };
        release(blk);
    }
}

static struct blk *take_block(struct fake_io *f) {
    struct blk *blk = f->free_blks;
    if (blk != NULL) {
        f->free_blks = blk->next_free;
        blk->next_free = NULL;
        blk->refs = 1;
        f->n_free--;
    }
    return blk;
}

// ---- Submission ----

static struct fake_op *submit(struct io *io, struct op *op, uint8_t kind, int fd) {
    struct fake_io *f = fake_of(io);
    CHECK(op->n_pending == 0);
    op->n_pending = 1;
    op->kind = kind;
    io->n_ops++;
    struct fake_op *fop = xcalloc(1, sizeof(*fop));
    fop->op = op;
    fop->sock = fake_sock_get(f->net, fd);
    fop->sock->n_ops++;
    fop->not_before = f->net->now;
    if (fake_roll(f->net, f->net->options.delay)) {
        fop->not_before += fake_rand(f->net, 0, f->net->options.delay_max_ns);
    }
    list_push_back(&f->ops, &fop->node);
    return fop;
}

static void fake_op_accept(struct io *io, struct op *op, int listen_fd) {
    struct fake_op *fop = submit(io, op, OP_ACCEPT, listen_fd);
    CHECK(fop->sock->is_listening);
    fop->is_multishot = true;
}

static void fake_op_connect(struct io *io, struct op *op, int fd, const struct sockaddr *sa,
                            socklen_t len) {
    struct fake_op *fop = submit(io, op, OP_CONNECT, fd);
    CHECK(fop->sock->conn == NULL && addr_from_sockaddr(sa, &fop->dst));
    fop->not_before += 2 * fake_latency(fop->sock->net);
}

static void fake_op_recv(struct io *io, struct op *op, int fd) {
    struct fake_op *fop = submit(io, op, OP_RECV, fd);
    fop->is_multishot = true;
    CHECK(fop->sock->n_recvs++ == 0); // two receives on one socket reorder bytes
}

static void fake_op_sendmsg(struct io *io, struct op *op, int fd, const struct msghdr *msg,
                            int flags) {
    struct fake_op *fop = submit(io, op, OP_SEND, fd);
    CHECK((flags & MSG_NOSIGNAL) != 0);
    CHECK(fop->sock->n_sends++ == 0); // two sends on one socket reorder bytes
    fop->msg = msg;
    fop->flags = flags;
}

static void fake_op_send_silently(struct io *io, struct op *op, int fd, const struct msghdr *msg) {
    fake_op_sendmsg(io, op, fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    struct fake_op *fop = LIST_ITEM(fake_of(io)->ops.prev, struct fake_op, node);
    fop->is_silent = true;
    fop->not_before = fake_of(io)->net->now; // it is tried where it is submitted
}

static void fake_op_poll(struct io *io, struct op *op, int fd, uint32_t mask, bool multishot) {
    struct fake_op *fop = submit(io, op, OP_POLL, fd);
    fop->mask = mask | POLLERR | POLLHUP | POLLRDHUP; // as io_uring, wanted or not
    fop->n_seen = UINT64_MAX;
    fop->is_multishot = multishot;
}

static void fake_cancel(struct io *io, struct op *op) {
    struct fake_io *f = fake_of(io);
    LIST_EACH(node, &f->ops) {
        struct fake_op *fop = LIST_ITEM(node, struct fake_op, node);
        if (fop->op == op && !fop->is_cancelled) {
            // Takes effect at once or later, so that the op's own end may come first.
            fop->is_cancelled = fake_roll(f->net, 800) || f->net->is_quiet;
            if (!fop->is_cancelled) {
                fop->is_cancelled = true;
                fop->not_before = f->net->now + fake_latency(f->net);
            } else {
                fop->not_before = f->net->now;
            }
        }
    }
}

// ---- Execution ----

static void post(struct fake_io *f, struct fake_op *fop, struct io_result result) {
    if (f->n_cq == f->max_cq) {
        f->max_cq = MAX(2 * f->max_cq, (size_t)64);
        f->cq = xrealloc(f->cq, f->max_cq * sizeof(*f->cq));
    }
    f->cq[f->n_cq++] = (struct fake_cqe){.op = fop->op, .result = result};
    fake_tracef(f->net, "op %d on %d: %d%s", fop->op->kind, fop->sock->fd, result.res,
                result.more ? " more" : "");
    if (!result.more) {
        fop->sock->n_ops--;
        fop->sock->n_recvs -= fop->op->kind == OP_RECV;
        fop->sock->n_sends -= fop->op->kind == OP_SEND;
        list_del(&fop->node);
        free(fop);
    }
}

static void post_res(struct fake_io *f, struct fake_op *fop, int res) {
    post(f, fop, (struct io_result){.res = res});
}

static bool goes_on(struct fake_io *f, const struct fake_op *fop) {
    return fop->is_multishot && !fop->is_cancelled &&
           !fake_roll(f->net, f->net->options.end_multishot);
}

static void exec_recv(struct fake_io *f, struct fake_op *fop) {
    struct fake_net *net = f->net;
    uint32_t n = fake_readable(fop->sock);
    if (n == 0) {
        post_res(f, fop, (int)fake_take(fop->sock, NULL, 0, 0)); // EOF or an error
        return;
    }
    struct blk *blk = fake_roll(net, net->options.enobufs) ? NULL : take_block(f);
    if (blk == NULL) {
        f->is_starved = true;
        post_res(f, fop, -ENOBUFS);
        return;
    }
    n = MIN(n, net->options.buffer_size);
    if (fake_roll(net, net->options.short_io)) {
        n = (uint32_t)fake_rand(net, 1, n);
    }
    struct iovec iov = {.iov_base = blk->base + BLK_HEADROOM, .iov_len = n};
    struct io_result result = {.blk = blk, .off = BLK_HEADROOM};
    result.res = (int)fake_take(fop->sock, &iov, 1, n);
    result.more = goes_on(f, fop);
    post(f, fop, result);
}

static size_t msg_len(const struct msghdr *msg) {
    size_t len = 0;
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        len += msg->msg_iov[i].iov_len;
    }
    return len;
}

static ssize_t send_some(struct fake_net *net, struct fake_sock *sock, const struct msghdr *msg,
                         int flags) {
    size_t max = msg_len(msg);
    CHECK(max > 0);
    if ((flags & MSG_DONTWAIT) != 0 && sock->err == 0 && fake_roll(net, net->options.eagain)) {
        return -EAGAIN;
    }
    if (fake_roll(net, net->options.short_io)) {
        max = fake_rand(net, 1, max);
    }
    return fake_put(sock, msg->msg_iov, msg->msg_iovlen, max);
}

static void exec_send(struct fake_io *f, struct fake_op *fop) {
    ssize_t n = send_some(f->net, fop->sock, fop->msg, fop->flags);
    f->n_silent += fop->is_silent && n == (ssize_t)msg_len(fop->msg);
    post_res(f, fop, (int)n);
}

static void exec_accept(struct fake_io *f, struct fake_op *fop) {
    if (fake_roll(f->net, f->net->options.accept_error)) {
        post_res(f, fop, -EMFILE);
        return;
    }
    int fd = fake_sock_pop(fop->sock);
    post(f, fop, (struct io_result){.res = fd, .more = goes_on(f, fop)});
}

static void exec_connect(struct fake_io *f, struct fake_op *fop) {
    int err;
    struct fake_sock *listener = fake_route_to(fop->sock, &fop->dst, &err);
    if (listener != NULL) {
        fake_connect_to(fop->sock, listener, &fop->dst);
        post_res(f, fop, 0);
    } else if (err != 0) {
        post_res(f, fop, err);
    } else {
        fop->has_no_answer = true;
    }
}

static bool can_exec(const struct fake_op *fop) {
    if (fop->is_cancelled) {
        return true;
    }
    switch (fop->op->kind) {
    case OP_ACCEPT:
        return fop->sock->n_queue > 0;
    case OP_CONNECT:
        return !fop->has_no_answer;
    case OP_RECV:
        return fake_can_read(fop->sock);
    case OP_SEND:
        return (fop->flags & MSG_DONTWAIT) != 0 || fake_can_write(fop->sock);
    default:
        // A multishot poll tells of changes, not of a state.
        return (fake_poll_mask(fop->sock) & fop->mask) != 0 && fop->n_seen != fop->sock->n_changes;
    }
}

static void exec(struct fake_io *f, struct fake_op *fop) {
    if (fop->is_cancelled) {
        // What is ready all the same may win the race.
        fop->is_cancelled = false;
        bool wins = can_exec(fop) && fop->op->kind != OP_CONNECT && fake_roll(f->net, 300);
        fop->is_cancelled = true;
        if (!wins) {
            post_res(f, fop, -ECANCELED);
            return;
        }
    }
    switch (fop->op->kind) {
    case OP_ACCEPT:
        exec_accept(f, fop);
        break;
    case OP_CONNECT:
        exec_connect(f, fop);
        break;
    case OP_RECV:
        exec_recv(f, fop);
        break;
    case OP_SEND:
        exec_send(f, fop);
        break;
    default:
        fop->n_seen = fop->sock->n_changes;
        post(f, fop,
             (struct io_result){.res = (int)(fake_poll_mask(fop->sock) & fop->mask),
                                .more = goes_on(f, fop)});
        break;
    }
}

static bool is_due(const struct fake_net *net, const struct fake_op *fop) {
    return fop->not_before <= net->now && can_exec(fop);
}

// Runs what can run, in random order; a multishot may run several times.
static void run_ops(struct fake_io *f) {
    size_t n_due = 0;
    LIST_EACH(node, &f->ops) {
        n_due += is_due(f->net, LIST_ITEM(node, struct fake_op, node));
    }
    for (size_t n_left = 2 * n_due; n_left > 0 && n_due > 0; n_left--) {
        uint64_t pick = fake_rand(f->net, 0, n_due - 1);
        n_due = 0;
        struct fake_op *picked = NULL;
        LIST_EACH(node, &f->ops) {
            struct fake_op *fop = LIST_ITEM(node, struct fake_op, node);
            if (is_due(f->net, fop) && n_due++ == pick) {
                picked = fop;
            }
        }
        if (picked == NULL) {
            break;
        }
        exec(f, picked);
        n_due = 0;
        LIST_EACH(node, &f->ops) {
            n_due += is_due(f->net, LIST_ITEM(node, struct fake_op, node));
        }
    }
}

static uint64_t next_op(const struct fake_io *f) {
    uint64_t next = TIME_NEVER;
    LIST_EACH(node, &f->ops) {
        const struct fake_op *fop = LIST_ITEM(node, struct fake_op, node);
        if (can_exec(fop)) {
            next = MIN(next, fop->not_before);
        }
    }
    return next;
}

// Another loop has something to do now, so time must not move under it.
static bool others_are_busy(const struct fake_io *f) {
    LIST_EACH(node, &f->net->ios) {
        const struct fake_io *other = LIST_ITEM(node, struct fake_io, node);
        if (other != f && (other->is_woken || other->n_cq > other->n_silent ||
                           next_op(other) <= f->net->now || other->deadline <= f->net->now)) {
            return true;
        }
    }
    return false;
}

static uint64_t next_event(const struct fake_io *f) {
    uint64_t next = fake_next_step(f->net);
    LIST_EACH(node, &f->net->ios) {
        const struct fake_io *io = LIST_ITEM(node, struct fake_io, node);
        next = MIN(next, MIN(next_op(io), io->deadline));
    }
    return next;
}

static void wait_for(struct fake_io *f) {
    struct fake_net *net = f->net;
    for (;;) {
        fake_step(net);
        run_ops(f);
        if (f->n_cq > f->n_silent || f->is_woken || f->deadline <= net->now || others_are_busy(f)) {
            return;
        }
        uint64_t next = next_event(f);
        if (next == TIME_NEVER) {
            return;
        }
        net->now = MAX(net->now, next);
    }
}

static int fake_turn(struct io *io, uint64_t deadline, bool wait) {
    struct fake_io *f = fake_of(io);
    f->net->now += fake_rand(f->net, 500, 5000); // work takes time
    f->deadline = wait ? deadline : 0;
    if (f->is_starved && f->n_free > 0) {
        f->is_starved = false;
        if (io->on_buffers != NULL) {
            io->on_buffers(io, io->on_buffers_arg);
        }
    }
    if (wait) {
        wait_for(f);
    } else {
        fake_step(f->net);
        run_ops(f);
    }
    f->is_woken = false;
    if (io->on_awake != NULL) {
        io->on_awake(io, io->on_awake_arg);
    }
    // Completions that come while these are dispatched belong to the next turn.
    size_t n = f->n_cq;
    struct fake_cqe *cq = f->cq;
    f->cq = NULL;
    f->n_cq = f->max_cq = f->n_silent = 0;
    for (size_t i = 0; i < n; i++) {
        struct op *op = cq[i].op;
        if (!cq[i].result.more) {
            op->n_pending = 0;
            io->n_ops--;
        }
        io->n_completions++;
        op->done(op, &cq[i].result);
    }
    free(cq);
    return 0;
}

// ---- The rest of the interface ----

static void fake_io_free(struct io *io) {
    struct fake_io *f = fake_of(io);
    for (struct list *node; (node = list_pop_front(&f->ops)) != NULL;) {
        struct fake_op *fop = LIST_ITEM(node, struct fake_op, node);
        fop->sock->n_ops--;
        free(fop);
    }
    CHECK(f->n_free == f->net->options.n_buffers); // no block is held
    list_del(&f->node);
    free(f->cq);
    free(f->blks);
    free(f->mem);
    free(f);
}

static void fake_wake(struct io *io) {
    fake_of(io)->is_woken = true;
}

static uint64_t fake_io_now(struct io *io) {
    return fake_of(io)->net->now;
}

static int fake_accept_now(struct io *io, int listen_fd) {
    return fake_sock_pop(fake_sock_get(fake_of(io)->net, listen_fd));
}

static ssize_t fake_recv_now(struct io *io, int fd, const struct iovec *iov, int n_iov) {
    struct fake_net *net = fake_of(io)->net;
    struct fake_sock *sock = fake_sock_get(net, fd);
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov};
    size_t max = msg_len(&msg);
    CHECK(sock->n_recvs == 0);
    if (fake_readable(sock) > 0) {
        if (fake_roll(net, net->options.eagain)) {
            return -EAGAIN;
        }
        if (fake_roll(net, net->options.short_io)) {
            max = fake_rand(net, 1, max);
        }
    }
    return fake_take(sock, iov, (size_t)n_iov, max);
}

static ssize_t fake_send_now(struct io *io, int fd, const struct msghdr *msg, int flags) {
    struct fake_net *net = fake_of(io)->net;
    struct fake_sock *sock = fake_sock_get(net, fd);
    CHECK(sock->n_sends == 0);
    return send_some(net, sock, msg, MSG_DONTWAIT);
}

static int fake_socket(struct io *io, const struct io_socket_params *params) {
    return fake_sock_for(fake_of(io)->net, params);
}

static int fake_socket_error(struct io *io, int fd) {
    struct fake_sock *sock = fake_sock_get(fake_of(io)->net, fd);
    int err = sock->err;
    sock->err = 0;
    return err;
}

static int fake_io_shutdown(struct io *io, int fd, int how) {
    CHECK(how == SHUT_WR);
    return fake_shutdown(fake_of(io)->net, fd);
}

static void fake_io_close(struct io *io, int fd, bool reset) {
    fake_close(fake_of(io)->net, fd, reset);
}

static int fake_local_addr(struct io *io, int fd, struct addr *ret_addr) {
    *ret_addr = fake_sock_get(fake_of(io)->net, fd)->local;
    return 0;
}

static int fake_peer_addr(struct io *io, int fd, struct addr *ret_addr) {
    *ret_addr = fake_sock_get(fake_of(io)->net, fd)->peer;
    return 0;
}

static int fake_original_dst(struct io *io, int fd, struct addr *ret_addr) {
    const struct fake_sock *sock = fake_sock_get(fake_of(io)->net, fd);
    *ret_addr = ip_is_set(&sock->original_dst.ip) ? sock->original_dst : sock->local;
    return 0;
}

static const struct io_ops fake_ops = {
    .name = "fake",
    .free = fake_io_free,
    .turn = fake_turn,
    .wake = fake_wake,
    .now = fake_io_now,
    .accept = fake_op_accept,
    .connect = fake_op_connect,
    .recv_multishot = fake_op_recv,
    .sendmsg = fake_op_sendmsg,
    .send_silently = fake_op_send_silently,
    .poll = fake_op_poll,
    .cancel = fake_cancel,
    .accept_now = fake_accept_now,
    .recv_now = fake_recv_now,
    .send_now = fake_send_now,
    .socket = fake_socket,
    .socket_error = fake_socket_error,
    .shutdown = fake_io_shutdown,
    .close = fake_io_close,
    .local_addr = fake_local_addr,
    .peer_addr = fake_peer_addr,
    .original_dst = fake_original_dst,
};

struct io *fake_io_new(struct fake_net *net, struct blk_pool *pool) {
    struct fake_io *f = xcalloc(1, sizeof(*f));
    f->io.ops = &fake_ops;
    f->io.pool = pool;
    f->net = net;
    list_init(&f->ops);
    list_push_back(&net->ios, &f->node);
    make_blocks(f);
    return &f->io;
}

size_t fake_pending_ops(const struct fake_net *net) {
    size_t n = 0;
    LIST_EACH(node, &net->ios) {
        n += LIST_ITEM(node, struct fake_io, node)->io.n_ops;
    }
    return n;
}
