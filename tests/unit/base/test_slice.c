// SPDX-License-Identifier: Apache-2.0
#include "common/base/slice.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

static void test_equal(void **state) {
    struct slice none = {0};
    assert_true(slice_eq(none, SLICE_LIT("")));
    assert_true(slice_eq(SLICE_LIT("ab"), slice_str("ab")));
    assert_false(slice_eq(SLICE_LIT("ab"), SLICE_LIT("abc")));
    assert_false(slice_eq_str(SLICE_LIT("ab"), "aB"));
    assert_true(slice_eq_nocase(SLICE_LIT("aB-z["), SLICE_LIT("Ab-Z[")));
    assert_false(slice_eq_nocase(SLICE_LIT("["), SLICE_LIT("{"))); // ASCII letters only
    assert_false(slice_eq_nocase(SLICE_LIT("\xc0"), SLICE_LIT("\xe0")));
    assert_int_equal(slice_str(NULL).len, 0);
}

static void test_parts(void **state) {
    struct slice a = SLICE_LIT("abcdef");
    assert_true(slice_has_prefix(a, SLICE_LIT("abc")));
    assert_true(slice_has_prefix(a, SLICE_LIT("")));
    assert_false(slice_has_prefix(a, SLICE_LIT("abcdefg")));
    assert_true(slice_has_suffix(a, SLICE_LIT("def")));
    assert_false(slice_has_suffix(a, SLICE_LIT("de")));
    assert_slice_equal(slice_skip(a, 2), "cdef");
    assert_slice_equal(slice_skip(a, 7), "");
    assert_slice_equal(slice_head(a, 2), "ab");
    assert_slice_equal(slice_head(a, 9), "abcdef");
    assert_int_equal(slice_skip((struct slice){0}, 3).len, 0);
    assert_int_equal(slice_find(a, 'c'), 2);
    assert_int_equal(slice_find(a, 'x'), -1);
    assert_int_equal(slice_find((struct slice){0}, 'x'), -1);
}

static void test_trim(void **state) {
    static const char *const rows[][2] = {
        {"", ""}, {" ", ""}, {"\t \t", ""}, {"a", "a"}, {" a b\t", "a b"}, {"\na ", "\na"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_slice_equal(slice_trim(slice_str(rows[i][0])), rows[i][1]);
    }
}

static void test_split(void **state) {
    static const char *const rows[][3] = {
        {"a=b", "a", "b"}, {"=b", "", "b"}, {"a=", "a", ""}, {"a=b=c", "a", "b=c"}, {"=", "", ""},
    };
    struct slice head = SLICE_LIT("h"), tail = SLICE_LIT("t");
    assert_false(slice_split(SLICE_LIT("abc"), '=', &head, &tail));
    assert_slice_equal(head, "h");
    assert_slice_equal(tail, "t");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(slice_split(slice_str(rows[i][0]), '=', &head, &tail));
        assert_slice_equal(head, rows[i][1]);
        assert_slice_equal(tail, rows[i][2]);
    }
}

static void test_to_u64(void **state) {
    static const struct {
        const char *text;
        uint64_t max;
        bool is_ok;
        uint64_t value;
    } rows[] = {
        {"0", 0, true, 0},
        {"00", 9, true, 0},
        {"1", 0, false, 0},
        {"65535", 65535, true, 65535},
        {"65536", 65535, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"99999999999999999999", UINT64_MAX, false, 0},
        {"", 9, false, 0},
        {"-1", 9, false, 0},
        {"+1", 9, false, 0},
        {" 1", 9, false, 0},
        {"1 ", 9, false, 0},
        {"0x1", 9, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t value = 77;
        assert_int_equal(slice_to_u64(slice_str(rows[i].text), rows[i].max, &value), rows[i].is_ok);
        assert_true(value == (rows[i].is_ok ? rows[i].value : 77));
    }
}

static void test_dup(void **state) {
    char *copy = slice_dup(slice_make("a\0b", 3));
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = slice_dup((struct slice){0});
    assert_string_equal(copy, "");
    free(copy);
    copy = xstrndup("abc", 2);
    assert_string_equal(copy, "ab");
    free(copy);
    copy = xasprintf("%d-%s", 7, "x");
    assert_string_equal(copy, "7-x");
    wipe(copy, 3);
    assert_memory_equal(copy, "\0\0\0", 3);
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal), cmocka_unit_test(test_parts),  cmocka_unit_test(test_trim),
        cmocka_unit_test(test_split), cmocka_unit_test(test_to_u64), cmocka_unit_test(test_dup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
