// SPDX-License-Identifier: Apache-2.0
//
// Syntax of single values: names, addresses, quantities, durations, base64; and edit distance.
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/addr.h"
#include "common/mesh/schema.h"

enum { MAX_WORD = 64 };

unsigned schema_max_distance(const char *word) {
    size_t len = strlen(word);
    return len <= 2 ? 0 : len <= 5 ? 1 : len <= 9 ? 2 : 3;
}

// Optimal string alignment, three rows.
unsigned schema_distance(const char *a, const char *b, unsigned max) {
    size_t len_a = strlen(a), len_b = strlen(b);
    unsigned rows[3][MAX_WORD + 1];

    if (len_a > MAX_WORD || len_b > MAX_WORD ||
        (len_a > len_b ? len_a - len_b : len_b - len_a) > max) {
        return max + 1;
    }
    for (size_t j = 0; j <= len_b; j++) {
        rows[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= len_a; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= len_b; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            row[j] = MIN(MIN(above[j] + 1, row[j - 1] + 1), above[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                cb == tolower((unsigned char)a[i - 2])) {
                row[j] = MIN(row[j], above2[j - 2] + 1);
            }
        }
    }
    return MIN(rows[len_a % 3][len_b], max + 1);
}

const char *schema_check_ip(const char *text) {
    struct ip ip;
    return ip_parse(slice_str(text), &ip) ? NULL : "is not an IP address";
}

const char *schema_check_cidr(const char *text) {
    struct cidr cidr;
    return cidr_parse(slice_str(text), false, &cidr) ? NULL
                                                     : "is not an IP address or CIDR (10.0.0.0/8)";
}

static bool is_alnum_lower(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_label(struct slice text) {
    if (text.len == 0 || text.len > 63) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        bool is_edge = i == 0 || i == text.len - 1;
        if (!is_alnum_lower((char)text.ptr[i]) && (is_edge || text.ptr[i] != '-')) {
            return false;
        }
    }
    return true;
}

const char *schema_check_dns_label(const char *text) {
    return is_label(slice_str(text)) ? NULL
                                     : "is not a valid name: lower case letters, digits and `-`, "
                                       "at most 63, a letter or digit at both ends";
}

static bool is_dns_name(struct slice text) {
    struct slice head, tail;

    if (text.len > 253) {
        return false;
    }
    while (slice_split(text, '.', &head, &tail)) {
        if (!is_label(head)) {
            return false;
        }
        text = tail;
    }
    return is_label(text);
}

const char *schema_check_dns_name(const char *text) {
    return is_dns_name(slice_str(text)) ? NULL
                                        : "is not a valid name: lower case letters, digits, `-` "
                                          "and `.`, at most 253, a letter or digit at both ends";
}

const char *schema_check_host_wildcard(const char *text) {
    struct slice host = slice_str(text);

    if (slice_eq_str(host, "*")) {
        return NULL;
    }
    if (slice_has_prefix(host, SLICE_LIT("*."))) {
        host = slice_skip(host, 2);
    }
    // Names in the wild hold upper case letters and underscores, too.
    char lower[256];
    if (host.len >= sizeof(lower)) {
        return "is longer than 253 characters";
    }
    for (size_t i = 0; i < host.len; i++) {
        lower[i] = (char)tolower(host.ptr[i] == '_' ? 'x' : host.ptr[i]);
    }
    if (host.len > 0 && lower[host.len - 1] == '.') {
        host.len--; // fully qualified
    }
    return is_dns_name(slice_make(lower, host.len))
               ? NULL
               : "is not a host name; a wildcard is only `*` or the first label of `*.example.com`";
}

const char *schema_check_port_name(const char *text) {
    size_t len = strlen(text);
    bool has_letter = false, is_ok = len >= 1 && len <= 15;

    for (size_t i = 0; is_ok && i < len; i++) {
        bool is_edge = i == 0 || i == len - 1;
        has_letter = has_letter || isalpha((unsigned char)text[i]);
        is_ok = is_alnum_lower(text[i]) || (text[i] == '-' && !is_edge && text[i - 1] != '-');
    }
    return is_ok && has_letter ? NULL
                               : "is not a port name: at most 15 lower case letters, digits and "
                                 "`-`, at least one letter";
}

static bool is_label_word(struct slice text) {
    if (text.len > 63) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        bool is_edge = i == 0 || i == text.len - 1;
        if (!isalnum(text.ptr[i]) && (is_edge || strchr("-_.", text.ptr[i]) == NULL)) {
            return false;
        }
    }
    return true;
}

const char *schema_check_label_value(const char *text) {
    return is_label_word(slice_str(text)) ? NULL
                                          : "is not a label value: at most 63 letters, digits, "
                                            "`-`, `_`, `.`, a letter or digit at both ends";
}

const char *schema_check_label_key(const char *text) {
    struct slice prefix, name = slice_str(text);

    if (slice_split(name, '/', &prefix, &name) && !is_dns_name(prefix)) {
        return "is not a label key: what is before `/` must be a DNS name";
    }
    return name.len > 0 && is_label_word(name)
               ? NULL
               : "is not a label key: [prefix/]name with at most 63 letters, digits, `-`, `_`, `.`";
}

bool schema_quantity(struct slice text, int64_t *ret_milli) {
    static const struct {
        const char *suffix;
        double milli;
    } units[] = {
        {"", 1e3},
        {"n", 1e-6},
        {"u", 1e-3},
        {"m", 1},
        {"k", 1e6},
        {"M", 1e9},
        {"G", 1e12},
        {"T", 1e15},
        {"P", 1e18},
        {"E", 1e21},
        {"Ki", 1024e3},
        {"Mi", 1048576e3},
        {"Gi", 1073741824e3},
        {"Ti", 1099511627776e3},
        {"Pi", 1125899906842624e3},
        {"Ei", 1152921504606846976e3},
    };
    char number[64];
    size_t len = 0;

    while (len < text.len && len < sizeof(number) - 1 &&
           (isdigit(text.ptr[len]) || strchr("+-.", text.ptr[len]) != NULL) &&
           text.ptr[len] != '\0') {
        number[len] = (char)text.ptr[len];
        len++;
    }
    number[len] = '\0';
    char *end;
    double value = strtod(number, &end);
    if (len == 0 || *end != '\0' || end == number) {
        return false;
    }
    struct slice unit = slice_skip(text, len);
    double milli = NAN;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (slice_eq_str(unit, units[i].suffix)) {
            milli = value * units[i].milli;
        }
    }
    // "12e6": an exponent, else "E" alone is exa.
    int64_t exponent;
    uint64_t digits;
    if (isnan(milli) && unit.len >= 2 && unit.len <= 4 && (unit.ptr[0] | 0x20) == 'e') {
        bool is_negative = unit.ptr[1] == '-';
        struct slice rest = slice_skip(unit, 1u + (is_negative || unit.ptr[1] == '+'));
        if (slice_to_u64(rest, 30, &digits)) {
            exponent = is_negative ? -(int64_t)digits : (int64_t)digits;
            milli = value * pow(10, (double)exponent) * 1e3;
        }
    }
    if (isnan(milli)) {
        return false;
    }
    *ret_milli = milli >= 9.2e18 ? INT64_MAX : milli <= -9.2e18 ? INT64_MIN : (int64_t)ceil(milli);
    return true;
}

const char *schema_check_quantity(const char *text) {
    int64_t milli;
    return schema_quantity(slice_str(text), &milli) ? NULL : "is not a quantity such as 64Mi";
}

bool schema_duration(struct slice text, int64_t *ret_ms) {
    static const struct {
        const char *suffix;
        double ms;
    } units[] = {{"ms", 1}, {"us", 1e-3}, {"ns", 1e-6}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}};
    double total = 0;

    if (text.len == 0 || text.len > 40) {
        return false;
    }
    while (text.len > 0) {
        char number[48];
        size_t len = 0;
        while (len < text.len && (isdigit(text.ptr[len]) || text.ptr[len] == '.')) {
            number[len] = (char)text.ptr[len];
            len++;
        }
        number[len] = '\0';
        char *end;
        double value = strtod(number, &end), ms = -1;
        if (len == 0 || *end != '\0') {
            return false;
        }
        text = slice_skip(text, len);
        for (size_t i = 0; ms < 0 && i < ARRAY_LEN(units); i++) {
            struct slice suffix = slice_str(units[i].suffix);
            if (slice_has_prefix(text, suffix)) {
                ms = value * units[i].ms;
                text = slice_skip(text, suffix.len);
            }
        }
        if (ms < 0) {
            return false;
        }
        total += ms;
    }
    if (total > 1e15) {
        return false;
    }
    *ret_ms = (int64_t)total;
    return true;
}

static int base64_value(uint8_t c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool schema_base64(struct slice text, uint8_t *out, size_t *ret_len) {
    uint32_t bits = 0;
    size_t n_bits = 0, len = 0, n_chars = 0, n_pad = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '\n' || c == '\r') {
            continue; // Go's decoder skips line ends
        }
        n_chars++;
        if (c == '=') {
            n_pad++;
            continue;
        }
        int value = base64_value(c);
        if (value < 0 || n_pad > 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xffffff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            if (out != NULL) {
                out[len] = (uint8_t)(bits >> n_bits);
            }
            len++;
        }
    }
    if (n_chars % 4 != 0 || n_pad > 2) {
        return false;
    }
    *ret_len = len;
    return true;
}
