// SPDX-License-Identifier: Apache-2.0
//
// Waypoints of a cluster, and what is bound to them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/local_json.h"
#include "ctl/waypoint_gateway.h"

static const char use_waypoint[] = "istio.io/use-waypoint";

static const json_t *find(const json_t *list, const char *ns, const char *name) {
    const json_t *object;
    size_t i;
    json_array_foreach(list, i, object) {
        if (strcmp(js_ns(object), ns) == 0 && strcmp(js_name(object), name) == 0) {
            return object;
        }
    }
    return NULL;
}

static bool is_bound(const json_t *object) {
    const char *name = js_label(object, use_waypoint);
    return name != NULL && name[0] != '\0' && strcmp(name, "none") != 0;
}

// The waypoint's Service

// In a namespace that is bound to a waypoint its own Service would be, too.
static bool would_loop(const struct check_cluster *cluster, const json_t *service) {
    const json_t *ns = find(json_object_get(cluster->namespaces, "items"), "", js_ns(service));
    const char *managed = js_label(service, "gateway.istio.io/managed");
    bool has_own = js_label(service, use_waypoint) != NULL;
    return managed == NULL && (has_own ? is_bound(service) : ns != NULL && is_bound(ns));
}

static void check_service(struct check *c, const struct check_cluster *cluster,
                          const json_t *gateway, const char *name) {
    char service_name[64], ns[64];

    if (!waypoint_service(gateway, service_name, ns)) {
        return; // istiod makes its processes
    }
    json_t *service =
        check_get(c, cluster->kubectl, "waypoint-service",
                  CHECK_ARGS("service", service_name, "-n", ns, "--ignore-not-found"));
    if (json_is_null(service)) {
        check_add(c, CHECK_ERROR, "waypoint-service", name,
                  "install ztun's waypoint chart there, or correct spec.addresses",
                  "service %s/%s, which it names, is not there", ns, service_name);
    } else if (service != NULL && !waypoint_has_port(service)) {
        check_add(c, CHECK_ERROR, "waypoint-service", name, "add the port 15008 to it",
                  "service %s/%s has no port 15008: the mesh cannot reach it", ns, service_name);
    } else if (service != NULL && would_loop(cluster, service)) {
        check_add(c, CHECK_ERROR, "waypoint-service", name,
                  "label the service istio.io/use-waypoint=none",
                  "service %s/%s is bound to a waypoint itself", ns, service_name);
    } else if (service != NULL) {
        check_add(c, CHECK_FINE, "waypoint-service", name, NULL, "service %s/%s", ns, service_name);
    }
    json_decref(service);
}

// The Gateway

static void check_class(struct check *c, const struct check_cluster *cluster, const json_t *list) {
    const json_t *gateway;
    size_t i, n = 0;

    json_array_foreach(list, i, gateway) {
        n += strcmp(js_str(gateway, "spec.gatewayClassName", ""), WAYPOINT_CLASS_ZTUN) == 0;
    }
    if (n == 0) {
        return;
    }
    json_t *class = check_get(c, cluster->kubectl, "waypoint-class",
                              CHECK_ARGS("gatewayclasses.gateway.networking.k8s.io",
                                         WAYPOINT_CLASS_ZTUN, "--ignore-not-found"));
    if (json_is_null(class)) {
        check_add(c, CHECK_ERROR, "waypoint-class", WAYPOINT_CLASS_ZTUN,
                  "install one waypoint chart with gatewayClass.create=true",
                  "%zu waypoint%s of this class, which is not there", n, n == 1 ? " is" : "s are");
    } else if (class != NULL) {
        check_add(c, CHECK_FINE, "waypoint-class", WAYPOINT_CLASS_ZTUN, NULL, "is there");
    }
    json_decref(class);
}

static void check_waypoint(struct check *c, const struct check_cluster *cluster,
                           const json_t *gateway) {
    char *name = xasprintf("%s/%s", js_ns(gateway), js_name(gateway));
    const json_t *condition = waypoint_condition(gateway);

    if (!waypoint_is_programmed(gateway)) {
        check_add(c, CHECK_ERROR, "waypoint", name,
                  "see that its pods are ready, and `ztunctl waypoint status`",
                  "is not programmed: %s",
                  condition != NULL ? js_str(condition, "message", "") : "nobody wrote its status");
    } else if (json_array_size(js_get(gateway, "status.addresses")) == 0) {
        check_add(c, CHECK_ERROR, "waypoint", name, "see istiod's log",
                  "has no address in its status: the mesh does not know it");
    } else {
        check_add(c, CHECK_FINE, "waypoint", name, NULL, "programmed");
    }
    check_service(c, cluster, gateway, name);
    free(name);
}

// Its pods

static void check_pods(struct check *c, const struct check_cluster *cluster,
                       const json_t *gateway) {
    char service[64], ns[64];
    char *name = xasprintf("%s/%s", js_ns(gateway), js_name(gateway));
    char *label = xasprintf("gateway.networking.k8s.io/gateway-name=%s", js_name(gateway));
    const json_t *pod;
    size_t i, n_ready = 0;

    if (!waypoint_service(gateway, service, ns)) {
        free(label);
        free(name);
        return; // istiod makes its processes
    }
    json_t *pods = check_get(c, cluster->kubectl, "waypoint-pod",
                             CHECK_ARGS("pods", "-n", js_ns(gateway), "-l", label));
    json_array_foreach(json_object_get(pods, "items"), i, pod) {
        if (js_get(pod, "metadata.deletionTimestamp") != NULL) {
            continue;
        }
        if (!check_is_pod_ready(pod)) {
            check_add(c, CHECK_WARNING, "waypoint-pod", name,
                      "see kubectl describe pod and its log", "pod %s is not ready", js_name(pod));
        } else if (n_ready++ < cluster->max_nodes) {
            char *object = xasprintf("%s/%s", js_ns(pod), js_name(pod));
            if (!check_ask(c, cluster->kubectl, pod, object, check_waypoint_status)) {
                check_add(c, CHECK_NOTE, "waypoint-pod", object, NULL,
                          "is not ztun's waypoint: nothing more is known");
            }
            free(object);
        }
    }
    if (pods != NULL && n_ready == 0) {
        check_add(c, CHECK_ERROR, "waypoint-pod", name,
                  "install ztun's waypoint chart there, or see why its pods are not ready",
                  "has no pod that is ready");
    } else if (pods != NULL) {
        check_add(c, CHECK_FINE, "waypoint-pod", name, NULL, "%zu ready", n_ready);
    }
    json_decref(pods);
    free(label);
    free(name);
}

// Bindings

static void check_binding(struct check *c, const json_t *waypoints, const json_t *object,
                          const char *kind, const char *home) {
    const char *name = js_label(object, use_waypoint);
    const char *other = js_label(object, "istio.io/use-waypoint-namespace");
    const char *ns = other != NULL && other[0] != '\0' ? other : home;
    const json_t *gateway = find(waypoints, ns, name);
    bool is_service = strcmp(kind, "service") == 0;
    char *who = is_service ? xasprintf("%s %s/%s", kind, home, js_name(object))
                           : xasprintf("%s %s", kind, js_name(object));

    if (gateway == NULL) {
        check_add(c, CHECK_ERROR, "binding", who,
                  "ztunctl waypoint apply, or correct the label istio.io/use-waypoint",
                  "is bound to waypoint %s/%s, which is not there: its policies are not applied",
                  ns, name);
    } else if (!waypoint_is_programmed(gateway)) {
        check_add(c, CHECK_ERROR, "binding", who, "see the check waypoint",
                  "is bound to waypoint %s/%s, which is not ready: connections go past it", ns,
                  name);
    } else if (is_service && (strcmp(waypoint_traffic(gateway), "workload") == 0 ||
                              strcmp(waypoint_traffic(gateway), "none") == 0)) {
        check_add(c, CHECK_WARNING, "binding", who,
                  "label the Gateway istio.io/waypoint-for=service or all",
                  "is bound to waypoint %s/%s, which takes %s traffic only", ns, name,
                  waypoint_traffic(gateway));
    } else {
        check_add(c, CHECK_FINE, "binding", who, NULL, "waypoint %s/%s", ns, name);
    }
    free(who);
}

static void check_bindings(struct check *c, const struct check_cluster *cluster,
                           const json_t *waypoints) {
    json_t *services =
        check_get(c, cluster->kubectl, "binding", CHECK_ARGS("services", "-A", "-l", use_waypoint));
    const json_t *object;
    size_t i;

    json_array_foreach(json_object_get(cluster->namespaces, "items"), i, object) {
        if (is_bound(object)) {
            check_binding(c, waypoints, object, "namespace", js_name(object));
        }
    }
    json_array_foreach(json_object_get(services, "items"), i, object) {
        if (is_bound(object)) {
            check_binding(c, waypoints, object, "service", js_ns(object));
        }
    }
    json_decref(services);
}

void check_waypoints(struct check *c, const struct check_cluster *cluster) {
    json_t *all = check_get(c, cluster->kubectl, "waypoint", CHECK_ARGS(WAYPOINT_RESOURCE, "-A"));
    const json_t *gateway;
    size_t i;

    if (all == NULL) {
        return;
    }
    json_t *ours = waypoint_list(all);
    check_class(c, cluster, ours);
    json_array_foreach(ours, i, gateway) {
        check_waypoint(c, cluster, gateway);
        check_pods(c, cluster, gateway);
    }
    json_decref(ours);
    check_bindings(c, cluster, json_object_get(all, "items"));
    json_decref(all);
}
