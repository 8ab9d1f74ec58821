// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kobj_kind.h"

#define ISTIO_NET "networking.istio.io"
#define ISTIO_SEC "security.istio.io"

static const struct kobj_type types[] = {
    {KOBJ_NAMESPACE, "", "Namespace", "v1", false, &kobj_meta_only_msg},
    {KOBJ_NODE, "", "Node", "v1", false, &kobj_node_msg},
    {KOBJ_POD, "", "Pod", "v1", true, &kobj_pod_msg},
    {KOBJ_SERVICE_ACCOUNT, "", "ServiceAccount", "v1", true, &kobj_meta_only_msg},
    {KOBJ_SERVICE, "", "Service", "v1", true, &kobj_service_msg},
    {KOBJ_ENDPOINT_SLICE, "discovery.k8s.io", "EndpointSlice", "v1 v1beta1", true,
     &kobj_endpoint_slice_msg},
    {KOBJ_ENDPOINTS, "", "Endpoints", "v1", true, &kobj_endpoints_msg},
    {KOBJ_DEPLOYMENT, "apps", "Deployment", "v1", true, &kobj_deployment_msg},
    {KOBJ_REPLICA_SET, "apps", "ReplicaSet", "v1", true, &kobj_replica_set_msg},
    {KOBJ_STATEFUL_SET, "apps", "StatefulSet", "v1", true, &kobj_stateful_set_msg},
    {KOBJ_CONFIG_MAP, "", "ConfigMap", "v1", true, &kobj_config_map_msg},
    {KOBJ_SECRET, "", "Secret", "v1", true, &kobj_secret_msg},
    {KOBJ_SERVICE_ENTRY, ISTIO_NET, "ServiceEntry", "v1 v1beta1 v1alpha3", true,
     &kobj_service_entry_msg},
    {KOBJ_WORKLOAD_ENTRY, ISTIO_NET, "WorkloadEntry", "v1 v1beta1 v1alpha3", true,
     &kobj_workload_entry_msg},
    {KOBJ_WORKLOAD_GROUP, ISTIO_NET, "WorkloadGroup", "v1 v1beta1 v1alpha3", true,
     &kobj_workload_group_msg},
    {KOBJ_AUTHORIZATION_POLICY, ISTIO_SEC, "AuthorizationPolicy", "v1 v1beta1", true,
     &kobj_authz_msg},
    {KOBJ_PEER_AUTHENTICATION, ISTIO_SEC, "PeerAuthentication", "v1 v1beta1", true,
     &kobj_peer_auth_msg},
};

// name NULL: every kind of the group
static const struct {
    uint8_t kind;
    const char *group, *name;
} others[] = {
    {KOBJ_WAYPOINT, ISTIO_NET, "VirtualService"},
    {KOBJ_WAYPOINT, ISTIO_NET, "DestinationRule"},
    {KOBJ_WAYPOINT, ISTIO_NET, "Gateway"},
    {KOBJ_WAYPOINT, ISTIO_NET, "Sidecar"},
    {KOBJ_WAYPOINT, ISTIO_NET, "EnvoyFilter"},
    {KOBJ_WAYPOINT, ISTIO_NET, "ProxyConfig"},
    {KOBJ_WAYPOINT, ISTIO_SEC, "RequestAuthentication"},
    {KOBJ_WAYPOINT, "telemetry.istio.io", "Telemetry"},
    {KOBJ_WAYPOINT, "extensions.istio.io", "WasmPlugin"},
    {KOBJ_WAYPOINT, "extensions.istio.io", "TrafficExtension"},
    {KOBJ_WAYPOINT, "gateway.networking.k8s.io", NULL},
    {KOBJ_WAYPOINT, "gateway.networking.x-k8s.io", NULL},
    {KOBJ_WAYPOINT, "inference.networking.k8s.io", NULL},
    {KOBJ_WAYPOINT, "inference.networking.x-k8s.io", NULL},
    {KOBJ_UNUSED, "", "Event"},
    {KOBJ_UNUSED, "", "LimitRange"},
    {KOBJ_UNUSED, "", "PersistentVolume"},
    {KOBJ_UNUSED, "", "PersistentVolumeClaim"},
    {KOBJ_UNUSED, "", "PodTemplate"},
    {KOBJ_UNUSED, "", "ReplicationController"},
    {KOBJ_UNUSED, "", "ResourceQuota"},
    {KOBJ_UNUSED, "", "Binding"},
    {KOBJ_UNUSED, "", "ComponentStatus"},
    {KOBJ_UNUSED, "apps", "DaemonSet"},
    {KOBJ_UNUSED, "apps", "ControllerRevision"},
    {KOBJ_UNUSED, "autoscaling", NULL},
    {KOBJ_UNUSED, "batch", NULL},
    {KOBJ_UNUSED, "policy", NULL},
    {KOBJ_UNUSED, "admissionregistration.k8s.io", NULL},
    {KOBJ_UNUSED, "apiextensions.k8s.io", NULL},
    {KOBJ_UNUSED, "apiregistration.k8s.io", NULL},
    {KOBJ_UNUSED, "authentication.k8s.io", NULL},
    {KOBJ_UNUSED, "authorization.k8s.io", NULL},
    {KOBJ_UNUSED, "certificates.k8s.io", NULL},
    {KOBJ_UNUSED, "coordination.k8s.io", NULL},
    {KOBJ_UNUSED, "events.k8s.io", NULL},
    {KOBJ_UNUSED, "flowcontrol.apiserver.k8s.io", NULL},
    {KOBJ_UNUSED, "internal.apiserver.k8s.io", NULL},
    {KOBJ_UNUSED, "metrics.k8s.io", NULL},
    {KOBJ_UNUSED, "networking.k8s.io", NULL},
    {KOBJ_UNUSED, "node.k8s.io", NULL},
    {KOBJ_UNUSED, "rbac.authorization.k8s.io", NULL},
    {KOBJ_UNUSED, "resource.k8s.io", NULL},
    {KOBJ_UNUSED, "scheduling.k8s.io", NULL},
    {KOBJ_UNUSED, "storage.k8s.io", NULL},
    {KOBJ_UNUSED, "storagemigration.k8s.io", NULL},
    {KOBJ_UNUSED, "kustomize.config.k8s.io", NULL},
    {KOBJ_UNUSED, "install.istio.io", NULL}, // read by istioctl, and often without a name
};

const struct kobj_type *kobj_type_find(struct slice group, const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0 && slice_eq_str(group, types[i].group)) {
            return &types[i];
        }
    }
    return NULL;
}

const struct kobj_type *kobj_type_get(enum kobj_kind kind) {
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].kind == kind) {
            return &types[i];
        }
    }
    return NULL;
}

enum kobj_kind kobj_kind_other(struct slice group, const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (slice_eq_str(group, others[i].group) &&
            (others[i].name == NULL || strcmp(others[i].name, name) == 0)) {
            return others[i].kind;
        }
    }
    return KOBJ_UNKNOWN;
}

const char *kobj_kind_hint(const char *name) {
    unsigned best = schema_max_distance(name) + 1;
    const char *hint = "";

    for (size_t i = 0; i < ARRAY_LEN(types) + ARRAY_LEN(others); i++) {
        const char *known =
            i < ARRAY_LEN(types) ? types[i].name : others[i - ARRAY_LEN(types)].name;
        unsigned distance = known != NULL ? schema_distance(name, known, best) : best;
        if (distance < best && distance > 0) {
            best = distance;
            hint = known;
        }
    }
    return hint;
}

const char *kobj_kind_text(enum kobj_kind kind) {
    const struct kobj_type *type = kobj_type_get(kind);
    return type != NULL ? type->name : "";
}

bool kobj_is_namespaced(enum kobj_kind kind) {
    const struct kobj_type *type = kobj_type_get(kind);
    return type != NULL && type->is_namespaced;
}
