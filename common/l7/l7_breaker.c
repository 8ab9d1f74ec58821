// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_breaker.h"

bool l7_breaker_take(struct l7_breaker *breaker, enum l7_breaker_kind kind, uint32_t limit) {
    atomic_uint *count = &breaker->counts[kind];
    if (limit == L7_NO_LIMIT) {
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
        return true;
    }
    unsigned n = atomic_load_explicit(count, memory_order_relaxed);
    do {
        if (n >= limit) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(count, &n, n + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void l7_breaker_give(struct l7_breaker *breaker, enum l7_breaker_kind kind) {
    unsigned before = atomic_fetch_sub_explicit(&breaker->counts[kind], 1, memory_order_relaxed);
    CHECK(before > 0);
}

static uint32_t slot_number(const struct l7_retry_budget *budget, uint64_t now_ms) {
    return (uint32_t)(now_ms * L7_BREAKER_SLOTS / budget->interval_ms);
}

void l7_breaker_ended(struct l7_breaker *breaker, const struct l7_retry_budget *budget,
                      uint64_t now_ms) {
    if (!budget->is_on || budget->interval_ms == 0) {
        return;
    }
    uint32_t number = slot_number(budget, now_ms);
    atomic_uint_fast64_t *slot = &breaker->ended[number % L7_BREAKER_SLOTS];
    uint64_t old = atomic_load_explicit(slot, memory_order_relaxed), next;
    do { // one of an earlier round begins anew
        next = (uint32_t)(old >> 32) == number ? old + 1 : (uint64_t)number << 32 | 1;
    } while (!atomic_compare_exchange_weak_explicit(slot, &old, next, memory_order_relaxed,
                                                    memory_order_relaxed));
}

static uint64_t count_ended(const struct l7_breaker *breaker, const struct l7_retry_budget *budget,
                            uint64_t now_ms) {
    uint64_t n = 0;
    if (budget->interval_ms == 0) {
        return 0;
    }
    uint32_t now = slot_number(budget, now_ms);
    for (size_t i = 0; i < L7_BREAKER_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&breaker->ended[i], memory_order_relaxed);
        if (now - (uint32_t)(slot >> 32) < L7_BREAKER_SLOTS) {
            n += (uint32_t)slot;
        }
    }
    return n;
}

uint32_t l7_breaker_limit(const struct l7_breaker *breaker, enum l7_breaker_kind kind,
                          const struct l7_settings *settings, uint64_t now_ms) {
    const struct l7_pool_policy *pool = &settings->pool;
    const struct l7_retry_budget *budget = &settings->budget;
    switch (kind) {
    case L7_BREAKER_CONNECTIONS:
        return pool->max_connections;
    case L7_BREAKER_PENDING:
        return pool->max_pending;
    case L7_BREAKER_REQUESTS:
        return pool->max_requests;
    default:
        break;
    }
    if (!budget->is_on) {
        return pool->max_retries;
    }
    uint64_t n_now = (uint64_t)l7_breaker_count(breaker, L7_BREAKER_REQUESTS) +
                     l7_breaker_count(breaker, L7_BREAKER_PENDING) +
                     count_ended(breaker, budget, now_ms);
    uint64_t share = n_now * budget->ppm / KOBJ_PPM;
    return (uint32_t)MIN(MAX(share, budget->min_concurrency), (uint64_t)L7_NO_LIMIT - 1);
}
