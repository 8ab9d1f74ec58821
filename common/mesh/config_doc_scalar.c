// SPDX-License-Identifier: Apache-2.0
//
// Types of plain scalars, as sigs.k8s.io/yaml (go-yaml v2) resolves them.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/config_doc_priv.h"

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static int digit_value(uint8_t c) {
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

// Go's ParseInt(text, 0, 64), then ParseUint: signs, 0x, 0o, 0b, a leading 0 is octal. Underscores
// are gone already. False when it is no integer; a decimal one that is too large stays as it is.
static bool to_integer(struct slice text, char *buf, struct slice *ret_text) {
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    struct slice digits = slice_skip(text, is_negative || (text.len > 0 && text.ptr[0] == '+'));
    int base = 10;
    uint64_t value = 0;

    if (digits.len == 0) {
        return false;
    }
    if (digits.len > 1 && digits.ptr[0] == '0') {
        uint8_t mark = digits.ptr[1] | 0x20;
        base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
        digits = slice_skip(digits, mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
        if (digits.len == 0) {
            return false;
        }
    }
    for (size_t i = 0; i < digits.len; i++) {
        int digit = digit_value(digits.ptr[i]);
        if (digit >= base) {
            return false;
        }
        if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value)) {
            value = UINT64_MAX; // fits no field
        }
    }
    int len = snprintf(buf, DOC_NUMBER_MAX, "%s%llu", is_negative && value != 0 ? "-" : "",
                       (unsigned long long)value);
    *ret_text = slice_make(buf, (size_t)len);
    return true;
}

// ^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$
static bool is_float(struct slice text) {
    size_t i = 0, n_int = 0, n_frac = 0, n_exp = 0;
    const uint8_t *p = text.ptr;

    i += text.len > 0 && (p[0] == '-' || p[0] == '+');
    for (; i < text.len && is_digit(p[i]); i++) {
        n_int++;
    }
    if (i < text.len && p[i] == '.') {
        for (i++; i < text.len && is_digit(p[i]); i++) {
            n_frac++;
        }
    }
    if (n_int + n_frac == 0) {
        return false;
    }
    if (i < text.len && (p[i] | 0x20) == 'e') {
        i++;
        i += i < text.len && (p[i] == '-' || p[i] == '+');
        for (; i < text.len && is_digit(p[i]); i++) {
            n_exp++;
        }
        if (n_exp == 0) {
            return false;
        }
    }
    return i == text.len;
}

// A float that is whole is an integer when it comes out as JSON.
static uint8_t float_type(char *buf, struct slice *ret_text) {
    double value = strtod(buf, NULL);

    if (isfinite(value) && fabs(value) < 9007199254740992.0 && value == (double)(int64_t)value) {
        int len = snprintf(buf, DOC_NUMBER_MAX, "%lld", (long long)value);
        *ret_text = slice_make(buf, (size_t)len);
        return CFG_INT;
    }
    *ret_text = slice_make(buf, strlen(buf));
    return CFG_FLOAT;
}

enum { WORD_MAX = 5 };

struct word {
    char text[WORD_MAX + 1];
    uint8_t type;
    bool is_true;
};

static const struct word words_1[] = {
    {"~", CFG_NULL, false}, {"y", CFG_BOOL, true},  {"Y", CFG_BOOL, true},
    {"n", CFG_BOOL, false}, {"N", CFG_BOOL, false},
};
static const struct word words_2[] = {
    {"on", CFG_BOOL, true},  {"On", CFG_BOOL, true},  {"ON", CFG_BOOL, true},
    {"no", CFG_BOOL, false}, {"No", CFG_BOOL, false}, {"NO", CFG_BOOL, false},
};
static const struct word words_3[] = {
    {"yes", CFG_BOOL, true},  {"Yes", CFG_BOOL, true},  {"YES", CFG_BOOL, true},
    {"off", CFG_BOOL, false}, {"Off", CFG_BOOL, false}, {"OFF", CFG_BOOL, false},
};
static const struct word words_4[] = {
    {"null", CFG_NULL, false},  {"Null", CFG_NULL, false},  {"NULL", CFG_NULL, false},
    {"true", CFG_BOOL, true},   {"True", CFG_BOOL, true},   {"TRUE", CFG_BOOL, true},
    {".nan", CFG_FLOAT, false}, {".NaN", CFG_FLOAT, false}, {".NAN", CFG_FLOAT, false},
    {".inf", CFG_FLOAT, false}, {".Inf", CFG_FLOAT, false}, {".INF", CFG_FLOAT, false},
};
static const struct word words_5[] = {
    {"false", CFG_BOOL, false},  {"False", CFG_BOOL, false},  {"FALSE", CFG_BOOL, false},
    {"+.inf", CFG_FLOAT, false}, {"+.Inf", CFG_FLOAT, false}, {"+.INF", CFG_FLOAT, false},
    {"-.inf", CFG_FLOAT, false}, {"-.Inf", CFG_FLOAT, false}, {"-.INF", CFG_FLOAT, false},
};
static const struct {
    const struct word *words;
    size_t n;
} words_of_len[WORD_MAX + 1] = {
    {NULL, 0},
    {words_1, ARRAY_LEN(words_1)},
    {words_2, ARRAY_LEN(words_2)},
    {words_3, ARRAY_LEN(words_3)},
    {words_4, ARRAY_LEN(words_4)},
    {words_5, ARRAY_LEN(words_5)},
};

// Of at most WORD_MAX characters.
static uint8_t word_type(struct slice text, struct slice *ret_text) {
    char padded[WORD_MAX + 1] = "";

    memcpy(padded, text.ptr, text.len);
    for (size_t i = 0; i < words_of_len[text.len].n; i++) {
        const struct word *word = &words_of_len[text.len].words[i];
        if (memcmp(word->text, padded, sizeof(padded)) != 0) {
            continue;
        }
        if (word->type == CFG_NULL) {
            *ret_text = SLICE_LIT("null");
        } else if (word->type == CFG_BOOL) {
            *ret_text = word->is_true ? SLICE_LIT("true") : SLICE_LIT("false");
        }
        return word->type;
    }
    return CFG_STRING;
}

// What a text may be by its first character; all others are strings.
enum { MAY_BE_WORD = 1, MAY_BE_NUMBER = 2 };
static const uint8_t by_first[256] = {
    ['0' ... '9'] = MAY_BE_NUMBER,
    ['+'] = MAY_BE_WORD | MAY_BE_NUMBER,
    ['-'] = MAY_BE_WORD | MAY_BE_NUMBER,
    ['.'] = MAY_BE_WORD | MAY_BE_NUMBER,
    ['~'] = MAY_BE_WORD,
    ['F'] = MAY_BE_WORD,
    ['f'] = MAY_BE_WORD,
    ['N' ... 'O'] = MAY_BE_WORD,
    ['n' ... 'o'] = MAY_BE_WORD,
    ['T'] = MAY_BE_WORD,
    ['t'] = MAY_BE_WORD,
    ['Y'] = MAY_BE_WORD,
    ['y'] = MAY_BE_WORD,
};

// A decimal that needs no rewriting.
static bool is_decimal(struct slice text) {
    size_t n = 0;

    while (n < text.len && is_digit(text.ptr[n])) {
        n++;
    }
    return n == text.len && n <= 18 && (text.ptr[0] != '0' || n == 1);
}

uint8_t doc_scalar_type(struct slice text, char buf[DOC_NUMBER_MAX], struct slice *ret_text) {
    size_t len = 0;

    *ret_text = text;
    if (text.len == 0) {
        *ret_text = SLICE_LIT("null");
        return CFG_NULL;
    }
    uint8_t first = text.ptr[0], may_be = by_first[first];
    if ((may_be & MAY_BE_WORD) != 0 && text.len <= WORD_MAX) {
        uint8_t type = word_type(text, ret_text);
        if (type != CFG_STRING) {
            return type;
        }
    }
    if ((may_be & MAY_BE_NUMBER) == 0 || text.len >= DOC_NUMBER_MAX) {
        return CFG_STRING;
    }
    if (is_decimal(text)) {
        return CFG_INT;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '_' || first == '.') {
            buf[len++] = (char)text.ptr[i];
        }
    }
    buf[len] = '\0';
    struct slice plain = slice_make(buf, len);
    if (first != '.') {
        char number[DOC_NUMBER_MAX];
        struct slice canonical;
        if (to_integer(plain, number, &canonical)) {
            memcpy(buf, number, canonical.len + 1);
            *ret_text = slice_make(buf, canonical.len);
            return CFG_INT;
        }
    }
    if (is_float(plain)) {
        return float_type(buf, ret_text);
    }
    return CFG_STRING;
}
