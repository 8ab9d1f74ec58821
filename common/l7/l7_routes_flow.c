// SPDX-License-Identifier: Apache-2.0
//
// Rules for connections that are carried as bytes: `tls` and `tcp` of VirtualServices. Few as they
// are, they are asked one after the other.
#include "common/base/addr.h"
#include "common/l7/l7_routes_priv.h"

// ---- making ------------------------------------------------------------------------------------

static struct l7_cluster any_cluster(void) {
    return (struct l7_cluster){.host = "",
                               .subset = "",
                               .no_cluster_status = 503,
                               .weight = 1,
                               .headers = {.authority = ""}};
}

static const struct l7_route *add_route(struct l7_build *build, const struct kobj_vs_l4 *rule) {
    struct l7_route *route = l7_build_alloc(build, 1, sizeof(*route));
    struct l7_cluster *clusters = l7_build_alloc(build, MAX(rule->n_routes, 1U), sizeof(*clusters));
    *route = (struct l7_route){.name = "",
                               .source = build->source,
                               .pos = rule->pos,
                               .action = L7_FORWARD,
                               .clusters = clusters};
    for (uint32_t i = 0; i < rule->n_routes; i++) {
        // As with requests: a single destination gets everything, of several each its weight.
        if (rule->n_routes == 1 || rule->routes[i].weight > 0) {
            clusters[route->n_clusters] = l7_build_destination(build, &rule->routes[i]);
            if (rule->n_routes == 1) {
                clusters[0].weight = 1;
            }
            route->weight_sum += clusters[route->n_clusters++].weight;
        }
    }
    if (route->n_clusters == 0) {
        build->in->problem(build->in, build->obj,
                           "line %u: no destination has a weight; its connections are refused",
                           rule->pos.line);
        clusters[0] = any_cluster();
        clusters[0].is_invalid = true;
        route->n_clusters = 1;
        route->weight_sum = 1;
    }
    return route;
}

static const struct cidr *add_subnets(struct l7_build *build, const char *const *texts, uint32_t n,
                                      uint32_t *ret_n) {
    struct cidr *list = l7_build_alloc(build, n, sizeof(*list));
    *ret_n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cidr_parse(slice_str(texts[i]), false, &list[*ret_n])) {
            (*ret_n)++;
        } else {
            build->in->problem(build->in, build->obj, "\"%s\" is no subnet; it matches nothing",
                               texts[i]);
        }
    }
    return list;
}

static void add_entry(struct l7_build *build, const struct l7_route *route,
                      const struct kobj_vs_l4_match *match, bool is_tls) {
    struct l7_routes *routes = build->routes;
    struct l7_flow_entry entry = {.route = route, .pos = route->pos, .is_tls = is_tls};
    if (match != NULL) {
        struct kobj_vs_match client = {.source_ns = match->source_ns,
                                       .source_labels = match->source_labels,
                                       .gateways = match->gateways,
                                       .n_gateways = match->n_gateways,
                                       .port = match->port};
        entry.pos = match->pos;
        entry.selector = l7_build_selector(build, &client);
        entry.has_to = match->n_destination_subnets > 0;
        entry.to = add_subnets(build, match->destination_subnets, match->n_destination_subnets,
                               &entry.n_to);
        // Of `tls` there is none.
        entry.has_from = match->source_subnet != NULL && match->source_subnet[0] != '\0';
        entry.from =
            add_subnets(build, &match->source_subnet, entry.has_from ? 1 : 0, &entry.n_from);
        struct slice *names = l7_build_alloc(build, match->n_sni_hosts, sizeof(*names));
        for (uint32_t i = 0; i < match->n_sni_hosts; i++) {
            names[i] = l7_build_lower(build, match->sni_hosts[i]);
        }
        entry.names = names;
        entry.n_names = match->n_sni_hosts;
    }
    routes->flows = xrealloc(routes->flows, (routes->n_flows + 1) * sizeof(*routes->flows));
    routes->flows[routes->n_flows++] = entry;
    routes->has_names = routes->has_names || is_tls;
}

void l7_build_flows(struct l7_build *build, const struct kobj_vs_l4 *rules, uint32_t n_rules,
                    bool is_tls) {
    for (uint32_t i = 0; i < n_rules; i++) {
        const struct l7_route *route = add_route(build, &rules[i]);
        for (uint32_t k = 0; k < rules[i].n_matches; k++) {
            add_entry(build, route, &rules[i].matches[k], is_tls);
        }
        if (rules[i].n_matches == 0) { // tcp only: everything
            add_entry(build, route, NULL, is_tls);
        }
    }
}

// ---- matching ----------------------------------------------------------------------------------

static bool is_in(const struct cidr *list, uint32_t n, const struct ip *ip) {
    for (uint32_t i = 0; i < n; i++) {
        if (cidr_contains(&list[i], ip)) {
            return true;
        }
    }
    return false;
}

// "x.example.com", "*.example.com", "*".
static bool name_matches(struct slice pattern, struct slice name) {
    if (!slice_has_prefix(pattern, SLICE_LIT("*"))) {
        return slice_eq(pattern, name);
    }
    struct slice rest = slice_skip(pattern, 1);
    return name.len > rest.len && slice_has_suffix(name, rest);
}

static bool has_name(const struct l7_flow_entry *entry, struct slice name) {
    for (uint32_t i = 0; i < entry->n_names; i++) {
        if (name_matches(entry->names[i], name)) {
            return true;
        }
    }
    return false;
}

static bool entry_matches(const struct l7_flow_entry *entry, const struct l7_flow *flow) {
    const struct l7_request request = {.port = flow->port, .source = flow->source};
    if (entry->selector != NULL && !l7_selector_takes(entry->selector, &request)) {
        return false;
    }
    return (!entry->is_tls || (flow->name.len > 0 && has_name(entry, flow->name))) &&
           (!entry->has_to || is_in(entry->to, entry->n_to, &flow->called->ip)) &&
           (!entry->has_from || is_in(entry->from, entry->n_from, &flow->client->ip));
}

const struct l7_route *l7_routes_match_flow(const struct l7_routes *routes,
                                            const struct l7_flow *flow) {
    for (size_t i = 0; routes != NULL && i < routes->n_flows; i++) {
        const struct l7_flow_entry *entry = &routes->flows[i];
        // Of what is declared to be TLS only `tls` rules are asked, of TCP only `tcp` rules.
        bool is_asked = entry->is_tls ? flow->protocol != APP_TCP : flow->protocol != APP_TLS;
        if (is_asked && entry_matches(entry, flow)) {
            return entry->route;
        }
    }
    return l7_routes_default();
}

bool l7_routes_has_names(const struct l7_routes *routes) {
    return routes != NULL && routes->has_names;
}
