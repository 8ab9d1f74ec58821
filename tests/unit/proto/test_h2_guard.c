// SPDX-License-Identifier: Apache-2.0
//
// Attacks: each budget is met exactly at its limit, refills with time, and is not met by peers that
// do useful work.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_guard.h"
#include "common/proto/h2_hpack.h"
#include "common/proto/h2_priv.h"

enum { LIMIT = 20 };

static void server_open(struct h2_end *s) {
    end_init(s, true);
    s->config.guard = (struct h2_guard_limits){LIMIT, LIMIT, LIMIT, LIMIT, LIMIT, LIMIT};
    end_open(s, true);
    struct wire in = {0};
    wire_preface(&in); // SETTINGS and the acknowledgement take a token each
    wire_settings_ack(&in);
    end_feed(s, in.bytes, in.len);
    wire_free(&in);
}

static void feed(struct h2_end *s, void (*script)(struct wire *w, uint32_t i), uint32_t i) {
    struct wire in = {0}, out = {0};
    script(&in, i);
    end_feed(s, in.bytes, in.len);
    end_pull(s, &out, 0);
    wire_free(&in);
    wire_free(&out);
}

// clang-format off
static void rapid_reset(struct wire *w, uint32_t i) {
    wire_headers(w, 2 * i + 1, REQ_GET, 1); wire_u32_frame(w, 3, 2 * i + 1, 8);
}
static void made_reset_zero(struct wire *w, uint32_t i) {
    wire_headers(w, 2 * i + 1, REQ_GET, 1); wire_u32_frame(w, 8, 2 * i + 1, 0);
}
static void made_reset_data(struct wire *w, uint32_t i) {
    wire_headers(w, 2 * i + 1, REQ_GET, 1); wire_data(w, 2 * i + 1, 1, false);
}
static void made_reset_head(struct wire *w, uint32_t i) {
    wire_headers(w, 2 * i + 1, ":method=GET", 1);
}
static void ping(struct wire *w, uint32_t i) { (void)i; wire_frame(w, 6, 0, 0, "12345678", 8); }
static void settings(struct wire *w, uint32_t i) {
    wire_settings(w, 1, (const uint32_t[][2]){{4, i}});
}
static void empty_data(struct wire *w, uint32_t i) {
    if (i == 0) { wire_headers(w, 1, REQ_CONNECT, 0); } wire_data(w, 1, 0, false);
}
static void priority(struct wire *w, uint32_t i) {
    wire_frame(w, 2, 0, 2 * i + 1, "\0\0\0\0\0", 5);
}
static void unknown(struct wire *w, uint32_t i) { wire_frame(w, 50 + i % 100, 0, i, NULL, 0); }
static void refused(struct wire *w, uint32_t i) { wire_headers(w, 2 * i + 1, REQ_CONNECT, 0); }
// clang-format on

static const struct {
    const char *name;
    void (*script)(struct wire *w, uint32_t i);
    uint32_t n_allowed;
    enum h2_err err;
    bool refills;
} rows[] = {
    {"rapid reset", rapid_reset, LIMIT, H2_FLOOD_RESET, true},
    {"made you reset, zero increment", made_reset_zero, LIMIT, H2_FLOOD_GLITCH, true},
    {"made you reset, data after end", made_reset_data, LIMIT, H2_FLOOD_GLITCH, true},
    {"made you reset, malformed", made_reset_head, LIMIT, H2_FLOOD_GLITCH, true},
    {"ping", ping, LIMIT, H2_FLOOD_PING, true},
    {"settings", settings, LIMIT - 2, H2_FLOOD_SETTINGS, true},
    {"empty data", empty_data, LIMIT, H2_FLOOD_EMPTY, true},
    {"priority", priority, LIMIT, H2_FLOOD_EMPTY, true},
    {"unknown types", unknown, LIMIT, H2_FLOOD_EMPTY, true},
};

static void test_budgets(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int refill = 0; refill < 2; refill++) {
            struct h2_end s;
            server_open(&s);
            uint32_t n = 0;
            while (n < rows[i].n_allowed + 10 && !h2_conn_is_dead(s.conn)) {
                feed(&s, rows[i].script, n++);
                s.now += refill ? NS_PER_SEC / 2 : 0; // 5 tokens at least
            }
            if (refill) {
                assert_false(h2_conn_is_dead(s.conn));
            } else {
                if (n != rows[i].n_allowed + 1 || s.last_err != rows[i].err) {
                    fail_msg("%s: after %u with %s", rows[i].name, n, h2_err_label(s.last_err));
                }
                assert_int_equal(h2_err_code(s.last_err), 0xb);
            }
            end_fini(&s);
        }
    }
}

// Requests that were answered may be reset at any rate, tunnels among them.
static void test_answered_resets_are_free(void **state) {
    (void)state;
    struct h2_end s;
    server_open(&s);
    struct http_field field = {SLICE_LIT(":status"), SLICE_LIT("200"), false};
    for (uint32_t i = 0; i < 10 * LIMIT; i++) {
        struct wire in = {0}, out = {0};
        wire_headers(&in, 2 * i + 1, REQ_CONNECT, 0);
        end_feed(&s, in.bytes, in.len);
        struct h2_stream *stream = h2_stream_find(s.conn, 2 * i + 1);
        h2_stream_send_headers(stream, &field, 1, false);
        in.len = 0;
        wire_u32_frame(&in, 3, 2 * i + 1, 0xa);
        end_feed(&s, in.bytes, in.len);
        end_pull(&s, &out, 0);
        wire_free(&in);
        wire_free(&out);
    }
    assert_false(h2_conn_is_dead(s.conn));
    assert_int_equal(s.n_events[H2_EV_RESET], 10 * LIMIT);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 10 * LIMIT);
    end_fini(&s);
}

// gRPC peers send a PING with their data; payload pays for it.
static void test_payload_pays(void **state) {
    (void)state;
    struct h2_end s;
    server_open(&s);
    feed(&s, refused, 0);
    for (uint32_t i = 0; i < 10 * LIMIT; i++) {
        struct wire in = {0}, out = {0};
        wire_data(&in, 1, 100, false);
        ping(&in, 0);
        end_feed(&s, in.bytes, in.len);
        end_pull(&s, &out, 0);
        wire_free(&in);
        wire_free(&out);
    }
    assert_false(h2_conn_is_dead(s.conn));
    end_fini(&s);
}

// A window of one byte: a frame of 10 bytes for each byte of ours, until it is enough.
static void test_tiny_windows(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    end_open(&s, true);
    struct wire in = {0}, out = {0};
    wire_preface(&in);
    wire_settings(&in, 1, (const uint32_t[][2]){{4, 1}});
    wire_headers(&in, 1, REQ_CONNECT, 0);
    end_feed(&s, in.bytes, in.len);
    struct h2_stream *stream = end_stream_of(&s, 1);
    struct http_field field = {SLICE_LIT(":status"), SLICE_LIT("200"), false};
    h2_stream_send_headers(stream, &field, 1, false);
    struct chain data;
    make_data(&data, &s.pool, 100000, BLK_DATA_MAX);
    h2_stream_send_data(stream, &data, false);
    size_t n = 0;
    while (!h2_conn_is_dead(s.conn) && n < 10000) {
        end_pull(&s, &out, 0);
        in.len = 0;
        wire_u32_frame(&in, 8, 1, 1);
        end_feed(&s, in.bytes, in.len);
        n++;
    }
    assert_int_equal(s.last_err, H2_FLOOD_WINDOW);
    assert_in_range(n, 1900, 2100);
    wire_free(&in);
    wire_free(&out);
    end_fini(&s);
}

// The same updates from a peer that reads small messages and confirms each are no attack.
static void test_small_messages(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    end_open(&s, true);
    struct wire in = {0}, out = {0};
    wire_preface(&in);
    wire_headers(&in, 1, REQ_CONNECT, 0);
    end_feed(&s, in.bytes, in.len);
    struct h2_stream *stream = end_stream_of(&s, 1);
    struct http_field field = {SLICE_LIT(":status"), SLICE_LIT("200"), false};
    h2_stream_send_headers(stream, &field, 1, false);
    for (size_t n = 0; n < 10000; n++) {
        struct chain data;
        make_data(&data, &s.pool, 10, 10);
        h2_stream_send_data(stream, &data, false);
        out.len = in.len = 0;
        end_pull(&s, &out, 0);
        wire_u32_frame(&in, 8, 1, 10);
        wire_u32_frame(&in, 8, 0, 10);
        end_feed(&s, in.bytes, in.len);
    }
    assert_false(h2_conn_is_dead(s.conn));
    wire_free(&in);
    wire_free(&out);
    end_fini(&s);
}

static void test_continuations(void **state) {
    (void)state;
    for (uint32_t n = LIMIT; n <= LIMIT + 1; n++) {
        struct h2_end s;
        server_open(&s);
        uint8_t block[300];
        size_t len = wire_block(block, sizeof(block), REQ_GET, true);
        struct wire in = {0};
        wire_frame(&in, 1, 1, 1, block, len);
        for (uint32_t i = 0; i < n; i++) {
            wire_frame(&in, 9, i + 1 == n ? 4 : 0, 1, NULL, 0);
        }
        end_feed(&s, in.bytes, in.len);
        assert_int_equal(s.n_events[H2_EV_HEADERS], n == LIMIT ? 1 : 0);
        assert_true(h2_conn_is_dead(s.conn) == (n > LIMIT));
        wire_free(&in);
        end_fini(&s);
    }
}

// Limit of the header list, to the byte; beyond, the stream only, and HPACK goes on.
static void test_header_list(void **state) {
    (void)state;
    for (size_t more = 0; more < 2; more++) {
        struct h2_end s;
        end_init(&s, true);
        s.config.max_header_list = 300;
        end_open(&s, true);
        char text[400];
        // 42 + 44 + 38 + 45 for the request itself, 33 for the name
        size_t len = 300 - 42 - 44 - 38 - 45 - 33 + more;
        memcpy(text, REQ_GET "|x=", sizeof(REQ_GET "|x=") - 1);
        memset(text + sizeof(REQ_GET "|x=") - 1, 'y', len);
        text[sizeof(REQ_GET "|x=") - 1 + len] = 0;
        struct wire in = {0}, out = {0};
        wire_preface(&in);
        wire_headers(&in, 1, text, 1);
        wire_headers(&in, 3, REQ_GET, 1);
        end_feed(&s, in.bytes, in.len);
        assert_int_equal(s.n_events[H2_EV_HEADERS], 2 - more);
        assert_false(h2_conn_is_dead(s.conn));
        end_pull(&s, &out, 0);
        char *frames = wire_text(&out, false);
        assert_true((strstr(frames, "RST_STREAM f0 s1 11\n") != NULL) == (more > 0));
        free(frames);
        wire_free(&in);
        wire_free(&out);
        end_fini(&s);
    }
}

// A block far larger than any list of the limit ends the connection before it is decoded for long.
static void test_huge_block(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    s.config.max_header_list = 1000;
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    static uint8_t block[16384];
    memset(block, 0x82, sizeof(block)); // ":method: GET" in one byte each
    wire_frame(&in, 1, 0, 1, block, sizeof(block));
    wire_frame(&in, 9, 0, 1, block, 4000);
    end_feed(&s, in.bytes, in.len);
    assert_false(h2_conn_is_dead(s.conn));
    in.len = 0;
    wire_frame(&in, 9, 0, 1, block, 1);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.last_err, H2_FLOOD_CONTINUATION);
    assert_true(h2_conn_memory(s.conn) < 16384);
    wire_free(&in);
    end_fini(&s);
}

static void test_many_settings(void **state) {
    (void)state;
    uint32_t pairs[65][2];
    for (uint32_t i = 0; i < 65; i++) {
        pairs[i][0] = 4;
        pairs[i][1] = i;
    }
    for (uint32_t n = 64; n <= 65; n++) {
        struct h2_end s;
        server_open(&s);
        struct wire in = {0};
        wire_settings(&in, n, (const uint32_t(*)[2])pairs);
        end_feed(&s, in.bytes, in.len);
        assert_true(h2_conn_is_dead(s.conn) == (n == 65));
        wire_free(&in);
        end_fini(&s);
    }
}

// A peer that does not read: answers are capped although each budget has tokens left.
static void test_unread_answers(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    s.config.guard.pings = 60000;
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    end_feed(&s, in.bytes, in.len);
    uint32_t n = 0;
    while (!h2_conn_is_dead(s.conn) && n < 10000) {
        in.len = 0;
        ping(&in, 0);
        end_feed(&s, in.bytes, in.len);
        n++;
    }
    assert_int_equal(s.last_err, H2_FLOOD_OUTPUT);
    assert_in_range(n, 1990, 2010);
    assert_true(h2_conn_queued(s.conn) < 64 << 10);
    wire_free(&in);
    end_fini(&s);
}

// Streams above our limit are refused, not fatal, and leave no trace.
static void test_stream_limit(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    s.config.max_streams = 3;
    end_open(&s, true);
    struct wire in = {0}, out = {0};
    wire_preface(&in);
    for (uint32_t i = 0; i < 5; i++) {
        refused(&in, i);
    }
    wire_data(&in, 9, 1000, false); // late frames of a refused stream are ignored
    end_feed(&s, in.bytes, in.len);
    end_pull(&s, &out, 0);
    char *frames = wire_text(&out, false);
    assert_non_null(strstr(frames, "RST_STREAM f0 s7 7\nRST_STREAM f0 s9 7\n"));
    assert_null(strstr(frames, " s9 5\n"));
    assert_int_equal(s.n_events[H2_EV_HEADERS], 3);
    assert_int_equal(h2_conn_n_streams(s.conn), 3);
    // One ends, one more fits.
    in.len = 0;
    wire_u32_frame(&in, 3, 5, 8);
    refused(&in, 5);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 4);
    free(frames);
    wire_free(&in);
    wire_free(&out);
    end_fini(&s);
}

static void test_defaults_and_refill(void **state) {
    (void)state;
    struct h2_guard guard;
    h2_guard_init(&guard, &(struct h2_guard_limits){.resets = 100000}, 0);
    assert_int_equal(guard.caps[H2_GUARD_RESETS], UINT16_MAX);
    for (int kind = 0; kind < H2_GUARD_COUNT; kind++) {
        assert_true(guard.caps[kind] > 0 && guard.tokens[kind] == guard.caps[kind]);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(h2_guard_take(&guard, H2_GUARD_GLITCHES, 0), H2_NO_ERROR);
    }
    assert_int_equal(h2_guard_take(&guard, H2_GUARD_GLITCHES, 0), H2_FLOOD_GLITCH);
    assert_int_equal(h2_guard_take(&guard, H2_GUARD_GLITCHES, NS_PER_SEC), H2_NO_ERROR);
    // A very long pause neither overflows nor overfills.
    assert_int_equal(h2_guard_take(&guard, H2_GUARD_GLITCHES, UINT64_MAX / 2), H2_NO_ERROR);
    assert_int_equal(guard.tokens[H2_GUARD_GLITCHES], 99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budgets),        cmocka_unit_test(test_answered_resets_are_free),
        cmocka_unit_test(test_payload_pays),   cmocka_unit_test(test_tiny_windows),
        cmocka_unit_test(test_small_messages), cmocka_unit_test(test_continuations),
        cmocka_unit_test(test_header_list),    cmocka_unit_test(test_huge_block),
        cmocka_unit_test(test_many_settings),  cmocka_unit_test(test_unread_answers),
        cmocka_unit_test(test_stream_limit),   cmocka_unit_test(test_defaults_and_refill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
