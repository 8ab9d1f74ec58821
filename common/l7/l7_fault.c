// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_fault.h"

bool l7_fault_chance(uint32_t ppm, struct rand *rand) {
    return ppm >= L7_PPM || (ppm > 0 && rand_below(rand, L7_PPM) < ppm);
}

void l7_fault_draw(const struct l7_fault *fault, struct rand *rand, struct l7_fault_draw *ret) {
    *ret = (struct l7_fault_draw){.grpc_status = -1};
    if (fault == NULL) {
        return;
    }
    if (fault->delay_ms > 0 && l7_fault_chance(fault->delay_ppm, rand)) {
        ret->is_delayed = true;
        ret->delay_ms = fault->delay_ms;
    }
    if (l7_fault_chance(fault->abort_ppm, rand)) {
        ret->is_aborted = true;
        ret->status = fault->status;
        ret->grpc_status = fault->status == 0 ? fault->grpc_status : -1;
    }
}
