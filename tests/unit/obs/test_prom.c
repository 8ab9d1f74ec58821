// SPDX-License-Identifier: Apache-2.0
#include "common/obs/prom.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/base/unit.h"

static void test_negotiation(void **state) {
    static const struct {
        const char *accept;
        enum prom_format format;
    } rows[] = {
        {"", PROM_TEXT},
        {"*/*", PROM_TEXT},
        {"text/plain;version=0.0.4", PROM_TEXT},
        {"application/openmetrics-text", PROM_OPENMETRICS},
        {"application/OpenMetrics-Text;version=1.0.0;q=0.5,text/plain;q=0.1", PROM_OPENMETRICS},
        {"text/plain, application/openmetrics-text;version=0.0.1", PROM_OPENMETRICS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(prom_format_of(slice_str(rows[i].accept)), rows[i].format);
    }
    assert_non_null(strstr(prom_content_type(PROM_TEXT), "0.0.4"));
    assert_non_null(strstr(prom_content_type(PROM_OPENMETRICS), "openmetrics"));
}

static struct buf scrape(enum prom_format format) {
    struct buf buf;
    buf_init(&buf, 1 << 20);
    prom_write(&buf, format);
    assert_true(buf_ok(&buf));
    return buf;
}

static void count_samples(void) {
    struct slice labels[METRIC_MAX_LABELS] = {0};
    labels[METRIC_LABEL(TRAFFIC, REPORTER)] = SLICE_LIT("source");
    labels[METRIC_LABEL(TRAFFIC, SOURCE_WORKLOAD)] = SLICE_LIT("a\"b\\c\nd\xff");
    labels[METRIC_LABEL(TRAFFIC, RESPONSE_FLAGS)] = SLICE_LIT("-");
    metric_count(METRIC_TCP_OPENED, labels, 3, 0);
    struct slice dns[] = {SLICE_LIT("A"), SLICE_LIT("udp"), {0}, {0}};
    struct metric_series *series = metric_series_get(METRIC_LABELS_DNS, dns);
    metric_series_observe(series, METRIC_DNS_UPSTREAM_SECONDS, 0.0005);
    metric_series_observe(series, METRIC_DNS_UPSTREAM_SECONDS, 0.25);
    metric_series_observe(series, METRIC_DNS_UPSTREAM_SECONDS, 9);
    metric_series_put(series, 0);
    metric_set(METRIC_PROXIES_ACTIVE, -4);
}

static const char traffic_sample[] =
    "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"a\\\"b\\\\c\\nd"
    "\xef\xbf\xbd\",source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\","
    "source_workload_namespace=\"unknown\",source_principal=\"unknown\",source_app=\"unknown\","
    "source_version=\"unknown\",source_cluster=\"unknown\",destination_service=\"unknown\","
    "destination_service_namespace=\"unknown\",destination_service_name=\"unknown\","
    "destination_workload=\"unknown\",destination_canonical_service=\"unknown\","
    "destination_canonical_revision=\"unknown\",destination_workload_namespace=\"unknown\","
    "destination_principal=\"unknown\",destination_app=\"unknown\",destination_version=\"unknown\","
    "destination_cluster=\"unknown\",request_protocol=\"unknown\",response_flags=\"-\","
    "connection_security_policy=\"unknown\",source_region=\"unknown\",source_zone=\"unknown\","
    "destination_region=\"unknown\",destination_zone=\"unknown\"} 3\n";

static void test_text(void **state) {
    count_samples();
    struct buf buf = scrape(PROM_TEXT);
    const char *text = buf_cstr(&buf);
    assert_non_null(strstr(text, "# HELP istio_tcp_connections_opened_total The total number of "
                                 "TCP connections opened\n"
                                 "# TYPE istio_tcp_connections_opened_total counter\n"));
    assert_non_null(strstr(text, traffic_sample));
    assert_null(strstr(text, "istio_tcp_connections_closed_total")); // no sample, no family
    assert_non_null(strstr(text, "# TYPE workload_manager_active_proxy_count gauge\n"
                                 "workload_manager_active_proxy_count -4\n"));
    assert_null(strstr(text, "# UNIT"));
    assert_null(strstr(text, "# EOF"));
#define D                                                                                          \
    "{request_query_type=\"A\",request_protocol=\"udp\",source_canonical_service=\"unknown\","     \
    "source_canonical_revision=\"unknown\""
#define N "istio_dns_upstream_request_duration_seconds"
    assert_non_null(strstr(text,
                           "# TYPE " N " histogram\n" //
                           N "_bucket" D ",le=\"0.0005\"} 1\n" N "_bucket" D ",le=\"0.001\"} 1\n" N
                           "_bucket" D ",le=\"0.01\"} 1\n" N "_bucket" D ",le=\"0.1\"} 1\n" N
                           "_bucket" D ",le=\"1\"} 2\n" N "_bucket" D ",le=\"5\"} 2\n" N "_bucket" D
                           ",le=\"+Inf\"} 3\n" N "_sum" D "} 9.2505\n" N "_count" D "} 3\n"));
    // A histogram without labels.
    assert_non_null(strstr(text, "loop_turn_seconds_bucket{le=\"1e-05\"} 0\n"));
    assert_non_null(strstr(text, "loop_turn_seconds_sum 0\nloop_turn_seconds_count 0\n"));
    buf_fini(&buf);
}

static void test_openmetrics(void **state) {
    struct buf buf = scrape(PROM_OPENMETRICS);
    const char *text = buf_cstr(&buf);
    assert_non_null(strstr(text, "# TYPE istio_tcp_connections_opened counter\n"
                                 "istio_tcp_connections_opened_total{"));
    assert_non_null(strstr(text, "# UNIT " N " seconds\n"));
    assert_non_null(strstr(text, N "_bucket" D ",le=\"1.0\"} 2\n"));
    assert_non_null(strstr(text, N "_bucket" D ",le=\"+Inf\"} 3\n"));
    assert_string_equal(text + buf.len - 6, "# EOF\n");
    buf_fini(&buf);
}

static void test_overflow(void **state) {
    struct buf whole = scrape(PROM_TEXT);
    for (size_t max = 0; max < whole.len; max += 101) {
        struct buf buf;
        buf_init(&buf, max);
        prom_write(&buf, PROM_TEXT);
        assert_false(buf_ok(&buf));
        buf_fini(&buf);
    }
    buf_fini(&whole);
}

static void collect(void *arg, struct prom_writer *w) {
    prom_family(w, "custom_things", METRIC_COUNTER, "", "\"Things\"\n");
    struct prom_label labels[] = {{"a", SLICE_LIT("1")}, {"b", SLICE_LIT("\"")}};
    prom_sample(w, "custom_things", METRIC_COUNTER, labels, 2, 2.5);
}

static double value_of(const char *text, const char *name) {
    char line[100];
    snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(text, line);
    assert_non_null(at);
    return strtod(at + strlen(line), NULL);
}

static void test_collectors(void **state) {
    prom_collector_add(collect, NULL);
    prom_collector_add(prom_process, NULL);
    struct buf buf = scrape(PROM_TEXT);
    const char *text = buf_cstr(&buf);
    assert_non_null(strstr(text, "# HELP custom_things_total \"Things\"\\n\n"
                                 "# TYPE custom_things_total counter\n"
                                 "custom_things_total{a=\"1\",b=\"\\\"\"} 2.5\n"));
    struct buf other = scrape(PROM_OPENMETRICS);
    assert_non_null(strstr(buf_cstr(&other), "# HELP custom_things \\\"Things\\\"\\n\n"));
    buf_fini(&other);
    double n_fds = value_of(text, "process_open_fds");
    assert_true(n_fds >= 3 && n_fds < 100);
    assert_true(value_of(text, "process_max_fds") >= n_fds);
    assert_true(value_of(text, "process_resident_memory_bytes") > 100000);
    assert_true(value_of(text, "process_cpu_seconds_total") >= 0);
    assert_true(value_of(text, "process_start_time_seconds") > 1.6e9);
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_negotiation), cmocka_unit_test(test_text),
        cmocka_unit_test(test_openmetrics), cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_collectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
