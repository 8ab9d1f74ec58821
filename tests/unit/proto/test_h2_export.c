// SPDX-License-Identifier: Apache-2.0
//
// Hand-over: a conversation in which both sides are exported and imported again and again goes on
// as if nothing had happened.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/base/buf.h"
#include "common/proto/h2_priv.h"

enum { EXPORT_MAX = 64 << 20 };

static struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end) {
    struct http_field fields[16];
    size_t n = fields_of(text, fields, 16);
    enum h2_err err;
    return h2_stream_open(client->conn, fields, n, end, NULL, &err);
}

static void send_data(struct h2_end *end, struct h2_stream *stream, size_t len, bool is_end) {
    struct chain data;
    make_data(&data, &end->pool, len, BLK_DATA_MAX);
    h2_stream_send_data(stream, &data, is_end);
}

static bool hand_over(struct h2_end *end) {
    struct buf buf;
    buf_init(&buf, EXPORT_MAX);
    bool ok = h2_conn_export(end->conn, &buf);
    if (ok) {
        h2_conn_free(end->conn);
        end->conn = h2_conn_import(buf_slice(&buf), &end->pool);
        assert_non_null(end->conn);
        for (uint32_t i = 0; i < ARRAY_LEN(end->streams); i++) {
            if (end->streams[i] != NULL) {
                end->streams[i] = h2_conn_stream(end->conn, 2 * i + 1);
                assert_non_null(end->streams[i]);
            }
        }
        // Exported again, it gives the same bytes but for the order of streams.
        struct buf again;
        buf_init(&again, EXPORT_MAX);
        assert_true(h2_conn_export(end->conn, &again));
        assert_int_equal(again.len, buf.len);
        buf_fini(&again);
    }
    buf_fini(&buf);
    return ok;
}

static void echo(struct h2_end *end, const struct h2_event *ev) {
    struct http_field field = {SLICE_LIT(":status"), SLICE_LIT("200"), false};
    struct chain data;
    chain_init(&data, &end->pool);
    if (ev->type == H2_EV_HEADERS) {
        h2_stream_send_headers(ev->stream, &field, 1, false);
    } else if (ev->type == H2_EV_DATA) {
        chain_append(&data, ev->blk, ev->off, ev->len);
        h2_stream_send_data(ev->stream, &data, false);
    } else if (ev->type == H2_EV_END && h2_stream_id(ev->stream) % 4 == 1) {
        struct http_field trailer = {SLICE_LIT("t"), SLICE_LIT("1"), false};
        h2_stream_send_trailers(ev->stream, &trailer, 1);
    } else if (ev->type == H2_EV_END) {
        h2_stream_send_data(ev->stream, &data, true);
    }
}

static void feed_pieces(struct h2_end *to, const struct wire *wire, uint64_t *seed,
                        size_t *n_handed) {
    for (size_t at = 0; at < wire->len;) {
        size_t n = 1 + rnd(seed) % MIN(wire->len - at, (size_t)30000);
        end_feed(to, wire->bytes + at, n);
        at += n;
        *n_handed += rnd(seed) % 4 == 0 && hand_over(to) ? 1 : 0;
    }
}

static void test_conversation(void **state) {
    (void)state;
    size_t n_handed = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t r = seed;
        struct h2_end c, s;
        end_init(&c, false);
        end_init(&s, true);
        s.hook = echo;
        pair_open(&c, &s);
        uint64_t n_bytes = 0;
        for (uint32_t i = 0; i < 10; i++) {
            struct h2_stream *stream = open_stream(&c, i % 2 == 0 ? REQ_GET : REQ_CONNECT, false);
            uint64_t len = rnd(&r) % 200000;
            n_bytes += len;
            send_data(&c, stream, len, true);
        }
        struct wire wire = {0};
        for (bool moved = true; moved;) {
            wire.len = 0;
            end_pull(&c, &wire, 1 + rnd(&r) % 200000);
            feed_pieces(&s, &wire, &r, &n_handed);
            moved = wire.len > 0;
            wire.len = 0;
            end_pull(&s, &wire, 1 + rnd(&r) % 200000);
            feed_pieces(&c, &wire, &r, &n_handed);
            moved |= wire.len > 0;
            n_handed += (size_t)hand_over(&c) + (size_t)hand_over(&s);
        }
        assert_int_equal(s.n_data, n_bytes);
        assert_int_equal(c.n_data, n_bytes);
        assert_int_equal(c.n_events[H2_EV_CLOSED], 10);
        assert_int_equal(s.n_events[H2_EV_CLOSED], 10);
        assert_int_equal(c.n_events[H2_EV_RESET] + s.n_events[H2_EV_RESET], 0);
        assert_int_equal(h2_conn_queued(c.conn) + h2_conn_queued(s.conn), 0);
        assert_int_equal(h2_conn_parked(c.conn) + h2_conn_parked(s.conn), 0);
        wire_free(&wire);
        end_fini(&c);
        end_fini(&s);
    }
    assert_true(n_handed > 500);
}

static void test_state_is_kept(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.auto_consume = false;
    pair_open(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 300000, false);
    pump(&c, &s);
    h2_conn_goaway_start(s.conn, s.now);
    h2_conn_ping(s.conn, 77, s.now);
    size_t parked = h2_conn_parked(s.conn);
    size_t queued = h2_conn_queued(c.conn);
    assert_true(parked > 0 && queued > 0);
    assert_true(hand_over(&s) && hand_over(&c));
    assert_int_equal(h2_conn_parked(s.conn), parked);
    assert_int_equal(h2_conn_queued(c.conn), queued);
    assert_true(h2_conn_is_draining(s.conn));
    assert_int_equal(h2_conn_n_streams(s.conn), 1);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_PING_ACK], 1);
    assert_true(hand_over(&s) && hand_over(&c));
    h2_stream_consumed(end_stream_of(&s, 1), parked);
    pump(&c, &s);
    assert_int_equal(s.n_data, 300000);
    end_fini(&c);
    end_fini(&s);
}

static void test_refused(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    h2_config_init_http(&s.config, true);
    pair_open(&c, &s);
    assert_false(hand_over(&s)); // its HPACK table cannot go along
    struct buf small;
    buf_init(&small, 20);
    assert_false(h2_conn_export(c.conn, &small));
    buf_fini(&small);
    h2_conn_goaway(c.conn, H2_NO_ERROR);
    assert_true(hand_over(&c));
    struct wire bad = {0};
    wire_frame(&bad, H2_FRAME_PING, 0, 1, "12345678", 8);
    end_feed(&c, bad.bytes, bad.len);
    assert_false(hand_over(&c)); // dead
    wire_free(&bad);
    end_fini(&c);
    end_fini(&s);
}

// Cut anywhere or with any byte changed, an import is refused or gives a core that works.
static void test_malformed(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    pair_open(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    open_stream(&c, REQ_GET, true);
    send_data(&c, a, 100, false);
    end_events(&c);
    struct buf buf;
    buf_init(&buf, EXPORT_MAX);
    assert_true(h2_conn_export(c.conn, &buf));
    for (size_t len = 0; len < buf.len; len++) {
        assert_null(h2_conn_import(slice_make(buf.ptr, len), &c.pool));
    }
    uint64_t seed = 3;
    for (size_t i = 0; i < 4 * buf.len; i++) {
        uint8_t *byte = &buf.ptr[i / 4];
        uint8_t kept = *byte;
        *byte = (uint8_t)rnd(&seed);
        struct h2_conn *conn = h2_conn_import(buf_slice(&buf), &c.pool);
        if (conn != NULL) {
            struct chain out;
            chain_init(&out, &c.pool);
            h2_conn_pull(conn, &out, SIZE_MAX);
            chain_clear(&out);
            h2_conn_tick(conn, TIME_NEVER / 2);
            h2_conn_free(conn);
        }
        *byte = kept;
    }
    buf_fini(&buf);
    end_fini(&c);
    end_fini(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversation),
        cmocka_unit_test(test_state_is_kept),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
