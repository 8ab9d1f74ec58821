// SPDX-License-Identifier: Apache-2.0
//
// HTTPRoutes and GRPCRoutes: the matches of all rules of all routes, in the order of precedence of
// the Gateway API (HTTPRouteRule): exact path, prefix, expression; longer one; with a method; more
// headers; more query parameters; older route; order in the route. Without a path: last.
#include <stdlib.h>

#include "common/l7/l7_retry.h"
#include "common/l7/l7_routes_priv.h"

struct ranked { // an entry to be sorted
    struct l7_entry entry;
    int rank;
    size_t path_len;
    bool has_method;
    uint32_t n_headers, n_query, order;
};

struct ranking {
    struct l7_build *build;
    struct ranked *items;
    size_t n, cap;
};

enum { RANK_NONE = -1, RANK_REGEX = 1, RANK_PREFIX, RANK_EXACT };

static int compare_ranked(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank) {
        return x->rank > y->rank ? -1 : 1;
    }
    if (x->path_len != y->path_len) {
        return x->path_len > y->path_len ? -1 : 1;
    }
    if (x->has_method != y->has_method) {
        return x->has_method ? -1 : 1;
    }
    if (x->n_headers != y->n_headers) {
        return x->n_headers > y->n_headers ? -1 : 1;
    }
    if (x->n_query != y->n_query) {
        return x->n_query > y->n_query ? -1 : 1;
    }
    return x->order < y->order ? -1 : 1;
}

// Destinations

static bool is_service(const struct kobj_backend *backend) {
    return strcmp(backend->kind, "Service") == 0 && backend->group[0] == '\0';
}

// The full host of a reference, or NULL: it means nothing.
static const char *backend_host(struct l7_build *build, const struct kobj_backend *backend) {
    const struct service *own = build->in->service;
    const char *ns = backend->ns[0] != '\0' ? backend->ns : build->source->ns;
    if (is_service(backend)) {
        char *full = xasprintf("%s.%s.svc.%s", backend->name, ns, build->in->mesh->cluster_domain);
        const char *copy = l7_build_text(build, full);
        free(full);
        return copy;
    }
    if (strcmp(backend->group, "networking.istio.io") != 0) {
        return NULL;
    }
    if (strcmp(backend->kind, "Hostname") == 0) {
        return l7_build_text(build, backend->name);
    }
    // Of a ServiceEntry's name only the route's own parent knows the host.
    bool is_own = strcmp(backend->kind, "ServiceEntry") == 0 &&
                  strcmp(backend->name, own->name) == 0 && strcmp(ns, own->ns) == 0;
    return is_own ? l7_build_text(build, own->hostname) : NULL;
}

// A Service of another namespace is used with that namespace's consent (ReferenceGrant).
static bool is_permitted(struct l7_build *build, const struct kobj_backend *backend) {
    const struct builder_l7_input *in = build->in;
    return backend->ns[0] == '\0' || strcmp(backend->ns, build->source->ns) == 0 ||
           in->is_granted(in, build->obj, backend->ns, backend->name);
}

static struct l7_cluster cluster_of(struct l7_build *build, const struct kobj_backend *backend) {
    struct l7_cluster cluster = {.host = backend_host(build, backend),
                                 .subset = "",
                                 .port = backend->port,
                                 .no_cluster_status = 500,
                                 .weight = backend->weight,
                                 .headers = {.authority = ""}};
    if (cluster.host == NULL) {
        build->in->problem(build->in, build->obj,
                           "line %u: there are no backends of kind %s (group \"%s\"); its "
                           "requests get 500",
                           backend->pos.line, backend->kind, backend->group);
        cluster.host = "";
        cluster.is_invalid = true;
    } else if (is_service(backend) && !is_permitted(build, backend)) {
        build->in->problem(build->in, build->obj,
                           "line %u: no ReferenceGrant of namespace %s lets this route use its "
                           "Service %s; its requests get 500",
                           backend->pos.line, backend->ns, backend->name);
        cluster.is_invalid = true;
    } else if (backend->port == 0) {
        build->in->problem(build->in, build->obj,
                           "line %u: backend %s needs a port; its requests get 500",
                           backend->pos.line, backend->name);
        cluster.is_invalid = true;
    }
    for (uint32_t i = 0; i < backend->n_filters; i++) {
        const struct kobj_route_filter *filter = &backend->filters[i];
        struct kobj_headers headers = {0};
        if (filter->type == FILTER_REQUEST_HEADERS) {
            headers.request = filter->headers;
        } else if (filter->type == FILTER_RESPONSE_HEADERS) {
            headers.response = filter->headers;
        } else {
            build->in->problem(build->in, build->obj,
                               "line %u: a backend's filters change headers only; its requests "
                               "get 500",
                               filter->pos.line);
            cluster.is_invalid = true;
            continue;
        }
        struct l7_headers more = l7_build_headers(build, &headers, false);
        cluster.headers.request = l7_build_join(build, cluster.headers.request, more.request);
        cluster.headers.response = l7_build_join(build, cluster.headers.response, more.response);
        if (more.authority[0] != '\0') {
            cluster.headers.authority = more.authority;
        }
    }
    return cluster;
}

static void answer_500(struct l7_build *build, struct l7_route *route) {
    struct l7_direct *direct = l7_build_alloc(build, 1, sizeof(*direct));
    direct->status = 500;
    route->action = L7_DIRECT;
    route->direct = direct;
}

static void add_clusters(struct l7_build *build, const struct kobj_route_rule *rule,
                         struct l7_route *route) {
    struct l7_cluster *clusters = l7_build_alloc(build, rule->n_backends, sizeof(*clusters));
    for (uint32_t i = 0; i < rule->n_backends; i++) {
        if (rule->backends[i].weight > 0) {
            clusters[route->n_clusters] = cluster_of(build, &rule->backends[i]);
            route->weight_sum += clusters[route->n_clusters++].weight;
        }
    }
    route->clusters = clusters;
    route->action = L7_FORWARD;
    if (route->n_clusters == 0) {
        answer_500(build, route);
    }
}

// Filters

static struct l7_path_op path_op(struct l7_build *build, const struct kobj_gw_redirect *from) {
    static const uint8_t changes[] = {
        [PATH_KEEP] = L7_PATH_KEEP, [PATH_FULL] = L7_PATH_FULL, [PATH_PREFIX] = L7_PATH_SEGMENTS};
    return (struct l7_path_op){.change = changes[from->path_change],
                               .text = l7_build_slice(build, slice_str(from->path))};
}

static void add_redirect(struct l7_build *build, const struct kobj_gw_redirect *from,
                         struct l7_route *route) {
    struct l7_redirect *redirect = l7_build_alloc(build, 1, sizeof(*redirect));
    *redirect = (struct l7_redirect){.status = from->code,
                                     .scheme = l7_build_text(build, from->scheme),
                                     .authority = l7_build_text(build, from->hostname),
                                     .path = path_op(build, from),
                                     .port = from->port,
                                     // The scheme's own port when there is one, else the
                                     // listener's.
                                     .strips_port = from->scheme[0] != '\0',
                                     .uses_request_port = from->scheme[0] == '\0'};
    route->action = L7_REDIRECT;
    route->redirect = redirect;
}

static void add_mirror(struct l7_build *build, const struct kobj_gw_mirror *from,
                       struct l7_mirror *mirrors, uint32_t *n) {
    struct l7_mirror mirror = {.cluster = cluster_of(build, &from->backend), .ppm = from->ppm};
    if (!mirror.cluster.is_invalid && mirror.ppm > 0) {
        mirrors[(*n)++] = mirror;
    }
}

// False: the rule has a filter that is not known, and so must not be served (HTTPRouteFilter).
static bool add_filters(struct l7_build *build, const struct kobj_route_rule *rule,
                        struct l7_route *route) {
    struct l7_mirror *mirrors = l7_build_alloc(build, rule->n_filters, sizeof(*mirrors));
    route->mirrors = mirrors;
    for (uint32_t i = 0; i < rule->n_filters; i++) {
        const struct kobj_route_filter *filter = &rule->filters[i];
        struct kobj_headers headers = {0};
        struct l7_headers ops;
        switch (filter->type) {
        case FILTER_REQUEST_HEADERS:
            headers.request = filter->headers;
            ops = l7_build_headers(build, &headers, false);
            route->headers.request = l7_build_join(build, route->headers.request, ops.request);
            if (ops.authority[0] != '\0' && route->headers.authority[0] == '\0') {
                route->headers.authority = ops.authority;
            }
            break;
        case FILTER_RESPONSE_HEADERS:
            headers.response = filter->headers;
            ops = l7_build_headers(build, &headers, false);
            route->headers.response = l7_build_join(build, route->headers.response, ops.response);
            break;
        case FILTER_REDIRECT:
            add_redirect(build, filter->redirect, route);
            break;
        case FILTER_REWRITE:
            route->path = path_op(build, filter->redirect);
            if (filter->redirect->hostname[0] != '\0') {
                route->headers.authority = l7_build_text(build, filter->redirect->hostname);
            }
            break;
        case FILTER_MIRROR:
            add_mirror(build, filter->mirror, mirrors, &route->n_mirrors);
            break;
        case FILTER_CORS:
            route->cors = l7_build_cors(build, filter->cors, true);
            break;
        default:
            build->in->problem(build->in, build->obj,
                               "line %u: a filter that is not known; the rule answers 500",
                               filter->pos.line);
            return false;
        }
    }
    return true;
}

static void add_retries(struct l7_build *build, const struct kobj_route_rule *rule,
                        struct l7_route *route) {
    const struct kobj_gw_retry *retry = rule->retry;
    route->retry = retry != NULL ? l7_build_retry(build, "", retry->backoff_ms)
                                 : l7_build_retries(build, NULL);
    if (retry != NULL && retry->attempts == 0) {
        route->retry = (struct l7_retry_policy){0};
    } else if (retry != NULL) {
        uint16_t *codes = l7_build_alloc(build, retry->n_codes, sizeof(*codes));
        uint16_t n = (uint16_t)MIN(retry->n_codes, (uint32_t)L7_RETRY_CODES_MAX);
        for (uint16_t i = 0; i < n; i++) {
            codes[i] = (uint16_t)retry->codes[i];
        }
        route->retry.codes = codes;
        route->retry.n_codes = n;
        route->retry.on |= n > 0 ? (uint32_t)L7_RETRY_ON_STATUS_CODES : 0;
        if (retry->attempts > 0) {
            route->retry.attempts = (uint32_t)retry->attempts;
        }
    }
    route->timeout_ms = (uint64_t)MAX(rule->request_timeout_ms, 0);
    if (rule->backend_timeout_ms > 0) {
        // Without retries there is one try, and its timeout is the request's.
        uint64_t *timeout_ms =
            retry != NULL ? &route->retry.per_try_timeout_ms : &route->timeout_ms;
        *timeout_ms = (uint64_t)rule->backend_timeout_ms;
    }
}

static const struct l7_route *make_route(struct l7_build *build, const struct kobj_route_rule *rule,
                                         uint32_t position) {
    struct l7_route *route = l7_build_alloc(build, 1, sizeof(*route));
    char *name = xasprintf("%s.%s.%u", build->source->ns, build->source->name, position);
    *route =
        (struct l7_route){.name = l7_build_text(build, rule->name[0] != '\0' ? rule->name : name),
                          .source = build->source,
                          .pos = rule->pos,
                          .headers = {.authority = ""}};
    free(name);
    if (!add_filters(build, rule, route)) {
        answer_500(build, route);
    } else if (route->action != L7_REDIRECT) {
        add_clusters(build, rule, route);
        add_retries(build, rule, route);
    }
    return route;
}

// Matches

static void set_prefix(struct l7_build *build, struct ranked *item, const char *path) {
    struct slice text = l7_build_slice(build, slice_str(path));
    item->rank = RANK_PREFIX;
    item->entry.path_kind = L7_PATH_UNDER;
    item->path_len = text.len;
    if (text.len > 0 && text.ptr[text.len - 1] == '/') {
        text.len--;
        item->path_len = MAX(text.len, (size_t)1);
    }
    item->entry.path = text;
}

static void set_exact(struct l7_build *build, struct ranked *item, const char *path) {
    item->rank = RANK_EXACT;
    item->entry.path_kind = L7_PATH_IS;
    item->entry.path = l7_build_slice(build, slice_str(path));
    item->path_len = item->entry.path.len;
}

static bool set_regex(struct l7_build *build, struct ranked *item, const char *pattern) {
    item->rank = RANK_REGEX;
    l7_build_path_regex(build, &item->entry, pattern);
    item->path_len = strlen(pattern);
    return item->entry.regex != NULL;
}

static bool set_grpc_path(struct l7_build *build, struct ranked *item,
                          const struct kobj_route_match *match) {
    bool is_regex = match->grpc_type == KOBJ_MATCH_REGEX;
    bool has_service = match->grpc_service[0] != '\0', has_method = match->method[0] != '\0';
    if (!has_service && !has_method) {
        item->rank = RANK_NONE;
        item->entry.path_kind = L7_PATH_ANY;
        item->entry.path = SLICE_LIT("");
        return true;
    }
    const char *any_method = is_regex ? ".+" : "";
    char *path = xasprintf("/%s/%s", has_service ? match->grpc_service : "[^/]+",
                           has_method ? match->method : any_method);
    bool is_ok = true;
    if (is_regex || !has_service) {
        is_ok = set_regex(build, item, path);
    } else if (has_method) {
        set_exact(build, item, path);
    } else {
        set_prefix(build, item, path);
        // "/S/" stays one with its slash: "/S" alone is no method of it.
        item->entry.path = l7_build_slice(build, slice_str(path));
        item->entry.path_kind = L7_PATH_STARTS;
        item->path_len = item->entry.path.len;
    }
    free(path);
    return is_ok;
}

static bool set_path(struct l7_build *build, struct ranked *item,
                     const struct kobj_route_match *match) {
    switch (match->path_type) {
    case ROUTE_PATH_EXACT:
        set_exact(build, item, match->path);
        return true;
    case ROUTE_PATH_REGEX:
        return set_regex(build, item, match->path);
    default:
        set_prefix(build, item, match->path);
        return true;
    }
}

static bool set_conds(struct l7_build *build, struct ranked *item,
                      const struct kobj_route_match *match, bool is_grpc) {
    size_t max = 1 + (size_t)match->n_headers + match->n_query_params;
    struct l7_cond *conds = l7_build_alloc(build, max, sizeof(*conds));
    uint32_t n = 0;
    bool is_ok = true;
    item->has_method = !is_grpc && match->method[0] != '\0';
    item->n_headers = match->n_headers;
    item->n_query = match->n_query_params;
    if (item->has_method) {
        struct kobj_string_match method = {.kind = KOBJ_MATCH_EXACT, .text = match->method};
        is_ok = l7_build_cond(build, &conds[n++], L7_MISS_METHOD, "", &method);
    }
    for (uint32_t i = 0; i < match->n_headers && is_ok; i++) {
        is_ok = l7_build_cond(build, &conds[n++], L7_MISS_HEADER, match->headers[i].name,
                              &match->headers[i].match);
    }
    for (uint32_t i = 0; i < match->n_query_params && is_ok; i++) {
        is_ok = l7_build_cond(build, &conds[n++], L7_MISS_QUERY, match->query_params[i].name,
                              &match->query_params[i].match);
    }
    item->entry.conds = conds;
    item->entry.n_conds = n;
    return is_ok;
}

static void rank(struct ranking *ranking, const struct ranked *item) {
    if (ranking->n == ranking->cap) {
        ranking->cap = ranking->cap * 2 + 16;
        ranking->items = xrealloc(ranking->items, ranking->cap * sizeof(*ranking->items));
    }
    ranking->items[ranking->n] = *item;
    ranking->items[ranking->n].order = (uint32_t)ranking->n;
    ranking->n++;
}

// One match (or none), for each port that the route is attached to.
static void add_match(struct ranking *ranking, const struct l7_route *route,
                      const struct kobj_route_match *match, bool is_grpc, const uint16_t *ports,
                      size_t n_ports) {
    struct l7_build *build = ranking->build;
    struct ranked item = {.entry = {.route = route, .pos = route->pos}, .rank = RANK_NONE};
    item.entry.path_kind = L7_PATH_ANY;
    item.entry.path = SLICE_LIT("");
    if (match != NULL) {
        item.entry.pos = match->pos;
        bool has_path =
            is_grpc ? set_grpc_path(build, &item, match) : set_path(build, &item, match);
        if (!has_path || !set_conds(build, &item, match, is_grpc)) {
            return;
        }
    }
    for (size_t i = 0; i < n_ports; i++) {
        if (ports[i] != 0) {
            struct l7_selector *selector = l7_build_alloc(build, 1, sizeof(*selector));
            *selector = (struct l7_selector){.port = ports[i], .ns = ""};
            item.entry.selector = selector;
        }
        rank(ranking, &item);
    }
}

// The ports of the service that the route is attached to: {0} is all.
static size_t attached_ports(const struct l7_build *build, const struct kobj_route *route,
                             uint16_t *ports, size_t cap) {
    const struct service *service = build->in->service;
    size_t n = 0;
    for (uint32_t i = 0; i < route->n_parents; i++) {
        const struct kobj_parent_ref *parent = &route->parents[i];
        const char *ns = parent->ns[0] != '\0' ? parent->ns : build->source->ns;
        bool is_kind =
            strcmp(parent->kind, "Service") == 0 || strcmp(parent->kind, "ServiceEntry") == 0;
        if (!is_kind || strcmp(parent->name, service->name) != 0 || strcmp(ns, service->ns) != 0) {
            continue;
        }
        if (parent->port == 0) {
            ports[0] = 0;
            return 1;
        }
        if (n < cap) {
            ports[n++] = parent->port;
        }
    }
    return n;
}

static void add_route(struct ranking *ranking, const struct kobj *obj) {
    enum { PORTS_MAX = 64 };
    struct l7_build *build = ranking->build;
    bool is_grpc = strcmp(obj->kind_name, "GRPCRoute") == 0;
    struct l7_source *source = l7_build_alloc(build, 1, sizeof(*source));
    *source = (struct l7_source){.kind = l7_build_text(build, obj->kind_name),
                                 .ns = l7_build_text(build, obj->meta.ns),
                                 .name = l7_build_text(build, obj->meta.name),
                                 .file = l7_build_text(build, obj->file)};
    build->obj = obj;
    build->source = source;
    uint16_t ports[PORTS_MAX];
    size_t n_ports = attached_ports(build, obj->route, ports, ARRAY_LEN(ports));
    for (uint32_t i = 0; i < obj->route->n_rules; i++) {
        const struct kobj_route_rule *rule = &obj->route->rules[i];
        const struct l7_route *route = make_route(build, rule, i);
        if (rule->n_matches == 0) {
            add_match(ranking, route, NULL, is_grpc, ports, n_ports);
        }
        for (uint32_t m = 0; m < rule->n_matches; m++) {
            add_match(ranking, route, &rule->matches[m], is_grpc, ports, n_ports);
        }
    }
}

void l7_build_gateway_routes(struct l7_build *build) {
    struct ranking ranking = {.build = build};
    for (uint32_t i = 0; i < build->in->n_routes; i++) {
        add_route(&ranking, build->in->routes[i]);
    }
    if (ranking.n > 0) {
        qsort(ranking.items, ranking.n, sizeof(*ranking.items), compare_ranked);
    }
    for (size_t i = 0; i < ranking.n; i++) {
        l7_build_add(build, &ranking.items[i].entry);
    }
    free(ranking.items);
}
