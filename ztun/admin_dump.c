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

struct local_pod {
    struct pod_params params; // a copy
    bool is_pending;
};

// A dump under way: the snapshot, the pods and the flows of its beginning.
struct dump {
    struct admin_flows *flows;
    struct proc_dump_list *workloads, *services, *policies, *certs;
    char *trust_domain;
    struct local_pod *pods;
    size_t n_pods, at;
    uint8_t part; // enum part
    bool has_begun; // the part's key is written
};

static void take_pod(void *arg, const struct control_pod *pod) {
    struct dump *dump = arg;
    struct local_pod *local = &dump->pods[dump->n_pods++];
    struct pod_params params = {
        .uid = pod->uid,
        .ns = pod->ns,
        .name = pod->name,
        .service_account = pod->service_account,
    };
    pod_params_copy(&local->params, &params);
    local->is_pending = pod->pending != NULL;
}

static void dump_free(void *arg) {
    struct dump *dump = arg;
    proc_dump_list_free(dump->workloads);
    proc_dump_list_free(dump->services);
    proc_dump_list_free(dump->policies);
    proc_dump_list_free(dump->certs);
    admin_flows_free(dump->flows);
    for (size_t i = 0; i < dump->n_pods; i++) {
        pod_params_fini(&dump->pods[i].params);
    }
    free(dump->pods);
    free(dump->trust_domain);
    free(dump);
}

static void put_state(struct json_out *out, const struct dump *dump, size_t i) {
    const struct pod_params *pod = &dump->pods[i].params;
    json_out_key(out, slice_str(pod->uid));
    json_out_begin_object(out);
    json_out_kv_str(out, "state", dump->pods[i].is_pending ? "Pending" : "Up");
    json_out_key(out, SLICE_LIT("connections"));
    admin_write_pod_flows(out, &dump->flows->list, pod->uid);
    json_out_kv_object(out, "info");
    json_out_kv_str(out, "name", pod->name);
    json_out_kv_str(out, "namespace", pod->ns);
    json_out_kv_str(out, "trustDomain", dump->trust_domain);
    json_out_kv_str(out, "serviceAccount", pod->service_account);
    json_out_end(out);
    json_out_end(out);
}

// True: there is more of this part.
static bool step_state(struct dump *dump, struct json_out *out) {
    if (dump->at == 0) {
        json_out_begin_object(out);
    }
    if (dump->at < dump->n_pods) {
        put_state(out, dump, dump->at++);
        if (dump->at < dump->n_pods) {
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
    dump->trust_domain = xstrdup(snap->mesh->trust_domain);
    dump->pods = xcalloc(flows->control->pods.n_items + 1, sizeof(*dump->pods));
    control_pods_each(flows->control, take_pod, dump);
    proc_admin_reply_steps(flows->exchange, flows->query, &steps, dump);
}

void admin_config_dump(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    admin_flows_gather(arg, exchange, query, answer_dump);
}
