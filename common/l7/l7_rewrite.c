// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_rewrite.h"

#include <stdio.h>

static bool copied(struct buf *text, struct arena *arena, struct slice *ret) {
    bool is_ok = buf_ok(text) && arena_copy(arena, buf_slice(text), ret);
    buf_fini(text);
    return is_ok;
}

// Appends the new path; the old one is without its query.
static bool append_path(const struct l7_path_op *op, uint32_t match_len, struct slice path,
                        struct buf *out) {
    struct slice rest = slice_skip(path, match_len), text = op->text;
    switch ((enum l7_path_change)op->change) {
    case L7_PATH_KEEP:
        return false;
    case L7_PATH_FULL:
        buf_append(out, text);
        return true;
    case L7_PATH_PREFIX:
        buf_append(out, text);
        buf_append(out, rest);
        return true;
    case L7_PATH_SEGMENTS:
        // The match has no '/' at its end, and neither gets the replacement.
        while (text.len > 0 && text.ptr[text.len - 1] == '/') {
            text.len--;
        }
        buf_append(out, text);
        if (rest.len > 0 && rest.ptr[0] != '/') {
            buf_append_byte(out, '/');
        }
        buf_append(out, rest);
        return true;
    case L7_PATH_REGEX:
        return l7_regex_replace(op->regex, path, text, out);
    }
    return false;
}

bool l7_rewrite_path(const struct l7_path_op *op, uint32_t match_len, struct slice path,
                     struct arena *arena, struct slice *ret_path) {
    struct slice bare = path, query = slice_make(NULL, 0);
    bool has_query = slice_split(path, '?', &bare, &query);
    struct buf out;
    buf_init(&out, L7_PATH_MAX);
    // "*" of OPTIONS, and CONNECT's nothing, are no paths.
    if (path.len == 0 || path.ptr[0] != '/' || !append_path(op, match_len, bare, &out)) {
        buf_fini(&out);
        return false;
    }
    // No configuration makes it something else than a path.
    if (out.len == 0 || out.ptr[0] != '/') {
        struct buf with_slash;
        buf_init(&with_slash, L7_PATH_MAX);
        buf_append_byte(&with_slash, '/');
        buf_append(&with_slash, buf_slice(&out));
        buf_fini(&out);
        out = with_slash;
    }
    // A replacement with a query of its own (a redirect's `uri`) has it instead.
    if (has_query && slice_find(buf_slice(&out), '?') < 0) {
        buf_append_byte(&out, '?');
        buf_append(&out, query);
    }
    return copied(&out, arena, ret_path);
}

// Fields

static struct slice value_of(const struct l7_template *tmpl, const struct l7_vars *vars,
                             struct l7_fields *fields) {
    struct slice value = slice_make(NULL, 0);
    if (l7_template_is_literal(tmpl, &value)) {
        return value;
    }
    struct buf text;
    buf_init(&text, L7_PATH_MAX);
    l7_template_expand(tmpl, vars, &text);
    if (!copied(&text, fields->arena, &value)) {
        fields->is_overflowed = true;
    }
    return value;
}

void l7_rewrite_fields(const struct l7_header_ops *ops, const struct l7_vars *vars,
                       struct l7_fields *fields) {
    for (uint32_t i = 0; i < ops->n; i++) {
        const struct l7_header_op *op = &ops->items[i];
        if (op->action == L7_HEADER_REMOVE) {
            l7_fields_remove(fields, op->name);
            continue;
        }
        struct slice value = value_of(op->value, vars, fields);
        if (value.len == 0) {
            continue; // variables without a value
        }
        if (op->action == L7_HEADER_SET) {
            l7_fields_set(fields, op->name, value);
        } else {
            l7_fields_add(fields, op->name, value);
        }
    }
}

void l7_rewrite_request(const struct l7_match *match, const struct l7_cluster *cluster,
                        const struct l7_request *request, const struct l7_vars *vars,
                        struct l7_fields *fields, struct l7_rewritten *ret) {
    const struct l7_route *route = match->route;
    const struct http_head *head = request->head;
    *ret = (struct l7_rewritten){.path = head->path, .authority = head->authority};
    if (route->headers.authority[0] != '\0') {
        ret->authority = slice_str(route->headers.authority);
    } else if (cluster->headers.authority[0] != '\0') {
        ret->authority = slice_str(cluster->headers.authority);
    }
    l7_rewrite_fields(&route->headers.request, vars, fields);
    l7_rewrite_fields(&cluster->headers.request, vars, fields);
    if (l7_rewrite_path(&route->path, match->match_len, head->path, fields->arena, &ret->path)) {
        l7_fields_set(fields, SLICE_LIT("x-envoy-original-path"), head->path);
    }
}

void l7_rewrite_response(const struct l7_route *route, const struct l7_cluster *cluster,
                         const struct l7_vars *vars, struct l7_fields *fields) {
    l7_rewrite_fields(&route->headers.response, vars, fields);
    if (cluster != NULL) {
        l7_rewrite_fields(&cluster->headers.response, vars, fields);
    }
}

// Redirects

// The length of the host in "host:port", "[::1]:port"; the port with its colon is the rest.
static size_t host_len(struct slice authority) {
    for (size_t i = authority.len; i > 0 && authority.ptr[i - 1] != ']'; i--) {
        if (authority.ptr[i - 1] == ':') {
            return i - 1;
        }
    }
    return authority.len;
}

static bool is_default_port(struct slice scheme, struct slice colon_port) {
    return (slice_eq_str(scheme, "http") && slice_eq_str(colon_port, ":80")) ||
           (slice_eq_str(scheme, "https") && slice_eq_str(colon_port, ":443"));
}

static void append_authority(const struct l7_redirect *redirect, struct slice scheme,
                             const struct l7_request *request, struct buf *out) {
    struct slice authority = request->head->authority, own = slice_str(redirect->authority);
    uint16_t port = redirect->port != 0           ? redirect->port
                    : redirect->uses_request_port ? request->port
                                                  : 0;
    char text[8] = "";
    bool has_port = port != 0;
    if (has_port) {
        snprintf(text, sizeof(text), ":%u", port);
        // The scheme's own port is not written.
        if (is_default_port(scheme, slice_str(text))) {
            text[0] = '\0';
        }
    }
    if (own.len > 0) {
        authority = own;
    } else {
        size_t len = host_len(authority);
        struct slice colon_port = slice_skip(authority, len);
        // Behind another scheme the old one's default is wrong.
        bool is_stale =
            !slice_eq(scheme, request->scheme) && is_default_port(request->scheme, colon_port);
        if (text[0] != '\0' || is_stale || redirect->strips_port || has_port) {
            authority = slice_head(authority, len);
        }
    }
    buf_append(out, authority);
    buf_append_str(out, text);
}

struct slice l7_rewrite_location(const struct l7_match *match, const struct l7_request *request,
                                 struct arena *arena) {
    const struct l7_redirect *redirect = match->route->redirect;
    struct slice path = request->head->path, location = slice_make(NULL, 0);
    struct slice scheme =
        redirect->scheme[0] != '\0' ? slice_str(redirect->scheme) : request->scheme;
    struct buf out;
    buf_init(&out, 2 * L7_PATH_MAX);
    l7_rewrite_path(&redirect->path, match->match_len, path, arena, &path);
    buf_append(&out, scheme);
    buf_append_str(&out, "://");
    append_authority(redirect, scheme, request, &out);
    buf_append(&out, path);
    return copied(&out, arena, &location) ? location : slice_make(NULL, 0);
}

struct slice l7_rewrite_shadow(struct slice authority, struct arena *arena) {
    struct slice shadow = authority;
    size_t len = host_len(authority);
    struct buf out;
    buf_init(&out, L7_PATH_MAX);
    buf_append(&out, slice_head(authority, len));
    buf_append_str(&out, "-shadow");
    buf_append(&out, slice_skip(authority, len));
    return copied(&out, arena, &shadow) ? shadow : authority;
}
