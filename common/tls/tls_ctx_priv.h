// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: the body of tls_ctx.
#pragma once

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "common/tls/tls_ctx.h"
#include "common/tls/tls_trust.h"

struct tls_ctx {
    atomic_uint refs;
    SSL_CTX *ssl; // for both roles
    struct tls_trust *trust;
    uint64_t crl_generation;
    uint64_t generation;
    char *identity;
    char *trust_domain;
    char **aliases; // further accepted ones
    size_t n_aliases;
    int64_t not_before, not_after;
    enum tls_compliance compliance;
    bool is_outside, skips_verify; // tls_ctx_new_outside
    // Client key shares, see tls_shares.c: the group that a server chose last instead of the first,
    // and for how many more hellos to unknown servers a share for it is sent along.
    atomic_uint_fast16_t second_group;
    atomic_int second_group_left;
};

// tls_handshake.c: the callbacks that tie an SSL_CTX to the handshake object.
void tls_handshake_set_callbacks(SSL_CTX *ssl, bool is_outside);
