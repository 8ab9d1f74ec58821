// SPDX-License-Identifier: Apache-2.0
//
// What `ztunctl local status` shows: {"ok", "lab", "nodes", "pods", "services", "notes"}.
#pragma once

#include <stdio.h>

#include "ctl/local_lab.h"

json_t *lab_status(struct lab *lab, const json_t *request); // new reference
// Client side: adds "mesh" ("Ready", or the reason) to each node, asked from port 15021 in the
// node's namespace; and to nodes and ready waypoint pods "pending": whether they have yet to read
// what was written before the call (their admin port's /status).
void lab_status_ask_mesh(json_t *status);
// True when all pods that are to run are ready, every node's ztun (lab_status_ask_mesh) is, and
// what was written when `status` was asked for is in force everywhere.
bool lab_status_is_ready(const json_t *status);
void lab_status_print(const json_t *status, FILE *out); // tables as of `kubectl get`
