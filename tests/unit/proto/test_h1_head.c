// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h1_head.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/proto/h1_scan.h"
#include "tests/unit/proto/h1_harness.h"

static const struct h1_head_limits big = {H1_HEAD_MAX_BYTES, H1_HEAD_MAX_FIELDS};

// Feeds in pieces, each in memory of its exact size. *ret_used: up to the end of the head.
static enum http_err feed(struct h1_head *head, struct slice bytes, size_t chunk, size_t *ret_used,
                          bool *ret_is_done) {
    enum http_err err = HTTP_ERR_OK;
    *ret_used = 0;
    *ret_is_done = false;
    while (*ret_used < bytes.len && err == HTTP_ERR_OK && !*ret_is_done) {
        struct slice piece = slice_head(slice_skip(bytes, *ret_used), chunk);
        uint8_t *copy = malloc(piece.len);
        size_t used;
        memcpy(copy, piece.ptr, piece.len);
        err = h1_head_recv(head, slice_make(copy, piece.len), &used, ret_is_done);
        free(copy); // nothing may point there
        assert_true(used <= piece.len && (used == piece.len || *ret_is_done || err != HTTP_ERR_OK));
        *ret_used += used;
    }
    return err;
}

// ---- scanning

static void test_scan(void **state) {
    (void)state;
    uint8_t text[64 + H1_SCAN_SLACK];
    for (size_t at = 0; at < 40; at++) {
        for (int c = 0; c < 256; c++) {
            memset(text, 'a', sizeof(text));
            memset(text + 40, 0, sizeof(text) - 40); // behind the end: must not be seen
            text[at] = (uint8_t)c;
            bool is_hit = (c < 0x20 && c != '\t') || c == 0x7f;
            for (size_t from = 0; from <= at; from++) {
                const uint8_t *want = text + (is_hit ? at : 40);
                assert_ptr_equal(h1_scan(text + from, text + 40), want);
                assert_ptr_equal(h1_scan_swar(text + from, text + 40), want);
            }
        }
    }
    assert_ptr_equal(h1_scan(text, text), text);
    // A byte with the high bit behind a hit, and every pair in one word.
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            memset(text, 'a', sizeof(text));
            text[2] = (uint8_t)a;
            text[3] = (uint8_t)b;
            assert_ptr_equal(h1_scan(text, text + 16), h1_scan_swar(text, text + 16));
        }
    }
}

// Control characters at two places, whatever the length.
static void test_scan_count(void **state) {
    (void)state;
    uint8_t text[40 + H1_SCAN_SLACK];
    for (size_t len = 2; len <= 40; len++) {
        for (size_t at = 0; at < len - 1; at++) {
            for (int c = 0; c < 256; c++) {
                memset(text, 'a', len);
                memset(text + len, 0, sizeof(text) - len); // behind the end: must not be seen
                text[at] = text[len - 1] = (uint8_t)c;
                size_t want = h1_scan_is_control((uint8_t)c) ? 2 : 0;
                assert_int_equal(h1_scan_count(text, text + len), want);
            }
        }
    }
    assert_int_equal(h1_scan_count(text, text), 0);
}

// Against the table, character by character: the short cuts may look closer, but never err.
static void test_scan_names(void **state) {
    (void)state;
    for (size_t len = 1; len <= 20; len++) {
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                uint8_t text[64], before[64], want[64];
                memset(before, 'N', sizeof(before));
                before[at] = (uint8_t)c;
                before[len] = ':';
                memcpy(text, before, sizeof(text));
                memcpy(want, before, sizeof(want));
                bool is_name = true;
                size_t n_want = c == ':' ? at : len; // the first colon
                for (size_t i = 0; i < n_want; i++) {
                    want[i] = http_rules_lower[before[i]];
                    is_name = is_name && want[i] != 0;
                }
                size_t n = h1_scan_lower_name(text);
                if (n == 0) {
                    assert_memory_equal(text, before, sizeof(text));
                    continue;
                }
                assert_true(is_name);
                assert_int_equal(n, n_want);
                assert_memory_equal(text, want, sizeof(text));
                assert_true(h1_scan_is_usual_name(text, n));
            }
        }
    }
#ifdef __SSE2__
    uint8_t usual[32] = "X-Envoy-2: Value";
    assert_int_equal(h1_scan_lower_name(usual), 9);
    assert_string_equal((char *)usual, "x-envoy-2: Value");
    assert_int_equal(h1_scan_lower_name(memcpy(usual, ": Value", 8)), 0);
    assert_true(h1_scan_is_usual_name((const uint8_t *)"x-forwarded-client-cert         ", 23));
    assert_false(h1_scan_is_usual_name((const uint8_t *)"x-forwarded-client_cert         ", 23));
#endif
    assert_false(h1_scan_is_usual_name((const uint8_t *)"                ", 0));
}

// ---- responses

static const struct {
    const char *bytes;
    bool is_head_request, asked_upgrade;
    enum http_err err;
    uint16_t status;
    enum h1_body_kind body;
    uint64_t len;
    bool keep_alive;
} responses[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 0, 0, HTTP_ERR_OK, 200, H1_BODY_LENGTH, 5, 1},
    {"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 0, 0, HTTP_ERR_OK, 200, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, HTTP_ERR_OK, 200, H1_BODY_CHUNKED,
     0, 1},
    {"HTTP/1.1 200 OK\r\n\r\n", 0, 0, HTTP_ERR_OK, 200, H1_BODY_UNTIL_CLOSE, 0, 1},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", 0, 0, HTTP_ERR_OK, 200,
     H1_BODY_LENGTH, 5, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 0, 0, HTTP_ERR_OK, 200, H1_BODY_LENGTH, 5, 0},
    {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n", 0, 0, HTTP_ERR_OK,
     200, H1_BODY_LENGTH, 5, 1},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\n", 0, 0, HTTP_ERR_OK, 200,
     H1_BODY_UNTIL_CLOSE, 0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1, 0, HTTP_ERR_OK, 200, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1, 0, HTTP_ERR_OK, 200, H1_BODY_NONE,
     0, 1},
    {"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", 0, 0, HTTP_ERR_OK, 304, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 204 X\r\n\r\n", 0, 0, HTTP_ERR_OK, 204, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", 0, 0, HTTP_ERR_OK, 204, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 204 X\r\nContent-Length: 1\r\n\r\n", 0, 0, HTTP_ERR_LENGTH_NOT_ALLOWED, 0, 0, 0, 0},
    {"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, HTTP_ERR_CODING_NOT_ALLOWED, 0,
     0, 0, 0},
    {"HTTP/1.1 100 X\r\n\r\n", 0, 0, HTTP_ERR_OK, 100, H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, HTTP_ERR_CODING_NOT_ALLOWED, 0,
     0, 0, 0},
    {"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, 1, HTTP_ERR_OK, 101,
     H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, 0, HTTP_ERR_BAD_SWITCH, 0, 0,
     0, 0},
    {"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", 0, 1, HTTP_ERR_BAD_SWITCH, 0, 0, 0, 0},
    {"HTTP/1.1 101 X\r\n\r\n", 0, 1, HTTP_ERR_BAD_SWITCH, 0, 0, 0, 0},
    {"HTTP/1.0 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, 1, HTTP_ERR_BAD_SWITCH, 0, 0,
     0, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0,
     HTTP_ERR_LENGTH_AND_CODING, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 0, 0, HTTP_ERR_NOT_CHUNKED, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 0, 0, HTTP_ERR_UNKNOWN_CODING,
     0, 0, 0, 0},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, HTTP_ERR_CODING_IN_10, 0, 0, 0,
     0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 0, 0, HTTP_ERR_BAD_LENGTH,
     0, 0, 0, 0},
    {"HTTP/1.1 999 Who\tknows \xe9\r\nContent-Length: 0\r\n\r\n", 0, 0, HTTP_ERR_OK, 999,
     H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nHost: a\r\nHost: b\r\n\r\n", 0, 0, HTTP_ERR_OK, 200,
     H1_BODY_NONE, 0, 1},
    {"HTTP/1.1 099 X\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1 20 X\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1 2000 X\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1 200OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1  200 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1 +20 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/2.0 200 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_VERSION, 0, 0, 0, 0},
    {"ICY/1.1 200 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"ICY 200 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"\r\nHTTP/1.1 200 OK\r\n\r\n", 0, 0, HTTP_ERR_BAD_STATUS_LINE, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\nA: b\r\n\r\n", 0, 0, HTTP_ERR_BARE_LF, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", 0, 0, HTTP_ERR_SPACE_BEFORE_COLON, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 0, 0, HTTP_ERR_OBS_FOLD, 0, 0, 0, 0},
    {"HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n", 0, 0, HTTP_ERR_BAD_CHARACTER, 0, 0, 0, 0},
};

static void test_responses(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(responses); i++) {
        size_t row = i / 2, used;
        struct slice bytes = slice_str(responses[row].bytes);
        struct h1_head head;
        bool is_done;
        h1_head_init(&head, H1_HEAD_RESPONSE, &big);
        h1_head_answers(&head, responses[row].is_head_request, responses[row].asked_upgrade);
        enum http_err err = feed(&head, bytes, i % 2 == 0 ? bytes.len : 1, &used, &is_done);
        if (err != responses[row].err || is_done != (err == HTTP_ERR_OK)) {
            fail_msg("'%s': %s", responses[row].bytes, http_err_name(err));
        }
        if (err == HTTP_ERR_OK) {
            assert_int_equal(used, bytes.len);
            assert_int_equal(head.head.status, responses[row].status);
            assert_int_equal(head.body, responses[row].body);
            assert_int_equal(head.keep_alive, responses[row].keep_alive);
            if (head.body == H1_BODY_LENGTH) {
                assert_int_equal(head.body_len, responses[row].len);
            }
        }
        h1_head_fini(&head);
    }
}

// ---- limits

// A request of exactly `len` bytes with `n_fields` lines, Host among them.
static char *request_of(size_t len, size_t n_fields) {
    static const char start[] = "GET / HTTP/1.1\r\nHost: h\r\n";
    char *text = malloc(len + 1);
    size_t at = sizeof(start) - 1;
    memcpy(text, start, at);
    for (size_t i = 1; i < n_fields; i++) {
        memcpy(text + at, "a: b\r\n", 6);
        at += 6;
    }
    memcpy(text + at, "x: ", 3);
    at += 3;
    assert_true(at + 4 <= len);
    memset(text + at, 'y', len - at - 4);
    memcpy(text + len - 4, "\r\n\r\n", 5);
    return text;
}

static void check_limit(const char *text, const struct h1_head_limits *limits, enum http_err want) {
    static const size_t chunks[] = {1, 5, 1000, 1 << 20};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct h1_head head;
        size_t used;
        bool is_done;
        h1_head_init(&head, H1_HEAD_REQUEST, limits);
        enum http_err err = feed(&head, slice_str(text), chunks[i], &used, &is_done);
        assert_string_equal(http_err_name(err), http_err_name(want));
        assert_int_equal(is_done, want == HTTP_ERR_OK);
        assert_true(head.cap <= limits->max_bytes && head.cap_fields <= limits->max_fields);
        if (is_done) {
            assert_slice_equal(head.head.path, "/"); // moved with the buffer
            assert_slice_equal(head.head.authority, "h");
        } else if (want != HTTP_ERR_TOO_MANY_FIELDS) {
            // It is said at the byte that is one too many, and said again.
            assert_true(used <= limits->max_bytes);
            assert_int_equal(h1_head_recv(&head, SLICE_LIT("x"), &used, &is_done), want);
            assert_int_equal(used, 0);
        }
        h1_head_fini(&head);
    }
}

static void test_size_limit(void **state) {
    (void)state;
    for (uint32_t max = 40; max < 5000; max = max < 100 ? max + 1 : max * 2 - 3) {
        struct h1_head_limits limits = {.max_bytes = max, .max_fields = 10};
        char *fits = request_of(max, 1);
        char *larger = request_of(max + 1, 1);
        check_limit(fits, &limits, HTTP_ERR_OK);
        check_limit(larger, &limits, HTTP_ERR_HEAD_TOO_LARGE);
        free(fits);
        free(larger);
    }
    char *fits = request_of(H1_HEAD_MAX_BYTES, 90);
    char *larger = request_of(H1_HEAD_MAX_BYTES + 1, 90);
    check_limit(fits, &big, HTTP_ERR_OK);
    check_limit(larger, &big, HTTP_ERR_HEAD_TOO_LARGE);
    free(fits);
    free(larger);
}

static void test_line_limit(void **state) {
    (void)state;
    struct h1_head_limits limits = {.max_bytes = 100, .max_fields = 10};
    char text[200];
    memset(text, 'a', sizeof(text));
    memcpy(text, "GET /", 5);
    text[sizeof(text) - 1] = '\0';
    check_limit(text, &limits, HTTP_ERR_LINE_TOO_LONG);
    text[99] = '\r'; // the line end is one byte too far
    text[100] = '\n';
    check_limit(text, &limits, HTTP_ERR_LINE_TOO_LONG);
}

static void test_field_limit(void **state) {
    (void)state;
    for (uint32_t max = 2; max <= 128; max *= 2) {
        struct h1_head_limits limits = {.max_bytes = 4000, .max_fields = max};
        char *fits = request_of(2000, max - 1); // "x" is one more
        char *more = request_of(2000, max);
        check_limit(fits, &limits, HTTP_ERR_OK);
        check_limit(more, &limits, HTTP_ERR_TOO_MANY_FIELDS);
        free(fits);
        free(more);
    }
}

// ---- writing

static const struct {
    const char *msg; // h1_harness.h
    bool has_end, is_head_request;
    enum http_version version;
    enum http_err err; // of h1_wire_*
    const char *bytes;
} writes[] = {
    {"GET a /x?y{b=c}", true, false, HTTP_11, HTTP_ERR_OK,
     "GET /x?y HTTP/1.1\r\nhost: a\r\nb: c\r\n\r\n"},
    {"GET a /{te=trailers}", true, false, HTTP_11, HTTP_ERR_OK,
     "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n"},
    {"GET a /", false, false, HTTP_11, HTTP_ERR_OK,
     "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"},
    {"PUT a /", true, false, HTTP_11, HTTP_ERR_OK,
     "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
    {"PUT a /{content-length=7}", false, false, HTTP_11, HTTP_ERR_OK,
     "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n"},
    {"PUT a /{content-length=7}", true, false, HTTP_11, HTTP_ERR_LENGTH_MISMATCH, NULL},
    {"PUT a /{content-length=7, 8}", false, false, HTTP_11, HTTP_ERR_BAD_LENGTH, NULL},
    {"GET a /{content-length=0}", true, false, HTTP_11, HTTP_ERR_OK,
     "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
    {"GET a /{content-length=0|b=c}^websocket", false, false, HTTP_11, HTTP_ERR_OK,
     "GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
    {"GET a /{connection=x|transfer-encoding=y|keep-alive=z|upgrade=u}", true, false, HTTP_11,
     HTTP_ERR_OK, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"},
    {"OPTIONS a *", true, false, HTTP_11, HTTP_ERR_OK, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
    // What would be two lines, or a head of somebody's own.
    {"GET a /x HTTP/1.1", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /x\r\ny: z", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a x", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a\r\nb: /", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /{b=c\nd: e}", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /{b=c\rd}", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /{b c=d}", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /{b:c=d}", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"GET a /^x\r\ny: z", true, false, HTTP_11, HTTP_ERR_OK, NULL},
    {"200{b=c}", true, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 200 OK\r\nb: c\r\ncontent-length: 0\r\n\r\n"},
    {"200", false, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"},
    {"200", false, false, HTTP_10, HTTP_ERR_OK, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"},
    {"200{content-length=4}", false, false, HTTP_10, HTTP_ERR_OK,
     "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"},
    {"200{content-length=4}", true, false, HTTP_11, HTTP_ERR_LENGTH_MISMATCH, NULL},
    {"200{content-length=4}", true, true, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"},
    {"200", false, true, HTTP_11, HTTP_ERR_OK, "HTTP/1.1 200 OK\r\n\r\n"},
    {"304{content-length=4}", true, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n"},
    {"204{content-length=4}", false, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 204 No Content\r\n\r\n"},
    {"103{link=x}", false, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"},
    {"101^websocket", false, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
    {"299", true, false, HTTP_11, HTTP_ERR_OK, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"},
    {"200{te=trailers}", true, false, HTTP_11, HTTP_ERR_OK,
     "HTTP/1.1 200 OK\r\nte: trailers\r\ncontent-length: 0\r\n\r\n"},
    {"200{a=b\r\nc: d}", true, false, HTTP_11, HTTP_ERR_OK, NULL},
};

static enum http_err wire_of(const struct http_head *head, size_t row, struct h1_wire *wire) {
    if (head->status == 0) {
        return h1_wire_request(head, writes[row].has_end, wire);
    }
    return h1_wire_response(head, writes[row].has_end, writes[row].is_head_request,
                            (uint8_t)writes[row].version, wire);
}

static void test_write(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        struct h1_msg msg;
        struct h1_wire wire;
        struct blk_pool pool;
        struct chain out;
        char bytes[1024] = "";
        blk_pool_init(&pool, 1);
        chain_init(&out, &pool);
        h1_msg_parse(&msg, writes[i].msg);
        enum http_err err = wire_of(&msg.head, i, &wire);
        assert_string_equal(http_err_name(err), http_err_name(writes[i].err));
        if (err == HTTP_ERR_OK) {
            bool ok = h1_head_write(&msg.head, &wire, &out);
            if (ok != (writes[i].bytes != NULL)) {
                fail_msg("'%s'", writes[i].msg);
            }
        }
        if (writes[i].bytes != NULL) {
            chain_peek(&out, bytes, sizeof(bytes) - 1);
            assert_string_equal(bytes, writes[i].bytes);
            assert_int_equal(out.n_segs, 1);
            assert_int_equal(out.head->headroom, BLK_HEADROOM);
            assert_true(out.head->tailroom >= BLK_TAILROOM);
            chain_copy(&out, SLICE_LIT("a small body")); // goes along in the same segment
            assert_int_equal(out.n_segs, 1);
        } else {
            assert_true(chain_empty(&out));
        }
        chain_clear(&out);
        blk_pool_fini(&pool);
    }
}

static void test_options(void **state) {
    (void)state;
    static const struct {
        struct h1_wire wire;
        const char *line;
    } rows[] = {
        {{.close = true}, "connection: close\r\n"},
        {{.keep_alive = true}, "connection: keep-alive\r\n"},
        {{.close = true, .keep_alive = true}, "connection: close\r\n"},
        {{.has_len = true, .len = UINT64_MAX}, "content-length: 18446744073709551615\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct blk_pool pool;
        struct chain out;
        char bytes[256] = "";
        blk_pool_init(&pool, 1);
        chain_init(&out, &pool);
        struct http_head head = {.status = 200};
        assert_true(h1_head_write(&head, &rows[i].wire, &out));
        chain_peek(&out, bytes, sizeof(bytes) - 1);
        assert_non_null(strstr(bytes, rows[i].line));
        assert_int_equal(strlen(bytes), 17 + strlen(rows[i].line) + 2);
        chain_clear(&out);
        blk_pool_fini(&pool);
    }
}

// The largest head that is read can be written and read again, in several records.
static void test_large_round_trip(void **state) {
    (void)state;
    char *text = request_of(H1_HEAD_MAX_BYTES, 90);
    struct h1_head head, again;
    struct blk_pool pool;
    struct chain out;
    struct h1_wire wire;
    size_t used;
    bool is_done;
    h1_head_init(&head, H1_HEAD_REQUEST, &big);
    assert_int_equal(feed(&head, slice_str(text), SIZE_MAX, &used, &is_done), HTTP_ERR_OK);
    blk_pool_init(&pool, 1);
    chain_init(&out, &pool);
    assert_int_equal(h1_wire_request(&head.head, true, &wire), HTTP_ERR_OK);
    assert_true(h1_head_write(&head.head, &wire, &out));
    assert_true(out.n_segs > 1);
    for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
        assert_true(seg->len <= BLK_DATA_MAX);
    }
    assert_int_equal(out.len, H1_HEAD_MAX_BYTES);
    char *copy = malloc(out.len);
    chain_peek(&out, copy, out.len);
    h1_head_init(&again, H1_HEAD_REQUEST, &big);
    assert_int_equal(feed(&again, slice_make(copy, out.len), 999, &used, &is_done), HTTP_ERR_OK);
    assert_true(is_done);
    assert_int_equal(again.head.n_fields, head.head.n_fields);
    free(copy);
    free(text);
    chain_clear(&out);
    blk_pool_fini(&pool);
    h1_head_fini(&head);
    h1_head_fini(&again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),        cmocka_unit_test(test_scan_count),
        cmocka_unit_test(test_scan_names),  cmocka_unit_test(test_responses),
        cmocka_unit_test(test_size_limit),  cmocka_unit_test(test_line_limit),
        cmocka_unit_test(test_field_limit), cmocka_unit_test(test_write),
        cmocka_unit_test(test_options),     cmocka_unit_test(test_large_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
