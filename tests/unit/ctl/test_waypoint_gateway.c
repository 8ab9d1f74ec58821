// SPDX-License-Identifier: Apache-2.0
#include "ctl/waypoint_gateway.h"

#include <stdlib.h>

#include "ctl/check.h"
#include "tests/unit/ctl/ctl_run.h"

static json_t *load(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static void test_service(void **state) {
    (void)state;
    static const struct {
        const char *addresses, *name, *ns; // name NULL: none
    } cases[] = {
        {"[{\"type\": \"Hostname\", \"value\": \"a.b.svc.cluster.local\"}]", "a", "b"},
        {"[{\"type\": \"Hostname\", \"value\": \"a.b.svc\"}]", "a", "b"},
        {"[{\"type\": \"Hostname\", \"value\": \"a.b\"}]", "a", "b"},
        {"[{\"type\": \"Hostname\", \"value\": \"a\"}]", "a", "home"},
        {"[{\"value\": \"10.0.0.1\"}, {\"type\": \"Hostname\", \"value\": \"a\"}]", "a", "home"},
        {"[{\"type\": \"Hostname\", \"value\": \"www.example.com\"}]", NULL, NULL},
        {"[{\"type\": \"Hostname\", \"value\": \"\"}]", NULL, NULL},
        {"[{\"type\": \"Hostname\", \"value\": \".a\"}]", NULL, NULL},
        {"[{\"type\": \"IPAddress\", \"value\": \"10.0.0.1\"}]", NULL, NULL},
        {"[{\"type\": \"Hostname\"}]", NULL, NULL},
        {"[7]", NULL, NULL},
        {"null", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = xasprintf("{\"metadata\": {\"namespace\": \"home\"}, \"spec\": "
                               "{\"addresses\": %s}}",
                               cases[i].addresses);
        json_t *gateway = load(text);
        char name[64], ns[64];
        bool has_one = waypoint_service(gateway, name, ns);
        assert_int_equal(has_one, cases[i].name != NULL);
        if (has_one) {
            assert_string_equal(name, cases[i].name);
            assert_string_equal(ns, cases[i].ns);
        }
        json_decref(gateway);
        free(text);
    }
}

static void test_condition(void **state) {
    (void)state;
    static const struct {
        const char *conditions, *type; // type NULL: none
        bool is_programmed;
    } cases[] = {
        {"[{\"type\": \"Accepted\", \"status\": \"True\"}, "
         "{\"type\": \"Programmed\", \"status\": \"True\"}]",
         "Programmed", true},
        {"[{\"type\": \"Accepted\", \"status\": \"False\"}, "
         "{\"type\": \"Programmed\", \"status\": \"False\"}]",
         "Programmed", false},
        {"[{\"type\": \"Programmed\", \"status\": \"Unknown\"}]", "Programmed", false},
        {"[{\"type\": \"Accepted\", \"status\": \"True\"}, "
         "{\"type\": \"ResolvedRefs\", \"status\": \"False\"}]",
         "ResolvedRefs", false},
        {"[{\"type\": \"Accepted\", \"status\": \"True\"}]", "Accepted", false},
        {"[]", NULL, false},
        {"{}", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = xasprintf("{\"status\": {\"conditions\": %s}}", cases[i].conditions);
        json_t *gateway = load(text);
        const json_t *condition = waypoint_condition(gateway);
        assert_int_equal(condition != NULL, cases[i].type != NULL);
        if (condition != NULL) {
            assert_string_equal(json_string_value(json_object_get(condition, "type")),
                                cases[i].type);
        }
        assert_int_equal(waypoint_is_programmed(gateway), cases[i].is_programmed);
        json_decref(gateway);
        free(text);
    }
}

static void test_kernels(void **state) {
    (void)state;
    static const struct {
        const char *release;
        enum check_severity severity;
    } cases[] = {
        {"6.1.0-18-amd64", CHECK_FINE}, {"6.1", CHECK_FINE},     {"7.0.1", CHECK_FINE},
        {"6.18.44-x", CHECK_FINE},      {"6.0.19", CHECK_ERROR}, {"5.15.0-1041-aws", CHECK_ERROR},
        {"4.18", CHECK_ERROR},          {"", CHECK_WARNING},     {"linux", CHECK_WARNING},
        {"6", CHECK_WARNING},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct check c = {0};
        check_kernel(&c, "n", cases[i].release);
        assert_int_equal(c.n, 1);
        assert_int_equal(c.items[0].severity, cases[i].severity);
        assert_int_equal(c.n_by_severity[cases[i].severity], 1);
        check_fini(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_service),
        cmocka_unit_test(test_condition),
        cmocka_unit_test(test_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
