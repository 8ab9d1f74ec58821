// SPDX-License-Identifier: Apache-2.0
//
// The workload controllers: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job; garbage collection
// by owner. Each looks at what is there and takes the next step. Thread: supervisor.
#pragma once

#include "ctl/local_lab.h"

void lab_work_reconcile(struct lab *lab);
// Pods and counts of one owner.
struct lab_owned {
    uint32_t n, n_ready, n_active;
};
struct lab_owned lab_work_count(struct lab *lab, const struct lab_object *owner);
// From local_work_set.c
void lab_work_stateful_set(struct lab *lab, struct lab_object *set);
void lab_work_daemon_set(struct lab *lab, struct lab_object *set);
void lab_work_job(struct lab *lab, struct lab_object *job);
// A new pod document from a template; `name` or a random suffix behind the owner's name.
json_t *lab_work_pod(const struct lab_object *owner, const char *name);
// Short text of a template, as pod-template-hash.
void lab_work_hash(const json_t *template, char ret_hash[16]);
// Sets status fields; touches the object only when something changed.
void lab_work_status(struct lab *lab, struct lab_object *object, json_t *status);
