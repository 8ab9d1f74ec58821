// SPDX-License-Identifier: Apache-2.0
#include "waypoint/report.h"

#include <stdio.h>

#include "common/mesh/rbac.h"
#include "common/obs/access_log.h"
#include "common/obs/log.h"
#include "common/proc/proc_labels.h"
#include "waypoint/waypoint.h"

LOG_SCOPE(log_rbac, "waypoint::rbac");

static struct slice destination_identity(const struct wconn *conn) {
    bool is_known = conn->is_mtls_up && conn->destination != NULL;
    return is_known ? slice_str(conn->destination->common->identity) : slice_make(NULL, 0);
}

// ---- metrics -----------------------------------------------------------------------------------

static struct metric_series *series_of(const struct wconn *conn) {
    struct slice labels[METRIC_N_LABELS(TRAFFIC)] = {0};
    labels[METRIC_LABEL(TRAFFIC, REPORTER)] = SLICE_LIT("waypoint");
    proc_labels_ends(labels, conn->source, conn->destination, conn->service);
    labels[METRIC_LABEL(TRAFFIC, SOURCE_PRINCIPAL)] = conn->client_id;
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_PRINCIPAL)] = destination_identity(conn);
    labels[METRIC_LABEL(TRAFFIC, REQUEST_PROTOCOL)] = SLICE_LIT("tcp");
    labels[METRIC_LABEL(TRAFFIC, RESPONSE_FLAGS)] =
        slice_str(flow_end_label((enum flow_end)conn->end));
    labels[METRIC_LABEL(TRAFFIC, CONNECTION_SECURITY_POLICY)] = SLICE_LIT("mutual_tls");
    return metric_series_get(METRIC_LABELS_TRAFFIC, labels);
}

// What has no other label than the side. Held for good: a gauge must outlive idle times.
static struct metric_series *side(void) {
    static _Thread_local struct metric_series *own;
    if (own == NULL) {
        struct slice reporter = SLICE_LIT("waypoint");
        own = metric_series_get(METRIC_LABELS_REPORTER, &reporter);
    }
    return own;
}

struct metric_series *report_tcp_opened(const struct wconn *conn) {
    struct metric_series *series = series_of(conn);
    metric_series_add(series, METRIC_TCP_OPENED, 1);
    metric_series_add(side(), METRIC_TCP_SOCKETS_OPEN, 1);
    return series;
}

void report_tcp_end(const struct wconn *conn, struct metric_series *opened) {
    uint64_t now = conn->worker->loop->now;
    struct metric_series *series = opened;
    metric_series_sub(side(), METRIC_TCP_SOCKETS_OPEN, 1);
    if (flow_end_label((enum flow_end)conn->end)[0] != '-') {
        series = series_of(conn); // ended with a flag: its own series
    }
    metric_series_add(series, METRIC_TCP_CLOSED, 1);
    metric_series_add(series, METRIC_TCP_RECEIVED_BYTES, conn->n_received);
    metric_series_add(series, METRIC_TCP_SENT_BYTES, conn->n_sent);
    if (series != opened) {
        metric_series_put(series, now);
    }
    metric_series_put(opened, now);
}

// ---- log ---------------------------------------------------------------------------------------

static void fill_ends(const struct wconn *conn, struct access_record *record) {
    if (conn->source != NULL) {
        record->src_workload = slice_str(conn->source->name);
        record->src_namespace = slice_str(conn->source->ns);
        record->src_cluster = slice_str(conn->source->common->cluster);
    }
    if (conn->service != NULL) {
        record->dst_service = slice_str(conn->service->hostname);
    }
    if (conn->destination != NULL) {
        record->dst_workload = slice_str(conn->destination->name);
        record->dst_namespace = slice_str(conn->destination->ns);
        record->dst_cluster = slice_str(conn->destination->common->cluster);
    }
}

static void log_end(const struct wconn *conn) {
    enum flow_end end = (enum flow_end)conn->end;
    bool is_usual = conn->is_accepted && (end == FLOW_DOWNSTREAM_RESET ||
                                          end == FLOW_UPSTREAM_RESET || end == FLOW_TUNNEL_RESET);
    if (!access_log_enabled(ACCESS_COMPLETE, end != FLOW_OK && !is_usual)) {
        return;
    }
    char error[512];
    bool is_tunnelled = ip_is_set(&conn->hbone_addr.ip), has_target = ip_is_set(&conn->target.ip);
    snprintf(error, sizeof(error), "%s%s%s", flow_end_text(end), conn->detail != NULL ? ": " : "",
             conn->detail != NULL ? conn->detail : "");
    struct access_record record = {
        .src_addr = &conn->client,
        .src_identity = conn->client_id,
        .dst_addr = is_tunnelled ? &conn->hbone_addr
                    : has_target ? &conn->target
                                 : &conn->dst,
        .dst_hbone_addr = is_tunnelled && has_target ? &conn->target : NULL,
        .dst_identity = destination_identity(conn),
        .direction = SLICE_LIT("waypoint"),
        .bytes_sent = conn->n_sent,
        .bytes_recv = conn->n_received,
        .duration_ms = (conn->worker->loop->now - conn->started_ns) / NS_PER_MS,
        .error = slice_str(end == FLOW_OK ? "" : error),
        .is_usual = is_usual,
    };
    fill_ends(conn, &record);
    access_log_write(ACCESS_COMPLETE, &record);
}

void report_end(const struct wconn *conn) {
    bool is_tcp = conn->is_tcp;
    if (is_tcp || !conn->is_accepted) {
        log_end(conn);
    }
    if (!conn->is_accepted) {
        struct metric_series *series = series_of(conn);
        metric_series_add(series, METRIC_TCP_FAILED, 1);
        metric_series_put(series, conn->worker->loop->now);
    }
    if (conn->end == FLOW_REVOKED) {
        metric_series_add(side(), METRIC_CRL_REJECTIONS, 1);
    }
}

void report_tunnel_failed(struct wworker *worker, const struct addr *src, const struct addr *dst,
                          enum flow_end reason, const char *detail) {
    struct slice labels[METRIC_N_LABELS(TRAFFIC)] = {0};
    labels[METRIC_LABEL(TRAFFIC, REPORTER)] = SLICE_LIT("waypoint");
    labels[METRIC_LABEL(TRAFFIC, REQUEST_PROTOCOL)] = SLICE_LIT("tcp");
    labels[METRIC_LABEL(TRAFFIC, RESPONSE_FLAGS)] = slice_str(flow_end_label(reason));
    metric_count(METRIC_TCP_FAILED, labels, 1, worker->loop->now);
    if (reason == FLOW_REVOKED) {
        metric_series_add(side(), METRIC_CRL_REJECTIONS, 1);
    }
    char error[256];
    snprintf(error, sizeof(error), "%s%s%s", flow_end_text(reason), detail[0] != 0 ? ": " : "",
             detail);
    struct access_record record = {
        .src_addr = src,
        .dst_addr = dst,
        .direction = SLICE_LIT("waypoint"),
        .error = slice_str(error),
    };
    access_log_write(ACCESS_FAILED, &record);
}

void report_dry_run(const struct wconn *conn, const struct rbac_verdict *verdict) {
    const struct policy *policy = verdict->dry_run_policy;
    log_info(&log_rbac, "dry run: would be denied", LOG_ADDR("src.addr", &conn->client),
             LOG_SLICE("src.identity", conn->client_id), LOG_ADDR("dst.addr", &conn->dst),
             LOG_SLICE("policy", policy != NULL ? policy->leaf.key : SLICE_LIT("none allowed")));
}
