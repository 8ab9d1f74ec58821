// SPDX-License-Identifier: Apache-2.0
#include "waypoint/exchange.h"

#include <stdlib.h>

#include "common/proto/http_rules.h"
#include "waypoint/conn.h"
#include "waypoint/http_down.h"

static struct exchange *of_down(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct exchange, down);
}

const struct wconn *exchange_wconn(const struct exchange *ex) {
    return ex->conn->wconn;
}

// ---- the request's body ------------------------------------------------------------------------

// What another try would have to send again.
static void keep(struct exchange *ex, struct slice payload) {
    if (!ex->keeps) {
        return;
    }
    if (ex->kept.len + payload.len > EXCHANGE_KEEP_MAX) {
        ex->keeps = false;
        chain_clear(&ex->kept);
        return;
    }
    chain_copy(&ex->kept, payload);
}

// The client may send more, as the upstream takes more. The exchange may be gone afterwards: what
// had to wait in the transport is read at once.
static void credit_down(struct exchange *ex) {
    if (http_stream_can_send(&ex->up)) {
        http_stream_consumed(&ex->down, ex->down.n_unconsumed);
    }
}

void exchange_send_body(struct exchange *ex) {
    struct chain data;
    chain_init(&data, ex->http->loop->pool);
    chain_move_all(&data, &ex->waiting);
    bool is_last = ex->request_ended && ex->n_trailers == 0;
    if (data.len > 0 || is_last) {
        http_stream_send_data(&ex->up, &data, is_last);
    }
    if (ex->request_ended && ex->n_trailers > 0) {
        http_stream_send_trailers(&ex->up, ex->trailers, ex->n_trailers);
    }
    credit_down(ex);
}

static void request_ended(struct exchange *ex) {
    ex->request_ended = true;
    if (!ex->is_upgrade) {
        exchange_arm_deadline(ex);
    }
}

static void on_down_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct exchange *ex = of_down(stream);
    ex->request_ended = end;
    exchange_begin(ex, head, end);
}

static void on_down_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct exchange *ex = of_down(stream);
    ex->n_received += seg->len;
    exchange_report_received(ex, seg_slice(seg));
    keep(ex, seg_slice(seg));
    mirrors_data(ex, seg_slice(seg), end);
    if (end) {
        request_ended(ex);
    }
    if (ex->has_sent_head && ex->up.conn != NULL) {
        struct chain data;
        chain_init(&data, ex->http->loop->pool);
        chain_push(&data, seg);
        http_stream_send_data(&ex->up, &data, end);
        credit_down(ex);
        return;
    }
    if (ex->state != EXCHANGE_RESPONSE) { // no try has its stream yet: the window bounds what waits
        chain_copy(&ex->waiting, seg_slice(seg));
        blk_unref(seg->blk);
        return;
    }
    blk_unref(seg->blk); // answered already: nobody wants it
    http_stream_consumed(&ex->down, ex->down.n_unconsumed);
}

static void on_down_trailers(struct http_stream *stream, const struct http_field *fields,
                             size_t n) {
    struct exchange *ex = of_down(stream);
    struct http_head trailers = {.fields = (struct http_field *)(uintptr_t)fields, .n_fields = n};
    struct http_head copy;
    if (http_rules_copy(&trailers, &ex->arena, &copy)) {
        ex->trailers = copy.fields;
        ex->n_trailers = copy.n_fields;
    }
    mirrors_trailers(ex);
    request_ended(ex);
    if (ex->has_sent_head && ex->up.conn != NULL) {
        exchange_send_body(ex);
    }
}

static void on_down_end(struct http_stream *stream) {
    struct exchange *ex = of_down(stream);
    mirrors_data(ex, (struct slice){0}, true);
    request_ended(ex);
    if (ex->has_sent_head && ex->up.conn != NULL) {
        exchange_send_body(ex);
    }
}

static void on_down_writable(struct http_stream *stream) {
    struct exchange *ex = of_down(stream);
    http_stream_consumed(&ex->up, ex->up.n_unconsumed);
}

static void on_down_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    (void)detail;
    struct exchange *ex = of_down(stream);
    ex->flags |= reset == HTTP_RESET_PROTOCOL ? L7_FLAG_DPE : L7_FLAG_DC;
    ex->details = reset == HTTP_RESET_PROTOCOL      ? "http1.codec_error"
                  : reset == HTTP_RESET_TERMINATION ? "downstream_remote_disconnect"
                                                    : "downstream_remote_reset";
    exchange_end(ex);
}

static const struct http_stream_events down_events = {
    .on_head = on_down_head,
    .on_data = on_down_data,
    .on_trailers = on_down_trailers,
    .on_end = on_down_end,
    .on_writable = on_down_writable,
    .on_reset = on_down_reset,
};

// ---- life --------------------------------------------------------------------------------------

struct exchange *exchange_new(struct http_down *conn) {
    struct http_worker *http = conn->http;
    struct exchange *ex = slab_zalloc(&http->exchange_slab);
    ex->conn = conn;
    ex->http = http;
    ex->started_ns = http->loop->now;
    ex->grpc_status = -1;
    ex->details = "";
    arena_init(&ex->arena, EXCHANGE_ARENA_MAX);
    chain_init(&ex->waiting, http->loop->pool);
    chain_init(&ex->kept, http->loop->pool);
    list_init(&ex->mirrors);
    list_init(&ex->seen.node);
    exchange_timers_init(ex);
    http_stream_init(&ex->down, &down_events, ex);
    list_push_back(&conn->exchanges, &ex->node);
    http->n_exchanges++;
    return ex;
}

void exchange_end(struct exchange *ex) {
    struct http_down *conn = ex->conn;
    bool is_complete = ex->up.conn == NULL && ex->request_ended;
    exchange_drop_try(ex, is_complete ? H2_NO_ERROR : H2_CANCEL);
    timer_clear(&ex->http->loop->timers, &ex->deadline);
    timer_clear(&ex->http->loop->timers, &ex->timer);
    mirrors_detach(ex, ex->request_ended);
    // After a complete response the client is told to stop sending; else the answer is cut.
    http_stream_release(&ex->down, ex->down.is_send_ended ? H2_NO_ERROR : H2_INTERNAL_ERROR);
    exchange_report(ex);
    chain_clear(&ex->waiting);
    chain_clear(&ex->kept);
    upstream_view_unref(ex->view);
    leaf_unref(ex->routes);
    leaf_unref(ex->upstream_workload);
    free(ex->transport_failure);
    arena_fini(&ex->arena);
    list_del(&ex->node);
    ex->http->n_exchanges--;
    slab_free(&ex->http->exchange_slab, ex);
    http_down_check(conn);
}
