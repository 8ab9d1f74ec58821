// SPDX-License-Identifier: Apache-2.0
//
// What all kinds share: metadata, label selectors, conditions; and the kinds that are little more.
#include "common/mesh/kobj_priv.h"

static const struct schema_field owner_fields[] = {
    F_STR(struct kobj_owner, api_version, "apiVersion"),
    F_STR(struct kobj_owner, kind, "kind", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_owner, name, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_owner, uid, "uid"),
    F_BOOL(struct kobj_owner, is_controller, "controller"),
};
static const struct schema_msg owner_msg = {
    SCHEMA_MSG(struct kobj_owner, owner_fields),
    .known = "blockOwnerDeletion",
};

static const struct schema_field meta_fields[] = {
    F_STR(struct kobj_meta, name, "name", .check = schema_check_dns_name),
    F_STR(struct kobj_meta, ns, "namespace", .check = schema_check_dns_label),
    F_STR(struct kobj_meta, creation_timestamp, "creationTimestamp"),
    F_STR(struct kobj_meta, deletion_timestamp, "deletionTimestamp"),
    F_MAP(struct kobj_meta, labels, "labels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_MAP(struct kobj_meta, annotations, "annotations", .check_key = schema_check_label_key),
    F_LIST(struct kobj_meta, owners, "ownerReferences", &owner_msg),
};
const struct schema_msg kobj_meta_msg = {
    SCHEMA_MSG(struct kobj_meta, meta_fields),
    .known = "generateName uid resourceVersion generation selfLink deletionGracePeriodSeconds "
             "finalizers managedFields clusterName "
             "initializers",
};

static const struct schema_name selector_ops[] = {
    {"In", SELECTOR_IN},
    {"NotIn", SELECTOR_NOT_IN},
    {"Exists", SELECTOR_EXISTS},
    {"DoesNotExist", SELECTOR_NOT_EXISTS},
    {NULL, 0},
};
static const struct schema_field selector_expr_fields[] = {
    F_STR(struct kobj_selector_expr, key, "key", .flags = SCHEMA_REQUIRED,
          .check = schema_check_label_key),
    F_ENUM(struct kobj_selector_expr, op, "operator", selector_ops, .flags = SCHEMA_REQUIRED),
    F_STRS(struct kobj_selector_expr, values, "values", .check = schema_check_label_value),
};
static void check_selector_expr(struct schema_ctx *ctx, const struct cfg_node *node,
                                const void *out) {
    const struct kobj_selector_expr *expr = out;
    bool takes_values = expr->op == SELECTOR_IN || expr->op == SELECTOR_NOT_IN;

    if (takes_values && expr->n_values == 0) {
        schema_error(ctx, node, "values", "is required with In and NotIn");
    } else if (!takes_values && expr->op != 0 && expr->n_values > 0) {
        schema_error(ctx, node, "values", "must be empty with Exists and DoesNotExist");
    }
}
static const struct schema_msg selector_expr_msg = {
    SCHEMA_MSG(struct kobj_selector_expr, selector_expr_fields),
    .check = check_selector_expr,
};

static const struct schema_field label_selector_fields[] = {
    F_MAP(struct kobj_label_selector, match_labels, "matchLabels",
          .check = schema_check_label_value, .check_key = schema_check_label_key),
    F_LIST(struct kobj_label_selector, exprs, "matchExpressions", &selector_expr_msg),
};
const struct schema_msg kobj_label_selector_msg = {
    SCHEMA_MSG(struct kobj_label_selector, label_selector_fields)};

static const struct schema_field condition_fields[] = {
    F_STR(struct kobj_condition, type, "type"),
    F_STR(struct kobj_condition, status, "status"),
    F_STR(struct kobj_condition, reason, "reason", .flags = SCHEMA_LAUNCH),
    F_STR(struct kobj_condition, message, "message", .flags = SCHEMA_LAUNCH),
};
const struct schema_msg kobj_condition_msg = {
    SCHEMA_MSG(struct kobj_condition, condition_fields),
    .known = "lastProbeTime lastTransitionTime lastHeartbeatTime lastUpdateTime "
             "observedGeneration",
};

// Namespace, ServiceAccount

struct meta_only {
    char nothing;
};
static const struct schema_field meta_only_fields[] = {KOBJ_HEAD};
const struct schema_msg kobj_meta_only_msg = {
    SCHEMA_MSG(struct meta_only, meta_only_fields),
    .known = "spec status secrets imagePullSecrets automountServiceAccountToken",
};

// Node

static const struct schema_field node_spec_fields[] = {
    F_STR(struct kobj_node, pod_cidr, "podCIDR", .check = schema_check_cidr),
    F_STRS(struct kobj_node, pod_cidrs, "podCIDRs", .check = schema_check_cidr),
    F_BOOL(struct kobj_node, is_unschedulable, "unschedulable"),
};
static const struct schema_msg node_spec_msg = {
    SCHEMA_MSG(struct kobj_node, node_spec_fields),
    .known = "providerID taints configSource externalID podPreemptionPolicy",
};
static const struct schema_field node_address_fields[] = {
    F_STR(struct kobj_node_address, type, "type"),
    F_STR(struct kobj_node_address, address, "address"),
};
static const struct schema_msg node_address_msg = {
    SCHEMA_MSG(struct kobj_node_address, node_address_fields)};
static const struct schema_field node_status_fields[] = {
    F_LIST(struct kobj_node, addresses, "addresses", &node_address_msg),
    F_LIST(struct kobj_node, conditions, "conditions", &kobj_condition_msg),
};
static const struct schema_msg node_status_msg = {
    SCHEMA_MSG(struct kobj_node, node_status_fields),
    .known = "capacity allocatable phase daemonEndpoints nodeInfo images volumesInUse "
             "volumesAttached config runtimeHandlers features declaredFeatures",
};
static const struct schema_field node_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &node_spec_msg),
    F_FLAT("status", &node_status_msg),
};
const struct schema_msg kobj_node_msg = {SCHEMA_MSG(struct kobj_node, node_fields)};

void kobj_node_finish(struct kobj_node *node) {
    if (node->n_pod_cidrs == 0 && node->pod_cidr[0] != '\0') {
        node->pod_cidrs = &node->pod_cidr;
        node->n_pod_cidrs = 1;
    }
}

// ConfigMap, Secret

static const struct schema_field config_map_fields[] = {
    KOBJ_HEAD,
    F_MAP(struct kobj_config_map, data, "data", .flags = SCHEMA_LAUNCH),
    {.name = "binaryData",
     .type = SCHEMA_BYTES,
     .flags = SCHEMA_LAUNCH,
     SCHEMA_NAT(struct kobj_config_map, binary)},
};
const struct schema_msg kobj_config_map_msg = {
    SCHEMA_MSG(struct kobj_config_map, config_map_fields),
    .known = "immutable",
};

static const struct schema_field secret_fields[] = {
    KOBJ_HEAD,
    F_STR(struct kobj_secret, type, "type"),
    {.name = "data",
     .type = SCHEMA_BYTES,
     .flags = SCHEMA_LAUNCH,
     SCHEMA_NAT(struct kobj_secret, data)},
    {.name = "stringData",
     .type = SCHEMA_TEXT_BYTES,
     .flags = SCHEMA_LAUNCH,
     SCHEMA_NAT(struct kobj_secret, data)},
};
const struct schema_msg kobj_secret_msg = {
    SCHEMA_MSG(struct kobj_secret, secret_fields),
    .known = "immutable",
};
