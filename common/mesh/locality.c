// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/locality.h"

#include <string.h>
#include <strings.h>

static bool same(const char *a, const char *b) {
    return a == b || strcmp(a, b) == 0; // interned texts: mostly the pointers differ or agree
}

static bool scope_matches(uint8_t scope, const struct workload *a, const struct workload *b) {
    switch ((enum lb_scope)scope) {
    case SCOPE_REGION:
        return same(a->common->locality.region, b->common->locality.region);
    case SCOPE_ZONE:
        return same(a->common->locality.zone, b->common->locality.zone);
    case SCOPE_SUBZONE:
        return same(a->common->locality.subzone, b->common->locality.subzone);
    case SCOPE_NODE:
        return same(a->node, b->node);
    case SCOPE_CLUSTER:
        return same(a->common->cluster, b->common->cluster);
    case SCOPE_NETWORK:
        return same(a->common->network, b->common->network);
    }
    return false;
}

unsigned locality_rank(const struct service *service, const struct workload *source,
                       const struct workload *destination) {
    unsigned rank = 0;
    if (source == NULL) {
        return 0;
    }
    while (rank < service->n_scopes && scope_matches(service->scopes[rank], source, destination)) {
        rank++;
    }
    return rank;
}

const char *locality_scope_text(enum lb_scope scope) {
    static const char *const texts[] = {"?",    "region",  "zone",   "subzone",
                                        "node", "cluster", "network"};
    return (size_t)scope < ARRAY_LEN(texts) ? texts[scope] : "?";
}

static bool was_tried(const struct locality_request *request, const struct ip *ip) {
    for (size_t i = 0; i < request->n_tried; i++) {
        if (ip_eq(&request->tried[i], ip)) {
            return true;
        }
    }
    return false;
}

static bool source_has_family(const struct workload *source, uint8_t family) {
    if (source == NULL) {
        return true;
    }
    for (size_t i = 0; i < source->n_ips; i++) {
        if (source->ips[i].family == family) {
            return true;
        }
    }
    return source->n_ips == 0;
}

static const struct ip *ip_of_family(const struct endpoint *endpoint, uint8_t family) {
    if (endpoint->ip.family == family) {
        return &endpoint->ip;
    }
    const struct workload *workload = endpoint->workload;
    for (size_t i = 0; i < workload->n_ips; i++) {
        if (workload->ips[i].family == family) {
            return &workload->ips[i];
        }
    }
    return NULL;
}

// A host name's addresses are servers of their own: any that was not tried.
static const struct ip *resolved_ip(const struct workload *workload, uint8_t family,
                                    const struct locality_request *request) {
    size_t first = workload->n_ips > 1 ? rand_below(request->rand, workload->n_ips) : 0;
    for (size_t i = 0; i < workload->n_ips; i++) {
        const struct ip *ip = &workload->ips[(first + i) % workload->n_ips];
        if (ip->family == family && !was_tried(request, ip)) {
            return ip;
        }
    }
    return NULL;
}

// The called family, else the other one when the source has an address to reach it from.
static const struct ip *endpoint_ip(const struct endpoint *endpoint,
                                    const struct locality_request *request) {
    bool is_name = endpoint->workload->common->hostname[0] != '\0';
    uint8_t other = request->family == 4 ? 6 : 4;
    const struct ip *ip = is_name ? resolved_ip(endpoint->workload, request->family, request)
                                  : ip_of_family(endpoint, request->family);
    if (ip == NULL && source_has_family(request->source, other)) {
        ip = is_name ? resolved_ip(endpoint->workload, other, request)
                     : ip_of_family(endpoint, other);
    }
    return ip;
}

static bool endpoint_was_tried(const struct endpoint *endpoint,
                               const struct locality_request *request) {
    const struct workload *workload = endpoint->workload;
    if (request->n_tried == 0 || workload->common->hostname[0] != '\0') {
        return false;
    }
    bool is_tried = was_tried(request, &endpoint->ip);
    for (size_t i = 0; i < workload->n_ips && !is_tried; i++) {
        is_tried = was_tried(request, &workload->ips[i]);
    }
    return is_tried;
}

// Counts in `choice` why an endpoint cannot serve the flow.
static bool is_usable(const struct service *service, const struct endpoint *endpoint,
                      const struct locality_request *request, struct locality_choice *choice) {
    if (!service->allow_not_ready && !endpoint->is_ready) {
        choice->n_unhealthy++;
        return false;
    }
    if (request->port >= 0 && endpoint->target_ports[request->port] == 0) {
        choice->n_no_port++;
        return false;
    }
    if (request->node != NULL && !same(endpoint->workload->node, request->node)) {
        choice->n_too_far++;
        return false;
    }
    if (endpoint_was_tried(endpoint, request)) {
        choice->n_tried++;
        return false;
    }
    if (endpoint_ip(endpoint, request) == NULL) {
        choice->n_no_address++;
        return false;
    }
    return true;
}

static void choose(const struct endpoint *endpoint, const struct locality_request *request,
                   struct locality_choice *choice) {
    choice->endpoint = endpoint;
    choice->ip = *endpoint_ip(endpoint, request);
    choice->target_port = request->port >= 0 ? endpoint->target_ports[request->port] : 0;
}

// Where all endpoints are alike, a few random tries mostly find one without reading them all.
static bool pick_fast(const struct service *service, const struct locality_request *request,
                      struct locality_choice *choice) {
    enum { TRIES = 4, MIN_ENDPOINTS = 8 };
    if (service->n_scopes > 0 || !service->is_uniform || service->n_endpoints < MIN_ENDPOINTS) {
        return false;
    }
    for (int i = 0; i < TRIES; i++) {
        const struct endpoint *endpoint =
            &service->endpoints[rand_below(request->rand, service->n_endpoints)];
        struct locality_choice ignored = {0};
        if (is_usable(service, endpoint, request, &ignored)) {
            choose(endpoint, request, choice);
            choice->n_best = service->n_endpoints;
            return true;
        }
    }
    return false;
}

void locality_pick(const struct service *service, const struct locality_request *request,
                   struct locality_choice *ret_choice) {
    struct locality_choice *choice = ret_choice;
    *choice = (struct locality_choice){.n = service->n_endpoints};
    if (pick_fast(service, request, choice)) {
        return;
    }
    // One pass: weighted reservoir sampling among the endpoints of the best rank so far.
    const struct endpoint *best = NULL;
    uint64_t weights = 0;
    for (size_t i = 0; i < service->n_endpoints; i++) {
        const struct endpoint *endpoint = &service->endpoints[i];
        if (!is_usable(service, endpoint, request, choice)) {
            continue;
        }
        unsigned rank = locality_rank(service, request->source, endpoint->workload);
        if (service->lb_mode == LB_STRICT && rank < service->n_scopes) {
            choice->n_too_far++;
            continue;
        }
        if (rank > choice->rank) {
            choice->rank = (uint8_t)rank;
            choice->n_too_far += choice->n_best;
            choice->n_best = 0;
            weights = 0;
        } else if (rank < choice->rank) {
            choice->n_too_far++;
            continue;
        }
        choice->n_best++;
        uint32_t weight = MAX(endpoint->weight, 1U);
        weights += weight;
        if (rand_below(request->rand, weights) < weight) {
            best = endpoint;
        }
    }
    if (best != NULL) {
        choose(best, request, choice);
    }
}

static void set_scopes(struct service *service, enum lb_mode mode, const uint8_t *scopes,
                       uint8_t n) {
    service->lb_mode = (uint8_t)mode;
    service->n_scopes = n;
    memcpy(service->scopes, scopes, n);
}

bool locality_set_policy(const struct locality_policy *policy, struct service *service) {
    static const uint8_t local[] = {SCOPE_NODE};
    static const uint8_t near[] = {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE, SCOPE_SUBZONE,
                                   SCOPE_NODE};
    enum { N_ZONE = 3 }; // of `near`
    set_scopes(service, LB_STANDARD, local, 0);
    if (policy->is_internal_local) {
        set_scopes(service, LB_STRICT, local, 1);
        return true;
    }
    const char *const values[] = {policy->distribution, policy->annotation, policy->ns_annotation};
    bool is_known = true;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        const char *value = values[i] != NULL ? values[i] : "";
        if (strcasecmp(value, "PreferClose") == 0 || strcasecmp(value, "PreferSameZone") == 0) {
            set_scopes(service, LB_FAILOVER, near, N_ZONE);
            return is_known;
        }
        if (strcasecmp(value, "PreferSameNode") == 0) {
            set_scopes(service, LB_FAILOVER, near, ARRAY_LEN(near));
            return is_known;
        }
        if (strcasecmp(value, "Any") == 0) {
            return is_known;
        }
        is_known = is_known && value[0] == '\0';
    }
    return is_known;
}
