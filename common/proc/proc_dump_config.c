// SPDX-License-Identifier: Apache-2.0
//
// Effective settings; where ztunnel has the same one, under its name.
#include <stdio.h>

#include "common/base/clock.h"
#include "common/proc/proc_config.h"
#include "common/proc/proc_dump.h"
#include "common/proc/proc_options.h"
#include "common/proc/proc_trust.h"

static void put_addr(struct json_out *out, const char *key, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    json_out_kv_str(out, key, addr_text(addr, text));
}

static void put_ms(struct json_out *out, const char *key, uint64_t ms) {
    char text[32];
    snprintf(text, sizeof(text), "%llu%s", (unsigned long long)(ms % 1000 == 0 ? ms / 1000 : ms),
             ms % 1000 == 0 ? "s" : "ms");
    json_out_kv_str(out, key, text);
}

static void put_tcp(struct json_out *out, const struct proc_config *config) {
    json_out_kv_object(out, "socketConfig");
    json_out_kv_bool(out, "keepaliveEnabled", config->keepalive);
    put_ms(out, "keepaliveTime", (uint64_t)config->keepalive_s * 1000);
    put_ms(out, "keepaliveInterval", (uint64_t)config->keepalive_interval_s * 1000);
    json_out_kv_u64(out, "keepaliveRetries", config->keepalive_probes);
    json_out_kv_bool(out, "userTimeoutEnabled", config->user_timeout);
    json_out_end(out);
}

static void put_sources(struct json_out *out, const struct proc_config *config) {
    json_out_kv_str(out, "configPath", config->config_path);
    json_out_kv_str(out, "caDir", config->ca_dir);
    json_out_kv_str(out, "xdsAddress", config->xds_address);
    json_out_kv_str(out, "caAddress", config->ca_address);
    if (config->xds_address != NULL) {
        json_out_kv_str(out, "xdsRootCert", proc_trust_name(config->xds_roots));
        json_out_kv_str(out, "altXdsHostname", config->xds_hostname);
        json_out_kv_bool(out, "xdsOnDemand", config->xds_on_demand);
    }
    if (config->ca_address != NULL) {
        json_out_kv_str(out, "caRootCert", proc_trust_name(config->ca_roots));
        json_out_kv_str(out, "altCaHostname", config->ca_hostname);
    }
    if (config->xds_address != NULL || config->ca_address != NULL) {
        const char *path = proc_trust_token(config->token).path;
        json_out_kv_str(out, "auth", path != NULL ? path : "a token of the settings");
    }
    json_out_kv_str(out, "crlPath", config->crl_path);
    json_out_kv_str(out, "stateDir", config->state_dir);
    json_out_kv_str(out, "io", proc_options_io_name(config->io));
    json_out_kv_str(out, "logFilter", config->log_filter);
    json_out_kv_str(out, "logFormat", config->log_format);
    json_out_kv_str(out, "trustDomain", config->trust_domain);
    json_out_kv_str(out, "clusterDomain", config->cluster_domain);
    json_out_kv_str(out, "clusterId", config->cluster_id);
    json_out_kv_str(out, "network", config->network);
    json_out_kv_str(out, "rootNamespace", config->root_namespace);
    json_out_kv_str(out, "revision", config->revision);
    put_ms(out, "secretTtl", (uint64_t)config->secret_ttl_s * 1000);
    json_out_kv_str(out, "compliancePolicy",
                    config->compliance == TLS_COMPLIANCE_FIPS  ? "fips-140-2"
                    : config->compliance == TLS_COMPLIANCE_PQC ? "pqc"
                                                               : "");
}

void proc_dump_config(struct json_out *out, const struct proc_config *config) {
    put_sources(out, config);
    json_out_kv_u64(out, "numWorkerThreads", config->n_workers);
    put_addr(out, "adminAddr", &config->admin);
    put_addr(out, "statsAddr", &config->metrics);
    put_addr(out, "readinessAddr", &config->readiness);
    json_out_kv_u64(out, "initialWindowSize", config->stream_window);
    json_out_kv_u64(out, "windowSize", config->stream_window_max);
    json_out_kv_u64(out, "connectionWindowSize", config->conn_window);
    json_out_kv_u64(out, "frameSize", config->frame_size);
    json_out_kv_u64(out, "poolMaxStreamsPerConn", config->max_streams);
    put_ms(out, "poolUnusedReleaseTimeout", config->pool_idle_ns / NS_PER_MS);
    put_tcp(out, config);
    put_ms(out, "selfTerminationDeadline", config->termination_ms);
    put_ms(out, "rebindDeadline", config->rebind_ms);
    json_out_kv_u64(out, "memoryLimit", config->memory_limit);
    json_out_kv_bool(out, "enableResponseBaggage", config->response_baggage);
}
