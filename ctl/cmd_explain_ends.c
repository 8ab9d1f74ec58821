// SPDX-License-Identifier: Apache-2.0
//
// The far end: which endpoints there are, and what each would say.
#include <stdlib.h>
#include <string.h>

#include "common/mesh/locality.h"
#include "common/mesh/rbac.h"
#include "ctl/cmd_explain.h"

static struct ip source_ip(const struct workload *source, uint8_t family) {
    for (size_t i = 0; i < source->n_ips; i++) {
        if (source->ips[i].family == family) {
            return source->ips[i];
        }
    }
    return source->n_ips > 0 ? source->ips[0] : (struct ip){0};
}

static void set_text(json_t *object, const char *key, const char *text) {
    json_object_set_new(object, key, json_string(text));
}

json_t *explain_inbound(const struct explain *explain, const struct workload *destination,
                        const struct addr *target, const char *authority) {
    char text[ADDR_TEXT_MAX];
    struct rbac_request request = {.source_ip = source_ip(explain->source, target->ip.family),
                                   .destination = *target};
    json_t *result = json_object();
    if (authority != NULL) {
        struct inbound_request inbound = {
            .local = destination, .authority = slice_str(authority), .local_ip = target->ip};
        struct inbound_target answer;
        route_inbound(explain->snap, &inbound, &answer);
        json_object_set_new(result, "connectStatus", json_integer(answer.status));
        if (answer.status != 200) {
            set_text(result, "reason", answer.reason);
            json_object_set_new(result, "allowed", json_false());
            return result;
        }
        request.destination = answer.upstream;
        request.source_identity = slice_str(explain->source->common->identity);
        set_text(result, "upstream", addr_text(&answer.upstream, text));
    } else {
        char *reason = NULL;
        bool is_captured = explain_is_captured(explain, destination, false, &reason);
        json_object_set_new(result, "captured", json_boolean(is_captured));
        set_text(result, "capturedBecause", reason);
        free(reason);
        if (!is_captured) {
            json_object_set_new(result, "allowed", json_true());
            set_text(result, "reason", "no ztun is at that end: nothing is checked");
            return result;
        }
    }
    json_t *policies = explain_policies(explain->snap, destination, &request);
    json_object_update(result, policies);
    json_decref(policies);
    return result;
}

// ---- candidates --------------------------------------------------------------------------------

// Why locality_pick leaves out a service's only endpoint; NULL: it does not.
static const char *why_out(const struct locality_choice *choice) {
    if (choice->endpoint != NULL) {
        return NULL;
    }
    return choice->n_unhealthy > 0    ? "not ready"
           : choice->n_no_port > 0    ? "has not this port"
           : choice->n_no_address > 0 ? "has no address of a usable family"
           : choice->n_too_far > 0    ? "too far: the service is for near endpoints only"
                                      : "left out";
}

// One endpoint, judged by the balancer's own code: as if the service had no other.
static void judge(const struct explain *explain, const struct service *service,
                  const struct endpoint *endpoint, int port, uint8_t family,
                  struct locality_choice *ret_choice) {
    struct service alone = *service;
    struct rand rand = explain->rand;
    alone.endpoints = endpoint;
    alone.n_endpoints = 1;
    struct locality_request request = {
        .source = explain->source, .port = port, .family = family, .rand = &rand};
    locality_pick(&alone, &request, ret_choice);
}

static void add_inbound(const struct explain *explain, const struct workload *destination,
                        const struct addr *target, const struct addr *called, bool is_captured,
                        bool is_waypoint, json_t *item) {
    char text[ADDR_TEXT_MAX];
    bool is_hbone = is_captured && destination->protocol == WORKLOAD_HBONE;
    if (is_waypoint) {
        addr_text(called, text);
    } else {
        addr_text(target, text);
    }
    set_text(item, "protocol", is_hbone || is_waypoint ? "HBONE" : "TCP");
    if (is_hbone || is_waypoint) {
        set_text(item, "peerIdentity", destination->common->identity);
    }
    if (!is_waypoint) { // what a waypoint says is the waypoint's policy
        json_object_set_new(item, "inbound",
                            explain_inbound(explain, destination, target, is_hbone ? text : NULL));
    }
}

static json_t *candidate(const struct endpoint *endpoint) {
    char text[IP_TEXT_MAX];
    char *name = xasprintf("%s/%s", endpoint->workload->ns, endpoint->workload->name);
    json_t *item =
        json_pack("{s:s, s:s, s:s, s:s, s:i}", "workload", name, "ip", ip_text(&endpoint->ip, text),
                  "node", endpoint->workload->node, "zone",
                  endpoint->workload->common->locality.zone, "weight", (int)endpoint->weight);
    free(name);
    return item;
}

json_t *explain_candidates(const struct explain *explain, const struct service *service, int port,
                           const struct addr *called, const struct workload *chosen,
                           bool is_captured, bool is_waypoint) {
    json_t *list = json_array();
    unsigned best = 0;
    struct locality_choice choice;
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        judge(explain, service, &service->endpoints[i], port, called->ip.family, &choice);
        best = choice.endpoint != NULL ? MAX(best, (unsigned)choice.rank) : best;
    }
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        const struct endpoint *endpoint = &service->endpoints[i];
        json_t *item = candidate(endpoint);
        judge(explain, service, endpoint, port, called->ip.family, &choice);
        const char *reason = why_out(&choice);
        bool is_farther =
            is_captured && reason == NULL && service->lb_mode == LB_FAILOVER && choice.rank < best;
        if (reason == NULL) {
            struct addr target = {.ip = choice.ip, .port = choice.target_port};
            char text[ADDR_TEXT_MAX];
            set_text(item, "target", addr_text(&target, text));
            add_inbound(explain, endpoint->workload, &target, called, is_captured, is_waypoint,
                        item);
        }
        json_object_set_new(item, "usable", json_boolean(reason == NULL && !is_farther));
        if (reason != NULL || is_farther) {
            set_text(item, "out", reason != NULL ? reason : "farther away than others");
        }
        json_object_set_new(item, "chosen",
                            json_boolean(chosen != NULL && !is_farther && reason == NULL &&
                                         slice_eq(chosen->leaf.key, endpoint->workload->leaf.key)));
        json_array_append_new(list, item);
    }
    return list;
}
