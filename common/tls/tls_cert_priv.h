// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: certificates as BoringSSL's objects.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "common/base/slice.h"

// The SPIFFE URI of a certificate that has exactly one URI among its names, as X509-SVID section 2
// wants it; names of other kinds do not matter. Heap-allocated; NULL: none.
char *tls_cert_identity(X509 *cert);
EVP_PKEY *tls_key_new(void); // P-256
GENERAL_NAMES *tls_uri_names(struct slice uri); // a list of one URI
