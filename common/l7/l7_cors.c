// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_cors.h"

static struct slice field(const struct http_head *head, const char *name) {
    const struct http_field *found = l7_fields_find(head->fields, head->n_fields, slice_str(name));
    return found != NULL ? found->value : slice_make(NULL, 0);
}

static bool is_allowed(const struct l7_cors *cors, struct slice origin) {
    for (uint32_t i = 0; i < cors->n_origins; i++) {
        const struct l7_cors_origin *allowed = &cors->origins[i];
        bool is_match = false;
        switch ((enum l7_cors_kind)allowed->kind) {
        case L7_CORS_ANY:
            is_match = true;
            break;
        case L7_CORS_EXACT:
            is_match = slice_eq(origin, allowed->text);
            break;
        case L7_CORS_PREFIX:
            is_match = slice_has_prefix(origin, allowed->text);
            break;
        case L7_CORS_REGEX:
            is_match = l7_regex_matches(allowed->regex, origin);
            break;
        }
        if (is_match) {
            return true;
        }
    }
    return false;
}

enum l7_cors_verdict l7_cors_check(const struct l7_cors *cors, const struct http_head *request) {
    struct slice origin = field(request, "origin");
    if (cors == NULL || origin.len == 0) {
        return L7_CORS_NONE;
    }
    bool is_preflight = slice_eq_str(request->method, "OPTIONS") &&
                        field(request, "access-control-request-method").len > 0;
    if (is_allowed(cors, origin)) {
        return is_preflight ? L7_CORS_PREFLIGHT : L7_CORS_ACTUAL;
    }
    return is_preflight && cors->ignores_unmatched ? L7_CORS_REFUSED : L7_CORS_NONE;
}

static void set(struct l7_fields *fields, struct slice name, struct slice value) {
    if (value.len > 0) {
        l7_fields_set(fields, name, value);
    }
}

static void set_origin(const struct l7_cors *cors, const struct http_head *request,
                       struct l7_fields *fields) {
    set(fields, SLICE_LIT("access-control-allow-origin"), field(request, "origin"));
    if (cors->allow_credentials) {
        set(fields, SLICE_LIT("access-control-allow-credentials"), SLICE_LIT("true"));
    }
}

void l7_cors_preflight(const struct l7_cors *cors, const struct http_head *request,
                       struct l7_fields *fields) {
    set_origin(cors, request, fields);
    set(fields, SLICE_LIT("access-control-allow-methods"), cors->allow_methods);
    set(fields, SLICE_LIT("access-control-allow-headers"), cors->allow_headers);
    set(fields, SLICE_LIT("access-control-max-age"), cors->max_age);
}

void l7_cors_response(const struct l7_cors *cors, const struct http_head *request,
                      struct l7_fields *fields) {
    set_origin(cors, request, fields);
    set(fields, SLICE_LIT("access-control-expose-headers"), cors->expose_headers);
}
