// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_format.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "tests/unit/base/unit.h"

static const uint64_t when_ns = UINT64_C(1724254325754291999); // 2024-08-21T15:32:05.754291Z

static void assert_line(const struct log_field *fields, size_t n_fields, const char *text,
                        const char *json) {
    struct log_line line = {
        .wall_ns = when_ns,
        .level = LOG_LEVEL_INFO,
        .scope = "s::t",
        .message = "hello",
        .fields = fields,
        .n_fields = n_fields,
    };
    struct buf buf;
    buf_init(&buf, LOG_LINE_MAX);
    char expected[1000];
    log_format_line(&buf, LOG_FORMAT_TEXT, &line);
    snprintf(expected, sizeof(expected), "2024-08-21T15:32:05.754291Z\tinfo\ts::t\thello%s\n",
             text);
    assert_string_equal(buf_cstr(&buf), expected);
    log_format_line(&buf, LOG_FORMAT_JSON, &line);
    snprintf(expected, sizeof(expected),
             "{\"level\":\"info\",\"time\":\"2024-08-21T15:32:05.754291Z\",\"scope\":\"s::t\","
             "\"message\":\"hello\"%s}\n",
             json);
    assert_string_equal(buf_cstr(&buf), expected);
    buf_fini(&buf);
}

static void test_time(void **state) {
    static const struct {
        uint64_t ns;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {999, "1970-01-01T00:00:00.000000Z"},
        {UINT64_C(951782400000001000), "2000-02-29T00:00:00.000001Z"},
        {UINT64_C(951782400999999999), "2000-02-29T00:00:00.999999Z"},
        {UINT64_C(4102444799999999999), "2099-12-31T23:59:59.999999Z"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[LOG_TIME_MAX];
        log_format_time(rows[i].ns, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_fields(void **state) {
    struct addr v4, v6, none = {0};
    assert_true(addr_parse(SLICE_LIT("10.0.0.1:80"), &v4));
    assert_true(addr_parse(SLICE_LIT("[fd00::1]:80"), &v6));
    const struct {
        struct log_field field;
        const char *text, *json;
    } rows[] = {
        {LOG_STR("k", "v"), "\tk=\"v\"", ",\"k\":\"v\""},
        {LOG_STR("k", ""), "\tk=\"\"", ",\"k\":\"\""},
        {LOG_STR("k", NULL), "", ""},
        {LOG_SLICE("k", SLICE_LIT("a b")), "\tk=\"a b\"", ",\"k\":\"a b\""},
        {LOG_PLAIN("k", SLICE_LIT("10.0.0.1:9080")), "\tk=10.0.0.1:9080",
         ",\"k\":\"10.0.0.1:9080\""},
        {LOG_U64("k", UINT64_MAX), "\tk=18446744073709551615", ",\"k\":18446744073709551615"},
        {LOG_I64("k", -5), "\tk=-5", ",\"k\":-5"},
        {LOG_BOOL("k", true), "\tk=true", ",\"k\":true"},
        {LOG_MS("k", 12), "\tk=\"12ms\"", ",\"k\":\"12ms\""},
        {LOG_ADDR("k", &v4), "\tk=10.0.0.1:80", ",\"k\":\"10.0.0.1:80\""},
        {LOG_ADDR("k", &v6), "\tk=[fd00::1]:80", ",\"k\":\"[fd00::1]:80\""},
        {LOG_ADDR("k", &none), "", ""},
        {LOG_ADDR("k", NULL), "", ""},
        {LOG_IP("k", &v6.ip), "\tk=fd00::1", ",\"k\":\"fd00::1\""},
        {LOG_IP("k", &none.ip), "", ""},
        {LOG_ERRNO("k", -2), "\tk=\"No such file or directory\"",
         ",\"k\":\"No such file or directory\""},
        {LOG_ERRNO("k", 99999), "\tk=\"unknown error\"", ",\"k\":\"unknown error\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_line(&rows[i].field, 1, rows[i].text, rows[i].json);
    }
    assert_line(NULL, 0, "", "");
    struct log_field several[] = {LOG_STR("a", NULL), LOG_U64("b", 1), LOG_STR("c", NULL),
                                  LOG_STR("d", "x")};
    assert_line(several, 4, "\tb=1 d=\"x\"", ",\"b\":1,\"d\":\"x\"");
}

// Texts from peers must not fake lines, fields, or break JSON.
static void test_injection(void **state) {
    static const char *const rows[][2] = {
        {"a\nb", "\"a\\nb\""},
        {"a\tb", "\"a\\tb\""},
        {"x\" error=\"", "\"x\\\" error=\\\"\""},
        {"a b=c", "\"a b=c\""},
        {"a=b", "\"a=b\""},
        {"\x1b[31m", "\"\\u001b[31m\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\\", "\"a\\\\\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[100], json[100];
        snprintf(text, sizeof(text), "\tk=%s", rows[i][1]);
        snprintf(json, sizeof(json), ",\"k\":%s", rows[i][1]);
        struct log_field quoted = LOG_STR("k", rows[i][0]);
        assert_line(&quoted, 1, text, json);
        struct log_field plain = LOG_PLAIN("k", slice_str(rows[i][0]));
        assert_line(&plain, 1, text, json);
    }
}

static void test_caps(void **state) {
    static char big[20000];
    memset(big, 'x', sizeof(big));
    for (size_t len = 0; len<sizeof(big); len += len> 7800 && len < 8300 ? 1 : 97) {
        struct log_field fields[] = {LOG_U64("a", 1), LOG_SLICE("big", slice_make(big, len)),
                                     LOG_U64("z", 2)};
        struct log_line line = {
            .level = LOG_LEVEL_WARN, .scope = "s", .message = "m", .fields = fields, .n_fields = 3};
        for (int json = 0; json < 2; json++) {
            struct buf buf;
            buf_init(&buf, LOG_LINE_MAX + 1024);
            log_format_line(&buf, json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT, &line);
            assert_true(buf.len <= LOG_LINE_MAX);
            assert_int_equal(buf.ptr[buf.len - 1], '\n');
            const char *text = buf_cstr(&buf);
            bool is_cut = strstr(text, "truncated") != NULL;
            bool has_big = len < 2 || strstr(text, "xx") != NULL;
            bool has_z = strstr(text, json ? "\"z\":2" : "z=2") != NULL;
            assert_true(is_cut == !(has_big && has_z));
            assert_true(has_big || has_z); // what is too long does not take others with it
            assert_true(has_big || len > LOG_LINE_MAX - 200);
            buf_fini(&buf);
        }
    }
    // A message of control bytes, and one that is far too long.
    memset(big, 1, sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    struct log_line line = {.level = LOG_LEVEL_WARN, .scope = "s", .message = big};
    struct buf buf;
    buf_init(&buf, LOG_LINE_MAX);
    log_format_line(&buf, LOG_FORMAT_JSON, &line);
    log_format_line(&buf, LOG_FORMAT_TEXT, &line);
    assert_null(memchr(buf.ptr, 1, buf.len));
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_injection),
        cmocka_unit_test(test_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
