// SPDX-License-Identifier: Apache-2.0
// Where connections go: the directory of tunnels, loads, and both decisions.
#include <pthread.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "tests/unit/base/unit.h"
#include "ztun/placement.h"

static const uint64_t NOW = 1000 * NS_PER_SEC, KEY = UINT64_C(0x123456789abcdef0);

static uint32_t flow(struct placement *p, struct place_memory *memory, uint32_t here, uint64_t key,
                     enum place_reason want) {
    enum place_reason reason;
    uint32_t to = placement_for_flow(p, memory, here, key, NOW, &reason);
    assert_int_equal(reason, want);
    assert_int_equal(reason == PLACE_STAYS, to == here);
    return to;
}

static void set_loads(struct placement *p, const uint32_t *n_flows) {
    for (uint32_t i = 0; i < p->n_workers; i++) {
        atomic_store(&p->loads[i].n_flows, n_flows[i]);
    }
}

// ---- the directory -----------------------------------------------------------------------------

static void test_directory(void **state) {
    (void)state;
    struct placement *p = placement_new(64);
    assert_int_equal(placement_owners(p, KEY), 0);
    for (uint32_t round = 0; round < 2; round++) { // saying it twice changes nothing
        placement_tunnel(p, 0, KEY, true);
        placement_tunnel(p, 63, KEY, true);
    }
    assert_true(placement_owners(p, KEY) == (UINT64_C(1) << 63 | 1));
    assert_int_equal(placement_owners(p, KEY ^ UINT64_C(1) << 40), 0);
    assert_int_equal(placement_owners(p, KEY ^ 64), 0);
    placement_tunnel(p, 0, KEY, false);
    placement_tunnel(p, 0, KEY, false);
    assert_true(placement_owners(p, KEY) == UINT64_C(1) << 63);
    placement_tunnel(p, 63, KEY, false);
    assert_int_equal(placement_owners(p, KEY), 0);
    placement_tunnel(p, 5, 0, true); // a hash of 0 is a hash
    assert_int_equal(placement_owners(p, 0), 1 << 5);
    placement_tunnel(p, 5, 0, false);
    assert_int_equal(placement_owners(p, 0), 0);
    placement_free(p);
}

// More owners in a bucket than it has room for: hints are lost, none is wrong, and the room is not.
static void test_directory_is_full(void **state) {
    (void)state;
    struct placement *p = placement_new(64);
    for (uint32_t worker = 0; worker < 64; worker++) {
        placement_tunnel(p, worker, KEY, true);
    }
    assert_int_equal(__builtin_popcountll(placement_owners(p, KEY)), PLACE_WAYS);
    uint64_t other = KEY ^ 1 << 20; // of the same bucket
    placement_tunnel(p, 7, other, true);
    assert_true(placement_owners(p, other) == 1 << 7);
    assert_int_equal(__builtin_popcountll(placement_owners(p, KEY)), PLACE_WAYS - 1);
    for (uint32_t worker = 0; worker < 64; worker++) {
        placement_tunnel(p, worker, KEY, false);
    }
    assert_int_equal(placement_owners(p, KEY), 0);
    assert_true(placement_owners(p, other) == 1 << 7);
    placement_free(p);
}

enum { THREADS = 4, ROUNDS = 20000, KEYS = 64 };

struct job {
    struct placement *p;
    uint32_t worker;
    uint64_t n_wrong;
};

// All threads fight over the same few buckets. Each looks for words that nobody ever wrote.
static void *fight(void *arg) {
    struct job *job = arg;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t key = KEY + ((uint64_t)(i % KEYS) << 8);
        placement_tunnel(job->p, job->worker, key, true);
        job->n_wrong += (placement_owners(job->p, key) >> THREADS) != 0;
        job->n_wrong += placement_owners(job->p, ~key) != 0;
        placement_tunnel(job->p, job->worker, key, false);
        job->n_wrong += (placement_owners(job->p, key) >> job->worker & 1) != 0;
    }
    return NULL;
}

static void test_directory_threads(void **state) {
    (void)state;
    struct placement *p = placement_new(THREADS);
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.p = p, .worker = i};
        assert_int_equal(pthread_create(&threads[i], NULL, fight, &jobs[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(jobs[i].n_wrong, 0);
    }
    for (uint32_t i = 0; i < KEYS; i++) { // each cleared what it had set
        assert_int_equal(placement_owners(p, KEY + ((uint64_t)i << 8)), 0);
    }
    placement_free(p);
}

// ---- load --------------------------------------------------------------------------------------

static void test_load(void **state) {
    (void)state;
    struct placement *p = placement_new(2);
    atomic_store(&p->loads[1].n_flows, 3);
    atomic_store(&p->loads[1].n_coming, 2);
    atomic_store(&p->loads[1].n_tunnels, 7); // flows do not look at them
    assert_int_equal(placement_load(p, 1, NOW), 5);
    placement_busy(p, 1, NOW, 50 * NS_PER_MS, 50 * NS_PER_MS);
    assert_int_equal(placement_load(p, 1, NOW), 5 + PLACE_BUSY);
    assert_int_equal(placement_load(p, 1, NOW + 200 * NS_PER_MS), 5 + PLACE_BUSY);
    assert_int_equal(placement_load(p, 1, NOW + 300 * NS_PER_MS), 5); // it sleeps since
    placement_busy(p, 1, NOW, 25 * NS_PER_MS, 50 * NS_PER_MS);
    assert_in_range(placement_load(p, 1, NOW), 5 + PLACE_BUSY / 2 - 1, 5 + PLACE_BUSY / 2);
    placement_busy(p, 1, NOW, 900 * NS_PER_MS, 50 * NS_PER_MS); // a clock that jumped
    assert_int_equal(placement_load(p, 1, NOW), 5 + PLACE_BUSY);
    placement_busy(p, 1, NOW, 0, 0);
    assert_int_equal(placement_load(p, 1, NOW), 5);
    assert_int_equal(placement_load(p, 0, NOW), 0);
    placement_free(p);
}

// ---- flows -------------------------------------------------------------------------------------

static void test_one_worker_keeps_all(void **state) {
    (void)state;
    struct placement *p = placement_new(1);
    struct place_memory memory = {0};
    atomic_store(&p->loads[0].n_flows, 1000);
    placement_tunnel(p, 0, KEY, true);
    flow(p, &memory, 0, KEY, PLACE_STAYS);
    flow(p, &memory, 0, 0, PLACE_STAYS);
    enum place_reason reason;
    assert_int_equal(placement_for_tunnel(p, 0, NOW, &reason), 0);
    placement_free(p);
}

static void test_balance(void **state) {
    (void)state;
    static const struct {
        uint32_t loads[4], here;
        enum place_reason reason;
        uint32_t to;
    } rows[] = {
        {{0, 0, 0, 0}, 2, PLACE_STAYS, 2}, // idle: nothing is bounced
        {{1, 0, 0, 0}, 0, PLACE_STAYS, 0},           {{2, 0, 0, 0}, 0, PLACE_STAYS, 0},
        {{3, 0, 0, 0}, 0, PLACE_FOR_LOAD, 1},        {{3, 1, 1, 1}, 0, PLACE_STAYS, 0},
        {{5, 9, 2, 3}, 0, PLACE_FOR_LOAD, 2},        {{5, 9, 2, 3}, 3, PLACE_STAYS, 3},
        {{100, 90, 110, 100}, 0, PLACE_STAYS, 0}, // an eighth: chance spreads well enough
        {{100, 90, 110, 100}, 2, PLACE_FOR_LOAD, 1}, {{4, 0, 0, 0}, 1, PLACE_STAYS, 1},
        {{0, 0, 4, 0}, 2, PLACE_FOR_LOAD, 3}, // the next one, not always the first
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct placement *p = placement_new(4);
        struct place_memory memory = {0};
        set_loads(p, rows[i].loads);
        assert_int_equal(flow(p, &memory, rows[i].here, 0, rows[i].reason), rows[i].to);
        placement_free(p);
    }
}

static void test_busy_counts(void **state) {
    (void)state;
    struct placement *p = placement_new(2);
    struct place_memory memory = {0};
    atomic_store(&p->loads[0].n_flows, 1);
    atomic_store(&p->loads[1].n_flows, 6);
    flow(p, &memory, 0, 0, PLACE_STAYS);
    placement_busy(p, 0, NOW, 50 * NS_PER_MS, 50 * NS_PER_MS); // one bulk flow
    assert_int_equal(flow(p, &memory, 0, 0, PLACE_FOR_LOAD), 1);
    placement_free(p);
}

static void test_goes_to_the_tunnel(void **state) {
    (void)state;
    static const struct {
        uint32_t loads[4];
        uint64_t owners;
        uint32_t here;
        enum place_reason reason;
        uint32_t to;
    } rows[] = {
        {{0, 0, 0, 0}, 1 << 2, 0, PLACE_FOR_TUNNEL, 2},
        {{0, 0, 0, 0}, 1 << 2, 2, PLACE_STAYS, 2},
        {{0, 0, 0, 0}, 1 << 2 | 1 << 0, 0, PLACE_STAYS, 0},
        {{1, 0, 1, 0}, 1 << 2, 0, PLACE_FOR_TUNNEL, 2},
        {{0, 0, 2, 0}, 1 << 2, 0, PLACE_STAYS, 0}, // overloaded: a tunnel of its own
        {{0, 0, 3, 0}, 1 << 2, 2, PLACE_FOR_LOAD, 3},
        {{3, 0, 9, 1}, 1 << 2, 0, PLACE_FOR_LOAD, 1},
        {{4, 1, 0, 0}, 1 << 0 | 1 << 1, 0, PLACE_FOR_TUNNEL, 1}, // the less loaded owner
        {{100, 90, 112, 98}, 1 << 2, 3, PLACE_FOR_TUNNEL, 2}, // a loaded node shares tunnels
        {{5, 0, 5, 5}, 1 << 2, 2, PLACE_FOR_LOAD, 1}, // an idle one must not stay idle
        {{5, 1, 5, 5}, 1 << 2, 2, PLACE_STAYS, 2},
        {{100, 90, 160, 98}, 1 << 2, 3, PLACE_STAYS, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct placement *p = placement_new(4);
        struct place_memory memory = {0};
        set_loads(p, rows[i].loads);
        for (uint32_t worker = 0; worker < 4; worker++) {
            placement_tunnel(p, worker, KEY, (rows[i].owners >> worker & 1) != 0);
        }
        assert_int_equal(flow(p, &memory, rows[i].here, KEY, rows[i].reason), rows[i].to);
        placement_free(p);
    }
}

// A frequent key gets a tunnel here, and a worker that lost its tunnel starts anew.
static void test_gives_away_so_many(void **state) {
    (void)state;
    struct placement *p = placement_new(2);
    struct place_memory memory = {0};
    placement_tunnel(p, 1, KEY, true);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PLACE_MOVES_MAX; i++) {
            assert_int_equal(flow(p, &memory, 0, KEY, PLACE_FOR_TUNNEL), 1);
        }
        flow(p, &memory, 0, KEY, PLACE_STAYS);
        flow(p, &memory, 0, KEY, PLACE_STAYS);
        placement_tunnel(p, 0, KEY, true);
        flow(p, &memory, 0, KEY, PLACE_STAYS);
        placement_tunnel(p, 0, KEY, false);
    }
    placement_tunnel(p, 1, KEY + 1024, true); // another key has its own count
    assert_int_equal(flow(p, &memory, 0, KEY + 1024, PLACE_FOR_TUNNEL), 1);
    placement_free(p);
}

// Flows of one key that all arrive at one worker: they spread over all of them.
static void test_spreads(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= 64; n *= 2) {
        struct placement *p = placement_new(n);
        struct place_memory memory = {0};
        placement_tunnel(p, 0, KEY, true);
        for (uint32_t i = 0; i < 8 * n; i++) {
            enum place_reason reason;
            uint32_t to = placement_for_flow(p, &memory, 0, KEY, NOW, &reason);
            atomic_fetch_add(&p->loads[to].n_flows, 1);
            placement_tunnel(p, to, KEY, true);
        }
        for (uint32_t i = 0; i < n; i++) {
            assert_in_range(atomic_load(&p->loads[i].n_flows), 4, 12);
        }
        placement_free(p);
    }
}

// ---- tunnels of peers --------------------------------------------------------------------------

static void test_tunnels(void **state) {
    (void)state;
    struct placement *p = placement_new(3);
    enum place_reason reason;
    for (uint32_t i = 0; i < 9; i++) { // all come in at worker 0
        uint32_t to = placement_for_tunnel(p, 0, NOW, &reason);
        assert_int_equal(to, i % 3);
        assert_int_equal(reason, to == 0 ? PLACE_STAYS : PLACE_FOR_LOAD);
        atomic_fetch_add(&p->loads[to].n_tunnels, 1);
    }
    atomic_store(&p->loads[0].n_flows, 4);
    assert_int_equal(placement_for_tunnel(p, 0, NOW, &reason), 1);
    placement_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_directory_is_full),
        cmocka_unit_test(test_directory_threads),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_one_worker_keeps_all),
        cmocka_unit_test(test_balance),
        cmocka_unit_test(test_busy_counts),
        cmocka_unit_test(test_goes_to_the_tunnel),
        cmocka_unit_test(test_gives_away_so_many),
        cmocka_unit_test(test_spreads),
        cmocka_unit_test(test_tunnels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
