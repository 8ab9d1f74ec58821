// SPDX-License-Identifier: Apache-2.0
//
// Policies as ztunnel serialises them (its src/rbac.rs): rules are lists of clauses, which are
// lists of matches.
#include <stdlib.h>

#include "common/proc/proc_dump_priv.h"

static void put_strings(struct json_out *out, const char *key, const struct string_match *matches,
                        size_t n) {
    static const char *const kinds[] = {"Exact", "Prefix", "Suffix", "Presence"};
    if (n == 0) {
        return;
    }
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        json_out_begin_object(out);
        const char *kind = kinds[matches[i].kind % ARRAY_LEN(kinds)];
        if (matches[i].kind == MATCH_PRESENCE) {
            json_out_kv_array(out, kind);
            json_out_end(out);
        } else {
            json_out_kv_str(out, kind, matches[i].text);
        }
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_accounts(struct json_out *out, const char *key, const struct sa_match *matches,
                         size_t n) {
    if (n == 0) {
        return;
    }
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        json_out_begin_object(out);
        json_out_kv_str(out, "namespace", matches[i].ns);
        json_out_kv_str(out, "serviceAccount", matches[i].sa);
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_cidrs(struct json_out *out, const char *key, const struct cidr *cidrs, size_t n) {
    if (n == 0) {
        return;
    }
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        char text[CIDR_TEXT_MAX];
        json_out_string(out, slice_str(cidr_text(&cidrs[i], text)));
    }
    json_out_end(out);
}

static void put_ports(struct json_out *out, const char *key, const uint16_t *ports, size_t n) {
    if (n == 0) {
        return;
    }
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        json_out_u64(out, ports[i]);
    }
    json_out_end(out);
}

static void put_match(struct json_out *out, const struct policy_match *m) {
    json_out_begin_object(out);
    put_strings(out, "namespaces", m->namespaces, m->n_namespaces);
    put_strings(out, "notNamespaces", m->not_namespaces, m->n_not_namespaces);
    put_accounts(out, "serviceAccounts", m->service_accounts, m->n_service_accounts);
    put_accounts(out, "notServiceAccounts", m->not_service_accounts, m->n_not_service_accounts);
    put_strings(out, "principals", m->principals, m->n_principals);
    put_strings(out, "notPrincipals", m->not_principals, m->n_not_principals);
    put_cidrs(out, "sourceIps", m->source_ips, m->n_source_ips);
    put_cidrs(out, "notSourceIps", m->not_source_ips, m->n_not_source_ips);
    put_cidrs(out, "destinationIps", m->destination_ips, m->n_destination_ips);
    put_cidrs(out, "notDestinationIps", m->not_destination_ips, m->n_not_destination_ips);
    put_ports(out, "destinationPorts", m->destination_ports, m->n_destination_ports);
    put_ports(out, "notDestinationPorts", m->not_destination_ports, m->n_not_destination_ports);
    json_out_end(out);
}

static void put_rule(struct json_out *out, const struct policy_rule *rule) {
    json_out_begin_array(out);
    for (size_t i = 0; i < rule->n_clauses; i++) {
        const struct policy_clause *clause = &rule->clauses[i];
        json_out_begin_array(out);
        for (size_t k = 0; k < clause->n_matches; k++) {
            put_match(out, &clause->matches[k]);
        }
        json_out_end(out);
    }
    json_out_end(out);
}

void proc_dump_policy(struct json_out *out, const struct policy *policy) {
    static const char *const scopes[] = {"Global", "Namespace", "WorkloadSelector"};
    json_out_begin_object(out);
    json_out_kv_str(out, "name", policy->name);
    json_out_kv_str(out, "namespace", policy->ns);
    json_out_kv_str(out, "scope", scopes[policy->scope % ARRAY_LEN(scopes)]);
    json_out_kv_str(out, "action", policy->action == POLICY_DENY ? "Deny" : "Allow");
    json_out_kv_array(out, "rules");
    for (size_t k = 0; k < policy->n_rules; k++) {
        put_rule(out, &policy->rules[k]);
    }
    json_out_end(out);
    json_out_kv_bool(out, "dryRun", policy->is_dry_run);
    json_out_end(out);
}
