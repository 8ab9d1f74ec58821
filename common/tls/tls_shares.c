// SPDX-License-Identifier: Apache-2.0
//
// A share of the hybrid group is a third of the client's arithmetic and 1.2 KB of its hello, a
// missing share is a round trip. Our own servers take the hybrid, so that its share alone is sent
// to whom nothing is known of. A server that chose another group gets the share of that one alone,
// for PROBE_S; then a hello brings both, for it may have been upgraded meanwhile, and many servers
// stay with the share that they see instead of asking for a better one.
#include "common/tls/tls_shares_priv.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "common/tls/tls_ctx_priv.h"

enum {
    N_SLOTS = 4096,
    PROBE_S = 600,
    SECOND_SHARE_N = 64, // hellos to unknown servers that bring two shares after one was refused
};

// A slot has the server that was noted last of all whose hash leads to it: 16 further bits of that
// hash, its group, and the low half of the second in which it last refused the hybrid's share. 0:
// nobody. Two servers taken for one cost each other a round trip now and then.
static atomic_uint_fast64_t slots[N_SLOTS];

static atomic_uint_fast64_t *slot_of(uint64_t server) {
    return &slots[server % N_SLOTS];
}

static uint64_t slot_make(uint64_t server, uint16_t group, int64_t now_s) {
    return (server >> 48) << 48 | (uint64_t)group << 32 | (uint32_t)now_s;
}

// False: nothing known.
static bool recall(uint64_t server, int64_t now_s, uint16_t *ret_group, bool *ret_is_due) {
    uint64_t slot = atomic_load_explicit(slot_of(server), memory_order_relaxed);
    if (server == 0 || slot == 0 || slot >> 48 != server >> 48) {
        return false;
    }
    *ret_group = (uint16_t)(slot >> 32);
    *ret_is_due = (uint32_t)now_s - (uint32_t)slot >= PROBE_S; // also when the clock was set back
    return true;
}

static void forget(uint64_t server) {
    atomic_uint_fast64_t *slot = slot_of(server);
    uint64_t old = atomic_load_explicit(slot, memory_order_relaxed);
    if (old != 0 && old >> 48 == server >> 48) {
        atomic_store_explicit(slot, 0, memory_order_relaxed);
    }
}

// The other policies have one sort of group; for servers of all kinds libssl sends a share of each
// sort.
static bool is_ours_to_choose(const struct tls_ctx *ctx) {
    return ctx->compliance == TLS_COMPLIANCE_DEFAULT && !ctx->is_outside;
}

struct tls_shares tls_shares_choose(struct tls_ctx *ctx, uint64_t server, int64_t now_s) {
    struct tls_shares shares = {.n = 0};
    uint16_t group;
    bool is_due;
    if (!is_ours_to_choose(ctx)) {
        return shares;
    }
    bool is_known = recall(server, now_s, &group, &is_due);
    if (!is_known || is_due) {
        shares.groups[shares.n++] = SSL_GROUP_X25519_MLKEM768;
    }
    if (is_known) {
        shares.groups[shares.n++] = group;
    } else if (atomic_load_explicit(&ctx->second_group_left, memory_order_relaxed) > 0) {
        atomic_fetch_sub_explicit(&ctx->second_group_left, 1, memory_order_relaxed);
        shares.groups[shares.n++] =
            (uint16_t)atomic_load_explicit(&ctx->second_group, memory_order_relaxed);
    }
    return shares;
}

void tls_shares_note(struct tls_ctx *ctx, uint64_t server, int64_t now_s,
                     const struct tls_shares *sent, uint16_t group) {
    if (!is_ours_to_choose(ctx)) {
        return;
    }
    if (group == SSL_GROUP_X25519_MLKEM768) {
        forget(server);
        return;
    }
    if (sent->groups[0] == group) {
        return; // it was not asked for the hybrid: when it last was stays
    }
    if (server != 0) {
        atomic_store_explicit(slot_of(server), slot_make(server, group, now_s),
                              memory_order_relaxed);
    }
    atomic_store_explicit(&ctx->second_group, group, memory_order_relaxed);
    atomic_store_explicit(&ctx->second_group_left, SECOND_SHARE_N, memory_order_relaxed);
}
