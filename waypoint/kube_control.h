// SPDX-License-Identifier: Apache-2.0
//
// The waypoint's side of the Kubernetes API that writes (--kube-status): one of the processes
// behind a Gateway is the leader (lease.h) and keeps up with what kube_work.h wants to be written,
// one object after the other, KUBE_CONTROL_RATE requests a second: what 500 routes have to be told
// at a start does not come all at once. What fails is tried again with back-off; what an object's
// new version makes unnecessary is not written.
//
// Nothing of traffic depends on it: without the API, or without the right to write, the waypoint
// serves all the same.
//
// Thread: control.
#pragma once

#include "common/mesh/kube_client.h"
#include "waypoint/kube_work.h"
#include "waypoint/lease.h"

struct json_out;
struct log_scope;

enum { // requests that look at objects and write them: as controllers do
    KUBE_CONTROL_RATE = 20, // a second
    KUBE_CONTROL_BURST = 30,
};

struct kube_control_params {
    struct loop *loop;
    struct kube_client *client; // outlives it
    const struct proc_mesh *mesh;
    const struct waypoint_config *config;
    const struct log_scope *scope;
};

struct kube_control {
    struct kube_control_params params;
    struct kube_work work;
    struct lease lease;
    struct rand rand;
    struct timer timer;
    struct kube_request lease_request, work_request;
    enum lease_step lease_step; // that is being asked
    struct kube_work_item *item; // that is being worked on; NULL: none
    struct kube_work_send send; // of it, once it is written; path NULL: it is being read
    uint64_t written_want; // of the item, when it was read
    uint64_t refresh_at, look_again_at;
    uint64_t free_at; // when all that was requested so far fits the rate
    char identity[320], lease_name[300];
    char problem[KUBE_TEXT_MAX]; // of the last request that failed; "" = it did not
    uint64_t n_written, n_failed;
    uint32_t forbidden; // kinds that we have no right to write, as was logged
    bool was_leader, is_stopping;
};

void kube_control_open(struct kube_control *kube, const struct kube_control_params *params);
// Something of the mesh has changed.
void kube_control_changed(struct kube_control *kube);
// Nothing more is written; the lease is given back.
void kube_control_stop(struct kube_control *kube);
// "statusWriter": {...}
void kube_control_dump(struct json_out *out, const struct kube_control *kube);
