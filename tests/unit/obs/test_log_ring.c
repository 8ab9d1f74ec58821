// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "common/base/check.h"
#include "common/base/rand.h"
#include "tests/unit/base/unit.h"

static void test_one_thread(void **state) {
    struct log_ring ring;
    log_ring_init(&ring, 256);
    uint64_t time_ns;
    struct slice line;
    assert_false(log_ring_peek(&ring, &time_ns, &line));
    // Every length, at every place of the memory.
    char bytes[256];
    for (size_t len = 0; len <= 112; len++) {
        memset(bytes, (int)len, len);
        for (int i = 0; i < 40; i++) {
            assert_true(log_ring_push(&ring, len, slice_make(bytes, len)));
            assert_true(log_ring_peek(&ring, &time_ns, &line));
            assert_int_equal(time_ns, len);
            assert_int_equal(line.len, len);
            assert_memory_equal(line.ptr, bytes, len);
            log_ring_pop(&ring);
            assert_false(log_ring_peek(&ring, &time_ns, &line));
        }
    }
    assert_false(log_ring_push(&ring, 0, slice_make(bytes, 256)));
    log_ring_fini(&ring);
}

static void test_full(void **state) {
    struct log_ring ring;
    log_ring_init(&ring, 1024);
    uint64_t n_pushed = 0, n_popped = 0;
    for (int round = 0; round < 50; round++) {
        char line[24] = "line";
        while (log_ring_push(&ring, n_pushed, slice_make(line, 20))) {
            n_pushed++;
        }
        assert_in_range(n_pushed - n_popped, 19, 21); // 48 bytes a record
        for (int i = 0; i < 1 + round % 20; i++) {
            uint64_t time_ns;
            struct slice got;
            assert_true(log_ring_peek(&ring, &time_ns, &got));
            assert_int_equal(time_ns, n_popped++);
            log_ring_pop(&ring);
        }
    }
    log_ring_fini(&ring);
}

enum { N_LINES = 100000 };

static void *produce(void *arg) {
    struct log_ring *ring = arg;
    struct rand rand;
    rand_seed(&rand, 5);
    for (uint64_t i = 0; i < N_LINES; i++) {
        char line[200];
        size_t len = rand_below(&rand, sizeof(line));
        memset(line, (int)(i & 0xff), len);
        while (!log_ring_push(ring, i, slice_make(line, len))) {
            sched_yield();
        }
    }
    return NULL;
}

static void test_two_threads(void **state) {
    struct log_ring ring;
    log_ring_init(&ring, 4096);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, produce, &ring), 0);
    struct rand rand;
    rand_seed(&rand, 5);
    for (uint64_t i = 0; i < N_LINES; i++) {
        uint64_t time_ns;
        struct slice line;
        while (!log_ring_peek(&ring, &time_ns, &line)) {
            sched_yield();
        }
        size_t len = rand_below(&rand, 200);
        CHECK(time_ns == i && line.len == len);
        for (size_t j = 0; j < len; j++) {
            CHECK(line.ptr[j] == (i & 0xff));
        }
        log_ring_pop(&ring);
    }
    pthread_join(thread, NULL);
    log_ring_fini(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
