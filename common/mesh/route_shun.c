// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/route_shun.h"

#include "common/base/clock.h"

void route_shun_add(struct route_shun *shun, const struct ip *ip, uint64_t now) {
    size_t place = 0;
    for (size_t i = 0; i < ROUTE_SHUN_MAX; i++) {
        if (shun->until[i] != 0 && ip_eq(&shun->ips[i], ip)) {
            place = i;
            break;
        }
        place = shun->until[i] < shun->until[place] ? i : place;
    }
    shun->ips[place] = *ip;
    shun->until[place] = now + ROUTE_SHUN_MS * NS_PER_MS;
}

void route_shun_del(struct route_shun *shun, const struct ip *ip) {
    for (size_t i = 0; i < ROUTE_SHUN_MAX; i++) {
        if (shun->until[i] != 0 && ip_eq(&shun->ips[i], ip)) {
            shun->until[i] = 0;
        }
    }
}

static bool has(const struct route_shun *shun, uint64_t now, const struct ip *ip) {
    for (size_t i = 0; i < ROUTE_SHUN_MAX; i++) {
        if (shun->until[i] > now && ip_eq(&shun->ips[i], ip)) {
            return true;
        }
    }
    return false;
}

void route_shun_outbound(const struct route_shun *shun, uint64_t now, const struct snapshot *snap,
                         const struct route_request *request, struct route *ret_route) {
    struct route_request others = *request;
    struct route route;
    route_outbound(snap, &others, ret_route);
    // Most flows have no waypoint, and most waypoints are there.
    route = *ret_route;
    while (route.via_waypoint && route.action == ROUTE_HBONE && has(shun, now, &route.target.ip)) {
        if (others.n_tried == ROUTE_TRIED_MAX) {
            return; // as first chosen
        }
        others.tried[others.n_tried++] = route.target.ip;
        route_outbound(snap, &others, &route);
    }
    if (route.action != ROUTE_REFUSE) {
        *ret_route = route;
    }
}
