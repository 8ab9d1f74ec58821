// SPDX-License-Identifier: Apache-2.0
//
// Settings of the waypoint: flags, then environment names, then defaults.
#pragma once

#include "common/base/addr.h"
#include "common/proc/proc_start.h"
#include "common/tls/tls_ctx.h"

struct waypoint_config {
    // sources
    const char *config_path, *ca_dir, *crl_path, *state_dir;
    enum proc_io io;
    const char *gateway; // as given: "NS/NAME", or NAME in `ns`
    // who it is, after waypoint_config_parse: the Gateway that it serves, its account and place
    const char *ns, *name, *service_account, *node_name, *pod_name; // node, pod: "" = unknown
    const char *log_filter, *log_format;
    // identity and mesh defaults (MeshConfig overrides trust domain and root namespace)
    const char *trust_domain, *cluster_domain, *cluster_id, *network, *root_namespace;
    uint32_t secret_ttl_s;
    enum tls_compliance compliance;
    bool prefer_aes_256;
    // threads
    uint32_t n_workers;
    // servers
    struct addr listen; // HBONE
    struct addr admin, metrics, readiness;
    // HTTP/2 tunnels and pools
    uint32_t stream_window, stream_window_max, conn_window, frame_size, max_streams;
    uint64_t pool_idle_ns;
    // TCP
    bool keepalive, user_timeout;
    uint32_t keepalive_s, keepalive_interval_s, keepalive_probes;
    // end
    uint32_t rebind_ms; // open connections of what is bound elsewhere are ended by then; 0 = never
    uint32_t termination_ms; // drain deadline
    // access log of HTTP; what is not set is MeshConfig's
    int access_log; // 1, 0; -1 = not set
    const char *access_log_format, *access_log_encoding; // "text", "json"; NULL = not set
    // resources
    uint64_t memory_limit; // bytes; 0 = 70 % of the cgroup's
    bool response_baggage;
};

// Parses flags and environment. Returns 0; 1 when it printed help or the version (exit 0); 2 when
// it printed a usage error (exit 2).
int waypoint_config_parse(struct waypoint_config *config, int argc, char **argv);
