// SPDX-License-Identifier: Apache-2.0
#include "ztun/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/proc/proc_proxy_config.h"

#define ZDS_SOCKET "/var/run/ztunnel/ztunnel.sock"
#define FIELD(name) offsetof(struct ztun_config, name)

static const struct proc_option options[] = {
    PROC_OPTIONS_SOURCE(struct ztun_config),
    PROC_OPTIONS_XDS(struct ztun_config),
    {"xds-on-demand", "XDS_ON_DEMAND", PROC_BOOL, FIELD(proc.xds_on_demand), "BOOL",
     "ask istiod for what connections go to, rather than for all that there is"},
    {"node", "NODE_NAME", PROC_TEXT, FIELD(node_name), "NAME", "serve the Pods of this node"},
    {"proxy-mode", "PROXY_MODE", PROC_TEXT, FIELD(proxy_mode), "MODE",
     "shared: the Pods of the node; dedicated: one, in our own network namespace"},
    {"workload", "PROXY_WORKLOAD_INFO", PROC_TEXT, FIELD(workload), "NS/NAME/SA",
     "dedicated: the Pod that is served, and its service account"},
    {"pod-name", "POD_NAME", PROC_TEXT, FIELD(pod_name), "NAME",
     "our own Pod: with the next two, its metrics are served over HBONE"},
    {"pod-namespace", "POD_NAMESPACE", PROC_TEXT, FIELD(pod_namespace), "NS", "its namespace"},
    {"service-account", "SERVICE_ACCOUNT", PROC_TEXT, FIELD(service_account), "NAME",
     "its service account"},
    PROC_OPTIONS_MESH(struct ztun_config),
    {"workers", "ZTUNNEL_WORKER_THREADS", PROC_THREADS, FIELD(proc.workers), "N|P%",
     "worker threads; 0 = all cores"},
    {NULL, "ZTUNNEL_CPU_LIMIT", PROC_U32, FIELD(proc.cpus), NULL, NULL},
    {NULL, "ZTUNNEL_RESOURCE_CPU_LIMIT", PROC_CPUS, FIELD(proc.cpu_limit), NULL, NULL},
    {NULL, "ZTUNNEL_RESOURCE_CPU_REQUEST", PROC_CPUS, FIELD(proc.cpu_request), NULL, NULL},
    {"packet-mark", "PACKET_MARK", PROC_U32, FIELD(mark), "N", "SO_MARK of own sockets"},
    {"inpod-uds", "INPOD_UDS", PROC_TEXT, FIELD(inpod_uds), "SOCKET",
     "istio-cni's node agent: it hands out the pods, and makes their redirection rules"},
    {"inpod", "INPOD_ENABLED", PROC_BOOL, FIELD(inpod_enabled), "BOOL", "the same, at " ZDS_SOCKET},
    {"redirect", NULL, PROC_TRISTATE, FIELD(redirect), "BOOL",
     "install redirection rules in the pods; not set = unless istio-cni does"},
    {"dns-capture", "ISTIO_META_DNS_CAPTURE", PROC_BOOL, FIELD(dns_capture), "BOOL",
     "capture DNS of the pods"},
    {"dns-proxy-addr", "ISTIO_META_DNS_PROXY_ADDR", PROC_TEXT, FIELD(dns_proxy_addr),
     "localhost:PORT", "where it is captured to; default: port 15053"},
    {"socks5", "UNSTABLE_ENABLE_SOCKS5", PROC_BOOL, FIELD(socks5), "BOOL",
     "serve SOCKS5 on 127.0.0.1:15080 of the pods"},
    {"ipv6", "IPV6_ENABLED", PROC_BOOL, FIELD(ipv6), "BOOL", "IPv6 sockets"},
    {"original-source", "ENABLE_ORIG_SRC", PROC_TRISTATE, FIELD(original_source), "BOOL",
     "keep the client's address on inbound connections; not set = if possible"},
    PROC_OPTIONS_SERVERS(struct ztun_config),
    PROC_OPTIONS_TUNNEL(struct ztun_config),
    PROC_OPTIONS_TCP(struct ztun_config),
    PROC_OPTIONS_END(struct ztun_config),
    {"localhost-app-tunnel", "LOCALHOST_APP_TUNNEL", PROC_BOOL, FIELD(localhost_app_tunnel), "BOOL",
     "reach a waypoint that wants the PROXY protocol at its pod's loopback address"},
    {"authz-policy-info-logging", "AUTHZ_POLICY_INFO_LOGGING", PROC_BOOL,
     FIELD(authz_policy_info_logging), "BOOL", "log each decision of policies, not at debug only"},
    {"response-baggage", "ENABLE_RESPONSE_BAGGAGE", PROC_BOOL, FIELD(proc.response_baggage), "BOOL",
     "describe the destination in answers to CONNECT"},
};

static const char *const words[] = {"proxy", "ztunnel"};

static const struct proc_program program = {
    .name = "ztun",
    .what = "node proxy of a sidecarless mesh",
    .usage = "--config DIR|--xds-address URL --ca-dir DIR|--ca-address URL --node NAME",
    .heading = "Options (environment names in brackets are ztunnel's):",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .words = words,
    .n_words = ARRAY_LEN(words),
};

static void set_defaults(struct ztun_config *config) {
    *config = (struct ztun_config){
        .outbound_port = 15001,
        .inbound_port = 15006,
        .hbone_port = 15008,
        .dns_port = 15053,
        .socks_port = 15080,
        .mark = 1337,
        .proxy_mode = "shared",
        .redirect = -1,
        .dns_capture = true,
        .ipv6 = true,
        .original_source = -1,
        .localhost_app_tunnel = true,
    };
    proc_config_defaults(&config->proc);
    config->proc.knows_istiod = true;
}

// Splits NS/NAME/SA. False: not that form.
static bool split_workload(struct ztun_config *config) {
    const char **const parts[] = {&config->workload_ns, &config->workload_name,
                                  &config->workload_account};
    struct slice rest = slice_str(config->workload);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct slice part = rest;
        bool has_more = slice_split(rest, '/', &part, &rest);
        if (part.len == 0 || has_more != (i + 1 < ARRAY_LEN(parts))) {
            return false;
        }
        *parts[i] = slice_dup(part); // as long as the process
    }
    return true;
}

static int check_mode(struct ztun_config *config) {
    config->is_dedicated = strcmp(config->proxy_mode, "dedicated") == 0;
    if (!config->is_dedicated && strcmp(config->proxy_mode, "shared") != 0) {
        fprintf(stderr, "ztun: --proxy-mode: \"%s\", expected shared or dedicated\n",
                config->proxy_mode);
        return 2;
    }
    if (config->is_dedicated != (config->workload != NULL)) {
        fprintf(stderr, "ztun: --proxy-mode dedicated and --workload go together\n");
        return 2;
    }
    if (config->is_dedicated && !split_workload(config)) {
        fprintf(stderr, "ztun: --workload: \"%s\", expected NAMESPACE/NAME/SERVICE-ACCOUNT\n",
                config->workload);
        return 2;
    }
    if (config->is_dedicated && config->node_name == NULL) {
        config->node_name = ""; // no other Pod is served
    }
    return 0;
}

static int check_agent(struct ztun_config *config) {
    struct sockaddr_un sa;
    if (config->inpod_enabled && config->inpod_uds == NULL) {
        config->inpod_uds = ZDS_SOCKET;
    }
    bool has_agent = config->inpod_uds != NULL;
    if (has_agent &&
        (config->inpod_uds[0] == '\0' || strlen(config->inpod_uds) >= sizeof(sa.sun_path))) {
        fprintf(stderr, "ztun: --inpod-uds: \"%s\", expected a path of 1 to %zu bytes\n",
                config->inpod_uds, sizeof(sa.sun_path) - 1);
        return 2;
    }
    if (has_agent && config->is_dedicated) {
        fprintf(stderr, "ztun: --inpod-uds does not go with --proxy-mode dedicated\n");
        return 2;
    }
    if (has_agent && config->redirect == 1) {
        fprintf(stderr, "ztun: --redirect does not go with --inpod-uds: the node agent makes the "
                        "rules\n");
        return 2;
    }
    config->redirect = config->redirect >= 0 ? config->redirect : !has_agent;
    return 0;
}

static int check_dns(struct ztun_config *config) {
    if (config->dns_proxy_addr == NULL) {
        return 0;
    }
    struct slice host, port_text;
    uint64_t port = 0;
    bool is_good = slice_split(slice_str(config->dns_proxy_addr), ':', &host, &port_text) &&
                   slice_eq_str(host, "localhost") && slice_to_u64(port_text, UINT16_MAX, &port);
    const uint16_t taken[] = {config->outbound_port, config->inbound_port, config->hbone_port,
                              config->socks_port};
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        is_good = is_good && port != taken[i];
    }
    if (!is_good || port == 0) {
        fprintf(stderr,
                "ztun: --dns-proxy-addr: \"%s\", expected localhost:PORT, of a port that is not "
                "the mesh's own\n",
                config->dns_proxy_addr);
        return 2;
    }
    config->dns_port = (uint16_t)port;
    return 0;
}

// Settings of ztunnel that ask for what there is not, or is asked for otherwise. Somebody relies on
// each that is set.
static int check_foreign(void) {
    static const struct {
        const char *name, *harmless, *advice; // harmless: ztunnel's default; NULL: none
    } rows[] = {
        {"ENABLE_PROXY", "true", "the proxy cannot be left out"},
        {"FAKE_CA", "false", "--ca-dir has a CA of our own"},
        {"LOCAL_XDS", NULL, "--config has objects of files"},
        {"LOCAL_XDS_PATH", NULL, "--config has objects of files"},
        {"TLS12_ENABLED", "false", "the mesh's TLS is 1.3 alone"},
        {"INPOD_PORT_REUSE", "true", "ports of pods are always shared with a successor"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = getenv(rows[i].name);
        bool is_set = text != NULL && text[0] != '\0';
        if (is_set && (rows[i].harmless == NULL || strcmp(text, rows[i].harmless) != 0)) {
            fprintf(stderr, "ztun: environment %s: \"%s\" is not possible: %s\n", rows[i].name,
                    text, rows[i].advice);
            return 2;
        }
    }
    return 0;
}

static void without_ipv6(struct ztun_config *config) {
    struct addr *const servers[] = {&config->proc.metrics, &config->proc.readiness};
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        if (servers[i]->ip.family == 6 && ip_is_unspecified(&servers[i]->ip)) {
            servers[i]->ip = (struct ip){.family = 4};
        }
    }
}

static int check(struct ztun_config *config) {
    if (config->node_name == NULL) {
        fprintf(stderr, "ztun: --node is required (see ztun --help)\n");
        return 2;
    }
    if (config->mark == 0 || config->mark > 0xfff) {
        fprintf(stderr, "ztun: --packet-mark: %u, expected 1 to 4095 (the rules compare 12 bits)\n",
                config->mark);
        return 2;
    }
    if (!config->ipv6) {
        without_ipv6(config);
    }
    if (!proc_config_check(&config->proc, program.name)) {
        return 2;
    }
    if (config->proc.xds_on_demand && config->proc.xds_address == NULL) {
        fprintf(stderr, "ztun: --xds-on-demand needs --xds-address, which is asked\n");
        return 2;
    }
    return 0;
}

int ztun_config_parse(struct ztun_config *config, int argc, char **argv) {
    set_defaults(config);
    if (!proc_proxy_config(&config->proc, program.name, PROC_MESH_FILE, getenv("PROXY_CONFIG"))) {
        return 2;
    }
    int rc = proc_options_parse(&program, config, argc, argv);
    if (rc == 0) {
        rc = check_mode(config);
    }
    if (rc == 0) {
        rc = check_agent(config);
    }
    if (rc == 0) {
        rc = check_dns(config);
    }
    if (rc == 0) {
        rc = check_foreign();
    }
    return rc != 0 ? rc : check(config);
}
