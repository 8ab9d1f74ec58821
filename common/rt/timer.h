// SPDX-License-Identifier: Apache-2.0
//
// Hierarchical timer wheel, 1 ms resolution; pure (now is passed in). A struct timer is embedded in
// its owner, set and cleared in O(1). Timers never fire early; at most one tick late.
#pragma once

#include "common/base/clock.h"
#include "common/base/list.h"

struct timer {
    struct list node;
    uint64_t due; // monotonic ns
    void (*fn)(struct timer *timer, uint64_t now);
};

enum { TIMER_LEVELS = 6, TIMER_SLOTS = 64 };

struct timer_wheel {
    uint64_t tick; // ms already processed
    size_t n_armed;
    uint64_t occupied[TIMER_LEVELS]; // bit per slot
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now);
void timer_init(struct timer *timer, void (*fn)(struct timer *, uint64_t now));
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due); // (re)arms
void timer_clear(struct timer_wheel *wheel, struct timer *timer); // not armed: harmless
static inline bool timer_is_armed(const struct timer *timer) {
    return list_linked(&timer->node);
}
uint64_t timer_wheel_next(const struct timer_wheel *wheel); // TIME_NEVER when nothing is armed
void timer_wheel_run(struct timer_wheel *wheel, uint64_t now); // fires what is due
