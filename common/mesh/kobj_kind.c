// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kobj_kind.h"

#include <stdio.h>

#define ISTIO_NET "networking.istio.io"
#define ISTIO_SEC "security.istio.io"
#define GATEWAY_API "gateway.networking.k8s.io"

static const struct kobj_type types[] = {
    {KOBJ_NAMESPACE, "", "Namespace", "namespaces", "v1", false, &kobj_meta_only_msg},
    {KOBJ_NODE, "", "Node", "nodes", "v1", false, &kobj_node_msg},
    {KOBJ_POD, "", "Pod", "pods", "v1", true, &kobj_pod_msg},
    {KOBJ_SERVICE_ACCOUNT, "", "ServiceAccount", "serviceaccounts", "v1", true,
     &kobj_meta_only_msg},
    {KOBJ_SERVICE, "", "Service", "services", "v1", true, &kobj_service_msg},
    {KOBJ_ENDPOINT_SLICE, "discovery.k8s.io", "EndpointSlice", "endpointslices", "v1 v1beta1", true,
     &kobj_endpoint_slice_msg},
    {KOBJ_ENDPOINTS, "", "Endpoints", "endpoints", "v1", true, &kobj_endpoints_msg},
    {KOBJ_DEPLOYMENT, "apps", "Deployment", "deployments", "v1", true, &kobj_deployment_msg},
    {KOBJ_REPLICA_SET, "apps", "ReplicaSet", "replicasets", "v1", true, &kobj_replica_set_msg},
    {KOBJ_STATEFUL_SET, "apps", "StatefulSet", "statefulsets", "v1", true, &kobj_stateful_set_msg},
    {KOBJ_CONFIG_MAP, "", "ConfigMap", "configmaps", "v1", true, &kobj_config_map_msg},
    {KOBJ_SECRET, "", "Secret", "secrets", "v1", true, &kobj_secret_msg},
    {KOBJ_SERVICE_ENTRY, ISTIO_NET, "ServiceEntry", "serviceentries", "v1 v1beta1 v1alpha3", true,
     &kobj_service_entry_msg},
    {KOBJ_WORKLOAD_ENTRY, ISTIO_NET, "WorkloadEntry", "workloadentries", "v1 v1beta1 v1alpha3",
     true, &kobj_workload_entry_msg},
    {KOBJ_WORKLOAD_GROUP, ISTIO_NET, "WorkloadGroup", "workloadgroups", "v1 v1beta1 v1alpha3", true,
     &kobj_workload_group_msg},
    {KOBJ_AUTHORIZATION_POLICY, ISTIO_SEC, "AuthorizationPolicy", "authorizationpolicies",
     "v1 v1beta1", true, &kobj_authz_msg},
    {KOBJ_PEER_AUTHENTICATION, ISTIO_SEC, "PeerAuthentication", "peerauthentications", "v1 v1beta1",
     true, &kobj_peer_auth_msg},
    {KOBJ_VIRTUAL_SERVICE, ISTIO_NET, "VirtualService", "virtualservices", "v1 v1beta1 v1alpha3",
     true, &kobj_virtual_service_msg},
    {KOBJ_DESTINATION_RULE, ISTIO_NET, "DestinationRule", "destinationrules", "v1 v1beta1 v1alpha3",
     true, &kobj_destination_rule_msg},
    {KOBJ_GATEWAY, GATEWAY_API, "Gateway", "gateways", "v1 v1beta1", true, &kobj_gateway_msg},
    {KOBJ_GATEWAY_CLASS, GATEWAY_API, "GatewayClass", "gatewayclasses", "v1 v1beta1", false,
     &kobj_gateway_class_msg},
    {KOBJ_HTTP_ROUTE, GATEWAY_API, "HTTPRoute", "httproutes", "v1 v1beta1", true,
     &kobj_http_route_msg},
    {KOBJ_GRPC_ROUTE, GATEWAY_API, "GRPCRoute", "grpcroutes", "v1 v1alpha2", true,
     &kobj_grpc_route_msg},
    {KOBJ_REFERENCE_GRANT, GATEWAY_API, "ReferenceGrant", "referencegrants", "v1 v1beta1 v1alpha2",
     true, &kobj_reference_grant_msg},
};

// name NULL: every kind of the group
static const struct {
    uint8_t kind;
    const char *group, *name;
    const char *note; // of KOBJ_WAYPOINT; NULL: not_read
} others[] = {
    {KOBJ_WAYPOINT, ISTIO_NET, "Gateway", "is not read: ingress is a later step"},
    {KOBJ_WAYPOINT, ISTIO_NET, "Sidecar", "is not read: scoping is a later step"},
    {KOBJ_WAYPOINT, ISTIO_NET, "EnvoyFilter", NULL},
    {KOBJ_WAYPOINT, ISTIO_NET, "ProxyConfig", NULL},
    {KOBJ_WAYPOINT, ISTIO_SEC, "RequestAuthentication", NULL},
    {KOBJ_WAYPOINT, "telemetry.istio.io", "Telemetry", NULL},
    {KOBJ_WAYPOINT, "extensions.istio.io", "WasmPlugin", NULL},
    {KOBJ_WAYPOINT, "extensions.istio.io", "TrafficExtension", NULL},
    {KOBJ_WAYPOINT, GATEWAY_API, NULL, NULL},
    {KOBJ_WAYPOINT, "gateway.networking.x-k8s.io", NULL, NULL},
    {KOBJ_WAYPOINT, "inference.networking.k8s.io", NULL, NULL},
    {KOBJ_WAYPOINT, "inference.networking.x-k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "", "Event", NULL},
    {KOBJ_UNUSED, "", "LimitRange", NULL},
    {KOBJ_UNUSED, "", "PersistentVolume", NULL},
    {KOBJ_UNUSED, "", "PersistentVolumeClaim", NULL},
    {KOBJ_UNUSED, "", "PodTemplate", NULL},
    {KOBJ_UNUSED, "", "ReplicationController", NULL},
    {KOBJ_UNUSED, "", "ResourceQuota", NULL},
    {KOBJ_UNUSED, "", "Binding", NULL},
    {KOBJ_UNUSED, "", "ComponentStatus", NULL},
    {KOBJ_UNUSED, "apps", "DaemonSet", NULL},
    {KOBJ_UNUSED, "apps", "ControllerRevision", NULL},
    {KOBJ_UNUSED, "autoscaling", NULL, NULL},
    {KOBJ_UNUSED, "batch", NULL, NULL},
    {KOBJ_UNUSED, "policy", NULL, NULL},
    {KOBJ_UNUSED, "admissionregistration.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "apiextensions.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "apiregistration.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "authentication.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "authorization.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "certificates.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "coordination.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "events.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "flowcontrol.apiserver.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "internal.apiserver.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "metrics.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "networking.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "node.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "rbac.authorization.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "resource.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "scheduling.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "storage.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "storagemigration.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "kustomize.config.k8s.io", NULL, NULL},
    {KOBJ_UNUSED, "install.istio.io", NULL, NULL}, // read by istioctl, and often without a name
};

// Kinds of the Istio of 2017 to 2020. name NULL: every other kind of the group.
static const struct {
    const char *group, *name, *text;
} retired[] = {
    {"config.istio.io", "RouteRule", "write a VirtualService (networking.istio.io/v1)"},
    {"config.istio.io", "DestinationPolicy", "write a DestinationRule (networking.istio.io/v1)"},
    {"config.istio.io", "EgressRule", "write a ServiceEntry (networking.istio.io/v1)"},
    {"config.istio.io", "IngressRule", "write a VirtualService (networking.istio.io/v1)"},
    {"config.istio.io", "memquota", "rate limits need a filter of the waypoint"},
    {"config.istio.io", "redisquota", "rate limits need a filter of the waypoint"},
    {"config.istio.io", "quota", "rate limits need a filter of the waypoint"},
    {"config.istio.io", "QuotaSpec", "rate limits need a filter of the waypoint"},
    {"config.istio.io", "QuotaSpecBinding", "rate limits need a filter of the waypoint"},
    {"config.istio.io", "denier",
     "write an AuthorizationPolicy with action DENY (security.istio.io/v1)"},
    {"config.istio.io", "checknothing",
     "write an AuthorizationPolicy with action DENY (security.istio.io/v1)"},
    {"config.istio.io", "listchecker", "write an AuthorizationPolicy (security.istio.io/v1)"},
    {"config.istio.io", "listentry", "write an AuthorizationPolicy (security.istio.io/v1)"},
    {"config.istio.io", "rule",
     "for access write an AuthorizationPolicy (security.istio.io/v1), for telemetry a Telemetry"},
    {"config.istio.io", NULL,
     "Mixer is gone: for access write an AuthorizationPolicy (security.istio.io/v1), for telemetry "
     "a Telemetry"},
    {"rbac.istio.io", NULL, "write an AuthorizationPolicy (security.istio.io/v1)"},
    {"authentication.istio.io", "Policy",
     "write a PeerAuthentication for mTLS, a RequestAuthentication for tokens "
     "(security.istio.io/v1)"},
    {"authentication.istio.io", "MeshPolicy",
     "write a PeerAuthentication in the root namespace (security.istio.io/v1)"},
    {ISTIO_NET, "EgressRule", "write a ServiceEntry (networking.istio.io/v1)"},
    {ISTIO_NET, "RouteRule", "write a VirtualService (networking.istio.io/v1)"},
    {ISTIO_NET, "DestinationPolicy", "write a DestinationRule (networking.istio.io/v1)"},
    {ISTIO_NET, "ExternalService", "write a ServiceEntry (networking.istio.io/v1)"},
};

const char *kobj_kind_retired(struct slice group, const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(retired); i++) {
        if (slice_eq_str(group, retired[i].group) &&
            (retired[i].name == NULL || strcmp(retired[i].name, name) == 0)) {
            return retired[i].text;
        }
    }
    return NULL;
}

const char *kobj_kind_note(struct slice group, const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (slice_eq_str(group, others[i].group) && others[i].note != NULL &&
            others[i].name != NULL && strcmp(others[i].name, name) == 0) {
            return others[i].note;
        }
    }
    return "belongs to the waypoint, which does not read this kind";
}

const char *kobj_kind_version(const char *name, char out[128]) {
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0 && strcmp(name, "Gateway") != 0) {
            size_t len = strcspn(types[i].versions, " ");
            snprintf(out, 128, "%s%s%.*s", types[i].group, types[i].group[0] != '\0' ? "/" : "",
                     (int)len, types[i].versions);
        }
    }
    return out;
}

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

char *kobj_api_path(enum kobj_kind kind, const char *ns, const char *name) {
    const struct kobj_type *type = kobj_type_get(kind);
    CHECK(type != NULL);
    bool is_core = type->group[0] == '\0', has_ns = ns[0] != '\0';
    return xasprintf("/%s%s/%.*s/%s%s%s%s/%s", is_core ? "api" : "apis/", type->group,
                     (int)strcspn(type->versions, " "), type->versions, has_ns ? "namespaces/" : "",
                     ns, has_ns ? "/" : "", type->plural, name);
}
