// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_jsonpath.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/slice.h"

enum { NAME_MAX_LEN = 256, DEPTH_MAX = 16 };

struct set { // borrowed values
    const json_t **items;
    size_t n, cap;
};

struct reader {
    const json_t *root;
    struct text *out;
    char *error; // the first one
};

static void set_add(struct set *set, const json_t *value) {
    if (value == NULL) {
        return;
    }
    if (set->n == set->cap) {
        set->cap = set->cap != 0 ? 2 * set->cap : 16;
        set->items = xrealloc(set->items, set->cap * sizeof(*set->items));
    }
    set->items[set->n++] = value;
}

static bool fail(struct reader *r, char *error) {
    if (r->error == NULL) {
        r->error = error;
    } else {
        free(error);
    }
    return false;
}

// Steps

static void add_children(struct set *to, const json_t *value) {
    const char *key;
    json_t *child;
    size_t i;
    json_object_foreach((json_t *)value, key, child) {
        set_add(to, child);
    }
    json_array_foreach((json_t *)value, i, child) {
        set_add(to, child);
    }
}

static void add_descendants(struct set *to, const json_t *value) {
    size_t first = to->n;
    set_add(to, value);
    for (size_t i = first; i < to->n; i++) {
        add_children(to, to->items[i]);
    }
}

// A name up to the next step; a backslash takes the next character as it is.
static bool read_name(const char **at, char name[NAME_MAX_LEN]) {
    size_t n = 0;
    for (; **at != '\0' && strchr(".[]{} )=!", **at) == NULL; (*at)++) {
        if (**at == '\\' && (*at)[1] != '\0') {
            (*at)++;
        }
        if (n + 1 >= NAME_MAX_LEN) {
            return false;
        }
        name[n++] = **at;
    }
    name[n] = '\0';
    return n > 0;
}

static bool read_quoted(const char **at, char text[NAME_MAX_LEN]) {
    char quote = *(*at)++;
    size_t n = 0;
    for (; **at != '\0' && **at != quote; (*at)++) {
        char c = **at;
        if (c == '\\' && (*at)[1] != '\0') {
            (*at)++;
            c = **at == 'n' ? '\n' : **at == 't' ? '\t' : **at;
        }
        if (n + 1 >= NAME_MAX_LEN) {
            return false;
        }
        text[n++] = c;
    }
    text[n] = '\0';
    bool is_closed = **at == quote;
    *at += is_closed;
    return is_closed;
}

static bool path(struct reader *r, const char **at, struct set *set, int depth);

static bool is_same(const json_t *value, const char *text, bool is_text) {
    if (json_is_string(value)) {
        return strcmp(json_string_value(value), text) == 0;
    }
    char *plain = is_text ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    bool is_equal = plain != NULL && strcmp(plain, text) == 0;
    free(plain);
    return is_equal;
}

// ?(@.type=="Ready"), behind the `?`
static bool filter(struct reader *r, const char **at, const struct set *from, struct set *to,
                   int depth) {
    if (strncmp(*at, "(@", 2) != 0) {
        return fail(r, xstrdup("a filter is [?(@.path==\"value\")]"));
    }
    const char *begin = *at + 2, *end = begin;
    for (size_t i = 0; i < from->n; i++) {
        for (size_t k = 0; k < json_array_size(from->items[i]); k++) {
            const json_t *item = json_array_get(from->items[i], k);
            struct set value = {0};
            char text[NAME_MAX_LEN] = "";
            end = begin;
            set_add(&value, item);
            bool is_ok = path(r, &end, &value, depth + 1);
            end += strspn(end, " ");
            bool has_op = (*end == '=' || *end == '!') && end[1] == '=', is_not = *end == '!';
            bool is_fit = value.n > 0;
            if (is_ok && has_op) {
                end += 2;
                end += strspn(end, " ");
                bool is_text = *end == '"' || *end == '\'';
                is_ok = is_text ? read_quoted(&end, text) : read_name(&end, text);
                is_fit = value.n > 0 && is_same(value.items[0], text, is_text) != is_not;
            }
            free(value.items);
            if (!is_ok || *end != ')') {
                return fail(r, xstrdup("a filter is [?(@.path==\"value\")]"));
            }
            if (is_fit) {
                set_add(to, item);
            }
        }
    }
    // Also where nothing was filtered the text has to be passed.
    const char *close = strstr(begin, ")]");
    if (close == NULL) {
        return fail(r, xstrdup("a filter is [?(@.path==\"value\")]"));
    }
    *at = end > begin ? end + 1 : close + 1;
    return true;
}

static bool at_index(struct reader *r, const struct set *from, struct set *to, long index) {
    for (size_t i = 0; i < from->n; i++) {
        long n = (long)json_array_size(from->items[i]), place = index < 0 ? n + index : index;
        if (json_is_array(from->items[i]) && (place < 0 || place >= n)) {
            return fail(r, xasprintf("array index out of bounds: index %ld, length %ld", index, n));
        }
        set_add(to, json_array_get(from->items[i], (size_t)place));
    }
    return true;
}

// Behind a `[`
static bool bracket(struct reader *r, const char **at, const struct set *from, struct set *to,
                    int depth) {
    char name[NAME_MAX_LEN], *end = NULL;
    bool is_ok = true;
    if (**at == '*') {
        for (size_t i = 0; i < from->n; i++) {
            add_children(to, from->items[i]);
        }
        (*at)++;
    } else if (**at == '?') {
        (*at)++;
        is_ok = filter(r, at, from, to, depth);
    } else if (**at == '\'' || **at == '"') {
        is_ok = read_quoted(at, name);
        for (size_t i = 0; is_ok && i < from->n; i++) {
            set_add(to, json_object_get(from->items[i], name));
        }
    } else {
        long index = strtol(*at, &end, 10);
        is_ok = end != *at && at_index(r, from, to, index);
        *at = end;
    }
    if (!is_ok || **at != ']') {
        return fail(r, xstrdup("a `[` is followed by a number, *, 'name' or ?(filter), and `]`"));
    }
    (*at)++;
    return true;
}

// Behind a `.`
static bool dot(struct reader *r, const char **at, const struct set *from, struct set *to) {
    struct set all = {0};
    char name[NAME_MAX_LEN];
    bool is_deep = **at == '.';
    *at += is_deep;
    if (**at == '\0' || strchr("} [)=!", **at) != NULL) { // {.}, {.[0]}
        for (size_t i = 0; i < from->n; i++) {
            set_add(to, from->items[i]);
        }
        return true;
    }
    for (size_t i = 0; i < from->n; i++) {
        if (is_deep) {
            add_descendants(&all, from->items[i]);
        } else {
            set_add(&all, from->items[i]);
        }
    }
    bool is_any = **at == '*';
    *at += is_any;
    bool is_ok = is_any || read_name(at, name);
    for (size_t i = 0; is_ok && i < all.n; i++) {
        if (is_any) {
            add_children(to, all.items[i]);
        } else {
            set_add(to, json_object_get(all.items[i], name));
        }
    }
    free(all.items);
    return is_ok || fail(r, xstrdup("a `.` is followed by a name"));
}

// Replaces the set by what the steps lead to; *at moves behind them.
static bool path(struct reader *r, const char **at, struct set *set, int depth) {
    if (depth > DEPTH_MAX) {
        return fail(r, xstrdup("filters in filters are too deep"));
    }
    while (**at == '.' || **at == '[') {
        struct set next = {0};
        bool is_dot = *(*at)++ == '.';
        bool is_ok = is_dot ? dot(r, at, set, &next) : bracket(r, at, set, &next, depth);
        free(set->items);
        *set = next;
        if (!is_ok) {
            return false;
        }
    }
    return true;
}

// Templates

static void print_set(const struct set *set, struct text *out) {
    for (size_t i = 0; i < set->n; i++) {
        const json_t *value = set->items[i];
        char *text = json_is_string(value) ? xstrdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        text_add(out, "%s%s", i > 0 ? " " : "", text != NULL ? text : "");
        free(text);
    }
}

// Whether `{word ...}` is at `at`; *ret_behind is behind the word then.
static bool is_word(const char *at, const char *word, const char **ret_behind) {
    size_t len = strlen(word);
    at += strspn(at, " ");
    *ret_behind = at + len;
    return strncmp(at, word, len) == 0 && (at[len] == ' ' || at[len] == '}');
}

static const char *body(struct reader *r, const char *at, const json_t *current, bool is_printing,
                        int depth);

// Behind "{range": the path, the body for each value, and its {end}.
static const char *range(struct reader *r, const char *at, const json_t *current, bool is_printing,
                         int depth) {
    struct set set = {0};
    const char *end = NULL;
    set_add(&set, current);
    at += strspn(at, " ");
    bool is_ok = path(r, &at, &set, 0);
    at += strspn(at, " ");
    if (!is_ok || *at != '}') {
        fail(r, xstrdup("{range .path} is not closed"));
        free(set.items);
        return NULL;
    }
    for (size_t i = 0; is_printing && i < set.n; i++) {
        end = body(r, at + 1, set.items[i], true, depth + 1);
    }
    if (end == NULL && r->error == NULL) {
        end = body(r, at + 1, NULL, false, depth + 1); // only to find its end
    }
    free(set.items);
    return end;
}

// Behind a `{`; NULL: an error.
static const char *braces(struct reader *r, const char *at, const json_t *current,
                          bool is_printing) {
    char literal[NAME_MAX_LEN];
    at += strspn(at, " ");
    while (*at != '\0' && *at != '}') {
        struct set set = {0};
        set_add(&set, *at == '$' ? r->root : current);
        bool is_quoted = *at == '"' || *at == '\'';
        if (*at == '$' || *at == '@') {
            at++;
        }
        bool is_ok = is_quoted ? read_quoted(&at, literal)
                               : (*at == '.' || *at == '[' || *at == '}') && path(r, &at, &set, 0);
        if (is_ok && is_printing && is_quoted) {
            text_add(r->out, "%s", literal);
        } else if (is_ok && is_printing) {
            print_set(&set, r->out);
        }
        free(set.items);
        if (!is_ok) {
            fail(r, xasprintf("unrecognized text in braces: \"%.40s\"", at));
            return NULL;
        }
        at += strspn(at, " ");
    }
    if (*at != '}') {
        fail(r, xstrdup("unclosed action: a `}` is missing"));
        return NULL;
    }
    return at + 1;
}

// Up to the end of the text (depth 0) or the {end} of a range. NULL: an error.
static const char *body(struct reader *r, const char *at, const json_t *current, bool is_printing,
                        int depth) {
    const char *behind;
    if (depth > DEPTH_MAX) {
        fail(r, xstrdup("ranges in ranges are too deep"));
        return NULL;
    }
    while (at != NULL && *at != '\0') {
        if (*at != '{') {
            if (is_printing) {
                text_add(r->out, "%c", *at);
            }
            at++;
        } else if (is_word(at + 1, "end", &behind)) {
            if (depth == 0 || *behind != '}') {
                fail(r, xstrdup("{end} without {range}"));
                return NULL;
            }
            return behind + 1;
        } else if (is_word(at + 1, "range", &behind)) {
            at = range(r, behind, current, is_printing, depth);
        } else {
            at = braces(r, at + 1, current, is_printing);
        }
    }
    if (at != NULL && depth > 0) {
        fail(r, xstrdup("{range} without {end}"));
        return NULL;
    }
    return at;
}

bool lab_jsonpath(const char *template, const json_t *root, struct text *out, char **ret_error) {
    struct reader r = {.root = root, .out = out};
    text_add(out, "%s", "");
    body(&r, template, root, true, 0);
    if (r.error != NULL) {
        *ret_error = r.error;
        return false;
    }
    return true;
}
