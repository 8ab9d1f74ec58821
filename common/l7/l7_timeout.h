// SPDX-License-Identifier: Apache-2.0
//
// How long a request may take: the route's timeout, the client's grpc-timeout (up to the route's),
// and x-envoy-upstream-rq-timeout-ms and -rq-per-try-timeout-ms, which override. Pure; any thread.
#pragma once

#include "common/l7/l7_fields.h"
#include "common/l7/l7_route.h"

struct l7_timeouts { // 0 = none
    uint64_t total_ms; // of the whole exchange, from the end of the request
    uint64_t per_try_ms; // of each try; always less than total_ms
    bool answers_204; // a timeout is answered with 204 (x-envoy-upstream-rq-timeout-alt-response)
};
struct l7_timeouts l7_timeout_of(const struct l7_route *route, const struct http_head *request,
                                 bool is_grpc);
// What the upstream is told: x-envoy-expected-rq-timeout-ms, and of gRPC grpc-timeout; that of one
// try, else the total; nothing without.
void l7_timeout_announce(const struct l7_timeouts *timeouts, bool is_grpc,
                         struct l7_fields *fields);
// Takes out the fields that are for this proxy: x-envoy-upstream-rq-*, x-envoy-max-retries,
// -retry-on and so on.
void l7_timeout_consume(struct l7_fields *fields);
