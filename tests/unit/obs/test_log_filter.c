// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_filter.h"

#include <stdio.h>

#include "tests/unit/base/unit.h"

static void test_levels(void **state) {
    static const struct {
        const char *text, *scope;
        enum log_level level;
    } rows[] = {
        {"", "xds", LOG_LEVEL_OFF},
        {"info", "xds", LOG_LEVEL_INFO},
        {"OFF", "xds", LOG_LEVEL_OFF},
        {"Warning", "xds", LOG_LEVEL_WARN},
        {"warn,access=info,mesh::dns=debug", "xds", LOG_LEVEL_WARN},
        {"warn,access=info,mesh::dns=debug", "access", LOG_LEVEL_INFO},
        {"warn,access=info,mesh::dns=debug", "mesh", LOG_LEVEL_WARN},
        {"warn,access=info,mesh::dns=debug", "mesh::dns", LOG_LEVEL_DEBUG},
        {"warn,access=info,mesh::dns=debug", "mesh::dns::cache", LOG_LEVEL_DEBUG},
        {"warn,access=info,mesh::dns=debug", "mesh::dnsx", LOG_LEVEL_WARN},
        {"mesh::dns=debug,mesh=error,trace", "mesh::dns", LOG_LEVEL_DEBUG}, // longest, not last
        {"mesh::dns=debug,mesh=error,trace", "mesh::rbac", LOG_LEVEL_ERROR},
        {"mesh::dns=debug,mesh=error,trace", "net", LOG_LEVEL_TRACE},
        {"info,info,debug", "net", LOG_LEVEL_DEBUG}, // the last for the same name
        {" info , net = trace ", "net", LOG_LEVEL_TRACE},
        {"info,,", "net", LOG_LEVEL_INFO},
        {"error,net", "net", LOG_LEVEL_TRACE}, // a name alone: all of it
        {"ztunnel::xds=debug", "xds", LOG_LEVEL_DEBUG},
        {"=debug", "xds", LOG_LEVEL_DEBUG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct log_filter filter;
        struct buf error;
        buf_init(&error, 200);
        log_filter_init(&filter);
        assert_true(log_filter_parse(&filter, slice_str(rows[i].text), &error));
        assert_int_equal(log_filter_level(&filter, rows[i].scope), rows[i].level);
        assert_int_equal(error.len, 0);
        buf_fini(&error);
    }
}

static void test_refused(void **state) {
    static const char *const rows[] = {
        "net=loud",       "net=",        "info,net=3",  "a b=info",
        "net=info=debug", "n\x01t=info", "[span]=info",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct log_filter filter;
        struct buf error;
        buf_init(&error, 200);
        log_filter_init(&filter);
        assert_true(log_filter_parse(&filter, SLICE_LIT("warn"), &error));
        assert_false(log_filter_parse(&filter, slice_str(rows[i]), &error));
        assert_true(error.len > 0);
        assert_int_equal(log_filter_level(&filter, "net"), LOG_LEVEL_WARN); // unchanged
        assert_int_equal(filter.n_rules, 1);
        buf_fini(&error);
    }
}

static void test_caps(void **state) {
    struct log_filter filter;
    struct buf error;
    buf_init(&error, 200);
    log_filter_init(&filter);
    for (int i = 0; i < LOG_FILTER_MAX_RULES + 2; i++) {
        char text[32];
        snprintf(text, sizeof(text), "scope%d=info", i);
        bool is_ok = log_filter_parse(&filter, slice_str(text), &error);
        assert_int_equal(is_ok, i < LOG_FILTER_MAX_RULES);
    }
    assert_true(log_filter_parse(&filter, SLICE_LIT("scope0=debug"), &error)); // no new rule
    for (size_t len = LOG_FILTER_MAX_NAME - 2; len < LOG_FILTER_MAX_NAME + 2; len++) {
        char text[200];
        memset(text, 'x', len);
        snprintf(text + len, sizeof(text) - len, "=info");
        log_filter_init(&filter);
        assert_int_equal(log_filter_parse(&filter, slice_str(text), &error),
                         len < LOG_FILTER_MAX_NAME);
    }
    buf_fini(&error);
}

static void test_print(void **state) {
    struct log_filter filter;
    struct buf text;
    buf_init(&text, 200);
    log_filter_init(&filter);
    assert_true(log_filter_parse(&filter, SLICE_LIT("warn,a::b=debug,c=off"), &text));
    log_filter_print(&filter, &text);
    assert_string_equal(buf_cstr(&text), "warn,a::b=debug,c=off");
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
