// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_name.h"

// RFC 1123 2.1, and the underscore that is in use all the same.
static bool is_name(const char *name, size_t len) {
    size_t label = 0;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool is_dot = c == '.';
        bool is_known = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        label = is_dot ? 0 : label + 1;
        if (label > 63 || !(is_known || (is_dot && i > 0 && name[i - 1] != '.'))) {
            return false;
        }
    }
    return len > 0 && label > 0;
}

bool l7_name_under(const char *wildcard, struct slice authority, char ret_name[L7_NAME_MAX]) {
    struct slice name = authority, port;
    uint64_t number;
    if (slice_split(authority, ':', &name, &port) && !slice_to_u64(port, UINT16_MAX, &number)) {
        return false;
    }
    struct slice suffix = slice_skip(slice_str(wildcard), 1); // without the star
    if (name.len >= L7_NAME_MAX || name.len <= suffix.len) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        ret_name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    ret_name[name.len] = '\0';
    return is_name(ret_name, name.len) && slice_has_suffix(slice_make(ret_name, name.len), suffix);
}
