// SPDX-License-Identifier: Apache-2.0
//
// Clients of the DNS proxy that come over TCP (RFC 7766): several queries a connection, answered in
// the order in which the answers come.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/proto/dns_msg.h"
#include "ztun/dns_proxy_priv.h"

enum { HEAD_LEN = 2, OUT_MAX = 256 * 1024, READS_PER_TURN = 16 };

struct dns_tcp {
    struct list node; // proxy->clients; first (dns_proxy.c)
    struct dns_proxy *proxy;
    int fd;
    struct watch watch;
    struct timer idle, more; // more: the budget of a turn was used up
    struct buf in, out; // out: what the socket did not take yet
    uint32_t n_pending;
    bool is_at_end; // the client sends no more
    bool is_closing;
    bool is_reading; // on the stack
};

static void on_stopped(struct watch *watch) {
    struct dns_tcp *tcp = CONTAINER_OF(watch, struct dns_tcp, watch);
    struct dns_proxy *proxy = tcp->proxy;
    list_del(&tcp->node);
    proxy->n_clients--;
    close(tcp->fd);
    buf_fini(&tcp->in);
    buf_fini(&tcp->out);
    free(tcp);
    dns_proxy_check_closed(proxy);
}

void dns_tcp_close(struct dns_tcp *tcp) {
    if (tcp->is_closing) {
        return;
    }
    tcp->is_closing = true;
    timer_clear(&tcp->proxy->loop->timers, &tcp->idle);
    timer_clear(&tcp->proxy->loop->timers, &tcp->more);
    dns_proxy_forget(tcp->proxy, tcp);
    watch_stop(&tcp->watch, on_stopped);
}

static void touch(struct dns_tcp *tcp) {
    struct loop *loop = tcp->proxy->loop;
    timer_set(&loop->timers, &tcp->idle, loop->now + DNS_TCP_IDLE_MS * NS_PER_MS);
}

static void on_idle(struct timer *timer, uint64_t now) {
    dns_tcp_close(CONTAINER_OF(timer, struct dns_tcp, idle));
}

// Drops `len` bytes at the front.
static void consume(struct buf *buf, size_t len) {
    memmove(buf->ptr, buf->ptr + len, buf->len - len);
    buf_truncate(buf, buf->len - len);
}

static void flush(struct dns_tcp *tcp) {
    while (tcp->out.len > 0) {
        ssize_t n = send(tcp->fd, tcp->out.ptr, tcp->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                dns_tcp_close(tcp);
            }
            return;
        }
        consume(&tcp->out, (size_t)n);
    }
}

static void check_end(struct dns_tcp *tcp) {
    if (tcp->is_at_end && tcp->n_pending == 0 && tcp->out.len == 0) {
        dns_tcp_close(tcp);
    }
}

// Handles the whole queries in the buffer, as long as the connection may have more of them pending.
static void take_queries(struct dns_tcp *tcp) {
    size_t at = 0;
    while (!tcp->is_closing && tcp->n_pending < DNS_TCP_PENDING_MAX &&
           tcp->in.len - at >= HEAD_LEN) {
        size_t len = (size_t)(tcp->in.ptr[at] << 8 | tcp->in.ptr[at + 1]);
        if (len < DNS_HEADER_LEN || len > DNS_QUERY_MAX) {
            dns_tcp_close(tcp); // no DNS
            return;
        }
        if (tcp->in.len - at - HEAD_LEN < len) {
            break;
        }
        struct dns_reply_to to = {.tcp = tcp};
        dns_proxy_query(tcp->proxy, slice_make(tcp->in.ptr + at + HEAD_LEN, len), &to);
        at += HEAD_LEN + len;
    }
    if (at > 0) {
        consume(&tcp->in, at);
    }
}

static void read_queries(struct dns_tcp *tcp) {
    if (tcp->is_reading) {
        return;
    }
    tcp->is_reading = true;
    take_queries(tcp);
    int n_reads = 0;
    while (!tcp->is_closing && !tcp->is_at_end && tcp->n_pending < DNS_TCP_PENDING_MAX) {
        if (++n_reads > READS_PER_TURN) {
            timer_set(&tcp->proxy->loop->timers, &tcp->more, tcp->proxy->loop->now);
            break;
        }
        size_t room = HEAD_LEN + DNS_QUERY_MAX - tcp->in.len;
        uint8_t *at = buf_reserve(&tcp->in, room);
        ssize_t n = recv(tcp->fd, at, room, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            if (errno != EAGAIN) {
                dns_tcp_close(tcp);
            }
            break;
        }
        tcp->is_at_end = n == 0;
        buf_commit(&tcp->in, (size_t)n);
        touch(tcp);
        take_queries(tcp);
    }
    tcp->is_reading = false;
    check_end(tcp);
}

static void on_more(struct timer *timer, uint64_t now) {
    read_queries(CONTAINER_OF(timer, struct dns_tcp, more));
}

static void on_ready(struct watch *watch, uint32_t ready) {
    struct dns_tcp *tcp = CONTAINER_OF(watch, struct dns_tcp, watch);
    flush(tcp);
    if (!tcp->is_closing) {
        read_queries(tcp);
    }
}

void dns_tcp_send(struct dns_tcp *tcp, struct slice answer) {
    if (tcp->is_closing) {
        return;
    }
    buf_put_u16(&tcp->out, (uint16_t)answer.len);
    buf_append(&tcp->out, answer);
    if (!buf_ok(&tcp->out)) {
        dns_tcp_close(tcp); // asks and does not read
        return;
    }
    touch(tcp);
    flush(tcp);
}

void dns_tcp_pending(struct dns_tcp *tcp, int change) {
    tcp->n_pending += (uint32_t)change;
    if (change < 0 && !tcp->is_closing) {
        read_queries(tcp);
    }
}

void dns_tcp_accept(struct dns_listen *listen) {
    struct dns_proxy *proxy = listen->proxy;
    for (;;) {
        int fd = accept4(listen->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            return; // out of descriptors: the next connection tries again
        }
        if (proxy->n_clients >= DNS_TCP_CLIENTS_MAX) {
            close(fd);
            continue;
        }
        struct dns_tcp *tcp = xcalloc(1, sizeof(*tcp));
        tcp->proxy = proxy;
        tcp->fd = fd;
        buf_init(&tcp->in, HEAD_LEN + DNS_QUERY_MAX);
        buf_init(&tcp->out, OUT_MAX);
        list_push_back(&proxy->clients, &tcp->node);
        proxy->n_clients++;
        timer_init(&tcp->idle, on_idle);
        timer_init(&tcp->more, on_more);
        touch(tcp);
        watch_init(&tcp->watch, proxy->loop, fd, POLLIN | POLLOUT, on_ready);
    }
}
