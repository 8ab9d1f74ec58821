// SPDX-License-Identifier: Apache-2.0
//
// Pod, and what makes pods: Deployment, ReplicaSet, StatefulSet.
#include <stdio.h>

#include "common/mesh/kobj_pod_priv.h"

static const struct schema_field dns_option_fields[] = {
    F_STR(struct kobj_kv, key, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_kv, value, "value"),
};
static const struct schema_msg dns_option_msg = {SCHEMA_MSG(struct kobj_kv, dns_option_fields)};
static const struct schema_field dns_config_fields[] = {
    F_STRS(struct kobj_dns_config, nameservers, "nameservers", .check = schema_check_ip),
    F_STRS(struct kobj_dns_config, searches, "searches"),
    {.name = "options",
     .type = SCHEMA_LIST,
     .off = offsetof(struct kobj_dns_config, options.items),
     .off_n = offsetof(struct kobj_dns_config, options.n),
     .msg = &dns_option_msg},
};
static const struct schema_msg dns_config_msg = {
    SCHEMA_MSG(struct kobj_dns_config, dns_config_fields)};

static const struct schema_field host_alias_fields[] = {
    F_STR(struct kobj_host_alias, ip, "ip", .flags = SCHEMA_REQUIRED, .check = schema_check_ip),
    F_STRS(struct kobj_host_alias, hostnames, "hostnames"),
};
static const struct schema_msg host_alias_msg = {
    SCHEMA_MSG(struct kobj_host_alias, host_alias_fields)};

static const struct schema_field security_fields[] = {
    F_INT(struct kobj_pod_spec, run_as_user, "runAsUser", 0, INT64_MAX, .absent = -1),
    F_INT(struct kobj_pod_spec, run_as_group, "runAsGroup", 0, INT64_MAX, .absent = -1),
};
static const struct schema_msg security_msg = {
    SCHEMA_MSG(struct kobj_pod_spec, security_fields),
    .known = "seLinuxOptions windowsOptions runAsNonRoot supplementalGroups "
             "supplementalGroupsPolicy fsGroup sysctls fsGroupChangePolicy seccompProfile "
             "appArmorProfile seLinuxChangePolicy",
};

static bool has_volume(const struct schema_ctx *ctx, const struct kobj_pod_spec *spec,
                       const char *name) {
    if (strncmp(ctx->object, "StatefulSet", 11) == 0) {
        return true; // may come from volumeClaimTemplates, which are outside of the pod's spec
    }
    for (uint32_t i = 0; i < spec->n_volumes; i++) {
        if (strcmp(spec->volumes[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_containers(struct schema_ctx *ctx, const struct cfg_node *node,
                             const struct kobj_pod_spec *spec, const char *list,
                             const struct kobj_container *containers, uint32_t n) {
    const struct cfg_node *items = cfg_get(node, list);
    char path[96];

    for (uint32_t i = 0; i < n; i++) {
        const struct kobj_container *c = &containers[i];
        for (uint32_t j = 0; j < i; j++) {
            if (c->name[0] != '\0' && strcmp(containers[j].name, c->name) == 0) {
                snprintf(path, sizeof(path), "%s[%u].name", list, i);
                schema_error(ctx, &items->items[i], path, "`%.60s` is used twice", c->name);
                break;
            }
        }
        for (uint32_t j = 0; j < c->n_volume_mounts; j++) {
            const struct kobj_volume_mount *mount = &c->volume_mounts[j];
            if (mount->name[0] != '\0' && !has_volume(ctx, spec, mount->name)) {
                const struct cfg_node *at = cfg_get(&items->items[i], "volumeMounts");
                snprintf(path, sizeof(path), "%s[%u].volumeMounts[%u].name", list, i, j);
                schema_error(ctx, &at->items[j], path, "there is no volume `%.60s`", mount->name);
            }
        }
    }
}

static void check_pod_spec(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_pod_spec *spec = out;

    check_containers(ctx, node, spec, "containers", spec->containers, spec->n_containers);
    check_containers(ctx, node, spec, "initContainers", spec->init_containers,
                     spec->n_init_containers);
}

// Of a container, lean objects have nothing but its ports.
static bool has_ports(const struct cfg_node *container) {
    const struct cfg_node *ports = cfg_get(container, "ports");
    return ports != NULL && ports->type == CFG_LIST && ports->n > 0;
}

// The maxima are far beyond what is real; some checks above are quadratic.
#define L .flags = SCHEMA_LAUNCH
static const struct schema_field pod_spec_fields[] = {
    F_STR(struct kobj_pod_spec, node_name, "nodeName"),
    F_STR(struct kobj_pod_spec, service_account, "serviceAccountName"),
    F_BOOL(struct kobj_pod_spec, is_host_network, "hostNetwork"),
    F_LIST(struct kobj_pod_spec, containers, "containers", &kobj_container_msg,
           .flags = SCHEMA_REQUIRED, .max = 200, .is_kept = has_ports),
    F_LIST(struct kobj_pod_spec, init_containers, "initContainers", &kobj_container_msg, .max = 200,
           .is_kept = has_ports),
    F_LIST(struct kobj_pod_spec, volumes, "volumes", &kobj_volume_msg, L, .max = 500),
    F_STR(struct kobj_pod_spec, restart_policy, "restartPolicy"),
    F_INT(struct kobj_pod_spec, grace_period_s, "terminationGracePeriodSeconds", 0, INT64_MAX,
          .absent = -1),
    F_STR(struct kobj_pod_spec, hostname, "hostname", .check = schema_check_dns_label),
    F_STR(struct kobj_pod_spec, subdomain, "subdomain", .check = schema_check_dns_label),
    F_STR(struct kobj_pod_spec, dns_policy, "dnsPolicy"),
    F_PTR(struct kobj_pod_spec, dns_config, "dnsConfig", &dns_config_msg),
    F_LIST(struct kobj_pod_spec, host_aliases, "hostAliases", &host_alias_msg, L),
    F_MAP(struct kobj_pod_spec, node_selector, "nodeSelector", L),
    F_TRI(struct kobj_pod_spec, share_process_namespace, "shareProcessNamespace"),
    F_TRI(struct kobj_pod_spec, enable_service_links, "enableServiceLinks"),
    F_TRI(struct kobj_pod_spec, automount_token, "automountServiceAccountToken"),
    F_FLAT("securityContext", &security_msg),
};
const struct schema_msg kobj_pod_spec_msg = {
    SCHEMA_MSG(struct kobj_pod_spec, pod_spec_fields),
    .known = "ephemeralContainers activeDeadlineSeconds serviceAccount hostPID hostIPC "
             "imagePullSecrets affinity schedulerName tolerations priorityClassName priority "
             "readinessGates runtimeClassName preemptionPolicy overhead "
             "topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates "
             "resourceClaims resources hostnameOverride schedulingGroup evictionResponders",
    .check = check_pod_spec,
};

// Pod

static const struct schema_name phases[] = {
    {"Pending", PHASE_PENDING}, {"Running", PHASE_RUNNING}, {"Succeeded", PHASE_SUCCEEDED},
    {"Failed", PHASE_FAILED},   {"Unknown", PHASE_UNKNOWN}, {NULL, 0}};
// A list of such structs is a list of texts, as n_pod_ips counts them.
struct pod_ip {
    const char *ip;
};
static const struct schema_field pod_ip_fields[] = {
    F_STR(struct pod_ip, ip, "ip", .flags = SCHEMA_REQUIRED, .check = schema_check_ip),
};
static const struct schema_msg pod_ip_msg = {SCHEMA_MSG(struct pod_ip, pod_ip_fields)};
static bool is_ready_condition(const struct cfg_node *condition) {
    return strcmp(cfg_str(cfg_get(condition, "type"), ""), "Ready") == 0;
}
static const struct schema_field pod_status_fields[] = {
    F_ENUM(struct kobj_pod_status, phase, "phase", phases),
    F_STR(struct kobj_pod_status, pod_ip, "podIP", .check = schema_check_ip),
    F_STR(struct kobj_pod_status, host_ip, "hostIP", .check = schema_check_ip),
    F_LIST(struct kobj_pod_status, pod_ips, "podIPs", &pod_ip_msg),
    F_LIST(struct kobj_pod_status, conditions, "conditions", &kobj_condition_msg,
           .is_kept = is_ready_condition),
};
static const struct schema_msg pod_status_msg = {
    SCHEMA_MSG(struct kobj_pod_status, pod_status_fields),
    .known = "observedGeneration message reason nominatedNodeName hostIPs startTime "
             "initContainerStatuses containerStatuses qosClass ephemeralContainerStatuses resize "
             "resourceClaimStatuses extendedResourceClaimStatus allocatedResources resources "
             "nodeAllocatableResourceClaimStatuses volumeHealth",
};
static const struct schema_field pod_fields[] = {
    KOBJ_HEAD,
    F_MSG(struct kobj_pod, spec, "spec", &kobj_pod_spec_msg, .flags = SCHEMA_REQUIRED),
    F_MSG(struct kobj_pod, status, "status", &pod_status_msg),
};
const struct schema_msg kobj_pod_msg = {SCHEMA_MSG(struct kobj_pod, pod_fields)};

void kobj_pod_finish(struct kobj_pod *pod) {
    kobj_pod_spec_finish(&pod->spec);
    if (pod->status.n_pod_ips == 0 && pod->status.pod_ip[0] != '\0') {
        pod->status.pod_ips = &pod->status.pod_ip;
        pod->status.n_pod_ips = 1;
    }
}

// Deployment, ReplicaSet, StatefulSet

static const struct schema_field template_fields[] = {
    F_MSG(struct kobj_pod_template, meta, "metadata", &kobj_meta_msg),
    F_MSG(struct kobj_pod_template, spec, "spec", &kobj_pod_spec_msg, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg template_msg = {
    SCHEMA_MSG(struct kobj_pod_template, template_fields)};

static void check_set(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_workload_set *set = out;

    if (set->selector == NULL) {
        return;
    }
    if (set->selector->match_labels.n == 0 && set->selector->n_exprs == 0) {
        schema_error(ctx, node, "selector", "must not be empty");
    } else if (!kobj_label_selector_matches(set->selector, &set->tmpl.meta.labels)) {
        const struct cfg_node *labels = NULL;
        cfg_find(node, "template.metadata.labels", &labels);
        schema_error(ctx, labels, "template.metadata.labels",
                     "do not match spec.selector, so the pods would not be its own");
    }
}

#define SET_FIELDS                                                                                 \
    F_INT(struct kobj_workload_set, replicas, "replicas", 0, INT32_MAX, .absent = 1),              \
        F_PTR(struct kobj_workload_set, selector, "selector", &kobj_label_selector_msg,            \
              .flags = SCHEMA_REQUIRED),                                                           \
        F_MSG(struct kobj_workload_set, tmpl, "template", &template_msg,                           \
              .flags = SCHEMA_REQUIRED),                                                           \
        F_INT(struct kobj_workload_set, min_ready_s, "minReadySeconds", 0, INT32_MAX)

static const struct schema_field rolling_fields[] = {
    F_IOS(struct kobj_workload_set, max_surge, "maxSurge"),
    F_IOS(struct kobj_workload_set, max_unavailable, "maxUnavailable"),
};
static const struct schema_msg rolling_msg = {SCHEMA_MSG(struct kobj_workload_set, rolling_fields)};
static const struct schema_field strategy_fields[] = {
    F_STR(struct kobj_workload_set, strategy, "type"),
    F_FLAT("rollingUpdate", &rolling_msg),
};
static const struct schema_msg strategy_msg = {
    SCHEMA_MSG(struct kobj_workload_set, strategy_fields)};

static const struct schema_field deployment_spec_fields[] = {
    SET_FIELDS,
    F_FLAT("strategy", &strategy_msg),
    F_BOOL(struct kobj_workload_set, is_paused, "paused"),
};
static const struct schema_msg deployment_spec_msg = {
    SCHEMA_MSG(struct kobj_workload_set, deployment_spec_fields),
    .known = "revisionHistoryLimit progressDeadlineSeconds",
    .check = check_set,
};
static const struct schema_field replica_set_spec_fields[] = {SET_FIELDS};
static const struct schema_msg replica_set_spec_msg = {
    SCHEMA_MSG(struct kobj_workload_set, replica_set_spec_fields),
    .check = check_set,
};
static const struct schema_field stateful_set_spec_fields[] = {
    SET_FIELDS,
    F_STR(struct kobj_workload_set, service_name, "serviceName"),
    F_STR(struct kobj_workload_set, pod_management, "podManagementPolicy"),
};
static const struct schema_msg stateful_set_spec_msg = {
    SCHEMA_MSG(struct kobj_workload_set, stateful_set_spec_fields),
    .known = "volumeClaimTemplates updateStrategy revisionHistoryLimit "
             "persistentVolumeClaimRetentionPolicy ordinals",
    .check = check_set,
};

#define SET_MSG(name, spec_msg)                                                                    \
    static const struct schema_field name##_fields[] = {                                           \
        KOBJ_HEAD, F_FLAT("spec", &(spec_msg), .flags = SCHEMA_REQUIRED), F_ANY("status")};        \
    const struct schema_msg kobj_##name##_msg = {                                                  \
        SCHEMA_MSG(struct kobj_workload_set, name##_fields)}

SET_MSG(deployment, deployment_spec_msg);
SET_MSG(replica_set, replica_set_spec_msg);
SET_MSG(stateful_set, stateful_set_spec_msg);
