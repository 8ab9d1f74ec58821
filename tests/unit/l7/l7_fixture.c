// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/l7/l7_fixture.h"

static struct slice dash_is_empty(struct slice word) {
    return slice_eq_str(word, "-") ? slice_make("", 0) : word;
}

static void head_line(struct http_head *head, struct slice line) {
    uint64_t status;
    if (slice_to_u64(line, 999, &status)) {
        head->status = (uint16_t)status;
        return;
    }
    struct slice *words[] = {&head->method, &head->scheme, &head->authority};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        assert_true(slice_split(line, ' ', words[i], &line));
        *words[i] = dash_is_empty(*words[i]);
    }
    head->path = line;
}

void fx_head(struct fx_head *ret, const char *text) {
    *ret = (struct fx_head){.head = {.version = HTTP_11}};
    snprintf(ret->text, sizeof(ret->text), "%s", text);
    struct slice rest = slice_str(ret->text), line = rest;
    if (!slice_split(rest, '\n', &line, &rest)) {
        rest = slice_make(NULL, 0);
    }
    head_line(&ret->head, line);
    ret->head.fields = ret->fields;
    while (rest.len > 0) {
        line = rest;
        if (!slice_split(rest, '\n', &line, &rest)) {
            rest = slice_make(NULL, 0);
        }
        struct slice name, value;
        if (slice_split(line, ':', &name, &value)) {
            assert_true(ret->head.n_fields < FX_FIELDS_MAX);
            ret->fields[ret->head.n_fields++] =
                (struct http_field){.name = name, .value = slice_trim(value)};
        }
    }
}

PRINTF_LIKE(3, 4)
static void problem(const struct builder_l7_input *in, const struct kobj *obj, const char *fmt,
                    ...) {
    struct fx *fx = CONTAINER_OF(in, struct fx, in);
    size_t len = strlen(fx->problems);
    va_list args;
    va_start(args, fmt);
    len += (size_t)snprintf(fx->problems + len, sizeof(fx->problems) - len, "%s: ", obj->meta.name);
    vsnprintf(fx->problems + len, sizeof(fx->problems) - len, fmt, args);
    len = strlen(fx->problems);
    snprintf(fx->problems + len, sizeof(fx->problems) - len, "\n");
    va_end(args);
}

static const struct kobj *find_delegate(const struct builder_l7_input *in, const struct kobj *from,
                                        const char *ns, const char *name) {
    struct fx *fx = CONTAINER_OF(in, struct fx, in);
    for (size_t i = 0; i < fx->n_delegates; i++) {
        if (strcmp(fx->delegates[i]->meta.name, name) == 0) {
            return fx->delegates[i];
        }
    }
    return NULL;
}

static bool is_granted(const struct builder_l7_input *in, const struct kobj *route, const char *ns,
                       const char *name) {
    (void)in;
    (void)route;
    return strcmp(ns, "open") == 0 && strcmp(name, "secret") != 0;
}

void fx_init(struct fx *fx) {
    *fx = (struct fx){.mesh = {.cluster_domain = "cluster.local", .root_namespace = "istio-system"},
                      .ports = {{.port = 80, .name = "http", .app_protocol = APP_HTTP11},
                                {.port = 8080, .name = "http-alt", .app_protocol = APP_HTTP11}}};
    arena_init(&fx->arena, SIZE_MAX);
    fx->service = (struct service){.leaf = {.key = SLICE_LIT("shop/web.shop.svc.cluster.local")},
                                   .name = "web",
                                   .ns = "shop",
                                   .hostname = "web.shop.svc.cluster.local",
                                   .ports = fx->ports,
                                   .n_ports = 2,
                                   .waypoint = ""};
    fx->in = (struct builder_l7_input){.mesh = &fx->mesh,
                                       .proxy_ns = "shop",
                                       .service = &fx->service,
                                       .virtual_services = fx->virtual_services,
                                       .routes = fx->routes,
                                       .destination_rules = fx->rules,
                                       .delegate = find_delegate,
                                       .is_granted = is_granted,
                                       .problem = problem};
}

void fx_fini(struct fx *fx) {
    leaf_unref(fx->leaf);
    arena_fini(&fx->arena);
}

static void *copy_of(struct fx *fx, const void *items, size_t n, size_t size) {
    void *copy = arena_array(&fx->arena, n + 1, size);
    assert_non_null(copy);
    if (n > 0) {
        memcpy(copy, items, n * size);
    }
    return copy;
}

// Texts that a literal left out are "", as the decoder has them.
static void fill(const char **text) {
    *text = *text != NULL ? *text : "";
}

static void fill_named(const struct kobj_named_match *items, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        assert_non_null(items[i].match.text);
    }
}

static void fill_dest(struct kobj_vs_dest *dest) {
    fill(&dest->host);
    fill(&dest->subset);
}

static void fill_match(struct kobj_vs_match *match) {
    fill(&match->name);
    fill(&match->stat_prefix);
    fill(&match->source_ns);
    fill_named(match->headers, match->n_headers);
    fill_named(match->without_headers, match->n_without_headers);
    fill_named(match->query_params, match->n_query_params);
}

static void fill_http(struct fx *fx, struct kobj_vs_http *http) {
    fill(&http->name);
    fill(&http->delegate_name);
    fill(&http->delegate_ns);
    struct kobj_vs_match *matches = copy_of(fx, http->matches, http->n_matches, sizeof(*matches));
    for (uint32_t i = 0; i < http->n_matches; i++) {
        fill_match(&matches[i]);
    }
    http->matches = matches;
    struct kobj_vs_dest *dests = copy_of(fx, http->routes, http->n_routes, sizeof(*dests));
    for (uint32_t i = 0; i < http->n_routes; i++) {
        fill_dest(&dests[i]);
    }
    http->routes = dests;
    struct kobj_vs_mirror *mirrors = copy_of(fx, http->mirrors, http->n_mirrors, sizeof(*mirrors));
    for (uint32_t i = 0; i < http->n_mirrors; i++) {
        fill_dest(&mirrors[i].dest);
    }
    http->mirrors = mirrors;
    if (http->redirect != NULL) {
        struct kobj_vs_redirect *redirect = copy_of(fx, http->redirect, 1, sizeof(*redirect));
        fill(&redirect->uri);
        fill(&redirect->authority);
        fill(&redirect->scheme);
        fill(&redirect->prefix_rewrite);
        redirect->code = redirect->code != 0 ? redirect->code : 301;
        http->redirect = redirect;
    }
    if (http->rewrite != NULL) {
        struct kobj_vs_rewrite *rewrite = copy_of(fx, http->rewrite, 1, sizeof(*rewrite));
        fill(&rewrite->uri);
        fill(&rewrite->authority);
        fill(&rewrite->regex);
        fill(&rewrite->substitution);
        http->rewrite = rewrite;
    }
    if (http->retries != NULL) {
        struct kobj_vs_retry *retries = copy_of(fx, http->retries, 1, sizeof(*retries));
        fill(&retries->retry_on);
        http->retries = retries;
    }
}

static struct kobj *add_obj(struct fx *fx, const char *kind, const char *name) {
    assert_true(fx->n_objs < FX_OBJS_MAX);
    struct kobj *obj = &fx->objs[fx->n_objs++];
    *obj = (struct kobj){.kind_name = kind,
                         .api_version = "",
                         .group = "",
                         .meta = {.name = name, .ns = "shop"},
                         .file = "f.yaml"};
    return obj;
}

static const struct kobj *make_vs(struct fx *fx, const char *name, const struct kobj_vs_http *http,
                                  size_t n_http) {
    struct kobj *obj = add_obj(fx, "VirtualService", name);
    struct kobj_vs_http *copy = copy_of(fx, http, n_http, sizeof(*copy));
    for (size_t i = 0; i < n_http; i++) {
        fill_http(fx, &copy[i]);
    }
    const struct kobj_virtual_service vs = {.http = copy, .n_http = (uint32_t)n_http};
    obj->virtual_service = copy_of(fx, &vs, 1, sizeof(vs));
    return obj;
}

void fx_virtual_service(struct fx *fx, const char *name, const struct kobj_vs_http *http,
                        size_t n_http) {
    fx->virtual_services[fx->in.n_virtual_services++] = make_vs(fx, name, http, n_http);
}

void fx_delegate(struct fx *fx, const char *name, const struct kobj_vs_http *http, size_t n_http) {
    fx->delegates[fx->n_delegates++] = make_vs(fx, name, http, n_http);
}

static void fill_backend(struct kobj_backend *backend) {
    fill(&backend->group);
    backend->kind = backend->kind != NULL ? backend->kind : "Service";
    fill(&backend->ns);
    fill(&backend->name);
}

static void fill_rule(struct fx *fx, struct kobj_route_rule *rule) {
    fill(&rule->name);
    struct kobj_route_match *matches =
        copy_of(fx, rule->matches, rule->n_matches, sizeof(*matches));
    for (uint32_t i = 0; i < rule->n_matches; i++) {
        matches[i].path = matches[i].path != NULL ? matches[i].path : "/";
        fill(&matches[i].method);
        fill(&matches[i].grpc_service);
    }
    rule->matches = matches;
    struct kobj_backend *backends =
        copy_of(fx, rule->backends, rule->n_backends, sizeof(*backends));
    for (uint32_t i = 0; i < rule->n_backends; i++) {
        fill_backend(&backends[i]);
    }
    rule->backends = backends;
    rule->filters = copy_of(fx, rule->filters, rule->n_filters, sizeof(*rule->filters));
    for (uint32_t i = 0; i < rule->n_filters; i++) {
        const struct kobj_route_filter *filter = &rule->filters[i];
        if (filter->redirect != NULL) {
            assert_non_null(filter->redirect->scheme);
            assert_non_null(filter->redirect->hostname);
            assert_non_null(filter->redirect->path);
        }
    }
}

void fx_route(struct fx *fx, const char *kind, const char *name,
              const struct kobj_route_rule *rules, size_t n_rules, uint16_t port) {
    struct kobj *obj = add_obj(fx, kind, name);
    struct kobj_route_rule *copy = copy_of(fx, rules, n_rules, sizeof(*copy));
    for (size_t i = 0; i < n_rules; i++) {
        fill_rule(fx, &copy[i]);
    }
    const struct kobj_parent_ref parent = {
        .group = "", .kind = "Service", .ns = "", .name = "web", .section = "", .port = port};
    const struct kobj_route route = {.parents = copy_of(fx, &parent, 1, sizeof(parent)),
                                     .n_parents = 1,
                                     .rules = copy,
                                     .n_rules = (uint32_t)n_rules};
    obj->route = copy_of(fx, &route, 1, sizeof(route));
    fx->routes[fx->in.n_routes++] = obj;
}

void fx_destination_rule(struct fx *fx, const struct kobj_destination_rule *rule) {
    struct kobj *obj = add_obj(fx, "DestinationRule", "dr");
    obj->destination_rule = copy_of(fx, rule, 1, sizeof(*rule));
    fx->rules[fx->in.n_destination_rules++] = obj;
}

const struct l7_routes *fx_routes(struct fx *fx) {
    leaf_unref(fx->leaf);
    fx->leaf = l7_routes_compile(NULL, &fx->in);
    return l7_routes_of_leaf(fx->leaf);
}

const struct l7_policy *fx_policy(struct fx *fx) {
    leaf_unref(fx->leaf);
    fx->leaf = l7_policy_compile(NULL, &fx->in);
    return l7_policy_of_leaf(fx->leaf);
}

const struct l7_route *fx_match(const struct l7_routes *routes, struct l7_request *request,
                                struct l7_match *ret_match) {
    struct l7_match traced;
    struct l7_trace trace = {0};
    l7_routes_match(routes, request, NULL, ret_match);
    l7_routes_match(routes, request, &trace, &traced);
    assert_ptr_equal(ret_match->route, traced.route);
    assert_int_equal(ret_match->match_len, traced.match_len);
    return ret_match->route;
}
