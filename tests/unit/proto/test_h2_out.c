// SPDX-License-Identifier: Apache-2.0
//
// The shape of what leaves: segments that a record layer can seal in place, no copies of payload,
// few segments, fair turns, budgets.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_priv.h"

static struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end) {
    struct http_field fields[16];
    size_t n = fields_of(text, fields, 16);
    enum h2_err err;
    return h2_stream_open(client->conn, fields, n, end, NULL, &err);
}

// A client whose peer sent SETTINGS and whose own beginning has left already.
static void client_open(struct h2_end *c) {
    end_init(c, false);
    c->config.early_window = 0; // what is looked at is what the tests send
    end_open(c, false);
    struct wire in = {0}, out = {0};
    wire_settings(&in, 1, (const uint32_t[][2]){{5, 1 << 20}});
    wire_u32_frame(&in, H2_FRAME_WINDOW_UPDATE, 0, 1 << 24);
    end_feed(c, in.bytes, in.len);
    end_pull(c, &out, 0);
    wire_free(&in);
    wire_free(&out);
}

static void send_chain(struct h2_end *c, struct h2_stream *stream, size_t len, size_t piece,
                       bool is_end) {
    struct chain data;
    make_data(&data, &c->pool, len, piece);
    h2_stream_send_data(stream, &data, is_end);
}

static void pull(struct h2_end *c, struct chain *out, size_t budget) {
    chain_init(out, &c->pool);
    while (h2_conn_wants_write(c->conn) && out->len < budget) {
        if (h2_conn_pull(c->conn, out, budget) == 0) {
            break;
        }
    }
    end_events(c);
}

static void test_first_flight(void **state) {
    (void)state;
    struct h2_end c;
    end_init(&c, false);
    end_open(&c, false);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    send_chain(&c, stream, 300, 300, true);
    struct chain out;
    pull(&c, &out, 65536);
    assert_int_equal(out.n_segs, 1); // preface, SETTINGS, window, HEADERS, DATA, END
    assert_true(out.head->headroom >= 5 && out.head->tailroom >= BLK_TAILROOM);
    chain_clear(&out);
    end_fini(&c);
}

static void test_small_request(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_GET, false);
    send_chain(&c, stream, 400, 100, true);
    struct chain out;
    pull(&c, &out, 65536);
    assert_int_equal(out.n_segs, 1);
    struct wire wire = {0};
    wire_add(&wire, seg_ptr(out.head), out.head->len);
    char *text = wire_text(&wire, false);
    assert_string_equal(text, "HEADERS f4 s1\nDATA f1 s1 len=400\n"); // one frame for four pieces
    free(text);
    wire_free(&wire);
    chain_clear(&out);
    end_fini(&c);
}

static void test_payload_is_not_copied(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    struct chain out;
    pull(&c, &out, 65536);
    chain_clear(&out);
    struct chain data;
    make_data(&data, &c.pool, 4 * BLK_DATA_MAX, BLK_DATA_MAX);
    const struct blk *blks[4];
    struct seg *seg = data.head;
    for (int i = 0; i < 4; i++, seg = seg->next) {
        blks[i] = seg->blk;
    }
    h2_stream_send_data(stream, &data, true);
    assert_true(chain_empty(&data));
    pull(&c, &out, SIZE_MAX);
    assert_int_equal(out.n_segs, 4);
    seg = out.head;
    for (int i = 0; i < 4; i++, seg = seg->next) {
        assert_ptr_equal(seg->blk, blks[i]);
        assert_int_equal(seg->len, BLK_DATA_MAX + H2_FRAME_HD_LEN); // fits one record
        assert_int_equal(seg->headroom, BLK_HEADROOM - H2_FRAME_HD_LEN);
        assert_int_equal(seg->tailroom, BLK_TAILROOM);
        struct h2_frame_hd hd = h2_frame_hd_get(seg_ptr(seg));
        assert_int_equal(hd.len, BLK_DATA_MAX);
        assert_int_equal(hd.flags, i == 3 ? H2_FLAG_END_STREAM : 0);
    }
    chain_clear(&out);
    end_fini(&c);
}

// Without headroom the header goes behind what is there already.
static void test_no_headroom(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    struct blk *blk = blk_new_cold(&c.pool, 10000);
    memset(blk->base, 'x', 10000);
    struct chain data, out;
    chain_init(&data, &c.pool);
    chain_give(&data, blk, 0, 10000);
    h2_stream_send_data(stream, &data, false);
    pull(&c, &out, SIZE_MAX);
    assert_int_equal(out.n_segs, 2); // HEADERS + DATA header; payload
    assert_ptr_equal(out.tail->blk, blk);
    assert_int_equal(out.tail->len, 10000);
    chain_clear(&out);
    end_fini(&c);
}

// A segment larger than a frame is cut; only its first part has the headroom.
static void test_large_segment(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    send_chain(&c, stream, 50000, 50000, true);
    struct wire wire = {0};
    end_pull(&c, &wire, 0);
    char *text = wire_text(&wire, false);
    assert_string_equal(text, "HEADERS f4 s1\nDATA f0 s1 len=16375\nDATA f0 s1 len=16375\n"
                              "DATA f0 s1 len=16375\nDATA f1 s1 len=875\n");
    free(text);
    wire_free(&wire);
    end_fini(&c);
}

static void test_round_robin(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *streams[3];
    for (int i = 0; i < 3; i++) {
        streams[i] = open_stream(&c, REQ_CONNECT, false);
        send_chain(&c, streams[i], 3 * 16000, 16000, true);
    }
    struct wire wire = {0};
    end_pull(&c, &wire, 0);
    char *text = wire_text(&wire, false);
    const char *at = strstr(text, "DATA");
    assert_string_equal(at, "DATA f0 s1 len=16000\nDATA f0 s3 len=16000\nDATA f0 s5 len=16000\n"
                            "DATA f0 s1 len=16000\nDATA f0 s3 len=16000\nDATA f0 s5 len=16000\n"
                            "DATA f1 s1 len=16000\nDATA f1 s3 len=16000\nDATA f1 s5 len=16000\n");
    free(text);
    wire_free(&wire);
    end_fini(&c);
}

static void test_budget(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    send_chain(&c, stream, 60000, 1000, false);
    size_t total = 0;
    for (int i = 0; i < 1000 && h2_conn_wants_write(c.conn); i++) {
        struct chain out;
        chain_init(&out, &c.pool);
        size_t n = h2_conn_pull(c.conn, &out, 2500);
        assert_in_range(n, 1, 2500 + BLK_DATA_MAX + H2_FRAME_HD_LEN);
        total += n;
        chain_clear(&out);
    }
    assert_true(total > 60000);
    // PING overtakes queued DATA.
    send_chain(&c, stream, 40000, 10000, false);
    struct wire wire = {0};
    end_pull(&c, &wire, 100);
    h2_conn_ping(c.conn, 7, c.now);
    wire.len = 0;
    end_pull(&c, &wire, 0);
    assert_int_equal(h2_frame_hd_get(wire.bytes).type, H2_FRAME_PING);
    wire_free(&wire);
    end_fini(&c);
}

// Heads beyond one frame go on in CONTINUATIONs and arrive whole.
static void test_large_head(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    c.config.early_window = 0;
    pair_open(&c, &s);
    char *value = xmalloc(40000);
    memset(value, '~', 40000);
    struct http_field fields[5];
    size_t n = fields_of(REQ_GET, fields, 5);
    fields[n++] = (struct http_field){SLICE_LIT("x-large"), slice_make(value, 40000), true};
    enum h2_err err;
    assert_non_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
    struct wire wire = {0};
    end_pull(&c, &wire, 0);
    char *text = wire_text(&wire, false);
    assert_string_equal(text, "HEADERS f1 s1\nCONT f0 s1\nCONT f4 s1\n");
    end_feed(&s, wire.bytes, wire.len);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 1);
    free(text);
    free(value);
    wire_free(&wire);
    end_fini(&c);
    end_fini(&s);
}

// Blocks at every length around the frame limit, the size update in front included.
static void test_head_lengths(void **state) {
    (void)state;
    char *value = xmalloc(40000);
    memset(value, '~', 40000);
    for (size_t len = BLK_DATA_MAX - 80; len < BLK_DATA_MAX + 20; len++) {
        struct h2_end c, s;
        end_init(&c, false);
        end_init(&s, true);
        end_open(&c, false);
        end_open(&s, true);
        struct http_field fields[5];
        size_t n = fields_of(REQ_GET, fields, 5);
        fields[n++] = (struct http_field){SLICE_LIT("x"), slice_make(value, len), false};
        enum h2_err err;
        assert_non_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
        pump(&c, &s);
        assert_int_equal(s.n_events[H2_EV_HEADERS], 1);
        assert_false(h2_conn_is_dead(s.conn));
        end_fini(&c);
        end_fini(&s);
    }
    free(value);
}

static void test_to_cold(void **state) {
    (void)state;
    struct h2_end c;
    client_open(&c);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    struct blk *bulk = blk_new_bulk(&c.pool);
    memset(bulk->base, 'x', 20000);
    struct chain data;
    chain_init(&data, &c.pool);
    chain_give(&data, bulk, BLK_HEADROOM, 10000);
    h2_stream_send_data(stream, &data, false);
    assert_int_equal(c.pool.stats.n_bulk, 1);
    h2_stream_to_cold(stream);
    assert_int_equal(c.pool.stats.n_bulk, 0);
    assert_int_equal(h2_stream_queued(stream), 10000);
    end_fini(&c);
}

// What a tunnel and a stream cost while nothing happens.
static void test_memory(void **state) {
    (void)state;
    assert_true(sizeof(struct h2_stream) <= 200);
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    pair_open(&c, &s);
    size_t idle_c = h2_conn_memory(c.conn);
    size_t idle_s = h2_conn_memory(s.conn);
    assert_true(idle_c <= 1024 && idle_s <= 1024);
    for (int i = 0; i < 100; i++) {
        assert_non_null(open_stream(&c, REQ_CONNECT, false));
    }
    pump(&c, &s);
    assert_int_equal(h2_conn_n_streams(s.conn), 100);
    assert_true(h2_conn_memory(c.conn) - idle_c <= 100 * 200);
    assert_true(h2_conn_memory(s.conn) - idle_s <= 100 * 200);
    assert_int_equal(c.pool.stats.n_cold + s.pool.stats.n_cold, 0);
    assert_int_equal(h2_conn_n_free_streams(c.conn), 0);
    for (uint32_t id = 1; id < 200; id += 2) {
        h2_stream_reset(h2_stream_find(c.conn, id), H2_CANCEL);
    }
    pump(&c, &s);
    assert_int_equal(h2_conn_n_streams(s.conn), 0);
    assert_true(h2_conn_memory(c.conn) <= idle_c + 1024); // a few objects are kept
    assert_true(h2_conn_memory(s.conn) <= idle_s + 1024);
    end_fini(&c);
    end_fini(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_flight),
        cmocka_unit_test(test_small_request),
        cmocka_unit_test(test_payload_is_not_copied),
        cmocka_unit_test(test_no_headroom),
        cmocka_unit_test(test_large_segment),
        cmocka_unit_test(test_round_robin),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_large_head),
        cmocka_unit_test(test_head_lengths),
        cmocka_unit_test(test_to_cold),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
