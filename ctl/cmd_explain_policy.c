// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/mesh/rbac.h"
#include "ctl/cmd_explain.h"

// ---- rules as text -----------------------------------------------------------------------------

static void put_strings(struct buf *out, const char *name, const struct string_match *items,
                        size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool is_prefix = items[i].kind == MATCH_PREFIX, is_suffix = items[i].kind == MATCH_SUFFIX;
        buf_printf(out, "%s%s%s%s", i == 0 ? name : "", i == 0 ? " [" : ", ", is_suffix ? "*" : "",
                   items[i].kind == MATCH_PRESENCE ? "*" : items[i].text);
        buf_append_str(out, is_prefix ? "*" : "");
    }
    buf_append_str(out, n > 0 ? "] " : "");
}

static void put_accounts(struct buf *out, const char *name, const struct sa_match *items,
                         size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%s%s/%s", i == 0 ? name : "", i == 0 ? " [" : ", ", items[i].ns,
                   items[i].sa);
    }
    buf_append_str(out, n > 0 ? "] " : "");
}

static void put_cidrs(struct buf *out, const char *name, const struct cidr *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char text[CIDR_TEXT_MAX];
        buf_printf(out, "%s%s%s", i == 0 ? name : "", i == 0 ? " [" : ", ",
                   cidr_text(&items[i], text));
    }
    buf_append_str(out, n > 0 ? "] " : "");
}

static void put_ports(struct buf *out, const char *name, const uint16_t *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%s%u", i == 0 ? name : "", i == 0 ? " [" : ", ", items[i]);
    }
    buf_append_str(out, n > 0 ? "] " : "");
}

static void put_match(struct buf *out, const struct policy_match *m) {
    size_t before = out->len;
    put_strings(out, "principals", m->principals, m->n_principals);
    put_strings(out, "not principals", m->not_principals, m->n_not_principals);
    put_strings(out, "namespaces", m->namespaces, m->n_namespaces);
    put_strings(out, "not namespaces", m->not_namespaces, m->n_not_namespaces);
    put_accounts(out, "service accounts", m->service_accounts, m->n_service_accounts);
    put_accounts(out, "not service accounts", m->not_service_accounts, m->n_not_service_accounts);
    put_cidrs(out, "source IPs", m->source_ips, m->n_source_ips);
    put_cidrs(out, "not source IPs", m->not_source_ips, m->n_not_source_ips);
    put_cidrs(out, "destination IPs", m->destination_ips, m->n_destination_ips);
    put_cidrs(out, "not destination IPs", m->not_destination_ips, m->n_not_destination_ips);
    put_ports(out, "ports", m->destination_ports, m->n_destination_ports);
    put_ports(out, "not ports", m->not_destination_ports, m->n_not_destination_ports);
    if (out->len > before) {
        buf_truncate(out, out->len - 1);
    } else {
        buf_append_str(out, "never"); // a match without fields
    }
}

char *explain_rule_text(const struct policy_rule *rule) {
    struct buf out;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < rule->n_clauses; i++) {
        const struct policy_clause *clause = &rule->clauses[i];
        buf_append_str(&out, i > 0 ? " and " : "");
        for (size_t k = 0; k < clause->n_matches; k++) {
            buf_append_str(&out, k > 0 ? " or " : "");
            put_match(&out, &clause->matches[k]);
        }
        buf_append_str(&out, clause->n_matches == 0 ? "anything" : "");
    }
    buf_append_str(&out, rule->n_clauses == 0 ? "anything" : "");
    return buf_take(&out, NULL);
}

// ---- policies ----------------------------------------------------------------------------------

struct visit {
    const struct rbac_request *request;
    json_t *list;
};

static bool visit_policy(void *arg, const struct policy *policy) {
    static const char *const scopes[] = {"mesh", "namespace", "workload"};
    struct visit *visit = arg;
    int rule = rbac_policy_match(snapshot_current()->mesh, policy, visit->request);
    json_t *item = json_pack("{s:s%, s:s, s:s, s:b, s:b}", "policy", policy->leaf.key.ptr,
                             (size_t)policy->leaf.key.len, "action",
                             policy->action == POLICY_DENY ? "DENY" : "ALLOW", "scope",
                             scopes[policy->scope % ARRAY_LEN(scopes)], "matches", rule >= 0,
                             "dryRun", policy->is_dry_run);
    if (rule >= 0) {
        char *text = explain_rule_text(&policy->rules[rule]);
        json_object_set_new(item, "rule", json_integer(rule));
        json_object_set_new(item, "ruleText", json_string(text));
        free(text);
    }
    json_array_append_new(visit->list, item);
    return true;
}

json_t *explain_policies(const struct snapshot *snap, const struct workload *destination,
                         const struct rbac_request *request) {
    struct visit visit = {.request = request, .list = json_array()};
    struct rbac_verdict verdict;
    snapshot_policies_for(snap, destination, visit_policy, &visit);
    rbac_check(snap, destination, request, &verdict);
    json_t *result = json_pack("{s:o, s:b, s:s}", "policies", visit.list, "allowed",
                               verdict.is_allowed, "reason", verdict.reason);
    if (verdict.dry_run_denies) {
        json_object_set_new(result, "dryRunDeniedBy",
                            json_stringn((const char *)verdict.dry_run_policy->leaf.key.ptr,
                                         verdict.dry_run_policy->leaf.key.len));
    }
    return result;
}
