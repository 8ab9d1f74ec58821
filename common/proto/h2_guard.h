// SPDX-License-Identifier: Apache-2.0
//
// Budgets against peers that make us work for nothing. Each budget is a bucket of tokens that
// refills with time, and for some with useful work, so that no honest peer of any speed meets it.
//
//   resets         rapid reset (CVE-2023-44487): peer resets a request before it was answered
//   glitches       made-you-reset (CVE-2025-8671): peer provokes stream errors on our side
//   pings          PINGs that are not answers
//   settings       SETTINGS
//   empty_frames   frames without effect: empty DATA, PRIORITY, unknown types
//   windows        WINDOW_UPDATEs, beyond what the DATA that we sent explains (tiny windows)
//   continuations  CONTINUATION frames in one header block (a plain limit; CVE-2024-27316)
#pragma once

#include "common/base/check.h"
#include "common/proto/h2_conn.h"

enum h2_guard_kind {
    H2_GUARD_RESETS,
    H2_GUARD_GLITCHES,
    H2_GUARD_PINGS,
    H2_GUARD_SETTINGS,
    H2_GUARD_EMPTY,
    H2_GUARD_WINDOWS,
    H2_GUARD_COUNT,
};

struct h2_guard {
    uint64_t refilled_at;
    uint16_t tokens[H2_GUARD_COUNT];
    uint16_t caps[H2_GUARD_COUNT];
    uint16_t max_continuations;
};

void h2_guard_init(struct h2_guard *guard, const struct h2_guard_limits *limits, uint64_t now);
// Takes one token: H2_NO_ERROR, or the reason to end the connection.
MUST_USE enum h2_err h2_guard_take(struct h2_guard *guard, enum h2_guard_kind kind, uint64_t now);
// Useful work earns tokens: received payload (pings, empty frames), sent payload (windows).
void h2_guard_received(struct h2_guard *guard);
void h2_guard_sent(struct h2_guard *guard);
