// SPDX-License-Identifier: Apache-2.0
//
// A served pod: what the control thread makes when it enrols one and the workers hold while flows
// of it live. Immutable after creation, atomically counted.
#pragma once

#include <stdatomic.h>
#include <sys/types.h>

#include "common/mesh/snapshot.h"

struct pod {
    atomic_uint refs;
    atomic_uint n_moving; // connections between two workers: no zpod of it is freed (zmove.h)
    uint64_t id; // unique in the process, never reused; part of tunnel pool keys
    char *uid; // unique among the pods of this node
    char *workload_uid; // its workload's key in the snapshot
    char *ns, *name;
    char *service_account; // as the node agent says; NULL: the workload says it
    int netns_fd; // closed with the last reference
    dev_t netns_dev;
    ino_t netns_ino;
    bool has_v4, has_v6; // families its sockets are made for
    bool dns_v4, dns_v6; // families of its DNS sockets
    bool original_source; // IP_TRANSPARENT works: inbound legs carry the client's address
    bool is_self; // ztun's own: nothing is captured, tunnels reach its operator's ports only
};

struct pod_params { // as in struct pod
    const char *uid, *workload_uid, *ns, *name, *service_account;
};
void pod_params_copy(struct pod_params *dst, const struct pod_params *src);
void pod_params_fini(struct pod_params *params); // of a copy
// With one reference for the caller. Copies the texts; takes over netns_fd.
struct pod *pod_new(const struct pod_params *params, int netns_fd);
struct pod *pod_ref(struct pod *pod);
void pod_unref(struct pod *pod); // NULL ok; any thread

// What the mesh knows of it, borrowed from the snapshot. NULL: nothing (yet), or a workload with
// another service account than the pod has.
struct workload *pod_workload(const struct pod *pod, const struct snapshot *snap);
struct workload *pod_params_workload(const struct pod_params *params, const struct snapshot *snap);

enum { POD_LISTENERS_MAX = 4 }; // listeners a pod and port: min(workers, this)

// One worker's share of a pod's sockets; -1 = none. DNS sockets are bound to 127.0.0.1 and ::1 on
// the loopback interface (packets of other pods do not reach them) and non-blocking.
struct pod_sockets {
    int outbound, inbound, hbone, socks; // 15001, 15006, 15008, 15080: listening, blocking (io.h)
    int dns_udp[2], dns_tcp[2]; // [0] IPv4, [1] IPv6
};

void pod_sockets_init(struct pod_sockets *sockets); // all -1
void pod_sockets_close(struct pod_sockets *sockets); // what is left in it
