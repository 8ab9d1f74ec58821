// SPDX-License-Identifier: Apache-2.0
#include "common/rt/turn_clock.h"

#include <time.h>

#include "common/base/clock.h"

static uint64_t cpu_ns(void) {
    struct timespec cpu;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) == 0);
    return (uint64_t)cpu.tv_sec * NS_PER_SEC + (uint64_t)cpu.tv_nsec;
}

static void mark(struct turn_clock *clock, uint64_t now_cpu_ns) {
    *clock = (struct turn_clock){.marked_cpu_ns = now_cpu_ns};
}

void turn_clock_init(struct turn_clock *clock) {
    mark(clock, cpu_ns());
}

void turn_clock_begin(struct turn_clock *clock, bool has_chore) {
    if (has_chore || clock->unmarked_ns >= TURN_CLOCK_UNMARKED_NS) {
        mark(clock, cpu_ns());
    }
}

bool turn_clock_end(struct turn_clock *clock, uint64_t wall_ns, uint64_t *ret_cpu_ns) {
    clock->unmarked_ns += wall_ns;
    if (wall_ns < TURN_CLOCK_LONG_NS) {
        return false;
    }
    uint64_t now_cpu_ns = cpu_ns();
    *ret_cpu_ns = MIN(now_cpu_ns - clock->marked_cpu_ns, wall_ns);
    mark(clock, now_cpu_ns);
    return true;
}
