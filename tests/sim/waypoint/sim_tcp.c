// SPDX-License-Identifier: Apache-2.0
//
// Connections that are carried as bytes. Each side says so many bytes of its own and ends its
// direction, at its own pace; a client's first bytes say which flow it is. In seeds with faults
// either side resets at some byte, or never reads on.
#include <errno.h>

#include "tests/sim/waypoint/sim_waypoint.h"

enum { ID_LEN = 4, PIECE_MAX = 12000 };

static const char key_of_bytes[] = "shop/bytes.shop.svc.cluster.local";
static const uint8_t proxy_v2[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                   0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static size_t some_len(struct sim *sim) {
    return (size_t)rand_below(&sim->rand, sim_chance(sim, 1, 3) ? 400000 : 2000);
}

static void draw_end(struct sim *sim, struct sim_flow_end *end) {
    *end = (struct sim_flow_end){
        .fd = -1, .key = rand_u64(&sim->rand), .len = some_len(sim), .cut_at = SIZE_MAX};
    if (sim_is_bad(sim, 1, 4)) {
        end->cut_at = (size_t)rand_below(&sim->rand, end->len + 1);
    }
}

void sim_tcp_open(struct sim *sim) {
    sim->n_flows = (uint32_t)rand_below(&sim->rand, SIM_FLOWS_MAX + 1);
    for (uint32_t i = 0; i < sim->n_flows; i++) {
        struct sim_flow *flow = &sim->flows[i];
        flow->id = i;
        draw_end(sim, &flow->client);
        draw_end(sim, &flow->server);
    }
    for (size_t i = 0; i < SIM_CONNS_MAX; i++) {
        sim->greetings[i].fd = -1;
    }
}

static void end_close(struct sim *sim, struct sim_flow_end *end, bool is_cut) {
    fake_close(sim->bed.net, end->fd, is_cut);
    end->fd = -1;
    end->is_cut = end->is_cut || is_cut;
}

// The first bytes of what the client says are the flow's number.
static void fill(const struct sim_flow *flow, bool is_client, size_t at, uint8_t *bytes,
                 size_t len) {
    const struct sim_flow_end *end = is_client ? &flow->client : &flow->server;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = is_client && at + i < ID_LEN ? (uint8_t)(flow->id >> (at + i) * 8)
                                                : sim_byte(end->key, at + i);
    }
}

// False: it is cut.
static bool say(struct sim *sim, struct sim_flow *flow, struct sim_flow_end *end, bool is_client) {
    uint8_t bytes[PIECE_MAX];
    size_t all = end->len + (is_client ? ID_LEN : 0);
    if (end->n_sent >= end->cut_at) {
        sim_tracef(sim, "flow %u: %s resets at %zu", flow->id, is_client ? "client" : "server",
                   end->n_sent);
        return false;
    }
    size_t n = (size_t)rand_range(&sim->rand, 1, sizeof(bytes));
    n = MIN(n, all - end->n_sent);
    if (n > 0) {
        fill(flow, is_client, end->n_sent, bytes, n);
        ssize_t rc = fake_write(sim->bed.net, end->fd, bytes, n);
        if (rc > 0) {
            end->n_sent += (size_t)rc;
            sim->has_moved = true;
        }
        return rc >= 0 || rc == -EAGAIN;
    }
    if (!end->sent_fin) {
        end->sent_fin = true;
        (void)fake_shutdown(sim->bed.net, end->fd);
    }
    return true;
}

// False: it was cut.
static bool hear(struct sim *sim, struct sim_flow *flow, struct sim_flow_end *end, bool is_client) {
    struct sim_flow_end *other = is_client ? &flow->server : &flow->client;
    uint8_t bytes[PIECE_MAX], expected[PIECE_MAX];
    if (end->got_fin) {
        return true;
    }
    ssize_t n = sim_read(sim, end->fd, bytes, sizeof(bytes));
    if (n == -2) {
        return false;
    }
    if (n > 0) {
        CHECK(end->n_read + (size_t)n <= other->n_sent);
        fill(flow, !is_client, end->n_read, expected, (size_t)n);
        CHECK(memcmp(bytes, expected, (size_t)n) == 0);
        end->n_read += (size_t)n;
    } else if (n == -1) { // an end is that of the other side, after all that it said
        CHECK(other->sent_fin && end->n_read == other->n_sent);
        end->got_fin = true;
    }
    return true;
}

static void step_end(struct sim *sim, struct sim_flow *flow, bool is_client) {
    struct sim_flow_end *end = is_client ? &flow->client : &flow->server;
    if (end->fd < 0) {
        return;
    }
    if ((sim_chance(sim, 1, 2) && !say(sim, flow, end, is_client)) ||
        !hear(sim, flow, end, is_client)) {
        end_close(sim, end, true);
    } else if (end->sent_fin && end->got_fin) {
        end_close(sim, end, false);
    }
}

// ---- servers: which flow it is -----------------------------------------------------------------

// How many bytes there have to be: a header of the PROXY protocol (version 2), if the rule had it
// when the connection was made, and the flow's number.
static size_t needed(const struct sim_greeting *greeting) {
    if (greeting->n == 0 || greeting->bytes[0] != proxy_v2[0]) {
        return ID_LEN;
    }
    if (greeting->n < 16) {
        return 16;
    }
    CHECK(memcmp(greeting->bytes, proxy_v2, sizeof(proxy_v2)) == 0);
    size_t len = (size_t)greeting->bytes[14] << 8 | greeting->bytes[15];
    CHECK(16 + len + ID_LEN <= sizeof(greeting->bytes));
    return 16 + len + ID_LEN;
}

static void known(struct sim *sim, struct sim_greeting *greeting) {
    const uint8_t *id = greeting->bytes + greeting->n - ID_LEN;
    CHECK(id[0] < sim->n_flows && id[1] == 0 && id[2] == 0 && id[3] == 0);
    struct sim_flow *flow = &sim->flows[id[0]];
    CHECK(flow->is_started && flow->n_servers++ == 0); // it is told once
    sim_tracef(sim, "flow %u: server %d", flow->id, greeting->fd);
    flow->server.fd = greeting->fd;
    flow->server.n_read = ID_LEN;
    greeting->fd = -1;
}

static void step_greeting(struct sim *sim, struct sim_greeting *greeting) {
    size_t need = needed(greeting);
    ssize_t n =
        fake_read(sim->bed.net, greeting->fd, greeting->bytes + greeting->n, need - greeting->n);
    if (n == -EAGAIN) {
        return;
    }
    if (n <= 0) { // its client went before it said anything
        CHECK(sim->has_faults);
        fake_close(sim->bed.net, greeting->fd, n < 0);
        greeting->fd = -1;
        return;
    }
    sim->has_moved = true;
    greeting->n += (size_t)n;
    if (greeting->n == needed(greeting)) {
        known(sim, greeting);
    }
}

static void accept_some(struct sim *sim, const struct sim_host *host) {
    struct io *io = sim->bed.workers[0]->loop->io;
    for (size_t i = 0; i < SIM_CONNS_MAX && host->listener >= 0; i++) {
        if (sim->greetings[i].fd < 0) {
            int fd = io->ops->accept_now(io, host->listener);
            if (fd < 0) {
                return;
            }
            sim->greetings[i] = (struct sim_greeting){.fd = fd};
        }
    }
}

// ---- the run -----------------------------------------------------------------------------------

static void start(struct sim *sim, struct sim_flow *flow) {
    flow->is_started = true;
    flow->client.fd =
        wbed_connect_tcp(&sim->bed, (uint32_t)rand_below(&sim->rand, sim->bed.n_workers),
                         key_of_bytes, 80, (uint16_t)(SIM_FLOW_PORT + flow->id));
    sim_tracef(sim, "flow %u: client %d, %zu and %zu bytes", flow->id, flow->client.fd,
               flow->client.len, flow->server.len);
}

void sim_tcp_step(struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_hosts[SIM_BYTES]; i++) {
        accept_some(sim, &sim->hosts[SIM_BYTES][i]);
    }
    for (size_t i = 0; i < SIM_CONNS_MAX; i++) {
        if (sim->greetings[i].fd >= 0) {
            step_greeting(sim, &sim->greetings[i]);
        }
    }
    for (uint32_t i = 0; i < sim->n_flows; i++) {
        struct sim_flow *flow = &sim->flows[i];
        if (!flow->is_started && !sim->is_draining && sim_chance(sim, 1, 100)) {
            start(sim, flow);
        }
        step_end(sim, flow, true);
        step_end(sim, flow, false);
    }
}

static bool is_open(const struct sim_flow *flow) {
    return flow->client.fd >= 0 || flow->server.fd >= 0;
}

bool sim_tcp_is_over(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_flows; i++) {
        if (is_open(&sim->flows[i]) || (!sim->flows[i].is_started && !sim->is_draining)) {
            return false;
        }
    }
    for (size_t i = 0; i < SIM_CONNS_MAX; i++) {
        if (sim->greetings[i].fd >= 0) {
            return false;
        }
    }
    return true;
}

void sim_tcp_close(struct sim *sim) {
    for (size_t i = 0; i < SIM_CONNS_MAX; i++) {
        if (sim->greetings[i].fd >= 0) { // its client was gone before
            fake_close(sim->bed.net, sim->greetings[i].fd, true);
        }
    }
}

static bool is_whole(const struct sim_flow_end *end, const struct sim_flow_end *other) {
    return end->got_fin && other->sent_fin && end->n_read == other->n_sent;
}

void sim_tcp_check(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_flows; i++) {
        const struct sim_flow *flow = &sim->flows[i];
        bool both =
            is_whole(&flow->client, &flow->server) && is_whole(&flow->server, &flow->client);
        CHECK(flow->n_lines == flow->is_started);
        // What was cut has a reason. (What is whole may have one, too: of a cut behind it.)
        CHECK(!flow->is_started || both || flow->has_reason);
        CHECK(sim->has_faults || !flow->is_started || (both && !flow->has_reason));
    }
}
