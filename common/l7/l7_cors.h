// SPDX-License-Identifier: Apache-2.0
//
// Cross-origin requests (the Fetch standard's CORS protocol) under a route's policy, as Envoy's
// filter has it. Who asks: behind authorization, before the upstream. Pure; any thread.
#pragma once

#include "common/l7/l7_fields.h"
#include "common/l7/l7_route.h"

enum l7_cors_verdict {
    L7_CORS_NONE, // nothing to do: no policy, no origin, or one that is not allowed
    L7_CORS_ACTUAL, // goes on; l7_cors_response adds the permission to its response
    L7_CORS_PREFLIGHT, // is answered here with 200 and the permission (l7_cors_preflight)
    L7_CORS_REFUSED, // a preflight that is answered here with 200 and no permission
};
// `cors` NULL: no policy.
enum l7_cors_verdict l7_cors_check(const struct l7_cors *cors, const struct http_head *request);
// Sets the fields of the answer to a preflight / of a response. `origin` is the request's.
void l7_cors_preflight(const struct l7_cors *cors, const struct http_head *request,
                       struct l7_fields *fields);
void l7_cors_response(const struct l7_cors *cors, const struct http_head *request,
                      struct l7_fields *fields);
