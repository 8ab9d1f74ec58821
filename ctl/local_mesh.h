// SPDX-License-Identifier: Apache-2.0
//
// The `ztun` of each node: started in the node's namespace, started again when it ends.
#pragma once

#include "ctl/local_lab.h"

void lab_mesh_start(struct lab_node *node); // nothing with --no-mesh
// SIGTERM to all, SIGKILL after wait_ms; returns when they have ended.
void lab_mesh_stop_all(struct lab *lab, uint32_t wait_ms);
char *lab_mesh_log_path(const struct lab_node *node); // the caller frees
// True when the pod belongs to the mesh and its node's ztun has not yet taken it in: until then no
// container of it may start, as with a CNI plugin. Says so only for a limited time.
bool lab_mesh_must_wait(struct lab_pod *pod);
