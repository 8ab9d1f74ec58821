// SPDX-License-Identifier: Apache-2.0
//
// The deterministic simulator: applications talk through a whole tunnel (outbound side, HBONE pool,
// TLS, HTTP/2, inbound side) on a fake network that does everything that can happen to a
// connection. What must hold for every seed:
//
//   - bytes arrive once and in order: what an application read is a prefix of what the other sent;
//   - an orderly end (EOF) means that everything up to the sender's FIN has arrived;
//   - a flow that was cut never looks complete;
//   - nothing hangs, and in the end all gauges are 0: flows, tunnels, ops, descriptors, blocks.
//
// usage: sim [--seeds N] [--first SEED] [--trace]        a failing seed prints the command that
// repeats it
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "common/rt/fake.h"
#include "tests/sim/sim_seeds.h"
#include "tests/unit/net/mesh_bed.h"

#ifdef ZTUN_SANITIZED
enum { N_SEEDS = 500 };
#else
enum { N_SEEDS = 4000 };
#endif

enum { N_FLOWS_MAX = 6, N_UNNAMED_MAX = 32, RUN_MAX_S = 120, STREAM_MAX = 400 * 1024 };

// ---- applications -------------------------------------------------------------------------------

// One direction of a conversation: byte 0 names the conversation, so that the two ends of it find
// each other behind the tunnel; byte i is a function of (key, i).
struct stream {
    uint64_t key;
    uint8_t name;
    size_t n_total, n_sent, n_read;
    bool sent_fin, got_eof;
    bool writer_cut, reader_cut; // that side saw an error, or died itself
};

struct talk {
    int client_fd, server_fd; // -1: not there, or closed
    struct stream up, down;
};

struct sim {
    uint64_t seed;
    struct rand rand;
    struct fake_net *net;
    struct bed bed;
    int app_listener;
    struct op accept_op;
    struct talk talks[N_FLOWS_MAX];
    uint32_t n_talks, n_started;
    int unnamed[N_UNNAMED_MAX]; // accepted by the application, nothing read yet
    uint32_t n_unnamed;
    bool has_faults, listener_gone;
};

static uint8_t byte_at(const struct stream *stream, size_t i) {
    if (i == 0) {
        return stream->name;
    }
    uint64_t x = (stream->key + i / 8) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    return (uint8_t)(x >> (i % 8 * 7));
}

static void write_some(struct sim *sim, int fd, struct stream *stream) {
    uint8_t buf[20000];
    if (stream->sent_fin || stream->writer_cut) {
        return;
    }
    size_t n = (size_t)rand_range(&sim->rand, 1, rand_chance(&sim->rand, 1, 3) ? 200 : sizeof(buf));
    n = MIN(n, stream->n_total - stream->n_sent);
    for (size_t i = 0; i < n; i++) {
        buf[i] = byte_at(stream, stream->n_sent + i);
    }
    ssize_t rc = n > 0 ? fake_write(sim->net, fd, buf, n) : 0;
    if (rc < 0 && rc != -EAGAIN) {
        stream->writer_cut = true;
        return;
    }
    stream->n_sent += rc > 0 ? (size_t)rc : 0;
    if (stream->n_sent == stream->n_total) {
        stream->sent_fin = true;
        (void)fake_shutdown(sim->net, fd);
    }
}

static void read_some(struct sim *sim, int fd, struct stream *stream) {
    uint8_t buf[16384];
    if (stream->got_eof || stream->reader_cut || rand_chance(&sim->rand, 1, 4)) {
        return; // a reader is slow now and then
    }
    ssize_t n = fake_read(sim->net, fd, buf, (size_t)rand_range(&sim->rand, 1, sizeof(buf)));
    if (n == -EAGAIN) {
        return;
    }
    if (n < 0) {
        stream->reader_cut = true;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        CHECK(buf[i] == byte_at(stream, stream->n_read + (size_t)i));
    }
    stream->n_read += (size_t)n;
    CHECK(stream->n_read <= stream->n_sent);
    if (n == 0) {
        stream->got_eof = true;
        // An end in order: all of it has arrived. A cut flow must not look like this.
        if (!stream->sent_fin || stream->n_read != stream->n_total) {
            fprintf(stderr, "sim: EOF early: flow %u fd %d: read %zu, sent %zu of %zu%s\n",
                    stream->name, fd, stream->n_read, stream->n_sent, stream->n_total,
                    stream->sent_fin ? ", FIN" : "");
        }
        CHECK(stream->sent_fin && stream->n_read == stream->n_total);
    }
}

// Both directions are over: an orderly close. Cut: a reset, as the kernel does for unread input.
static void close_side(struct sim *sim, int *fd, const struct stream *out,
                       const struct stream *in) {
    bool is_cut = out->writer_cut || in->reader_cut;
    if (*fd >= 0 && (is_cut || (out->sent_fin && in->got_eof))) {
        fake_close(sim->net, *fd, is_cut);
        *fd = -1;
    }
}

static void run_client(struct sim *sim, struct talk *talk) {
    if (talk->client_fd >= 0) {
        write_some(sim, talk->client_fd, &talk->up);
        if (!talk->up.writer_cut) { // an error is told once; a read after it would say EOF
            read_some(sim, talk->client_fd, &talk->down);
        }
        close_side(sim, &talk->client_fd, &talk->up, &talk->down);
    }
}

static void run_server(struct sim *sim, struct talk *talk) {
    if (talk->server_fd >= 0) {
        read_some(sim, talk->server_fd, &talk->up);
        if (!talk->up.reader_cut) {
            write_some(sim, talk->server_fd, &talk->down);
        }
        close_side(sim, &talk->server_fd, &talk->down, &talk->up);
    }
}

// ---- the run ------------------------------------------------------------------------------------

static struct io *make_fake_io(void *arg, struct blk_pool *pool) {
    return fake_io_new(arg, pool);
}

static void on_app_accept(struct op *op, const struct io_result *result) {
    struct sim *sim = CONTAINER_OF(op, struct sim, accept_op);
    if (result->res >= 0) {
        CHECK(sim->n_unnamed < N_UNNAMED_MAX);
        sim->unnamed[sim->n_unnamed++] = result->res;
    }
    if (!result->more && !sim->listener_gone) {
        sim->bed.io->ops->accept(sim->bed.io, &sim->accept_op, sim->app_listener);
    }
}

// Reads the first byte of a new connection: whose it is. False: nothing there yet.
static bool place(struct sim *sim, int fd) {
    uint8_t name = 0;
    ssize_t n = fake_read(sim->net, fd, &name, 1);
    if (n == -EAGAIN) {
        return false;
    }
    if (n <= 0) { // cut before it said anything
        CHECK(n < 0);
        fake_close(sim->net, fd, false);
        return true;
    }
    CHECK(name < sim->n_started);
    struct talk *talk = &sim->talks[name];
    CHECK(talk->server_fd < 0 && talk->up.n_read == 0); // bytes of a flow reach one server once
    talk->server_fd = fd;
    talk->up.n_read = 1;
    return true;
}

static void place_all(struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_unnamed;) {
        if (place(sim, sim->unnamed[i])) {
            sim->unnamed[i] = sim->unnamed[--sim->n_unnamed];
        } else {
            i++;
        }
    }
}

static void start_talk(struct sim *sim) {
    struct talk *talk = &sim->talks[sim->n_started++];
    *talk = (struct talk){.client_fd = -1, .server_fd = -1};
    bool is_small = rand_chance(&sim->rand, 1, 2);
    talk->up = (struct stream){.key = rand_u64(&sim->rand),
                               .name = (uint8_t)(sim->n_started - 1),
                               .n_total = 1 + rand_below(&sim->rand, is_small ? 3000 : STREAM_MAX)};
    talk->down = (struct stream){.key = rand_u64(&sim->rand),
                                 .n_total = rand_below(&sim->rand, is_small ? 3000 : STREAM_MAX)};
    struct addr src = sim->bed.out_addr;
    src.port = (uint16_t)(40000 + sim->n_started);
    talk->client_fd = fake_dial(sim->net, -1, &src, &sim->bed.out_addr);
    if (talk->client_fd < 0) { // refused: one of the faults
        CHECK(sim->has_faults);
        talk->client_fd = -1;
        talk->up.writer_cut = talk->down.reader_cut = true;
    }
}

// What operators and peers do in mid-flow.
static void disturb(struct sim *sim) {
    switch (rand_below(&sim->rand, 1200)) {
    case 0:
        bed_drain_servers(&sim->bed);
        break;
    case 1:
        hbone_client_close_pod(&sim->bed.client, 1, false, FLOW_OK);
        break;
    case 2:
        bed_rotate(&sim->bed);
        break;
    case 3:
        if (sim->has_faults && sim->bed.n_server_tunnels > 0) {
            bed_abort_servers(&sim->bed, (uint32_t)rand_below(&sim->rand, 8));
        }
        break;
    case 4:
        hbone_client_allow_growth(&sim->bed.client, rand_chance(&sim->rand, 1, 2));
        break;
    case 5:
        if (sim->has_faults) {
            struct talk *talk = &sim->talks[rand_below(&sim->rand, N_FLOWS_MAX)];
            if (talk < sim->talks + sim->n_started &&
                talk->client_fd >= 0) { // an application that dies
                talk->up.writer_cut = talk->down.reader_cut = true;
                fake_close(sim->net, talk->client_fd, true);
                talk->client_fd = -1;
            }
        }
        break;
    default:
        break;
    }
}

static bool is_over(const struct sim *sim) {
    if (sim->n_started < sim->n_talks || sim->n_unnamed > 0) {
        return false;
    }
    for (uint32_t i = 0; i < sim->n_started; i++) {
        if (sim->talks[i].client_fd >= 0 || sim->talks[i].server_fd >= 0) {
            return false;
        }
    }
    return true;
}

static void step(struct sim *sim) {
    loop_turn(&sim->bed.loop, false);
    place_all(sim);
    for (uint32_t i = 0; i < sim->n_started; i++) {
        run_client(sim, &sim->talks[i]);
        run_server(sim, &sim->talks[i]);
    }
    fake_skip(sim->net, rand_range(&sim->rand, 1000, 200000));
}

static struct addr make_addr(const char *text) {
    struct addr addr;
    CHECK(addr_parse(slice_str(text), &addr));
    return addr;
}

static void open_sim(struct sim *sim, bool trace) {
    struct fake_options options = fake_chaos(sim->seed);
    if (!sim->has_faults) { // only what a healthy network does: nothing may fail
        options.reset = options.connect_error = options.accept_error = options.stall = 0;
    }
    sim->net = fake_net_new(&options);
    fake_set_trace(sim->net, trace ? stderr : NULL);
    sim->bed = (struct bed){.out_addr = make_addr("10.0.0.1:15001"),
                            .in_addr = make_addr("10.0.0.2:15008"),
                            .app_addr = make_addr("10.0.0.2:8080"),
                            .max_retries = 4};
    int out_fd = fake_listen(sim->net, -1, &sim->bed.out_addr);
    int in_fd = fake_listen(sim->net, -1, &sim->bed.in_addr);
    sim->app_listener = fake_listen(sim->net, -1, &sim->bed.app_addr);
    bed_init_on(&sim->bed, make_fake_io, sim->net, out_fd, in_fd);
    op_init(&sim->accept_op, on_app_accept);
    sim->bed.io->ops->accept(sim->bed.io, &sim->accept_op, sim->app_listener);
}

static void close_sim(struct sim *sim) {
    fake_set_quiet(sim->net, true);
    sim->listener_gone = true;
    sim->bed.io->ops->cancel(sim->bed.io, &sim->accept_op);
    bed_close(&sim->bed);
    uint64_t end = fake_now(sim->net) + 60 * NS_PER_SEC;
    while ((!bed_is_closed(&sim->bed) || op_is_pending(&sim->accept_op)) &&
           fake_now(sim->net) < end) {
        step(sim);
    }
    CHECK(bed_is_closed(&sim->bed) && !op_is_pending(&sim->accept_op));
    fake_close(sim->net, sim->app_listener, false);
    // Timers and completions of what is closed run out.
    for (int i = 0; i < 50; i++) {
        step(sim);
    }
    if (fake_open_fds(sim->net) != 0) {
        fake_print_open(sim->net, stderr);
    }
    CHECK(fake_open_fds(sim->net) == 0 && fake_pending_ops(sim->net) == 0);
    bed_free(&sim->bed);
    fake_net_free(sim->net);
}

static void check_result(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_started; i++) {
        const struct talk *talk = &sim->talks[i];
        if (!sim->has_faults) {
            if (!talk->up.got_eof || !talk->down.got_eof) {
                fprintf(stderr,
                        "sim: flow %u: up %zu/%zu cut %d, down %zu/%zu cut %d; ended: %s; "
                        "request failed: %s\n",
                        i, talk->up.n_read, talk->up.n_total,
                        talk->up.writer_cut + 2 * talk->up.reader_cut, talk->down.n_read,
                        talk->down.n_total, talk->down.writer_cut + 2 * talk->down.reader_cut,
                        flow_end_text(sim->bed.last_end), flow_end_text(sim->bed.last_fail));
            }
            CHECK(talk->up.got_eof && talk->down.got_eof);
        }
    }
}

static void run_seed(uint64_t seed, bool trace) {
    struct sim *sim = xcalloc(1, sizeof(*sim));
    sim->seed = seed;
    rand_seed(&sim->rand, seed);
    sim->has_faults = seed % 4 != 0;
    sim->n_talks = (uint32_t)rand_range(&sim->rand, 1, N_FLOWS_MAX);
    open_sim(sim, trace);
    uint64_t end = fake_now(sim->net) + RUN_MAX_S * NS_PER_SEC;
    while (!is_over(sim)) {
        if (sim->n_started < sim->n_talks && rand_chance(&sim->rand, 1, 8)) {
            start_talk(sim);
        }
        step(sim);
        disturb(sim);
        CHECK(fake_now(sim->net) < end); // a hang
    }
    check_result(sim);
    close_sim(sim);
    free(sim);
}

int main(int argc, char **argv) {
    static const struct sim_program program = {
        .name = "sim", .n_seeds = N_SEEDS, .prepare = bed_make_identities, .run = run_seed};
    return sim_seeds_main(&program, argc, argv);
}
