// SPDX-License-Identifier: Apache-2.0
#include "common/base/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/utf8.h"

void json_out_init(struct json_out *out, struct buf *buf, bool is_pretty) {
    *out = (struct json_out){.buf = buf, .is_pretty = is_pretty};
}

static uint64_t level_bit(const struct json_out *out) {
    return UINT64_C(1) << (out->depth - 1);
}

static void new_line(struct json_out *out) {
    if (out->is_pretty) {
        buf_append_byte(out->buf, '\n');
        for (unsigned i = 0; i < out->depth; i++) {
            buf_append(out->buf, SLICE_LIT("  "));
        }
    }
}

static void before_item(struct json_out *out) {
    if (out->has_items & level_bit(out)) {
        buf_append_byte(out->buf, ',');
    }
    out->has_items |= level_bit(out);
    new_line(out);
}

static void before_value(struct json_out *out) {
    if (out->depth == 0) {
        return;
    }
    if (out->is_object & level_bit(out)) {
        CHECK(out->has_key);
        out->has_key = false;
        return;
    }
    before_item(out);
}

static void begin(struct json_out *out, bool is_object) {
    before_value(out);
    CHECK(out->depth < JSON_OUT_MAX_DEPTH);
    out->depth++;
    out->has_items &= ~level_bit(out);
    out->is_object &= ~level_bit(out);
    out->is_object |= is_object ? level_bit(out) : 0;
    buf_append_byte(out->buf, is_object ? '{' : '[');
}

void json_out_begin_object(struct json_out *out) {
    begin(out, true);
}

void json_out_begin_array(struct json_out *out) {
    begin(out, false);
}

void json_out_end(struct json_out *out) {
    CHECK(out->depth > 0 && !out->has_key);
    bool is_object = (out->is_object & level_bit(out)) != 0;
    bool has_items = (out->has_items & level_bit(out)) != 0;
    out->depth--;
    if (has_items) {
        new_line(out);
    }
    buf_append_byte(out->buf, is_object ? '}' : ']');
}

void json_out_key(struct json_out *out, struct slice key) {
    CHECK(out->depth > 0 && (out->is_object & level_bit(out)) && !out->has_key);
    before_item(out);
    json_out_quote(out->buf, key);
    buf_append(out->buf, out->is_pretty ? SLICE_LIT(": ") : SLICE_LIT(":"));
    out->has_key = true;
}

static void append_escape(struct buf *buf, uint8_t byte) {
    static const char short_forms[] = {
        ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
        ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't',
    };
    if (byte < sizeof(short_forms) && short_forms[byte] != 0) {
        char pair[2] = {'\\', short_forms[byte]};
        buf_append(buf, slice_make(pair, sizeof(pair)));
    } else {
        buf_printf(buf, "\\u%04x", byte);
    }
}

// Bytes that are copied as they are: printable ASCII without quote and backslash.
static bool is_plain(uint8_t byte) {
    static const uint64_t plain[4] = {
        UINT64_C(0xfffffffb00000000), // 0x20 to 0x3f without "
        UINT64_C(0x7fffffffefffffff), // 0x40 to 0x7e without backslash
        0,
        0,
    };
    return plain[byte >> 6] >> (byte & 63) & 1;
}

// The same for 8 bytes at once; may say no to some that are.
static bool are_plain(const uint8_t *bytes) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t x;
    memcpy(&x, bytes, sizeof(x));
    uint64_t quote = x ^ ones * '"';
    uint64_t backslash = x ^ ones * '\\';
    uint64_t is_odd = x | (x + ones) | (x - ones * 0x20) | (quote - ones) | (backslash - ones);
    return (is_odd & ones * 0x80) == 0;
}

void json_out_quote(struct buf *buf, struct slice text) {
    buf_append_byte(buf, '"');
    // Runs of bytes that need no escape are appended at once.
    size_t run = 0;
    while (run < text.len) {
        if (run + 8 <= text.len && are_plain(text.ptr + run)) {
            run += 8;
            continue;
        }
        uint8_t byte = text.ptr[run];
        if (is_plain(byte)) {
            run++;
            continue;
        }
        size_t len = byte < 0x80 ? 0 : utf8_len(slice_skip(text, run));
        if (len != 0) {
            run += len;
            continue;
        }
        buf_append(buf, slice_head(text, run));
        if (byte < 0x80) {
            append_escape(buf, byte);
        } else {
            buf_append(buf, SLICE_LIT("\xef\xbf\xbd"));
        }
        text = slice_skip(text, run + 1);
        run = 0;
    }
    buf_append(buf, text);
    buf_append_byte(buf, '"');
}

void json_out_string(struct json_out *out, struct slice text) {
    before_value(out);
    json_out_quote(out->buf, text);
}

void json_out_u64(struct json_out *out, uint64_t value) {
    before_value(out);
    buf_append_u64(out->buf, value);
}

void json_out_i64(struct json_out *out, int64_t value) {
    before_value(out);
    buf_append_i64(out->buf, value);
}

void json_out_double(struct json_out *out, double value) {
    before_value(out);
    if (!isfinite(value)) {
        buf_append_str(out->buf, "null");
        return;
    }
    // The short form when it reads back as the same number: 0.1, not 0.10000000000000001.
    char text[32];
    snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value) {
        snprintf(text, sizeof(text), "%.17g", value);
    }
    buf_append_str(out->buf, text);
}

void json_out_bool(struct json_out *out, bool value) {
    before_value(out);
    buf_append_str(out->buf, value ? "true" : "false");
}

void json_out_null(struct json_out *out) {
    before_value(out);
    buf_append_str(out->buf, "null");
}

void json_out_raw(struct json_out *out, struct slice json) {
    before_value(out);
    buf_append(out->buf, json);
}

void json_out_kv_string(struct json_out *out, const char *key, struct slice text) {
    json_out_key(out, slice_str(key));
    json_out_string(out, text);
}

void json_out_kv_str(struct json_out *out, const char *key, const char *text) {
    json_out_key(out, slice_str(key));
    if (text != NULL) {
        json_out_string(out, slice_str(text));
    } else {
        json_out_null(out);
    }
}

void json_out_kv_u64(struct json_out *out, const char *key, uint64_t value) {
    json_out_key(out, slice_str(key));
    json_out_u64(out, value);
}

void json_out_kv_i64(struct json_out *out, const char *key, int64_t value) {
    json_out_key(out, slice_str(key));
    json_out_i64(out, value);
}

void json_out_kv_bool(struct json_out *out, const char *key, bool value) {
    json_out_key(out, slice_str(key));
    json_out_bool(out, value);
}

void json_out_kv_object(struct json_out *out, const char *key) {
    json_out_key(out, slice_str(key));
    json_out_begin_object(out);
}

void json_out_kv_array(struct json_out *out, const char *key) {
    json_out_key(out, slice_str(key));
    json_out_begin_array(out);
}
