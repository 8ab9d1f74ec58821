// SPDX-License-Identifier: Apache-2.0
//
// Ejection arithmetic, and limits that hold with many threads.
#include "common/l7/l7_outlier.h"

#include <pthread.h>

#include "common/l7/l7_breaker.h"
#include "tests/unit/l7/l7_fixture.h"

enum { HOSTS = 20 };

struct bed {
    struct l7_outlier_policy policy;
    struct l7_outlier cluster;
    struct l7_lb_cell lb;
    struct l7_host_cell cells[HOSTS], *hosts[HOSTS];
    uint32_t n;
    uint64_t now_ms;
};

static void bed_init(struct bed *bed, uint32_t n) {
    memset(bed, 0, sizeof(*bed));
    bed->policy = (struct l7_outlier_policy){.is_on = true,
                                             .consecutive_5xx = 5,
                                             .interval_ms = 10000,
                                             .base_ejection_ms = 30000,
                                             .max_ejection_ms = 300000,
                                             .max_ejection_percent = 100};
    bed->n = n;
    for (size_t i = 0; i < HOSTS; i++) {
        bed->hosts[i] = &bed->cells[i];
    }
}

static bool report(struct bed *bed, size_t host, enum l7_result result, uint16_t status) {
    return l7_outlier_report(&(struct l7_outlier_report){.policy = &bed->policy,
                                                         .cluster = &bed->cluster,
                                                         .lb = &bed->lb,
                                                         .host = bed->hosts[host],
                                                         .n_hosts = bed->n,
                                                         .result = (uint8_t)result,
                                                         .status = status,
                                                         .now_ms = bed->now_ms});
}

static size_t tick(struct bed *bed, uint64_t after_ms) {
    bed->now_ms += after_ms;
    return l7_outlier_tick(&bed->policy, &bed->cluster, &bed->lb, bed->hosts, bed->n, bed->now_ms);
}

// Statuses in a row: which one ejects. 1 and 2 stand for a failed connection and a timeout, 3 for
// a connection that came about.
static void test_streaks(void **state) {
    const struct {
        const char *what;
        uint32_t n_5xx, n_gateway, n_local;
        bool is_split;
        uint16_t statuses[12];
        int ejects; // index; -1: none does
    } cases[] = {
        {"five", 5, 0, 0, false, {500, 501, 502, 503, 504}, 4},
        {"a good one between", 5, 0, 0, false, {500, 500, 500, 500, 200, 500, 500}, -1},
        {"4xx are good", 2, 0, 0, false, {500, 404, 500, 404}, -1},
        {"one", 1, 0, 0, false, {200, 500}, 1},
        {"off", 0, 0, 0, false, {500, 500, 500, 500, 500, 500, 500, 500}, -1},
        {"gateway", 0, 3, 0, false, {502, 503, 504}, 2},
        {"500 is no gateway error", 0, 3, 0, false, {502, 503, 500, 504, 502}, -1},
        {"both count", 3, 2, 0, false, {500, 502, 502}, 2},
        {"connect failures are 503", 0, 2, 0, false, {1, 1}, 1},
        {"timeouts are 504", 3, 0, 0, false, {1, 2, 500}, 2},
        {"a connection is no success", 2, 0, 0, false, {500, 3, 500}, 2},
        {"split: local ones apart", 2, 0, 3, true, {1, 500, 1, 200, 2}, 4},
        {"split: connected ends it", 2, 0, 2, true, {1, 3, 1, 3}, -1},
        {"split: off", 2, 0, 0, true, {1, 1, 1, 1}, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed bed;
        bed_init(&bed, 2);
        bed.policy.consecutive_5xx = cases[i].n_5xx;
        bed.policy.consecutive_gateway = cases[i].n_gateway;
        bed.policy.consecutive_local_origin = cases[i].n_local;
        bed.policy.splits_local_origin = cases[i].is_split;
        int ejected = -1;
        for (int k = 0; k < 12 && cases[i].statuses[k] != 0; k++) {
            static const uint8_t results[] = {L7_RESULT_STATUS, L7_RESULT_CONNECT_FAILED,
                                              L7_RESULT_TIMEOUT, L7_RESULT_CONNECTED};
            uint16_t status = cases[i].statuses[k];
            if (report(&bed, 0, results[status < 4 ? status : 0], status)) {
                ejected = k;
                break;
            }
        }
        if (ejected != cases[i].ejects) {
            fail_msg("%s: %d, not %d", cases[i].what, ejected, cases[i].ejects);
        }
        assert_int_equal(atomic_load(&bed.lb.generation), ejected >= 0);
    }
}

static void test_codes(void **state) {
    static const uint16_t codes[] = {429, 503};
    struct bed bed;
    bed_init(&bed, 2);
    bed.policy.consecutive_5xx = 2;
    bed.policy.codes = codes;
    bed.policy.n_codes = 2;
    assert_false(report(&bed, 0, L7_RESULT_STATUS, 429));
    assert_false(report(&bed, 0, L7_RESULT_STATUS, 500)); // is not listed: well
    assert_false(report(&bed, 0, L7_RESULT_STATUS, 503));
    assert_true(report(&bed, 0, L7_RESULT_STATUS, 429));
}

static void test_percent(void **state) {
    const struct {
        uint32_t n_hosts, percent, n_ejected; // of all hosts
    } cases[] = {{5, 10, 0}, {9, 10, 0}, {10, 10, 1}, {19, 10, 1},   {20, 10, 2},
                 {2, 50, 1}, {3, 50, 1}, {4, 49, 1},  {1, 100, 1},   {20, 100, 20},
                 {3, 0, 0},  {3, 99, 2}, {1, 99, 0},  {20, 1000, 20}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed bed;
        bed_init(&bed, cases[i].n_hosts);
        bed.policy.consecutive_5xx = 1;
        bed.policy.max_ejection_percent = cases[i].percent;
        for (size_t host = 0; host < cases[i].n_hosts; host++) {
            report(&bed, host, L7_RESULT_STATUS, 500);
            report(&bed, host, L7_RESULT_STATUS, 500); // once is enough
        }
        assert_int_equal(atomic_load(&bed.cluster.n_ejected), cases[i].n_ejected);
    }
    // A place that becomes free is taken by the next streak, not by an old one.
    struct bed bed;
    bed_init(&bed, 2);
    bed.policy.max_ejection_percent = 50;
    for (int i = 0; i < 9; i++) {
        report(&bed, 0, L7_RESULT_STATUS, 500);
        report(&bed, 1, L7_RESULT_STATUS, 500);
    }
    assert_int_equal(tick(&bed, 30000), 1);
    assert_true(report(&bed, 1, L7_RESULT_STATUS, 500)); // 5 that were void, 4, and this one
    assert_int_equal(atomic_load(&bed.cluster.n_ejected), 1);
}

static void test_times(void **state) {
    struct bed bed;
    bed_init(&bed, 1);
    bed.policy.consecutive_5xx = 1;
    // base * n, at most 300 s.
    for (uint64_t n = 1; n <= 12; n++) {
        uint64_t out_ms = MIN(n * 30000, 300000);
        assert_true(report(&bed, 0, L7_RESULT_STATUS, 500));
        assert_int_equal(tick(&bed, out_ms - 1), 0);
        assert_true(atomic_load(&bed.cells[0].is_ejected));
        assert_int_equal(tick(&bed, 1), 1);
        assert_false(atomic_load(&bed.cells[0].is_ejected));
    }
    // Each healthy interval takes one off.
    for (int i = 0; i < 8; i++) {
        tick(&bed, 10000);
    }
    assert_true(report(&bed, 0, L7_RESULT_STATUS, 500));
    unsigned n = atomic_load(&bed.cells[0].n_ejections);
    assert_in_range(n, 3, 4); // 10 or 11, less 8, and this one
    assert_int_equal(tick(&bed, n * 30000 - 1), 0);
    assert_int_equal(tick(&bed, 1), 1);
    for (int i = 0; i < 20; i++) {
        tick(&bed, 10000);
    }
    assert_int_equal(atomic_load(&bed.cells[0].n_ejections), 0);
    // A base above 300 s is its own maximum.
    bed.policy.base_ejection_ms = bed.policy.max_ejection_ms = 400000;
    for (int i = 0; i < 3; i++) {
        assert_true(report(&bed, 0, L7_RESULT_STATUS, 500));
        assert_int_equal(tick(&bed, 399999), 0);
        assert_int_equal(tick(&bed, 1), 1);
    }
}

static void test_going(void **state) {
    struct bed bed;
    bed_init(&bed, 3);
    bed.policy.consecutive_5xx = 1;
    report(&bed, 0, L7_RESULT_STATUS, 500);
    report(&bed, 1, L7_RESULT_STATUS, 500);
    l7_outlier_forget(&bed.cluster, bed.hosts[0]);
    assert_int_equal(atomic_load(&bed.cluster.n_ejected), 1);
    assert_false(atomic_load(&bed.cells[0].is_ejected));
    bed.policy.is_on = false;
    assert_false(report(&bed, 2, L7_RESULT_STATUS, 500));
    assert_int_equal(tick(&bed, 1), 1); // the policy went
    assert_int_equal(atomic_load(&bed.cluster.n_ejected), 0);
}

static void test_resets(void **state) {
    const struct {
        enum l7_reset reset;
        int status; // -1: says nothing
        enum l7_result result;
    } cases[] = {{L7_RESET_CONNECT_REFUSED, 503, L7_RESULT_CONNECT_FAILED},
                 {L7_RESET_CONNECT_TIMEOUT, 504, L7_RESULT_TIMEOUT},
                 {L7_RESET_REMOTE, 500, L7_RESULT_STATUS},
                 {L7_RESET_TERMINATION, 500, L7_RESULT_STATUS},
                 {L7_RESET_OVERFLOW, -1, 0},
                 {L7_RESET_LOCAL, -1, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum l7_result result;
        uint16_t status;
        assert_int_equal(l7_outlier_of_reset(cases[i].reset, &result, &status),
                         cases[i].status >= 0);
        if (cases[i].status >= 0) {
            assert_int_equal(status, cases[i].status);
            assert_int_equal(result, cases[i].result);
        }
    }
}

// Many threads

enum { THREADS = 4, ROUNDS = 20000, LIMIT = 3 };

static struct l7_breaker breaker;
static atomic_int n_inside, n_over, n_taken;

static void *take_and_give(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        if (l7_breaker_take(&breaker, L7_BREAKER_REQUESTS, LIMIT)) {
            if (atomic_fetch_add(&n_inside, 1) >= LIMIT) {
                atomic_fetch_add(&n_over, 1);
            }
            atomic_fetch_add(&n_taken, 1);
            atomic_fetch_sub(&n_inside, 1);
            l7_breaker_give(&breaker, L7_BREAKER_REQUESTS);
        }
    }
    return NULL;
}

static struct bed shared;

static void *fail_hosts(void *arg) {
    for (int i = 0; i < ROUNDS / 10; i++) {
        report(&shared, (size_t)i % HOSTS, L7_RESULT_STATUS, 500);
    }
    return NULL;
}

static void run_threads(void *(*run)(void *arg)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void test_threads(void **state) {
    run_threads(take_and_give);
    assert_int_equal(atomic_load(&n_over), 0);
    assert_true(atomic_load(&n_taken) > 0);
    assert_int_equal(l7_breaker_count(&breaker, L7_BREAKER_REQUESTS), 0);
    bed_init(&shared, HOSTS);
    shared.policy.max_ejection_percent = 35; // 7 of 20
    run_threads(fail_hosts);
    unsigned n_out = 0;
    for (size_t i = 0; i < HOSTS; i++) {
        n_out += atomic_load(&shared.cells[i].is_ejected);
    }
    assert_int_equal(n_out, 7);
    assert_int_equal(atomic_load(&shared.cluster.n_ejected), 7);
}

static void test_breaker(void **state) {
    struct l7_breaker b = {0};
    assert_true(l7_breaker_take(&b, L7_BREAKER_PENDING, 1));
    assert_false(l7_breaker_take(&b, L7_BREAKER_PENDING, 1));
    assert_true(l7_breaker_take(&b, L7_BREAKER_CONNECTIONS, 1)); // kinds are apart
    assert_true(l7_breaker_take(&b, L7_BREAKER_PENDING, L7_NO_LIMIT));
    l7_breaker_give(&b, L7_BREAKER_PENDING);
    l7_breaker_give(&b, L7_BREAKER_PENDING);
    assert_false(l7_breaker_take(&b, L7_BREAKER_PENDING, 0));
    struct l7_settings settings = {
        .pool = {.max_connections = 1, .max_pending = 2, .max_requests = 3, .max_retries = 4}};
    for (uint32_t kind = 0; kind < L7_N_BREAKERS; kind++) {
        assert_int_equal(l7_breaker_limit(&b, (enum l7_breaker_kind)kind, &settings, 0), kind + 1);
    }
    settings.budget = (struct l7_retry_budget){.is_on = true, .ppm = 200000, .min_concurrency = 3};
    static const uint32_t expect[][2] = {{0, 3}, {14, 3}, {15, 3}, {20, 4}, {99, 19}, {100, 20}};
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(expect); i++) {
        for (; n < expect[i][0]; n++) {
            assert_true(l7_breaker_take(&b, n % 3 ? L7_BREAKER_REQUESTS : L7_BREAKER_PENDING,
                                        L7_NO_LIMIT));
        }
        assert_int_equal(l7_breaker_limit(&b, L7_BREAKER_RETRIES, &settings, 0), expect[i][1]);
    }
}

// budgetInterval: what ended within it counts, too, and then no more.
static void test_budget_interval(void **state) {
    static const struct {
        uint64_t at_ms;
        uint32_t n_ended; // then
        uint32_t limit;
    } steps[] = {
        {0, 0, 1},       {100, 10, 6},    {900, 10, 11}, // half of all, at least 1
        {990, 0, 11},    {1130, 0, 6}, // the first ten are a second away
        {1800, 0, 6},    {2000, 0, 1},    {5000, 4, 3},
        {1000000, 0, 1}, {1000000, 8, 5}, // slots of earlier rounds are not theirs
    };
    struct l7_breaker b = {0};
    struct l7_settings settings = {
        .budget = {.is_on = true, .ppm = 500000, .min_concurrency = 1, .interval_ms = 1000}};
    assert_true(l7_breaker_take(&b, L7_BREAKER_REQUESTS, L7_NO_LIMIT));
    assert_true(l7_breaker_take(&b, L7_BREAKER_REQUESTS, L7_NO_LIMIT)); // two are under way
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        for (uint32_t k = 0; k < steps[i].n_ended; k++) {
            l7_breaker_ended(&b, &settings.budget, steps[i].at_ms);
        }
        uint32_t limit = l7_breaker_limit(&b, L7_BREAKER_RETRIES, &settings, steps[i].at_ms);
        if (limit != steps[i].limit) {
            fail_msg("step %zu: limit %u", i, limit);
        }
    }
    settings.budget.interval_ms = 0; // none: only what is under way
    l7_breaker_ended(&b, &settings.budget, 1000000);
    assert_int_equal(l7_breaker_limit(&b, L7_BREAKER_RETRIES, &settings, 1000000), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaks),         cmocka_unit_test(test_codes),
        cmocka_unit_test(test_percent),         cmocka_unit_test(test_times),
        cmocka_unit_test(test_going),           cmocka_unit_test(test_resets),
        cmocka_unit_test(test_breaker),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_budget_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
