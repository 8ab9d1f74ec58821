// SPDX-License-Identifier: Apache-2.0
//
// Whether a request is tried again, and when. One struct l7_retry for each request, made of its
// route's policy and what the client says: x-envoy-max-retries, -retry-on, -retry-grpc-on,
// -retriable-status-codes and -retriable-header-names (they add to the policy's conditions; the
// caller takes them out of the request).
//
// That a retry is allowed does not mean that there is a retry left (l7_retry_take), a place for it
// (l7_breaker), or that the body could be kept; a response that has begun is never tried again.
// Thread: the request's.
#pragma once

#include "common/base/rand.h"
#include "common/l7/l7_route.h"
#include "common/proto/http_msg.h"

enum l7_retry_bit {
#define L7_RETRY_ON(name, text) L7_RETRY_BIT_##name,
#include "common/l7/l7_retry_on.def"
#undef L7_RETRY_ON
};
enum l7_retry_on {
#define L7_RETRY_ON(name, text) L7_RETRY_ON_##name = 1 << L7_RETRY_BIT_##name,
#include "common/l7/l7_retry_on.def"
#undef L7_RETRY_ON
    L7_RETRY_ON_DEFAULT = L7_RETRY_ON_CONNECT_FAILURE | L7_RETRY_ON_REFUSED_STREAM |
                          L7_RETRY_ON_GRPC_UNAVAILABLE | L7_RETRY_ON_GRPC_CANCELLED,
};
enum {
    L7_RETRY_ATTEMPTS = 2, // where nothing says how many
    L7_RETRY_BASE_MS = 25,
    L7_RETRY_MAX_FACTOR = 10, // longest back-off, in bases
    L7_RETRY_NAMES_MAX = 16,
};

enum l7_reset {
#define L7_RESET(name, text, flag, status) L7_RESET_##name,
#include "common/l7/l7_reset.def"
#undef L7_RESET
    L7_N_RESETS,
};
const char *l7_reset_text(enum l7_reset reset);

struct l7_retry_codes {
    uint16_t items[L7_RETRY_CODES_MAX];
    size_t n;
};
// "5xx,reset, 503": conditions and status codes, which imply L7_RETRY_ON_STATUS_CODES. Adds to both
// outputs. False: an item is neither (it is in *ret_unknown, the others are taken), or there are
// more than L7_RETRY_CODES_MAX codes (the item is the first one too many).
bool l7_retry_parse(struct slice text, uint32_t *on, struct l7_retry_codes *codes,
                    struct slice *ret_unknown);

// The policy where the configuration has none.
struct l7_retry_policy l7_retry_default(void);

struct l7_retry {
    const struct l7_retry_policy *policy;
    uint32_t on, n_left, n_done;
    struct l7_retry_codes codes;
    struct slice names[L7_RETRY_NAMES_MAX]; // of headers that make a response retriable
    size_t n_names;
};
// `request` is borrowed for the retry's life.
void l7_retry_init(struct l7_retry *retry, const struct l7_retry_policy *policy,
                   const struct http_head *request);
bool l7_retry_wants_response(const struct l7_retry *retry, const struct http_head *response);
// `has_begun`: some of the request may have reached the application. A timeout of one try is LOCAL.
bool l7_retry_wants_reset(const struct l7_retry *retry, enum l7_reset reset, bool has_begun);
// A further try goes to a host that was not tried, if there is one. `is_hashed`: the cluster has a
// ring or a Maglev table; then only where the route says so (retryIgnorePreviousHosts).
static inline bool l7_retry_avoids_tried(const struct l7_retry *retry, bool is_hashed) {
    return retry->policy->avoids_tried_hosts && (!is_hashed || retry->policy->is_avoiding_set);
}
// Counts one more try. False: none is left.
bool l7_retry_take(struct l7_retry *retry);
// Before try n (after l7_retry_take): even over [0, (2^n - 1) * base), capped at the policy's
// maximum.
uint64_t l7_retry_backoff_ms(const struct l7_retry *retry, struct rand *rand);
