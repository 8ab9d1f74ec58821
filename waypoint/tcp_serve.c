// SPDX-License-Identifier: Apache-2.0
//
// A connection as bytes: a rule and its destination are chosen, an endpoint of that is reached
// (others are tried when that fails), and only then the client is answered, unless bytes of it were
// read before that.
#include <stdio.h>
#include <stdlib.h>

#include "common/l7/l7_outlier.h"
#include "common/l7/l7_routes.h"
#include "waypoint/conn.h"
#include "waypoint/dial.h"
#include "waypoint/dynamic.h"
#include "waypoint/http_worker.h"
#include "waypoint/report.h"
#include "waypoint/tcp_conn.h"
#include "waypoint/tcp_hello.h"
#include "waypoint/upstream_tls.h"
#include "waypoint/waypoint.h"

enum {
    TCP_ATTEMPTS = 3, // the first endpoint and two more
    TCP_RETRY_MS = 10000, // no further attempt later than this
    PROXY_TEXT_MAX = 264, // a host name and a port
    // As ztun: a pod whose port 15008 is closed may be joining the mesh, or its ztun is starting
    // again; its connections wait for so long.
    TCP_JOIN_MS = 1000,
    TCP_PAUSE_MIN_MS = 20, // between two rounds: half of the connection's age within these bounds
    TCP_PAUSE_MAX_MS = 200,
};

struct tcp_conn {
    struct wconn *conn;
    struct pipe pipe;
    struct upstream_dial dial;
    struct chain early; // taken from the client before; empty else
    struct leaf *routes; // referenced; NULL: the default route
    const struct l7_cluster *cluster; // its destination; NULL: not chosen yet, or a workload's
    struct upstream_view *view; // referenced; NULL: a workload was called
    const struct l7_host *host; // the view's; counted in its cell
    const struct l7_host_cell *tried[TCP_ATTEMPTS];
    struct dns_cache_query query; // of the host that the client names
    char *name; // the server that the TLS client, or the rule, names; heap, NULL: not known
    struct metric_series *opened; // NULL before both ends are there
    struct timer timer; // idle and age; before: the pause until all are tried again
    uint64_t idle_ns, age_ns; // 0 = no limit
    uint64_t active_at, n_seen; // when bytes were last seen to have moved, and how many
    uint8_t n_tried;
    bool has_early, early_fin;
    bool is_attached; // the client's end belongs to the pipe
    bool has_place; // among the cluster's connections
    bool is_unserved; // nobody was at port 15008 of the last one that was tried
    bool has_paused;
};

size_t tcp_conn_size(void) {
    return sizeof(struct tcp_conn);
}

// ---- endings -----------------------------------------------------------------------------------

static void leave_host(struct tcp_conn *tcp) {
    if (tcp->host != NULL) {
        atomic_fetch_sub(&tcp->host->cell->active, 1);
        tcp->host = NULL;
    }
}

static void leave_view(struct tcp_conn *tcp) {
    leave_host(tcp);
    if (tcp->has_place) {
        tcp->has_place = false;
        upstream_view_give_conn(tcp->view);
    }
    upstream_view_unref(tcp->view);
    tcp->view = NULL;
}

static void end(struct tcp_conn *tcp) {
    struct wconn *conn = tcp->conn;
    struct wworker *worker = conn->worker;
    upstream_dial_cancel(&tcp->dial);
    dns_cache_cancel(&tcp->query);
    free(tcp->name);
    leave_view(tcp);
    leaf_unref(tcp->routes);
    timer_clear(&worker->loop->timers, &tcp->timer);
    chain_clear(&tcp->early);
    if (tcp->opened != NULL) {
        report_tcp_end(conn, tcp->opened);
    }
    slab_free(&worker->tcp_slab, tcp);
    wconn_done(conn);
}

static void pipe_done(struct pipe *pipe) {
    struct tcp_conn *tcp = CONTAINER_OF(pipe, struct tcp_conn, pipe);
    struct wconn *conn = tcp->conn;
    conn->n_received = pipe->n_bytes[PIPE_DOWN];
    conn->n_sent = pipe->n_bytes[PIPE_UP];
    conn->end = (uint8_t)pipe->end;
    end(tcp);
}

static enum hbone_err answer_of(enum flow_end reason) {
    return reason == FLOW_OVERLOAD ? HBONE_OVERLOADED : HBONE_CONNECT_FAILED;
}

// No upstream.
static void give_up(struct tcp_conn *tcp, enum flow_end reason) {
    if (tcp->is_attached) {
        pipe_cut(&tcp->pipe, reason); // pipe_done follows
        return;
    }
    wconn_refuse(tcp->conn, answer_of(reason), reason);
    end(tcp);
}

static void on_lost(struct wconn *conn, enum flow_end reason) {
    (void)reason; // conn->end has it
    end(conn->user);
}

static void on_cut(struct wconn *conn, enum flow_end reason) {
    give_up(conn->user, reason);
}

static void count(const struct wconn *conn, uint64_t *ret_sent, uint64_t *ret_received) {
    const struct tcp_conn *tcp = conn->user;
    *ret_received = tcp->pipe.n_bytes[PIPE_DOWN];
    *ret_sent = tcp->pipe.n_bytes[PIPE_UP];
}

static const struct wconn_ops ops = {
    .protocol = "tcp", .lost = on_lost, .cut = on_cut, .count = count};

// ---- limits of time ----------------------------------------------------------------------------

static uint64_t moved(const struct tcp_conn *tcp) {
    return tcp->pipe.n_bytes[PIPE_DOWN] + tcp->pipe.n_bytes[PIPE_UP];
}

// The idle time is looked at four times within it, so that bytes need no clock.
static void arm_timer(struct tcp_conn *tcp) {
    uint64_t now = tcp->conn->worker->loop->now, due = TIME_NEVER;
    if (tcp->idle_ns != 0) {
        due = MIN(now + MAX(tcp->idle_ns / 4, NS_PER_MS), tcp->active_at + tcp->idle_ns);
    }
    if (tcp->age_ns != 0) {
        due = MIN(due, tcp->conn->started_ns + tcp->age_ns);
    }
    if (due != TIME_NEVER) {
        timer_set(&tcp->conn->worker->loop->timers, &tcp->timer, due);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct tcp_conn *tcp = CONTAINER_OF(timer, struct tcp_conn, timer);
    if (moved(tcp) != tcp->n_seen) {
        tcp->n_seen = moved(tcp);
        tcp->active_at = now;
    }
    bool is_old = tcp->age_ns != 0 && now >= tcp->conn->started_ns + tcp->age_ns;
    bool is_idle = tcp->idle_ns != 0 && now >= tcp->active_at + tcp->idle_ns;
    if (is_old || is_idle) {
        wconn_set_detail(tcp->conn, is_old ? "maxConnectionDuration" : "idle timeout");
        pipe_cut(&tcp->pipe, FLOW_TIMEOUT);
        return;
    }
    arm_timer(tcp);
}

// ---- the upstream ------------------------------------------------------------------------------

static void connect_next(struct tcp_conn *tcp);

static uint64_t age_of(const struct tcp_conn *tcp) {
    return tcp->conn->worker->loop->now - tcp->conn->started_ns;
}

static void on_pause_end(struct timer *timer, uint64_t now) {
    (void)now;
    struct tcp_conn *tcp = CONTAINER_OF(timer, struct tcp_conn, timer);
    timer_init(&tcp->timer, on_timer);
    tcp->n_tried = 0;
    connect_next(tcp);
}

// Nobody else is left. False: that is the end.
static bool waits(struct tcp_conn *tcp) {
    uint64_t age = age_of(tcp);
    struct loop *loop = tcp->conn->worker->loop;
    if (!tcp->is_unserved || age >= TCP_JOIN_MS * NS_PER_MS) {
        return false;
    }
    uint64_t pause = MIN(MAX(age / 2, TCP_PAUSE_MIN_MS * NS_PER_MS), TCP_PAUSE_MAX_MS * NS_PER_MS);
    tcp->has_paused = true;
    timer_init(&tcp->timer, on_pause_end);
    timer_set(&loop->timers, &tcp->timer, loop->now + pause);
    return true;
}

// What the host did is evidence for outlier detection. A connection that came to be is as good as
// a request that was answered.
static void judge_host(struct tcp_conn *tcp, enum l7_result result) {
    if (tcp->host == NULL) {
        return;
    }
    struct cluster *cluster = upstream_view_cluster(tcp->view);
    const struct l7_outlier_policy *policy = &upstream_view_settings(tcp->view)->outlier;
    bool is_answer = result == L7_RESULT_CONNECTED && !policy->splits_local_origin;
    struct l7_outlier_report report = {
        .policy = policy,
        .cluster = &cluster->outlier,
        .lb = &cluster->lb,
        .host = tcp->host->cell,
        .n_hosts = (uint32_t)upstream_view_n_hosts(tcp->view),
        .result = (uint8_t)(is_answer ? L7_RESULT_STATUS : result),
        .status = is_answer ? 200 : 0,
        .now_ms = tcp->conn->worker->loop->now / NS_PER_MS,
    };
    (void)l7_outlier_report(&report);
}

static void on_open(struct upstream_dial *dial, struct duplex *duplex) {
    struct tcp_conn *tcp = CONTAINER_OF(dial, struct tcp_conn, dial);
    struct wconn *conn = tcp->conn;
    judge_host(tcp, L7_RESULT_CONNECTED);
    if (!tcp->is_attached) {
        tcp->is_attached = true;
        pipe_attach(&tcp->pipe, PIPE_DOWN, wconn_accept(conn));
    }
    pipe_attach(&tcp->pipe, PIPE_UP, duplex);
    tcp->opened = report_tcp_opened(conn);
    tcp->active_at = conn->worker->loop->now;
    arm_timer(tcp);
    if (tcp->has_early) {
        pipe_push(&tcp->pipe, PIPE_DOWN, &tcp->early, tcp->early_fin);
    }
    pipe_start(&tcp->pipe);
}

static void on_fail(struct upstream_dial *dial, const struct upstream_failure *failure) {
    struct tcp_conn *tcp = CONTAINER_OF(dial, struct tcp_conn, dial);
    struct wconn *conn = tcp->conn;
    if (!tcp->has_paused) { // one connection that waits is evidence once
        judge_host(tcp, failure->is_timeout ? L7_RESULT_TIMEOUT : L7_RESULT_CONNECT_FAILED);
    }
    tcp->is_unserved = failure->is_unserved;
    leave_host(tcp);
    wconn_set_detail(conn, failure->text);
    conn->end = failure->reason;
    bool is_over = !failure->is_retryable || age_of(tcp) >= TCP_RETRY_MS * NS_PER_MS;
    if (!is_over && tcp->n_tried < TCP_ATTEMPTS) {
        connect_next(tcp);
    } else if (is_over || !waits(tcp)) {
        give_up(tcp, (enum flow_end)failure->reason);
    }
}

static const struct upstream_dial_ops dial_ops = {.on_open = on_open, .on_fail = on_fail};

// A host that was not tried yet. The place that is counted is the client's, where it is known, not
// the waypoint's. NULL: none.
static const struct l7_host *choose(struct tcp_conn *tcp, const struct snapshot *snap) {
    struct wconn *conn = tcp->conn;
    struct wworker *worker = conn->worker;
    const struct workload *near =
        conn->source != NULL ? conn->source : waypoint_workload(worker->config, snap);
    const struct l7_lb_policy *policy = &upstream_view_settings(tcp->view)->lb;
    struct l7_lb_pick pick = {
        .rand = &worker->rand,
        .now_ms = worker->loop->now / NS_PER_MS,
        .tried = tcp->tried,
        .n_tried = tcp->n_tried,
        .has_hash = policy->hash_key == L7_HASH_IP, // nothing else is known of bytes
    };
    if (pick.has_hash) {
        struct slice cookie;
        (void)l7_lb_hash(policy, NULL, &conn->client, &conn->local, NULL, &cookie, &pick.hash);
    }
    struct l7_lb *lb = upstream_view_lb(tcp->view, near);
    const struct l7_host *host = l7_lb_pick(lb, &pick);
    return host == NULL || !upstream_is_tried(host, tcp->tried, tcp->n_tried)
               ? host
               : upstream_view_other(tcp->view, lb, tcp->tried, tcp->n_tried, &worker->rand);
}

// The service as it is now: endpoints come and go while others are tried.
static void renew_service(struct wconn *conn, const struct snapshot *snap) {
    struct service *now = snapshot_service(snap, (const char *)conn->service->leaf.key.ptr);
    if (now == NULL || now == conn->service || conn->port >= now->n_ports ||
        now->ports[conn->port].port != conn->dst.port) {
        return; // the old one knows more
    }
    leaf_ref(now);
    leaf_unref(conn->service);
    conn->service = now;
}

// The destination's view as it is now. NULL: there is no such destination.
static struct upstream_view *find_view(struct tcp_conn *tcp, const struct snapshot *snap) {
    struct wconn *conn = tcp->conn;
    renew_service(conn, snap);
    return upstream_view_route(&conn->worker->http->upstreams, snap, conn->service,
                               wconn_service_port(conn)->port, tcp->cluster);
}

// Its reference is taken.
static void set_view(struct tcp_conn *tcp, struct upstream_view *view) {
    const struct l7_pool_policy *pool = &upstream_view_settings(view)->pool;
    leave_host(tcp);
    // The place stays where the cluster does.
    bool has_place = tcp->has_place && tcp->view != NULL &&
                     upstream_view_cluster(tcp->view) == upstream_view_cluster(view);
    if (has_place) {
        tcp->has_place = false;
    }
    leave_view(tcp);
    tcp->view = view;
    tcp->has_place = has_place;
    tcp->idle_ns = pool->tcp_idle_timeout_ms * NS_PER_MS;
    tcp->age_ns = pool->max_connection_duration_ms * NS_PER_MS;
}

// A place at the destination, as it is now. False: there is none, it was refused.
static bool find_place(struct tcp_conn *tcp, const struct snapshot *snap) {
    struct wconn *conn = tcp->conn;
    struct upstream_view *view = find_view(tcp, snap);
    if (view == NULL) {
        wconn_set_detail(conn,
                         tcp->cluster->host[0] != '\0' ? tcp->cluster->host : tcp->cluster->subset);
        give_up(tcp, FLOW_NO_CLUSTER);
        return false;
    }
    set_view(tcp, view);
    if (!tcp->has_place && !upstream_view_take_conn(view)) {
        give_up(tcp, FLOW_OVERFLOW);
        return false;
    }
    tcp->has_place = true;
    return true;
}

static void connect_to(struct tcp_conn *tcp, const struct upstream_target *target) {
    struct wconn *conn = tcp->conn;
    tcp->n_tried++;
    wconn_set_destination(conn, target->workload);
    conn->target = target->addr;
    upstream_dial_start(&tcp->dial, conn->worker, target, &dial_ops);
    conn->hbone_addr = tcp->dial.hbone_addr;
    conn->is_mtls_up = tcp->dial.is_hbone;
}

// No other host: the log tells of the one that was tried.
static void give_up_hosts(struct tcp_conn *tcp) {
    if (tcp->n_tried == 0) {
        give_up(tcp, FLOW_NO_UPSTREAM);
    } else if (!waits(tcp)) {
        give_up(tcp, (enum flow_end)tcp->conn->end);
    }
}

// The proxy's name of where the connection goes, if the destination is one (DestinationRule).
static void set_proxy(const struct l7_settings *settings, char text[PROXY_TEXT_MAX],
                      struct upstream_target *target) {
    struct ip ip;
    const char *host = settings->tunnel_host;
    if (settings->tunnel_protocol[0] == '\0') {
        return;
    }
    bool is_ipv6 = ip_parse(slice_str(host), &ip) && ip.family == 6;
    int len =
        snprintf(text, PROXY_TEXT_MAX, is_ipv6 ? "[%s]:%u" : "%s:%u", host, settings->tunnel_port);
    target->proxy.authority = slice_make(text, MIN((size_t)len, PROXY_TEXT_MAX - 1U));
    target->proxy.is_post = strcmp(settings->tunnel_protocol, "POST") == 0;
}

// `host` NULL: to where the client wanted.
static void connect_to_host(struct tcp_conn *tcp, const struct l7_host *host) {
    struct wconn *conn = tcp->conn;
    const struct l7_settings *settings = upstream_view_settings(tcp->view);
    uint8_t header[PROXY_HEADER_MAX];
    char text[TLS_LINK_ERROR_MAX], proxy[PROXY_TEXT_MAX];
    struct upstream_target target = {
        .addr = host != NULL ? host->addr : conn->dst,
        .workload = host != NULL ? host->endpoint->workload : NULL,
        .service = upstream_view_service(tcp->view),
        .timeout_ns = settings->pool.connect_timeout_ms * NS_PER_MS,
        .pool = &settings->pool,
    };
    if (host != NULL) {
        tcp->host = host;
        atomic_fetch_add(&host->cell->active, 1);
        tcp->tried[tcp->n_tried] = host->cell;
    }
    target.ahead = slice_make(header, upstream_ahead(settings, &conn->client, &conn->dst, header));
    set_proxy(settings, proxy, &target);
    struct slice name =
        slice_str(target.service->is_dynamic ? tcp->name : target.service->hostname);
    if (!upstream_tls_set(settings, target.service, name, TLS_ALPN_NONE, &target, text,
                          sizeof(text))) {
        wconn_set_detail(conn, text);
        give_up(tcp, FLOW_NO_UPSTREAM);
        return;
    }
    connect_to(tcp, &target);
    upstream_tls_unset(&target);
}

// The client names the host, and its addresses are known.
static void take_name(struct tcp_conn *tcp, const struct dns_cache_answer *answer) {
    struct wconn *conn = tcp->conn;
    if (answer->n_ips == 0) {
        wconn_set_detail(conn, answer->text);
        give_up(tcp, FLOW_DNS_FAILED);
        return;
    }
    const struct l7_host *host =
        dynamic_host(conn->worker->http, tcp->view, answer, tcp->tried, tcp->n_tried);
    if (host == NULL || upstream_is_tried(host, tcp->tried, tcp->n_tried)) {
        give_up_hosts(tcp);
    } else {
        connect_to_host(tcp, host);
    }
}

static void on_name(struct dns_cache_query *query, const struct dns_cache_answer *answer) {
    take_name(CONTAINER_OF(query, struct tcp_conn, query), answer);
}

static void connect_by_name(struct tcp_conn *tcp) {
    const struct service *service = upstream_view_service(tcp->view);
    char name[L7_NAME_MAX];
    struct dns_cache_answer answer;
    if (!l7_name_under(service->hostname, slice_str(tcp->cluster->host), name) &&
        !l7_name_under(service->hostname, slice_str(tcp->name != NULL ? tcp->name : ""), name)) {
        wconn_set_detail(tcp->conn, tcp->name);
        give_up(tcp, FLOW_NO_NAME);
        return;
    }
    free(tcp->name); // in TLS it is the server that is reached, too
    tcp->name = xstrdup(name);
    tcp->query.fn = on_name;
    switch (dynamic_ask(tcp->conn->worker->http, name, &tcp->query, &answer)) {
    case DNS_CACHE_HERE:
        take_name(tcp, &answer);
        break;
    case DNS_CACHE_WAITS:
        break;
    case DNS_CACHE_FULL:
    case DNS_CACHE_BUSY:
        wconn_set_detail(tcp->conn, "too many names are being looked up");
        give_up(tcp, FLOW_DNS_FAILED);
        break;
    }
}

static void connect_next(struct tcp_conn *tcp) {
    struct wconn *conn = tcp->conn;
    const struct snapshot *snap = snapshot_current();
    if (conn->service == NULL) { // a workload is the only one of its kind
        struct upstream_target target = {.workload = conn->workload, .addr = conn->dst};
        if (tcp->n_tried > 0) {
            give_up_hosts(tcp);
        } else {
            connect_to(tcp, &target);
        }
        return;
    }
    if (!find_place(tcp, snap)) {
        return;
    }
    if (upstream_view_service(tcp->view)->is_dynamic) {
        connect_by_name(tcp);
        return;
    }
    bool is_through = upstream_view_is_through(tcp->view);
    const struct l7_host *host = is_through ? NULL : choose(tcp, snap);
    if (host == NULL && (!is_through || tcp->n_tried > 0)) {
        give_up_hosts(tcp);
    } else {
        connect_to_host(tcp, host);
    }
}

// ---- the start ---------------------------------------------------------------------------------

// The rule, and by weight one of its destinations: once for a connection.
static void choose_cluster(struct tcp_conn *tcp, const char *name) {
    struct wconn *conn = tcp->conn;
    struct leaf *leaf = snapshot_l7_routes(snapshot_current(), conn->service->leaf.key);
    struct l7_flow flow = {
        .client = &conn->client,
        .called = &conn->dst,
        .port = wconn_service_port(conn)->port,
        .protocol = conn->app_protocol,
        .source = conn->source,
        .name = slice_str(name),
    };
    if (leaf != NULL) {
        leaf_ref(leaf);
    }
    tcp->routes = leaf;
    const struct l7_routes *routes = leaf != NULL ? l7_routes_of_leaf(leaf) : NULL;
    tcp->cluster = l7_route_cluster(l7_routes_match_flow(routes, &flow), &conn->worker->rand);
}

static void serve_named(struct wconn *conn, struct chain *early, bool fin, const char *name) {
    struct wworker *worker = conn->worker;
    struct tcp_conn *tcp = slab_alloc(&worker->tcp_slab);
    *tcp = (struct tcp_conn){.conn = conn, .has_early = early != NULL, .early_fin = fin};
    conn->ops = &ops;
    conn->user = tcp;
    conn->is_tcp = true;
    timer_init(&tcp->timer, on_timer);
    chain_init(&tcp->early, worker->loop->pool);
    pipe_init(&tcp->pipe, worker->loop->pool, pipe_done);
    if (early != NULL) {
        chain_move_all(&tcp->early, early);
        tcp->is_attached = true;
        pipe_attach(&tcp->pipe, PIPE_DOWN, conn->client_end);
    }
    if (conn->service != NULL) {
        tcp->name = name[0] != '\0' ? xstrdup(name) : NULL;
        choose_cluster(tcp, name);
    }
    connect_next(tcp);
}

// Rules by name, and hosts that the client names, need its first message; else nobody waits for it.
void tcp_serve(struct wconn *conn, struct chain *early, bool fin) {
    const struct leaf *leaf = conn->service != NULL
                                  ? snapshot_l7_routes(snapshot_current(), conn->service->leaf.key)
                                  : NULL;
    bool may_be_tls = conn->app_protocol == APP_TLS || early != NULL;
    bool needs_name = conn->service != NULL && conn->service->is_dynamic;
    needs_name = needs_name || (leaf != NULL && l7_routes_has_names(l7_routes_of_leaf(leaf)));
    if (may_be_tls && needs_name) {
        tcp_hello_start(conn, early, fin, serve_named);
    } else {
        serve_named(conn, early, fin, "");
    }
}
