// SPDX-License-Identifier: Apache-2.0
//
// Mirrors: copies of a request to other services, whose answers nobody reads. A mirror never holds
// up the request that it copies: what it does not take in time is kept, up to a limit, and beyond
// it the mirror is given up. It goes on when the request has been answered.
#include <stdlib.h>

#include "common/l7/l7_fault.h"
#include "common/l7/l7_rewrite.h"
#include "common/proto/http_rules.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"

enum {
    MIRROR_QUEUE_MAX = 1024 * 1024, // of the body, waiting to be sent
    MIRROR_MAX_MS = 15000, // where the route has no time-out
};

struct mirror {
    struct list node; // exchange.mirrors; alone once that is gone
    struct http_worker *http;
    struct arena arena;
    struct http_head head;
    struct http_field *trailers;
    size_t n_trailers;
    struct upstream_view *view; // referenced
    const struct l7_host *host; // counted in its cell; NULL: not chosen yet
    struct dns_cache_query query;
    // Of the request, whose connection may be gone when a host is chosen.
    struct slice authority;
    struct addr client, called;
    bool is_h2;
    struct upstream_request wait;
    struct http_stream up;
    struct chain body;
    struct timer deadline;
    bool has_all; // the body is complete
    bool has_sent_head, has_slot;
};

static void mirror_end(struct mirror *mirror, enum h2_err code) {
    list_del(&mirror->node);
    timer_clear(&mirror->http->loop->timers, &mirror->deadline);
    dns_cache_cancel(&mirror->query);
    upstream_request_cancel(&mirror->wait);
    http_stream_release(&mirror->up, code);
    if (mirror->has_slot) {
        l7_breaker_give(&upstream_view_cluster(mirror->view)->breaker, L7_BREAKER_REQUESTS);
    }
    if (mirror->host != NULL) {
        atomic_fetch_sub(&mirror->host->cell->active, 1);
    }
    chain_clear(&mirror->body);
    upstream_view_unref(mirror->view);
    arena_fini(&mirror->arena);
    mirror->http->n_mirrors--;
    free(mirror);
}

static void on_deadline(struct timer *timer, uint64_t now) {
    (void)now;
    mirror_end(CONTAINER_OF(timer, struct mirror, deadline), H2_CANCEL);
}

static void flush_body(struct mirror *mirror) {
    bool is_last = mirror->has_all && mirror->n_trailers == 0;
    if (!chain_empty(&mirror->body) || is_last) {
        http_stream_send_data(&mirror->up, &mirror->body, is_last);
    }
    if (mirror->has_all && mirror->n_trailers > 0) {
        http_stream_send_trailers(&mirror->up, mirror->trailers, mirror->n_trailers);
    }
}

// ---- the upstream's side: all that comes is dropped --------------------------------------------

static struct mirror *of_up(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct mirror, up);
}

static void on_head(struct http_stream *stream, const struct http_head *head, bool end) {
    (void)head;
    if (end) {
        mirror_end(of_up(stream), H2_NO_ERROR);
    }
}

static void on_informational(struct http_stream *stream, const struct http_head *head) {
    (void)stream;
    (void)head;
}

static void on_data(struct http_stream *stream, const struct seg *seg, bool end) {
    http_stream_consumed(stream, seg->len);
    blk_unref(seg->blk);
    if (end) {
        mirror_end(of_up(stream), H2_NO_ERROR);
    }
}

static void on_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
    (void)fields;
    (void)n;
    mirror_end(of_up(stream), H2_NO_ERROR);
}

static void on_end(struct http_stream *stream) {
    mirror_end(of_up(stream), H2_NO_ERROR);
}

static void on_writable(struct http_stream *stream) {
    struct mirror *mirror = of_up(stream);
    if (!chain_empty(&mirror->body)) {
        flush_body(mirror);
    }
}

static void on_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    (void)reset;
    (void)detail;
    mirror_end(of_up(stream), H2_CANCEL);
}

static const struct http_stream_events up_events = {
    .on_head = on_head,
    .on_informational = on_informational,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

static void on_ready(struct upstream_request *wait, struct http_conn *conn,
                     const struct upstream_path *path) {
    (void)path;
    struct mirror *mirror = CONTAINER_OF(wait, struct mirror, wait);
    mirror->has_slot =
        l7_breaker_take(&upstream_view_cluster(mirror->view)->breaker, L7_BREAKER_REQUESTS,
                        upstream_view_settings(mirror->view)->pool.max_requests);
    if (!mirror->has_slot) {
        mirror_end(mirror, H2_CANCEL);
        return;
    }
    bool has_body = !mirror->has_all || !chain_empty(&mirror->body) || mirror->n_trailers > 0;
    http_conn_open(conn, &mirror->up);
    mirror->has_sent_head = true;
    if (http_stream_send_head(&mirror->up, &mirror->head, !has_body) && has_body) {
        flush_body(mirror);
    }
}

static void on_fail(struct upstream_request *wait, enum l7_reset reset, const char *text) {
    (void)reset;
    (void)text;
    mirror_end(CONTAINER_OF(wait, struct mirror, wait), H2_CANCEL);
}

static const struct upstream_request_ops wait_ops = {.on_ready = on_ready, .on_fail = on_fail};

// ---- the exchange's side -----------------------------------------------------------------------

static bool copy_trailers(struct mirror *mirror, const struct exchange *ex) {
    struct http_head trailers = {.fields = ex->trailers, .n_fields = ex->n_trailers};
    struct http_head copy;
    if (!http_rules_copy(&trailers, &mirror->arena, &copy)) {
        return false;
    }
    mirror->trailers = copy.fields;
    mirror->n_trailers = copy.n_fields;
    return true;
}

static bool copy_head(struct mirror *mirror, const struct exchange *ex) {
    struct http_head head = ex->request;
    head.authority = l7_rewrite_shadow(head.authority, &mirror->arena);
    return head.authority.len > 0 && http_rules_copy(&head, &mirror->arena, &mirror->head);
}

// The mirror may be gone afterwards.
static void send_to(struct mirror *mirror, const struct l7_host *host) {
    if (host == NULL) {
        mirror_end(mirror, H2_CANCEL);
        return;
    }
    mirror->host = host;
    atomic_fetch_add(&host->cell->active, 1);
    // In TLS it is the server that the request is for, whatever its Host says.
    struct upstream_caller caller = {
        .authority = mirror->authority, .client = &mirror->client, .called = &mirror->called};
    upstream_request_start(&mirror->wait, mirror->view, host,
                           upstream_version(mirror->view, mirror->is_h2), &caller, &wait_ops);
}

static void on_name(struct dns_cache_query *query, const struct dns_cache_answer *answer) {
    struct mirror *mirror = CONTAINER_OF(query, struct mirror, query);
    send_to(mirror, dynamic_host(mirror->http, mirror->view, answer, NULL, 0));
}

static void send_to_name(struct mirror *mirror, const char *name) {
    struct dns_cache_answer answer;
    mirror->query.fn = on_name;
    switch (dynamic_ask(mirror->http, name, &mirror->query, &answer)) {
    case DNS_CACHE_HERE:
        on_name(&mirror->query, &answer);
        break;
    case DNS_CACHE_WAITS:
        break;
    case DNS_CACHE_FULL:
    case DNS_CACHE_BUSY:
        mirror_end(mirror, H2_CANCEL);
        break;
    }
}

static void send_somewhere(struct mirror *mirror, const struct exchange *ex,
                           const struct l7_cluster *cluster) {
    const struct wconn *wconn = exchange_wconn(ex);
    struct l7_lb_pick pick = {.rand = &ex->http->worker->rand,
                              .now_ms = ex->http->loop->now / NS_PER_MS};
    struct upstream_view *view = mirror->view;
    char name[L7_NAME_MAX];
    if (!upstream_view_service(view)->is_dynamic) {
        send_to(mirror, upstream_view_is_through(view)
                            ? upstream_view_through(view, &wconn->dst)
                            : l7_lb_pick(upstream_view_lb(view, wconn->source), &pick));
    } else if (exchange_name(ex, upstream_view_service(view), cluster, name)) {
        send_to_name(mirror, name);
    } else {
        mirror_end(mirror, H2_CANCEL);
    }
}

static void start(struct exchange *ex, const struct l7_mirror *rule) {
    struct upstream_view *view = exchange_view(ex, &rule->cluster);
    if (view == NULL) {
        return;
    }
    const struct wconn *wconn = exchange_wconn(ex);
    struct mirror *mirror = xcalloc(1, sizeof(*mirror));
    mirror->http = ex->http;
    mirror->http->n_mirrors++;
    mirror->view = view;
    mirror->client = wconn->client;
    mirror->called = wconn->dst;
    mirror->is_h2 = ex->received.version == HTTP_2;
    arena_init(&mirror->arena, EXCHANGE_ARENA_MAX);
    chain_init(&mirror->body, ex->http->loop->pool);
    http_stream_init(&mirror->up, &up_events, mirror);
    // What came while a fault delayed the request is its body too.
    chain_copy_all(&mirror->body, &ex->waiting);
    mirror->has_all = ex->request_ended;
    timer_init(&mirror->deadline, on_deadline);
    uint64_t max_ms = ex->timeout_ms > 0 ? ex->timeout_ms : MIRROR_MAX_MS;
    timer_set(&ex->http->loop->timers, &mirror->deadline, ex->http->loop->now + max_ms * NS_PER_MS);
    list_push_back(&ex->mirrors, &mirror->node);
    if (!copy_head(mirror, ex) || !copy_trailers(mirror, ex) ||
        !arena_copy(&mirror->arena, ex->request.authority, &mirror->authority)) {
        mirror_end(mirror, H2_CANCEL);
        return;
    }
    send_somewhere(mirror, ex, &rule->cluster);
}

void mirrors_start(struct exchange *ex) {
    if (ex->is_upgrade) {
        return;
    }
    for (uint32_t i = 0; i < ex->route->n_mirrors; i++) {
        const struct l7_mirror *rule = &ex->route->mirrors[i];
        if (l7_fault_chance(rule->ppm, &ex->http->worker->rand)) {
            start(ex, rule);
        }
    }
}

void mirrors_data(struct exchange *ex, struct slice payload, bool end) {
    LIST_EACH_SAFE(node, &ex->mirrors) {
        struct mirror *mirror = LIST_ITEM(node, struct mirror, node);
        if (mirror->body.len + payload.len > MIRROR_QUEUE_MAX) {
            mirror_end(mirror, H2_CANCEL);
            continue;
        }
        chain_copy(&mirror->body, payload);
        mirror->has_all = mirror->has_all || end;
        if (mirror->has_sent_head && (http_stream_can_send(&mirror->up) || end)) {
            flush_body(mirror);
        }
    }
}

void mirrors_trailers(struct exchange *ex) {
    LIST_EACH_SAFE(node, &ex->mirrors) {
        struct mirror *mirror = LIST_ITEM(node, struct mirror, node);
        (void)copy_trailers(mirror, ex); // without room: the body is complete all the same
        mirror->has_all = true;
        if (mirror->has_sent_head) {
            flush_body(mirror);
        }
    }
}

void mirrors_detach(struct exchange *ex, bool is_complete) {
    LIST_EACH_SAFE(node, &ex->mirrors) {
        if (is_complete) {
            list_del(node);
        } else { // the rest of the body will never come
            mirror_end(LIST_ITEM(node, struct mirror, node), H2_CANCEL);
        }
    }
}
