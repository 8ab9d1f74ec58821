// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_metrics_grpc.h"

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

struct row {
    const char *bytes;
    size_t len;
    uint64_t n_messages;
    bool is_broken;
};
#define ROW(text, n, broken)                                                                       \
    { text, sizeof(text) - 1, n, broken }
static const struct row rows[] = {
    ROW("", 0, false),
    ROW("\0\0\0\0\0", 1, false),
    ROW("\0\0\0\0\0\0\0\0\0\0", 2, false),
    ROW("\0\0\0\0\3abc", 1, false),
    ROW("\1\0\0\0\3abc\0\0\0\0\1d\0\0\0\0\0", 3, false),
    ROW("\0\0\0\0\3ab", 1, false), // cut: it has begun
    ROW("\0\0\0\0\3abc\0", 2, false),
    ROW("\0\0\0", 1, false),
    ROW("\0\0\0\1\0"
        "0123456789012345678901234567890123456789012345678901234567890123"
        "0123456789012345678901234567890123456789012345678901234567890123"
        "0123456789012345678901234567890123456789012345678901234567890123"
        "0123456789012345678901234567890123456789012345678901234567890123"
        "\0\0\0\0\1x",
        2, false),
    ROW("\0\xff\xff\xff\xff no end in sight", 1, false),
    ROW("\2\0\0\0\0", 0, true),
    ROW("\x80\0\0\0\0", 0, true), // trailers of gRPC-Web are no message of gRPC
    ROW("\0\0\0\0\1x<html>\0\0\0\0\0", 1, true),
};

static void check(const struct row *row, size_t step) {
    struct http_metrics_grpc grpc = {0};
    for (size_t at = 0; at < row->len; at += step) {
        http_metrics_grpc_take(&grpc, slice_make(row->bytes + at, MIN(step, row->len - at)));
    }
    assert_int_equal(grpc.n_messages, row->n_messages);
    assert_int_equal(grpc.is_broken, row->is_broken);
}

// However the payload is cut.
static void test_messages(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step <= rows[i].len + 1; step++) {
            check(&rows[i], step);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
