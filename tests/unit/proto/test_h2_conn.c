// SPDX-License-Identifier: Apache-2.0
//
// A client core against a server core: messages of every shape, endings.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_priv.h"
#include "tests/unit/proto/h2_conn_bed.h"

static void respond(struct h2_stream *stream, const char *text, bool end) {
    struct http_field fields[32];
    size_t n = fields_of(text, fields, 32);
    h2_stream_send_headers(stream, fields, n, end);
}

static void test_request_response(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    pair_open(&c, &s);
    struct h2_stream *stream = open_stream(&c, REQ_GET, true);
    assert_non_null(stream);
    pump(&c, &s);
    assert_string_equal(end_log(&s), "HEADERS s1 :method=GET :scheme=https :path=/ "
                                     ":authority=a.b (end)\nEND s1\n");
    struct h2_stream *peer = end_stream_of(&s, 1);
    respond(peer, ":status=103|link=x", false);
    respond(peer, ":status=200|a=b", false);
    send_data(&s, peer, 100, false);
    struct http_field trailer = {SLICE_LIT("grpc-status"), SLICE_LIT("0"), false};
    h2_stream_send_trailers(peer, &trailer, 1);
    pump(&c, &s);
    assert_string_equal(end_log(&c),
                        "SENT s1\nINFO s1 :status=103 link=x\nHEADERS s1 :status=200 a=b\n"
                        "DATA s1 len=100 hash=f1378a3a1110c022\nTRAILERS s1 grpc-status=0 (end)\n"
                        "END s1\nCLOSED s1\n");
    assert_int_equal(h2_conn_n_streams(c.conn), 0);
    assert_int_equal(h2_conn_n_streams(s.conn), 0);
    end_fini(&c);
    end_fini(&s);
}

static void test_bulk_both_ways(void **state) {
    (void)state;
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    c.max_chunk = s.max_chunk = 16384;
    pair_open(&c, &s);
    struct h2_stream *stream = open_stream(&c, REQ_CONNECT, false);
    pump(&c, &s);
    struct h2_stream *peer = end_stream_of(&s, 1);
    respond(peer, ":status=200", false);
    send_data(&c, stream, 10 << 20, true);
    send_data(&s, peer, 7 << 20, true);
    pump(&c, &s);
    assert_int_equal(s.n_data, 10 << 20);
    assert_int_equal(c.n_data, 7 << 20);
    assert_int_equal(s.n_events[H2_EV_END], 1);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 1);
    assert_int_equal(c.n_events[H2_EV_CLOSED], 1);
    end_fini(&c);
    end_fini(&s);
}

// ---- endings

// Half-close both ways: each side's END comes on its own, CLOSED after both.
static void test_half_close(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 5, true);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&s), "END s1\n"));
    struct h2_stream *peer = end_stream_of(&s, 1);
    assert_true(h2_stream_recv_ended(peer) && !h2_stream_send_ended(peer));
    respond(peer, ":status=200", false);
    send_data(&s, peer, 1000, false);
    pump(&c, &s);
    assert_int_equal(c.n_events[H2_EV_END] + c.n_events[H2_EV_CLOSED], 0);
    assert_true(h2_stream_send_ended(a) && !h2_stream_recv_ended(a));
    send_data(&s, peer, 0, true);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&c), "len=1000"));
    assert_int_equal(c.n_events[H2_EV_CLOSED], 1);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 1);
    assert_int_equal(s.n_events[H2_EV_RESET] + c.n_events[H2_EV_RESET], 0);
    pair_fini(&c, &s);
}

static void test_reset_drops_queue(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 1 << 20, true);
    assert_true(h2_conn_queued(c.conn) >= 1 << 20);
    h2_stream_reset(a, H2_CONNECT_ERROR);
    h2_stream_reset(a, H2_CANCEL); // harmless
    assert_true(h2_conn_queued(c.conn) < 1000);
    end_events(&c);
    assert_string_equal(end_log(&c), "CLOSED s1\n"); // no RESET of one's own
    pump(&c, &s);
    assert_non_null(strstr(end_log(&s), "RESET s1 connect_error peer\nCLOSED s1\n"));
    assert_int_equal(s.n_events[H2_EV_END], 0);
    pair_fini(&c, &s);
}

// A reset while other events of the stream wait to be taken.
static void test_reset_with_events(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *streams[5];
    for (int i = 0; i < 5; i++) {
        streams[i] = open_stream(&c, REQ_GET, true); // SENT waits
    }
    h2_stream_reset(streams[3], H2_CANCEL);
    h2_stream_reset(streams[0], H2_CANCEL);
    h2_stream_reset(streams[4], H2_CANCEL);
    end_events(&c);
    assert_int_equal(c.n_events[H2_EV_SENT], 2);
    assert_int_equal(c.n_events[H2_EV_CLOSED], 3);
    pump(&c, &s);
    assert_int_equal(h2_conn_n_streams(c.conn), 2);
    h2_stream_reset(streams[1], H2_CANCEL);
    h2_stream_reset(streams[2], H2_CANCEL);
    pump(&c, &s);
    assert_int_equal(c.n_events[H2_EV_CLOSED], 5);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 5);
    pair_fini(&c, &s);
}

// Calls on a stream that the peer just ended, before its events were taken, do no harm.
static void hook_after_reset(struct h2_end *end, const struct h2_event *ev) {
    if (ev->type != H2_EV_RESET && ev->type != H2_EV_CLOSED) {
        return;
    }
    struct chain data;
    make_data(&data, &end->pool, 100, 100);
    h2_stream_send_data(ev->stream, &data, true);
    assert_true(chain_empty(&data));
    respond(ev->stream, ":status=200", false);
    h2_stream_send_trailers(ev->stream, NULL, 0);
    h2_stream_consumed(ev->stream, 10);
    h2_stream_reset(ev->stream, H2_CANCEL);
    h2_stream_to_cold(ev->stream);
    assert_false(h2_stream_can_send(ev->stream));
    assert_int_equal(h2_stream_queued(ev->stream), 0);
    assert_int_equal(h2_stream_id(ev->stream), 1);
}

static void test_calls_after_reset(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    s.hook = hook_after_reset;
    s.auto_consume = false;
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 1000, false);
    pump(&c, &s);
    h2_stream_reset(a, H2_CANCEL);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&s), "RESET s1 cancel peer\nCLOSED s1\n"));
    assert_int_equal(h2_conn_parked(s.conn), 0);
    struct wire out = {0};
    end_pull(&s, &out, 0);
    assert_int_equal(out.len, 0);
    wire_free(&out);
    pair_fini(&c, &s);
}

// A consumer that resets in the middle of a frame gets no more of it.
static void hook_reset_on_data(struct h2_end *end, const struct h2_event *ev) {
    (void)end;
    if (ev->type == H2_EV_DATA) {
        h2_stream_reset(ev->stream, H2_CONNECT_ERROR);
    }
}

static void test_reset_within_frame(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    s.hook = hook_reset_on_data;
    s.auto_consume = false;
    s.max_chunk = 1000;
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 16000, true);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_DATA], 1);
    assert_int_equal(s.n_events[H2_EV_END], 0);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 1);
    assert_false(h2_conn_is_dead(s.conn) || h2_conn_is_dead(c.conn));
    assert_int_equal(h2_conn_parked(s.conn), 0);
    pair_fini(&c, &s);
}

// A complete response and RST_STREAM(NO_ERROR): the server wants no more of the request.
static void test_reset_is_clean(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 1000, false);
    pump(&c, &s);
    struct h2_stream *peer = end_stream_of(&s, 1);
    respond(peer, ":status=403", true);
    struct wire out = {0};
    end_pull(&s, &out, 0);
    end_feed(&c, out.bytes, out.len);
    h2_stream_reset(peer, H2_NO_ERROR);
    pump(&c, &s);
    assert_non_null(strstr(end_log(&c), "END s1\nRESET s1 no_error peer clean\nCLOSED s1\n"));
    wire_free(&out);
    pair_fini(&c, &s);
}

// Ended by its consumer in the middle of a header block: the block is decoded and dropped.
static void test_reset_within_block(void **state) {
    (void)state;
    struct h2_end s;
    end_init(&s, true);
    end_open(&s, true);
    struct wire in = {0};
    wire_preface(&in);
    wire_headers(&in, 1, REQ_GET, 0);
    uint8_t block[100];
    size_t len = wire_block(block, sizeof(block), "trailer=x", false);
    wire_frame(&in, H2_FRAME_HEADERS, H2_FLAG_END_STREAM, 1, block, len);
    end_feed(&s, in.bytes, in.len);
    h2_stream_reset(end_stream_of(&s, 1), H2_CANCEL);
    in.len = 0;
    wire_frame(&in, H2_FRAME_CONTINUATION, H2_FLAG_END_HEADERS, 1, NULL, 0);
    wire_headers(&in, 3, REQ_GET, 1);
    end_feed(&s, in.bytes, in.len);
    assert_int_equal(s.n_events[H2_EV_TRAILERS], 0);
    assert_int_equal(s.n_events[H2_EV_HEADERS], 2);
    assert_false(h2_conn_is_dead(s.conn));
    wire_free(&in);
    end_fini(&s);
}

// Both sides done, payload not consumed: a reset gives it up.
static void test_reset_of_waiting(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    s.auto_consume = false;
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    send_data(&c, a, 1000, true);
    pump(&c, &s);
    struct h2_stream *peer = end_stream_of(&s, 1);
    respond(peer, ":status=200", true);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 0);
    h2_stream_reset(peer, H2_CONNECT_ERROR);
    pump(&c, &s);
    assert_int_equal(s.n_events[H2_EV_CLOSED], 1);
    assert_int_equal(h2_conn_parked(s.conn), 0);
    assert_int_equal(c.n_events[H2_EV_RESET], 0); // nothing of it on the wire
    pair_fini(&c, &s);
}

static void test_user_pointer(void **state) {
    (void)state;
    struct h2_end c;
    end_init(&c, false);
    end_open(&c, false);
    assert_false(h2_conn_has_settings(c.conn));
    struct http_field fields[8];
    enum h2_err err;
    int user, other;
    size_t n = fields_of(REQ_GET, fields, 8);
    struct h2_stream *stream = h2_stream_open(c.conn, fields, n, true, &user, &err);
    assert_ptr_equal(h2_stream_user(stream), &user);
    h2_stream_set_user(stream, &other);
    assert_ptr_equal(h2_stream_user(stream), &other);
    assert_ptr_equal(h2_conn_stream(c.conn, 1), stream);
    assert_null(h2_conn_stream(c.conn, 3));
    end_fini(&c);
}

// After its death a connection takes every call and does nothing.
static void test_calls_after_death(void **state) {
    (void)state;
    struct h2_end c, s;
    pair_init(&c, &s);
    struct h2_stream *a = open_stream(&c, REQ_CONNECT, false);
    struct wire bad = {0};
    wire_frame(&bad, H2_FRAME_PING, 0, 1, "12345678", 8);
    end_feed(&c, bad.bytes, bad.len);
    assert_int_equal(c.n_events[H2_EV_CONN_ERROR], 1);
    size_t queued = h2_conn_queued(c.conn);
    send_data(&c, a, 1000, true);
    h2_stream_consumed(a, 0);
    h2_conn_ping(c.conn, 1, c.now);
    h2_conn_goaway_start(c.conn, c.now);
    h2_conn_goaway(c.conn, H2_NO_ERROR);
    h2_conn_tick(c.conn, c.now + 100 * NS_PER_SEC);
    h2_stream_reset(a, H2_CANCEL);
    assert_int_equal(h2_conn_queued(c.conn), queued);
    struct http_field fields[8];
    enum h2_err err;
    size_t n = fields_of(REQ_GET, fields, 8);
    assert_null(h2_stream_open(c.conn, fields, n, true, NULL, &err));
    assert_int_equal(err, H2_DRAINING);
    bad.len = 0;
    end_pull(&c, &bad, 0);
    assert_int_equal(bad.len, queued);
    wire_free(&bad);
    pair_fini(&c, &s);
}

// ---- whole versus split: a conversation of everything, in pieces of any size, looks the same

static void echo(struct h2_end *end, const struct h2_event *ev) {
    struct http_field fields[2];
    switch (ev->type) {
    case H2_EV_HEADERS:
        respond(ev->stream, ":status=100", false);
        respond(ev->stream, ":status=200|a=b", false);
        break;
    case H2_EV_DATA: {
        struct chain data;
        chain_init(&data, &end->pool);
        chain_append(&data, ev->blk, ev->off, ev->len);
        h2_stream_send_data(ev->stream, &data, false);
        break;
    }
    case H2_EV_END:
        if (h2_stream_id(ev->stream) % 4 == 1) {
            h2_stream_send_trailers(ev->stream, fields, fields_of("t=1|u=2", fields, 2));
        } else {
            struct chain data;
            chain_init(&data, &end->pool);
            h2_stream_send_data(ev->stream, &data, true);
        }
        break;
    default:
        break;
    }
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The order among streams may change with the cut, so lines are compared sorted; those of one
// stream keep their order by the counter that is put in front.
static char *sorted(const char *log) {
    char *lines[512];
    uint32_t n_of[64] = {0};
    uint64_t bytes_of[64] = {0};
    size_t n = 0;
    struct slice rest = slice_str(log), head;
    while (slice_split(rest, '\n', &head, &rest)) {
        char *line = slice_dup(head);
        const char *id_text = strstr(line, " s");
        uint32_t id = id_text != NULL ? (uint32_t)strtoul(id_text + 2, NULL, 10) : 0;
        if (strncmp(line, "DATA", 4) == 0) {
            bytes_of[id] += strtoull(strstr(line, "len=") + 4, NULL, 10); // cut anywhere
        } else if (strncmp(line, "WRITABLE", 8) != 0 && strncmp(line, "SENT", 4) != 0) {
            assert_true(n < ARRAY_LEN(lines));
            lines[n++] = xasprintf("%02u.%02u %s after %llu", id, n_of[id]++, line,
                                   (unsigned long long)bytes_of[id]);
        }
        free(line);
    }
    qsort(lines, n, sizeof(lines[0]), compare_text);
    char *text = xstrdup("");
    for (size_t i = 0; i < n; i++) {
        char *more = xasprintf("%s%s\n", text, lines[i]);
        free(text);
        free(lines[i]);
        text = more;
    }
    return text;
}

static void converse(size_t max_chunk, uint64_t seed, char **ret_client, char **ret_server) {
    struct h2_end c, s;
    end_init(&c, false);
    end_init(&s, true);
    c.max_chunk = s.max_chunk = max_chunk;
    c.seed = s.seed = seed;
    s.hook = echo;
    end_open(&c, false);
    end_open(&s, true);
    for (uint32_t i = 0; i < 12; i++) {
        struct h2_stream *a =
            open_stream(&c, i % 2 == 0 ? REQ_GET "|cookie=abc|x-y=z" : REQ_CONNECT, false);
        send_data(&c, a, (size_t)i * i * 300, i % 2 != 0);
        if (i % 2 == 0) {
            struct http_field trailer = {SLICE_LIT("end"), SLICE_LIT("of it"), false};
            h2_stream_send_trailers(a, &trailer, 1);
        }
        if (i == 7) {
            h2_stream_reset(a, H2_CANCEL);
        }
    }
    pump(&c, &s);
    h2_conn_ping(c.conn, 5, c.now);
    h2_conn_goaway_start(s.conn, s.now);
    pump(&c, &s);
    assert_int_equal(h2_conn_n_streams(c.conn) + h2_conn_n_streams(s.conn), 0);
    *ret_client = sorted(end_log(&c));
    *ret_server = sorted(end_log(&s));
    pair_fini(&c, &s);
}

static void test_whole_versus_split(void **state) {
    (void)state;
    char *client, *server;
    converse(0, 0, &client, &server);
    assert_non_null(strstr(client, "CLOSED s23"));
    const size_t chunks[] = {1, 2, 3, 9, 10, 1000, 70000};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            char *other_client, *other_server;
            converse(chunks[i], seed, &other_client, &other_server);
            assert_string_equal(client, other_client);
            assert_string_equal(server, other_server);
            free(other_client);
            free(other_server);
        }
    }
    free(client);
    free(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_response),   cmocka_unit_test(test_bulk_both_ways),
        cmocka_unit_test(test_half_close),         cmocka_unit_test(test_reset_drops_queue),
        cmocka_unit_test(test_reset_with_events),  cmocka_unit_test(test_calls_after_reset),
        cmocka_unit_test(test_reset_within_frame), cmocka_unit_test(test_reset_is_clean),
        cmocka_unit_test(test_reset_within_block), cmocka_unit_test(test_reset_of_waiting),
        cmocka_unit_test(test_user_pointer),       cmocka_unit_test(test_calls_after_death),
        cmocka_unit_test(test_whole_versus_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
