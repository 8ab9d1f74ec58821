// SPDX-License-Identifier: Apache-2.0
//
// Inside the builder: records of objects, and which leaves they have.
#pragma once

#include <string.h>

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/mesh/builder.h"
#include "common/mesh/builder_locals.h"
#include "common/mesh/kobj.h"

struct record;
struct bsvc_l7;

// A workload leaf and the services that list it.
struct bwl {
    struct hmap_node by_uid;
    struct list in_record;
    struct list members; // struct member.in_workload
    struct record *record;
    struct workload *leaf;
    uint64_t seen_by; // serial of the last endpoint_set that took it
    bool is_stale; // not seen again in the rebuild of its record
};

// A service leaf (a ServiceEntry has one for each host).
struct bsvc {
    struct hmap_node by_host;
    struct list in_record;
    struct record *record;
    char *key; // "ns/hostname"
    struct list in_l7; // mesh_builder.l7_dirty
    struct bsvc_l7 *l7; // what was compiled; NULL = nothing yet
    uint64_t shape; // of the leaf without its endpoints
    uint8_t l7_dirty;
    bool has_shape;
    struct member *members;
    size_t n_members;
    bool is_stale;
};

struct member {
    struct list in_workload;
    struct bsvc *service;
};

struct bns { // a namespace in which there are objects
    struct hmap_node by_name;
    char *name;
    struct list records[KOBJ_N_KINDS]; // struct record.in_ns
    struct hmap label_pairs; // builder_labels.c
    size_t n_records;
};

// What few records have: Pods, which are most, mostly have none of it.
struct record_more {
    struct kobj_map labels; // a WorkloadEntry's, merged: of its metadata and its spec
    struct list services; // struct bsvc
    struct list l7_refs, l7_problems; // what an L7 object names; builder_l7_index.c, builder_l7.c
    char *gateway_ns, *gateway; // the waypoint that is bound to it, NULL = none
    uint64_t need; // what makes it need a waypoint, when record.is_auto; 0 = nothing
    char *policy; // key of the policy leaf, NULL = none
    char **problems;
    size_t n_problems;
};

struct record {
    struct hmap_node by_key;
    struct list in_ns, in_dirty;
    struct bns *ns;
    struct kobj *obj; // NULL: deleted, goes at the next commit
    const char *name; // the object's own text; a copy when it is deleted
    const struct record_more *more; // never NULL; to change it: builder_more()
    struct label_ref *label_refs; // where it is listed: builder_labels.c
    struct list workloads; // struct bwl
    uint32_t n_label_refs;
    uint8_t kind;
    bool is_auto; // a service of a namespace with ztun.io/use-waypoint: auto
    bool has_node; // node leaf
    bool is_dirty;
    bool is_istiod; // no object's: in mesh_builder.istiod_services
    bool is_by_address; // has endpoints that are looked up by address, or whose pod is missing
};

// Order of rebuilding: later classes look at the results of earlier ones.
enum dirty_class { DIRTY_NODES, DIRTY_POLICIES, DIRTY_WORKLOADS, DIRTY_SERVICES, N_DIRTY };

struct mesh_builder {
    struct mesh_settings defaults, mesh;
    const struct mesh_config *config; // MeshConfig, of a record's object; NULL: there is none
    uint64_t config_hash; // of that object
    char *node;
    struct hmap records, namespaces, workloads, resolved, allocated;
    struct hmap services; // struct bsvc.by_host
    struct hmap l7_refs;
    struct xds_store *istiod; // builder_istiod.h; NULL: leaves are made of objects
    struct hmap istiod_services; // struct record.by_key
    struct list dirty[N_DIRTY];
    struct list l7_dirty; // struct bsvc.in_l7
    const struct builder_l7_ops *l7;
    char *proxy_ns; // NULL = each service's own
    const char *mesh_config; // of the options
    size_t n_peer_auths;
    bool has_static_strict; // is published
    bool is_mesh_dirty, has_targeted;
    bool are_addresses_dirty; // another workload may have an address now
    bool has_changes, policies_changed, workloads_changed, services_changed, settings_changed;
    bool mesh_changed;
    struct snapshot *draft; // while committing
    struct bns *last_ns; // that was found, or NULL
    const struct bwl *last_put; // or NULL; the next one has probably much in common with it
    struct { // the answer to the last question for a namespace's object
        char name[64];
        const struct record *record; // NULL: it has none
        bool is_known;
    } ns_memo;
    uint64_t n_sets;
    struct builder_locals locals; // of the commit that runs
};

// builder_record.c
uint64_t record_hash(enum kobj_kind kind, const char *ns, const char *name);
struct record *record_new(struct mesh_builder *b, const struct kobj *obj, const char *ns);
void record_free(struct mesh_builder *b, struct record *record); // without an object
// Puts `obj` (referenced here; NULL: deleted) in place of the record's object. What was there is
// the caller's until record_let_go(): the object, and its labels.
struct kobj *record_take(struct record *record, struct kobj *obj, struct kobj_map *ret_labels);
void record_let_go(const struct record *record, struct kobj *old, const struct kobj_map *labels);
struct record_more *builder_more(struct record *record);
// Of its object; none when it is deleted.
const struct kobj_map *record_labels(const struct record *record);
void record_set_gateway(struct record *record, const char *ns, const char *name); // NULL = none
// Stands for a service that istiod tells of; in no list of its namespace. builder_istiod.c
struct record *record_new_istiod(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                 const char *name);
void builder_problem(struct record *record, const char *fmt, ...) PRINTF_LIKE(2, 3);
void record_clear_problems(struct record *record);

// builder.c
struct record *builder_find(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                            const char *name);
struct bns *builder_ns(struct mesh_builder *b, const char *name, bool create);
const struct kobj *builder_ns_obj(struct mesh_builder *b, const char *ns); // or NULL
void builder_mark(struct mesh_builder *b, struct record *record);
// Puts the leaf (its reference is taken) in place of the record's workload with that uid.
struct bwl *builder_put_workload(struct mesh_builder *b, struct record *record,
                                 struct workload *leaf);
void builder_drop_workload(struct mesh_builder *b, struct bwl *wl);
struct bwl *builder_workload(struct mesh_builder *b, struct slice uid);
// A leaf that the record's next one has probably much in common with, or NULL.
const struct workload *builder_like(const struct mesh_builder *b, const struct record *record);
// The pod or WorkloadEntry with this address, or NULL.
struct bwl *builder_workload_by_ip(struct mesh_builder *b, const struct ip *ip);
bool builder_is_node_ip(const struct mesh_builder *b, const struct ip *ip);

// builder_labels.c: after each change of record->obj and record->labels.
void builder_index_labels(struct record *record);
// Services, ServiceEntries and AuthorizationPolicies of the namespace whose selector matches. fn
// changes no object.
void builder_each_selecting(const struct bns *ns, const struct kobj_map *labels,
                            void (*fn)(void *arg, struct record *record), void *arg);
// The same for a Pod or WorkloadEntry that is in the index: without a search.
void builder_each_selecting_record(const struct record *record,
                                   void (*fn)(void *arg, struct record *record), void *arg);
// Pods and WorkloadEntries of the namespace that the selector matches (empty: all).
void builder_each_selected(const struct bns *ns, const struct kobj_map *selector,
                           void (*fn)(void *arg, struct record *record), void *arg);

// builder_workload.c
void builder_build_pod(struct mesh_builder *b, struct record *record);
void builder_build_entry(struct mesh_builder *b, struct record *record);
// The leaf of a WorkloadEntry's spec, of its own object or inline in a ServiceEntry.
struct workload *builder_entry_leaf(struct mesh_builder *b, struct record *record,
                                    const struct kobj_workload_entry *entry, const char *uid,
                                    const char *name, const struct kobj_map *labels);
struct builder_bare { // an endpoint that is no pod
    const char *uid, *name, *ns, *node, *zone;
    struct ip ip;
};
struct workload *builder_bare_leaf(struct mesh_builder *b, const struct builder_bare *bare);

// builder_resolve.c
size_t builder_resolved(struct mesh_builder *b, const char *hostname, const struct ip **ret_ips);
// VIPs from 240.240.0.0/16 and 2001:2::f0f0:0/112 for a host without addresses.
void builder_allocate(struct mesh_builder *b, const char *key, struct ip ret_ips[2]);
void builder_unallocate(struct mesh_builder *b, const char *key);
void builder_resolve_fini(struct mesh_builder *b);

// builder_endpoints.c: collects the endpoints of a service leaf.
struct endpoint_set {
    struct mesh_builder *b;
    struct record *record;
    const struct service *spec; // its ports
    uint64_t serial;
    struct endpoint *items;
    struct bwl **workloads; // one for each item
    uint16_t *target_ports; // n_ports for each item
    size_t n, cap;
};
void endpoint_set_init(struct endpoint_set *set, struct mesh_builder *b, struct record *record,
                       const struct service *spec);
void endpoint_set_fini(struct endpoint_set *set);
// Fails quietly when the workload is there already; then *ret_ports is NULL. Else the caller fills
// the target ports.
void endpoint_set_add(struct endpoint_set *set, struct bwl *wl, const struct ip *ip, bool is_ready,
                      uint16_t **ret_ports);
// Pods and WorkloadEntries of the record's namespace that the selector matches.
void endpoint_set_select(struct endpoint_set *set, const struct kobj_map *selector,
                         bool without_pods);
// EndpointSlices or Endpoints of a Kubernetes Service; false: there are none.
bool endpoint_set_from_slices(struct endpoint_set *set, const char *service_name);
// Publishes the leaf of `spec` with these endpoints.
void endpoint_set_publish(struct endpoint_set *set, struct service *spec);

// builder_service.c, builder_entry.c
void builder_build_service(struct mesh_builder *b, struct record *record);
void builder_build_service_entry(struct mesh_builder *b, struct record *record);
void builder_begin_services(struct record *record); // all leaves stale ...
void builder_end_services(struct mesh_builder *b, struct record *record); // ... the rest goes
uint8_t builder_app_protocol(const char *app_protocol, const char *port_name);

// builder_policy.c, builder_peer.c
void builder_build_policy(struct mesh_builder *b, struct record *record);
void builder_build_peer(struct mesh_builder *b, struct record *record);
void builder_put_policy(struct mesh_builder *b, struct record *record, struct policy *policy);
void builder_drop_static_strict(struct mesh_builder *b, const char *root);
void builder_settle_static_strict(struct mesh_builder *b); // last thing of a commit
// Keys of the policies that select a workload, heap texts appended to a list.
struct key_list {
    char **items;
    size_t n, cap;
};
void key_list_add(struct key_list *list, const char *fmt, ...) PRINTF_LIKE(2, 3);
void key_list_fini(struct key_list *list);
void builder_policies_of(struct mesh_builder *b, const struct record *workload,
                         struct key_list *ret_keys);
void builder_peers_of(struct mesh_builder *b, const char *ns, const struct kobj_map *labels,
                      struct key_list *ret_keys);

static inline const char *bsvc_host(const struct bsvc *service) {
    return strchr(service->key, '/') + 1;
}

// builder_waypoint.c
// The service key (or IP address) of the waypoint that is bound to the object, or "". `type`:
// "service" or "workload", as in istio.io/waypoint-for.
const char *builder_waypoint(struct mesh_builder *b, struct record *record, const char *type,
                             char key[512]);
// After that, for a service: sets its canary, if it has one that can be used.
void builder_canary(struct mesh_builder *b, struct record *record, struct service *spec,
                    char key[512]);
// What it means for the Service of that name to be a waypoint's. Texts are borrowed.
void builder_set_waypoint(struct mesh_builder *b, const char *ns, const char *name,
                          struct service *spec);
// Notes the Gateway that a binding of istiod's ("ns/host" of its Service, "": none) means.
void builder_bind_key(struct mesh_builder *b, struct record *record, const char *key);
// Whether this pod is a waypoint that speaks no HBONE: ambient.istio.io/waypoint-inbound-binding
// of its Gateway, or of the Gateway's class.
void builder_app_tunnel(struct mesh_builder *b, struct record *pod, struct workload *spec);
bool builder_is_auto_ns(struct mesh_builder *b, const char *ns);
// Marks what a Gateway or GatewayClass that changed may be bound to.
void builder_gateway_changed(struct mesh_builder *b, const struct record *gateway,
                             const struct kobj *old);
void builder_class_changed(struct mesh_builder *b, const char *class_name);
// Marks the services of which what was touched changes the need of a waypoint.
void builder_l7_rebind(struct mesh_builder *b);

// builder_l7.c: what is compiled of L7 objects for each service.
// `record` is an L7 object that changed, comes or goes.
void builder_l7_changed(struct mesh_builder *b, struct record *record);
void builder_l7_touch_all(struct mesh_builder *b);
void builder_l7_built(struct mesh_builder *b, struct bsvc *service, const struct service *spec);
void builder_l7_gone(struct mesh_builder *b, struct bsvc *service);
void builder_l7_compile(struct mesh_builder *b);
void builder_l7_forget(struct record *record); // it goes
bool builder_l7_each_problem(const struct record *record,
                             bool (*fn)(void *arg, const struct builder_problem *problem),
                             void *arg);

// builder_istiod.c
struct record *builder_istiod_record(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                     const char *name); // NULL: istiod has no such service
void builder_istiod_changed(struct mesh_builder *b, struct record *object); // comes, or goes
void builder_istiod_gateway_changed(struct mesh_builder *b, const struct record *gateway,
                                    const struct kobj *old);
void builder_istiod_fini(struct mesh_builder *b);

// builder_mark.c: what a change of one object touches.
void builder_mark_dependents(struct mesh_builder *b, struct record *record, const struct kobj *old,
                             const struct kobj_map *old_labels);
void builder_mark_workload_users(struct mesh_builder *b, struct bwl *wl);
void builder_mark_by_address(struct mesh_builder *b);
void builder_mark_all(struct mesh_builder *b);
