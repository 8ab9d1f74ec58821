// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/config_errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_errors_init(struct config_errors *errors) {
    *errors = (struct config_errors){0};
}

// The texts of one item share one allocation, which `file` points at.
void config_errors_clear(struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        free((char *)errors->items[i].file);
    }
    errors->n = errors->n_errors = errors->n_warnings = errors->n_notes = 0;
}

void config_errors_fini(struct config_errors *errors) {
    config_errors_clear(errors);
    free(errors->items);
    *errors = (struct config_errors){0};
}

static const char *pack(char **pos, const char *text) {
    const char *start = *pos;
    size_t len = text != NULL ? strlen(text) : 0;

    if (len > 0) {
        memcpy(*pos, text, len);
    }
    (*pos)[len] = '\0';
    *pos += len + 1;
    return start;
}

static size_t packed_len(const char *text) {
    return (text != NULL ? strlen(text) : 0) + 1;
}

void config_errors_add(struct config_errors *errors, const struct config_error *error) {
    if (error->severity == CONFIG_ERROR) {
        errors->n_errors++;
    } else if (error->severity == CONFIG_WARNING) {
        errors->n_warnings++;
    } else {
        errors->n_notes++;
    }
    if (errors->n >= CONFIG_ERRORS_MAX) {
        return;
    }
    if (errors->n == errors->cap) {
        errors->cap = errors->cap != 0 ? errors->cap * 2 : 16;
        errors->items = xrealloc(errors->items, errors->cap * sizeof(errors->items[0]));
    }
    char *pos =
        xmalloc(packed_len(error->file) + packed_len(error->object) + packed_len(error->path) +
                packed_len(error->text) + packed_len(error->hint));
    struct config_error *copy = &errors->items[errors->n++];
    *copy = *error;
    copy->file = pack(&pos, error->file);
    copy->object = pack(&pos, error->object);
    copy->path = pack(&pos, error->path);
    copy->text = pack(&pos, error->text);
    copy->hint = pack(&pos, error->hint);
}

static bool is_before(const struct config_error *a, const struct config_error *b) {
    int order = strcmp(a->file, b->file);

    if (order != 0) {
        return order < 0;
    }
    if (a->line != b->line) {
        return a->line < b->line;
    }
    return a->col < b->col;
}

// Merge sort: stable, and at most CONFIG_ERRORS_MAX items.
static void sort_range(struct config_error *items, struct config_error *tmp, uint32_t n) {
    if (n < 2) {
        return;
    }
    uint32_t half = n / 2, left = 0, right = half;
    sort_range(items, tmp, half);
    sort_range(items + half, tmp, n - half);
    memcpy(tmp, items, n * sizeof(items[0]));
    for (uint32_t i = 0; i < n; i++) {
        bool take_right = left == half || (right < n && is_before(&tmp[right], &tmp[left]));
        items[i] = take_right ? tmp[right++] : tmp[left++];
    }
}

void config_errors_sort(struct config_errors *errors) {
    if (errors->n < 2) {
        return;
    }
    struct config_error *tmp = xmalloc(errors->n * sizeof(tmp[0]));
    sort_range(errors->items, tmp, errors->n);
    free(tmp);
}

static const char *const severity_texts[] = {
    [CONFIG_ERROR] = "", [CONFIG_WARNING] = "warning: ", [CONFIG_NOTE] = "note: "};

char *config_error_text(const struct config_error *error) {
    char place[32] = "";
    bool has_hint = error->hint[0] != '\0';

    if (error->line != 0) {
        snprintf(place, sizeof(place), ":%u:%u", error->line, error->col);
    }
    return xasprintf("%s%s: %s%s%s%s%s%s%s%s%s", error->file, place,
                     severity_texts[error->severity], error->object,
                     error->object[0] != '\0' ? ": " : "", error->path,
                     error->path[0] != '\0' ? ": " : "", error->text,
                     has_hint ? " (did you mean `" : "", error->hint, has_hint ? "`?)" : "");
}
