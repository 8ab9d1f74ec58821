// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/route_waypoint.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/mesh/route.h"

static void PRINTF_LIKE(3, 4)
    answer(struct waypoint_target *target, enum waypoint_verdict verdict, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(target->reason, sizeof(target->reason), fmt, args);
    va_end(args);
    target->verdict = (uint8_t)verdict;
}

static void not_bound(struct waypoint_target *target, const char *what, const char *name,
                      const char *waypoint) {
    if (waypoint[0] == '\0') {
        answer(target, WAYPOINT_NOT_BOUND, "no waypoint is bound to %s %s", what, name);
    } else {
        answer(target, WAYPOINT_NOT_BOUND, "%s %s is bound to another waypoint: %s", what, name,
               waypoint);
    }
}

static void to_workload(const struct waypoint_request *request, struct workload *workload,
                        struct waypoint_target *target) {
    target->workload = workload;
    if (strcmp(workload->common->waypoint, request->key) != 0) {
        not_bound(target, "workload", workload->name, workload->common->waypoint);
        return;
    }
    target->verdict = WAYPOINT_SERVE;
    target->app_protocol = APP_UNKNOWN;
}

static void to_service(const struct waypoint_request *request, struct service *service,
                       struct waypoint_target *target) {
    target->service = service;
    if (!service_is_bound(service, request->key) &&
        !(request->any_binding && service->waypoint[0] == '\0')) {
        not_bound(target, "service", service->hostname, service->waypoint);
        return;
    }
    for (uint16_t i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == target->dst.port) {
            target->verdict = WAYPOINT_SERVE;
            target->port = i;
            target->app_protocol = service->ports[i].app_protocol;
            return;
        }
    }
    answer(target, WAYPOINT_NO_PORT, "service %s has no port %u", service->hostname,
           target->dst.port);
}

static bool is_host(struct slice authority) {
    struct slice host, port_text;
    uint64_t port;
    return slice_split(authority, ':', &host, &port_text) && host.len > 0 &&
           slice_to_u64(port_text, UINT16_MAX, &port) && port != 0;
}

void route_waypoint(const struct snapshot *snap, const struct waypoint_request *request,
                    struct waypoint_target *ret_target) {
    struct waypoint_target *target = ret_target;
    *target = (struct waypoint_target){0};
    if (!addr_parse(request->authority, &target->dst) || target->dst.port == 0) {
        bool has_host = target->dst.port == 0 && is_host(request->authority);
        answer(target, has_host ? WAYPOINT_HOST : WAYPOINT_BAD,
               has_host ? "authority is a host name, which only traffic between networks has"
                        : "authority is not address:port");
        target->dst = (struct addr){0};
        return;
    }
    if (route_is_own_port(target->dst.port)) {
        answer(target, WAYPOINT_OWN_PORT, "port is reserved for the mesh itself");
        return;
    }
    // In the order in which the client's proxy looked.
    struct workload *workload = snapshot_workload_by_ip(snap, &target->dst.ip);
    if (workload != NULL) {
        to_workload(request, workload, target);
        return;
    }
    struct service *service = snapshot_service_by_addr(snap, &target->dst);
    if (service != NULL) {
        to_service(request, service, target);
        return;
    }
    answer(target, WAYPOINT_NOT_BOUND, "destination is not known");
}

bool route_waypoint_key(const struct snapshot *snap, const char *ns, const char *name,
                        char ret_key[512]) {
    int len = snprintf(ret_key, 512, "%s/%s.%s.svc.%s", ns, name, ns, snap->mesh->cluster_domain);
    return len > 0 && len < 512;
}
