// SPDX-License-Identifier: Apache-2.0
//
// A pod's life on its node, the part that kubelet plays: sandbox, init containers in order,
// containers, restarts with back-off, graceful deletion, and the status of the Pod object.
#pragma once

#include "ctl/local_lab.h"

#define LAB_POD(node) LIST_ITEM(node, struct lab_pod, link)

struct lab_pod *lab_pod_new(struct lab *lab, struct lab_object *object);
struct lab_pod *lab_pod_find(struct lab *lab, const char *ns, const char *name);
struct lab_ctr *lab_pod_ctr(struct lab_pod *pod, const char *name); // NULL name = the first
// Goes as far as it can without waiting; called whenever something may have changed.
void lab_pod_step(struct lab_pod *pod);
// Marks the object as being deleted; processes are told after that was written
// (lab_pods_begin_stops). grace_s < 0: the pod's own. Again: may shorten the time.
void lab_pod_delete(struct lab_pod *pod, long grace_s);
void lab_pods_begin_stops(struct lab *lab);
// At the end of the lab: processes, network and files go at once. Reaps all children.
void lab_pods_destroy_all(struct lab *lab);

bool lab_pod_is_ready(const struct lab_pod *pod);
bool lab_pod_is_active(const struct lab_pod *pod); // neither being deleted nor finished
const char *lab_pod_phase(const struct lab_pod *pod);
void lab_pod_write_status(struct lab_pod *pod); // into the object

// From the container's side.
void lab_pod_ctr_ended(struct lab_ctr *ctr);
void lab_pod_ctr_changed(struct lab_ctr *ctr); // started, ready or not
