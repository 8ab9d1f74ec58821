// SPDX-License-Identifier: Apache-2.0
//
// The built-in certificate authority, for one machine or a lab: makes a root, or takes the four
// texts of Istio's plug-in CA secret, and signs workload certificates.
//
// Pure: files, locks and modes are the caller's, and so is the time. A tls_ca is immutable; several
// threads may sign with it at once.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"

enum {
    TLS_CA_BACKDATE_S = 120, // notBefore lies this far back, for clocks that differ
    TLS_CA_ROOT_DAYS = 3650,
};

// A new self-signed root: ECDSA P-256, 10 years, subject O=`org` ("cluster.local" when it is not 1
// to 64 characters of UTF-8). Heap-allocated PEM texts; free the key's with tls_key_pem_free.
void tls_ca_make_root(struct slice org, int64_t now_s, char **ret_cert_pem, char **ret_key_pem);
// A new intermediate below the CA of the given certificate and key: ECDSA P-256. False with a
// reason when those are bad.
MUST_USE bool tls_ca_make_intermediate(struct slice ca_cert_pem, struct slice ca_key_pem,
                                       struct slice org, int64_t now_s, int64_t ttl_s,
                                       char **ret_cert_pem, char **ret_key_pem, char **ret_error);

struct tls_ca_params { // the names of Istio's plug-in CA secret
    struct slice ca_cert_pem; // ca-cert.pem: the signing certificate
    struct slice ca_key_pem; // ca-key.pem: RSA or EC
    struct slice root_cert_pem; // root-cert.pem: trust bundle; empty: ca-cert.pem
    struct slice cert_chain_pem; // cert-chain.pem: intermediates up to the root; may be empty
    int64_t now_s;
};

struct tls_ca;

// NULL with a heap-allocated reason when a text is bad, key and certificate do not match, the
// certificate is no CA or outside of its validity, or it does not chain to the roots.
struct tls_ca *tls_ca_new(const struct tls_ca_params *params, char **ret_error);
void tls_ca_free(struct tls_ca *ca); // NULL ok

struct tls_svid { // all heap-allocated
    char *cert_chain_pem; // leaf, then intermediates, without the root
    char *key_pem; // PKCS#8, P-256
    char *roots_pem; // trust bundle
    int64_t not_before, not_after;
};

// Signs a certificate for a fresh key: the SPIFFE URI as critical SAN, empty subject, key usage and
// extended key usage as Istio's, random serial. It never outlives the CA's own certificate. False
// with a reason when the id is malformed or the CA's certificate has expired.
MUST_USE bool tls_ca_sign(const struct tls_ca *ca, struct slice spiffe_id, int64_t now_s,
                          int64_t ttl_s, struct tls_svid *ret_svid, char **ret_error);
void tls_svid_fini(struct tls_svid *svid); // wipes the key

int64_t tls_ca_not_after(const struct tls_ca *ca); // earliest of signing certificate and its chain
const char *tls_ca_roots_pem(const struct tls_ca *ca);
// A CRL of this CA over the given serial numbers (hexadecimal texts), valid for ttl_s. Heap PEM;
// NULL when a number is malformed.
char *tls_ca_make_crl(const struct tls_ca *ca, const struct slice *serials_hex, size_t n,
                      int64_t now_s, int64_t ttl_s);
