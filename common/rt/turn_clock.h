// SPDX-License-Identifier: Apache-2.0
//
// What a loop's long turns are made of: work of the thread, or time in which the machine gave the
// core to somebody else. The thread's CPU clock is a system call, so it is not asked for every
// turn: a long one is told at most UNMARKED_NS of its thread's turns too much, and what those
// sent.
//
// Thread: the one whose turns they are.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"

enum {
    TURN_CLOCK_LONG_NS = 500 * 1000, // turns that are looked at
    TURN_CLOCK_UNMARKED_NS = 200 * 1000, // turns that may go by without asking the clock
};

struct turn_clock {
    uint64_t marked_cpu_ns; // CPU time of the thread then
    uint64_t unmarked_ns; // turns since
};

void turn_clock_init(struct turn_clock *clock);
// A turn begins. has_chore: it may do work of hundreds of microseconds, and is measured exactly.
void turn_clock_begin(struct turn_clock *clock, bool has_chore);
// It ends, wall_ns later. True: it was a long one, and *ret_cpu_ns is what the thread computed, at
// most wall_ns.
MUST_USE bool turn_clock_end(struct turn_clock *clock, uint64_t wall_ns, uint64_t *ret_cpu_ns);
