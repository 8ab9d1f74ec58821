// SPDX-License-Identifier: Apache-2.0
//
// Local pods as the control thread keeps them, found among the workloads (control_pods.c) or handed
// over by the node agent (control_handed.c).
#pragma once

#include "ztun/control.h"

struct served {
    struct hmap_node node; // control->pods by uid
    struct pod_params params; // a copy
    char *identity;
    struct workload *workload; // referenced; NULL: handed over, and not in the snapshot
    int netns_fd; // handed over, until it is wanted of inpod; else -1
    uint64_t pod_id; // 0 until it is up
    uint64_t since; // when it was first wanted
    bool is_handed;
    bool is_mismatched; // handed over, and the workload has another service account
    bool is_waiting; // for its certificate; its sockets are opened after that
    bool is_own; // control->own
    bool is_leaving; // deletionTimestamp was told to the workers
};

// An un-enrolled pod whose flows still run. Connections that its sockets have taken already need
// the identity, too.
struct draining {
    struct list node; // control->draining
    struct pod_params params; // a copy
    char *identity;
    uint64_t pod_id;
    uint32_t n_left; // workers that have flows of it
    bool is_handed;
};

struct served *served_find(struct control *control, const char *uid);
struct served *served_new(struct control *control, const struct pod_params *params,
                          const char *identity);
void served_set_identity(struct control *control, struct served *served, const char *identity);
// What the mesh says of it now; NULL: nothing.
void served_set_workload(struct control *control, struct served *served, struct workload *workload);
// Once it has its certificate, or has waited for it long enough: asks for its sockets.
void served_want(struct control *control, struct served *served);
// served NULL: only what drains since it was un-enrolled.
void served_end(struct control *control, struct served *served, const char *uid,
                enum pod_down_reason reason);

// control_handed.c. The snapshot, or what it is made of, has changed.
void control_handed_refresh(struct control *control, bool mesh_changed);
