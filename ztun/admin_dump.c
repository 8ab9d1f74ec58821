// SPDX-License-Identifier: Apache-2.0
//
// /config_dump: one snapshot, all of it, in the form that `istioctl ztunnel-config` reads.
#include <stdlib.h>

#include "version.h"
#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

static void put_workload_state(struct json_out *out, const struct admin_flows *flows,
                               const struct snapshot *snap) {
    const char *node = flows->control->ztun->config.node_name;
    struct admin_pendings pendings;
    size_t n = 0;
    struct workload **workloads = (struct workload **)proc_dump_sorted(&snap->workloads, &n);
    admin_pendings_get(flows->control, &pendings);
    json_out_begin_object(out);
    for (size_t i = 0; i < n; i++) {
        const struct workload *workload = workloads[i];
        if (!admin_is_local(workload, node)) {
            continue;
        }
        const char *uid = (const char *)workload->leaf.key.ptr;
        json_out_key(out, workload->leaf.key);
        json_out_begin_object(out);
        json_out_kv_str(out, "state",
                        admin_pending_reason(&pendings, uid) != NULL ? "Pending" : "Up");
        json_out_key(out, SLICE_LIT("connections"));
        admin_write_pod_flows(out, &flows->list, uid);
        json_out_kv_object(out, "info");
        json_out_kv_str(out, "name", workload->name);
        json_out_kv_str(out, "namespace", workload->ns);
        json_out_kv_str(out, "trustDomain", workload->trust_domain);
        json_out_kv_str(out, "serviceAccount", workload->service_account);
        json_out_end(out);
        json_out_end(out);
    }
    json_out_end(out);
    free(pendings.items);
    free(workloads);
}

static void put_static(struct json_out *out) {
    json_out_kv_object(out, "stagedServices"); // services wait for nobody here
    json_out_end(out);
    json_out_kv_object(out, "staticConfig");
    static const char *const parts[] = {"workloads", "policies", "services"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        json_out_kv_array(out, parts[i]);
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_version(struct json_out *out) {
    json_out_kv_object(out, "version");
    json_out_kv_str(out, "version", ZTUN_VERSION);
    json_out_kv_str(out, "gitRevision", ZTUN_VERSION_GIT);
    json_out_end(out);
}

static void answer_dump(struct admin_flows *flows) {
    const struct snapshot *snap = snapshot_current();
    struct json_out out;
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    proc_admin_json_init(&out, &body, flows->query);
    json_out_begin_object(&out);
    json_out_key(&out, SLICE_LIT("workloads"));
    proc_dump_workloads(&out, snap);
    json_out_key(&out, SLICE_LIT("services"));
    proc_dump_services(&out, snap);
    json_out_key(&out, SLICE_LIT("policies"));
    proc_dump_policies(&out, snap);
    put_static(&out);
    put_version(&out);
    json_out_key(&out, SLICE_LIT("config"));
    admin_write_config(&out, &flows->control->ztun->config);
    json_out_key(&out, SLICE_LIT("certificates"));
    proc_dump_certs(&out, snap);
    json_out_key(&out, SLICE_LIT("workloadState"));
    put_workload_state(&out, flows, snap);
    json_out_end(&out);
    proc_admin_reply(flows->exchange, flows->query, 200, "application/json", &body);
    admin_flows_free(flows);
}

void admin_config_dump(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    admin_flows_gather(arg, exchange, query, answer_dump);
}
