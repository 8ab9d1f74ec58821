// SPDX-License-Identifier: Apache-2.0
//
// Types of plain scalars, as sigs.k8s.io/yaml (go-yaml v2) resolves them.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/config_doc_priv.h"

static bool is_any(struct slice text, const char *const *words) {
    for (; *words != NULL; words++) {
        if (slice_eq_str(text, *words)) {
            return true;
        }
    }
    return false;
}

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

static uint8_t word_type(struct slice text, struct slice *ret_text) {
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const odd[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",  ".INF", "+.inf",
                                      "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", NULL};

    if (is_any(text, null)) {
        *ret_text = SLICE_LIT("null");
        return CFG_NULL;
    }
    if (is_any(text, yes)) {
        *ret_text = SLICE_LIT("true");
        return CFG_BOOL;
    }
    if (is_any(text, no)) {
        *ret_text = SLICE_LIT("false");
        return CFG_BOOL;
    }
    return is_any(text, odd) ? CFG_FLOAT : CFG_STRING;
}

uint8_t doc_scalar_type(struct slice text, char buf[DOC_NUMBER_MAX], struct slice *ret_text) {
    size_t len = 0;

    *ret_text = text;
    if (text.len <= 5) {
        uint8_t type = word_type(text, ret_text);
        if (type != CFG_STRING) {
            return type;
        }
    }
    uint8_t first = text.len > 0 ? text.ptr[0] : 0;
    if (!(is_digit(first) || first == '-' || first == '+' || first == '.') ||
        text.len >= DOC_NUMBER_MAX) {
        return CFG_STRING;
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
