// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: verification of a peer's chain, and the cache of verified ones.
#pragma once

#include <stdatomic.h>

#include "common/tls/tls_ctx.h"
#include "common/tls/tls_handshake.h"
#include "common/tls/tls_trust.h"
#include "common/tls/tls_verify.h"

enum { TLS_CHAIN_MAX = 8, TLS_SANS_MAX = 8, TLS_DETAIL_MAX = 192 };

// One allocation: the struct, then the bytes that its slices point to.
struct tls_chain {
    atomic_uint refs;
    uint32_t size; // of the allocation
    int64_t not_before, not_after; // Unix seconds: latest and earliest of the verified chain
    uint8_t hash[TLS_SHA256_LEN]; // of the presented certificates
    bool is_server; // verified for this role
    size_t n_sans;
    struct slice sans[TLS_SANS_MAX]; // SPIFFE URIs of the leaf, in its order, at least one
    struct slice der; // presented certificates, each behind a 4-byte native length
};

void tls_chain_unref(struct tls_chain *chain);
static inline struct tls_chain *tls_chain_ref(struct tls_chain *chain) {
    atomic_fetch_add_explicit(&chain->refs, 1, memory_order_relaxed);
    return chain;
}

// A chain object of these texts and certificates; its validity is to be set by the caller.
struct tls_chain *tls_chain_new(bool is_server, const struct slice *certs, size_t n_certs,
                                const struct slice *sans, size_t n_sans);
// Sets everything in `peer` that comes from the chain, to which it takes over the reference.
void tls_chain_fill_peer(struct tls_chain *chain, struct slice identity, struct tls_peer *ret_peer);

// Chain, validity, usage, CRLs; certs are DER, leaf first. On TLS_OK *ret_chain holds a reference
// for the caller; else *detail (TLS_DETAIL_MAX bytes) says more.
MUST_USE enum tls_err tls_verify_chain(struct tls_ctx *ctx, bool is_server,
                                       const struct slice *certs, size_t n_certs, int64_t now_s,
                                       struct tls_chain **ret_chain, char *detail);
// The peer's identity: of a server one of `expected`, or any of our trust domain when there are
// none; of a client its first, which must be of our trust domain.
MUST_USE enum tls_err tls_verify_identity(const struct tls_ctx *ctx, const struct tls_chain *chain,
                                          const struct slice *expected, size_t n_expected,
                                          struct slice *ret_identity, char *detail);

// The cache (tls_cache.c). Lookup gives a reference, or NULL (also when now_s is outside of the
// chain's validity). Insert takes a reference of its own.
struct tls_chain *tls_cache_get(const uint8_t key[TLS_SHA256_LEN], int64_t now_s);
void tls_cache_put(const uint8_t key[TLS_SHA256_LEN], struct tls_chain *chain);
