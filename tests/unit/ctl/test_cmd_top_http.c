// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl top --http`: from metrics to a picture.
#include "ctl/cmd_top_http.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "ctl/cmd.h"
#include "tests/unit/ctl/ctl_run.h"

#define PAIR                                                                                       \
    "source_workload=\"client\",source_workload_namespace=\"a\",destination_service=\"web.b\""
#define REQ "istio_requests_total{reporter=\"waypoint\"," PAIR
#define BUCKET "istio_request_duration_milliseconds_bucket{" PAIR ",response_code=\"200\",le="

static void add(struct top_http_sample *sample, uint64_t at_s, const char *text) {
    top_http_sample_init(sample);
    top_http_sample_add(sample, slice_str(text));
    sample->at_ns = at_s * NS_PER_SEC;
}

static char *picture(const struct top_http_sample *sample, const struct top_http_sample *before,
                     size_t n_rows, size_t n_cols) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    top_http_render(sample, before, n_rows, n_cols, &text);
    char *copy = xstrdup(buf_cstr(&text));
    buf_fini(&text);
    return copy;
}

static void test_picture(void **state) {
    struct top_http_sample before, now;
    add(&before, 10,
        "# HELP istio_requests_total x\n"
        "# TYPE istio_requests_total counter\n" //
        REQ ",response_code=\"200\",response_flags=\"-\",grpc_response_status=\"\"} 100\n" //
        REQ ",response_code=\"503\",response_flags=\"UF\"} 7\n" //
        BUCKET "\"5\"} 100\n" BUCKET "\"10\"} 100\n" BUCKET "\"+Inf\"} 107\n");
    add(&now, 12,
        REQ ",response_code=\"200\",response_flags=\"-\",grpc_response_status=\"\"} 2100\n" //
        REQ ",response_code=\"503\",response_flags=\"UF\"} 17\n" //
        REQ ",response_code=\"500\",response_flags=\"-\"} 30\n" //
        REQ ",response_code=\"404\",response_flags=\"NR\"} 4\n" //
        REQ ",response_code=\"200\",response_flags=\"-\",grpc_response_status=\"14\"} 6\n" //
        BUCKET "\"5\"} 1100\n" BUCKET "\"10\"} 2100\n" BUCKET "\"+Inf\"} 2107\n"
            "istio_requests_total{source_workload=\"x \\\"y\\\"\",destination_service=\"z\","
            "response_code=\"200\",response_flags=\"-\"} 3\n"
            "istio_tcp_sent_bytes_total{source_workload=\"no\"} 5\n"
            "istio_requests_total{broken\n");
    char *text = picture(&now, &before, 0, SIZE_MAX);
    assert_string_equal(
        text, "2 pairs, 1.0k requests/s, 23 failed/s\n"
              "SOURCE   DESTINATION   REQ/s    REQS   ERR%      P50      P99  FLAGS\n"
              "client.a web.b          1.0k    2.0k    2.2    5.0ms    9.9ms  500:30 UF:10 grpc "
              "14:6 +1\n"
              "x \"y\"    z               1.5       3    0.0        -        -\n");
    free(text);
    text = picture(&now, &before, 4, 30); // a small terminal
    assert_string_equal(text, "2 pairs, 1.0k requests/s, 23 f\n"
                              "SOURCE   DESTINATION   REQ/s\n"
                              "client.a web.b          1.0k\n"
                              "... and 1 more\n");
    free(text);
    text = picture(&before, NULL, 0, SIZE_MAX);
    assert_string_equal(text,
                        "1 pairs, 107 requests since the start, 7 failed\n"
                        "SOURCE   DESTINATION   REQ/s    REQS   ERR%      P50      P99  FLAGS\n"
                        "client.a web.b             -     107    6.5    2.7ms     10ms  UF:7\n");
    free(text);
    text = picture(&before, &now, 0, SIZE_MAX); // the process began anew
    assert_non_null(strstr(text, " 107 "));
    free(text);
    top_http_sample_fini(&before);
    top_http_sample_fini(&now);
}

static void test_quantiles(void **state) {
    static const double bounds[] = {1, 5, 10, INFINITY};
    static const struct {
        uint64_t cumulative[4];
        double q, want;
    } rows[] = {
        {{10, 10, 10, 10}, 0.5, 0.5}, {{0, 10, 10, 10}, 0.5, 3}, {{0, 0, 10, 20}, 0.5, 10},
        {{0, 0, 0, 10}, 0.99, 10},    {{1, 2, 3, 4}, 0.25, 1},   {{50, 99, 100, 100}, 0.99, 5},
        {{0, 4, 4, 8}, 0.75, 10},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double have = top_http_quantile(bounds, rows[i].cumulative, 4, rows[i].q);
        if (fabs(have - rows[i].want) > 1e-9) {
            fail_msg("row %zu: %g", i, have);
        }
    }
    static const uint64_t none[4] = {0};
    assert_true(isnan(top_http_quantile(bounds, none, 4, 0.5)));
    assert_true(isnan(top_http_quantile(bounds, none, 0, 0.5)));
}

static void test_usage(void **state) {
    static const struct {
        const char *args[4];
        const char *err;
        int code;
    } rows[] = {
        {{"--total"}, "--total is for --http", CMD_USAGE},
        {{"--http", "-n", "0"}, "`0` is not a number from 1", CMD_USAGE},
        {{"--http", "x"}, "takes no arguments", CMD_USAGE},
        {{"--http", "--lab", "no-such-lab"}, "no lab `no-such-lab` runs", CMD_FAILED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out, *err;
        assert_int_equal(ctl_run(cmd_top, "top", rows[i].args, &out, &err), rows[i].code);
        assert_non_null(strstr(err, rows[i].err));
        free(out);
        free(err);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
