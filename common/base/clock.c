// SPDX-License-Identifier: Apache-2.0
#include "common/base/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t clock) {
    struct timespec ts;
    clock_gettime(clock, &ts); // cannot fail for the clocks used here
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void) {
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec;
}

uint64_t clock_wall_ns(void) {
    return read_ns(CLOCK_REALTIME);
}
