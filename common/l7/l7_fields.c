// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_fields.h"

#include <stdio.h>

enum {
    SPARE = 8, // room for what is usually added
    DECIMAL_MAX = 20, // digits of a uint64_t
    TEXT_GUESS = 128, // most printed texts are shorter
};

void l7_fields_init(struct l7_fields *fields, struct arena *arena, const struct http_field *items,
                    size_t n) {
    *fields = (struct l7_fields){.arena = arena, .cap = n + SPARE};
    fields->items = arena_alloc(arena, fields->cap * sizeof(*items));
    if (fields->items == NULL) {
        fields->cap = 0;
        fields->is_overflowed = true;
        return;
    }
    if (n > 0) {
        memcpy(fields->items, items, n * sizeof(*items));
    }
    fields->n = n;
}

void l7_fields_add(struct l7_fields *fields, struct slice name, struct slice value) {
    if (fields->n == fields->cap) {
        size_t cap = fields->cap * 2 + SPARE;
        struct http_field *items = arena_array(fields->arena, cap, sizeof(*items));
        if (items == NULL) {
            fields->is_overflowed = true;
            return;
        }
        if (fields->n > 0) {
            memcpy(items, fields->items, fields->n * sizeof(*items));
        }
        fields->items = items;
        fields->cap = cap;
    }
    fields->items[fields->n++] = (struct http_field){.name = name, .value = value};
}

// Removes the fields of that name from index `from` on.
static void remove_from(struct l7_fields *fields, struct slice name, size_t from) {
    size_t n = from;
    while (n < fields->n && !slice_eq(fields->items[n].name, name)) {
        n++;
    }
    for (size_t i = n + 1; i < fields->n; i++) {
        if (!slice_eq(fields->items[i].name, name)) {
            fields->items[n++] = fields->items[i];
        }
    }
    fields->n = n;
}

void l7_fields_set(struct l7_fields *fields, struct slice name, struct slice value) {
    for (size_t i = 0; i < fields->n; i++) {
        if (slice_eq(fields->items[i].name, name)) {
            fields->items[i].value = value;
            fields->items[i].sensitive = false;
            remove_from(fields, name, i + 1);
            return;
        }
    }
    l7_fields_add(fields, name, value);
}

void l7_fields_remove(struct l7_fields *fields, struct slice name) {
    remove_from(fields, name, 0);
}

static bool is_one_of(struct slice name, const struct slice *names, size_t n_names) {
    for (size_t i = 0; i < n_names; i++) {
        if (slice_eq(name, names[i])) {
            return true;
        }
    }
    return false;
}

void l7_fields_remove_all(struct l7_fields *fields, const struct slice *names, size_t n_names) {
    size_t n = 0;
    for (size_t i = 0; i < fields->n; i++) {
        if (is_one_of(fields->items[i].name, names, n_names)) {
            continue;
        }
        if (n != i) {
            fields->items[n] = fields->items[i];
        }
        n++;
    }
    fields->n = n;
}

void l7_fields_set_u64(struct l7_fields *fields, struct slice name, uint64_t value) {
    uint8_t digits[DECIMAL_MAX];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    struct slice text;
    if (arena_copy(fields->arena, slice_make(digits + at, sizeof(digits) - at), &text)) {
        l7_fields_set(fields, name, text);
    } else {
        fields->is_overflowed = true;
    }
}

const struct http_field *l7_fields_find(const struct http_field *items, size_t n,
                                        struct slice name) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(items[i].name, name)) {
            return &items[i];
        }
    }
    return NULL;
}

bool l7_fields_has_envoys(const struct http_field *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (slice_has_prefix(items[i].name, SLICE_LIT("x-envoy-"))) {
            return true;
        }
    }
    return false;
}

static bool control_value(const struct http_head *head, struct slice name, struct buf *scratch,
                          struct slice *ret_value) {
    if (head->status != 0) {
        if (!slice_eq_str(name, ":status")) {
            return false;
        }
        buf_clear(scratch);
        buf_append_u64(scratch, head->status);
        *ret_value = buf_slice(scratch);
        return true;
    }
    const struct slice *value = NULL;
    if (slice_eq(name, SLICE_LIT(":path"))) {
        value = &head->path;
    } else if (slice_eq(name, SLICE_LIT(":method"))) {
        value = &head->method;
    } else if (slice_eq(name, SLICE_LIT(":authority")) || slice_eq(name, SLICE_LIT("host"))) {
        value = &head->authority;
    } else if (slice_eq(name, SLICE_LIT(":scheme"))) {
        value = &head->scheme;
    }
    if (value == NULL || value->len == 0) {
        return false;
    }
    *ret_value = *value;
    return true;
}

bool l7_fields_value(const struct http_head *head, struct slice name, struct buf *scratch,
                     struct slice *ret_value) {
    if (name.len > 0 && name.ptr[0] == ':') { // no field has such a name
        return control_value(head, name, scratch, ret_value);
    }
    const struct http_field *first = l7_fields_find(head->fields, head->n_fields, name);
    if (first == NULL) {
        return slice_eq(name, SLICE_LIT("host")) && control_value(head, name, scratch, ret_value);
    }
    *ret_value = first->value;
    size_t next = (size_t)(first - head->fields) + 1;
    bool is_joined = false;
    for (size_t i = next; i < head->n_fields; i++) {
        if (!slice_eq(head->fields[i].name, name)) {
            continue;
        }
        if (!is_joined) {
            buf_clear(scratch);
            buf_append(scratch, first->value);
            is_joined = true;
        }
        buf_append_byte(scratch, ',');
        buf_append(scratch, head->fields[i].value);
    }
    if (is_joined && buf_ok(scratch)) {
        *ret_value = buf_slice(scratch);
    }
    return true;
}

static struct slice unquoted(struct slice value) {
    bool is_quoted = value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"';
    return is_quoted ? slice_make(value.ptr + 1, value.len - 2) : value;
}

bool l7_fields_cookie(const struct http_head *head, struct slice name, struct slice *ret_value) {
    // HTTP/2 may have a field for each cookie (RFC 9113 8.2.3).
    for (size_t i = 0; i < head->n_fields; i++) {
        if (!slice_eq_str(head->fields[i].name, "cookie")) {
            continue;
        }
        struct slice rest = head->fields[i].value;
        while (rest.len > 0) {
            struct slice pair = rest, key, value;
            if (!slice_split(rest, ';', &pair, &rest)) {
                rest = slice_make(NULL, 0);
            }
            if (slice_split(slice_trim(pair), '=', &key, &value) && slice_eq(key, name)) {
                *ret_value = unquoted(value);
                return true;
            }
        }
    }
    return false;
}

bool l7_fields_is_grpc(const struct http_head *head) {
    static const struct slice grpc = SLICE_LIT("application/grpc");
    const struct http_field *type =
        l7_fields_find(head->fields, head->n_fields, SLICE_LIT("content-type"));
    if (type == NULL || !slice_has_prefix(type->value, grpc)) {
        return false;
    }
    struct slice rest = slice_skip(type->value, grpc.len);
    return rest.len == 0 || rest.ptr[0] == '+' || rest.ptr[0] == ';';
}

struct slice l7_fields_printf(struct l7_fields *fields, const char *fmt, ...) {
    char guess[TEXT_GUESS];
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(guess, sizeof(guess), fmt, args);
    va_end(args);
    char *text = len >= 0 ? arena_alloc(fields->arena, (size_t)len + 1) : NULL;
    if (text == NULL) {
        fields->is_overflowed = true;
    } else if ((size_t)len < sizeof(guess)) {
        memcpy(text, guess, (size_t)len + 1);
    } else {
        vsnprintf(text, (size_t)len + 1, fmt, again);
    }
    va_end(again);
    return slice_make(text, text != NULL ? (size_t)len : 0);
}
