// SPDX-License-Identifier: Apache-2.0
#include "ztun/report.h"

#include <stdio.h>

#include "common/mesh/rbac.h"
#include "common/obs/access_log.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_labels.h"
#include "ztun/ztun.h"

static const char *direction_of(const struct flow *flow) {
    return flow->kind == FLOW_OUTBOUND ? "outbound" : "inbound";
}

// Without the scheme: what Istio calls a principal in labels starts with spiffe://, as ztunnel's.
static struct slice source_identity(const struct flow *flow) {
    if (flow->kind == FLOW_INBOUND_HBONE) {
        return flow->peer_identity;
    }
    if (flow->kind == FLOW_OUTBOUND && flow->is_mtls && flow->source != NULL) {
        return slice_str(flow->source->common->identity);
    }
    return slice_make(NULL, 0);
}

static struct slice destination_identity(const struct flow *flow) {
    if (!flow->is_mtls || flow->destination == NULL) {
        return slice_make(NULL, 0);
    }
    return slice_str(flow->destination->common->identity);
}

// ---- metrics -----------------------------------------------------------------------------------

static struct slice reporter_of(const struct flow *flow) {
    return flow->kind == FLOW_OUTBOUND ? SLICE_LIT("source") : SLICE_LIT("destination");
}

static struct metric_series *series_of(const struct flow *flow) {
    struct slice labels[METRIC_N_LABELS(TRAFFIC)] = {0};
    labels[METRIC_LABEL(TRAFFIC, REPORTER)] = reporter_of(flow);
    proc_labels_ends(labels, flow->source, flow->destination, flow->service);
    if (flow->service == NULL) { // PassthroughCluster, BlackHoleCluster
        labels[METRIC_LABEL(TRAFFIC, DESTINATION_SERVICE_NAME)] = slice_str(flow->hostname);
    }
    labels[METRIC_LABEL(TRAFFIC, SOURCE_PRINCIPAL)] = source_identity(flow);
    labels[METRIC_LABEL(TRAFFIC, DESTINATION_PRINCIPAL)] = destination_identity(flow);
    labels[METRIC_LABEL(TRAFFIC, REQUEST_PROTOCOL)] = SLICE_LIT("tcp");
    labels[METRIC_LABEL(TRAFFIC, RESPONSE_FLAGS)] = slice_str(flow_end_label(flow->pipe.end));
    labels[METRIC_LABEL(TRAFFIC, CONNECTION_SECURITY_POLICY)] =
        flow->is_mtls ? SLICE_LIT("mutual_tls") : SLICE_LIT("unknown");
    return metric_series_get(METRIC_LABELS_TRAFFIC, labels);
}

// What has no other label than the side. Held for good: a gauge must outlive idle times.
static struct metric_series *side_of(const struct flow *flow) {
    static _Thread_local struct metric_series *sides[2];
    struct metric_series **side = &sides[flow->kind == FLOW_OUTBOUND];
    if (*side == NULL) {
        struct slice reporter = reporter_of(flow);
        *side = metric_series_get(METRIC_LABELS_REPORTER, &reporter);
    }
    return *side;
}

static void count_closed(struct flow *flow) {
    uint64_t now = flow->zpod->worker->loop->now;
    if (flow->is_counted) {
        metric_series_sub(side_of(flow), METRIC_TCP_SOCKETS_OPEN, 1);
    }
    if (flow->pipe.end == FLOW_REVOKED) {
        metric_series_add(side_of(flow), METRIC_CRL_REJECTIONS, 1);
    }
    if (!flow->is_counted) {
        struct metric_series *series = series_of(flow);
        metric_series_add(series, METRIC_TCP_FAILED, 1);
        metric_series_put(series, now);
        return;
    }
    struct metric_series *series = flow->metrics;
    if (flow_end_label(flow->pipe.end)[0] != '-') { // ended with a flag: its own series, as ztunnel
        series = series_of(flow);
    }
    metric_series_add(series, METRIC_TCP_CLOSED, 1);
    metric_series_add(series, METRIC_TCP_RECEIVED_BYTES, flow->pipe.n_bytes[PIPE_DOWN]);
    metric_series_add(series, METRIC_TCP_SENT_BYTES, flow->pipe.n_bytes[PIPE_UP]);
    if (series != flow->metrics) {
        metric_series_put(series, now);
    }
    metric_series_put(flow->metrics, now);
    flow->metrics = NULL;
}

// ---- log ---------------------------------------------------------------------------------------

static void log_flow(const struct flow *flow, enum access_event event) {
    // A reset by either application, also one that came through the tunnel, is its own business.
    // What ended in order on another path's account is no error.
    bool is_usual =
        flow->is_joined &&
        (flow->pipe.end == FLOW_DOWNSTREAM_RESET || flow->pipe.end == FLOW_UPSTREAM_RESET ||
         flow->pipe.end == FLOW_TUNNEL_RESET || flow->pipe.end == FLOW_MOVED);
    if (!access_log_enabled(event, flow->pipe.end != FLOW_OK && !is_usual)) {
        return;
    }
    char error[256];
    bool is_tunnelled = ip_is_set(&flow->hbone_addr.ip), has_target = ip_is_set(&flow->target.ip);
    bool is_outbound = flow->kind == FLOW_OUTBOUND;
    struct access_record record = {
        .src_addr = &flow->src,
        .src_identity = source_identity(flow),
        .dst_addr = is_tunnelled ? &flow->hbone_addr
                    : has_target ? &flow->target
                                 : &flow->dst,
        .dst_hbone_addr = is_tunnelled && has_target ? &flow->target : NULL,
        .dst_service = slice_str(flow->hostname),
        .dst_identity = destination_identity(flow),
        .direction = slice_str(direction_of(flow)),
        // As ztunnel: in the log each side tells what itself sent to and received from the peer.
        .bytes_sent = flow->pipe.n_bytes[is_outbound ? PIPE_DOWN : PIPE_UP],
        .bytes_recv = flow->pipe.n_bytes[is_outbound ? PIPE_UP : PIPE_DOWN],
        .duration_ms = (flow->zpod->worker->loop->now - flow->started_ns) / NS_PER_MS,
        .error = slice_str(flow_error_text(flow, error)),
        .is_usual = is_usual,
    };
    if (flow->source != NULL) {
        record.src_workload = slice_str(flow->source->name);
        record.src_namespace = slice_str(flow->source->ns);
        record.src_cluster = slice_str(flow->source->common->cluster);
    }
    if (flow->destination != NULL) {
        record.dst_workload = slice_str(flow->destination->name);
        record.dst_namespace = slice_str(flow->destination->ns);
        record.dst_cluster = slice_str(flow->destination->common->cluster);
    }
    access_log_write(event, &record);
}

void report_opened(struct flow *flow) {
    flow->is_counted = true;
    flow->metrics = series_of(flow);
    metric_series_add(flow->metrics, METRIC_TCP_OPENED, 1);
    metric_series_add(side_of(flow), METRIC_TCP_SOCKETS_OPEN, 1);
    log_flow(flow, ACCESS_OPENED);
}

void report_handed_over(struct flow *flow) {
    if (flow->is_counted) {
        metric_series_sub(side_of(flow), METRIC_TCP_SOCKETS_OPEN, 1);
        metric_series_put(flow->metrics, flow->zpod->worker->loop->now);
        flow->metrics = NULL;
        flow->is_counted = false;
    }
}

void report_taken_over(struct flow *flow) {
    flow->is_counted = true;
    flow->metrics = series_of(flow);
    metric_series_add(side_of(flow), METRIC_TCP_SOCKETS_OPEN, 1);
}

void report_closed(struct flow *flow) {
    bool was_open = flow->is_counted;
    count_closed(flow);
    // A flow that was known well enough to have a destination is "complete" with its error, as
    // ztunnel logs it; what was refused before that has addresses only.
    bool is_named = flow->destination != NULL || flow->hostname[0] != '\0';
    log_flow(flow, was_open || is_named ? ACCESS_COMPLETE : ACCESS_FAILED);
}

static void report_early(struct zpod *zpod, bool is_source, const struct addr *src,
                         const struct addr *dst, enum flow_end reason, const char *detail) {
    struct slice labels[METRIC_N_LABELS(TRAFFIC)] = {0};
    labels[METRIC_LABEL(TRAFFIC, REPORTER)] =
        is_source ? SLICE_LIT("source") : SLICE_LIT("destination");
    labels[METRIC_LABEL(TRAFFIC, REQUEST_PROTOCOL)] = SLICE_LIT("tcp");
    labels[METRIC_LABEL(TRAFFIC, RESPONSE_FLAGS)] = slice_str(flow_end_label(reason));
    metric_count(METRIC_TCP_FAILED, labels, 1, zpod->worker->loop->now);
    char error[256];
    snprintf(error, sizeof(error), "%s%s%s", flow_end_text(reason), detail[0] != 0 ? ": " : "",
             detail);
    struct access_record record = {
        .src_addr = src,
        .dst_addr = dst,
        .direction = is_source ? SLICE_LIT("outbound") : SLICE_LIT("inbound"),
        .error = slice_str(error),
    };
    access_log_write(ACCESS_FAILED, &record);
}

void report_tunnel_failed(struct zpod *zpod, const struct addr *src, const struct addr *dst,
                          enum flow_end reason, const char *detail) {
    if (reason == FLOW_REVOKED) {
        struct slice reporter = SLICE_LIT("destination");
        metric_count(METRIC_CRL_REJECTIONS, &reporter, 1, zpod->worker->loop->now);
    }
    report_early(zpod, false, src, dst, reason, detail);
}

void report_socks_failed(struct zpod *zpod, const struct addr *src, const struct addr *dst,
                         enum flow_end reason, const char *detail) {
    report_early(zpod, true, src, dst, reason, detail);
}

LOG_SCOPE(log_rbac, "ztun::rbac");

static void log_policy(const struct flow *flow, const char *what, const struct policy *policy) {
    bool is_info = flow->zpod->worker->config->authz_policy_info_logging;
    log_at(&log_rbac, is_info ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, what,
           LOG_ADDR("src.addr", &flow->src), LOG_SLICE("src.identity", flow->peer_identity),
           LOG_ADDR("dst.addr", &flow->target),
           LOG_SLICE("policy", policy != NULL ? policy->leaf.key : SLICE_LIT("")));
}

// The texts are ztunnel's, which people search their logs for.
static void log_decision(const struct flow *flow, const struct rbac_verdict *verdict) {
    if (verdict->dry_deny != NULL) {
        log_policy(flow, "dry-run: deny policy match", verdict->dry_deny);
    }
    if (verdict->dry_allow != NULL) {
        log_policy(flow, "dry-run: allow policy match", verdict->dry_allow);
    }
    if (!verdict->is_allowed) {
        log_policy(flow,
                   verdict->policy != NULL ? "deny policy match" : "no allow policies matched",
                   verdict->policy);
        return;
    }
    if (verdict->policy != NULL) {
        log_policy(flow, "allow policy match", verdict->policy);
        return;
    }
    if (verdict->dry_run_denies && verdict->dry_deny == NULL) {
        log_policy(flow, "dry-run: no allow policies match", NULL);
    }
    log_policy(flow, "no allow policies, allow", NULL);
}

void report_policies(const struct flow *flow, const struct rbac_verdict *verdict) {
    bool is_info = flow->zpod->worker->config->authz_policy_info_logging;
    if (log_enabled(&log_rbac, is_info ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG)) {
        log_decision(flow, verdict);
    }
    if (!verdict->is_allowed || !verdict->dry_run_denies) {
        return;
    }
    const struct policy *policy = verdict->dry_run_policy;
    log_info(&log_rbac, "dry run: would be denied", LOG_ADDR("src.addr", &flow->src),
             LOG_SLICE("src.identity", flow->peer_identity), LOG_ADDR("dst.addr", &flow->target),
             LOG_SLICE("policy", policy != NULL ? policy->leaf.key : SLICE_LIT("none allowed")));
}

void report_on_demand_dns(const struct flow *flow) {
    struct slice labels[METRIC_N_LABELS(ON_DEMAND_DNS)] = {0};
    const struct workload *source = flow->source;
    if (source != NULL) {
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_WORKLOAD)] =
            slice_str(workload_owner_name(source));
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_CANONICAL_SERVICE)] =
            slice_str(workload_canonical_name(source));
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_CANONICAL_REVISION)] =
            slice_str(source->common->canonical_revision);
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_WORKLOAD_NAMESPACE)] = slice_str(source->ns);
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_PRINCIPAL)] = slice_str(source->common->identity);
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_APP)] = slice_str(workload_app(source));
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_VERSION)] = slice_str(source->common->version);
        labels[METRIC_LABEL(ON_DEMAND_DNS, SOURCE_CLUSTER)] = slice_str(source->common->cluster);
    }
    labels[METRIC_LABEL(ON_DEMAND_DNS, HOSTNAME)] = slice_str(flow->destination->common->hostname);
    metric_count(METRIC_ON_DEMAND_DNS, labels, 1, flow->zpod->worker->loop->now);
}
