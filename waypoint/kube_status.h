// SPDX-License-Identifier: Apache-2.0
//
// What the status of Gateway API objects has to say about this waypoint, by the rules of the
// Gateway API: conditions by type, lastTransitionTime only when a condition's status changes,
// observedGeneration, and in routes one entry for each parent and controller, of which only ours
// are touched.
//
// Pure. Objects are as the API has them (JSON); what is returned is the whole `status`, as a new
// reference, or NULL when the object has it already.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define KUBE_STATUS_CONTROLLER "ztun.io/waypoint-controller"
#define KUBE_STATUS_CLASS "ztun-waypoint"

// GatewayClass: Accepted. NULL also when its controller is another one.
json_t *kube_status_class(const json_t *object, const char *now);

struct kube_status_gateway {
    const char *now; // RFC 3339
    const char *hostname; // of the waypoint's Service; NULL: there is none
    const char *const *ips; // its cluster addresses, as texts
    size_t n_ips;
    bool is_serving; // a process is ready behind it
    const char *unread; // why the Gateway as it is cannot be read; NULL or "" = it can
};
// Gateway: addresses, Accepted, Programmed, and both for each listener. Addresses that were told
// once stay, whatever becomes of the Service: without one istiod would let traffic pass by the
// waypoint, and with it by its policies.
json_t *kube_status_gateway(const json_t *object, const struct kube_status_gateway *in);

enum kube_parent {
    KUBE_PARENT_OTHERS, // nothing of ours
    KUBE_PARENT_SERVED, // a service that is bound to this waypoint
    KUBE_PARENT_GATEWAY, // the waypoint's Gateway, to which nothing attaches
};
enum kube_backend {
    KUBE_BACKEND_FOUND,
    KUBE_BACKEND_MISSING,
    KUBE_BACKEND_UNKNOWN_KIND,
    KUBE_BACKEND_NOT_PERMITTED, // of another namespace, without a ReferenceGrant of that
};

struct kube_status_ref { // "" = not said
    const char *group, *kind, *ns, *name; // defaults of the API are in place
};
struct kube_status_route {
    const char *now;
    const char *problem; // what of it is not in force, as a sentence; "" = nothing
    bool is_unread; // none of it as it is: it cannot be read, for the problem
    enum kube_parent (*parent)(void *arg, const struct kube_status_ref *ref);
    enum kube_backend (*backend)(void *arg, const struct kube_status_ref *ref);
    void *arg;
};
// HTTPRoute, GRPCRoute: Accepted, ResolvedRefs, and PartiallyInvalid while something is.
json_t *kube_status_route(const json_t *object, const struct kube_status_route *in);

// A field of an object's metadata; "" when it is not there.
const char *kube_status_meta(const json_t *object, const char *key);
