// SPDX-License-Identifier: Apache-2.0
//
// Windows of both directions: arithmetic at its ends, changes in flight, growth, the cap on parked
// bytes.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_priv.h"

static struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end) {
    struct http_field fields[16];
    size_t n = fields_of(text, fields, 16);
    enum h2_err err;
    return h2_stream_open(client->conn, fields, n, end, NULL, &err);
}

static void respond(struct h2_stream *stream) {
    struct http_field field = {SLICE_LIT(":status"), SLICE_LIT("200"), false};
    h2_stream_send_headers(stream, &field, 1, false);
}

static void send_data(struct h2_end *end, struct h2_stream *stream, size_t len, bool is_end) {
    struct chain data;
    make_data(&data, &end->pool, len, BLK_DATA_MAX);
    h2_stream_send_data(stream, &data, is_end);
}

// A client whose peer is scripted: SETTINGS with this initial window, and one open stream.
static struct h2_stream *scripted(struct h2_end *end, uint32_t window) {
    end_init(end, false);
    end_open(end, false);
    struct wire in = {0};
    wire_settings(&in, 1, (const uint32_t[][2]){{4, window}});
    wire_settings_ack(&in);
    end_feed(end, in.bytes, in.len);
    in.len = 0;
    end_pull(end, &in, 0);
    wire_free(&in);
    return open_stream(end, REQ_CONNECT, false);
}

static void feed_u32(struct h2_end *end, unsigned type, uint32_t id, uint32_t value) {
    struct wire in = {0};
    wire_u32_frame(&in, type, id, value);
    end_feed(end, in.bytes, in.len);
    wire_free(&in);
}

static void feed_window_setting(struct h2_end *end, uint32_t window) {
    struct wire in = {0};
    wire_settings(&in, 1, (const uint32_t[][2]){{4, window}});
    end_feed(end, in.bytes, in.len);
    wire_free(&in);
}

// DATA payload bytes in what is pulled now.
static size_t pull_data(struct h2_end *end) {
    struct wire out = {0};
    end_pull(end, &out, 0);
    size_t n = 0;
    for (size_t at = 0; at < out.len;) {
        struct h2_frame_hd hd = h2_frame_hd_get(out.bytes + at);
        n += hd.type == H2_FRAME_DATA ? hd.len : 0;
        at += H2_FRAME_HD_LEN + hd.len;
    }
    wire_free(&out);
    return n;
}

// ---- sending

static void test_stream_window_stops(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *stream = scripted(&c, 1000);
    send_data(&c, stream, 5000, false);
    assert_int_equal(pull_data(&c), 1000);
    assert_false(h2_conn_wants_write(c.conn));
    assert_int_equal(h2_stream_queued(stream), 4000);
    assert_int_equal(h2_conn_queued(c.conn), 4000);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 1);
    assert_int_equal(pull_data(&c), 1);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 3998);
    assert_int_equal(pull_data(&c), 3998);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 5);
    assert_int_equal(pull_data(&c), 1);
    end_fini(&c);
}

// RFC 9113 6.9.2: a smaller initial window may make the window negative.
static void test_negative_window(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *stream = scripted(&c, 1000);
    send_data(&c, stream, 5000, false);
    assert_int_equal(pull_data(&c), 1000);
    feed_window_setting(&c, 100); // window is now -900
    assert_int_equal(stream->send_window, -900);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 900);
    assert_int_equal(pull_data(&c), 0);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 7);
    assert_int_equal(pull_data(&c), 7);
    feed_window_setting(&c, 300); // and 200 more
    assert_int_equal(pull_data(&c), 200);
    feed_window_setting(&c, 0);
    assert_int_equal(stream->send_window, -300);
    feed_window_setting(&c, 300 + 50);
    assert_int_equal(pull_data(&c), 50);
    struct h2_stream *second = open_stream(&c, REQ_CONNECT, false);
    assert_int_equal(second->send_window, 350);
    end_fini(&c);
}

// The lowest and the highest value that the arithmetic meets.
static void test_window_ends(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *stream = scripted(&c, H2_WINDOW_MAX);
    assert_int_equal(stream->send_window, H2_WINDOW_MAX);
    send_data(&c, stream, 65535, false);
    assert_int_equal(pull_data(&c), 65535);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 0, H2_WINDOW_MAX);
    assert_int_equal(c.conn->send_window, H2_WINDOW_MAX);
    assert_false(h2_conn_is_dead(c.conn));
    feed_window_setting(&c, 0);
    assert_int_equal(stream->send_window, -65535);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, H2_WINDOW_MAX);
    assert_int_equal(stream->send_window, H2_WINDOW_MAX - 65535);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 65536); // beyond: this stream only
    assert_int_equal(c.n_events[H2_EV_RESET], 1);
    assert_int_equal(c.last_err, H2_FLOW_CONTROL_ERROR);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 0, 1);
    assert_true(h2_conn_is_dead(c.conn));
    assert_int_equal(c.last_err, H2_FLOW_CONTROL_ERROR);
    end_fini(&c);
}

// All share the connection's window in turns; END_STREAM without data needs none.
static void test_conn_window(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *a = scripted(&c, 1 << 20);
    struct h2_stream *b = open_stream(&c, REQ_CONNECT, false);
    struct h2_stream *empty = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 100000, true);
    send_data(&c, b, 100000, true);
    assert_int_equal(pull_data(&c), 65535);
    assert_false(h2_conn_wants_write(c.conn));
    assert_true(h2_stream_queued(a) < 75000 && h2_stream_queued(b) < 75000); // fair
    send_data(&c, empty, 0, true);
    assert_true(h2_conn_wants_write(c.conn));
    assert_int_equal(pull_data(&c), 0);
    assert_true(h2_stream_send_ended(empty));
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 0, 10);
    assert_int_equal(pull_data(&c), 10);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 0, 1 << 20);
    assert_int_equal(pull_data(&c), 200000 - 65535 - 10);
    assert_int_equal(c.n_events[H2_EV_SENT], 3);
    assert_int_equal(h2_conn_queued(c.conn), 0);
    end_fini(&c);
}

static void test_writable(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *stream = scripted(&c, 1000);
    assert_true(h2_stream_can_send(stream));
    send_data(&c, stream, c.config.send_queue_max - 1, false);
    assert_true(h2_stream_can_send(stream));
    send_data(&c, stream, 1, false);
    assert_false(h2_stream_can_send(stream));
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 0, 1 << 24);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, c.config.send_queue_max / 2 - 1000);
    pull_data(&c);
    assert_int_equal(h2_stream_queued(stream), c.config.send_queue_max / 2);
    assert_int_equal(c.n_events[H2_EV_WRITABLE], 0);
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 1);
    pull_data(&c);
    assert_int_equal(c.n_events[H2_EV_WRITABLE], 1);
    end_fini(&c);
}

// Bytes that left are told in sums, and only of streams whose owner asked.
static void test_progress(void **state) {
    (void)state;
    struct h2_end c;
    struct h2_stream *stream = scripted(&c, 1000);
    send_data(&c, stream, 100, false);
    assert_int_equal(pull_data(&c), 100);
    assert_int_equal(c.n_events[H2_EV_PROGRESS], 0);
    h2_stream_report_progress(stream);
    send_data(&c, stream, 5000, false);
    assert_int_equal(pull_data(&c), 900); // what the window lets through
    assert_int_equal(c.n_events[H2_EV_PROGRESS], 1);
    assert_non_null(strstr(end_log(&c), "PROGRESS s1 900\n"));
    feed_u32(&c, H2_FRAME_WINDOW_UPDATE, 1, 4100);
    assert_int_equal(pull_data(&c), 4100);
    assert_int_equal(c.n_events[H2_EV_PROGRESS], 2);
    assert_non_null(strstr(end_log(&c), "PROGRESS s1 4100\n"));
    send_data(&c, stream, 10, true);
    feed_u32(&c, H2_FRAME_RST_STREAM, 1, H2_FRAME_RST_STREAM);
    assert_int_equal(c.n_events[H2_EV_PROGRESS], 2); // dropped, not sent
    end_fini(&c);
}

// ---- receiving

// Our own window below the protocol's default: 65 535 are allowed until the peer acknowledged.
static void test_small_window_in_flight(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    s.config.stream_window = 100;
    s.auto_consume = false;
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    wire_headers(&in, 1, REQ_CONNECT, 0);
    wire_data(&in, 1, 5000, false);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.n_events[H2_EV_RESET], 0);
    struct h2_stream *stream = end_stream_of(&s, 1);
    assert_int_equal(stream->recv_window, 65535 - 5000);
    in.len = 0;
    wire_settings_ack(&in);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(stream->recv_window, 100 - 5000);
    in.len = 0;
    wire_data(&in, 1, 1, false);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.last_err, H2_FLOW_CONTROL_ERROR);
    assert_int_equal(h2_conn_parked(s.conn), 0);
    wire_free(&in);
    end_fini(&s);
}

// The connection's credit returns on arrival, a stream's only when it was consumed.
static void test_stalled_stream(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.auto_consume = false;
    s.config.conn_window = 1 << 20;
    pair_open(&c, &s);
    struct h2_stream *stalled = open_stream(&c, REQ_CONNECT, false);
    struct h2_stream *other = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, stalled, 3 << 20, false);
    pump(&c, &s);
    assert_int_equal(s.n_data, s.config.stream_window);
    assert_int_equal(h2_conn_parked(s.conn), s.config.stream_window);
    struct h2_stream *running = end_stream_of(&s, 3);
    send_data(&c, other, 5 << 20, true);
    while (s.n_events[H2_EV_END] == 0) {
        uint64_t before = s.n_data;
        pump(&c, &s);
        h2_stream_consumed(running, (size_t)(s.n_data - before));
    }
    assert_int_equal(s.n_data, s.config.stream_window + (5 << 20));
    // Now the stalled one: its credit comes back in halves of the window.
    struct h2_stream *peer = end_stream_of(&s, 1);
    h2_stream_consumed(peer, s.config.stream_window / 2 - 1);
    pump(&c, &s);
    assert_int_equal(s.n_data, s.config.stream_window + (5 << 20));
    h2_stream_consumed(peer, 1);
    pump(&c, &s);
    assert_int_equal(s.n_data, s.config.stream_window / 2 * 3 + (5 << 20));
    end_fini(&c);
    end_fini(&s);
}

static uint32_t grown_window(bool may_grow, uint64_t rtt_ns, uint64_t turn_ns, bool keeps_up) {
    struct h2_end s;
    end_init(&s, true);
    s.auto_consume = false;
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    end_feed(&s, in.bytes, in.len);
    s.now += rtt_ns;
    in.len = 0;
    wire_settings_ack(&in); // the first sample of the round trip
    wire_headers(&in, 1, REQ_CONNECT, 0);
    end_feed(&s, in.bytes, in.len);
    h2_conn_allow_growth(s.conn, may_grow);
    struct h2_stream *stream = end_stream_of(&s, 1);
    for (int i = 0; i < 400; i++) {
        if (stream->recv_window >= 65536) {
            in.len = 0;
            wire_data(&in, 1, 65536, false);
            end_feed(&s, in.bytes, in.len);
        }
        // One that lags behind leaves as much as the window allows.
        if (keeps_up || stream->recv_window < 65536) {
            h2_stream_consumed(stream, 65536);
        }
        s.now += turn_ns;
        struct wire out = {0};
        end_pull(&s, &out, 0);
        wire_free(&out);
    }
    uint32_t window = stream->recv_target;
    assert_int_equal(s.n_events[H2_EV_RESET], 0);
    wire_free(&in);
    end_fini(&s);
    return window;
}

static void test_growth(void **state) {
    (void)state;
    const uint32_t start = 256 << 10, max = 4 << 20;
    // 64 KiB each 0.1 ms over a path of 100 ms: the window is what limits.
    assert_int_equal(grown_window(true, 100 * NS_PER_MS, NS_PER_MS / 10, true), max);
    assert_int_equal(grown_window(false, 100 * NS_PER_MS, NS_PER_MS / 10, true), start);
    // A short path needs no more.
    assert_int_equal(grown_window(true, NS_PER_MS / 100, NS_PER_MS / 10, true), start);
    // It stops where half a window covers two round trips: 64 KiB each 0.1 ms is 655 KB in 1 ms.
    uint32_t window = grown_window(true, NS_PER_MS / 2, NS_PER_MS / 10, true);
    assert_true(window > start && window < max);
    // A consumer that does not keep up gets no more.
    assert_int_equal(grown_window(true, 100 * NS_PER_MS, NS_PER_MS / 10, false), start);
}

// What several connections park is summed up; one that is over gives up its largest stream.
static void test_shared_cap(void **state) {
    (void)state;
    struct h2_parked all = {.max = 300000};
    struct h2_end c[2], s[2];
    for (int i = 0; i < 2; i++) {
        end_init(&c[i], false);
        end_init(&s[i], true);
        s[i].auto_consume = false;
        s[i].config.parked_all = &all;
        pair_open(&c[i], &s[i]);
        send_data(&c[i], open_stream(&c[i], REQ_CONNECT, false), 100000, false);
        send_data(&c[i], open_stream(&c[i], REQ_CONNECT, false), 50000, false);
        pump(&c[i], &s[i]);
    }
    assert_int_equal(all.n_bytes, 300000);
    h2_stream_consumed(end_stream_of(&s[0], 3), 20000);
    assert_int_equal(all.n_bytes, 280000);
    assert_true(h2_conn_shed(s[0].conn)); // stream 1
    pump(&c[0], &s[0]);
    assert_int_equal(all.n_bytes, 180000);
    assert_int_equal(s[0].last_err, H2_LOCAL_PARKED);
    assert_true(h2_conn_shed(s[0].conn) && !h2_conn_shed(s[0].conn));
    assert_int_equal(all.n_bytes, 150000);
    h2_conn_uncount(s[1].conn);
    assert_int_equal(all.n_bytes, 0);
    h2_stream_consumed(end_stream_of(&s[1], 1), 100000);
    assert_int_equal(all.n_bytes, 0);
    for (int i = 0; i < 2; i++) {
        end_fini(&c[i]);
        end_fini(&s[i]);
    }
    assert_int_equal(all.n_bytes, 0);
}

// Consumers that are only slow are not cut: all windows together fit into the cap, however far
// they grew before.
static void test_windows_fit(void **state) {
    (void)state;
    enum { N = 100, ROUNDS = 40 };
    struct h2_end s;
    end_init(&s, true);
    s.auto_consume = false;
    s.config.max_streams = N;
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    end_feed(&s, in.bytes, in.len);
    s.now += 100 * NS_PER_MS; // a long path: windows want to grow
    in.len = 0;
    wire_settings_ack(&in);
    for (uint32_t id = 1; id < 2 * N; id += 2) {
        wire_headers(&in, id, REQ_CONNECT, 0);
    }
    end_feed(&s, in.bytes, in.len);
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t id = 1; id < 2 * N; id += 2) {
            in.len = 0;
            wire_data(&in, id, 131072, false);
            end_feed(&s, in.bytes, in.len);
            h2_stream_consumed(h2_conn_stream(s.conn, id), 131072);
        }
        s.now += NS_PER_MS;
        struct wire out = {0};
        end_pull(&s, &out, 0);
        wire_free(&out);
    }
    uint64_t sum = 0;
    for (uint32_t id = 1; id < 2 * N; id += 2) {
        struct h2_stream *stream = h2_conn_stream(s.conn, id);
        sum += stream->recv_target;
        while (stream->recv_window > 0) { // now all of them stall
            in.len = 0;
            wire_data(&in, id, MIN((size_t)stream->recv_window, (size_t)65536), false);
            end_feed(&s, in.bytes, in.len);
        }
    }
    assert_int_equal(sum, (uint64_t)N * s.config.stream_window + H2_GROWTH_MAX);
    assert_true(h2_conn_parked(s.conn) > sum / 2);
    assert_int_equal(s.n_events[H2_EV_RESET], 0);
    wire_free(&in);
    end_fini(&s);
}

static void test_parked_cap(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.auto_consume = false;
    s.config.parked_max = 600000;
    pair_open(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    struct h2_stream *b = open_stream(&c, REQ_CONNECT, false);
    struct h2_stream *d = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 200000, false);
    send_data(&c, b, 250000, true);
    pump(&c, &s);
    assert_int_equal(h2_conn_parked(s.conn), 450000);
    send_data(&c, d, 150000, false);
    pump(&c, &s);
    assert_int_equal(h2_conn_parked(s.conn), 600000); // at the cap, not above
    assert_int_equal(s.n_events[H2_EV_RESET], 0);
    send_data(&c, d, 1, false);
    end_log_reset(&s);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&s), "RESET s3 local_parked\nCLOSED s3\n")); // the largest
    assert_int_equal(h2_conn_parked(s.conn), 350001);
    assert_int_equal(c.last_err, H2_CONNECT_ERROR); // on the wire
    assert_int_equal(c.n_events[H2_EV_RESET], 1);
    end_fini(&c);
    end_fini(&s);
}

// The stream that the bytes are for may be the one that goes: then they are not handed out.
static void test_parked_cap_self(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.auto_consume = false;
    s.config.parked_max = 100000;
    pair_open(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 200000, true);
    pump(&c, &s);
    assert_true(s.n_data <= 100000);
    assert_int_equal(s.n_events[H2_EV_RESET], 1);
    assert_int_equal(s.n_events[H2_EV_END], 0);
    assert_int_equal(h2_conn_parked(s.conn), 0);
    end_fini(&c);
    end_fini(&s);
}

// Both sides done and bytes not consumed: the stream's object waits for its consumer, so that the
// cap sees them, but takes no place among the open ones.
static void test_closed_waits_for_consumer(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    s.auto_consume = false;
    pair_open(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    pump(&c, &s);
    struct h2_stream *peer = end_stream_of(&s, 1);
    respond(peer);
    send_data(&s, peer, 0, true);
    send_data(&c, a, 1000, true);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_END], 1);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 0);
    assert_int_equal(h2_conn_n_streams(s.conn), 0);
    h2_stream_consumed(peer, 999);
    assert_false(h2_conn_has_events(s.conn));
    h2_stream_consumed(peer, 1);
    assert_true(h2_conn_has_events(s.conn) && h2_conn_wants_write(s.conn));
    end_events(&s);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 1);
    assert_false(h2_conn_wants_write(s.conn));
    end_fini(&c);
    end_fini(&s);
}

// A client's first streams begin with larger windows, while their sum allows it.
static void test_early_window(void **state) {
    (void)state;
    enum { N = 64, MIB = 1 << 20 };
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    pair_open(&c, &s);
    uint64_t excess = 0;
    uint32_t base = c.config.stream_window;
    struct h2_stream *streams[N];
    for (uint32_t i = 0; i < N; i++) {
        streams[i] = open_stream(&c, REQ_CONNECT, false);
        pump(&c, &s);
        struct h2_stream *peer = end_stream_of(&s, 2 * i + 1);
        assert_int_equal(peer->send_window, streams[i]->recv_window);
        assert_true((uint32_t)peer->send_window >= base);
        excess += (uint32_t)peer->send_window - base;
        assert_true(i > 0 || peer->send_window == 4 * MIB); // the first has all that a stream may
    }
    assert_true(excess <= c.config.early_window);
    assert_true(excess > c.config.early_window - MIB / 4);
    assert_int_equal(streams[N - 1]->recv_window, base);
    // What a stream had is the next one's when it is gone.
    h2_stream_reset(streams[0], H2_CONNECT_ERROR);
    pump(&c, &s);
    struct h2_stream *next = open_stream(&c, REQ_CONNECT, false);
    assert_true(next->recv_window > MIB);
    // Not under memory pressure.
    h2_stream_reset(next, H2_CONNECT_ERROR);
    h2_conn_allow_growth(c.conn, false);
    assert_int_equal(open_stream(&c, REQ_CONNECT, false)->recv_window, base);
    pump(&c, &s);
    assert_int_equal(c.n_events[H2_EV_CONN_ERROR] + s.n_events[H2_EV_CONN_ERROR], 0);
    end_fini(&c);
    end_fini(&s);
}

// The connection's window is enforced too, for streams that are gone as well.
static void test_conn_window_enforced(void **state) {
    (void)state;
    for (int over = 0; over < 2; over++) {
        struct h2_end s;
        end_init(&s, true);
        s.config.conn_window = 0; // the protocol's 65 535
        s.config.stream_window = 1 << 20;
        s.auto_consume = false;
        end_open(&s, true);
        struct wire in = {0};
        wire_preface(&in);
        wire_headers(&in, 1, REQ_CONNECT, 0);
        // Credit comes back by quarters: 65 535 in frames that never wait for it.
        wire_data(&in, 1, 65535 + (size_t)over, false);
        end_feed(&s, in.bytes, in.len);
        assert_true(h2_conn_is_dead(s.conn) == (over != 0));
        if (over) {
            assert_int_equal(s.last_err, H2_FLOW_CONTROL_ERROR);
        } else {
            assert_int_equal(s.conn->recv_window, 65535); // all of it came back at once
        }
        wire_free(&in);
        end_fini(&s);
    }
}

// One connection update per many KB, and none per frame.
static void test_update_rate(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    end_open(&s, true);
    struct wire in = {0}, out = {0};
    wire_preface(&in);
    wire_headers(&in, 1, REQ_CONNECT, 0);
    end_feed(&s, in.bytes, in.len);
    end_pull(&s, &out, 0);
    size_t n_updates = 0;
    for (int i = 0; i < 1000; i++) {
        in.len = out.len = 0;
        wire_data(&in, 1, 16384, false);
        end_feed(&s, in.bytes, in.len);
        end_pull(&s, &out, 0);
        n_updates += out.len / 13;
    }
    // 16 MB: 124 for the stream (128 KiB each), 3 for the connection.
    assert_int_equal(s.n_events[H2_EV_RESET], 0);
    assert_in_range(n_updates, 100, 140);
    wire_free(&in);
    wire_free(&out);
    end_fini(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_window_stops),
        cmocka_unit_test(test_early_window),
        cmocka_unit_test(test_negative_window),
        cmocka_unit_test(test_window_ends),
        cmocka_unit_test(test_conn_window),
        cmocka_unit_test(test_writable),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_small_window_in_flight),
        cmocka_unit_test(test_stalled_stream),
        cmocka_unit_test(test_shared_cap),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_windows_fit),
        cmocka_unit_test(test_parked_cap),
        cmocka_unit_test(test_parked_cap_self),
        cmocka_unit_test(test_closed_waits_for_consumer),
        cmocka_unit_test(test_conn_window_enforced),
        cmocka_unit_test(test_update_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
