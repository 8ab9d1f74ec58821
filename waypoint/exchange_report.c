// SPDX-License-Identifier: Apache-2.0
#include "waypoint/exchange_report.h"

#include "common/base/clock.h"
#include "common/obs/log.h"
#include "common/proto/grpc.h"
#include "common/proto/http_rules.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"
#include "waypoint/waypoint.h"

LOG_SCOPE(log_report, "waypoint::http");

enum {
    TICK_MS = 1000,
    STREAMS_PER_TICK = 256, // whose messages are counted
    STREAM_AGE_MS = 5000, // shorter ones are counted at their end
};

// ---- the exchange on its way -------------------------------------------------------------------

static struct exchange_reporter *reporter_of_now(struct http_worker *http) {
    http_worker_catch_up(http);
    return &http->reporter;
}

static struct exchange_reporter *reporter_of(struct exchange *ex) {
    return reporter_of_now(ex->http);
}

void exchange_report_begin(struct exchange *ex) {
    list_init(&ex->seen.node);
    if (ex->is_grpc) {
        list_push_back(&reporter_of(ex)->streams, &ex->seen.node);
    }
}

void exchange_report_received(struct exchange *ex, struct slice payload) {
    if (ex->is_grpc) {
        http_metrics_grpc_take(&ex->seen.received, payload);
    }
}

void exchange_report_sent(struct exchange *ex, struct slice payload) {
    if (ex->is_grpc) {
        http_metrics_grpc_take(&ex->seen.sent, payload);
    }
}

void exchange_report_head(struct exchange *ex, const struct http_head *head) {
    struct exchange_seen *seen = &ex->seen;
    seen->n_head_sent = http_metrics_head_size(head);
    if (!ex->is_local_reply) {
        seen->has_service_time = true;
        seen->service_time_ms = (ex->http->loop->now - ex->try_started_ns) / NS_PER_MS;
    }
    if (http_log_wants_response(&reporter_of(ex)->log)) {
        // Without room for it the log has the status only.
        seen->has_response = http_rules_copy(head, &ex->arena, &seen->response);
    }
}

// ---- metrics -----------------------------------------------------------------------------------

static struct service *service_of(const struct exchange *ex) {
    if (exchange_wconn(ex)->direct != NULL) {
        return NULL; // a workload was called
    }
    if (ex->view != NULL) { // references are counted whoever holds one
        return (struct service *)(uintptr_t)upstream_view_service(ex->view);
    }
    return exchange_wconn(ex)->service;
}

// A response of gRPC that does not say its status has one all the same (gRPC: "HTTP to gRPC Status
// Code Mapping").
static int grpc_status_of(const struct exchange *ex) {
    if (!ex->is_grpc || ex->grpc_status >= 0 || ex->status == 0) {
        return ex->grpc_status;
    }
    return grpc_status_of_http(ex->status);
}

static void fill_labels(const struct exchange *ex, struct http_metrics_labels *labels) {
    const struct wconn *wconn = exchange_wconn(ex);
    *labels = (struct http_metrics_labels){
        .source = wconn->source,
        .destination = ex->upstream_workload,
        .service = service_of(ex),
        .source_id = wconn->client_id,
        .flags = ex->flags,
        .status = ex->status,
        .grpc_status = (int16_t)(ex->is_grpc ? grpc_status_of(ex) : -1),
        .is_grpc = ex->is_grpc,
        .is_destination_mtls = ip_is_set(&ex->upstream_via.ip),
    };
}

static void count(struct exchange *ex, uint64_t n_head_received) {
    struct exchange_seen *seen = &ex->seen;
    uint64_t now = ex->http->loop->now;
    struct http_metrics_request request = {
        .duration_ns = now - ex->started_ns,
        .n_received = n_head_received + ex->n_received,
        .n_sent = seen->n_head_sent + ex->n_sent,
        .n_messages_received = seen->received.n_messages - seen->n_reported_received,
        .n_messages_sent = seen->sent.n_messages - seen->n_reported_sent,
    };
    fill_labels(ex, &request.labels);
    http_metrics_request(&reporter_of(ex)->metrics, &request, now);
}

// Streams may go on for days, and their messages are to be seen before.
static void count_messages(struct exchange *ex) {
    struct exchange_seen *seen = &ex->seen;
    uint64_t now = ex->http->loop->now;
    uint64_t n_received = seen->received.n_messages - seen->n_reported_received;
    uint64_t n_sent = seen->sent.n_messages - seen->n_reported_sent;
    if (ex->status == 0 || n_received + n_sent == 0 ||
        now - ex->started_ns < STREAM_AGE_MS * NS_PER_MS) {
        return;
    }
    struct http_metrics_labels labels;
    fill_labels(ex, &labels);
    labels.grpc_status = (int16_t)ex->grpc_status; // not known before its end
    http_metrics_messages(&reporter_of(ex)->metrics, &labels, n_received, n_sent, now);
    seen->n_reported_received += n_received;
    seen->n_reported_sent += n_sent;
}

// ---- the log -----------------------------------------------------------------------------------

static void fill_record(const struct exchange *ex, uint64_t n_head_received,
                        struct http_log_record *record) {
    const struct wconn *wconn = exchange_wconn(ex);
    const struct exchange_seen *seen = &ex->seen;
    uint64_t now = ex->http->loop->now;
    *record = (struct http_log_record){
        .start_ns = clock_wall_ns() - (now - ex->started_ns),
        .duration_ns = now - ex->started_ns,
        .response_ns = ex->first_byte_ns != 0 ? ex->first_byte_ns - ex->started_ns : 0,
        .request = &ex->request,
        .response = seen->has_response ? &seen->response : NULL,
        .version = ex->received.version,
        .status = ex->status,
        .flags = ex->flags,
        .details = slice_str(ex->details),
        .termination_details = slice_str(wconn->detail),
        .transport_failure = slice_str(ex->transport_failure),
        .n_received = ex->n_received,
        .n_sent = ex->n_sent,
        .n_head_received = n_head_received,
        .n_head_sent = seen->n_head_sent,
        .service_time_ms = seen->service_time_ms,
        .has_service_time = seen->has_service_time,
        .grpc_status = grpc_status_of(ex),
        .n_tries = ex->n_tries,
        .connection_id = wconn->id,
        .upstream_host = &ex->upstream_addr,
        .upstream_local = &ex->upstream_local,
        .downstream_local = &wconn->dst,
        .downstream_remote = &wconn->client,
        .cluster = slice_str(ex->view != NULL ? upstream_view_cluster(ex->view)->name : ""),
        .route = slice_str(ex->route != NULL ? ex->route->name : ""),
        .service = slice_str(service_of(ex) != NULL ? service_of(ex)->hostname : ""),
        .peer_id = wconn->client_id,
        .own_id = slice_str(ex->http->reporter.own_id),
        .hostname = slice_str(wconn->worker->config->pod_name),
    };
}

static void var_value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    struct exchange_vars *storage = arg;
    if (!storage->is_made) {
        storage->is_made = true;
        fill_record(storage->ex, 0, &storage->record);
        storage->record.response = storage->response;
        storage->vars = http_log_vars(&storage->record, &storage->log);
    }
    storage->vars.value(storage->vars.arg, var, format, out);
}

struct l7_vars exchange_vars(const struct exchange *ex, const struct http_head *response,
                             struct exchange_vars *storage) {
    storage->ex = ex;
    storage->response = response;
    storage->is_made = false;
    return (struct l7_vars){
        .request = &ex->request, .response = response, .value = var_value, .arg = storage};
}

// It failed on this side of the application: an operator will want to know why.
static bool is_failure(const struct exchange *ex) {
    const uint32_t broken = L7_FLAG_UT | L7_FLAG_LR | L7_FLAG_UR | L7_FLAG_UF | L7_FLAG_UC |
                            L7_FLAG_UO | L7_FLAG_UPE | L7_FLAG_UH | L7_FLAG_NC | L7_FLAG_DF |
                            L7_FLAG_OM;
    bool is_client_gone = (ex->flags & L7_FLAG_DC) != 0;
    return (ex->is_local_reply && ex->status >= 500) ||
           (!is_client_gone && (ex->flags & broken) != 0);
}

static void log_exchange(struct exchange *ex, uint64_t n_head_received) {
    struct exchange_reporter *reporter = reporter_of(ex);
    bool is_on = http_log_is_on(&reporter->log);
    if (!is_on && !is_failure(ex)) {
        return;
    }
    struct http_log_record record;
    fill_record(ex, n_head_received, &record);
    if (is_on) {
        http_log_write(&reporter->log, &record);
    } else {
        http_log_failure(&reporter->log, &record, ex->http->loop->now);
    }
}

// ---- the end -----------------------------------------------------------------------------------

void exchange_report(struct exchange *ex) {
    if (ex->seen.node.next != NULL) {
        list_del(&ex->seen.node);
    }
    uint64_t n_head_received = http_metrics_head_size(&ex->received);
    count(ex, n_head_received);
    log_exchange(ex, n_head_received);
}

void exchange_report_bad_request(struct http_down *conn, enum http_err err) {
    const struct wconn *wconn = conn->wconn;
    struct exchange_reporter *reporter = reporter_of_now(conn->http);
    uint64_t now = conn->http->loop->now;
    struct http_metrics_request request = {
        .labels = {.source = wconn->source,
                   .service = wconn->service,
                   .source_id = wconn->client_id,
                   .flags = L7_FLAG_DPE,
                   .status = http_err_status(err),
                   .grpc_status = -1},
    };
    http_metrics_request(&reporter->metrics, &request, now);
    if (!http_log_is_on(&reporter->log)) {
        log_debug(&log_report, "request refused", LOG_STR("reason", http_err_text(err)),
                  LOG_ADDR("src.addr", &wconn->client), LOG_ADDR("dst.addr", &wconn->dst));
        return;
    }
    struct http_log_record record = {
        .start_ns = clock_wall_ns(),
        .version = conn->conn.version == HTTP_CONN_2 ? HTTP_2 : HTTP_11,
        .status = http_err_status(err),
        .flags = L7_FLAG_DPE,
        .details = slice_str(http_err_details(err)),
        .grpc_status = -1,
        .connection_id = wconn->id,
        .downstream_local = &wconn->dst,
        .downstream_remote = &wconn->client,
        .peer_id = wconn->client_id,
        .own_id = slice_str(reporter->own_id),
        .hostname = slice_str(wconn->worker->config->pod_name),
    };
    http_log_write(&reporter->log, &record);
}

// ---- the worker's share ------------------------------------------------------------------------

static void on_tick(struct timer *timer, uint64_t now) {
    struct exchange_reporter *reporter = CONTAINER_OF(timer, struct exchange_reporter, timer);
    // Each in its turn: from the front to the back.
    struct list *last = reporter->streams.prev;
    for (int i = 0; i < STREAMS_PER_TICK && !list_empty(&reporter->streams); i++) {
        struct list *node = list_pop_front(&reporter->streams);
        list_push_back(&reporter->streams, node);
        count_messages(LIST_ITEM(node, struct exchange, seen.node));
        if (node == last) {
            break;
        }
    }
    http_metrics_tick(&reporter->metrics, now);
    timer_set(&reporter->worker->loop->timers, timer, now + TICK_MS * NS_PER_MS);
}

static struct http_log_settings settings_of(const struct waypoint_config *config,
                                            const struct mesh_settings *mesh) {
    bool is_asked_for = config->access_log_format != NULL || config->access_log_encoding != NULL;
    bool is_json = config->access_log_encoding != NULL
                       ? strcmp(config->access_log_encoding, "json") == 0
                       : config->access_log_format == NULL && mesh->is_access_log_json;
    const char *format = config->access_log_format;
    if (format == NULL) { // a format of MeshConfig is one of its own encoding
        format = is_json == mesh->is_access_log_json ? mesh->access_log_format : "";
    }
    return (struct http_log_settings){
        .is_on = config->access_log >= 0 ? config->access_log != 0
                                         : is_asked_for || mesh->has_access_log,
        .encoding = is_json ? L7_LOG_JSON : L7_LOG_TEXT,
        .format = format,
    };
}

void exchange_reporter_news(struct exchange_reporter *reporter) {
    const struct waypoint_config *config = reporter->worker->config;
    const struct snapshot *snap = snapshot_current();
    (void)waypoint_identity_id(config, snap, reporter->own_id);
    struct http_log_settings settings = settings_of(config, snap->mesh);
    struct buf error;
    buf_init(&error, SIZE_MAX);
    if (!http_log_set(&reporter->log, &settings, &error) && reporter->worker->index == 0) {
        log_warn(&log_report, "the format of the access log is not valid, using the default one",
                 LOG_SLICE("reason", buf_slice(&error)));
    }
    buf_fini(&error);
}

void exchange_reporter_open(struct exchange_reporter *reporter, struct wworker *worker) {
    *reporter = (struct exchange_reporter){.worker = worker};
    http_metrics_init(&reporter->metrics);
    http_log_init(&reporter->log);
    list_init(&reporter->streams);
    timer_init(&reporter->timer, on_tick);
    timer_set(&worker->loop->timers, &reporter->timer, worker->loop->now + TICK_MS * NS_PER_MS);
    exchange_reporter_news(reporter);
}

void exchange_reporter_close(struct exchange_reporter *reporter) {
    CHECK(list_empty(&reporter->streams));
    timer_clear(&reporter->worker->loop->timers, &reporter->timer);
    http_metrics_fini(&reporter->metrics, reporter->worker->loop->now);
    http_log_fini(&reporter->log);
}
