// SPDX-License-Identifier: Apache-2.0
#include "common/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 128, MAX_DECIMAL = 20 };

void buf_clear(struct buf *buf) {
    buf->len = 0;
    buf->is_overflowed = false;
}

void buf_truncate(struct buf *buf, size_t len) {
    CHECK(len <= buf->len);
    buf->len = len;
}

// Capacity for `len` bytes; may exceed the maximum, which bounds the content.
static void grow(struct buf *buf, size_t len) {
    if (len <= buf->cap) {
        return;
    }
    size_t cap = MAX(buf->cap + buf->cap / 2, (size_t)FIRST_CAP);
    buf->cap = MAX(cap, len);
    buf->ptr = xrealloc(buf->ptr, buf->cap);
}

uint8_t *buf_reserve(struct buf *buf, size_t len) {
    if (buf->is_overflowed || len > buf->max - buf->len) {
        buf->is_overflowed = true;
        return NULL;
    }
    grow(buf, MAX(buf->len + len, (size_t)1));
    return buf->ptr + buf->len;
}

void buf_commit(struct buf *buf, size_t len) {
    CHECK(len <= buf->cap - buf->len && len <= buf->max - buf->len);
    buf->len += len;
}

const char *buf_cstr(struct buf *buf) {
    grow(buf, buf->len + 1);
    buf->ptr[buf->len] = '\0';
    return (const char *)buf->ptr;
}

char *buf_take(struct buf *buf, size_t *ret_len) {
    (void)buf_cstr(buf);
    char *text = (char *)buf->ptr;
    if (ret_len != NULL) {
        *ret_len = buf->len;
    }
    buf_init(buf, buf->max);
    return text;
}

void buf_append_slow(struct buf *buf, struct slice bytes) {
    uint8_t *at = buf_reserve(buf, bytes.len);
    if (at != NULL) {
        slice_copy(at, bytes);
        buf->len += bytes.len;
    }
}

void buf_append_u64(struct buf *buf, uint64_t value) {
    if (value < 10) {
        buf_append_byte(buf, (uint8_t)('0' + value));
        return;
    }
    char text[MAX_DECIMAL];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_append(buf, slice_make(text + at, sizeof(text) - at));
}

void buf_append_i64(struct buf *buf, int64_t value) {
    if (value >= 0) {
        buf_append_u64(buf, (uint64_t)value);
        return;
    }
    // Sign and digits in one append: whole or not at all.
    char text[MAX_DECIMAL + 2];
    int len = snprintf(text, sizeof(text), "%lld", (long long)value);
    buf_append(buf, slice_make(text, (size_t)len));
}

void buf_printf(struct buf *buf, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    buf_vprintf(buf, fmt, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *fmt, va_list args) {
    va_list again;
    va_copy(again, args);
    char text[256];
    int len = vsnprintf(text, sizeof(text), fmt, args);
    CHECK(len >= 0);
    if ((size_t)len < sizeof(text)) {
        buf_append(buf, slice_make(text, (size_t)len));
    } else {
        uint8_t *at = buf_reserve(buf, (size_t)len);
        if (at != NULL) {
            grow(buf, buf->len + (size_t)len + 1); // vsnprintf writes its NUL
            vsnprintf((char *)buf->ptr + buf->len, (size_t)len + 1, fmt, again);
            buf->len += (size_t)len;
        }
    }
    va_end(again);
}

static void put_be(struct buf *buf, uint64_t value, size_t len) {
    uint8_t bytes[8];
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (len - 1 - i)));
    }
    buf_append(buf, slice_make(bytes, len));
}

void buf_put_u8(struct buf *buf, uint8_t value) {
    put_be(buf, value, 1);
}

void buf_put_u16(struct buf *buf, uint16_t value) {
    put_be(buf, value, 2);
}

void buf_put_u24(struct buf *buf, uint32_t value) {
    put_be(buf, value, 3);
}

void buf_put_u32(struct buf *buf, uint32_t value) {
    put_be(buf, value, 4);
}

void buf_put_u64(struct buf *buf, uint64_t value) {
    put_be(buf, value, 8);
}
