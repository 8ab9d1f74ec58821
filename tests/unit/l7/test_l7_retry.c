// SPDX-License-Identifier: Apache-2.0
//
// Retries, timeouts, faults, what gRPC writes, and the proxy's own answers.
#include "common/l7/l7_retry.h"

#include "common/l7/l7_fault.h"
#include "common/l7/l7_reply.h"
#include "common/l7/l7_timeout.h"
#include "common/proto/grpc.h"
#include "tests/unit/l7/l7_fixture.h"

static void test_parse(void **state) {
    const struct {
        const char *text;
        uint32_t on;
        size_t n_codes;
        const char *unknown; // NULL: none
    } cases[] = {
        {"5xx", L7_RETRY_ON_5XX, 0, NULL},
        {" 5xx , reset,,", L7_RETRY_ON_5XX | L7_RETRY_ON_RESET, 0, NULL},
        {"503", L7_RETRY_ON_STATUS_CODES, 1, NULL},
        {"503,gateway-error,429", L7_RETRY_ON_STATUS_CODES | L7_RETRY_ON_GATEWAY_ERROR, 2, NULL},
        {"connect-failure,refused-stream,unavailable,cancelled", L7_RETRY_ON_DEFAULT, 0, NULL},
        {"nonsense,5xx", L7_RETRY_ON_5XX, 0, "nonsense"},
        {"99,600,5xx", L7_RETRY_ON_5XX, 0, "99"},
        {"retriable-4xx,deadline-exceeded,internal,resource-exhausted,reset-before-request,"
         "retriable-headers,envoy-ratelimited,http3-post-connect-failure,retriable-status-codes",
         L7_RETRY_ON_RETRIABLE_4XX | L7_RETRY_ON_GRPC_DEADLINE_EXCEEDED |
             L7_RETRY_ON_GRPC_INTERNAL | L7_RETRY_ON_GRPC_RESOURCE_EXHAUSTED |
             L7_RETRY_ON_RESET_BEFORE_REQUEST | L7_RETRY_ON_HEADERS | L7_RETRY_ON_RATELIMITED |
             L7_RETRY_ON_HTTP3_POST_CONNECT_FAILURE | L7_RETRY_ON_STATUS_CODES,
         0, NULL},
        {"", 0, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t on = 0;
        struct l7_retry_codes codes = {.n = 0};
        struct slice unknown = slice_make(NULL, 0);
        assert_int_equal(l7_retry_parse(slice_str(cases[i].text), &on, &codes, &unknown),
                         cases[i].unknown == NULL);
        assert_int_equal(on, cases[i].on);
        assert_int_equal(codes.n, cases[i].n_codes);
        if (cases[i].unknown != NULL) {
            assert_slice_equal(unknown, cases[i].unknown);
        }
    }
    char many[1024];
    size_t len = 0;
    for (int i = 0; i <= L7_RETRY_CODES_MAX; i++) {
        len += (size_t)snprintf(many + len, sizeof(many) - len, "%d,", 400 + i);
    }
    uint32_t on = 0;
    struct l7_retry_codes codes = {.n = 0};
    struct slice unknown;
    assert_false(l7_retry_parse(slice_str(many), &on, &codes, &unknown));
    assert_int_equal(codes.n, L7_RETRY_CODES_MAX);
    assert_slice_equal(unknown, "464");
}

static struct l7_retry_policy policy_of(const char *retry_on, uint16_t *codes) {
    struct l7_retry_policy policy = l7_retry_default();
    struct l7_retry_codes parsed = {.n = 0};
    struct slice unknown;
    if (retry_on != NULL) {
        policy.on = 0;
        assert_true(l7_retry_parse(slice_str(retry_on), &policy.on, &parsed, &unknown));
        memcpy(codes, parsed.items, parsed.n * sizeof(*codes));
        policy.codes = codes;
        policy.n_codes = (uint16_t)parsed.n;
    }
    return policy;
}

static void test_responses(void **state) {
    const struct {
        const char *retry_on; // NULL: the default
        const char *request, *response;
        bool is_wanted;
    } cases[] = {
        {NULL, "", "503", false}, // since 503 is not in the default any more
        {NULL, "", "500", false},
        {NULL, "", "200\ngrpc-status: 14", true},
        {NULL, "", "200\ngrpc-status: 1", true},
        {NULL, "", "200\ngrpc-status: 0", false},
        {NULL, "", "200\ngrpc-status: 4", false},
        {NULL, "", "200\ngrpc-status: x", false},
        {"5xx", "", "500", true},
        {"5xx", "", "599", true},
        {"5xx", "", "404", false},
        {"5xx", "", "200\ngrpc-status: 14", false},
        {"gateway-error", "", "500", false},
        {"gateway-error", "", "502", true},
        {"gateway-error", "", "504", true},
        {"retriable-4xx", "", "409", true},
        {"retriable-4xx", "", "400", false},
        {"503,429", "", "429", true},
        {"503,429", "", "502", false},
        {"retriable-status-codes", "", "503", false},
        {"retriable-status-codes", "x-envoy-retriable-status-codes: 500, 503", "503", true},
        {"deadline-exceeded", "", "200\ngrpc-status: 4", true},
        {"internal", "", "200\ngrpc-status: 13", true},
        {"resource-exhausted", "", "200\ngrpc-status: 8", true},
        {"5xx", "", "503\nx-envoy-ratelimited: true", false},
        {"envoy-ratelimited", "", "429\nx-envoy-ratelimited: true", true},
        {"retriable-headers", "x-envoy-retriable-header-names: X-Again", "200\nx-again:", true},
        {"retriable-headers", "x-envoy-retriable-header-names: X-Again", "200", false},
        {"reset", "x-envoy-retry-on: 5xx", "500", true}, // a client's conditions add
        {"reset", "x-envoy-retry-grpc-on: unavailable", "200\ngrpc-status: 14", true},
        {"reset", "x-envoy-retry-on: unavailable", "200\ngrpc-status: 14", false}, // wrong header
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx_head request, response;
        uint16_t codes[L7_RETRY_CODES_MAX];
        char text[256];
        snprintf(text, sizeof(text), "GET http w /\n%s", cases[i].request);
        fx_head(&request, text);
        fx_head(&response, cases[i].response);
        struct l7_retry_policy policy = policy_of(cases[i].retry_on, codes);
        struct l7_retry retry;
        l7_retry_init(&retry, &policy, &request.head);
        if (l7_retry_wants_response(&retry, &response.head) != cases[i].is_wanted) {
            fail_msg("%s, %s: %s", cases[i].retry_on, cases[i].request, cases[i].response);
        }
    }
}

static void test_resets(void **state) {
    const struct {
        const char *retry_on;
        enum l7_reset reset;
        bool has_begun, is_wanted;
    } cases[] = {
        {NULL, L7_RESET_CONNECT_REFUSED, false, true},
        {NULL, L7_RESET_CONNECT_TIMEOUT, false, true},
        {NULL, L7_RESET_CONNECT_LOCAL, false, true},
        {NULL, L7_RESET_REMOTE_REFUSED, false, true},
        {NULL, L7_RESET_REMOTE, true, false},
        {NULL, L7_RESET_TERMINATION, true, false},
        {NULL, L7_RESET_LOCAL, true, false}, // one try's timeout
        {NULL, L7_RESET_OVERFLOW, false, false},
        {"5xx", L7_RESET_OVERFLOW, false, false},
        {"5xx", L7_RESET_REMOTE, true, true},
        {"5xx", L7_RESET_LOCAL, true, true},
        {"5xx", L7_RESET_CONNECT_REFUSED, false, true},
        {"gateway-error", L7_RESET_TERMINATION, true, true},
        {"reset", L7_RESET_TERMINATION, true, true},
        {"reset", L7_RESET_PROTOCOL_ERROR, true, true},
        {"reset-before-request", L7_RESET_TERMINATION, true, false},
        {"reset-before-request", L7_RESET_TERMINATION, false, true},
        {"connect-failure", L7_RESET_REMOTE_REFUSED, false, false},
        {"refused-stream", L7_RESET_CONNECT_REFUSED, false, false},
        {"retriable-4xx", L7_RESET_REMOTE, true, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx_head request;
        uint16_t codes[L7_RETRY_CODES_MAX];
        fx_head(&request, "GET http w /");
        struct l7_retry_policy policy = policy_of(cases[i].retry_on, codes);
        struct l7_retry retry;
        l7_retry_init(&retry, &policy, &request.head);
        if (l7_retry_wants_reset(&retry, cases[i].reset, cases[i].has_begun) !=
            cases[i].is_wanted) {
            fail_msg("%s: %s", cases[i].retry_on, l7_reset_text(cases[i].reset));
        }
    }
}

static void test_attempts(void **state) {
    const struct {
        uint32_t on, attempts;
        const char *request;
        uint32_t n;
    } cases[] = {{L7_RETRY_ON_5XX, 2, "", 2},
                 {L7_RETRY_ON_5XX, 5, "x-envoy-max-retries: 1", 1},
                 {L7_RETRY_ON_5XX, 1, "x-envoy-max-retries: 7", 7},
                 {L7_RETRY_ON_5XX, 3, "x-envoy-max-retries: x", 3},
                 {0, 0, "", 0},
                 {0, 0, "x-envoy-max-retries: 3", 0}, // nothing to retry on
                 {0, 0, "x-envoy-retry-on: 5xx", 1},
                 {0, 0, "x-envoy-retry-on: 5xx\nx-envoy-max-retries: 3", 3}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx_head request;
        char text[256];
        struct l7_retry retry;
        snprintf(text, sizeof(text), "GET http w /\n%s", cases[i].request);
        fx_head(&request, text);
        struct l7_retry_policy policy = {.on = cases[i].on, .attempts = cases[i].attempts};
        l7_retry_init(&retry, &policy, &request.head);
        uint32_t n = 0;
        while (l7_retry_take(&retry)) {
            n++;
        }
        assert_int_equal(n, cases[i].n);
    }
}

static void test_avoids(void **state) {
    const struct {
        bool avoids, is_set, is_hashed, expect;
    } cases[] = {{true, false, false, true},
                 {true, false, true, false},
                 {true, true, true, true},
                 {false, true, false, false},
                 {false, true, true, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct l7_retry_policy policy = l7_retry_default();
        policy.avoids_tried_hosts = cases[i].avoids;
        policy.is_avoiding_set = cases[i].is_set;
        const struct l7_retry retry = {.policy = &policy};
        assert_int_equal(l7_retry_avoids_tried(&retry, cases[i].is_hashed), cases[i].expect);
    }
}

static void test_backoff(void **state) {
    struct rand rand;
    rand_seed(&rand, 5);
    struct l7_retry_policy policy = l7_retry_default();
    struct l7_retry retry = {.policy = &policy, .n_left = 40};
    static const uint64_t bounds[] = {25, 75, 175, 251, 251, 251};
    for (int n = 0; n < 40; n++) {
        assert_true(l7_retry_take(&retry));
        uint64_t bound = bounds[n < 5 ? n : 5], max = 0;
        for (int i = 0; i < 2000; i++) {
            uint64_t ms = l7_retry_backoff_ms(&retry, &rand);
            assert_true(ms < bound);
            max = MAX(max, ms);
        }
        assert_true(max >= bound * 9 / 10);
    }
    policy.base_ms = 0;
    assert_int_equal(l7_retry_backoff_ms(&retry, &rand), 0);
}

static void test_timeouts(void **state) {
    const struct {
        uint64_t route_ms, try_ms;
        bool is_grpc;
        const char *request;
        uint64_t total_ms, per_try_ms;
        const char *announced, *grpc;
    } cases[] = {
        {0, 0, false, "", 0, 0, NULL, NULL},
        {1000, 0, false, "", 1000, 0, "1000", NULL},
        {1000, 200, false, "", 1000, 200, "200", NULL},
        {1000, 1000, false, "", 1000, 0, "1000", NULL},
        {1000, 2000, false, "", 1000, 0, "1000", NULL},
        {0, 200, false, "", 0, 200, "200", NULL},
        {1000, 0, false, "grpc-timeout: 1S", 1000, 0, "1000", NULL},
        {1000, 0, true, "grpc-timeout: 500m", 500, 0, "500", "500m"},
        {1000, 0, true, "grpc-timeout: 5S", 1000, 0, "1000", "1000m"},
        {0, 0, true, "grpc-timeout: 5S", 5000, 0, "5000", "5000m"},
        {0, 0, true, "grpc-timeout: S", 0, 0, NULL, NULL},
        {0, 0, true, "", 0, 0, NULL, NULL},
        {1000, 0, false, "x-envoy-upstream-rq-timeout-ms: 50", 50, 0, "50", NULL},
        {1000, 0, false, "x-envoy-upstream-rq-timeout-ms: 0", 0, 0, NULL, NULL},
        {1000, 0, false, "x-envoy-upstream-rq-timeout-ms: x", 1000, 0, "1000", NULL},
        {1000, 0, false, "x-envoy-upstream-rq-per-try-timeout-ms: 30", 1000, 30, "30", NULL},
        {1000, 100, true,
         "grpc-timeout: 5S\nx-envoy-upstream-rq-timeout-ms: 90\n"
         "x-envoy-upstream-rq-per-try-timeout-ms: 80",
         90, 80, "80", "80m"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx_head request;
        char text[256];
        snprintf(text, sizeof(text), "GET http w /\n%s", cases[i].request);
        fx_head(&request, text);
        struct l7_route route = {.timeout_ms = cases[i].route_ms,
                                 .retry = {.per_try_timeout_ms = cases[i].try_ms}};
        struct l7_timeouts timeouts = l7_timeout_of(&route, &request.head, cases[i].is_grpc);
        assert_int_equal(timeouts.total_ms, cases[i].total_ms);
        assert_int_equal(timeouts.per_try_ms, cases[i].per_try_ms);
        assert_false(timeouts.answers_204);
        struct arena arena;
        struct l7_fields fields;
        arena_init(&arena, 8192);
        l7_fields_init(&fields, &arena, request.head.fields, request.head.n_fields);
        l7_timeout_consume(&fields);
        l7_timeout_announce(&timeouts, cases[i].is_grpc, &fields);
        const struct {
            struct slice name;
            const char *value;
        } told[] = {{SLICE_LIT("x-envoy-expected-rq-timeout-ms"), cases[i].announced},
                    {SLICE_LIT("grpc-timeout"), cases[i].grpc}};
        for (size_t k = 0; k < 2; k++) {
            const struct http_field *field = l7_fields_find(fields.items, fields.n, told[k].name);
            if (told[k].value != NULL) {
                assert_non_null(field);
                assert_slice_equal(field->value, told[k].value);
            }
        }
        for (size_t k = 0; k < fields.n; k++) {
            assert_false(slice_has_prefix(fields.items[k].name, SLICE_LIT("x-envoy-upstream")));
        }
        arena_fini(&arena);
    }
    struct fx_head request;
    fx_head(&request, "GET http w /\nx-envoy-upstream-rq-timeout-alt-response: 1");
    assert_true(l7_timeout_of(l7_routes_default(), &request.head, false).answers_204);
}

static void test_grpc(void **state) {
    const struct {
        const char *text;
        int64_t ms; // -1: not well-formed
    } timeouts[] = {{"1H", 3600000},    {"2M", 120000}, {"3S", 3000},
                    {"4m", 4},          {"5u", 1},      {"1000001u", 1001},
                    {"6n", 1},          {"0S", 0},      {"99999999H", 359999996400000},
                    {"100000000m", -1}, {"", -1},       {"S", -1},
                    {"1", -1},          {"1s", -1},     {"-1S", -1},
                    {"1 S", -1}};
    for (size_t i = 0; i < ARRAY_LEN(timeouts); i++) {
        uint64_t ms = 7;
        bool is_ok = grpc_timeout_parse(slice_str(timeouts[i].text), &ms);
        assert_int_equal(is_ok, timeouts[i].ms >= 0);
        assert_true(!is_ok || ms == (uint64_t)timeouts[i].ms);
    }
    const struct {
        uint64_t ms;
        const char *text;
    } written[] = {{0, "0m"},
                   {1500, "1500m"},
                   {99999999, "99999999m"},
                   {100000000, "100000S"},
                   {UINT64_MAX, "99999999H"}};
    for (size_t i = 0; i < ARRAY_LEN(written); i++) {
        struct buf out;
        buf_init(&out, 64);
        grpc_timeout_append(written[i].ms, &out);
        assert_string_equal(buf_cstr(&out), written[i].text);
        buf_fini(&out);
    }
    static const uint16_t statuses[][2] = {{400, 13}, {401, 16}, {403, 7},  {404, 12}, {429, 14},
                                           {502, 14}, {503, 14}, {504, 14}, {500, 2},  {418, 2}};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        assert_int_equal(grpc_status_of_http(statuses[i][0]), statuses[i][1]);
    }
    uint8_t status;
    assert_true(grpc_status_parse(SLICE_LIT("UNAVAILABLE"), &status) && status == 14);
    assert_true(grpc_status_parse(SLICE_LIT("16"), &status) && status == 16);
    assert_false(grpc_status_parse(SLICE_LIT("17"), &status));
    assert_false(grpc_status_parse(SLICE_LIT("unavailable"), &status));
    assert_string_equal(grpc_status_name(GRPC_DATA_LOSS), "DATA_LOSS");
    struct buf out;
    buf_init(&out, 64);
    grpc_message_append(SLICE_LIT("a b%\n\xc3\xa9"), &out);
    assert_string_equal(buf_cstr(&out), "a b%25%0A%C3%A9");
    buf_fini(&out);
}

static void test_faults(void **state) {
    struct rand rand;
    rand_seed(&rand, 99);
    const struct l7_fault fault = {
        .delay_ppm = 300000, .delay_ms = 70, .abort_ppm = 500000, .status = 555};
    int n_delayed = 0, n_aborted = 0, n_both = 0;
    enum { N = 40000 };
    for (int i = 0; i < N; i++) {
        struct l7_fault_draw draw;
        l7_fault_draw(&fault, &rand, &draw);
        n_delayed += draw.is_delayed;
        n_aborted += draw.is_aborted;
        n_both += draw.is_delayed && draw.is_aborted;
        assert_int_equal(draw.is_aborted ? draw.status : 555, 555);
        assert_int_equal(draw.grpc_status, -1);
    }
    assert_in_range(n_delayed, N * 29 / 100, N * 31 / 100);
    assert_in_range(n_aborted, N * 49 / 100, N * 51 / 100);
    assert_in_range(n_both, N * 14 / 100, N * 16 / 100); // independent
    struct l7_fault_draw draw;
    l7_fault_draw(NULL, &rand, &draw);
    assert_false(draw.is_delayed || draw.is_aborted);
    l7_fault_draw(&(struct l7_fault){.abort_ppm = L7_PPM, .grpc_status = 14}, &rand, &draw);
    assert_true(draw.is_aborted && draw.grpc_status == 14 && draw.status == 0);
    for (int i = 0; i < 1000; i++) {
        assert_false(l7_fault_chance(0, &rand));
        assert_true(l7_fault_chance(L7_PPM, &rand));
    }
}

// Local answers

static const char *field_of(const struct l7_reply *reply, const char *name) {
    static char text[512];
    const struct http_field *field =
        l7_fields_find(reply->fields.items, reply->fields.n, slice_str(name));
    snprintf(text, sizeof(text), "%.*s", field != NULL ? (int)field->value.len : 1,
             field != NULL ? (const char *)field->value.ptr : "-");
    return text;
}

static void test_replies(void **state) {
    const struct {
        struct l7_reply_spec spec;
        uint16_t status;
        const char *flags, *body, *details;
        int grpc_status;
    } cases[] = {
        {{.kind = L7_REPLY_NO_ROUTE}, 404, "NR", "", "route_not_found", -1},
        {{.kind = L7_REPLY_NO_ROUTE, .is_grpc = true}, 200, "NR", "", "route_not_found", 12},
        {{.kind = L7_REPLY_NO_HEALTHY},
         503,
         "UH",
         "no healthy upstream",
         "no_healthy_upstream",
         -1},
        {{.kind = L7_REPLY_NO_HEALTHY, .is_grpc = true}, 200, "UH", "", "no_healthy_upstream", 14},
        {{.kind = L7_REPLY_TIMEOUT, .is_retried = true},
         504,
         "UT,URX",
         "upstream request timeout",
         "response_timeout",
         -1},
        {{.kind = L7_REPLY_FAULT_ABORT, .status = 555, .grpc_status = -1},
         555,
         "FI",
         "fault filter abort",
         "fault_filter_abort",
         -1},
        {{.kind = L7_REPLY_FAULT_ABORT, .grpc_status = 8}, 200, "FI", "", "fault_filter_abort", 8},
        {{.kind = L7_REPLY_FAULT_ABORT, .status = 503, .grpc_status = -1, .is_grpc = true},
         200,
         "FI",
         "",
         "fault_filter_abort",
         14},
        {{.kind = L7_REPLY_RBAC_DENIED,
          .details = SLICE_LIT("rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]")},
         403,
         "-",
         "RBAC: access denied",
         "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]",
         -1},
        {{.kind = L7_REPLY_RESET,
          .reset = L7_RESET_CONNECT_REFUSED,
          .failure = SLICE_LIT("delayed connect error: 111")},
         503,
         "UF",
         "upstream connect error or disconnect/reset before headers. reset reason: remote "
         "connection failure, transport failure reason: delayed connect error: 111",
         "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_"
         "111}",
         -1},
        {{.kind = L7_REPLY_RESET, .reset = L7_RESET_TERMINATION, .is_retried = true},
         503,
         "UC,URX",
         "upstream connect error or disconnect/reset before headers. retried and the latest reset "
         "reason: connection termination",
         "upstream_reset_before_response_started{connection_termination}",
         -1},
        {{.kind = L7_REPLY_RESET, .reset = L7_RESET_OVERFLOW},
         503,
         "UO",
         "upstream connect error or disconnect/reset before headers. reset reason: overflow",
         "upstream_reset_before_response_started{overflow}",
         -1},
        {{.kind = L7_REPLY_RESET, .reset = L7_RESET_PROTOCOL_ERROR},
         502,
         "UPE",
         "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
         "upstream_reset_before_response_started{protocol_error}",
         -1},
        {{.kind = L7_REPLY_DIRECT, .status = 418, .body = SLICE_LIT("tea")},
         418,
         "-",
         "tea",
         "direct_response",
         -1},
        {{.kind = L7_REPLY_DIRECT, .status = 204}, 204, "-", "", "direct_response", -1},
        {{.kind = L7_REPLY_TIMEOUT, .status = 204}, 204, "UT", "", "response_timeout", -1},
        {{.kind = L7_REPLY_REDIRECT, .status = 301, .location = SLICE_LIT("/x"), .is_grpc = true},
         301,
         "-",
         "",
         "direct_response",
         -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct l7_reply reply;
        struct buf flags;
        arena_init(&arena, 8192);
        buf_init(&flags, 256);
        assert_true(l7_reply_build(&cases[i].spec, &arena, &reply));
        assert_int_equal(reply.status, cases[i].status);
        assert_int_equal(reply.grpc_status, cases[i].grpc_status);
        assert_slice_equal(reply.body, cases[i].body);
        assert_slice_equal(reply.details, cases[i].details);
        l7_flags_append(reply.flags, &flags);
        assert_string_equal(buf_cstr(&flags), cases[i].flags);
        char text[32];
        snprintf(text, sizeof(text), "%d", cases[i].grpc_status);
        assert_string_equal(field_of(&reply, "grpc-status"),
                            cases[i].grpc_status >= 0 ? text : "-");
        snprintf(text, sizeof(text), "%zu", strlen(cases[i].body));
        if (reply.status != 204 && cases[i].grpc_status < 0) {
            assert_string_equal(field_of(&reply, "content-length"), text);
        }
        assert_string_equal(field_of(&reply, "x-envoy-overloaded"),
                            cases[i].spec.kind == L7_REPLY_RESET &&
                                    cases[i].spec.reset == L7_RESET_OVERFLOW
                                ? "true"
                                : "-");
        buf_fini(&flags);
        arena_fini(&arena);
    }
    struct arena tiny;
    struct l7_reply reply;
    arena_init(&tiny, 64);
    assert_false(l7_reply_build(&(struct l7_reply_spec){.kind = L7_REPLY_NO_HEALTHY}, &tiny,
                                &reply));
    assert_int_equal(reply.status, 503);
    assert_int_equal(reply.fields.n, 0);
    arena_fini(&tiny);
    struct buf flags;
    buf_init(&flags, 512);
    l7_flags_append(L7_FLAG_NONE, &flags);
    assert_string_equal(buf_cstr(&flags), "-");
    buf_clear(&flags);
    l7_flags_append((1U << L7_N_FLAGS) - 1, &flags);
    assert_string_equal(buf_cstr(&flags),
                        "LH,UH,UT,LR,UR,UF,UC,UO,NR,DI,FI,RL,UAEX,RLSE,DC,URX,SI,IH,DPE,UMSDR,"
                        "RFCF,NFCF,DT,UPE,NC,OM,DF,DO");
    for (int i = 0; i < L7_N_FLAGS; i++) {
        assert_true(strlen(l7_flag_meaning((enum l7_flag_bit)i)) > 5);
    }
    buf_fini(&flags);
    assert_int_equal(l7_reply_reset_flags(L7_RESET_REMOTE), L7_FLAG_UR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_responses),
        cmocka_unit_test(test_resets),   cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_backoff),  cmocka_unit_test(test_avoids),
        cmocka_unit_test(test_timeouts), cmocka_unit_test(test_grpc),
        cmocka_unit_test(test_faults),   cmocka_unit_test(test_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
