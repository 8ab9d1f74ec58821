// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_grpc.h"

static const char *const names[] = {
#define L7_GRPC(name, number) [number] = #name,
#include "common/l7/l7_grpc.def"
#undef L7_GRPC
};

const char *l7_grpc_name(enum l7_grpc status) {
    return (size_t)status < ARRAY_LEN(names) ? names[status] : "?";
}

bool l7_grpc_parse(struct slice name, uint8_t *ret_status) {
    uint64_t number;
    if (slice_to_u64(name, ARRAY_LEN(names) - 1, &number)) {
        *ret_status = (uint8_t)number;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (slice_eq_str(name, names[i])) {
            *ret_status = (uint8_t)i;
            return true;
        }
    }
    return false;
}

enum l7_grpc l7_grpc_of_http(uint16_t status) {
    switch (status) {
    case 400:
        return L7_GRPC_INTERNAL;
    case 401:
        return L7_GRPC_UNAUTHENTICATED;
    case 403:
        return L7_GRPC_PERMISSION_DENIED;
    case 404:
        return L7_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return L7_GRPC_UNAVAILABLE;
    default:
        return L7_GRPC_UNKNOWN;
    }
}

bool l7_grpc_timeout_parse(struct slice value, uint64_t *ret_ms) {
    enum { DIGITS_MAX = 8 };
    uint64_t number;
    if (value.len < 2 || value.len > DIGITS_MAX + 1 ||
        !slice_to_u64(slice_head(value, value.len - 1), UINT64_MAX, &number)) {
        return false;
    }
    switch (value.ptr[value.len - 1]) {
    case 'H':
        *ret_ms = number * 3600 * 1000;
        return true;
    case 'M':
        *ret_ms = number * 60 * 1000;
        return true;
    case 'S':
        *ret_ms = number * 1000;
        return true;
    case 'm':
        *ret_ms = number;
        return true;
    case 'u':
        *ret_ms = (number + 999) / 1000;
        return true;
    case 'n':
        *ret_ms = (number + 999999) / 1000000;
        return true;
    default:
        return false;
    }
}

void l7_grpc_timeout_append(uint64_t ms, struct buf *out) {
    static const struct {
        uint64_t ms;
        char unit;
    } units[] = {{1, 'm'}, {1000, 'S'}, {60 * 1000, 'M'}, {3600 * 1000, 'H'}};
    static const uint64_t max = 99999999;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (ms / units[i].ms <= max || i + 1 == ARRAY_LEN(units)) {
            buf_append_u64(out, MIN(ms / units[i].ms, max));
            buf_append_byte(out, (uint8_t)units[i].unit);
            return;
        }
    }
}

void l7_grpc_message_append(struct slice message, struct buf *out) {
    for (size_t i = 0; i < message.len; i++) {
        uint8_t c = message.ptr[i];
        if (c < ' ' || c > '~' || c == '%') {
            buf_printf(out, "%%%02X", c);
        } else {
            buf_append_byte(out, c);
        }
    }
}
