// SPDX-License-Identifier: Apache-2.0
//
// A client core against a server core: what a connection lives through, GOAWAY, PING, limits.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_priv.h"
#include "tests/unit/proto/h2_conn_bed.h"

// ---- connection

static void test_goaway_two_steps(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *first = open_stream(&c, REQ_CONNECT, false);
    pump(&c, &s);
    h2_conn_goaway_start(s.conn, s.now);
    assert_true(h2_conn_is_draining(s.conn));
    assert_int_equal(h2_conn_deadline(s.conn), s.now + NS_PER_SEC);
    // A stream that crosses the announcement is served.
    struct h2_stream *second = open_stream(&c, REQ_CONNECT, false);
    struct wire out = {0};
    end_pull(&c, &out, 0);
    end_feed(&s, out.bytes, out.len);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 2);
    out.len = 0;
    end_pull(&s, &out, 0);
    char *text = wire_text(&out, false);
    assert_string_equal(text, "GOAWAY f0 s0 last=2147483647 code=0\nPING f0 s0\n");
    free(text);
    end_feed(&c, out.bytes, out.len);
    assert_true(h2_conn_is_draining(c.conn));
    enum h2_err err;
    struct http_field fields[8];
    size_t n = fields_of(REQ_GET, fields, 8);
    assert_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
    assert_int_equal(err, H2_DRAINING);
    assert_int_equal(h2_conn_n_free_streams(c.conn), 0);
    // The answer to the PING brings the final one; running streams go on.
    pump(&c, &s);
    assert_non_null(strstr(end_log(&c),
                           "GOAWAY last=2147483647 no_error\nGOAWAY last=3 no_error\n"));
    assert_int_equal(c.n_events[H2_EV_RESET], 0);
    send_data(&c, first, 1000, true);
    send_data(&c, second, 1000, true);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_END], 2);
    h2_conn_goaway(s.conn, H2_NO_ERROR); // nothing new to say
    assert_false(h2_conn_wants_write(s.conn));
    wire_free(&out);
    pair_fini(&c, &s);
}

// Without the PING's answer the final GOAWAY leaves after a second; later streams are ignored, with
// their DATA, and their HPACK blocks are still decoded.
static void test_goaway_by_time(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    open_stream(&c, REQ_CONNECT, false);
    pump(&c, &s);
    h2_conn_goaway_start(s.conn, s.now);
    struct wire out = {0};
    end_pull(&s, &out, 0);
    s.now += NS_PER_SEC;
    h2_conn_tick(s.conn, s.now);
    out.len = 0;
    end_pull(&s, &out, 0);
    char *text = wire_text(&out, false);
    assert_string_equal(text, "GOAWAY f0 s0 last=1 code=0\n");
    free(text);
    struct h2_stream *late = open_stream(&c, REQ_CONNECT, false); // the client has not seen it
    send_data(&c, late, 50000, true);
    struct wire in = {0};
    end_pull(&c, &in, 0);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 1);
    assert_false(h2_conn_is_dead(s.conn));
    assert_false(h2_conn_wants_write(s.conn)); // ignored: no RST_STREAM either
    end_feed(&c, out.bytes, out.len);
    end_log_reset(&c);
    end_events(&c);
    assert_int_equal(c.n_events[H2_EV_RESET], 1);
    assert_int_equal(c.last_err, H2_REFUSED);
    assert_int_equal(h2_conn_n_streams(c.conn), 1);
    wire_free(&in);
    wire_free(&out);
    pair_fini(&c, &s);
}

static void test_goaway_error(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    open_stream(&c, REQ_CONNECT, false);
    pump(&c, &s);
    h2_conn_goaway(s.conn, H2_ENHANCE_YOUR_CALM);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&c), "GOAWAY last=1 enhance_your_calm\n"));
    h2_conn_goaway_start(c.conn, c.now); // of a client: at once
    pump(&c, &s);
    assert_non_null(strstr(end_log(&s), "GOAWAY last=0 no_error\n"));
    pair_fini(&c, &s);
}

static void test_liveness(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    uint64_t start = c.now;
    assert_int_equal(h2_conn_deadline(c.conn), start + 10 * NS_PER_SEC);
    c.now = start + 10 * NS_PER_SEC - 1;
    h2_conn_tick(c.conn, c.now);
    assert_false(h2_conn_wants_write(c.conn));
    c.now = s.now = start + 10 * NS_PER_SEC;
    h2_conn_tick(c.conn, c.now);
    assert_true(h2_conn_wants_write(c.conn));
    assert_int_equal(h2_conn_deadline(c.conn), c.now + 20 * NS_PER_SEC);
    c.now += NS_PER_MS;
    pump(&c, &s); // answered
    assert_int_equal(h2_conn_deadline(c.conn), c.now + 10 * NS_PER_SEC);
    assert_int_equal(c.n_events[H2_EV_PING_ACK], 0); // our own are no events
    c.now += 10 * NS_PER_SEC;
    h2_conn_tick(c.conn, c.now);
    struct wire out = {0};
    end_pull(&c, &out, 0);
    c.now += 20 * NS_PER_SEC;
    h2_conn_tick(c.conn, c.now);
    end_events(&c);
    assert_int_equal(c.n_events[H2_EV_CONN_ERROR], 1);
    assert_int_equal(c.last_err, H2_PING_TIMEOUT);
    assert_true(h2_conn_is_dead(c.conn));
    out.len = 0;
    end_pull(&c, &out, 0);
    char *text = wire_text(&out, false);
    assert_string_equal(text, "GOAWAY f0 s0 last=0 code=0\n");
    free(text);
    wire_free(&out);
    pair_fini(&c, &s);
}

static void test_ping(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    h2_conn_ping(c.conn, 0x1122334455667788, c.now);
    struct wire out = {0};
    end_pull(&c, &out, 0);
    end_feed(&s, out.bytes, out.len);
    out.len = 0;
    end_pull(&s, &out, 0);
    c.now += 3 * NS_PER_MS;
    end_feed(&c, out.bytes, out.len);
    assert_string_equal(end_log(&c), "PING_ACK 1122334455667788\n");
    assert_int_equal(c.rtt_ns, 3 * NS_PER_MS);
    end_feed(&c, out.bytes, out.len); // a second answer to it says nothing
    assert_int_equal(c.n_events[H2_EV_PING_ACK], 1);
    wire_free(&out);
    pair_fini(&c, &s);
}

static void test_stream_ids_end(void **state) {
    (void)state;
    struct h2_end c;
    end_init(&c, false);
    end_open(&c, false);
    c.conn->next_id = INT32_MAX;
    assert_int_equal(h2_conn_n_free_streams(c.conn), 1);
    assert_non_null(open_stream(&c, REQ_GET, true));
    assert_int_equal(h2_conn_n_free_streams(c.conn), 0);
    struct http_field fields[8];
    enum h2_err err;
    size_t n = fields_of(REQ_GET, fields, 8);
    assert_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
    assert_int_equal(err, H2_STREAM_LIMIT);
    end_fini(&c);
}

static void test_peer_stream_limit(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.config.max_streams = 2;
    pair_open(&c, &s);
    assert_int_equal(h2_conn_n_free_streams(c.conn), 2);
    struct h2_stream *a = open_stream(&c, REQ_GET, true);
    assert_non_null(open_stream(&c, REQ_GET, true));
    struct http_field fields[8];
    enum h2_err err;
    size_t n = fields_of(REQ_GET, fields, 8);
    assert_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
    assert_int_equal(err, H2_STREAM_LIMIT);
    h2_stream_reset(a, H2_CANCEL);
    assert_int_equal(h2_conn_n_free_streams(c.conn), 1);
    pump(&c, &s);
    pair_fini(&c, &s);
}

static void test_extended_connect(void **state) {
    (void)state;
    for (int on = 0; on < 2; on++) {
        struct h2_end c, s;
        end_init(&c, false);
        end_init(&s, true);
        s.config.enable_connect_protocol = on != 0;
        pair_open(&c, &s);
        assert_true(h2_conn_peer_connect_protocol(c.conn) == (on != 0));
        open_stream(&c,
                    ":method=CONNECT|:protocol=websocket|:scheme=https|:path=/chat|:authority=a",
                    false);
        pump(&c, &s);
        assert_int_equal(s.n_events[H2_EV_HEADERS], on);
        assert_int_equal(c.n_events[H2_EV_RESET], 1 - on);
        pair_fini(&c, &s);
    }
}

// recv while events of the last input wait takes nothing.
static void test_recv_waits(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    wire_headers(&in, 1, REQ_GET, 1);
    struct blk *blk = blk_new_cold(&s.pool, in.len);
    memcpy(blk->base, in.bytes, in.len);
    uint32_t used = 77;
    h2_conn_recv(s.conn, blk, 0, (uint32_t)in.len, s.now, &used);
    assert_int_equal(used, in.len);
    h2_conn_recv(s.conn, blk, 0, 1, s.now, &used);
    assert_int_equal(used, 0);
    end_events(&s);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 1);
    blk_unref(blk);
    wire_free(&in);
    end_fini(&s);
}

// Freed in any state: with input, output, streams and half a header block.
static void test_free_busy(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    for (int i = 0; i < 20; i++) {
        struct h2_stream *a = open_stream(&c, REQ_GET, false);
        send_data(&c, a, 100000, false);
        h2_stream_send_trailers(a, NULL, 0);
    }
    struct wire out = {0};
    end_pull(&c, &out, 100000);
    uint8_t block[5] = {0x20, 0x82};
    wire_frame(&out, H2_FRAME_HEADERS, 0, 99, block, 2);
    struct blk *blk = blk_new_cold(&s.pool, out.len);
    memcpy(blk->base, out.bytes, out.len);
    uint32_t used;
    h2_conn_recv(s.conn, blk, 0, (uint32_t)out.len, s.now, &used);
    blk_unref(blk);
    struct h2_event ev;
    for (int i = 0; i < 7; i++) {
        assert_true(h2_conn_next(s.conn, &ev));
    }
    wire_free(&out);
    pair_fini(&c, &s);
    h2_conn_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goaway_two_steps),
        cmocka_unit_test(test_goaway_by_time),
        cmocka_unit_test(test_goaway_error),
        cmocka_unit_test(test_liveness),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_stream_ids_end),
        cmocka_unit_test(test_peer_stream_limit),
        cmocka_unit_test(test_extended_connect),
        cmocka_unit_test(test_recv_waits),
        cmocka_unit_test(test_free_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
