// SPDX-License-Identifier: Apache-2.0
#include "ztun/pod.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct pod *pod_new(const char *uid, const char *ns, const char *name, int netns_fd) {
    static _Atomic uint64_t last_id;
    struct stat st;
    CHECK(fstat(netns_fd, &st) == 0);
    struct pod *pod = xcalloc(1, sizeof(*pod));
    atomic_init(&pod->refs, 1);
    pod->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    pod->uid = xstrdup(uid);
    pod->ns = xstrdup(ns);
    pod->name = xstrdup(name);
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
    free(pod->ns);
    free(pod->name);
    free(pod);
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
