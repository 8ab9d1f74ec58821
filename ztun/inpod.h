// SPDX-License-Identifier: Apache-2.0
//
// Enrolment of pods (control thread) with a helper thread that does what may block: entering
// network namespaces, making sockets, committing nftables rules and routes.
//
// Pods are found by us, as workloads with a namespace that has a name, or handed over by a node
// agent with a descriptor of it (zds_client.h); the steps are the same. The rules are ours
// (redirect), or somebody else's: then it is only looked whether they are there.
//
// Order (hard-cases.md): enrol = sockets, then rules. Un-enrol = nat rules, then the workers let
// the flows drain, then mangle rules and routes, then sockets. SIGTERM leaves the rules (fail
// closed). A pod that cannot be served is pending with a reason and retried; the same uid with
// another namespace inode is a new pod.
#pragma once

#include "common/mesh/model.h"
#include "common/rt/loop.h"
#include "ztun/pod.h"

struct inpod;

enum pod_down_reason {
    POD_DOWN_REMOVED, // the pod is gone: cut within 1 s
    POD_DOWN_UNENROLLED, // label taken away: flows run on, then inpod_pod_drained
};

struct inpod_config {
    struct loop *loop; // control loop
    uint32_t n_workers;
    uint16_t outbound_port, inbound_port, hbone_port, dns_port; // 15001 15006 15008 15053
    uint16_t socks_port; // 15080; 0 = none
    uint32_t mark; // 0x539
    uint16_t operator_ports[2]; // ours, in our own namespace: never captured there; 0 = none
    uint32_t keepalive_s, keepalive_interval_s, keepalive_probes; // of accepted sockets; 0 = off
    bool dns_capture; // redirect port 53
    bool redirect; // install rules; false: somebody else does (istio-cni)
    bool ipv6; // IPV6_ENABLED
    int original_source; // ENABLE_ORIG_SRC: 1 required, 0 never, -1 best effort
    struct ip probe_v4, probe_v6; // kubelet probe addresses that are never captured
    // Called on the control thread. sockets: n_sets of them; ownership passes.
    void (*on_up)(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets);
    // A pod that is up was not wanted any more, and is again before it went down: it stays. NULL
    // ok.
    void (*on_kept)(void *arg, struct pod *pod);
    // Its first attempt failed; it is pending, and tried again. NULL ok.
    void (*on_failed)(void *arg, const char *uid, const char *reason);
    // A pod that is removed while its flows drain after un-enrolment goes down a second time.
    void (*on_down)(void *arg, struct pod *pod, enum pod_down_reason reason);
    void *arg;
};

struct inpod_status { // for admin and readiness; without ztun itself
    uint32_t n_active, n_pending;
    uint64_t n_started, n_stopped;
};

struct inpod *inpod_new(const struct inpod_config *config);
// Leaves rules in place; sockets belong to the workers. One mail may still be on its way to the
// loop, which harmlessly runs later.
void inpod_free(struct inpod *inpod);
// The workload should be served (is local, enrolled, has a netns), has changed, or no longer.
void inpod_want(struct inpod *inpod, const struct workload *workload);
// The same in the process's own network namespace, whatever the workload says of one. is_self: it
// is the process itself, which has tunnels for its operator's ports and captures nothing.
void inpod_want_own(struct inpod *inpod, const struct workload *workload, bool is_self);
struct inpod_handed {
    struct pod_params params;
    int netns_fd; // ownership passes
};
// A pod that was handed over. Not again before inpod_unwant().
void inpod_want_handed(struct inpod *inpod, const struct inpod_handed *handed);
void inpod_unwant(struct inpod *inpod, const char *uid, enum pod_down_reason reason);
// The workload of a pod that drains since it was un-enrolled is gone, or going: so is the pod.
void inpod_workload_gone(struct inpod *inpod, const char *workload_uid);
// All workers have let go of an un-enrolled pod: takes the rest of its rules away. (After the
// removal of a pod that happens by itself when its flows have been cut.)
void inpod_pod_drained(struct inpod *inpod, uint64_t pod_id);
void inpod_get_status(const struct inpod *inpod, struct inpod_status *ret_status);
// False: it is served, and nothing redirects its connections to us, as far as we know (which is
// looked at every half minute, or five seconds while it is so).
bool inpod_is_redirected(const struct inpod *inpod, const char *uid);
// Why it is not served yet; NULL when it is, or is not wanted. Valid until the loop turns.
const char *inpod_pending_reason(const struct inpod *inpod, const char *uid);
// Visits pending pods with their reasons.
void inpod_each_pending(const struct inpod *inpod,
                        void (*fn)(void *arg, const char *uid, const char *reason, bool is_self),
                        void *arg);
