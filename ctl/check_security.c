// SPDX-License-Identifier: Apache-2.0
//
// What may keep ztun from starting, from io_uring, or its peers from reaching it: pod security,
// seccomp, NetworkPolicies.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/proto/hbone.h"
#include "ctl/check.h"
#include "ctl/local_json.h"

enum { SHOWN_MAX = 10 };

static const json_t *namespace_of(const struct check_cluster *cluster, const char *name) {
    const json_t *ns;
    size_t i;
    json_array_foreach(json_object_get(cluster->namespaces, "items"), i, ns) {
        if (strcmp(js_name(ns), name) == 0) {
            return ns;
        }
    }
    return NULL;
}

// Pod security admission

static void check_admission(struct check *c, const struct check_cluster *cluster, const char *ns) {
    const char *level = js_label(namespace_of(cluster, ns), "pod-security.kubernetes.io/enforce");

    if (level != NULL && strcmp(level, "privileged") != 0) {
        check_add(c, CHECK_ERROR, "pod-security", ns,
                  "label the namespace pod-security.kubernetes.io/enforce=privileged",
                  "admits only `%s` pods: ztun's, which enter the pods' namespaces, are refused",
                  level);
    } else if (namespace_of(cluster, ns) != NULL) {
        check_add(c, CHECK_FINE, "pod-security", ns, NULL, "admits ztun's pods");
    }
}

// Seccomp

// Of ztun's container, else of its pod; NULL: not said.
static const char *profile_of(const json_t *daemonset) {
    const json_t *spec = js_get(daemonset, "spec.template.spec");
    const json_t *container = json_array_get(json_object_get(spec, "containers"), 0);
    const char *own = js_str(container, "securityContext.seccompProfile.type", NULL);

    return own != NULL ? own : js_str(spec, "securityContext.seccompProfile.type", NULL);
}

// Whether the kubelet of the first node gives its default profile to those who name none. A
// kubelet that may not be asked counts as one that does not.
static bool has_default_profile(const struct check_cluster *cluster) {
    const json_t *node = json_array_get(json_object_get(cluster->nodes, "items"), 0);
    char *path = xasprintf("/api/v1/nodes/%s/proxy/configz", js_name(node)), *error = NULL;
    const char *const args[] = {"get", "--raw", path, NULL};
    json_t *config = node != NULL ? kubectl_json(cluster->kubectl, args, &error) : NULL;
    bool has_one = js_bool(config, "kubeletconfig.seccompDefault", false);

    json_decref(config);
    free(error);
    free(path);
    return has_one;
}

static void check_profile(struct check *c, const struct check_cluster *cluster) {
    static const char remedy[] = "install ztun with --set seccompInstall.enabled=true, or "
                                 "seccompProfile.type=Unconfined";
    const char *profile = profile_of(cluster->ztun);

    if (profile != NULL && strcmp(profile, "RuntimeDefault") == 0) {
        check_add(c, CHECK_WARNING, "seccomp", "", remedy,
                  "ztun runs with the runtime's default profile, which refuses io_uring: epoll is "
                  "used, at more CPU");
    } else if (profile == NULL && has_default_profile(cluster)) {
        check_add(
            c, CHECK_WARNING, "seccomp", "", remedy,
            "kubelets give pods the runtime's default profile (seccompDefault), which refuses "
            "io_uring: epoll is used, at more CPU");
    } else {
        check_add(c, CHECK_FINE, "seccomp", "", NULL, "%s",
                  profile != NULL ? profile : "no profile is set for ztun");
    }
}

// NetworkPolicies

static bool has_hbone_port(const json_t *ports) {
    const json_t *item;
    size_t i;
    json_array_foreach(ports, i, item) {
        const json_t *port = json_object_get(item, "port");
        long long first = js_int(item, "port", 0), last = js_int(item, "endPort", first);
        bool is_tcp = strcmp(js_str(item, "protocol", "TCP"), "TCP") == 0;
        if (is_tcp && (port == NULL || (first <= HBONE_PORT && HBONE_PORT <= last))) {
            return true;
        }
    }
    return false;
}

// It lets something through, but by ports alone that are not those of the mesh.
static bool misses_hbone(const json_t *policy, const char *direction) {
    char path[32];
    const json_t *rules, *rule;
    size_t i;

    snprintf(path, sizeof(path), "spec.%s", direction);
    rules = js_get(policy, path);
    json_array_foreach(rules, i, rule) {
        const json_t *ports = json_object_get(rule, "ports");
        if (json_array_size(ports) == 0 || has_hbone_port(ports)) {
            return false;
        }
    }
    return json_array_size(rules) > 0;
}

static bool is_in_mesh(const struct check_cluster *cluster, const char *ns) {
    const char *mode = js_label(namespace_of(cluster, ns), "istio.io/dataplane-mode");
    return mode != NULL && strcmp(mode, "ambient") == 0;
}

static void check_network_policies(struct check *c, const struct check_cluster *cluster) {
    json_t *list = check_get(c, cluster->kubectl, "network-policy",
                             CHECK_ARGS("networkpolicies.networking.k8s.io", "-A"));
    const json_t *policy;
    size_t i, n = 0;

    json_array_foreach(json_object_get(list, "items"), i, policy) {
        bool is_in = misses_hbone(policy, "ingress"), is_out = misses_hbone(policy, "egress");
        if (!is_in_mesh(cluster, js_ns(policy)) || (!is_in && !is_out) || n++ >= SHOWN_MAX) {
            continue;
        }
        char *name = xasprintf("%s/%s", js_ns(policy), js_name(policy));
        check_add(c, CHECK_WARNING, "network-policy", name,
                  "add port 15008/TCP to its rules: within the mesh that is the port on the wire",
                  "lets no connections of the mesh %s (port 15008)",
                  is_in && is_out ? "in or out"
                  : is_in         ? "in"
                                  : "out");
        free(name);
    }
    if (n > SHOWN_MAX) {
        check_add(c, CHECK_WARNING, "network-policy", "", NULL, "and %zu more", n - SHOWN_MAX);
    } else if (n == 0 && list != NULL) {
        check_add(c, CHECK_FINE, "network-policy", "", NULL, "none is in the way of port 15008");
    }
    json_decref(list);
}

void check_security(struct check *c, const struct check_cluster *cluster, const char *ns) {
    check_admission(c, cluster, ns);
    check_profile(c, cluster);
    check_network_policies(c, cluster);
}
