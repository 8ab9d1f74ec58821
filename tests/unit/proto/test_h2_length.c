// SPDX-License-Identifier: Apache-2.0
//
// Content-Length against the DATA that comes (RFC 9113 8.1.1), request and response: whoever hands
// a message on must be able to rely on it, or it is smuggling.
#include "tests/unit/proto/h2_harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/proto/h2_priv.h"

#define POST ":method=POST|:scheme=http|:path=/|:authority=a|content-length="
#define REPLY ":status=200|content-length="

// What follows the head, by its letters: d DATA, p padded DATA (with a length), t trailers; an 'e'
// behind it, or behind nothing for the head, is END_STREAM.
static const struct row {
    const char *name, *request, *response; // response NULL: the request is the message
    const char *body;
    bool ok;
    uint64_t n_data; // handed out before the verdict
} rows[] = {
    {"as announced", POST "5", NULL, "d5e", true, 5},
    {"in pieces", POST "5", NULL, "d2 d0 d3 d0e", true, 5},
    {"then trailers", POST "5", NULL, "d5 te", true, 5},
    {"nothing", POST "0", NULL, "e", true, 0},
    {"nothing, and a frame", POST "0", NULL, "d0e", true, 0},
    {"no word", REQ_GET, NULL, "d5e", true, 5},
    {"equal ones", POST "5, 5", NULL, "d5e", true, 5},
    {"padding does not count", POST "5", NULL, "p5e", true, 5},
    {"padding only", POST "5", NULL, "d5 p0e", true, 5},
    {"too long", POST "5", NULL, "d6e", false, 0},
    {"too long in pieces", POST "5", NULL, "d5 d1e", false, 5},
    {"too long, padded", POST "5", NULL, "p6e", false, 0},
    {"too short", POST "5", NULL, "d4e", false, 0},
    {"too short, padded", POST "5", NULL, "p4e", false, 0},
    {"too short in pieces", POST "5", NULL, "d2 d2 d0e", false, 4},
    {"too short, trailers", POST "5", NULL, "d4 te", false, 4},
    {"none", POST "5", NULL, "e", false, 0},
    {"none, trailers", POST "5", NULL, "te", false, 0},
    {"CONNECT has none", REQ_CONNECT "|content-length=5", NULL, "d7e", true, 7},
    {"response", REQ_GET, REPLY "5", "d5e", true, 5},
    {"response, no word", REQ_GET, ":status=200", "d5e", true, 5},
    {"response, too long", REQ_GET, REPLY "5", "d6", false, 0},
    {"response, too short", REQ_GET, REPLY "5", "d4e", false, 0},
    {"response, none", REQ_GET, REPLY "5", "e", false, 0},
    {"HEAD", ":method=HEAD|:scheme=http|:path=/|:authority=a", REPLY "5", "e", true, 0},
    {"HEAD with a body", ":method=HEAD|:scheme=http|:path=/|:authority=a", REPLY "5", "d5e", false,
     0},
    {"304", REQ_GET, ":status=304|content-length=5", "e", true, 0},
    {"304 with a body", REQ_GET, ":status=304", "d1e", false, 0},
    {"204 with a body", REQ_GET, ":status=204", "d1e", false, 0},
    {"tunnel", REQ_CONNECT, REPLY "5", "d7e", true, 7},
    {"no tunnel", REQ_CONNECT, ":status=503|content-length=5", "d7e", false, 0},
};

static void add_padded(struct wire *wire, unsigned flags, size_t len) {
    uint8_t payload[64] = {9};
    assert_true(1 + len + 9 <= sizeof(payload));
    wire_frame(wire, H2_FRAME_DATA, flags | H2_FLAG_PADDED, 1, payload, 1 + len + 9);
}

static void add_message(struct wire *wire, const char *fields, const char *body) {
    wire_headers(wire, 1, fields, body[0] == 'e' ? H2_FLAG_END_STREAM : 0);
    while (body[0] == 'd' || body[0] == 'p' || body[0] == 't') {
        char kind = *body++;
        char *rest;
        size_t len = strtoul(body, &rest, 10);
        bool is_end = *rest == 'e';
        unsigned flags = is_end ? H2_FLAG_END_STREAM : 0;
        if (kind == 't') {
            wire_headers(wire, 1, "a=b", flags);
        } else if (kind == 'p') {
            add_padded(wire, flags, len);
        } else {
            wire_data(wire, 1, len, is_end);
        }
        body = rest + is_end;
        body += *body == ' ';
    }
}

static void check_row(const struct row *row, size_t max_chunk) {
    bool is_server = row->response == NULL;
    struct h2_end end;
    end_init(&end, is_server);
    end.auto_consume = true;
    end.max_chunk = max_chunk;
    end_open(&end, is_server);
    struct wire wire = {0};
    if (is_server) {
        wire_preface(&wire);
        add_message(&wire, row->request, row->body);
    } else {
        struct http_field fields[32];
        size_t n = fields_of(row->request, fields, 32);
        enum h2_err err;
        assert_non_null(h2_stream_open(end.conn, fields, n, true, NULL, &err));
        wire_settings(&wire, 0, NULL);
        add_message(&wire, row->response, row->body);
    }
    end_feed(&end, wire.bytes, wire.len);
    if (end.n_events[H2_EV_RESET] != !row->ok || end.n_data != row->n_data ||
        end.n_events[H2_EV_END] != row->ok) {
        // A request that ends with its head is refused before anyone hears of it.
        bool is_unseen = is_server && !row->ok && row->body[0] == 'e';
        if (!is_unseen || end.n_events[H2_EV_HEADERS] != 0) {
            fail_msg("%s, cut at %zu: %s", row->name, max_chunk, end_log(&end));
        }
    }
    if (end.n_events[H2_EV_RESET] > 0) {
        assert_int_equal(end.last_err, H2_BAD_LENGTH);
    }
    assert_false(h2_conn_is_dead(end.conn));
    wire_free(&wire);
    end_fini(&end);
}

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        check_row(&rows[i], 0);
        check_row(&rows[i], 1);
        check_row(&rows[i], 3);
    }
}

// Whoever makes us reset again and again pays for it.
static void test_reject_costs(void **state) {
    (void)state;
    struct h2_end end;
    end_init(&end, true);
    end_open(&end, true);
    struct wire wire = {0};
    wire_preface(&wire);
    end_feed(&end, wire.bytes, wire.len);
    uint32_t id = 1;
    for (; id < 1000 && !h2_conn_is_dead(end.conn); id += 2) {
        struct wire head = {0};
        wire_headers(&head, id, REQ_GET, 0);
        end_feed(&end, head.bytes, head.len);
        h2_stream_reject(h2_conn_stream(end.conn, id), H2_PROTOCOL_ERROR);
        end_events(&end);
        wire_free(&head);
    }
    assert_true(h2_conn_is_dead(end.conn) && id > 2 * 90);
    assert_int_equal(end.last_err, H2_FLOOD_GLITCH);
    wire_free(&wire);
    end_fini(&end);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_reject_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
