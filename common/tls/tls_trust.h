// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: a trust bundle with its CRLs, parsed once and shared by all identities that
// have the same one. Immutable, atomically reference counted.
#pragma once

#include <openssl/x509.h>

#include "common/tls/tls_hash.h"

enum { TLS_ROOTS_MAX = 512, TLS_CRLS_MAX = 64 }; // a system's bundle has about 150 roots

struct tls_trust;

// A reference for the caller. NULL with a heap-allocated reason in *ret_error. crl: PEM list or one
// DER, may be empty.
struct tls_trust *tls_trust_get(struct slice roots_pem, struct slice crl, char **ret_error);
void tls_trust_unref(struct tls_trust *trust);

// SHA-256 over bundle and CRLs: part of the verified-chain cache's key.
struct slice tls_trust_hash(const struct tls_trust *trust);
X509_STORE *tls_trust_store(const struct tls_trust *trust);
size_t tls_trust_n_roots(const struct tls_trust *trust);
X509 *tls_trust_root(const struct tls_trust *trust, size_t i); // borrowed
// Is `cert`, issued by `issuer`, on a CRL that `issuer` signed? CRLs that are not there or are past
// their nextUpdate do not refuse anyone (as ztunnel).
bool tls_trust_is_revoked(const struct tls_trust *trust, X509 *cert, X509 *issuer);
