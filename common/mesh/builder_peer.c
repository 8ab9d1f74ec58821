// SPDX-License-Identifier: Apache-2.0
//
// PeerAuthentication as DENY policies, under the names that istiod gives them:
// ROOTNS/istio_converted_static_strict, which is there when any PeerAuthentication is, denies what
// has no identity and is listed by each workload that is STRICT;
// NS/converted_peer_authentication_NAME does so by port.
//
// Inheritance: workload (selector), namespace, root namespace; the oldest of several counts.
// DISABLE means PERMISSIVE, since plaintext is always accepted unless STRICT.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_priv.h"

#define STATIC_STRICT "istio_converted_static_strict"
#define CONVERTED "converted_peer_authentication_"

static bool is_wide(const struct kobj *obj) {
    return !obj->peer_auth->has_selector || obj->peer_auth->selector.n == 0;
}

static bool is_older(const struct record *a, const struct record *b) {
    int order = strcmp(a->obj->meta.creation_timestamp, b->obj->meta.creation_timestamp);
    return order != 0 ? order < 0 : strcmp(a->name, b->name) < 0;
}

// The one that counts in a namespace: for the namespace itself (labels NULL), or by selector.
static const struct record *find(struct mesh_builder *b, const char *ns,
                                 const struct kobj_map *labels) {
    struct bns *space = builder_ns(b, ns, false);
    const struct record *best = NULL;
    if (space == NULL) {
        return NULL;
    }
    LIST_EACH(pos, &space->records[KOBJ_PEER_AUTHENTICATION]) {
        const struct record *record = LIST_ITEM(pos, struct record, in_ns);
        if (record->obj == NULL || is_wide(record->obj) != (labels == NULL) ||
            (labels != NULL && !kobj_map_matches(&record->obj->peer_auth->selector, labels))) {
            continue;
        }
        if (best == NULL || is_older(record, best)) {
            best = record;
        }
    }
    return best;
}

// What workloads of a namespace inherit.
static bool inherits_strict(struct mesh_builder *b, const char *ns) {
    const char *const spaces[] = {b->mesh.root_namespace, ns};
    bool is_strict = false;
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        const struct record *record = find(b, spaces[i], NULL);
        if (record != NULL && record->obj->peer_auth->mode != MTLS_UNSET) {
            is_strict = record->obj->peer_auth->mode == MTLS_STRICT;
        }
    }
    return is_strict;
}

static bool is_strict_by_default(struct mesh_builder *b, const struct record *record) {
    uint8_t mode = record->obj->peer_auth->mode;
    return mode == MTLS_UNSET ? inherits_strict(b, record->ns->name) : mode == MTLS_STRICT;
}

// Whether ports differ from the default, so that the policy has a converted form.
static bool has_exceptions(const struct kobj_peer_auth *src, bool is_strict) {
    for (uint32_t i = 0; i < src->n_ports; i++) {
        uint8_t mode = src->ports[i].mode;
        if (mode != MTLS_UNSET && (mode == MTLS_STRICT) != is_strict) {
            return true;
        }
    }
    return false;
}

void builder_peers_of(struct mesh_builder *b, const char *ns, const struct kobj_map *labels,
                      struct key_list *ret_keys) {
    // Selectors in the root namespace are ignored, as istiod does.
    bool is_root = strcmp(ns, b->mesh.root_namespace) == 0;
    const struct record *own = is_root ? NULL : find(b, ns, labels);
    bool is_strict = own != NULL ? is_strict_by_default(b, own) : inherits_strict(b, ns);
    if (own != NULL && has_exceptions(own->obj->peer_auth, is_strict)) {
        key_list_add(ret_keys, "%s/" CONVERTED "%s", ns, own->name);
    } else if (is_strict) {
        key_list_add(ret_keys, "%s/" STATIC_STRICT, b->mesh.root_namespace);
    }
}

static struct policy *deny_plaintext(const char *ns, const char *name, const uint16_t *ports,
                                     uint16_t n_ports, bool except_ports) {
    static const struct string_match any = {.kind = MATCH_PRESENCE, .text = ""};
    char key[640];
    snprintf(key, sizeof(key), "%s/%s", ns, name);
    struct policy_match match = {.not_principals = &any, .n_not_principals = 1};
    if (except_ports) {
        match.not_destination_ports = ports;
        match.n_not_destination_ports = n_ports;
    } else {
        match.destination_ports = ports;
        match.n_destination_ports = n_ports;
    }
    struct policy_clause clause = {.matches = &match, .n_matches = 1};
    struct policy_rule rule = {.clauses = &clause, .n_clauses = 1};
    struct policy spec = {
        .leaf.key = slice_str(key),
        .name = name,
        .ns = ns,
        .scope = POLICY_WORKLOAD,
        .action = POLICY_DENY,
        .rules = &rule,
        .n_rules = 1,
    };
    return policy_new(&spec);
}

void builder_drop_static_strict(struct mesh_builder *b, const char *root) {
    char key[128];
    if (b->has_static_strict) {
        snprintf(key, sizeof(key), "%s/" STATIC_STRICT, root);
        snapshot_del_policy(b->draft, key);
        b->has_static_strict = false;
        b->has_changes = b->policies_changed = true;
    }
}

void builder_settle_static_strict(struct mesh_builder *b) {
    if (b->n_peer_auths == 0) {
        builder_drop_static_strict(b, b->mesh.root_namespace);
    } else if (!b->has_static_strict) {
        snapshot_set_policy(b->draft,
                            deny_plaintext(b->mesh.root_namespace, STATIC_STRICT, NULL, 0, false));
        b->has_static_strict = true;
        b->has_changes = b->policies_changed = true;
    }
}

static void report(struct mesh_builder *b, struct record *record) {
    const struct kobj_peer_auth *src = record->obj->peer_auth;
    bool is_root = strcmp(record->ns->name, b->mesh.root_namespace) == 0;
    bool has_disable = src->mode == MTLS_DISABLE;
    for (uint32_t i = 0; i < src->n_ports; i++) {
        has_disable = has_disable || src->ports[i].mode == MTLS_DISABLE;
    }
    if (has_disable) {
        builder_problem(record, "mode DISABLE is taken as PERMISSIVE: mutual TLS stays possible");
    }
    if (is_wide(record->obj) && src->n_ports > 0) {
        builder_problem(record, "portLevelMtls needs a selector: ignored");
    }
    if (is_root && !is_wide(record->obj)) {
        builder_problem(record, "a selector in the root namespace is ignored");
    }
    const struct record *best = find(b, record->ns->name, NULL);
    if (is_wide(record->obj) && best != NULL && best != record) {
        builder_problem(record, "%s/%s is older and counts instead", best->ns->name, best->name);
    }
}

void builder_build_peer(struct mesh_builder *b, struct record *record) {
    struct policy *policy = NULL;
    bool is_root = strcmp(record->ns->name, b->mesh.root_namespace) == 0;
    if (record->obj != NULL) {
        report(b, record);
    }
    if (record->obj != NULL && !is_root && !is_wide(record->obj)) {
        const struct kobj_peer_auth *src = record->obj->peer_auth;
        bool is_strict = is_strict_by_default(b, record);
        uint16_t *ports = xcalloc(src->n_ports + 1, sizeof(*ports));
        uint16_t n = 0;
        for (uint32_t i = 0; i < src->n_ports && n < UINT16_MAX; i++) {
            uint8_t mode = src->ports[i].mode;
            if (mode != MTLS_UNSET && (mode == MTLS_STRICT) != is_strict) {
                ports[n++] = src->ports[i].port;
            }
        }
        if (n > 0) {
            char name[512];
            snprintf(name, sizeof(name), CONVERTED "%s", record->name);
            policy = deny_plaintext(record->ns->name, name, ports, n, is_strict);
        }
        free(ports);
    }
    builder_put_policy(b, record, policy);
}
