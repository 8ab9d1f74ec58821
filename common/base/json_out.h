// SPDX-License-Identifier: Apache-2.0
//
// Streaming JSON writer (RFC 8259) into a buf: logs, admin answers, output of ztunctl. Commas,
// indentation and escaping are its work; the caller keeps begin and end balanced and writes a key
// before each value of an object (CHECKed). Bytes that are not UTF-8 become U+FFFD, so the result
// is always valid JSON. Overflow is the buf's (buf_ok).
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

enum { JSON_OUT_MAX_DEPTH = 64 };

struct json_out {
    struct buf *buf; // borrowed
    bool is_pretty; // two spaces a level
    uint8_t depth;
    bool has_key; // a key was written, its value is due
    uint64_t is_object; // bit per level
    uint64_t has_items; // bit per level
};

void json_out_init(struct json_out *out, struct buf *buf, bool is_pretty);

void json_out_begin_object(struct json_out *out);
void json_out_begin_array(struct json_out *out);
void json_out_end(struct json_out *out); // the innermost object or array
void json_out_key(struct json_out *out, struct slice key);

void json_out_string(struct json_out *out, struct slice text);
void json_out_u64(struct json_out *out, uint64_t value);
void json_out_i64(struct json_out *out, int64_t value);
void json_out_double(struct json_out *out, double value); // NaN and infinities: null
void json_out_bool(struct json_out *out, bool value);
void json_out_null(struct json_out *out);
// `json` is one complete JSON value, appended as it is.
void json_out_raw(struct json_out *out, struct slice json);

// Key and value in one call; keys are literals of ours.
void json_out_kv_string(struct json_out *out, const char *key, struct slice text);
void json_out_kv_str(struct json_out *out, const char *key, const char *text); // NULL: null
void json_out_kv_u64(struct json_out *out, const char *key, uint64_t value);
void json_out_kv_i64(struct json_out *out, const char *key, int64_t value);
void json_out_kv_bool(struct json_out *out, const char *key, bool value);
void json_out_kv_object(struct json_out *out, const char *key); // begins it
void json_out_kv_array(struct json_out *out, const char *key); // begins it

// The text in quotes, escaped, without any state.
void json_out_quote(struct buf *buf, struct slice text);
