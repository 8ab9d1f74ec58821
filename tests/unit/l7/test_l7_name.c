// SPDX-License-Identifier: Apache-2.0
//
// Which name a request means under a wildcard: what comes from a client goes to a resolver.
#include "common/l7/l7_name.h"

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

#define LABEL63 "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc"

static void test_names(void **state) {
    static const struct {
        const char *wildcard, *authority;
        const char *name; // NULL: none under it
    } cases[] = {
        {"*.example.com", "a.example.com", "a.example.com"},
        {"*.example.com", "a.b.example.com", "a.b.example.com"},
        {"*.example.com", "A.Example.COM:8080", "a.example.com"},
        {"*.example.com", "a-1_x.example.com:1", "a-1_x.example.com"},
        {"*.example.com", "example.com", NULL},
        {"*.example.com", ".example.com", NULL},
        {"*.example.com", "a.example.com.evil.net", NULL},
        {"*.example.com", "aexample.com", NULL},
        {"*.example.com", "a.example.com.", NULL},
        {"*.example.com", "a..example.com", NULL},
        {"*.example.com", "a.example.com:", NULL},
        {"*.example.com", "a.example.com:x", NULL},
        {"*.example.com", "a.example.com:65536", NULL},
        {"*.example.com", "a.example.com:80:80", NULL},
        {"*.example.com", "a b.example.com", NULL},
        {"*.example.com", "a/.example.com", NULL},
        {"*.example.com", "a%00.example.com", NULL},
        {"*.example.com", "[::1]", NULL},
        {"*.example.com", "", NULL},
        {"*.example.com", LABEL63 ".example.com", LABEL63 ".example.com"},
        {"*.example.com", LABEL63 "d.example.com", NULL},
        {"*", "anything.example", "anything.example"},
        {"*", ":80", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char name[L7_NAME_MAX];
        bool is_one = l7_name_under(cases[i].wildcard, slice_str(cases[i].authority), name);
        if (is_one != (cases[i].name != NULL) || (is_one && strcmp(name, cases[i].name) != 0)) {
            fail_msg("%s under %s: %s", cases[i].authority, cases[i].wildcard,
                     is_one ? name : "none");
        }
    }
}

// 253 characters are a name (RFC 1035 2.3.4), one more is none.
static void test_length(void **state) {
    char authority[300], name[L7_NAME_MAX];
    for (size_t len = 250; len <= 256; len++) {
        for (size_t i = 0; i < len; i++) {
            authority[i] = i % 50 == 49 ? '.' : 'a';
        }
        memcpy(authority + len - 4, ".com", 4);
        authority[len - 5] = 'a';
        assert_int_equal(l7_name_under("*.com", slice_make(authority, len), name), len <= 253);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_length)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
