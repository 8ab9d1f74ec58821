// SPDX-License-Identifier: Apache-2.0
#include "common/proto/spiffe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *uri;
    const char *trust_domain, *ns, *sa; // NULL: refused
} rows[] = {
    {"spiffe://cluster.local/ns/default/sa/sleep", "cluster.local", "default", "sleep"},
    {"spiffe://td/ns/a/sa/b", "td", "a", "b"},
    {"spiffe://a-b_c.9/ns/x-1/sa/s.a_B-2", "a-b_c.9", "x-1", "s.a_B-2"},
    {"spiffe://td/ns/.../sa/..a", "td", "...", "..a"},
    {"", NULL, NULL, NULL},
    {"spiffe://", NULL, NULL, NULL},
    {"spiffe:/td/ns/a/sa/b", NULL, NULL, NULL},
    {"SPIFFE://td/ns/a/sa/b", NULL, NULL, NULL},
    {"https://td/ns/a/sa/b", NULL, NULL, NULL},
    {"spiffe:///ns/a/sa/b", NULL, NULL, NULL},
    {"spiffe://td", NULL, NULL, NULL},
    {"spiffe://td/", NULL, NULL, NULL},
    {"spiffe://td/ns/a", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/", NULL, NULL, NULL},
    {"spiffe://td/ns//sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b/", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b/c", NULL, NULL, NULL},
    {"spiffe://td/sa/b/ns/a", NULL, NULL, NULL},
    {"spiffe://td/NS/a/sa/b", NULL, NULL, NULL},
    {"spiffe://TD/ns/a/sa/b", NULL, NULL, NULL}, // the standard: lower case
    {"spiffe://td:443/ns/a/sa/b", NULL, NULL, NULL},
    {"spiffe://user@td/ns/a/sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b?x", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b#x", NULL, NULL, NULL},
    {"spiffe://td/ns/a%20/sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/../sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/./sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/..", NULL, NULL, NULL},
    {"spiffe://td/ns/a/sa/b ", NULL, NULL, NULL},
    {" spiffe://td/ns/a/sa/b", NULL, NULL, NULL},
    {"spiffe://td/ns/a*/sa/b", NULL, NULL, NULL},
    {"spiffe://t\xc3\xa4/ns/a/sa/b", NULL, NULL, NULL},
};

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice uri = slice_str(rows[i].uri);
        const struct spiffe_id untouched = {.ns = SLICE_LIT("untouched")};
        struct spiffe_id id = untouched;
        bool ok = spiffe_parse(uri, &id);
        if (ok != (rows[i].ns != NULL)) {
            fail_msg("%s", rows[i].uri);
        }
        if (!ok) {
            assert_ptr_equal(id.ns.ptr, untouched.ns.ptr);
            continue;
        }
        assert_true(slice_eq_str(id.trust_domain, rows[i].trust_domain));
        assert_true(slice_eq_str(id.ns, rows[i].ns));
        assert_true(slice_eq_str(id.sa, rows[i].sa));
        char buf[SPIFFE_TEXT_MAX];
        struct slice text;
        assert_true(spiffe_format(&id, buf, &text));
        assert_true(slice_eq(text, uri));
        assert_int_equal(buf[text.len], 0);
    }
}

static void test_nul_inside(void **state) {
    (void)state;
    struct spiffe_id id;
    assert_false(spiffe_parse(SLICE_LIT("spiffe://td/ns/a/sa/b\0"), &id));
    assert_false(spiffe_parse(SLICE_LIT("spiffe://td/ns/a\0b/sa/b"), &id));
}

// Every part at its limit, and one byte beyond.
static void test_lengths(void **state) {
    (void)state;
    char text[SPIFFE_TRUST_DOMAIN_MAX + 2];
    memset(text, 'a', sizeof(text));
    const struct {
        size_t td, ns, sa;
        bool ok;
    } cases[] = {
        {SPIFFE_TRUST_DOMAIN_MAX, SPIFFE_NS_MAX, SPIFFE_SA_MAX, true},
        {SPIFFE_TRUST_DOMAIN_MAX + 1, SPIFFE_NS_MAX, SPIFFE_SA_MAX, false},
        {SPIFFE_TRUST_DOMAIN_MAX, SPIFFE_NS_MAX + 1, SPIFFE_SA_MAX, false},
        {SPIFFE_TRUST_DOMAIN_MAX, SPIFFE_NS_MAX, SPIFFE_SA_MAX + 1, false},
        {0, 1, 1, false},
        {1, 0, 1, false},
        {1, 1, 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct spiffe_id id = {slice_make(text, cases[i].td), slice_make(text, cases[i].ns),
                               slice_make(text, cases[i].sa)};
        char buf[SPIFFE_TEXT_MAX];
        struct slice uri;
        assert_true(spiffe_format(&id, buf, &uri) == cases[i].ok);
        if (cases[i].ok) {
            assert_int_equal(uri.len, SPIFFE_TEXT_MAX - 1);
            struct spiffe_id back;
            assert_true(spiffe_parse(uri, &back));
            assert_true(spiffe_eq(&id, &back));
        }
    }
}

static void test_eq(void **state) {
    (void)state;
    struct spiffe_id a, b;
    assert_true(spiffe_parse(SLICE_LIT("spiffe://td/ns/a/sa/b"), &a));
    assert_true(spiffe_parse(SLICE_LIT("spiffe://td/ns/a/sa/c"), &b));
    assert_true(spiffe_eq(&a, &a));
    assert_false(spiffe_eq(&a, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_nul_inside),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_eq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
