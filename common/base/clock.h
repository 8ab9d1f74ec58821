// SPDX-License-Identifier: Apache-2.0
//
// Time units and the only two clock reads of the program. Timers use the monotonic clock;
// certificates and tokens the wall clock (they must follow when it is set). Pure modules get time
// as an argument and never include this for clock_*_ns().
#pragma once

#include <stdint.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)
#define TIME_NEVER UINT64_MAX

uint64_t clock_mono_ns(void);
int64_t clock_wall_s(void); // Unix seconds
uint64_t clock_wall_ns(void);
