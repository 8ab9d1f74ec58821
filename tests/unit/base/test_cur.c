// SPDX-License-Identifier: Apache-2.0
#include "common/base/cur.h"

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};

static void test_fields(void **state) {
    struct cur cur = cur_make(slice_make(bytes, sizeof(bytes)));
    assert_int_equal(cur_u8(&cur), 0x01);
    assert_int_equal(cur_u16(&cur), 0x0203);
    assert_int_equal(cur_u24(&cur), 0x040506);
    assert_int_equal(cur_u32(&cur), 0x0708090a);
    assert_true(cur_u64(&cur) == 0x0b0c0d0e0f101112);
    assert_true(cur_done(&cur));
    assert_int_equal(cur_rest(&cur).len, 0);
    assert_int_equal(cur_u8(&cur), 0);
    assert_false(cur_ok(&cur));
    assert_false(cur_done(&cur));
}

// Every read against every length of input.
static void test_sweep(void **state) {
    static const size_t widths[] = {1, 2, 3, 4, 8};
    for (size_t len = 0; len <= 10; len++) {
        for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
            struct cur cur = cur_make(slice_make(bytes, len));
            uint64_t value = cur_be(&cur, widths[i]);
            assert_int_equal(cur_ok(&cur), widths[i] <= len);
            assert_int_equal(cur.len, cur_ok(&cur) ? len - widths[i] : 0);
            assert_true(cur_ok(&cur) || value == 0);
        }
        for (size_t n = 0; n <= 11; n++) {
            struct cur cur = cur_make(slice_make(bytes, len));
            struct slice part = cur_bytes(&cur, n);
            assert_int_equal(part.len, n <= len ? n : 0);
            assert_int_equal(cur_ok(&cur), n <= len);
        }
    }
}

static void test_sub(void **state) {
    struct cur cur = cur_make(slice_make(bytes, 6));
    struct cur sub = cur_sub(&cur, 4);
    assert_int_equal(cur_u32(&sub), 0x01020304);
    assert_true(cur_done(&sub));
    assert_int_equal(cur_u8(&sub), 0); // not beyond the part
    assert_true(cur_ok(&cur));
    cur_skip(&cur, 1);
    sub = cur_sub(&cur, 2);
    assert_false(cur_ok(&sub));
    assert_false(cur_ok(&cur));
    struct cur empty = cur_make((struct slice){0});
    assert_int_equal(cur_bytes(&empty, 0).len, 0);
    assert_true(cur_done(&empty));
}

// A failure is for good, also for reads that would fit.
static void test_sticky(void **state) {
    struct cur cur = cur_make(slice_make(bytes, 3));
    cur_u32(&cur);
    assert_int_equal(cur_u8(&cur), 0);
    assert_int_equal(cur_bytes(&cur, 0).len, 0);
    assert_false(cur_ok(&cur));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_sub),
        cmocka_unit_test(test_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
