// SPDX-License-Identifier: Apache-2.0
//
// The deterministic simulator of the waypoint's HTTP side: clients (HTTP/1.1, HTTP/2) send requests
// through workers to endpoints, on a fake network, while all sides do what peers do: answer,
// refuse, fail before, in and after a head, stand still, close when idle, say GOAWAY; while
// configuration and endpoints change, and the waypoint drains. What must hold for every seed:
//
//   - through an upgrade, too, each byte arrives once and in order, and an end behind all of them;
//     informational answers (1xx) reach the client, each at most once;
//   - a complete answer is all of what one server said to this request, or one of the waypoint's
//     own; an answer that was cut never looks complete;
//   - a server sees a request's body from its start, in order, and its end only when the client
//     ended it; what a server has seen is sent to another one only as the route's policy allows;
//   - of a mirrored request there is one copy, whatever becomes of it;
//   - of a connection that is carried as bytes each byte arrives once and in order, an end after
//   all
//     bytes before it, and one that is cut looks cut to the other side;
//   - each request, and each such connection, has one line in the access log; of one that was cut
//   it says why;
//   - nothing hangs, and in the end all gauges are 0: requests, pending, connections, retries,
//     hosts' active requests, descriptors, ops, blocks, leaves.
//
// In a quarter of the seeds nothing goes wrong: there every request is answered.
//
// usage: sim_waypoint [--seeds N] [--first SEED] [--trace]      a failing seed prints the command
// that repeats it
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_seeds.h"
#include "tests/sim/waypoint/sim_waypoint.h"
#include "waypoint/worker.h"

#ifdef ZTUN_SANITIZED
enum { N_SEEDS = 200 };
#else
enum { N_SEEDS = 2000 };
#endif

enum { RUN_MAX_S = 240, SKIP_MIN_NS = 2000, SKIP_MAX_NS = 4000000 };

// ---- bytes and chance --------------------------------------------------------------------------

uint8_t sim_byte(uint64_t key, size_t i) {
    uint64_t x = (key + i / 8) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    return (uint8_t)(x >> (i % 8 * 7));
}

void sim_fill(uint64_t key, size_t at, uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        bytes[i] = sim_byte(key, at + i);
    }
}

void sim_check(uint64_t key, size_t at, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        CHECK(bytes[i] == sim_byte(key, at + i));
    }
}

void sim_out_add(struct sim_out *out, const void *bytes, size_t len) {
    CHECK(len <= sim_out_room(out));
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

void sim_out_printf(struct sim_out *out, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < sizeof(text));
    sim_out_add(out, text, (size_t)len);
}

bool sim_chance(struct sim *sim, uint32_t n, uint32_t of) {
    return rand_chance(&sim->rand, n, of);
}

bool sim_is_bad(struct sim *sim, uint32_t n, uint32_t of) {
    return sim->has_faults && rand_chance(&sim->rand, n, of);
}

void sim_tracef(struct sim *sim, const char *fmt, ...) {
    if (!sim->has_trace) {
        return;
    }
    fprintf(stderr, "%12.6f ms * ", (double)fake_now(sim->bed.net) / 1e6);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

bool sim_write(struct sim *sim, int fd, struct sim_out *out) {
    if (out->len == 0 || sim_chance(sim, 1, 4)) {
        return true;
    }
    size_t n = (size_t)rand_range(&sim->rand, 1, sim_chance(sim, 1, 3) ? 100 : 20000);
    ssize_t rc = fake_write(sim->bed.net, fd, out->bytes, MIN(n, out->len));
    if (rc < 0) {
        return rc == -EAGAIN;
    }
    memmove(out->bytes, out->bytes + rc, out->len - (size_t)rc);
    out->len -= (size_t)rc;
    sim->has_moved = true;
    return true;
}

ssize_t sim_read(struct sim *sim, int fd, uint8_t *bytes, size_t cap) {
    if (sim_chance(sim, 1, 4)) { // a reader is slow now and then
        return 0;
    }
    ssize_t n = fake_read(sim->bed.net, fd, bytes, (size_t)rand_range(&sim->rand, 1, cap));
    sim->has_moved = sim->has_moved || n != -EAGAIN;
    return n == -EAGAIN ? 0 : n < 0 ? -2 : n == 0 ? -1 : n;
}

// ---- the run -----------------------------------------------------------------------------------

static void step(struct sim *sim, uint64_t *skip_ns) {
    sim->has_moved = wbed_turn(&sim->bed);
    for (int i = 0; i < SIM_CLIENTS_MAX; i++) {
        if (sim->clients[i] != NULL) {
            sim_client_step(sim, sim->clients[i]);
        }
    }
    sim_server_step(sim);
    sim_tcp_step(sim);
    // Time goes faster while nothing happens.
    *skip_ns = sim->has_moved ? SKIP_MIN_NS : MIN(*skip_ns * 2, (uint64_t)SKIP_MAX_NS);
    fake_skip(sim->bed.net, rand_range(&sim->rand, *skip_ns / 2, *skip_ns * 2));
}

static void disturb(struct sim *sim) {
    uint64_t x = rand_below(&sim->rand, 3000);
    if (x < 6) {
        sim_config_change(sim);
    } else if (x == 6 && sim->has_faults && !sim->is_draining) {
        sim_tracef(sim, "drain");
        sim->is_draining = true;
        wbed_drain(&sim->bed);
    } else if (x == 7 && sim->has_faults) {
        struct wworker *worker = sim->bed.workers[rand_below(&sim->rand, sim->bed.n_workers)];
        worker->refuse_new = !worker->refuse_new; // memory is short
    } else if (x == 8 && sim->has_faults) {
        int kind = (int)rand_below(&sim->rand, SIM_N_KINDS);
        struct sim_host *host = &sim->hosts[kind][rand_below(&sim->rand, sim->n_hosts[kind])];
        if (host->listener >= 0) { // it is gone
            fake_close(sim->bed.net, host->listener, false);
            host->listener = -1;
        } else {
            host->listener = fake_listen(sim->bed.net, -1, &host->addr);
        }
    }
}

static bool clients_are_over(const struct sim *sim) {
    for (int i = 0; i < SIM_CLIENTS_MAX; i++) {
        if (sim->clients[i] != NULL && !sim_client_is_over(sim->clients[i])) {
            return false;
        }
    }
    return sim_tcp_is_over(sim);
}

static void open_sim(struct sim *sim) {
    struct fake_options options = fake_chaos(sim->seed);
    if (!sim->has_faults) { // only what a healthy network does: nothing may fail
        options.reset = options.connect_error = options.accept_error = options.stall = 0;
    }
    options.reset /= 4; // connections live long enough for something to happen on them
    sim_log_open();
    static const uint32_t n_workers[] = {1, 1, 2, 4};
    wbed_init(&sim->bed, &options, n_workers[rand_below(&sim->rand, ARRAY_LEN(n_workers))]);
    fake_set_trace(sim->bed.net, sim->has_trace ? stderr : NULL);
    sim->bed.waypoint.config.access_log = 1;
    sim->bed.waypoint.config.access_log_encoding = "text";
    sim->bed.waypoint.config.access_log_format =
        "sim %REQ(X-ID)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
        "%BYTES_SENT%\n";
    wbed_open(&sim->bed, sim->seed);
    sim_server_open(sim);
    sim_config_start(sim);
    sim_tcp_open(sim);
    uint64_t n_clients = rand_range(&sim->rand, 1, SIM_CLIENTS_MAX);
    for (uint64_t i = 0; i < n_clients; i++) {
        sim_client_start(sim);
    }
}

static void close_sim(struct sim *sim, uint64_t *skip_ns) {
    uint64_t end = fake_now(sim->bed.net) + RUN_MAX_S * NS_PER_SEC;
    fake_set_quiet(sim->bed.net, true);
    // The clients are gone; what they have left behind (mirrors too) ends by itself.
    while (wbed_n_conns(&sim->bed) > 0 || wbed_n_mirrors(&sim->bed) > 0 || !wbed_stop(&sim->bed)) {
        step(sim, skip_ns);
        if (fake_now(sim->bed.net) >= end) {
            wbed_print(&sim->bed, stderr);
        }
        CHECK(fake_now(sim->bed.net) < end);
    }
    sim_server_close(sim);
    sim_tcp_close(sim);
    for (int i = 0; i < 50; i++) { // completions of what is closed
        (void)wbed_turn(&sim->bed);
        fake_skip(sim->bed.net, NS_PER_MS);
    }
    sim_log_read(sim);
    for (int i = 0; i < SIM_CLIENTS_MAX; i++) {
        if (sim->clients[i] != NULL) {
            sim_client_free(sim, sim->clients[i]);
        }
    }
    wbed_fini(&sim->bed);
}

// A line without a reason is one of an answer that went out whole, whether it arrived or not.
static void check_line(const struct sim_request *request) {
    CHECK(request->has_reason || request->logged_status != 0);
    if (request->is_ws) { // its statuses are those of two versions
        CHECK(!request->has_end || request->logged_len == request->n_answer);
        return;
    }
    bool is_one = request->has_reason || !request->was_passed_on;
    for (uint32_t i = 0; i < request->n_tries; i++) {
        const struct sim_try *try = &request->tries[i];
        is_one = is_one || (try->status == request->logged_status &&
                            (request->is_head || try->len == request->logged_len));
    }
    CHECK(is_one);
}

static void check_request(const struct sim *sim, const struct sim_request *request) {
    CHECK(request->is_over || !request->is_sent);
    CHECK(request->n_lines <= 1); // none, if its head did not arrive
    if (request->has_end) {
        bool is_tunnel = request->n_try >= 0 && request->tries[request->n_try].is_tunnel;
        // HTTP/2 says 200 to an upgrade, and the log what it means.
        CHECK(request->n_lines == 1 &&
              request->logged_status == (is_tunnel ? 101 : request->status));
    }
    if (request->n_tries + request->n_mirrored > 0) {
        CHECK(request->n_lines == 1);
    }
    if (request->n_lines == 1) {
        check_line(request);
    }
    if (!sim->has_faults && request->is_sent) {
        static const uint16_t statuses[SIM_N_ROUTES] = {
            [SIM_DIRECT] = 200, [SIM_REDIRECT] = 301, [SIM_NOWHERE] = 503};
        uint16_t expected = statuses[request->route] != 0 ? statuses[request->route] : 200;
        bool is_101 = request->is_ws && request->status == 101; // a client of HTTP/1.1
        CHECK(request->has_end && (request->status == expected || is_101));
        bool is_early = request->n_try >= 0 && request->tries[request->n_try].is_early;
        CHECK(request->route != SIM_MIRROR || request->n_mirrored == 1 || is_early);
    }
}

static void run_seed(uint64_t seed, bool trace) {
    struct sim *sim = xcalloc(1, sizeof(*sim));
    uint64_t skip_ns = SKIP_MIN_NS;
    sim->seed = seed;
    sim->has_trace = trace;
    rand_seed(&sim->rand, seed);
    sim->has_faults = seed % 4 != 0;
    sim->is_h2_up = sim_chance(sim, 1, 2);
    open_sim(sim);
    uint64_t end = fake_now(sim->bed.net) + RUN_MAX_S * NS_PER_SEC;
    while (!clients_are_over(sim)) {
        step(sim, &skip_ns);
        disturb(sim);
        if (fake_now(sim->bed.net) >= end) {
            wbed_print(&sim->bed, stderr);
        }
        CHECK(fake_now(sim->bed.net) < end); // a hang
    }
    close_sim(sim, &skip_ns);
    for (uint32_t i = 0; i < sim->n_requests; i++) {
        check_request(sim, &sim->requests[i]);
    }
    sim_tcp_check(sim);
    free(sim);
}

int main(int argc, char **argv) {
    static const struct sim_program program = {
        .name = "sim_waypoint", .n_seeds = N_SEEDS, .run = run_seed};
    return sim_seeds_main(&program, argc, argv);
}
