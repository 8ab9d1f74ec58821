// SPDX-License-Identifier: Apache-2.0
//
// The simulated network: chance, sockets, addresses, routing.
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "common/rt/fake_priv.h"

enum { FIRST_PORT = 40000, LAST_PORT = 60000 };

// splitmix64: small, and every seed is as good as another.
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t fake_rand(struct fake_net *net, uint64_t lo, uint64_t hi) {
    CHECK(lo <= hi);
    return lo + next_random(&net->rng) % (hi - lo + 1);
}

bool fake_roll(struct fake_net *net, uint16_t per_mille) {
    return per_mille != 0 && !net->is_quiet && fake_rand(net, 0, 999) < per_mille;
}

void fake_tracef(struct fake_net *net, const char *fmt, ...) {
    if (net->trace == NULL) {
        return;
    }
    fprintf(net->trace, "%12.6f ms ", (double)net->now / 1e6);
    va_list args;
    va_start(args, fmt);
    vfprintf(net->trace, fmt, args);
    va_end(args);
    fputc('\n', net->trace);
}

static uint16_t some_chance(uint64_t *rng, uint16_t max) {
    uint64_t x = next_random(rng);
    return x % 3 == 0 ? 0 : (uint16_t)(x / 3 % (max + 1u));
}

struct fake_options fake_chaos(uint64_t seed) {
    uint64_t rng = seed ^ UINT64_C(0x5eed);
    uint64_t sizes = next_random(&rng);
    return (struct fake_options){
        .seed = seed,
        .n_buffers = sizes % 4 == 0 ? 2 : 0,
        .buffer_size = sizes % 5 == 0 ? 600 : 0,
        .send_buffer_min = sizes % 7 == 0 ? 64 : 0,
        .recv_buffer_min = sizes % 11 == 0 ? 64 : 0,
        .send_buffer_max = sizes % 13 == 0 ? 3000 : 0,
        .short_io = some_chance(&rng, 300),
        .eagain = some_chance(&rng, 200),
        .enobufs = some_chance(&rng, 50),
        .delay = some_chance(&rng, 200),
        .end_multishot = some_chance(&rng, 50),
        .stall = some_chance(&rng, 5),
        .connect_error = some_chance(&rng, 30),
        .accept_error = some_chance(&rng, 30),
    };
}

static void set_default_u32(uint32_t *value, uint32_t fallback) {
    *value = *value != 0 ? *value : fallback;
}

static void set_default_u64(uint64_t *value, uint64_t fallback) {
    *value = *value != 0 ? *value : fallback;
}

struct fake_net *fake_net_new(const struct fake_options *options) {
    struct fake_net *net = xcalloc(1, sizeof(*net));
    net->options = *options;
    net->rng = options->seed;
    net->now = 1000 * NS_PER_SEC;
    net->next_port = FIRST_PORT;
    list_init(&net->conns);
    list_init(&net->dsts);
    list_init(&net->ios);
    struct fake_options *o = &net->options;
    set_default_u32(&o->n_buffers, 32);
    set_default_u32(&o->buffer_size, 4096);
    set_default_u32(&o->send_buffer_min, 2048);
    set_default_u32(&o->send_buffer_max, 128 * 1024);
    set_default_u32(&o->recv_buffer_min, 2048);
    set_default_u32(&o->recv_buffer_max, 128 * 1024);
    set_default_u64(&o->latency_min_ns, 10 * 1000);
    set_default_u64(&o->latency_max_ns, 300 * 1000);
    set_default_u64(&o->delay_max_ns, 2 * NS_PER_MS);
    o->send_buffer_max = MAX(o->send_buffer_max, o->send_buffer_min);
    o->recv_buffer_max = MAX(o->recv_buffer_max, o->recv_buffer_min);
    o->latency_max_ns = MAX(o->latency_max_ns, o->latency_min_ns);
    return net;
}

void fake_net_free(struct fake_net *net) {
    if (net == NULL) {
        return;
    }
    CHECK(list_empty(&net->ios));
    for (uint32_t i = 0; i < net->n_socks; i++) {
        if (net->socks[i] != NULL) {
            net->socks[i]->n_ops = 0;
            fake_close(net, FAKE_FD_BASE + (int)i, true);
        }
    }
    for (struct list *node; (node = list_pop_front(&net->dsts)) != NULL;) {
        free(LIST_ITEM(node, struct fake_dst_rule, node));
    }
    CHECK(list_empty(&net->conns));
    free(net->socks);
    free(net);
}

uint64_t fake_now(const struct fake_net *net) {
    return net->now;
}

void fake_skip(struct fake_net *net, uint64_t ns) {
    net->now += ns;
}

void fake_set_quiet(struct fake_net *net, bool on) {
    net->is_quiet = on;
}

void fake_set_trace(struct fake_net *net, FILE *file) {
    net->trace = file;
}

// ---- Sockets ----

struct fake_sock *fake_sock_new(struct fake_net *net, int netns) {
    if (net->n_socks == net->max_socks) {
        net->max_socks = MAX(2 * net->max_socks, 64u);
        net->socks = xrealloc(net->socks, net->max_socks * sizeof(struct fake_sock *));
    }
    struct fake_sock *sock = xcalloc(1, sizeof(*sock));
    sock->net = net;
    sock->netns = netns;
    // Numbers are never used twice: whoever keeps a stale one is caught.
    sock->fd = FAKE_FD_BASE + (int)net->n_socks;
    net->socks[net->n_socks++] = sock;
    net->n_open++;
    return sock;
}

struct fake_sock *fake_sock_get(const struct fake_net *net, int fd) {
    CHECK(fd >= FAKE_FD_BASE && fd < FAKE_FD_BASE + (int)net->n_socks);
    struct fake_sock *sock = net->socks[fd - FAKE_FD_BASE];
    CHECK(sock != NULL); // closed
    return sock;
}

void fake_sock_free(struct fake_sock *sock) {
    struct fake_net *net = sock->net;
    net->socks[sock->fd - FAKE_FD_BASE] = NULL;
    net->n_open--;
    free(sock->queue);
    free(sock);
}

void fake_close(struct fake_net *net, int fd, bool reset) {
    struct fake_sock *sock = fake_sock_get(net, fd);
    CHECK(sock->n_ops == 0); // a kernel would keep the file open behind our back
    fake_tracef(net, "close %d%s", fd, reset ? " with reset" : "");
    for (int queued; sock->is_listening && (queued = fake_sock_pop(sock)) >= 0;) {
        fake_close(net, queued, true);
    }
    if (sock->conn != NULL) {
        fake_stream_close(sock, reset);
    }
    fake_sock_free(sock);
}

static uint16_t take_port(struct fake_net *net) {
    uint16_t port = net->next_port++;
    if (net->next_port > LAST_PORT) {
        net->next_port = FIRST_PORT;
    }
    return port;
}

static struct ip loopback(int family) {
    struct ip ip;
    CHECK(ip_parse(family == 6 ? SLICE_LIT("::1") : SLICE_LIT("127.0.0.1"), &ip));
    return ip;
}

int fake_sock_for(struct fake_net *net, const struct io_socket_params *params) {
    struct fake_sock *sock = fake_sock_new(net, params->netns_fd);
    sock->bind = params->bind;
    return sock->fd;
}

int fake_listen(struct fake_net *net, int netns, const struct addr *addr) {
    struct fake_sock *sock = fake_sock_new(net, netns);
    sock->is_listening = true;
    sock->local = *addr;
    return sock->fd;
}

int fake_sock_pop(struct fake_sock *sock) {
    CHECK(sock->is_listening);
    if (sock->n_queue == 0) {
        return -EAGAIN;
    }
    int fd = sock->queue[0];
    sock->n_queue--;
    for (uint32_t i = 0; i < sock->n_queue; i++) {
        sock->queue[i] = sock->queue[i + 1];
    }
    return fd;
}

// ---- Routing ----

void fake_set_dst(struct fake_net *net, const struct addr *addr, enum fake_dst how) {
    struct fake_dst_rule *rule = xmalloc(sizeof(*rule));
    *rule = (struct fake_dst_rule){.addr = *addr, .how = how};
    list_push_front(&net->dsts, &rule->node); // the newest counts
}

static enum fake_dst dst_rule(const struct fake_net *net, const struct addr *addr) {
    LIST_EACH(node, &net->dsts) {
        const struct fake_dst_rule *rule = LIST_ITEM(node, struct fake_dst_rule, node);
        if (addr_eq(&rule->addr, addr)) {
            return rule->how;
        }
    }
    return FAKE_DST_NORMAL;
}

// The best listener for dst: in `netns` before others, an exact address before a wildcard.
static struct fake_sock *find_listener(const struct fake_net *net, int netns,
                                       const struct addr *dst) {
    struct fake_sock *best = NULL;
    int best_score = 0;
    for (uint32_t i = 0; i < net->n_socks; i++) {
        struct fake_sock *sock = net->socks[i];
        if (sock == NULL || !sock->is_listening || sock->local.port != dst->port) {
            continue;
        }
        bool is_exact = ip_eq(&sock->local.ip, &dst->ip);
        if (!is_exact && !ip_is_unspecified(&sock->local.ip)) {
            continue;
        }
        int score = 1 + 2 * is_exact + 4 * (sock->netns == netns);
        if (score > best_score) {
            best = sock;
            best_score = score;
        }
    }
    return best;
}

struct fake_sock *fake_route_to(struct fake_sock *sock, const struct addr *dst, int *ret_err) {
    struct fake_net *net = sock->net;
    if (ip_is_set(&sock->bind.ip)) {
        sock->local = sock->bind;
    } else if (!ip_is_set(&sock->local.ip)) {
        sock->local = (struct addr){.ip = loopback(dst->ip.family)};
    }
    sock->local.port = sock->local.port != 0 ? sock->local.port : take_port(net);
    sock->peer = *dst;
    enum fake_dst how = dst_rule(net, dst);
    *ret_err = 0;
    if (how == FAKE_DST_BLACKHOLE) {
        return NULL;
    }
    if (how == FAKE_DST_UNREACHABLE) {
        *ret_err = -EHOSTUNREACH;
        return NULL;
    }
    if (fake_roll(net, net->options.connect_error)) {
        *ret_err = fake_roll(net, 500) ? 0 : -ECONNREFUSED;
        return NULL;
    }
    struct fake_sock *listener = find_listener(net, sock->netns, dst);
    *ret_err = listener == NULL ? -ECONNREFUSED : 0;
    return listener;
}

// ---- Checks ----

size_t fake_open_fds(const struct fake_net *net) {
    return net->n_open;
}

void fake_print_open(const struct fake_net *net, FILE *file) {
    for (uint32_t i = 0; i < net->n_socks; i++) {
        const struct fake_sock *sock = net->socks[i];
        if (sock != NULL) {
            char local[ADDR_TEXT_MAX], peer[ADDR_TEXT_MAX];
            fprintf(file, "fd %d%s netns %d local %s peer %s ops %u\n", sock->fd,
                    sock->is_listening ? " listening" : "", sock->netns,
                    addr_text(&sock->local, local), addr_text(&sock->peer, peer), sock->n_ops);
        }
    }
}
