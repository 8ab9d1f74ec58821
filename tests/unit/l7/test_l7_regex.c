// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_regex.h"

#include <stdio.h>

#include "common/l7/l7_re2.h"
#include "tests/unit/base/unit.h"

static struct l7_regex *regex(const char *pattern) {
    char error[L7_REGEX_ERROR_MAX] = "";
    struct l7_regex *re = l7_regex_new(slice_str(pattern), error);
    if (re == NULL) {
        fail_msg("%s: %s", pattern, error);
    }
    return re;
}

static void test_full_match(void **state) {
    const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abc", "xabc", false},
        {"/v[0-9]+/.*", "/v12/", true},
        {"/v[0-9]+/.*", "/v/", false},
        {"a|ab", "ab", true}, // the whole text, not the first alternative
        {"(?i)get", "GET", true},
        {"", "", true},
        {"", "x", false},
        {".*", "", true},
        {".", "\xc3\xa9", true}, // one character of UTF-8
        {".*Safari.*", "Mozilla/5.0 Safari/537", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct l7_regex *re = regex(cases[i].pattern);
        assert_int_equal(l7_regex_matches(re, slice_str(cases[i].text)), cases[i].matches);
        const struct l7_regex *items[] = {re};
        struct l7_regex_set *set = l7_regex_set_new(items, 1);
        struct l7_regex_iter iter = {0};
        size_t index;
        assert_int_equal(l7_regex_set_next(set, slice_str(cases[i].text), &iter, &index),
                         cases[i].matches);
        l7_regex_set_free(set);
        l7_regex_free(re);
    }
}

static void test_bad(void **state) {
    static const char *const bad[] = {"(",
                                      "a{2,1}",
                                      "*",
                                      "(?=x)",
                                      "[",
                                      "\\1",
                                      "\xff",
                                      "((a{100}){100}){100}",
                                      "(\\pL{1000}){1000}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char error[L7_REGEX_ERROR_MAX] = "";
        assert_null(l7_regex_new(slice_str(bad[i]), error));
        assert_true(error[0] != '\0');
        assert_string_equal(l7_regex_problem(bad[i]), error);
        assert_null(l7_regex_new(slice_str(bad[i]), NULL));
    }
    assert_null(l7_regex_problem("a+"));
    // Nested repetition is linear, not exponential.
    struct l7_regex *re = regex("(a*)*b");
    char text[5000];
    memset(text, 'a', sizeof(text));
    assert_false(l7_regex_matches(re, slice_make(text, sizeof(text))));
    l7_regex_free(re);
}

static void test_replace(void **state) {
    const struct {
        const char *pattern, *text, *rewrite, *result; // result NULL: no match
    } cases[] = {
        {"/old", "/old/a/old", "/new", "/new/a/new"},
        {"^/old", "/old/a/old", "/new", "/new/a/old"},
        {"/service/([^/]+)(/.*)", "/service/foo/v1/api", "\\2/instance/\\1",
         "/v1/api/instance/foo"},
        {"one", "/xxx/one/yyy/one/zzz", "two", "/xxx/two/yyy/two/zzz"},
        {"(?i)/xxx/", "/aaa/XxX/bbb", "/yyy/", "/aaa/yyy/bbb"},
        {"b", "aaa", "x", NULL},
        {"/.*", "/a/b", "/full", "/full"},
        {"a*", "baac", "-", "-b-c-"}, // as sed does
        {"", "ab", "-", "-a-b-"},
        {"x*", "\xc3\xa9", "-", "-\xc3\xa9-"},
        {"(a)(b)?", "ac", "[\\0\\1\\2]", "[aa]c"},
        {"a", "a", "\\\\", "\\"},
        {"$", "a", "!", "a!"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct l7_regex *re = regex(cases[i].pattern);
        struct buf out;
        buf_init(&out, 1000);
        buf_append_str(&out, "<");
        assert_null(l7_regex_rewrite_problem(re, slice_str(cases[i].rewrite)));
        bool is_found =
            l7_regex_replace(re, slice_str(cases[i].text), slice_str(cases[i].rewrite), &out);
        assert_int_equal(is_found, cases[i].result != NULL);
        char expect[64];
        snprintf(expect, sizeof(expect), "<%s", is_found ? cases[i].result : "");
        assert_string_equal(buf_cstr(&out), expect);
        buf_fini(&out);
        l7_regex_free(re);
    }
}

static void test_replace_limits(void **state) {
    struct l7_regex *re = regex("(a)");
    assert_non_null(l7_regex_rewrite_problem(re, SLICE_LIT("\\2")));
    assert_non_null(l7_regex_rewrite_problem(re, SLICE_LIT("x\\")));
    assert_non_null(l7_regex_rewrite_problem(re, SLICE_LIT("\\n")));
    struct buf out;
    buf_init(&out, 8);
    assert_false(l7_regex_replace(re, SLICE_LIT("aaa"), SLICE_LIT("\\1\\1\\1"), &out));
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    l7_regex_free(re);
}

// Ascending indices over several parts; the same as one by one.
static void test_set(void **state) {
    enum { N = 3 * L7_REGEX_SET_PART + 7 };
    static struct l7_regex *items[N];
    for (size_t i = 0; i < N; i++) {
        char pattern[64];
        snprintf(pattern, sizeof(pattern), "/a/[0-9]*%zu(/.*)?", i);
        items[i] = regex(pattern);
    }
    struct l7_regex_set *set = l7_regex_set_new((const struct l7_regex *const *)items, N);
    static const char *const texts[] = {"/a/7", "/a/391", "/a/390/x", "/a/",
                                        "/b",   "/a/0",   "/a/128"};
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        struct slice text = slice_str(texts[t]);
        struct l7_regex_iter iter = {0};
        size_t index;
        for (size_t i = 0; i < N; i++) {
            if (l7_regex_matches(items[i], text)) {
                assert_true(l7_regex_set_next(set, text, &iter, &index));
                assert_int_equal(index, i);
            }
        }
        assert_false(l7_regex_set_next(set, text, &iter, &index));
        assert_false(l7_regex_set_next(set, text, &iter, &index));
    }
    l7_regex_set_free(set);
    for (size_t i = 0; i < N; i++) {
        l7_regex_free(items[i]);
    }
    set = l7_regex_set_new(NULL, 0);
    struct l7_regex_iter iter = {0};
    size_t index;
    assert_false(l7_regex_set_next(set, SLICE_LIT("x"), &iter, &index));
    l7_regex_set_free(set);
}

// Each expression is fine, all of them together are more than a part may take.
static void test_set_fallback(void **state) {
    enum { N = 60 };
    static struct l7_regex *items[N];
    static struct l7_re2 *res[N];
    for (size_t i = 0; i < N; i++) {
        char pattern[64];
        snprintf(pattern, sizeof(pattern), "(?:\\pL{1,20}x){4}%zu", i);
        items[i] = regex(pattern);
        res[i] = l7_re2_new(pattern, strlen(pattern), L7_REGEX_MEM_MAX, pattern, sizeof(pattern));
    }
    assert_null(l7_re2_set_new((const struct l7_re2 *const *)res, N, L7_REGEX_SET_MEM_MAX));
    struct l7_regex_set *set = l7_regex_set_new((const struct l7_regex *const *)items, N);
    char text[64];
    for (size_t i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "axbxcxdx%zu", i);
        struct l7_regex_iter iter = {0};
        size_t index;
        assert_true(l7_regex_set_next(set, slice_str(text), &iter, &index));
        assert_int_equal(index, i);
        assert_false(l7_regex_set_next(set, slice_str(text), &iter, &index));
    }
    l7_regex_set_free(set);
    for (size_t i = 0; i < N; i++) {
        l7_re2_free(res[i]);
        l7_regex_free(items[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_match), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_replace),    cmocka_unit_test(test_replace_limits),
        cmocka_unit_test(test_set),        cmocka_unit_test(test_set_fallback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
