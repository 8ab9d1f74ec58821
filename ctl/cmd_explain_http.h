// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl explain --request`: what a waypoint would do with a request, found with the code
// that it runs (common/l7) on a snapshot of the same configuration. What is drawn (destinations by
// weight, hosts) is drawn once from explain's seed; probabilities are told as they are.
//
// Health is that of the running waypoint where it can be asked (cmd_explain_live.h), else the
// configuration's; which one is said.
#pragma once

#include "common/base/arena.h"
#include "common/l7/l7_policy.h"
#include "common/l7/l7_routes.h"
#include "ctl/cmd_explain.h"

// ---- cmd_explain_request.c ---------------------------------------------------------------------

enum { EXPLAIN_HEADERS_MAX = 100 };

// A request as it was typed. Texts are in the arena.
struct explain_request {
    struct arena arena;
    struct http_head head; // names in lower case, path in normal form
    bool is_grpc;
};
// `text`: "METHOD PATH" or "PATH" (then GET); `headers`: "NAME: VALUE". Without a host among them
// the authority is `to`, without port 80. False: *ret_error says why, nothing to free.
MUST_USE bool explain_request_parse(const char *text, const char *const *headers, size_t n_headers,
                                    const char *to, struct explain_request *ret_request,
                                    char **ret_error);
void explain_request_fini(struct explain_request *request);

// ---- cmd_explain_http.c ------------------------------------------------------------------------

// Sets explain->out.http for a flow to `dst`; `route` NULL: the client is not captured.
void explain_http(struct explain *explain, const struct addr *dst, const struct route *route);

// "VirtualService ns/name", file, line and column of an object's part, as members of `object`.
void explain_put_source(json_t *object, const struct l7_source *source, struct kobj_pos pos);

// ---- cmd_explain_upstream.c --------------------------------------------------------------------

// Where a destination's requests go.
struct explain_upstream {
    const struct explain *explain;
    const struct l7_request *request; // as it goes on, for hashing
    const struct service *called;
    uint16_t called_port;
};
// Sets service, port, policy, levels and endpoints of a destination; or `missing`, why there is no
// such cluster, and returns false.
bool explain_destination(const struct explain_upstream *upstream, const struct l7_cluster *cluster,
                         json_t *out);

// ---- cmd_explain_http_text.c -------------------------------------------------------------------

void explain_print_http(const json_t *http, FILE *file);
