// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_regex.h"

#include <stdlib.h>

#include "common/l7/l7_re2.h"

enum { N_GROUPS = 10 }; // \0 to \9

struct l7_regex {
    struct l7_re2 *re;
};

struct l7_regex_set {
    const struct l7_regex **items;
    struct l7_re2_set **parts; // NULL: that part does not fit in its memory
    size_t n, n_parts;
};

static const char *chars(struct slice text) {
    return text.ptr != NULL ? (const char *)text.ptr : "";
}

struct l7_regex *l7_regex_new(struct slice pattern, char ret_error[L7_REGEX_ERROR_MAX]) {
    char ignored[L7_REGEX_ERROR_MAX];
    struct l7_re2 *re = l7_re2_new(chars(pattern), pattern.len, L7_REGEX_MEM_MAX,
                                   ret_error != NULL ? ret_error : ignored, L7_REGEX_ERROR_MAX);
    if (re == NULL) {
        return NULL;
    }
    struct l7_regex *regex = xmalloc(sizeof(*regex));
    regex->re = re;
    return regex;
}

void l7_regex_free(struct l7_regex *regex) {
    if (regex != NULL) {
        l7_re2_free(regex->re);
        free(regex);
    }
}

bool l7_regex_matches(const struct l7_regex *regex, struct slice text) {
    return l7_re2_matches(regex->re, chars(text), text.len);
}

const char *l7_regex_problem(const char *pattern) {
    static _Thread_local char error[L7_REGEX_ERROR_MAX];
    struct l7_regex *regex = l7_regex_new(slice_str(pattern), error);
    bool is_ok = regex != NULL;
    l7_regex_free(regex);
    return is_ok ? NULL : error;
}

const char *l7_regex_rewrite_problem(const struct l7_regex *regex, struct slice rewrite) {
    int n_groups = l7_re2_n_groups(regex->re);
    for (size_t i = 0; i < rewrite.len; i++) {
        if (rewrite.ptr[i] != '\\') {
            continue;
        }
        uint8_t c = ++i < rewrite.len ? rewrite.ptr[i] : 0;
        if (c >= '0' && c <= '9') {
            if (c - '0' > n_groups) {
                return "names a group that the expression does not have";
            }
        } else if (c != '\\') {
            return "has a backslash that neither a digit nor a backslash follows";
        }
    }
    return NULL;
}

static struct slice part_of(struct slice text, size_t start, size_t len) {
    return slice_head(slice_skip(text, start), len);
}

static void append_rewrite(struct buf *out, struct slice text, struct slice rewrite,
                           const struct l7_re2_group *groups) {
    for (size_t i = 0; i < rewrite.len; i++) {
        uint8_t c = rewrite.ptr[i];
        if (c != '\\' || i + 1 == rewrite.len) {
            buf_append_byte(out, c);
            continue;
        }
        c = rewrite.ptr[++i];
        if (c >= '0' && c <= '9') {
            const struct l7_re2_group *group = &groups[c - '0'];
            buf_append(out, part_of(text, group->start, group->len));
        } else {
            buf_append_byte(out, c);
        }
    }
}

// An empty match moves on by a whole character of UTF-8, or a byte of what is none.
static size_t char_len(struct slice text) {
    uint8_t c = text.ptr[0];
    size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    return len <= text.len ? len : 1;
}

bool l7_regex_replace(const struct l7_regex *regex, struct slice text, struct slice rewrite,
                      struct buf *ret) {
    struct l7_re2_group groups[N_GROUPS] = {0};
    int n_groups = MIN(1 + l7_re2_n_groups(regex->re), (int)N_GROUPS);
    size_t len_before = ret->len;
    size_t at = 0, last_end = SIZE_MAX; // an empty match right behind another one is none
    bool is_found = false;
    while (at <= text.len && buf_ok(ret) &&
           l7_re2_find(regex->re, chars(text), text.len, at, groups, n_groups)) {
        buf_append(ret, part_of(text, at, groups[0].start - at));
        at = groups[0].start;
        if (groups[0].len > 0 || at != last_end) {
            append_rewrite(ret, text, rewrite, groups);
            is_found = true;
            at += groups[0].len;
            last_end = at;
            continue;
        }
        if (at == text.len) {
            break;
        }
        size_t len = char_len(slice_skip(text, at));
        buf_append(ret, part_of(text, at, len));
        at += len;
    }
    if (is_found) {
        buf_append(ret, slice_skip(text, at));
    }
    if (!is_found || !buf_ok(ret)) {
        buf_truncate(ret, len_before);
        return false;
    }
    return true;
}

struct l7_regex_set *l7_regex_set_new(const struct l7_regex *const *items, size_t n) {
    struct l7_regex_set *set = xcalloc(1, sizeof(*set));
    set->n = n;
    set->n_parts = (n + L7_REGEX_SET_PART - 1) / L7_REGEX_SET_PART;
    set->items = xcalloc(n, sizeof(*set->items));
    set->parts = xcalloc(set->n_parts, sizeof(struct l7_re2_set *));
    for (size_t part = 0; part < set->n_parts; part++) {
        const struct l7_re2 *res[L7_REGEX_SET_PART];
        size_t first = part * L7_REGEX_SET_PART, n_part = 0;
        for (size_t i = first; i < n && n_part < L7_REGEX_SET_PART; i++) {
            set->items[i] = items[i];
            res[n_part++] = items[i]->re;
        }
        set->parts[part] = l7_re2_set_new(res, n_part, L7_REGEX_SET_MEM_MAX);
    }
    return set;
}

void l7_regex_set_free(struct l7_regex_set *set) {
    if (set == NULL) {
        return;
    }
    for (size_t i = 0; i < set->n_parts; i++) {
        l7_re2_set_free(set->parts[i]);
    }
    free(set->items);
    free(set->parts);
    free(set);
}

static bool match_part(const struct l7_regex_set *set, size_t part, struct slice text,
                       uint64_t bits[L7_REGEX_SET_PART / 64]) {
    memset(bits, 0, L7_REGEX_SET_PART / 8);
    int found = -1;
    if (set->parts[part] != NULL) {
        found = l7_re2_set_match(set->parts[part], chars(text), text.len, bits);
    }
    if (found >= 0) {
        return found > 0;
    }
    size_t first = part * L7_REGEX_SET_PART;
    size_t n = MIN(set->n - first, (size_t)L7_REGEX_SET_PART);
    bool is_any = false;
    for (size_t i = 0; i < n; i++) {
        if (l7_regex_matches(set->items[first + i], text)) {
            bits[i / 64] |= UINT64_C(1) << (i % 64);
            is_any = true;
        }
    }
    return is_any;
}

bool l7_regex_set_next(const struct l7_regex_set *set, struct slice text,
                       struct l7_regex_iter *iter, size_t *ret_index) {
    while (iter->next < set->n) {
        size_t part = iter->next / L7_REGEX_SET_PART;
        if (iter->part != part + 1) {
            iter->part = part + 1;
            if (!match_part(set, part, text, iter->bits)) {
                iter->next = (part + 1) * L7_REGEX_SET_PART;
                continue;
            }
        }
        size_t bit = iter->next % L7_REGEX_SET_PART;
        uint64_t word = iter->bits[bit / 64] >> (bit % 64);
        if (word == 0) {
            iter->next += 64 - bit % 64;
            continue;
        }
        iter->next += (size_t)__builtin_ctzll(word);
        *ret_index = iter->next++;
        return true;
    }
    return false;
}
