// SPDX-License-Identifier: Apache-2.0
//
// How long a thread asks to run at a time (the slice of EEVDF, Linux 6.12 and later). Its share of
// the CPU stays what it is; what changes is who waits: a thread that wakes interrupts one with a
// longer slice at once, and any other not before its slice is over, which a tick (up to 4 ms)
// finds. Unlike a nice value that holds between sessions and cgroups too.
#pragma once

#include <stdint.h>

// Of a thread that everyone may interrupt; the default is 0.7 to 2.8 ms, by the number of CPUs.
enum { SCHED_SLICE_LONG_US = 10000 };

// Of the calling thread, and of those that it starts. A wish: older kernels and real-time classes
// have no slices.
void sched_slice_set(uint32_t us);
