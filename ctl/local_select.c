// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_select.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/slice.h"

enum op { OP_EXISTS, OP_IN };

struct requirement {
    struct slice key, values; // values: with commas between them
    bool is_negated;
    enum op op;
};

// The next requirement of *rest, which moves behind it: up to a comma outside of parentheses.
static struct slice next_term(struct slice *rest) {
    size_t depth = 0, i = 0;
    for (; i < rest->len && (rest->ptr[i] != ',' || depth > 0); i++) {
        depth += rest->ptr[i] == '(';
        depth -= rest->ptr[i] == ')' && depth > 0;
    }
    struct slice term = slice_head(*rest, i);
    *rest = slice_skip(*rest, MIN(i + 1, rest->len));
    return slice_trim(term);
}

static bool is_key(struct slice text) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
    for (size_t i = 0; i < text.len; i++) {
        if (strchr(allowed, text.ptr[i]) == NULL || text.ptr[i] == '\0') {
            return false;
        }
    }
    return text.len > 0;
}

// "(a, b)" into "a, b"
static bool unwrap(struct slice text, struct slice *ret) {
    text = slice_trim(text);
    if (text.len < 2 || text.ptr[0] != '(' || text.ptr[text.len - 1] != ')') {
        return false;
    }
    *ret = slice_head(slice_skip(text, 1), text.len - 2);
    return memchr(ret->ptr, '(', ret->len) == NULL && memchr(ret->ptr, ')', ret->len) == NULL;
}

static bool parse(struct slice term, struct requirement *ret) {
    struct slice key, rest;
    *ret = (struct requirement){.op = OP_IN};
    if (slice_split(term, '=', &key, &rest)) {
        ret->is_negated = key.len > 0 && key.ptr[key.len - 1] == '!';
        ret->key = slice_trim(slice_head(key, key.len - ret->is_negated));
        bool is_double = !ret->is_negated && rest.len > 0 && rest.ptr[0] == '=';
        ret->values = slice_trim(slice_skip(rest, is_double));
        return is_key(ret->key) && (ret->values.len == 0 || is_key(ret->values));
    }
    if (slice_split(term, ' ', &key, &rest)) {
        rest = slice_trim(rest);
        ret->key = key;
        ret->is_negated = slice_has_prefix(rest, SLICE_LIT("notin"));
        bool is_in = ret->is_negated || slice_has_prefix(rest, SLICE_LIT("in"));
        return is_in && is_key(key) &&
               unwrap(slice_skip(rest, ret->is_negated ? 5 : 2), &ret->values);
    }
    ret->op = OP_EXISTS;
    ret->is_negated = term.len > 0 && term.ptr[0] == '!';
    ret->key = slice_trim(slice_skip(term, ret->is_negated));
    return is_key(ret->key);
}

bool lab_selector_check(const char *selector, char **ret_error) {
    struct slice rest = slice_str(selector);
    while (rest.len > 0) {
        struct requirement requirement;
        struct slice term = next_term(&rest);
        if (!parse(term, &requirement)) {
            *ret_error = xasprintf("unable to parse requirement: \"%.*s\"", (int)term.len,
                                   (const char *)term.ptr);
            return false;
        }
    }
    return true;
}

static bool is_among(struct slice values, const char *have) {
    struct slice value;
    bool is_more = true;
    while (is_more) {
        is_more = slice_split(values, ',', &value, &values);
        if (slice_eq_str(slice_trim(is_more ? value : values), have)) {
            return true;
        }
    }
    return false;
}

static bool fits(const struct requirement *requirement, const json_t *labels) {
    const json_t *label =
        json_object_getn(labels, (const char *)requirement->key.ptr, requirement->key.len);
    const char *have = json_string_value(label);
    bool is_fit = requirement->op == OP_EXISTS
                      ? label != NULL
                      : have != NULL && is_among(requirement->values, have);
    return is_fit != requirement->is_negated;
}

bool lab_selector_matches(const char *selector, const json_t *labels) {
    struct slice rest = slice_str(selector != NULL ? selector : "");
    while (rest.len > 0) {
        struct requirement requirement;
        if (!parse(next_term(&rest), &requirement) || !fits(&requirement, labels)) {
            return false;
        }
    }
    return true;
}
