// SPDX-License-Identifier: Apache-2.0
#include "common/base/slice.h"

#include <stdlib.h>

#include "common/base/check.h"

static uint8_t ascii_lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool slice_eq_nocase(struct slice a, struct slice b) {
    if (a.len != b.len) {
        return false;
    }
    if (slice_eq(a, b)) {
        return true;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice a) {
    size_t from = 0, end = a.len;
    while (from < end && is_blank(a.ptr[from])) {
        from++;
    }
    while (end > from && is_blank(a.ptr[end - 1])) {
        end--;
    }
    return slice_head(slice_skip(a, from), end - from);
}

ptrdiff_t slice_find(struct slice a, uint8_t byte) {
    const uint8_t *at = a.len > 0 ? memchr(a.ptr, byte, a.len) : NULL;
    return at != NULL ? at - a.ptr : -1;
}

bool slice_split(struct slice a, uint8_t byte, struct slice *ret_head, struct slice *ret_tail) {
    ptrdiff_t at = slice_find(a, byte);
    if (at < 0) {
        return false;
    }
    *ret_head = slice_head(a, (size_t)at);
    *ret_tail = slice_skip(a, (size_t)at + 1);
    return true;
}

bool slice_to_u64(struct slice a, uint64_t max, uint64_t *ret_value) {
    uint64_t value = 0;
    if (a.len == 0) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (a.ptr[i] < '0' || a.ptr[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(a.ptr[i] - '0');
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, digit, &value) || value > max) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}

char *slice_dup(struct slice a) {
    char *copy = xmalloc(a.len + 1);
    if (a.len > 0) {
        memcpy(copy, a.ptr, a.len);
    }
    copy[a.len] = '\0';
    return copy;
}
