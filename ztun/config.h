// SPDX-License-Identifier: Apache-2.0
//
// Settings of the node proxy: flags, then ztunnel's environment names, then defaults.
#pragma once

#include "common/proc/proc_config.h"

struct ztun_config {
    struct proc_config proc;
    const char *node_name;
    // dedicated mode: the one workload that is served, in our own network namespace
    const char *proxy_mode, *workload; // as given
    bool is_dedicated;
    const char *workload_ns, *workload_name, *workload_account;
    // our own pod: with all three, tunnels reach its metrics
    const char *pod_name, *pod_namespace, *service_account;
    // in-pod sockets
    uint16_t outbound_port, inbound_port, hbone_port, dns_port, socks_port; // Istio's
    bool socks5;
    uint32_t mark;
    // The node agent's socket; NULL: pods are found among the workloads. INPOD_ENABLED alone means
    // istio-cni's usual one.
    const char *inpod_uds;
    bool inpod_enabled;
    int redirect; // install rules; -1 until it is known who else does
    bool dns_capture, ipv6;
    const char *dns_proxy_addr; // as given; dns_port is made of it
    int original_source; // 1 required, 0 never, -1 best effort
    bool localhost_app_tunnel, authz_policy_info_logging;
};

// Parses flags and environment. Returns 0; 1 when it printed help or the version (exit 0); 2 when
// it printed a usage error (exit 2).
int ztun_config_parse(struct ztun_config *config, int argc, char **argv);
