// SPDX-License-Identifier: Apache-2.0
//
// The control thread: sources, snapshots, the waypoint's certificate, its listener, drain, and the
// operator's endpoints. Workers never wait for it.
#pragma once

#include "common/proc/proc_admin.h"
#include "common/proc/proc_identity.h"
#include "common/proc/proc_kube.h"
#include "common/proc/proc_life.h"
#include "common/proc/proc_log.h"
#include "common/proc/proc_mesh.h"
#include "common/proc/proc_xds.h"
#include "waypoint/waypoint.h"

struct control {
    struct waypoint *waypoint;
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct proc_mesh mesh;
    struct proc_xds *xds; // istiod's discovery; NULL: it is not asked
    struct kube_control *writer; // what is written into the Kubernetes API; NULL: nothing
    struct proc_kube kube;
    struct proc_identity identity;
    struct proc_log log;
    struct proc_life life;
    struct proc_admin_servers servers;
    char *wanted; // the identity that certificates are wanted for
    bool is_listening, has_failed;
};

// Runs the control thread on the calling thread until the process shall end. Returns the exit code.
int control_run(struct waypoint *waypoint);
// SIGTERM and /quitquitquit.
void control_drain(struct control *control);
bool control_is_ready(const struct control *control, struct buf *ret_reasons);

// admin.c: what the admin and readiness servers answer; arg = control.
proc_admin_fn admin_serve, admin_readiness;
