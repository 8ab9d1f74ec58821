// SPDX-License-Identifier: Apache-2.0
//
// The timer wheel against a plain list of due times.
#include "common/rt/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/check.h"

enum { N_TIMERS = 200 };

struct item {
    struct timer timer;
    bool is_armed;
    uint64_t set_at;
    unsigned n_fired;
};

static struct {
    struct timer_wheel wheel;
    struct item items[N_TIMERS];
    uint64_t now, rng;
    bool acts_in_callback;
} model;

static uint64_t next_random(void) {
    uint64_t z = (model.rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t some_delay(void) {
    switch (next_random() % 6) {
    case 0:
        return next_random() % (3 * NS_PER_MS);
    case 1:
        return next_random() % (70 * NS_PER_MS);
    case 2:
        return next_random() % (5 * NS_PER_SEC);
    case 3:
        return next_random() % (600 * NS_PER_SEC);
    case 4:
        return next_random() % (40 * 24 * 3600 * NS_PER_SEC);
    default:
        return (next_random() % 200) * NS_PER_MS; // whole ticks
    }
}

static void set(struct item *item, uint64_t due) {
    timer_set(&model.wheel, &item->timer, due);
    item->is_armed = true;
    item->set_at = model.now;
}

static void clear(struct item *item) {
    timer_clear(&model.wheel, &item->timer);
    item->is_armed = false;
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct item *item = CONTAINER_OF(timer, struct item, timer);
    assert_true(item->is_armed);
    assert_false(timer_is_armed(timer));
    assert_true(now >= timer->due); // never early
    item->is_armed = false;
    item->n_fired++;
    if (model.acts_in_callback) {
        struct item *other = &model.items[next_random() % N_TIMERS];
        if (next_random() % 2 == 0) {
            clear(other);
        } else {
            set(other, now + some_delay());
        }
    }
}

// After a run nothing that has been due for a tick is still armed.
static void check_armed(void) {
    size_t n_armed = 0;
    uint64_t next = TIME_NEVER;
    for (int i = 0; i < N_TIMERS; i++) {
        const struct item *item = &model.items[i];
        assert_int_equal(item->is_armed, timer_is_armed(&item->timer));
        if (item->is_armed) {
            n_armed++;
            next = MIN(next, item->timer.due);
            assert_true(MAX(item->timer.due, item->set_at) + NS_PER_MS >= model.now);
        }
    }
    assert_int_equal(n_armed, model.wheel.n_armed);
    uint64_t wheel_next = timer_wheel_next(&model.wheel);
    if (n_armed == 0) {
        assert_true(wheel_next == TIME_NEVER);
    } else {
        // Sleeping until then is not too long for the first one.
        assert_true(wheel_next <= MAX(next, model.now) + NS_PER_MS);
        assert_true(wheel_next > model.now - NS_PER_MS);
    }
}

static void run_model(uint64_t seed, uint64_t start) {
    model.rng = seed;
    model.now = start;
    timer_wheel_init(&model.wheel, model.now);
    for (int i = 0; i < N_TIMERS; i++) {
        model.items[i] = (struct item){0};
        timer_init(&model.items[i].timer, on_timer);
    }
    for (int step = 0; step < 4000; step++) {
        struct item *item = &model.items[next_random() % N_TIMERS];
        switch (next_random() % 4) {
        case 0:
        case 1:
            set(item, model.now + some_delay());
            break;
        case 2:
            clear(item);
            break;
        default: {
            uint64_t next = timer_wheel_next(&model.wheel);
            if (next != TIME_NEVER && next_random() % 2 == 0) {
                model.now = MAX(model.now, next); // as a loop does
            } else {
                model.now += next_random() % (20 * NS_PER_MS);
            }
            timer_wheel_run(&model.wheel, model.now);
            check_armed();
            break;
        }
        }
    }
}

static void test_model(void **state) {
    for (uint64_t seed = 0; seed < 40; seed++) {
        model.acts_in_callback = seed % 2 != 0;
        // Also right before each level's wrap, up to machines that have been up for years.
        uint64_t start = seed % 5 == 0 ? (UINT64_C(1) << (6 * (1 + seed % 6))) - 3 : seed * 1000003;
        run_model(seed, start * NS_PER_MS + seed);
    }
}

static void test_edges(void **state) {
    model.now = 5 * NS_PER_MS + 1;
    timer_wheel_init(&model.wheel, model.now);
    struct item *item = &model.items[0];
    *item = (struct item){0};
    timer_init(&item->timer, on_timer);
    assert_true(timer_wheel_next(&model.wheel) == TIME_NEVER);
    timer_clear(&model.wheel, &item->timer); // not armed: harmless
    set(item, 0); // long past: fires at the next tick
    assert_int_equal(timer_wheel_next(&model.wheel), 6 * NS_PER_MS);
    timer_wheel_run(&model.wheel, 6 * NS_PER_MS - 1);
    assert_int_equal(item->n_fired, 0);
    timer_wheel_run(&model.wheel, 6 * NS_PER_MS);
    assert_int_equal(item->n_fired, 1);
    set(item, TIME_NEVER); // never, and harmless
    timer_wheel_run(&model.wheel, 1000 * 24 * 3600 * NS_PER_SEC);
    assert_int_equal(item->n_fired, 1);
    assert_true(timer_is_armed(&item->timer));
    set(item, 1001 * 24 * 3600 * NS_PER_SEC);
    timer_wheel_run(&model.wheel, 1001 * 24 * 3600 * NS_PER_SEC - 1);
    assert_int_equal(item->n_fired, 1);
    timer_wheel_run(&model.wheel, 1001 * 24 * 3600 * NS_PER_SEC);
    assert_int_equal(item->n_fired, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
