// SPDX-License-Identifier: Apache-2.0
//
// Settings of the node proxy: flags, then ztunnel's environment names, then defaults.
#pragma once

#include "common/base/addr.h"
#include "common/proc/proc_start.h"
#include "common/tls/tls_ctx.h"

struct ztun_config {
    // sources
    const char *config_path, *ca_dir, *node_name, *crl_path, *state_dir;
    enum proc_io io;
    const char *log_filter, *log_format;
    // dedicated mode: the one workload that is served, in our own network namespace
    const char *proxy_mode, *workload; // as given
    bool is_dedicated;
    const char *workload_ns, *workload_name, *workload_account;
    // our own pod: with all three, tunnels reach its metrics
    const char *pod_name, *pod_namespace, *service_account;
    // identity and mesh defaults (MeshConfig overrides trust domain and root namespace)
    const char *trust_domain, *cluster_domain, *cluster_id, *network, *root_namespace;
    uint32_t secret_ttl_s;
    enum tls_compliance compliance;
    bool prefer_aes_256;
    // threads
    uint32_t n_workers;
    // in-pod sockets
    uint16_t outbound_port, inbound_port, hbone_port, dns_port, socks_port; // Istio's; fixed
    bool socks5;
    uint32_t mark;
    bool redirect, dns_capture, ipv6;
    int original_source; // 1 required, 0 never, -1 best effort
    // servers
    struct addr admin, metrics, readiness;
    // HTTP/2 and pools
    uint32_t stream_window, stream_window_max, conn_window, frame_size, max_streams;
    uint64_t pool_idle_ns;
    // TCP
    bool keepalive, user_timeout;
    uint32_t keepalive_s, keepalive_interval_s, keepalive_probes;
    // end
    uint32_t termination_ms; // drain deadline
    uint32_t rebind_ms; // open flows whose path has changed are ended by then; 0 = never
    // resources
    uint64_t memory_limit; // bytes; 0 = 70 % of the cgroup's
    bool response_baggage, localhost_app_tunnel;
};

// Parses flags and environment. Returns 0; 1 when it printed help or the version (exit 0); 2 when
// it printed a usage error (exit 2).
int ztun_config_parse(struct ztun_config *config, int argc, char **argv);
