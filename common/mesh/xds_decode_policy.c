// SPDX-License-Identifier: Apache-2.0
//
// Authorizations are in the form of model.h's policies already. Nothing that cannot be read is left
// out of a list: an empty list matches everything.
#include <string.h>

#include "common/mesh/xds_decode_priv.h"
#include "common/proto/spiffe.h"

// Values of the enums

enum { N_SCOPES = 3, N_ACTIONS = 2 };

static const struct string_match *strings(struct xds_decoder *d, Xds__StringMatch *const *src,
                                          size_t n, const char *field, uint16_t *ret_n) {
    struct string_match *items;
    if (!xds_list_ok(d, n, UINT16_MAX, field)) {
        return NULL;
    }
    items = xds_array(d, n, sizeof(*items));
    for (size_t i = 0; i < n && !d->has_failed; i++) {
        switch (src[i]->match_type_case) {
        case XDS__STRING_MATCH__MATCH_TYPE_EXACT:
            items[i] = (struct string_match){MATCH_EXACT,
                                             xds_text(d, src[i]->exact, field, SPIFFE_TEXT_MAX)};
            break;
        case XDS__STRING_MATCH__MATCH_TYPE_PREFIX:
            items[i] = (struct string_match){MATCH_PREFIX,
                                             xds_text(d, src[i]->prefix, field, SPIFFE_TEXT_MAX)};
            break;
        case XDS__STRING_MATCH__MATCH_TYPE_SUFFIX:
            items[i] = (struct string_match){MATCH_SUFFIX,
                                             xds_text(d, src[i]->suffix, field, SPIFFE_TEXT_MAX)};
            break;
        case XDS__STRING_MATCH__MATCH_TYPE_PRESENCE:
            items[i] = (struct string_match){MATCH_PRESENCE, ""};
            break;
        default:
            xds_fail(d, "%s: a match of a kind that is not known", field);
        }
    }
    *ret_n = (uint16_t)n;
    return items;
}

static const struct sa_match *accounts(struct xds_decoder *d, Xds__ServiceAccount *const *src,
                                       size_t n, const char *field, uint16_t *ret_n) {
    struct sa_match *items;
    if (!xds_list_ok(d, n, UINT16_MAX, field)) {
        return NULL;
    }
    items = xds_array(d, n, sizeof(*items));
    for (size_t i = 0; i < n && !d->has_failed; i++) {
        items[i].ns = xds_required(d, src[i]->namespace_, field, XDS_NS_MAX);
        items[i].sa = xds_required(d, src[i]->service_account, field, SPIFFE_SA_MAX);
    }
    *ret_n = (uint16_t)n;
    return items;
}

static struct cidr cidr_of(struct xds_decoder *d, const Xds__Cidr *src, const char *field) {
    struct cidr cidr = {.ip = xds_ip(d, src->address, field)};
    uint32_t max = src->address.len == 4 ? 32 : 128;
    uint32_t len = src->length;
    if (len > max) {
        xds_fail(d, "%s: /%u is longer than the address", field, len);
        return cidr;
    }
    if (max == 128 && cidr.ip.family == 4) { // an IPv4 address in IPv6's form
        if (len < 96) {
            xds_fail(d, "%s: /%u of an IPv4 address in the form of IPv6", field, len);
            return cidr;
        }
        len -= 96;
    }
    for (uint32_t i = 0; i < sizeof(cidr.ip.bytes); i++) {
        uint32_t n_bits = len > 8 * i ? MIN(len - 8 * i, 8U) : 0;
        cidr.ip.bytes[i] &= (uint8_t)(0xff00U >> n_bits);
    }
    cidr.len = (uint8_t)len;
    return cidr;
}

static const struct cidr *cidrs(struct xds_decoder *d, Xds__Cidr *const *src, size_t n,
                                const char *field, uint16_t *ret_n) {
    struct cidr *items;
    if (!xds_list_ok(d, n, UINT16_MAX, field)) {
        return NULL;
    }
    items = xds_array(d, n, sizeof(*items));
    for (size_t i = 0; i < n && !d->has_failed; i++) {
        items[i] = cidr_of(d, src[i], field);
    }
    *ret_n = (uint16_t)n;
    return items;
}

static const uint16_t *ports(struct xds_decoder *d, const uint32_t *src, size_t n,
                             const char *field, uint16_t *ret_n) {
    uint16_t *items;
    if (!xds_list_ok(d, n, UINT16_MAX, field)) {
        return NULL;
    }
    items = xds_array(d, n, sizeof(*items));
    for (size_t i = 0; i < n && !d->has_failed; i++) {
        items[i] = xds_port_of(d, src[i], field);
    }
    *ret_n = (uint16_t)n;
    return items;
}

#define FIELD(name, read) m.name = read(d, src->name, src->n_##name, #name, &m.n_##name)

static struct policy_match match_of(struct xds_decoder *d, const Xds__Match *src) {
    struct policy_match m = {0};
    FIELD(namespaces, strings);
    FIELD(not_namespaces, strings);
    FIELD(principals, strings);
    FIELD(not_principals, strings);
    FIELD(source_ips, cidrs);
    FIELD(not_source_ips, cidrs);
    FIELD(destination_ips, cidrs);
    FIELD(not_destination_ips, cidrs);
    FIELD(destination_ports, ports);
    FIELD(not_destination_ports, ports);
    FIELD(service_accounts, accounts);
    FIELD(not_service_accounts, accounts);
    return m;
}

static struct policy_clause clause_of(struct xds_decoder *d, const Xds__Clause *src) {
    if (!xds_list_ok(d, src->n_matches, UINT16_MAX, "matches")) {
        return (struct policy_clause){0};
    }
    struct policy_match *matches = xds_array(d, src->n_matches, sizeof(*matches));
    for (size_t i = 0; i < src->n_matches && !d->has_failed; i++) {
        matches[i] = match_of(d, src->matches[i]);
    }
    return (struct policy_clause){.matches = matches, .n_matches = (uint16_t)src->n_matches};
}

static struct policy_rule rule_of(struct xds_decoder *d, const Xds__Rule *src) {
    if (!xds_list_ok(d, src->n_clauses, UINT16_MAX, "clauses")) {
        return (struct policy_rule){0};
    }
    struct policy_clause *clauses = xds_array(d, src->n_clauses, sizeof(*clauses));
    for (size_t i = 0; i < src->n_clauses && !d->has_failed; i++) {
        clauses[i] = clause_of(d, src->clauses[i]);
    }
    return (struct policy_rule){.clauses = clauses, .n_clauses = (uint16_t)src->n_clauses};
}

void xds_decode_policy(struct xds_decoder *d, const Xds__Authorization *src,
                       struct xds_resource *ret_resource) {
    static const uint8_t scopes[N_SCOPES] = {POLICY_GLOBAL, POLICY_NAMESPACE, POLICY_WORKLOAD};
    static const uint8_t actions[N_ACTIONS] = {POLICY_ALLOW, POLICY_DENY};
    const char *ns = xds_required(d, src->namespace_, "namespace", XDS_NS_MAX);
    const char *name = xds_required(d, src->name, "name", XDS_TEXT_MAX);
    if (!xds_list_ok(d, src->n_rules, UINT16_MAX, "rules")) {
        return;
    }
    struct policy_rule *rules = xds_array(d, src->n_rules, sizeof(*rules));
    for (size_t i = 0; i < src->n_rules && !d->has_failed; i++) {
        rules[i] = rule_of(d, src->rules[i]);
    }
    ret_resource->kind = XDS_POLICY;
    ret_resource->policy = (struct policy){
        .leaf.key = slice_str(xds_join(d, ns, name)),
        .name = name,
        .ns = ns,
        .scope = scopes[xds_enum(d, src->scope, N_SCOPES, "scope")],
        .action = actions[xds_enum(d, src->action, N_ACTIONS, "action")],
        .is_dry_run = src->dry_run,
        .rules = rules,
        .n_rules = (uint16_t)src->n_rules,
    };
}
