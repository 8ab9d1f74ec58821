// SPDX-License-Identifier: Apache-2.0
//
// Fault injection: whether a request is delayed, and whether it is then aborted. The two draws do
// not depend on each other. Delays are not part of the route's timeout; aborts are never retried.
// Pure; any thread.
#pragma once

#include "common/base/rand.h"
#include "common/l7/l7_route.h"

struct l7_fault_draw {
    bool is_delayed, is_aborted;
    uint64_t delay_ms;
    uint16_t status; // of the abort; 0: grpc_status
    int grpc_status; // -1: status
};
// `fault` NULL: neither.
void l7_fault_draw(const struct l7_fault *fault, struct rand *rand, struct l7_fault_draw *ret);
// True for `ppm` of a million requests: also for mirrors.
bool l7_fault_chance(uint32_t ppm, struct rand *rand);
