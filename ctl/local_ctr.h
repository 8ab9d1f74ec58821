// SPDX-License-Identifier: Apache-2.0
//
// A container: a process in its pod's network, PID, UTS and IPC namespaces with a mount namespace
// of its own. Its pod decides when it starts and what its end means (local_pod.h).
#pragma once

#include "ctl/local_lab.h"

// What a child process of the supervisor becomes before it runs its program.
struct lab_spawn {
    struct lab_pod *pod;
    const struct rootfs *rootfs; // NULL: enter the mount namespace of join_fd's process instead
    int join_fd; // pidfd
    char *const *argv, *const *env;
    const char *cwd; // NULL = /
    int out_fd; // stdout and stderr
    int report_fd; // an error text is written here; closed by exec. -1 = none
    long uid, gid; // -1 = unchanged
};
// The process, or -errno.
MUST_USE pid_t lab_spawn(const struct lab_spawn *spawn);

// Starts the process. -EAGAIN and others: it did not start, pod->waiting_message says why.
MUST_USE int lab_ctr_start(struct lab_ctr *ctr);
// preStop, then SIGTERM; the caller has a deadline for SIGKILL.
void lab_ctr_stop(struct lab_ctr *ctr);
void lab_ctr_kill(struct lab_ctr *ctr);
// Stops timers and watches; the process, if any, is not touched.
void lab_ctr_fini(struct lab_ctr *ctr);
// Runs a command in the running container; output goes nowhere. The process, or -errno.
MUST_USE pid_t lab_ctr_exec(struct lab_ctr *ctr, const json_t *command);
bool lab_ctr_is_running(const struct lab_ctr *ctr);
const char *lab_ctr_waiting_reason(const struct lab_ctr *ctr);
