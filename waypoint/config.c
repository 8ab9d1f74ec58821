// SPDX-License-Identifier: Apache-2.0
#include "waypoint/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/l7/l7_log_format.h"
#include "common/proc/proc_proxy_config.h"

#define FIELD(name) offsetof(struct waypoint_config, name)

static const struct proc_option options[] = {
    PROC_OPTIONS_SOURCE(struct waypoint_config),
    PROC_OPTIONS_XDS(struct waypoint_config),
    PROC_OPTIONS_KUBE(struct waypoint_config),
    {"gateway", "GATEWAY_NAME", PROC_TEXT, FIELD(gateway), "[NS/]NAME",
     "the Gateway to be the waypoint of; its namespace is that of the pod unless given"},
    {"namespace", "POD_NAMESPACE", PROC_TEXT, FIELD(ns), "NS", "namespace of the pod"},
    {"service-account", "SERVICE_ACCOUNT", PROC_TEXT, FIELD(service_account), "NAME",
     "own identity's account; default: the Gateway's name"},
    {"node", "NODE_NAME", PROC_TEXT, FIELD(node_name), "NAME", "node that it runs on"},
    {"pod", "POD_NAME", PROC_TEXT, FIELD(pod_name), "NAME", "own pod, for telemetry"},
    PROC_OPTIONS_MESH(struct waypoint_config),
    {"workers", "WORKER_THREADS", PROC_THREADS, FIELD(proc.workers), "N|P%",
     "worker threads; 0 = all cores"},
    {"listen", NULL, PROC_ADDR, FIELD(listen), "IP:PORT", "address of the HBONE listener"},
    {"kube-status", NULL, PROC_TEXT, FIELD(status_api), "in-cluster|URL|FILE",
     "the Kubernetes API, for status of the Gateway and of routes"},
    {"auto-binding", NULL, PROC_BOOL, FIELD(auto_binding), "BOOL",
     "bind services of a namespace with ztun.io/use-waypoint: auto, by their label"},
    PROC_OPTIONS_SERVERS(struct waypoint_config),
    PROC_OPTIONS_TUNNEL(struct waypoint_config),
    PROC_OPTIONS_TCP(struct waypoint_config),
    PROC_OPTIONS_END(struct waypoint_config),
    {"access-log", NULL, PROC_TRISTATE, FIELD(access_log), "BOOL",
     "a line for each HTTP request; default: when MeshConfig has an accessLogFile"},
    {"access-log-format", NULL, PROC_TEXT, FIELD(access_log_format), "TEXT",
     "its format; default: that of MeshConfig, or Istio's"},
    {"access-log-encoding", NULL, PROC_TEXT, FIELD(access_log_encoding), "text|json",
     "its encoding; default: that of MeshConfig, or text"},
    {"response-baggage", "ENABLE_RESPONSE_BAGGAGE", PROC_BOOL, FIELD(proc.response_baggage), "BOOL",
     "describe the waypoint in answers to CONNECT"},
};

static const struct proc_program program = {
    .name = "waypoint",
    .what = "L7 proxy of a sidecarless mesh",
    .usage = "--config DIR|--kube WHERE|--xds-address URL --ca-dir DIR|--ca-address URL "
             "--gateway NS/NAME",
    .heading = "Options (environment names in brackets):",
    .options = options,
    .n_options = ARRAY_LEN(options),
};

static void set_defaults(struct waypoint_config *config) {
    *config = (struct waypoint_config){
        .kube = {.account_dir = KUBE_ACCOUNT_DIR},
        .node_name = "",
        .pod_name = "",
        .access_log = -1,
    };
    proc_config_defaults(&config->proc);
    CHECK(addr_parse(slice_str("[::]:15008"), &config->listen));
}

// What becomes part of a SPIFFE id and of a host name.
static bool is_name(const char *text) {
    size_t len = strlen(text);
    return len > 0 && len <= 253 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len;
}

static bool take_gateway(struct waypoint_config *config) {
    const char *slash = strchr(config->gateway, '/');
    config->name = slash != NULL ? slash + 1 : config->gateway;
    if (slash != NULL) {
        config->ns = xstrndup(config->gateway, (size_t)(slash - config->gateway)); // for good
    }
    if (config->ns == NULL) {
        fprintf(stderr, "waypoint: --gateway: \"%s\" has no namespace, expected NS/NAME\n",
                config->gateway);
        return false;
    }
    if (config->service_account == NULL) {
        config->service_account = config->name;
    }
    if (!is_name(config->ns) || !is_name(config->name)) {
        fprintf(stderr, "waypoint: --gateway: \"%s\" is not valid, expected NS/NAME\n",
                config->gateway);
        return false;
    }
    if (!is_name(config->service_account)) {
        fprintf(stderr, "waypoint: --service-account: \"%s\" is not valid\n",
                config->service_account);
        return false;
    }
    return true;
}

static bool check_access_log(const struct waypoint_config *config) {
    const char *encoding = config->access_log_encoding;
    bool is_json = encoding != NULL && strcmp(encoding, "json") == 0;
    if (encoding != NULL && !is_json && strcmp(encoding, "text") != 0) {
        fprintf(stderr,
                "waypoint: --access-log-encoding: \"%s\" is not valid, expected text|json\n",
                encoding);
        return false;
    }
    const char *format = config->access_log_format;
    const char *problem = format != NULL ? l7_log_format_problem(is_json, format) : NULL;
    if (problem != NULL) {
        fprintf(stderr, "waypoint: --access-log-format: %s\n", problem);
        return false;
    }
    return true;
}

static bool take_kube(struct waypoint_config *config) {
    if (config->kube.where == NULL) {
        return true;
    }
    char *error =
        kube_access_find(&config->kube_access, config->kube.where, config->kube.account_dir);
    if (error != NULL) {
        fprintf(stderr, "waypoint: --kube: %s\n", error);
        free(error);
        return false;
    }
    if (config->ns == NULL) {
        config->ns = config->kube_access.ns;
    }
    return true;
}

static bool check_source(struct waypoint_config *config) {
    bool has_files = config->proc.config_path != NULL, has_kube = config->kube.where != NULL;
    if (has_files && has_kube) {
        fprintf(stderr, "waypoint: --config and --kube are two sources of the same objects: give "
                        "one\n");
        return false;
    }
    if (!has_kube && config->kube.namespaces != NULL) {
        fprintf(stderr, "waypoint: --kube-namespaces is for --kube\n");
        return false;
    }
    if (has_kube && config->proc.state_dir != NULL) {
        fprintf(stderr, "waypoint: --state-dir is for --config: with --kube the API server keeps "
                        "the objects\n");
        return false;
    }
    config->proc.other_source = "--kube";
    config->proc.has_other_source = has_kube;
    return true;
}

static int check(struct waypoint_config *config) {
    if (!check_source(config)) {
        return 2;
    }
    if (config->gateway == NULL) {
        fprintf(stderr, "waypoint: --gateway is required (see waypoint --help)\n");
        return 2;
    }
    if (config->auto_binding && config->status_api == NULL) {
        fprintf(stderr, "waypoint: --auto-binding needs --kube-status, where it writes\n");
        return 2;
    }
    return take_kube(config) && take_gateway(config) && check_access_log(config) &&
                   proc_config_check(&config->proc, program.name)
               ? 0
               : 2;
}

int waypoint_config_parse(struct waypoint_config *config, int argc, char **argv) {
    set_defaults(config);
    if (!proc_proxy_config(&config->proc, program.name, PROC_MESH_FILE, getenv("PROXY_CONFIG"))) {
        return 2;
    }
    int rc = proc_options_parse(&program, config, argc, argv);
    return rc != 0 ? rc : check(config);
}
