// SPDX-License-Identifier: Apache-2.0
//
// AuthorizationPolicy and PeerAuthentication, with the rules of Istio's own validation, and what
// they mean at L4.
#include <stdio.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_priv.h"

static const char *check_not_empty(const char *text) {
    return text[0] != '\0' ? NULL : "must not be empty";
}
static const char *check_port(const char *text) {
    uint64_t port;
    return slice_to_u64(slice_str(text), 65535, &port) ? NULL : "is not a port number";
}
static const char *check_no_wildcard(const char *text) {
    return strchr(text, '*') == NULL ? NULL : "must not hold `*`: selectors match whole values";
}

// A match is exact, `prefix*`, `*suffix` or `*`.
static const char *check_match(const char *text) {
    size_t len = strlen(text);

    if (len == 0) {
        return "must not be empty";
    }
    const char *star = strchr(text + 1, '*');
    if (len > 1 && star != NULL && (text[0] == '*' || star != text + len - 1)) {
        return "has `*` in a place where it is taken literally; it matches only at one end";
    }
    return NULL;
}
static const char *check_principal(const char *text) {
    if (strncmp(text, "spiffe://", 9) == 0) {
        return "is written without spiffe://, as TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT";
    }
    return check_match(text);
}
static const char *check_service_account(const char *text) {
    const char *slash = strchr(text, '/');

    if (text[0] == '\0' || strchr(text, '*') != NULL ||
        (slash != NULL && (slash == text || slash[1] == '\0' || strchr(slash + 1, '/') != NULL))) {
        return "is not NAMESPACE/SERVICE_ACCOUNT or SERVICE_ACCOUNT; wildcards are not allowed";
    }
    return NULL;
}

// Source

#define SOURCE(m, field, ...) F_STRS_POS(struct kobj_authz_source, m, field, __VA_ARGS__)
static const struct schema_field source_fields[] = {
    SOURCE(principals, "principals", .check = check_principal),
    SOURCE(not_principals, "notPrincipals", .check = check_principal),
    SOURCE(request_principals, "requestPrincipals", .check = check_match),
    SOURCE(not_request_principals, "notRequestPrincipals", .check = check_match),
    SOURCE(namespaces, "namespaces", .check = check_match),
    SOURCE(not_namespaces, "notNamespaces", .check = check_match),
    SOURCE(service_accounts, "serviceAccounts", .check = check_service_account),
    SOURCE(not_service_accounts, "notServiceAccounts", .check = check_service_account),
    SOURCE(ip_blocks, "ipBlocks", .check = schema_check_cidr),
    SOURCE(not_ip_blocks, "notIpBlocks", .check = schema_check_cidr),
    SOURCE(remote_ip_blocks, "remoteIpBlocks", .check = schema_check_cidr),
    SOURCE(not_remote_ip_blocks, "notRemoteIpBlocks", .check = schema_check_cidr),
    SOURCE(trust_domains, "trustDomains", .check = check_match),
    SOURCE(not_trust_domains, "notTrustDomains", .check = check_match),
};
static void check_source(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_authz_source *s = out;
    bool has_sa = s->service_accounts.n + s->not_service_accounts.n > 0;

    if (has_sa && s->principals.n + s->not_principals.n + s->namespaces.n + s->not_namespaces.n) {
        schema_error(ctx, node, "", "serviceAccounts cannot be set with namespaces or principals");
    }
    if (s->service_accounts.n > 16 || s->not_service_accounts.n > 16) {
        schema_error(ctx, node, "", "at most 16 serviceAccounts");
    }
    bool has_any = false;
    for (uint32_t i = 0; i < node->n; i++) {
        has_any = has_any || node->pairs[i].value.n > 0;
    }
    if (!has_any) {
        schema_error(ctx, node, "", "must not be empty");
    }
}
static const struct schema_msg source_msg = {
    SCHEMA_MSG(struct kobj_authz_source, source_fields),
    .check = check_source,
};
static const struct schema_field from_fields[] = {
    F_FLAT("source", &source_msg, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg from_msg = {SCHEMA_MSG(struct kobj_authz_source, from_fields)};

bool kobj_authz_source_has_l7(const struct kobj_authz_source *s) {
    return s->request_principals.n + s->not_request_principals.n + s->remote_ip_blocks.n +
               s->not_remote_ip_blocks.n + s->trust_domains.n + s->not_trust_domains.n >
           0;
}

// Operation

#define OPERATION(m, field, ...) F_STRS_POS(struct kobj_authz_operation, m, field, __VA_ARGS__)
static const struct schema_field operation_fields[] = {
    OPERATION(hosts, "hosts", .check = check_match),
    OPERATION(not_hosts, "notHosts", .check = check_match),
    OPERATION(ports, "ports", .check = check_port),
    OPERATION(not_ports, "notPorts", .check = check_port),
    OPERATION(methods, "methods", .check = check_match),
    OPERATION(not_methods, "notMethods", .check = check_match),
    OPERATION(paths, "paths", .check = check_not_empty),
    OPERATION(not_paths, "notPaths", .check = check_not_empty),
};
static void check_operation(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_authz_operation *op = out;

    if (op->ports.n + op->not_ports.n == 0 && !kobj_authz_operation_has_l7(op)) {
        schema_error(ctx, node, "", "must not be empty");
    }
}
static const struct schema_msg operation_msg = {
    SCHEMA_MSG(struct kobj_authz_operation, operation_fields),
    .check = check_operation,
};
static const struct schema_field to_fields[] = {
    F_FLAT("operation", &operation_msg, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg to_msg = {SCHEMA_MSG(struct kobj_authz_operation, to_fields)};

bool kobj_authz_operation_has_l7(const struct kobj_authz_operation *op) {
    return op->hosts.n + op->not_hosts.n + op->methods.n + op->not_methods.n + op->paths.n +
               op->not_paths.n >
           0;
}

// Condition

enum value_type { VALUE_MATCH, VALUE_IP, VALUE_PORT, VALUE_SERVICE_ACCOUNT };
static const struct {
    const char *key;
    bool is_l4, has_brackets; // key[name]
    uint8_t value; // enum value_type
} attributes[] = {
    {"source.ip", true, false, VALUE_IP},
    {"source.namespace", true, false, VALUE_MATCH},
    {"source.principal", true, false, VALUE_MATCH},
    {"source.serviceAccount", true, false, VALUE_SERVICE_ACCOUNT},
    {"source.trustDomain", false, false, VALUE_MATCH}, // ztunnel does not know it either
    {"destination.ip", true, false, VALUE_IP},
    {"destination.port", true, false, VALUE_PORT},
    {"remote.ip", false, false, VALUE_IP},
    {"connection.sni", false, false, VALUE_MATCH},
    {"request.auth.principal", false, false, VALUE_MATCH},
    {"request.auth.audiences", false, false, VALUE_MATCH},
    {"request.auth.presenter", false, false, VALUE_MATCH},
    {"request.headers", false, true, VALUE_MATCH},
    {"request.auth.claims", false, true, VALUE_MATCH},
    {"experimental.envoy.filters.", false, true, VALUE_MATCH},
};

bool kobj_authz_condition_is_l7(const char *key) {
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (strcmp(attributes[i].key, key) == 0) {
            return !attributes[i].is_l4;
        }
    }
    return true;
}

static const struct schema_field condition_fields[] = {
    F_STR(struct kobj_authz_condition, key, "key", .flags = SCHEMA_REQUIRED),
    F_STRS_POS(struct kobj_authz_condition, values, "values", .check = check_not_empty),
    F_STRS_POS(struct kobj_authz_condition, not_values, "notValues", .check = check_not_empty),
};

static void check_values(struct schema_ctx *ctx, const struct cfg_node *node, const char *field,
                         uint8_t type) {
    static const char *(*const checks[])(const char *text) = {
        [VALUE_MATCH] = check_match,
        [VALUE_IP] = schema_check_cidr,
        [VALUE_PORT] = check_port,
        [VALUE_SERVICE_ACCOUNT] = check_service_account,
    };
    const struct cfg_node *values = cfg_get(node, field);
    char path[48];

    for (uint32_t i = 0; values != NULL && values->type == CFG_LIST && i < values->n; i++) {
        const char *text = cfg_str(&values->items[i], "");
        const char *problem = text[0] != '\0' ? checks[type](text) : NULL;
        if (problem != NULL) {
            snprintf(path, sizeof(path), "%s[%u]", field, i);
            schema_error(ctx, &values->items[i], path, "`%.60s` %s", text, problem);
        }
    }
}

static void unknown_attribute(struct schema_ctx *ctx, const struct cfg_node *node,
                              const char *key) {
    unsigned best = schema_max_distance(key) + 1;
    const char *hint = "";
    char text[160];

    if (strcmp(key, "destination.namespace") == 0) {
        snprintf(text, sizeof(text), "is replaced by the policy's own namespace");
    } else if (strncmp(key, "destination.labels", 18) == 0) {
        snprintf(text, sizeof(text), "is replaced by the policy's selector");
    } else {
        snprintf(text, sizeof(text), "`%.60s` is not an attribute", key);
        for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
            unsigned distance = schema_distance(key, attributes[i].key, best);
            if (distance < best) {
                best = distance;
                hint = attributes[i].key;
            }
        }
    }
    schema_report(ctx, CONFIG_ERROR, cfg_get(node, "key"), "key", text, hint);
}

static void check_condition(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_authz_condition *condition = out;
    const char *key = condition->key;

    if (condition->values.n + condition->not_values.n == 0) {
        schema_error(ctx, node, "", "needs `values` or `notValues`");
    }
    if (key[0] == '\0') {
        return; // reported
    }
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        size_t len = strlen(attributes[i].key);
        if (strncmp(key, attributes[i].key, len) != 0 ||
            (!attributes[i].has_brackets && key[len] != '\0')) {
            continue;
        }
        const char *open = strchr(key + len - 1, '['); // the last one ends in a dot
        size_t key_len = strlen(key);
        if (attributes[i].has_brackets &&
            (open == NULL || key[key_len - 1] != ']' || open[1] == ']')) {
            schema_error(ctx, cfg_get(node, "key"), "key", "needs a name: %s[NAME]",
                         attributes[i].key);
        }
        check_values(ctx, node, "values", attributes[i].value);
        check_values(ctx, node, "notValues", attributes[i].value);
        return;
    }
    unknown_attribute(ctx, node, key);
}
static const struct schema_msg condition_msg = {
    SCHEMA_MSG(struct kobj_authz_condition, condition_fields),
    SCHEMA_POS(struct kobj_authz_condition, pos),
    .check = check_condition,
};

// Rule and policy

static const struct schema_field rule_fields[] = {
    F_LIST(struct kobj_authz_rule, from, "from", &from_msg, .flags = SCHEMA_NONEMPTY, .max = 512),
    F_LIST(struct kobj_authz_rule, to, "to", &to_msg, .flags = SCHEMA_NONEMPTY, .max = 512),
    F_LIST(struct kobj_authz_rule, when, "when", &condition_msg),
};
static const struct schema_msg rule_msg = {
    SCHEMA_MSG(struct kobj_authz_rule, rule_fields),
    SCHEMA_POS(struct kobj_authz_rule, pos),
};

static const struct schema_field target_fields[] = {
    F_STR(struct kobj_policy_target, group, "group"),
    F_STR(struct kobj_policy_target, kind, "kind", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_policy_target, name, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_policy_target, ns, "namespace"),
};
static void check_target(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    static const struct {
        const char *group, *kind;
    } allowed[] = {
        {"", "Service"},
        {"core", "Service"},
        {"networking.istio.io", "ServiceEntry"},
        {"gateway.networking.k8s.io", "Gateway"},
        {"gateway.networking.k8s.io", "GatewayClass"},
    };
    const struct kobj_policy_target *target = out;

    if (target->ns[0] != '\0') {
        schema_error(ctx, cfg_get(node, "namespace"), "namespace",
                     "must not be set: a policy targets its own namespace");
    }
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        if (strcmp(target->group, allowed[i].group) == 0 &&
            strcmp(target->kind, allowed[i].kind) == 0) {
            return;
        }
    }
    if (target->kind[0] != '\0') {
        schema_error(ctx, node, "",
                     "`%.60s/%.60s` cannot be a target: Service, ServiceEntry "
                     "(networking.istio.io), Gateway, GatewayClass "
                     "(gateway.networking.k8s.io) can",
                     target->group, target->kind);
    }
}
static const struct schema_msg target_msg = {
    SCHEMA_MSG(struct kobj_policy_target, target_fields),
    SCHEMA_POS(struct kobj_policy_target, pos),
    .check = check_target,
};

static const struct schema_field provider_fields[] = {
    F_STR(struct kobj_authz_policy, provider, "name"),
};
static const struct schema_msg provider_msg = {
    SCHEMA_MSG(struct kobj_authz_policy, provider_fields)};
static const struct schema_field selector_fields[] = {
    F_MAP(struct kobj_authz_policy, selector, "matchLabels", .check = check_no_wildcard,
          .check_key = check_no_wildcard),
};
static const struct schema_msg selector_msg = {
    SCHEMA_MSG(struct kobj_authz_policy, selector_fields)};

static bool rule_has_l7(const struct kobj_authz_rule *rule) {
    bool has = false;

    for (uint32_t i = 0; i < rule->n_from; i++) {
        has = has || kobj_authz_source_has_l7(&rule->from[i]);
    }
    for (uint32_t i = 0; i < rule->n_to; i++) {
        has = has || kobj_authz_operation_has_l7(&rule->to[i]);
    }
    for (uint32_t i = 0; i < rule->n_when; i++) {
        has = has || kobj_authz_condition_is_l7(rule->when[i].key);
    }
    return has;
}

static void warn_l7_rules(struct schema_ctx *ctx, const struct cfg_node *node,
                          const struct kobj_authz_policy *policy) {
    const struct cfg_node *rules = cfg_get(node, "rules");
    char path[32];

    for (uint32_t i = 0; i < policy->n_rules; i++) {
        if (!rule_has_l7(&policy->rules[i])) {
            continue;
        }
        snprintf(path, sizeof(path), "rules[%u]", i);
        schema_warn(
            ctx, &rules->items[i], path, "%s",
            policy->action == AUTHZ_DENY
                ? "has fields that L4 does not look at: the rest of the rule "
                  "denies; target a waypoint with `targetRefs` for the whole rule"
                : "has fields that L4 cannot check, so it never matches (fails closed); target a "
                  "waypoint with `targetRefs`");
    }
}

static void check_policy(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_authz_policy *policy = out;
    const struct cfg_node *action = cfg_get(node, "action");

    if (policy->has_selector && policy->n_targets > 0) {
        schema_error(ctx, node, "targetRefs", "only one of `selector` and `targetRefs` may be set");
    }
    if (policy->has_selector && policy->selector.n == 0) {
        schema_warn(ctx, cfg_get(node, "selector"), "selector",
                    "has no labels: it selects every workload, as no selector does");
    }
    if (policy->provider[0] != '\0' && policy->action != AUTHZ_CUSTOM) {
        schema_error(ctx, node, "provider", "is for action CUSTOM only");
    }
    if (policy->action == AUTHZ_CUSTOM && policy->provider[0] == '\0') {
        schema_error(ctx, node, "provider.name", "is required with action CUSTOM");
    }
    if ((policy->action == AUTHZ_DENY || policy->action == AUTHZ_CUSTOM) && !policy->has_rules) {
        schema_error(ctx, action, "rules",
                     "is required with %s: without rules it never applies; `- {}` is a rule that "
                     "always does",
                     policy->action == AUTHZ_DENY ? "DENY" : "CUSTOM");
    }
    if (policy->n_targets > 0) {
        return; // all of it is the waypoint's
    }
    if (policy->action == AUTHZ_CUSTOM || policy->action == AUTHZ_AUDIT) {
        schema_warn(ctx, action, "action", "%s is not enforced on L4, only by a waypoint",
                    policy->action == AUTHZ_CUSTOM ? "CUSTOM" : "AUDIT");
        return;
    }
    warn_l7_rules(ctx, node, policy);
}

static const struct schema_name actions[] = {{"ALLOW", AUTHZ_ALLOW},
                                             {"DENY", AUTHZ_DENY},
                                             {"AUDIT", AUTHZ_AUDIT},
                                             {"CUSTOM", AUTHZ_CUSTOM},
                                             {NULL, 0}};
static const struct schema_field policy_spec_fields[] = {
    F_FLAT("selector", &selector_msg, F_TAG(struct kobj_authz_policy, has_selector, 1)),
    F_ONE(struct kobj_authz_policy, targets, "targetRef", &target_msg, .oneof = 1),
    F_LIST(struct kobj_authz_policy, targets, "targetRefs", &target_msg, .oneof = 1, .max = 16),
    F_ENUM(struct kobj_authz_policy, action, "action", actions),
    F_FLAT("provider", &provider_msg),
    F_LIST(struct kobj_authz_policy, rules, "rules", &rule_msg, .max = 512,
           F_TAG(struct kobj_authz_policy, has_rules, 1)),
};
static const struct schema_msg policy_spec_msg = {
    SCHEMA_MSG(struct kobj_authz_policy, policy_spec_fields),
    .check = check_policy,
};
static const struct schema_field policy_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &policy_spec_msg),
    F_ANY("status"),
};
const struct schema_msg kobj_authz_msg = {SCHEMA_MSG(struct kobj_authz_policy, policy_fields)};
