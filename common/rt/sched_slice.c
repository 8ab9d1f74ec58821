// SPDX-License-Identifier: Apache-2.0
#include "common/rt/sched_slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

// sched_setattr(2); the C library has no declaration of it.
struct sched_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void sched_slice_set(uint32_t us) {
    struct sched_attr attr = {0};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) == 0 &&
        (attr.policy == SCHED_OTHER || attr.policy == SCHED_BATCH)) {
        attr.size = sizeof(attr);
        attr.runtime_ns = (uint64_t)us * 1000;
        (void)syscall(SYS_sched_setattr, 0, &attr, 0);
    }
}
