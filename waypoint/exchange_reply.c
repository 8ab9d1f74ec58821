// SPDX-License-Identifier: Apache-2.0
//
// Responses: what comes from an upstream, with the route's changes, and what we answer ourselves.
#include <stdlib.h>

#include "common/l7/l7_cors.h"
#include "common/proto/grpc.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"

int exchange_grpc_status(const struct http_field *fields, size_t n, int before) {
    const struct http_field *field = l7_fields_find(fields, n, SLICE_LIT("grpc-status"));
    uint8_t status = 0;
    return field != NULL && grpc_status_parse(field->value, &status) ? status : before;
}

// ---- the upstream's response -------------------------------------------------------------------

// The fields of the mesh's own: `server` is the proxy that the client talks to.
static void set_own_fields(struct exchange *ex, struct l7_fields *fields) {
    uint64_t ms = (ex->first_byte_ns - ex->try_started_ns) / NS_PER_MS;
    l7_fields_set_u64(fields, SLICE_LIT("x-envoy-upstream-service-time"), ms);
    l7_fields_set(fields, SLICE_LIT("server"), SLICE_LIT("istio-envoy"));
    if (ex->set_cookie.len > 0) {
        l7_fields_add(fields, SLICE_LIT("set-cookie"), ex->set_cookie);
    }
}

void exchange_pass_head(struct exchange *ex, const struct http_head *head, bool end) {
    struct http_head out = *head;
    struct l7_fields fields;
    struct exchange_vars storage;
    struct l7_vars vars = exchange_vars(ex, head, &storage);
    l7_fields_init(&fields, &ex->arena, head->fields, head->n_fields);
    set_own_fields(ex, &fields);
    websocket_response(ex, head, &fields);
    l7_rewrite_response(ex->route, ex->cluster, &vars, &fields);
    if (ex->is_cors) {
        l7_cors_response(ex->route->cors, &ex->request, &fields);
    }
    ex->status = head->status;
    ex->details = "via_upstream";
    ex->grpc_status = exchange_grpc_status(head->fields, head->n_fields, ex->grpc_status);
    out.fields = fields.items;
    out.n_fields = fields.n;
    exchange_report_head(ex, &out);
    if (http_stream_send_head(&ex->down, &out, end) && end) {
        exchange_end(ex);
    }
}

// ---- our own -----------------------------------------------------------------------------------

static void send_reply(struct exchange *ex, uint16_t status, struct l7_fields *fields,
                       struct slice body) {
    l7_fields_set(fields, SLICE_LIT("server"), SLICE_LIT("istio-envoy"));
    if (ex->route != NULL) {
        struct http_head response = {
            .status = status, .fields = fields->items, .n_fields = fields->n};
        struct exchange_vars storage;
        struct l7_vars vars = exchange_vars(ex, &response, &storage);
        l7_rewrite_response(ex->route, NULL, &vars, fields);
        if (ex->is_cors) {
            l7_cors_response(ex->route->cors, &ex->request, fields);
        }
    }
    bool has_body = body.len > 0 && !slice_eq(ex->received.method, SLICE_LIT("HEAD"));
    struct http_head head = {.status = status, .fields = fields->items, .n_fields = fields->n};
    ex->status = status;
    ex->is_local_reply = true;
    ex->state = EXCHANGE_RESPONSE;
    exchange_report_head(ex, &head);
    if (!http_stream_send_head(&ex->down, &head, !has_body)) {
        return;
    }
    if (has_body) {
        struct chain data;
        chain_init(&data, ex->http->loop->pool);
        chain_copy(&data, body);
        ex->n_sent += body.len;
        http_stream_send_data(&ex->down, &data, true);
    }
    exchange_end(ex);
}

void exchange_reply(struct exchange *ex, const struct l7_reply_spec *spec) {
    struct l7_reply_spec full = *spec;
    struct l7_reply reply;
    exchange_drop_try(ex, H2_CANCEL);
    full.is_grpc = ex->is_grpc;
    full.is_retried = ex->n_tries > 1;
    if (!l7_reply_build(&full, &ex->arena, &reply)) {
        // The request has used up its memory: the reply is a status alone.
        l7_fields_init(&reply.fields, &ex->arena, NULL, 0);
    }
    ex->flags |= reply.flags;
    ex->grpc_status = reply.grpc_status;
    char *details = arena_strdup(&ex->arena, reply.details);
    ex->details = details != NULL ? details : "";
    send_reply(ex, reply.status, &reply.fields, reply.body);
}

void exchange_reply_kind(struct exchange *ex, enum l7_reply_kind kind) {
    struct l7_reply_spec spec = {.kind = (uint8_t)kind, .grpc_status = -1};
    exchange_reply(ex, &spec);
}

void exchange_reply_reset(struct exchange *ex, enum l7_reset reset, const char *failure) {
    struct l7_reply_spec spec = {.kind = L7_REPLY_RESET,
                                 .reset = (uint8_t)reset,
                                 .grpc_status = -1,
                                 .failure = slice_str(failure)};
    if (failure != NULL && failure[0] != '\0') {
        free(ex->transport_failure);
        ex->transport_failure = xstrdup(failure);
        spec.failure = slice_str(ex->transport_failure);
    }
    exchange_reply(ex, &spec);
}

void exchange_reply_preflight(struct exchange *ex, bool is_allowed) {
    struct l7_fields fields;
    l7_fields_init(&fields, &ex->arena, NULL, 0);
    if (is_allowed) {
        l7_cors_preflight(ex->route->cors, &ex->request, &fields);
    }
    ex->details = "cors_response";
    send_reply(ex, 200, &fields, (struct slice){0});
}
