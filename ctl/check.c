// SPDX-License-Identifier: Apache-2.0
#include "ctl/check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json_out.h"

enum { ARGS_MAX = 16 };

static const char *const severities[] = {"ok", "note", "warning", "error"};

void check_fini(struct check *c) {
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].object);
        free(c->items[i].text);
    }
    free(c->items);
}

void check_add(struct check *c, enum check_severity severity, const char *id, const char *object,
               const char *remedy, const char *fmt, ...) {
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    if (c->n == c->cap) {
        c->cap = c->cap != 0 ? c->cap * 2 : 32;
        c->items = xrealloc(c->items, c->cap * sizeof(c->items[0]));
    }
    c->items[c->n++] = (struct check_finding){severity, id, xstrdup(object), text, remedy};
    c->n_by_severity[severity]++;
}

static bool is_shown(const struct check_finding *finding, bool is_quiet) {
    return !is_quiet || finding->severity >= CHECK_WARNING;
}

void check_print_text(const struct check *c, bool is_quiet, FILE *out) {
    for (size_t i = 0; i < c->n; i++) {
        const struct check_finding *f = &c->items[i];
        if (!is_shown(f, is_quiet)) {
            continue;
        }
        fprintf(out, "%-8s %-18s %s%s%s\n", severities[f->severity], f->id, f->object,
                f->object[0] != '\0' ? ": " : "", f->text);
        if (f->remedy != NULL) {
            fprintf(out, "%28s%s\n", "-> ", f->remedy);
        }
    }
    fprintf(out, "%zu error%s, %zu warning%s\n", c->n_by_severity[CHECK_ERROR],
            c->n_by_severity[CHECK_ERROR] == 1 ? "" : "s", c->n_by_severity[CHECK_WARNING],
            c->n_by_severity[CHECK_WARNING] == 1 ? "" : "s");
}

void check_print_json(const struct check *c, bool is_quiet, FILE *out) {
    struct json_out json;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    json_out_init(&json, &buf, true);
    json_out_begin_object(&json);
    json_out_kv_u64(&json, "errors", c->n_by_severity[CHECK_ERROR]);
    json_out_kv_u64(&json, "warnings", c->n_by_severity[CHECK_WARNING]);
    json_out_kv_array(&json, "findings");
    for (size_t i = 0; i < c->n; i++) {
        const struct check_finding *f = &c->items[i];
        if (!is_shown(f, is_quiet)) {
            continue;
        }
        json_out_begin_object(&json);
        json_out_kv_str(&json, "severity", severities[f->severity]);
        json_out_kv_str(&json, "check", f->id);
        if (f->object[0] != '\0') {
            json_out_kv_str(&json, "object", f->object);
        }
        json_out_kv_str(&json, "message", f->text);
        if (f->remedy != NULL) {
            json_out_kv_str(&json, "remedy", f->remedy);
        }
        json_out_end(&json);
    }
    json_out_end(&json);
    json_out_end(&json);
    fprintf(out, "%s\n", buf_cstr(&buf));
    buf_fini(&buf);
}

json_t *check_get(struct check *c, const struct kubectl *k, const char *id,
                  const char *const *args) {
    const char *all[ARGS_MAX] = {"get"};
    char *error = NULL;
    size_t n = 1;

    for (; *args != NULL; args++) {
        CHECK(n < ARGS_MAX - 3);
        all[n++] = *args;
    }
    all[n++] = "-o";
    all[n] = "json";
    json_t *value = kubectl_json(k, all, &error);
    if (value == NULL) {
        check_add(c, CHECK_WARNING, id, "", "look with an account that may read it",
                  "could not be looked at: %s", error);
        free(error);
    }
    return value;
}
