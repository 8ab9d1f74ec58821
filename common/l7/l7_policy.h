// SPDX-License-Identifier: Apache-2.0
//
// How to talk to one service: its DestinationRules merged and compiled. For each pair of port and
// subset there is one struct l7_settings, where
// - of several rules the first one's trafficPolicy counts, and of a subset the first with its name;
// - a block of a subset's trafficPolicy replaces that block of the rule;
// - port-level settings replace load balancer, pool, outlier detection and TLS together: what they
//   leave out has its default, not the rule's value.
//
// A policy is a leaf of a snapshot (builder_l7.h): compiled on the control thread, then immutable;
// any thread reads. Texts end in NUL and are "" when absent.
#pragma once

#include "common/l7/l7_source.h"
#include "common/mesh/builder_l7.h"

enum l7_lb_kind {
    L7_LB_LEAST_REQUEST,
    L7_LB_ROUND_ROBIN,
    L7_LB_RANDOM, // weights do not count, as with Envoy
    L7_LB_RING,
    L7_LB_MAGLEV,
    L7_LB_PASSTHROUGH, // to the address that was called
};
const char *l7_lb_kind_text(enum l7_lb_kind kind); // "LEAST_REQUEST" ...
enum l7_hash_key { L7_HASH_NONE, L7_HASH_HEADER, L7_HASH_COOKIE, L7_HASH_IP, L7_HASH_QUERY };

// Which localities are used, from where. Patterns: "region/zone/subzone", shorter, or with `*`.
struct l7_locality_weight {
    const char *to; // pattern
    uint32_t weight;
};
struct l7_distribute {
    const char *from; // pattern
    const struct l7_locality_weight *to;
    uint32_t n_to;
};
struct l7_failover { // regions
    const char *from, *to;
};
struct l7_locality_policy {
    bool is_disabled; // localityLbSetting.enabled: false
    bool is_set; // by the DestinationRule: a Service's trafficDistribution counts before the mesh's
    const struct l7_distribute *distribute;
    const struct l7_failover *failover;
    const char *const *failover_priority; // labels, "key" or "key=value"
    uint32_t n_distribute, n_failover, n_failover_priority;
};

struct l7_lb_policy {
    uint8_t kind; // enum l7_lb_kind
    uint8_t hash_key; // enum l7_hash_key; RING, MAGLEV
    const char *hash_name; // of the header (lower case), cookie or query parameter
    const char *cookie_path;
    int64_t cookie_ttl_ms; // -1: no cookie is made; 0: one of the session
    const struct kobj_kv *cookie_attributes;
    uint32_t n_cookie_attributes;
    uint32_t table_size; // least size of the ring, or the table's
    uint64_t warmup_ms; // 0 = none
    double warmup_min, warmup_aggression; // share of the weight, exponent
    struct l7_locality_policy locality;
};

enum { L7_NO_LIMIT = UINT32_MAX };
struct l7_pool_policy { // limits of the process for one cluster; L7_NO_LIMIT when absent
    uint32_t max_connections, max_pending, max_requests, max_retries;
    uint32_t max_requests_per_connection; // 0 = no limit
    uint32_t max_concurrent_streams; // 0 = the peer's
    uint64_t connect_timeout_ms;
    uint64_t idle_timeout_ms; // http's, else tcp's, else 1 h; 0 = none
    uint64_t tcp_idle_timeout_ms; // of TCP flows; 0 = none
    uint64_t max_connection_duration_ms; // 0 = none
    uint64_t ping_interval_ms, ping_timeout_ms; // 0 = off
    bool has_keepalive;
    uint32_t keepalive_probes; // 0 = the system's, likewise the times
    uint64_t keepalive_time_ms, keepalive_interval_ms;
    bool is_h2_upgraded, use_client_protocol;
};

struct l7_outlier_policy {
    bool is_on;
    uint32_t consecutive_5xx, consecutive_gateway, consecutive_local_origin; // 0 = off
    bool splits_local_origin;
    uint64_t interval_ms, base_ejection_ms, max_ejection_ms;
    uint32_t max_ejection_percent;
    // The statuses that count as failures; n 0: 500 to 599.
    const uint16_t *codes;
    uint32_t n_codes;
};

struct l7_retry_budget {
    bool is_on; // then it takes the place of max_retries
    uint32_t ppm, min_concurrency;
    uint64_t interval_ms;
};

struct l7_tls_policy {
    bool is_set; // no: mutual TLS of the mesh where the peer has it
    uint8_t mode; // enum kobj_tls_mode
    const char *client_certificate, *private_key, *ca_certificates, *ca_crl, *credential_name, *sni;
    const char *const *sans;
    uint32_t n_sans;
    bool skips_verify;
    void *credentials; // l7_tls_ops'; NULL: there are none
};

// What files and Secrets a TLS policy names is the program's to read: a policy takes credentials
// for each of its settings with SIMPLE or MUTUAL (control thread), and gives them back (any).
struct l7_tls_ops {
    void *(*take)(const struct l7_tls_policy *tls);
    void (*give)(void *credentials);
};

struct l7_settings {
    struct l7_lb_policy lb;
    struct l7_pool_policy pool;
    struct l7_outlier_policy outlier;
    struct l7_retry_budget budget;
    struct l7_tls_policy tls;
    // The share of healthy hosts below which health does not count any more: 50, or with outlier
    // detection its minHealthPercent. 0: never.
    uint8_t panic_percent;
    uint8_t proxy_protocol; // enum kobj_proxy_protocol
    const char *tunnel_protocol, *tunnel_host; // "CONNECT", "POST", "" = none
    uint16_t tunnel_port;
    // Whose these blocks are: the trafficPolicy, or the port-level settings.
    struct l7_origin lb_origin, pool_origin, outlier_origin, tls_origin;
};

struct l7_subset {
    const char *name;
    struct l7_origin origin;
    const struct label *labels; // all must be there
    uint32_t n_labels;
};
bool l7_subset_selects(const struct l7_subset *subset, const struct workload *workload);

struct l7_policy;

// Settings of a port and a subset ("" = the service itself; then *ret_subset is NULL). NULL: the
// service has no such subset (503, NC). `policy` NULL: the defaults, and no subset.
const struct l7_settings *l7_policy_find(const struct l7_policy *policy, const char *subset,
                                         uint16_t port, const struct l7_subset **ret_subset);
// A connection that was made under one of them may serve the other: nothing differs of what it is
// made of, or what bounds its life. (A policy is made anew when an endpoint changes.)
bool l7_settings_same_connections(const struct l7_settings *a, const struct l7_settings *b);
// Its subsets, for dumps.
size_t l7_policy_subsets(const struct l7_policy *policy, const struct l7_subset **ret_subsets);
// The objects that it was made of, in the order in which they count.
size_t l7_policy_sources(const struct l7_policy *policy, const struct l7_source **ret_sources);
// AuthorizationPolicies are for this service's waypoint. Whoever does not evaluate them refuses.
bool l7_policy_has_authz(const struct l7_policy *policy);

// TLS with the server itself, beside that of the mesh.
bool l7_tls_is_on(const struct l7_tls_policy *tls);

// builder_l7_ops.policy: NULL when nothing concerns the service. `arg`: struct l7_tls_ops, which
// outlives the leaf; NULL: nothing is read.
struct leaf *l7_policy_compile(void *arg, const struct builder_l7_input *in);
static inline const struct l7_policy *l7_policy_of_leaf(const struct leaf *leaf) {
    return (const struct l7_policy *)leaf;
}
