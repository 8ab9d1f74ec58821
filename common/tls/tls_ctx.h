// SPDX-License-Identifier: Apache-2.0
//
// TLS identities and trust: what a handshake needs, built once and shared by all threads.
//
// A tls_ctx is immutable and atomically reference counted: own certificate chain and key, trust
// bundle, CRLs, policy. The control thread builds a new one at rotation; running tunnels keep the
// old one. Peer verification (chain, validity, SPIFFE URI SAN, trust domain, CRL) is ours on top of
// BoringSSL's X.509, with a process-wide cache of verified chains.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/tls/tls_record.h"

enum tls_compliance { // ztunnel's COMPLIANCE_POLICY
    TLS_COMPLIANCE_DEFAULT, // X25519MLKEM768, X25519, P-256; AES-128-GCM, AES-256-GCM
    TLS_COMPLIANCE_FIPS, // "fips-140-2": P-256, P-384; AES-GCM
    TLS_COMPLIANCE_PQC, // "pqc": only X25519MLKEM768
};

struct tls_ctx_params {
    struct slice cert_chain_pem; // leaf first, intermediates
    struct slice key_pem; // wiped from our copies after use
    struct slice roots_pem; // trust bundle; several certificates
    struct slice crl_pem; // PEM list or DER, may be empty
    uint64_t crl_generation; // part of the verified-chain cache key
    // Own; empty: that of the own identity. A server's clients must be of it, or of an alias; a
    // server's name may have an alias in its place.
    struct slice trust_domain;
    const struct slice *trust_domain_aliases;
    size_t n_trust_domain_aliases;
    enum tls_compliance compliance;
    bool prefer_aes_256; // measurements against peers that use it
};

struct tls_ctx;

// Refuses everything but TLS 1.3 with AES-GCM and ALPN "h2"; no SNI, tickets or resumption.
//
// NULL with a heap-allocated reason in *ret_error (caller frees) when PEM is bad, key and
// certificate do not match, not exactly one SPIFFE URI, or the bundle is empty.
struct tls_ctx *tls_ctx_new(const struct tls_ctx_params *params, char **ret_error);
// Identities that have the same bundle and CRLs share one parsed copy.
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx *ctx);

// For connections to servers outside of the mesh (tls_handshake_new_outside): no SPIFFE, names of
// the server instead, and a client certificate only where one is asked for.
struct tls_outside_params {
    struct slice cert_chain_pem, key_pem; // both empty: no client certificate
    struct slice roots_pem; // may be empty with skips_verify
    struct slice crl_pem; // PEM list or DER, may be empty
    bool skips_verify; // whoever answers is taken
    enum tls_compliance compliance;
};
// NULL with a heap-allocated reason. It has no identity and no validity of its own: of the
// functions below only tls_ctx_generation is for it.
struct tls_ctx *tls_ctx_new_outside(const struct tls_outside_params *params, char **ret_error);

struct slice tls_ctx_identity(const struct tls_ctx *ctx); // "spiffe://td/ns/x/sa/y"
int64_t tls_ctx_not_before(const struct tls_ctx *ctx); // Unix seconds, of the leaf
int64_t tls_ctx_not_after(const struct tls_ctx *ctx); // earliest of the chain
struct slice tls_ctx_trust_domain(const struct tls_ctx *ctx);
uint64_t tls_ctx_generation(const struct tls_ctx *ctx); // process-unique, for pool keys
