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

#ifdef __SSE2__
// 0xff where there is a control character but HTAB.
static inline __m128i h1_scan_hits(const uint8_t *at) {
    const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i is_low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, low), bytes);
    return _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), is_low),
                        _mm_cmpeq_epi8(bytes, del));
}
#endif

// The first control character but HTAB, or `end`.
static inline const uint8_t *h1_scan(const uint8_t *at, const uint8_t *end) {
#ifdef __SSE2__
    while (at < end) {
        int mask = _mm_movemask_epi8(h1_scan_hits(at));
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

// How many control characters but HTAB there are.
static inline size_t h1_scan_count(const uint8_t *at, const uint8_t *end) {
    size_t n = 0;
#ifdef __SSE2__
    const __m128i one = _mm_set1_epi8(1), zero = _mm_setzero_si128();
    __m128i sum = zero; // of either half
    for (; end - at >= 16; at += 16) {
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_and_si128(h1_scan_hits(at), one), zero));
    }
    n = (size_t)_mm_cvtsi128_si32(sum) + (size_t)_mm_cvtsi128_si32(_mm_unpackhi_epi64(sum, sum));
    unsigned rest = (1U << (end - at)) - 1;
    for (rest &= (unsigned)_mm_movemask_epi8(h1_scan_hits(at)); rest != 0; rest &= rest - 1) {
        n++;
    }
#else
    for (; at < end; at++) {
        n += h1_scan_is_control(*at);
    }
#endif
    return n;
}

#ifdef __SSE2__
// 0xff where there is a small letter, a digit or '-': of these nearly all names are.
static inline __m128i h1_scan_usual(__m128i bytes) {
    __m128i letter = _mm_sub_epi8(bytes, _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
    __m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    return _mm_or_si128(_mm_or_si128(is_letter, is_digit),
                        _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
}
#endif

// True: a name without anything unusual, in lower case. False: look closer.
static inline bool h1_scan_is_usual_name(const uint8_t *at, size_t len) {
#ifdef __SSE2__
    for (size_t i = 0; i < len; i += 16) {
        __m128i usual = h1_scan_usual(_mm_loadu_si128((const __m128i *)(const void *)(at + i)));
        unsigned bad = ~(unsigned)_mm_movemask_epi8(usual) & 0xffff;
        if (bad != 0 && i + (size_t)__builtin_ctz(bad) < len) {
            return false;
        }
    }
    return len > 0;
#else
    (void)at;
    (void)len;
    return false;
#endif
}

// Makes a short name that ends in ':' lower case, and returns its length. 0: look closer, nothing
// has changed.
static inline size_t h1_scan_lower_name(uint8_t *at) {
#ifdef __SSE2__
    static const uint8_t ends[32] = {[0 ... 15] = 0xff};
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    unsigned colon = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(':')));
    if (colon == 0) {
        return 0;
    }
    size_t len = (size_t)__builtin_ctz(colon);
    unsigned all = (1U << len) - 1;
    __m128i letter = _mm_sub_epi8(bytes, _mm_set1_epi8('A'));
    __m128i is_upper = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(25)), letter);
    __m128i in_name = _mm_loadu_si128((const __m128i *)(const void *)(ends + 16 - len));
    __m128i bit = _mm_and_si128(_mm_and_si128(is_upper, in_name), _mm_set1_epi8(0x20));
    __m128i lower = _mm_or_si128(bytes, bit);
    if (((unsigned)_mm_movemask_epi8(h1_scan_usual(lower)) & all) != all) {
        return 0;
    }
    _mm_storeu_si128((__m128i *)(void *)at, lower); // what is behind the name is what it was
    return len;
#else
    (void)at;
    return 0;
#endif
}
