// SPDX-License-Identifier: Apache-2.0
//
// Local pods: who is served, under which identity, and what the workers are told when that changes.
#include <stdlib.h>

#include "common/obs/log.h"
#include "ztun/control.h"
#include "ztun/dns_upstream.h"

LOG_SCOPE(log_pods, "ztun::inpod");

struct served {
    struct hmap_node node; // control->pods by uid
    char *uid, *identity;
    struct workload *workload; // referenced
    uint64_t pod_id; // 0 until it is up
    uint64_t since; // when it was first wanted
    bool is_waiting; // for its certificate; its sockets are opened after that
    bool is_own; // control->own
    bool is_leaving; // deletionTimestamp was told to the workers
};

enum { IDENTITY_WAIT_MS = 2000 }; // then it is served all the same, and flows say what is missing

// An un-enrolled pod whose flows still run. Connections that its sockets have taken already need
// the identity, too.
struct draining {
    struct list node; // control->draining
    char *identity;
    uint64_t pod_id;
    uint32_t n_left; // workers that have flows of it
};

static void draining_free(struct draining *draining) {
    free(draining->identity);
    free(draining);
}

static struct served *find(struct control *control, const char *uid) {
    HMAP_EACH_WITH_HASH(pos, &control->pods, hash_bytes(slice_str(uid))) {
        struct served *served = HMAP_ITEM(pos, struct served, node);
        if (strcmp(served->uid, uid) == 0) {
            return served;
        }
    }
    return NULL;
}

static bool is_served(const struct workload *workload) {
    return workload != NULL && workload->is_enrolled && !workload->is_host_network &&
           workload->netns[0] != 0;
}

static void tell_leaving(struct control *control, struct served *served) {
    if (served->pod_id == 0 || served->is_leaving || !served->workload->is_terminating) {
        return;
    }
    served->is_leaving = true;
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_pod_leaving(control->ztun->workers[i], served->pod_id);
    }
}

// Its certificate is there, or is known not to come soon. A pod that joins, and one that a
// successor takes over, would else refuse its first connections.
static bool has_identity(const struct control *control, const struct served *served) {
    const struct identity *identity = snapshot_identity(snapshot_current(), served->identity);
    return (identity != NULL && (identity->tls != NULL || identity->error[0] != 0)) ||
           control->loop.now - served->since >= IDENTITY_WAIT_MS * NS_PER_MS;
}

static void want(struct control *control, struct served *served) {
    if (served->is_waiting && !has_identity(control, served)) {
        return;
    }
    control->n_waiting_pods -= served->is_waiting;
    served->is_waiting = false;
    if (served->is_own) {
        inpod_want_own(control->inpod, served->workload, control->own.is_self);
    } else {
        inpod_want(control->inpod, served->workload);
    }
}

void control_pods_settle(struct control *control) {
    if (control->n_waiting_pods == 0) {
        return;
    }
    HMAP_EACH_SAFE(pos, &control->pods) {
        struct served *served = HMAP_ITEM(pos, struct served, node);
        if (served->is_waiting) {
            want(control, served);
        }
    }
}

static struct served *serve(struct control *control, struct workload *workload) {
    struct served *served = find(control, (const char *)workload->leaf.key.ptr);
    if (served == NULL) {
        served = xcalloc(1, sizeof(*served));
        served->uid = slice_dup(workload->leaf.key);
        served->identity = xstrdup(workload->identity);
        served->since = control->loop.now;
        served->is_own = control_pods_is_own(control, workload);
        served->is_waiting = true;
        control->n_waiting_pods++;
        hmap_insert(&control->pods, &served->node, hash_bytes(slice_str(served->uid)));
        proc_identity_want(&control->identity, served->identity, 1);
    } else if (strcmp(served->identity, workload->identity) != 0) {
        proc_identity_want(&control->identity, workload->identity, 1);
        proc_identity_want(&control->identity, served->identity, -1);
        free(served->identity);
        served->identity = xstrdup(workload->identity);
    }
    leaf_ref(workload);
    leaf_unref(served->workload);
    served->workload = workload;
    want(control, served);
    tell_leaving(control, served);
    return served;
}

static void drain(struct control *control, struct served *served) {
    struct draining *draining = xcalloc(1, sizeof(*draining));
    draining->identity = xstrdup(served->identity);
    draining->pod_id = served->pod_id;
    draining->n_left = control->ztun->n_workers;
    proc_identity_want(&control->identity, draining->identity, 1);
    list_push_back(&control->draining, &draining->node);
}

static void unserve(struct control *control, const char *uid, enum pod_down_reason reason) {
    struct served *served = find(control, uid);
    if (served != NULL && served->pod_id != 0 && reason == POD_DOWN_UNENROLLED) {
        drain(control, served);
    }
    inpod_unwant(control->inpod, uid, reason); // also one that drains since it was un-enrolled
    if (served == NULL) {
        return;
    }
    proc_identity_want(&control->identity, served->identity, -1);
    control->n_waiting_pods -= served->is_waiting;
    hmap_remove(&control->pods, &served->node);
    leaf_unref(served->workload);
    free(served->uid);
    free(served->identity);
    free(served);
}

uint32_t control_pods_n_waiting(const struct control *control) {
    const struct control_own *own = &control->own;
    bool is_self_waiting = own->is_self && own->served != NULL && own->served->is_waiting;
    return control->n_waiting_pods - is_self_waiting;
}

bool control_pods_is_own(const struct control *control, const struct workload *workload) {
    const struct control_own *own = &control->own;
    return own->name != NULL && workload->is_pod && strcmp(workload->name, own->name) == 0 &&
           strcmp(workload->ns, own->ns) == 0;
}

bool control_pods_is_local(const struct control *control, const struct workload *workload) {
    return control_pods_is_own(control, workload) ||
           (!control->ztun->config.is_dedicated && is_served(workload) &&
            strcmp(workload->node, control->ztun->config.node_name) == 0);
}

static struct workload *find_own(const struct control *control) {
    const struct control_own *own = &control->own;
    char *uid =
        xasprintf("%s//Pod/%s/%s", control->ztun->config.proc.cluster_id, own->ns, own->name);
    struct workload *workload = snapshot_workload_by_uid(snapshot_current(), uid);
    free(uid);
    return workload;
}

// The workload in our own namespace came, went or changed; what its Pod says of enrolment, node and
// namespace does not matter.
static void settle_own(struct control *control) {
    struct control_own *own = &control->own;
    if (own->name == NULL) {
        return;
    }
    struct workload *workload = find_own(control);
    const char *problem = workload == NULL ? "there is no such Pod with an address"
                          : strcmp(workload->service_account, own->service_account) != 0
                              ? "the Pod has another service account"
                              : NULL;
    if (problem != NULL && own->problem != problem) { // literals
        log_warn(&log_pods, "own pod is not served", LOG_STR("namespace", own->ns),
                 LOG_STR("pod", own->name), LOG_STR("reason", problem));
    }
    own->problem = problem;
    if (problem == NULL && (own->served == NULL || own->served->workload != workload)) {
        own->served = serve(control, workload);
    } else if (problem != NULL && own->served != NULL) {
        char *uid = xstrdup(own->served->uid);
        own->served = NULL;
        unserve(control, uid, POD_DOWN_REMOVED);
        free(uid);
    }
}

void control_pods_apply(struct control *control, const struct builder_changes *changes) {
    settle_own(control);
    for (size_t i = 0; i < changes->n_locals; i++) {
        const struct builder_local *local = &changes->locals[i];
        if (control_pods_is_own(control, local->workload)) {
            continue;
        }
        bool is_gone = local->event == BUILDER_REMOVED;
        if (!is_gone && is_served(local->workload)) {
            serve(control, local->workload);
        } else {
            unserve(control, (const char *)local->workload->leaf.key.ptr,
                    is_gone ? POD_DOWN_REMOVED : POD_DOWN_UNENROLLED);
        }
    }
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        bool policies = changes->policies_changed || changes->mesh_changed;
        bool paths = changes->services_changed || changes->workloads_changed;
        if (policies || paths) {
            zworker_send_mesh_changed(control->ztun->workers[i], policies, paths);
        }
        if (changes->workloads_changed) {
            zworker_send_workloads_changed(control->ztun->workers[i]);
        }
    }
}

void control_pod_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets) {
    struct control *control = arg;
    struct served *served = find(control, pod->uid);
    struct addr servers[DNS_UPSTREAMS_MAX];
    const char *reason = "";
    uint32_t n_servers = 0;
    if (served != NULL) {
        served->pod_id = pod->id;
    }
    if (served != NULL && !pod->is_self) {
        n_servers = dns_upstreams_for(served->workload, served->is_own, servers, &reason);
    }
    log_info(&log_pods, "pod is served", LOG_STR("namespace", pod->ns), LOG_STR("pod", pod->name),
             LOG_U64("id", pod->id), LOG_BOOL("original_source", pod->original_source));
    if (n_servers == 0 && control->ztun->config.dns_capture && !pod->is_self) {
        log_warn(&log_pods, "no upstream DNS server: names outside the mesh get SERVFAIL",
                 LOG_STR("namespace", pod->ns), LOG_STR("pod", pod->name),
                 LOG_STR("reason", reason));
    }
    uint32_t n_workers = control->ztun->n_workers;
    for (uint32_t i = 0; i < n_workers; i++) {
        zworker_send_pod_up(control->ztun->workers[i], pod);
    }
    for (uint32_t i = 0; i < n_sets; i++) { // pods start at different workers: all get their share
        struct zworker *worker = control->ztun->workers[(pod->id * n_sets + i) % n_workers];
        zworker_send_pod_sockets(worker, pod, &sets[i], servers, n_servers);
    }
    if (served != NULL) {
        tell_leaving(control, served);
    }
}

void control_pod_down(void *arg, struct pod *pod, enum pod_down_reason reason) {
    struct control *control = arg;
    log_info(&log_pods, "pod is no longer served", LOG_STR("namespace", pod->ns),
             LOG_STR("pod", pod->name),
             LOG_STR("reason", reason == POD_DOWN_REMOVED ? "removed" : "unenrolled"));
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_pod_down(control->ztun->workers[i], pod->id, reason == POD_DOWN_REMOVED);
    }
}

void control_pod_drained(struct control *control, uint64_t pod_id) {
    LIST_EACH_SAFE(pos, &control->draining) {
        struct draining *draining = LIST_ITEM(pos, struct draining, node);
        if (draining->pod_id == pod_id && --draining->n_left == 0) {
            list_del(pos);
            proc_identity_want(&control->identity, draining->identity, -1);
            draining_free(draining);
            inpod_pod_drained(control->inpod, pod_id);
            return;
        }
    }
}

void control_pods_init(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    const char *const self[] = {config->pod_namespace, config->pod_name, config->service_account};
    if (config->is_dedicated) {
        control->own = (struct control_own){
            .ns = config->workload_ns,
            .name = config->workload_name,
            .service_account = config->workload_account,
            .problem = "the configuration is not read yet",
        };
    } else if (self[0] != NULL && self[1] != NULL && self[2] != NULL) {
        control->own = (struct control_own){
            .ns = self[0], .name = self[1], .service_account = self[2], .is_self = true};
    }
    list_init(&control->draining);
    hmap_init(&control->pods);
}

void control_pods_fini(struct control *control) {
    HMAP_EACH_SAFE(pos, &control->pods) {
        struct served *served = HMAP_ITEM(pos, struct served, node);
        hmap_remove(&control->pods, pos);
        leaf_unref(served->workload);
        free(served->uid);
        free(served->identity);
        free(served);
    }
    hmap_fini(&control->pods);
    struct list *node;
    while ((node = list_pop_front(&control->draining)) != NULL) {
        draining_free(LIST_ITEM(node, struct draining, node));
    }
}
