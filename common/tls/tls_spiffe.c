// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_spiffe.h"

// Letters, digits, '-', '.', '_' (SPIFFE-ID section 2.2). "." and ".." are no segments: what comes
// behind them could be read as another path.
static bool is_segment(struct slice text) {
    bool only_dots = true;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_alnum && c != '-' && c != '.' && c != '_') {
            return false;
        }
        only_dots &= c == '.';
    }
    return text.len > 0 && !(only_dots && text.len <= 2);
}

bool tls_spiffe_parse(struct slice uri, struct tls_spiffe *ret_id) {
    static const char scheme[] = "spiffe://";
    struct slice parts[5];
    if (uri.len > TLS_SPIFFE_MAX || !slice_has_prefix(uri, SLICE_LIT(scheme))) {
        return false;
    }
    struct slice rest = slice_skip(uri, sizeof(scheme) - 1);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (i + 1 == ARRAY_LEN(parts)) {
            parts[i] = rest; // '/' is no character of a segment
        } else if (!slice_split(rest, '/', &parts[i], &rest)) {
            return false;
        }
        if (!is_segment(parts[i])) {
            return false;
        }
    }
    if (!slice_eq_str(parts[1], "ns") || !slice_eq_str(parts[3], "sa")) {
        return false;
    }
    *ret_id = (struct tls_spiffe){parts[0], parts[2], parts[4]};
    return true;
}
