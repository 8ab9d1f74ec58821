// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_template.h"

#include "common/l7/l7_fields.h"

enum { VALUE_MAX = 64 << 10 };

enum arg_kind { ARG_NONE, ARG_NAME, ARG_FORMAT };

struct l7_template {
    struct l7_template_piece *pieces;
    size_t n;
};

static const struct {
    const char *name;
    uint8_t arg; // enum arg_kind
} vars_known[] = {
#define L7_VAR(name, arg) {#name, ARG_##arg},
#include "common/l7/l7_var.def"
#undef L7_VAR
};

const char *l7_var_name(enum l7_var var) {
    return (size_t)var < ARRAY_LEN(vars_known) ? vars_known[var].name : "?";
}

static int find_var(struct slice name) {
    for (size_t i = 0; i < ARRAY_LEN(vars_known); i++) {
        if (slice_eq_str(name, vars_known[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

static struct slice lower_case(struct arena *arena, struct slice name) {
    uint8_t *copy = arena_alloc(arena, name.len + 1);
    CHECK(copy != NULL);
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        copy[i] = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
    }
    copy[name.len] = '\0';
    return slice_make(copy, name.len);
}

// `at` is behind the opening '%'; on return behind the closing one.
static const char *parse_var(struct arena *arena, struct slice text, size_t *at,
                             struct l7_template_piece *ret_piece) {
    size_t start = *at, end = start;
    while (end < text.len &&
           ((text.ptr[end] >= 'A' && text.ptr[end] <= 'Z') ||
            (text.ptr[end] >= '0' && text.ptr[end] <= '9') || text.ptr[end] == '_')) {
        end++;
    }
    struct l7_template_piece piece = {.max_len = SIZE_MAX};
    piece.var = find_var(slice_head(slice_skip(text, start), end - start));
    if (piece.var < 0) {
        return "an unknown variable";
    }
    bool has_arg = end < text.len && text.ptr[end] == '(';
    if (has_arg) {
        struct slice rest = slice_skip(text, end + 1);
        ptrdiff_t len = slice_find(rest, ')');
        if (len < 0) {
            return "a parenthesis that is not closed";
        }
        piece.text = slice_head(rest, (size_t)len);
        end += (size_t)len + 2;
    }
    uint8_t kind = vars_known[piece.var].arg;
    if (kind == ARG_NONE ? has_arg : kind == ARG_NAME && piece.text.len == 0) {
        return kind == ARG_NONE ? "an argument for a variable that has none"
                                : "no name of a header in the parentheses";
    }
    if (kind == ARG_NAME) {
        slice_split(piece.text, '?', &piece.text, &piece.other);
        piece.text = lower_case(arena, piece.text);
        piece.other = lower_case(arena, piece.other);
    }
    if (end < text.len && text.ptr[end] == ':') {
        size_t digits = end + 1;
        for (end = digits; end < text.len && text.ptr[end] != '%'; end++) {
        }
        uint64_t max_len;
        if (!slice_to_u64(slice_head(slice_skip(text, digits), end - digits), VALUE_MAX,
                          &max_len)) {
            return "a maximum length that is not a number";
        }
        piece.max_len = (size_t)max_len;
    }
    if (end >= text.len || text.ptr[end] != '%') {
        return "a percent sign without another one";
    }
    *at = end + 1;
    *ret_piece = piece;
    return NULL;
}

const struct l7_template *l7_template_compile(struct arena *arena, struct slice text,
                                              const char **ret_error) {
    size_t n_max = 1;
    for (size_t i = 0; i < text.len; i++) {
        n_max += text.ptr[i] == '%';
    }
    struct l7_template *tmpl = ARENA_NEW(arena, struct l7_template);
    CHECK(tmpl != NULL);
    // Each '%' begins a variable or ends one, and so at most one text behind it.
    tmpl->pieces = arena_array(arena, n_max, sizeof(*tmpl->pieces));
    CHECK(tmpl->pieces != NULL);
    size_t at = 0;
    while (at < text.len) {
        struct l7_template_piece *piece = &tmpl->pieces[tmpl->n];
        struct slice rest = slice_skip(text, at);
        ptrdiff_t len = slice_find(rest, '%');
        size_t n_text = len < 0 ? rest.len : (size_t)len;
        bool is_percent = len >= 0 && n_text + 1 < rest.len && rest.ptr[n_text + 1] == '%';
        if (n_text > 0 || is_percent) {
            // %% is one percent sign: the first of the two belongs to the text.
            *piece = (struct l7_template_piece){.var = -1,
                                                .text = slice_head(rest, n_text + is_percent)};
            at += n_text + 2 * (size_t)is_percent;
            tmpl->n++;
            continue;
        }
        at++;
        const char *error = parse_var(arena, text, &at, piece);
        if (error != NULL) {
            *ret_error = error;
            return NULL;
        }
        tmpl->n++;
    }
    return tmpl;
}

const struct l7_template *l7_template_literal(struct arena *arena, struct slice text) {
    struct l7_template *tmpl = ARENA_NEW(arena, struct l7_template);
    struct l7_template_piece *piece = ARENA_NEW(arena, struct l7_template_piece);
    CHECK(tmpl != NULL && piece != NULL);
    *piece = (struct l7_template_piece){.var = -1, .text = text};
    *tmpl = (struct l7_template){.pieces = piece, .n = 1};
    return tmpl;
}

bool l7_template_is_literal(const struct l7_template *tmpl, struct slice *ret_text) {
    if (tmpl->n == 0) {
        *ret_text = slice_make("", 0);
        return true;
    }
    if (tmpl->n > 1 || tmpl->pieces[0].var >= 0) {
        return false;
    }
    *ret_text = tmpl->pieces[0].text;
    return true;
}

static bool append_field(const struct http_head *head, struct slice name, bool without_query,
                         struct buf *out) {
    if (head == NULL || name.len == 0) {
        return false;
    }
    struct buf scratch;
    struct slice value;
    buf_init(&scratch, VALUE_MAX);
    bool is_there = l7_fields_value(head, name, &scratch, &value);
    if (is_there) {
        ptrdiff_t query = without_query ? slice_find(value, '?') : -1;
        buf_append(out, query >= 0 ? slice_head(value, (size_t)query) : value);
    }
    buf_fini(&scratch);
    return is_there;
}

void l7_template_value(const struct l7_template_piece *piece, const struct l7_vars *vars,
                       struct buf *out) {
    const struct http_head *head = piece->var == L7_VAR_RESP ? vars->response : vars->request;
    bool without_query = piece->var == L7_VAR_REQ_WITHOUT_QUERY;
    size_t start = out->len;
    switch (piece->var) {
    case L7_VAR_REQ:
    case L7_VAR_REQ_WITHOUT_QUERY:
    case L7_VAR_RESP:
        if (!append_field(head, piece->text, without_query, out)) {
            append_field(head, piece->other, without_query, out);
        }
        break;
    default:
        if (vars->value != NULL) {
            vars->value(vars->arg, (enum l7_var)piece->var, piece->text, out);
        }
    }
    if (out->len - start > piece->max_len) {
        buf_truncate(out, start + piece->max_len);
    }
}

bool l7_template_at(const struct l7_template *tmpl, size_t index,
                    struct l7_template_piece *ret_piece) {
    if (index >= tmpl->n) {
        return false;
    }
    *ret_piece = tmpl->pieces[index];
    return true;
}

static void make_field_value(struct buf *out, size_t start) {
    for (size_t at = start; at < out->len; at++) {
        uint8_t c = out->ptr[at];
        if (c == '\r' || c == '\n' || c == '\0') {
            out->ptr[at] = ' ';
        }
    }
}

void l7_template_expand(const struct l7_template *tmpl, const struct l7_vars *vars,
                        struct buf *out) {
    for (size_t i = 0; i < tmpl->n; i++) {
        const struct l7_template_piece *piece = &tmpl->pieces[i];
        if (piece->var < 0) {
            buf_append(out, piece->text);
            continue;
        }
        size_t start = out->len;
        l7_template_value(piece, vars, out);
        if (vars->finish != NULL) {
            vars->finish(vars->arg, out, start);
        } else {
            make_field_value(out, start);
        }
    }
}
