// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/rand.h"
#include "common/proto/dns_msg.h"
#include "common/rt/netns.h"
#include "common/rt/watch.h"
#include "ztun/dns_upstream.h"

enum { ROUNDS = 2, TCP_HEAD_LEN = 2 };

struct dns_exchange {
    struct dns_exchange_params params;
    struct timer timer; // of this try, or of the end
    struct watch watch;
    int fd; // -1: none
    bool is_watching;
    bool is_over;
    int rc; // result, when over
    uint32_t n_tries;
    uint64_t started_ns, deadline_ns;
    uint16_t client_id;
    // The query with its random id; for TCP with the length in front, of which n_sent are sent.
    uint8_t *out;
    size_t out_len, n_sent;
    struct buf in; // TCP: what came; else the answer
};

static void next_try(struct dns_exchange *x);

static struct slice query_of(const struct dns_exchange *x) {
    size_t head = x->params.is_tcp ? TCP_HEAD_LEN : 0;
    return slice_make(x->out + head, x->out_len - head);
}

static void finish(struct dns_exchange *x) {
    struct slice answer = slice_make(NULL, 0);
    if (x->rc == 0) {
        size_t head = x->params.is_tcp ? TCP_HEAD_LEN : 0;
        dns_msg_set_id(x->in.ptr + head, x->client_id);
        answer = slice_skip(buf_slice(&x->in), head);
    }
    timer_clear(&x->params.loop->timers, &x->timer);
    pod_unref(x->params.pod);
    x->params.done(x->params.arg, x->rc, answer, x->started_ns);
    buf_fini(&x->in);
    free(x->out);
    free(x);
}

static void on_stopped(struct watch *watch) {
    struct dns_exchange *x = CONTAINER_OF(watch, struct dns_exchange, watch);
    close(x->fd);
    x->fd = -1;
    x->is_watching = false;
    if (x->is_over) {
        finish(x);
    } else {
        next_try(x);
    }
}

// Ends the current try; the next one, or the end, follows when the kernel is done with the socket.
static void stop(struct dns_exchange *x) {
    if (x->is_watching) {
        timer_clear(&x->params.loop->timers, &x->timer);
        watch_stop(&x->watch, on_stopped);
    } else { // from the timer
        timer_set(&x->params.loop->timers, &x->timer, x->params.loop->now);
    }
}

static void end(struct dns_exchange *x, int rc) {
    if (!x->is_over) {
        x->is_over = true;
        x->rc = rc;
        stop(x);
    }
}

static void give_up_try(struct dns_exchange *x, int rc) {
    bool is_last = x->n_tries >= ROUNDS * x->params.n_servers;
    if (is_last || x->params.loop->now >= x->deadline_ns) {
        end(x, rc);
    } else {
        stop(x);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct dns_exchange *x = CONTAINER_OF(timer, struct dns_exchange, timer);
    if (x->is_watching) {
        give_up_try(x, -ETIMEDOUT);
    } else if (x->is_over) {
        finish(x);
    } else {
        next_try(x);
    }
}

static void read_udp(struct dns_exchange *x) {
    for (;;) {
        uint8_t *room = buf_reserve(&x->in, DNS_MESSAGE_MAX);
        ssize_t n = recv(x->fd, room, DNS_MESSAGE_MAX, MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                give_up_try(x, -errno); // ECONNREFUSED: nobody is there
            }
            return;
        }
        // What is no answer to this query is somebody's guess: the right one may still come.
        if (dns_msg_answers(slice_make(room, (size_t)n), query_of(x))) {
            buf_commit(&x->in, (size_t)n);
            end(x, 0);
            return;
        }
    }
}

static void read_tcp(struct dns_exchange *x) {
    for (;;) {
        size_t wanted = TCP_HEAD_LEN;
        if (x->in.len >= TCP_HEAD_LEN) {
            wanted += (size_t)(x->in.ptr[0] << 8 | x->in.ptr[1]);
        }
        if (x->in.len >= TCP_HEAD_LEN && x->in.len == wanted) {
            struct slice answer = slice_skip(buf_slice(&x->in), TCP_HEAD_LEN);
            if (dns_msg_answers(answer, query_of(x))) {
                end(x, 0);
            } else {
                give_up_try(x, -EBADMSG);
            }
            return;
        }
        uint8_t *room = buf_reserve(&x->in, wanted - x->in.len);
        ssize_t n = recv(x->fd, room, wanted - x->in.len, MSG_DONTWAIT);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                give_up_try(x, n == 0 ? -ECONNRESET : -errno);
            }
            return;
        }
        buf_commit(&x->in, (size_t)n);
    }
}

static void on_ready(struct watch *watch, uint32_t ready) {
    struct dns_exchange *x = CONTAINER_OF(watch, struct dns_exchange, watch);
    if (x->is_over || watch->is_stopping) {
        return;
    }
    if (!x->params.is_tcp) {
        read_udp(x);
        return;
    }
    while (x->n_sent < x->out_len) {
        ssize_t n =
            send(x->fd, x->out + x->n_sent, x->out_len - x->n_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                give_up_try(x, -errno);
            }
            return;
        }
        x->n_sent += (size_t)n;
    }
    read_tcp(x);
}

// A socket that is connected, or on its way: fd or -errno.
static int open_socket(const struct dns_exchange *x, const struct addr *server) {
    const struct dns_exchange_params *p = &x->params;
    bool v6 = server->ip.family == 6;
    int rc = netns_enter(p->pod->netns_fd);
    if (rc < 0) {
        return rc;
    }
    int type = (p->is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int fd = socket(v6 ? AF_INET6 : AF_INET, type, 0);
    int err = errno;
    netns_leave();
    if (fd < 0) {
        return -err;
    }
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(server, v6, &sa);
    // Connected, so that the kernel drops what other addresses send.
    if (setsockopt(fd, SOL_SOCKET, SO_MARK, &p->mark, sizeof(p->mark)) < 0 ||
        (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static void next_try(struct dns_exchange *x) {
    const struct dns_exchange_params *p = &x->params;
    uint64_t now = p->loop->now;
    const struct addr *server = &p->servers[x->n_tries % p->n_servers];
    x->n_tries++;
    x->n_sent = 0;
    buf_clear(&x->in);
    int fd = open_socket(x, server);
    if (fd >= 0 && !p->is_tcp && send(fd, x->out, x->out_len, MSG_DONTWAIT) < 0) {
        int rc = -errno;
        close(fd);
        fd = rc;
    }
    if (fd < 0) {
        give_up_try(x, fd);
        return;
    }
    x->fd = fd;
    x->is_watching = true;
    // Edges of POLLOUT would only disturb where there is nothing to wait for.
    watch_init(&x->watch, p->loop, fd, p->is_tcp ? POLLIN | POLLOUT : POLLIN, on_ready);
    timer_set(&p->loop->timers, &x->timer, MIN(now + DNS_TRY_MS * NS_PER_MS, x->deadline_ns));
}

struct dns_exchange *dns_exchange_start(const struct dns_exchange_params *params) {
    CHECK(params->n_servers > 0 && params->query.len >= DNS_HEADER_LEN &&
          params->query.len <= DNS_MESSAGE_MAX);
    struct dns_exchange *x = xcalloc(1, sizeof(*x));
    size_t head = params->is_tcp ? TCP_HEAD_LEN : 0;
    uint16_t id;
    rand_os_bytes(&id, sizeof(id));
    x->params = *params;
    x->params.pod = pod_ref(params->pod);
    x->fd = -1;
    x->started_ns = params->loop->now;
    x->deadline_ns = x->started_ns + DNS_DEADLINE_MS * NS_PER_MS;
    x->client_id = dns_msg_id(params->query);
    x->out_len = head + params->query.len;
    x->out = xmalloc(x->out_len);
    memcpy(x->out + head, params->query.ptr, params->query.len);
    x->params.query = slice_make(NULL, 0);
    dns_msg_set_id(x->out + head, id);
    if (params->is_tcp) {
        x->out[0] = (uint8_t)(params->query.len >> 8);
        x->out[1] = (uint8_t)params->query.len;
    }
    buf_init(&x->in, TCP_HEAD_LEN + DNS_MESSAGE_MAX);
    timer_init(&x->timer, on_timer);
    next_try(x);
    return x;
}

void dns_exchange_cancel(struct dns_exchange *exchange) {
    end(exchange, -ECANCELED);
}
