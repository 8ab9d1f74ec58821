// SPDX-License-Identifier: Apache-2.0
//
// The route table of one service: compiled from the HTTPRoutes and GRPCRoutes of the Gateway API
// (in that API's order of precedence) and, behind them, from VirtualServices (in their own order).
// A request gets the first rule that matches. Cost: one look-up of the path among all exact and
// prefix rules, expressions in sets; not in proportion to the rules.
//
// A table is a leaf of a snapshot (builder_l7.h): compiled on the control thread, then immutable;
// any thread matches.
#pragma once

#include "common/l7/l7_route.h"
#include "common/mesh/builder_l7.h"
#include "common/proto/http_msg.h"

struct l7_routes;

// What is matched. Borrowed.
struct l7_request {
    const struct http_head *head; // names in lower case
    struct slice path; // without query and fragment
    struct slice query; // behind '?', without it
    struct slice scheme; // x-forwarded-proto, or the request's
    uint16_t port; // of the service that was called
    const char *gateway; // "ns/name" that it came through; NULL: the mesh
    const struct workload *source; // the client; NULL: not known
};
void l7_request_init(struct l7_request *request, const struct http_head *head, uint16_t port,
                     const struct workload *source);
// The first query parameter of that name, as written; false: none.
bool l7_request_query(const struct l7_request *request, struct slice name, struct slice *ret_value);

struct l7_match {
    const struct l7_route *route; // NULL: no rule matches (404, NR)
    uint32_t match_len; // bytes of the path that its exact or prefix condition matched, else all
};

// Why a rule was passed over: L7_MISS_..., texts in l7_miss.def.
enum l7_miss {
#define L7_MISS(name, text) L7_MISS_##name,
#include "common/l7/l7_miss.def"
#undef L7_MISS
};
const char *l7_miss_text(enum l7_miss miss);
// How the condition that decided compares.
enum l7_trace_how {
    L7_HOW_PRESENT,
    L7_HOW_EXACT,
    L7_HOW_PREFIX,
    L7_HOW_SEGMENTS, // prefix of whole path segments
    L7_HOW_REGEX,
};
struct l7_trace_step {
    const struct l7_route *route;
    struct kobj_pos pos; // of the match; of the rule when it has none
    uint8_t miss; // enum l7_miss; NONE: this one matched, and is the last
    uint8_t how; // enum l7_trace_how; PATH and later
    uint16_t port; // PORT: the one that it is for
    const char *name; // of the header, query parameter or label that decided; ""
    const char *want; // its condition, the text of the rule; ""
};
struct l7_trace { // the first `cap` steps are kept; n counts all
    struct l7_trace_step *steps;
    size_t cap, n;
};

// `routes` NULL: the default route. When all rules are for other ports, gateways or clients, the
// default route too. `trace` (NULL ok) asks for each rule in turn: for explain, not for traffic.
void l7_routes_match(const struct l7_routes *routes, const struct l7_request *request,
                     struct l7_trace *trace, struct l7_match *ret_match);

// A connection that is carried as bytes: rules `tls` and `tcp` of VirtualServices. Borrowed.
struct l7_flow {
    const struct addr *client, *called;
    uint16_t port; // of the service that was called
    uint8_t protocol; // enum app_protocol of that port
    const struct workload *source; // the client; NULL: not known
    struct slice name; // SNI, in lower case; empty: no TLS, or no SNI
};
// The first rule that matches; else the default route.
const struct l7_route *l7_routes_match_flow(const struct l7_routes *routes,
                                            const struct l7_flow *flow);
// SNI counts: there are `tls` rules.
bool l7_routes_has_names(const struct l7_routes *routes);

// The default route: to the service itself, with the default retries.
const struct l7_route *l7_routes_default(void);
// The same with what MeshConfig says of retries. `routes` may be NULL.
const struct l7_route *l7_routes_fallback(const struct l7_routes *routes);

// builder_l7_ops.routes: NULL when nothing concerns the service.
struct leaf *l7_routes_compile(void *arg, const struct builder_l7_input *in);
static inline const struct l7_routes *l7_routes_of_leaf(const struct leaf *leaf) {
    return (const struct l7_routes *)leaf;
}
size_t l7_routes_count(const struct l7_routes *routes); // rules, each of their matches counted
// Rule by rule in order of precedence, for dumps.
const struct l7_route *l7_routes_at(const struct l7_routes *routes, size_t index);
struct kobj_pos l7_routes_pos_at(const struct l7_routes *routes, size_t index); // of its match
// What it matches, appended: "/api*, method POST, header x-user prefix a".
void l7_routes_match_text(const struct l7_routes *routes, size_t index, struct buf *out);
