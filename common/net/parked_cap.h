// SPDX-License-Identifier: Apache-2.0
//
// The cap on what the tunnels of one thread keep for consumers that do not read. Windows bound what
// each stream may park; with many streams their sum is more than a small process has. When the sum
// passes the cap, the streams for which most waits are reset (FLOW_OVERLOAD at their users), the
// largest of all tunnels first, until it fits again. It happens in the flush phase of the turn.
// Connections that were imported from another worker or process are not counted.
//
// Thread: the loop's. Outlives the drivers whose h2_config.parked_all points at `all`.
#pragma once

#include "common/net/h2_drv.h"

struct parked_cap {
    struct h2_parked all;
    struct loop *loop;
    struct loop_flush flush;
    struct list drvs;
};

void parked_cap_init(struct parked_cap *cap, struct loop *loop, uint64_t max_bytes); // 0: no cap
void parked_cap_fini(struct parked_cap *cap); // no driver is left
void parked_cap_add(struct h2_drv *drv); // has its h2 connection now; harmless without a cap
void parked_cap_del(struct h2_drv *drv); // it ends; harmless when it was not added
void parked_cap_check(const struct h2_config *config); // bytes came in
