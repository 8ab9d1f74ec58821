// SPDX-License-Identifier: Apache-2.0
#include "common/rt/turn_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
// after the four that it needs
#include <cmocka.h>

#include "common/base/clock.h"

static uint64_t cpu_ns(void) {
    struct timespec cpu;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu), 0);
    return (uint64_t)cpu.tv_sec * NS_PER_SEC + (uint64_t)cpu.tv_nsec;
}

static void work(uint64_t for_ns) {
    uint64_t end = cpu_ns() + for_ns;
    while (cpu_ns() < end) {
    }
}

// A turn that computes, one that is kept waiting, and a short one.
static void test_kinds(void **state) {
    struct turn_clock clock;
    uint64_t cpu = 0, begin = clock_mono_ns();
    turn_clock_init(&clock);
    turn_clock_begin(&clock, true);
    work(5 * NS_PER_MS);
    assert_true(turn_clock_end(&clock, clock_mono_ns() - begin, &cpu));
    assert_in_range(cpu, 5 * NS_PER_MS, clock_mono_ns() - begin);

    turn_clock_begin(&clock, false); // nothing went by since
    usleep(20000);
    assert_true(turn_clock_end(&clock, 20 * NS_PER_MS, &cpu));
    assert_in_range(cpu, 0, 10 * NS_PER_MS);

    turn_clock_begin(&clock, false);
    work(2 * NS_PER_MS);
    assert_true(turn_clock_end(&clock, NS_PER_MS, &cpu));
    assert_int_equal(cpu, NS_PER_MS); // never more than the turn

    cpu = 7;
    assert_false(turn_clock_end(&clock, TURN_CLOCK_LONG_NS - 1, &cpu));
    assert_int_equal(cpu, 7);
}

// What computed before is another turn's, once the clock has been asked.
static void test_marks(void **state) {
    static const struct {
        uint64_t short_ns; // short turns before
        bool has_chore, is_fresh;
    } cases[] = {{100000, false, false}, {100000, true, true}, {200000, false, true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct turn_clock clock;
        uint64_t cpu = 0;
        turn_clock_init(&clock);
        work(30 * NS_PER_MS);
        assert_false(turn_clock_end(&clock, cases[i].short_ns, &cpu));
        turn_clock_begin(&clock, cases[i].has_chore);
        assert_true(turn_clock_end(&clock, 40 * NS_PER_MS, &cpu));
        if (cases[i].is_fresh) {
            assert_in_range(cpu, 0, 15 * NS_PER_MS);
        } else {
            assert_in_range(cpu, 30 * NS_PER_MS, 40 * NS_PER_MS);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
