// SPDX-License-Identifier: Apache-2.0
//
// HTTPRoute and GRPCRoute: fields and the rules of their CRDs, with the defaults that an API server
// would have filled in.
#include <stdio.h>

#include "common/mesh/kobj_l7_priv.h"

enum { RULES_MAX = 16, MATCHES_MAX = 64, ALL_MATCHES_MAX = 128, FILTERS_MAX = 16 };

// References

#define PARENT struct kobj_parent_ref
static const struct schema_field parent_fields[] = {
    F_STR(PARENT, group, "group", .absent_text = "gateway.networking.k8s.io"),
    F_STR(PARENT, kind, "kind", .absent_text = "Gateway", .flags = SCHEMA_NONEMPTY),
    F_STR(PARENT, ns, "namespace", .check = schema_check_dns_label),
    F_STR(PARENT, name, "name", .flags = SCHEMA_REQUIRED),
    F_STR(PARENT, section, "sectionName", .check = schema_check_dns_name),
    F_INT(PARENT, port, "port", 1, 65535),
};
static void check_parent(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    static const struct {
        const char *group, *kind;
    } known[] = {
        {"gateway.networking.k8s.io", "Gateway"},
        {"gateway.networking.k8s.io", "ListenerSet"},
        {"gateway.networking.x-k8s.io", "XListenerSet"},
        {"", "Service"},
        {"core", "Service"},
        {"networking.istio.io", "ServiceEntry"},
    };
    const PARENT *parent = out;

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(parent->group, known[i].group) == 0 &&
            strcmp(parent->kind, known[i].kind) == 0) {
            return;
        }
    }
    if (strcmp(parent->kind, "Service") == 0 && !kobj_has(node, "group")) {
        schema_error(ctx, node, "group",
                     "is required for a Service: write `group: \"\"` (absent, it is "
                     "gateway.networking.k8s.io)");
        return;
    }
    schema_warn(ctx, node, "",
                "`%.60s/%.60s` is no parent of routes: Gateway, Service (group \"\"), "
                "ServiceEntry (group networking.istio.io) are",
                parent->group, parent->kind);
}
static const struct schema_msg parent_msg = {
    SCHEMA_MSG(PARENT, parent_fields),
    SCHEMA_POS(PARENT, pos),
    .check = check_parent,
};

#define BACKEND struct kobj_backend
static void check_backend(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const BACKEND *backend = out;

    if (backend->group[0] == '\0' && strcmp(backend->kind, "Service") == 0 && backend->port == 0 &&
        !kobj_has(node, "port")) {
        schema_error(ctx, node, "port", "is required for a Service");
    }
}
#define BACKEND_REF                                                                                \
    F_STR(BACKEND, group, "group"),                                                                \
        F_STR(BACKEND, kind, "kind", .absent_text = "Service", .flags = SCHEMA_NONEMPTY),          \
        F_STR(BACKEND, ns, "namespace", .check = schema_check_dns_label),                          \
        F_STR(BACKEND, name, "name", .flags = SCHEMA_REQUIRED),                                    \
        F_INT(BACKEND, port, "port", 1, 65535)
static const struct schema_field backend_ref_fields[] = {BACKEND_REF};
static const struct schema_msg backend_ref_msg = {
    SCHEMA_MSG(BACKEND, backend_ref_fields),
    SCHEMA_POS(BACKEND, pos),
    .check = check_backend,
};

// Filters

#define FILTER struct kobj_route_filter
#define MIRROR struct kobj_gw_mirror
static const struct schema_field fraction_fields[] = {
    F_INT(MIRROR, numerator, "numerator", 0, INT32_MAX, .flags = SCHEMA_REQUIRED),
    F_INT(MIRROR, denominator, "denominator", 1, INT32_MAX, .absent = 100),
};
static void check_fraction(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const MIRROR *mirror = out;

    if (mirror->numerator > mirror->denominator) {
        schema_error(ctx, kobj_at(node, "numerator"), "numerator",
                     "must not be more than the denominator");
    }
}
static const struct schema_msg fraction_msg = {
    SCHEMA_MSG(MIRROR, fraction_fields),
    .check = check_fraction,
};
static const struct schema_field mirror_fields[] = {
    F_MSG(MIRROR, backend, "backendRef", &backend_ref_msg, .flags = SCHEMA_REQUIRED),
    F_PPM(MIRROR, ppm, "percent", .oneof = 1, .absent = KOBJ_PPM),
    F_FLAT("fraction", &fraction_msg, .oneof = 1, F_TAG(MIRROR, has_fraction, 1)),
};
static const struct schema_msg mirror_msg = {SCHEMA_MSG(MIRROR, mirror_fields)};

#define REDIRECT struct kobj_gw_redirect
static const struct schema_name path_types[] = {
    {"ReplaceFullPath", PATH_FULL}, {"ReplacePrefixMatch", PATH_PREFIX}, {NULL, 0}};
static const struct schema_field path_fields[] = {
    F_ENUM(REDIRECT, path_change, "type", path_types, .flags = SCHEMA_REQUIRED),
    F_STR(REDIRECT, path, "replaceFullPath", .oneof = 1),
    F_STR(REDIRECT, path, "replacePrefixMatch", .oneof = 1),
};
static void check_path(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const REDIRECT *redirect = out;
    const char *field =
        redirect->path_change == PATH_FULL ? "replaceFullPath" : "replacePrefixMatch";

    if (redirect->path_change != PATH_KEEP && !kobj_has(node, field)) {
        schema_error(ctx, node, field, "is required with this `type`");
    }
}
static const struct schema_msg path_msg = {SCHEMA_MSG(REDIRECT, path_fields), .check = check_path};

static const char *check_scheme(const char *text) {
    bool is_ok = strcmp(text, "http") == 0 || strcmp(text, "https") == 0;
    return is_ok ? NULL : "is neither http nor https";
}
static void check_redirect(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const REDIRECT *redirect = out;
    uint16_t code = redirect->code;

    if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308) {
        schema_error(ctx, kobj_at(node, "statusCode"), "statusCode",
                     "must be 301, 302, 303, 307 or 308");
    }
}
static const struct schema_field redirect_fields[] = {
    F_STR(REDIRECT, scheme, "scheme", .check = check_scheme),
    F_STR(REDIRECT, hostname, "hostname", .check = schema_check_dns_name),
    F_FLAT("path", &path_msg),
    F_INT(REDIRECT, port, "port", 1, 65535),
    F_INT(REDIRECT, code, "statusCode", 300, 399, .absent = 302),
};
static const struct schema_msg redirect_msg = {
    SCHEMA_MSG(REDIRECT, redirect_fields),
    .check = check_redirect,
};
static const struct schema_field rewrite_fields[] = {
    F_STR(REDIRECT, scheme, "<scheme>"), // no key has such a name: "" always
    F_STR(REDIRECT, hostname, "hostname", .check = schema_check_dns_name),
    F_FLAT("path", &path_msg),
};
static const struct schema_msg rewrite_msg = {SCHEMA_MSG(REDIRECT, rewrite_fields)};

#define CORS struct kobj_cors
static const char *check_origin(const char *text) {
    const char *host = strncmp(text, "https://", 8) == 0  ? text + 8
                       : strncmp(text, "http://", 7) == 0 ? text + 7
                                                          : NULL;

    if (strcmp(text, "*") == 0) {
        return NULL;
    }
    return host != NULL && host[0] != '\0' && strpbrk(host, "/ ?#") == NULL
               ? NULL
               : "is not an origin: SCHEME://HOST[:PORT], as https://*.example.com, or `*`";
}
static const char *check_cors_method(const char *text) {
    static const char *const known[] = {"GET",     "HEAD",    "POST",  "PUT",   "DELETE",
                                        "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(text, known[i]) == 0) {
            return NULL;
        }
    }
    return "is not an HTTP method";
}
static const struct schema_field cors_fields[] = {
    F_STRS(CORS, origins, "allowOrigins", .check = check_origin),
    F_STRS(CORS, allow_methods, "allowMethods", .check = check_cors_method),
    F_STRS(CORS, allow_headers, "allowHeaders", .check = kobj_check_header_name),
    F_STRS(CORS, expose_headers, "exposeHeaders", .check = kobj_check_header_name),
    F_INT(CORS, max_age_ms, "maxAge", 1, INT32_MAX, .absent = 5), // seconds until finish
    F_TRI(CORS, allow_credentials, "allowCredentials"),
};
static const struct schema_msg cors_msg = {SCHEMA_MSG(CORS, cors_fields)};

static const struct schema_name http_filters[] = {
    {"RequestHeaderModifier", FILTER_REQUEST_HEADERS},
    {"ResponseHeaderModifier", FILTER_RESPONSE_HEADERS},
    {"RequestRedirect", FILTER_REDIRECT},
    {"URLRewrite", FILTER_REWRITE},
    {"RequestMirror", FILTER_MIRROR},
    {"CORS", FILTER_CORS},
    {"ExtensionRef", FILTER_EXTENSION},
    {"ExternalAuth", FILTER_EXTENSION},
    {NULL, 0}};
static const struct schema_name grpc_filters[] = {
    {"RequestHeaderModifier", FILTER_REQUEST_HEADERS},
    {"ResponseHeaderModifier", FILTER_RESPONSE_HEADERS},
    {"RequestMirror", FILTER_MIRROR},
    {"ExtensionRef", FILTER_EXTENSION},
    {NULL, 0}};
static const struct {
    const char *field, *type;
} filter_blocks[] = {
    {"requestHeaderModifier", "RequestHeaderModifier"},
    {"responseHeaderModifier", "ResponseHeaderModifier"},
    {"requestRedirect", "RequestRedirect"},
    {"urlRewrite", "URLRewrite"},
    {"requestMirror", "RequestMirror"},
    {"cors", "CORS"},
    {"extensionRef", "ExtensionRef"},
    {"externalAuth", "ExternalAuth"},
};

static void check_filter(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const FILTER *filter = out;
    const char *type = cfg_str(cfg_get(node, "type"), "");

    if (filter->type == FILTER_UNSET) {
        return; // reported
    }
    for (size_t i = 0; i < ARRAY_LEN(filter_blocks); i++) {
        bool is_it = strcmp(filter_blocks[i].type, type) == 0;
        bool is_there = kobj_has(node, filter_blocks[i].field);
        if (is_it && !is_there) {
            schema_error(ctx, node, filter_blocks[i].field, "is required with type %s", type);
        } else if (!is_it && is_there) {
            schema_error(ctx, cfg_get(node, filter_blocks[i].field), filter_blocks[i].field,
                         "cannot be set with type %.40s: it needs a filter of its own, of type %s",
                         type, filter_blocks[i].type);
        }
    }
    if (filter->type == FILTER_EXTENSION) {
        schema_warn(ctx, node, "", "type %s is not supported: requests that take this rule get 500",
                    type);
    }
}
static const struct schema_field http_filter_fields[] = {
    F_ENUM(FILTER, type, "type", http_filters, .flags = SCHEMA_REQUIRED),
    F_MSG(FILTER, headers, "requestHeaderModifier", &kobj_header_modifier_msg),
    F_MSG(FILTER, headers, "responseHeaderModifier", &kobj_header_modifier_msg),
    F_PTR(FILTER, redirect, "requestRedirect", &redirect_msg),
    F_PTR(FILTER, redirect, "urlRewrite", &rewrite_msg),
    F_PTR(FILTER, mirror, "requestMirror", &mirror_msg),
    F_PTR(FILTER, cors, "cors", &cors_msg),
    F_ANY("extensionRef"),
    F_ANY("externalAuth"),
};
static const struct schema_msg http_filter_msg = {
    SCHEMA_MSG(FILTER, http_filter_fields),
    SCHEMA_POS(FILTER, pos),
    .check = check_filter,
};
static const struct schema_field grpc_filter_fields[] = {
    F_ENUM(FILTER, type, "type", grpc_filters, .flags = SCHEMA_REQUIRED),
    F_MSG(FILTER, headers, "requestHeaderModifier", &kobj_header_modifier_msg),
    F_MSG(FILTER, headers, "responseHeaderModifier", &kobj_header_modifier_msg),
    F_PTR(FILTER, mirror, "requestMirror", &mirror_msg),
    F_ANY("extensionRef"),
};
static const struct schema_msg grpc_filter_msg = {
    SCHEMA_MSG(FILTER, grpc_filter_fields),
    SCHEMA_POS(FILTER, pos),
    .check = check_filter,
};

// Of each kind but mirrors there is one in a rule, and not both of redirect and rewrite.
static void check_filters(struct schema_ctx *ctx, const struct cfg_node *node,
                          const FILTER *filters, uint32_t n) {
    uint32_t seen = 0;
    char path[32];

    for (uint32_t i = 0; i < n; i++) {
        uint8_t type = filters[i].type;
        bool may_repeat = type == FILTER_MIRROR || type == FILTER_EXTENSION || type == FILTER_UNSET;
        uint32_t excluded = 1u << type;
        if (type == FILTER_REDIRECT || type == FILTER_REWRITE) {
            excluded |= 1u << FILTER_REDIRECT | 1u << FILTER_REWRITE;
        }
        if (!may_repeat && (seen & excluded) != 0) {
            snprintf(path, sizeof(path), "filters[%u]", i);
            schema_error(ctx, kobj_item(node, "filters", i), path, "%s",
                         (seen & 1u << type) != 0
                             ? "a filter of this type is there already"
                             : "RequestRedirect and URLRewrite exclude each other");
        }
        seen |= 1u << type;
    }
}

static void check_backend_entry(struct schema_ctx *ctx, const struct cfg_node *node,
                                const void *out) {
    const BACKEND *backend = out;

    check_backend(ctx, node, out);
    check_filters(ctx, node, backend->filters, backend->n_filters);
}
static const struct schema_field http_backend_fields[] = {
    BACKEND_REF,
    F_INT(BACKEND, weight, "weight", 0, 1000000, .absent = 1),
    F_LIST(BACKEND, filters, "filters", &http_filter_msg, .max = FILTERS_MAX),
};
static const struct schema_msg http_backend_msg = {
    SCHEMA_MSG(BACKEND, http_backend_fields),
    SCHEMA_POS(BACKEND, pos),
    .check = check_backend_entry,
};
static const struct schema_field grpc_backend_fields[] = {
    BACKEND_REF,
    F_INT(BACKEND, weight, "weight", 0, 1000000, .absent = 1),
    F_LIST(BACKEND, filters, "filters", &grpc_filter_msg, .max = FILTERS_MAX),
};
static const struct schema_msg grpc_backend_msg = {
    SCHEMA_MSG(BACKEND, grpc_backend_fields),
    SCHEMA_POS(BACKEND, pos),
    .check = check_backend_entry,
};

// Matches

#define MATCH struct kobj_route_match
static const struct schema_name value_types[] = {
    {"Exact", KOBJ_MATCH_EXACT}, {"RegularExpression", KOBJ_MATCH_REGEX}, {NULL, 0}};
static const struct schema_field named_fields[] = {
    F_STR(struct kobj_named_match, name, "name", .flags = SCHEMA_REQUIRED,
          .check = kobj_check_header_name),
    F_ENUM(struct kobj_named_match, match.kind, "type", value_types, .absent = KOBJ_MATCH_EXACT),
    F_STR(struct kobj_named_match, match.text, "value", .flags = SCHEMA_REQUIRED),
};
static void check_named(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_named_match *named = out;
    const char *problem =
        named->match.kind == KOBJ_MATCH_REGEX ? kobj_check_regex(named->match.text) : NULL;

    if (problem != NULL) {
        schema_error(ctx, kobj_at(node, "value"), "value", "`%.60s` %s", named->match.text,
                     problem);
    }
}
static const struct schema_msg named_msg = {
    SCHEMA_MSG(struct kobj_named_match, named_fields),
    .pos_off = offsetof(struct kobj_named_match, match.pos) + 1,
    .check = check_named,
};

static const char *path_problem(const char *path) {
    static const char *const bad[] = {"//", "/./", "/../", "%2f", "%2F", "#"};

    if (path[0] != '/') {
        return "must begin with `/`";
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (strstr(path, bad[i]) != NULL) {
            return "holds one of //, /./, /../, %2f, #, which never match a normalized path";
        }
    }
    size_t len = strlen(path);
    bool ends_in_dots = (len >= 2 && strcmp(path + len - 2, "/.") == 0) ||
                        (len >= 3 && strcmp(path + len - 3, "/..") == 0);
    return ends_in_dots ? "ends in `/.` or `/..`" : NULL;
}
static void check_match_path(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const MATCH *match = out;
    const char *problem = match->path_type == ROUTE_PATH_REGEX ? kobj_check_regex(match->path)
                                                               : path_problem(match->path);

    if (problem != NULL) {
        schema_error(ctx, kobj_at(node, "value"), "value", "`%.60s` %s", match->path, problem);
    }
}
static const struct schema_name match_path_types[] = {{"PathPrefix", ROUTE_PATH_PREFIX},
                                                      {"Exact", ROUTE_PATH_EXACT},
                                                      {"RegularExpression", ROUTE_PATH_REGEX},
                                                      {NULL, 0}};
static const struct schema_field match_path_fields[] = {
    F_ENUM(MATCH, path_type, "type", match_path_types),
    F_STR(MATCH, path, "value", .absent_text = "/"),
};
static const struct schema_msg match_path_msg = {
    SCHEMA_MSG(MATCH, match_path_fields),
    .check = check_match_path,
};
static const char *check_method(const char *text) {
    return strcmp(text, "*") == 0 ? "is not an HTTP method" : check_cors_method(text);
}
static const struct schema_field http_match_fields[] = {
    F_FLAT("path", &match_path_msg),
    F_STR(MATCH, method, "method", .check = check_method),
    F_LIST(MATCH, headers, "headers", &named_msg, .max = 16),
    F_LIST(MATCH, query_params, "queryParams", &named_msg, .max = 16),
    F_STR(MATCH, grpc_service, "<service>"),
};
static const struct schema_msg http_match_msg = {
    SCHEMA_MSG(MATCH, http_match_fields),
    SCHEMA_POS(MATCH, pos),
};

static void check_grpc_method(struct schema_ctx *ctx, const struct cfg_node *node,
                              const void *out) {
    const MATCH *match = out;
    const struct {
        const char *field, *text;
    } parts[] = {{"service", match->grpc_service}, {"method", match->method}};

    if (match->grpc_service[0] == '\0' && match->method[0] == '\0') {
        schema_error(ctx, node, "", "needs `service` or `method`");
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const char *problem = match->grpc_type == KOBJ_MATCH_REGEX ? kobj_check_regex(parts[i].text)
                              : strchr(parts[i].text, '/') != NULL ? "must not hold `/`"
                                                                   : NULL;
        if (problem != NULL) {
            schema_error(ctx, kobj_at(node, parts[i].field), parts[i].field, "`%.60s` %s",
                         parts[i].text, problem);
        }
    }
}
static const struct schema_field grpc_method_fields[] = {
    F_ENUM(MATCH, grpc_type, "type", value_types, .absent = KOBJ_MATCH_EXACT),
    F_STR(MATCH, grpc_service, "service"),
    F_STR(MATCH, method, "method"),
};
static const struct schema_msg grpc_method_msg = {
    SCHEMA_MSG(MATCH, grpc_method_fields),
    .check = check_grpc_method,
};
static const struct schema_field grpc_match_fields[] = {
    F_FLAT("method", &grpc_method_msg),
    F_LIST(MATCH, headers, "headers", &named_msg, .max = 16),
    F_STR(MATCH, path, "<path>", .absent_text = "/"),
};
static const struct schema_msg grpc_match_msg = {
    SCHEMA_MSG(MATCH, grpc_match_fields),
    SCHEMA_POS(MATCH, pos),
};

// Rules

#define RULE struct kobj_route_rule
#define RETRY struct kobj_gw_retry
static const struct schema_field retry_fields[] = {
    F_INTS(RETRY, codes, "codes", 400, 599),
    F_INT(RETRY, attempts, "attempts", 1, INT32_MAX, .absent = -1),
    F_DURATION(RETRY, backoff_ms, "backoff", .min = 1),
};
static const struct schema_msg retry_msg = {SCHEMA_MSG(RETRY, retry_fields)};
static const struct schema_field timeouts_fields[] = {
    F_DURATION(RULE, request_timeout_ms, "request"),
    F_DURATION(RULE, backend_timeout_ms, "backendRequest"),
};
static void check_timeouts(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const RULE *rule = out;

    if (rule->request_timeout_ms > 0 && rule->backend_timeout_ms > rule->request_timeout_ms) {
        schema_error(ctx, kobj_at(node, "backendRequest"), "backendRequest",
                     "must not be longer than `request`");
    }
}
static const struct schema_msg timeouts_msg = {
    SCHEMA_MSG(RULE, timeouts_fields),
    .check = check_timeouts,
};

static const FILTER *find_filter(const RULE *rule, uint8_t type) {
    for (uint32_t i = 0; i < rule->n_filters; i++) {
        if (rule->filters[i].type == type) {
            return &rule->filters[i];
        }
    }
    return NULL;
}

static void check_rule(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    static const uint8_t changers[] = {FILTER_REDIRECT, FILTER_REWRITE};
    const RULE *rule = out;

    check_filters(ctx, node, rule->filters, rule->n_filters);
    if (find_filter(rule, FILTER_REDIRECT) != NULL && rule->n_backends > 0) {
        schema_error(ctx, kobj_at(node, "backendRefs"), "backendRefs",
                     "cannot be set with a RequestRedirect filter");
    }
    for (size_t i = 0; i < ARRAY_LEN(changers); i++) {
        const FILTER *filter = find_filter(rule, changers[i]);
        bool is_prefix = filter != NULL && filter->redirect != NULL &&
                         filter->redirect->path_change == PATH_PREFIX;
        bool is_one = rule->n_matches == 0 ||
                      (rule->n_matches == 1 && rule->matches[0].path_type == ROUTE_PATH_PREFIX);
        if (is_prefix && !is_one) {
            schema_error(ctx, kobj_at(node, "filters"), "filters",
                         "ReplacePrefixMatch needs exactly one match, of type PathPrefix");
        }
    }
}
static const struct schema_field http_rule_fields[] = {
    F_STR(RULE, name, "name", .check = schema_check_dns_name),
    F_LIST(RULE, matches, "matches", &http_match_msg, .max = MATCHES_MAX),
    F_LIST(RULE, filters, "filters", &http_filter_msg, .max = FILTERS_MAX),
    F_LIST(RULE, backends, "backendRefs", &http_backend_msg, .max = 16),
    F_FLAT("timeouts", &timeouts_msg),
    F_PTR(RULE, retry, "retry", &retry_msg),
};
static const struct schema_note rule_notes[] = {
    {"timeout", "unknown field: write `timeouts: {request: ...}`"},
    {"retries", "unknown field: write `retry: {attempts: ...}`"},
    {"match", "unknown field: its name is `matches`"},
    {"route", "unknown field: destinations are `backendRefs`"},
    {NULL, NULL},
};
static const struct schema_msg http_rule_msg = {
    SCHEMA_MSG(RULE, http_rule_fields),
    SCHEMA_POS(RULE, pos),
    .known = "sessionPersistence",
    .notes = rule_notes,
    .check = check_rule,
};
static const struct schema_field grpc_rule_fields[] = {
    F_STR(RULE, name, "name", .check = schema_check_dns_name),
    F_LIST(RULE, matches, "matches", &grpc_match_msg, .max = MATCHES_MAX),
    F_LIST(RULE, filters, "filters", &grpc_filter_msg, .max = FILTERS_MAX),
    F_LIST(RULE, backends, "backendRefs", &grpc_backend_msg, .max = 16),
    // Durations that a GRPCRoute does not have.
    F_DURATION(RULE, request_timeout_ms, "<request>"),
    F_DURATION(RULE, backend_timeout_ms, "<backendRequest>"),
};
static const struct schema_msg grpc_rule_msg = {
    SCHEMA_MSG(RULE, grpc_rule_fields),
    SCHEMA_POS(RULE, pos),
    .known = "sessionPersistence",
    .check = check_rule,
};

// The object

#define ROUTE struct kobj_route
static void check_parents(struct schema_ctx *ctx, const struct cfg_node *node, const ROUTE *route) {
    char path[32];

    for (uint32_t i = 0; i < route->n_parents; i++) {
        const PARENT *a = &route->parents[i];
        for (uint32_t j = 0; j < i; j++) {
            const PARENT *b = &route->parents[j];
            if (strcmp(a->group, b->group) == 0 && strcmp(a->kind, b->kind) == 0 &&
                strcmp(a->ns, b->ns) == 0 && strcmp(a->name, b->name) == 0 &&
                strcmp(a->section, b->section) == 0 && a->port == b->port) {
                snprintf(path, sizeof(path), "parentRefs[%u]", i);
                schema_error(ctx, kobj_item(node, "parentRefs", i), path, "is there twice");
                break;
            }
        }
    }
}

static void check_route(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const ROUTE *route = out;
    uint32_t n_matches = 0;
    bool has_mesh_parent = false;
    char path[32];

    check_parents(ctx, node, route);
    for (uint32_t i = 0; i < route->n_parents; i++) {
        const char *kind = route->parents[i].kind;
        has_mesh_parent =
            has_mesh_parent || strcmp(kind, "Service") == 0 || strcmp(kind, "ServiceEntry") == 0;
    }
    if (route->n_parents == 0) {
        schema_warn(ctx, node, "parentRefs", "is absent: the route applies to nothing");
    }
    if (has_mesh_parent && route->n_hostnames > 0) {
        schema_warn(ctx, kobj_at(node, "hostnames"), "hostnames",
                    "has no meaning for a Service or ServiceEntry as parent");
    }
    for (uint32_t i = 0; i < route->n_rules; i++) {
        n_matches += route->rules[i].n_matches;
        for (uint32_t j = 0; j < i; j++) {
            if (route->rules[i].name[0] != '\0' &&
                strcmp(route->rules[i].name, route->rules[j].name) == 0) {
                snprintf(path, sizeof(path), "rules[%u]", i);
                schema_error(ctx, kobj_item(node, "rules", i), path,
                             "the name `%.60s` is used twice", route->rules[i].name);
                break;
            }
        }
    }
    if (n_matches > ALL_MATCHES_MAX) {
        schema_error(ctx, kobj_at(node, "rules"), "rules",
                     "have %u matches, at most %d are allowed", n_matches, ALL_MATCHES_MAX);
    }
}

static const struct schema_note spec_notes[] = {
    {"hosts", "unknown field: its name is `hostnames`"},
    {"http", "unknown field: its name is `rules`"},
    {NULL, NULL},
};
#define ROUTE_COMMON                                                                               \
    F_LIST(ROUTE, parents, "parentRefs", &parent_msg, .max = 32),                                  \
        F_STRS(ROUTE, hostnames, "hostnames", .check = schema_check_host_wildcard)
static const struct schema_field http_spec_fields[] = {
    ROUTE_COMMON,
    F_LIST(ROUTE, rules, "rules", &http_rule_msg, .flags = SCHEMA_NONEMPTY, .max = RULES_MAX),
};
static const struct schema_msg http_spec_msg = {
    SCHEMA_MSG(ROUTE, http_spec_fields),
    .known = "useDefaultGateways",
    .notes = spec_notes,
    .check = check_route,
};
static const struct schema_field grpc_spec_fields[] = {
    ROUTE_COMMON,
    F_LIST(ROUTE, rules, "rules", &grpc_rule_msg, .max = RULES_MAX),
};
static const struct schema_msg grpc_spec_msg = {
    SCHEMA_MSG(ROUTE, grpc_spec_fields),
    .known = "useDefaultGateways",
    .notes = spec_notes,
    .check = check_route,
};
static const struct schema_field http_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &http_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
static const struct schema_field grpc_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &grpc_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_http_route_msg = {SCHEMA_MSG(ROUTE, http_fields)};
const struct schema_msg kobj_grpc_route_msg = {SCHEMA_MSG(ROUTE, grpc_fields)};

static void finish_filters(const FILTER *filters, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        MIRROR *mirror = (MIRROR *)filters[i].mirror; // ours still
        if (mirror != NULL && mirror->has_fraction) {
            mirror->ppm = (uint32_t)((uint64_t)mirror->numerator * KOBJ_PPM / mirror->denominator);
        }
        if (filters[i].cors != NULL) {
            ((CORS *)filters[i].cors)->max_age_ms *= 1000;
        }
    }
}

void kobj_route_finish(ROUTE *route) {
    for (uint32_t i = 0; i < route->n_rules; i++) {
        const RULE *rule = &route->rules[i];
        finish_filters(rule->filters, rule->n_filters);
        for (uint32_t j = 0; j < rule->n_backends; j++) {
            finish_filters(rule->backends[j].filters, rule->backends[j].n_filters);
        }
    }
}
