// SPDX-License-Identifier: Apache-2.0
//
// Circuit breakers: how much of a cluster the whole process uses at a time. Counters are exact with
// any number of workers, so that a limit of 1 is 1. Who takes one gives it back.
//
// Thread: any.
#pragma once

#include <stdatomic.h>

#include "common/l7/l7_policy.h"

enum l7_breaker_kind {
    L7_BREAKER_CONNECTIONS,
    L7_BREAKER_PENDING, // requests that wait for a connection
    L7_BREAKER_REQUESTS, // requests that are under way
    L7_BREAKER_RETRIES, // of them, further tries
    L7_N_BREAKERS,
};

enum { L7_BREAKER_SLOTS = 8 };
struct l7_breaker { // of one cluster
    atomic_uint counts[L7_N_BREAKERS];
    // Requests that ended, for a retry budget with an interval: of each eighth of it, by its
    // number, how many (in the lower half).
    atomic_uint_fast64_t ended[L7_BREAKER_SLOTS];
};

static inline uint32_t l7_breaker_count(const struct l7_breaker *breaker,
                                        enum l7_breaker_kind kind) {
    return atomic_load_explicit(&breaker->counts[kind], memory_order_relaxed);
}
// False: `limit` are taken (L7_NO_LIMIT: never).
bool l7_breaker_take(struct l7_breaker *breaker, enum l7_breaker_kind kind, uint32_t limit)
    MUST_USE;
void l7_breaker_give(struct l7_breaker *breaker, enum l7_breaker_kind kind);

// A request has ended: counts for as long as the budget's interval. Nothing when it has none.
void l7_breaker_ended(struct l7_breaker *breaker, const struct l7_retry_budget *budget,
                      uint64_t now_ms);
// The limit of a kind; of retries, a budget's share of what is under way, waits, or ended within
// its interval (to an eighth of it).
uint32_t l7_breaker_limit(const struct l7_breaker *breaker, enum l7_breaker_kind kind,
                          const struct l7_settings *settings, uint64_t now_ms);
