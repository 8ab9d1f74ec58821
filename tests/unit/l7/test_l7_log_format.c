// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_log_format.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/base/unit.h"

// Values by name of the variable, "" = none.
struct value {
    const char *name, *text;
};
static const struct value values[] = {
    {"START_TIME", "2024-08-21T15:32:05.754Z"},
    {"PROTOCOL", "HTTP/1.1"},
    {"RESPONSE_CODE", "200"},
    {"RESPONSE_FLAGS", "-"},
    {"RESPONSE_CODE_DETAILS", "via_upstream"},
    {"BYTES_RECEIVED", "0"},
    {"BYTES_SENT", "135"},
    {"DURATION", "5"},
    {"UPSTREAM_HOST", "10.0.0.5:8080"},
    {"UPSTREAM_CLUSTER", "inbound-vip|80|http|reviews.default.svc.cluster.local"},
    {"UPSTREAM_LOCAL_ADDRESS", "10.0.0.9:40000"},
    {"DOWNSTREAM_LOCAL_ADDRESS", "10.1.0.1:80"},
    {"DOWNSTREAM_REMOTE_ADDRESS", "10.0.0.1:0"},
    {"ROUTE_NAME", "default"},
    {"GRPC_STATUS_NUMBER", "none"}, // no number, whatever it is
};

static void take(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        if (strcmp(values[i].name, l7_var_name(var)) == 0) {
            buf_append_str(out, values[i].text);
            buf_append(out, format);
        }
    }
}

static struct http_field request_fields[] = {
    {.name = SLICE_LIT("user-agent"), .value = SLICE_LIT("curl/8.9")},
    {.name = SLICE_LIT("x-request-id"), .value = SLICE_LIT("8d1a")},
    {.name = SLICE_LIT("x-evil"), .value = SLICE_LIT("a\" 200 \"b\\c\r\n[now]\t\x7f\xff\xc3\xa9")},
    {.name = SLICE_LIT("x-empty"), .value = SLICE_LIT("")},
    {.name = SLICE_LIT("accept"), .value = SLICE_LIT("text/html")},
    {.name = SLICE_LIT("accept"), .value = SLICE_LIT("text/plain")},
};
static struct http_field response_fields[] = {
    {.name = SLICE_LIT("x-envoy-upstream-service-time"), .value = SLICE_LIT("4")},
};
static struct http_head request = {
    .method = SLICE_LIT("GET"),
    .authority = SLICE_LIT("reviews:9080"),
    .path = SLICE_LIT("/reviews/1?q=2"),
    .fields = request_fields,
    .n_fields = ARRAY_LEN(request_fields),
};
static const struct http_head response = {
    .status = 200, .fields = response_fields, .n_fields = ARRAY_LEN(response_fields)};
static const struct l7_vars vars = {.request = &request, .response = &response, .value = take};

static struct l7_log_format *compile(enum l7_log_encoding encoding, const char *text) {
    struct buf error;
    buf_init(&error, 1000);
    struct l7_log_format *format = l7_log_format_new(encoding, slice_str(text), &error);
    if (format == NULL) {
        fail_msg("%s", buf_cstr(&error));
    }
    buf_fini(&error);
    return format;
}

static void expect(enum l7_log_encoding encoding, const char *text, const char *line) {
    struct l7_log_format *format = compile(encoding, text);
    struct buf out;
    buf_init(&out, SIZE_MAX);
    for (int i = 0; i < 2; i++) { // what was there before is replaced
        l7_log_format_line(format, &vars, &out);
        assert_string_equal(buf_cstr(&out), line);
    }
    buf_fini(&out);
    l7_log_format_free(format);
}

static void test_default_text(void **state) {
    expect(
        L7_LOG_TEXT, "",
        "[2024-08-21T15:32:05.754Z] \"GET /reviews/1?q=2 HTTP/1.1\" 200 - via_upstream - \"-\" 0 "
        "135 5 4 \"-\" \"curl/8.9\" \"8d1a\" \"reviews:9080\" \"10.0.0.5:8080\" "
        "inbound-vip|80|http|reviews.default.svc.cluster.local 10.0.0.9:40000 10.1.0.1:80 "
        "10.0.0.1:0 - default\n");
}

static void test_default_json(void **state) {
    expect(L7_LOG_JSON, "",
           "{\"start_time\":\"2024-08-21T15:32:05.754Z\",\"route_name\":\"default\","
           "\"method\":\"GET\",\"path\":\"/reviews/1?q=2\",\"protocol\":\"HTTP/1.1\","
           "\"response_code\":200,\"response_flags\":\"-\","
           "\"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,"
           "\"bytes_received\":0,\"bytes_sent\":135,\"duration\":5,"
           "\"upstream_service_time\":\"4\",\"x_forwarded_for\":null,\"user_agent\":\"curl/8.9\","
           "\"request_id\":\"8d1a\",\"authority\":\"reviews:9080\","
           "\"upstream_host\":\"10.0.0.5:8080\","
           "\"upstream_cluster\":\"inbound-vip|80|http|reviews.default.svc.cluster.local\","
           "\"upstream_local_address\":\"10.0.0.9:40000\","
           "\"downstream_local_address\":\"10.1.0.1:80\","
           "\"downstream_remote_address\":\"10.0.0.1:0\",\"requested_server_name\":null,"
           "\"upstream_transport_failure_reason\":null}\n");
}

static void test_original_path(void **state) {
    struct http_field fields[] = {
        {.name = SLICE_LIT("x-envoy-original-path"), .value = SLICE_LIT("/old")}};
    struct http_head saved = request;
    request.fields = fields;
    request.n_fields = 1;
    expect(L7_LOG_TEXT, "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ_WITHOUT_QUERY(:path)%",
           "/old /reviews/1\n");
    request = saved;
}

static void test_custom(void **state) {
    static const struct {
        enum l7_log_encoding encoding;
        const char *format, *line;
    } rows[] = {
        {L7_LOG_TEXT, "plain", "plain\n"},
        {L7_LOG_TEXT, "plain\n\n", "plain\n"},
        {L7_LOG_TEXT, "\n", "\n"},
        {L7_LOG_TEXT, "100%% %RESPONSE_CODE%", "100% 200\n"},
        {L7_LOG_TEXT, "%REQ(User-Agent):4%|%REQ(X-NONE):4%", "curl|-\n"},
        {L7_LOG_TEXT, "%REQ(X-EMPTY)%|%REQ(X-NONE?USER-AGENT)%", "-|curl/8.9\n"},
        {L7_LOG_TEXT, "%REQ(ACCEPT)%", "text/html,text/plain\n"},
        {L7_LOG_TEXT, "%RESP(:STATUS)% %RESP(SERVER)%", "200 -\n"},
        {L7_LOG_TEXT, "%START_TIME(%s.%3f)%", "2024-08-21T15:32:05.754Z%s.%3f\n"},
        {L7_LOG_JSON, "{}", "{}\n"},
        {L7_LOG_JSON, " {\n\"a\": \"x\\\"y\", \"b\" : {\"c\": \"%RESPONSE_CODE%\"}}",
         "{\"a\":\"x\\\"y\",\"b\":{\"c\":200}}\n"},
        {L7_LOG_JSON, "{\"a\":\"%BYTES_SENT% bytes, %REQ(X-NONE)%\"}",
         "{\"a\":\"135 bytes, -\"}\n"},
        {L7_LOG_JSON, "{\"b\":\"%REQ(X-EMPTY)%\",\"a\":\"%GRPC_STATUS_NUMBER%\"}",
         "{\"b\":null,\"a\":\"none\"}\n"},
        {L7_LOG_JSON, "{\"k\\\"ey\":\"100%%\"}", "{\"k\\\"ey\":\"100%\"}\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect(rows[i].encoding, rows[i].format, rows[i].line);
    }
}

// A client decides about no more than its value: not where it ends, and not about the next line.
static void test_injection(void **state) {
    expect(L7_LOG_TEXT, "\"%REQ(X-EVIL)%\" %RESPONSE_CODE%",
           "\"a\\x22 200 \\x22b\\x5Cc\\x0D\\x0A[now]\\x09\\x7F\\xFF\xc3\xa9\" 200\n");
    expect(L7_LOG_JSON, "{\"v\":\"%REQ(X-EVIL)%\"}",
           "{\"v\":\"a\\\" 200 \\\"b\\\\c\\r\\n[now]\\t\\u007f\xef\xbf\xbd\xc3\xa9\"}\n");
    expect(L7_LOG_JSON, "{\"v\":\"<%REQ(X-EVIL)%>\"}",
           "{\"v\":\"<a\\\" 200 \\\"b\\\\c\\r\\n[now]\\t\\u007f\xef\xbf\xbd\xc3\xa9>\"}\n");
}

// Each byte at each place of values of each length, against the rule taken byte by byte.
static void test_escapes(void **state) {
    enum { LENGTH_MAX = 20 };
    char value[LENGTH_MAX];
    struct http_field field = {.name = SLICE_LIT("x")};
    struct http_head saved = request;
    struct l7_log_format *format = compile(L7_LOG_TEXT, "%REQ(X)%");
    struct buf out;
    buf_init(&out, SIZE_MAX);
    request.fields = &field;
    request.n_fields = 1;
    memset(value, 'a', sizeof(value));
    for (size_t len = 1; len <= LENGTH_MAX; len++) {
        field.value = slice_make(value, len);
        for (size_t at = 0; at < len; at++) {
            for (unsigned c = 0; c < 256; c++) {
                value[at] = (char)c;
                char expected[4 * LENGTH_MAX + 2];
                bool is_plain = c >= ' ' && c < 0x7f && c != '"' && c != '\\';
                snprintf(expected, sizeof(expected),
                         is_plain ? "%.*s%c%.*s\n" : "%.*s\\x%02X%.*s\n", (int)at, value, c,
                         (int)(len - at - 1), value + at + 1);
                l7_log_format_line(format, &vars, &out);
                assert_string_equal(buf_cstr(&out), expected);
            }
            value[at] = 'a';
        }
    }
    buf_fini(&out);
    l7_log_format_free(format);
    request = saved;
}

static void test_wants_response(void **state) {
    static const struct {
        const char *format;
        bool wants;
    } rows[] = {
        {"", false},
        {"%RESPONSE_CODE% %REQ(SERVER)%", false},
        {"%RESP(x-envoy-upstream-service-time)%", false},
        {"%RESP(SERVER)%", true},
        {"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME?SERVER)%", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct l7_log_format *format = compile(L7_LOG_TEXT, rows[i].format);
        assert_int_equal(l7_log_format_wants_response(format), rows[i].wants);
        l7_log_format_free(format);
    }
}

static void test_errors(void **state) {
    assert_null(l7_log_format_problem(false, ""));
    assert_null(l7_log_format_problem(true, "{\"a\":\"%DURATION%\"}"));
    static char long_format[L7_LOG_FORMAT_MAX + 2];
    memset(long_format, 'x', sizeof(long_format) - 1);
    static char many[10 * (L7_LOG_VARS_MAX + 1) + 1];
    for (int i = 0; i <= L7_LOG_VARS_MAX; i++) {
        memcpy(many + i * 10, "%DURATION%", 11);
    }
    static const struct {
        enum l7_log_encoding encoding;
        const char *format, *error;
    } rows[] = {
        {L7_LOG_TEXT, "%NO_SUCH_THING%", "an unknown variable in \"%NO_SUCH_THING%\""},
        {L7_LOG_TEXT, "50%", "an unknown variable in \"50%\""},
        {L7_LOG_TEXT, "%REQ(x%", "a parenthesis that is not closed in \"%REQ(x%\""},
        {L7_LOG_TEXT, long_format, "longer than 4095 bytes"},
        {L7_LOG_TEXT, many, "more than 64 variables"},
        {L7_LOG_JSON, "[]", "not a JSON object"},
        {L7_LOG_JSON, "{\"a\":1}", "the value of \"a\" is neither a string nor an object"},
        {L7_LOG_JSON, "{\"a\":{\"b\":\"%X%\"}}", "an unknown variable in \"%X%\""},
        {L7_LOG_JSON, "{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{}}}}}}}}}}",
         "objects deeper than 8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf error;
        buf_init(&error, 1000);
        assert_null(l7_log_format_new(rows[i].encoding, slice_str(rows[i].format), &error));
        assert_string_equal(buf_cstr(&error), rows[i].error);
        assert_string_equal(l7_log_format_problem(rows[i].encoding == L7_LOG_JSON, rows[i].format),
                            rows[i].error);
        buf_clear(&error);
        assert_null(l7_log_format_new(L7_LOG_JSON, SLICE_LIT("{\"a\":"), &error));
        assert_int_equal(strncmp(buf_cstr(&error), "not JSON: ", 10), 0);
        buf_fini(&error);
    }
}

// The longest line there is: all values huge, and each byte of them escaped.
static void test_long_values(void **state) {
    static char huge[60000], text[10 * L7_LOG_VARS_MAX + 1], json[30 * L7_LOG_VARS_MAX + 10];
    memset(huge, '\x01', sizeof(huge));
    struct http_field fields[] = {{.name = SLICE_LIT("x"), .value = {(uint8_t *)huge, 60000}}};
    struct http_head saved = request;
    request.fields = fields;
    request.n_fields = 1;
    size_t n_json = 1;
    json[0] = '{';
    for (int i = 0; i < L7_LOG_VARS_MAX; i++) {
        memcpy(text + i * 8, "%REQ(X)%", 9);
        n_json += (size_t)snprintf(json + n_json, sizeof(json) - n_json, "%s\"%d\":\"%%REQ(X)%%\"",
                                   i > 0 ? "," : "", i);
    }
    snprintf(json + n_json, sizeof(json) - n_json, "}");
    struct buf out;
    buf_init(&out, SIZE_MAX);
    struct l7_log_format *format = compile(L7_LOG_TEXT, text);
    l7_log_format_line(format, &vars, &out);
    assert_int_equal(out.len, L7_LOG_VARS_MAX * 64 * 4 + 1);
    l7_log_format_free(format);
    format = compile(L7_LOG_JSON, json);
    l7_log_format_line(format, &vars, &out);
    assert_true(out.len <= L7_LOG_LINE_MAX && out.len > L7_LOG_VARS_MAX * 64 * 6);
    json_t *line = json_loads(buf_cstr(&out), 0, NULL);
    assert_int_equal(json_object_size(line), L7_LOG_VARS_MAX);
    json_decref(line);
    l7_log_format_free(format);
    // One alone may be longer, and is cut between characters.
    memset(huge, 'a', sizeof(huge));
    memcpy(huge + L7_LOG_VALUE_MAX - 1, "\xc3\xa9", 2);
    format = compile(L7_LOG_TEXT, "%REQ(X)%");
    l7_log_format_line(format, &vars, &out);
    assert_int_equal(out.len, L7_LOG_VALUE_MAX - 1 + 1);
    l7_log_format_free(format);
    buf_fini(&out);
    request = saved;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_text),   cmocka_unit_test(test_default_json),
        cmocka_unit_test(test_original_path),  cmocka_unit_test(test_custom),
        cmocka_unit_test(test_injection),      cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_wants_response), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_long_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
