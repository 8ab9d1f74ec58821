// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/l7/l7_reply.h"
#include "common/obs/log.h"
#include "tests/unit/base/unit.h"

// 2024-08-21T15:32:05.754291123Z
static const uint64_t t0 = UINT64_C(1724254325754291123);

static struct addr host, local, vip, client;
static struct http_field request_fields[] = {
    {.name = SLICE_LIT("x-forwarded-for"), .value = SLICE_LIT("192.0.2.7")},
    {.name = SLICE_LIT("user-agent"), .value = SLICE_LIT("curl/8.9 \"x\"")},
    {.name = SLICE_LIT("x-request-id"), .value = SLICE_LIT("8d1a")},
    {.name = SLICE_LIT("x-envoy-original-path"), .value = SLICE_LIT("/old?q")},
};
static const struct http_head request = {
    .method = SLICE_LIT("GET"),
    .authority = SLICE_LIT("reviews:9080"),
    .path = SLICE_LIT("/new?q"),
    .fields = request_fields,
    .n_fields = ARRAY_LEN(request_fields),
};

static struct http_log_record sample(void) {
    assert_true(addr_parse(SLICE_LIT("10.0.0.5:8080"), &host));
    assert_true(addr_parse(SLICE_LIT("10.0.0.9:40000"), &local));
    assert_true(addr_parse(SLICE_LIT("10.1.0.1:9080"), &vip));
    assert_true(addr_parse(SLICE_LIT("[fd00::1]:3210"), &client));
    return (struct http_log_record){
        .start_ns = t0,
        .duration_ns = 5 * NS_PER_MS + 999999,
        .response_ns = 4 * NS_PER_MS,
        .request = &request,
        .version = HTTP_11,
        .status = 200,
        .details = SLICE_LIT("via_upstream"),
        .n_received = 12,
        .n_sent = 345,
        .n_head_received = 100,
        .n_head_sent = 200,
        .service_time_ms = 3,
        .has_service_time = true,
        .grpc_status = -1,
        .n_tries = 1,
        .connection_id = 77,
        .upstream_host = &host,
        .upstream_local = &local,
        .downstream_local = &vip,
        .downstream_remote = &client,
        .cluster = SLICE_LIT("inbound-vip|9080|http|reviews.default.svc.cluster.local"),
        .route = SLICE_LIT("default"),
        .service = SLICE_LIT("reviews.default.svc.cluster.local"),
        .peer_id = SLICE_LIT("spiffe://cluster.local/ns/default/sa/curl"),
        .own_id = SLICE_LIT("spiffe://cluster.local/ns/default/sa/waypoint"),
        .hostname = SLICE_LIT("waypoint-1"),
    };
}

static int pipe_fds[2];

static void open_log(const char *filter) {
    assert_int_equal(pipe(pipe_fds), 0);
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    assert_true(log_init(&(struct log_config){.fd = pipe_fds[1], .filter = filter}, NULL));
}

static void close_log(void) {
    assert_true(log_init(&(struct log_config){.fd = STDERR_FILENO}, NULL));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static const char *logged(void) {
    static char text[65536];
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void set(struct http_log *log, enum l7_log_encoding encoding, const char *format) {
    struct http_log_settings settings = {.is_on = true, .encoding = encoding, .format = format};
    struct buf error;
    buf_init(&error, 1000);
    assert_true(http_log_set(log, &settings, &error));
    assert_int_equal(error.len, 0);
    buf_fini(&error);
}

static void test_default(void **state) {
    struct http_log log;
    http_log_init(&log);
    open_log("info");
    set(&log, L7_LOG_TEXT, "");
    struct http_log_record record = sample();
    http_log_write(&log, &record);
    assert_string_equal(
        logged(),
        "[2024-08-21T15:32:05.754Z] \"GET /old?q HTTP/1.1\" 200 - via_upstream - \"-\" 12 345 5 3 "
        "\"192.0.2.7\" \"curl/8.9 \\x22x\\x22\" \"8d1a\" \"reviews:9080\" \"10.0.0.5:8080\" "
        "inbound-vip|9080|http|reviews.default.svc.cluster.local 10.0.0.9:40000 10.1.0.1:9080 "
        "[fd00::1]:3210 - default\n");
    // Nothing is known but that it was no request.
    record = (struct http_log_record){.start_ns = t0,
                                      .version = HTTP_11,
                                      .status = 400,
                                      .flags = L7_FLAG_DPE,
                                      .details = SLICE_LIT("http1.codec_error"),
                                      .grpc_status = -1};
    http_log_write(&log, &record);
    assert_string_equal(logged(), "[2024-08-21T15:32:05.754Z] \"- - HTTP/1.1\" 400 DPE "
                                  "http1.codec_error - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" "
                                  "- - - - - -\n");
    close_log();
    http_log_fini(&log);
}

static void test_json(void **state) {
    struct http_log log;
    http_log_init(&log);
    open_log("info");
    set(&log, L7_LOG_JSON, "");
    struct http_log_record record = sample();
    record.status = 503;
    record.flags = L7_FLAG_UF | L7_FLAG_URX;
    record.transport_failure = SLICE_LIT("Connection refused");
    record.has_service_time = false;
    http_log_write(&log, &record);
    const char *line = logged();
    assert_non_null(strstr(line, "\"path\":\"/old?q\","));
    assert_non_null(strstr(line, "\"response_code\":503,\"response_flags\":\"UF,URX\","));
    assert_non_null(strstr(line, "\"upstream_service_time\":null,"));
    assert_non_null(strstr(line, "\"user_agent\":\"curl/8.9 \\\"x\\\"\","));
    assert_non_null(strstr(line,
                           "\"upstream_transport_failure_reason\":\"Connection refused\"}\n"));
    close_log();
    http_log_fini(&log);
}

// Each variable that can be known.
static void test_values(void **state) {
    static const struct {
        const char *format, *text;
    } rows[] = {
        {"%START_TIME(%Y/%m/%d %H.%M.%S %%)%", "2024/08/21 15.32.05 %"},
        {"%START_TIME(%s.%3f %6f %9f %f)%", "1724254325.754 754291 754291123 754291123"},
        {"%START_TIME(%T%E3S|%E6S)%", "15:32:0505.754|05.754291"},
        {"%START_TIME(x%)%", "x%"},
        {"%PROTOCOL%", "HTTP/1.1"},
        {"%HOSTNAME%", "waypoint-1"},
        {"%RESPONSE_DURATION% %DURATION%", "4 5"},
        {"%BYTES_RECEIVED% %BYTES_SENT%", "12 345"},
        {"%REQUEST_HEADERS_BYTES% %RESPONSE_HEADERS_BYTES%", "100 200"},
        {"%CONNECTION_ID% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "77 1"},
        {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "fd00::1 3210"},
        {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.1.0.1 9080"},
        {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "[fd00::1]:3210"},
        {"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
         "10.0.0.5 10.0.0.9"},
        {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/default/sa/curl"},
        {"%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://cluster.local/ns/default/sa/waypoint"},
        {"%DOWNSTREAM_TLS_VERSION%", "TLSv1.3"},
        {"%TRACE_ID% %REQUESTED_SERVER_NAME% %CONNECTION_TERMINATION_DETAILS%",
         "- - denied_by_m/deny_all"},
        {"%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "DeadlineExceeded 4"},
        {"%GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%", "DEADLINE_EXCEEDED 4"},
        {"%REQ(:METHOD)% %REQ(:PATH)% %RESP(:STATUS)%", "GET /new?q 200"},
        {"%RESP(SERVER)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "- 3"},
    };
    struct http_log log;
    http_log_init(&log);
    open_log("info");
    struct http_log_record record = sample();
    record.grpc_status = 4;
    record.termination_details = SLICE_LIT("denied by m/deny all");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char expected[200];
        set(&log, L7_LOG_TEXT, rows[i].format);
        http_log_write(&log, &record);
        snprintf(expected, sizeof(expected), "%s\n", rows[i].text);
        assert_string_equal(logged(), expected);
    }
    // A head that was kept tells more.
    struct http_field server = {.name = SLICE_LIT("server"), .value = SLICE_LIT("istio-envoy")};
    struct http_head response = {.status = 200, .fields = &server, .n_fields = 1};
    set(&log, L7_LOG_TEXT, "%RESP(SERVER)%");
    assert_true(http_log_wants_response(&log));
    record.response = &response;
    http_log_write(&log, &record);
    assert_string_equal(logged(), "istio-envoy\n");
    close_log();
    http_log_fini(&log);
}

static void test_settings(void **state) {
    struct http_log log;
    http_log_init(&log);
    struct buf error;
    buf_init(&error, 1000);
    assert_false(http_log_is_on(&log));
    struct http_log_settings settings = {.is_on = true, .format = "%NONSENSE%"};
    assert_false(http_log_set(&log, &settings, &error));
    assert_string_equal(buf_cstr(&error), "an unknown variable in \"%NONSENSE%\"");
    assert_true(http_log_is_on(&log)); // with the default format
    assert_true(http_log_set(&log, &settings, &error)); // said once
    open_log("info");
    struct http_log_record record = sample();
    http_log_write(&log, &record);
    assert_non_null(strstr(logged(), "\"GET /old?q HTTP/1.1\" 200 - via_upstream"));
    // Another encoding or format is taken over, and off is off.
    settings.encoding = L7_LOG_JSON;
    settings.format = "";
    assert_true(http_log_set(&log, &settings, &error));
    http_log_write(&log, &record);
    assert_int_equal(logged()[0], '{');
    settings.is_on = false;
    assert_true(http_log_set(&log, &settings, &error));
    assert_false(http_log_is_on(&log));
    assert_false(http_log_wants_response(&log));
    close_log();
    buf_fini(&error);
    http_log_fini(&log);
}

static unsigned n_lines(const char *text) {
    unsigned n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

// Ten a second, and then how many there were besides.
static void test_failures(void **state) {
    struct http_log log;
    http_log_init(&log);
    open_log("info");
    struct http_log_record record = sample();
    record.status = 503;
    record.flags = L7_FLAG_UF;
    record.details = SLICE_LIT("upstream_reset_before_response_started{remote_connection_failure}");
    record.transport_failure = SLICE_LIT("Connection refused");
    uint64_t now = 1000 * NS_PER_SEC;
    http_log_failure(&log, &record, now);
    const char *line = strstr(logged(), "info\t");
    assert_string_equal(line,
                        "info\twaypoint::http\trequest failed\tstatus=503 flags=UF "
                        "details=upstream_reset_before_response_started{remote_connection_failure} "
                        "reason=\"Connection refused\" method=\"GET\" authority=\"reviews:9080\" "
                        "path=\"/new?q\" src.addr=[fd00::1]:3210 "
                        "src.identity=\"spiffe://cluster.local/ns/default/sa/curl\" "
                        "dst.service=\"reviews.default.svc.cluster.local\" dst.addr=10.0.0.5:8080 "
                        "duration=\"5ms\" tries=1\n");
    for (int i = 0; i < 30; i++) {
        http_log_failure(&log, &record, now + NS_PER_SEC - 1);
    }
    assert_int_equal(n_lines(logged()), HTTP_LOG_FAILURES - 1);
    http_log_failure(&log, &record, now + NS_PER_SEC);
    assert_non_null(strstr(logged(), " tries=1 not_told=21\n"));
    http_log_failure(&log, &record, now + NS_PER_SEC);
    assert_null(strstr(logged(), "not_told"));
    close_log();
    open_log("warn");
    http_log_failure(&log, &record, now + 5 * NS_PER_SEC);
    assert_string_equal(logged(), "");
    close_log();
    http_log_fini(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),  cmocka_unit_test(test_json),
        cmocka_unit_test(test_values),   cmocka_unit_test(test_settings),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
