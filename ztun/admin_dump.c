// SPDX-License-Identifier: Apache-2.0
//
// /config_dump: one snapshot, all of it, in the form that `istioctl ztunnel-config` reads. It is
// written in steps, so that a large mesh does not hold up the control thread.
#include <stdlib.h>

#include "version.h"
#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

enum part { WORKLOADS, SERVICES, POLICIES, SETTINGS, CERTIFICATES, STATE, DONE };

// A dump under way: the snapshot and the flows of its beginning.
struct dump {
    struct admin_flows *flows;
    struct proc_dump_list *workloads, *services, *policies, *certs;
    struct pmap table; // of the workloads, referenced
    struct workload **locals;
    bool *is_pending; // of each
    size_t n_locals, at;
    uint8_t part; // enum part
    bool has_begun; // the part's key is written
};

static bool is_local(void *arg, const void *leaf) {
    return control_pods_is_local(arg, leaf);
}

static void take_locals(struct dump *dump, const struct control *control) {
    struct admin_pendings pendings;
    dump->locals =
        (struct workload **)proc_dump_sorted(&dump->table, is_local, (void *)(uintptr_t)control,
                                             &dump->n_locals);
    dump->is_pending = xcalloc(dump->n_locals + 1, sizeof(*dump->is_pending));
    admin_pendings_get(control, &pendings);
    for (size_t i = 0; i < dump->n_locals; i++) {
        const char *uid = (const char *)dump->locals[i]->leaf.key.ptr;
        dump->is_pending[i] = admin_pending_reason(&pendings, uid) != NULL;
    }
    free(pendings.items);
}

static void dump_free(void *arg) {
    struct dump *dump = arg;
    proc_dump_list_free(dump->workloads);
    proc_dump_list_free(dump->services);
    proc_dump_list_free(dump->policies);
    proc_dump_list_free(dump->certs);
    admin_flows_free(dump->flows);
    free(dump->is_pending);
    free(dump->locals);
    pmap_unref(&dump->table);
    free(dump);
}

static void put_state(struct json_out *out, const struct dump *dump, size_t i) {
    const struct workload *workload = dump->locals[i];
    json_out_key(out, workload->leaf.key);
    json_out_begin_object(out);
    json_out_kv_str(out, "state", dump->is_pending[i] ? "Pending" : "Up");
    json_out_key(out, SLICE_LIT("connections"));
    admin_write_pod_flows(out, &dump->flows->list, (const char *)workload->leaf.key.ptr);
    json_out_kv_object(out, "info");
    json_out_kv_str(out, "name", workload->name);
    json_out_kv_str(out, "namespace", workload->ns);
    json_out_kv_str(out, "trustDomain", workload->trust_domain);
    json_out_kv_str(out, "serviceAccount", workload->service_account);
    json_out_end(out);
    json_out_end(out);
}

// True: there is more of this part.
static bool step_state(struct dump *dump, struct json_out *out) {
    if (dump->at == 0) {
        json_out_begin_object(out);
    }
    if (dump->at < dump->n_locals) {
        put_state(out, dump, dump->at++);
        if (dump->at < dump->n_locals) {
            return true;
        }
    }
    json_out_end(out);
    return false;
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

static void put_settings(struct json_out *out, const struct control *control) {
    put_static(out);
    put_version(out);
    json_out_key(out, SLICE_LIT("config"));
    admin_write_config(out, &control->ztun->config);
}

static bool step_part(struct dump *dump, struct json_out *out) {
    switch ((enum part)dump->part) {
    case WORKLOADS:
        return proc_dump_list_step(dump->workloads, out);
    case SERVICES:
        return proc_dump_list_step(dump->services, out);
    case POLICIES:
        return proc_dump_list_step(dump->policies, out);
    case SETTINGS:
        put_settings(out, dump->flows->control);
        return false;
    case CERTIFICATES:
        return proc_dump_list_step(dump->certs, out);
    case STATE:
        return step_state(dump, out);
    case DONE:
        break;
    }
    return false;
}

static bool dump_step(void *arg, struct json_out *out) {
    static const char *const keys[] = {
        [WORKLOADS] = "workloads", [SERVICES] = "services",         [POLICIES] = "policies",
        [SETTINGS] = NULL,         [CERTIFICATES] = "certificates", [STATE] = "workloadState"};
    struct dump *dump = arg;
    if (!dump->has_begun) {
        if (dump->part == WORKLOADS) {
            json_out_begin_object(out);
        }
        if (keys[dump->part] != NULL) {
            json_out_key(out, slice_str(keys[dump->part]));
        }
        dump->has_begun = true;
    }
    if (step_part(dump, out)) {
        return true;
    }
    dump->has_begun = false;
    if (++dump->part != DONE) {
        return true;
    }
    json_out_end(out);
    return false;
}

static void answer_dump(struct admin_flows *flows) {
    static const struct proc_admin_steps steps = {.step = dump_step, .free = dump_free};
    const struct snapshot *snap = snapshot_current();
    struct dump *dump = xcalloc(1, sizeof(*dump));
    dump->flows = flows;
    dump->workloads = proc_dump_list_new(PROC_DUMP_WORKLOADS, snap);
    dump->services = proc_dump_list_new(PROC_DUMP_SERVICES, snap);
    dump->policies = proc_dump_list_new(PROC_DUMP_POLICIES, snap);
    dump->certs = proc_dump_list_new(PROC_DUMP_CERTS, snap);
    dump->table = pmap_ref(snap->workloads);
    take_locals(dump, flows->control);
    proc_admin_reply_steps(flows->exchange, flows->query, &steps, dump);
}

void admin_config_dump(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    admin_flows_gather(arg, exchange, query, answer_dump);
}
