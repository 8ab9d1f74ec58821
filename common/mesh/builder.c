// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_l7_priv.h"
#include "common/mesh/config_store.h"
#include "common/mesh/xds_store.h"

static const char *ns_of(const struct kobj *obj) {
    bool is_cluster_wide =
        obj->kind == KOBJ_NAMESPACE || obj->kind == KOBJ_NODE || obj->kind == KOBJ_GATEWAY_CLASS;
    return is_cluster_wide ? "" : obj->meta.ns;
}

struct record *builder_find(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                            const char *name) {
    HMAP_EACH_WITH_HASH(pos, &b->records, record_hash(kind, ns, name)) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (record->kind == kind && strcmp(record->name, name) == 0 &&
            strcmp(record->ns->name, ns) == 0) {
            return record;
        }
    }
    return NULL;
}

struct bns *builder_ns(struct mesh_builder *b, const char *name, bool create) {
    if (b->last_ns != NULL && strcmp(b->last_ns->name, name) == 0) {
        return b->last_ns;
    }
    uint64_t hash = hash_bytes(slice_str(name));
    HMAP_EACH_WITH_HASH(pos, &b->namespaces, hash) {
        struct bns *ns = HMAP_ITEM(pos, struct bns, by_name);
        if (strcmp(ns->name, name) == 0) {
            b->last_ns = ns;
            return ns;
        }
    }
    if (!create) {
        return NULL;
    }
    struct bns *ns = xcalloc(1, sizeof(*ns));
    ns->name = xstrdup(name);
    hmap_init(&ns->label_pairs);
    for (size_t i = 0; i < KOBJ_N_KINDS; i++) {
        list_init(&ns->records[i]);
    }
    hmap_insert(&b->namespaces, &ns->by_name, hash);
    return ns;
}

const struct kobj *builder_ns_obj(struct mesh_builder *b, const char *ns) {
    if (!b->ns_memo.is_known || strcmp(b->ns_memo.name, ns) != 0) {
        size_t size = strlen(ns) + 1;
        b->ns_memo.is_known = size <= sizeof(b->ns_memo.name);
        memcpy(b->ns_memo.name, ns, MIN(size, sizeof(b->ns_memo.name)));
        b->ns_memo.record = builder_find(b, KOBJ_NAMESPACE, "", ns);
    }
    return b->ns_memo.record != NULL ? b->ns_memo.record->obj : NULL;
}

static int class_of(uint8_t kind) {
    switch ((enum kobj_kind)kind) {
    case KOBJ_NODE:
        return DIRTY_NODES;
    case KOBJ_AUTHORIZATION_POLICY:
    case KOBJ_PEER_AUTHENTICATION:
        return DIRTY_POLICIES;
    case KOBJ_POD:
    case KOBJ_WORKLOAD_ENTRY:
        return DIRTY_WORKLOADS;
    case KOBJ_SERVICE:
    case KOBJ_SERVICE_ENTRY:
        return DIRTY_SERVICES;
    default:
        return -1; // has no leaf of its own
    }
}

void builder_mark(struct mesh_builder *b, struct record *record) {
    int class = class_of(record->kind);
    if (class >= 0 && !record->is_dirty) {
        record->is_dirty = true;
        list_push_back(&b->dirty[class], &record->in_dirty);
    }
}

// Records

static bool is_relevant(const struct kobj *obj) {
    switch ((enum kobj_kind)obj->kind) {
    case KOBJ_NAMESPACE:
    case KOBJ_ENDPOINT_SLICE:
    case KOBJ_ENDPOINTS:
        return true;
    case KOBJ_CONFIG_MAP:
        return obj->config_map->mesh != NULL;
    case KOBJ_GATEWAY:
    case KOBJ_GATEWAY_CLASS:
    case KOBJ_VIRTUAL_SERVICE:
    case KOBJ_DESTINATION_RULE:
    case KOBJ_HTTP_ROUTE:
    case KOBJ_GRPC_ROUTE:
    case KOBJ_REFERENCE_GRANT:
        return true;
    default:
        return class_of(obj->kind) >= 0;
    }
}

static void record_replace(struct mesh_builder *b, struct record *record, struct kobj *obj) {
    struct kobj_map old_labels;
    struct kobj *old = record_take(record, obj, &old_labels);
    builder_index_labels(record);
    builder_mark_dependents(b, record, old, &old_labels);
    builder_mark(b, record);
    if (record->kind == KOBJ_PEER_AUTHENTICATION) {
        b->n_peer_auths += (size_t)(obj != NULL) - (size_t)(old != NULL);
    }
    record_let_go(record, old, &old_labels);
    if (obj == NULL && class_of(record->kind) < 0) {
        record_free(b, record);
    }
}

void builder_set(struct mesh_builder *b, struct kobj *obj) {
    struct record *record = builder_find(b, (enum kobj_kind)obj->kind, ns_of(obj), obj->meta.name);
    if (!is_relevant(obj)) {
        if (record != NULL) { // a ConfigMap that lost its mesh key
            record_replace(b, record, NULL);
        }
        return;
    }
    if (record == NULL) {
        record = record_new(b, obj, ns_of(obj));
    }
    record_replace(b, record, obj);
}

void builder_del(struct mesh_builder *b, const struct kobj *obj) {
    struct record *record = builder_find(b, (enum kobj_kind)obj->kind, ns_of(obj), obj->meta.name);
    bool is_same = record != NULL && record->obj != NULL &&
                   strcmp(record->obj->kind_name, obj->kind_name) == 0;
    if (is_same) {
        record_replace(b, record, NULL);
    }
}

// Workload leaves

struct bwl *builder_workload(struct mesh_builder *b, struct slice uid) {
    HMAP_EACH_WITH_HASH(pos, &b->workloads, hash_bytes(uid)) {
        struct bwl *wl = HMAP_ITEM(pos, struct bwl, by_uid);
        if (slice_eq(wl->leaf->leaf.key, uid)) {
            return wl;
        }
    }
    return NULL;
}

const struct workload *builder_like(const struct mesh_builder *b, const struct record *record) {
    if (!list_empty(&record->workloads)) {
        return LIST_ITEM(record->workloads.next, struct bwl, in_record)->leaf;
    }
    return b->last_put != NULL ? b->last_put->leaf : NULL;
}

struct bwl *builder_workload_by_ip(struct mesh_builder *b, const struct ip *ip) {
    const struct workload *found;
    for (size_t i = 0; (found = snapshot_workload_by_ip_at(b->draft, ip, i)) != NULL; i++) {
        struct bwl *wl = builder_workload(b, found->leaf.key);
        if (wl != NULL && class_of(wl->record->kind) == DIRTY_WORKLOADS) {
            return wl;
        }
    }
    return NULL;
}

bool builder_is_node_ip(const struct mesh_builder *b, const struct ip *ip) {
    return snapshot_node_by_ip(b->draft, ip) != NULL;
}

// Writes the change down for the caller of commit.
static void note_change(struct mesh_builder *b, struct workload *old, struct workload *leaf) {
    b->has_changes = b->workloads_changed = true;
    if (old != NULL && leaf != NULL && !workload_same_policies(old, leaf)) {
        b->policies_changed = true;
    }
    builder_locals_note(&b->locals, b->node, old, leaf);
}

static bool same_addresses(const struct workload *a, const struct workload *b) {
    for (size_t i = 0; a->n_ips == b->n_ips && i < a->n_ips; i++) {
        if (!ip_eq(&a->ips[i], &b->ips[i])) {
            return false;
        }
    }
    return a->n_ips == b->n_ips && a->is_host_network == b->is_host_network &&
           a->protocol == b->protocol; // which decides between two with one address
}

// Services find endpoints by address, and pods by name.
static void note_addresses(struct mesh_builder *b, const struct record *record,
                           const struct workload *old, const struct workload *leaf) {
    if (class_of(record->kind) == DIRTY_WORKLOADS &&
        (old == NULL || leaf == NULL || !same_addresses(old, leaf))) {
        b->are_addresses_dirty = true;
    }
}

struct bwl *builder_put_workload(struct mesh_builder *b, struct record *record,
                                 struct workload *leaf) {
    struct bwl *wl = builder_workload(b, leaf->leaf.key);
    if (wl != NULL && wl->record == record && workload_equal(wl->leaf, leaf)) {
        wl->is_stale = false;
        leaf_unref(leaf);
        return wl;
    }
    if (wl == NULL) {
        wl = xcalloc(1, sizeof(*wl));
        list_init(&wl->members);
        list_init(&wl->in_record);
        hmap_insert(&b->workloads, &wl->by_uid, hash_bytes(leaf->leaf.key));
    }
    if (wl->record != record) {
        list_del(&wl->in_record);
        list_push_back(&record->workloads, &wl->in_record);
        wl->record = record;
    }
    note_change(b, wl->leaf, leaf);
    note_addresses(b, record, wl->leaf, leaf);
    builder_mark_workload_users(b, wl);
    leaf_unref(wl->leaf);
    wl->leaf = leaf;
    wl->is_stale = false;
    b->last_put = wl;
    leaf_ref(leaf);
    snapshot_set_workload(b->draft, leaf);
    return wl;
}

void builder_drop_workload(struct mesh_builder *b, struct bwl *wl) {
    b->last_put = b->last_put == wl ? NULL : b->last_put;
    note_change(b, wl->leaf, NULL);
    note_addresses(b, wl->record, wl->leaf, NULL);
    builder_mark_workload_users(b, wl);
    LIST_EACH_SAFE(pos, &wl->members) {
        list_del(pos); // the services are dirty: they drop their side
    }
    snapshot_del_workload(b->draft, (const char *)wl->leaf->leaf.key.ptr);
    hmap_remove(&b->workloads, &wl->by_uid);
    list_del(&wl->in_record);
    leaf_unref(wl->leaf);
    free(wl);
}

// Building

static void build_node(struct mesh_builder *b, struct record *record) {
    if (record->obj == NULL) {
        if (record->has_node) {
            snapshot_del_node(b->draft, record->name);
            b->has_changes = true;
        }
        return;
    }
    const struct kobj_node *src = record->obj->node;
    const struct kobj_map *labels = &record->obj->meta.labels;
    struct ip *ips = xcalloc(src->n_addresses + 1, sizeof(*ips));
    struct node spec = {.leaf.key = slice_str(record->name), .ips = ips};
    for (uint32_t i = 0; i < src->n_addresses; i++) {
        const char *type = src->addresses[i].type;
        bool is_ip = strcmp(type, "InternalIP") == 0 || strcmp(type, "ExternalIP") == 0;
        if (is_ip && ip_parse(slice_str(src->addresses[i].address), &ips[spec.n_ips])) {
            spec.n_ips++;
        }
    }
    spec.locality.region = kobj_map_get(labels, "topology.kubernetes.io/region");
    spec.locality.zone = kobj_map_get(labels, "topology.kubernetes.io/zone");
    spec.locality.subzone = kobj_map_get(labels, "topology.istio.io/subzone");
    snapshot_set_node(b->draft, node_new(&spec));
    record->has_node = b->has_changes = true;
    free(ips);
}

static void build(struct mesh_builder *b, struct record *record) {
    static void (*const builders[KOBJ_N_KINDS])(struct mesh_builder *, struct record *) = {
        [KOBJ_NODE] = build_node,
        [KOBJ_AUTHORIZATION_POLICY] = builder_build_policy,
        [KOBJ_PEER_AUTHENTICATION] = builder_build_peer,
        [KOBJ_POD] = builder_build_pod,
        [KOBJ_WORKLOAD_ENTRY] = builder_build_entry,
        [KOBJ_SERVICE] = builder_build_service,
        [KOBJ_SERVICE_ENTRY] = builder_build_service_entry,
    };
    record_clear_problems(record);
    record->is_by_address = false;
    if (b->istiod != NULL && record->kind != KOBJ_NODE) {
        builder_istiod_changed(b, record);
    } else {
        builders[record->kind](b, record);
    }
    if (record->obj == NULL) {
        record_free(b, record);
    }
}

// The MeshConfig of the root namespace, else any.
static const struct kobj *find_mesh_config(struct mesh_builder *b) {
    const struct record *best = NULL;
    HMAP_EACH_SAFE(pos, &b->namespaces) {
        const struct bns *ns = HMAP_ITEM(pos, struct bns, by_name);
        bool is_root = strcmp(ns->name, b->defaults.root_namespace) == 0;
        LIST_EACH(item, &ns->records[KOBJ_CONFIG_MAP]) {
            const struct record *record = LIST_ITEM(item, struct record, in_ns);
            bool is_best_root =
                best != NULL && strcmp(best->ns->name, b->defaults.root_namespace) == 0;
            bool is_first = best == NULL || strcmp(record->name, best->name) < 0;
            bool is_meant = b->mesh_config == NULL || strcmp(record->name, b->mesh_config) == 0;
            if (record->obj != NULL && is_meant && (is_root != is_best_root ? is_root : is_first)) {
                best = record;
            }
        }
    }
    return best != NULL ? best->obj : NULL;
}

static void copy_text(char *dst, size_t size, const char *src) {
    if (src[0] != '\0' && strlen(src) < size) {
        memcpy(dst, src, strlen(src) + 1);
    }
}

static void update_mesh(struct mesh_builder *b) {
    struct mesh_settings mesh = b->defaults;
    const struct kobj *obj = find_mesh_config(b);
    const struct mesh_config *config = obj != NULL ? obj->config_map->mesh : NULL;
    uint64_t hash = obj != NULL ? obj->hash : 0;
    b->config = config;
    if (b->l7 != NULL && hash != b->config_hash) { // defaults that are part of what is compiled
        builder_l7_touch_all(b);
    }
    b->config_hash = hash;
    if (config != NULL) {
        copy_text(mesh.trust_domain, sizeof(mesh.trust_domain), config->trust_domain);
        copy_text(mesh.root_namespace, sizeof(mesh.root_namespace), config->root_namespace);
        uint32_t n_aliases = MIN(config->n_trust_domain_aliases, (uint32_t)MESH_ALIASES_MAX);
        for (uint32_t i = 0; i < n_aliases; i++) {
            copy_text(mesh.trust_domain_aliases[i], sizeof(mesh.trust_domain_aliases[i]),
                      config->trust_domain_aliases[i]);
        }
        if (config->connect_timeout_ms > 0) {
            mesh.connect_timeout_ms = (uint32_t)MIN(config->connect_timeout_ms, INT32_MAX);
        }
        if (config->has_outbound_mode) {
            mesh.outbound_registry_only = config->outbound_mode == OUTBOUND_REGISTRY_ONLY;
        }
        mesh.has_access_log = config->access_log_file[0] != '\0';
        mesh.is_access_log_json = config->access_log_encoding == ACCESS_LOG_JSON;
        copy_text(mesh.access_log_format, sizeof(mesh.access_log_format),
                  config->access_log_format);
    }
    const char *old_root = b->mesh.root_namespace;
    bool is_new_root = strcmp(old_root, mesh.root_namespace) != 0;
    b->is_mesh_dirty = false;
    if (memcmp(&mesh, &b->mesh, sizeof(mesh)) == 0) {
        return;
    }
    struct mesh_settings old = b->mesh;
    b->mesh = mesh;
    snapshot_set_mesh(b->draft, &mesh);
    if (is_new_root) {
        builder_drop_static_strict(b, old.root_namespace);
    }
    builder_mark_all(b);
    b->has_changes = b->mesh_changed = true;
}

static void merge_istiod(struct mesh_builder *b) {
    struct builder_changes changes = {0};
    xds_store_merge(b->istiod, b->draft, &changes);
    b->policies_changed = b->policies_changed || changes.policies_changed;
    b->workloads_changed = b->workloads_changed || changes.workloads_changed;
    b->services_changed = b->services_changed || changes.services_changed;
    b->has_changes =
        b->has_changes || b->policies_changed || b->workloads_changed || b->services_changed;
    builder_changes_fini(&changes); // nobody is local to a waypoint
}

void builder_commit(struct mesh_builder *b, struct builder_changes *ret_changes) {
    b->draft = snapshot_draft();
    if (b->is_mesh_dirty) {
        update_mesh(b);
    }
    for (size_t i = 0; i < N_DIRTY; i++) {
        if (i == DIRTY_SERVICES && b->are_addresses_dirty) {
            builder_mark_by_address(b);
            b->are_addresses_dirty = false;
        }
        if (i == DIRTY_SERVICES) {
            builder_l7_rebind(b);
        }
        while (!list_empty(&b->dirty[i])) {
            struct record *record = LIST_ITEM(b->dirty[i].next, struct record, in_dirty);
            list_del(&record->in_dirty);
            record->is_dirty = false;
            build(b, record);
        }
    }
    if (b->istiod != NULL) {
        merge_istiod(b);
    }
    builder_settle_static_strict(b);
    builder_l7_compile(b);
    *ret_changes = (struct builder_changes){
        .locals = b->locals.items,
        .n_locals = b->locals.n,
        .policies_changed = b->policies_changed,
        .workloads_changed = b->workloads_changed,
        .services_changed = b->services_changed,
        .settings_changed = b->settings_changed,
        .mesh_changed = b->mesh_changed,
    };
    if (b->has_changes) {
        struct snapshot *draft = b->draft;
        snapshot_publish(draft);
        ret_changes->generation = draft->generation;
    } else {
        snapshot_drop(b->draft);
    }
    b->draft = NULL;
    b->locals = (struct builder_locals){0};
    b->has_changes = b->policies_changed = b->workloads_changed = b->services_changed =
        b->settings_changed = b->mesh_changed = false;
}

struct mesh_builder *builder_new(const struct builder_options *options) {
    struct mesh_builder *b = xcalloc(1, sizeof(*b));
    b->defaults = options->mesh;
    b->mesh_config = options->mesh_config;
    b->has_targeted = options->has_targeted;
    b->node = xstrdup(options->node != NULL ? options->node : "");
    b->is_mesh_dirty = true;
    hmap_init(&b->records);
    hmap_init(&b->namespaces);
    hmap_init(&b->workloads);
    hmap_init(&b->resolved);
    hmap_init(&b->allocated);
    hmap_init(&b->services);
    hmap_init(&b->l7_refs);
    hmap_init(&b->istiod_services);
    list_init(&b->l7_dirty);
    b->l7 = options->l7;
    b->proxy_ns = options->proxy_namespace != NULL ? xstrdup(options->proxy_namespace) : NULL;
    for (size_t i = 0; i < N_DIRTY; i++) {
        list_init(&b->dirty[i]);
    }
    return b;
}

void builder_free(struct mesh_builder *b) {
    if (b == NULL) {
        return;
    }
    HMAP_EACH_SAFE(pos, &b->records) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        LIST_EACH_SAFE(svc, &record->more->services) {
            struct bsvc *service = LIST_ITEM(svc, struct bsvc, in_record);
            builder_l7_gone(b, service);
            free(service->members);
            free(service->key);
            free(service);
        }
        LIST_EACH_SAFE(workload, &record->workloads) {
            struct bwl *wl = LIST_ITEM(workload, struct bwl, in_record);
            leaf_unref(wl->leaf);
            free(wl);
        }
        struct kobj_map labels;
        struct kobj *obj = record_take(record, NULL, &labels);
        record_let_go(record, obj, &labels);
        builder_l7_index(b, record);
        record_free(b, record);
    }
    builder_istiod_fini(b);
    builder_resolve_fini(b);
    hmap_fini(&b->services);
    hmap_fini(&b->l7_refs);
    free(b->proxy_ns);
    hmap_fini(&b->records);
    hmap_fini(&b->namespaces);
    hmap_fini(&b->workloads);
    free(b->node);
    free(b);
}

void builder_each_problem(struct mesh_builder *b,
                          bool (*fn)(void *arg, const struct builder_problem *problem), void *arg) {
    HMAP_EACH_SAFE(pos, &b->records) {
        const struct record *record = HMAP_ITEM(pos, struct record, by_key);
        for (size_t i = 0; i < record->more->n_problems; i++) {
            struct builder_problem problem = {.obj = record->obj,
                                              .text = record->more->problems[i]};
            if (!fn(arg, &problem)) {
                return;
            }
        }
        if (!builder_l7_each_problem(record, fn, arg)) {
            return;
        }
    }
}

void builder_each_object(struct mesh_builder *b, enum kobj_kind kind,
                         bool (*fn)(void *arg, const struct kobj *obj), void *arg) {
    HMAP_EACH_SAFE(pos, &b->namespaces) {
        const struct bns *ns = HMAP_ITEM(pos, struct bns, by_name);
        LIST_EACH(item, &ns->records[kind]) {
            const struct record *record = LIST_ITEM(item, struct record, in_ns);
            if (record->obj != NULL && !fn(arg, record->obj)) {
                return;
            }
        }
    }
}

const struct kobj *builder_object(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                  const char *name) {
    const struct record *record = builder_find(b, kind, ns, name);
    return record != NULL ? record->obj : NULL;
}

void builder_each_waypoint_policy(struct mesh_builder *b,
                                  bool (*fn)(void *arg, const struct kobj *policy), void *arg) {
    HMAP_EACH_SAFE(pos, &b->records) {
        const struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (record->kind == KOBJ_AUTHORIZATION_POLICY && record->obj != NULL &&
            record->obj->authz->n_targets > 0 && !fn(arg, record->obj)) {
            return;
        }
    }
}

void builder_apply(struct mesh_builder *b, const struct config_diff *diff,
                   struct builder_changes *ret_changes) {
    for (uint32_t i = 0; i < diff->n_changes; i++) {
        const struct config_change *change = &diff->changes[i];
        if (change->after != NULL) {
            // The store hands out objects as const; keeping one takes a reference.
            builder_set(b, (struct kobj *)change->after);
        } else {
            builder_del(b, change->before);
        }
    }
    builder_commit(b, ret_changes);
}
