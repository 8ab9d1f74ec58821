// SPDX-License-Identifier: Apache-2.0
//
// VirtualService: its fields. The rules between them are in kobj_vs_check.c.
#include <stdio.h>
#include <strings.h>

#include "common/mesh/kobj_vs_priv.h"

// Destinations

#define DEST struct kobj_vs_dest
static const struct schema_field port_fields[] = {
    F_INT(DEST, port, "number", 1, 65535, .flags = SCHEMA_REQUIRED),
};
static const struct schema_note port_notes[] = {
    {"name", "unknown field: a port is chosen by `number`"}, {NULL, NULL}};
static const struct schema_msg port_msg = {SCHEMA_MSG(DEST, port_fields), .notes = port_notes};

static const struct schema_field destination_fields[] = {
    F_STR(DEST, host, "host", .flags = SCHEMA_REQUIRED, .check = kobj_check_destination),
    F_STR(DEST, subset, "subset", .check = schema_check_dns_label),
    F_FLAT("port", &port_msg),
};
static const struct schema_note destination_notes[] = {
    {"name", "unknown field: the service is named by `host`"},
    {"labels", "unknown field: choose a `subset`, whose labels are in the DestinationRule"},
    {"weight", "unknown field here: `weight` stands beside `destination`; indent it less"},
    {NULL, NULL},
};
static const struct schema_msg destination_msg = {
    SCHEMA_MSG(DEST, destination_fields),
    .notes = destination_notes,
};

static const struct schema_note old_header_notes[] = {
    {"appendHeaders", "was replaced by `headers.request.add`"},
    {"appendRequestHeaders", "was replaced by `headers.request.add`"},
    {"removeRequestHeaders", "was replaced by `headers.request.remove`"},
    {"appendResponseHeaders", "was replaced by `headers.response.add`"},
    {"removeResponseHeaders", "was replaced by `headers.response.remove`"},
    {"websocketUpgrade", "was removed: WebSocket upgrades always work"},
    {NULL, NULL},
};
static const struct schema_field route_fields[] = {
    F_FLAT("destination", &destination_msg, .flags = SCHEMA_REQUIRED),
    F_INT(DEST, weight, "weight", 0, INT32_MAX),
    F_MSG(DEST, headers, "headers", &kobj_headers_msg),
};
static const struct schema_msg route_msg = {
    SCHEMA_MSG(DEST, route_fields),
    SCHEMA_POS(DEST, pos),
    .notes = old_header_notes,
};
static const struct schema_field l4_route_fields[] = {
    F_FLAT("destination", &destination_msg, .flags = SCHEMA_REQUIRED),
    F_INT(DEST, weight, "weight", 0, INT32_MAX),
};
static const struct schema_msg l4_route_msg = {
    SCHEMA_MSG(DEST, l4_route_fields),
    SCHEMA_POS(DEST, pos),
};

// Match

static bool is_string_match(const struct cfg_node *node) {
    return cfg_get(node, "exact") != NULL || cfg_get(node, "prefix") != NULL ||
           cfg_get(node, "regex") != NULL;
}
static const char *unknown_in_match(const struct cfg_node *node, const struct cfg_pair *pair) {
    const struct cfg_node *headers = cfg_get(node, "headers");

    if (!is_string_match(&pair->value)) {
        return NULL;
    }
    return headers != NULL && headers->type == CFG_NULL
               ? "unknown field here: it stands beside `headers`, which is empty; indent it more, "
                 "so that it is inside"
               : "unknown field here: a header to match belongs into `headers`";
}

#define MATCH struct kobj_vs_match
static const struct schema_field match_fields[] = {
    F_STR(MATCH, name, "name"),
    F_STR(MATCH, stat_prefix, "statPrefix"),
    F_STR(MATCH, source_ns, "sourceNamespace", .check = schema_check_dns_label),
    F_PTR(MATCH, uri, "uri", &kobj_uri_match_msg),
    F_PTR(MATCH, scheme, "scheme", &kobj_string_match_msg),
    F_PTR(MATCH, method, "method", &kobj_string_match_msg),
    F_PTR(MATCH, authority, "authority", &kobj_string_match_msg),
    F_KEYED(MATCH, headers, "headers", &kobj_named_match_msg,
            .check_key = kobj_check_matched_header),
    F_KEYED(MATCH, without_headers, "withoutHeaders", &kobj_named_match_msg,
            .check_key = kobj_check_matched_header),
    F_KEYED(MATCH, query_params, "queryParams", &kobj_named_match_msg),
    F_MAP(MATCH, source_labels, "sourceLabels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_STRS(MATCH, gateways, "gateways", .check = kobj_check_gateway_name),
    F_INT(MATCH, port, "port", 1, 65535),
    F_BOOL(MATCH, ignore_uri_case, "ignoreUriCase"),
};
static const struct schema_msg match_msg = {
    SCHEMA_MSG(MATCH, match_fields),
    SCHEMA_POS(MATCH, pos),
    .unknown = unknown_in_match,
    .check = kobj_vs_check_match,
};

// Redirect, direct response, rewrite

static const char *check_scheme(const char *text) {
    bool is_ok = strcmp(text, "http") == 0 || strcmp(text, "https") == 0;
    return is_ok ? NULL : "is neither http nor https";
}
static const struct schema_name derive_ports[] = {
    {"FROM_PROTOCOL_DEFAULT", DERIVE_PORT_PROTOCOL_DEFAULT},
    {"FROM_REQUEST_PORT", DERIVE_PORT_REQUEST},
    {NULL, 0}};
#define REDIRECT struct kobj_vs_redirect
static const struct schema_field redirect_fields[] = {
    F_STR(REDIRECT, uri, "uri", .oneof = 1),
    F_STR(REDIRECT, prefix_rewrite, "prefixRewrite", .oneof = 1),
    F_STR(REDIRECT, authority, "authority"),
    F_STR(REDIRECT, scheme, "scheme", .check = check_scheme),
    F_INT(REDIRECT, port, "port", 1, 65535, .oneof = 2),
    F_ENUM(REDIRECT, derive_port, "derivePort", derive_ports, .oneof = 2),
    F_INT(REDIRECT, code, "redirectCode", 300, 399, .absent = 301),
};
static const struct schema_msg redirect_msg = {
    SCHEMA_MSG(REDIRECT, redirect_fields),
    .check = kobj_vs_check_redirect,
};

#define DIRECT struct kobj_vs_direct
static const struct schema_field body_fields[] = {
    F_SLICE(DIRECT, body, "string", .oneof = 1, F_TAG(DIRECT, has_body, 1)),
    F_BASE64(DIRECT, body, "bytes", .oneof = 1, F_TAG(DIRECT, has_body, 1)),
};
static const struct schema_msg body_msg = {SCHEMA_MSG(DIRECT, body_fields)};
static const struct schema_field direct_fields[] = {
    F_INT(DIRECT, status, "status", 200, 599, .flags = SCHEMA_REQUIRED),
    F_FLAT("body", &body_msg),
};
static const struct schema_msg direct_msg = {
    SCHEMA_MSG(DIRECT, direct_fields),
    .check = kobj_vs_check_direct,
};

#define REWRITE struct kobj_vs_rewrite
static const struct schema_field regex_fields[] = {
    F_STR(REWRITE, regex, "match", .flags = SCHEMA_REQUIRED, .check = kobj_check_regex),
    F_STR(REWRITE, substitution, "rewrite", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg regex_msg = {SCHEMA_MSG(REWRITE, regex_fields)};
static const struct schema_field rewrite_fields[] = {
    F_STR(REWRITE, uri, "uri", .oneof = 1, .flags = SCHEMA_NONEMPTY),
    F_STR(REWRITE, authority, "authority"),
    F_FLAT("uriRegexRewrite", &regex_msg, .oneof = 1),
};
static const struct schema_msg rewrite_msg = {
    SCHEMA_MSG(REWRITE, rewrite_fields),
    .check = kobj_vs_check_rewrite,
};

// Retries

#define RETRY struct kobj_vs_retry
static const struct schema_field retry_fields[] = {
    F_INT(RETRY, attempts, "attempts", 0, INT32_MAX),
    F_DURATION(RETRY, per_try_timeout_ms, "perTryTimeout", .min = 1),
    F_DURATION(RETRY, backoff_ms, "backoff", .min = 1),
    F_STR(RETRY, retry_on, "retryOn"),
    F_TRI(RETRY, remote_localities, "retryRemoteLocalities"),
    F_TRI(RETRY, ignore_previous_hosts, "retryIgnorePreviousHosts"),
};
const struct schema_msg kobj_retry_msg = {
    SCHEMA_MSG(RETRY, retry_fields),
    .check = kobj_vs_check_retry,
};

// Faults

static const char *check_grpc_status(const char *text) {
    static const char *const known[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "INTERNAL",
        "UNAVAILABLE",
        "UNIMPLEMENTED",
        "UNAUTHENTICATED",
        "DATA_LOSS",
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(text, known[i]) == 0) {
            return NULL;
        }
    }
    return "is not a gRPC status such as UNAVAILABLE";
}

#define DELAY struct kobj_vs_delay
static const struct schema_field delay_percent_fields[] = {
    F_PPM(DELAY, ppm, "value", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg delay_percent_msg = {SCHEMA_MSG(DELAY, delay_percent_fields)};
static const struct schema_field delay_fields[] = {
    F_DURATION(DELAY, fixed_ms, "fixedDelay", .min = 1),
    F_FLAT("percentage", &delay_percent_msg, .oneof = 1),
    F_PPM(DELAY, ppm, "percent", .oneof = 1,
          .old = "is deprecated: write `percentage: {value: ...}`"),
};
static const struct schema_note delay_notes[] = {
    {"exponentialDelay", "is not supported, by Istio neither: use `fixedDelay`"}, {NULL, NULL}};
static const struct schema_msg delay_msg = {
    SCHEMA_MSG(DELAY, delay_fields),
    .notes = delay_notes,
    .check = kobj_vs_check_delay,
};

#define ABORT struct kobj_vs_abort
static const struct schema_field abort_percent_fields[] = {
    F_PPM(ABORT, ppm, "value", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg abort_percent_msg = {SCHEMA_MSG(ABORT, abort_percent_fields)};
static const struct schema_field abort_fields[] = {
    F_INT(ABORT, http_status, "httpStatus", 200, 599, .oneof = 1),
    F_STR(ABORT, grpc_status, "grpcStatus", .oneof = 1, .check = check_grpc_status),
    F_FLAT("percentage", &abort_percent_msg),
};
static const struct schema_note abort_notes[] = {
    {"percent", "was removed, and without it nothing is aborted: write `percentage: {value: ...}`"},
    {"http2Error", "is not supported, by Istio neither: use `httpStatus` or `grpcStatus`"},
    {NULL, NULL},
};
static const struct schema_msg abort_msg = {
    SCHEMA_MSG(ABORT, abort_fields),
    .notes = abort_notes,
    .check = kobj_vs_check_abort,
};
static const struct schema_field fault_fields[] = {
    F_PTR(struct kobj_vs_fault, delay, "delay", &delay_msg),
    F_PTR(struct kobj_vs_fault, abort, "abort", &abort_msg),
};
static const struct schema_msg fault_msg = {
    SCHEMA_MSG(struct kobj_vs_fault, fault_fields),
    .check = kobj_vs_check_fault,
};

// Mirrors

#define MIRROR struct kobj_vs_mirror
static const struct schema_field mirror_port_fields[] = {
    F_INT(MIRROR, dest.port, "number", 1, 65535, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg mirror_port_msg = {
    SCHEMA_MSG(MIRROR, mirror_port_fields),
    .notes = port_notes,
};
static const struct schema_field mirror_fields[] = {
    // `mirror`: a destination
    F_STR(MIRROR, dest.host, "host", .flags = SCHEMA_REQUIRED, .check = kobj_check_destination),
    F_STR(MIRROR, dest.subset, "subset", .check = schema_check_dns_label),
    F_FLAT("port", &mirror_port_msg),
};
static const struct schema_note mirror_notes[] = {
    {"percentage", "unknown field here: beside `mirror` it is `mirrorPercentage`"},
    {"destination", "unknown field: `mirror` is itself the destination; `mirrors` has items with "
                    "`destination` and `percentage`"},
    {NULL, NULL},
};
static const struct schema_msg mirror_msg = {
    SCHEMA_MSG(MIRROR, mirror_fields),
    .pos_off = offsetof(MIRROR, dest.pos) + 1,
    .notes = mirror_notes,
};
static const struct schema_field mirrors_percent_fields[] = {
    F_PPM(MIRROR, ppm, "value", .absent = KOBJ_PPM, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg mirrors_percent_msg = {SCHEMA_MSG(MIRROR, mirrors_percent_fields)};
static const struct schema_field mirrors_fields[] = {
    F_MSG(MIRROR, dest, "destination", &destination_msg, .flags = SCHEMA_REQUIRED),
    F_FLAT("percentage", &mirrors_percent_msg),
};
static const struct schema_msg mirrors_msg = {
    SCHEMA_MSG(MIRROR, mirrors_fields),
    .pos_off = offsetof(MIRROR, dest.pos) + 1,
};

// CORS

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
static const struct schema_name preflights[] = {{"UNSPECIFIED", PREFLIGHT_UNSET},
                                                {"FORWARD", PREFLIGHT_FORWARD},
                                                {"IGNORE", PREFLIGHT_IGNORE},
                                                {NULL, 0}};
#define CORS struct kobj_cors
static const struct schema_field cors_fields[] = {
    F_LIST(CORS, allow_origins, "allowOrigins", &kobj_string_match_msg),
    F_STRS(CORS, origins, "allowOrigin",
           .old = "is deprecated: write `allowOrigins: [{exact: ...}]`"),
    F_STRS(CORS, allow_methods, "allowMethods", .check = check_cors_method),
    F_STRS(CORS, allow_headers, "allowHeaders", .check = kobj_check_header_name),
    F_STRS(CORS, expose_headers, "exposeHeaders", .check = kobj_check_header_name),
    F_DURATION(CORS, max_age_ms, "maxAge", .min = 1),
    F_TRI(CORS, allow_credentials, "allowCredentials"),
    F_ENUM(CORS, unmatched_preflights, "unmatchedPreflights", preflights),
};
static const struct schema_msg cors_msg = {
    SCHEMA_MSG(CORS, cors_fields),
    .check = kobj_vs_check_cors,
};

// http[]

#define HTTP struct kobj_vs_http
static const struct schema_field delegate_fields[] = {
    F_STR(HTTP, delegate_name, "name", .flags = SCHEMA_REQUIRED, .check = schema_check_dns_name),
    F_STR(HTTP, delegate_ns, "namespace", .check = schema_check_dns_label),
};
static const struct schema_msg delegate_msg = {SCHEMA_MSG(HTTP, delegate_fields)};
static const struct schema_field mirror_percent_fields[] = {
    F_PPM(HTTP, mirror_ppm, "value", .absent = KOBJ_PPM, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg mirror_percent_msg = {SCHEMA_MSG(HTTP, mirror_percent_fields)};
static const struct schema_field http_fields[] = {
    F_STR(HTTP, name, "name"),
    F_LIST(HTTP, matches, "match", &match_msg),
    F_LIST(HTTP, routes, "route", &route_msg),
    F_PTR(HTTP, redirect, "redirect", &redirect_msg),
    F_PTR(HTTP, direct, "directResponse", &direct_msg),
    F_FLAT("delegate", &delegate_msg),
    F_PTR(HTTP, rewrite, "rewrite", &rewrite_msg),
    F_DURATION(HTTP, timeout_ms, "timeout", .min = 1),
    F_PTR(HTTP, retries, "retries", &kobj_retry_msg),
    F_PTR(HTTP, fault, "fault", &fault_msg),
    F_ONE(HTTP, mirrors, "mirror", &mirror_msg, .oneof = 1, F_TAG(HTTP, has_mirror, 1)),
    F_LIST(HTTP, mirrors, "mirrors", &mirrors_msg, .oneof = 1),
    F_FLAT("mirrorPercentage", &mirror_percent_msg, .oneof = 2),
    F_PPM(HTTP, mirror_ppm, "mirrorPercent", .absent = KOBJ_PPM, .oneof = 2,
          .old = "is deprecated: write `mirrorPercentage: {value: ...}`"),
    F_PTR(HTTP, cors, "corsPolicy", &cors_msg),
    F_MSG(HTTP, headers, "headers", &kobj_headers_msg),
};
static const struct schema_msg http_msg = {
    SCHEMA_MSG(HTTP, http_fields),
    SCHEMA_POS(HTTP, pos),
    .notes = old_header_notes,
    .check = kobj_vs_check_http,
};

// tls[], tcp[]

#define L4_MATCH struct kobj_vs_l4_match
#define L4_MATCH_COMMON                                                                            \
    F_STRS(L4_MATCH, destination_subnets, "destinationSubnets", .check = schema_check_cidr),       \
        F_STRS(L4_MATCH, gateways, "gateways", .check = kobj_check_gateway_name),                  \
        F_STR(L4_MATCH, source_ns, "sourceNamespace", .check = schema_check_dns_label),            \
        F_MAP(L4_MATCH, source_labels, "sourceLabels", .check = schema_check_label_value,          \
              .check_key = schema_check_label_key),                                                \
        F_INT(L4_MATCH, port, "port", 1, 65535)
static const struct schema_field tls_match_fields[] = {
    F_STRS(L4_MATCH, sni_hosts, "sniHosts", .flags = SCHEMA_REQUIRED, .check = kobj_check_host),
    L4_MATCH_COMMON,
};
static const struct schema_field tcp_match_fields[] = {
    F_STR(L4_MATCH, source_subnet, "sourceSubnet", .check = schema_check_cidr),
    L4_MATCH_COMMON,
};
static const struct schema_msg tls_match_msg = {
    SCHEMA_MSG(L4_MATCH, tls_match_fields),
    SCHEMA_POS(L4_MATCH, pos),
};
static const struct schema_msg tcp_match_msg = {
    SCHEMA_MSG(L4_MATCH, tcp_match_fields),
    SCHEMA_POS(L4_MATCH, pos),
};
#define L4 struct kobj_vs_l4
static const struct schema_field tls_fields[] = {
    F_LIST(L4, matches, "match", &tls_match_msg, .flags = SCHEMA_REQUIRED),
    F_LIST(L4, routes, "route", &l4_route_msg, .flags = SCHEMA_REQUIRED),
};
static const struct schema_field tcp_fields[] = {
    F_LIST(L4, matches, "match", &tcp_match_msg),
    F_LIST(L4, routes, "route", &l4_route_msg, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg tls_msg = {
    SCHEMA_MSG(L4, tls_fields),
    SCHEMA_POS(L4, pos),
    .check = kobj_vs_check_l4,
};
static const struct schema_msg tcp_msg = {
    SCHEMA_MSG(L4, tcp_fields),
    SCHEMA_POS(L4, pos),
    .check = kobj_vs_check_l4,
};

// The object

#define VS struct kobj_virtual_service
static const struct schema_field spec_fields[] = {
    F_STRS(VS, hosts, "hosts", .check = kobj_check_host),
    F_STRS(VS, gateways, "gateways", .check = kobj_check_gateway_name),
    F_STRS(VS, export_to, "exportTo", .check = kobj_check_export),
    F_LIST(VS, http, "http", &http_msg),
    F_LIST(VS, tls, "tls", &tls_msg),
    F_LIST(VS, tcp, "tcp", &tcp_msg),
};
static const struct schema_msg spec_msg = {
    SCHEMA_MSG(VS, spec_fields),
    .check = kobj_vs_check_spec,
};
static const struct schema_field fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_virtual_service_msg = {SCHEMA_MSG(VS, fields)};

bool kobj_virtual_service_is_mesh(const struct kobj_virtual_service *vs) {
    for (uint32_t i = 0; i < vs->n_gateways; i++) {
        if (strcmp(vs->gateways[i], "mesh") == 0) {
            return true;
        }
    }
    return vs->n_gateways == 0;
}

void kobj_virtual_service_finish(struct kobj_virtual_service *vs) {
    for (uint32_t i = 0; i < vs->n_http; i++) {
        const struct kobj_vs_http *http = &vs->http[i];
        for (uint32_t j = 0; j < http->n_matches; j++) {
            const struct kobj_vs_match *match = &http->matches[j];
            kobj_named_match_finish(match->headers, match->n_headers);
            kobj_named_match_finish(match->without_headers, match->n_without_headers);
            kobj_named_match_finish(match->query_params, match->n_query_params);
        }
        if (http->has_mirror) {
            ((struct kobj_vs_mirror *)http->mirrors)->ppm = http->mirror_ppm; // ours still
        }
    }
}
