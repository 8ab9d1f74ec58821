// SPDX-License-Identifier: Apache-2.0
#include "common/proto/grpc.h"

enum { KEPT_MAX = 16 << 10 }; // bytes for messages between two of them

static const char *const names[] = {
#define GRPC_STATUS(name, number, label) [number] = #name,
#include "common/proto/grpc.def"
#undef GRPC_STATUS
};

static const char *const labels[] = {
#define GRPC_STATUS(name, number, label) [number] = label,
#include "common/proto/grpc.def"
#undef GRPC_STATUS
};

const char *grpc_status_name(enum grpc_status status) {
    return (size_t)status < ARRAY_LEN(names) ? names[status] : "?";
}

const char *grpc_status_label(enum grpc_status status) {
    return labels[(size_t)status < ARRAY_LEN(labels) ? status : GRPC_UNKNOWN];
}

bool grpc_status_parse(struct slice name, uint8_t *ret_status) {
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

enum grpc_status grpc_status_of_http(uint16_t status) {
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

bool grpc_timeout_parse(struct slice value, uint64_t *ret_ms) {
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

void grpc_timeout_append(uint64_t ms, struct buf *out) {
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

void grpc_message_append(struct slice message, struct buf *out) {
    for (size_t i = 0; i < message.len; i++) {
        uint8_t c = message.ptr[i];
        if (c < ' ' || c > '~' || c == '%') {
            buf_printf(out, "%%%02X", c);
        } else {
            buf_append_byte(out, c);
        }
    }
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_message_decode(struct slice encoded, char *ret_text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < encoded.len && n + 1 < size; i++) {
        int c = encoded.ptr[i];
        if (c == '%') {
            int high = i + 2 < encoded.len ? hex_value(encoded.ptr[i + 1]) : -1;
            int low = i + 2 < encoded.len ? hex_value(encoded.ptr[i + 2]) : -1;
            bool is_good = high >= 0 && low >= 0;
            c = is_good ? high * 16 + low : '?';
            i += is_good ? 2 : 0;
        }
        ret_text[n++] = (char)(c < ' ' || c == 0x7f ? '?' : c); // for logs
    }
    ret_text[n] = '\0';
}

// ---- messages ----------------------------------------------------------------------------------

void grpc_prefix_write(uint8_t ret_prefix[GRPC_PREFIX_LEN], uint32_t len) {
    ret_prefix[0] = 0;
    for (int i = 0; i < 4; i++) {
        ret_prefix[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    }
}

void grpc_reader_init(struct grpc_reader *reader, size_t message_max) {
    *reader = (struct grpc_reader){0};
    buf_init(&reader->message, message_max);
}

void grpc_reader_fini(struct grpc_reader *reader) {
    buf_fini(&reader->message);
}

static size_t announced(const struct grpc_reader *reader) {
    const uint8_t *p = reader->prefix;
    return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
}

static void skip(struct slice *in, size_t n) {
    *in = slice_skip(*in, n);
}

// The message that was handed out: a large one is not what the next ones are like.
static void let_go(struct grpc_reader *reader) {
    if (reader->message.cap > KEPT_MAX) {
        buf_fini(&reader->message); // it may be used again
    } else {
        buf_clear(&reader->message);
    }
}

enum grpc_read grpc_reader_next(struct grpc_reader *reader, struct slice *in,
                                struct slice *ret_message) {
    if (reader->n_prefix < GRPC_PREFIX_LEN) {
        let_go(reader);
        size_t n = MIN(in->len, (size_t)(GRPC_PREFIX_LEN - reader->n_prefix));
        slice_copy(reader->prefix + reader->n_prefix, slice_head(*in, n));
        reader->n_prefix += (uint8_t)n;
        skip(in, n);
        if (reader->n_prefix > 0 && reader->prefix[0] != 0) {
            return GRPC_READ_COMPRESSED;
        }
        if (reader->n_prefix < GRPC_PREFIX_LEN) {
            return GRPC_READ_MORE;
        }
    }
    size_t len = announced(reader);
    if (len > reader->message.max) {
        return GRPC_READ_TOO_LARGE;
    }
    if (reader->message.len == 0 && in->len >= len) { // whole where it lies
        *ret_message = slice_head(*in, len);
        skip(in, len);
        reader->n_prefix = 0;
        return GRPC_READ_MESSAGE;
    }
    size_t n = MIN(in->len, len - reader->message.len);
    buf_append(&reader->message, slice_head(*in, n));
    skip(in, n);
    if (reader->message.len < len) {
        return GRPC_READ_MORE;
    }
    *ret_message = buf_slice(&reader->message);
    reader->n_prefix = 0;
    return GRPC_READ_MESSAGE;
}

bool grpc_reader_is_between(const struct grpc_reader *reader) {
    return reader->n_prefix == 0;
}
