// SPDX-License-Identifier: Apache-2.0
//
// From a CONNECT to a decision. What is asked for is the authority (route_waypoint.h), never a
// Host; who asks is the tunnel's certificate.
#include "waypoint/conn.h"

#include <stdlib.h>

#include "common/mesh/route_waypoint.h"
#include "common/proc/proc_labels.h"
#include "waypoint/authz.h"
#include "waypoint/bindings.h"
#include "waypoint/report.h"
#include "waypoint/waypoint.h"

// ---- life --------------------------------------------------------------------------------------

static void *keep(void *leaf) {
    if (leaf != NULL) {
        leaf_ref(leaf);
    }
    return leaf;
}

void wconn_set_detail(struct wconn *conn, const char *text) {
    char *copy = text != NULL && text[0] != '\0' ? xstrndup(text, 300) : NULL;
    free(conn->detail);
    conn->detail = copy;
}

void wconn_set_destination(struct wconn *conn, struct workload *workload) {
    void *old = conn->destination;
    conn->destination = keep(workload);
    leaf_unref(old);
}

void wconn_done(struct wconn *conn) {
    struct wworker *worker = conn->worker;
    struct hbone_tunnel *tunnel = conn->tunnel;
    report_end(conn);
    list_del(&conn->node);
    list_del(&conn->waiting);
    worker->n_conns--;
    leaf_unref(conn->source);
    leaf_unref(conn->service);
    leaf_unref(conn->workload);
    leaf_unref(conn->direct);
    leaf_unref(conn->destination);
    free(conn->detail);
    slab_free(&worker->conn_slab, conn);
    hbone_tunnel_put(tunnel);
}

// ---- answers -----------------------------------------------------------------------------------

static void respond(struct wconn *conn, enum hbone_err err) {
    struct hbone_head head;
    struct hbone_baggage baggage, *with = NULL;
    const struct workload *own = NULL;
    if (err == HBONE_OK && conn->worker->config->proc.response_baggage) {
        own = waypoint_workload(conn->worker->config, snapshot_current());
    }
    if (own != NULL) {
        proc_labels_baggage(own, &baggage);
        with = &baggage;
    }
    hbone_response_build(err, with, &head);
    h2_stream_send_headers(conn->down.user.stream, head.fields, head.n_fields, err != HBONE_OK);
    h2_drv_kick(conn->down.user.drv);
}

struct duplex *wconn_accept(struct wconn *conn) {
    CHECK(!conn->is_accepted && conn->down.user.stream != NULL);
    conn->is_accepted = true;
    conn->down.on_lost = NULL;
    respond(conn, HBONE_OK);
    conn->client_end = &conn->down.duplex;
    return conn->client_end;
}

void wconn_refuse(struct wconn *conn, enum hbone_err err, enum flow_end reason) {
    CHECK(!conn->is_accepted);
    conn->end = (uint8_t)reason;
    if (conn->down.user.stream != NULL) {
        respond(conn, err);
        // The response ends our side; the peer's is cut off without an error, as RFC 9113 8.1 has
        // it.
        hbone_stream_drop(&conn->down, H2_NO_ERROR);
    }
}

// Before anyone serves it.
static void refuse(struct wconn *conn, enum hbone_err err, enum flow_end reason,
                   const char *detail) {
    wconn_set_detail(conn, detail);
    wconn_refuse(conn, err, reason);
    wconn_done(conn);
}

static void on_stream_lost(struct hbone_stream *stream, enum flow_end reason) {
    struct wconn *conn = CONTAINER_OF(stream, struct wconn, down);
    conn->end = (uint8_t)reason;
    if (conn->ops != NULL) {
        conn->ops->lost(conn, reason);
    } else {
        wconn_done(conn);
    }
}

// ---- decision ----------------------------------------------------------------------------------

static void set_target(struct wconn *conn, const struct waypoint_target *target) {
    void *old_service = conn->service, *old_workload = conn->workload;
    conn->dst = target->dst;
    conn->service = keep(target->service);
    conn->workload = keep(target->workload);
    conn->port = target->port;
    conn->app_protocol = target->app_protocol;
    leaf_unref(old_service);
    leaf_unref(old_workload);
}

static void serve(struct wconn *conn) {
    struct rbac_verdict verdict;
    authz_check(conn, snapshot_current(), &verdict);
    if (!verdict.is_allowed) {
        refuse(conn, HBONE_DENIED, FLOW_DENIED, verdict.reason);
        return;
    }
    if (verdict.dry_run_denies) {
        report_dry_run(conn, &verdict);
    }
    conn->checked = conn->worker->recheck;
    switch ((enum app_protocol)conn->app_protocol) {
    case APP_TCP:
    case APP_TLS:
        tcp_serve(conn, NULL, false);
        break;
    case APP_UNKNOWN:
    case APP_HTTP11:
    case APP_HTTP2:
    case APP_GRPC:
        http_serve(conn);
        break;
    }
}

// True when the connection is served, refused or gone; false: it may be served by later news.
static bool dispatch(struct wconn *conn, struct slice authority, bool is_last) {
    struct wworker *worker = conn->worker;
    const struct snapshot *snap = snapshot_current();
    char key[512];
    struct waypoint_request request = {
        .key = waypoint_service_key(worker->config, snap, key),
        .authority = authority,
    };
    struct waypoint_target target;
    route_waypoint(snap, &request, &target);
    if (target.verdict == WAYPOINT_NOT_BOUND && bindings_linger(worker, target.service)) {
        request.any_binding = true;
        route_waypoint(snap, &request, &target);
    }
    set_target(conn, &target);
    switch ((enum waypoint_verdict)target.verdict) {
    case WAYPOINT_SERVE:
        bindings_served(worker, target.service);
        if (request.any_binding) {
            bindings_lingers(conn);
        }
        serve(conn);
        return true;
    case WAYPOINT_NOT_BOUND:
        if (!is_last) {
            return false;
        }
        refuse(conn, HBONE_NOT_BOUND, FLOW_NOT_BOUND, target.reason);
        return true;
    case WAYPOINT_NO_PORT:
        refuse(conn, HBONE_NOT_BOUND, FLOW_NO_PORT, target.reason);
        return true;
    case WAYPOINT_OWN_PORT:
        refuse(conn, HBONE_ILLEGAL_PORT, FLOW_ILLEGAL_DESTINATION, target.reason);
        return true;
    case WAYPOINT_HOST:
        refuse(conn, HBONE_NOT_BOUND, FLOW_NOT_BOUND, target.reason);
        return true;
    case WAYPOINT_BAD:
        refuse(conn, HBONE_BAD_AUTHORITY, FLOW_CONNECT_REFUSED, target.reason);
        return true;
    }
    return true;
}

bool wconn_dispatch_again(struct wconn *conn, bool is_last) {
    char text[ADDR_TEXT_MAX];
    list_del(&conn->waiting); // before it may be gone
    if (dispatch(conn, slice_str(addr_text(&conn->dst, text)), is_last)) {
        return true;
    }
    list_push_back(&conn->worker->waiting, &conn->waiting);
    return false;
}

// ---- who asks ----------------------------------------------------------------------------------

// The workload at the tunnel's source address, or at the one that its proxy tells of, if the
// verified identity is that workload's.
static struct workload *find_source(const struct snapshot *snap, const struct wconn *conn,
                                    const struct hbone_connect *connect) {
    struct workload *source = snapshot_workload_by_ip(snap, &conn->tunnel->src.ip);
    if (source == NULL && ip_is_set(&connect->source.ip)) {
        source = snapshot_workload_by_ip(snap, &connect->source.ip);
    }
    if (source != NULL && !slice_eq_str(conn->client_id, source->common->identity)) {
        return NULL;
    }
    return source;
}

static void set_client(struct wconn *conn, const struct hbone_connect *connect) {
    conn->client = (struct addr){.ip = conn->tunnel->src.ip};
    // The tunnel's own port is nobody's; that of the application its proxy tells.
    if (ip_eq(&connect->source.ip, &conn->client.ip)) {
        conn->client.port = connect->source.port;
    }
    conn->source = keep(find_source(snapshot_current(), conn, connect));
}

static struct slice authority_of(const struct h2_event *event) {
    for (size_t i = 0; i < event->n_fields; i++) {
        if (slice_eq_str(event->fields[i].name, ":authority")) {
            return event->fields[i].value;
        }
    }
    return slice_make(NULL, 0);
}

static void take_request(struct wconn *conn, const struct h2_event *event) {
    char scratch[HBONE_BAGGAGE_MAX];
    struct hbone_connect connect = {0};
    enum hbone_err err = hbone_connect_parse(event->fields, event->n_fields, scratch, &connect);
    if (err != HBONE_OK) {
        refuse(conn, err, FLOW_CONNECT_REFUSED, hbone_err_text(err));
        return;
    }
    set_client(conn, &connect);
    if (!dispatch(conn, authority_of(event), !bindings_may_wait(conn->worker))) {
        bindings_wait(conn->worker, conn);
    }
}

static struct wworker *of_server(struct hbone_server *server) {
    return CONTAINER_OF(server, struct wworker, server);
}

static void on_request(struct hbone_tunnel *tunnel, const struct h2_event *event) {
    struct wworker *worker = of_server(tunnel->server);
    struct wconn *conn = slab_alloc(&worker->conn_slab);
    *conn = (struct wconn){
        .worker = worker,
        .tunnel = tunnel,
        .id = ((uint64_t)worker->index << 48) | ++worker->last_conn_id,
        .started_ns = worker->loop->now,
        .client = {.ip = tunnel->src.ip},
        .local = tunnel->dst,
        .client_id = tunnel->peer->identity,
        .checked = worker->recheck,
    };
    list_init(&conn->waiting);
    list_push_back(&worker->conns, &conn->node);
    worker->n_conns++;
    hbone_tunnel_get(tunnel);
    hbone_stream_init(&conn->down, &tunnel->drv, event->stream);
    conn->down.on_lost = on_stream_lost;
    if (!wworker_admits(worker, -1)) {
        refuse(conn, HBONE_OVERLOADED, FLOW_OVERLOAD, "");
        return;
    }
    if (hbone_tunnel_is_expired(tunnel, clock_wall_s())) {
        h2_drv_drain(&tunnel->drv);
        hbone_stream_drop(&conn->down, H2_REFUSED);
        refuse(conn, HBONE_CONNECT_FAILED, FLOW_IDENTITY,
               "a certificate of the tunnel has expired");
        return;
    }
    take_request(conn, event);
}

static void on_failed(struct hbone_server *server, const struct addr *src, const struct addr *dst,
                      enum flow_end reason, const char *detail) {
    report_tunnel_failed(of_server(server), src, dst, reason, detail);
}

static void on_gone(struct hbone_server *server) {
    (void)server; // the worker looks itself
}

const struct hbone_server_handler wconn_hbone_handler = {
    .on_request = on_request, .on_failed = on_failed, .on_gone = on_gone};

// ---- re-checks ---------------------------------------------------------------------------------

bool wconn_is_denied(struct wconn *conn) {
    struct rbac_verdict verdict;
    if (conn->service == NULL && conn->workload == NULL) {
        return false; // not decided yet
    }
    authz_check(conn, snapshot_current(), &verdict);
    if (verdict.is_allowed) {
        return false;
    }
    wconn_set_detail(conn, verdict.reason);
    return true;
}

void wconn_cut(struct wconn *conn, enum flow_end reason) {
    if (conn->ops != NULL) {
        conn->ops->cut(conn, reason);
        return;
    }
    wconn_refuse(conn, HBONE_CONNECT_FAILED, reason); // it waits for its binding
    wconn_done(conn);
}
