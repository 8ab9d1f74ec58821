// SPDX-License-Identifier: Apache-2.0
//
// A borrowed, read-only run of bytes, passed by value. It never owns; it is valid for as long as
// the header that hands it out says (by default: the call).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr;
    size_t len;
};

// For printf("%.*s"): SLICE_FMT_ARG(s)
#define SLICE_ARG(s) (int)(s).len, (const char *)(s).ptr
#define SLICE_LIT(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct slice slice_make(const void *ptr, size_t len) {
    return (struct slice){ptr, len};
}
static inline struct slice slice_str(const char *text) {
    return (struct slice){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}
static inline bool slice_eq(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool slice_eq_str(struct slice a, const char *text) {
    return slice_eq(a, slice_str(text));
}
static inline bool slice_has_prefix(struct slice a, struct slice prefix) {
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}
static inline bool slice_has_suffix(struct slice a, struct slice suffix) {
    return a.len >= suffix.len &&
           (suffix.len == 0 || memcmp(a.ptr + a.len - suffix.len, suffix.ptr, suffix.len) == 0);
}
// Everything from offset `from` on; `from` is clamped to the length.
static inline struct slice slice_skip(struct slice a, size_t from) {
    size_t off = from < a.len ? from : a.len;
    // No arithmetic on NULL, which an empty slice may hold.
    return (struct slice){off != 0 ? a.ptr + off : a.ptr, a.len - off};
}
static inline struct slice slice_head(struct slice a, size_t len) {
    return (struct slice){a.ptr, len < a.len ? len : a.len};
}

// Copies all bytes to `dst`, which has room for them. For short runs of varying length prefer it to
// memcpy: where gcc can prove a small upper bound it emits `rep movs`, whose start alone costs more
// than the whole call of libc's memcpy.
static inline void slice_copy(void *dst, struct slice a) {
    size_t len = a.len;
    __asm__("" : "+r"(len)); // forget the bound
    if (len != 0) {
        memcpy(dst, a.ptr, len);
    }
}

bool slice_eq_nocase(struct slice a, struct slice b);
struct slice slice_trim(struct slice a); // without leading and trailing spaces and tabs
// Offset of the first `byte`, or -1.
ptrdiff_t slice_find(struct slice a, uint8_t byte);
// Splits at the first `byte`: ret_head before it, ret_tail after it. False (outputs untouched) when
// `byte` is not there.
bool slice_split(struct slice a, uint8_t byte, struct slice *ret_head, struct slice *ret_tail);
// Parses an unsigned decimal that fills the whole slice and is <= max. False when it is not one.
bool slice_to_u64(struct slice a, uint64_t max, uint64_t *ret_value);
// Heap copy with a NUL behind it; caller frees.
char *slice_dup(struct slice a);
