// SPDX-License-Identifier: Apache-2.0
//
// A contiguous byte buffer that grows up to a maximum given at init. For cold paths: text, encoded
// messages, answers of the admin port.
//
// An append is whole or not at all. The first one that would exceed the maximum sets the overflow
// flag, and from then on every append is dropped until buf_clear(): a writer appends freely and
// asks buf_ok() once.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/slice.h"

struct buf {
    uint8_t *ptr; // heap; NULL while nothing was appended
    size_t len;
    size_t cap;
    size_t max; // largest len
    bool is_overflowed;
};

static inline void buf_init(struct buf *buf, size_t max) {
    *buf = (struct buf){.max = max};
}
static inline void buf_fini(struct buf *buf) {
    if (buf->ptr != NULL) { // scratch is often not needed
        free(buf->ptr);
    }
    buf_init(buf, buf->max);
}
// Empties it and takes the overflow flag back; keeps the memory.
void buf_clear(struct buf *buf);
// Shortens to `len` (<= buf->len); the overflow flag stays.
void buf_truncate(struct buf *buf, size_t len);

static inline bool buf_ok(const struct buf *buf) {
    return !buf->is_overflowed;
}
static inline struct slice buf_slice(const struct buf *buf) {
    return slice_make(buf->ptr, buf->len);
}
// The content with a NUL behind it, valid until the next change.
const char *buf_cstr(struct buf *buf);
// The content as heap memory with a NUL behind it, the caller's to free; the buffer is empty then.
char *buf_take(struct buf *buf, size_t *ret_len);

// Room for `len` bytes behind the content, NULL when that exceeds the maximum. The caller writes up
// to `len` bytes there and calls buf_commit() with how many.
uint8_t *buf_reserve(struct buf *buf, size_t len);
void buf_commit(struct buf *buf, size_t len);

void buf_append_slow(struct buf *buf, struct slice bytes);
static inline void buf_append(struct buf *buf, struct slice bytes) {
    // Nothing to append is slow too: a buffer without memory must not be added to.
    bool has_room = bytes.len - 1 < buf->cap - buf->len && bytes.len <= buf->max - buf->len;
    if (LIKELY(has_room && !buf->is_overflowed && buf->ptr != NULL)) {
        slice_copy(buf->ptr + buf->len, bytes);
        buf->len += bytes.len;
    } else {
        buf_append_slow(buf, bytes);
    }
}
static inline void buf_append_str(struct buf *buf, const char *text) {
    buf_append(buf, slice_str(text));
}
static inline void buf_append_byte(struct buf *buf, uint8_t byte) {
    if (LIKELY(buf->len < buf->cap && buf->len < buf->max && !buf->is_overflowed)) {
        buf->ptr[buf->len++] = byte;
    } else {
        buf_append_slow(buf, slice_make(&byte, 1));
    }
}
// For short constant texts that are prepared for it: BUF_PAD bytes can be read behind them.
enum { BUF_PAD = 16 };
static inline void buf_append_padded(struct buf *buf, struct slice bytes) {
    bool has_room =
        bytes.len <= BUF_PAD && BUF_PAD <= buf->cap - buf->len && bytes.len <= buf->max - buf->len;
    if (LIKELY(has_room && !buf->is_overflowed)) {
        memcpy(buf->ptr + buf->len, bytes.ptr, BUF_PAD);
        buf->len += bytes.len;
    } else {
        buf_append(buf, bytes);
    }
}
void buf_append_u64(struct buf *buf, uint64_t value); // decimal text
void buf_append_i64(struct buf *buf, int64_t value); // decimal text
void buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *buf, const char *fmt, va_list args) PRINTF_LIKE(2, 0);

// Big-endian binary fields.
void buf_put_u8(struct buf *buf, uint8_t value);
void buf_put_u16(struct buf *buf, uint16_t value);
void buf_put_u24(struct buf *buf, uint32_t value);
void buf_put_u32(struct buf *buf, uint32_t value);
void buf_put_u64(struct buf *buf, uint64_t value);
