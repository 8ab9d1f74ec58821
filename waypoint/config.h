// SPDX-License-Identifier: Apache-2.0
//
// Settings of the waypoint: flags, then environment names, then defaults.
#pragma once

#include "common/proc/proc_config.h"
#include "common/proc/proc_kube.h"

struct waypoint_config {
    struct proc_config proc;
    struct proc_kube_config kube;
    struct kube_access kube_access; // with kube.where
    const char *gateway; // as given: "NS/NAME", or NAME in `ns`
    // who it is, after waypoint_config_parse: the Gateway that it serves, its account and place
    const char *ns, *name, *service_account, *node_name, *pod_name; // node, pod: "" = unknown
    // servers
    struct addr listen; // HBONE
    // where status is written, as of kube_access_find; NULL: nowhere
    const char *status_api;
    bool auto_binding;
    // access log of HTTP; what is not set is MeshConfig's
    int access_log; // 1, 0; -1 = not set
    const char *access_log_format, *access_log_encoding; // "text", "json"; NULL = not set
};

// Parses flags and environment. Returns 0; 1 when it printed help or the version (exit 0); 2 when
// it printed a usage error (exit 2).
int waypoint_config_parse(struct waypoint_config *config, int argc, char **argv);
