// SPDX-License-Identifier: Apache-2.0
//
// What lies over the transport of a connection to a server. The test plays the transport, and the
// dial that the layer belongs to.
#include "waypoint/dial_layer.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/rt/fake.h"
#include "tests/unit/base/unit.h"
#include "waypoint/http_worker.h"

#define HEADER "PROXY\r\n"
#define CONNECT "CONNECT a.example.com:443 HTTP/1.1\r\nhost: a.example.com:443\r\n\r\n"

static struct bed {
    struct fake_net *net;
    struct io *io;
    struct loop loop;
    struct blk_pool pool;
    struct wworker worker;
    struct http_worker http;
    struct tls_ctx *tls;
    struct upstream_dial dial;
    // The transport.
    struct duplex inner;
    struct chain sent;
    bool sent_fin, is_aborted, is_finished, is_closed, closes_late;
    size_t n_consumed;
    // What the dial hears, and the owner of the duplex that it was given.
    struct duplex *open;
    uint32_t n_failed;
    uint8_t reason;
    char text[TLS_LINK_ERROR_MAX];
    char got[64];
    size_t n_got, n_told_sent, n_writable;
    bool got_fin, is_open_closed, is_lost;
    enum flow_end cut;
} bed;

// ---- the dial ----------------------------------------------------------------------------------

void upstream_dial_opened(struct upstream_dial *dial, struct duplex *duplex) {
    assert_ptr_equal(dial, &bed.dial);
    assert_null(bed.open);
    dial->layer = NULL;
    bed.open = duplex;
}

void upstream_dial_failed(struct upstream_dial *dial, const struct upstream_failure *failure) {
    assert_ptr_equal(dial, &bed.dial);
    assert_null(dial->layer); // it ends by itself
    assert_true(failure->is_retryable);
    bed.n_failed++;
    bed.reason = failure->reason;
    snprintf(bed.text, sizeof(bed.text), "%s", failure->text);
}

// ---- the transport -----------------------------------------------------------------------------

static void inner_close(void) {
    bed.is_closed = true;
    bed.inner.events->on_closed(&bed.inner);
}

static void inner_send(struct duplex *duplex, struct chain *data, bool fin) {
    assert_false(bed.sent_fin);
    chain_move_all(&bed.sent, data);
    bed.sent_fin = fin;
}

static bool inner_can_send(const struct duplex *duplex) {
    return !bed.sent_fin;
}

static void inner_consumed(struct duplex *duplex, size_t n) {
    bed.n_consumed += n;
}

static void inner_hold(struct duplex *duplex, bool on) {
}

static void inner_abort(struct duplex *duplex) {
    assert_false(bed.is_aborted);
    bed.is_aborted = true;
    if (!bed.closes_late) {
        inner_close();
    }
}

static void inner_finish(struct duplex *duplex) {
    bed.is_finished = true;
    inner_close();
}

static const struct duplex_ops inner_ops = {
    .send = inner_send,
    .can_send = inner_can_send,
    .consumed = inner_consumed,
    .hold = inner_hold,
    .abort = inner_abort,
    .finish = inner_finish,
};

// ---- the owner ---------------------------------------------------------------------------------

static void on_data(struct duplex *duplex, const struct seg *seg) {
    assert_true(bed.n_got + seg->len < sizeof(bed.got));
    memcpy(bed.got + bed.n_got, seg_ptr(seg), seg->len);
    bed.n_got += seg->len;
    blk_unref(seg->blk);
    duplex->ops->consumed(duplex, seg->len);
}

static void on_fin(struct duplex *duplex) {
    bed.got_fin = true;
}

static void on_sent(struct duplex *duplex, size_t n) {
    bed.n_told_sent += n;
}

static void on_writable(struct duplex *duplex) {
    bed.n_writable++;
}

static void on_abort(struct duplex *duplex, enum flow_end reason) {
    bed.is_lost = true;
    bed.cut = reason;
}

static void on_closed(struct duplex *duplex) {
    bed.is_open_closed = true;
}

static const struct duplex_events events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

static void own(void) {
    assert_non_null(bed.open);
    bed.open->events = &events;
    bed.open->owner = &bed;
    bed.open->ops->hold(bed.open, false);
}

// ---- the bed -----------------------------------------------------------------------------------

static int setup(void **state) {
    struct fake_options options = {.seed = 1};
    struct tls_outside_params params = {.skips_verify = true};
    char *error = NULL;
    memset(&bed, 0, sizeof(bed));
    blk_pool_init(&bed.pool, 4);
    bed.net = fake_net_new(&options);
    bed.io = fake_io_new(bed.net, &bed.pool);
    loop_init(&bed.loop, bed.io, &bed.pool, NULL);
    tls_queue_init(&bed.worker.tls_queue, &bed.loop);
    bed.tls = tls_ctx_new_outside(&params, &error);
    assert_null(error);
    bed.worker.loop = &bed.loop;
    bed.worker.http = &bed.http;
    bed.dial.worker = &bed.worker;
    bed.inner = (struct duplex){.ops = &inner_ops, .needs_credit = true};
    chain_init(&bed.sent, &bed.pool);
    return 0;
}

// Nothing is left behind, whatever the test did.
static int teardown(void **state) {
    assert_int_equal(bed.http.upstreams.n_layers, 0);
    chain_clear(&bed.sent);
    tls_queue_fini(&bed.worker.tls_queue);
    loop_fini(&bed.loop);
    bed.io->ops->free(bed.io);
    fake_net_free(bed.net);
    tls_ctx_unref(bed.tls);
    assert_int_equal(bed.pool.live_segs, 0);
    blk_pool_fini(&bed.pool);
    return 0;
}

// The target is borrowed for the call alone.
static struct dial_layer *make(const char *ahead, bool with_tls, const char *authority) {
    char copies[2][64];
    snprintf(copies[0], sizeof(copies[0]), "%s", ahead);
    snprintf(copies[1], sizeof(copies[1]), "%s", authority);
    struct upstream_target target = {
        .tls = with_tls ? bed.tls : NULL,
        .server = {.sni = SLICE_LIT("a.example.com")},
        .ahead = slice_str(copies[0]),
        .proxy.authority = slice_str(copies[1]),
    };
    bed.dial.layer = dial_layer_new(&bed.dial, &target);
    memset(copies, 'x', sizeof(copies));
    return bed.dial.layer;
}

static void start(const char *ahead, bool with_tls, const char *authority) {
    struct dial_layer *layer = make(ahead, with_tls, authority);
    assert_non_null(layer);
    assert_int_equal(bed.http.upstreams.n_layers, 1);
    assert_string_equal(dial_layer_timeout_text(layer), "connect timeout");
    dial_layer_start(layer, &bed.inner);
}

static void turn(void) {
    for (int i = 0; i < 20; i++) {
        loop_turn(&bed.loop, false);
    }
}

static void feed(const char *text) {
    size_t n = strlen(text);
    struct blk *blk = blk_new_cold(&bed.pool, n);
    memcpy(blk->base, text, n);
    struct seg seg = {.blk = blk, .len = (uint32_t)n};
    bed.inner.events->on_data(&bed.inner, &seg);
}

static void say(const char *text, bool fin) {
    struct chain data;
    chain_init(&data, &bed.pool);
    chain_copy(&data, slice_str(text));
    bed.open->ops->send(bed.open, &data, fin);
}

static const char *sent(void) {
    static char text[1024];
    text[chain_peek(&bed.sent, text, sizeof(text) - 1)] = '\0';
    return text;
}

// ---- tests -------------------------------------------------------------------------------------

static void test_none(void **state) {
    assert_null(make("", false, ""));
    dial_layer_drop(NULL);
    assert_string_equal(dial_layer_timeout_text(NULL), "connect timeout");
}

// First bytes alone: all else is the transport's, but that they are nobody's when they have left.
static void test_ahead(void **state) {
    start(HEADER, false, "");
    own();
    assert_string_equal(sent(), HEADER);
    assert_true(bed.open->needs_credit);
    assert_true(bed.inner.reports_sent);
    bed.inner.events->on_sent(&bed.inner, 3);
    assert_int_equal(bed.n_told_sent, 0);
    say("hello", false);
    assert_string_equal(sent(), HEADER "hello");
    bed.inner.events->on_sent(&bed.inner, strlen(HEADER) - 3 + 2);
    assert_int_equal(bed.n_told_sent, 2);
    bed.inner.events->on_sent(&bed.inner, 3);
    assert_int_equal(bed.n_told_sent, 5);
    feed("answer");
    assert_string_equal(bed.got, "answer");
    assert_int_equal(bed.n_consumed, 6);
    bed.inner.events->on_fin(&bed.inner);
    assert_true(bed.got_fin);
    bed.inner.events->on_writable(&bed.inner);
    assert_int_equal(bed.n_writable, 1);
    assert_true(bed.open->ops->can_send(bed.open));
    say("", true);
    assert_true(bed.sent_fin);
    assert_false(bed.open->ops->can_send(bed.open));
    bed.open->ops->finish(bed.open);
    assert_true(bed.is_finished && bed.is_open_closed && !bed.is_lost);
}

static void test_ahead_is_cut(void **state) {
    start(HEADER, false, "");
    own();
    bed.inner.events->on_abort(&bed.inner, FLOW_UPSTREAM_RESET);
    assert_true(bed.is_lost);
    assert_int_equal(bed.cut, FLOW_UPSTREAM_RESET);
    assert_false(bed.is_open_closed);
    inner_close();
    assert_true(bed.is_open_closed);
}

static void test_ahead_is_aborted(void **state) {
    start(HEADER, false, "");
    own();
    bed.open->ops->abort(bed.open);
    assert_true(bed.is_aborted && bed.is_open_closed && !bed.is_lost);
}

static void test_tunnel(void **state) {
    start(HEADER, false, "a.example.com:443");
    assert_null(bed.open);
    assert_string_equal(sent(), HEADER CONNECT);
    assert_string_equal(dial_layer_timeout_text(bed.dial.layer),
                        "the proxy did not answer in time");
    bed.inner.events->on_sent(&bed.inner, strlen(HEADER CONNECT)); // nobody waits for that
    feed("HTTP/1.1 200 OK\r\n\r\nhello");
    own();
    assert_string_equal(bed.got, "hello");
    say("x", false);
    bed.inner.events->on_sent(&bed.inner, 1);
    assert_int_equal(bed.n_told_sent, 1);
    bed.open->ops->abort(bed.open);
    assert_true(bed.is_open_closed);
    assert_int_equal(bed.n_failed, 0);
}

static void test_tunnel_is_refused(void **state) {
    bed.closes_late = *(const bool *)*state;
    start("", false, "a.example.com:443");
    feed("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    assert_int_equal(bed.n_failed, 1);
    assert_int_equal(bed.reason, FLOW_CONNECT_REFUSED);
    assert_string_equal(bed.text, "the proxy answered CONNECT with 403");
    assert_null(bed.open);
    assert_true(bed.is_aborted);
    if (bed.closes_late) { // the layer holds its transport until then
        assert_int_equal(bed.http.upstreams.n_layers, 1);
        inner_close();
    }
}

static void test_tls(void **state) {
    start(HEADER, true, "a.example.com:443");
    turn();
    assert_memory_equal(sent(), HEADER "\x16\x03\x01", strlen(HEADER) + 3); // a ClientHello
    assert_null(bed.open);
    assert_string_equal(dial_layer_timeout_text(bed.dial.layer), "the TLS handshake timed out");
    feed("HTTP/1.1 400 Bad Request\r\n\r\n");
    turn();
    assert_int_equal(bed.n_failed, 1);
    assert_int_equal(bed.reason, FLOW_TLS_FAILURE);
    assert_memory_equal(bed.text, "TLS error: ", 11);
    if (!bed.is_closed) {
        inner_close();
    }
}

// The dial was given up, in each state.
static void test_drop(void **state) {
    static const struct {
        bool with_tls, starts;
        const char *authority;
    } cases[] = {
        {true, false, "a:1"}, {false, false, "a:1"}, {true, true, ""},
        {true, true, "a:1"},  {false, true, "a:1"},
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        size_t c = i / 2;
        bed.closes_late = i % 2 != 0;
        bed.is_aborted = bed.is_closed = false;
        bed.inner = (struct duplex){.ops = &inner_ops};
        struct dial_layer *layer = make(HEADER, cases[c].with_tls, cases[c].authority);
        if (cases[c].starts) {
            dial_layer_start(layer, &bed.inner);
        }
        dial_layer_drop(layer);
        assert_int_equal(bed.is_aborted, cases[c].starts);
        if (cases[c].starts && bed.closes_late) {
            assert_int_equal(bed.http.upstreams.n_layers, 1);
            inner_close();
        }
        turn();
        assert_int_equal(bed.http.upstreams.n_layers, 0);
        chain_clear(&bed.sent);
    }
    assert_int_equal(bed.n_failed, 0);
    assert_null(bed.open);
}

static int setup_late(void **state) {
    static bool late;
    setup(state);
    late = true;
    *state = &late;
    return 0;
}

static int setup_at_once(void **state) {
    static bool late;
    setup(state);
    *state = &late;
    return 0;
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_none),
        TEST(test_ahead),
        TEST(test_ahead_is_cut),
        TEST(test_ahead_is_aborted),
        TEST(test_tunnel),
        cmocka_unit_test_setup_teardown(test_tunnel_is_refused, setup_late, teardown),
        cmocka_unit_test_setup_teardown(test_tunnel_is_refused, setup_at_once, teardown),
        TEST(test_tls),
        TEST(test_drop),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
