// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_xds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/rand.h"
#include "common/mesh/xds_node.h"
#include "common/mesh/xds_store.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_config.h"
#include "common/proc/proc_dump.h"
#include "common/proc/proc_mesh.h"
#include "common/proc/proc_trust.h"

#define METHOD "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

enum {
    MESSAGE_MAX = 200 << 20, // as ztunnel
    RESOURCE_MEMORY_MAX = 64 << 20, // one resource, decoded
    NODE_MAX = 1 << 20,
};

// ---- what comes

static bool on_set(void *arg, enum xds_type type, struct slice name, struct slice body,
                   char error[XDS_ERROR_MAX]) {
    struct proc_xds *xds = arg;
    struct xds_resource resource;
    bool is_good =
        xds_decode(type, name, body, xds->params.config->network, &xds->scratch, &resource, error);
    if (is_good) {
        xds_store_set(xds->params.mesh->xds, &resource);
    } else {
        xds->n_refused++;
    }
    arena_reset(&xds->scratch);
    return is_good;
}

static void on_del(void *arg, enum xds_type type, struct slice name) {
    struct proc_xds *xds = arg;
    xds_store_del(xds->params.mesh->xds, type, name);
}

static void on_applied(void *arg, enum xds_type type, const char *nack) {
    struct proc_xds *xds = arg;
    arena_fini(&xds->scratch);
    arena_init(&xds->scratch, RESOURCE_MEMORY_MAX);
    proc_mesh_commit_xds(xds->params.mesh);
    if (nack[0] != '\0') {
        // A server that sends the same again, at each refusal, must not fill the log.
        bool is_news = strncmp(nack, xds->nack, sizeof(xds->nack) - 1) != 0;
        snprintf(xds->nack, sizeof(xds->nack), "%s", nack);
        log_at(xds->params.scope, is_news ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
               "resources refused, their last good version stays in force",
               LOG_STR("type", xds_type_url(type)), LOG_STR("reason", nack));
    }
}

static void on_answered(void *arg, struct slice name, bool exists) {
    struct proc_xds *xds = arg;
    xds->params.answered(xds->params.arg, name, exists);
}

static const struct xds_client_ops client_ops = {
    .set = on_set,
    .del = on_del,
    .applied = on_applied,
    .answered = on_answered,
};

// ---- the stream

static struct proc_xds *of(struct grpc_stream *stream) {
    return CONTAINER_OF(stream, struct proc_xds, stream);
}

static void send_all(struct proc_xds *xds) {
    struct slice message;
    while (grpc_stream_can_send(&xds->stream) && xds_client_pull(xds->client, &message)) {
        grpc_stream_send(&xds->stream, message, false);
    }
}

static void on_writable(struct grpc_stream *stream) {
    send_all(of(stream));
}

static void on_open(struct grpc_stream *stream) {
    struct proc_xds *xds = of(stream);
    xds->is_open = true;
    xds->n_streams++;
    xds->problem[0] = '\0';
    log_info(xds->params.scope, "discovery stream is open",
             LOG_STR("server", grpc_client_target(xds->grpc)));
    xds_client_open(xds->client, xds->params.loop->now);
    send_all(xds);
}

// The same problem again and again is one line.
static void note_problem(struct proc_xds *xds, enum grpc_status status, const char *text) {
    const struct log_scope *scope = xds->params.scope;
    if (status == GRPC_OK) {
        log_info(scope, "discovery stream ended, the next one follows");
    } else if (strncmp(text, xds->problem, sizeof(xds->problem) - 1) != 0) {
        log_warn(scope, "no discovery stream, what is known stays in force",
                 LOG_STR("server", grpc_client_target(xds->grpc)),
                 LOG_STR("status", grpc_status_name(status)), LOG_STR("reason", text));
    }
    snprintf(xds->problem, sizeof(xds->problem), "%s", text);
}

static void ended(struct proc_xds *xds, enum grpc_status status, const char *text) {
    uint64_t now = xds->params.loop->now;
    bool is_clean = xds->is_open && status == GRPC_OK;
    struct slice reason = is_clean       ? SLICE_LIT("Complete")
                          : xds->is_open ? SLICE_LIT("Error")
                                         : SLICE_LIT("ConnectionError");
    metric_count(METRIC_XDS_TERMINATIONS, &reason, 1, now);
    note_problem(xds, status, text);
    xds->is_open = false;
    xds_client_closed(xds->client, is_clean, now);
    timer_set(&xds->params.loop->timers, &xds->timer, xds_client_retry_at(xds->client));
}

static void on_closed(struct grpc_stream *stream, enum grpc_status status, const char *text) {
    ended(of(stream), status, text);
}

// The URL that a response says, which is the first thing wrong with some.
static void count_message(struct proc_xds *xds, enum xds_type type, size_t len) {
    struct slice url = slice_str(xds_type_url(type));
    uint64_t now = xds->params.loop->now;
    metric_count(METRIC_XDS_MESSAGES, &url, 1, now);
    metric_count(METRIC_XDS_MESSAGE_BYTES, &url, len, now);
}

static void on_message(struct grpc_stream *stream, struct slice message) {
    struct proc_xds *xds = of(stream);
    const char *error = NULL;
    int type = -1;
    if (!xds_client_recv(xds->client, message, &type, &error)) {
        grpc_stream_cancel(stream);
        ended(xds, GRPC_INTERNAL, error);
        return;
    }
    if (type >= 0) {
        count_message(xds, (enum xds_type)type, message.len);
    }
    send_all(xds);
}

static const struct grpc_stream_events stream_events = {
    .on_open = on_open,
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct proc_xds *xds = CONTAINER_OF(timer, struct proc_xds, timer);
    grpc_stream_open(&xds->stream, xds->grpc, METHOD, 0);
}

// ---- start

static struct grpc_client *open_client(const struct proc_xds_params *params, char **ret_error) {
    size_t n = 0;
    const struct proc_config *of = params->config;
    struct http_field *metadata = xcalloc(of->n_xds_headers + 1, sizeof(*metadata));
    metadata[n++] =
        (struct http_field){.name = SLICE_LIT("clusterid"), .value = slice_str(of->cluster_id)};
    for (size_t i = 0; i < of->n_xds_headers; i++) {
        metadata[n++] = of->xds_headers[i];
    }
    struct grpc_client_config config = {
        .loop = params->loop,
        .address = of->xds_address,
        .roots = proc_trust_roots(of->xds_roots),
        .alt_name = of->xds_hostname,
        .token = proc_trust_token(of->token),
        .metadata = metadata,
        .n_metadata = n,
        .message_max = MESSAGE_MAX,
        .mark = params->mark,
        .compliance = of->compliance,
    };
    struct grpc_client *client = grpc_client_new(&config, ret_error);
    free(metadata);
    return client;
}

static bool encode_node(const struct proc_xds_params *params, struct buf *ret_node,
                        char **ret_error) {
    char error[XDS_NODE_ERROR_MAX];
    struct xds_node node = {
        .role = params->role,
        .ip = params->config->instance_ip,
        .pod = params->pod,
        .ns = params->ns,
        .node_name = params->node_name,
        .cluster_id = params->config->cluster_id,
        .cluster_domain = params->config->cluster_domain,
        .env = (const char *const *)environ,
    };
    bool is_good = xds_node_encode(&node, ret_node, error);
    if (!is_good) {
        *ret_error = xstrdup(error);
    }
    return is_good;
}

int proc_xds_open(struct proc_xds *xds, const struct proc_xds_params *params) {
    char *error = NULL;
    struct buf node;
    *xds = (struct proc_xds){.params = *params};
    buf_init(&node, NODE_MAX);
    if (encode_node(params, &node, &error)) {
        xds->grpc = open_client(params, &error);
    }
    if (xds->grpc == NULL) {
        log_error(params->scope, "discovery cannot begin",
                  LOG_STR("address", params->config->xds_address), LOG_STR("reason", error));
        free(error);
        buf_fini(&node);
        return -EINVAL;
    }
    struct xds_client_params client = {.node = buf_slice(&node),
                                       .on_demand = params->config->xds_on_demand,
                                       .ops = &client_ops,
                                       .arg = xds};
    rand_os_bytes(&client.seed, sizeof(client.seed));
    xds->client = xds_client_new(&client);
    buf_fini(&node);
    arena_init(&xds->scratch, RESOURCE_MEMORY_MAX);
    grpc_stream_init(&xds->stream, &stream_events);
    timer_init(&xds->timer, on_timer);
    timer_set(&params->loop->timers, &xds->timer, params->loop->now);
    return 0;
}

// ---- what is wanted

enum xds_want proc_xds_want(struct proc_xds *xds, struct slice name) {
    enum xds_want want = xds_client_want(xds->client, name);
    if (xds->is_open) {
        send_all(xds);
    }
    return want;
}

// ---- what is told

bool proc_xds_is_ready(const struct proc_xds *xds, struct buf *ret_reasons) {
    if (xds_client_is_ready(xds->client)) {
        return true;
    }
    buf_printf(ret_reasons, "discovery: no first response of %s yet%s%s\n",
               grpc_client_target(xds->grpc), xds->problem[0] != '\0' ? ": " : "", xds->problem);
    return false;
}

bool proc_xds_has_addresses(const struct proc_xds *xds) {
    return xds_client_has_type(xds->client, XDS_ADDRESS);
}

void proc_xds_dump(struct json_out *out, const struct proc_xds *xds) {
    const struct xds_store *store = xds->params.mesh->xds;
    json_out_kv_object(out, "xds");
    json_out_kv_str(out, "server", grpc_client_target(xds->grpc));
    json_out_kv_bool(out, "connected", xds->is_open);
    json_out_kv_str(out, "problem", xds->problem);
    json_out_kv_u64(out, "streams", xds->n_streams);
    json_out_kv_bool(out, "hasAddresses", proc_xds_has_addresses(xds));
    json_out_kv_bool(out, "hasAuthorizations", xds_client_has_type(xds->client, XDS_AUTHORIZATION));
    json_out_kv_u64(out, "workloads", xds_store_count(store, XDS_WORKLOAD));
    json_out_kv_u64(out, "services", xds_store_count(store, XDS_SERVICE));
    json_out_kv_u64(out, "policies", xds_store_count(store, XDS_POLICY));
    json_out_kv_bool(out, "onDemand", xds->params.config->xds_on_demand);
    json_out_kv_u64(out, "demands", xds_client_n_demands(xds->client));
    json_out_kv_u64(out, "refused", xds->n_refused);
    json_out_kv_str(out, "lastRefused", xds->nack);
    json_out_end(out);
}
