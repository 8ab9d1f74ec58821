// SPDX-License-Identifier: Apache-2.0
#include "ztun/pod.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *copy_of(const char *text) {
    return text != NULL ? xstrdup(text) : NULL;
}

void pod_params_copy(struct pod_params *dst, const struct pod_params *src) {
    *dst = (struct pod_params){
        .uid = copy_of(src->uid),
        .workload_uid = copy_of(src->workload_uid),
        .ns = copy_of(src->ns),
        .name = copy_of(src->name),
        .service_account = copy_of(src->service_account),
    };
}

void pod_params_fini(struct pod_params *params) {
    const char *texts[] = {params->uid, params->workload_uid, params->ns, params->name,
                           params->service_account};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free((void *)(uintptr_t)texts[i]);
    }
    *params = (struct pod_params){0};
}

struct pod *pod_new(const struct pod_params *params, int netns_fd) {
    static _Atomic uint64_t last_id;
    struct stat st;
    CHECK(fstat(netns_fd, &st) == 0);
    struct pod *pod = xcalloc(1, sizeof(*pod));
    atomic_init(&pod->refs, 1);
    pod->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    pod->uid = xstrdup(params->uid);
    pod->workload_uid = xstrdup(params->workload_uid);
    pod->ns = xstrdup(params->ns);
    pod->name = xstrdup(params->name);
    pod->service_account =
        params->service_account != NULL ? xstrdup(params->service_account) : NULL;
    pod->netns_fd = netns_fd;
    pod->netns_dev = st.st_dev;
    pod->netns_ino = st.st_ino;
    return pod;
}

struct pod *pod_ref(struct pod *pod) {
    atomic_fetch_add_explicit(&pod->refs, 1, memory_order_relaxed);
    return pod;
}

void pod_unref(struct pod *pod) {
    if (pod == NULL || atomic_fetch_sub_explicit(&pod->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    close(pod->netns_fd);
    free(pod->uid);
    free(pod->workload_uid);
    free(pod->ns);
    free(pod->name);
    free(pod->service_account);
    free(pod);
}

static struct workload *workload_of(const struct snapshot *snap, const char *uid,
                                    const char *service_account) {
    struct workload *workload = snapshot_workload_by_uid(snap, uid);
    bool is_other = workload != NULL && service_account != NULL &&
                    strcmp(workload->common->service_account, service_account) != 0;
    return is_other ? NULL : workload;
}

struct workload *pod_workload(const struct pod *pod, const struct snapshot *snap) {
    return workload_of(snap, pod->workload_uid, pod->service_account);
}

struct workload *pod_params_workload(const struct pod_params *params, const struct snapshot *snap) {
    return workload_of(snap, params->workload_uid, params->service_account);
}

void pod_sockets_init(struct pod_sockets *sockets) {
    *sockets = (struct pod_sockets){
        .outbound = -1,
        .inbound = -1,
        .hbone = -1,
        .socks = -1,
        .dns_udp = {-1, -1},
        .dns_tcp = {-1, -1},
    };
}

void pod_sockets_close(struct pod_sockets *sockets) {
    int fds[] = {
        sockets->outbound,   sockets->inbound,    sockets->hbone,      sockets->socks,
        sockets->dns_udp[0], sockets->dns_udp[1], sockets->dns_tcp[0], sockets->dns_tcp[1],
    };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    pod_sockets_init(sockets);
}
