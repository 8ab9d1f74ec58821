// SPDX-License-Identifier: Apache-2.0
//
// What a change of one object touches. Marking too much costs time only; marking too little would
// leave a leaf behind that a fresh builder would not make.
#include <string.h>

#include "common/mesh/builder_priv.h"

// Calls for each live record of a kind in one namespace.
#define EACH_RECORD(pos, ns, kind) LIST_EACH_SAFE(pos, &(ns)->records[kind])

static struct record *record_of(struct list *pos) {
    return LIST_ITEM(pos, struct record, in_ns);
}

static void mark_kind(struct mesh_builder *b, struct bns *ns, enum kobj_kind kind) {
    EACH_RECORD(pos, ns, kind) {
        builder_mark(b, record_of(pos));
    }
}

static void mark_everywhere(struct mesh_builder *b, enum kobj_kind kind) {
    HMAP_EACH_SAFE(pos, &b->namespaces) {
        mark_kind(b, HMAP_ITEM(pos, struct bns, by_name), kind);
    }
}

void builder_mark_all(struct mesh_builder *b) {
    HMAP_EACH_SAFE(pos, &b->records) {
        builder_mark(b, HMAP_ITEM(pos, struct record, by_key));
    }
    builder_l7_touch_all(b);
}

void builder_mark_workload_users(struct mesh_builder *b, struct bwl *wl) {
    LIST_EACH_SAFE(pos, &wl->members) {
        struct member *member = LIST_ITEM(pos, struct member, in_workload);
        builder_mark(b, member->service->record);
    }
}

void builder_mark_by_address(struct mesh_builder *b) {
    static const enum kobj_kind kinds[] = {KOBJ_SERVICE, KOBJ_SERVICE_ENTRY};
    HMAP_EACH_SAFE(pos, &b->namespaces) {
        const struct bns *ns = HMAP_ITEM(pos, struct bns, by_name);
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
            LIST_EACH(item, &ns->records[kinds[i]]) {
                if (record_of(item)->is_by_address) {
                    builder_mark(b, record_of(item));
                }
            }
        }
    }
}

static void mark_service(void *arg, struct record *record) {
    if (record->kind != KOBJ_AUTHORIZATION_POLICY) {
        builder_mark(arg, record);
    }
}

// Services and ServiceEntries that selected the workload, or select it now.
static void workload_changed(struct mesh_builder *b, const struct record *record,
                             const struct kobj *old, const struct kobj_map *old_labels) {
    if (old != NULL) {
        builder_each_selecting(record->ns, old_labels, mark_service, b);
    }
    if (record->obj != NULL) {
        builder_each_selecting_record(record, mark_service, b);
    }
}

static void mark_workload(void *arg, struct record *record) {
    builder_mark(arg, record);
}

// Workloads of one namespace (NULL: of all) that either selector selects; NULL selectors: all.
static void mark_workloads(struct mesh_builder *b, struct bns *ns, const struct kobj_map *one,
                           const struct kobj_map *two) {
    static const struct kobj_map all = {0};
    if (ns == NULL) {
        HMAP_EACH_SAFE(pos, &b->namespaces) {
            mark_workloads(b, HMAP_ITEM(pos, struct bns, by_name), one, two);
        }
        return;
    }
    if (one == NULL && two == NULL) {
        builder_each_selected(ns, &all, mark_workload, b);
    }
    if (one != NULL) {
        builder_each_selected(ns, one, mark_workload, b);
    }
    if (two != NULL) {
        builder_each_selected(ns, two, mark_workload, b);
    }
}

// The namespace whose workloads a policy of `ns` can select; NULL = all.
static struct bns *policy_reach(const struct mesh_builder *b, struct bns *ns) {
    return strcmp(ns->name, b->mesh.root_namespace) == 0 ? NULL : ns;
}

static const struct kobj_map *authz_selector(const struct kobj *obj) {
    return obj != NULL && obj->authz->has_selector ? &obj->authz->selector : NULL;
}

static void policy_changed(struct mesh_builder *b, const struct record *record,
                           const struct kobj *old) {
    const struct kobj_map *one = authz_selector(old);
    const struct kobj_map *two = authz_selector(record->obj);
    if (one != NULL || two != NULL) {
        mark_workloads(b, policy_reach(b, record->ns), one, two);
    }
}

static bool is_wide_peer(const struct kobj *obj) {
    return obj != NULL && (!obj->peer_auth->has_selector || obj->peer_auth->selector.n == 0);
}

static void peer_changed(struct mesh_builder *b, const struct record *record,
                         const struct kobj *old) {
    struct bns *reach = policy_reach(b, record->ns);
    if (is_wide_peer(old) || is_wide_peer(record->obj)) {
        // What workloads and port-level policies inherit
        mark_workloads(b, reach, NULL, NULL);
        if (reach == NULL) {
            mark_everywhere(b, KOBJ_PEER_AUTHENTICATION);
        } else {
            mark_kind(b, reach, KOBJ_PEER_AUTHENTICATION);
        }
        return;
    }
    mark_workloads(b, record->ns, old != NULL ? &old->peer_auth->selector : NULL,
                   record->obj != NULL ? &record->obj->peer_auth->selector : NULL);
}

static void mark_slice_service(struct mesh_builder *b, const struct record *record,
                               const struct kobj *obj) {
    const char *name = record->name;
    if (obj != NULL && obj->kind == KOBJ_ENDPOINT_SLICE) {
        name = kobj_map_get(&obj->meta.labels, "kubernetes.io/service-name");
    }
    struct record *service =
        name != NULL ? builder_find(b, KOBJ_SERVICE, record->ns->name, name) : NULL;
    if (service != NULL) {
        builder_mark(b, service);
    }
}

static void namespace_changed(struct mesh_builder *b, const char *name) {
    struct bns *ns = builder_ns(b, name, false);
    if (ns == NULL) {
        return;
    }
    const enum kobj_kind kinds[] = {KOBJ_POD, KOBJ_WORKLOAD_ENTRY, KOBJ_SERVICE,
                                    KOBJ_SERVICE_ENTRY};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        mark_kind(b, ns, kinds[i]);
    }
}

static void mark_pods_of_node(struct mesh_builder *b, const char *node) {
    HMAP_EACH_SAFE(pos, &b->records) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (record->kind == KOBJ_POD && record->obj != NULL &&
            strcmp(record->obj->pod->spec.node_name, node) == 0) {
            builder_mark(b, record);
        }
    }
}

static bool same_node(const struct kobj *a, const struct kobj *b) {
    static const char *const keys[] = {"topology.kubernetes.io/region",
                                       "topology.kubernetes.io/zone", "topology.istio.io/subzone"};
    if (a == NULL || b == NULL || a->node->n_addresses != b->node->n_addresses) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *x = kobj_map_get(&a->meta.labels, keys[i]);
        const char *y = kobj_map_get(&b->meta.labels, keys[i]);
        if (strcmp(x != NULL ? x : "", y != NULL ? y : "") != 0) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->node->n_addresses; i++) {
        if (strcmp(a->node->addresses[i].address, b->node->addresses[i].address) != 0) {
            return false;
        }
    }
    return true;
}

// The service of a Gateway of its own name: an address of the Gateway is the service's.
static void service_changed(struct mesh_builder *b, const struct record *record,
                            const struct kobj *old) {
    const struct record *gateway = builder_find(b, KOBJ_GATEWAY, record->ns->name, record->name);
    if (gateway != NULL && (old == NULL) != (record->obj == NULL)) {
        builder_gateway_changed(b, gateway, NULL);
    }
}

void builder_mark_dependents(struct mesh_builder *b, struct record *record, const struct kobj *old,
                             const struct kobj_map *old_labels) {
    switch ((enum kobj_kind)record->kind) {
    case KOBJ_NAMESPACE:
        namespace_changed(b, record->name);
        break;
    case KOBJ_NODE:
        if (!same_node(old, record->obj)) {
            mark_pods_of_node(b, record->name);
            b->are_addresses_dirty = true;
        }
        break;
    case KOBJ_POD:
    case KOBJ_WORKLOAD_ENTRY:
        workload_changed(b, record, old, old_labels);
        break;
    case KOBJ_ENDPOINT_SLICE:
    case KOBJ_ENDPOINTS:
        mark_slice_service(b, record, old);
        mark_slice_service(b, record, record->obj);
        break;
    case KOBJ_CONFIG_MAP:
        b->is_mesh_dirty = true;
        break;
    case KOBJ_SERVICE:
        service_changed(b, record, old);
        break;
    case KOBJ_GATEWAY:
        builder_gateway_changed(b, record, old);
        break;
    case KOBJ_GATEWAY_CLASS:
        builder_class_changed(b, record->name);
        break;
    case KOBJ_VIRTUAL_SERVICE:
    case KOBJ_DESTINATION_RULE:
    case KOBJ_HTTP_ROUTE:
    case KOBJ_GRPC_ROUTE:
    case KOBJ_REFERENCE_GRANT:
        builder_l7_changed(b, record);
        break;
    case KOBJ_AUTHORIZATION_POLICY:
        policy_changed(b, record, old);
        builder_l7_changed(b, record);
        break;
    case KOBJ_PEER_AUTHENTICATION:
        peer_changed(b, record, old);
        break;
    default:
        break;
    }
}
