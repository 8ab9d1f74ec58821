// SPDX-License-Identifier: Apache-2.0
//
// What the waypoint has to write into the Kubernetes API: which objects there are that it may have
// to say something about, and what that is once the object itself has been read.
//
//   GatewayClass of our controller, our Gateway, routes of services bound here: status
//   VirtualService, DestinationRule, AuthorizationPolicy: an Event for what of it is not in force
//   Service, ServiceEntry of an `auto` namespace: its binding (auto_bind.h)
//
// An object is looked at when it is new, or something changed that its answer depends on. Nothing
// here speaks to the API: kube_control.h does.
//
// Thread: control.
#pragma once

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/hmap.h"
#include "common/base/list.h"

struct mesh_builder;
struct proc_mesh;
struct waypoint_config;

enum kube_work_kind {
    KUBE_WORK_CLASS,
    KUBE_WORK_GATEWAY,
    KUBE_WORK_HTTP_ROUTE,
    KUBE_WORK_GRPC_ROUTE,
    KUBE_WORK_VIRTUAL_SERVICE,
    KUBE_WORK_DESTINATION_RULE,
    KUBE_WORK_AUTHORIZATION_POLICY,
    KUBE_WORK_SERVICE,
    KUBE_WORK_SERVICE_ENTRY,
    KUBE_WORK_N,
};

enum { KUBE_WORK_PROBLEM_MAX = 1024 }; // bytes of an Event's note, by the API

struct kube_work_item {
    struct hmap_node by_key;
    struct list in_queue;
    char *ns, *name;
    char *problem; // what is wrong with it; "" = nothing
    char *wanted; // the waypoint that it shall be bound to; "" = none
    uint64_t want, done; // what its answer depends on: as it is, as it was when it was written
    uint64_t not_before; // monotonic ns
    uint32_t n_failures, n_losses, n_looks;
    uint8_t kind; // enum kube_work_kind
    bool is_seen, was_applied, was_told;
    bool is_unread; // the object as it is cannot be read, for the problem
};

struct kube_work {
    const struct waypoint_config *config;
    const struct proc_mesh *mesh;
    struct mesh_builder *builder; // its
    struct hmap items;
    struct list queue; // struct kube_work_item.in_queue
    char manager[300]; // our field manager
};

void kube_work_init(struct kube_work *work, const struct waypoint_config *config,
                    const struct proc_mesh *mesh);
// By the builder and the current snapshot. `all`: everything is to be looked at again.
void kube_work_refresh(struct kube_work *work, bool all);
const char *kube_work_kind_text(const struct kube_work_item *item);
// Where the object is; a heap text.
char *kube_work_path(const struct kube_work_item *item);

struct kube_work_send {
    const char *method, *content_type;
    char *path; // heap
    json_t *body;
    bool is_event, is_binding;
};
enum kube_work_verdict {
    KUBE_WORK_DONE, // nothing is to be written
    KUBE_WORK_SEND, // *ret_send: the caller's
    KUBE_WORK_LOST, // somebody has taken away what was written: not now
    KUBE_WORK_OTHERS, // somebody else's binding is in the way
};
// `now_text`: RFC 3339.
enum kube_work_verdict kube_work_decide(struct kube_work *work, struct kube_work_item *item,
                                        const json_t *object, const char *now_text,
                                        struct kube_work_send *ret_send);
void kube_work_send_fini(struct kube_work_send *send);
