// SPDX-License-Identifier: Apache-2.0
//
// From a client's connection to HTTP: what has no declared protocol is told from its first bytes
// (HTTP/2's preface, or a request line of HTTP/1.1), everything else is carried as TCP.
#include <stdio.h>
#include <stdlib.h>

#include "common/proto/http_rules.h"
#include "waypoint/direct.h"
#include "waypoint/dynamic.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"
#include "waypoint/waypoint.h"

enum {
    SNIFF_MAX = 8192, // without a decision by then it is no HTTP
    METHOD_MAX = 32,
};

// ---- telling HTTP from the rest ----------------------------------------------------------------

enum sniffed { SNIFF_MORE, SNIFF_HTTP, SNIFF_TCP };

// "METHOD SP target SP HTTP/1.1 CRLF"; HTTP/1.0 is carried as TCP, as nobody here answers it.
static enum sniffed sniff_request_line(struct slice in) {
    size_t method = 0;
    while (method < in.len && http_rules_lower[in.ptr[method]] != 0) {
        method++;
    }
    if (method == in.len) {
        return method > METHOD_MAX ? SNIFF_TCP : SNIFF_MORE;
    }
    if (method == 0 || method > METHOD_MAX || in.ptr[method] != ' ') {
        return SNIFF_TCP;
    }
    const uint8_t *end = memchr(in.ptr, '\n', in.len);
    if (end == NULL) {
        return in.len >= SNIFF_MAX ? SNIFF_TCP : SNIFF_MORE;
    }
    struct slice line = slice_make(in.ptr, (size_t)(end - in.ptr));
    return slice_has_suffix(line, SLICE_LIT(" HTTP/1.1\r")) ? SNIFF_HTTP : SNIFF_TCP;
}

static enum sniffed sniff(struct slice in, bool is_end) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct slice h2 = slice_make(preface, sizeof(preface) - 1);
    if (slice_has_prefix(in, h2)) {
        return SNIFF_HTTP;
    }
    enum sniffed verdict = slice_has_prefix(h2, in) ? SNIFF_MORE : sniff_request_line(in);
    return verdict == SNIFF_MORE && is_end ? SNIFF_TCP : verdict;
}

// A connection whose first bytes are awaited.
struct sniffer {
    struct wconn *conn;
    struct duplex *duplex;
    struct chain input;
    bool is_closed;
};

static void sniffer_free(struct sniffer *sniffer) {
    chain_clear(&sniffer->input);
    free(sniffer);
}

// Called by the address of a workload: what is HTTP is only seen now.
static void set_direct(struct wconn *conn) {
    conn->direct = direct_service(conn->worker->http, conn->workload, &conn->dst);
    leaf_ref(conn->direct);
}

static void decide(struct sniffer *sniffer, bool is_end) {
    uint8_t start[SNIFF_MAX];
    size_t n = chain_peek(&sniffer->input, start, sizeof(start));
    enum sniffed verdict = sniff(slice_make(start, n), is_end);
    if (verdict == SNIFF_MORE) {
        return;
    }
    struct wconn *conn = sniffer->conn;
    struct duplex *duplex = sniffer->duplex;
    struct chain early = sniffer->input;
    chain_init(&sniffer->input, early.pool);
    sniffer_free(sniffer);
    duplex->ops->hold(duplex, true);
    if (verdict == SNIFF_HTTP) {
        if (conn->service == NULL) {
            set_direct(conn);
        }
        duplex->ops->consumed(duplex, early.len);
        http_down_start(conn, duplex, &early, is_end);
    } else {
        tcp_serve(conn, &early, is_end);
    }
}

static void on_sniff_data(struct duplex *duplex, const struct seg *seg) {
    struct sniffer *sniffer = duplex->owner;
    chain_copy(&sniffer->input, seg_slice(seg)); // its credit goes back when it is served
    blk_unref(seg->blk);
    decide(sniffer, false);
}

static void on_sniff_fin(struct duplex *duplex) {
    decide(duplex->owner, true);
}

static void on_sniff_sent(struct duplex *duplex, size_t n) {
    (void)duplex;
    (void)n;
}

static void on_sniff_writable(struct duplex *duplex) {
    (void)duplex;
}

static void on_sniff_abort(struct duplex *duplex, enum flow_end reason) {
    struct sniffer *sniffer = duplex->owner;
    sniffer->conn->end = (uint8_t)reason;
}

static void on_sniff_closed(struct duplex *duplex) {
    struct sniffer *sniffer = duplex->owner;
    struct wconn *conn = sniffer->conn;
    sniffer_free(sniffer);
    wconn_done(conn);
}

static const struct duplex_events sniff_events = {
    .on_data = on_sniff_data,
    .on_fin = on_sniff_fin,
    .on_sent = on_sniff_sent,
    .on_writable = on_sniff_writable,
    .on_abort = on_sniff_abort,
    .on_closed = on_sniff_closed,
};

static void sniff_lost(struct wconn *conn, enum flow_end reason) {
    (void)conn;
    (void)reason; // accepted at once: the duplex tells
}

static void sniff_cut(struct wconn *conn, enum flow_end reason) {
    struct sniffer *sniffer = conn->user;
    conn->end = (uint8_t)reason;
    sniffer->duplex->ops->abort(sniffer->duplex);
}

static const struct wconn_ops sniff_ops = {
    .protocol = "unknown", .lost = sniff_lost, .cut = sniff_cut};

// ---- a client's HTTP connection ----------------------------------------------------------------

static struct http_down *of_conn(struct http_conn *conn) {
    return CONTAINER_OF(conn, struct http_down, conn);
}

static void arm_idle(struct http_down *down) {
    timer_set(&down->http->loop->timers, &down->idle,
              down->http->loop->now + HTTP_DOWN_IDLE_MS * NS_PER_MS);
}

static void on_idle_timer(struct timer *timer, uint64_t now) {
    struct http_down *down = CONTAINER_OF(timer, struct http_down, idle);
    uint64_t due = down->conn.last_active + HTTP_DOWN_IDLE_MS * NS_PER_MS;
    if (!list_empty(&down->exchanges)) {
        arm_idle(down);
    } else if (now < due) {
        timer_set(&down->http->loop->timers, timer, due);
    } else {
        http_conn_drain(&down->conn);
    }
}

static struct http_stream *on_stream(struct http_conn *conn) {
    struct http_down *down = of_conn(conn);
    if (!wworker_admits(down->wconn->worker, -1)) {
        return NULL;
    }
    return &exchange_new(down)->down;
}

static void on_bad_request(struct http_conn *conn, enum http_err err) {
    exchange_report_bad_request(of_conn(conn), err);
}

void http_down_check(struct http_down *down) {
    if (!down->is_closed || !list_empty(&down->exchanges)) {
        return;
    }
    struct wconn *wconn = down->wconn;
    timer_clear(&down->http->loop->timers, &down->idle);
    list_del(&down->node);
    free(down);
    wconn_done(wconn);
}

static void on_closed(struct http_conn *conn) {
    struct http_down *down = of_conn(conn);
    down->is_closed = true; // its streams have been told: no exchange is left
    http_down_check(down);
}

static const struct http_conn_handler down_handler = {
    .on_stream = on_stream, .on_bad_request = on_bad_request, .on_closed = on_closed};

static void down_lost(struct wconn *conn, enum flow_end reason) {
    (void)conn;
    (void)reason; // the duplex tells
}

static bool down_end(struct wconn *conn) {
    struct http_down *down = conn->user;
    return list_empty(&down->exchanges) && http_conn_end_idle(&down->conn);
}

static void down_cut(struct wconn *conn, enum flow_end reason) {
    struct http_down *down = conn->user;
    conn->end = (uint8_t)reason;
    if (reason == FLOW_DRAIN && down_end(conn)) { // idle: nothing is lost with it
        list_del(&conn->node); // the next ones are those that are cut
        list_push_back(&conn->worker->conns, &conn->node);
    } else if (reason != FLOW_DRAIN || !down->conn.is_ended) {
        http_conn_abort(&down->conn, HTTP_RESET_TERMINATION);
    }
}

static void down_drain(struct wconn *conn) {
    http_conn_drain(&((struct http_down *)conn->user)->conn);
}

static const struct wconn_ops http_ops = {
    .protocol = "http", .lost = down_lost, .cut = down_cut, .drain = down_drain, .end = down_end};

void http_down_start(struct wconn *wconn, struct duplex *duplex, struct chain *early, bool fin) {
    struct http_worker *http = wconn->worker->http;
    struct http_down *down = xcalloc(1, sizeof(*down));
    down->http = http;
    down->wconn = wconn;
    list_init(&down->exchanges);
    list_push_back(&http->conns, &down->node);
    timer_init(&down->idle, on_idle_timer);
    wconn->ops = &http_ops;
    wconn->user = down;
    arm_idle(down);
    http_conn_init(&down->conn, http->loop, duplex, true, HTTP_CONN_AUTO, &http->server,
                   &down_handler);
    if (early != NULL && !chain_empty(early)) {
        http_conn_feed(&down->conn, early);
    }
    if (fin) {
        duplex->events->on_fin(duplex);
    }
    if (http->is_draining) {
        http_conn_drain(&down->conn);
    }
}

void http_serve(struct wconn *conn) {
    struct duplex *duplex = wconn_accept(conn);
    if (conn->app_protocol != APP_UNKNOWN) {
        http_down_start(conn, duplex, NULL, false);
        return;
    }
    struct sniffer *sniffer = xcalloc(1, sizeof(*sniffer));
    sniffer->conn = conn;
    sniffer->duplex = duplex;
    chain_init(&sniffer->input, conn->worker->loop->pool);
    conn->ops = &sniff_ops;
    conn->user = sniffer;
    duplex->events = &sniff_events;
    duplex->owner = sniffer;
    duplex->ops->hold(duplex, false);
}

// ---- the worker's share ------------------------------------------------------------------------

static void set_client_cert(struct http_worker *http) {
    const struct waypoint_config *config = http->worker->config;
    const struct snapshot *snap = snapshot_current();
    char key[512], id[SPIFFE_TEXT_MAX], text[SPIFFE_TEXT_MAX + 16];
    const struct service *own = snapshot_service(snap, waypoint_service_key(config, snap, key));
    free(http->client_cert);
    http->client_cert = NULL;
    if (own != NULL && own->tells_client) {
        snprintf(text, sizeof(text), "By=%s;URI=", waypoint_identity_id(config, snap, id));
        http->client_cert = xstrdup(text);
    }
}

void http_worker_catch_up(struct http_worker *http) {
    uint64_t generation = snapshot_current()->generation;
    if (http->generation != generation) {
        http->generation = generation;
        exchange_reporter_news(&http->reporter);
        set_client_cert(http);
    }
}

void http_worker_open(struct wworker *worker) {
    struct http_worker *http = xcalloc(1, sizeof(*http));
    http->worker = worker;
    http->loop = worker->loop;
    worker->http = http;
    list_init(&http->conns);
    http_conn_config_init(&http->server, true);
    slab_init(&http->exchange_slab, sizeof(struct exchange));
    direct_init(http);
    dynamic_init(http);
    upstreams_init(&http->upstreams, worker);
    exchange_reporter_open(&http->reporter, worker);
    http_worker_catch_up(http);
}

void http_worker_drain(struct wworker *worker) {
    worker->http->is_draining = true;
    upstreams_drain(&worker->http->upstreams);
    LIST_EACH_SAFE(node, &worker->http->conns) {
        http_conn_drain(&LIST_ITEM(node, struct http_down, node)->conn);
    }
}

void http_worker_news(struct wworker *worker, struct wworker_news news) {
    http_worker_catch_up(worker->http);
    if (news.workloads) {
        direct_news(worker->http);
    }
    if (news.services) {
        dynamic_news(worker->http);
    }
    if (news.services || news.workloads) {
        upstreams_refresh(&worker->http->upstreams);
    }
}

bool http_worker_stop(struct wworker *worker) {
    return upstreams_stop(&worker->http->upstreams) && worker->http->n_exchanges == 0 &&
           worker->http->n_mirrors == 0 && list_empty(&worker->conns) && dynamic_stop(worker->http);
}

void http_worker_close(struct wworker *worker) {
    struct http_worker *http = worker->http;
    worker->http = NULL;
    exchange_reporter_close(&http->reporter);
    dynamic_fini(http);
    upstreams_fini(&http->upstreams);
    direct_fini(http);
    slab_fini(&http->exchange_slab);
    free(http->client_cert);
    free(http);
}
