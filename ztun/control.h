// SPDX-License-Identifier: Apache-2.0
//
// The control thread: sources, snapshots, identities, enrolment, drain, and the operator's
// endpoints. Workers never wait for it.
#pragma once

#include "common/proc/proc_admin.h"
#include "common/proc/proc_identity.h"
#include "common/proc/proc_life.h"
#include "common/proc/proc_log.h"
#include "common/proc/proc_mesh.h"
#include "common/proc/proc_xds.h"
#include "ztun/inpod.h"
#include "ztun/zds_client.h"
#include "ztun/ztun.h"

struct served;

// Who is served in the process's own network namespace.
struct control_own {
    const char *ns, *name, *service_account; // NULL: nobody
    bool is_self; // ztun itself, whose metrics are reached over HBONE
    struct served *served; // NULL: not now, and
    const char *problem, *told; // why; what of that the log has
};

struct control {
    struct ztun *ztun;
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct proc_mesh mesh;
    struct proc_identity identity;
    struct proc_xds *xds; // NULL: istiod is not asked
    struct proc_log log;
    struct proc_life life;
    struct proc_admin_servers servers;
    struct inpod *inpod;
    struct zds_client *zds; // NULL: pods are found among the workloads
    struct hmap pods; // served pods by uid: control_pods.c
    struct list draining; // un-enrolled pods with running flows
    uint32_t n_waiting_pods; // for their certificates
    struct control_own own;
    struct hmap wanted; // of istiod, by workers: control_demand.c
};

// Runs the control thread on the calling thread until the process shall end. Returns the exit code.
int control_run(struct ztun *ztun);
void control_pod_drained(struct control *control, uint64_t pod_id);
// SIGTERM and /quitquitquit.
void control_drain(struct control *control);
bool control_is_ready(const struct control *control, struct buf *ret_reasons);

// control_pods.c: what local workloads mean for identities, enrolment and workers.
void control_pods_init(struct control *control);
void control_pods_apply(struct control *control, const struct builder_changes *changes);
// Serves the pods whose certificates have come meanwhile.
void control_pods_settle(struct control *control);
// Discovery on demand: the workload in our own namespace.
void control_pods_want_own(struct control *control);
// Pods, without ztun itself, that wait for their certificates.
uint32_t control_pods_n_waiting(const struct control *control);
// A pod that is served, or about to be. Borrowed for the call.
struct control_pod {
    const char *uid, *ns, *name, *service_account, *identity;
    const char *netns; // "" = handed over by the node agent
    const char *pending; // why it is not served yet; NULL = it is
    bool has_workload; // it is in the snapshot
    bool is_redirected; // as inpod_is_redirected
};
// Visits all, sorted by uid.
void control_pods_each(const struct control *control,
                       void (*fn)(void *arg, const struct control_pod *pod), void *arg);
// Callbacks of inpod.
void control_pod_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets);
void control_pod_kept(void *arg, struct pod *pod);
void control_pod_failed(void *arg, const char *uid, const char *reason);
void control_pod_down(void *arg, struct pod *pod, enum pod_down_reason reason);

// control_handed.c: connects to the node agent, whose pods are served from then on.
void control_handed_open(struct control *control);

// admin.c: what the admin and readiness servers answer; arg = control.
proc_admin_fn admin_serve, admin_readiness;
