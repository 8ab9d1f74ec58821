// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_yaml.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/slice.h"

// Whether a text reads back as the same text without quotes.
static bool is_plain(const char *text) {
    static const char *const words[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n"};
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./$()+=,;@";
    size_t len = strlen(text);
    if (len == 0 || strspn(text, plain) != len || strchr("-=,;@.+", text[0]) != NULL) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(words[i], text) == 0) {
            return false;
        }
    }
    // A number, a date or the like begins with a digit; names that do are quoted too.
    return text[0] < '0' || text[0] > '9';
}

static void write_text(const char *text, struct text *out) {
    if (is_plain(text)) {
        text_add(out, "%s", text);
        return;
    }
    json_t *value = json_string(text);
    char *quoted = json_dumps(value, JSON_ENCODE_ANY); // JSON's quotes are YAML's
    text_add(out, "%s", quoted != NULL ? quoted : "\"\"");
    free(quoted);
    json_decref(value);
}

static bool is_nested(const json_t *value) {
    return json_object_size(value) > 0 || json_array_size(value) > 0;
}

static void write_scalar(const json_t *value, struct text *out) {
    if (json_is_string(value)) {
        write_text(json_string_value(value), out);
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY); // {} and [] too
    text_add(out, "%s", text != NULL ? text : "null");
    free(text);
}

static void write_at(const json_t *value, int indent, bool is_first_placed, struct text *out) {
    const char *key;
    size_t i;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) {
        text_add(out, "%*s", is_first_placed ? 0 : indent, "");
        is_first_placed = false;
        write_text(key, out);
        if (!is_nested(item)) {
            text_add(out, ": ");
            write_scalar(item, out);
            text_add(out, "\n");
        } else {
            text_add(out, ":\n");
            write_at(item, json_is_array(item) ? indent : indent + 2, false, out);
        }
    }
    json_array_foreach((json_t *)value, i, item) {
        text_add(out, "%*s- ", is_first_placed ? 0 : indent, "");
        is_first_placed = false;
        if (!is_nested(item)) {
            write_scalar(item, out);
            text_add(out, "\n");
        } else {
            write_at(item, indent + 2, true, out);
        }
    }
}

void yaml_write(const json_t *value, struct text *out) {
    if (is_nested(value)) {
        write_at(value, 0, false, out);
    } else {
        write_scalar(value, out);
        text_add(out, "\n");
    }
}
