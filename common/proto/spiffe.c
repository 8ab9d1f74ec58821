// SPDX-License-Identifier: Apache-2.0
#include "common/proto/spiffe.h"

static bool is_segment_char(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

bool spiffe_segment_is_valid(struct slice segment, size_t max) {
    if (segment.len == 0 || segment.len > max) {
        return false;
    }
    for (size_t i = 0; i < segment.len; i++) {
        if (!is_segment_char(segment.ptr[i])) {
            return false;
        }
    }
    // SPIFFE-ID 2.2: no relative path modifiers.
    return !slice_eq(segment, SLICE_LIT(".")) && !slice_eq(segment, SLICE_LIT(".."));
}

bool spiffe_trust_domain_is_valid(struct slice trust_domain) {
    if (trust_domain.len == 0 || trust_domain.len > SPIFFE_TRUST_DOMAIN_MAX) {
        return false;
    }
    for (size_t i = 0; i < trust_domain.len; i++) {
        uint8_t c = trust_domain.ptr[i];
        if (!is_segment_char(c) || (c >= 'A' && c <= 'Z')) {
            return false;
        }
    }
    return true;
}

static bool is_valid(const struct spiffe_id *id) {
    return spiffe_trust_domain_is_valid(id->trust_domain) &&
           spiffe_segment_is_valid(id->ns, SPIFFE_NS_MAX) &&
           spiffe_segment_is_valid(id->sa, SPIFFE_SA_MAX);
}

static bool take_prefix(struct slice *text, struct slice prefix) {
    if (!slice_has_prefix(*text, prefix)) {
        return false;
    }
    *text = slice_skip(*text, prefix.len);
    return true;
}

bool spiffe_parse(struct slice uri, struct spiffe_id *ret_id) {
    struct spiffe_id id;
    struct slice rest = uri;
    if (!take_prefix(&rest, SLICE_LIT("spiffe://")) ||
        !slice_split(rest, '/', &id.trust_domain, &rest) || !take_prefix(&rest, SLICE_LIT("ns/")) ||
        !slice_split(rest, '/', &id.ns, &rest) || !take_prefix(&rest, SLICE_LIT("sa/"))) {
        return false;
    }
    id.sa = rest;
    if (!is_valid(&id)) {
        return false;
    }
    *ret_id = id;
    return true;
}

static char *put(char *at, struct slice text) {
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

bool spiffe_format(const struct spiffe_id *id, char buf[SPIFFE_TEXT_MAX], struct slice *ret_text) {
    if (!is_valid(id)) {
        return false;
    }
    char *at = put(buf, SLICE_LIT("spiffe://"));
    at = put(at, id->trust_domain);
    at = put(at, SLICE_LIT("/ns/"));
    at = put(at, id->ns);
    at = put(at, SLICE_LIT("/sa/"));
    at = put(at, id->sa);
    *at = 0;
    *ret_text = slice_make(buf, (size_t)(at - buf));
    return true;
}

bool spiffe_eq(const struct spiffe_id *a, const struct spiffe_id *b) {
    return slice_eq(a->trust_domain, b->trust_domain) && slice_eq(a->ns, b->ns) &&
           slice_eq(a->sa, b->sa);
}
