// SPDX-License-Identifier: Apache-2.0
//
// Pods that the node agent hands over (zds_client.h). It says who they are; what the mesh knows of
// them comes by itself, before or after.
#include <stdlib.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "common/proto/spiffe.h"
#include "ztun/control_demand.h"
#include "ztun/control_priv.h"

LOG_SCOPE(log_handed, "ztun::inpod");

// NULL: the trust domain of the configuration is none.
static char *identity_of(const struct pod_params *params) {
    struct spiffe_id id = {
        .trust_domain = slice_str(snapshot_current()->mesh->trust_domain),
        .ns = slice_str(params->ns),
        .sa = slice_str(params->service_account),
    };
    char text[SPIFFE_TEXT_MAX];
    struct slice slice;
    return spiffe_format(&id, text, &slice) ? slice_dup(slice) : NULL;
}

static void look_up(struct control *control, struct served *served) {
    const struct snapshot *snap = snapshot_current();
    struct workload *workload = pod_params_workload(&served->params, snap);
    const struct workload *any = snapshot_workload_by_uid(snap, served->params.workload_uid);
    bool was_mismatched = served->is_mismatched;
    served->is_mismatched = workload == NULL && any != NULL;
    if (served->is_mismatched && !was_mismatched) {
        log_warn(&log_handed, "the workload has another service account than its pod: not used",
                 LOG_STR("uid", served->params.uid),
                 LOG_STR("workload", any->common->service_account),
                 LOG_STR("pod", served->params.service_account));
    }
    served_set_workload(control, served, workload);
}

static void on_add(void *arg, const struct zds_request *pod, int netns_fd, bool is_snapshot) {
    struct control *control = arg;
    char *workload_uid =
        xasprintf("%s//Pod/%s/%s", control->ztun->config.proc.cluster_id, pod->ns, pod->name);
    struct pod_params params = {
        .uid = pod->uid,
        .workload_uid = workload_uid,
        .ns = pod->ns,
        .name = pod->name,
        .service_account = pod->service_account,
    };
    char *identity = identity_of(&params);
    if (identity == NULL) {
        close(netns_fd);
        free(workload_uid);
        zds_client_answer(control->zds, pod->uid, "the mesh has no proper trust domain");
        return;
    }
    control_demand_pod(control, workload_uid);
    struct served *served = served_new(control, &params, identity);
    served->is_handed = true;
    served->netns_fd = netns_fd;
    look_up(control, served);
    served_want(control, served);
    if (is_snapshot && served->is_waiting) {
        // Its applications run already, and others wait behind it: nothing is won.
        zds_client_answer(control->zds, pod->uid, NULL);
    }
    free(identity);
    free(workload_uid);
}

// Another one with the same name, as a StatefulSet's.
static bool has_successor(const struct control *control, const struct served *served) {
    HMAP_EACH_SAFE(pos, &control->pods) {
        const struct served *other = HMAP_ITEM(pos, struct served, node);
        if (other != served &&
            strcmp(other->params.workload_uid, served->params.workload_uid) == 0) {
            return true;
        }
    }
    return false;
}

// The agent says the same of a pod that is gone and of one that has left the mesh. One that is
// still there keeps its connections until they end.
static void on_del(void *arg, const char *uid, bool is_replaced) {
    struct control *control = arg;
    struct served *served = served_find(control, uid);
    if (served == NULL) {
        return; // it was refused
    }
    bool is_there = !is_replaced && served->workload != NULL && !served->workload->is_terminating &&
                    !has_successor(control, served);
    served_end(control, served, uid, is_there ? POD_DOWN_UNENROLLED : POD_DOWN_REMOVED);
}

void control_handed_refresh(struct control *control, bool mesh_changed) {
    HMAP_EACH_SAFE(pos, &control->pods) {
        struct served *served = HMAP_ITEM(pos, struct served, node);
        if (!served->is_handed) {
            continue;
        }
        if (mesh_changed) { // the trust domain
            char *identity = identity_of(&served->params);
            if (identity != NULL) {
                served_set_identity(control, served, identity);
            }
            free(identity);
        }
        look_up(control, served);
    }
    LIST_EACH_SAFE(pos, &control->draining) {
        const struct draining *draining = LIST_ITEM(pos, struct draining, node);
        const struct workload *workload =
            draining->is_handed ? pod_params_workload(&draining->params, snapshot_current()) : NULL;
        if (draining->is_handed && (workload == NULL || workload->is_terminating)) {
            inpod_workload_gone(control->inpod, draining->params.workload_uid);
        }
    }
}

void control_handed_open(struct control *control) {
    struct zds_client_params params = {
        .loop = &control->loop,
        .path = control->ztun->config.inpod_uds,
        .add = on_add,
        .del = on_del,
        .arg = control,
    };
    control->zds = zds_client_new(&params);
}
