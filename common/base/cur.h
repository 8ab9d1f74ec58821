// SPDX-License-Identifier: Apache-2.0
//
// A checked reader of big-endian fields over a slice. A read past the end returns 0 or an empty
// slice, consumes all that is left and marks the cursor failed for good, so that a decoder reads
// the whole record and asks cur_ok() once; it must do so before it acts on a value that bounds a
// loop.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct cur {
    const uint8_t *ptr;
    size_t len; // bytes left
    bool is_failed;
};

static inline struct cur cur_make(struct slice bytes) {
    return (struct cur){.ptr = bytes.ptr, .len = bytes.len};
}
static inline bool cur_ok(const struct cur *cur) {
    return !cur->is_failed;
}
// Read to the end, and nothing beyond it.
static inline bool cur_done(const struct cur *cur) {
    return !cur->is_failed && cur->len == 0;
}
static inline struct slice cur_rest(const struct cur *cur) {
    return slice_make(cur->ptr, cur->len);
}
static inline void cur_fail(struct cur *cur) {
    cur->len = 0;
    cur->is_failed = true;
}

// The next `len` bytes, borrowed from the input; empty when there are fewer.
static inline struct slice cur_bytes(struct cur *cur, size_t len) {
    if (len > cur->len) {
        cur_fail(cur);
        return slice_make(cur->ptr, 0);
    }
    struct slice bytes = slice_make(cur->ptr, len);
    cur->ptr = len != 0 ? cur->ptr + len : cur->ptr;
    cur->len -= len;
    return bytes;
}
static inline void cur_skip(struct cur *cur, size_t len) {
    (void)cur_bytes(cur, len);
}
// A cursor over the next `len` bytes; failed from the start when there are fewer.
static inline struct cur cur_sub(struct cur *cur, size_t len) {
    struct cur sub = cur_make(cur_bytes(cur, len));
    sub.is_failed = cur->is_failed;
    return sub;
}

static inline uint64_t cur_be(struct cur *cur, size_t len) {
    struct slice bytes = cur_bytes(cur, len);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        value = value << 8 | bytes.ptr[i];
    }
    return value;
}
static inline uint8_t cur_u8(struct cur *cur) {
    return (uint8_t)cur_be(cur, 1);
}
static inline uint16_t cur_u16(struct cur *cur) {
    return (uint16_t)cur_be(cur, 2);
}
static inline uint32_t cur_u24(struct cur *cur) {
    return (uint32_t)cur_be(cur, 3);
}
static inline uint32_t cur_u32(struct cur *cur) {
    return (uint32_t)cur_be(cur, 4);
}
static inline uint64_t cur_u64(struct cur *cur) {
    return cur_be(cur, 8);
}
