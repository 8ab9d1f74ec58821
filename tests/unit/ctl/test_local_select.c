// SPDX-License-Identifier: Apache-2.0
//
// Label selectors of -l.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ctl/local_select.h"

static void test_matches(void **state) {
    static const struct {
        const char *selector;
        bool is_match;
    } rows[] = {
        {"", true},
        {"app=web", true},
        {"app==web", true},
        {"app=we", false},
        {"app!=web", false},
        {"app!=api", true},
        {"none!=x", true}, // a label that is not there is not equal
        {"none=", false},
        {"empty=", true},
        {"app", true},
        {"!app", false},
        {"!none", true},
        {"app=web,version=v1", true},
        {"app=web,version=v2", false},
        {" app = web , version ", true},
        {"version in (v1)", true},
        {"version in (v2, v1)", true},
        {"version in (v2,v3)", false},
        {"version in(v1)", true},
        {"none in (v1)", false},
        {"version notin (v2,v3)", true},
        {"version notin (v1)", false},
        {"none notin (v1)", true},
        {"app in (web,api),version notin (v2,v3),!none", true},
        {"app in (web,api),version notin (v2,v1),!none", false},
        {"example.com/tier=front", true},
        {"example.com/tier in (front)", true},
        {"empty in ()", true},
    };
    json_t *labels = json_pack("{s:s, s:s, s:s, s:s}", "app", "web", "version", "v1",
                               "example.com/tier", "front", "empty", "");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (lab_selector_matches(rows[i].selector, labels) != rows[i].is_match) {
            fail_msg("%s", rows[i].selector);
        }
    }
    assert_true(lab_selector_matches(NULL, labels));
    assert_false(lab_selector_matches("app=web", NULL));
    assert_true(lab_selector_matches("!app", NULL));
    json_decref(labels);
}

static void test_errors(void **state) {
    static const char *const rows[] = {
        "app in web", "app in (web",  "app on (web)", "=web", "a b=c",    "app=web,,x=y",
        "!",          "app in ((a))", "app=a=b",      "a$=b", "app notin"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *error = NULL;
        if (lab_selector_check(rows[i], &error)) {
            fail_msg("%s", rows[i]);
        }
        assert_non_null(error);
        free(error);
    }
    char *error = NULL;
    assert_false(lab_selector_check("a=b,c in d", &error));
    assert_string_equal(error, "unable to parse requirement: \"c in d\"");
    free(error);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matches),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
