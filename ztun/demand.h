// SPDX-License-Identifier: Apache-2.0
//
// What the flows of a worker want to know of istiod, on demand: a flow that goes to an address (or
// a look-up of a name) which the snapshot lacks waits here until istiod has said whose it is, or
// that it is nobody's.
//
// A name is asked for once, whoever else wants it meanwhile. What was answered is not asked for
// again for DEMAND_GOOD_MS, and as long as the snapshot is the same.
//
// Thread: the worker's; the other half is control_demand.h.
#pragma once

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/rt/loop.h"

enum {
    DEMAND_ANSWERED_MAX = 8192, // answers; then all are forgotten
    DEMAND_GOOD_MS = 1000, // istiod does not tell whose an absent address has become
};

struct ztun;

struct demands { // of a worker
    struct ztun *ztun;
    struct loop *loop;
    uint32_t worker;
    bool is_on; // xds_on_demand
    struct hmap asked; // struct demand_name
    struct hmap answered; // the same
    uint64_t answered_generation; // of the snapshot
};

enum demand_result {
    DEMAND_ANSWERED, // it is in the snapshot, or is known not to be
    DEMAND_REFUSED, // too many other names are asked for
    DEMAND_TIMEOUT,
};

// Embedded in who waits; all fields are private.
struct demand {
    struct list node; // demand_name.waiting
    struct timer timer;
    struct demands *all;
    void (*done)(struct demand *demand, enum demand_result result);
};

void demands_init(struct demands *all, struct loop *loop, struct ztun *ztun, uint32_t worker);
void demands_fini(struct demands *all); // nobody waits any more

// Asks for `name` (route_wants.h), which the snapshot lacks. False: it was answered, and is absent.
// Else `done` follows, once and later, after wait_ms at the latest.
MUST_USE bool demand_start(struct demand *demand, struct demands *all, const char *name,
                           uint32_t wait_ms,
                           void (*done)(struct demand *demand, enum demand_result result));
void demand_cancel(struct demand *demand); // nothing is called any more
// Nobody waits for the answer: what comes after this may know it.
void demand_hint(struct demands *all, const char *name);

const char *demand_result_text(enum demand_result result);

// From the control thread, of a name that was asked for: ANSWERED or REFUSED.
void demands_send_answer(struct demands *all, const char *name, enum demand_result result);
