// SPDX-License-Identifier: Apache-2.0
//
// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include "common/base/slice.h"

// Bytes of the first character of `text` (not empty); 0 when it does not start with one.
static inline size_t utf8_len(struct slice text) {
    uint8_t first = text.ptr[0];
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    size_t len;
    if (first < 0x80) {
        return 1;
    } else if (first >= 0xc2 && first <= 0xdf) {
        len = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        len = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        len = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (text.len < len || text.ptr[1] < low || text.ptr[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((text.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}
