// SPDX-License-Identifier: Apache-2.0
//
// What is to be done with a request: the result of matching (l7_routes.h), as compiled from one
// rule of a VirtualService, HTTPRoute or GRPCRoute. Immutable, and valid as long as the table that
// it came from.
//
// Hosts are full names. Texts end in NUL and are "" when absent; durations are milliseconds.
#pragma once

#include "common/l7/l7_regex.h"
#include "common/l7/l7_source.h"
#include "common/l7/l7_template.h"
#include "common/mesh/model.h"

enum { L7_PPM = 1000000 }; // probabilities are in parts of this

enum l7_header_action { L7_HEADER_REMOVE, L7_HEADER_SET, L7_HEADER_ADD };
struct l7_header_op {
    uint8_t action; // enum l7_header_action
    struct slice name; // lower case
    const struct l7_template *value; // SET, ADD
};
struct l7_header_ops { // in the order in which they are done
    const struct l7_header_op *items;
    uint32_t n;
};
struct l7_headers { // of a route or a destination
    struct l7_header_ops request, response;
    const char *authority; // the request's new one, "" = none
};

// A destination. Which service it is, and whether it has the subset, is looked up when it is used:
// no such service or subset, the request ends with no_cluster_status (NC).
struct l7_cluster {
    const char *host; // "" = the service that was called
    const char *subset; // "" = all of its endpoints
    uint16_t port; // 0: see l7_cluster_port
    uint16_t no_cluster_status; // 503; 500 of the Gateway API
    bool is_invalid; // the reference means nothing: no_cluster_status without a look-up
    uint32_t weight;
    struct l7_headers headers;
};

struct l7_mirror {
    struct l7_cluster cluster;
    uint32_t ppm;
};

// How the path changes. PREFIX and SEGMENTS need what the request matched (l7_route.match_len).
enum l7_path_change {
    L7_PATH_KEEP,
    L7_PATH_FULL, // is replaced
    L7_PATH_PREFIX, // what the rule matched is replaced
    L7_PATH_SEGMENTS, // the same with whole segments: no '/' is lost or doubled
    L7_PATH_REGEX, // each match is replaced
};
struct l7_path_op {
    uint8_t change; // enum l7_path_change
    struct slice text; // the replacement
    const struct l7_regex *regex;
};

struct l7_redirect {
    uint16_t status;
    const char *scheme, *authority; // "" = the request's
    struct l7_path_op path;
    // The port of the location: `port` when it is not 0, the listener's, or that of the authority.
    uint16_t port;
    bool uses_request_port;
    bool strips_port; // with port 0: no port at all, not even that of the request's authority
};

struct l7_direct {
    uint16_t status;
    struct slice body;
};

struct l7_fault {
    uint32_t delay_ppm, abort_ppm;
    uint64_t delay_ms;
    uint16_t status; // 0: grpc_status
    uint8_t grpc_status;
};

enum { L7_RETRY_CODES_MAX = 64 };
struct l7_retry_policy {
    uint32_t on; // L7_RETRY_ON_... of l7_retry.h
    uint32_t attempts; // further tries; 0 = none
    uint64_t per_try_timeout_ms; // 0 = none
    uint64_t base_ms, max_ms; // back-off
    const uint16_t *codes; // of L7_RETRY_ON_STATUS_CODES
    uint16_t n_codes;
    bool avoids_tried_hosts; // not with hash load balancing unless it was asked for
    bool is_avoiding_set; // retryIgnorePreviousHosts was written
    bool leaves_locality; // other priorities once two were tried
};

enum l7_cors_kind { L7_CORS_EXACT, L7_CORS_PREFIX, L7_CORS_REGEX, L7_CORS_ANY };
struct l7_cors_origin {
    uint8_t kind; // enum l7_cors_kind
    struct slice text;
    const struct l7_regex *regex;
};
struct l7_cors {
    const struct l7_cors_origin *origins;
    uint32_t n_origins;
    struct slice allow_methods, allow_headers, expose_headers, max_age; // as sent; empty = not sent
    bool allow_credentials;
    bool ignores_unmatched; // a preflight of another origin is answered here, without permission
};

enum l7_action { L7_FORWARD, L7_REDIRECT, L7_DIRECT };
struct l7_route {
    const char *name; // ROUTE_NAME
    const struct l7_source *source; // NULL: the default route
    struct kobj_pos pos; // of the rule
    uint8_t action; // enum l7_action
    bool is_default;

    // FORWARD
    const struct l7_cluster *clusters;
    uint32_t n_clusters;
    uint64_t weight_sum;
    struct l7_path_op path;
    uint64_t timeout_ms; // 0 = none
    struct l7_retry_policy retry;
    const struct l7_mirror *mirrors;
    uint32_t n_mirrors;

    const struct l7_redirect *redirect; // REDIRECT
    const struct l7_direct *direct; // DIRECT

    // All
    struct l7_headers headers;
    const struct l7_fault *fault; // NULL = none
    const struct l7_cors *cors; // NULL = none
};

// Draws one of the destinations by weight. FORWARD only.
struct rand;
const struct l7_cluster *l7_route_cluster(const struct l7_route *route, struct rand *rand);
// The port of the destination's service: the one that the rule names, its only one, or the port
// that was called.
uint16_t l7_cluster_port(const struct l7_cluster *cluster, const struct service *service,
                         uint16_t called_port);
