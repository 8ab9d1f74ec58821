// SPDX-License-Identifier: Apache-2.0
//
// Effective settings; where ztunnel has the same one, under its name.
#include <stdio.h>

#include "common/base/clock.h"
#include "common/proc/proc_options.h"
#include "ztun/admin_priv.h"
#include "ztun/config.h"

static void put_addr(struct json_out *out, const char *key, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    json_out_kv_str(out, key, addr_text(addr, text));
}

static void put_ms(struct json_out *out, const char *key, uint64_t ms) {
    char text[32];
    if (ms % 1000 == 0) {
        snprintf(text, sizeof(text), "%llus", (unsigned long long)(ms / 1000));
    } else {
        snprintf(text, sizeof(text), "%llums", (unsigned long long)ms);
    }
    json_out_kv_str(out, key, text);
}

static void put_sources(struct json_out *out, const struct ztun_config *config) {
    json_out_kv_str(out, "configPath", config->proc.config_path);
    json_out_kv_str(out, "caDir", config->proc.ca_dir);
    json_out_kv_str(out, "localNode", config->node_name);
    json_out_kv_str(out, "proxyMode", config->is_dedicated ? "Dedicated" : "Shared");
    json_out_kv_str(out, "proxyWorkloadInformation", config->workload);
    json_out_kv_str(out, "podName", config->pod_name);
    json_out_kv_str(out, "podNamespace", config->pod_namespace);
    json_out_kv_str(out, "serviceAccount", config->service_account);
    json_out_kv_str(out, "crlPath", config->proc.crl_path);
    json_out_kv_str(out, "stateDir", config->proc.state_dir);
    json_out_kv_str(out, "io", proc_options_io_name(config->proc.io));
    json_out_kv_str(out, "logFilter", config->proc.log_filter);
    json_out_kv_str(out, "logFormat", config->proc.log_format);
    json_out_kv_str(out, "trustDomain", config->proc.trust_domain);
    json_out_kv_str(out, "clusterDomain", config->proc.cluster_domain);
    json_out_kv_str(out, "clusterId", config->proc.cluster_id);
    json_out_kv_str(out, "network", config->proc.network);
    json_out_kv_str(out, "rootNamespace", config->proc.root_namespace);
    put_ms(out, "secretTtl", (uint64_t)config->proc.secret_ttl_s * 1000);
    json_out_kv_str(out, "compliancePolicy",
                    config->proc.compliance == TLS_COMPLIANCE_FIPS  ? "fips-140-2"
                    : config->proc.compliance == TLS_COMPLIANCE_PQC ? "pqc"
                                                                    : "");
}

static void put_network(struct json_out *out, const struct ztun_config *config) {
    json_out_kv_u64(out, "outboundPort", config->outbound_port);
    json_out_kv_u64(out, "inboundPort", config->inbound_port);
    json_out_kv_u64(out, "hbonePort", config->hbone_port);
    json_out_kv_u64(out, "dnsProxyPort", config->dns_port);
    json_out_kv_u64(out, "socks5Port", config->socks5 ? config->socks_port : 0); // 0: none
    json_out_kv_u64(out, "packetMark", config->mark);
    json_out_kv_bool(out, "redirect", config->redirect);
    json_out_kv_bool(out, "dnsProxy", config->dns_capture);
    json_out_kv_bool(out, "ipv6Enabled", config->ipv6);
    if (config->original_source >= 0) {
        json_out_kv_bool(out, "requireOriginalSource", config->original_source == 1);
    } else {
        json_out_kv_str(out, "requireOriginalSource", NULL); // if possible
    }
    put_addr(out, "adminAddr", &config->proc.admin);
    put_addr(out, "statsAddr", &config->proc.metrics);
    put_addr(out, "readinessAddr", &config->proc.readiness);
}

void admin_write_config(struct json_out *out, const struct ztun_config *config) {
    json_out_begin_object(out);
    put_sources(out, config);
    json_out_kv_u64(out, "numWorkerThreads", config->proc.n_workers);
    put_network(out, config);
    json_out_kv_u64(out, "initialWindowSize", config->proc.stream_window);
    json_out_kv_u64(out, "windowSize", config->proc.stream_window_max);
    json_out_kv_u64(out, "connectionWindowSize", config->proc.conn_window);
    json_out_kv_u64(out, "frameSize", config->proc.frame_size);
    json_out_kv_u64(out, "poolMaxStreamsPerConn", config->proc.max_streams);
    put_ms(out, "poolUnusedReleaseTimeout", config->proc.pool_idle_ns / NS_PER_MS);
    json_out_kv_object(out, "socketConfig");
    json_out_kv_bool(out, "keepaliveEnabled", config->proc.keepalive);
    put_ms(out, "keepaliveTime", (uint64_t)config->proc.keepalive_s * 1000);
    put_ms(out, "keepaliveInterval", (uint64_t)config->proc.keepalive_interval_s * 1000);
    json_out_kv_u64(out, "keepaliveRetries", config->proc.keepalive_probes);
    json_out_kv_bool(out, "userTimeoutEnabled", config->proc.user_timeout);
    json_out_end(out);
    put_ms(out, "selfTerminationDeadline", config->proc.termination_ms);
    json_out_kv_u64(out, "memoryLimit", config->proc.memory_limit);
    json_out_kv_bool(out, "enableResponseBaggage", config->proc.response_baggage);
    json_out_kv_bool(out, "localhostAppTunnel", config->localhost_app_tunnel);
    json_out_end(out);
}
