// SPDX-License-Identifier: Apache-2.0
#include "common/obs/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/prom.h"
#include "tests/unit/base/unit.h"

enum { IDLE_S = 5 * 60 };

static const uint64_t t0 = 1000 * NS_PER_SEC;

static void test_tables(void **state) {
    for (size_t i = 0; i < N_METRICS; i++) {
        const struct metric_info *info = &metric_infos[i];
        struct slice name = slice_str(info->name);
        assert_true(name.len > 0 && strlen(info->help) > 0);
        assert_false(slice_has_suffix(name, SLICE_LIT("_total")));
        if (info->unit[0] != '\0') {
            assert_true(slice_has_suffix(name, slice_str(info->unit)));
        }
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(info->name, metric_infos[j].name);
        }
        for (unsigned j = 1; j < info->n_buckets; j++) {
            assert_true(info->buckets[j - 1] < info->buckets[j]);
        }
    }
    struct metric_label_names traffic = metric_label_names(METRIC_LABELS_TRAFFIC);
    assert_int_equal(traffic.n_labels, 27);
    assert_string_equal(traffic.names[METRIC_LABEL(TRAFFIC, REPORTER)], "reporter");
    assert_string_equal(traffic.names[METRIC_LABEL(TRAFFIC, DESTINATION_ZONE)], "destination_zone");
    assert_string_equal(metric_label_names(METRIC_LABELS_BUILD).names[METRIC_LABEL(BUILD, TAG)],
                        "tag");
    assert_int_equal(metric_label_names(METRIC_LABELS_NONE).n_labels, 0);
}

struct found {
    enum metric metric;
    const char *first_label; // NULL: any
    struct metric_point point;
    unsigned n;
};

static void match(void *arg, const struct metric_point *point) {
    struct found *found = arg;
    if (point->metric == found->metric &&
        (found->first_label == NULL || slice_eq_str(point->values[0], found->first_label))) {
        found->point = *point;
        found->n++;
    }
}

static struct found find(enum metric metric, const char *first_label) {
    struct found found = {.metric = metric, .first_label = first_label};
    metrics_each(match, &found);
    return found;
}

static void test_plain(void **state) {
    int64_t before = metrics_total(METRIC_PROXIES_STARTED);
    metric_add(METRIC_PROXIES_STARTED, 3);
    metric_add(METRIC_PROXIES_STARTED, 4);
    assert_int_equal(metrics_total(METRIC_PROXIES_STARTED) - before, 7);
    metric_set(METRIC_PROXIES_ACTIVE, 5);
    metric_sub(METRIC_PROXIES_ACTIVE, 7);
    assert_int_equal(metrics_total(METRIC_PROXIES_ACTIVE), -2);
    metric_set(METRIC_PROXIES_ACTIVE, 0);
    assert_int_equal(find(METRIC_PROXIES_PENDING, NULL).n, 1); // shown at 0 too
}

static void test_histogram(void **state) {
    const struct metric_info *info = &metric_infos[METRIC_LOOP_TURN];
    static const double values[] = {0, 0.00001, 0.000011, 0.5, 1, 1.0001, 100};
    double sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        metric_observe(METRIC_LOOP_TURN, values[i]);
        sum += values[i];
    }
    struct found found = find(METRIC_LOOP_TURN, NULL);
    assert_int_equal(found.n, 1);
    assert_int_equal(found.point.counts[0], 2); // a bound belongs to its bucket
    assert_int_equal(found.point.counts[1], 1);
    assert_int_equal(found.point.counts[info->n_buckets - 1], 2);
    assert_int_equal(found.point.counts[info->n_buckets], 2);
    assert_true(found.point.sum == sum);
    assert_int_equal(metrics_total(METRIC_LOOP_TURN), ARRAY_LEN(values));
}

static void test_series(void **state) {
    struct slice source[] = {SLICE_LIT("source")};
    struct slice destination[] = {SLICE_LIT("destination")};
    struct slice missing[] = {{0}};
    struct metric_series *a = metric_series_get(METRIC_LABELS_REPORTER, source);
    struct metric_series *b = metric_series_get(METRIC_LABELS_REPORTER, destination);
    assert_ptr_not_equal(a, b);
    struct metric_series *again = metric_series_get(METRIC_LABELS_REPORTER, source);
    assert_ptr_equal(a, again);
    metric_series_add(a, METRIC_TCP_SOCKETS_OPEN, 2);
    metric_series_sub(again, METRIC_TCP_SOCKETS_OPEN, 1);
    metric_series_set(b, METRIC_TCP_SOCKETS_OPEN, 10);
    assert_int_equal(find(METRIC_TCP_SOCKETS_OPEN, "source").point.value, 1);
    assert_int_equal(find(METRIC_TCP_SOCKETS_OPEN, "destination").point.value, 10);
    // Metrics of the set that were not touched are not shown.
    assert_int_equal(find(METRIC_CRL_REJECTIONS, NULL).n, 0);
    metric_count(METRIC_CRL_REJECTIONS, missing, 1, t0);
    assert_int_equal(find(METRIC_CRL_REJECTIONS, "unknown").point.value, 1);
    metric_series_put(a, t0);
    metric_series_put(again, t0);
    metric_series_put(b, t0);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    metrics_tick();
}

// An optional label may be empty, and is another series then.
static void test_optional_label(void **state) {
    struct slice values[METRIC_MAX_LABELS] = {SLICE_LIT("optional")};
    metric_count(METRIC_HTTP_REQUESTS, values, 1, t0);
    values[METRIC_LABEL(HTTP, GRPC_RESPONSE_STATUS)] = SLICE_LIT("0");
    metric_count(METRIC_HTTP_REQUESTS, values, 2, t0);
    assert_int_equal(find(METRIC_HTTP_REQUESTS, "optional").n, 2);
    struct metric_label_names labels = metric_label_names(METRIC_LABELS_HTTP);
    assert_int_equal(labels.n_labels, 25);
    for (unsigned i = 0; i < labels.n_labels; i++) {
        bool is_grpc = i == METRIC_LABEL(HTTP, GRPC_RESPONSE_STATUS);
        assert_int_equal(labels.are_optional[i], is_grpc);
    }
    struct found found = find(METRIC_HTTP_REQUESTS, "optional");
    assert_slice_equal(found.point.values[METRIC_LABEL(HTTP, RESPONSE_CODE)], "unknown");
    struct buf text;
    buf_init(&text, 1 << 20);
    prom_write(&text, PROM_TEXT);
    assert_non_null(strstr(buf_cstr(&text),
                           "grpc_response_status=\"\",response_flags=\"unknown\""));
    assert_non_null(strstr(buf_cstr(&text),
                           "grpc_response_status=\"0\",response_flags=\"unknown\""));
    buf_fini(&text);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    metrics_tick();
    assert_int_equal(find(METRIC_HTTP_REQUESTS, NULL).n, 0);
}

static void test_label_length(void **state) {
    static char big[1000];
    memset(big, 'x', sizeof(big));
    for (size_t len = METRIC_LABEL_VALUE_MAX - 1; len < METRIC_LABEL_VALUE_MAX + 2; len++) {
        struct slice values[] = {slice_make(big, len)};
        metric_count(METRIC_CONFIG_REJECTED, values, 1, t0);
    }
    struct found found = find(METRIC_CONFIG_REJECTED, NULL);
    assert_int_equal(found.n, 2); // 255, and the rest cut to 256
    assert_int_equal(found.point.value, 2);
    assert_int_equal(found.point.values[0].len, METRIC_LABEL_VALUE_MAX);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    metrics_tick();
    assert_int_equal(find(METRIC_CONFIG_REJECTED, NULL).n, 0);
}

static void test_expiry(void **state) {
    int64_t n_series = metrics_total(METRIC_SERIES);
    struct slice values[METRIC_MAX_LABELS] = {SLICE_LIT("expiring")};
    struct metric_series *series = metric_series_get(METRIC_LABELS_TRAFFIC, values);
    metric_series_add(series, METRIC_TCP_OPENED, 1);
    assert_true(metrics_total(METRIC_SERIES) > n_series);
    metrics_expire(t0 * 1000); // in use: never
    assert_int_equal(find(METRIC_TCP_OPENED, "expiring").n, 1);
    metric_series_put(series, t0);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC - 1);
    assert_int_equal(find(METRIC_TCP_OPENED, "expiring").n, 1);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    assert_int_equal(find(METRIC_TCP_OPENED, "expiring").n, 0);
    assert_int_equal(metrics_total(METRIC_SERIES), n_series);
    // The same labels before the owner freed the old cells: new ones, from 0.
    struct metric_series *fresh = metric_series_get(METRIC_LABELS_TRAFFIC, values);
    assert_ptr_not_equal(fresh, series);
    metric_series_add(fresh, METRIC_TCP_OPENED, 5);
    assert_int_equal(find(METRIC_TCP_OPENED, "expiring").point.value, 5);
    metrics_tick();
    assert_ptr_equal(metric_series_get(METRIC_LABELS_TRAFFIC, values), fresh);
    metric_series_put(fresh, t0);
    metric_series_put(fresh, t0);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    metrics_tick();
    assert_int_equal(metrics_total(METRIC_SERIES), n_series);
}

// Expiry is for all threads at once.

static pthread_barrier_t barrier;

static void *use_late(void *arg) {
    struct slice values[] = {SLICE_LIT("shared")};
    metric_count(METRIC_CONFIG_REJECTED, values, 10, t0);
    metric_count(METRIC_CONFIG_REJECTED, values, 10, t0 + 60 * NS_PER_SEC);
    pthread_barrier_wait(&barrier); // used
    pthread_barrier_wait(&barrier); // expired
    metrics_tick();
    // Used again by this thread, whose cells for the labels were there.
    metric_count(METRIC_CONFIG_REJECTED, values, 1, t0 + 1000 * NS_PER_SEC);
    return NULL;
}

static void test_expiry_across_threads(void **state) {
    struct slice values[] = {SLICE_LIT("shared")};
    pthread_barrier_init(&barrier, NULL, 2);
    metric_count(METRIC_CONFIG_REJECTED, values, 100, t0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_late, NULL), 0);
    pthread_barrier_wait(&barrier);
    metrics_expire(t0 + IDLE_S * NS_PER_SEC); // idle here, but not there
    metrics_tick();
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "shared").point.value, 120);
    metrics_expire(t0 + (IDLE_S + 60) * NS_PER_SEC);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "shared").n, 0);
    metrics_tick();
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "shared").point.value, 1);
    metrics_expire(t0 + (1000 + IDLE_S) * NS_PER_SEC);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "shared").n, 0);
    pthread_barrier_destroy(&barrier);
}

static void *count_and_end(void *arg) {
    struct slice values[] = {SLICE_LIT("dead thread")};
    metric_add(METRIC_PROXIES_STOPPED, 1);
    metric_observe(METRIC_CONTROL_TURN, 0.5);
    // Never put: the thread ends with it.
    metric_series_add(metric_series_get(METRIC_LABELS_KIND, values), METRIC_CONFIG_REJECTED, 1);
    return NULL;
}

static void test_threads_that_end(void **state) {
    int64_t before = metrics_total(METRIC_PROXIES_STOPPED);
    enum { N = 20 };
    for (int i = 0; i < N; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, count_and_end, NULL), 0);
        pthread_join(thread, NULL);
        if (i % 5 == 0) {
            metrics_expire(clock_mono_ns());
        }
    }
    assert_int_equal(metrics_total(METRIC_PROXIES_STOPPED) - before, N);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "dead thread").point.value, N);
    metrics_expire(clock_mono_ns() + (IDLE_S + 1) * NS_PER_SEC);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "dead thread").n, 0);
    assert_int_equal(metrics_total(METRIC_PROXIES_STOPPED) - before, N);
    struct found found = find(METRIC_CONTROL_TURN, NULL);
    assert_true(found.point.sum == N * 0.5);
}

// Threads count, create, use again and free series while others scrape and expire.

enum { N_THREADS = 4, N_ROUNDS = 4000, N_LABELS = 50 };

static _Atomic bool is_over;
static _Atomic uint64_t fake_now_ns;

static void *work(void *arg) {
    for (int i = 0; i < N_ROUNDS; i++) {
        char text[32];
        snprintf(text, sizeof(text), "url-%d", i % N_LABELS);
        struct slice values[] = {slice_str(text)};
        uint64_t now_ns = atomic_load(&fake_now_ns);
        struct metric_series *series = metric_series_get(METRIC_LABELS_KIND, values);
        metric_series_add(series, METRIC_CONFIG_REJECTED, 1);
        metric_series_put(series, now_ns);
        metric_add(METRIC_PROXIES_STARTED, 1);
        metric_observe(METRIC_LOOP_TURN, 0.25);
        if (i % 100 == 0) {
            metrics_tick();
        }
    }
    return NULL;
}

static void *disturb(void *arg) {
    while (!atomic_load(&is_over)) {
        // Time leaps, so that idle series expire at once.
        uint64_t now_ns = atomic_fetch_add(&fake_now_ns, 400 * NS_PER_SEC);
        metrics_expire(now_ns);
        (void)metrics_total(METRIC_CONFIG_REJECTED);
        usleep(500);
    }
    return NULL;
}

static void test_races(void **state) {
    int64_t before = metrics_total(METRIC_PROXIES_STARTED);
    int64_t series_before = metrics_total(METRIC_SERIES);
    atomic_store(&fake_now_ns, t0);
    pthread_t threads[N_THREADS], other;
    assert_int_equal(pthread_create(&other, NULL, disturb, NULL), 0);
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&is_over, true);
    pthread_join(other, NULL);
    assert_int_equal(metrics_total(METRIC_PROXIES_STARTED) - before, N_THREADS * N_ROUNDS);
    metrics_expire(atomic_load(&fake_now_ns) + 1000 * NS_PER_SEC);
    assert_int_equal(metrics_total(METRIC_SERIES), series_before);
    assert_int_equal(metrics_total(METRIC_CONFIG_REJECTED), 0);
}

static void test_overflow(void **state) {
    int64_t overflows = metrics_total(METRIC_SERIES_OVERFLOW);
    int64_t room = METRIC_MAX_SERIES - metrics_total(METRIC_SERIES);
    unsigned n_metrics = 0;
    for (size_t m = 0; m < N_METRICS; m++) {
        n_metrics += metric_infos[m].labels == METRIC_LABELS_KIND;
    }
    unsigned n_fit = (unsigned)(room / n_metrics);
    enum { N_MORE = 20 };
    for (unsigned i = 0; i < n_fit + N_MORE; i++) {
        char text[32];
        snprintf(text, sizeof(text), "flood-%u", i);
        struct slice values[] = {slice_str(text)};
        metric_count(METRIC_CONFIG_REJECTED, values, 1, t0);
    }
    assert_int_equal(metrics_total(METRIC_SERIES_OVERFLOW) - overflows, N_MORE);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "_overflow").point.value, N_MORE);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "flood-0").point.value, 1);
    assert_true(metrics_total(METRIC_SERIES) <= METRIC_MAX_SERIES);
    // Known labels go on as before.
    struct slice known[] = {SLICE_LIT("flood-0")};
    metric_count(METRIC_CONFIG_REJECTED, known, 1, t0);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "flood-0").point.value, 2);

    metrics_expire(t0 + IDLE_S * NS_PER_SEC);
    for (unsigned i = 0; i <= n_fit / 256; i++) {
        metrics_tick(); // a bounded number each
    }
    assert_int_equal(metrics_total(METRIC_SERIES), METRIC_MAX_SERIES - room);
    metric_count(METRIC_CONFIG_REJECTED, known, 1, t0);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "flood-0").point.value, 1);
    assert_int_equal(find(METRIC_CONFIG_REJECTED, "_overflow").point.value, N_MORE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),           cmocka_unit_test(test_plain),
        cmocka_unit_test(test_histogram),        cmocka_unit_test(test_series),
        cmocka_unit_test(test_optional_label),   cmocka_unit_test(test_label_length),
        cmocka_unit_test(test_expiry),           cmocka_unit_test(test_expiry_across_threads),
        cmocka_unit_test(test_threads_that_end), cmocka_unit_test(test_races),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
