// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/route_wants.h"

#include <stdio.h>
#include <string.h>

static bool name_ip(const struct snapshot *snap, const struct ip *ip,
                    char ret_name[ROUTE_WANT_MAX]) {
    char text[IP_TEXT_MAX];
    int n = snprintf(ret_name, ROUTE_WANT_MAX, "%s/%s", snap->mesh->network, ip_text(ip, text));
    return n > 0 && n < ROUTE_WANT_MAX;
}

bool route_wants_ip(const struct snapshot *snap, const struct ip *ip,
                    char ret_name[ROUTE_WANT_MAX]) {
    if (ip_is_loopback(ip) || ip_is_unspecified(ip) || snapshot_workload_by_ip(snap, ip) != NULL ||
        snapshot_service_by_vip(snap, ip) != NULL) {
        return false;
    }
    return name_ip(snap, ip, ret_name);
}

// A waypoint, as bindings name it: "ns/hostname" or an address.
static bool wants_waypoint(const struct snapshot *snap, const char *name,
                           char ret_name[ROUTE_WANT_MAX]) {
    struct ip ip;
    if (strchr(name, '/') == NULL) {
        return ip_parse(slice_str(name), &ip) && route_wants_ip(snap, &ip, ret_name);
    }
    if (snapshot_service(snap, name) != NULL) {
        return false;
    }
    int n = snprintf(ret_name, ROUTE_WANT_MAX, "%s", name);
    return n > 0 && n < ROUTE_WANT_MAX;
}

bool route_wants(const struct snapshot *snap, const struct workload *source, const struct addr *dst,
                 unsigned nth, char ret_name[ROUTE_WANT_MAX]) {
    const struct workload *workload = snapshot_workload_by_ip(snap, &dst->ip);
    const struct service *service = workload == NULL ? snapshot_service_by_addr(snap, dst) : NULL;
    if (source == NULL) { // it comes by itself
        return false;
    }
    if (workload == NULL && service == NULL) {
        return nth == 0 && route_wants_ip(snap, &dst->ip, ret_name);
    }
    // A range says nothing of the pods and services whose addresses are in it.
    if (service != NULL && route_wants_ip(snap, &dst->ip, ret_name)) {
        if (nth-- == 0) {
            return true;
        }
    } else if (service != NULL && service->n_endpoints == 0 && service->waypoint[0] == '\0' &&
               nth-- == 0) {
        return name_ip(snap, &dst->ip, ret_name);
    }
    const char *const waypoints[] = {workload != NULL ? workload->common->waypoint
                                                      : service->waypoint,
                                     workload != NULL ? "" : service->canary};
    for (size_t i = 0; i < ARRAY_LEN(waypoints); i++) {
        if (wants_waypoint(snap, waypoints[i], ret_name) && nth-- == 0) {
            return true;
        }
    }
    return false;
}

// The last label of `name`, and what is in front of its dot.
static struct slice take_label(struct slice *name) {
    size_t at = name->len;
    while (at > 0 && name->ptr[at - 1] != '.') {
        at--;
    }
    struct slice label = slice_skip(*name, at);
    *name = slice_head(*name, at > 0 ? at - 1 : 0);
    return label;
}

bool route_wants_host(const struct snapshot *snap, const char *host,
                      char ret_name[ROUTE_WANT_MAX]) {
    char domain[sizeof(snap->mesh->cluster_domain) + 8];
    struct slice name = slice_str(host), ns = {0};
    snprintf(domain, sizeof(domain), ".svc.%s", snap->mesh->cluster_domain);
    // More than once, when a resolver has put a search domain behind a full name.
    while (slice_has_suffix(name, slice_str(domain))) {
        name = slice_head(name, name.len - strlen(domain));
        ns = take_label(&name);
    }
    struct slice service = take_label(&name);
    if (ns.len == 0 || service.len == 0) {
        return false;
    }
    int n = snprintf(ret_name, ROUTE_WANT_MAX, "%.*s/%.*s.%.*s%s", SLICE_ARG(ns),
                     SLICE_ARG(service), SLICE_ARG(ns), domain);
    return n > 0 && n < ROUTE_WANT_MAX && snapshot_service(snap, ret_name) == NULL;
}
