// SPDX-License-Identifier: Apache-2.0
//
// A leaf is built by running its pack_ function twice: once without memory to learn the size, once
// to write. References (interned texts, workloads of endpoints, TLS contexts) are taken in the
// second run only.
#include "common/mesh/model.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/mesh/intern.h"
#include "common/mesh/workload_common.h"

struct pack {
    char *base; // NULL in the first run
    size_t used;
    const struct workload *like; // of a workload: another one, NULL = none
};

static atomic_size_t n_leaves;

static void *pack_alloc(struct pack *pack, size_t size, size_t align) {
    pack->used = (pack->used + align - 1) & ~(align - 1);
    void *at = pack->base != NULL ? pack->base + pack->used : NULL;
    pack->used += size;
    return at;
}

static const void *pack_copy(struct pack *pack, const void *src, size_t n, size_t size,
                             size_t align) {
    if (n == 0) {
        return NULL;
    }
    void *dst = pack_alloc(pack, n * size, align);
    if (dst != NULL) {
        memcpy(dst, src, n * size);
    }
    return dst;
}

#define PACK_ARRAY(pack, src, n)                                                                   \
    pack_copy((pack), (src), (n), sizeof(*(src)), alignof(__typeof__(*(src))))

static const char *pack_text(struct pack *pack, const char *text) {
    if (text == NULL) {
        text = "";
    }
    return pack_copy(pack, text, strlen(text) + 1, 1, 1);
}

static const char *pack_shared(const struct pack *pack, const char *text) {
    return pack->base != NULL ? intern(text) : NULL;
}

static const char *const *pack_shared_list(struct pack *pack, const char *const *src, size_t n) {
    const char **dst = n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(char *)) : NULL;
    for (size_t i = 0; dst != NULL && i < n; i++) {
        dst[i] = intern(src[i]);
    }
    return dst;
}

static void unref_list(const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        intern_unref(list[i]);
    }
}

// The key is NUL-terminated as well; a name that the key ends with is shared with it.
static struct leaf pack_leaf(struct pack *pack, struct slice key, uint8_t kind) {
    struct leaf leaf = {.kind = kind};
    char *text = pack_alloc(pack, key.len + 1, 1);
    if (text != NULL) {
        memcpy(text, key.ptr, key.len);
        text[key.len] = '\0';
    }
    leaf.key = slice_make(text, key.len);
    return leaf;
}

static const char *pack_name(struct pack *pack, const struct leaf *leaf, struct slice key,
                             const char *name) {
    struct slice tail = slice_str(name);
    if (!slice_has_suffix(key, tail)) {
        return pack_text(pack, name);
    }
    return leaf->key.ptr != NULL ? (const char *)leaf->key.ptr + key.len - tail.len : NULL;
}

static struct locality pack_locality(const struct pack *pack, const struct locality *src) {
    return (struct locality){
        .region = pack_shared(pack, src->region),
        .zone = pack_shared(pack, src->zone),
        .subzone = pack_shared(pack, src->subzone),
    };
}

static void locality_unref(const struct locality *locality) {
    intern_unref(locality->region);
    intern_unref(locality->zone);
    intern_unref(locality->subzone);
}

// Runs `fill` twice and gives the leaf its first reference.
static void *pack_run(void (*fill)(struct pack *pack, const void *spec), const void *spec,
                      const struct workload *like) {
    struct pack pack = {.like = like};
    fill(&pack, spec);
    size_t size = pack.used;
    pack = (struct pack){.base = xmalloc(size), .like = like};
    fill(&pack, spec);
    CHECK(pack.used == size);
    struct leaf *leaf = (struct leaf *)pack.base;
    atomic_init(&leaf->refs, 1);
    atomic_fetch_add_explicit(&n_leaves, 1, memory_order_relaxed);
    return leaf;
}

static const char *without_own(struct workload_common *common, const char *text, const char *name,
                               uint8_t bit) {
    if (text == NULL || name == NULL || strcmp(text, name) != 0) {
        return text;
    }
    common->own_names |= text[0] != '\0' ? bit : 0;
    return "";
}

static const struct workload_common *common_of(const struct workload *spec,
                                               const struct workload_common *like) {
    struct workload_common c = *spec->common;
    c.canonical_name = without_own(&c, c.canonical_name, spec->name, WORKLOAD_OWN_CANONICAL);
    c.app = without_own(&c, c.app, spec->name, WORKLOAD_OWN_APP);
    c.owner_name = without_own(&c, c.owner_name, spec->name, WORKLOAD_OWN_OWNER);
    return workload_common_get(&c, like);
}

static void pack_workload(struct pack *pack, const void *arg) {
    const struct workload *spec = arg, *like = pack->like;
    struct workload w = *spec;
    struct workload *dst = pack_alloc(pack, sizeof(w), alignof(struct workload));

    w.ips = PACK_ARRAY(pack, spec->ips, spec->n_ips);
    w.leaf = pack_leaf(pack, spec->leaf.key, LEAF_WORKLOAD);
    w.name = pack_name(pack, &w.leaf, spec->leaf.key, spec->name);
    w.capacity = spec->capacity > 0 ? spec->capacity : 1;
    if (dst != NULL) {
        w.node = intern_like(spec->node, like != NULL ? like->node : NULL);
        w.common = common_of(spec, like != NULL ? like->common : NULL);
        w.ns = w.common->ns;
        *dst = w;
    }
}

struct workload *workload_new_like(const struct workload *spec, const struct workload *like) {
    return pack_run(pack_workload, spec, like);
}

struct workload *workload_new(const struct workload *spec) {
    return workload_new_like(spec, NULL);
}

static void workload_fini(struct workload *w) {
    intern_unref(w->node);
    workload_common_unref(w->common);
}

static bool arrays_equal(const void *a, size_t n_a, const void *b, size_t n_b, size_t size) {
    return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * size) == 0);
}

// What is shared has equal pointers when it is equal.
bool workload_equal(const struct workload *a, const struct workload *b) {
    return slice_eq(a->leaf.key, b->leaf.key) && strcmp(a->name, b->name) == 0 &&
           a->common == b->common && a->node == b->node &&
           arrays_equal(a->ips, a->n_ips, b->ips, b->n_ips, sizeof(*a->ips)) &&
           a->capacity == b->capacity && a->protocol == b->protocol &&
           a->is_healthy == b->is_healthy && a->is_ready == b->is_ready &&
           a->is_host_network == b->is_host_network && a->is_enrolled == b->is_enrolled &&
           a->is_terminating == b->is_terminating && a->is_pod == b->is_pod &&
           a->no_dns_capture == b->no_dns_capture &&
           a->bypass_inbound_capture == b->bypass_inbound_capture &&
           a->app_tunnel == b->app_tunnel && a->app_tunnel_port == b->app_tunnel_port;
}

// Endpoints of one service mostly have the same target ports: one array for a run of equals.
static const struct endpoint *pack_endpoints(struct pack *pack, const struct service *spec) {
    size_t n = spec->n_endpoints;
    size_t ports_size = spec->n_ports * sizeof(uint16_t);
    struct endpoint *dst =
        n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(struct endpoint)) : NULL;
    const uint16_t *ports = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct endpoint *src = &spec->endpoints[i];
        bool is_same = i > 0 && memcmp(src->target_ports, src[-1].target_ports, ports_size) == 0;
        if (ports_size > 0 && !is_same) {
            ports = PACK_ARRAY(pack, src->target_ports, spec->n_ports);
        }
        if (dst != NULL) {
            dst[i] = *src;
            dst[i].target_ports = ports;
            leaf_ref(src->workload);
        }
    }
    return dst;
}

static bool weights_are_equal(const struct service *spec) {
    for (size_t i = 1; i < spec->n_endpoints; i++) {
        if (spec->endpoints[i].weight != spec->endpoints[0].weight) {
            return false;
        }
    }
    return true;
}

static void pack_service(struct pack *pack, const void *arg) {
    const struct service *spec = arg;
    struct service s = *spec;
    struct service *dst = pack_alloc(pack, sizeof(s), alignof(struct service));

    s.endpoints = pack_endpoints(pack, spec);
    s.is_uniform = weights_are_equal(spec);
    s.sans = pack_shared_list(pack, spec->sans, spec->n_sans);
    struct service_port *ports =
        spec->n_ports > 0
            ? pack_alloc(pack, spec->n_ports * sizeof(*ports), alignof(struct service_port))
            : NULL;
    for (size_t i = 0; ports != NULL && i < spec->n_ports; i++) {
        ports[i] = spec->ports[i];
        ports[i].name = intern(spec->ports[i].name);
        ports[i].target_name = intern(spec->ports[i].target_name);
    }
    s.ports = ports;
    s.vips = PACK_ARRAY(pack, spec->vips, spec->n_vips);
    s.ranges = PACK_ARRAY(pack, spec->ranges, spec->n_ranges);
    s.leaf = pack_leaf(pack, spec->leaf.key, LEAF_SERVICE);
    s.hostname = pack_name(pack, &s.leaf, spec->leaf.key, spec->hostname);
    s.name = pack_text(pack, spec->name);
    s.ns = pack_shared(pack, spec->ns);
    s.waypoint = pack_shared(pack, spec->waypoint);
    s.canary = pack_shared(pack, spec->canary != NULL ? spec->canary : "");
    s.gateway_class = pack_shared(pack, spec->gateway_class != NULL ? spec->gateway_class : "");
    if (dst != NULL) {
        *dst = s;
    }
}

struct service *service_new(const struct service *spec) {
    return pack_run(pack_service, spec, NULL);
}

static void service_fini(struct service *s) {
    for (size_t i = 0; i < s->n_endpoints; i++) {
        leaf_unref(s->endpoints[i].workload);
    }
    for (size_t i = 0; i < s->n_ports; i++) {
        intern_unref(s->ports[i].name);
        intern_unref(s->ports[i].target_name);
    }
    unref_list(s->sans, s->n_sans);
    intern_unref(s->ns);
    intern_unref(s->waypoint);
    intern_unref(s->canary);
    intern_unref(s->gateway_class);
}

static const struct string_match *pack_matches(struct pack *pack, const struct string_match *src,
                                               size_t n) {
    struct string_match *dst =
        n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(struct string_match)) : NULL;
    for (size_t i = 0; i < n; i++) {
        const char *text = pack_text(pack, src[i].text);
        if (dst != NULL) {
            dst[i] = (struct string_match){.kind = src[i].kind, .text = text};
        }
    }
    return dst;
}

static const struct sa_match *pack_accounts(struct pack *pack, const struct sa_match *src,
                                            size_t n) {
    struct sa_match *dst =
        n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(struct sa_match)) : NULL;
    for (size_t i = 0; i < n; i++) {
        const char *ns = pack_text(pack, src[i].ns);
        const char *sa = pack_text(pack, src[i].sa);
        if (dst != NULL) {
            dst[i] = (struct sa_match){.ns = ns, .sa = sa};
        }
    }
    return dst;
}

static struct policy_match pack_match(struct pack *pack, const struct policy_match *src) {
    struct policy_match m = *src;
    m.principals = pack_matches(pack, src->principals, src->n_principals);
    m.not_principals = pack_matches(pack, src->not_principals, src->n_not_principals);
    m.namespaces = pack_matches(pack, src->namespaces, src->n_namespaces);
    m.not_namespaces = pack_matches(pack, src->not_namespaces, src->n_not_namespaces);
    m.service_accounts = pack_accounts(pack, src->service_accounts, src->n_service_accounts);
    m.not_service_accounts =
        pack_accounts(pack, src->not_service_accounts, src->n_not_service_accounts);
    m.source_ips = PACK_ARRAY(pack, src->source_ips, src->n_source_ips);
    m.not_source_ips = PACK_ARRAY(pack, src->not_source_ips, src->n_not_source_ips);
    m.destination_ips = PACK_ARRAY(pack, src->destination_ips, src->n_destination_ips);
    m.not_destination_ips = PACK_ARRAY(pack, src->not_destination_ips, src->n_not_destination_ips);
    m.destination_ports = PACK_ARRAY(pack, src->destination_ports, src->n_destination_ports);
    m.not_destination_ports =
        PACK_ARRAY(pack, src->not_destination_ports, src->n_not_destination_ports);
    return m;
}

static struct policy_clause pack_clause(struct pack *pack, const struct policy_clause *src) {
    size_t n = src->n_matches;
    struct policy_match *dst =
        n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(struct policy_match)) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct policy_match match = pack_match(pack, &src->matches[i]);
        if (dst != NULL) {
            dst[i] = match;
        }
    }
    return (struct policy_clause){.matches = dst, .n_matches = src->n_matches};
}

static struct policy_rule pack_rule(struct pack *pack, const struct policy_rule *src) {
    size_t n = src->n_clauses;
    struct policy_clause *dst =
        n > 0 ? pack_alloc(pack, n * sizeof(*dst), alignof(struct policy_clause)) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct policy_clause clause = pack_clause(pack, &src->clauses[i]);
        if (dst != NULL) {
            dst[i] = clause;
        }
    }
    return (struct policy_rule){.clauses = dst, .n_clauses = src->n_clauses};
}

static void pack_policy(struct pack *pack, const void *arg) {
    const struct policy *spec = arg;
    struct policy p = *spec;
    struct policy *dst = pack_alloc(pack, sizeof(p), alignof(struct policy));

    size_t n = spec->n_rules;
    struct policy_rule *rules =
        n > 0 ? pack_alloc(pack, n * sizeof(*rules), alignof(struct policy_rule)) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct policy_rule rule = pack_rule(pack, &spec->rules[i]);
        if (rules != NULL) {
            rules[i] = rule;
        }
    }
    p.rules = rules;
    size_t n_targets = spec->n_targets;
    struct policy_target *targets = n_targets > 0 ? pack_alloc(pack, n_targets * sizeof(*targets),
                                                               alignof(struct policy_target))
                                                  : NULL;
    for (size_t i = 0; i < n_targets; i++) {
        struct policy_target target = {.kind = pack_text(pack, spec->targets[i].kind),
                                       .name = pack_text(pack, spec->targets[i].name)};
        if (targets != NULL) {
            targets[i] = target;
        }
    }
    p.targets = targets;
    p.leaf = pack_leaf(pack, spec->leaf.key, LEAF_POLICY);
    p.name = pack_name(pack, &p.leaf, spec->leaf.key, spec->name);
    p.ns = pack_shared(pack, spec->ns);
    if (dst != NULL) {
        *dst = p;
    }
}

struct policy *policy_new(const struct policy *spec) {
    return pack_run(pack_policy, spec, NULL);
}

static void pack_identity(struct pack *pack, const void *arg) {
    const struct identity *spec = arg;
    struct identity id = *spec;
    struct identity *dst = pack_alloc(pack, sizeof(id), alignof(struct identity));

    id.leaf = pack_leaf(pack, spec->leaf.key, LEAF_IDENTITY);
    id.error = pack_text(pack, spec->error);
    id.chain_pem = pack_text(pack, spec->chain_pem);
    id.roots_pem = pack_shared(pack, spec->roots_pem);
    if (dst != NULL) {
        id.tls = spec->tls != NULL ? tls_ctx_ref(spec->tls) : NULL;
        *dst = id;
    }
}

struct identity *identity_new(const struct identity *spec) {
    return pack_run(pack_identity, spec, NULL);
}

static void pack_node(struct pack *pack, const void *arg) {
    const struct node *spec = arg;
    struct node n = *spec;
    struct node *dst = pack_alloc(pack, sizeof(n), alignof(struct node));

    n.ips = PACK_ARRAY(pack, spec->ips, spec->n_ips);
    n.leaf = pack_leaf(pack, spec->leaf.key, LEAF_NODE);
    n.name = (const char *)n.leaf.key.ptr;
    n.locality = pack_locality(pack, &spec->locality);
    if (dst != NULL) {
        *dst = n;
    }
}

struct node *node_new(const struct node *spec) {
    return pack_run(pack_node, spec, NULL);
}

void leaf_ext_init(struct leaf_ext *ext, struct slice key, void (*free)(struct leaf_ext *ext)) {
    ext->leaf = (struct leaf){.kind = LEAF_EXT, .key = key};
    ext->free = free;
    atomic_init(&ext->leaf.refs, 1);
    atomic_fetch_add_explicit(&n_leaves, 1, memory_order_relaxed);
}

static void leaf_free(struct leaf *leaf) {
    switch (leaf->kind) {
    case LEAF_WORKLOAD:
        workload_fini((struct workload *)leaf);
        break;
    case LEAF_SERVICE:
        service_fini((struct service *)leaf);
        break;
    case LEAF_POLICY:
        intern_unref(((struct policy *)leaf)->ns);
        break;
    case LEAF_IDENTITY:
        tls_ctx_unref(((struct identity *)leaf)->tls);
        intern_unref(((struct identity *)leaf)->roots_pem);
        break;
    case LEAF_NODE:
        locality_unref(&((struct node *)leaf)->locality);
        break;
    case LEAF_EXT:
        ((struct leaf_ext *)leaf)->free((struct leaf_ext *)leaf);
        return;
    default:
        break;
    }
    free(leaf);
}

void leaf_ref(void *leaf) {
    unsigned refs =
        atomic_fetch_add_explicit(&((struct leaf *)leaf)->refs, 1, memory_order_relaxed);
    CHECK(refs > 0);
}

void leaf_unref(void *arg) {
    struct leaf *leaf = arg;
    if (leaf == NULL) {
        return;
    }
    // acq_rel: what other holders did with the leaf happens before its end
    unsigned refs = atomic_fetch_sub_explicit(&leaf->refs, 1, memory_order_acq_rel);
    CHECK(refs > 0);
    if (refs == 1) {
        atomic_fetch_sub_explicit(&n_leaves, 1, memory_order_relaxed);
        leaf_free(leaf);
    }
}

size_t leaf_size(const void *arg) {
    static void (*const fill[])(struct pack *, const void *) = {
        [LEAF_WORKLOAD] = pack_workload, [LEAF_SERVICE] = pack_service, [LEAF_POLICY] = pack_policy,
        [LEAF_IDENTITY] = pack_identity, [LEAF_NODE] = pack_node,
    };
    const struct leaf *leaf = arg;
    struct pack pack = {0};
    fill[leaf->kind](&pack, leaf);
    return pack.used;
}

size_t leaf_count(void) {
    return atomic_load_explicit(&n_leaves, memory_order_relaxed);
}
