// SPDX-License-Identifier: Apache-2.0
//
// A snapshot: one consistent version of the mesh. The control thread builds the next from the
// current by path copying (cost in proportion to the change) and publishes its root; workers read
// the root inside an RCU read section (QSBR: a turn of the loop) and keep leaf references for what
// outlives it.
//
// Threads: snapshot_current() on any registered reader; everything else on the control thread.
#pragma once

#include "common/base/pmap.h"
#include "common/mesh/model.h"

enum { MESH_ALIASES_MAX = 8, MESH_ACCESS_LOG_FORMAT_MAX = 4095 };

struct mesh_settings { // from MeshConfig and flags
    char trust_domain[256], cluster_domain[256], root_namespace[64], cluster_id[64], network[64];
    char preferred_service_ns[64]; // PREFERED_SERVICE_NAMESPACE; "" = none
    char trust_domain_aliases[MESH_ALIASES_MAX]
                             [256]; // accepted like trust_domain; "" behind the last
    uint32_t connect_timeout_ms; // of plain TCP upstream; 0 = the program's default
    bool outbound_registry_only; // outboundTrafficPolicy REGISTRY_ONLY
    bool has_access_log, is_access_log_json; // accessLogFile, accessLogEncoding
    char access_log_format[MESH_ACCESS_LOG_FORMAT_MAX + 1]; // "" = the default one
};

enum { SNAPSHOT_RANGE_LENS = 33 + 129 };

struct snapshot {
    uint64_t generation; // grows by one per publication
    const struct mesh_settings *mesh; // shared, immutable
    struct pmap workloads; // uid -> workload
    struct pmap workloads_by_ip; // ip bytes (ip_key) -> workload (not host-network ones,
    // not those that are a host name)
    struct pmap services; // "ns/hostname" -> service
    struct pmap services_by_vip; // ip bytes -> service
    struct pmap services_by_range; // range_key -> service list
    uint32_t n_ranges[SNAPSHOT_RANGE_LENS]; // of those keys, by family and length: range_class
    struct pmap services_by_host; // hostname -> service list in preference order, see snapshot.c
    struct pmap services_by_node_port; // port, network order -> service list
    struct pmap nodes; // name -> node
    struct pmap nodes_by_ip; // ip bytes -> node
    struct pmap policies; // "ns/name" -> policy
    // Namespace ("" = global) -> list of namespace-scope policies; "NAMESPACE/" -> targeted ones.
    struct pmap policies_by_ns;
    struct pmap identities; // SPIFFE id -> identity
    struct pmap l7_routes; // service key -> leaf of a higher layer (struct leaf_ext), see
    struct pmap l7_policies; // builder_l7.h; no entry: the default
    // is_external wildcard hosts "*.example.com" are in services_by_host under ".example.com".
};

// All index tables (..._by_...) hold leaves in order of preference; the look-ups below take the
// first. workloads_by_ip: pods, then HBONE, then by uid. services_by_vip, _by_range and _by_host:
// canonical, then PREFERED_SERVICE_NAMESPACE, then by key; _by_host puts the asking client's own
// namespace first.

// RCU reader registration of a worker thread; the loop hooks call online/offline/quiescent. The
// control thread need not register, since only it frees roots: what it read stays until its next
// draft, publish or reclaim (which are quiescent states if it did register).
void snapshot_thread_register(void);
void snapshot_thread_unregister(void);
void snapshot_thread_offline(void);
void snapshot_thread_online(void);
void snapshot_quiescent(void);

const struct snapshot *snapshot_current(void); // never NULL after snapshot_init
void snapshot_init(const struct mesh_settings *mesh);
void snapshot_fini(void);

// Control thread: a draft starts as a copy of the current version; edits; publish (or drop).
struct snapshot *snapshot_draft(void);
void snapshot_publish(struct snapshot *draft); // the old root is freed after a grace period
// Frees old roots whose grace period is over; draft and publish do it too. Never waits.
void snapshot_reclaim(void);
void snapshot_drop(struct snapshot *draft);
void snapshot_set_workload(struct snapshot *draft, struct workload *workload); // takes the caller's
void snapshot_del_workload(struct snapshot *draft, const char *uid); // reference
void snapshot_set_service(struct snapshot *draft, struct service *service);
void snapshot_del_service(struct snapshot *draft, const char *key);
void snapshot_set_policy(struct snapshot *draft, struct policy *policy);
void snapshot_del_policy(struct snapshot *draft, const char *key);
void snapshot_set_identity(struct snapshot *draft, struct identity *identity);
void snapshot_del_identity(struct snapshot *draft, const char *spiffe_id);
void snapshot_set_node(struct snapshot *draft, struct node *node);
void snapshot_del_node(struct snapshot *draft, const char *name);
// The leaf's key is that of a service, which need not be there.
void snapshot_set_l7_routes(struct snapshot *draft, struct leaf *leaf);
void snapshot_del_l7_routes(struct snapshot *draft, const char *service_key);
void snapshot_set_l7_policy(struct snapshot *draft, struct leaf *leaf);
void snapshot_del_l7_policy(struct snapshot *draft, const char *service_key);
void snapshot_set_mesh(struct snapshot *draft, const struct mesh_settings *mesh);

// The two names mean the same in this mesh: equal, or so but for trust domains of which one is an
// alias of the other.
bool mesh_is_same_identity(const struct mesh_settings *mesh, struct slice a, struct slice b);
// Of all trust domains that are this mesh's, the own one first; NULL behind the last.
const char *mesh_trust_domain(const struct mesh_settings *mesh, size_t i);
bool mesh_is_trust_domain(const struct mesh_settings *mesh, struct slice trust_domain);

// Look-ups; results are borrowed for the read section (leaf_ref to keep).
struct workload *snapshot_workload_by_ip(const struct snapshot *snap, const struct ip *ip);
// Number `i` of all that have the address, in order of preference; NULL behind the last.
struct workload *snapshot_workload_by_ip_at(const struct snapshot *snap, const struct ip *ip,
                                            size_t i);
struct workload *snapshot_workload_by_uid(const struct snapshot *snap, const char *uid);
struct service *snapshot_service_by_vip(const struct snapshot *snap, const struct ip *ip);
// The first service with this VIP that has the port too; else the first with the VIP. (Load
// balancer addresses and those of ServiceEntries may be shared by services with different ports.)
// No such VIP: the same of the longest range with the address.
struct service *snapshot_service_by_addr(const struct snapshot *snap, const struct addr *addr);
struct service *snapshot_service(const struct snapshot *snap, const char *key);
// Hostname: exact, then wildcards from the longest suffix. `ns` = the client's namespace, which is
// preferred when several namespaces define the host ("" = none).
struct service *snapshot_service_by_host(const struct snapshot *snap, struct slice host,
                                         const char *ns);
struct node *snapshot_node_by_ip(const struct snapshot *snap, const struct ip *ip);
// The service that has this node port, or NULL.
struct service *snapshot_service_by_node_port(const struct snapshot *snap, uint16_t port);
struct policy *snapshot_policy(const struct snapshot *snap, const char *key);
struct identity *snapshot_identity(const struct snapshot *snap, const char *spiffe_id);
// What a higher layer compiled for the service with this key, or NULL.
struct leaf *snapshot_l7_routes(const struct snapshot *snap, struct slice service_key);
struct leaf *snapshot_l7_policy(const struct snapshot *snap, struct slice service_key);
// Visits the policies that apply to a workload, in the order global, namespace, selected.
void snapshot_policies_for(const struct snapshot *snap, const struct workload *workload,
                           bool (*fn)(void *arg, const struct policy *policy), void *arg);
// Visits the policies of a namespace that target something, in order of their names.
void snapshot_policies_targeted(const struct snapshot *snap, const char *ns,
                                bool (*fn)(void *arg, const struct policy *policy), void *arg);
