// SPDX-License-Identifier: Apache-2.0
//
// AuthorizationPolicy and PeerAuthentication against the workloads and identities that there are.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/config_doc.h"
#include "ctl/cmd_validate.h"

static void ignore(void *arg, const struct validate_workload *workload) {
    (void)arg, (void)workload;
}

// A policy of the root namespace selects in all.
static const char *scope_of(const struct validate *v, const struct kobj *obj) {
    return strcmp(obj->meta.ns, v->root_ns) == 0 ? NULL : obj->meta.ns;
}

static void check_selector(struct validate *v, const struct kobj *obj,
                           const struct kobj_map *selector) {
    if (v->n_workloads > 0 && selector->n > 0 &&
        validate_select(v, scope_of(v, obj), selector, ignore, NULL) == 0) {
        validate_warn(v, obj, "spec.selector", "", "selects no pods of these files");
    }
}

// Targets

static void check_targets(struct validate *v, const struct kobj *obj) {
    const struct kobj_authz_policy *policy = obj->authz;
    bool is_list = cfg_find(obj->tree, "spec.targetRefs", NULL) != NULL;
    char path[64];

    for (uint32_t i = 0; i < policy->n_targets; i++) {
        const struct kobj_policy_target *target = &policy->targets[i];
        const char *group = strcmp(target->group, "core") == 0 ? "" : target->group;
        bool is_class = strcmp(target->kind, "GatewayClass") == 0;
        snprintf(path, sizeof(path), is_list ? "spec.targetRefs[%u]" : "spec.targetRef", i);
        if (is_class) {
            continue; // usually made by the installation
        }
        struct kobj_id id = {slice_str(group), target->kind, obj->meta.ns, target->name};
        const struct kobj *found = config_store_find(v->store, &id);
        if (found == NULL && v->n_by_kind[KOBJ_SERVICE] + v->n_by_kind[KOBJ_GATEWAY] +
                                     v->n_by_kind[KOBJ_SERVICE_ENTRY] >
                                 0) {
            validate_warn(v, obj, path, "", "there is no %.60s `%.63s/%.200s` in these files",
                          target->kind, obj->meta.ns, target->name);
        } else if (found != NULL && found->kind != KOBJ_GATEWAY &&
                   !validate_has_waypoint(v, found)) {
            validate_warn(v, obj, path, "",
                          "%.60s `%.200s` has no waypoint, so nothing enforces this policy (label "
                          "istio.io/use-waypoint)",
                          target->kind, target->name);
        }
    }
    if (policy->n_targets > 0) {
        validate_warn(v, obj, is_list ? "spec.targetRefs" : "spec.targetRef", "",
                      "belongs to the waypoint: it is not enforced on L4");
    }
}

// Ports: policies see the pod's port, not the service's

struct port_check {
    uint16_t port;
    uint32_t n_without, n_with, n_unknown;
};

static void count_port(void *arg, const struct validate_workload *workload) {
    struct port_check *check = arg;

    if (workload->spec == NULL || !validate_declares_port(workload, 0)) {
        check->n_unknown++;
    } else if (validate_declares_port(workload, check->port)) {
        check->n_with++;
    } else {
        check->n_without++;
    }
}

// The target port of a service port of the namespace that has this number, 0 = none.
static uint32_t target_of(const struct validate *v, const char *ns, uint16_t port) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *obj = v->objs[i];
        if (obj->kind != KOBJ_SERVICE || strcmp(obj->meta.ns, ns) != 0) {
            continue;
        }
        for (uint32_t j = 0; j < obj->service->n_ports; j++) {
            const struct kobj_service_port *p = &obj->service->ports[j];
            if (p->port == port && p->target_port.num > 0 && p->target_port.num != port) {
                return (uint32_t)p->target_port.num;
            }
        }
    }
    return 0;
}

static void check_port(struct validate *v, const struct kobj *obj, const struct kobj_map *selector,
                       uint16_t port, const char *path) {
    struct port_check check = {.port = port};

    validate_select(v, scope_of(v, obj), selector, count_port, &check);
    if (port == 0 || check.n_with + check.n_unknown > 0 || check.n_without == 0) {
        return;
    }
    uint32_t target = target_of(v, obj->meta.ns, port);
    if (target != 0) {
        validate_warn(v, obj, path, "",
                      "%u is a service's port; a policy sees the port of the pod, which is %u",
                      port, target);
    } else {
        validate_warn(v, obj, path, "", "no pod that it applies to declares port %u", port);
    }
}

static void check_ports(struct validate *v, const struct kobj *obj) {
    const struct kobj_authz_policy *policy = obj->authz;
    char path[96];

    for (uint32_t i = 0; i < policy->n_rules; i++) {
        const struct kobj_authz_rule *rule = &policy->rules[i];
        for (uint32_t j = 0; j < rule->n_to; j++) {
            for (uint32_t k = 0; k < rule->to[j].ports.n; k++) {
                snprintf(path, sizeof(path), "spec.rules[%u].to[%u].operation.ports[%u]", i, j, k);
                check_port(v, obj, &policy->selector,
                           (uint16_t)strtoul(rule->to[j].ports.items[k], NULL, 10), path);
            }
        }
    }
}

// Identities

static void check_namespace(struct validate *v, const struct kobj *obj, const char *ns,
                            const char *path) {
    if (strchr(ns, '*') != NULL || v->n_by_kind[KOBJ_NAMESPACE] == 0 ||
        validate_has_namespace(v, ns)) {
        return;
    }
    validate_warn(v, obj, path, validate_namespace_hint(v, ns),
                  "there is no namespace `%.63s` in these files", ns);
}

static void check_account(struct validate *v, const struct kobj *obj, const char *ns,
                          const char *name, const char *path) {
    if (v->n_workloads > 0 && !validate_has_service_account(v, ns, name)) {
        validate_warn(v, obj, path, "",
                      "no pod of these files runs as service account `%.63s/%.200s`", ns, name);
    }
}

// "TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
static void check_principal(struct validate *v, const struct kobj *obj, const char *text,
                            const char *path) {
    char ns[64], account[254], rest;

    if (strchr(text, '*') != NULL) {
        return;
    }
    if (sscanf(text, "%*[^/]/ns/%63[^/]/sa/%253[^/]%c", ns, account, &rest) != 2) {
        validate_warn(v, obj, path, "",
                      "`%.100s` never matches: a principal is "
                      "TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT",
                      text);
        return;
    }
    check_account(v, obj, ns, account, path);
}

static void check_source(struct validate *v, const struct kobj *obj,
                         const struct kobj_authz_source *s, const char *base) {
    char path[96], ns[64];

    for (uint32_t i = 0; i < s->principals.n; i++) {
        snprintf(path, sizeof(path), "%s.principals[%u]", base, i);
        check_principal(v, obj, s->principals.items[i], path);
    }
    for (uint32_t i = 0; i < s->namespaces.n; i++) {
        snprintf(path, sizeof(path), "%s.namespaces[%u]", base, i);
        check_namespace(v, obj, s->namespaces.items[i], path);
    }
    for (uint32_t i = 0; i < s->service_accounts.n; i++) {
        const char *text = s->service_accounts.items[i];
        const char *slash = strchr(text, '/');
        snprintf(path, sizeof(path), "%s.serviceAccounts[%u]", base, i);
        snprintf(ns, sizeof(ns), "%.*s", slash != NULL ? (int)(slash - text) : 63,
                 slash != NULL ? text : obj->meta.ns);
        check_account(v, obj, ns, slash != NULL ? slash + 1 : text, path);
    }
}

static void check_authz(struct validate *v, const struct kobj *obj) {
    const struct kobj_authz_policy *policy = obj->authz;
    char path[64];

    if (policy->n_targets > 0) {
        check_targets(v, obj);
    } else {
        check_selector(v, obj, &policy->selector);
        check_ports(v, obj);
    }
    for (uint32_t i = 0; i < policy->n_rules; i++) {
        for (uint32_t j = 0; j < policy->rules[i].n_from; j++) {
            snprintf(path, sizeof(path), "spec.rules[%u].from[%u].source", i, j);
            check_source(v, obj, &policy->rules[i].from[j], path);
        }
    }
}

static void check_peer_auth(struct validate *v, const struct kobj *obj) {
    const struct kobj_peer_auth *policy = obj->peer_auth;
    char path[64];

    check_selector(v, obj, &policy->selector);
    for (uint32_t i = 0; i < policy->n_ports; i++) {
        snprintf(path, sizeof(path), "spec.portLevelMtls[%u]", policy->ports[i].port);
        check_port(v, obj, &policy->selector, policy->ports[i].port, path);
    }
}

void validate_policies(struct validate *v) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        if (v->objs[i]->kind == KOBJ_AUTHORIZATION_POLICY) {
            check_authz(v, v->objs[i]);
        } else if (v->objs[i]->kind == KOBJ_PEER_AUTHENTICATION) {
            check_peer_auth(v, v->objs[i]);
        }
    }
}
