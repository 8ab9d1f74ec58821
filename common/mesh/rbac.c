// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/rbac.h"

#include <stdio.h>

#include "common/proto/spiffe.h"

struct match_input {
    const struct rbac_request *request;
    const struct mesh_settings *mesh;
    struct slice principal; // without "spiffe://"; empty for plaintext
    struct slice trust_domain, ns, sa; // of the identity
    bool has_identity;
    bool has_aliases; // the mesh has several trust domains, and the identity is of one of them
};

// An identity that is not in the mesh's form still is a principal, but has no namespace.
static struct match_input match_input_of(const struct mesh_settings *mesh,
                                         const struct rbac_request *request) {
    static const struct slice scheme = {(const uint8_t *)"spiffe://", 9};
    struct match_input in = {.request = request, .mesh = mesh};
    if (slice_has_prefix(request->source_identity, scheme)) {
        in.principal = slice_skip(request->source_identity, scheme.len);
    }
    struct spiffe_id id;
    if (spiffe_parse(request->source_identity, &id)) {
        in.trust_domain = id.trust_domain;
        in.ns = id.ns;
        in.sa = id.sa;
        in.has_identity = true;
        in.has_aliases =
            mesh_trust_domain(mesh, 1) != NULL && mesh_is_trust_domain(mesh, id.trust_domain);
    }
    return in;
}

static bool string_matches(const struct string_match *match, struct slice text) {
    switch ((enum match_kind)match->kind) {
    case MATCH_EXACT:
        return slice_eq_str(text, match->text);
    case MATCH_PREFIX:
        return slice_has_prefix(text, slice_str(match->text));
    case MATCH_SUFFIX:
        return slice_has_suffix(text, slice_str(match->text));
    case MATCH_PRESENCE:
        return text.len > 0;
    }
    return false;
}

static bool any_string(const struct string_match *matches, size_t n, struct slice text) {
    for (size_t i = 0; i < n; i++) {
        if (string_matches(&matches[i], text)) {
            return true;
        }
    }
    return false;
}

// The same workload under the mesh's other trust domains: a policy may name any of them.
static bool any_alias(const struct string_match *matches, size_t n, const struct match_input *in) {
    const char *trust_domain;
    for (size_t i = 0; (trust_domain = mesh_trust_domain(in->mesh, i)) != NULL; i++) {
        char text[SPIFFE_TEXT_MAX];
        if (slice_eq_str(in->trust_domain, trust_domain)) {
            continue;
        }
        int len = snprintf(text, sizeof(text), "%s/ns/%.*s/sa/%.*s", trust_domain,
                           SLICE_ARG(in->ns), SLICE_ARG(in->sa));
        if (any_string(matches, n, slice_make(text, (size_t)len))) {
            return true;
        }
    }
    return false;
}

// Without an identity nothing matches, whatever the form: not even an empty prefix.
static bool any_principal(const struct string_match *matches, size_t n,
                          const struct match_input *in) {
    return n > 0 && in->principal.len > 0 &&
           (any_string(matches, n, in->principal) ||
            (in->has_aliases && any_alias(matches, n, in)));
}

static bool any_account(const struct sa_match *matches, size_t n, const struct match_input *in) {
    for (size_t i = 0; in->has_identity && i < n; i++) {
        if (slice_eq_str(in->ns, matches[i].ns) && slice_eq_str(in->sa, matches[i].sa)) {
            return true;
        }
    }
    return false;
}

static bool any_cidr(const struct cidr *cidrs, size_t n, const struct ip *ip) {
    for (size_t i = 0; i < n; i++) {
        if (cidr_contains(&cidrs[i], ip)) {
            return true;
        }
    }
    return false;
}

static bool any_port(const uint16_t *ports, size_t n, uint16_t port) {
    for (size_t i = 0; i < n; i++) {
        if (ports[i] == port) {
            return true;
        }
    }
    return false;
}

static bool match_is_empty(const struct policy_match *m) {
    return m->n_principals + m->n_not_principals + m->n_namespaces + m->n_not_namespaces +
               m->n_service_accounts + m->n_not_service_accounts + m->n_source_ips +
               m->n_not_source_ips + m->n_destination_ips + m->n_not_destination_ips +
               m->n_destination_ports + m->n_not_destination_ports ==
           0;
}

// One field: any positive (when there are some) and no negative.
#define FIELD(name, any, what)                                                                     \
    ((m->n_##name == 0 || any(m->name, m->n_##name, what)) &&                                      \
     !any(m->not_##name, m->n_not_##name, what))

static bool match_matches(const struct policy_match *m, const struct match_input *in) {
    const struct rbac_request *request = in->request;
    // Cheapest first. A match without any field is false, not true.
    return !match_is_empty(m) && FIELD(destination_ports, any_port, request->destination.port) &&
           FIELD(destination_ips, any_cidr, &request->destination.ip) &&
           FIELD(source_ips, any_cidr, &request->source_ip) &&
           FIELD(namespaces, any_string, in->ns) && FIELD(service_accounts, any_account, in) &&
           FIELD(principals, any_principal, in);
}

static bool clause_matches(const struct policy_clause *clause, const struct match_input *in) {
    for (size_t i = 0; i < clause->n_matches; i++) {
        if (match_matches(&clause->matches[i], in)) {
            return true;
        }
    }
    return clause->n_matches == 0;
}

static bool rule_matches(const struct policy_rule *rule, const struct match_input *in) {
    for (size_t i = 0; i < rule->n_clauses; i++) {
        if (!clause_matches(&rule->clauses[i], in)) {
            return false;
        }
    }
    return true;
}

static int first_rule(const struct policy *policy, const struct match_input *in) {
    for (int i = 0; i < policy->n_rules; i++) {
        if (rule_matches(&policy->rules[i], in)) {
            return i;
        }
    }
    return -1;
}

int rbac_policy_match(const struct mesh_settings *mesh, const struct policy *policy,
                      const struct rbac_request *request) {
    struct match_input in = match_input_of(mesh, request);
    return first_rule(policy, &in);
}

struct check {
    const struct match_input *in;
    const struct policy *deny, *allow; // that matched first
    int deny_rule, allow_rule;
    const struct policy *dry_deny, *dry_allow; // the same of dry-run policies
    const struct policy *first_dry_allow;
    bool has_allow;
};

static bool visit(void *arg, const struct policy *policy) {
    struct check *check = arg;
    bool is_deny = policy->action == POLICY_DENY;
    if (policy->is_dry_run) {
        const struct policy **match = is_deny ? &check->dry_deny : &check->dry_allow;
        if (!is_deny && check->first_dry_allow == NULL) {
            check->first_dry_allow = policy;
        }
        if (*match == NULL && first_rule(policy, check->in) >= 0) {
            *match = policy;
        }
        return true;
    }
    if (!is_deny) {
        check->has_allow = true;
        if (check->allow == NULL) {
            check->allow_rule = first_rule(policy, check->in);
            check->allow = check->allow_rule >= 0 ? policy : NULL;
        }
        return true;
    }
    check->deny_rule = first_rule(policy, check->in);
    check->deny = check->deny_rule >= 0 ? policy : NULL;
    return check->deny == NULL; // the first DENY decides
}

// What if the dry-run policies counted as well?
static void dry_run(const struct check *check, struct rbac_verdict *verdict) {
    if (check->dry_deny != NULL) {
        verdict->dry_run_denies = true;
        verdict->dry_run_policy = check->dry_deny;
    } else if (check->first_dry_allow != NULL && check->dry_allow == NULL && check->allow == NULL) {
        verdict->dry_run_denies = true;
        verdict->dry_run_policy = check->first_dry_allow;
    }
}

static void conclude(const struct check *check, struct rbac_verdict *v) {
    *v = (struct rbac_verdict){
        .rule = -1, .dry_deny = check->dry_deny, .dry_allow = check->dry_allow};
    // The texts are ztunnel's, which people search their logs for.
    if (check->deny != NULL) {
        v->policy = check->deny;
        v->rule = check->deny_rule;
        snprintf(v->reason, sizeof(v->reason), "explicitly denied by: %s/%s (rule %d)",
                 v->policy->ns, v->policy->name, v->rule);
        return;
    }
    if (check->has_allow && check->allow == NULL) {
        snprintf(v->reason, sizeof(v->reason), "allow policies exist, but none allowed");
        return;
    }
    v->is_allowed = true;
    if (check->allow != NULL) {
        v->policy = check->allow;
        v->rule = check->allow_rule;
        snprintf(v->reason, sizeof(v->reason), "allowed by: %s/%s (rule %d)", v->policy->ns,
                 v->policy->name, v->rule);
    } else {
        snprintf(v->reason, sizeof(v->reason), "no allow policies");
    }
    dry_run(check, v);
}

void rbac_check(const struct snapshot *snap, const struct workload *destination,
                const struct rbac_request *request, struct rbac_verdict *ret_verdict) {
    struct match_input in = match_input_of(snap->mesh, request);
    struct check check = {.in = &in};
    snapshot_policies_for(snap, destination, visit, &check);
    conclude(&check, ret_verdict);
}

// At a waypoint

struct waypoint_check {
    struct check check;
    const struct rbac_target *target;
    const char *root_ns;
};

static bool is_class(const struct rbac_target *target, const char *name) {
    if (target->gateway_class[0] != '\0') {
        return strcmp(target->gateway_class, name) == 0;
    }
    return strcmp(name, "istio-waypoint") == 0 || strcmp(name, "ztun-waypoint") == 0;
}

static bool is_targeted(const struct waypoint_check *own, const struct policy *policy) {
    const struct rbac_target *target = own->target;
    const struct service *service = target->service;
    for (size_t i = 0; i < policy->n_targets; i++) {
        const char *kind = policy->targets[i].kind, *name = policy->targets[i].name;
        if (strcmp(kind, "GatewayClass") == 0) {
            if (strcmp(policy->ns, own->root_ns) == 0 && is_class(target, name)) {
                return true;
            }
        } else if (strcmp(kind, "Gateway") == 0) {
            if (strcmp(policy->ns, target->gateway_ns) == 0 && strcmp(name, target->gateway) == 0) {
                return true;
            }
        } else if (service != NULL && strcmp(policy->ns, service->ns) == 0 &&
                   strcmp(name, service->name) == 0 &&
                   strcmp(kind, service->is_canonical ? "Service" : "ServiceEntry") == 0) {
            return true;
        }
    }
    return false;
}

static bool visit_targeted(void *arg, const struct policy *policy) {
    struct waypoint_check *own = arg;
    return !is_targeted(own, policy) || visit(&own->check, policy);
}

void rbac_check_waypoint(const struct snapshot *snap, const struct rbac_target *target,
                         const struct rbac_request *request, struct rbac_verdict *ret_verdict) {
    struct match_input in = match_input_of(snap->mesh, request);
    struct waypoint_check own = {
        .check = {.in = &in}, .target = target, .root_ns = snap->mesh->root_namespace};
    const char *spaces[] = {own.root_ns, target->gateway_ns,
                            target->service != NULL ? target->service->ns : own.root_ns};
    for (size_t i = 0; i < ARRAY_LEN(spaces) && own.check.deny == NULL; i++) {
        bool was_visited = false;
        for (size_t k = 0; k < i; k++) {
            was_visited = was_visited || strcmp(spaces[k], spaces[i]) == 0;
        }
        if (!was_visited) {
            snapshot_policies_targeted(snap, spaces[i], visit_targeted, &own);
        }
    }
    conclude(&own.check, ret_verdict);
}
