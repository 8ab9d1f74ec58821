// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: PEM in and out, and texts for errors of our own inputs.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "common/base/check.h"
#include "common/base/slice.h"

enum { TLS_PEM_MAX = 512 * 1024 }; // bytes of one PEM text

// A list of 1 to `max` certificates. NULL with a heap-allocated reason that names `what`.
STACK_OF(X509) * tls_pem_certs(struct slice pem, size_t max, const char *what, char **ret_error);
// A private key (PKCS#8, EC or RSA; not encrypted). NULL with a reason.
EVP_PKEY *tls_pem_key(struct slice pem, char **ret_error);
// After a PEM reader returned NULL: true when it found no further PEM block, false when the block
// it found is malformed.
bool tls_pem_at_end(void);
// "what: reason of BoringSSL", heap-allocated; clears the error queue.
char *tls_error_text(const char *what);

// NUL-terminated PEM in fresh heap memory. The key's buffer is the caller's to wipe.
char *tls_pem_from_cert(X509 *cert);
char *tls_pem_from_key(EVP_PKEY *key);
char *tls_pem_from_csr(X509_REQ *csr);
char *tls_pem_from_crl(X509_CRL *crl);

int64_t tls_posix(const ASN1_TIME *time); // INT64_MIN when it cannot be read
