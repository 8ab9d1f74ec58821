// SPDX-License-Identifier: Apache-2.0
//
// A connection as bytes: an endpoint is chosen, reached (others are tried when that fails), and
// only then the client is answered, unless bytes of it were read before that.
#include "common/l7/l7_policy.h"
#include "common/mesh/locality.h"
#include "waypoint/cluster.h"
#include "waypoint/conn.h"
#include "waypoint/dial.h"
#include "waypoint/report.h"
#include "waypoint/tcp_conn.h"
#include "waypoint/upstream_tls.h"
#include "waypoint/waypoint.h"

enum {
    TCP_ATTEMPTS = 3, // the first endpoint and two more
    TCP_RETRY_MS = 10000, // no further attempt later than this
};

struct tcp_conn {
    struct wconn *conn;
    struct pipe pipe;
    struct upstream_dial dial;
    struct chain early; // taken from the client before; empty else
    struct ip tried[TCP_ATTEMPTS];
    struct metric_series *opened; // NULL before both ends are there
    struct timer timer; // idle and age
    uint64_t idle_ns, age_ns; // 0 = no limit
    uint64_t active_at, n_seen; // when bytes were last seen to have moved, and how many
    uint8_t n_tried;
    bool has_early, early_fin;
    bool is_attached; // the client's end belongs to the pipe
};

size_t tcp_conn_size(void) {
    return sizeof(struct tcp_conn);
}

// ---- endings -----------------------------------------------------------------------------------

static void end(struct tcp_conn *tcp) {
    struct wconn *conn = tcp->conn;
    struct wworker *worker = conn->worker;
    upstream_dial_cancel(&tcp->dial);
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

static void on_open(struct upstream_dial *dial, struct duplex *duplex) {
    struct tcp_conn *tcp = CONTAINER_OF(dial, struct tcp_conn, dial);
    struct wconn *conn = tcp->conn;
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
    uint64_t age = conn->worker->loop->now - conn->started_ns;
    wconn_set_detail(conn, failure->text);
    conn->end = failure->reason;
    if (failure->is_retryable && tcp->n_tried < TCP_ATTEMPTS && age < TCP_RETRY_MS * NS_PER_MS) {
        connect_next(tcp);
        return;
    }
    give_up(tcp, (enum flow_end)failure->reason);
}

static const struct upstream_dial_ops dial_ops = {.on_open = on_open, .on_fail = on_fail};

// An endpoint that was not tried yet, as near to the client as the service asks for. The time that
// is counted is the client's, not the waypoint's.
static bool choose(struct tcp_conn *tcp, const struct snapshot *snap,
                   struct upstream_target *target) {
    struct wconn *conn = tcp->conn;
    const struct workload *near =
        conn->source != NULL ? conn->source : waypoint_workload(conn->worker->config, snap);
    struct locality_request request = {
        .source = near,
        .port = conn->port,
        .family = conn->dst.ip.family,
        .tried = tcp->tried,
        .n_tried = tcp->n_tried,
        .rand = &conn->worker->rand,
    };
    struct locality_choice choice;
    locality_pick(conn->service, &request, &choice);
    if (choice.endpoint == NULL) {
        return false;
    }
    target->workload = choice.endpoint->workload;
    target->service = conn->service;
    target->addr = (struct addr){.ip = choice.ip, .port = choice.target_port};
    return true;
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

static const struct l7_settings *settings_of(const struct wconn *conn,
                                             const struct snapshot *snap) {
    const struct l7_subset *subset = NULL;
    const struct leaf *leaf = snapshot_l7_policy(snap, conn->service->leaf.key);
    return l7_policy_find(leaf != NULL ? l7_policy_of_leaf(leaf) : NULL, "",
                          wconn_service_port(conn)->port, &subset);
}

static void take_limits(struct tcp_conn *tcp, const struct l7_settings *settings,
                        struct upstream_target *target) {
    const struct l7_pool_policy *pool = &settings->pool;
    target->timeout_ns = pool->connect_timeout_ms * NS_PER_MS;
    tcp->idle_ns = pool->tcp_idle_timeout_ms * NS_PER_MS;
    tcp->age_ns = pool->max_connection_duration_ms * NS_PER_MS;
}

static void connect_next(struct tcp_conn *tcp) {
    struct wconn *conn = tcp->conn;
    const struct snapshot *snap = snapshot_current();
    struct upstream_target target = {.workload = conn->workload, .addr = conn->dst};
    bool is_found = true;
    if (conn->service != NULL) {
        renew_service(conn, snap);
        const struct l7_settings *settings = settings_of(conn, snap);
        const char *missing = cluster_missing_feature(settings);
        if (missing != NULL) { // never in clear text what is to be encrypted
            wconn_set_detail(conn, missing);
            give_up(tcp, FLOW_NO_UPSTREAM);
            return;
        }
        take_limits(tcp, settings, &target);
        char text[TLS_LINK_ERROR_MAX];
        if (!upstream_tls_set(settings, conn->service, slice_str(conn->service->hostname),
                              TLS_ALPN_NONE, &target, text, sizeof(text))) {
            wconn_set_detail(conn, text);
            give_up(tcp, FLOW_NO_UPSTREAM);
            return;
        }
        if (conn->service->lb_mode != LB_PASSTHROUGH) { // else to where the client wanted
            is_found = choose(tcp, snap, &target);
        }
    }
    bool is_only = conn->service == NULL || conn->service->lb_mode == LB_PASSTHROUGH;
    if (!is_found || (is_only && tcp->n_tried > 0)) {
        // No other one: the log tells of the one that was tried.
        give_up(tcp, tcp->n_tried > 0 ? (enum flow_end)conn->end : FLOW_NO_UPSTREAM);
        return;
    }
    tcp->tried[tcp->n_tried++] = target.addr.ip;
    wconn_set_destination(conn, target.workload);
    conn->target = target.addr;
    upstream_dial_start(&tcp->dial, conn->worker, &target, &dial_ops);
    upstream_tls_unset(&target);
    conn->hbone_addr = tcp->dial.hbone_addr;
    conn->is_mtls_up = tcp->dial.is_hbone;
}

void tcp_serve(struct wconn *conn, struct chain *early, bool fin) {
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
        pipe_attach(&tcp->pipe, PIPE_DOWN, &conn->down.duplex);
    }
    connect_next(tcp);
}
