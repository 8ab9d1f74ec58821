// SPDX-License-Identifier: Apache-2.0
//
// A route table and a request, line by line; the first character says what a line is:
//   e p r E P   a VirtualService's rule: exact, prefix or regex path; capitals ignore case
//   s           a rule of an HTTPRoute: a prefix of segments
//   m q         name=value: a header or query condition of the last rule
//   w x         the last rule's rewrite: of what it matched; of a regex (pattern=substitution)
//   S A D       a header that the last rule sets or adds (name=value) or deletes
//   G a H       the request's path, its authority, a header (name=value)
// The index gives what asking rule by rule gives, and what is rewritten can be sent.
#include <stdlib.h>

#include "common/l7/l7_cors.h"
#include "common/l7/l7_lb.h"
#include "common/l7/l7_retry.h"
#include "common/l7/l7_rewrite.h"
#include "common/l7/l7_timeout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_RULES = 12, MAX_FIELDS = 16 };

struct rule {
    bool is_gateway;
    struct kobj_vs_http http;
    struct kobj_route_rule route;
    struct kobj_vs_match match;
    struct kobj_route_match route_match;
    struct kobj_string_match uri;
    struct kobj_named_match header, query;
    struct kobj_vs_rewrite rewrite;
    struct kobj_kv set, add;
    const char *removed;
};

struct input {
    struct arena arena;
    struct rule rules[MAX_RULES];
    size_t n_rules;
    struct http_head head;
    struct http_field fields[MAX_FIELDS];
};

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static const char *text(struct input *in, struct slice slice) {
    const char *copy = arena_strdup(&in->arena, slice);
    must(copy != NULL);
    return copy;
}

static void add_rule(struct input *in, uint8_t kind, struct slice value) {
    static const struct kobj_vs_dest dest = {.host = "a", .subset = "", .weight = 1};
    static const struct kobj_backend backend = {
        .group = "", .kind = "Service", .ns = "", .name = "a", .port = 80, .weight = 1};
    if (in->n_rules == MAX_RULES) {
        return;
    }
    struct rule *rule = &in->rules[in->n_rules++];
    *rule = (struct rule){.is_gateway = kind == 's'};
    rule->uri.text = text(in, value);
    rule->uri.kind = kind == 'r'                  ? KOBJ_MATCH_REGEX
                     : kind == 'e' || kind == 'E' ? KOBJ_MATCH_EXACT
                                                  : KOBJ_MATCH_PREFIX;
    rule->match = (struct kobj_vs_match){.name = "",
                                         .stat_prefix = "",
                                         .source_ns = "",
                                         .uri = &rule->uri,
                                         .headers = &rule->header,
                                         .query_params = &rule->query,
                                         .ignore_uri_case = kind == 'E' || kind == 'P'};
    rule->rewrite =
        (struct kobj_vs_rewrite){.uri = "", .authority = "", .regex = "", .substitution = ""};
    rule->http = (struct kobj_vs_http){.name = "",
                                       .matches = &rule->match,
                                       .n_matches = 1,
                                       .routes = &dest,
                                       .n_routes = 1,
                                       .delegate_name = "",
                                       .delegate_ns = "",
                                       .rewrite = &rule->rewrite};
    rule->route_match = (struct kobj_route_match){.path = rule->uri.text,
                                                  .method = "",
                                                  .headers = &rule->header,
                                                  .query_params = &rule->query,
                                                  .grpc_service = ""};
    rule->route = (struct kobj_route_rule){.name = "",
                                           .matches = &rule->route_match,
                                           .n_matches = 1,
                                           .backends = &backend,
                                           .n_backends = 1};
}

static void change_rule(struct input *in, uint8_t kind, struct slice name, struct slice value) {
    if (in->n_rules == 0) {
        return;
    }
    struct rule *rule = &in->rules[in->n_rules - 1];
    struct kobj_headers *headers = &rule->http.headers;
    const char *key = text(in, name), *val = text(in, value);
    switch (kind) {
    case 'm':
        rule->header = (struct kobj_named_match){key, {.kind = KOBJ_MATCH_EXACT, .text = val}};
        rule->match.n_headers = rule->route_match.n_headers = 1;
        return;
    case 'q':
        rule->query = (struct kobj_named_match){key, {.kind = KOBJ_MATCH_EXACT, .text = val}};
        rule->match.n_query_params = rule->route_match.n_query_params = 1;
        return;
    case 'w':
        rule->rewrite.uri = key;
        return;
    case 'x':
        rule->rewrite.regex = key;
        rule->rewrite.substitution = val;
        return;
    case 'S':
        rule->set = (struct kobj_kv){key, val};
        headers->request.set = (struct kobj_map){&rule->set, 1};
        return;
    case 'A':
        rule->add = (struct kobj_kv){key, val};
        headers->request.add = (struct kobj_map){&rule->add, 1};
        return;
    case 'D':
        rule->removed = key;
        headers->request.remove = &rule->removed;
        headers->request.n_remove = 1;
        return;
    default:
        return;
    }
}

static void read_line(struct input *in, uint8_t kind, struct slice line) {
    struct slice name = line, value = slice_make("", 0);
    switch (kind) {
    case 'e':
    case 'p':
    case 'r':
    case 'E':
    case 'P':
    case 's':
        add_rule(in, kind, line);
        return;
    case 'G':
        in->head.path = line;
        return;
    case 'a':
        in->head.authority = line;
        return;
    case 'H':
        if (slice_split(line, '=', &name, &value) && in->head.n_fields < MAX_FIELDS) {
            in->fields[in->head.n_fields++] = (struct http_field){.name = name, .value = value};
        }
        return;
    default:
        slice_split(line, '=', &name, &value);
        change_rule(in, kind, name, value);
    }
}

static void problem(const struct builder_l7_input *in, const struct kobj *obj, const char *fmt,
                    ...) {
}

static struct leaf *compile(const struct input *in) {
    static const struct mesh_settings mesh = {.cluster_domain = "cluster.local"};
    static const struct service service = {
        .leaf = {.key = SLICE_LIT("ns/web")}, .name = "web", .ns = "ns", .hostname = "web.ns"};
    static const struct kobj_parent_ref parent = {
        .group = "", .kind = "Service", .ns = "", .name = "web", .section = ""};
    struct kobj_vs_http https[MAX_RULES];
    struct kobj_route_rule rules[MAX_RULES];
    struct kobj_virtual_service vs = {.http = https};
    struct kobj_route route = {.parents = &parent, .n_parents = 1, .rules = rules};
    for (size_t i = 0; i < in->n_rules; i++) {
        if (in->rules[i].is_gateway) {
            rules[route.n_rules++] = in->rules[i].route;
        } else {
            https[vs.n_http++] = in->rules[i].http;
        }
    }
    const struct kobj objs[] = {
        {.kind_name = "VirtualService",
         .meta = {.name = "v", .ns = "ns"},
         .file = "",
         .virtual_service = &vs},
        {.kind_name = "HTTPRoute", .meta = {.name = "r", .ns = "ns"}, .file = "", .route = &route}};
    const struct kobj *const list[] = {&objs[0], &objs[1]};
    const struct builder_l7_input input = {.mesh = &mesh,
                                           .proxy_ns = "ns",
                                           .service = &service,
                                           .virtual_services = list,
                                           .n_virtual_services = 1,
                                           .routes = list + 1,
                                           .n_routes = 1,
                                           .problem = problem};
    return l7_routes_compile(NULL, &input);
}

static void check_rewritten(struct input *in, const struct l7_match *match,
                            const struct l7_request *request) {
    const struct l7_vars vars = {.request = &in->head, .response = &in->head};
    struct l7_fields fields;
    struct l7_rewritten rewritten;
    l7_fields_init(&fields, &in->arena, in->head.fields, in->head.n_fields);
    l7_rewrite_request(match, &match->route->clusters[0], request, &vars, &fields, &rewritten);
    must(rewritten.path.ptr == in->head.path.ptr ||
         (rewritten.path.len > 0 && rewritten.path.ptr[0] == '/'));
    must(rewritten.path.len <= MAX(in->head.path.len, (size_t)L7_PATH_MAX));
    for (uint32_t i = 0; i < match->route->headers.request.n; i++) {
        const struct l7_header_op *op = &match->route->headers.request.items[i];
        struct slice literal;
        const struct http_field *field = l7_fields_find(fields.items, fields.n, op->name);
        if (op->action == L7_HEADER_SET && field != NULL &&
            !l7_template_is_literal(op->value, &literal)) {
            // Variables bring no end of line from a peer; texts of the rule have none here.
            must(slice_find(field->value, '\n') < 0);
        }
    }
}

static void check_rest(struct input *in, const struct l7_match *match,
                       const struct l7_request *request) {
    static const struct l7_redirect redirect = {
        .status = 301,
        .scheme = "https",
        .authority = "",
        .path = {.change = L7_PATH_SEGMENTS, .text = SLICE_LIT("/x/")}};
    static const struct l7_cors_origin any = {.kind = L7_CORS_ANY};
    static const struct l7_cors cors = {.origins = &any, .n_origins = 1};
    static const struct l7_lb_policy hash = {
        .hash_key = L7_HASH_COOKIE, .hash_name = "c", .cookie_path = "/"};
    const struct l7_route route = {.action = L7_REDIRECT, .redirect = &redirect};
    const struct l7_match to = {.route = &route, .match_len = match->match_len};
    struct slice location = l7_rewrite_location(&to, request, &in->arena);
    must(location.len == 0 || slice_has_prefix(location, SLICE_LIT("https://")));
    l7_rewrite_shadow(in->head.authority, &in->arena);
    struct l7_fields fields;
    l7_fields_init(&fields, &in->arena, NULL, 0);
    if (l7_cors_check(&cors, &in->head) != L7_CORS_NONE) {
        l7_cors_response(&cors, &in->head, &fields);
        must(fields.n == 1 && fields.items[0].value.len > 0);
    }
    struct l7_retry retry;
    l7_retry_init(&retry, &l7_routes_default()->retry, &in->head);
    must(retry.codes.n <= L7_RETRY_CODES_MAX && retry.n_names <= L7_RETRY_NAMES_MAX);
    struct l7_timeouts timeouts = l7_timeout_of(l7_routes_default(), &in->head, true);
    must(timeouts.total_ms == 0 || timeouts.per_try_ms < timeouts.total_ms);
    const struct addr addr = {.ip = {.family = 4}, .port = 80};
    struct slice cookie;
    uint64_t value;
    must(l7_lb_hash(&hash, request, &addr, &addr, &in->arena, &cookie, &value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    enum { LEN_MAX = 4096 };
    static struct input in;
    in = (struct input){.head = {.method = SLICE_LIT("GET"),
                                 .scheme = SLICE_LIT("http"),
                                 .authority = SLICE_LIT("web:80"),
                                 .path = SLICE_LIT("/")}};
    in.head.fields = in.fields;
    arena_init(&in.arena, 16 << 20);
    struct slice rest = slice_make(data, MIN(len, (size_t)LEN_MAX));
    while (rest.len > 0) {
        struct slice line = rest;
        if (!slice_split(rest, '\n', &line, &rest)) {
            rest.len = 0;
        }
        if (line.len > 0) {
            read_line(&in, line.ptr[0], slice_skip(line, 1));
        }
    }
    struct leaf *leaf = compile(&in);
    struct l7_request request;
    struct l7_match match, asked;
    struct l7_trace trace = {0};
    l7_request_init(&request, &in.head, 80, NULL);
    l7_routes_match(l7_routes_of_leaf(leaf), &request, NULL, &match);
    l7_routes_match(l7_routes_of_leaf(leaf), &request, &trace, &asked);
    must(match.route == asked.route && match.match_len == asked.match_len);
    must(match.match_len <= request.path.len);
    if (match.route != NULL && match.route->action == L7_FORWARD) {
        check_rewritten(&in, &match, &request);
    }
    check_rest(&in, &match, &request);
    leaf_unref(leaf);
    arena_fini(&in.arena);
    return 0;
}
