// SPDX-License-Identifier: Apache-2.0
//
// VirtualServices: their rules in the order in which they are written, those of several one after
// the other. Each match of a rule is an entry.
#include <stdlib.h>

#include "common/l7/l7_routes_priv.h"
#include "common/proto/grpc.h"

struct l7_cluster l7_build_destination(struct l7_build *build, const struct kobj_vs_dest *dest) {
    return (struct l7_cluster){.host = l7_build_host(build, dest->host),
                               .subset = l7_build_text(build, dest->subset),
                               .port = dest->port,
                               .no_cluster_status = 503,
                               .weight = dest->weight > 0 ? (uint32_t)dest->weight : 0,
                               .headers = l7_build_headers(build, &dest->headers, true)};
}

static void add_clusters(struct l7_build *build, const struct kobj_vs_http *http,
                         struct l7_route *route) {
    struct l7_cluster *clusters = l7_build_alloc(build, MAX(http->n_routes, 1U), sizeof(*clusters));
    route->clusters = clusters;
    for (uint32_t i = 0; i < http->n_routes; i++) {
        // A single destination gets everything; of several, those without weight get nothing.
        if (http->n_routes > 1 && http->routes[i].weight <= 0) {
            continue;
        }
        struct l7_cluster *cluster = &clusters[route->n_clusters++];
        *cluster = l7_build_destination(build, &http->routes[i]);
        cluster->weight = http->n_routes == 1 ? 1 : cluster->weight;
        route->weight_sum += cluster->weight;
    }
    if (route->n_clusters == 0) {
        build->in->problem(build->in, build->obj,
                           "line %u: no destination has a weight; its requests get 503",
                           http->pos.line);
        clusters[0] = (struct l7_cluster){.host = "",
                                          .subset = "",
                                          .is_invalid = true,
                                          .no_cluster_status = 503,
                                          .weight = 1,
                                          .headers = {.authority = ""}};
        route->n_clusters = 1;
        route->weight_sum = 1;
    }
}

static void add_redirect(struct l7_build *build, const struct kobj_vs_redirect *from,
                         struct l7_route *route) {
    struct l7_redirect *redirect = l7_build_alloc(build, 1, sizeof(*redirect));
    *redirect = (struct l7_redirect){.status = from->code,
                                     .scheme = l7_build_text(build, from->scheme),
                                     .authority = l7_build_text(build, from->authority),
                                     .port = from->port,
                                     .uses_request_port = from->derive_port == DERIVE_PORT_REQUEST};
    if (from->prefix_rewrite[0] != '\0') {
        redirect->path.change = L7_PATH_PREFIX;
        redirect->path.text = l7_build_slice(build, slice_str(from->prefix_rewrite));
    } else if (from->uri[0] != '\0') {
        redirect->path.change = L7_PATH_FULL;
        redirect->path.text = l7_build_slice(build, slice_str(from->uri));
    }
    route->action = L7_REDIRECT;
    route->redirect = redirect;
}

static void add_direct(struct l7_build *build, const struct kobj_vs_direct *from,
                       struct l7_route *route) {
    struct l7_direct *direct = l7_build_alloc(build, 1, sizeof(*direct));
    direct->status = from->status;
    direct->body = l7_build_slice(build, from->body);
    route->action = L7_DIRECT;
    route->direct = direct;
}

// False: the rule cannot be meant (reported).
static bool add_rewrite(struct l7_build *build, const struct kobj_vs_rewrite *rewrite,
                        struct l7_route *route) {
    if (rewrite->regex[0] != '\0') {
        route->path.change = L7_PATH_REGEX;
        route->path.regex = l7_build_regex(build, rewrite->regex);
        if (route->path.regex == NULL) {
            return false;
        }
        route->path.text = l7_build_slice(build, slice_str(rewrite->substitution));
        const char *problem = l7_regex_rewrite_problem(route->path.regex, route->path.text);
        if (problem != NULL) {
            build->in->problem(build->in, build->obj,
                               "uriRegexRewrite: \"%s\" %s; its rule is left out",
                               rewrite->substitution, problem);
            return false;
        }
    } else if (rewrite->uri[0] != '\0') {
        route->path.change = L7_PATH_PREFIX;
        route->path.text = l7_build_slice(build, slice_str(rewrite->uri));
    }
    if (rewrite->authority[0] != '\0') {
        route->headers.authority = l7_build_text(build, rewrite->authority);
    }
    return true;
}

struct l7_retry_policy l7_build_retries(struct l7_build *build,
                                        const struct kobj_vs_retry *retries) {
    if (retries == NULL && build->in->config != NULL) {
        retries = build->in->config->default_retry;
    }
    if (retries == NULL) {
        return l7_build_retry(build, "", -1);
    }
    if (retries->attempts <= 0) {
        return (struct l7_retry_policy){0}; // none
    }
    struct l7_retry_policy policy = l7_build_retry(build, retries->retry_on, retries->backoff_ms);
    policy.attempts = (uint32_t)retries->attempts;
    policy.per_try_timeout_ms = (uint64_t)MAX(retries->per_try_timeout_ms, 0);
    policy.avoids_tried_hosts = retries->ignore_previous_hosts != TRI_FALSE;
    policy.is_avoiding_set = retries->ignore_previous_hosts != TRI_UNSET;
    policy.leaves_locality = retries->remote_localities == TRI_TRUE;
    return policy;
}

static void add_mirrors(struct l7_build *build, const struct kobj_vs_http *http,
                        struct l7_route *route) {
    struct l7_mirror *mirrors = l7_build_alloc(build, http->n_mirrors, sizeof(*mirrors));
    for (uint32_t i = 0; i < http->n_mirrors; i++) {
        if (http->mirrors[i].ppm > 0) {
            struct l7_mirror *mirror = &mirrors[route->n_mirrors++];
            mirror->cluster = l7_build_destination(build, &http->mirrors[i].dest);
            mirror->ppm = http->mirrors[i].ppm;
        }
    }
    route->mirrors = mirrors;
}

static void add_fault(struct l7_build *build, const struct kobj_vs_fault *from,
                      struct l7_route *route) {
    struct l7_fault *fault = l7_build_alloc(build, 1, sizeof(*fault));
    if (from->delay != NULL) {
        fault->delay_ms = (uint64_t)MAX(from->delay->fixed_ms, 0);
        fault->delay_ppm = from->delay->ppm;
    }
    if (from->abort != NULL) {
        fault->abort_ppm = from->abort->ppm;
        fault->status = from->abort->http_status;
        if (fault->status == 0 &&
            !grpc_status_parse(slice_str(from->abort->grpc_status), &fault->grpc_status)) {
            build->in->problem(build->in, build->obj, "fault.abort: no gRPC status \"%s\"",
                               from->abort->grpc_status);
            fault->abort_ppm = 0;
        }
    }
    route->fault = fault;
}

static bool make_route(struct l7_build *build, const struct kobj_vs_http *http,
                       struct l7_route *route) {
    *route = (struct l7_route){.name = l7_build_text(build, http->name),
                               .source = build->source,
                               .pos = http->pos,
                               .headers = l7_build_headers(build, &http->headers, true)};
    if (http->fault != NULL) {
        add_fault(build, http->fault, route);
    }
    if (http->cors != NULL) {
        route->cors = l7_build_cors(build, http->cors, false);
    }
    if (http->redirect != NULL) {
        add_redirect(build, http->redirect, route);
        return true;
    }
    if (http->direct != NULL) {
        add_direct(build, http->direct, route);
        return true;
    }
    route->action = L7_FORWARD;
    add_clusters(build, http, route);
    route->retry = l7_build_retries(build, http->retries);
    add_mirrors(build, http, route);
    route->timeout_ms = (uint64_t)MAX(http->timeout_ms, 0);
    return http->rewrite == NULL || add_rewrite(build, http->rewrite, route);
}

// Matches

static bool add_path(struct l7_build *build, const struct kobj_vs_match *match,
                     struct l7_entry *entry) {
    const struct kobj_string_match *uri = match->uri;
    entry->path_kind = L7_PATH_ANY;
    entry->path = SLICE_LIT("");
    if (uri == NULL || uri->kind == KOBJ_MATCH_PRESENT) {
        return true;
    }
    if (uri->kind == KOBJ_MATCH_REGEX) {
        l7_build_path_regex(build, entry, uri->text);
        return entry->regex != NULL;
    }
    entry->path_kind = uri->kind == KOBJ_MATCH_EXACT ? L7_PATH_IS : L7_PATH_STARTS;
    entry->path = l7_build_slice(build, slice_str(uri->text));
    entry->ignores_case = match->ignore_uri_case;
    return true;
}

static const struct label *labels_of(struct l7_build *build, const struct kobj_map *map) {
    struct label *labels = l7_build_alloc(build, map->n, sizeof(*labels));
    for (uint32_t i = 0; i < map->n; i++) {
        labels[i] = (struct label){l7_build_text(build, map->items[i].key),
                                   l7_build_text(build, map->items[i].value)};
    }
    return labels;
}

const struct l7_selector *l7_build_selector(struct l7_build *build,
                                            const struct kobj_vs_match *match) {
    if (match->port == 0 && match->n_gateways == 0 && match->source_labels.n == 0 &&
        match->source_ns[0] == '\0') {
        return NULL;
    }
    struct l7_selector *selector = l7_build_alloc(build, 1, sizeof(*selector));
    const char **gateways = l7_build_alloc(build, match->n_gateways, sizeof(*gateways));
    for (uint32_t i = 0; i < match->n_gateways; i++) {
        const char *name = match->gateways[i];
        if (strcmp(name, "mesh") == 0 || strchr(name, '/') != NULL) {
            gateways[i] = l7_build_text(build, name);
        } else {
            char *full = xasprintf("%s/%s", build->source->ns, name);
            gateways[i] = l7_build_text(build, full);
            free(full);
        }
    }
    *selector = (struct l7_selector){.port = match->port,
                                     .gateways = gateways,
                                     .n_gateways = match->n_gateways,
                                     .labels = labels_of(build, &match->source_labels),
                                     .n_labels = match->source_labels.n,
                                     .ns = l7_build_text(build, match->source_ns)};
    return selector;
}

static bool add_named(struct l7_build *build, struct l7_cond *conds, uint32_t *n, enum l7_miss miss,
                      const struct kobj_named_match *items, uint32_t n_items) {
    for (uint32_t i = 0; i < n_items; i++) {
        if (miss != L7_MISS_QUERY && items[i].name[0] == '@') {
            // Upstream has them at gateways alone, where a token was verified before.
            build->in->problem(build->in, build->obj,
                               "match on \"%s\": claims are not matched in the mesh; its rule is "
                               "left out",
                               items[i].name);
            return false;
        }
        if (!l7_build_cond(build, &conds[*n], miss, items[i].name, &items[i].match)) {
            return false;
        }
        (*n)++;
    }
    return true;
}

static bool add_conds(struct l7_build *build, const struct kobj_vs_match *match,
                      struct l7_entry *entry) {
    size_t max = 3 + (size_t)match->n_headers + match->n_without_headers + match->n_query_params;
    struct l7_cond *conds = l7_build_alloc(build, max, sizeof(*conds));
    uint32_t n = 0;
    const struct {
        enum l7_miss miss;
        const struct kobj_string_match *match;
    } control[] = {{L7_MISS_METHOD, match->method},
                   {L7_MISS_SCHEME, match->scheme},
                   {L7_MISS_AUTHORITY, match->authority}};
    for (size_t i = 0; i < ARRAY_LEN(control); i++) {
        if (control[i].match != NULL) {
            if (!l7_build_cond(build, &conds[n], control[i].miss, "", control[i].match)) {
                return false;
            }
            n++;
        }
    }
    bool is_ok =
        add_named(build, conds, &n, L7_MISS_HEADER, match->headers, match->n_headers) &&
        add_named(build, conds, &n, L7_MISS_WITHOUT_HEADER, match->without_headers,
                  match->n_without_headers) &&
        add_named(build, conds, &n, L7_MISS_QUERY, match->query_params, match->n_query_params);
    entry->conds = conds;
    entry->n_conds = n;
    return is_ok;
}

// A named match is a route of its own name.
static const struct l7_route *named_route(struct l7_build *build, const struct l7_route *route,
                                          const char *match_name) {
    if (match_name[0] == '\0') {
        return route;
    }
    struct l7_route *copy = l7_build_alloc(build, 1, sizeof(*copy));
    char *name = xasprintf("%s.%s", route->name, match_name);
    *copy = *route;
    copy->name = l7_build_text(build, name);
    free(name);
    return copy;
}

static void add_rule(struct l7_build *build, const struct kobj_vs_http *http) {
    struct l7_route *route = l7_build_alloc(build, 1, sizeof(*route));
    if (!make_route(build, http, route)) {
        return;
    }
    if (http->n_matches == 0) {
        l7_build_add(build, &(struct l7_entry){.route = route,
                                               .pos = http->pos,
                                               .path_kind = L7_PATH_ANY,
                                               .path = SLICE_LIT("")});
    }
    for (uint32_t i = 0; i < http->n_matches; i++) {
        const struct kobj_vs_match *match = &http->matches[i];
        struct l7_entry entry = {.pos = match->pos, .selector = l7_build_selector(build, match)};
        if (add_path(build, match, &entry) && add_conds(build, match, &entry)) {
            entry.route = named_route(build, route, match->name);
            l7_build_add(build, &entry);
        }
    }
}

static const struct l7_source *source_of(struct l7_build *build, const struct kobj *obj) {
    struct l7_source *source = l7_build_alloc(build, 1, sizeof(*source));
    *source = (struct l7_source){.kind = l7_build_text(build, obj->kind_name),
                                 .ns = l7_build_text(build, obj->meta.ns),
                                 .name = l7_build_text(build, obj->meta.name),
                                 .file = l7_build_text(build, obj->file)};
    return source;
}

static void add_delegate(struct l7_build *build, const struct kobj *root_obj,
                         const struct kobj_vs_http *root) {
    const struct builder_l7_input *in = build->in;
    const struct kobj *obj = in->delegate(in, root_obj, root->delegate_ns, root->delegate_name);
    if (obj == NULL) {
        in->problem(in, root_obj, "line %u: there is no delegate \"%s\"; its rule is left out",
                    root->pos.line, root->delegate_name);
        return;
    }
    const struct kobj_virtual_service *vs = obj->virtual_service;
    const struct l7_source *root_source = build->source;
    build->obj = obj;
    build->source = source_of(build, obj);
    for (uint32_t i = 0; i < vs->n_http; i++) {
        struct kobj_vs_http merged;
        if (vs->http[i].delegate_name[0] != '\0') {
            in->problem(in, obj, "line %u: a delegate has no delegates; the rule is left out",
                        vs->http[i].pos.line);
        } else if (!l7_build_merge(build, root_source->ns, root, &vs->http[i], &merged)) {
            in->problem(in, obj,
                        "line %u: the rule is outside of its root's (line %u of %s/%s); it is "
                        "left out",
                        vs->http[i].pos.line, root->pos.line, root_obj->meta.ns,
                        root_obj->meta.name);
        } else {
            add_rule(build, &merged);
        }
    }
    build->obj = root_obj;
    build->source = root_source;
}

void l7_build_virtual_services(struct l7_build *build) {
    for (uint32_t v = 0; v < build->in->n_virtual_services; v++) {
        const struct kobj *obj = build->in->virtual_services[v];
        build->obj = obj;
        build->source = source_of(build, obj);
        for (uint32_t i = 0; i < obj->virtual_service->n_http; i++) {
            const struct kobj_vs_http *http = &obj->virtual_service->http[i];
            if (http->delegate_name[0] != '\0') {
                add_delegate(build, obj, http);
            } else {
                add_rule(build, http);
            }
        }
        const struct kobj_virtual_service *vs = obj->virtual_service;
        l7_build_flows(build, vs->tls, vs->n_tls, true);
        l7_build_flows(build, vs->tcp, vs->n_tcp, false);
    }
}
