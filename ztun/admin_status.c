// SPDX-License-Identifier: Apache-2.0
//
// /status: is all well, and if not, what and where.
#include "common/base/clock.h"
#include "version.h"
#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

// ---- pods --------------------------------------------------------------------------------------

static void put_pod(void *arg, const struct control_pod *pod) {
    struct json_out *out = arg;
    json_out_begin_object(out);
    json_out_kv_str(out, "uid", pod->uid);
    json_out_kv_str(out, "namespace", pod->ns);
    json_out_kv_str(out, "name", pod->name);
    json_out_kv_str(out, "state", pod->pending != NULL ? "Pending" : "Up");
    if (pod->pending != NULL) {
        json_out_kv_str(out, "reason", pod->pending);
    }
    json_out_kv_str(out, "identity", pod->identity);
    json_out_kv_str(out, "netns", pod->netns);
    json_out_kv_bool(out, "isKnown", pod->has_workload);
    json_out_kv_bool(out, "isRedirected", pod->is_redirected);
    json_out_end(out);
}

static void put_pods(struct json_out *out, const struct control *control) {
    json_out_kv_array(out, "pods");
    control_pods_each(control, put_pod, out);
    json_out_end(out);
}

static void put_agent(struct json_out *out, const struct control *control) {
    struct zds_client_status status;
    if (control->zds == NULL) {
        return;
    }
    zds_client_get_status(control->zds, &status);
    json_out_kv_object(out, "nodeAgent");
    json_out_kv_str(out, "socket", control->ztun->config.inpod_uds);
    json_out_kv_bool(out, "isConnected", status.is_connected);
    json_out_kv_bool(out, "hasSnapshot", status.has_snapshot);
    json_out_kv_str(out, "error", status.error);
    json_out_kv_u64(out, "pods", status.n_pods);
    json_out_kv_u64(out, "connections", status.n_connections);
    json_out_kv_u64(out, "requests", status.n_requests);
    json_out_kv_u64(out, "refusedRequests", status.n_refused);
    json_out_end(out);
}

// ---- the page ----------------------------------------------------------------------------------

static void put_counts(struct json_out *out, const struct control *control,
                       const struct snapshot *snap) {
    const struct ztun *ztun = control->ztun;
    uint64_t n_flows = 0, n_tunnels = 0;
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        n_flows += ztun->workers[i]->load->n_flows;
        n_tunnels += ztun->workers[i]->load->n_tunnels;
    }
    json_out_kv_object(out, "counts");
    json_out_kv_u64(out, "workloads", snap->workloads.n_items);
    json_out_kv_u64(out, "services", snap->services.n_items);
    json_out_kv_u64(out, "policies", snap->policies.n_items);
    json_out_kv_u64(out, "nodes", snap->nodes.n_items);
    json_out_kv_u64(out, "workers", ztun->n_workers);
    json_out_kv_u64(out, "flows", n_flows);
    json_out_kv_u64(out, "inboundTunnels", n_tunnels);
    json_out_end(out);
}

static void put_head(struct json_out *out, const struct control *control,
                     const struct snapshot *snap) {
    struct buf reasons;
    buf_init(&reasons, 65536);
    json_out_kv_str(out, "version", ZTUN_VERSION_FULL);
    json_out_kv_str(out, "node", control->ztun->config.node_name);
    json_out_kv_str(out, "state", proc_life_state(&control->life));
    json_out_kv_bool(out, "ready", control_is_ready(control, &reasons));
    json_out_kv_string(out, "notReadyBecause", buf_slice(&reasons));
    json_out_kv_str(out, "io", control->loop.io->ops->name);
    json_out_kv_u64(out, "generation", snap->generation);
    json_out_kv_u64(out, "memoryLimit", control->life.memory.limit);
    json_out_kv_bool(out, "refusesNewFlows", control->life.memory.refuse_new);
    buf_fini(&reasons);
}

void admin_status(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    struct control *control = arg;
    const struct snapshot *snap = snapshot_current();
    struct json_out out;
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    proc_admin_json_init(&out, &body, query);
    json_out_begin_object(&out);
    put_head(&out, control, snap);
    put_counts(&out, control, snap);
    if (control->mesh.source != NULL) {
        proc_dump_source(&out, control->mesh.source);
    }
    if (control->xds != NULL) {
        proc_xds_dump(&out, control->xds);
    }
    put_agent(&out, control);
    put_pods(&out, control);
    proc_dump_objects(&out, control->mesh.builder);
    json_out_key(&out, SLICE_LIT("identities"));
    proc_dump_identities(&out, snap, clock_wall_s());
    json_out_end(&out);
    proc_admin_reply(exchange, query, 200, "application/json", &body);
}
