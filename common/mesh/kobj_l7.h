// SPDX-License-Identifier: Apache-2.0
//
// The L7 resources, as decoded: Istio's VirtualService and DestinationRule, the Gateway API's
// Gateway, GatewayClass, HTTPRoute, GRPCRoute and ReferenceGrant. The conventions are those of
// kobj.h, and:
// - durations are milliseconds, -1 when absent; the API's own shortest one is 1 ms;
// - percentages that the API has as decimals are parts per million (`_ppm`, 1000000 = 100 %), those
//   that it has as integers are as written (`_percent`), -1 when absent;
// - what the API has in an old and a new spelling is in the new one's place;
// - hosts and names are as written: a short host name is in the namespace of its object;
// - regular expressions are RE2's and must match the whole value. They are texts here; unless
//   kobj_regex_problem is set they have not been compiled.
#pragma once

#include "common/mesh/kobj.h"

enum { KOBJ_PPM = 1000000 };

// What is wrong with a regular expression, or NULL. Asked by the decoder for each one. NULL (the
// default): not asked. The text is valid until the next call. Control thread.
extern const char *(*kobj_regex_problem)(const char *regex);

// Matches

enum kobj_match {
    KOBJ_MATCH_PRESENT, // {}: any value; of headers and query parameters also the regex `*`
    KOBJ_MATCH_EXACT,
    KOBJ_MATCH_PREFIX,
    KOBJ_MATCH_REGEX,
};
struct kobj_string_match {
    uint8_t kind; // enum kobj_match
    const char *text;
    struct kobj_pos pos;
};
struct kobj_named_match { // headers, withoutHeaders, queryParams
    const char *name;
    struct kobj_string_match match;
};

// What both APIs have

struct kobj_header_ops {
    struct kobj_map set, add; // names as written; values may hold %VARIABLES% (Istio only)
    const char *const *remove;
    uint32_t n_remove;
};
struct kobj_headers {
    struct kobj_header_ops request, response;
};

enum kobj_preflight { PREFLIGHT_UNSET, PREFLIGHT_FORWARD, PREFLIGHT_IGNORE };
struct kobj_cors {
    // allowOrigins; the Gateway API's are in origins alone.
    const struct kobj_string_match *allow_origins;
    // Texts: the deprecated allowOrigin (exact, or `*`); of the Gateway API, where `*` may stand
    // for a part: "https://*.example.com".
    const char *const *origins;
    const char *const *allow_methods, *const *allow_headers, *const *expose_headers;
    uint32_t n_allow_origins, n_origins, n_allow_methods, n_allow_headers, n_expose_headers;
    int64_t max_age_ms;
    enum tri allow_credentials;
    uint8_t unmatched_preflights; // enum kobj_preflight; of the Gateway API always UNSET
};

// VirtualService

struct kobj_vs_dest {
    const char *host, *subset; // subset "" = none
    uint16_t port; // 0 = the service's only one
    int32_t weight; // 0 when absent; of a single destination it does not count
    struct kobj_headers headers; // http only
    struct kobj_pos pos;
};

struct kobj_vs_match { // AND of what is set
    const char *name, *stat_prefix, *source_ns; // "" = not set
    const struct kobj_string_match *uri, *scheme, *method, *authority; // NULL = not set
    const struct kobj_named_match *headers, *without_headers, *query_params;
    struct kobj_map source_labels;
    const char *const *gateways; // none: those of the VirtualService
    uint32_t n_headers, n_without_headers, n_query_params, n_gateways;
    uint16_t port; // 0 = any
    bool ignore_uri_case;
    struct kobj_pos pos;
};

enum kobj_derive_port { DERIVE_PORT_UNSET, DERIVE_PORT_PROTOCOL_DEFAULT, DERIVE_PORT_REQUEST };
struct kobj_vs_redirect {
    const char *uri, *authority, *scheme, *prefix_rewrite; // "" = as it was
    uint16_t port; // 0 = not set
    uint8_t derive_port; // enum kobj_derive_port
    uint16_t code; // 301 when absent
};
struct kobj_vs_direct { // directResponse
    uint16_t status;
    bool has_body;
    struct slice body; // string, or bytes after base64
};
struct kobj_vs_rewrite {
    const char *uri, *authority; // "" = as it was
    const char *regex, *substitution; // uriRegexRewrite; regex "" = none
};
struct kobj_vs_retry {
    int32_t attempts; // 0 = no retries
    int64_t per_try_timeout_ms, backoff_ms;
    const char *retry_on; // "" = the default conditions
    enum tri remote_localities, ignore_previous_hosts;
};
struct kobj_vs_delay {
    int64_t fixed_ms;
    uint32_t ppm; // of the requests; 0 when neither `percentage` nor `percent` is there
};
struct kobj_vs_abort {
    uint16_t http_status; // 0: grpc_status
    const char *grpc_status; // as written, "UNAVAILABLE"; "" = http_status
    uint32_t ppm; // 0 without a percentage: aborts nothing
};
struct kobj_vs_fault {
    const struct kobj_vs_delay *delay;
    const struct kobj_vs_abort *abort;
};
struct kobj_vs_mirror { // `mirror` or one of `mirrors`
    struct kobj_vs_dest dest; // weight and headers are not used
    uint32_t ppm; // of the requests; all when absent
};

struct kobj_vs_http {
    const char *name; // "" = none
    const struct kobj_vs_match *matches; // OR; none: everything
    const struct kobj_vs_dest *routes;
    const struct kobj_vs_redirect *redirect; // at most one of routes, redirect, direct, delegate
    const struct kobj_vs_direct *direct;
    const char *delegate_name, *delegate_ns; // name "" = none; ns "" = the object's
    const struct kobj_vs_rewrite *rewrite;
    int64_t timeout_ms; // absent or 0: none
    const struct kobj_vs_retry *retries; // NULL: the default policy
    const struct kobj_vs_fault *fault;
    const struct kobj_vs_mirror *mirrors;
    bool has_mirror; // `mirror`, so that mirror_ppm is in mirrors[0]
    uint32_t mirror_ppm;
    const struct kobj_cors *cors;
    struct kobj_headers headers;
    uint32_t n_matches, n_routes, n_mirrors;
    struct kobj_pos pos;
};

struct kobj_vs_l4_match { // of tls[] and tcp[]
    const char *const *sni_hosts, *const *destination_subnets, *const *gateways; // sni: tls only
    const char *source_subnet, *source_ns; // subnet: tcp only
    struct kobj_map source_labels;
    uint32_t n_sni_hosts, n_destination_subnets, n_gateways;
    uint16_t port;
    struct kobj_pos pos;
};
struct kobj_vs_l4 {
    const struct kobj_vs_l4_match *matches;
    const struct kobj_vs_dest *routes;
    uint32_t n_matches, n_routes;
    struct kobj_pos pos;
};

struct kobj_virtual_service {
    const char *const *hosts, *const *gateways, *const *export_to;
    const struct kobj_vs_http *http;
    const struct kobj_vs_l4 *tls, *tcp;
    uint32_t n_hosts; // 0: a delegate
    uint32_t n_gateways; // 0: the mesh
    uint32_t n_export_to, n_http, n_tls, n_tcp;
};
// True when the rules apply to traffic in the mesh: `gateways` is absent or has "mesh".
bool kobj_virtual_service_is_mesh(const struct kobj_virtual_service *vs);

// DestinationRule

enum kobj_lb {
    KOBJ_LB_UNSET, // least request
    KOBJ_LB_LEAST_REQUEST, // LEAST_CONN too
    KOBJ_LB_RANDOM,
    KOBJ_LB_PASSTHROUGH,
    KOBJ_LB_ROUND_ROBIN,
};
enum kobj_hash_key { HASH_KEY_NONE, HASH_KEY_HEADER, HASH_KEY_COOKIE, HASH_KEY_IP, HASH_KEY_QUERY };
enum kobj_hash_algorithm { HASH_RING, HASH_MAGLEV };
struct kobj_consistent_hash {
    uint8_t key; // enum kobj_hash_key
    bool use_source_ip; // of HASH_KEY_IP; false: no key, endpoints are chosen at random
    uint8_t algorithm; // enum kobj_hash_algorithm
    const char *name; // of the header, cookie or query parameter
    const char *cookie_path;
    int64_t cookie_ttl_ms; // -1: the cookie is not generated; 0: one of the session
    const struct kobj_kv *cookie_attributes;
    uint32_t n_cookie_attributes;
    uint64_t min_ring_size; // 0 = absent (1024)
    uint64_t table_size; // of MAGLEV, 0 = absent (65537)
};
struct kobj_load_balancer {
    uint8_t simple; // enum kobj_lb; excludes `hash`
    const struct kobj_consistent_hash *hash;
    const struct mesh_locality_lb *locality;
    int64_t warmup_ms; // -1: none
    uint32_t warmup_min_ppm; // 10 % when absent
    double warmup_aggression; // >= 1
};
enum kobj_h2_upgrade { H2_UPGRADE_UNSET, H2_UPGRADE_NO, H2_UPGRADE_YES }; // unset: the mesh's
struct kobj_connection_pool { // counts: 0 = absent, no limit
    uint32_t max_connections; // tcp
    int64_t connect_timeout_ms, max_connection_duration_ms, tcp_idle_timeout_ms;
    bool has_keepalive;
    uint32_t keepalive_probes; // 0 = the system's
    int64_t keepalive_time_ms, keepalive_interval_ms;
    uint32_t max_pending_requests, max_requests, max_requests_per_connection, max_retries; // http
    uint32_t max_concurrent_streams;
    int64_t http_idle_timeout_ms;
    int64_t ping_interval_ms, ping_timeout_ms; // http2KeepAlive
    uint8_t h2_upgrade; // enum kobj_h2_upgrade
    bool use_client_protocol;
};
struct kobj_outlier { // -1 = absent
    int64_t consecutive_5xx, consecutive_gateway, consecutive_local_origin; // 0 = off
    int64_t interval_ms, base_ejection_ms;
    int32_t max_ejection_percent, min_health_percent;
    const uint32_t *http_codes; // outlierDetectionHttpErrorCodes
    uint32_t n_http_codes;
    bool splits_local_origin;
};
enum kobj_tls_mode { TLS_MODE_DISABLE, TLS_MODE_SIMPLE, TLS_MODE_MUTUAL, TLS_MODE_ISTIO_MUTUAL };
struct kobj_client_tls {
    uint8_t mode; // enum kobj_tls_mode
    const char *client_certificate, *private_key, *ca_certificates, *ca_crl, *credential_name, *sni;
    const char *const *sans; // NULL/0: not checked
    uint32_t n_sans;
    enum tri insecure_skip_verify;
};
struct kobj_tunnel {
    const char *protocol; // "CONNECT" or "POST"; "" = CONNECT
    const char *target_host;
    uint16_t target_port;
};
enum kobj_proxy_protocol { PROXY_PROTOCOL_NONE, PROXY_PROTOCOL_V1, PROXY_PROTOCOL_V2 };
struct kobj_retry_budget {
    uint32_t ppm; // 20 % when absent
    uint32_t min_concurrency; // 3 when absent
    int64_t interval_ms;
};
struct kobj_port_policy;
struct kobj_traffic_policy { // NULL: that block is not set
    const struct kobj_load_balancer *load_balancer;
    const struct kobj_connection_pool *connection_pool;
    const struct kobj_outlier *outlier;
    const struct kobj_client_tls *tls;
    // The rest is not part of port-level settings.
    const struct kobj_port_policy *ports;
    uint32_t n_ports;
    const struct kobj_tunnel *tunnel;
    uint8_t proxy_protocol; // enum kobj_proxy_protocol
    const struct kobj_retry_budget *retry_budget;
    struct kobj_pos pos;
};
struct kobj_port_policy {
    uint16_t port;
    struct kobj_traffic_policy policy; // replaces the four blocks for this port, absent ones too
};
struct kobj_subset {
    const char *name;
    struct kobj_map labels;
    const struct kobj_traffic_policy *policy; // each block of it wins
    struct kobj_pos pos;
};
struct kobj_destination_rule {
    const char *host;
    const struct kobj_traffic_policy *policy;
    const struct kobj_subset *subsets;
    const char *const *export_to;
    uint32_t n_subsets, n_export_to;
    bool has_selector;
    struct kobj_map selector; // workloadSelector.matchLabels
};

// Gateway, GatewayClass

enum kobj_routes_from { ROUTES_SAME, ROUTES_ALL, ROUTES_SELECTOR, ROUTES_NONE };
struct kobj_route_kind {
    const char *group, *kind;
};
struct kobj_listener {
    const char *name, *hostname, *protocol;
    uint16_t port;
    uint8_t routes_from; // enum kobj_routes_from
    const struct kobj_label_selector *selector; // ROUTES_SELECTOR
    const struct kobj_route_kind *kinds;
    uint32_t n_kinds;
    struct kobj_pos pos;
};
struct kobj_gateway_address {
    const char *type; // "IPAddress" when absent; "Hostname"
    const char *value;
};
struct kobj_gateway {
    const char *class_name;
    const struct kobj_listener *listeners;
    const struct kobj_gateway_address *addresses, *status_addresses;
    const struct kobj_condition *conditions;
    uint32_t n_listeners, n_addresses, n_status_addresses, n_conditions;
};
struct kobj_gateway_class { // not namespaced
    const char *controller;
};

// HTTPRoute, GRPCRoute

struct kobj_parent_ref {
    const char *group, *kind; // gateway.networking.k8s.io and Gateway when absent
    const char *ns, *name; // ns "" = the object's
    const char *section;
    uint16_t port; // 0 = all
    struct kobj_pos pos;
};
struct kobj_backend {
    const char *group, *kind; // "" and Service when absent
    const char *ns, *name;
    uint16_t port; // 0 = absent
    uint32_t weight; // 1 when absent
    const struct kobj_route_filter *filters;
    uint32_t n_filters;
    struct kobj_pos pos;
};

enum kobj_filter_type {
    FILTER_UNSET,
    FILTER_REQUEST_HEADERS,
    FILTER_RESPONSE_HEADERS,
    FILTER_REDIRECT,
    FILTER_REWRITE,
    FILTER_MIRROR,
    FILTER_CORS,
    FILTER_EXTENSION, // no extension is known: makes the rule invalid
};
enum kobj_path_change { PATH_KEEP, PATH_FULL, PATH_PREFIX };
struct kobj_gw_redirect { // RequestRedirect, and URLRewrite (hostname and path only)
    const char *scheme, *hostname; // "" = as it was
    uint8_t path_change; // enum kobj_path_change
    const char *path; // the new path, or what replaces the matched prefix
    uint16_t port; // 0 = absent
    uint16_t code; // 302 when absent
};
struct kobj_gw_mirror {
    struct kobj_backend backend;
    uint32_t ppm; // of the requests, from `percent` or `fraction`; all when absent
    uint32_t numerator, denominator; // of `fraction`, as written; 0/100 when absent
    bool has_fraction;
};
struct kobj_route_filter {
    uint8_t type; // enum kobj_filter_type; what belongs to it is set
    struct kobj_header_ops headers;
    const struct kobj_gw_redirect *redirect; // REDIRECT, REWRITE
    const struct kobj_gw_mirror *mirror;
    const struct kobj_cors *cors;
    struct kobj_pos pos;
};
enum kobj_route_path { ROUTE_PATH_PREFIX, ROUTE_PATH_EXACT, ROUTE_PATH_REGEX };
struct kobj_route_match {
    // HTTPRoute
    uint8_t path_type; // enum kobj_route_path; a prefix is one of whole segments
    const char *path; // "/" when absent
    const char *method; // GRPCRoute: of its service; "" = any
    const struct kobj_named_match *headers, *query_params; // exact or regex; the first of a name
    uint32_t n_headers, n_query_params;
    // GRPCRoute
    uint8_t grpc_type; // enum kobj_match: EXACT (also when absent) or REGEX
    const char *grpc_service; // "" = any
    struct kobj_pos pos;
};
struct kobj_gw_retry {
    const uint32_t *codes;
    uint32_t n_codes;
    int32_t attempts; // -1 = absent
    int64_t backoff_ms;
};
struct kobj_route_rule {
    const char *name;
    const struct kobj_route_match *matches; // OR; none: everything
    const struct kobj_route_filter *filters;
    const struct kobj_backend *backends;
    uint32_t n_matches, n_filters, n_backends;
    int64_t request_timeout_ms, backend_timeout_ms; // 0 = off
    const struct kobj_gw_retry *retry;
    struct kobj_pos pos;
};
struct kobj_route { // of KOBJ_HTTP_ROUTE and KOBJ_GRPC_ROUTE
    const struct kobj_parent_ref *parents;
    const char *const *hostnames;
    const struct kobj_route_rule *rules;
    uint32_t n_parents, n_hostnames, n_rules;
};

// ReferenceGrant

struct kobj_grant_from {
    const char *group, *kind, *ns;
};
struct kobj_grant_to {
    const char *group, *kind, *name; // name "" = all
};
struct kobj_reference_grant {
    const struct kobj_grant_from *from;
    const struct kobj_grant_to *to;
    uint32_t n_from, n_to;
};
