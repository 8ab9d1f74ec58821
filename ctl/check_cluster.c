// SPDX-License-Identifier: Apache-2.0
//
// What has to be there before ztun is installed: Kubernetes, kernels, istio-cni, istiod, the
// Gateway API.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/local_json.h"

enum { KUBE_MINOR = 28, ISTIO_MINOR = 24 };

static const char default_ns[] = "istio-system", default_account[] = "ztunnel";

// "v1.30.2+k3s1", "1.30"; false when it is none of version 1.
static bool parse_minor(const char *version, unsigned *ret_minor) {
    version += version[0] == 'v';
    return sscanf(version, "1.%u", ret_minor) == 1;
}

static bool check_kubernetes(struct check *c, const struct kubectl *k) {
    const char *const args[] = {"get", "--raw", "/version", NULL};
    char *error = NULL;
    unsigned minor;
    json_t *version = kubectl_json(k, args, &error);

    if (version == NULL) {
        check_add(c, CHECK_ERROR, "kubernetes", "", "see what `kubectl get --raw /version` says",
                  "the cluster does not answer: %s", error);
        free(error);
        return false;
    }
    const char *text = js_str(version, "gitVersion", "");
    if (!parse_minor(text, &minor)) {
        check_add(c, CHECK_WARNING, "kubernetes", "", NULL, "`%s` is no version that is known",
                  text);
    } else if (minor < KUBE_MINOR) {
        check_add(c, CHECK_ERROR, "kubernetes", "", "use Kubernetes 1.28 or newer",
                  "%s is too old for the charts", text);
    } else {
        check_add(c, CHECK_FINE, "kubernetes", "", NULL, "Kubernetes %s", text);
    }
    json_decref(version);
    return true;
}

// Nodes that are fine are one line together.
static void check_nodes(struct check *c, const json_t *nodes) {
    const json_t *items = json_object_get(nodes, "items"), *node;
    struct check one = {0};
    size_t i, n_good = 0;

    json_array_foreach(items, i, node) {
        if (strcmp(js_str(node, "status.nodeInfo.operatingSystem", "linux"), "linux") != 0) {
            check_add(c, CHECK_NOTE, "node", js_name(node), NULL,
                      "is not Linux: its pods are not in the mesh");
            continue;
        }
        const char *release = js_str(node, "status.nodeInfo.kernelVersion", "");
        check_kernel(&one, js_name(node), release);
        if (one.items[one.n - 1].severity == CHECK_FINE) {
            n_good++;
        } else {
            check_kernel(c, js_name(node), release);
        }
    }
    check_fini(&one);
    if (n_good > 0) {
        check_add(c, CHECK_FINE, "kernel", "", NULL, "Linux 6.1 or newer on %zu node%s", n_good,
                  n_good == 1 ? "" : "s");
    }
}

// Its own name: two namespaces may have one.
static char *full_name(const json_t *object) {
    return xasprintf("%s/%s", js_ns(object), js_name(object));
}

// istio-cni

static const char *config_map_of(const json_t *daemonset) {
    const json_t *containers = js_get(daemonset, "spec.template.spec.containers"), *container;
    const json_t *from;
    size_t i, j;

    json_array_foreach(containers, i, container) {
        json_array_foreach(json_object_get(container, "envFrom"), j, from) {
            const char *name = js_str(from, "configMapRef.name", NULL);
            if (name != NULL) {
                return name;
            }
        }
    }
    return "istio-cni-config";
}

static void check_ambient(struct check *c, const struct kubectl *k, const json_t *daemonset,
                          const char *name) {
    json_t *map = check_get(c, k, "istio-cni",
                            CHECK_ARGS("configmap", config_map_of(daemonset), "-n",
                                       js_ns(daemonset), "--ignore-not-found"));
    const char *mode = js_str(map, "data.AMBIENT_ENABLED", "false");

    if (map != NULL && strcmp(mode, "true") != 0) {
        check_add(c, CHECK_ERROR, "istio-cni", name,
                  "install it with --set ambient.enabled=true (or profile=ambient)",
                  "is not in ambient mode: it enrols no pods");
    } else if (map != NULL) {
        check_add(c, CHECK_FINE, "istio-cni", name, NULL, "in ambient mode");
    }
    json_decref(map);
}

static void check_cni(struct check *c, const struct kubectl *k) {
    json_t *sets = check_get(c, k, "istio-cni",
                             CHECK_ARGS("daemonsets.apps", "-A", "-l", "k8s-app=istio-cni-node"));
    const json_t *items = json_object_get(sets, "items"), *set;
    size_t i;

    if (sets != NULL && json_array_size(items) == 0) {
        check_add(c, CHECK_ERROR, "istio-cni", "",
                  "install Istio's chart cni with --set profile=ambient",
                  "is not installed: nobody redirects the pods' connections");
    }
    json_array_foreach(items, i, set) {
        char *name = full_name(set);
        long long want = js_int(set, "status.desiredNumberScheduled", 0);
        long long ready = js_int(set, "status.numberReady", 0);
        if (ready < want) {
            check_add(c, CHECK_ERROR, "istio-cni", name, "see its pods: kubectl describe pods",
                      "is ready on %lld of %lld nodes: pods cannot start on the others", ready,
                      want);
        }
        check_ambient(c, k, set, name);
        free(name);
    }
    json_decref(sets);
}

// istiod

static const json_t *env_of(const json_t *deployment, const char *name) {
    const json_t *containers = js_get(deployment, "spec.template.spec.containers"), *container;
    const json_t *env;
    size_t i, j;

    json_array_foreach(containers, i, container) {
        json_array_foreach(json_object_get(container, "env"), j, env) {
            if (strcmp(js_str(env, "name", ""), name) == 0) {
                return env;
            }
        }
    }
    return NULL;
}

static bool is_in_list(const char *list, const char *word) {
    struct slice rest = slice_str(list), item;

    while (slice_split(rest, ',', &item, &rest)) {
        if (slice_eq_str(slice_trim(item), word)) {
            return true;
        }
    }
    return slice_eq_str(slice_trim(rest), word);
}

static void check_istiod_version(struct check *c, const json_t *istiod, const char *name) {
    const char *image =
        js_str(json_array_get(js_get(istiod, "spec.template.spec.containers"), 0), "image", "");
    const char *tag = strrchr(image, ':');
    unsigned minor;

    if (tag == NULL || !parse_minor(tag + 1, &minor)) {
        check_add(c, CHECK_NOTE, "istiod", name, NULL, "its version is not known (%s)", image);
    } else if (minor < ISTIO_MINOR) {
        check_add(c, CHECK_ERROR, "istiod", name, "use Istio 1.24 or newer",
                  "Istio 1.%u is older than its ambient mode is stable", minor);
    } else {
        check_add(c, CHECK_FINE, "istiod", name, NULL, "Istio 1.%u", minor);
    }
}

static void check_istiod(struct check *c, const json_t *istiod, const char *account,
                         bool is_only_one) {
    enum check_severity severity = is_only_one ? CHECK_ERROR : CHECK_WARNING;
    char *name = full_name(istiod);

    check_istiod_version(c, istiod, name);
    if (js_int(istiod, "status.readyReplicas", 0) == 0) {
        check_add(c, CHECK_ERROR, "istiod", name, "see its pods: kubectl describe pods",
                  "has no pod that is ready");
    }
    if (strcmp(js_str(env_of(istiod, "PILOT_ENABLE_AMBIENT"), "value", "false"), "true") != 0) {
        check_add(c, severity, "istiod-ambient", name,
                  "install it with --set profile=ambient (PILOT_ENABLE_AMBIENT=true)",
                  "is not in ambient mode: it tells ztun of no workloads");
    } else {
        check_add(c, CHECK_FINE, "istiod-ambient", name, NULL, "in ambient mode");
    }
    const json_t *trusted = env_of(istiod, "CA_TRUSTED_NODE_ACCOUNTS");
    if (!is_in_list(js_str(trusted, "value", ""), account)) {
        check_add(
            c, severity, "istiod-ca", name,
            "install istiod with --set trustedZtunnelNamespace=... and trustedZtunnelName=... "
            "(CA_TRUSTED_NODE_ACCOUNTS)",
            "gives no certificates to %s: it trusts `%s`", account, js_str(trusted, "value", ""));
    } else {
        check_add(c, CHECK_FINE, "istiod-ca", name, NULL, "gives certificates to %s", account);
    }
    free(name);
}

// Where ztun is, else where it will be.
static const char *ns_of(const struct check_cluster *cluster) {
    if (json_is_object(cluster->ztun)) {
        return js_ns(cluster->ztun);
    }
    return cluster->ns != NULL ? cluster->ns : default_ns;
}

// Who asks for certificates: what is installed, else what the chart makes.
static char *account_of(const struct check_cluster *cluster) {
    const char *name =
        json_is_object(cluster->ztun)
            ? js_str(cluster->ztun, "spec.template.spec.serviceAccountName", "default")
            : default_account;
    return xasprintf("%s/%s", ns_of(cluster), name);
}

static void check_istiods(struct check *c, const struct check_cluster *cluster) {
    json_t *list = check_get(c, cluster->kubectl, "istiod",
                             CHECK_ARGS("deployments.apps", "-A", "-l", "app=istiod"));
    const json_t *items = json_object_get(list, "items"), *istiod;
    char *account = account_of(cluster);
    size_t i;

    if (list != NULL && json_array_size(items) == 0) {
        check_add(c, CHECK_ERROR, "istiod", "",
                  "install Istio's charts base and istiod with --set profile=ambient",
                  "is not installed: ztun has nobody to ask for workloads and certificates");
    }
    json_array_foreach(items, i, istiod) {
        check_istiod(c, istiod, account, json_array_size(items) == 1);
    }
    free(account);
    json_decref(list);
}

// The Gateway API

static bool check_gateway_api(struct check *c, const struct kubectl *k) {
    json_t *crd = check_get(c, k, "gateway-api",
                            CHECK_ARGS("customresourcedefinitions.apiextensions.k8s.io",
                                       "gateways.gateway.networking.k8s.io", "--ignore-not-found"));
    bool is_there = json_is_object(crd);

    if (is_there) {
        const char *version = js_annotation(crd, "gateway.networking.k8s.io/bundle-version");
        check_add(c, CHECK_FINE, "gateway-api", "", NULL, "Gateway API %s",
                  version != NULL ? version : "of an unknown version");
    } else if (crd != NULL) {
        check_add(c, CHECK_WARNING, "gateway-api", "",
                  "install the standard channel of https://gateway-api.sigs.k8s.io",
                  "is not installed: there can be no waypoints");
    }
    json_decref(crd);
    return is_there;
}

// ztun itself

// The DaemonSet; JSON null when there is none, NULL when it could not be looked at. Istio's own has
// the same labels, so that one can follow the other; which one it is they tell themselves.
static json_t *find_ztun(struct check *c, const struct check_cluster *cluster) {
    const struct kubectl *k = cluster->kubectl;
    json_t *sets = cluster->ns != NULL
                       ? check_get(c, k, "ztun",
                                   CHECK_ARGS("daemonsets.apps", "-n", cluster->ns, "-l",
                                              "app.kubernetes.io/name=ztunnel"))
                       : check_get(c, k, "ztun",
                                   CHECK_ARGS("daemonsets.apps", "-A", "-l",
                                              "app.kubernetes.io/name=ztunnel"));
    json_t *set, *found = json_null();
    size_t i;

    if (sets == NULL) {
        return NULL;
    }
    json_array_foreach(json_object_get(sets, "items"), i, set) {
        char *name = full_name(set);
        if (json_is_null(found)) {
            found = json_incref(set);
        } else {
            check_add(c, CHECK_ERROR, "ztun", name, "remove one of them",
                      "is a second one beside %s/%s", js_ns(found), js_name(found));
        }
        free(name);
    }
    if (json_is_null(found)) {
        check_add(c, CHECK_NOTE, "ztun", "", NULL, "is not installed yet");
    }
    json_decref(sets);
    return found;
}

bool check_cluster_before(struct check *c, struct check_cluster *cluster) {
    const struct kubectl *k = cluster->kubectl;

    if (!check_kubernetes(c, k)) {
        return false;
    }
    cluster->nodes = check_get(c, k, "kernel", CHECK_ARGS("nodes"));
    check_nodes(c, cluster->nodes);
    check_cni(c, k);
    cluster->ztun = find_ztun(c, cluster);
    check_istiods(c, cluster);
    cluster->has_gateway_api = check_gateway_api(c, k);
    cluster->namespaces = check_get(c, k, "namespaces", CHECK_ARGS("namespaces"));
    check_security(c, cluster, ns_of(cluster));
    return true;
}

void check_cluster_fini(struct check_cluster *cluster) {
    json_decref(cluster->nodes);
    json_decref(cluster->namespaces);
    json_decref(cluster->ztun);
}
