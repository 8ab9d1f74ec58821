// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_guard.h"

#include "common/base/clock.h"

enum {
    MAX_CONTINUATIONS = 32,
    REFILL_PERIOD_MS = 100,
    EARN_PINGS = 1,
    EARN_EMPTY = 1,
    EARN_WINDOWS = 4, // stream and connection, from peers that answer every frame twice
};

static const struct {
    uint16_t cap;
    uint16_t refill; // tokens a second
    enum h2_err err;
} kinds[H2_GUARD_COUNT] = {
    [H2_GUARD_RESETS] = {1000, 100, H2_FLOOD_RESET},
    [H2_GUARD_GLITCHES] = {100, 10, H2_FLOOD_GLITCH},
    [H2_GUARD_PINGS] = {500, 100, H2_FLOOD_PING},
    [H2_GUARD_SETTINGS] = {100, 10, H2_FLOOD_SETTINGS},
    [H2_GUARD_EMPTY] = {1000, 100, H2_FLOOD_EMPTY},
    [H2_GUARD_WINDOWS] = {2000, 200, H2_FLOOD_WINDOW},
};

static uint16_t cap_or(uint32_t limit, uint16_t fallback) {
    return limit == 0 ? fallback : (uint16_t)MIN(limit, (uint32_t)UINT16_MAX);
}

void h2_guard_init(struct h2_guard *guard, const struct h2_guard_limits *limits, uint64_t now) {
    const uint32_t wanted[H2_GUARD_COUNT] = {
        [H2_GUARD_RESETS] = limits->resets,      [H2_GUARD_GLITCHES] = limits->glitches,
        [H2_GUARD_PINGS] = limits->pings,        [H2_GUARD_SETTINGS] = limits->settings,
        [H2_GUARD_EMPTY] = limits->empty_frames,
    };
    *guard = (struct h2_guard){
        .refilled_at = now,
        .max_continuations = cap_or(limits->continuations, MAX_CONTINUATIONS),
    };
    for (int i = 0; i < H2_GUARD_COUNT; i++) {
        guard->caps[i] = cap_or(wanted[i], kinds[i].cap);
        guard->tokens[i] = guard->caps[i];
    }
}

static void add(struct h2_guard *guard, enum h2_guard_kind kind, uint64_t n) {
    uint64_t tokens = guard->tokens[kind] + n;
    guard->tokens[kind] = (uint16_t)MIN(tokens, (uint64_t)guard->caps[kind]);
}

static void refill(struct h2_guard *guard, uint64_t now) {
    if (now < guard->refilled_at + REFILL_PERIOD_MS * NS_PER_MS) {
        return;
    }
    uint64_t n_periods = (now - guard->refilled_at) / (REFILL_PERIOD_MS * NS_PER_MS);
    guard->refilled_at += n_periods * REFILL_PERIOD_MS * NS_PER_MS;
    n_periods = MIN(n_periods, (uint64_t)UINT16_MAX);
    for (int i = 0; i < H2_GUARD_COUNT; i++) {
        // A smaller budget refills in proportion, but never stops doing so.
        uint64_t a_second = (uint64_t)kinds[i].refill * guard->caps[i] / kinds[i].cap;
        add(guard, (enum h2_guard_kind)i,
            n_periods * MAX(a_second * REFILL_PERIOD_MS / 1000, (uint64_t)1));
    }
}

enum h2_err h2_guard_take(struct h2_guard *guard, enum h2_guard_kind kind, uint64_t now) {
    refill(guard, now);
    if (guard->tokens[kind] == 0) {
        return kinds[kind].err;
    }
    guard->tokens[kind]--;
    return H2_NO_ERROR;
}

void h2_guard_received(struct h2_guard *guard) {
    add(guard, H2_GUARD_PINGS, EARN_PINGS);
    add(guard, H2_GUARD_EMPTY, EARN_EMPTY);
}

void h2_guard_sent(struct h2_guard *guard) {
    add(guard, H2_GUARD_WINDOWS, EARN_WINDOWS);
}
