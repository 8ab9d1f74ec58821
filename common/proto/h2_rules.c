// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_rules.h"

#include "common/proto/http_rules.h"

enum pseudo { P_METHOD, P_SCHEME, P_AUTHORITY, P_PATH, P_PROTOCOL, P_STATUS, P_COUNT };

static const struct {
    struct slice name;
    enum h2_list_kind kind;
} pseudos[P_COUNT] = {
    [P_METHOD] = {{(const uint8_t *)":method", 7}, H2_LIST_REQUEST},
    [P_SCHEME] = {{(const uint8_t *)":scheme", 7}, H2_LIST_REQUEST},
    [P_AUTHORITY] = {{(const uint8_t *)":authority", 10}, H2_LIST_REQUEST},
    [P_PATH] = {{(const uint8_t *)":path", 5}, H2_LIST_REQUEST},
    [P_PROTOCOL] = {{(const uint8_t *)":protocol", 9}, H2_LIST_REQUEST},
    [P_STATUS] = {{(const uint8_t *)":status", 7}, H2_LIST_RESPONSE},
};

// RFC 9113 8.2: lower case.
bool h2_rules_name_is_valid(struct slice name) {
    return http_rules_is_name(name);
}

bool h2_rules_value_is_valid(struct slice value) {
    if (value.len == 0) {
        return true;
    }
    uint8_t first = value.ptr[0];
    uint8_t last = value.ptr[value.len - 1];
    if (first == ' ' || first == '\t' || last == ' ' || last == '\t') {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == 0 || c == '\r' || c == '\n') {
            return false;
        }
    }
    return true;
}

// RFC 9113 8.2.2.
static bool is_connection_specific(const struct http_field *field) {
    switch (field->name.len) {
    case 2:
        return slice_eq(field->name, SLICE_LIT("te")) &&
               !slice_eq_nocase(field->value, SLICE_LIT("trailers"));
    case 7:
        return slice_eq(field->name, SLICE_LIT("upgrade"));
    case 10:
        return slice_eq(field->name, SLICE_LIT("connection")) ||
               slice_eq(field->name, SLICE_LIT("keep-alive"));
    case 16:
        return slice_eq(field->name, SLICE_LIT("proxy-connection"));
    case 17:
        return slice_eq(field->name, SLICE_LIT("transfer-encoding"));
    default:
        return false;
    }
}

static bool check_request(const struct slice values[P_COUNT], unsigned seen, bool allow_protocol,
                          struct h2_list_info *ret_info) {
    if ((seen & 1U << P_PROTOCOL) != 0 || slice_eq(values[P_METHOD], SLICE_LIT("CONNECT"))) {
        ret_info->body_len = -1; // a tunnel
    }
    const unsigned target = 1U << P_SCHEME | 1U << P_PATH;
    bool has_protocol = (seen & 1U << P_PROTOCOL) != 0;
    if ((seen & 1U << P_METHOD) == 0 || !http_rules_is_token(values[P_METHOD])) {
        return false;
    }
    bool is_connect = slice_eq(values[P_METHOD], SLICE_LIT("CONNECT"));
    if (has_protocol && (!is_connect || !allow_protocol || values[P_PROTOCOL].len == 0)) {
        return false;
    }
    if (is_connect && ((seen & 1U << P_AUTHORITY) == 0 || values[P_AUTHORITY].len == 0)) {
        return false;
    }
    ret_info->is_connect = is_connect && !has_protocol;
    if (ret_info->is_connect) {
        return (seen & target) == 0; // RFC 9113 8.5
    }
    if ((seen & target) != target || values[P_SCHEME].len == 0) {
        return false;
    }
    bool is_http = slice_eq_nocase(values[P_SCHEME], SLICE_LIT("http")) ||
                   slice_eq_nocase(values[P_SCHEME], SLICE_LIT("https"));
    struct slice path = values[P_PATH];
    if (!is_http || (path.len > 0 && path.ptr[0] == '/')) {
        return true;
    }
    // RFC 9113 8.3.1: "*" belongs to OPTIONS; empty is never right for http(s).
    return slice_eq(path, SLICE_LIT("*")) && slice_eq(values[P_METHOD], SLICE_LIT("OPTIONS"));
}

static bool check_response(const struct slice values[P_COUNT], unsigned seen,
                           struct h2_list_info *ret_info) {
    uint64_t status;
    if ((seen & 1U << P_STATUS) == 0 || values[P_STATUS].len != 3 ||
        !slice_to_u64(values[P_STATUS], 999, &status)) {
        return false;
    }
    // RFC 9113 8.6: there is no 101.
    if (status < 100 || status == 101) {
        return false;
    }
    ret_info->status = (uint16_t)status;
    return true;
}

static bool take_pseudo(const struct http_field *field, enum h2_list_kind kind, unsigned *seen,
                        struct slice values[P_COUNT]) {
    for (unsigned i = 0; i < P_COUNT; i++) {
        if (slice_eq(field->name, pseudos[i].name)) {
            if (pseudos[i].kind != kind || (*seen & 1U << i) != 0) {
                return false;
            }
            *seen |= 1U << i;
            values[i] = field->value;
            return true;
        }
    }
    return false;
}

bool h2_rules_check(enum h2_list_kind kind, const struct http_field *fields, size_t n_fields,
                    bool allow_protocol, struct h2_list_info *ret_info) {
    struct slice values[P_COUNT] = {{0}};
    struct h2_list_info info = {.body_len = -1};
    unsigned seen = 0;
    bool in_pseudo = true;
    for (size_t i = 0; i < n_fields; i++) {
        const struct http_field *field = &fields[i];
        if (!h2_rules_value_is_valid(field->value)) {
            return false;
        }
        if (field->name.len > 0 && field->name.ptr[0] == ':') {
            // RFC 9113 8.3: pseudo fields come first, none in trailers.
            if (!in_pseudo || !take_pseudo(field, kind, &seen, values)) {
                return false;
            }
            continue;
        }
        in_pseudo = false;
        if (!h2_rules_name_is_valid(field->name) || is_connection_specific(field)) {
            return false;
        }
        uint64_t len;
        if (field->name.len == 14 && slice_eq(field->name, SLICE_LIT("content-length")) &&
            http_rules_content_length(field->value, &len)) {
            info.body_len = (int64_t)len;
        }
    }
    bool ok = true;
    if (kind == H2_LIST_REQUEST) {
        ok = check_request(values, seen, allow_protocol, &info);
    } else if (kind == H2_LIST_RESPONSE) {
        ok = check_response(values, seen, &info);
    }
    if (ok) {
        *ret_info = info;
    }
    return ok;
}
