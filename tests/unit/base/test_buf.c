// SPDX-License-Identifier: Apache-2.0
#include "common/base/buf.h"

#include <stdlib.h>

#include "tests/unit/base/unit.h"

static void test_text(void **state) {
    struct buf buf;
    buf_init(&buf, 1 << 20);
    assert_string_equal(buf_cstr(&buf), "");
    buf_append_str(&buf, "a");
    buf_append(&buf, (struct slice){0});
    buf_append_byte(&buf, '-');
    buf_append_u64(&buf, 0);
    buf_append_byte(&buf, ' ');
    buf_append_u64(&buf, UINT64_MAX);
    buf_append_byte(&buf, ' ');
    buf_append_i64(&buf, INT64_MIN);
    buf_append_byte(&buf, ' ');
    buf_append_i64(&buf, 42);
    buf_printf(&buf, " %s=%d", "k", 7);
    assert_string_equal(buf_cstr(&buf), "a-0 18446744073709551615 -9223372036854775808 42 k=7");
    buf_truncate(&buf, 3);
    assert_slice_equal(buf_slice(&buf), "a-0");
    buf_clear(&buf);
    buf_printf(&buf, "%s", "");
    assert_int_equal(buf.len, 0);
    struct buf empty; // nothing into nothing
    buf_init(&empty, 10);
    buf_append(&empty, slice_make(NULL, 0));
    assert_true(buf_ok(&empty) && empty.len == 0);
    buf_fini(&empty);
    buf_printf(&buf, "%01000d", 5);
    assert_int_equal(buf.len, 1000);
    assert_int_equal(buf.ptr[999], '5');
    assert_true(buf_ok(&buf));

    size_t len;
    char *text = buf_take(&buf, &len);
    assert_int_equal(len, 1000);
    assert_int_equal(strlen(text), 1000);
    free(text);
    assert_int_equal(buf.len, 0);
    buf_append_str(&buf, "again");
    assert_string_equal(buf_cstr(&buf), "again");
    buf_fini(&buf);
}

static void test_binary(void **state) {
    struct buf buf;
    buf_init(&buf, 18);
    buf_put_u8(&buf, 1);
    buf_put_u16(&buf, 0x0203);
    buf_put_u24(&buf, 0x040506);
    buf_put_u32(&buf, 0x0708090a);
    buf_put_u64(&buf, 0x0b0c0d0e0f101112);
    assert_int_equal(buf.len, 18);
    for (unsigned i = 0; i < 18; i++) {
        assert_int_equal(buf.ptr[i], i + 1);
    }
    assert_true(buf_ok(&buf));
    buf_fini(&buf);
}

// Every way to append, at every maximum around its size: whole or not at all, and sticky.
static void append_by(struct buf *buf, int way) {
    switch (way) {
    case 0:
        buf_append(buf, SLICE_LIT("12345678"));
        break;
    case 1:
        buf_printf(buf, "%d", 12345678);
        break;
    case 2:
        buf_put_u64(buf, 0x3132333435363738);
        break;
    case 3:
        buf_append_u64(buf, 12345678);
        break;
    default: {
        uint8_t *at = buf_reserve(buf, 8);
        if (at != NULL) {
            memcpy(at, "12345678", 8);
            buf_commit(buf, 8);
        }
    }
    }
}

static void test_caps(void **state) {
    for (int way = 0; way < 5; way++) {
        for (size_t max = 0; max <= 20; max++) {
            struct buf buf;
            buf_init(&buf, max);
            append_by(&buf, way);
            append_by(&buf, way);
            assert_int_equal(buf.len, max / 8 * 8 > 16 ? 16 : max / 8 * 8);
            assert_int_equal(buf_ok(&buf), max >= 16);
            size_t len = buf.len;
            buf_append_byte(&buf, 'x');
            assert_int_equal(buf.len, max > 16 ? len + 1 : len);
            assert_int_equal(strlen(buf_cstr(&buf)), buf.len);
            buf_clear(&buf);
            assert_true(buf_ok(&buf));
            buf_fini(&buf);
        }
    }
    // The long form of printf too.
    for (size_t max = 998; max <= 1002; max++) {
        struct buf buf;
        buf_init(&buf, max);
        buf_printf(&buf, "%01000d", 1);
        assert_int_equal(buf.len, max >= 1000 ? 1000 : 0);
        assert_int_equal(buf_ok(&buf), max >= 1000);
        buf_fini(&buf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
