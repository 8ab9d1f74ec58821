// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h1_body.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "tests/unit/base/unit.h"

static const struct h1_head_limits limits = {.max_bytes = 1000, .max_fields = 5};

// Payload in `out`. Returns what it ended with; *ret_used: bytes consumed.
static enum h1_step read_all(struct h1_body *body, struct slice bytes, size_t chunk,
                             struct buf *out, size_t *ret_used) {
    size_t at = 0, used, len;
    enum h1_step step = h1_body_recv(body, (struct slice){0}, &used, &len);
    while (step != H1_STEP_END && step != H1_STEP_ERROR && at < bytes.len) {
        struct slice piece = slice_head(slice_skip(bytes, at), chunk);
        step = h1_body_recv(body, piece, &used, &len);
        assert_true(len <= used && used <= piece.len);
        assert_true(step != H1_STEP_MORE || used == piece.len);
        assert_true((step == H1_STEP_DATA) == (len > 0));
        buf_append(out, slice_skip(slice_head(piece, used), used - len));
        at += used;
        if (step == H1_STEP_DATA) {
            step = h1_body_recv(body, (struct slice){0}, &used, &len);
            assert_int_equal(used, 0);
        }
    }
    *ret_used = at;
    return step;
}

static const struct {
    enum h1_body_kind kind;
    uint64_t len;
    const char *bytes, *payload;
    enum h1_step step;
    size_t n_left; // bytes behind the body
    bool eof_is_end;
} rows[] = {
    {H1_BODY_NONE, 0, "x", "", H1_STEP_END, 1, true},
    {H1_BODY_LENGTH, 3, "abcde", "abc", H1_STEP_END, 2, true},
    {H1_BODY_LENGTH, 3, "ab", "ab", H1_STEP_MORE, 0, false},
    {H1_BODY_UNTIL_CLOSE, 0, "abc", "abc", H1_STEP_MORE, 0, true},
    {H1_BODY_UNTIL_CLOSE, 0, "", "", H1_STEP_MORE, 0, true},
    {H1_BODY_CHUNKED, 0, "3\r\nabc\r\n2;x=\"\r\"\r\n", "abc", H1_STEP_ERROR, 5, false},
    {H1_BODY_CHUNKED, 0, "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nxx", "abcde", H1_STEP_END, 2, true},
    {H1_BODY_CHUNKED, 0, "0\r\n\r\n", "", H1_STEP_END, 0, true},
    {H1_BODY_CHUNKED, 0, "0\r\na: b\r\n\r\nx", "", H1_STEP_END, 1, true},
    {H1_BODY_CHUNKED, 0, "0\r\na: b\r\n", "", H1_STEP_MORE, 0, false},
    {H1_BODY_CHUNKED, 0, "3\r\nabc", "abc", H1_STEP_MORE, 0, false},
    {H1_BODY_CHUNKED, 0, "3\r\nabc\r\n", "abc", H1_STEP_MORE, 0, false},
    {H1_BODY_CHUNKED, 0, "", "", H1_STEP_MORE, 0, false},
};

static void test_reading(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t chunk = 1; chunk < 32; chunk++) {
            struct h1_body body;
            struct buf out;
            size_t used;
            struct slice bytes = slice_str(rows[i].bytes);
            buf_init(&out, 1000);
            h1_body_init(&body, rows[i].kind, rows[i].len, &limits);
            enum h1_step step = read_all(&body, bytes, chunk, &out, &used);
            if (step == H1_STEP_DATA) {
                step = H1_STEP_MORE;
            }
            assert_int_equal(step, rows[i].step);
            assert_slice_equal(buf_slice(&out), rows[i].payload);
            if (step == H1_STEP_END) {
                assert_int_equal(bytes.len - used, rows[i].n_left);
                assert_int_equal(h1_body_left(&body), 0);
            }
            assert_int_equal(h1_body_recv_eof(&body), rows[i].eof_is_end);
            if (!rows[i].eof_is_end && step != H1_STEP_ERROR) {
                assert_int_equal(h1_body_err(&body), HTTP_ERR_TRUNCATED);
            }
            buf_fini(&out);
            h1_body_fini(&body);
        }
    }
}

// ---- caps

static enum http_err verdict(const struct buf *bytes, size_t chunk) {
    struct h1_body body;
    struct buf out;
    size_t used;
    buf_init(&out, 1 << 20);
    h1_body_init(&body, H1_BODY_CHUNKED, 0, &limits);
    enum h1_step step = read_all(&body, buf_slice(bytes), chunk, &out, &used);
    enum http_err err = step == H1_STEP_ERROR ? h1_body_err(&body) : HTTP_ERR_OK;
    assert_true(err != HTTP_ERR_OK || step == H1_STEP_END);
    buf_fini(&out);
    h1_body_fini(&body);
    return err;
}

static void check_both(const struct buf *bytes, enum http_err want) {
    assert_string_equal(http_err_name(verdict(bytes, SIZE_MAX)), http_err_name(want));
    assert_string_equal(http_err_name(verdict(bytes, 1)), http_err_name(want));
}

static void put_many(struct buf *buf, char c, size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_append_byte(buf, (uint8_t)c);
    }
}

static void test_line_cap(void **state) {
    (void)state;
    for (size_t n = 240; n < 270; n++) {
        struct buf bytes;
        buf_init(&bytes, 1 << 16);
        buf_append_str(&bytes, "1;");
        put_many(&bytes, 'x', n);
        buf_append_str(&bytes, "\r\na\r\n0\r\n\r\n");
        // "1;", the extension and CRLF make a line of at most 255
        check_both(&bytes, n + 4 <= 255 ? HTTP_ERR_OK : HTTP_ERR_BAD_CHUNK_EXT);
        buf_fini(&bytes);
    }
}

static void test_size_cap(void **state) {
    (void)state;
    for (size_t n = 1; n < 20; n++) {
        struct buf bytes;
        buf_init(&bytes, 1 << 16);
        put_many(&bytes, '0', n);
        buf_append_str(&bytes, "\r\n\r\n");
        check_both(&bytes, n <= 15 ? HTTP_ERR_OK : HTTP_ERR_BAD_CHUNK_SIZE);
        buf_fini(&bytes);
    }
}

// One byte with 200 of extension each: refused soon. Tiny chunks without one: never.
static void test_overhead_cap(void **state) {
    (void)state;
    struct buf bytes;
    buf_init(&bytes, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        buf_append_str(&bytes, "1\r\na\r\n");
    }
    buf_append_str(&bytes, "0\r\n\r\n");
    check_both(&bytes, HTTP_ERR_OK);
    buf_clear(&bytes);
    int n_passed = 0;
    for (int n = 1; n < 200; n++) {
        buf_clear(&bytes);
        for (int i = 0; i < n; i++) {
            buf_append_str(&bytes, "1;");
            put_many(&bytes, 'x', 200);
            buf_append_str(&bytes, "\r\na\r\n");
        }
        buf_append_str(&bytes, "0\r\n\r\n");
        enum http_err err = verdict(&bytes, SIZE_MAX);
        assert_true(err == HTTP_ERR_OK || err == HTTP_ERR_CHUNK_OVERHEAD);
        n_passed += err == HTTP_ERR_OK;
    }
    assert_in_range(n_passed, 80, 95); // 16 KiB of 188 each
    buf_fini(&bytes);
}

static void test_trailer_caps(void **state) {
    (void)state;
    for (size_t n = 1; n < 8; n++) {
        struct buf bytes;
        buf_init(&bytes, 1 << 16);
        buf_append_str(&bytes, "0\r\n");
        for (size_t i = 0; i < n; i++) {
            buf_append_str(&bytes, "a: b\r\n");
        }
        buf_append_str(&bytes, "\r\n");
        check_both(&bytes, n <= 5 ? HTTP_ERR_OK : HTTP_ERR_TOO_MANY_TRAILERS);
        buf_fini(&bytes);
    }
    for (size_t n = 980; n < 1010; n++) {
        struct buf bytes;
        buf_init(&bytes, 1 << 16);
        buf_append_str(&bytes, "0\r\na: ");
        put_many(&bytes, 'x', n);
        buf_append_str(&bytes, "\r\n\r\n");
        check_both(&bytes, n + 7 <= 1000 ? HTTP_ERR_OK : HTTP_ERR_TRAILERS_TOO_LARGE);
        buf_fini(&bytes);
    }
}

// ---- writing

static struct slice flat(const struct chain *chain) {
    static uint8_t bytes[1 << 18];
    return slice_make(bytes, chain_peek(chain, bytes, sizeof(bytes)));
}

static void give(struct chain *data, size_t len, uint16_t headroom, uint16_t tailroom) {
    struct blk *blk = blk_new_cold(data->pool, headroom + len + tailroom);
    memset(blk->base, '!', blk->cap);
    memset(blk->base + headroom, 'd', len);
    chain_give_room(data, blk, headroom, (uint32_t)len, headroom, tailroom);
}

// Where the framing goes, by what room there is.
static void test_room(void **state) {
    (void)state;
    static const struct {
        uint16_t headroom, tailroom;
        uint32_t n_segs;
    } cases[] = {
        {0, 0, 3},  {7, 18, 3},  {8, 18, 2},  {7, 19, 2},
        {8, 19, 1}, {14, 17, 2}, {14, 19, 1}, {14, 42, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct blk_pool pool;
        struct chain data, out;
        blk_pool_init(&pool, 1);
        chain_init(&data, &pool);
        chain_init(&out, &pool);
        give(&data, 7, cases[i].headroom, cases[i].tailroom);
        struct h1_body_out body = {.kind = H1_BODY_CHUNKED};
        assert_true(h1_body_write(&body, &data, &out));
        assert_true(chain_empty(&data));
        assert_slice_equal(flat(&out), "7\r\nddddddd\r\n");
        assert_int_equal(out.len, 12);
        assert_int_equal(out.n_segs, cases[i].n_segs);
        for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
            assert_true(seg->headroom <= seg->off);
            assert_true(seg->off + seg->len + seg->tailroom <= seg->blk->cap);
            // A TLS record header still fits where the size went.
            assert_true(cases[i].headroom < 8 || seg->headroom >= 5);
        }
        chain_clear(&out);
        blk_pool_fini(&pool);
    }
}

static void test_writing(void **state) {
    (void)state;
    static const struct http_field trailers[] = {
        {SLICE_LIT("a"), SLICE_LIT("b"), false},
        {SLICE_LIT("content-length"), SLICE_LIT("5"), false}, // barred
        {SLICE_LIT("c"), SLICE_LIT("d\r\ne: f"), false}, // two lines
        {SLICE_LIT("g h"), SLICE_LIT("i"), false}, // no name
    };
    static const struct {
        struct h1_body_out body;
        size_t n_data, n_trailers; // pieces of 20 bytes
        bool fits, end_fits;
        const char *bytes;
    } cases[] = {
        {{H1_BODY_CHUNKED, 0}, 1, 0, true, true, "14\r\ndddddddddddddddddddd\r\n0\r\n\r\n"},
        {{H1_BODY_CHUNKED, 0}, 0, 0, true, true, "0\r\n\r\n"},
        {{H1_BODY_CHUNKED, 0}, 0, 4, true, true, "0\r\na: b\r\n\r\n"},
        {{H1_BODY_LENGTH, 20}, 1, 4, true, true, "dddddddddddddddddddd"},
        {{H1_BODY_LENGTH, 21}, 1, 0, true, false, "dddddddddddddddddddd"},
        {{H1_BODY_LENGTH, 19}, 1, 0, false, true, "ddddddddddddddddddd"},
        {{H1_BODY_LENGTH, 30}, 2, 0, false, true, "dddddddddddddddddddddddddddddd"},
        {{H1_BODY_UNTIL_CLOSE, 0}, 1, 4, true, true, "dddddddddddddddddddd"},
        {{H1_BODY_NONE, 0}, 1, 4, true, true, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct blk_pool pool;
        struct chain data, out;
        blk_pool_init(&pool, 1);
        chain_init(&data, &pool);
        chain_init(&out, &pool);
        struct h1_body_out body = cases[i].body;
        bool fits = true;
        for (size_t j = 0; j < cases[i].n_data; j++) {
            give(&data, 20, 0, 0);
            fits = h1_body_write(&body, &data, &out);
            assert_true(chain_empty(&data));
        }
        assert_int_equal(fits, cases[i].fits);
        assert_int_equal(h1_body_write_end(&body, trailers, cases[i].n_trailers, &out),
                         cases[i].end_fits);
        assert_slice_equal(flat(&out), cases[i].bytes);
        chain_clear(&out);
        blk_pool_fini(&pool);
    }
}

// Any sizes, written and read again.
static void test_round_trip(void **state) {
    (void)state;
    for (size_t size = 1; size < 40000; size = size * 3 + 1) {
        struct blk_pool pool;
        struct chain data, out;
        struct buf payload;
        struct h1_body body;
        size_t used;
        blk_pool_init(&pool, 1);
        chain_init(&data, &pool);
        chain_init(&out, &pool);
        buf_init(&payload, 1 << 20);
        struct h1_body_out writer = {.kind = H1_BODY_CHUNKED};
        for (int i = 0; i < 3; i++) {
            give(&data, size, 14, 20);
            give(&data, size / 2, 0, 0);
            assert_true(h1_body_write(&writer, &data, &out)); // two segments, one chunk
        }
        assert_true(h1_body_write_end(&writer, NULL, 0, &out));
        h1_body_init(&body, H1_BODY_CHUNKED, 0, &limits);
        assert_int_equal(read_all(&body, flat(&out), 777, &payload, &used), H1_STEP_END);
        assert_int_equal(used, out.len);
        assert_int_equal(payload.len, 3 * (size + size / 2));
        for (size_t i = 0; i < payload.len; i++) {
            assert_int_equal(payload.ptr[i], 'd');
        }
        buf_fini(&payload);
        h1_body_fini(&body);
        chain_clear(&out);
        blk_pool_fini(&pool);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),      cmocka_unit_test(test_line_cap),
        cmocka_unit_test(test_size_cap),     cmocka_unit_test(test_overhead_cap),
        cmocka_unit_test(test_trailer_caps), cmocka_unit_test(test_room),
        cmocka_unit_test(test_writing),      cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
