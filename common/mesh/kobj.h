// SPDX-License-Identifier: Apache-2.0
//
// Typed Kubernetes and Istio objects, decoded from documents (config_doc.h) by strict tables
// (schema.h). What the API has and this program does not use is checked for its name and dropped.
//
// An object is immutable, refcounted, and self-contained: one heap block holds all that it points
// to, but for constants and the file's name. The count is not atomic: objects belong to the control
// thread (or to ztunctl).
//
// Conventions of every struct here:
// - a text is NUL-terminated and never NULL: "" when absent;
// - a list is `x` + `n_x`: NULL/0 when absent, non-NULL/0 when present and empty;
// - a message that may be absent is a pointer, NULL when absent;
// - an integer says its value for "absent"; enums have value 0 for "absent" (or the API's default);
// - bools that are three-valued are `enum tri`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/slice.h"

struct arena;
struct cfg_node; // config_doc.h
struct config_errors;

enum kobj_kind {
    KOBJ_UNKNOWN, // no kind we know by name; meta only
    KOBJ_UNUSED, // a known Kubernetes or Istio kind that L4 does not read; meta only
    KOBJ_WAYPOINT, // TLSRoute, Telemetry, EnvoyFilter ...: no part of ztun reads it; meta only
    KOBJ_NAMESPACE,
    KOBJ_NODE,
    KOBJ_POD,
    KOBJ_SERVICE_ACCOUNT,
    KOBJ_SERVICE,
    KOBJ_ENDPOINT_SLICE,
    KOBJ_ENDPOINTS,
    KOBJ_DEPLOYMENT,
    KOBJ_REPLICA_SET,
    KOBJ_STATEFUL_SET,
    KOBJ_CONFIG_MAP,
    KOBJ_SECRET,
    KOBJ_SERVICE_ENTRY,
    KOBJ_WORKLOAD_ENTRY,
    KOBJ_WORKLOAD_GROUP,
    KOBJ_AUTHORIZATION_POLICY,
    KOBJ_PEER_AUTHENTICATION,
    KOBJ_VIRTUAL_SERVICE, // this and the following ones: kobj_l7.h
    KOBJ_DESTINATION_RULE,
    KOBJ_GATEWAY, // of the Gateway API
    KOBJ_GATEWAY_CLASS,
    KOBJ_HTTP_ROUTE,
    KOBJ_GRPC_ROUTE,
    KOBJ_REFERENCE_GRANT,
    KOBJ_N_KINDS,
};

enum tri { TRI_UNSET, TRI_FALSE, TRI_TRUE };

struct kobj_pos { // 1-based; line 0 = unknown
    uint32_t line, col;
};

struct kobj_kv {
    const char *key, *value;
};
struct kobj_map { // in document order
    const struct kobj_kv *items;
    uint32_t n;
};
// The value of `key`, or NULL.
const char *kobj_map_get(const struct kobj_map *map, const char *key);
// True when every pair of `selector` is in `labels`. An empty selector matches everything.
bool kobj_map_matches(const struct kobj_map *selector, const struct kobj_map *labels);

struct kobj_bytes { // binaryData, Secret.data (base64 decoded)
    const char *key;
    struct slice value;
};
struct kobj_quantity { // "500m", "64Mi"
    const char *name; // "cpu", "memory" ...
    const char *text;
    int64_t milli; // thousandths of the unit, saturated
};
struct kobj_int_or_string {
    int32_t num; // when text is ""; 0 when absent
    const char *text;
};

struct kobj_owner {
    const char *api_version, *kind, *name, *uid;
    bool is_controller;
};

struct kobj_meta {
    const char *name, *ns;
    const char *creation_timestamp, *deletion_timestamp; // RFC 3339, "" = absent
    struct kobj_map labels, annotations;
    const struct kobj_owner *owners;
    uint32_t n_owners;
};

enum selector_op { SELECTOR_IN = 1, SELECTOR_NOT_IN, SELECTOR_EXISTS, SELECTOR_NOT_EXISTS };
struct kobj_selector_expr {
    const char *key;
    uint8_t op; // enum selector_op
    const char *const *values;
    uint32_t n_values;
};
struct kobj_label_selector { // apps/v1 and Gateway API style
    struct kobj_map match_labels;
    const struct kobj_selector_expr *exprs;
    uint32_t n_exprs;
};
bool kobj_label_selector_matches(const struct kobj_label_selector *sel,
                                 const struct kobj_map *labels);

struct kobj_condition {
    const char *type, *status, *reason, *message;
};

// Node

struct kobj_node_address {
    const char *type, *address; // "InternalIP" ...
};
struct kobj_node {
    const char *pod_cidr;
    const char *const *pod_cidrs;
    uint32_t n_pod_cidrs;
    bool is_unschedulable;
    const struct kobj_node_address *addresses;
    uint32_t n_addresses;
    const struct kobj_condition *conditions;
    uint32_t n_conditions;
};

// Pod

struct kobj_key_ref { // configMapKeyRef, secretKeyRef
    const char *name, *key;
    bool is_optional;
};
struct kobj_env {
    const char *name, *value;
    // At most one source:
    const char *field_path; // valueFrom.fieldRef.fieldPath, "" = none
    const struct kobj_key_ref *config_map, *secret;
    const char *resource, *resource_container, *resource_divisor; // resourceFieldRef, "" = none
};
struct kobj_env_from {
    const char *prefix;
    const char *config_map, *secret; // name, "" = none
    bool is_optional;
};
enum port_protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP };
struct kobj_container_port {
    const char *name, *host_ip;
    uint16_t port, host_port;
    uint8_t protocol;
};
enum handler_type {
    HANDLER_NONE,
    HANDLER_EXEC,
    HANDLER_HTTP,
    HANDLER_TCP,
    HANDLER_GRPC,
    HANDLER_SLEEP
};
struct kobj_handler { // of a probe or a lifecycle hook
    uint8_t type;
    const char *const *command; // EXEC
    uint32_t n_command;
    const char *host, *path, *scheme, *service; // HTTP, TCP; GRPC
    struct kobj_int_or_string port;
    struct kobj_map headers; // HTTP
    int64_t sleep_s;
};
struct kobj_probe {
    struct kobj_handler handler;
    int32_t initial_delay_s, timeout_s, period_s, success_threshold, failure_threshold;
    // defaults as the API: 0, 1, 10, 1, 3
};
struct kobj_volume_mount {
    const char *name, *mount_path, *sub_path, *sub_path_expr;
    bool is_read_only;
};
struct kobj_container {
    const char *name, *image, *working_dir;
    const char *restart_policy; // "Always": a sidecar init container
    const char *const *command, *const *args;
    uint32_t n_command, n_args;
    const struct kobj_env *env;
    const struct kobj_env_from *env_from;
    const struct kobj_container_port *ports;
    const struct kobj_volume_mount *volume_mounts;
    uint32_t n_env, n_env_from, n_ports, n_volume_mounts;
    const struct kobj_probe *liveness, *readiness, *startup; // NULL = none
    const struct kobj_handler *post_start, *pre_stop; // NULL = none
    const struct kobj_quantity *requests, *limits;
    uint32_t n_requests, n_limits;
    int64_t run_as_user, run_as_group; // securityContext, -1 = absent
};

struct kobj_key_to_path {
    const char *key, *path;
    int32_t mode; // -1 = absent
};
struct kobj_downward_file {
    const char *path, *field_path; // field_path "" = a resource
    const char *resource, *resource_container, *resource_divisor;
    int32_t mode;
};
enum projection_type {
    PROJECT_CONFIG_MAP = 1,
    PROJECT_SECRET,
    PROJECT_DOWNWARD,
    PROJECT_TOKEN,
    PROJECT_OTHER
};
struct kobj_projection { // one source of a volume
    uint8_t type;
    const char *name; // of the ConfigMap or Secret
    int32_t default_mode; // -1 = absent
    const struct kobj_key_to_path *items; // NULL = all keys
    const struct kobj_downward_file *files;
    uint32_t n_items, n_files;
    const char *audience, *path; // TOKEN
    int64_t expiration_s;
    bool is_optional;
};
enum volume_type {
    VOLUME_OTHER, // named by type_name
    VOLUME_CONFIG_MAP, // sources[0]
    VOLUME_SECRET, // sources[0]
    VOLUME_DOWNWARD, // sources[0]
    VOLUME_PROJECTED, // all sources
    VOLUME_EMPTY_DIR,
    VOLUME_HOST_PATH,
};
struct kobj_volume {
    const char *name;
    uint8_t type;
    const char *type_name; // the API's field: "configMap", "persistentVolumeClaim" ...
    int32_t default_mode; // -1 = absent (0644)
    const struct kobj_projection *sources;
    uint32_t n_sources;
    const char *host_path, *host_path_type;
    const char *medium, *size_limit; // emptyDir
};
struct kobj_dns_config {
    const char *const *nameservers, *const *searches;
    struct kobj_map options; // value "" when none
    uint32_t n_nameservers, n_searches;
};
struct kobj_host_alias {
    const char *ip;
    const char *const *hostnames;
    uint32_t n_hostnames;
};
enum pod_phase {
    PHASE_UNSET,
    PHASE_PENDING,
    PHASE_RUNNING,
    PHASE_SUCCEEDED,
    PHASE_FAILED,
    PHASE_UNKNOWN
};
struct kobj_pod_spec {
    const char *node_name, *service_account, *hostname, *subdomain, *dns_policy, *restart_policy;
    bool is_host_network;
    enum tri share_process_namespace, enable_service_links, automount_token;
    int64_t grace_period_s; // -1 = absent (30)
    const struct kobj_container *containers, *init_containers;
    const struct kobj_volume *volumes;
    const struct kobj_dns_config *dns_config;
    const struct kobj_host_alias *host_aliases;
    uint32_t n_containers, n_init_containers, n_volumes, n_host_aliases;
    struct kobj_map node_selector;
    int64_t run_as_user, run_as_group; // securityContext, -1 = absent
};
struct kobj_pod_status {
    uint8_t phase; // enum pod_phase
    const char *pod_ip, *host_ip;
    const char *const *pod_ips; // from status.podIPs[].ip; holds pod_ip alone when podIPs is absent
    uint32_t n_pod_ips;
    const struct kobj_condition *conditions;
    uint32_t n_conditions;
};
struct kobj_pod {
    struct kobj_pod_spec spec;
    struct kobj_pod_status status;
};

// Service, EndpointSlice, Endpoints

enum service_type {
    SERVICE_CLUSTER_IP,
    SERVICE_NODE_PORT,
    SERVICE_LOAD_BALANCER,
    SERVICE_EXTERNAL_NAME
};
enum traffic_policy { TRAFFIC_UNSET, TRAFFIC_CLUSTER, TRAFFIC_LOCAL };
struct kobj_service_port {
    const char *name, *app_protocol;
    uint16_t port, node_port;
    uint8_t protocol;
    struct kobj_int_or_string target_port; // absent (num 0, text ""): the same as port
    struct kobj_pos pos;
};
struct kobj_lb_ingress {
    const char *ip, *hostname;
};
struct kobj_service {
    uint8_t type; // enum service_type
    const char *cluster_ip; // "None" = headless
    const char *const *cluster_ips, *const *external_ips, *const *ip_families;
    uint32_t n_cluster_ips, n_external_ips, n_ip_families;
    const struct kobj_service_port *ports;
    uint32_t n_ports;
    struct kobj_map selector; // items NULL: no selector, endpoints are managed by hand
    bool publish_not_ready;
    uint8_t internal_traffic_policy, external_traffic_policy; // enum traffic_policy
    const char *traffic_distribution; // "PreferClose" | "PreferSameZone" | "PreferSameNode" | ""
    const char *external_name, *session_affinity, *ip_family_policy, *load_balancer_ip;
    int32_t session_affinity_timeout_s; // -1 = absent (10800)
    const struct kobj_lb_ingress *ingress; // status.loadBalancer.ingress
    uint32_t n_ingress;
};

struct kobj_object_ref {
    const char *kind, *ns, *name, *uid;
};
struct kobj_endpoint_port {
    const char *name, *app_protocol;
    uint16_t port; // 0 = absent
    uint8_t protocol;
};
struct kobj_slice_endpoint {
    const char *const *addresses;
    uint32_t n_addresses;
    enum tri ready, serving, terminating;
    const char *hostname, *node_name, *zone;
    const struct kobj_object_ref *target; // NULL = none
};
enum address_type { ADDRESS_IPV4 = 1, ADDRESS_IPV6, ADDRESS_FQDN };
struct kobj_endpoint_slice { // the service is the label kubernetes.io/service-name
    uint8_t address_type;
    const struct kobj_slice_endpoint *endpoints;
    const struct kobj_endpoint_port *ports;
    uint32_t n_endpoints, n_ports;
};

struct kobj_endpoint_address {
    const char *ip, *hostname, *node_name;
    const struct kobj_object_ref *target;
};
struct kobj_endpoint_subset {
    const struct kobj_endpoint_address *addresses, *not_ready;
    const struct kobj_endpoint_port *ports;
    uint32_t n_addresses, n_not_ready, n_ports;
};
struct kobj_endpoints { // the service has the same name
    const struct kobj_endpoint_subset *subsets;
    uint32_t n_subsets;
};

// Deployment, ReplicaSet, StatefulSet

struct kobj_pod_template {
    struct kobj_meta meta; // labels and annotations of its pods
    struct kobj_pod_spec spec;
};
struct kobj_workload_set {
    int32_t replicas; // absent = 1
    const struct kobj_label_selector *selector; // never NULL after a clean decode
    struct kobj_pod_template tmpl;
    bool is_paused;
    int32_t min_ready_s;
    const char *service_name; // StatefulSet
    const char *pod_management; // StatefulSet: "OrderedReady" | "Parallel" | ""
    const char *strategy; // Deployment: "RollingUpdate" | "Recreate" | ""
    struct kobj_int_or_string max_surge, max_unavailable; // Deployment; absent = 25%
};

// ConfigMap, Secret, ServiceAccount: data

struct mesh_config;
struct kobj_config_map {
    struct kobj_map data;
    const struct kobj_bytes *binary;
    uint32_t n_binary;
    // ConfigMap "istio" (or "istio-REVISION") with a key `mesh`: decoded; else NULL.
    const struct mesh_config *mesh;
};
struct kobj_secret {
    const char *type;
    const struct kobj_bytes *data; // data and stringData, the latter last
    uint32_t n_data;
};

// Istio

struct kobj_policy_target { // targetRef(s)
    const char *group, *kind, *name, *ns;
    struct kobj_pos pos;
};

enum authz_action { AUTHZ_ALLOW, AUTHZ_DENY, AUTHZ_AUDIT, AUTHZ_CUSTOM };
struct kobj_strings {
    const char *const *items;
    uint32_t n;
    struct kobj_pos pos;
};
struct kobj_authz_source {
    struct kobj_strings principals, not_principals, request_principals, not_request_principals,
        namespaces, not_namespaces, ip_blocks, not_ip_blocks, remote_ip_blocks,
        not_remote_ip_blocks, service_accounts, not_service_accounts, trust_domains,
        not_trust_domains;
};
struct kobj_authz_operation {
    struct kobj_strings hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths;
};
struct kobj_authz_condition {
    const char *key;
    struct kobj_strings values, not_values;
    struct kobj_pos pos;
};
struct kobj_authz_rule {
    // Each entry of `from` has one source, each of `to` one operation; {} = no field set.
    const struct kobj_authz_source *from;
    const struct kobj_authz_operation *to;
    const struct kobj_authz_condition *when;
    uint32_t n_from, n_to, n_when;
    struct kobj_pos pos;
};
struct kobj_authz_policy {
    bool has_selector;
    struct kobj_map selector; // matchLabels
    const struct kobj_policy_target *targets; // targetRef and targetRefs
    uint32_t n_targets;
    uint8_t action; // enum authz_action
    const char *provider; // CUSTOM
    const struct kobj_authz_rule *rules;
    uint32_t n_rules;
    bool has_rules; // `rules: []` differs from no rules only in text: neither ever matches
};
// L7 fields (hosts, methods, paths, requestPrincipals, remoteIpBlocks, L7 conditions; trustDomains,
// too) of a rule that L4 cannot evaluate. A condition key that L4 does evaluate: source.ip,
// source.namespace, source.principal, source.serviceAccount, destination.ip, destination.port.
bool kobj_authz_source_has_l7(const struct kobj_authz_source *source);
bool kobj_authz_operation_has_l7(const struct kobj_authz_operation *operation);
bool kobj_authz_condition_is_l7(const char *key);

enum mtls_mode { MTLS_UNSET, MTLS_DISABLE, MTLS_PERMISSIVE, MTLS_STRICT };
struct kobj_port_mtls {
    uint16_t port;
    uint8_t mode; // enum mtls_mode
};
struct kobj_peer_auth {
    bool has_selector;
    struct kobj_map selector; // matchLabels
    uint8_t mode; // enum mtls_mode; MTLS_UNSET = inherit
    const struct kobj_port_mtls *ports; // portLevelMtls
    uint32_t n_ports;
};

struct kobj_named_port { // WorkloadEntry.ports
    const char *name;
    uint16_t port;
};
struct kobj_workload_entry {
    const char *address; // IP, host name, "unix:///path", or "" (network endpoint by gateway)
    const struct kobj_named_port *ports;
    uint32_t n_ports;
    struct kobj_map labels;
    const char *network, *locality, *service_account;
    uint32_t weight; // 0 = absent (1)
};
enum se_location { SE_MESH_EXTERNAL, SE_MESH_INTERNAL };
enum se_resolution { SE_NONE, SE_STATIC, SE_DNS, SE_DNS_ROUND_ROBIN, SE_DYNAMIC_DNS };
struct kobj_se_port {
    uint16_t port, target_port; // target_port 0: the same
    const char *protocol, *name;
};
struct kobj_service_entry {
    const char *const *hosts, *const *addresses, *const *export_to, *const *sans;
    uint32_t n_hosts, n_addresses, n_export_to, n_sans;
    const struct kobj_se_port *ports;
    uint32_t n_ports;
    uint8_t location, resolution;
    const struct kobj_workload_entry *endpoints;
    uint32_t n_endpoints;
    bool has_selector;
    struct kobj_map selector; // workloadSelector.labels
    const char *const *status_addresses; // status.addresses[].value (auto-allocated)
    uint32_t n_status_addresses;
};
struct kobj_workload_group {
    struct kobj_map labels, annotations; // metadata of its entries
    struct kobj_workload_entry tmpl;
    const struct kobj_probe *probe; // NULL = none
};

enum outbound_mode { OUTBOUND_ALLOW_ANY, OUTBOUND_REGISTRY_ONLY, OUTBOUND_ALLOW_ANY_DYNAMIC_DNS };
struct locality_failover {
    const char *from, *to;
};
struct locality_weight {
    const char *key;
    uint32_t weight;
};
struct locality_distribute {
    const char *from;
    const struct locality_weight *to;
    uint32_t n_to;
};
struct mesh_locality_lb {
    enum tri enabled;
    const struct locality_failover *failover;
    const struct locality_distribute *distribute;
    const char *const *failover_priority;
    uint32_t n_failover, n_distribute, n_failover_priority;
};
struct mesh_proxy_config { // defaultConfig, and PROXY_CONFIG of the environment
    const char *discovery_address;
    uint32_t proxy_admin_port, status_port, stats_port, concurrency; // 0 = absent
    bool has_concurrency;
    struct kobj_map proxy_metadata;
    int64_t termination_drain_ms, drain_ms; // -1 = absent
};
enum access_log_encoding { ACCESS_LOG_TEXT, ACCESS_LOG_JSON };
// What is wrong with a format of access logs, or NULL. As kobj_regex_problem (kobj_l7.h).
extern const char *(*kobj_access_log_problem)(bool is_json, const char *format);
struct mesh_config {
    const char *trust_domain, *root_namespace;
    const char *const *trust_domain_aliases;
    uint32_t n_trust_domain_aliases;
    uint8_t outbound_mode; // enum outbound_mode
    bool has_outbound_mode;
    const char *access_log_file, *access_log_format;
    uint8_t access_log_encoding;
    enum tri enable_auto_mtls;
    const struct mesh_locality_lb *locality_lb;
    struct mesh_proxy_config defaults;
    int64_t connect_timeout_ms; // -1 = absent
    // For what a waypoint compiles (builder_l7.h).
    bool has_keepalive; // tcpKeepalive; its values: 0, -1 = absent
    uint32_t keepalive_probes;
    int64_t keepalive_time_ms, keepalive_interval_ms;
    bool is_h2_upgraded; // h2UpgradePolicy UPGRADE
    const struct kobj_vs_retry *default_retry; // NULL = absent
    const char *const *default_service_export_to;
    uint32_t n_default_service_export_to;
};

struct kobj {
    uint32_t refs;
    uint8_t kind; // enum kobj_kind
    const char *api_version; // as written
    const char *group; // "" = core
    const char *kind_name; // as written
    struct kobj_meta meta; // meta.ns is "default" for a namespaced kind that names none
    const char *file; // interned
    struct kobj_pos pos; // of the document's first key
    uint64_t hash; // XXH3 over the canonical tree; equal objects hash equal in any file and layout
    struct cfg_node *tree; // kept when asked; NULL else
    union { // by kind; NULL for those with meta only
        const void *spec;
        const struct kobj_node *node;
        const struct kobj_pod *pod;
        const struct kobj_service *service;
        const struct kobj_endpoint_slice *endpoint_slice;
        const struct kobj_endpoints *endpoints;
        const struct kobj_workload_set *workload_set; // Deployment, ReplicaSet, StatefulSet
        const struct kobj_config_map *config_map;
        const struct kobj_secret *secret;
        const struct kobj_service_entry *service_entry;
        const struct kobj_workload_entry *workload_entry;
        const struct kobj_workload_group *workload_group;
        const struct kobj_authz_policy *authz;
        const struct kobj_peer_auth *peer_auth;
        const struct kobj_virtual_service *virtual_service;
        const struct kobj_destination_rule *destination_rule;
        const struct kobj_gateway *gateway;
        const struct kobj_gateway_class *gateway_class;
        const struct kobj_route *route; // HTTPRoute, GRPCRoute
        const struct kobj_reference_grant *reference_grant;
    };
};

enum {
    KOBJ_KEEP_TREE = 1, // kobj_pos_of() finds every field (costs about twice the memory)
    // What only a process launcher needs (env, probes, volumes, ConfigMap data, containers without
    // ports, conditions but Ready ...) is checked but not kept: it is as if absent.
    KOBJ_LEAN = 2,
    KOBJ_SECRETS = 4, // with KOBJ_LEAN: but the data of Secrets are
    // It comes from an API server, which has dropped or refused what it does not know: a field that
    // we do not know is one of a newer version. It is left out, with a warning where it is not
    // Kubernetes' own; in a security policy it stays an error, which nothing may go without.
    KOBJ_FROM_API = 8,
};

// Decodes one object (a mapping with apiVersion and kind; Lists are flattened by config_doc.h).
// All errors and warnings are appended to `errors`, with positions in `file`. NULL when there was
// an error; an object of a kind that is not read is returned with its meta only, after a warning
// (KOBJ_UNKNOWN, KOBJ_WAYPOINT) or silently (KOBJ_UNUSED); those of unknown or unused kinds may
// lack a name. The caller owns the one reference. `scratch` is for temporary use; the object keeps
// nothing in it.
struct kobj *kobj_decode(const struct cfg_node *doc, const char *file, unsigned flags,
                         struct arena *scratch, struct config_errors *errors);

struct kobj *kobj_ref(struct kobj *obj);
void kobj_unref(struct kobj *obj); // NULL ok

// What makes an object one: its kind without the API's version, namespace and name. Borrows from
// the object or the tree.
struct kobj_id {
    struct slice group;
    const char *kind, *ns, *name;
};
struct kobj_id kobj_id(const struct kobj *obj);
// As far as a document that may be wrong tells; false when it has no kind or name.
bool kobj_id_of(const struct cfg_node *doc, struct kobj_id *ret_id);
uint64_t kobj_id_hash(const struct kobj_id *id);
bool kobj_id_eq(const struct kobj_id *a, const struct kobj_id *b);

const char *kobj_kind_text(enum kobj_kind kind); // "Pod"; "" for the three without a type
bool kobj_is_namespaced(enum kobj_kind kind);
// Where the object is in the Kubernetes API, in the version that is recommended; a heap text.
// `kind` is one that is read, `ns` is "" where there is none.
char *kobj_api_path(enum kobj_kind kind, const char *ns, const char *name);
// Position of a field, as "spec.ports[1].targetPort"; the deepest part of the path that is there.
// Without a tree: the object's own.
struct kobj_pos kobj_pos_of(const struct kobj *obj, const char *path);
// A pod's Ready condition, and not terminating.
bool kobj_pod_is_ready(const struct kobj *pod);
