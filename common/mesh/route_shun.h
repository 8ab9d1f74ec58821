// SPDX-License-Identifier: Apache-2.0
//
// Waypoints that could not be reached a moment ago: new flows go to the others of the same Gateway,
// if there are any. A process that is gone without a word (its node is, or the network to it) would
// else cost each flow that draws it the time of a connect, until the control plane has noticed.
//
// Pure: times are the caller's (monotonic).
#pragma once

#include "common/mesh/route.h"

enum {
    ROUTE_SHUN_MAX = 8, // addresses a worker remembers; a further one takes the oldest one's place
    ROUTE_SHUN_MS = 5000,
};

struct route_shun {
    struct ip ips[ROUTE_SHUN_MAX];
    uint64_t until[ROUTE_SHUN_MAX]; // monotonic; 0 = free
};

void route_shun_add(struct route_shun *shun, const struct ip *ip, uint64_t now);
void route_shun_del(struct route_shun *shun, const struct ip *ip); // it was reached
// route_outbound, without waypoints that are shunned, unless no other is left.
void route_shun_outbound(const struct route_shun *shun, uint64_t now, const struct snapshot *snap,
                         const struct route_request *request, struct route *ret_route);
