// SPDX-License-Identifier: Apache-2.0
#include "ztun/socks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "common/rt/watch.h"
#include "ztun/dns_proxy.h"
#include "ztun/report.h"
#include "ztun/ztun.h"

struct handshake {
    struct list node; // zpod->handshakes, oldest first
    struct zpod *zpod;
    int fd;
    struct addr src;
    struct watch watch;
    struct timer timer;
    struct socks5 socks;
    struct dns_lookup lookup;
    bool is_ending; // it is reported; the watch stops, then it is closed
    bool is_reset; // closed by RST
    bool is_looking_up;
};

// ---- replies -----------------------------------------------------------------------------------

enum socks5_code socks_code(enum flow_end reason) {
    switch (reason) {
    case FLOW_DENIED:
    case FLOW_ILLEGAL_DESTINATION:
        return SOCKS5_NOT_ALLOWED;
    case FLOW_CONNECT_REFUSED: // the destination's proxy could not reach the application
        return SOCKS5_CONNECTION_REFUSED;
    case FLOW_CONNECT_FAILED:
    case FLOW_NO_UPSTREAM:
    case FLOW_TIMEOUT:
    case FLOW_NETWORK_POLICY:
    case FLOW_DNS_FAILED:
        return SOCKS5_HOST_UNREACHABLE;
    default:
        return SOCKS5_GENERAL_FAILURE;
    }
}

enum socks5_code socks_code_of_errno(int err) {
    switch (err) {
    case -ECONNREFUSED:
        return SOCKS5_CONNECTION_REFUSED;
    case -ENETUNREACH:
        return SOCKS5_NETWORK_UNREACHABLE;
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
        return SOCKS5_HOST_UNREACHABLE;
    default:
        return SOCKS5_GENERAL_FAILURE;
    }
}

// The client has read all that was sent before, or does not care: there is room.
static void send_bytes(struct io *io, int fd, const uint8_t *bytes, size_t len) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    (void)!io->ops->send_now(io, fd, &msg, 0); // who is gone is seen when its flow starts
}

void socks_answer(struct io *io, int fd, enum socks5_code code) {
    uint8_t reply[SOCKS5_REPLY_LEN];
    socks5_reply(code, reply);
    send_bytes(io, fd, reply, sizeof(reply));
    if (code != SOCKS5_SUCCEEDED) {
        (void)io->ops->shutdown(io, fd, SHUT_WR);
    }
}

struct ip socks_client_ip(const struct zpod *zpod, const struct ip *peer, uint8_t family) {
    const struct workload *local = pod_workload(zpod->pod, snapshot_current());
    for (size_t i = 0; local != NULL && i < local->n_ips; i++) {
        if (local->ips[i].family == family) {
            return local->ips[i];
        }
    }
    return local != NULL && local->n_ips > 0 ? local->ips[0] : *peer;
}

// ---- the end of a handshake --------------------------------------------------------------------

static struct loop *loop_of(const struct handshake *hs) {
    return hs->zpod->worker->loop;
}

// It is off the lists. The zpod may be freed.
static void release(struct handshake *hs) {
    struct zpod *zpod = hs->zpod;
    timer_clear(&loop_of(hs)->timers, &hs->timer);
    list_del(&hs->node);
    zpod->n_handshakes--;
    zpod->worker->load->n_flows--;
    free(hs);
    zpod_part_closed(zpod);
}

static void close_socket(const struct handshake *hs) {
    struct io *io = loop_of(hs)->io;
    uint8_t bytes[512];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    if (!hs->is_reset) { // what it has sent may not turn the end into a reset
        (void)!io->ops->recv_now(io, hs->fd, &iov, 1);
    }
    io->ops->close(io, hs->fd, hs->is_reset);
}

static void on_stopped(struct watch *watch) {
    struct handshake *hs = CONTAINER_OF(watch, struct handshake, watch);
    close_socket(hs);
    release(hs);
}

static void fail(struct handshake *hs, enum flow_end reason, const char *detail, bool reset) {
    struct zworker *worker = hs->zpod->worker;
    struct addr dst = {.port = worker->config->socks_port};
    CHECK(ip_parse(SLICE_LIT("127.0.0.1"), &dst.ip));
    report_socks_failed(hs->zpod, &hs->src, &dst, reason, detail);
    hs->is_ending = true;
    hs->is_reset = reset;
    timer_clear(&loop_of(hs)->timers, &hs->timer);
    watch_stop(&hs->watch, on_stopped);
}

static void refuse(struct handshake *hs, enum flow_end reason, enum socks5_code code,
                   const char *detail) {
    socks_answer(loop_of(hs)->io, hs->fd, code);
    fail(hs, reason, detail, false);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct handshake *hs = CONTAINER_OF(timer, struct handshake, timer);
    fail(hs, FLOW_TIMEOUT, "SOCKS5 handshake", true);
}

void socks_cut(struct zpod *zpod, enum flow_end reason) {
    LIST_EACH_SAFE(node, &zpod->handshakes) {
        struct handshake *hs = LIST_ITEM(node, struct handshake, node);
        if (!hs->is_ending) {
            if (hs->is_looking_up) {
                hs->is_looking_up = false;
                dns_lookup_cancel(&hs->lookup);
            }
            fail(hs, reason, "SOCKS5 handshake", true);
        }
    }
}

// ---- the destination ---------------------------------------------------------------------------

// The kernel is done with the watch: the flow takes the connection.
static void on_handed_over(struct watch *watch) {
    struct handshake *hs = CONTAINER_OF(watch, struct handshake, watch);
    struct zpod *zpod = hs->zpod;
    if (zpod->is_removed) {
        loop_of(hs)->io->ops->close(loop_of(hs)->io, hs->fd, true);
    } else {
        outbound_socks(zpod, hs->fd, &hs->socks.to);
    }
    release(hs);
}

static void connect_to(struct handshake *hs) {
    const struct ip *ip = &hs->socks.to.ip;
    if (ip_is_unspecified(ip) || ip_is_multicast(ip)) {
        refuse(hs, FLOW_NO_UPSTREAM, SOCKS5_HOST_UNREACHABLE, "not an address of one host");
        return;
    }
    hs->is_ending = true;
    timer_clear(&loop_of(hs)->timers, &hs->timer);
    watch_stop(&hs->watch, on_handed_over);
}

static void on_found(struct dns_lookup *lookup, const struct ip *ip, const char *why) {
    struct handshake *hs = CONTAINER_OF(lookup, struct handshake, lookup);
    hs->is_looking_up = false;
    if (ip == NULL) {
        refuse(hs, FLOW_DNS_FAILED, SOCKS5_HOST_UNREACHABLE, why);
        return;
    }
    hs->socks.to.ip = *ip;
    connect_to(hs);
}

static void on_request(struct handshake *hs) {
    struct zpod *zpod = hs->zpod;
    if (ip_is_set(&hs->socks.to.ip)) {
        connect_to(hs);
    } else if (zpod->dns == NULL && zpod->is_closing) {
        refuse(hs, FLOW_DRAIN, SOCKS5_GENERAL_FAILURE, "");
    } else if (zpod->dns == NULL) {
        refuse(hs, FLOW_DNS_FAILED, SOCKS5_BAD_ADDRESS_TYPE,
               "host names need ISTIO_META_DNS_CAPTURE");
    } else {
        hs->is_looking_up = true;
        timer_clear(&loop_of(hs)->timers, &hs->timer); // each query has a deadline of its own
        dns_lookup_start(&hs->lookup, zpod->dns, hs->socks.host, on_found);
    }
}

// ---- the client's bytes ------------------------------------------------------------------------

static void on_refused(struct handshake *hs) {
    const struct socks5 *socks = &hs->socks;
    struct io *io = loop_of(hs)->io;
    if (socks->n_reply > 0) {
        send_bytes(io, hs->fd, socks->reply, socks->n_reply);
        (void)io->ops->shutdown(io, hs->fd, SHUT_WR);
    }
    fail(hs, FLOW_SOCKS_FAILED, socks->error, socks->n_reply == 0);
}

static void on_ready(struct watch *watch, uint32_t ready) {
    (void)ready;
    struct handshake *hs = CONTAINER_OF(watch, struct handshake, watch);
    struct io *io = loop_of(hs)->io;
    size_t need;
    while (!hs->is_ending && (need = socks5_need(&hs->socks)) > 0) {
        uint8_t bytes[SOCKS5_NEED_MAX];
        struct iovec iov = {.iov_base = bytes, .iov_len = need};
        ssize_t n = io->ops->recv_now(io, hs->fd, &iov, 1);
        if (n == -EAGAIN || n == -EINTR) {
            return;
        }
        if (n <= 0) {
            fail(hs, FLOW_SOCKS_FAILED, "the client ended it", true);
            return;
        }
        switch (socks5_recv(&hs->socks, slice_make(bytes, (size_t)n))) {
        case SOCKS5_MORE:
            break;
        case SOCKS5_METHOD:
            send_bytes(io, hs->fd, hs->socks.reply, hs->socks.n_reply);
            break;
        case SOCKS5_REQUEST:
            on_request(hs);
            return;
        case SOCKS5_REFUSED:
            on_refused(hs);
            return;
        }
    }
}

// The oldest one that still owes bytes. False: none.
static bool make_room(struct zpod *zpod) {
    LIST_EACH(node, &zpod->handshakes) {
        struct handshake *hs = LIST_ITEM(node, struct handshake, node);
        if (!hs->is_ending && !hs->is_looking_up) {
            fail(hs, FLOW_OVERLOAD, "too many SOCKS5 handshakes", true);
            return true;
        }
    }
    return false;
}

void socks_accept(struct zpod *zpod, int fd) {
    struct zworker *worker = zpod->worker;
    struct io *io = worker->loop->io;
    struct addr src;
    bool has_room = zpod->n_handshakes < SOCKS_HANDSHAKES_MAX || make_room(zpod);
    if (!has_room || !zworker_admits(worker, fd) || io->ops->peer_addr(io, fd, &src) < 0) {
        io->ops->close(io, fd, true);
        return;
    }
    struct handshake *hs = xcalloc(1, sizeof(*hs));
    hs->zpod = zpod;
    hs->fd = fd;
    hs->src = (struct addr){.ip = socks_client_ip(zpod, &src.ip, 4), .port = src.port};
    socks5_init(&hs->socks);
    timer_init(&hs->timer, on_timer);
    timer_set(&worker->loop->timers, &hs->timer, worker->loop->now + SOCKS_TIMEOUT_MS * NS_PER_MS);
    list_push_back(&zpod->handshakes, &hs->node);
    zpod->n_handshakes++;
    zpod->n_open++;
    worker->load->n_flows++;
    watch_init(&hs->watch, worker->loop, fd, POLLIN, on_ready);
}
