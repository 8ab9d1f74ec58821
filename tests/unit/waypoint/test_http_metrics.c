// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/l7/l7_reply.h"
#include "common/obs/prom.h"
#include "tests/unit/base/unit.h"

static const uint64_t t0 = 1000 * NS_PER_SEC;
enum { SERIES_IDLE_S = 5 * 60 };

static struct workload *new_workload(const char *owner, const char *zone) {
    struct workload_common common = {
        .ns = "default",
        .cluster = "Kubernetes",
        .canonical_name = owner,
        .canonical_revision = "v1",
        .app = owner,
        .version = "v1",
        .owner_name = owner,
        .identity = "spiffe://cluster.local/ns/default/sa/reviews",
        .locality = {.zone = zone},
    };
    struct workload spec = {.leaf.key = slice_str(owner), .common = &common};
    return workload_new(&spec);
}

static struct service *new_service(void) {
    struct service spec = {
        .leaf.key = SLICE_LIT("default/reviews.default.svc.cluster.local"),
        .name = "reviews",
        .ns = "default",
        .hostname = "reviews.default.svc.cluster.local",
    };
    return service_new(&spec);
}

struct bed {
    struct http_metrics metrics;
    struct workload *source, *destination;
    struct service *service;
};

static void start(struct bed *bed) {
    http_metrics_init(&bed->metrics);
    bed->source = new_workload("sleep", "a");
    bed->destination = new_workload("reviews-v1", "b");
    bed->service = new_service();
}

// All references and series have been given back.
static void stop(struct bed *bed, uint64_t now_ns) {
    http_metrics_fini(&bed->metrics, now_ns);
    void *leaves[] = {bed->source, bed->destination, bed->service};
    for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
        assert_int_equal(((struct leaf *)leaves[i])->refs, 1);
        leaf_unref(leaves[i]);
    }
    metrics_expire(now_ns + SERIES_IDLE_S * NS_PER_SEC);
    metrics_tick();
    assert_int_equal(metrics_total(METRIC_HTTP_REQUESTS), 0);
    assert_int_equal(metrics_total(METRIC_SERIES), 0);
}

static struct http_metrics_request sample(const struct bed *bed) {
    return (struct http_metrics_request){
        .labels = {.source = bed->source,
                   .destination = bed->destination,
                   .service = bed->service,
                   .source_id = SLICE_LIT("spiffe://cluster.local/ns/default/sa/sleep"),
                   .status = 200,
                   .grpc_status = -1,
                   .is_destination_mtls = true},
        .duration_ns = 3 * NS_PER_MS / 2,
        .n_received = 100,
        .n_sent = 1000,
    };
}

static char *scrape(void) {
    struct buf buf;
    buf_init(&buf, 4 << 20);
    prom_write(&buf, PROM_TEXT);
    assert_true(buf_ok(&buf));
    size_t len;
    return buf_take(&buf, &len);
}

// What follows the first `head` in the text, up to the end of its line; fails when it is not there.
static char *rest_of(const char *text, const char *head) {
    const char *at = strstr(text, head);
    if (at == NULL) {
        fail_msg("not there: %s", head);
    }
    at += strlen(head);
    return strndup(at, strcspn(at, "\n"));
}

static unsigned count(const char *text, const char *part) {
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        n++;
    }
    return n;
}

#define ENDS                                                                                       \
    "reporter=\"waypoint\",source_workload=\"sleep\",source_canonical_service=\"sleep\","          \
    "source_canonical_revision=\"v1\",source_workload_namespace=\"default\","                      \
    "source_principal=\"spiffe://cluster.local/ns/default/sa/sleep\",source_app=\"sleep\","        \
    "source_version=\"v1\",source_cluster=\"Kubernetes\","                                         \
    "destination_service=\"reviews.default.svc.cluster.local\","                                   \
    "destination_service_namespace=\"default\",destination_service_name=\"reviews\","              \
    "destination_workload=\"reviews-v1\",destination_canonical_service=\"reviews-v1\","            \
    "destination_canonical_revision=\"v1\",destination_workload_namespace=\"default\","            \
    "destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\","                      \
    "destination_app=\"reviews-v1\",destination_version=\"v1\",destination_cluster="               \
    "\"Kubernetes\","
#define OK_LABELS                                                                                  \
    ENDS "request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\","              \
         "response_flags=\"-\",connection_security_policy=\"mutual_tls\""

static void expect_buckets(const char *text, const char *name, const char *bounds[20],
                           const unsigned counts[20]) {
    char head[2048];
    for (int i = 0; i < 20; i++) {
        snprintf(head, sizeof(head), "%s_bucket{" OK_LABELS ",le=\"%s\"} ", name, bounds[i]);
        char *value = rest_of(text, head);
        assert_int_equal(strtoul(value, NULL, 10), counts[i]);
        free(value);
    }
    snprintf(head, sizeof(head), "%s_bucket{", name);
    assert_int_equal(count(text, head), 20);
}

static void expect_sample(const char *text, const char *head, const char *value) {
    char *rest = rest_of(text, head);
    assert_string_equal(rest, value);
    free(rest);
}

static void test_scrape(void **state) {
    static const char *bounds[] = {"0.5",    "1",      "5",       "10",      "25",
                                   "50",     "100",    "250",     "500",     "1000",
                                   "2500",   "5000",   "10000",   "30000",   "60000",
                                   "300000", "600000", "1800000", "3600000", "+Inf"};
    static const unsigned durations[20] = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                                           1, 1, 1, 1, 1, 1, 1, 1, 1, 2};
    static const unsigned sizes[20] = {0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    static const unsigned sent[20] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    struct bed bed;
    start(&bed);
    struct http_metrics_request request = sample(&bed);
    http_metrics_request(&bed.metrics, &request, t0);
    request.duration_ns = 3600001 * NS_PER_MS;
    http_metrics_request(&bed.metrics, &request, t0);
    char *text = scrape();
    assert_non_null(strstr(text, "# TYPE istio_requests_total counter\n"));
    assert_non_null(strstr(text, "# TYPE istio_request_duration_milliseconds histogram\n"));
    expect_sample(text, "istio_requests_total{" OK_LABELS "} ", "2");
    expect_buckets(text, "istio_request_duration_milliseconds", bounds, durations);
    expect_buckets(text, "istio_request_bytes", bounds, sizes);
    expect_buckets(text, "istio_response_bytes", bounds, sent);
    expect_sample(text, "istio_request_duration_milliseconds_sum{" OK_LABELS "} ", "3600002.5");
    expect_sample(text, "istio_request_duration_milliseconds_count{" OK_LABELS "} ", "2");
    expect_sample(text, "istio_response_bytes_sum{" OK_LABELS "} ", "2000");
    assert_null(strstr(text, "istio_request_messages_total")); // no gRPC, no sample
    free(text);
    stop(&bed, t0);
}

static void test_grpc(void **state) {
    struct bed bed;
    start(&bed);
    struct http_metrics_request request = sample(&bed);
    request.labels.is_grpc = true;
    request.labels.grpc_status = 14;
    request.labels.flags = L7_FLAG_UF | L7_FLAG_URX;
    request.n_messages_received = 3;
    http_metrics_messages(&bed.metrics, &request.labels, 4, 7, t0);
    http_metrics_request(&bed.metrics, &request, t0);
#define GRPC_LABELS                                                                                \
    ENDS "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\","            \
         "response_flags=\"UF,URX\",connection_security_policy=\"mutual_tls\""
    char *text = scrape();
    expect_sample(text, "istio_requests_total{" GRPC_LABELS "} ", "1");
    expect_sample(text, "istio_request_messages_total{" GRPC_LABELS "} ", "7");
    expect_sample(text, "istio_response_messages_total{" GRPC_LABELS "} ", "7");
    free(text);
    stop(&bed, t0);
}

// What is not known is "unknown", and what was not proved too.
static void test_unknown(void **state) {
    struct bed bed;
    start(&bed);
    struct http_metrics_request request = {
        .labels = {.destination = bed.destination, .grpc_status = -1, .flags = L7_FLAG_DC}};
    http_metrics_request(&bed.metrics, &request, t0);
    char *text = scrape();
    char *labels = rest_of(text, "istio_requests_total{reporter=\"waypoint\",");
    assert_int_equal(count(labels, "=\"unknown\""), 8 + 3 + 1 + 1);
    assert_non_null(strstr(labels, "destination_principal=\"unknown\""));
    assert_non_null(strstr(labels, "response_code=\"0\",grpc_response_status=\"\","
                                   "response_flags=\"DC\",connection_security_policy=\"unknown\""));
    free(labels);
    free(text);
    stop(&bed, t0);
}

// Each of these is its own entry; the same again is not.
static void test_entries(void **state) {
    struct bed bed;
    start(&bed);
    struct http_metrics_request request = sample(&bed);
    struct http_metrics_request others[8];
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        others[i] = request;
    }
    others[0].labels.source = NULL;
    others[1].labels.destination = bed.source;
    others[2].labels.service = NULL;
    others[3].labels.source_id = SLICE_LIT("spiffe://cluster.local/ns/default/sa/other");
    others[4].labels.flags = L7_FLAG_UH;
    others[5].labels.status = 503;
    others[6].labels.is_grpc = true;
    others[7].labels.is_destination_mtls = false;
    for (int again = 0; again < 2; again++) {
        http_metrics_request(&bed.metrics, &request, t0);
        for (size_t i = 0; i < ARRAY_LEN(others); i++) {
            http_metrics_request(&bed.metrics, &others[i], t0);
        }
        assert_int_equal(bed.metrics.n, 1 + ARRAY_LEN(others));
    }
    assert_int_equal(metrics_total(METRIC_HTTP_REQUESTS), 2 * (1 + (int)ARRAY_LEN(others)));
    char *text = scrape();
    assert_int_equal(count(text, "istio_requests_total{"), 1 + ARRAY_LEN(others));
    free(text);
    // A newer leaf with other texts is another entry, and with the same ones the same series.
    struct workload *newer = new_workload("sleep", "c");
    request.labels.source = newer;
    http_metrics_request(&bed.metrics, &request, t0);
    assert_int_equal(bed.metrics.n, 2 + ARRAY_LEN(others));
    text = scrape();
    assert_int_equal(count(text, "istio_requests_total{"), 1 + ARRAY_LEN(others));
    expect_sample(text, "istio_requests_total{" OK_LABELS "} ", "3");
    free(text);
    stop(&bed, t0);
    leaf_unref(newer);
}

static void test_expiry(void **state) {
    struct bed bed;
    start(&bed);
    struct http_metrics_request request = sample(&bed);
    http_metrics_request(&bed.metrics, &request, t0);
    request.labels.status = 404;
    http_metrics_request(&bed.metrics, &request, t0 + NS_PER_SEC);
    http_metrics_tick(&bed.metrics, t0 + HTTP_METRICS_IDLE_S * NS_PER_SEC - 1);
    assert_int_equal(bed.metrics.n, 2);
    http_metrics_tick(&bed.metrics, t0 + HTTP_METRICS_IDLE_S * NS_PER_SEC);
    assert_int_equal(bed.metrics.n, 1);
    // Only the entry has gone, not the series.
    assert_int_equal(metrics_total(METRIC_HTTP_REQUESTS), 2);
    request.labels.status = 200;
    http_metrics_request(&bed.metrics, &request, t0 + 61 * NS_PER_SEC);
    char *text = scrape();
    expect_sample(text, "istio_requests_total{" OK_LABELS "} ", "2");
    free(text);
    stop(&bed, t0 + 61 * NS_PER_SEC);
}

static void find_ok(void *arg, const struct metric_point *point) {
    if (point->metric == METRIC_HTTP_REQUESTS &&
        slice_eq_str(point->values[METRIC_LABEL(HTTP, RESPONSE_CODE)], "200")) {
        *(int64_t *)arg = point->value;
    }
}

// At the cap the one that was not used for longest goes.
static void test_cap(void **state) {
    struct bed bed;
    start(&bed);
    struct http_metrics_request first = sample(&bed), other = first;
    http_metrics_request(&bed.metrics, &first, t0);
    for (uint32_t i = 0; i < 2 * HTTP_METRICS_ENTRIES_MAX; i++) {
        other.labels.status = (uint16_t)(i + 1000);
        http_metrics_request(&bed.metrics, &other, t0);
        assert_true(bed.metrics.n <= HTTP_METRICS_ENTRIES_MAX);
        http_metrics_request(&bed.metrics, &first, t0);
    }
    assert_int_equal(bed.metrics.n, HTTP_METRICS_ENTRIES_MAX);
    int64_t n_ok = 0;
    metrics_each(find_ok, &n_ok);
    assert_int_equal(n_ok, 2 * HTTP_METRICS_ENTRIES_MAX + 1);
    stop(&bed, t0);
}

static void test_head_size(void **state) {
    struct http_field fields[] = {{.name = SLICE_LIT("accept"), .value = SLICE_LIT("*/*")}};
    struct http_head request = {.method = SLICE_LIT("GET"),
                                .authority = SLICE_LIT("a:80"),
                                .path = SLICE_LIT("/x"),
                                .fields = fields,
                                .n_fields = 1};
    assert_int_equal(http_metrics_head_size(&request),
                     strlen("GET /x HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\n\r\n"));
    struct http_head response = {.status = 200, .fields = fields, .n_fields = 1};
    assert_int_equal(http_metrics_head_size(&response),
                     strlen("HTTP/1.1 200 \r\naccept: */*\r\n\r\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scrape),    cmocka_unit_test(test_grpc),
        cmocka_unit_test(test_unknown),   cmocka_unit_test(test_entries),
        cmocka_unit_test(test_expiry),    cmocka_unit_test(test_cap),
        cmocka_unit_test(test_head_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
