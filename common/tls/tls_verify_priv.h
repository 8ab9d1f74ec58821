// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: verification of a peer's chain, and the cache of verified ones.
#pragma once

#include <stdatomic.h>

#include "common/tls/tls_ctx.h"
#include "common/tls/tls_handshake.h"
#include "common/tls/tls_trust.h"
#include "common/tls/tls_verify.h"

enum { TLS_CHAIN_MAX = 8, TLS_DETAIL_MAX = 192 };

// One allocation: the struct, then the bytes that its slices point to.
struct tls_chain {
    atomic_uint refs;
    uint32_t size; // of the allocation
    int64_t not_before, not_after; // Unix seconds: latest and earliest of the verified chain
    uint8_t hash[TLS_SHA256_LEN]; // of the presented certificates
    bool is_server; // verified for this role
    struct slice san; // the SPIFFE URI of the leaf
    struct slice der; // presented certificates, each behind a 4-byte native length
};

void tls_chain_unref(struct tls_chain *chain);
static inline struct tls_chain *tls_chain_ref(struct tls_chain *chain) {
    atomic_fetch_add_explicit(&chain->refs, 1, memory_order_relaxed);
    return chain;
}

// A chain object of these certificates and the leaf's SPIFFE URI; its validity is to be set by the
// caller.
struct tls_chain *tls_chain_new(bool is_server, const struct slice *certs, size_t n_certs,
                                struct slice san);
// Sets everything in `peer` that comes from the chain, to which it takes over the reference.
void tls_chain_fill_peer(struct tls_chain *chain, struct tls_peer *ret_peer);

// Chain, validity, usage and CRLs, without the cache. The certificates and (TLS_OK) the verified
// path, both NULL or the caller's to free in any case.
MUST_USE enum tls_err tls_verify_path(struct tls_trust *trust, bool is_server,
                                      const struct slice *certs, size_t n_certs, int64_t now_s,
                                      STACK_OF(X509) * *ret_certs, STACK_OF(X509) * *ret_path,
                                      char *detail);

// Chain, validity, usage, CRLs; certs are DER, leaf first. On TLS_OK *ret_chain holds a reference
// for the caller; else *detail (TLS_DETAIL_MAX bytes) says more.
MUST_USE enum tls_err tls_verify_chain(struct tls_ctx *ctx, bool is_server,
                                       const struct slice *certs, size_t n_certs, int64_t now_s,
                                       struct tls_chain **ret_chain, char *detail);
// Is the peer who it should be: a server one of `expected`, or any of an accepted trust domain when
// there are none; a client any of an accepted trust domain.
MUST_USE enum tls_err tls_verify_identity(const struct tls_ctx *ctx, const struct tls_chain *chain,
                                          const struct slice *expected, size_t n_expected,
                                          char *detail);

// A server outside of the mesh: chain, validity, usage, CRLs, and (n_names > 0) one of the names
// among those of its certificate: host names, addresses, URIs, mail addresses.
// (tls_verify_outside.c)
MUST_USE enum tls_err tls_verify_outside(struct tls_trust *trust, const struct slice *certs,
                                         size_t n_certs, int64_t now_s, const struct slice *names,
                                         size_t n_names, char *detail);

// The cache (tls_cache.c). Lookup gives a reference, or NULL (also when now_s is outside of the
// chain's validity). Insert takes a reference of its own.
struct tls_chain *tls_cache_get(const uint8_t key[TLS_SHA256_LEN], int64_t now_s);
void tls_cache_put(const uint8_t key[TLS_SHA256_LEN], struct tls_chain *chain);
