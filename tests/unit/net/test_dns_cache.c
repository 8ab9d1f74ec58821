// SPDX-License-Identifier: Apache-2.0
// The cache of names, with a look-up of the test's own and virtual time.
#include "common/net/dns_cache.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/rt/fake.h"
#include "tests/unit/base/unit.h"

enum { RUNS_MAX = 16 };

struct run { // a look-up
    char host[64];
    dns_result_fn *fn;
    void *arg;
};

struct bed {
    struct blk_pool pool;
    struct fake_net *net;
    struct loop loop;
    struct dns_cache *cache;
    struct run runs[RUNS_MAX];
    uint32_t n_runs; // under way, or answered
    bool is_sync; // the look-up fails within the call
};

struct asker {
    struct dns_cache_query query;
    struct bed *bed;
    uint32_t n_told;
    char text[64]; // of the last answer: "10.0.0.1 10.0.0.2", or "-reason"
    const char *next; // asks for this when it is told
};

static void look_up(void *arg, const char *host, dns_result_fn *fn, void *fn_arg) {
    struct bed *bed = arg;
    if (bed->is_sync) {
        struct dns_result result = {.outcome = DNS_FAILED, .text = "at once"};
        fn(fn_arg, &result);
        return;
    }
    assert_true(bed->n_runs < RUNS_MAX);
    struct run *run = &bed->runs[bed->n_runs++];
    snprintf(run->host, sizeof(run->host), "%s", host);
    run->fn = fn;
    run->arg = fn_arg;
}

static void bed_up(struct bed *bed, uint32_t max_names, uint32_t max_waiting) {
    struct fake_options options = {.seed = 1};
    *bed = (struct bed){.net = fake_net_new(&options)};
    blk_pool_init(&bed->pool, 4);
    loop_init(&bed->loop, fake_io_new(bed->net, &bed->pool), &bed->pool, NULL);
    (void)loop_turn(&bed->loop, false);
    struct dns_cache_config config = {.loop = &bed->loop,
                                      .look_up = look_up,
                                      .arg = bed,
                                      .max_names = max_names,
                                      .max_waiting = max_waiting};
    bed->cache = dns_cache_new(&config);
}

static void bed_down(struct bed *bed) {
    dns_cache_free(bed->cache);
    for (uint32_t i = 0; i < bed->n_runs; i++) { // those that run end after the cache
        struct dns_result result = {.outcome = DNS_CANCELLED, .text = "cancelled"};
        if (bed->runs[i].fn != NULL) {
            bed->runs[i].fn(bed->runs[i].arg, &result);
        }
    }
    loop_fini(&bed->loop);
    bed->loop.io->ops->free(bed->loop.io);
    fake_net_free(bed->net);
    blk_pool_fini(&bed->pool);
}

static void note(struct asker *asker, const struct dns_cache_answer *answer) {
    size_t at = 0;
    if (answer->n_ips == 0) {
        snprintf(asker->text, sizeof(asker->text), "-%s", answer->text);
    }
    for (uint32_t i = 0; i < answer->n_ips; i++) {
        char text[IP_TEXT_MAX];
        at += (size_t)snprintf(asker->text + at, sizeof(asker->text) - at, "%s%s", i > 0 ? " " : "",
                               ip_text(&answer->ips[i], text));
    }
}

static enum dns_cache_verdict ask(struct bed *bed, struct asker *asker, const char *host);

static void on_told(struct dns_cache_query *query, const struct dns_cache_answer *answer) {
    struct asker *asker = CONTAINER_OF(query, struct asker, query);
    asker->n_told++;
    note(asker, answer);
    if (asker->next != NULL) {
        const char *next = asker->next;
        asker->next = NULL;
        (void)ask(asker->bed, asker, next);
    }
}

static enum dns_cache_verdict ask(struct bed *bed, struct asker *asker, const char *host) {
    struct dns_cache_answer answer;
    asker->query.fn = on_told;
    asker->bed = bed;
    asker->text[0] = '\0';
    enum dns_cache_verdict verdict = dns_cache_ask(bed->cache, host, &asker->query, &answer);
    if (verdict == DNS_CACHE_HERE) {
        note(asker, &answer);
    }
    return verdict;
}

static void pass(struct bed *bed, uint32_t seconds) {
    fake_skip(bed->net, seconds * NS_PER_SEC);
    (void)loop_turn(&bed->loop, false);
}

// The oldest look-up that runs ends; then a turn.
static void reply(struct bed *bed, const char *host, enum dns_outcome outcome, uint32_t ttl_s,
                  const char *const *ips) {
    for (uint32_t i = 0; i < bed->n_runs; i++) {
        struct run *run = &bed->runs[i];
        if (run->fn == NULL || strcmp(run->host, host) != 0) {
            continue;
        }
        struct ip list[4];
        struct dns_result result = {
            .outcome = (uint8_t)outcome, .ips = list, .ttl_s = ttl_s, .text = "said so"};
        for (; ips != NULL && ips[result.n_ips] != NULL; result.n_ips++) {
            assert_true(ip_parse(slice_str(ips[result.n_ips]), &list[result.n_ips]));
        }
        dns_result_fn *fn = run->fn;
        run->fn = NULL;
        fn(run->arg, &result);
        (void)loop_turn(&bed->loop, false);
        return;
    }
    fail_msg("nobody looks up %s", host);
}

#define IPS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_one_look_up_for_all(void **state) {
    struct bed bed;
    struct asker a, b, gone;
    struct dns_cache_stats stats;
    memset(&a, 0, sizeof(a));
    b = gone = a;
    bed_up(&bed, 0, 0);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &gone, "a.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &b, "a.x"), DNS_CACHE_WAITS);
    dns_cache_cancel(&gone.query);
    dns_cache_cancel(&gone.query);
    assert_int_equal(bed.n_runs, 1);
    reply(&bed, "a.x", DNS_FOUND, 60, IPS("10.0.0.1", "fd00::1"));
    assert_int_equal(a.n_told, 1);
    assert_int_equal(b.n_told, 1);
    assert_int_equal(gone.n_told, 0);
    assert_string_equal(a.text, "10.0.0.1 fd00::1");
    pass(&bed, 59);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_string_equal(a.text, "10.0.0.1 fd00::1");
    assert_int_equal(bed.n_runs, 1);
    dns_cache_get_stats(bed.cache, &stats);
    assert_int_equal(stats.n_lookups, 1);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.n_names, 1);
    bed_down(&bed);
}

// An answer that is over is used while it is looked up again, and outlives a failure; not for ever.
static void test_stale(void **state) {
    struct bed bed;
    struct asker a = {.bed = NULL};
    bed_up(&bed, 0, 0);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
    reply(&bed, "a.x", DNS_FOUND, 0, IPS("10.0.0.1")); // a TTL of 0 is DNS_CACHE_TTL_MIN_S
    pass(&bed, DNS_CACHE_TTL_MIN_S - 1);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_int_equal(bed.n_runs, 1);
    pass(&bed, 1);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_int_equal(bed.n_runs, 2);
    reply(&bed, "a.x", DNS_FAILED, 0, NULL);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_string_equal(a.text, "10.0.0.1");
    assert_int_equal(bed.n_runs, 2); // it is not asked for with each request
    pass(&bed, DNS_CACHE_FAILED_S);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_int_equal(bed.n_runs, 3);
    reply(&bed, "a.x", DNS_FOUND, 100000, IPS("10.0.0.2")); // DNS_CACHE_TTL_MAX_S
    pass(&bed, DNS_CACHE_TTL_MAX_S);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
    assert_string_equal(a.text, "10.0.0.2");
    pass(&bed, DNS_CACHE_STALE_S);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS); // the look-up has not ended
    assert_int_equal(bed.n_runs, 4);
    reply(&bed, "a.x", DNS_FAILED, 0, NULL);
    assert_string_equal(a.text, "-said so");
    bed_down(&bed);
}

static void test_none(void **state) {
    static const struct {
        enum dns_outcome outcome;
        uint32_t kept_s;
    } cases[] = {{DNS_NO_NAME, DNS_CACHE_NONE_S},
                 {DNS_NO_DATA, DNS_CACHE_NONE_S},
                 {DNS_FAILED, DNS_CACHE_FAILED_S}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed bed;
        struct asker a = {.bed = NULL};
        bed_up(&bed, 0, 0);
        assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
        reply(&bed, "a.x", cases[i].outcome, 0, NULL);
        assert_string_equal(a.text, "-said so");
        pass(&bed, cases[i].kept_s - 1);
        assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_HERE);
        assert_string_equal(a.text, "-said so");
        assert_int_equal(bed.n_runs, 1);
        pass(&bed, 1);
        assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
        reply(&bed, "a.x", DNS_FOUND, 60, IPS("10.0.0.1"));
        assert_string_equal(a.text, "10.0.0.1");
        bed_down(&bed);
    }
}

// Names of others do not lead into the process's own host.
static void test_no_servers_address(void **state) {
    struct bed bed;
    struct asker a = {.bed = NULL};
    bed_up(&bed, 0, 0);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
    reply(&bed, "a.x", DNS_FOUND, 60, IPS("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"));
    assert_string_equal(a.text, "10.0.0.1");
    assert_int_equal(ask(&bed, &a, "b.x"), DNS_CACHE_WAITS);
    reply(&bed, "b.x", DNS_FOUND, 60, IPS("127.0.0.1", "0.0.0.0", "fe80::1", "224.0.0.1"));
    assert_string_equal(a.text, "-no address of a server");
    bed_down(&bed);
}

static void test_limits(void **state) {
    struct bed bed;
    struct asker a[4];
    struct dns_cache_stats stats;
    memset(a, 0, sizeof(a));
    bed_up(&bed, 2, 3);
    assert_int_equal(ask(&bed, &a[0], "a.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &a[1], "b.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &a[2], "c.x"), DNS_CACHE_FULL);
    assert_int_equal(ask(&bed, &a[2], "b.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &a[3], "b.x"), DNS_CACHE_BUSY);
    dns_cache_cancel(&a[0].query);
    assert_int_equal(ask(&bed, &a[0], "c.x"), DNS_CACHE_FULL); // its look-up runs on
    reply(&bed, "b.x", DNS_FOUND, 60, IPS("10.0.0.2"));
    reply(&bed, "a.x", DNS_FOUND, 60, IPS("10.0.0.1"));
    assert_int_equal(ask(&bed, &a[0], "b.x"), DNS_CACHE_HERE); // used later than a.x
    assert_int_equal(ask(&bed, &a[0], "c.x"), DNS_CACHE_WAITS);
    reply(&bed, "c.x", DNS_FOUND, 60, IPS("10.0.0.3"));
    assert_int_equal(ask(&bed, &a[0], "b.x"), DNS_CACHE_HERE);
    assert_int_equal(ask(&bed, &a[0], "a.x"), DNS_CACHE_WAITS);
    dns_cache_get_stats(bed.cache, &stats);
    assert_int_equal(stats.n_names, 2);
    assert_int_equal(stats.n_evicted, 2);
    dns_cache_cancel(&a[0].query);
    bed_down(&bed);
}

// Who is told may ask for another name, whose place is the one that is being told of.
static void test_asks_when_told(void **state) {
    struct bed bed;
    struct asker a = {.next = "b.x"}, b = {.next = NULL};
    bed_up(&bed, 1, 0);
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
    assert_int_equal(ask(&bed, &b, "a.x"), DNS_CACHE_WAITS);
    reply(&bed, "a.x", DNS_FOUND, 60, IPS("10.0.0.1"));
    assert_int_equal(b.n_told, 1);
    assert_string_equal(b.text, "10.0.0.1");
    assert_int_equal(a.n_told, 1);
    bed_down(&bed);
}

static void test_answer_within_the_call(void **state) {
    struct bed bed;
    struct asker a = {.bed = NULL};
    bed_up(&bed, 0, 0);
    bed.is_sync = true;
    assert_int_equal(ask(&bed, &a, "a.x"), DNS_CACHE_WAITS);
    assert_int_equal(a.n_told, 0);
    (void)loop_turn(&bed.loop, false);
    assert_int_equal(a.n_told, 1);
    assert_string_equal(a.text, "-at once");
    bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_look_up_for_all),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_no_servers_address),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_asks_when_told),
        cmocka_unit_test(test_answer_within_the_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
