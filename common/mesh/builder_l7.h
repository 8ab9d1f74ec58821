// SPDX-License-Identifier: Apache-2.0
//
// What a waypoint compiles of its L7 resources. The builder finds the objects that concern each
// service and calls the operations below; their leaves go into the snapshot's tables l7_routes and
// l7_policies under the key of the service ("ns/hostname"), where workers find them.
//
// A service is a Kubernetes Service or one host of a ServiceEntry. Its routes are compiled again
// when one of the objects of `virtual_services`, `routes` or a delegate they looked up changed,
// comes or goes, or a ReferenceGrant of a namespace whose Services the routes name, or when
// something of the service but its endpoints changed. Its policy: when `destination_rules` or
// `authz` or anything of the service changed, endpoints too. Both: when the mesh's settings
// changed. Nothing else causes a call, so a leaf must not depend on anything else: it names other
// services by host, and looks them up when it is used.
//
// Thread: control, inside builder_commit().
#pragma once

#include "common/mesh/builder.h"
#include "common/mesh/kobj_l7.h"
#include "common/mesh/model.h"

struct builder_l7_input {
    const struct mesh_settings *mesh;
    const struct mesh_config
        *config; // MeshConfig as decoded, for its defaults; NULL: there is none
    const char *proxy_ns; // builder_options.proxy_namespace, or the service's
    const struct service *service;

    // For routes. VirtualServices of the proxy's or the service's namespace for the mesh (not those
    // of gateways alone), exported to one of the two, one host of which is the service's or a
    // wildcard that covers it: most specific host first, then oldest, then by name.
    // virtual_hosts[i] is that host, in full.
    const struct kobj *const *virtual_services;
    const char *const *virtual_hosts;
    uint32_t n_virtual_services;
    // HTTPRoutes and GRPCRoutes of the service's namespace with a parentRef to the service's object
    // (oldest first, then by name). Those of other namespaces are the consumers' own.
    const struct kobj *const *routes;
    uint32_t n_routes;

    // For the policy. DestinationRules of the first namespace that has any for the service (the
    // proxy's, the service's, the root namespace), with its most specific host: all of that host,
    // oldest first, which is the order in which they are merged. Those with a workloadSelector are
    // left out, as a waypoint serves all clients.
    const struct kobj *const *destination_rules;
    uint32_t n_destination_rules;
    // AuthorizationPolicies that target the service's object, the Gateway of its waypoint, or (in
    // the root namespace) that Gateway's class; in order of "ns/name". Where the waypoint does not
    // evaluate them it has to refuse the service's traffic.
    const struct kobj *const *authz;
    uint32_t n_authz;

    // A VirtualService by name; NULL when there is none that is a delegate (has no hosts) and is
    // exported to the namespace `from`. ns "" = that of `from`.
    const struct kobj *(*delegate)(const struct builder_l7_input *in, const struct kobj *from,
                                   const char *ns, const char *name);
    // Whether a ReferenceGrant of another namespace lets the route use a Service of it. Routes are
    // compiled again when that may have changed.
    bool (*is_granted)(const struct builder_l7_input *in, const struct kobj *route, const char *ns,
                       const char *name);
    // Attaches a problem to one of the objects of the input, for as long as the result of this call
    // is in use.
    void (*problem)(const struct builder_l7_input *in, const struct kobj *obj, const char *fmt, ...)
        PRINTF_LIKE(3, 4);
};

struct builder_l7_ops {
    void *arg;
    // The leaf's key is service->leaf.key (a copy that lives as long as the leaf: the service's
    // does not). The reference is taken. NULL: no entry, which means the default.
    struct leaf *(*routes)(void *arg, const struct builder_l7_input *in);
    struct leaf *(*policy)(void *arg, const struct builder_l7_input *in);
};
