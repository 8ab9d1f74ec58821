// SPDX-License-Identifier: Apache-2.0
//
// The one pass over all bytes of a head: where the next control character is. Private to h1_*.c and
// their tests. Reads up to H1_SCAN_SLACK bytes beyond `end`: the memory must be there, its content
// does not matter.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { H1_SCAN_SLACK = 16 };

// Forbidden in a head but as (part of) a line end.
static inline bool h1_scan_is_control(uint8_t c) {
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

// Eight bytes at a time. A byte is found by a borrow, so one behind a real hit may look like one,
// never one in front of it: the first is exact after the check of each.
static inline const uint8_t *h1_scan_swar(const uint8_t *at, const uint8_t *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = ones << 7;
    while (at < end) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        uint64_t del = word ^ (ones * 0x7f);
        uint64_t hits = ((word - ones * 0x20) & ~word) | ((del - ones) & ~del);
        if ((hits & highs) != 0) {
            for (int i = 0; i < 8 && at + i < end; i++) {
                if (h1_scan_is_control(at[i])) {
                    return at + i;
                }
            }
        }
        at += 8;
    }
    return end;
}

// The first control character but HTAB, or `end`.
static inline const uint8_t *h1_scan(const uint8_t *at, const uint8_t *end) {
#ifdef __SSE2__
    const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    while (at < end) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i is_low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, low), bytes);
        __m128i hits = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), is_low),
                                    _mm_cmpeq_epi8(bytes, del));
        int mask = _mm_movemask_epi8(hits);
        if (mask != 0) {
            at += __builtin_ctz((unsigned)mask);
            return at < end ? at : end;
        }
        at += 16;
    }
    return end;
#else
    return h1_scan_swar(at, end);
#endif
}
