// SPDX-License-Identifier: Apache-2.0
//
// Row numbers are those of the table in ambient-protocols §5. Destinations on other networks (rows
// 4 and 8, double HBONE) do not exist yet.
#include "common/mesh/route.h"

#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/mesh/locality.h"
#include "common/proto/hbone.h"

#define TRACE(request, ...)                                                                        \
    do {                                                                                           \
        if ((request)->trace != NULL) {                                                            \
            buf_printf((request)->trace, __VA_ARGS__);                                             \
            buf_append_byte((request)->trace, '\n');                                               \
        }                                                                                          \
    } while (0)

const char *route_refusal_text(enum route_refusal refusal) {
    switch (refusal) {
    case ROUTE_OK:
        return "";
    case ROUTE_NO_SOURCE:
        return "source workload is not known";
    case ROUTE_ILLEGAL_PORT:
        return "port is reserved for the mesh itself";
    case ROUTE_NO_ENDPOINT:
        return "no healthy upstream";
    case ROUTE_NO_PORT:
        return "service has no such port";
    case ROUTE_NO_WAYPOINT:
        return "no healthy endpoint of the bound waypoint";
    case ROUTE_BLOCKED:
        return "destination is not in the registry (REGISTRY_ONLY)";
    case ROUTE_UNRESOLVED:
        return "endpoint host names are not resolved";
    }
    return "";
}

bool route_is_own_port(uint16_t port) {
    return port == 15001 || port == 15006 || port == HBONE_PORT || port == 15080;
}

static void refuse(const struct route_request *request, struct route *route,
                   enum route_refusal refusal) {
    route->action = ROUTE_REFUSE;
    route->refusal = (uint8_t)refusal;
    TRACE(request, "refused: %s", route_refusal_text(refusal));
}

static bool workload_has_ip(const struct workload *workload, const struct ip *ip) {
    for (size_t i = 0; i < workload->n_ips; i++) {
        if (ip_eq(&workload->ips[i], ip)) {
            return true;
        }
    }
    return false;
}

static bool same_workload(const struct workload *a, const struct workload *b) {
    return slice_eq(a->leaf.key, b->leaf.key);
}

static void add_san(struct route *route, const char *san) {
    struct slice text = slice_str(san);
    if (text.len == 0 || route->n_sans == ROUTE_SANS_MAX) {
        return;
    }
    for (size_t i = 0; i < route->n_sans; i++) {
        if (slice_eq(route->sans[i], text)) {
            return;
        }
    }
    route->sans[route->n_sans++] = text;
}

// The peer must show the workload's identity, or one that the service names (subjectAltNames).
static void add_sans(struct route *route, const struct workload *workload,
                     const struct service *service) {
    add_san(route, workload->common->identity);
    for (size_t i = 0; service != NULL && i < service->n_sans; i++) {
        add_san(route, service->sans[i]);
    }
}

static void to_passthrough(const struct route_request *request, struct route *route) {
    route->action = ROUTE_PASSTHROUGH;
    route->target = request->original_dst;
}

// Rows 10 and 11. `inner` = pod address and target port.
static void to_workload(const struct route_request *request, struct route *route,
                        struct workload *workload, const struct addr *inner) {
    char text[ADDR_TEXT_MAX];
    route->destination = workload;
    if (same_workload(request->source, workload)) {
        TRACE(request, "self-call: the pod itself was picked");
    }
    if (workload->protocol != WORKLOAD_HBONE) {
        route->action = ROUTE_TCP;
        route->target = *inner;
        TRACE(request, "workload %s/%s is not in the mesh: plain TCP to %s", workload->ns,
              workload->name, addr_text(inner, text));
        return;
    }
    add_sans(route, workload, route->service);
    if (route->n_sans == 0) {
        // An empty list would let any identity of the trust domain answer.
        TRACE(request, "workload %s/%s has no identity", workload->ns, workload->name);
        refuse(request, route, ROUTE_NO_ENDPOINT);
        return;
    }
    route->action = ROUTE_HBONE;
    route->inner = *inner;
    route->target = (struct addr){.ip = inner->ip, .port = HBONE_PORT};
    addr_text(inner, route->authority);
    TRACE(request, "HBONE to workload %s/%s, CONNECT %s, peer identity %s", workload->ns,
          workload->name, route->authority, workload->common->identity);
}

static int port_index(const struct service *service, uint16_t port) {
    for (int i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == port) {
            return i;
        }
    }
    return -1;
}

static void trace_choice(const struct route_request *request, const struct service *service,
                         const struct locality_choice *choice) {
    if (request->trace == NULL) {
        return;
    }
    buf_printf(request->trace,
               "endpoints of %s: %u in all, %u unhealthy, %u without this port, %u without a "
               "usable address, %u already tried, %u too far, choice among %u",
               service->hostname, choice->n, choice->n_unhealthy, choice->n_no_port,
               choice->n_no_address, choice->n_tried, choice->n_too_far, choice->n_best);
    for (size_t i = 0; i < service->n_scopes; i++) {
        buf_printf(request->trace, "%s%s", i == 0 ? "; locality " : " > ",
                   locality_scope_text((enum lb_scope)service->scopes[i]));
    }
    if (service->n_scopes > 0) {
        buf_printf(request->trace, " (%s, %u matched)",
                   service->lb_mode == LB_STRICT ? "strict" : "failover", choice->rank);
    }
    buf_append_byte(request->trace, '\n');
}

static void pick(const struct route_request *request, const struct service *service, int port,
                 const char *node, struct locality_choice *ret_choice) {
    struct locality_request lb = {
        .source = request->source,
        .port = port,
        .family = request->original_dst.ip.family,
        .node = node,
        .tried = request->tried,
        .n_tried = request->n_tried,
        .rand = request->rand,
    };
    locality_pick(service, &lb, ret_choice);
    trace_choice(request, service, ret_choice);
}

// A waypoint binding: "ns/hostname" of its service, or an address of a service or workload.
struct waypoint {
    struct service *service; // or
    struct workload *workload;
    struct ip ip; // of the workload
};

static bool find_waypoint(const struct snapshot *snap, const char *name,
                          struct waypoint *ret_waypoint) {
    *ret_waypoint = (struct waypoint){0};
    if (strchr(name, '/') != NULL) {
        ret_waypoint->service = snapshot_service(snap, name);
    } else if (ip_parse(slice_str(name), &ret_waypoint->ip)) {
        ret_waypoint->workload = snapshot_workload_by_ip(snap, &ret_waypoint->ip);
        if (ret_waypoint->workload == NULL) {
            ret_waypoint->service = snapshot_service_by_vip(snap, &ret_waypoint->ip);
        }
    }
    return ret_waypoint->service != NULL || ret_waypoint->workload != NULL;
}

static bool is_part_of_waypoint(const struct waypoint *waypoint, const struct workload *workload) {
    if (waypoint->workload != NULL) {
        return same_workload(waypoint->workload, workload);
    }
    for (size_t i = 0; waypoint->service != NULL && i < waypoint->service->n_endpoints; i++) {
        const struct workload *member = waypoint->service->endpoints[i].workload;
        // By identity too: the pods of a waypoint are one, also when this one is not ready yet.
        if (same_workload(member, workload) ||
            (member->common->identity[0] != '\0' &&
             strcmp(member->common->identity, workload->common->identity) == 0)) {
            return true;
        }
    }
    return false;
}

// Rows 3 and 9: HBONE to the waypoint, authority = what the application called. L7 policy must not
// fail open, so that a bound waypoint which cannot be reached is a refusal.
static void to_waypoint(const struct route_request *request, const struct waypoint *waypoint,
                        const struct addr *called, struct route *route) {
    struct workload *workload = waypoint->workload;
    struct addr target = {.ip = waypoint->ip, .port = HBONE_PORT};
    if (waypoint->service != NULL) {
        struct locality_choice choice;
        int port = port_index(waypoint->service, HBONE_PORT);
        pick(request, waypoint->service, port, NULL, &choice);
        workload = choice.endpoint != NULL ? choice.endpoint->workload : NULL;
        target.ip = choice.ip;
        bool is_sandwiched = workload != NULL && workload->app_tunnel != APP_TUNNEL_ABSENT;
        if (choice.target_port != 0 && !is_sandwiched) { // its own ztun listens at 15008
            target.port = choice.target_port;
        }
    }
    bool is_tried = false;
    for (size_t i = 0; i < request->n_tried; i++) {
        is_tried = is_tried || ip_eq(&request->tried[i], &target.ip);
    }
    if (workload != NULL && !is_tried) {
        add_sans(route, workload, waypoint->service);
    }
    if (route->n_sans == 0) {
        refuse(request, route, ROUTE_NO_WAYPOINT);
        return;
    }
    route->action = ROUTE_HBONE;
    route->via_waypoint = true;
    route->destination = workload;
    route->target = target;
    route->inner = *called;
    addr_text(called, route->authority);
    TRACE(request, "HBONE to waypoint %s/%s, CONNECT %s", workload->ns, workload->name,
          route->authority);
}

// True when the flow was decided by a waypoint binding.
static bool try_waypoint(const struct snapshot *snap, const struct route_request *request,
                         const char *name, const struct addr *called, struct route *route) {
    struct waypoint waypoint;
    if (name[0] == '\0') {
        return false;
    }
    route->waypoint = name;
    if (!find_waypoint(snap, name, &waypoint)) {
        TRACE(request, "waypoint %s is bound but not known", name);
        refuse(request, route, ROUTE_NO_WAYPOINT);
        return true;
    }
    if (is_part_of_waypoint(&waypoint, request->source)) {
        TRACE(request, "the source is part of waypoint %s: direct", name);
        route->waypoint = "";
        return false;
    }
    TRACE(request, "waypoint %s is bound", name);
    to_waypoint(request, &waypoint, called, route);
    return true;
}

static bool is_waypoint_of(const struct snapshot *snap, const char *name,
                           const struct workload *local) {
    struct waypoint waypoint;
    return name[0] != '\0' && find_waypoint(snap, name, &waypoint) &&
           is_part_of_waypoint(&waypoint, local);
}

// Of a service: its waypoint or, by a draw for each flow, its canary. Which one is drawn is bound:
// when it cannot be reached, the other one takes nothing over.
static bool try_waypoints(const struct snapshot *snap, const struct route_request *request,
                          const struct service *service, const struct addr *called,
                          struct route *route) {
    const char *name = service->waypoint;
    if (service->canary[0] == '\0') {
        return try_waypoint(snap, request, name, called, route);
    }
    if (is_waypoint_of(snap, service->canary, request->source)) {
        name = service->canary; // direct
    } else if (!is_waypoint_of(snap, name, request->source)) {
        bool is_canary = rand_chance(request->rand, service->canary_percent, 100);
        TRACE(request, "a canary has %u %% of new flows: %s", service->canary_percent,
              is_canary ? "drawn" : "not drawn");
        name = is_canary ? service->canary : name;
    }
    return try_waypoint(snap, request, name, called, route);
}

static bool has_unresolved(const struct service *service) {
    for (size_t i = 0; i < service->n_endpoints; i++) {
        const struct workload *workload = service->endpoints[i].workload;
        if (workload->common->hostname[0] != '\0' && workload->n_ips == 0) {
            return true;
        }
    }
    return false;
}

static bool service_has_ip(const struct service *service, const struct ip *ip) {
    for (size_t i = 0; i < service->n_vips; i++) {
        if (ip_eq(&service->vips[i], ip)) {
            return true;
        }
    }
    for (size_t i = 0; i < service->n_ranges; i++) {
        if (cidr_contains(&service->ranges[i], ip)) {
            return true;
        }
    }
    return false;
}

// `port`: index of the service port, or -1. `node`: only endpoints there (node port, policy Local).
static void to_service(const struct snapshot *snap, const struct route_request *request,
                       struct service *service, int port, const char *node, struct route *route) {
    struct addr called = request->original_dst;
    route->service = service;
    route->hostname = service->hostname;
    if (port >= 0) {
        route->service_port = &service->ports[port];
        if (service->n_vips > 0 && !service_has_ip(service, &called.ip)) {
            // Called by node port; a waypoint knows services by VIP.
            called = (struct addr){.ip = service->vips[0], .port = route->service_port->port};
        }
    }
    if (try_waypoints(snap, request, service, &called, route)) {
        return;
    }
    if (service->lb_mode == LB_PASSTHROUGH) {
        TRACE(request, "resolution NONE: passthrough to the original address");
        to_passthrough(request, route);
        return;
    }
    if (port < 0) {
        refuse(request, route, ROUTE_NO_PORT);
        return;
    }
    struct locality_choice choice;
    pick(request, service, port, node, &choice);
    if (choice.endpoint == NULL) {
        bool is_unresolved = choice.n_no_address > 0 && has_unresolved(service);
        refuse(request, route, is_unresolved ? ROUTE_UNRESOLVED : ROUTE_NO_ENDPOINT);
        return;
    }
    struct addr inner = {.ip = choice.ip, .port = choice.target_port};
    to_workload(request, route, choice.endpoint->workload, &inner);
}

static void to_workload_ip(const struct snapshot *snap, const struct route_request *request,
                           struct workload *workload, struct route *route) {
    TRACE(request, "destination is workload %s/%s", workload->ns, workload->name);
    route->hostname = "";
    if (try_waypoint(snap, request, workload->common->waypoint, &request->original_dst, route)) {
        return;
    }
    for (size_t i = 0; i < request->n_tried; i++) {
        if (ip_eq(&request->tried[i], &request->original_dst.ip)) {
            TRACE(request, "a workload's own address has no other endpoint to try");
            refuse(request, route, ROUTE_NO_ENDPOINT);
            return;
        }
    }
    to_workload(request, route, workload, &request->original_dst);
}

static int node_port_index(const struct service *service, uint16_t node_port) {
    for (int i = 0; i < service->n_ports; i++) {
        if (service->ports[i].node_port == node_port) {
            return i;
        }
    }
    return -1;
}

static bool try_node_port(const struct snapshot *snap, const struct route_request *request,
                          const struct node *node, struct route *route) {
    uint16_t port = request->original_dst.port;
    struct service *service = snapshot_service_by_node_port(snap, port);
    if (service == NULL) {
        return false;
    }
    TRACE(request, "destination is node %s, node port %u of service %s", node->name, port,
          service->hostname);
    to_service(snap, request, service, node_port_index(service, port),
               service->is_external_local ? node->name : NULL, route);
    return true;
}

static void to_unknown(const struct snapshot *snap, const struct route_request *request,
                       struct route *route) {
    if (snap->mesh->outbound_registry_only) {
        refuse(request, route, ROUTE_BLOCKED);
        return;
    }
    TRACE(request, "destination is not known to the mesh: passthrough");
    to_passthrough(request, route);
}

void route_outbound(const struct snapshot *snap, const struct route_request *request,
                    struct route *ret_route) {
    struct route *route = ret_route;
    const struct addr *dst = &request->original_dst;
    *route = (struct route){
        .source = (struct workload *)request->source, .waypoint = "", .hostname = ""};
    if (request->source == NULL) { // row 0
        refuse(request, route, ROUTE_NO_SOURCE);
        return;
    }
    if (route_is_own_port(dst->port) && // row 1
        (ip_is_loopback(&dst->ip) || workload_has_ip(request->source, &dst->ip))) {
        refuse(request, route, ROUTE_ILLEGAL_PORT);
        return;
    }
    struct workload *workload = snapshot_workload_by_ip(snap, &dst->ip); // row 2
    if (workload != NULL) {
        to_workload_ip(snap, request, workload, route);
        return;
    }
    struct service *service = snapshot_service_by_addr(snap, dst);
    const struct node *node = snapshot_node_by_ip(snap, &dst->ip);
    int port = service != NULL ? port_index(service, dst->port) : -1;
    // A node's address can be that of a load balancer too: other ports of it are the node's own.
    if (service != NULL && (port >= 0 || node == NULL)) {
        TRACE(request, "destination is service %s", service->hostname);
        to_service(snap, request, service, port, NULL, route);
        return;
    }
    if (node != NULL && try_node_port(snap, request, node, route)) {
        return;
    }
    to_unknown(snap, request, route); // row 7
}

static bool bound_to(const struct snapshot *snap, const struct addr *dst,
                     struct route_binding *ret) {
    const struct workload *workload = snapshot_workload_by_ip(snap, &dst->ip);
    if (workload != NULL) {
        *ret = (struct route_binding){.waypoint = workload->common->waypoint, .canary = ""};
        return true;
    }
    const struct service *service = snapshot_service_by_addr(snap, dst);
    bool is_node = snapshot_node_by_ip(snap, &dst->ip) != NULL;
    if (is_node && (service == NULL || port_index(service, dst->port) < 0)) {
        service = snapshot_service_by_node_port(snap, dst->port);
    }
    if (service == NULL) {
        return false;
    }
    *ret = (struct route_binding){.waypoint = service->waypoint,
                                  .canary = service->canary,
                                  .canary_percent = service->canary_percent};
    return true;
}

bool route_binding(const struct snapshot *snap, const struct workload *source,
                   const struct addr *dst, struct route_binding *ret_binding) {
    struct route_binding binding;
    if (source == NULL || !bound_to(snap, dst, &binding)) {
        return false;
    }
    if (is_waypoint_of(snap, binding.waypoint, source) ||
        is_waypoint_of(snap, binding.canary, source)) {
        binding = (struct route_binding){.waypoint = "", .canary = ""};
    }
    *ret_binding = binding;
    return true;
}

// Inbound

static bool answer(struct inbound_target *target, int status, const char *reason) {
    target->status = status;
    snprintf(target->reason, sizeof(target->reason), "%s", reason);
    return false;
}

static struct addr local_addr(const struct inbound_request *request, uint16_t port) {
    struct addr addr = {.ip = request->local_ip, .port = port};
    if (!ip_is_set(&addr.ip) && request->local->n_ips > 0) {
        addr.ip = request->local->ips[0];
    }
    return addr;
}

static bool is_service_waypoint(const struct snapshot *snap, const struct service *service,
                                const struct workload *local) {
    return is_waypoint_of(snap, service->waypoint, local) ||
           is_waypoint_of(snap, service->canary, local);
}

// An address that is not this pod's is fine when this pod is the waypoint of what has it.
static bool is_bound_here(const struct snapshot *snap, const struct workload *local,
                          const struct addr *addr) {
    const struct workload *workload = snapshot_workload_by_ip(snap, &addr->ip);
    if (workload != NULL) {
        return is_waypoint_of(snap, workload->common->waypoint, local);
    }
    const struct service *service = snapshot_service_by_addr(snap, addr);
    return service != NULL && is_service_waypoint(snap, service, local);
}

// What a sandwiched waypoint gets is for others, on one port of its own.
static bool to_app_tunnel(const struct inbound_request *request, struct inbound_target *target) {
    if (route_is_own_port(request->local->app_tunnel_port)) {
        return answer(target, 503, "port is reserved for the mesh itself");
    }
    target->upstream = local_addr(request, request->local->app_tunnel_port);
    return true;
}

static bool inbound_addr(const struct snapshot *snap, const struct inbound_request *request,
                         const struct addr *addr, struct inbound_target *target) {
    if (addr->port == 0) {
        return answer(target, 400, "authority has no port");
    }
    if (route_is_own_port(addr->port)) {
        return answer(target, 503, "port is reserved for the mesh itself");
    }
    if (request->local->app_tunnel_port != 0) {
        return to_app_tunnel(request, target);
    }
    if (workload_has_ip(request->local, &addr->ip)) {
        target->upstream = *addr;
        return true;
    }
    if (request->local->app_tunnel == APP_TUNNEL_ABSENT &&
        !is_bound_here(snap, request->local, addr)) {
        return answer(target, 400, "authority is not an address of this pod");
    }
    target->upstream = local_addr(request, addr->port);
    return true;
}

static bool inbound_host(const struct snapshot *snap, const struct inbound_request *request,
                         struct slice host, uint16_t port, struct inbound_target *target) {
    const struct workload *local = request->local;
    struct service *service = snapshot_service_by_host(snap, host, local->ns);
    if (service == NULL) {
        return answer(target, 503, "authority names no known service");
    }
    target->service = service;
    if (local->app_tunnel_port != 0) {
        return to_app_tunnel(request, target);
    }
    int index = port_index(service, port);
    if (index < 0) {
        return answer(target, 503, "service has no such port");
    }
    uint16_t target_port = is_service_waypoint(snap, service, local) ? port : 0;
    for (size_t i = 0; target_port == 0 && i < service->n_endpoints; i++) {
        if (same_workload(service->endpoints[i].workload, local)) {
            target_port = service->endpoints[i].target_ports[index];
        }
    }
    if (target_port == 0) {
        return answer(target, 503, "this pod is no endpoint of the service's port");
    }
    if (route_is_own_port(target_port)) {
        return answer(target, 503, "port is reserved for the mesh itself");
    }
    target->upstream = local_addr(request, target_port);
    return true;
}

static bool inbound_decide(const struct snapshot *snap, const struct inbound_request *request,
                           struct inbound_target *target) {
    if (request->local == NULL || request->local->n_ips == 0) {
        return answer(target, 503, "local workload is not known");
    }
    struct addr addr;
    if (addr_parse(request->authority, &addr)) {
        return inbound_addr(snap, request, &addr, target);
    }
    struct slice host, port_text;
    uint64_t port;
    if (!slice_split(request->authority, ':', &host, &port_text) || host.len == 0 ||
        !slice_to_u64(port_text, UINT16_MAX, &port) || port == 0) {
        return answer(target, 400, "bad authority");
    }
    return inbound_host(snap, request, host, (uint16_t)port, target);
}

void route_inbound(const struct snapshot *snap, const struct inbound_request *request,
                   struct inbound_target *ret_target) {
    *ret_target = (struct inbound_target){0};
    if (inbound_decide(snap, request, ret_target)) {
        ret_target->status = 200;
    }
}
