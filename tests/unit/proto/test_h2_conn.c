// SPDX-License-Identifier: Apache-2.0
//
// A client core against a server core: messages of every shape, endings, GOAWAY, PING.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

static struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end) {
    struct h2_field fields[32];
    size_t n = fields_of(text, fields, 32);
    enum h2_err err;
    return h2_stream_open(client->conn, fields, n, end, NULL, &err);
}

static void respond(struct h2_stream *stream, const char *text, bool end) {
    struct h2_field fields[32];
    size_t n = fields_of(text, fields, 32);
    h2_stream_send_headers(stream, fields, n, end);
}

static void send_data(struct h2_end *end, struct h2_stream *stream, size_t len, bool is_end) {
    struct chain data;
    make_data(&data, &end->pool, len, 16375);
    h2_stream_send_data(stream, &data, is_end);
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
    struct h2_field trailer = {SLICE_LIT("grpc-status"), SLICE_LIT("0"), false};
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_response),
        cmocka_unit_test(test_bulk_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
