// SPDX-License-Identifier: Apache-2.0
//
// SPIFFE identities in the one form that the mesh uses: spiffe://TRUST_DOMAIN/ns/NS/sa/SA.
//
// Strict by intent, since policy compares these texts: lower-case scheme, no query, port, user or
// percent-encoding, exactly these five path segments, only the characters that the SPIFFE-ID
// standard (section 2) allows. Two equal identities therefore always have equal texts.
// Thread: any. Slices are borrowed from the parsed text; nothing is copied.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"

enum {
    SPIFFE_TRUST_DOMAIN_MAX = 255, // SPIFFE-ID 2.1
    SPIFFE_NS_MAX = 63, // a Kubernetes namespace is a DNS label
    SPIFFE_SA_MAX = 253, // and a service account a DNS subdomain
    SPIFFE_TEXT_MAX = 9 + 255 + 4 + 63 + 4 + 253 + 1, // with NUL
};

struct spiffe_id {
    struct slice trust_domain, ns, sa;
};

// False, output untouched, for anything else than the form above.
MUST_USE bool spiffe_parse(struct slice uri, struct spiffe_id *ret_id);
// Writes the NUL-terminated text; *ret_text is a slice of buf. False when a part is not valid.
MUST_USE bool spiffe_format(const struct spiffe_id *id, char buf[SPIFFE_TEXT_MAX],
                            struct slice *ret_text);
bool spiffe_eq(const struct spiffe_id *a, const struct spiffe_id *b);

// Letters a-z, digits, '.', '-', '_'; 1 to 255 bytes.
bool spiffe_trust_domain_is_valid(struct slice trust_domain);
// Letters, digits, '.', '-', '_'; not "." or ".."; 1 to max bytes.
bool spiffe_segment_is_valid(struct slice segment, size_t max);
