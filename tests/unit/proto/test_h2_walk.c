// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_walk.h"

#include <string.h>

#include "tests/unit/base/unit.h"

struct frames {
    uint8_t bytes[4096];
    size_t len;
};

static void put(struct frames *out, int type, uint8_t flags, uint32_t id, uint32_t len) {
    h2_frame_hd_put(out->bytes + out->len, (enum h2_frame_type)type, flags, id, len);
    memset(out->bytes + out->len + H2_FRAME_HD_LEN, 0x5a, len);
    out->len += H2_FRAME_HD_LEN + len;
}

// Where GOAWAY may be, as offsets, when the bytes come in pieces of `step`.
static size_t places(const struct frames *in, size_t step, size_t *ret_places,
                     struct h2_walk *walk) {
    size_t n = 0;
    h2_walk_init(walk);
    for (size_t at = 0; at < in->len; at += step) {
        size_t end = MIN(at + step, in->len);
        for (size_t pos = at; pos < end;) {
            size_t took = h2_walk_feed(walk, slice_make(in->bytes + pos, end - pos), true);
            pos += took;
            if (pos < end) { // it stopped: a place; the next byte leads away from it
                ret_places[n++] = pos;
                assert_true(h2_walk_can_insert(walk));
                assert_int_equal(h2_walk_feed(walk, slice_make(in->bytes + pos, 1), false), 1);
                pos++;
            }
        }
    }
    if (h2_walk_can_insert(walk)) {
        ret_places[n++] = in->len;
    }
    return n;
}

static void expect(const struct frames *in, const size_t *want, size_t n_want, bool is_lost) {
    for (size_t step = 1; step <= in->len; step++) {
        struct h2_walk walk;
        size_t got[64], n = places(in, step, got, &walk);
        assert_int_equal(walk.is_lost, is_lost);
        assert_int_equal(n, n_want);
        assert_memory_equal(got, want, n_want * sizeof(*want));
    }
}

// Between all frames, but not within a header block, and not before the server's SETTINGS.
static void test_places(void **state) {
    (void)state;
    struct frames in = {0};
    size_t want[8], n = 0;
    put(&in, H2_FRAME_SETTINGS, 0, 0, 12);
    want[n++] = in.len;
    put(&in, H2_FRAME_HEADERS, H2_FLAG_END_HEADERS, 1, 3);
    want[n++] = in.len;
    put(&in, H2_FRAME_DATA, H2_FLAG_END_STREAM, 1, 0);
    want[n++] = in.len;
    put(&in, H2_FRAME_HEADERS, 0, 3, 5);
    put(&in, H2_FRAME_CONTINUATION, 0, 3, 5);
    put(&in, H2_FRAME_CONTINUATION, H2_FLAG_END_HEADERS, 3, 1);
    want[n++] = in.len;
    put(&in, 0x2a, 0xff, 0x7fffffff, 2); // unknown types are skipped
    want[n++] = in.len;
    expect(&in, want, n, false);
}

// The server said it itself: its last stream id must not grow.
static void test_goaway_of_the_server(void **state) {
    (void)state;
    struct frames in = {0};
    put(&in, H2_FRAME_SETTINGS, 0, 0, 0);
    size_t want[1] = {in.len};
    put(&in, H2_FRAME_GOAWAY, 0, 0, 8);
    put(&in, H2_FRAME_DATA, 0, 1, 8);
    expect(&in, want, 1, false);
}

static void test_what_is_no_http2(void **state) {
    (void)state;
    struct frames in = {.bytes = "HTTP/1.1 400 Bad Request\r\n\r\n", .len = 28};
    expect(&in, NULL, 0, true);
    in = (struct frames){0};
    put(&in, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, 0); // the first one is no acknowledgement
    expect(&in, NULL, 0, true);
    struct frames broken[2];
    memset(broken, 0, sizeof(broken));
    for (int i = 0; i < 2; i++) {
        put(&broken[i], H2_FRAME_SETTINGS, 0, 0, 0);
        size_t want[1] = {broken[i].len};
        if (i == 0) { // within a block
            put(&broken[i], H2_FRAME_HEADERS, 0, 1, 1);
            put(&broken[i], H2_FRAME_DATA, 0, 1, 1);
        } else { // without one
            put(&broken[i], H2_FRAME_CONTINUATION, H2_FLAG_END_HEADERS, 1, 1);
        }
        put(&broken[i], H2_FRAME_PING, 0, 0, 8);
        expect(&broken[i], want, 1, true);
    }
}

static void test_frame(void **state) {
    (void)state;
    static const uint8_t want[] = {0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    uint8_t frame[H2_WALK_GOAWAY_LEN];
    h2_walk_goaway(frame);
    assert_int_equal(sizeof(frame), sizeof(want));
    assert_memory_equal(frame, want, sizeof(want));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_goaway_of_the_server),
        cmocka_unit_test(test_what_is_no_http2),
        cmocka_unit_test(test_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
