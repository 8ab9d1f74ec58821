// SPDX-License-Identifier: Apache-2.0
//
// AuthorizationPolicies in ztunnel's form, as istiod's ambient index converts them: what L4 cannot
// see makes an ALLOW rule never match, and leaves the L4 part of a DENY rule.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/mesh/builder_priv.h"

void key_list_add(struct key_list *list, const char *fmt, ...) {
    char text[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (list->n == list->cap) {
        list->cap = MAX(8, list->cap * 2);
        list->items = xrealloc(list->items, list->cap * sizeof(*list->items));
    }
    list->items[list->n++] = xstrdup(text);
}

void key_list_fini(struct key_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_enforced(const struct record *record) {
    return record->obj != NULL && record->obj->authz->n_targets == 0 &&
           (record->obj->authz->action == AUTHZ_ALLOW || record->obj->authz->action == AUTHZ_DENY);
}

static void add_policy(void *arg, struct record *record) {
    if (record->kind == KOBJ_AUTHORIZATION_POLICY && is_enforced(record)) {
        key_list_add(arg, "%s/%s", record->ns->name, record->name);
    }
}

void builder_policies_of(struct mesh_builder *b, const struct record *workload,
                         struct key_list *ret_keys) {
    const struct bns *root = builder_ns(b, b->mesh.root_namespace, false);
    size_t first = ret_keys->n;
    if (root != NULL && root != workload->ns) {
        builder_each_selecting(root, record_labels(workload), add_policy, ret_keys);
    }
    builder_each_selecting_record(workload, add_policy, ret_keys);
    if (ret_keys->n > first) {
        qsort(ret_keys->items + first, ret_keys->n - first, sizeof(*ret_keys->items), by_text);
    }
}

void builder_put_policy(struct mesh_builder *b, struct record *record, struct policy *policy) {
    const char *key = policy != NULL ? (const char *)policy->leaf.key.ptr : NULL;
    if (record->more->policy != NULL && (key == NULL || strcmp(record->more->policy, key) != 0)) {
        snapshot_del_policy(b->draft, record->more->policy);
        b->has_changes = b->policies_changed = true;
    }
    char *copy = key != NULL ? xstrdup(key) : NULL;
    if (copy != NULL || record->more->policy != NULL) {
        struct record_more *more = builder_more(record);
        free(more->policy);
        more->policy = copy;
    }
    if (policy != NULL) {
        snapshot_set_policy(b->draft, policy);
        b->has_changes = b->policies_changed = true;
    }
}

// Conversion of one policy

struct conversion {
    struct arena arena;
    struct record *record;
    bool is_deny, has_l7, is_targeted;
    char l7[256]; // names of the fields that L4 does not have
};

static void *array(struct conversion *c, size_t n, size_t size) {
    void *items = arena_array(&c->arena, n > 0 ? n : 1, size);
    CHECK(items != NULL); // the arena has no maximum
    return items;
}

static void note_l7(struct conversion *c, const char *name) {
    c->has_l7 = true;
    size_t len = strlen(c->l7);
    if (strstr(c->l7, name) == NULL) {
        snprintf(c->l7 + len, sizeof(c->l7) - len, "%s%s", len > 0 ? ", " : "", name);
    }
}

static struct string_match string_match(struct conversion *c, const char *text) {
    size_t len = strlen(text);
    if (strcmp(text, "*") == 0) {
        return (struct string_match){.kind = MATCH_PRESENCE, .text = ""};
    }
    if (text[0] == '*') {
        return (struct string_match){.kind = MATCH_SUFFIX, .text = text + 1};
    }
    if (len > 0 && text[len - 1] == '*') {
        char *prefix = arena_strdup(&c->arena, slice_make(text, len - 1));
        CHECK(prefix != NULL);
        return (struct string_match){.kind = MATCH_PREFIX, .text = prefix};
    }
    return (struct string_match){.kind = MATCH_EXACT, .text = text};
}

static const struct string_match *strings(struct conversion *c, const struct kobj_strings *src,
                                          uint16_t *ret_n) {
    struct string_match *items = array(c, src->n, sizeof(*items));
    *ret_n = (uint16_t)MIN(src->n, (uint32_t)UINT16_MAX);
    for (uint16_t i = 0; i < *ret_n; i++) {
        items[i] = string_match(c, src->items[i]);
    }
    return items;
}

// "SA" (in the policy's namespace) or "NS/SA".
static const struct sa_match *accounts(struct conversion *c, const struct kobj_strings *src,
                                       uint16_t *ret_n) {
    struct sa_match *items = array(c, src->n, sizeof(*items));
    *ret_n = (uint16_t)MIN(src->n, (uint32_t)UINT16_MAX);
    for (uint16_t i = 0; i < *ret_n; i++) {
        struct slice ns, sa;
        if (slice_split(slice_str(src->items[i]), '/', &ns, &sa)) {
            items[i].ns = arena_strdup(&c->arena, ns);
            items[i].sa = arena_strdup(&c->arena, sa);
        } else {
            items[i].ns = c->record->ns->name;
            items[i].sa = src->items[i];
        }
    }
    return items;
}

// A value that cannot be read stays in the list as one that matches nothing: leaving it out could
// leave the list empty, and an empty list matches everything.
static const struct cidr *cidrs(struct conversion *c, const struct kobj_strings *src,
                                uint16_t *ret_n) {
    struct cidr *items = array(c, src->n, sizeof(*items));
    *ret_n = (uint16_t)MIN(src->n, (uint32_t)UINT16_MAX);
    for (uint16_t i = 0; i < *ret_n; i++) {
        if (!cidr_parse(slice_str(src->items[i]), false, &items[i])) {
            builder_problem(c->record, "'%s' is not an IP address or range", src->items[i]);
            items[i] = (struct cidr){0}; // no family: contains no address
        }
    }
    return items;
}

static const uint16_t *ports(struct conversion *c, const struct kobj_strings *src,
                             uint16_t *ret_n) {
    uint16_t *items = array(c, src->n, sizeof(*items));
    *ret_n = (uint16_t)MIN(src->n, (uint32_t)UINT16_MAX);
    for (uint16_t i = 0; i < *ret_n; i++) {
        uint64_t port = 0; // matches nothing
        if (!slice_to_u64(slice_str(src->items[i]), UINT16_MAX, &port)) {
            builder_problem(c->record, "'%s' is not a port", src->items[i]);
        }
        items[i] = (uint16_t)port;
    }
    return items;
}

static void note_source_l7(struct conversion *c, const struct kobj_authz_source *src) {
    const struct {
        const struct kobj_strings *list;
        const char *name;
    } fields[] = {
        {&src->request_principals, "requestPrincipals"},
        {&src->not_request_principals, "notRequestPrincipals"},
        {&src->remote_ip_blocks, "remoteIpBlocks"},
        {&src->not_remote_ip_blocks, "notRemoteIpBlocks"},
        {&src->trust_domains, "trustDomains"},
        {&src->not_trust_domains, "notTrustDomains"},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].list->n > 0) {
            note_l7(c, fields[i].name);
        }
    }
}

static void note_operation_l7(struct conversion *c, const struct kobj_authz_operation *src) {
    const struct {
        const struct kobj_strings *list;
        const char *name;
    } fields[] = {
        {&src->hosts, "hosts"},     {&src->not_hosts, "notHosts"},
        {&src->methods, "methods"}, {&src->not_methods, "notMethods"},
        {&src->paths, "paths"},     {&src->not_paths, "notPaths"},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].list->n > 0) {
            note_l7(c, fields[i].name);
        }
    }
}

static struct policy_match source_match(struct conversion *c, const struct kobj_authz_source *src) {
    struct policy_match m = {0};
    note_source_l7(c, src);
    m.principals = strings(c, &src->principals, &m.n_principals);
    m.not_principals = strings(c, &src->not_principals, &m.n_not_principals);
    m.namespaces = strings(c, &src->namespaces, &m.n_namespaces);
    m.not_namespaces = strings(c, &src->not_namespaces, &m.n_not_namespaces);
    m.service_accounts = accounts(c, &src->service_accounts, &m.n_service_accounts);
    m.not_service_accounts = accounts(c, &src->not_service_accounts, &m.n_not_service_accounts);
    m.source_ips = cidrs(c, &src->ip_blocks, &m.n_source_ips);
    m.not_source_ips = cidrs(c, &src->not_ip_blocks, &m.n_not_source_ips);
    return m;
}

static struct policy_match operation_match(struct conversion *c,
                                           const struct kobj_authz_operation *src) {
    struct policy_match m = {0};
    note_operation_l7(c, src);
    m.destination_ports = ports(c, &src->ports, &m.n_destination_ports);
    m.not_destination_ports = ports(c, &src->not_ports, &m.n_not_destination_ports);
    return m;
}

static struct policy_match condition_match(struct conversion *c,
                                           const struct kobj_authz_condition *src) {
    struct policy_match m = {0};
    const struct kobj_strings *values = &src->values, *not_values = &src->not_values;
    if (strcmp(src->key, "source.namespace") == 0) {
        m.namespaces = strings(c, values, &m.n_namespaces);
        m.not_namespaces = strings(c, not_values, &m.n_not_namespaces);
    } else if (strcmp(src->key, "source.principal") == 0) {
        m.principals = strings(c, values, &m.n_principals);
        m.not_principals = strings(c, not_values, &m.n_not_principals);
    } else if (strcmp(src->key, "source.serviceAccount") == 0) {
        m.service_accounts = accounts(c, values, &m.n_service_accounts);
        m.not_service_accounts = accounts(c, not_values, &m.n_not_service_accounts);
    } else if (strcmp(src->key, "source.ip") == 0) {
        m.source_ips = cidrs(c, values, &m.n_source_ips);
        m.not_source_ips = cidrs(c, not_values, &m.n_not_source_ips);
    } else if (strcmp(src->key, "destination.ip") == 0) {
        m.destination_ips = cidrs(c, values, &m.n_destination_ips);
        m.not_destination_ips = cidrs(c, not_values, &m.n_not_destination_ips);
    } else if (strcmp(src->key, "destination.port") == 0) {
        m.destination_ports = ports(c, values, &m.n_destination_ports);
        m.not_destination_ports = ports(c, not_values, &m.n_not_destination_ports);
    } else {
        note_l7(c, src->key);
    }
    return m;
}

// True when the rule stays.
static bool convert_rule(struct conversion *c, const struct kobj_authz_rule *src,
                         struct policy_rule *ret_rule) {
    struct policy_clause *clauses = array(c, 2 + src->n_when, sizeof(*clauses));
    uint16_t n = 0;
    bool had_l7 = c->has_l7;
    c->has_l7 = false;
    if (src->n_to > 0) {
        struct policy_match *matches = array(c, src->n_to, sizeof(*matches));
        for (uint32_t i = 0; i < src->n_to; i++) {
            matches[i] = operation_match(c, &src->to[i]);
        }
        clauses[n++] = (struct policy_clause){matches, (uint16_t)src->n_to};
    }
    if (src->n_from > 0) {
        struct policy_match *matches = array(c, src->n_from, sizeof(*matches));
        for (uint32_t i = 0; i < src->n_from; i++) {
            matches[i] = source_match(c, &src->from[i]);
        }
        clauses[n++] = (struct policy_clause){matches, (uint16_t)src->n_from};
    }
    for (uint32_t i = 0; i < src->n_when; i++) {
        struct policy_match *match = array(c, 1, sizeof(*match));
        *match = condition_match(c, &src->when[i]);
        clauses[n++] = (struct policy_clause){match, 1};
    }
    bool is_dropped = c->has_l7 && !c->is_deny;
    c->has_l7 = c->has_l7 || had_l7;
    *ret_rule = (struct policy_rule){.clauses = clauses, .n_clauses = n};
    return !is_dropped;
}

static void report_l7(struct conversion *c, struct record *record) {
    if (!c->has_l7) {
        return;
    }
    if (c->is_targeted) {
        builder_problem(record, "HTTP attributes are not evaluated yet (found: %s): %s", c->l7,
                        c->is_deny ? "the DENY policy denies everything"
                                   : "the ALLOW rules that have them never match");
        return;
    }
    const char *effect = c->is_deny
                             ? "the DENY policy is enforced without them, which denies more, or "
                               "nothing where no L4 field is left"
                             : "the ALLOW rules that have them never match, which denies more";
    builder_problem(record,
                    "HTTP attributes need a waypoint (found: %s); at L4 %s; use targetRefs to "
                    "have a waypoint enforce the policy",
                    c->l7, effect);
}

static bool is_dry_run(struct record *record) {
    const char *text = kobj_map_get(&record->obj->meta.annotations, "istio.io/dry-run");
    bool is_on = text != NULL && strcmp(text, "true") == 0;
    if (text != NULL && !is_on && strcmp(text, "false") != 0) {
        builder_problem(record, "annotation istio.io/dry-run is neither true nor false: enforced");
    }
    return is_on;
}

static enum policy_scope scope_of(struct mesh_builder *b, const struct record *record) {
    const struct kobj_authz_policy *src = record->obj->authz;
    if (src->n_targets > 0) {
        return POLICY_TARGETED;
    }
    bool is_root = strcmp(record->ns->name, b->mesh.root_namespace) == 0;
    return src->has_selector ? POLICY_WORKLOAD : is_root ? POLICY_GLOBAL : POLICY_NAMESPACE;
}

static void set_targets(struct conversion *c, struct policy *spec) {
    const struct kobj_authz_policy *src = c->record->obj->authz;
    struct policy_target *targets = array(c, src->n_targets, sizeof(*targets));
    for (uint32_t i = 0; i < src->n_targets; i++) {
        targets[i] = (struct policy_target){src->targets[i].kind, src->targets[i].name};
    }
    spec->targets = targets;
    spec->n_targets = (uint16_t)src->n_targets;
}

static struct policy *convert(struct mesh_builder *b, struct record *record) {
    const struct kobj_authz_policy *src = record->obj->authz;
    char key[640];
    snprintf(key, sizeof(key), "%s/%s", record->ns->name, record->name);
    bool is_targeted = src->n_targets > 0, is_custom = src->action == AUTHZ_CUSTOM;
    struct conversion c = {.record = record,
                           .is_deny = src->action == AUTHZ_DENY || is_custom,
                           .is_targeted = is_targeted};
    arena_init(&c.arena, SIZE_MAX);
    struct policy_rule *rules = array(&c, src->n_rules + 1, sizeof(*rules));
    struct policy spec = {
        .leaf.key = slice_str(key),
        .name = record->name,
        .ns = record->ns->name,
        .scope = (uint8_t)scope_of(b, record),
        .action = c.is_deny ? POLICY_DENY : POLICY_ALLOW,
        .is_dry_run = is_dry_run(record),
        .rules = rules,
    };
    for (uint32_t i = 0; i < src->n_rules; i++) {
        spec.n_rules += convert_rule(&c, &src->rules[i], &rules[spec.n_rules]) ? 1 : 0;
    }
    report_l7(&c, record);
    if (is_targeted) {
        set_targets(&c, &spec);
        if (is_custom) {
            builder_problem(record, "action CUSTOM is not there yet: it denies everything");
        }
        // Fail closed: what cannot be told is denied. A rule without clauses matches always.
        if (is_custom || (c.is_deny && c.has_l7)) {
            rules[0] = (struct policy_rule){0};
            spec.n_rules = 1;
        }
    }
    struct policy *policy = policy_new(&spec);
    arena_fini(&c.arena);
    return policy;
}

static void build_targeted(struct mesh_builder *b, struct record *record) {
    const struct kobj_authz_policy *src = record->obj->authz;
    for (uint32_t i = 0; i < src->n_targets; i++) {
        const struct kobj_policy_target *target = &src->targets[i];
        bool is_gateway = strcmp(target->kind, "Gateway") == 0;
        if (is_gateway && builder_find(b, KOBJ_GATEWAY, record->ns->name, target->name) == NULL) {
            builder_problem(record, "target Gateway %s is not there: nothing enforces this",
                            target->name);
        }
    }
    if (b->has_targeted && src->action == AUTHZ_AUDIT) {
        builder_problem(record, "action AUDIT is not there yet: nothing is recorded");
    }
    bool is_built = b->has_targeted && src->action != AUTHZ_AUDIT;
    builder_put_policy(b, record, is_built ? convert(b, record) : NULL);
}

void builder_build_policy(struct mesh_builder *b, struct record *record) {
    if (record->obj == NULL) {
        builder_put_policy(b, record, NULL);
        return;
    }
    const struct kobj_authz_policy *src = record->obj->authz;
    if (src->n_targets > 0) {
        build_targeted(b, record);
        return;
    }
    if (!is_enforced(record)) {
        builder_problem(record, "action %s is not enforced at L4: it needs a waypoint",
                        src->action == AUTHZ_CUSTOM ? "CUSTOM" : "AUDIT");
        builder_put_policy(b, record, NULL);
        return;
    }
    builder_put_policy(b, record, convert(b, record));
}
