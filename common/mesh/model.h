// SPDX-License-Identifier: Apache-2.0
//
// The mesh as workers see it: immutable leaves (workload, service, policy, identity), held by the
// persistent tables of a snapshot (snapshot.h). Whatever the source (files, xDS), the same leaves.
//
// A leaf is built by the control thread, frozen, and then only read. Its count is atomic: a flow
// keeps a reference on the leaves it uses (leaf_ref/leaf_unref), so that logs and metrics stay
// right while tables change. All texts are NUL-terminated and live as long as the leaf.
#pragma once

#include <stdatomic.h>

#include "common/base/addr.h"
#include "common/base/slice.h"
#include "common/tls/tls_ctx.h"

enum leaf_kind {
    LEAF_WORKLOAD,
    LEAF_SERVICE,
    LEAF_POLICY,
    LEAF_IDENTITY,
    LEAF_NAMESPACE,
    LEAF_NODE,
    LEAF_EXT, // of a higher layer: struct leaf_ext
};

struct leaf {
    atomic_uint refs;
    uint8_t kind; // enum leaf_kind
    struct slice key; // unique in its table
};
void leaf_ref(void *leaf);
void leaf_unref(void *leaf); // NULL ok; any thread

enum workload_protocol { WORKLOAD_TCP, WORKLOAD_HBONE };

struct locality {
    const char *region, *zone, *subzone; // "" when unknown
};

struct label {
    const char *key, *value;
};

struct named_port { // container ports, for target ports by name
    const char *name;
    uint16_t port;
};

struct workload_local { // what is of use on the workload's own node only
    const char *netns; // annotation ztun.io/netns, "" = not a local pod of this machine
    // The pod's whole search list when its dnsPolicy or dnsConfig sets one, NULL-terminated; NULL:
    // the usual NS.svc.DOMAIN, svc.DOMAIN, DOMAIN.
    const char *const *dns_search;
    const char *const *nameservers; // annotation ztun.io/nameservers, NULL-terminated or NULL
    const char *virtual_interfaces; // istio.io/reroute-virtual-interfaces, as written
};

enum app_tunnel { APP_TUNNEL_ABSENT, APP_TUNNEL_PLAIN, APP_TUNNEL_PROXY };

// What workloads of one set (a Deployment, say) mostly have in common: there is one of it for all
// leaves in which it is the same.
struct workload_common {
    const char *ns, *service_account, *trust_domain, *cluster, *network;
    const char *canonical_revision, *version;
    // Read them by workload_owner_name() and the like: one that is the workload's own name is "" in
    // a leaf, so that those that differ in nothing else have the same in common.
    const char *canonical_name, *app, *owner_name;
    const char *owner_type; // "deployment" | "cronjob" | "job" | "pod"
    const char *identity; // "spiffe://td/ns/NS/sa/SA"
    const char *hostname; // WorkloadEntry with a DNS name; "" else
    // Waypoint that is bound to the workload itself: service key "ns/hostname", or an IP address,
    // "" = none.
    const char *waypoint;
    struct locality locality;
    const struct label *labels;
    const struct named_port *ports;
    const char *const *policies; // "ns/name" of selector policies that select it
    // Few have any of it: never NULL in a leaf; NULL in what workload_new is given = nothing.
    const struct workload_local *local;
    // Of its network's gateway, when that is another one: service key, or "NETWORK/ADDRESS"; "" or,
    // in what workload_new is given, NULL = none. Shown only.
    const char *network_gateway;
    uint16_t n_labels, n_ports, n_policies;
    uint16_t network_gateway_port;
    uint8_t own_names; // WORKLOAD_OWN_...; 0, or that of a leaf, in what workload_new is given
};
enum { WORKLOAD_OWN_CANONICAL = 1, WORKLOAD_OWN_APP = 2, WORKLOAD_OWN_OWNER = 4 };

struct workload {
    struct leaf leaf; // key = uid ("cluster//Pod/ns/name")
    const char *name, *node;
    const char *ns; // that of `common`; not looked at in what workload_new is given
    const struct workload_common *common;
    const struct ip *ips;
    uint32_t capacity; // load balancing weight, >= 1
    uint16_t n_ips;
    uint16_t app_tunnel_port; // 0: the port of the authority
    uint8_t protocol; // enum workload_protocol
    // The pod of a waypoint that speaks no HBONE: its own ztun ends the tunnels for it.
    uint8_t app_tunnel; // enum app_tunnel
    bool is_healthy, is_ready, is_host_network, is_enrolled, is_terminating;
    bool is_pod; // wins over other kinds of workload with the same address
    bool no_dns_capture, bypass_inbound_capture; // ambient.istio.io/{dns-capture,bypass-...}
};

static inline const char *workload_canonical_name(const struct workload *w) {
    return w->common->own_names & WORKLOAD_OWN_CANONICAL ? w->name : w->common->canonical_name;
}
static inline const char *workload_app(const struct workload *w) {
    return w->common->own_names & WORKLOAD_OWN_APP ? w->name : w->common->app;
}
static inline const char *workload_owner_name(const struct workload *w) { // workload_name
    return w->common->own_names & WORKLOAD_OWN_OWNER ? w->name : w->common->owner_name;
}

enum app_protocol { APP_UNKNOWN, APP_HTTP11, APP_HTTP2, APP_GRPC, APP_TCP, APP_TLS };

struct service_port {
    uint16_t port, target_port, node_port; // target_port 0: by name, per endpoint
    const char *name, *target_name; // "" when none
    uint8_t app_protocol;
};

struct endpoint {
    struct workload *workload; // referenced
    const uint16_t *target_ports; // one per service port; 0 = this endpoint lacks it
    uint32_t weight;
    struct ip ip;
    bool is_ready;
};

enum lb_mode { LB_STANDARD, LB_STRICT, LB_FAILOVER, LB_PASSTHROUGH };
enum lb_scope {
    SCOPE_REGION = 1,
    SCOPE_ZONE,
    SCOPE_SUBZONE,
    SCOPE_NODE,
    SCOPE_CLUSTER,
    SCOPE_NETWORK
};

struct service {
    struct leaf leaf; // key = "ns/hostname"
    const char *name, *ns, *hostname;
    const struct ip *vips; // cluster IPs, external IPs, load balancer IPs; none when headless
    // Where no workload and no VIP is: what goes to an address of these is the service's, too.
    const struct cidr *ranges;
    const struct service_port *ports;
    const char *const *sans; // subject_alt_names
    const struct endpoint *endpoints; // all that are published (not only ready when allow_all)
    uint32_t n_endpoints;
    uint16_t n_vips, n_ranges, n_ports, n_sans;
    uint16_t n_cluster_vips; // the first so many VIPs are the service's own: what DNS answers
    uint8_t lb_mode, n_scopes, scopes[6];
    bool is_headless, is_external, allow_not_ready, has_node_ports, is_waypoint;
    bool is_canonical; // preferred among services of one host name (a Kubernetes Service)
    bool is_dynamic; // resolution DYNAMIC_DNS: the host is what a request asks for, under hostname
    bool is_private; // exportTo ".": its host name is known to its own namespace only
    bool is_external_local; // externalTrafficPolicy Local: a node port serves its node's endpoints
    bool tells_client; // is_waypoint: requests that it passes on say whose they are
    bool is_uniform; // all endpoints weigh the same (set by service_new)
    const char
        *gateway_class; // is_waypoint: its Gateway's class; "" (or NULL, as below) = not known
    const char *waypoint; // bound waypoint's service key or IP address, "" = none
    // Another waypoint, that has this share of new connections (istio.io/use-waypoint-canary); ""
    // or, in what service_new is given, NULL = none.
    const char *canary;
    uint8_t canary_percent;
};
// The waypoint with this key serves it, for all or for a share of its clients.
static inline bool service_is_bound(const struct service *service, const char *waypoint) {
    return waypoint[0] != '\0' &&
           (strcmp(service->waypoint, waypoint) == 0 || strcmp(service->canary, waypoint) == 0);
}

struct node {
    struct leaf leaf; // key = name
    const char *name;
    const struct ip *ips; // addresses under which its node ports are reached
    uint16_t n_ips;
    struct locality locality;
};

// Authorization: AuthorizationPolicy and PeerAuthentication in ztunnel's form (§3.2, §6.2).
enum policy_scope {
    POLICY_GLOBAL,
    POLICY_NAMESPACE,
    POLICY_WORKLOAD,
    POLICY_TARGETED, // for a waypoint (targetRefs); never for a workload
};
enum policy_action { POLICY_ALLOW, POLICY_DENY };
enum match_kind { MATCH_EXACT, MATCH_PREFIX, MATCH_SUFFIX, MATCH_PRESENCE };

struct string_match {
    uint8_t kind;
    const char *text;
};
struct sa_match {
    const char *ns, *sa;
};

struct policy_match { // AND of fields; a field = OR of positives AND no negative; no field: false
    const struct string_match *principals, *not_principals, *namespaces, *not_namespaces;
    const struct sa_match *service_accounts, *not_service_accounts;
    const struct cidr *source_ips, *not_source_ips, *destination_ips, *not_destination_ips;
    const uint16_t *destination_ports, *not_destination_ports;
    uint16_t n_principals, n_not_principals, n_namespaces, n_not_namespaces, n_service_accounts,
        n_not_service_accounts, n_source_ips, n_not_source_ips, n_destination_ips,
        n_not_destination_ips, n_destination_ports, n_not_destination_ports;
};
struct policy_clause { // OR of matches
    const struct policy_match *matches;
    uint16_t n_matches;
};
struct policy_rule { // AND of clauses
    const struct policy_clause *clauses;
    uint16_t n_clauses;
};

struct policy_target { // in the policy's namespace, but for GatewayClass, which has none
    const char *kind; // "Service", "ServiceEntry", "Gateway", "GatewayClass"
    const char *name;
};

struct policy {
    struct leaf leaf; // key = "ns/name"
    const char *name, *ns;
    uint8_t scope, action;
    bool is_dry_run;
    const struct policy_rule *rules; // OR
    const struct policy_target *targets; // TARGETED
    uint16_t n_rules, n_targets;
};

// A certificate in use. Replaced as a whole at rotation.
enum identity_state { IDENTITY_PENDING, IDENTITY_READY, IDENTITY_FAILED };
struct identity {
    struct leaf leaf; // key = SPIFFE id
    struct tls_ctx *tls; // NULL unless READY
    uint8_t state;
    const char *error; // FAILED, or the last renewal's failure; "" else
    const char *chain_pem, *roots_pem; // public parts, for config_dump
};

// A leaf that a higher layer defines, for the tables of snapshots (l7_routes, l7_policies). First
// member of its struct.
struct leaf_ext {
    struct leaf leaf;
    void (*free)(struct leaf_ext *ext); // all of it; runs on the thread that lets go last
};
// One reference for the caller. `key` must stay valid as long as the leaf (a copy in its struct).
void leaf_ext_init(struct leaf_ext *ext, struct slice key, void (*free)(struct leaf_ext *ext));

// Leaf builders (control thread): a deep copy of `spec` in one allocation, with one reference for
// the caller. NULL texts become "". Texts that many leaves have in common (namespaces, labels,
// identities ...) are interned. `spec->leaf.key` is the table key; the rest of spec->leaf is
// unused.
struct workload *workload_new(const struct workload *spec);
// The same; cheaper when `like` (which may be NULL) has all of `common` in common with it.
struct workload *workload_new_like(const struct workload *spec, const struct workload *like);
struct service *service_new(const struct service *spec); // references the endpoints' workloads
struct policy *policy_new(const struct policy *spec);
struct identity *identity_new(const struct identity *spec); // references spec->tls
struct node *node_new(const struct node *spec);

// Same content (leaf keys, texts, lists).
bool workload_equal(const struct workload *a, const struct workload *b);

size_t leaf_size(const void *leaf); // bytes of the allocation, without interned texts; no LEAF_EXT
size_t leaf_count(void); // leaves alive in the process, for tests and gauges
