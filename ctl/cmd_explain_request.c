// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "common/l7/l7_fields.h"
#include "common/proto/http_path.h"
#include "common/proto/http_rules.h"
#include "ctl/cmd_explain_http.h"

static bool is_token(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (http_rules_lower[text.ptr[i]] == 0) {
            return false;
        }
    }
    return text.len > 0;
}

static struct slice copy(struct explain_request *request, struct slice text, bool is_lower) {
    uint8_t *bytes = arena_alloc(&request->arena, text.len + 1);
    CHECK(bytes != NULL); // the arena has no limit
    for (size_t i = 0; i < text.len; i++) {
        bytes[i] = is_lower ? http_rules_lower[text.ptr[i]] : text.ptr[i];
    }
    bytes[text.len] = 0;
    return slice_make(bytes, text.len);
}

static bool set_line(struct explain_request *request, const char *text, char **ret_error) {
    struct slice line = slice_trim(slice_str(text)), method = SLICE_LIT("GET"), target = line;
    struct http_head *head = &request->head;
    if (slice_split(line, ' ', &method, &target)) {
        target = slice_trim(target);
    }
    if (!is_token(method)) {
        *ret_error = xasprintf("--request `%s`: `%.*s` is no method; write 'GET /path'", text,
                               SLICE_ARG(method));
        return false;
    }
    target = http_path_without_fragment(target);
    if (!http_path_is_valid(target)) {
        *ret_error = xasprintf("--request `%s`: `%.*s` is no path; it begins with /", text,
                               SLICE_ARG(target));
        return false;
    }
    struct slice path = copy(request, target, false);
    enum http_err err =
        http_path_normalize(HTTP_PATH_BASE, path, &request->arena, &request->head.path);
    if (err != HTTP_ERR_OK) {
        *ret_error = xasprintf("--request `%s`: a waypoint answers 400 to such a path: it has %%00 "
                               "or an incomplete escape",
                               text);
        return false;
    }
    head->method = copy(request, method, false);
    return true;
}

static bool add_header(struct explain_request *request, const char *text, char **ret_error) {
    struct slice name, value;
    struct http_head *head = &request->head;
    if (!slice_split(slice_str(text), ':', &name, &value) || !is_token(slice_trim(name))) {
        *ret_error = xasprintf("-H `%s`: is not 'NAME: VALUE'", text);
        return false;
    }
    name = copy(request, slice_trim(name), true);
    value = copy(request, slice_trim(value), false);
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '\r' || value.ptr[i] == '\n') {
            *ret_error = xasprintf("-H %.*s: a value has no line breaks", SLICE_ARG(name));
            return false;
        }
    }
    if (slice_eq_str(name, "host")) {
        head->authority = value;
    } else {
        head->fields[head->n_fields++] = (struct http_field){.name = name, .value = value};
    }
    return true;
}

bool explain_request_parse(const char *text, const char *const *headers, size_t n_headers,
                           const char *to, struct explain_request *ret_request, char **ret_error) {
    struct explain_request request = {.head = {.version = HTTP_11}};
    struct slice authority = slice_str(to);
    if (n_headers > EXPLAIN_HEADERS_MAX) {
        *ret_error = xasprintf("more than %d headers, which a waypoint refuses (431)",
                               (int)EXPLAIN_HEADERS_MAX);
        return false;
    }
    if (slice_has_suffix(authority, SLICE_LIT(":80"))) {
        authority.len -= strlen(":80");
    }
    arena_init(&request.arena, SIZE_MAX);
    request.head.authority = copy(&request, authority, false);
    request.head.fields = arena_array(&request.arena, n_headers + 1, sizeof(struct http_field));
    CHECK(request.head.fields != NULL);
    bool is_ok = set_line(&request, text, ret_error);
    for (size_t i = 0; i < n_headers && is_ok; i++) {
        is_ok = add_header(&request, headers[i], ret_error);
    }
    if (!is_ok) {
        arena_fini(&request.arena);
        return false;
    }
    request.is_grpc = l7_fields_is_grpc(&request.head);
    request.head.version = request.is_grpc ? HTTP_2 : HTTP_11;
    *ret_request = request;
    return true;
}

void explain_request_fini(struct explain_request *request) {
    arena_fini(&request->arena);
}
