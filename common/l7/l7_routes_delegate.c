// SPDX-License-Identifier: Apache-2.0
//
// A delegate's rule inside its root's: it matches where both match, and has of the root what it
// does not say itself. As istiod does it: where the two conditions on one thing do not obviously
// fit in each other the rule is dropped.
#include <stdlib.h>

#include "common/l7/l7_routes_priv.h"

static bool has_prefix(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool strings_conflict(const struct kobj_string_match *root,
                             const struct kobj_string_match *leaf) {
    if (root == NULL || leaf == NULL) {
        return false;
    }
    if (root->kind == KOBJ_MATCH_EXACT) {
        return leaf->kind != KOBJ_MATCH_EXACT || strcmp(root->text, leaf->text) != 0;
    }
    bool is_literal = leaf->kind == KOBJ_MATCH_EXACT || leaf->kind == KOBJ_MATCH_PREFIX;
    return root->kind != KOBJ_MATCH_PREFIX || !is_literal || !has_prefix(leaf->text, root->text);
}

static const struct kobj_named_match *find_named(const struct kobj_named_match *items, uint32_t n,
                                                 const char *name) {
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(items[i].name, name) == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static bool named_conflict(const struct kobj_named_match *root, uint32_t n_root,
                           const struct kobj_named_match *leaf, uint32_t n_leaf) {
    for (uint32_t i = 0; i < n_leaf; i++) {
        const struct kobj_named_match *same = find_named(root, n_root, leaf[i].name);
        if (same != NULL && strings_conflict(&same->match, &leaf[i].match)) {
            return true;
        }
    }
    return false;
}

static bool labels_conflict(const struct kobj_map *root, const struct kobj_map *leaf) {
    for (uint32_t i = 0; i < leaf->n; i++) {
        const char *value = kobj_map_get(root, leaf->items[i].key);
        if (value != NULL && strcmp(value, leaf->items[i].value) != 0) {
            return true;
        }
    }
    return false;
}

static bool gateways_conflict(const struct kobj_vs_match *root, const struct kobj_vs_match *leaf) {
    if (root->n_gateways == 0) {
        return false;
    }
    for (uint32_t i = 0; i < leaf->n_gateways; i++) {
        bool is_there = false;
        for (uint32_t k = 0; k < root->n_gateways; k++) {
            is_there = is_there || strcmp(root->gateways[k], leaf->gateways[i]) == 0;
        }
        if (!is_there) {
            return true;
        }
    }
    return false;
}

static bool matches_conflict(const struct kobj_vs_match *root, const struct kobj_vs_match *leaf) {
    return strings_conflict(root->uri, leaf->uri) || strings_conflict(root->scheme, leaf->scheme) ||
           strings_conflict(root->method, leaf->method) ||
           strings_conflict(root->authority, leaf->authority) ||
           named_conflict(root->headers, root->n_headers, leaf->headers, leaf->n_headers) ||
           named_conflict(root->without_headers, root->n_without_headers, leaf->without_headers,
                          leaf->n_without_headers) ||
           named_conflict(root->query_params, root->n_query_params, leaf->query_params,
                          leaf->n_query_params) ||
           root->ignore_uri_case != leaf->ignore_uri_case ||
           (root->port != 0 && leaf->port != 0 && root->port != leaf->port) ||
           (root->source_ns[0] != '\0' && strcmp(root->source_ns, leaf->source_ns) != 0) ||
           labels_conflict(&root->source_labels, &leaf->source_labels) ||
           gateways_conflict(root, leaf);
}

// Those of the leaf, then those of the root under other names.
static void merge_named(struct l7_build *build, const struct kobj_named_match *root,
                        uint32_t n_root, const struct kobj_named_match **leaf, uint32_t *n_leaf) {
    struct kobj_named_match *items =
        l7_build_alloc(build, (size_t)n_root + *n_leaf, sizeof(*items));
    uint32_t n = 0;
    for (uint32_t i = 0; i < *n_leaf; i++) {
        items[n++] = (*leaf)[i];
    }
    for (uint32_t i = 0; i < n_root; i++) {
        if (find_named(*leaf, *n_leaf, root[i].name) == NULL) {
            items[n++] = root[i];
        }
    }
    *leaf = items;
    *n_leaf = n;
}

static struct kobj_map merge_labels(struct l7_build *build, const struct kobj_map *root,
                                    const struct kobj_map *leaf) {
    struct kobj_kv *items = l7_build_alloc(build, (size_t)root->n + leaf->n, sizeof(*items));
    uint32_t n = 0;
    for (uint32_t i = 0; i < leaf->n; i++) {
        items[n++] = leaf->items[i];
    }
    for (uint32_t i = 0; i < root->n; i++) {
        if (kobj_map_get(leaf, root->items[i].key) == NULL) {
            items[n++] = root->items[i];
        }
    }
    return (struct kobj_map){.items = items, .n = n};
}

static const char *joined_name(struct l7_build *build, const char *root, const char *leaf) {
    if (root[0] == '\0' || leaf[0] == '\0') {
        return leaf[0] != '\0' ? leaf : root;
    }
    char *name = xasprintf("%s-%s", root, leaf);
    const char *copy = l7_build_text(build, name);
    free(name);
    return copy;
}

static struct kobj_vs_match merge_match(struct l7_build *build, const struct kobj_vs_match *root,
                                        const struct kobj_vs_match *leaf) {
    struct kobj_vs_match m = *leaf;
    m.name = joined_name(build, root->name, leaf->name);
    m.uri = leaf->uri != NULL ? leaf->uri : root->uri;
    m.scheme = leaf->scheme != NULL ? leaf->scheme : root->scheme;
    m.method = leaf->method != NULL ? leaf->method : root->method;
    m.authority = leaf->authority != NULL ? leaf->authority : root->authority;
    merge_named(build, root->headers, root->n_headers, &m.headers, &m.n_headers);
    merge_named(build, root->without_headers, root->n_without_headers, &m.without_headers,
                &m.n_without_headers);
    merge_named(build, root->query_params, root->n_query_params, &m.query_params,
                &m.n_query_params);
    m.source_labels = merge_labels(build, &root->source_labels, &leaf->source_labels);
    m.port = leaf->port != 0 ? leaf->port : root->port;
    m.source_ns = leaf->source_ns[0] != '\0' ? leaf->source_ns : root->source_ns;
    if (leaf->n_gateways == 0) {
        m.gateways = root->gateways;
        m.n_gateways = root->n_gateways;
    }
    return m;
}

// Each match of the child has to be within one of the root's, and is merged with each of those.
static bool merge_matches(struct l7_build *build, const struct kobj_vs_http *root,
                          const struct kobj_vs_http *child, struct kobj_vs_http *merged) {
    if (root->n_matches == 0) {
        return true;
    }
    if (child->n_matches == 0) {
        merged->matches = root->matches;
        merged->n_matches = root->n_matches;
        return true;
    }
    struct kobj_vs_match *matches =
        l7_build_alloc(build, (size_t)root->n_matches * child->n_matches, sizeof(*matches));
    uint32_t n = 0;
    for (uint32_t c = 0; c < child->n_matches; c++) {
        uint32_t n_before = n;
        for (uint32_t r = 0; r < root->n_matches; r++) {
            if (!matches_conflict(&root->matches[r], &child->matches[c])) {
                matches[n++] = merge_match(build, &root->matches[r], &child->matches[c]);
            }
        }
        if (n == n_before) {
            return false;
        }
    }
    merged->matches = matches;
    merged->n_matches = n;
    return true;
}

static bool has_headers(const struct kobj_headers *headers) {
    const struct kobj_header_ops *ops[] = {&headers->request, &headers->response};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i]->set.n > 0 || ops[i]->add.n > 0 || ops[i]->n_remove > 0) {
            return true;
        }
    }
    return false;
}

// The root's mirrors, whose short host names are in its namespace.
static void inherit_mirrors(struct l7_build *build, const char *root_ns,
                            const struct kobj_vs_http *root, struct kobj_vs_http *merged) {
    struct kobj_vs_mirror *mirrors = l7_build_alloc(build, root->n_mirrors, sizeof(*mirrors));
    const struct l7_source *child_source = build->source;
    struct l7_source root_source = *child_source;
    root_source.ns = root_ns;
    build->source = &root_source;
    for (uint32_t i = 0; i < root->n_mirrors; i++) {
        mirrors[i] = root->mirrors[i];
        mirrors[i].dest.host = l7_build_host(build, root->mirrors[i].dest.host);
    }
    build->source = child_source;
    merged->mirrors = mirrors;
    merged->n_mirrors = root->n_mirrors;
}

bool l7_build_merge(struct l7_build *build, const char *root_ns, const struct kobj_vs_http *root,
                    const struct kobj_vs_http *child, struct kobj_vs_http *ret_merged) {
    struct kobj_vs_http m = *child;
    if (!merge_matches(build, root, child, &m)) {
        return false;
    }
    m.name = joined_name(build, root->name, child->name);
    m.rewrite = child->rewrite != NULL ? child->rewrite : root->rewrite;
    m.timeout_ms = child->timeout_ms >= 0 ? child->timeout_ms : root->timeout_ms;
    m.retries = child->retries != NULL ? child->retries : root->retries;
    m.fault = child->fault != NULL ? child->fault : root->fault;
    m.cors = child->cors != NULL ? child->cors : root->cors;
    if (child->n_mirrors == 0) {
        inherit_mirrors(build, root_ns, root, &m);
    }
    if (!has_headers(&child->headers)) {
        m.headers = root->headers;
    }
    *ret_merged = m;
    return true;
}
