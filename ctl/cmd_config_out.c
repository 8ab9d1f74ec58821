// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/json_out.h"
#include "ctl/cmd_config.h"

// ---- tables ------------------------------------------------------------------------------------

void table_init(struct table *table, size_t n_cols, size_t padding) {
    *table = (struct table){.n_cols = n_cols, .padding = padding};
}

void table_fini(struct table *table) {
    for (size_t i = 0; i < table->n_cells; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){0};
}

static void take_cell(struct table *table, char *text) {
    if (table->n_cells == table->cap) {
        table->cap = table->cap == 0 ? 64 : 2 * table->cap;
        table->cells = xrealloc(table->cells, table->cap * sizeof(*table->cells));
    }
    table->cells[table->n_cells++] = text;
}

void table_add(struct table *table, const char *text) {
    take_cell(table, xstrdup(text != NULL ? text : ""));
}

void table_addf(struct table *table, const char *fmt, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    take_cell(table, text);
}

void table_print(const struct table *table, FILE *out) {
    size_t n = table->n_cols;
    size_t *widths = xcalloc(n, sizeof(*widths));
    for (size_t i = 0; i < table->n_cells; i++) {
        widths[i % n] = MAX(widths[i % n], strlen(table->cells[i]));
    }
    for (size_t i = 0; i < table->n_cells; i++) {
        bool is_last = i % n == n - 1;
        int width = is_last ? 0 : (int)(widths[i % n] + table->padding);
        fprintf(out, "%-*s%s", width, table->cells[i], is_last ? "\n" : "");
    }
    free(widths);
}

// ---- YAML --------------------------------------------------------------------------------------

// Whether a text is read back as this text when it stands without quotes.
static bool is_plain(const char *text) {
    static const char *const words[] = {"true", "false", "yes",  "no",  "on", "off",
                                        "y",    "n",     "null", "nan", "inf"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return false;
        }
    }
    if (text[0] == '\0' || strchr(letters, text[0]) == NULL) {
        return false;
    }
    for (const char *at = text; *at != '\0'; at++) {
        bool is_colon = *at == ':' && at[1] != '\0' && at[1] != ' ';
        if (!is_colon && strchr(letters, *at) == NULL && strchr("0123456789_./-", *at) == NULL) {
            return false;
        }
    }
    return true;
}

static void put_text(FILE *out, const char *text) {
    if (is_plain(text)) {
        fputs(text, out);
        return;
    }
    struct buf quoted; // a JSON string is a YAML string
    buf_init(&quoted, SIZE_MAX);
    json_out_quote(&quoted, slice_str(text));
    fputs(buf_cstr(&quoted), out);
    buf_fini(&quoted);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_value(FILE *out, const json_t *value, int indent, bool is_in_list);

static void put_object(FILE *out, const json_t *object, int indent, bool is_in_list) {
    size_t n = json_object_size(object), at = 0;
    const char **keys = xcalloc(n + 1, sizeof(*keys));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        keys[at++] = key;
    }
    qsort(keys, n, sizeof(*keys), by_name);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%*s", is_in_list && i == 0 ? 0 : indent, "");
        put_text(out, keys[i]);
        fputc(':', out);
        put_value(out, json_object_get(object, keys[i]), indent, false);
    }
    free(keys);
}

static void put_list(FILE *out, const json_t *list, int indent, bool is_in_list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        fprintf(out, "%*s-", is_in_list && i == 0 ? 0 : indent, "");
        put_value(out, json_array_get(list, i), indent + 2, true);
    }
}

// After "key:" or "-": a scalar on the same line; maps and lists below it, or behind the dash.
static void put_value(FILE *out, const json_t *value, int indent, bool is_in_list) {
    bool is_list = json_is_array(value) && json_array_size(value) > 0;
    bool is_map = json_is_object(value) && json_object_size(value) > 0;
    if (is_list || is_map) {
        fputs(is_in_list ? " " : "\n", out);
        if (is_map) {
            put_object(out, value, is_in_list ? indent : indent + 2, is_in_list);
        } else {
            put_list(out, value, indent, is_in_list);
        }
        return;
    }
    fputc(' ', out);
    if (json_is_string(value)) {
        put_text(out, json_string_value(value));
    } else {
        json_dumpf(value, out, JSON_ENCODE_ANY);
    }
    fputc('\n', out);
}

void yaml_print(const json_t *value, FILE *out) {
    if (json_is_object(value) && json_object_size(value) > 0) {
        put_object(out, value, 0, false);
    } else if (json_is_array(value) && json_array_size(value) > 0) {
        put_list(out, value, 0, false);
    } else {
        json_dumpf(value, out, JSON_ENCODE_ANY);
        fputc('\n', out);
    }
}

void json_print(const json_t *value, FILE *out) {
    json_dumpf(value, out, JSON_INDENT(4) | JSON_ENCODE_ANY);
    fputc('\n', out);
}
