// SPDX-License-Identifier: Apache-2.0
//
// The settings that the daemons have in common, and what is made of them.
#pragma once

#include "common/base/addr.h"
#include "common/proc/proc_options.h"
#include "common/proto/h2_conn.h"
#include "common/proto/http_msg.h"
#include "common/tls/tls_ctx.h"

struct proc_config {
    // sources
    const char *other_source; // a flag of the program's own that is one; NULL: it has none
    bool has_other_source; // it was given
    // Within Kubernetes, where nothing else is said, istiod at its usual address is source and CA.
    bool knows_istiod;
    const char *config_path, *ca_dir, *crl_path, *state_dir;
    const char *ca_address, *ca_roots, *ca_hostname; // the CA is istiod
    const char *token; // proc_trust.h, as the roots
    struct http_field *ca_headers; // CA_HEADER_*
    size_t n_ca_headers;
    // istiod as the source of workloads, services and policies; address NULL: it is not asked
    const char *xds_address, *xds_roots, *xds_hostname, *instance_ip;
    struct http_field *xds_headers; // XDS_HEADER_*
    size_t n_xds_headers;
    bool xds_on_demand; // what flows want, and no more
    enum proc_io io;
    const char *log_filter, *log_format;
    // identity and mesh defaults (MeshConfig overrides trust domain and root namespace)
    const char *trust_domain, *cluster_domain, *cluster_id, *network, *root_namespace;
    const char *revision; // NULL: none
    const char *mesh_config; // its ConfigMap, by proc_config_check; NULL: without a revision
    uint32_t secret_ttl_s;
    enum tls_compliance compliance;
    bool prefer_aes_256;
    // threads: as asked for; else of a container's CPUs, 0 = not said: what it may use of the node,
    // its limit, its request
    struct proc_threads workers;
    uint32_t cpus, cpu_limit, cpu_request;
    uint32_t n_workers; // by proc_config_check
    // servers
    struct addr admin, metrics, readiness;
    // HTTP/2 tunnels and pools
    uint32_t stream_window, stream_window_max, conn_window, frame_size, max_streams;
    uint64_t pool_idle_ns;
    // TCP
    bool keepalive, user_timeout;
    uint32_t keepalive_s, keepalive_interval_s, keepalive_probes;
    // end
    uint32_t termination_ms; // drain deadline
    uint32_t rebind_ms; // what goes another way than it should is ended by then; 0 = never
    // resources
    uint64_t memory_limit; // bytes of resident memory; 0 = none
    bool response_baggage;
};

// Rows of a config T that has a `struct proc_config proc`.
#define PROC_ROW(T, flag, env, type, field, arg, help)                                             \
    { flag, env, type, offsetof(T, proc.field), arg, help }
#define PROC_OPTIONS_SOURCE(T)                                                                     \
    PROC_ROW(T, "config", NULL, PROC_TEXT, config_path, "DIR|FILE",                                \
             "Kubernetes YAML or JSON to serve"),                                                  \
        PROC_ROW(T, "ca-dir", NULL, PROC_TEXT, ca_dir, "DIR",                                      \
                 "built-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem; created "   \
                 "when empty"),                                                                    \
        PROC_ROW(T, "ca-address", "CA_ADDRESS", PROC_TEXT, ca_address, "https://HOST:PORT",        \
                 "istiod as the CA instead"),                                                      \
        PROC_ROW(T, "ca-roots", "CA_ROOT_CA", PROC_TEXT, ca_roots, "FILE|SYSTEM|PEM",              \
                 "who may sign the certificate of --ca-address"),                                  \
        PROC_ROW(T, "ca-hostname", "ALT_CA_HOSTNAME", PROC_TEXT, ca_hostname, "NAME",              \
                 "that its certificate may be for, besides HOST"),                                 \
        PROC_ROW(T, "token", "AUTH_TOKEN", PROC_TEXT, token, "FILE",                               \
                 "service account token that istiod knows us by"),                                 \
        PROC_ROW(T, "state-dir", NULL, PROC_TEXT, state_dir, "DIR",                                \
                 "last good files of --config, for a start while one is broken; none"),            \
        PROC_ROW(T, "io", "ZTUN_IO", PROC_IO, io, "auto|uring|epoll",                              \
                 "how to wait for sockets; auto: epoll where io_uring is refused")
#define PROC_OPTIONS_XDS(T)                                                                        \
    PROC_ROW(T, "xds-address", "XDS_ADDRESS", PROC_TEXT, xds_address, "https://HOST:PORT",         \
             "istiod as the source of workloads, services and policies"),                          \
        PROC_ROW(T, "xds-roots", "XDS_ROOT_CA", PROC_TEXT, xds_roots, "FILE|SYSTEM|PEM",           \
                 "who may sign the certificate of --xds-address"),                                 \
        PROC_ROW(T, "xds-hostname", "ALT_XDS_HOSTNAME", PROC_TEXT, xds_hostname, "NAME",           \
                 "that its certificate may be for, besides HOST"),                                 \
        PROC_ROW(T, "instance-ip", "INSTANCE_IP", PROC_TEXT, instance_ip, "IP",                    \
                 "our own address, as istiod is told")
#define PROC_OPTIONS_MESH(T)                                                                       \
    PROC_ROW(T, "crl", "CRL_PATH", PROC_TEXT, crl_path, "FILE", "certificate revocation list"),    \
        PROC_ROW(T, "log", "RUST_LOG", PROC_TEXT, log_filter, "FILTER",                            \
                 "log filter, as \"info,access=debug\""),                                          \
        PROC_ROW(T, "log-format", "LOG_FORMAT", PROC_TEXT, log_format, "plain|json",               \
                 "log format"),                                                                    \
        PROC_ROW(T, "trust-domain", "TRUST_DOMAIN", PROC_TEXT, trust_domain, "NAME",               \
                 "SPIFFE trust domain"),                                                           \
        PROC_ROW(T, "cluster-domain", "CLUSTER_DOMAIN", PROC_TEXT, cluster_domain, "NAME",         \
                 "DNS domain of services"),                                                        \
        PROC_ROW(T, "cluster-id", "CLUSTER_ID", PROC_TEXT, cluster_id, "NAME", "cluster name"),    \
        PROC_ROW(T, NULL, "ISTIO_META_CLUSTER_ID", PROC_TEXT, cluster_id, NULL, NULL),             \
        PROC_ROW(T, "network", "NETWORK", PROC_TEXT, network, "NAME", "network name"),             \
        PROC_ROW(T, "root-namespace", NULL, PROC_TEXT, root_namespace, "NS",                       \
                 "namespace of mesh-wide policies"),                                               \
        PROC_ROW(T, "revision", "REVISION", PROC_TEXT, revision, "NAME",                           \
                 "of istiod: MeshConfig is that of its ConfigMap, istio-NAME"),                    \
        PROC_ROW(T, "secret-ttl", "SECRET_TTL", PROC_SECONDS_U32, secret_ttl_s, "TIME",            \
                 "life of workload certificates"),                                                 \
        PROC_ROW(T, "compliance", "COMPLIANCE_POLICY", PROC_COMPLIANCE, compliance,                \
                 "fips-140-2|pqc", "restrict key exchange"),                                       \
        PROC_ROW(T, "prefer-aes-256", NULL, PROC_BOOL, prefer_aes_256, "BOOL",                     \
                 "AES-256-GCM first (measurements)")
#define PROC_OPTIONS_SERVERS(T)                                                                    \
    PROC_ROW(T, "admin", NULL, PROC_ADDR, admin, "IP:PORT", "admin address"),                      \
        PROC_ROW(T, "metrics", NULL, PROC_ADDR, metrics, "IP:PORT", "metrics address"),            \
        PROC_ROW(T, "readiness", NULL, PROC_ADDR, readiness, "IP:PORT", "readiness address")
#define PROC_OPTIONS_TUNNEL(T)                                                                     \
    PROC_ROW(T, "stream-window", NULL, PROC_BYTES_U32, stream_window, "BYTES",                     \
             "first stream window; default 256Ki, less with little memory"),                       \
        PROC_ROW(T, "stream-window-max", "HTTP2_STREAM_WINDOW_SIZE", PROC_BYTES_U32,               \
                 stream_window_max, "BYTES", "stream window limit"),                               \
        PROC_ROW(T, "connection-window", "HTTP2_CONNECTION_WINDOW_SIZE", PROC_BYTES_U32,           \
                 conn_window, "BYTES", "connection window"),                                       \
        PROC_ROW(T, "frame-size", "HTTP2_FRAME_SIZE", PROC_BYTES_U32, frame_size, "BYTES",         \
                 "largest HTTP/2 frame received"),                                                 \
        PROC_ROW(T, "pool-streams", "POOL_MAX_STREAMS_PER_CONNECTION", PROC_U32, max_streams, "N", \
                 "streams of a tunnel"),                                                           \
        PROC_ROW(T, "pool-idle", "POOL_UNUSED_RELEASE_TIMEOUT", PROC_NS, pool_idle_ns, "TIME",     \
                 "close tunnels without streams after this")
#define PROC_OPTIONS_TCP(T)                                                                        \
    PROC_ROW(T, "keepalive", "KEEPALIVE_ENABLED", PROC_BOOL, keepalive, "BOOL", "TCP keepalive"),  \
        PROC_ROW(T, "keepalive-time", "KEEPALIVE_TIME", PROC_SECONDS_U32, keepalive_s, "TIME",     \
                 NULL),                                                                            \
        PROC_ROW(T, "keepalive-interval", "KEEPALIVE_INTERVAL", PROC_SECONDS_U32,                  \
                 keepalive_interval_s, "TIME", NULL),                                              \
        PROC_ROW(T, "keepalive-retries", "KEEPALIVE_RETRIES", PROC_U32, keepalive_probes, "N",     \
                 NULL),                                                                            \
        PROC_ROW(T, "user-timeout", "USER_TIMEOUT_ENABLED", PROC_BOOL, user_timeout, "BOOL",       \
                 "TCP_USER_TIMEOUT also on plain connections")
#define PROC_OPTIONS_END(T)                                                                        \
    PROC_ROW(T, "drain", "CONNECTION_TERMINATION_DEADLINE", PROC_MS_U32, termination_ms, "TIME",   \
             "connections live this long after SIGTERM"),                                          \
        PROC_ROW(T, "rebind-deadline", "REBIND_DEADLINE", PROC_MS_U32, rebind_ms, "TIME",          \
                 "connections live this long after their service was bound to a waypoint, or "     \
                 "elsewhere; 0 = any"),                                                            \
        PROC_ROW(T, "memory-limit", NULL, PROC_BYTES_U64, memory_limit, "BYTES",                   \
                 "resident memory at which new connections are refused; default 70 % of the "      \
                 "cgroup's limit")

// Before the environment and the flags are looked at.
void proc_config_defaults(struct proc_config *config);
// Afterwards: that there is a source (files or istiod), what depends on others, and limits; prints
// what is wrong. False: usage error.
bool proc_config_check(struct proc_config *config, const char *program);

// Threads of a machine with `cores`. As ztunnel: what was asked for, else the limit of the
// container, else a quarter of the cores, though not less than the container's request, and two.
uint32_t proc_config_workers(const struct proc_config *config, uint32_t cores);

// Of the tunnels of a worker. `parked` outlives them.
void proc_config_h2(const struct proc_config *config, bool is_server, struct h2_parked *parked,
                    struct h2_config *ret_h2);
