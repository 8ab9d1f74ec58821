// SPDX-License-Identifier: Apache-2.0
//
// What a CONNECT means to a waypoint (ambient-protocols §14), pure: the authority is the address
// that the application called, and only that decides; the waypoint serves what is bound to it.
#pragma once

#include "common/mesh/snapshot.h"

enum waypoint_verdict {
    WAYPOINT_SERVE,
    WAYPOINT_NOT_BOUND, // known or not, it is not bound to this waypoint; that may be news to come
    WAYPOINT_NO_PORT, // the service does not declare the port
    WAYPOINT_OWN_PORT, // one of the mesh's own ports
    WAYPOINT_HOST, // a host name: those belong to traffic between networks
    WAYPOINT_BAD, // neither
};

struct waypoint_request {
    const char *key; // of the waypoint's own Service, "ns/hostname"
    struct slice authority;
    bool any_binding; // also services that are bound to no waypoint (any more)
};

struct waypoint_target {
    uint8_t verdict; // enum waypoint_verdict
    struct addr dst; // set unless HOST, BAD
    // Borrowed from the snapshot. SERVE: exactly one of both; NOT_BOUND, NO_PORT: what was found.
    struct service *service;
    struct workload *workload; // called by its own address
    uint16_t port; // SERVE by service: index of the service port
    uint8_t app_protocol; // SERVE: enum app_protocol; of a workload it is not known
    char reason[320]; // for logs, "" with SERVE
};

void route_waypoint(const struct snapshot *snap, const struct waypoint_request *request,
                    struct waypoint_target *ret_target);

// "ns/NAME.NS.svc.DOMAIN". False: too long.
bool route_waypoint_key(const struct snapshot *snap, const char *ns, const char *name,
                        char ret_key[512]);
