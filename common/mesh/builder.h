// SPDX-License-Identifier: Apache-2.0
//
// From Kubernetes and Istio objects to snapshots: what istiod does for ztunnel, without istiod.
//
// The builder keeps the current objects and what depends on what. A change (builder_set,
// builder_del) marks what it touches; builder_commit() rebuilds just that and publishes one
// snapshot. Whatever the order of changes, the result is that of a fresh builder with the same
// objects. Cost: leaves are rebuilt in proportion to the change; finding them looks at the objects
// of the same namespace and kind.
//
// What cannot be meant (a policy action that L4 does not have, a waypoint that does not exist) is
// built without it, fail closed where it concerns policy, and reported as a problem of its object.
//
// Thread: control.
#pragma once

#include "common/mesh/kobj.h"
#include "common/mesh/snapshot.h"

struct config_diff;
struct mesh_builder;
struct builder_l7_ops; // builder_l7.h

struct builder_options {
    struct mesh_settings mesh; // what MeshConfig does not set
    // The ConfigMap that has MeshConfig; NULL: any, `istio` first. Outlives the builder.
    const char *mesh_config;
    const char *node; // local workloads are those of this node; "" = none
    bool has_targeted; // a waypoint's: policies with targetRefs are built too
    // A waypoint's: what it compiles (NULL: nothing), and its namespace (NULL: each service is
    // served as by a waypoint of its own namespace).
    const struct builder_l7_ops *l7;
    const char *proxy_namespace;
};

// snapshot_init() must have been called.
struct mesh_builder *builder_new(const struct builder_options *options);
void builder_free(struct mesh_builder *builder); // publishes nothing

// Adds or replaces (same kind, namespace, name); keeps a reference. Kinds that mean nothing here
// are ignored.
void builder_set(struct mesh_builder *builder, struct kobj *obj);
void builder_del(struct mesh_builder *builder, const struct kobj *obj);

// A local pod (node == options.node) that came, went or changed.
enum builder_event { BUILDER_ADDED, BUILDER_CHANGED, BUILDER_REMOVED };
struct builder_local {
    uint8_t event; // enum builder_event
    struct workload *workload; // the new one, or the one that went; referenced by the list
    struct workload *old; // CHANGED: what it was; NULL else; referenced by the list
};
struct builder_changes {
    uint64_t generation; // of the snapshot that was published; 0 = nothing changed
    struct builder_local *locals;
    size_t n_locals;
    // What live flows must be checked against again: policies or the policy lists of workloads;
    // the set of workloads; how services are talked to (builder_l7_ops.policy).
    bool policies_changed, workloads_changed, services_changed, settings_changed, mesh_changed;
};
// Publishes what was marked since the last commit. The caller frees with builder_changes_fini.
void builder_commit(struct mesh_builder *builder, struct builder_changes *ret_changes);
void builder_changes_fini(struct builder_changes *changes);
// builder_set and builder_del for all of a diff, then builder_commit.
void builder_apply(struct mesh_builder *builder, const struct config_diff *diff,
                   struct builder_changes *ret_changes);

// ServiceEntry endpoints that are host names: names to resolve, and where the answers go (they take
// effect at the next commit; n == 0: no address any more).
void builder_each_hostname(struct mesh_builder *builder,
                           bool (*fn)(void *arg, const char *hostname), void *arg);
void builder_set_resolved(struct mesh_builder *builder, const char *hostname, const struct ip *ips,
                          size_t n);

// Problems of the objects as they are now.
struct builder_problem {
    const struct kobj *obj;
    const char *text; // one sentence
};
void builder_each_problem(struct mesh_builder *builder,
                          bool (*fn)(void *arg, const struct builder_problem *problem), void *arg);

// The objects of one kind, and one of them (ns "" for kinds without; NULL: not there).
void builder_each_object(struct mesh_builder *b, enum kobj_kind kind,
                         bool (*fn)(void *arg, const struct kobj *obj), void *arg);
const struct kobj *builder_object(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                  const char *name);
// Whether a ReferenceGrant of namespace `ns` lets the routes of a kind ("HTTPRoute") of namespace
// `from_ns` use its Service `name`.
bool builder_is_granted(struct mesh_builder *b, const char *kind, const char *from_ns,
                        const char *ns, const char *name);
// Services and ServiceEntries of the namespace, but those of gateways: the waypoint that
// ztun.io/use-waypoint: auto means for it now, "" = none, or the namespace does not say that.
void builder_each_auto(struct mesh_builder *b, const char *ns,
                       bool (*fn)(void *arg, const struct kobj *obj, const char *waypoint),
                       void *arg);

// AuthorizationPolicies with targetRefs, which are a waypoint's to enforce.
void builder_each_waypoint_policy(struct mesh_builder *builder,
                                  bool (*fn)(void *arg, const struct kobj *policy), void *arg);
