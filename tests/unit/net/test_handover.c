// SPDX-License-Identifier: Apache-2.0
//
// Hand-over in the simulator: flows through a tunnel, each side with a loop of its own. Again and
// again a side is frozen, exported, freed and imported into a fresh loop. Every byte arrives once
// and in order, every end arrives, and nothing is left in the old loop.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/rt/fake.h"
#include "tests/unit/net/mesh_bed.h"

enum { N_FLOWS = 6, LEN_MAX = 400 * 1000, EXPORT_MAX = 64 << 20, TURNS_MAX = 400 * 1000 };

struct world;

// A loop with what belongs to it.
struct env {
    struct blk_pool pool;
    struct io *io;
    struct loop loop;
    struct tls_queue queue;
};

struct half {
    struct pipe pipe;
    struct link_end plain;
    struct hbone_stream stream;
    struct side *side;
    bool is_up, is_done;
};

struct side {
    struct world *world;
    struct env *env;
    struct h2_drv drv;
    struct half halves[N_FLOWS];
    int fds[N_FLOWS]; // until the flow begins
    enum pipe_side plain_side;
    uint64_t n_bytes[N_FLOWS][2]; // of the flows that are done
    uint32_t n_up, n_done;
    bool is_server, is_ended, is_closed;
};

// One direction of a flow, outside.
struct way {
    int from, to;
    uint32_t len, n_written, n_read;
    bool has_ended, got_end;
};

struct world {
    struct fake_net *net;
    struct tls_ctx *client_ctx, *server_ctx;
    struct slice server_id;
    struct side sides[2]; // client, server
    struct way ways[2 * N_FLOWS];
    uint64_t seed;
    uint32_t n_handed;
};

static uint64_t rnd(struct world *world, uint64_t n) {
    uint64_t z = (world->seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % n;
}

static uint8_t byte_at(uint32_t way, uint32_t pos) {
    return (uint8_t)((pos * 2654435761U >> 13) + pos / 251 + way * 37);
}

// ---- a side ------------------------------------------------------------------------------------

static struct env *env_new(struct fake_net *net) {
    struct env *env = calloc(1, sizeof(*env));
    blk_pool_init(&env->pool, 4);
    env->io = fake_io_new(net, &env->pool);
    loop_init(&env->loop, env->io, &env->pool, env);
    tls_queue_init(&env->queue, &env->loop);
    return env;
}

static void env_free(struct env *env) { // checks that nothing of it is in use
    tls_queue_fini(&env->queue);
    loop_fini(&env->loop);
    env->io->ops->free(env->io);
    blk_pool_fini(&env->pool);
    free(env);
}

static void on_done(struct pipe *pipe) {
    struct half *half = CONTAINER_OF(pipe, struct half, pipe);
    assert_int_equal(pipe->end, FLOW_OK);
    half->is_done = true;
    half->side->n_done++;
    memcpy(half->side->n_bytes[half - half->side->halves], pipe->n_bytes, sizeof(pipe->n_bytes));
}

static void half_start(struct half *half) {
    struct side *side = half->side;
    uint32_t i = (uint32_t)(half - side->halves);
    link_end_init(&half->plain, &side->env->loop, side->fds[i]);
    pipe_init(&half->pipe, &side->env->pool, on_done);
    pipe_attach(&half->pipe, side->plain_side, &half->plain.duplex);
    pipe_attach(&half->pipe, !side->plain_side, &half->stream.duplex);
    half->is_up = true;
    side->n_up++;
    pipe_start(&half->pipe);
}

static void on_head(struct hbone_stream *stream, const struct h2_event *event) {
    half_start(CONTAINER_OF(stream, struct half, stream));
}

static void open_streams(struct side *side) {
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        struct hbone_connect connect = {.target = {.addr = {.port = (uint16_t)(1000 + i)}}};
        assert_true(ip_parse(SLICE_LIT("10.0.0.1"), &connect.target.addr.ip));
        struct hbone_head head;
        enum h2_err err;
        assert_true(hbone_connect_build(&connect, &head));
        struct h2_stream *h2 =
            h2_stream_open(side->drv.h2, head.fields, head.n_fields, false, NULL, &err);
        assert_non_null(h2);
        hbone_stream_init(&side->halves[i].stream, &side->drv, h2);
        side->halves[i].stream.on_head = on_head;
    }
    h2_drv_kick(&side->drv);
}

static void on_ready(struct h2_drv *drv, const struct tls_peer *peer) {
    struct side *side = CONTAINER_OF(drv, struct side, drv);
    if (!side->is_server) {
        open_streams(side);
    }
}

static void on_event(struct h2_drv *drv, const struct h2_event *event) {
    struct side *side = CONTAINER_OF(drv, struct side, drv);
    if (event->type != H2_EV_HEADERS) {
        return;
    }
    uint32_t i = h2_stream_id(event->stream) / 2;
    struct hbone_head head;
    hbone_response_build(HBONE_OK, NULL, &head);
    hbone_stream_init(&side->halves[i].stream, drv, event->stream);
    h2_stream_send_headers(event->stream, head.fields, head.n_fields, false);
    h2_drv_kick(drv);
    half_start(&side->halves[i]);
}

static void on_end(struct h2_drv *drv, enum flow_end reason) {
    assert_int_equal(reason, FLOW_OK);
    CONTAINER_OF(drv, struct side, drv)->is_ended = true;
}

static void on_closed(struct h2_drv *drv) {
    CONTAINER_OF(drv, struct side, drv)->is_closed = true;
}

static const struct h2_drv_handler drv_handler = {
    .on_ready = on_ready, .on_event = on_event, .on_end = on_end, .on_closed = on_closed};

// ---- the hand-over -----------------------------------------------------------------------------

static bool has_plain(const struct half *half) {
    return half->is_up && !half->is_done && half->pipe.side[half->side->plain_side] != NULL;
}

static bool has_stream(const struct half *half) {
    return half->is_up && !half->is_done && half->pipe.side[!half->side->plain_side] != NULL;
}

static bool is_quiet(struct side *side) {
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        if (has_plain(&side->halves[i]) && !link_end_is_quiet(&side->halves[i].plain)) {
            return false;
        }
    }
    return h2_drv_is_quiet(&side->drv);
}

static void thaw(struct side *side) {
    h2_drv_thaw(&side->drv);
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        if (has_plain(&side->halves[i])) {
            link_end_thaw(&side->halves[i].plain);
        }
    }
}

static bool export(struct side *side, struct buf *out) {
    if (!h2_drv_export(&side->drv, out)) { // the peer has not acknowledged SETTINGS yet
        return false;
    }
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        struct half *half = &side->halves[i];
        if (half->is_done) {
            continue;
        }
        assert_true(pipe_export(&half->pipe, out));
        if (has_plain(half)) {
            assert_true(link_end_export(&half->plain, out));
        }
        if (has_stream(half)) {
            assert_true(hbone_stream_export(&half->stream, out));
        }
    }
    return true;
}

// Gives up all, but for the descriptors.
static int release(struct side *side) {
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        struct half *half = &side->halves[i];
        bool plain = has_plain(half), stream = has_stream(half);
        if (stream) {
            hbone_stream_release(&half->stream);
        }
        side->fds[i] = plain ? link_end_release(&half->plain) : -1;
    }
    int fd = h2_drv_release(&side->drv);
    struct half old[N_FLOWS];
    memcpy(old, side->halves, sizeof(old));
    memset(side->halves, 0x5a, sizeof(side->halves)); // nobody looks at it any more
    memset(&side->drv, 0x5a, sizeof(side->drv));
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        side->halves[i].side = side;
        side->halves[i].is_up = old[i].is_up;
        side->halves[i].is_done = old[i].is_done;
    }
    return fd;
}

static void import(struct side *side, int fd, struct slice bytes) {
    struct cur in = cur_make(bytes);
    assert_true(h2_drv_import(&side->drv, &side->env->queue, fd, &in, &drv_handler));
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        struct half *half = &side->halves[i];
        bool has[2];
        if (half->is_done) {
            continue;
        }
        assert_true(pipe_import(&half->pipe, &side->env->pool, on_done, &in, has));
        if (has[side->plain_side]) {
            assert_true(link_end_import(&half->plain, &side->env->loop, side->fds[i], &in));
            pipe_attach(&half->pipe, side->plain_side, &half->plain.duplex);
        }
        if (has[!side->plain_side]) {
            assert_true(hbone_stream_import(&half->stream, &side->drv, &in));
            pipe_attach(&half->pipe, !side->plain_side, &half->stream.duplex);
        }
    }
    assert_true(cur_done(&in));
    thaw(side);
}

static void turn(struct world *world);

static void hand_over(struct world *world, struct side *side) {
    if (side->n_up < N_FLOWS || side->is_ended) {
        return;
    }
    h2_drv_freeze(&side->drv);
    for (uint32_t i = 0; i < N_FLOWS; i++) {
        if (has_plain(&side->halves[i])) {
            link_end_freeze(&side->halves[i].plain);
        }
    }
    for (int i = 0; i < 300 && !is_quiet(side); i++) {
        turn(world);
    }
    struct buf out;
    buf_init(&out, EXPORT_MAX);
    if (!is_quiet(side) || !export(side, &out)) { // or it is at its end: another time
        buf_fini(&out);
        thaw(side);
        return;
    }
    struct env *old = side->env;
    int fd = release(side);
    env_free(old);
    side->env = env_new(world->net);
    import(side, fd, buf_slice(&out));
    buf_fini(&out);
    world->n_handed++;
}

// ---- outside -----------------------------------------------------------------------------------

static void way_step(struct world *world, uint32_t number) {
    struct way *way = &world->ways[number];
    uint8_t bytes[20000];
    if (way->n_written < way->len && rnd(world, 3) == 0) {
        uint32_t n = (uint32_t)rnd(world, sizeof(bytes)) + 1, left = way->len - way->n_written;
        n = MIN(n, left);
        for (uint32_t i = 0; i < n; i++) {
            bytes[i] = byte_at(number, way->n_written + i);
        }
        ssize_t rc = fake_write(world->net, way->from, bytes, n);
        assert_true(rc >= 0 || rc == -EAGAIN);
        way->n_written += rc > 0 ? (uint32_t)rc : 0;
    } else if (way->n_written == way->len && !way->has_ended) {
        way->has_ended = true;
        assert_int_equal(fake_shutdown(world->net, way->from), 0);
    }
    if (!way->got_end && rnd(world, 4) == 0) { // slower than the writer: queues fill
        ssize_t rc = fake_read(world->net, way->to, bytes, rnd(world, sizeof(bytes)) + 1);
        assert_true(rc >= 0 || rc == -EAGAIN);
        for (ssize_t i = 0; i < rc; i++) {
            assert_int_equal(bytes[i], byte_at(number, way->n_read + (uint32_t)i));
        }
        way->n_read += rc > 0 ? (uint32_t)rc : 0;
        way->got_end = rc == 0;
    }
}

static void turn(struct world *world) {
    for (uint32_t i = 0; i < 2 * N_FLOWS; i++) {
        way_step(world, i);
    }
    loop_turn(&world->sides[0].env->loop, false);
    loop_turn(&world->sides[1].env->loop, false);
    fake_skip(world->net, NS_PER_MS / 20);
}

static void world_up(struct world *world, uint64_t seed, bool is_calm) {
    *world = (struct world){.seed = seed};
    struct bed bed; // for its certificates
    struct addr none;
    assert_true(addr_parse(SLICE_LIT("127.0.0.1:9"), &none));
    bed_init(&bed, &none);
    world->client_ctx = tls_ctx_ref(bed.client_ctx);
    world->server_ctx = tls_ctx_ref(bed.server_ctx);
    world->server_id = bed.expected_san;
    bed_fini(&bed);
    struct fake_options options = fake_chaos(seed);
    options.reset = options.connect_error = options.accept_error = options.stall = 0;
    if (is_calm) {
        options = (struct fake_options){.seed = seed};
    }
    world->net = fake_net_new(&options);
    int tunnel[2];
    assert_int_equal(fake_pair(world->net, tunnel), 0);
    for (int s = 0; s < 2; s++) {
        struct side *side = &world->sides[s];
        *side = (struct side){.world = world, .is_server = s == 1, .env = env_new(world->net)};
        side->plain_side = s == 0 ? PIPE_DOWN : PIPE_UP;
        for (uint32_t i = 0; i < N_FLOWS; i++) {
            int pair[2];
            assert_int_equal(fake_pair(world->net, pair), 0);
            side->halves[i].side = side;
            side->fds[i] = pair[1];
            world->ways[2 * i + (uint32_t)s].from = world->ways[2 * i + 1 - (uint32_t)s].to =
                pair[0];
            world->ways[2 * i + (uint32_t)s].len = (uint32_t)rnd(world, LEN_MAX);
        }
        struct h2_config config;
        h2_config_init(&config, s == 1);
        config.header_table_size = 0;
        h2_drv_init(&side->drv, &side->env->queue, tunnel[s],
                    s == 1 ? tls_handshake_new_server(world->server_ctx)
                           : tls_handshake_new_client(world->client_ctx, &world->server_id, 1),
                    s == 1, &config, &drv_handler);
    }
}

static bool is_over(const struct world *world) {
    for (uint32_t i = 0; i < 2 * N_FLOWS; i++) {
        if (!world->ways[i].got_end) {
            return false;
        }
    }
    return world->sides[0].n_done == N_FLOWS && world->sides[1].n_done == N_FLOWS;
}

static void world_down(struct world *world) {
    h2_drv_close(&world->sides[0].drv, FLOW_OK);
    for (int i = 0; i < 100000 && !(world->sides[0].is_closed && world->sides[1].is_closed); i++) {
        turn(world);
    }
    assert_true(world->sides[0].is_closed && world->sides[1].is_closed);
    for (uint32_t i = 0; i < 2 * N_FLOWS; i++) {
        fake_close(world->net, world->ways[i].from, false);
    }
    turn(world);
    env_free(world->sides[0].env);
    env_free(world->sides[1].env);
    assert_int_equal(fake_open_fds(world->net), 0);
    fake_net_free(world->net);
    tls_ctx_unref(world->client_ctx);
    tls_ctx_unref(world->server_ctx);
}

// ---- tests -------------------------------------------------------------------------------------

// one_in: a hand-over each so many turns, of a side by turns of chance; 0: none.
static uint32_t run(uint64_t seed, uint32_t one_in, bool is_calm) {
    struct world *world = calloc(1, sizeof(*world));
    world_up(world, seed, is_calm);
    for (int i = 0; i < TURNS_MAX && !is_over(world); i++) {
        turn(world);
        if (one_in > 0 && rnd(world, one_in) == 0) {
            hand_over(world, &world->sides[rnd(world, 2)]);
        }
    }
    assert_true(is_over(world));
    for (uint32_t i = 0; i < 2 * N_FLOWS; i++) {
        assert_int_equal(world->ways[i].n_read, world->ways[i].len);
    }
    for (int s = 0; s < 2; s++) { // the counters went along
        for (uint32_t i = 0; i < N_FLOWS; i++) {
            const uint64_t *n_bytes = world->sides[s].n_bytes[i];
            assert_int_equal(n_bytes[PIPE_DOWN], world->ways[2 * i].len);
            assert_int_equal(n_bytes[PIPE_UP], world->ways[2 * i + 1].len);
        }
    }
    uint32_t n_handed = world->n_handed;
    world_down(world);
    free(world);
    return n_handed;
}

static void test_without(void **state) {
    (void)state;
    assert_int_equal(run(1, 0, true), 0);
}

static void test_calm(void **state) {
    (void)state;
    uint32_t n = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        n += run(seed, 20, true);
    }
    assert_true(n > 20);
}

static void test_chaos(void **state) {
    (void)state;
    uint32_t n = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        n += run(seed, 10 + (uint32_t)seed * 3, false);
    }
    assert_true(n > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
