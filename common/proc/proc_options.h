// SPDX-License-Identifier: Apache-2.0
//
// Command lines of the daemons: a table of settings, each with a flag, an environment name or both.
// Flags win over the environment, which wins over the defaults that the caller has set before.
//
// Flags are written --name=value or --name value; --help and --version are understood. Texts are
// not copied: they live as long as argv and the environment.
//
// Thread: main, before others exist.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/proc/proc_start.h"

enum proc_option_type {
    PROC_TEXT, // const char *
    PROC_U32,
    PROC_BYTES_U32, // "65535", "256Ki", "4Mi", "1Gi", "100k", "1M", "1G"
    PROC_BYTES_U64,
    PROC_BOOL, // true, 1, yes, on; false, 0, no, off
    PROC_TRISTATE, // int: 1, 0; the default stays when it is not set
    PROC_ADDR, // struct addr
    PROC_SECONDS_U32, // "24h", "1h30m", "30s", "1500ms", "90" (seconds)
    PROC_MS_U32,
    PROC_NS, // uint64_t
    PROC_COMPLIANCE, // enum tls_compliance: "", fips-140-2, pqc
    PROC_IO, // enum proc_io: auto, uring, epoll
    PROC_THREADS, // uint32_t: number, percentage of the cores, 0 = all cores
};

struct proc_option {
    const char *flag, *env; // NULL = none
    enum proc_option_type type;
    size_t offset; // of the field in the config
    const char *arg, *help; // what --help says; help NULL = nothing
};

struct proc_program {
    const char *name; // "ztun"
    const char *what; // "node proxy of a sidecarless mesh"
    const char *usage; // arguments that are required, "--config DIR --ca-dir DIR"
    const char *heading; // above the options in --help
    const struct proc_option *options;
    size_t n_options;
};

// Rows that the daemons have in common, for a config with fields of these names.
#define PROC_ROW(T, flag, env, type, field, arg, help)                                             \
    { flag, env, type, offsetof(T, field), arg, help }
#define PROC_OPTIONS_SOURCE(T)                                                                     \
    PROC_ROW(T, "config", NULL, PROC_TEXT, config_path, "DIR|FILE",                                \
             "Kubernetes YAML or JSON to serve"),                                                  \
        PROC_ROW(T, "ca-dir", NULL, PROC_TEXT, ca_dir, "DIR",                                      \
                 "built-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem; created "   \
                 "when empty"),                                                                    \
        PROC_ROW(T, "state-dir", NULL, PROC_TEXT, state_dir, "DIR",                                \
                 "last good files of --config, for a start while one is broken; none"),            \
        PROC_ROW(T, "io", "ZTUN_IO", PROC_IO, io, "auto|uring|epoll",                              \
                 "how to wait for sockets; auto: epoll where io_uring is refused")
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

// Environment, then flags. Returns 0; 1 when it printed help or the version (exit 0); 2 when it
// printed a usage error (exit 2).
int proc_options_parse(const struct proc_program *program, void *config, int argc, char **argv);

const char *proc_options_io_name(enum proc_io io);

// The drain deadline that TERMINATION_GRACE_PERIOD_SECONDS leaves; *ret_ms stays without one.
void proc_options_grace(uint32_t *ret_ms);

// What both programs check; each prints what is wrong. False: usage error.
struct proc_limits {
    uint32_t n_workers, stream_window, stream_window_max, conn_window, frame_size;
    const char *log_format;
};
bool proc_options_check(const struct proc_program *program, const struct proc_limits *limits);
