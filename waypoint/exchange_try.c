// SPDX-License-Identifier: Apache-2.0
//
// Tries of an exchange: a host is chosen, a connection taken, the request sent, and the response
// judged. A try that failed is followed by another one, by the route's retry policy, or by an
// answer of our own.
#include <stdlib.h>

#include "common/base/check.h"
#include "common/l7/l7_breaker.h"
#include "common/l7/l7_outlier.h"
#include "common/proto/http_rules.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"

static struct timer_wheel *timers(struct exchange *ex) {
    return &ex->http->loop->timers;
}

static uint64_t now_ms(const struct exchange *ex) {
    return ex->http->loop->now / NS_PER_MS;
}

// ---- what a try takes --------------------------------------------------------------------------

static void give_request_slot(struct exchange *ex) {
    if (ex->has_request_slot) {
        struct l7_breaker *breaker = &upstream_view_cluster(ex->view)->breaker;
        ex->has_request_slot = false;
        l7_breaker_ended(breaker, &upstream_view_settings(ex->view)->budget, now_ms(ex));
        l7_breaker_give(breaker, L7_BREAKER_REQUESTS);
    }
}

static void give_retry_slot(struct exchange *ex) {
    if (ex->has_retry_slot) {
        ex->has_retry_slot = false;
        l7_breaker_give(&upstream_view_cluster(ex->view)->breaker, L7_BREAKER_RETRIES);
    }
}

static void give_host(struct exchange *ex) {
    if (ex->host != NULL) {
        atomic_fetch_sub(&ex->host->cell->active, 1);
        ex->host = NULL;
    }
}

// All but its place among the retries.
static void drop_try(struct exchange *ex, enum h2_err code) {
    timer_clear(timers(ex), &ex->try_deadline);
    dns_cache_cancel(&ex->query);
    upstream_request_cancel(&ex->wait);
    http_stream_release(&ex->up, code);
    ex->has_sent_head = false;
    if (ex->view != NULL) {
        give_request_slot(ex);
        give_host(ex);
    }
}

void exchange_drop_try(struct exchange *ex, enum h2_err code) {
    drop_try(ex, code);
    give_retry_slot(ex);
}

// What the host did is evidence for outlier detection.
static void judge_host(struct exchange *ex, enum l7_result result, uint16_t status) {
    if (ex->host == NULL) {
        return;
    }
    struct cluster *cluster = upstream_view_cluster(ex->view);
    struct l7_outlier_report report = {
        .policy = &upstream_view_settings(ex->view)->outlier,
        .cluster = &cluster->outlier,
        .lb = &cluster->lb,
        .host = ex->host->cell,
        .n_hosts = (uint32_t)upstream_view_n_hosts(ex->view),
        .result = (uint8_t)result,
        .status = status,
        .now_ms = now_ms(ex),
    };
    (void)l7_outlier_report(&report);
}

static void judge_reset(struct exchange *ex, enum l7_reset reset) {
    enum l7_result result;
    uint16_t status = 0;
    if (l7_outlier_of_reset(reset, &result, &status)) {
        judge_host(ex, result, status);
    }
}

// ---- another try -------------------------------------------------------------------------------

// A place among the cluster's retries (maxRetries, or the budget).
static bool take_retry_slot(struct exchange *ex) {
    struct cluster *cluster = upstream_view_cluster(ex->view);
    const struct l7_settings *settings = upstream_view_settings(ex->view);
    uint32_t limit = l7_breaker_limit(&cluster->breaker, L7_BREAKER_RETRIES, settings, now_ms(ex));
    ex->has_retry_slot = l7_breaker_take(&cluster->breaker, L7_BREAKER_RETRIES, limit);
    return ex->has_retry_slot;
}

// The next try comes when the timer fires: all that was received goes again from the start.
static void go_again(struct exchange *ex, uint64_t wait_ms) {
    chain_clear(&ex->waiting);
    chain_copy_all(&ex->waiting, &ex->kept);
    ex->state = EXCHANGE_BACKOFF;
    timer_set(timers(ex), &ex->timer, ex->http->loop->now + wait_ms * NS_PER_MS);
}

// A server may end an idle connection just when a request is on its way (RFC 9112 9.3.1). One that
// may be repeated (RFC 9110 9.2.2) is sent again, on another connection. That is no retry of the
// route's, but a route without retries (attempts: 0) has none of this either.
static bool replay(struct exchange *ex, enum l7_reset reset) {
    if (reset != L7_RESET_TERMINATION || !ex->is_reused || ex->state != EXCHANGE_TRY ||
        ex->n_replays == EXCHANGE_REPLAYS_MAX || ex->route->retry.attempts == 0 || ex->is_upgrade ||
        (!ex->keeps && ex->n_received > 0) || !http_rules_is_idempotent(ex->received.method)) {
        return false;
    }
    ex->n_replays++;
    exchange_drop_try(ex, H2_CANCEL);
    go_again(ex, 0);
    return true;
}

// True: another try is on its way, the one that failed is gone. False: that one is what it was, and
// its answer, if it has one, the client's.
static bool try_again(struct exchange *ex) {
    if (ex->state == EXCHANGE_RESPONSE || (!ex->keeps && ex->n_received > 0) ||
        (ex->is_upgrade && ex->has_sent_head && ex->n_received > 0)) {
        return false;
    }
    if (!l7_retry_take(&ex->retry)) {
        if (ex->retry.n_done > 0) {
            ex->flags |= L7_FLAG_URX;
        }
        return false;
    }
    give_retry_slot(ex); // of the try that failed
    if (!take_retry_slot(ex)) {
        ex->flags |= L7_FLAG_UO;
        return false;
    }
    const struct l7_host_cell *tried = ex->host != NULL ? ex->host->cell : NULL;
    drop_try(ex, H2_CANCEL);
    if (tried != NULL && ex->n_tried < EXCHANGE_TRIED_MAX) {
        ex->tried[ex->n_tried++] = tried;
    }
    go_again(ex, l7_retry_backoff_ms(&ex->retry, &ex->http->worker->rand));
    return true;
}

static void try_failed(struct exchange *ex, enum l7_reset reset, const char *failure) {
    bool has_begun = ex->has_sent_head;
    if (replay(ex, reset)) {
        return;
    }
    judge_reset(ex, reset);
    if (ex->state == EXCHANGE_RESPONSE) { // the client must see that the answer is cut
        ex->flags |= l7_reply_reset_flags(reset);
        ex->details = l7_reply_cut_details(reset, &ex->arena);
        exchange_end(ex);
        return;
    }
    if (l7_retry_wants_reset(&ex->retry, reset, has_begun) && try_again(ex)) {
        return;
    }
    exchange_reply_reset(ex, reset, failure);
}

// ---- time --------------------------------------------------------------------------------------

static void reply_timeout(struct exchange *ex, enum l7_reply_kind kind) {
    struct l7_reply_spec spec = {
        .kind = (uint8_t)kind, .status = ex->answers_204 ? 204 : 0, .grpc_status = -1};
    exchange_reply(ex, &spec);
}

static void on_deadline(struct timer *timer, uint64_t now) {
    (void)now;
    struct exchange *ex = CONTAINER_OF(timer, struct exchange, deadline);
    judge_host(ex, L7_RESULT_TIMEOUT, 0);
    ex->flags |= L7_FLAG_UT;
    if (ex->state == EXCHANGE_RESPONSE) {
        ex->details = "response_timeout";
        exchange_end(ex);
        return;
    }
    reply_timeout(ex, L7_REPLY_TIMEOUT);
}

void exchange_arm_deadline(struct exchange *ex) {
    if (ex->timeout_ms > 0 && !timer_is_armed(&ex->deadline)) {
        timer_set(timers(ex), &ex->deadline, ex->http->loop->now + ex->timeout_ms * NS_PER_MS);
    }
    if (ex->has_sent_head && ex->try_timeout_ms > 0 && !timer_is_armed(&ex->try_deadline) &&
        ex->state == EXCHANGE_TRY) {
        timer_set(timers(ex), &ex->try_deadline,
                  ex->http->loop->now + ex->try_timeout_ms * NS_PER_MS);
    }
}

static void on_try_deadline(struct timer *timer, uint64_t now) {
    (void)now;
    struct exchange *ex = CONTAINER_OF(timer, struct exchange, try_deadline);
    judge_host(ex, L7_RESULT_TIMEOUT, 0);
    if (l7_retry_wants_reset(&ex->retry, L7_RESET_LOCAL, true) && try_again(ex)) {
        return;
    }
    ex->flags |= L7_FLAG_UT;
    reply_timeout(ex, L7_REPLY_PER_TRY_TIMEOUT);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct exchange *ex = CONTAINER_OF(timer, struct exchange, timer);
    if (ex->state == EXCHANGE_DELAY) {
        exchange_after_delay(ex);
    } else {
        exchange_start_try(ex);
    }
}

void exchange_timers_init(struct exchange *ex) {
    timer_init(&ex->timer, on_timer);
    timer_init(&ex->deadline, on_deadline);
    timer_init(&ex->try_deadline, on_try_deadline);
}

// ---- the upstream's side -----------------------------------------------------------------------

static struct exchange *of_up(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct exchange, up);
}

static void on_up_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct exchange *ex = of_up(stream);
    if (ex->is_upgrade && !websocket_response_ok(ex, head)) {
        try_failed(ex, L7_RESET_PROTOCOL_ERROR, "no answer to a WebSocket's handshake");
        return;
    }
    judge_host(ex, L7_RESULT_STATUS, head->status);
    ex->first_byte_ns = ex->http->loop->now;
    if (l7_retry_wants_response(&ex->retry, head) && try_again(ex)) {
        return;
    }
    give_retry_slot(ex);
    timer_clear(timers(ex), &ex->try_deadline);
    ex->state = EXCHANGE_RESPONSE;
    exchange_pass_head(ex, head, end);
}

static void on_up_informational(struct http_stream *stream, const struct http_head *head) {
    (void)http_stream_send_head(&of_up(stream)->down, head, false);
}

static void response_ended(struct exchange *ex) {
    // What the client still sends is of no use any more.
    exchange_end(ex);
}

static void on_up_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct exchange *ex = of_up(stream);
    struct chain data;
    chain_init(&data, ex->http->loop->pool);
    chain_push(&data, seg);
    ex->n_sent += seg->len;
    exchange_report_sent(ex, seg_slice(seg));
    http_stream_send_data(&ex->down, &data, end);
    if (end) {
        response_ended(ex);
        return;
    }
    if (http_stream_can_send(&ex->down)) { // more may come, and the end, before this returns
        http_stream_consumed(&ex->up, ex->up.n_unconsumed);
    }
}

static void on_up_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
    struct exchange *ex = of_up(stream);
    ex->grpc_status = exchange_grpc_status(fields, n, ex->grpc_status);
    http_stream_send_trailers(&ex->down, fields, n);
    response_ended(ex);
}

static void on_up_end(struct http_stream *stream) {
    struct exchange *ex = of_up(stream);
    struct chain none;
    chain_init(&none, ex->http->loop->pool);
    http_stream_send_data(&ex->down, &none, true);
    response_ended(ex);
}

static void on_up_writable(struct http_stream *stream) {
    struct exchange *ex = of_up(stream);
    http_stream_consumed(&ex->down, ex->down.n_unconsumed);
}

static enum l7_reset reset_of(enum http_reset reset) {
    switch (reset) {
    case HTTP_RESET_REMOTE:
        return L7_RESET_REMOTE;
    case HTTP_RESET_REFUSED:
        return L7_RESET_REMOTE_REFUSED;
    case HTTP_RESET_PROTOCOL:
        return L7_RESET_PROTOCOL_ERROR;
    case HTTP_RESET_TERMINATION:
        break;
    }
    return L7_RESET_TERMINATION;
}

static void on_up_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    (void)detail;
    try_failed(of_up(stream), reset_of(reset), NULL);
}

static const struct http_stream_events up_events = {
    .on_head = on_up_head,
    .on_informational = on_up_informational,
    .on_data = on_up_data,
    .on_trailers = on_up_trailers,
    .on_end = on_up_end,
    .on_writable = on_up_writable,
    .on_reset = on_up_reset,
};

static void on_ready(struct upstream_request *wait, struct http_conn *conn,
                     const struct upstream_path *path) {
    struct exchange *ex = CONTAINER_OF(wait, struct exchange, wait);
    ex->upstream_addr = path->addr;
    ex->upstream_via = path->via;
    ex->upstream_local = path->local;
    const struct l7_settings *settings = upstream_view_settings(ex->view);
    ex->has_request_slot = l7_breaker_take(&upstream_view_cluster(ex->view)->breaker,
                                           L7_BREAKER_REQUESTS, settings->pool.max_requests);
    if (!ex->has_request_slot) {
        try_failed(ex, L7_RESET_OVERFLOW, NULL);
        return;
    }
    judge_host(ex, L7_RESULT_CONNECTED, 0);
    if (ex->is_upgrade && !websocket_request(ex, conn)) {
        return;
    }
    ex->has_sent_head = true;
    ex->is_reused = conn->n_streams_total > 0;
    http_conn_open(conn, &ex->up);
    bool has_body = !ex->request_ended || ex->waiting.len > 0 || ex->n_trailers > 0;
    if (!http_stream_send_head(&ex->up, &ex->request, !has_body && !ex->is_upgrade)) {
        return; // it was reset in the call, and has been dealt with
    }
    if (ex->request_ended && !ex->is_upgrade) {
        exchange_arm_deadline(ex);
    }
    if (has_body) {
        exchange_send_body(ex); // the exchange may be gone afterwards
    }
}

static void on_fail(struct upstream_request *wait, enum l7_reset reset, const char *text) {
    struct exchange *ex = CONTAINER_OF(wait, struct exchange, wait);
    try_failed(ex, reset, text);
}

static const struct upstream_request_ops wait_ops = {.on_ready = on_ready, .on_fail = on_fail};

// ---- choosing ----------------------------------------------------------------------------------

static const struct l7_host *choose(struct exchange *ex) {
    const struct wconn *wconn = exchange_wconn(ex);
    if (upstream_view_is_through(ex->view)) {
        return upstream_view_through(ex->view, &wconn->dst);
    }
    const struct l7_settings *settings = upstream_view_settings(ex->view);
    const struct l7_retry_policy *retry = ex->retry.policy;
    bool is_hashed = settings->lb.kind == L7_LB_RING || settings->lb.kind == L7_LB_MAGLEV;
    struct l7_lb_pick pick = {.rand = &ex->http->worker->rand, .now_ms = now_ms(ex)};
    if (is_hashed) {
        struct l7_request request;
        l7_request_init(&request, &ex->request, wconn_service_port(wconn)->port, wconn->source);
        pick.has_hash = l7_lb_hash(&settings->lb, &request, &wconn->client, &wconn->local,
                                   &ex->arena, &ex->set_cookie, &pick.hash);
    }
    if (retry->avoids_tried_hosts && (!is_hashed || retry->is_avoiding_set)) {
        pick.tried = ex->tried;
        pick.n_tried = ex->n_tried;
    }
    pick.leaves_locality = retry->leaves_locality;
    return l7_lb_pick(upstream_view_lb(ex->view, wconn->source), &pick);
}

static void start_at(struct exchange *ex, const struct l7_host *host) {
    if (host == NULL) {
        exchange_reply_kind(ex, L7_REPLY_NO_HEALTHY);
        return;
    }
    ex->host = host;
    atomic_fetch_add(&host->cell->active, 1);
    ex->n_tries++;
    ex->try_started_ns = ex->http->loop->now;
    leaf_unref(ex->upstream_workload);
    ex->upstream_workload = host->endpoint->workload;
    if (ex->upstream_workload != NULL) {
        leaf_ref(ex->upstream_workload);
    }
    ex->upstream_addr = host->addr;
    exchange_set_attempt(ex);
    http_stream_init(&ex->up, &up_events, ex);
    const struct wconn *wconn = exchange_wconn(ex);
    struct upstream_caller caller = {.authority = ex->request.authority,
                                     .client = &wconn->client,
                                     .called = &wconn->dst,
                                     .is_upgrade = ex->is_upgrade};
    upstream_request_start(&ex->wait, ex->view, host,
                           upstream_version(ex->view, ex->received.version == HTTP_2), &caller,
                           &wait_ops);
}

// ---- hosts that requests name ------------------------------------------------------------------

static void take_name(struct exchange *ex, const struct dns_cache_answer *answer) {
    if (answer->n_ips > 0) {
        start_at(ex, dynamic_host(ex->http, ex->view, answer, ex->tried, ex->n_tried));
        return;
    }
    struct l7_reply_spec spec = {.kind = L7_REPLY_DNS_FAILURE, .failure = slice_str(answer->text)};
    exchange_reply(ex, &spec);
}

static void on_name(struct dns_cache_query *query, const struct dns_cache_answer *answer) {
    take_name(CONTAINER_OF(query, struct exchange, query), answer);
}

bool exchange_name(const struct exchange *ex, const struct service *service,
                   const struct l7_cluster *cluster, char ret_name[L7_NAME_MAX]) {
    return l7_name_under(service->hostname, slice_str(cluster->host), ret_name) ||
           l7_name_under(service->hostname, ex->request.authority, ret_name) ||
           l7_name_under(service->hostname, ex->received.authority, ret_name);
}

static void look_up(struct exchange *ex) {
    char name[L7_NAME_MAX];
    struct dns_cache_answer answer;
    if (!exchange_name(ex, upstream_view_service(ex->view), ex->cluster, name)) {
        exchange_reply_kind(ex, L7_REPLY_NO_HEALTHY);
        return;
    }
    ex->query.fn = on_name;
    switch (dynamic_ask(ex->http, name, &ex->query, &answer)) {
    case DNS_CACHE_HERE:
        take_name(ex, &answer);
        break;
    case DNS_CACHE_WAITS:
        break;
    case DNS_CACHE_FULL:
        exchange_reply_kind(ex, L7_REPLY_DNS_OVERFLOW);
        break;
    case DNS_CACHE_BUSY:
        exchange_reply_kind(ex, L7_REPLY_DNS_PENDING_OVERFLOW);
        break;
    }
}

void exchange_start_try(struct exchange *ex) {
    ex->state = EXCHANGE_TRY;
    if (upstream_view_service(ex->view)->is_dynamic) {
        look_up(ex);
    } else {
        start_at(ex, choose(ex));
    }
}
