// SPDX-License-Identifier: Apache-2.0
#include "common/rt/timer.h"

enum {
    LEVEL_BITS = 6, // log2(TIMER_SLOTS)
    SLOT_MASK = TIMER_SLOTS - 1,
};

_Static_assert(TIMER_SLOTS == 1 << LEVEL_BITS, "slots of a level are one bitmap word");

// The farthest tick that the wheel can hold; a timer beyond it waits in the last slot and is placed
// again when that slot is reached.
static const uint64_t MAX_DELTA = (UINT64_C(1) << (LEVEL_BITS * TIMER_LEVELS)) - 1;

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now) {
    *wheel = (struct timer_wheel){.tick = now / NS_PER_MS};
    for (int level = 0; level < TIMER_LEVELS; level++) {
        for (int slot = 0; slot < TIMER_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

void timer_init(struct timer *timer, void (*fn)(struct timer *, uint64_t now)) {
    *timer = (struct timer){.fn = fn};
    list_init(&timer->node);
}

// Rounded up, so that no timer fires early.
static uint64_t due_tick(const struct timer *timer) {
    return timer->due / NS_PER_MS + (timer->due % NS_PER_MS != 0);
}

static void place(struct timer_wheel *wheel, struct timer *timer, uint64_t at) {
    uint64_t delta = at - wheel->tick;
    if (delta > MAX_DELTA) {
        delta = MAX_DELTA;
        at = wheel->tick + MAX_DELTA;
    }
    int level = delta == 0 ? 0 : (63 - __builtin_clzll(delta)) / LEVEL_BITS;
    unsigned slot = (at >> (LEVEL_BITS * level)) & SLOT_MASK;
    list_push_back(&wheel->slots[level][slot], &timer->node);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

// Takes the timer out of its list and keeps the bitmap right.
static void unplace(struct timer_wheel *wheel, struct timer *timer) {
    struct list *head = timer->node.prev == timer->node.next ? timer->node.prev : NULL;
    list_del(&timer->node);
    struct list *first = &wheel->slots[0][0];
    // A timer that is about to fire sits in a list of its own, outside the slots.
    if (head != NULL && (uintptr_t)head >= (uintptr_t)first &&
        (uintptr_t)head < (uintptr_t)(first + TIMER_LEVELS * TIMER_SLOTS)) {
        size_t index = (size_t)(head - first);
        wheel->occupied[index / TIMER_SLOTS] &= ~(UINT64_C(1) << (index % TIMER_SLOTS));
    }
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t due) {
    if (timer_is_armed(timer)) {
        unplace(wheel, timer);
    } else {
        wheel->n_armed++;
    }
    timer->due = due;
    place(wheel, timer, MAX(due_tick(timer), wheel->tick + 1));
}

void timer_clear(struct timer_wheel *wheel, struct timer *timer) {
    if (timer_is_armed(timer)) {
        unplace(wheel, timer);
        wheel->n_armed--;
    }
}

// The next tick at which a slot fires (level 0) or is spread over lower levels; UINT64_MAX if none.
static uint64_t next_tick(const struct timer_wheel *wheel) {
    uint64_t next = UINT64_MAX;
    for (int level = 0; level < TIMER_LEVELS; level++) {
        uint64_t bits = wheel->occupied[level];
        if (bits == 0) {
            continue;
        }
        uint64_t now = wheel->tick >> (LEVEL_BITS * level);
        // Distance from the slot after the current one; the current one comes last, a round later.
        unsigned from = (unsigned)((now + 1) & SLOT_MASK);
        uint64_t rotated = from == 0 ? bits : (bits >> from) | (bits << (TIMER_SLOTS - from));
        uint64_t at = now + 1 + (uint64_t)__builtin_ctzll(rotated);
        next = MIN(next, at << (LEVEL_BITS * level));
    }
    return next;
}

uint64_t timer_wheel_next(const struct timer_wheel *wheel) {
    uint64_t next = next_tick(wheel);
    return next > UINT64_MAX / NS_PER_MS ? TIME_NEVER : next * NS_PER_MS;
}

static void take_slot(struct timer_wheel *wheel, int level, unsigned slot, struct list *ret_list) {
    list_init(ret_list);
    list_splice_back(ret_list, &wheel->slots[level][slot]);
    wheel->occupied[level] &= ~(UINT64_C(1) << slot);
}

static void cascade(struct timer_wheel *wheel) {
    for (int level = TIMER_LEVELS - 1; level > 0; level--) {
        uint64_t unit = UINT64_C(1) << (LEVEL_BITS * level);
        if (wheel->tick % unit != 0) {
            continue;
        }
        struct list timers;
        take_slot(wheel, level, (wheel->tick / unit) & SLOT_MASK, &timers);
        for (struct list *node; (node = list_pop_front(&timers)) != NULL;) {
            struct timer *timer = LIST_ITEM(node, struct timer, node);
            place(wheel, timer, MAX(due_tick(timer), wheel->tick));
        }
    }
}

void timer_wheel_run(struct timer_wheel *wheel, uint64_t now) {
    uint64_t target = now / NS_PER_MS;
    while (wheel->tick < target) {
        uint64_t next = next_tick(wheel);
        if (next > target) {
            wheel->tick = target;
            return;
        }
        wheel->tick = next;
        cascade(wheel);
        struct list due;
        take_slot(wheel, 0, next & SLOT_MASK, &due);
        for (struct list *node; (node = list_pop_front(&due)) != NULL;) {
            struct timer *timer = LIST_ITEM(node, struct timer, node);
            wheel->n_armed--;
            timer->fn(timer, now);
        }
    }
}
