// SPDX-License-Identifier: Apache-2.0
//
// Where a flow goes: the outbound decision (ambient-protocols §5) and the inbound check (§6.1),
// pure. The proxy and `ztunctl explain` run this same code; with a trace, each step is written
// down.
#pragma once

#include "common/base/rand.h"
#include "common/mesh/rbac.h"
#include "common/mesh/snapshot.h"

struct buf;

enum route_action {
    ROUTE_PASSTHROUGH, // plain TCP to the original destination
    ROUTE_TCP, // plain TCP to `target`
    ROUTE_HBONE, // CONNECT `authority` over a tunnel to `target`:15008
    ROUTE_REFUSE,
};

enum route_refusal {
    ROUTE_OK,
    ROUTE_NO_SOURCE, // own workload unknown
    ROUTE_ILLEGAL_PORT, // loopback or own address with one of the mesh's own ports
    ROUTE_NO_ENDPOINT, // known service without a usable endpoint
    ROUTE_NO_PORT, // service has no such port
    ROUTE_NO_WAYPOINT, // bound waypoint has no healthy endpoint
    ROUTE_BLOCKED, // REGISTRY_ONLY and the destination is unknown
    ROUTE_UNRESOLVED, // the service's endpoints are host names without an address so far
};
const char *route_refusal_text(enum route_refusal refusal);

enum { ROUTE_SANS_MAX = 16, ROUTE_TRIED_MAX = 8 };

struct route {
    uint8_t action, refusal;
    bool via_waypoint; // destination and target are the waypoint's
    const char *waypoint; // as bindings name it, borrowed; "" = none
    struct addr
        target; // TCP, PASSTHROUGH: where to connect; HBONE: pod ip (or waypoint's) : HBONE port
    struct addr inner; // HBONE: the CONNECT authority as an address
    char authority[ADDR_TEXT_MAX]; // HBONE
    // Leaves used (borrowed from the snapshot; the caller refs what it keeps).
    struct workload *source, *destination; // destination: the chosen endpoint's workload, or NULL
    struct service *service; // or NULL
    const struct service_port *service_port; // or NULL
    const char *hostname; // service hostname for `forwarded` and logs, "" = none
    struct slice sans[ROUTE_SANS_MAX]; // SPIFFE ids of which the peer must show one
    uint16_t n_sans;
};

struct route_request {
    const struct workload *source; // NULL = unknown
    struct addr original_dst;
    struct ip tried[ROUTE_TRIED_MAX]; // endpoints to avoid (connect retries)
    uint8_t n_tried;
    struct rand *rand; // endpoint choice
    struct buf *trace; // NULL, or explain's text: a line per decision
};

void route_outbound(const struct snapshot *snap, const struct route_request *request,
                    struct route *ret_route);

// The waypoints that flows of `source` to `dst` go through, as bindings name them; "": none, they
// go direct. Borrowed from the snapshot.
struct route_binding {
    const char *waypoint;
    const char *canary; // has canary_percent of new flows; "": there is none
    uint8_t canary_percent;
};
// False: the mesh does not know one of both.
MUST_USE bool route_binding(const struct snapshot *snap, const struct workload *source,
                            const struct addr *dst, struct route_binding *ret_binding);

// Inbound HBONE: may this CONNECT reach this pod, and at which local address?
struct inbound_request {
    const struct workload *local; // the pod
    struct slice authority; // ip:port or host:port
    struct ip local_ip; // the pod's address that the tunnel came to; not set: its first
};
struct inbound_target {
    int status; // 200, 400, 503
    struct addr upstream; // pod ip : target port
    struct service *service; // when the authority is a hostname
    char reason[128];
};
void route_inbound(const struct snapshot *snap, const struct inbound_request *request,
                   struct inbound_target *ret_target);

// 15001, 15006, 15008, 15080.
bool route_is_own_port(uint16_t port);
