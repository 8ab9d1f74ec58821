// SPDX-License-Identifier: Apache-2.0
//
// Certificates as data: what admin dumps show, fresh keys, and signing requests for istiod's CA.
// Pure: no files, no clock. Thread: any.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"

struct tls_cert_info {
    char *identity; // its only URI, a SPIFFE one; "" when it has none or more
    char *subject; // "CN=x,O=y" (RFC 2253); may be ""
    char *issuer;
    char *serial; // decimal
    char *serial_hex; // lower case, no leading zeros
    int64_t not_before, not_after; // Unix seconds
    bool is_ca;
    uint8_t sha256[32]; // of the DER
    char *pem; // NUL-terminated, of this certificate alone
};

enum { TLS_CERT_LIST_MAX = 64 };

// Parses a PEM list of 1 to TLS_CERT_LIST_MAX certificates. Returns their number and sets
// *ret_infos (caller frees with tls_cert_infos_free); 0 with a heap-allocated reason in *ret_error.
MUST_USE size_t tls_cert_parse(struct slice pem, struct tls_cert_info **ret_infos,
                               char **ret_error);
void tls_cert_infos_free(struct tls_cert_info *infos, size_t n); // NULL ok
// Each certificate of a PEM list alone, re-encoded, in order, without duplicates; caller frees.
// NULL with a reason. For bundles that are put together from several sources.
char *tls_cert_normalize(struct slice pem, char **ret_error);

// A fresh ECDSA P-256 key as PKCS#8 PEM. The caller frees it with tls_key_pem_free, which wipes it.
char *tls_key_new_pem(void);
void tls_key_pem_free(char *pem); // NULL ok

// A certificate request in PEM as istiod takes it: empty subject, the SPIFFE URI as critical SAN,
// SHA-256. NULL with a reason when the key is bad or the id is not spiffe://TD/ns/NS/sa/SA.
char *tls_csr_new(struct slice key_pem, struct slice spiffe_id, char **ret_error);
