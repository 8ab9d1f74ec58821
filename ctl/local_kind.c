// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_kind.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/slice.h"
#include "ctl/local_text.h"

#define CORE(kind, singular, plural, ...)                                                          \
    { kind, singular, plural, "", "v1", {__VA_ARGS__}, false }
#define APPS(kind, singular, plural, ...)                                                          \
    { kind, singular, plural, "apps", "apps/v1", {__VA_ARGS__}, false }
#define ISTIO(kind, singular, plural, ...)                                                         \
    {                                                                                              \
        kind, singular, plural, "networking.istio.io", "networking.istio.io/v1", {__VA_ARGS__},    \
            false                                                                                  \
    }
#define SECURITY(kind, singular, plural, ...)                                                      \
    { kind, singular, plural, "security.istio.io", "security.istio.io/v1", {__VA_ARGS__}, false }
#define GATEWAY_API(kind, singular, plural, ...)                                                   \
    {                                                                                              \
        kind, singular, plural, "gateway.networking.k8s.io", "gateway.networking.k8s.io/v1",       \
            {__VA_ARGS__}, false                                                                   \
    }

static const struct lab_kind kinds[] = {
    CORE("Pod", "pod", "pods", "po"),
    CORE("Service", "service", "services", "svc"),
    CORE("Endpoints", "endpoints", "endpoints", "ep"),
    CORE("ConfigMap", "configmap", "configmaps", "cm"),
    CORE("Secret", "secret", "secrets"),
    CORE("ServiceAccount", "serviceaccount", "serviceaccounts", "sa"),
    CORE("PersistentVolumeClaim", "persistentvolumeclaim", "persistentvolumeclaims", "pvc"),
    {"Namespace", "namespace", "namespaces", "", "v1", {"ns"}, true},
    {"Node", "node", "nodes", "", "v1", {"no"}, true},
    {"GatewayClass",
     "gatewayclass",
     "gatewayclasses",
     "gateway.networking.k8s.io",
     "gateway.networking.k8s.io/v1",
     {"gc"},
     true},
    APPS("Deployment", "deployment", "deployments", "deploy"),
    APPS("ReplicaSet", "replicaset", "replicasets", "rs"),
    APPS("StatefulSet", "statefulset", "statefulsets", "sts"),
    APPS("DaemonSet", "daemonset", "daemonsets", "ds"),
    {"Job", "job", "jobs", "batch", "batch/v1", {NULL}, false},
    {"EndpointSlice",
     "endpointslice",
     "endpointslices",
     "discovery.k8s.io",
     "discovery.k8s.io/v1",
     {NULL},
     false},
    ISTIO("VirtualService", "virtualservice", "virtualservices", "vs"),
    ISTIO("DestinationRule", "destinationrule", "destinationrules", "dr"),
    ISTIO("ServiceEntry", "serviceentry", "serviceentries", "se"),
    ISTIO("WorkloadEntry", "workloadentry", "workloadentries", "we"),
    ISTIO("WorkloadGroup", "workloadgroup", "workloadgroups", "wg"),
    ISTIO("Sidecar", "sidecar", "sidecars"),
    ISTIO("EnvoyFilter", "envoyfilter", "envoyfilters"),
    ISTIO("ProxyConfig", "proxyconfig", "proxyconfigs"),
    SECURITY("AuthorizationPolicy", "authorizationpolicy", "authorizationpolicies", "ap"),
    SECURITY("PeerAuthentication", "peerauthentication", "peerauthentications", "pa"),
    SECURITY("RequestAuthentication", "requestauthentication", "requestauthentications", "ra"),
    {"Telemetry",
     "telemetry",
     "telemetries",
     "telemetry.istio.io",
     "telemetry.istio.io/v1",
     {"telemetry"},
     false},
    GATEWAY_API("Gateway", "gateway", "gateways", "gtw", "gw"),
    GATEWAY_API("HTTPRoute", "httproute", "httproutes"),
    GATEWAY_API("GRPCRoute", "grpcroute", "grpcroutes"),
    GATEWAY_API("ReferenceGrant", "referencegrant", "referencegrants", "refgrant"),
};

static bool is_called(const struct lab_kind *kind, const char *text) {
    // "deployments.apps", "deployments.v1.apps": what is behind the dot ends in the group.
    size_t len = strcspn(text, ".");
    if (text[len] == '.') {
        const char *group = text + len + 1;
        size_t own = strlen(kind->group), given = strlen(group);
        if (own == 0 || given < own || strcasecmp(group + given - own, kind->group) != 0 ||
            (given > own && group[given - own - 1] != '.')) {
            return false;
        }
    }
    const char *names[] = {kind->singular, kind->plural, kind->shorts[0], kind->shorts[1],
                           kind->shorts[2]};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i] != NULL && strlen(names[i]) == len && strncasecmp(names[i], text, len) == 0) {
            return true;
        }
    }
    return false;
}

const struct lab_kind *lab_kind_find(const char *text) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (is_called(&kinds[i], text)) {
            return &kinds[i];
        }
    }
    return NULL;
}

const struct lab_kind *lab_kind_of(const char *kind) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].kind, kind) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

static char *lower(const char *kind, const char *suffix) {
    char *text = xasprintf("%s%s", kind, suffix);
    for (char *at = text; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return text;
}

char *lab_kind_resource(const char *kind) {
    const struct lab_kind *known = lab_kind_of(kind);
    if (known == NULL) {
        return lower(kind, "s");
    }
    return xasprintf("%s%s%s", known->plural, known->group[0] != '\0' ? "." : "", known->group);
}

char *lab_kind_name(const char *kind, const char *name) {
    const struct lab_kind *known = lab_kind_of(kind);
    char *single = known == NULL ? lower(kind, "")
                                 : xasprintf("%s%s%s", known->singular,
                                             known->group[0] != '\0' ? "." : "", known->group);
    char *text = xasprintf("%s/%s", single, name);
    free(single);
    return text;
}

char *lab_kind_not_found(const char *kind, const char *name) {
    char *resource = lab_kind_resource(kind);
    char *text = xasprintf("Error from server (NotFound): %s \"%s\" not found", resource, name);
    free(resource);
    return text;
}
