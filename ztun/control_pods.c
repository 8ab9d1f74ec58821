// SPDX-License-Identifier: Apache-2.0
//
// Local pods: who is served, under which identity, and what the workers are told when that changes.
#include <stdlib.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "ztun/control_demand.h"
#include "ztun/control_priv.h"
#include "ztun/dns_upstream.h"

LOG_SCOPE(log_pods, "ztun::inpod");

enum { IDENTITY_WAIT_MS = 2000 }; // then it is served all the same, and flows say what is missing

static void draining_free(struct draining *draining) {
    pod_params_fini(&draining->params);
    free(draining->identity);
    free(draining);
}

static void served_free(struct control *control, struct served *served) {
    hmap_remove(&control->pods, &served->node);
    if (served->netns_fd >= 0) {
        close(served->netns_fd);
    }
    leaf_unref(served->workload);
    pod_params_fini(&served->params);
    free(served->identity);
    free(served);
}

struct served *served_find(struct control *control, const char *uid) {
    HMAP_EACH_WITH_HASH(pos, &control->pods, hash_bytes(slice_str(uid))) {
        struct served *served = HMAP_ITEM(pos, struct served, node);
        if (strcmp(served->params.uid, uid) == 0) {
            return served;
        }
    }
    return NULL;
}

static bool is_own(const struct control *control, const struct workload *workload) {
    const struct control_own *own = &control->own;
    return own->name != NULL && workload->is_pod && strcmp(workload->name, own->name) == 0 &&
           strcmp(workload->ns, own->ns) == 0;
}

static bool is_served(const struct workload *workload) {
    return workload != NULL && workload->is_enrolled && !workload->is_host_network &&
           workload->common->local->netns[0] != 0;
}

static void tell_leaving(struct control *control, struct served *served) {
    if (served->pod_id == 0 || served->is_leaving || served->workload == NULL ||
        !served->workload->is_terminating) {
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

void served_want(struct control *control, struct served *served) {
    if (served->is_waiting && !has_identity(control, served)) {
        return;
    }
    control->n_waiting_pods -= served->is_waiting;
    served->is_waiting = false;
    if (served->is_handed) {
        if (served->netns_fd >= 0) { // once
            struct inpod_handed handed = {.params = served->params, .netns_fd = served->netns_fd};
            served->netns_fd = -1;
            inpod_want_handed(control->inpod, &handed);
        }
    } else if (served->is_own) {
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
            served_want(control, served);
        }
    }
}

struct served *served_new(struct control *control, const struct pod_params *params,
                          const char *identity) {
    struct served *served = xcalloc(1, sizeof(*served));
    pod_params_copy(&served->params, params);
    served->identity = xstrdup(identity);
    served->since = control->loop.now;
    served->netns_fd = -1;
    served->is_waiting = true;
    control->n_waiting_pods++;
    hmap_insert(&control->pods, &served->node, hash_bytes(slice_str(params->uid)));
    proc_identity_want(&control->identity, identity, 1);
    return served;
}

void served_set_identity(struct control *control, struct served *served, const char *identity) {
    if (strcmp(served->identity, identity) != 0) {
        proc_identity_want(&control->identity, identity, 1);
        proc_identity_want(&control->identity, served->identity, -1);
        free(served->identity);
        served->identity = xstrdup(identity);
    }
}

void served_set_workload(struct control *control, struct served *served,
                         struct workload *workload) {
    if (workload != NULL) {
        leaf_ref(workload);
    }
    leaf_unref(served->workload);
    served->workload = workload;
    tell_leaving(control, served);
}

static struct served *serve(struct control *control, struct workload *workload) {
    const char *uid = (const char *)workload->leaf.key.ptr;
    struct served *served = served_find(control, uid);
    if (served == NULL) {
        struct pod_params params = {
            .uid = uid, .workload_uid = uid, .ns = workload->ns, .name = workload->name};
        served = served_new(control, &params, workload->common->identity);
        served->is_own = is_own(control, workload);
    }
    served_set_identity(control, served, workload->common->identity);
    served_set_workload(control, served, workload);
    served_want(control, served);
    return served;
}

static void drain(struct control *control, const struct served *served) {
    struct draining *draining = xcalloc(1, sizeof(*draining));
    pod_params_copy(&draining->params, &served->params);
    draining->identity = xstrdup(served->identity);
    draining->pod_id = served->pod_id;
    draining->is_handed = served->is_handed;
    draining->n_left = control->ztun->n_workers;
    proc_identity_want(&control->identity, draining->identity, 1);
    list_push_back(&control->draining, &draining->node);
}

void served_end(struct control *control, struct served *served, const char *uid,
                enum pod_down_reason reason) {
    if (served != NULL && served->pod_id != 0 && reason == POD_DOWN_UNENROLLED) {
        drain(control, served);
    }
    inpod_unwant(control->inpod, uid, reason); // also one that drains since it was un-enrolled
    if (served != NULL) {
        proc_identity_want(&control->identity, served->identity, -1);
        control->n_waiting_pods -= served->is_waiting;
        served_free(control, served);
    }
}

uint32_t control_pods_n_waiting(const struct control *control) {
    const struct control_own *own = &control->own;
    bool is_self_waiting = own->is_self && own->served != NULL && own->served->is_waiting;
    return control->n_waiting_pods - is_self_waiting;
}

static int by_uid(const void *a, const void *b) {
    const struct served *const *x = a, *const *y = b;
    return strcmp((*x)->params.uid, (*y)->params.uid);
}

static void visit(const struct control *control, const struct served *served,
                  void (*fn)(void *arg, const struct control_pod *pod), void *arg) {
    struct control_pod pod = {
        .uid = served->params.uid,
        .ns = served->params.ns,
        .name = served->params.name,
        .service_account = served->is_handed ? served->params.service_account
                                             : served->workload->common->service_account,
        .identity = served->identity,
        .netns = served->is_handed ? ""
                 : served->is_own  ? "/proc/self/ns/net"
                                   : served->workload->common->local->netns,
        .pending = served->is_waiting ? "waits for its certificate" : NULL,
        .has_workload = served->workload != NULL,
        .is_redirected = inpod_is_redirected(control->inpod, served->params.uid),
    };
    if (!served->is_waiting) {
        pod.pending = inpod_pending_reason(control->inpod, pod.uid);
    }
    fn(arg, &pod);
}

void control_pods_each(const struct control *control,
                       void (*fn)(void *arg, const struct control_pod *pod), void *arg) {
    struct served **all = xcalloc(control->pods.n_items + 1, sizeof(struct served *));
    size_t n = 0;
    HMAP_EACH_SAFE(pos, &control->pods) {
        all[n++] = HMAP_ITEM(pos, struct served, node);
    }
    qsort(all, n, sizeof(struct served *), by_uid);
    for (size_t i = 0; i < n; i++) {
        visit(control, all[i], fn, arg);
    }
    free(all);
}

static char *own_uid(const struct control *control) {
    const struct control_own *own = &control->own;
    return xasprintf("%s//Pod/%s/%s", control->ztun->config.proc.cluster_id, own->ns, own->name);
}

void control_pods_want_own(struct control *control) {
    char *uid = own_uid(control);
    control_demand_pod(control, uid);
    free(uid);
}

static struct workload *find_own(const struct control *control) {
    char *uid = own_uid(control);
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
                          : strcmp(workload->common->service_account, own->service_account) != 0
                              ? "the Pod has another service account"
                              : NULL;
    bool is_known = control->xds == NULL || proc_xds_has_addresses(control->xds);
    bool is_late = workload == NULL && control->xds != NULL; // istiod learns its address later
    if (problem != NULL && own->told != problem && is_known && is_late) { // literals
        log_info(&log_pods, "own pod is not known yet", LOG_STR("namespace", own->ns),
                 LOG_STR("pod", own->name));
    } else if (problem != NULL && own->told != problem && is_known) {
        log_warn(&log_pods, "own pod is not served", LOG_STR("namespace", own->ns),
                 LOG_STR("pod", own->name), LOG_STR("reason", problem));
    }
    own->problem = problem;
    own->told = is_known ? problem : NULL;
    if (problem == NULL && (own->served == NULL || own->served->workload != workload)) {
        own->served = serve(control, workload);
    } else if (problem != NULL && own->served != NULL) {
        struct served *served = own->served;
        own->served = NULL;
        char *uid = xstrdup(served->params.uid);
        served_end(control, served, uid, POD_DOWN_REMOVED);
        free(uid);
    }
}

static void apply_local(struct control *control, const struct builder_local *local) {
    bool is_gone = local->event == BUILDER_REMOVED;
    if (is_own(control, local->workload)) {
        return;
    }
    if (!is_gone && is_served(local->workload)) {
        serve(control, local->workload);
        return;
    }
    const char *uid = (const char *)local->workload->leaf.key.ptr;
    served_end(control, served_find(control, uid), uid,
               is_gone ? POD_DOWN_REMOVED : POD_DOWN_UNENROLLED);
}

void control_pods_apply(struct control *control, const struct builder_changes *changes) {
    settle_own(control);
    if (control->zds != NULL) {
        control_handed_refresh(control, changes->mesh_changed);
    }
    for (size_t i = 0; control->ztun->config.inpod_uds == NULL && i < changes->n_locals; i++) {
        apply_local(control, &changes->locals[i]);
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

static void settle_up(struct control *control, struct served *served, const struct pod *pod) {
    if (served != NULL) {
        served->pod_id = pod->id;
        tell_leaving(control, served);
    }
    if (control->zds != NULL) {
        zds_client_answer(control->zds, pod->uid, NULL);
    }
}

void control_pod_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets) {
    struct control *control = arg;
    struct served *served = served_find(control, pod->uid);
    struct addr servers[DNS_UPSTREAMS_MAX];
    const char *reason = "";
    uint32_t n_servers = 0;
    if (served != NULL && !pod->is_self) {
        const char *netns = served->is_handed ? "" : served->workload->common->local->netns;
        n_servers = dns_upstreams_for(served->workload, netns, served->is_own, servers, &reason);
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
    settle_up(control, served, pod);
}

void control_pod_kept(void *arg, struct pod *pod) {
    struct control *control = arg;
    settle_up(control, served_find(control, pod->uid), pod);
}

void control_pod_failed(void *arg, const char *uid, const char *reason) {
    struct control *control = arg;
    if (control->zds != NULL) {
        zds_client_answer(control->zds, uid, reason);
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
