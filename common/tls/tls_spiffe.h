// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: SPIFFE IDs of Istio's form, spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT, and
// nothing else (no query, fragment, port, user, empty or further segments).
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"

enum { TLS_SPIFFE_MAX = 2048 }; // SPIFFE-ID section 2.3

struct tls_spiffe { // borrows from the parsed text
    struct slice trust_domain, ns, sa;
};

MUST_USE bool tls_spiffe_parse(struct slice uri, struct tls_spiffe *ret_id);
