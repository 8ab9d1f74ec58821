// SPDX-License-Identifier: Apache-2.0
//
// /status: is all well, and if not, what and where.
#include <stdlib.h>

#include "common/base/clock.h"
#include "version.h"
#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

// ---- pods --------------------------------------------------------------------------------------

static void add_pending(void *arg, const char *uid, const char *reason, bool is_self) {
    (void)is_self;
    struct admin_pendings *pendings = arg;
    if (pendings->n == pendings->cap) {
        pendings->cap = pendings->cap == 0 ? 16 : 2 * pendings->cap;
        pendings->items = xrealloc(pendings->items, pendings->cap * sizeof(*pendings->items));
    }
    pendings->items[pendings->n++] = (struct admin_pending){uid, reason};
}

static int by_uid(const void *a, const void *b) {
    return strcmp(((const struct admin_pending *)a)->uid, ((const struct admin_pending *)b)->uid);
}

void admin_pendings_get(const struct control *control, struct admin_pendings *ret) {
    *ret = (struct admin_pendings){0};
    inpod_each_pending(control->inpod, add_pending, ret);
    if (ret->n > 0) {
        qsort(ret->items, ret->n, sizeof(*ret->items), by_uid);
    }
}

const char *admin_pending_reason(const struct admin_pendings *pendings, const char *uid) {
    struct admin_pending key = {uid, NULL};
    const struct admin_pending *found =
        pendings->n == 0
            ? NULL
            : bsearch(&key, pendings->items, pendings->n, sizeof(*pendings->items), by_uid);
    return found != NULL ? found->reason : NULL;
}

static bool is_local(void *arg, const void *leaf) {
    return control_pods_is_local(arg, leaf);
}

static void put_pods(struct json_out *out, const struct control *control,
                     const struct snapshot *snap) {
    struct admin_pendings pendings;
    size_t n = 0;
    struct workload **workloads =
        (struct workload **)proc_dump_sorted(&snap->workloads, is_local, (void *)(uintptr_t)control,
                                             &n);
    admin_pendings_get(control, &pendings);
    json_out_kv_array(out, "pods");
    for (size_t i = 0; i < n; i++) {
        const struct workload *workload = workloads[i];
        bool is_own = control_pods_is_own(control, workload);
        const char *reason = admin_pending_reason(&pendings, (const char *)workload->leaf.key.ptr);
        json_out_begin_object(out);
        json_out_kv_string(out, "uid", workload->leaf.key);
        json_out_kv_str(out, "namespace", workload->ns);
        json_out_kv_str(out, "name", workload->name);
        json_out_kv_str(out, "state", reason != NULL ? "Pending" : "Up");
        if (reason != NULL) {
            json_out_kv_str(out, "reason", reason);
        }
        json_out_kv_str(out, "identity", workload->identity);
        json_out_kv_str(out, "netns", is_own ? "/proc/self/ns/net" : workload->netns);
        json_out_end(out);
    }
    json_out_end(out);
    free(pendings.items);
    free(workloads);
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
    proc_dump_source(&out, control->mesh.source);
    put_pods(&out, control, snap);
    proc_dump_objects(&out, control->mesh.builder);
    json_out_key(&out, SLICE_LIT("identities"));
    proc_dump_identities(&out, snap, clock_wall_s());
    json_out_end(&out);
    proc_admin_reply(exchange, query, 200, "application/json", &body);
}
