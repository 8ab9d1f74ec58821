// SPDX-License-Identifier: Apache-2.0
//
// Near and far: which hosts are preferred from where the client is.
#include <stdio.h>

#include "common/l7/l7_lb_priv.h"

enum place_mode {
    PLACE_FLAT, // all the same
    PLACE_DISTRIBUTE,
    PLACE_LABELS, // failoverPriority
    PLACE_REGIONS, // by locality, with failover between regions
    PLACE_SCOPES, // trafficDistribution
};

static bool same(const char *a, const char *b) {
    return a == b || strcmp(a, b) == 0;
}

// One part of a pattern: `*` and nothing match everything.
static bool part_matches(struct slice part, const char *value, bool is_region) {
    if (part.len == 0) {
        return !is_region || value[0] == '\0';
    }
    return slice_eq_str(part, "*") || slice_eq_str(part, value);
}

static bool locality_matches(const char *pattern, const struct locality *locality) {
    const char *const values[] = {locality->region, locality->zone, locality->subzone};
    struct slice rest = slice_str(pattern);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct slice part = rest;
        if (!slice_split(rest, '/', &part, &rest)) {
            rest = slice_make(NULL, 0);
        }
        if (!part_matches(part, values[i], i == 0)) {
            return false;
        }
    }
    return true;
}

static const struct l7_distribute *find_distribute(const struct l7_locality_policy *policy,
                                                   const struct workload *source) {
    for (uint32_t i = 0; i < policy->n_distribute; i++) {
        if (locality_matches(policy->distribute[i].from, &source->common->locality)) {
            return &policy->distribute[i];
        }
    }
    return NULL;
}

// DestinationRule, then trafficDistribution, then the mesh's default, which is failover by
// locality. Failover needs outlier detection: without, no host is ever unhealthy.
static enum place_mode place_mode(const struct l7_settings *settings, const struct service *service,
                                  const struct workload *source) {
    const struct l7_locality_policy *policy = &settings->lb.locality;
    if (source == NULL) {
        return PLACE_FLAT;
    }
    if (!policy->is_set && service->lb_mode == LB_FAILOVER && service->n_scopes > 0) {
        return PLACE_SCOPES;
    }
    if (policy->is_disabled) {
        return PLACE_FLAT;
    }
    if (policy->n_distribute > 0) {
        return PLACE_DISTRIBUTE;
    }
    if (!settings->outlier.is_on) {
        return PLACE_FLAT;
    }
    if (policy->n_failover_priority > 0) {
        return PLACE_LABELS;
    }
    return source->common->locality.region[0] != '\0' ? PLACE_REGIONS : PLACE_FLAT;
}

static const char *scope_value(uint8_t scope, const struct workload *workload) {
    switch ((enum lb_scope)scope) {
    case SCOPE_REGION:
        return workload->common->locality.region;
    case SCOPE_ZONE:
        return workload->common->locality.zone;
    case SCOPE_SUBZONE:
        return workload->common->locality.subzone;
    case SCOPE_NODE:
        return workload->node;
    case SCOPE_CLUSTER:
        return workload->common->cluster;
    case SCOPE_NETWORK:
        return workload->common->network;
    }
    return "";
}

// Well-known labels say where a workload is, whether it has them or not.
static const char *label_value(struct slice key, const struct workload *workload) {
    static const struct {
        const char *key;
        uint8_t scope;
    } topology[] = {{"topology.kubernetes.io/region", SCOPE_REGION},
                    {"topology.kubernetes.io/zone", SCOPE_ZONE},
                    {"topology.istio.io/subzone", SCOPE_SUBZONE},
                    {"topology.istio.io/network", SCOPE_NETWORK},
                    {"topology.istio.io/cluster", SCOPE_CLUSTER},
                    {"kubernetes.io/hostname", SCOPE_NODE}};
    for (size_t i = 0; i < ARRAY_LEN(topology); i++) {
        if (slice_eq_str(key, topology[i].key)) {
            return scope_value(topology[i].scope, workload);
        }
    }
    for (size_t i = 0; i < workload->common->n_labels; i++) {
        if (slice_eq_str(key, workload->common->labels[i].key)) {
            return workload->common->labels[i].value;
        }
    }
    return "";
}

// Of n conditions in order of weight, the first that fails decides. Another network is worse than
// any place within this one, but does not hide the rest.
struct priority {
    uint32_t n, level, adjust;
    bool is_decided;
};

static void priority_add(struct priority *priority, uint32_t i, bool is_equal, bool is_network) {
    if (is_equal || priority->is_decided) {
        return;
    }
    if (i == 0 && is_network) {
        priority->adjust = priority->n;
        return;
    }
    priority->level = priority->n - i;
    priority->is_decided = true;
}

static uint32_t level_by_scopes(const struct service *service, const struct workload *source,
                                const struct workload *host) {
    struct priority priority = {.n = service->n_scopes};
    for (uint32_t i = 0; i < service->n_scopes; i++) {
        uint8_t scope = service->scopes[i];
        priority_add(&priority, i, same(scope_value(scope, source), scope_value(scope, host)),
                     scope == SCOPE_NETWORK);
    }
    return priority.level + priority.adjust;
}

static uint32_t level_by_labels(const struct l7_locality_policy *policy,
                                const struct workload *source, const struct workload *host) {
    struct priority priority = {.n = policy->n_failover_priority};
    for (uint32_t i = 0; i < policy->n_failover_priority; i++) {
        struct slice key = slice_str(policy->failover_priority[i]), value;
        if (!slice_split(key, '=', &key, &value)) {
            value = slice_str(label_value(key, source));
        }
        priority_add(&priority, i, slice_eq_str(value, label_value(key, host)),
                     slice_eq_str(key, "topology.istio.io/network"));
    }
    return priority.level + priority.adjust;
}

enum { N_REGION_LEVELS = 5 };

static uint32_t level_by_region(const struct l7_locality_policy *policy,
                                const struct locality *source, const struct locality *host) {
    if (same(source->region, host->region)) {
        if (!same(source->zone, host->zone)) {
            return 2;
        }
        return same(source->subzone, host->subzone) ? 0 : 1;
    }
    for (uint32_t i = 0; i < policy->n_failover; i++) {
        if (same(policy->failover[i].from, source->region)) {
            return same(policy->failover[i].to, host->region) ? 3 : 4;
        }
    }
    return 3;
}

static uint32_t group_of(const struct l7_distribute *distribute, const struct workload *host) {
    for (uint32_t i = 0; i < distribute->n_to; i++) {
        if (locality_matches(distribute->to[i].to, &host->common->locality)) {
            return i;
        }
    }
    return L7_NO_LEVEL;
}

// internalTrafficPolicy Local: other nodes' hosts are none.
static bool is_allowed(const struct l7_lb_spec *spec, const struct workload *host) {
    const struct service *service = spec->service;
    if (service->lb_mode != LB_STRICT) {
        return true;
    }
    for (uint8_t i = 0; i < service->n_scopes; i++) {
        if (spec->source == NULL || !same(scope_value(service->scopes[i], spec->source),
                                          scope_value(service->scopes[i], host))) {
            return false;
        }
    }
    return true;
}

void l7_lb_places(const struct l7_lb_spec *spec, uint32_t *ret_levels, struct l7_places *ret) {
    const struct l7_locality_policy *policy = &spec->settings->lb.locality;
    enum place_mode mode = place_mode(spec->settings, spec->service, spec->source);
    *ret = (struct l7_places){0};
    if (mode == PLACE_DISTRIBUTE) {
        ret->distribute = find_distribute(policy, spec->source);
    }
    for (size_t i = 0; i < spec->n_hosts; i++) {
        const struct workload *host = spec->hosts[i].endpoint->workload;
        uint32_t level = 0;
        if (ret->distribute != NULL) {
            level = group_of(ret->distribute, host);
        } else if (mode == PLACE_SCOPES) {
            level = level_by_scopes(spec->service, spec->source, host);
        } else if (mode == PLACE_LABELS) {
            level = level_by_labels(policy, spec->source, host);
            if (policy->n_failover > 0) {
                level = level * N_REGION_LEVELS + level_by_region(policy,
                                                                  &spec->source->common->locality,
                                                                  &host->common->locality);
            }
        } else if (mode == PLACE_REGIONS) {
            level =
                level_by_region(policy, &spec->source->common->locality, &host->common->locality);
        }
        ret_levels[i] = is_allowed(spec, host) ? level : (uint32_t)L7_NO_LEVEL;
    }
}

// The class of a client

struct printer {
    char *key;
    size_t size, len;
};

static void print_part(struct printer *printer, const char *text) {
    size_t room = printer->size > printer->len ? printer->size - printer->len : 0;
    int n = snprintf(room > 0 ? printer->key + printer->len : NULL, room, "%s|", text);
    printer->len += n > 0 ? (size_t)n : 0;
}

static void print_locality(struct printer *printer, const struct workload *source) {
    print_part(printer, source->common->locality.region);
    print_part(printer, source->common->locality.zone);
    print_part(printer, source->common->locality.subzone);
}

size_t l7_lb_client_class(const struct l7_settings *settings, const struct service *service,
                          const struct workload *source, char *ret_key, size_t size) {
    const struct l7_locality_policy *policy = &settings->lb.locality;
    struct printer printer = {.key = ret_key, .size = size};
    enum place_mode mode = place_mode(settings, service, source);
    if (size > 0) {
        ret_key[0] = '\0';
    }
    if (source == NULL) {
        return 0;
    }
    if (mode == PLACE_SCOPES || service->lb_mode == LB_STRICT) {
        for (uint8_t i = 0; i < service->n_scopes; i++) {
            print_part(&printer, scope_value(service->scopes[i], source));
        }
    }
    if (mode == PLACE_DISTRIBUTE || mode == PLACE_REGIONS) {
        print_locality(&printer, source);
    }
    if (mode == PLACE_LABELS) {
        for (uint32_t i = 0; i < policy->n_failover_priority; i++) {
            struct slice key = slice_str(policy->failover_priority[i]);
            if (slice_find(key, '=') < 0) {
                print_part(&printer, label_value(key, source));
            }
        }
        if (policy->n_failover > 0) {
            print_locality(&printer, source);
        }
    }
    return MIN(printer.len, size > 0 ? size - 1 : 0);
}
