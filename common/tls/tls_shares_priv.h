// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: which key shares a client's hello brings, by what servers took before. Any
// thread. Never which groups it offers: those are the context's, so that a wrong guess costs a
// round trip (HelloRetryRequest, RFC 8446 4.1.4) and nothing else.
#pragma once

#include "common/tls/tls_ctx.h"

enum { TLS_SHARES_MAX = 2 };

struct tls_shares {
    size_t n; // 0: libssl's own choice
    uint16_t groups[TLS_SHARES_MAX]; // in the order of the context's groups
};

// `server`: hash of whom the hello is for, 0 = not known.
struct tls_shares tls_shares_choose(struct tls_ctx *ctx, uint64_t server, int64_t now_s);
// After the handshake: the group that the server, whom the context trusts, chose.
void tls_shares_note(struct tls_ctx *ctx, uint64_t server, int64_t now_s,
                     const struct tls_shares *sent, uint16_t group);
