// SPDX-License-Identifier: Apache-2.0
//
// The control thread: sources, snapshots, the waypoint's certificate, its listener, drain, and the
// operator's endpoints. Workers never wait for it.
#pragma once

#include "common/proc/proc_admin.h"
#include "common/proc/proc_identity.h"
#include "common/proc/proc_log.h"
#include "common/proc/proc_memory.h"
#include "common/proc/proc_mesh.h"
#include "common/rt/signals.h"
#include "waypoint/waypoint.h"

enum control_state { CONTROL_STARTING, CONTROL_RUNNING, CONTROL_DRAINING, CONTROL_CUTTING };

struct control {
    struct waypoint *waypoint;
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct proc_mesh mesh;
    struct proc_identity identity;
    struct proc_log log;
    struct proc_memory memory;
    struct proc_admin_servers servers;
    struct signals signals;
    struct timer tick_timer, drain_timer;
    uint64_t drain_deadline, last_expire;
    char *wanted; // the identity that certificates are wanted for
    uint8_t state; // enum control_state
    bool is_listening, has_failed;
};

// Runs the control thread on the calling thread until the process shall end. Returns the exit code.
int control_run(struct waypoint *waypoint);
// SIGTERM and /quitquitquit.
void control_drain(struct control *control);
bool control_is_ready(const struct control *control, struct buf *ret_reasons);

// admin.c: what the admin and readiness servers answer; arg = control.
proc_admin_fn admin_serve, admin_readiness;
