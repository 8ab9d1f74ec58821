// SPDX-License-Identifier: Apache-2.0
//
// Effective settings; where ztunnel has the same one, under its name.
#include "common/proc/proc_dump.h"
#include "ztun/admin_priv.h"
#include "ztun/config.h"

static void put_place(struct json_out *out, const struct ztun_config *config) {
    json_out_kv_str(out, "localNode", config->node_name);
    json_out_kv_str(out, "proxyMode", config->is_dedicated ? "Dedicated" : "Shared");
    json_out_kv_str(out, "proxyWorkloadInformation", config->workload);
    json_out_kv_str(out, "podName", config->pod_name);
    json_out_kv_str(out, "podNamespace", config->pod_namespace);
    json_out_kv_str(out, "serviceAccount", config->service_account);
}

static void put_capture(struct json_out *out, const struct ztun_config *config) {
    json_out_kv_u64(out, "outboundPort", config->outbound_port);
    json_out_kv_u64(out, "inboundPort", config->inbound_port);
    json_out_kv_u64(out, "hbonePort", config->hbone_port);
    json_out_kv_u64(out, "dnsProxyPort", config->dns_port);
    json_out_kv_u64(out, "socks5Port", config->socks5 ? config->socks_port : 0); // 0: none
    json_out_kv_u64(out, "packetMark", config->mark);
    json_out_kv_str(out, "inpodUds", config->inpod_uds);
    json_out_kv_bool(out, "redirect", config->redirect == 1);
    json_out_kv_bool(out, "dnsProxy", config->dns_capture);
    json_out_kv_bool(out, "ipv6Enabled", config->ipv6);
    if (config->original_source >= 0) {
        json_out_kv_bool(out, "requireOriginalSource", config->original_source == 1);
    } else {
        json_out_kv_str(out, "requireOriginalSource", NULL); // if possible
    }
    json_out_kv_bool(out, "localhostAppTunnel", config->localhost_app_tunnel);
    json_out_kv_bool(out, "authzPolicyInfoLogging", config->authz_policy_info_logging);
}

void admin_write_config(struct json_out *out, const struct ztun_config *config) {
    json_out_begin_object(out);
    put_place(out, config);
    put_capture(out, config);
    proc_dump_config(out, &config->proc);
    json_out_end(out);
}
