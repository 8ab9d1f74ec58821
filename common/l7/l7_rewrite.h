// SPDX-License-Identifier: Apache-2.0
//
// What a route changes of a request and its response: path, authority, fields; and where a redirect
// leads. The order is Envoy's and istiod's: of each level the removals, then `set`, then `add`;
// the route's level, then the destination's, which sees what the route did. For the authority it is
// the other way round: the route's wins.
//
// Results are in the arena, borrowed from the request, or configuration. Pure; any thread.
#pragma once

#include "common/l7/l7_fields.h"
#include "common/l7/l7_routes.h"

enum { L7_PATH_MAX = 64 << 10 }; // bytes of a path that is made

// `path` is with the query, which stays. False: not changed (the operation does nothing, or the
// result is longer than L7_PATH_MAX or the arena's room).
bool l7_rewrite_path(const struct l7_path_op *op, uint32_t match_len, struct slice path,
                     struct arena *arena, struct slice *ret_path);

// The whole request towards a destination. `fields` starts as the request's; gets
// x-envoy-original-path when the path changes.
struct l7_rewritten {
    struct slice path, authority;
};
void l7_rewrite_request(const struct l7_match *match, const struct l7_cluster *cluster,
                        const struct l7_request *request, const struct l7_vars *vars,
                        struct l7_fields *fields, struct l7_rewritten *ret);
// `cluster` NULL: there is none (a local answer).
void l7_rewrite_response(const struct l7_route *route, const struct l7_cluster *cluster,
                         const struct l7_vars *vars, struct l7_fields *fields);
void l7_rewrite_fields(const struct l7_header_ops *ops, const struct l7_vars *vars,
                       struct l7_fields *fields);

// The location of a REDIRECT: scheme, authority, port and path with the query, each the request's
// unless the route has its own. Empty: the arena has no room.
struct slice l7_rewrite_location(const struct l7_match *match, const struct l7_request *request,
                                 struct arena *arena);
// The authority of a mirrored request: "-shadow" behind the host, before a port.
struct slice l7_rewrite_shadow(struct slice authority, struct arena *arena);
