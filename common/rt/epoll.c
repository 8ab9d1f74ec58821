// SPDX-License-Identifier: Apache-2.0
#include "common/rt/epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/hmap.h"
#include "common/base/slab.h"
#include "common/rt/ring_blks.h"
#include "common/rt/sock.h"

enum {
    EVENTS_MAX = 256, // of one turn; more wait in the kernel for the next
    RECVS_MAX = 16, // of one operation in a turn, and accepts: others want to be served, too
    OP_ACCEPT = 0, // op->kind
    OP_CONNECT,
    OP_RECV,
    OP_SEND,
    OP_POLL,
    READ_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLPRI,
    END_EVENTS = EPOLLERR | EPOLLHUP, // concern everyone
    ALL_EVENTS = READ_EVENTS | EPOLLOUT | END_EVENTS,
};

// A submitted operation.
struct wait {
    struct hmap_node by_op;
    struct list node; // epoll.ready or epoll.done; in none while it waits for its edge
    struct wait *next_of_fd;
    struct op *op;
    const struct msghdr *msg; // OP_SEND
    int fd, flags;
    uint32_t mask; // OP_POLL
    uint32_t events; // OP_POLL: seen since it last completed
    int res; // is_done
    bool multishot, is_done;
};

struct slot { // by descriptor
    struct wait *waits;
    uint32_t ready; // events of edges whose readiness was not used up
    bool is_added; // to the epoll set, as far as we know
    bool is_own; // made by this io: nobody else closes it
};

struct epoll {
    struct io io;
    struct ring_blks blks;
    struct slab wait_slab;
    struct hmap by_op;
    struct slot *slots;
    size_t n_slots;
    struct list ready, done; // waits to be tried; waits whose result is known
    struct epoll_event events[EVENTS_MAX];
    int epoll_fd, wake_fd;
    atomic_bool is_waiting, is_woken; // as in uring.c
    bool is_starved; // an -ENOBUFS was given since blocks came back
    bool has_pwait2;
};

static struct epoll *epoll_of(struct io *io) {
    return CONTAINER_OF(io, struct epoll, io);
}

// ---- descriptors and operations ----------------------------------------------------------------

static struct slot *slot_of(struct epoll *e, int fd) {
    CHECK(fd >= 0);
    if ((size_t)fd >= e->n_slots) {
        size_t n = MAX(2 * e->n_slots, (size_t)fd + 64);
        e->slots = xrealloc(e->slots, n * sizeof(*e->slots));
        memset(e->slots + e->n_slots, 0, (n - e->n_slots) * sizeof(*e->slots));
        e->n_slots = n;
    }
    return &e->slots[fd];
}

static uint32_t events_for(const struct wait *wait) {
    switch (wait->op->kind) {
    case OP_ACCEPT:
    case OP_RECV:
        return READ_EVENTS | END_EVENTS;
    case OP_CONNECT:
    case OP_SEND:
        return EPOLLOUT | END_EVENTS;
    default:
        return wait->mask | END_EVENTS;
    }
}

static uint64_t hash_of(const struct op *op) {
    uint64_t mixed = ((uint64_t)(uintptr_t)op >> 4) * 0x9e3779b97f4a7c15u;
    return mixed ^ mixed >> 32;
}

static struct wait *find_wait(struct epoll *e, const struct op *op) {
    HMAP_EACH_WITH_HASH(pos, &e->by_op, hash_of(op)) {
        struct wait *wait = HMAP_ITEM(pos, struct wait, by_op);
        if (wait->op == op) {
            return wait;
        }
    }
    return NULL;
}

static void own(struct epoll *e, int fd) {
    struct slot *slot = slot_of(e, fd);
    slot->is_added = false;
    slot->is_own = true;
}

static void set_done(struct epoll *e, struct wait *wait, int res) {
    list_del(&wait->node);
    wait->is_done = true;
    wait->res = res;
    list_push_back(&e->done, &wait->node);
}

// A descriptor of others may have been closed and opened again behind our back: registering it once
// more tells.
static int add_fd(struct epoll *e, int fd, struct slot *slot) {
    if (slot->is_added && (slot->is_own || slot->waits != NULL)) {
        return 0;
    }
    // END_EVENTS are reported in any case.
    struct epoll_event event = {.events = READ_EVENTS | EPOLLOUT | EPOLLET, .data.fd = fd};
    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) {
        slot->ready = 0; // the first edge tells
    } else if (errno == EEXIST) {
        slot->ready |= ALL_EVENTS; // perhaps: it is tried
    } else {
        return -errno;
    }
    slot->is_added = true;
    return 0;
}

static struct wait *start_op(struct epoll *e, struct op *op, uint8_t kind, int fd) {
    CHECK(op->n_pending == 0);
    op->n_pending = 1;
    op->kind = kind;
    e->io.n_ops++;
    struct wait *wait = slab_zalloc(&e->wait_slab);
    wait->op = op;
    wait->fd = fd;
    list_init(&wait->node);
    hmap_insert(&e->by_op, &wait->by_op, hash_of(op));
    return wait;
}

// Is tried in the next turn if its descriptor may be ready, else when the edge comes.
static void arm(struct epoll *e, struct wait *wait) {
    struct slot *slot = slot_of(e, wait->fd);
    int rc = add_fd(e, wait->fd, slot);
    wait->next_of_fd = slot->waits;
    slot->waits = wait;
    if (rc < 0) {
        set_done(e, wait, rc);
    } else if ((slot->ready & events_for(wait)) != 0) {
        list_push_back(&e->ready, &wait->node);
    }
}

static void forget(struct epoll *e, struct wait *wait) {
    struct wait **link = &slot_of(e, wait->fd)->waits;
    while (*link != NULL && *link != wait) {
        link = &(*link)->next_of_fd;
    }
    if (*link == wait) { // one that was done at once is in no slot
        *link = wait->next_of_fd;
    }
    list_del(&wait->node);
    hmap_remove(&e->by_op, &wait->by_op);
    slab_free(&e->wait_slab, wait);
    e->io.n_ops--;
}

static void complete(struct epoll *e, struct wait *wait, struct io_result *result) {
    struct op *op = wait->op;
    if (!result->more) {
        forget(e, wait);
        op->n_pending = 0;
    }
    e->io.n_completions++;
    op->done(op, result);
}

static void finish(struct epoll *e, struct wait *wait, int res) {
    struct io_result result = {.res = res};
    complete(e, wait, &result);
}

// ---- calls -------------------------------------------------------------------------------------

static size_t iov_bytes(const struct iovec *iov, int n_iov) {
    size_t n = 0;
    for (int i = 0; i < n_iov; i++) {
        n += iov[i].iov_len;
    }
    return n;
}

static ssize_t recv_fd(struct epoll *e, int fd, const struct iovec *iov, int n_iov) {
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov};
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        n = -errno;
    }
    struct slot *slot = slot_of(e, fd);
    if (n == -EAGAIN) {
        slot->ready &= EPOLLOUT;
    } else if (n > 0 && (size_t)n < iov_bytes(iov, n_iov) &&
               (slot->ready & (EPOLLRDHUP | END_EVENTS)) == 0) {
        slot->ready &= ~(uint32_t)READ_EVENTS; // that was all; an end of input has only one edge
    }
    return n;
}

static ssize_t send_fd(struct epoll *e, int fd, const struct msghdr *msg, int flags) {
    ssize_t n;
    do {
        n = sendmsg(fd, msg, flags | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        n = -errno;
    }
    if (n == -EAGAIN) {
        slot_of(e, fd)->ready &= ~(uint32_t)EPOLLOUT;
    }
    return n;
}

static void epoll_accept(struct io *io, struct op *op, int listen_fd) {
    struct epoll *e = epoll_of(io);
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) == 0) {
        (void)fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK);
    }
    arm(e, start_op(e, op, OP_ACCEPT, listen_fd));
}

static void epoll_connect(struct io *io, struct op *op, int fd, const struct sockaddr *sa,
                          socklen_t len) {
    struct epoll *e = epoll_of(io);
    struct wait *wait = start_op(e, op, OP_CONNECT, fd);
    int flags = fcntl(fd, F_GETFL);
    int rc = flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : -errno;
    if (rc == 0 && connect(fd, sa, len) < 0) {
        rc = -errno;
    }
    if (rc == -EINPROGRESS) {
        arm(e, wait); // before it is registered nothing is known: no edge of an unconnected socket
    } else {
        set_done(e, wait, rc);
    }
}

static void epoll_recv_multishot(struct io *io, struct op *op, int fd) {
    struct epoll *e = epoll_of(io);
    arm(e, start_op(e, op, OP_RECV, fd));
}

static void epoll_sendmsg(struct io *io, struct op *op, int fd, const struct msghdr *msg,
                          int flags) {
    struct epoll *e = epoll_of(io);
    struct wait *wait = start_op(e, op, OP_SEND, fd);
    wait->msg = msg;
    wait->flags = flags;
    ssize_t n = send_fd(e, fd, msg, flags);
    if (n == -EAGAIN && (flags & MSG_DONTWAIT) == 0) {
        arm(e, wait);
    } else {
        set_done(e, wait, (int)n);
    }
}

static void epoll_poll(struct io *io, struct op *op, int fd, uint32_t mask, bool multishot) {
    struct epoll *e = epoll_of(io);
    struct wait *wait = start_op(e, op, OP_POLL, fd);
    wait->mask = mask;
    wait->multishot = multishot;
    arm(e, wait);
}

static void epoll_cancel(struct io *io, struct op *op) {
    struct epoll *e = epoll_of(io);
    struct wait *wait = op->n_pending != 0 ? find_wait(e, op) : NULL;
    if (wait != NULL && !wait->is_done) {
        set_done(e, wait, -ECANCELED);
    }
}

// ---- what is ready -----------------------------------------------------------------------------

// Each gives true when there is more to do at once; false: the wait is gone, or waits for an edge.
static bool try_accept(struct epoll *e, struct wait *wait) {
    for (int i = 0; i < RECVS_MAX; i++) {
        int fd = accept4(wait->fd, NULL, NULL, SOCK_CLOEXEC);
        int err = fd < 0 ? errno : 0;
        if (err == EAGAIN) {
            slot_of(e, wait->fd)->ready &= ~(uint32_t)READ_EVENTS;
            return false;
        }
        if (err == EINTR || err == ECONNABORTED) {
            continue;
        }
        if (fd < 0) {
            finish(e, wait, -err);
            return false;
        }
        own(e, fd);
        struct io_result result = {.res = fd, .more = true};
        complete(e, wait, &result);
        if (wait->is_done) { // cancelled
            return false;
        }
    }
    return true;
}

static bool try_recv(struct epoll *e, struct wait *wait) {
    for (int i = 0; i < RECVS_MAX; i++) {
        if (e->blks.n_free == 0) {
            e->is_starved = true;
            finish(e, wait, -ENOBUFS);
            return false;
        }
        struct blk *blk = ring_blks_take(&e->blks, ring_blks_pop(&e->blks));
        struct iovec iov = {.iov_base = blk->base + BLK_HEADROOM, .iov_len = RING_BLK_SIZE};
        ssize_t n = recv_fd(e, wait->fd, &iov, 1);
        if (n <= 0) {
            blk_unref(blk);
            if (n != -EAGAIN) {
                finish(e, wait, (int)n);
            }
            return false;
        }
        bool is_dry = (slot_of(e, wait->fd)->ready & events_for(wait)) == 0;
        struct io_result result = {.res = (int)n, .more = true, .blk = blk, .off = BLK_HEADROOM};
        complete(e, wait, &result);
        if (wait->is_done || is_dry) {
            return false;
        }
    }
    return true;
}

static bool try_connect(struct epoll *e, struct wait *wait) {
    struct pollfd pfd = {.fd = wait->fd, .events = POLLOUT};
    if (poll(&pfd, 1, 0) == 1) {
        finish(e, wait, sock_error(wait->fd));
    }
    return false;
}

static bool try_send(struct epoll *e, struct wait *wait) {
    ssize_t n = send_fd(e, wait->fd, wait->msg, wait->flags);
    if (n != -EAGAIN) {
        finish(e, wait, (int)n);
    }
    return false;
}

static bool try_poll(struct epoll *e, struct wait *wait) {
    uint32_t mask = wait->mask | POLLERR | POLLHUP;
    uint32_t events = wait->events & mask;
    wait->events = 0;
    if (events == 0) { // no edge of its own: what was known before it came may be over
        struct pollfd pfd = {.fd = wait->fd, .events = (short)wait->mask};
        events = poll(&pfd, 1, 0) == 1 ? (uint32_t)pfd.revents & mask : 0;
        if (events == 0) {
            slot_of(e, wait->fd)->ready &= ~wait->mask;
            return false;
        }
    }
    struct io_result result = {.res = (int)events, .more = wait->multishot};
    complete(e, wait, &result);
    return false;
}

static bool try_wait(struct epoll *e, struct wait *wait) {
    switch (wait->op->kind) {
    case OP_ACCEPT:
        return try_accept(e, wait);
    case OP_CONNECT:
        return try_connect(e, wait);
    case OP_RECV:
        return try_recv(e, wait);
    case OP_SEND:
        return try_send(e, wait);
    default:
        return try_poll(e, wait);
    }
}

static void dispatch(struct epoll *e) {
    struct list now;
    list_init(&now);
    list_splice_back(&now, &e->done);
    struct list *node;
    while ((node = list_pop_front(&now)) != NULL) {
        struct wait *wait = LIST_ITEM(node, struct wait, node);
        finish(e, wait, wait->res);
    }
    list_splice_back(&now, &e->ready);
    while ((node = list_pop_front(&now)) != NULL) {
        struct wait *wait = LIST_ITEM(node, struct wait, node);
        if (try_wait(e, wait)) {
            list_push_back(&e->ready, &wait->node); // there is more: at the next turn
        }
    }
}

// ---- the turn ----------------------------------------------------------------------------------

static int wait_events(struct epoll *e, uint64_t deadline, bool wait) {
    uint64_t left = 0;
    if (wait && deadline != TIME_NEVER) {
        uint64_t now = clock_mono_ns();
        left = deadline > now ? deadline - now : 0;
    }
    bool is_endless = wait && deadline == TIME_NEVER;
    int n = -1;
    if (e->has_pwait2) {
        struct timespec ts = {.tv_sec = (time_t)(left / NS_PER_SEC),
                              .tv_nsec = (long)(left % NS_PER_SEC)};
        n = epoll_pwait2(e->epoll_fd, e->events, EVENTS_MAX, is_endless ? NULL : &ts, NULL);
        e->has_pwait2 = n >= 0 || (errno != ENOSYS && errno != EPERM);
    }
    if (!e->has_pwait2) {
        uint64_t ms = MIN((left + NS_PER_MS - 1) / NS_PER_MS, (uint64_t)INT32_MAX);
        n = epoll_wait(e->epoll_fd, e->events, EVENTS_MAX, is_endless ? -1 : (int)ms);
    }
    return n >= 0 ? n : errno == EINTR ? 0 : -errno;
}

static void take_event(struct epoll *e, const struct epoll_event *event) {
    if (event->data.fd == e->wake_fd) {
        return;
    }
    struct slot *slot = slot_of(e, event->data.fd);
    slot->ready |= event->events;
    for (struct wait *wait = slot->waits; wait != NULL; wait = wait->next_of_fd) {
        if (!wait->is_done && (event->events & events_for(wait)) != 0) {
            wait->events |= event->events;
            if (!list_linked(&wait->node)) {
                list_push_back(&e->ready, &wait->node);
            }
        }
    }
}

static int epoll_turn(struct io *io, uint64_t deadline, bool wait) {
    struct epoll *e = epoll_of(io);
    if (e->is_starved && e->blks.n_free > 0) {
        e->is_starved = false;
        if (io->on_buffers != NULL) {
            io->on_buffers(io, io->on_buffers_arg);
        }
    }
    wait = wait && list_empty(&e->ready) && list_empty(&e->done);
    if (wait) {
        atomic_store(&e->is_waiting, true);
        wait = !atomic_load(&e->is_woken);
    }
    int n = wait_events(e, deadline, wait);
    atomic_store_explicit(&e->is_waiting, false, memory_order_relaxed);
    // Cleared before the mailbox is emptied: a message that comes later sets it again.
    if (atomic_load_explicit(&e->is_woken, memory_order_relaxed)) {
        atomic_exchange(&e->is_woken, false);
    }
    if (n < 0) {
        return n;
    }
    if (io->on_awake != NULL) {
        io->on_awake(io, io->on_awake_arg);
    }
    for (int i = 0; i < n; i++) {
        take_event(e, &e->events[i]);
    }
    dispatch(e);
    return 0;
}

static void epoll_wake(struct io *io) {
    struct epoll *e = epoll_of(io);
    if (!atomic_exchange(&e->is_woken, true) && atomic_load(&e->is_waiting)) {
        // The counter is never read: each write is an edge.
        uint64_t one = 1;
        ssize_t n = write(e->wake_fd, &one, sizeof(one));
        CHECK(n == (ssize_t)sizeof(one));
    }
}

static uint64_t epoll_now(struct io *io) {
    return clock_mono_ns();
}

// ---- immediate ---------------------------------------------------------------------------------

static int epoll_accept_now(struct io *io, int listen_fd) {
    int fd = sock_accept_now(listen_fd);
    if (fd >= 0) {
        own(epoll_of(io), fd);
    }
    return fd;
}

static ssize_t epoll_recv_now(struct io *io, int fd, const struct iovec *iov, int n_iov) {
    return recv_fd(epoll_of(io), fd, iov, n_iov);
}

static ssize_t epoll_send_now(struct io *io, int fd, const struct msghdr *msg, int flags) {
    return send_fd(epoll_of(io), fd, msg, flags | MSG_NOSIGNAL);
}

static int epoll_socket(struct io *io, const struct io_socket_params *params) {
    int fd = sock_stream(params);
    if (fd >= 0) {
        own(epoll_of(io), fd);
    }
    return fd;
}

static int epoll_socket_error(struct io *io, int fd) {
    return sock_error(fd);
}

static int epoll_shutdown(struct io *io, int fd, int how) {
    return shutdown(fd, how) == 0 ? 0 : -errno;
}

static void epoll_close(struct io *io, int fd, bool reset) {
    struct slot *slot = slot_of(epoll_of(io), fd);
    slot->is_added = slot->is_own = false;
    slot->ready = 0;
    sock_close(fd, reset);
}

static int epoll_local_addr(struct io *io, int fd, struct addr *ret_addr) {
    return sock_local_addr(fd, ret_addr);
}

static int epoll_peer_addr(struct io *io, int fd, struct addr *ret_addr) {
    return sock_peer_addr(fd, ret_addr);
}

static int epoll_original_dst(struct io *io, int fd, struct addr *ret_addr) {
    return sock_original_dst(fd, ret_addr);
}

// ---- life --------------------------------------------------------------------------------------

static void close_fds(struct epoll *e) {
    if (e->epoll_fd >= 0) {
        close(e->epoll_fd);
    }
    if (e->wake_fd >= 0) {
        close(e->wake_fd);
    }
}

static void epoll_free(struct io *io) {
    struct epoll *e = epoll_of(io);
    CHECK(e->blks.n_free == e->blks.n); // no block is held
    ring_blks_fini(&e->blks);
    close_fds(e);
    hmap_fini(&e->by_op);
    slab_fini(&e->wait_slab);
    free(e->slots);
    free(e);
}

static const struct io_ops epoll_ops = {
    .name = "epoll",
    .free = epoll_free,
    .turn = epoll_turn,
    .wake = epoll_wake,
    .now = epoll_now,
    .accept = epoll_accept,
    .connect = epoll_connect,
    .recv_multishot = epoll_recv_multishot,
    .sendmsg = epoll_sendmsg,
    .poll = epoll_poll,
    .cancel = epoll_cancel,
    .accept_now = epoll_accept_now,
    .recv_now = epoll_recv_now,
    .send_now = epoll_send_now,
    .socket = epoll_socket,
    .socket_error = epoll_socket_error,
    .shutdown = epoll_shutdown,
    .close = epoll_close,
    .local_addr = epoll_local_addr,
    .peer_addr = epoll_peer_addr,
    .original_dst = epoll_original_dst,
};

static int open_fds(struct epoll *e) {
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    e->wake_fd = e->epoll_fd >= 0 ? eventfd(0, EFD_CLOEXEC) : -1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = e->wake_fd};
    if (e->wake_fd < 0 || epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->wake_fd, &event) < 0) {
        return -errno;
    }
    return 0;
}

int epoll_new(unsigned n_buffers, struct blk_pool *pool, struct io **ret_io) {
    struct epoll *e = xcalloc(1, sizeof(*e));
    e->io.ops = &epoll_ops;
    e->io.pool = pool;
    e->has_pwait2 = true;
    int rc = open_fds(e);
    if (rc == 0) {
        rc = ring_blks_init(&e->blks, pool, n_buffers != 0 ? n_buffers : 256);
    }
    if (rc < 0) {
        close_fds(e);
        free(e);
        return rc;
    }
    slab_init(&e->wait_slab, sizeof(struct wait));
    hmap_init(&e->by_op);
    list_init(&e->ready);
    list_init(&e->done);
    *ret_io = &e->io;
    return 0;
}
