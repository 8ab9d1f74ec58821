// SPDX-License-Identifier: Apache-2.0
//
// Connections of the simulated network: two byte queues with bounded buffers, FIN behind the data,
// RST that overtakes it, all at random times.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/rt/fake_priv.h"

uint64_t fake_latency(struct fake_net *net) {
    return fake_rand(net, net->options.latency_min_ns, net->options.latency_max_ns);
}

static void dir_init(struct fake_net *net, struct fake_dir *dir) {
    const struct fake_options *o = &net->options;
    dir->send_max = (uint32_t)fake_rand(net, o->send_buffer_min, o->send_buffer_max);
    dir->recv_max = (uint32_t)fake_rand(net, o->recv_buffer_min, o->recv_buffer_max);
    dir->cap = dir->send_max + dir->recv_max;
    dir->buf = xmalloc(dir->cap);
}

void fake_join(struct fake_sock *a, struct fake_sock *b) {
    struct fake_conn *conn = xcalloc(1, sizeof(*conn));
    struct fake_net *net = a->net;
    for (int i = 0; i < 2; i++) {
        dir_init(net, &conn->dir[i]);
        conn->sock[i] = i == 0 ? a : b;
        conn->sock[i]->conn = conn;
        conn->sock[i]->side = i;
    }
    list_push_back(&net->conns, &conn->node);
}

static void conn_free(struct fake_conn *conn) {
    list_del(&conn->node);
    free(conn->dir[0].buf);
    free(conn->dir[1].buf);
    free(conn);
}

void fake_connect_to(struct fake_sock *client, struct fake_sock *listener, const struct addr *dst) {
    struct fake_net *net = client->net;
    struct fake_sock *sock = fake_sock_new(net, listener->netns);
    sock->local = (struct addr){.ip = dst->ip, .port = listener->local.port};
    if (!ip_is_unspecified(&listener->local.ip)) {
        sock->local.ip = listener->local.ip;
    }
    sock->peer = client->local;
    sock->original_dst = *dst;
    fake_join(client, sock);
    if (listener->n_queue == listener->max_queue) {
        listener->max_queue = MAX(2 * listener->max_queue, 8u);
        listener->queue = xrealloc(listener->queue, listener->max_queue * sizeof(int));
    }
    listener->queue[listener->n_queue++] = sock->fd;
    listener->n_changes++;
    fake_tracef(net, "connect %d -> %d (listener %d)", client->fd, sock->fd, listener->fd);
}

int fake_pair(struct fake_net *net, int ret_fds[2]) {
    struct fake_sock *a = fake_sock_new(net, -1), *b = fake_sock_new(net, -1);
    fake_join(a, b);
    ret_fds[0] = a->fd;
    ret_fds[1] = b->fd;
    return 0;
}

int fake_dial(struct fake_net *net, int netns, const struct addr *src, const struct addr *dst) {
    struct fake_sock *sock = fake_sock_new(net, netns);
    if (src != NULL) {
        sock->bind = *src;
    }
    int err;
    struct fake_sock *listener = fake_route_to(sock, dst, &err);
    if (listener == NULL) {
        fake_sock_free(sock);
        return err != 0 ? err : -ETIMEDOUT;
    }
    fake_connect_to(sock, listener, dst);
    return sock->fd;
}

// ---- Bytes ----

static struct fake_dir *inbound(const struct fake_sock *sock) {
    return &sock->conn->dir[1 - sock->side];
}

static struct fake_dir *outbound(const struct fake_sock *sock) {
    return &sock->conn->dir[sock->side];
}

static void dir_get(struct fake_dir *dir, uint8_t *dst, uint32_t len) {
    uint32_t first = MIN(len, dir->cap - dir->head);
    memcpy(dst, dir->buf + dir->head, first);
    memcpy(dst + first, dir->buf, len - first);
    dir->head = (dir->head + len) % dir->cap;
    dir->n_arrived -= len;
}

static void dir_add(struct fake_dir *dir, const uint8_t *src, uint32_t len) {
    uint32_t at = (uint32_t)(((uint64_t)dir->head + dir->n_arrived + dir->n_way) % dir->cap);
    uint32_t first = MIN(len, dir->cap - at);
    memcpy(dir->buf + at, src, first);
    memcpy(dir->buf, src + first, len - first);
    dir->n_way += len;
}

uint32_t fake_readable(const struct fake_sock *sock) {
    return sock->conn != NULL ? inbound(sock)->n_arrived : 0;
}

bool fake_can_read(const struct fake_sock *sock) {
    return sock->conn == NULL || sock->err != 0 || sock->is_dead || inbound(sock)->n_arrived > 0 ||
           inbound(sock)->fin_arrived;
}

bool fake_can_write(const struct fake_sock *sock) {
    return sock->conn == NULL || sock->err != 0 || sock->is_dead || sock->sent_fin ||
           outbound(sock)->n_way < outbound(sock)->send_max;
}

uint32_t fake_poll_mask(const struct fake_sock *sock) {
    if (sock->is_listening) {
        return sock->n_queue > 0 ? POLLIN : 0;
    }
    uint32_t mask = 0;
    mask |= fake_can_read(sock) ? POLLIN : 0;
    mask |= fake_can_write(sock) ? POLLOUT : 0;
    mask |= sock->err != 0 ? POLLERR : 0;
    mask |= sock->is_dead ? POLLHUP | POLLRDHUP : 0;
    if (sock->conn != NULL && inbound(sock)->fin_arrived) {
        mask |= sock->sent_fin ? POLLRDHUP | POLLHUP : POLLRDHUP;
    }
    return mask;
}

// Up to max bytes into iov. 0 = EOF, -EAGAIN, or the pending error (once, as a kernel does).
ssize_t fake_take(struct fake_sock *sock, const struct iovec *iov, size_t n_iov, size_t max) {
    if (sock->conn == NULL) {
        return -ENOTCONN;
    }
    struct fake_dir *dir = inbound(sock);
    size_t n_taken = 0;
    for (size_t i = 0; i < n_iov && n_taken < max && dir->n_arrived > 0; i++) {
        size_t n = MIN(iov[i].iov_len, MIN(max - n_taken, (size_t)dir->n_arrived));
        dir_get(dir, iov[i].iov_base, (uint32_t)n);
        n_taken += n;
    }
    if (n_taken > 0) {
        return (ssize_t)n_taken;
    }
    if (sock->err != 0) {
        int err = sock->err;
        sock->err = 0;
        return err;
    }
    return sock->is_dead || dir->fin_arrived ? 0 : -EAGAIN;
}

ssize_t fake_put(struct fake_sock *sock, const struct iovec *iov, size_t n_iov, size_t max) {
    if (sock->conn == NULL) {
        return -ENOTCONN;
    }
    if (sock->err != 0) {
        int err = sock->err;
        sock->err = 0;
        return err;
    }
    if (sock->is_dead || sock->sent_fin) {
        return -EPIPE;
    }
    struct fake_dir *dir = outbound(sock);
    bool was_empty = dir->n_way == 0;
    size_t n_put = 0;
    for (size_t i = 0; i < n_iov && n_put < max && dir->n_way < dir->send_max; i++) {
        size_t n = MIN(iov[i].iov_len, MIN(max - n_put, (size_t)(dir->send_max - dir->n_way)));
        dir_add(dir, iov[i].iov_base, (uint32_t)n);
        n_put += n;
    }
    if (n_put == 0) {
        return -EAGAIN;
    }
    if (was_empty) {
        dir->next_at = MAX(dir->next_at, sock->net->now + fake_latency(sock->net));
    }
    return (ssize_t)n_put;
}

ssize_t fake_write(struct fake_net *net, int fd, const void *ptr, size_t len) {
    struct iovec iov = {.iov_base = (void *)ptr, .iov_len = len};
    return len == 0 ? 0 : fake_put(fake_sock_get(net, fd), &iov, 1, len);
}

ssize_t fake_read(struct fake_net *net, int fd, void *ptr, size_t len) {
    struct iovec iov = {.iov_base = ptr, .iov_len = len};
    return fake_take(fake_sock_get(net, fd), &iov, 1, len);
}

int fake_shutdown(struct fake_net *net, int fd) {
    struct fake_sock *sock = fake_sock_get(net, fd);
    if (sock->conn == NULL || sock->is_dead) {
        return -ENOTCONN;
    }
    if (!sock->sent_fin) {
        fake_tracef(net, "fin %d", fd);
        sock->sent_fin = true;
        sock->n_changes++;
        struct fake_dir *dir = outbound(sock);
        dir->has_fin = true;
        if (dir->n_way == 0) {
            dir->next_at = MAX(dir->next_at, net->now + fake_latency(net));
        }
    }
    return 0;
}

// ---- Endings ----

static void send_reset(struct fake_net *net, struct fake_conn *conn, int to_side) {
    if (conn->reset_at[to_side] == 0) {
        conn->reset_at[to_side] = net->now + fake_latency(net);
    }
}

static void break_side(struct fake_net *net, struct fake_conn *conn, int side, int err) {
    struct fake_dir *in = &conn->dir[1 - side], *out = &conn->dir[side];
    struct fake_sock *sock = conn->sock[side];
    conn->reset_at[side] = 0;
    in->n_way = 0;
    out->n_way = 0; // what it had not got across is lost
    if (sock == NULL || sock->is_dead) {
        return;
    }
    fake_tracef(net, "broken %d: %d", sock->fd, err);
    if (fake_rand(net, 0, 1) == 0) {
        // Linux leaves what had arrived readable; others do not.
        in->head = (in->head + in->n_arrived) % in->cap;
        in->n_arrived = 0;
    }
    sock->n_changes++;
    sock->is_dead = true;
    sock->err = err == -ECONNRESET && in->fin_arrived ? -EPIPE : err;
}

void fake_stream_close(struct fake_sock *sock, bool reset) {
    struct fake_net *net = sock->net;
    struct fake_conn *conn = sock->conn;
    int side = sock->side;
    // RFC 1122 4.2.2.13, RFC 2525 2.17: unread input turns the close into a reset.
    bool has_unread = inbound(sock)->n_arrived > 0;
    conn->sock[side] = NULL;
    sock->conn = NULL;
    if (conn->sock[1 - side] == NULL) {
        conn_free(conn);
        return;
    }
    if (sock->is_dead) {
        return;
    }
    struct fake_dir *out = &conn->dir[side];
    if (reset || has_unread) {
        out->n_way = 0;
        out->has_fin = false;
        send_reset(net, conn, 1 - side);
    } else if (!out->has_fin) {
        out->has_fin = true;
        if (out->n_way == 0) {
            out->next_at = MAX(out->next_at, net->now + fake_latency(net));
        }
    }
}

void fake_reset(struct fake_net *net, int fd) {
    struct fake_conn *conn = fake_sock_get(net, fd)->conn;
    if (conn != NULL) {
        send_reset(net, conn, 0);
        send_reset(net, conn, 1);
    }
}

void fake_vanish(struct fake_net *net, int fd, uint64_t after_ns) {
    struct fake_conn *conn = fake_sock_get(net, fd)->conn;
    if (conn != NULL) {
        conn->is_vanished = true;
        conn->timeout_at = after_ns != 0 ? net->now + after_ns : 0;
    }
}

// ---- Time ----

static bool dir_can_move(const struct fake_conn *conn, int from) {
    const struct fake_dir *dir = &conn->dir[from];
    bool is_closed = conn->sock[1 - from] == NULL;
    if (dir->n_way > 0) {
        return is_closed || dir->n_arrived < dir->recv_max;
    }
    return dir->has_fin && !dir->fin_arrived;
}

// One segment, or the FIN, arrives.
static void dir_move(struct fake_net *net, struct fake_conn *conn, int from) {
    struct fake_dir *dir = &conn->dir[from];
    for (int side = 0; side < 2; side++) {
        if (conn->sock[side] != NULL) {
            conn->sock[side]->n_changes++; // something to read for one, room for the other
        }
    }
    if (dir->n_way == 0) {
        dir->fin_arrived = true;
        return;
    }
    if (conn->sock[1 - from] == NULL) {
        dir->n_way = 0; // nobody is there any more
        send_reset(net, conn, from);
        return;
    }
    uint32_t n = MIN(dir->n_way, dir->recv_max - dir->n_arrived);
    if (fake_rand(net, 0, 3) == 0) {
        n = (uint32_t)fake_rand(net, 1, n);
    }
    dir->n_way -= n;
    dir->n_arrived += n;
    dir->next_at = net->now + fake_latency(net);
    if (fake_roll(net, net->options.stall)) {
        dir->next_at = net->now + fake_rand(net, 0, NS_PER_SEC);
    }
    if (fake_roll(net, net->options.reset)) {
        send_reset(net, conn, 0);
        send_reset(net, conn, 1);
    }
}

void fake_step(struct fake_net *net) {
    LIST_EACH(node, &net->conns) {
        struct fake_conn *conn = LIST_ITEM(node, struct fake_conn, node);
        if (conn->timeout_at != 0 && conn->timeout_at <= net->now) {
            conn->timeout_at = 0;
            break_side(net, conn, 0, -ETIMEDOUT);
            break_side(net, conn, 1, -ETIMEDOUT);
        }
        for (int side = 0; side < 2 && !conn->is_vanished; side++) {
            if (conn->reset_at[side] != 0 && conn->reset_at[side] <= net->now) {
                break_side(net, conn, side, -ECONNRESET);
            }
            if (dir_can_move(conn, side) && conn->dir[side].next_at <= net->now) {
                dir_move(net, conn, side);
            }
        }
    }
}

uint64_t fake_next_step(const struct fake_net *net) {
    uint64_t next = TIME_NEVER;
    LIST_EACH(node, &net->conns) {
        const struct fake_conn *conn = LIST_ITEM(node, struct fake_conn, node);
        if (conn->timeout_at != 0) {
            next = MIN(next, conn->timeout_at);
        }
        for (int side = 0; side < 2 && !conn->is_vanished; side++) {
            if (conn->reset_at[side] != 0) {
                next = MIN(next, conn->reset_at[side]);
            }
            if (dir_can_move(conn, side)) {
                next = MIN(next, conn->dir[side].next_at);
            }
        }
    }
    return next;
}
