// SPDX-License-Identifier: Apache-2.0
//
// The primary tables (uid, service key, policy key ...) own the leaves. The index tables map a key
// of another kind to a leaf or a short list of leaves, best first; that holds no references,
// because every version that has it also has the leaves in the primary table.
//
// A root that was replaced goes through call_rcu(), whose callback only marks it: the tables' nodes
// are counted by the control thread alone, so it also frees them, at its next draft or publish.
#include "common/mesh/snapshot.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>

#include "common/base/check.h"
#include "common/mesh/snapshot_priv.h"

struct settings {
    uint32_t refs; // control thread only
    struct mesh_settings mesh;
};

struct root {
    struct snapshot snap;
    struct settings *settings;
    struct rcu_head rcu;
    atomic_bool is_idle; // no reader is left
    struct root *next; // in the queue of retired roots
};

static _Atomic(struct root *) current;
static struct { struct root *first, **last; } retired;

// ThreadSanitizer does not see liburcu's ordering (quiescent state to end of the grace period,
// call_rcu to callback): it gets plain release/acquire pairs.
#if defined(__SANITIZE_THREAD__)
#define SNAPSHOT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SNAPSHOT_TSAN 1
#endif
#endif
#ifdef SNAPSHOT_TSAN
static atomic_uint tsan_order;
#define TSAN_RELEASE() ((void)atomic_fetch_add_explicit(&tsan_order, 1, memory_order_release))
#define TSAN_ACQUIRE() ((void)atomic_load_explicit(&tsan_order, memory_order_acquire))
#else
#define TSAN_RELEASE() ((void)0)
#define TSAN_ACQUIRE() ((void)0)
#endif

static struct slice leaf_key(const void *leaf) {
    return ((const struct leaf *)leaf)->key;
}

// "*.example.com" is kept as ".example.com", "*" as "".
static struct slice host_key(const struct service *service) {
    struct slice host = slice_str(service->hostname);
    return host.len > 0 && host.ptr[0] == '*' ? slice_skip(host, 1) : host;
}

static struct slice list_key(const void *value) {
    const struct leaf_list *list = value;
    return slice_make(&list->items[list->n], list->key_len);
}

static struct slice workload_ip_key(const void *value) {
    return is_leaf_list(value) ? list_key(value)
                               : ip_key(&((const struct workload *)value)->ips[0]);
}

static struct slice service_vip_key(const void *value) {
    return is_leaf_list(value) ? list_key(value)
                               : ip_key(&((const struct service *)value)->vips[0]);
}

static struct slice service_host_key(const void *value) {
    return is_leaf_list(value) ? list_key(value) : host_key(value);
}

static void indexed_ref(void *value) {
    if (is_leaf_list(value)) {
        ((struct leaf_list *)value)->refs++;
    }
}

static void indexed_unref(void *value) {
    if (is_leaf_list(value) && --((struct leaf_list *)value)->refs == 0) {
        free(value);
    }
}

#define INDEX_TYPE(fn)                                                                             \
    { .key = (fn), .ref = indexed_ref, .unref = indexed_unref }
static const struct pmap_type leaf_type = {.key = leaf_key, .ref = leaf_ref, .unref = leaf_unref};
static const struct pmap_type list_type = INDEX_TYPE(list_key); // no leaf stands for itself
static const struct pmap_type workload_ip_type = INDEX_TYPE(workload_ip_key);
static const struct pmap_type service_vip_type = INDEX_TYPE(service_vip_key);
static const struct pmap_type service_host_type = INDEX_TYPE(service_host_key);

static _Thread_local bool is_registered;

void snapshot_thread_register(void) {
    rcu_register_thread();
    is_registered = true;
}

void snapshot_thread_unregister(void) {
    TSAN_RELEASE();
    rcu_unregister_thread();
    is_registered = false;
}

void snapshot_thread_offline(void) {
    TSAN_RELEASE();
    rcu_thread_offline();
}

void snapshot_thread_online(void) {
    rcu_thread_online();
}

void snapshot_quiescent(void) {
    TSAN_RELEASE();
    rcu_quiescent_state();
}

const struct snapshot *snapshot_current(void) {
    return &atomic_load_explicit(&current, memory_order_acquire)->snap;
}

static struct settings *settings_new(const struct mesh_settings *mesh) {
    struct settings *settings = xmalloc(sizeof(*settings));
    *settings = (struct settings){.refs = 1, .mesh = *mesh};
    return settings;
}

static void settings_unref(struct settings *settings) {
    if (--settings->refs == 0) {
        free(settings);
    }
}

void snapshot_init(const struct mesh_settings *mesh) {
    struct root *root = xcalloc(1, sizeof(*root));
    struct snapshot *snap = &root->snap;
    root->settings = settings_new(mesh);
    snap->mesh = &root->settings->mesh;
    snap->workloads = snap->services = snap->policies = snap->identities = snap->nodes =
        snap->l7_routes = snap->l7_policies = pmap_empty(&leaf_type);
    snap->workloads_by_ip = pmap_empty(&workload_ip_type);
    snap->services_by_vip = pmap_empty(&service_vip_type);
    snap->services_by_host = pmap_empty(&service_host_type);
    snap->services_by_node_port = snap->policies_by_ns = snap->nodes_by_ip =
        snap->services_by_range = pmap_empty(&list_type);
    retired.first = NULL;
    retired.last = &retired.first;
    atomic_store_explicit(&current, root, memory_order_release);
}

static void root_free(struct root *root) {
    struct snapshot *snap = &root->snap;
    pmap_unref(&snap->workloads_by_ip);
    pmap_unref(&snap->services_by_vip);
    pmap_unref(&snap->services_by_range);
    pmap_unref(&snap->services_by_host);
    pmap_unref(&snap->services_by_node_port);
    pmap_unref(&snap->policies_by_ns);
    pmap_unref(&snap->nodes_by_ip);
    pmap_unref(&snap->workloads);
    pmap_unref(&snap->services);
    pmap_unref(&snap->policies);
    pmap_unref(&snap->identities);
    pmap_unref(&snap->nodes);
    pmap_unref(&snap->l7_routes);
    pmap_unref(&snap->l7_policies);
    settings_unref(root->settings);
    free(root);
}

void snapshot_reclaim(void) {
    if (is_registered) {
        snapshot_quiescent(); // it must not wait for itself
    }
    while (retired.first != NULL &&
           atomic_load_explicit(&retired.first->is_idle, memory_order_acquire)) {
        struct root *root = retired.first;
        retired.first = root->next;
        if (retired.first == NULL) {
            retired.last = &retired.first;
        }
        TSAN_ACQUIRE();
        root_free(root);
    }
}

void snapshot_fini(void) {
    rcu_barrier();
    snapshot_reclaim();
    CHECK(retired.first == NULL);
    root_free(atomic_exchange(&current, NULL));
}

struct snapshot *snapshot_draft(void) {
    snapshot_reclaim();
    const struct root *base = atomic_load_explicit(&current, memory_order_relaxed);
    struct root *root = xcalloc(1, sizeof(*root));
    struct snapshot *snap = &root->snap;
    *snap = base->snap;
    root->settings = base->settings;
    root->settings->refs++;
    snap->workloads = pmap_ref(snap->workloads);
    snap->services = pmap_ref(snap->services);
    snap->policies = pmap_ref(snap->policies);
    snap->identities = pmap_ref(snap->identities);
    snap->nodes = pmap_ref(snap->nodes);
    snap->l7_routes = pmap_ref(snap->l7_routes);
    snap->l7_policies = pmap_ref(snap->l7_policies);
    snap->workloads_by_ip = pmap_ref(snap->workloads_by_ip);
    snap->services_by_vip = pmap_ref(snap->services_by_vip);
    snap->services_by_range = pmap_ref(snap->services_by_range);
    snap->services_by_host = pmap_ref(snap->services_by_host);
    snap->services_by_node_port = pmap_ref(snap->services_by_node_port);
    snap->policies_by_ns = pmap_ref(snap->policies_by_ns);
    snap->nodes_by_ip = pmap_ref(snap->nodes_by_ip);
    return snap;
}

static struct root *root_of(struct snapshot *snap) {
    return CONTAINER_OF(snap, struct root, snap);
}

static void mark_idle(struct rcu_head *rcu) {
    TSAN_ACQUIRE();
    struct root *root = CONTAINER_OF(rcu, struct root, rcu);
    atomic_store_explicit(&root->is_idle, true, memory_order_release);
}

void snapshot_publish(struct snapshot *draft) {
    struct root *old = atomic_load_explicit(&current, memory_order_relaxed);
    draft->generation = old->snap.generation + 1;
    atomic_store_explicit(&current, root_of(draft), memory_order_release);
    old->next = NULL;
    *retired.last = old;
    retired.last = &old->next;
    TSAN_RELEASE();
    call_rcu(&old->rcu, mark_idle);
    snapshot_reclaim();
}

void snapshot_drop(struct snapshot *draft) {
    root_free(root_of(draft));
}

// Index tables

// < 0: `a` comes first
typedef int leaf_order(const struct snapshot *snap, const struct leaf *a, const struct leaf *b);

static struct leaf_list *list_new(struct slice key, size_t n) {
    struct leaf_list *list =
        xmalloc(sizeof(*list) + n * sizeof(list->items[0]) + (key.len > 0 ? key.len : 1));
    *list = (struct leaf_list){.kind = LEAF_LIST, .n = (uint32_t)n, .key_len = (uint32_t)key.len};
    memcpy(&list->items[n], key.ptr, key.len);
    return list;
}

static void index_put_only(struct pmap *map, struct slice key, struct leaf *leaf) {
    if (map->type != &list_type && slice_eq(map->type->key(leaf), key)) {
        pmap_set(map, leaf);
        return;
    }
    struct leaf_list *list = list_new(key, 1);
    list->items[0] = leaf;
    pmap_set(map, list);
}

static size_t n_others(const void *old, struct slice leaf_key_own) {
    const struct leaf *leaf;
    size_t n = 0;
    for (size_t i = 0; (leaf = indexed_leaf(old, i)) != NULL; i++) {
        n += slice_eq(leaf->key, leaf_key_own) ? 0 : 1;
    }
    return n;
}

// Puts `leaf` under `key`, in place of one with the same leaf key.
static void index_put(struct snapshot *snap, struct pmap *map, struct slice key, void *arg,
                      leaf_order *order) {
    struct leaf *leaf = arg, *other;
    const void *old = pmap_get(map, key);
    size_t n_kept = n_others(old, leaf->key), at = 0;
    if (n_kept == 0) {
        index_put_only(map, key, leaf);
        return;
    }
    struct leaf_list *list = list_new(key, n_kept + 1);
    bool is_placed = false;
    for (size_t i = 0; (other = indexed_leaf(old, i)) != NULL; i++) {
        if (slice_eq(other->key, leaf->key)) {
            continue;
        }
        if (!is_placed && order(snap, leaf, other) < 0) {
            list->items[at++] = leaf;
            is_placed = true;
        }
        list->items[at++] = other;
    }
    if (!is_placed) {
        list->items[at] = leaf;
    }
    pmap_set(map, list);
}

static void index_del(struct pmap *map, struct slice key, struct slice leaf_key_gone) {
    const void *old = pmap_get(map, key);
    size_t n_kept = n_others(old, leaf_key_gone), at = 0;
    struct leaf *kept[1], *other;
    if (old == NULL || (n_kept > 0 && indexed_leaf(old, n_kept) == NULL)) {
        return;
    }
    if (n_kept == 0) {
        pmap_del(map, key);
        return;
    }
    struct leaf_list *list = n_kept > 1 ? list_new(key, n_kept) : NULL;
    struct leaf **items = list != NULL ? list->items : kept;
    for (size_t i = 0; (other = indexed_leaf(old, i)) != NULL; i++) {
        if (!slice_eq(other->key, leaf_key_gone)) {
            items[at++] = other;
        }
    }
    if (list != NULL) {
        pmap_set(map, list);
    } else {
        index_put_only(map, key, kept[0]);
    }
}

static int key_cmp(const struct leaf *a, const struct leaf *b) {
    size_t len = MIN(a->key.len, b->key.len);
    int diff = memcmp(a->key.ptr, b->key.ptr, len);
    return diff != 0 ? diff : (a->key.len > b->key.len) - (a->key.len < b->key.len);
}

static int order_by_key(const struct snapshot *snap, const struct leaf *a, const struct leaf *b) {
    return key_cmp(a, b);
}

static int order_workloads(const struct snapshot *snap, const struct leaf *a,
                           const struct leaf *b) {
    const struct workload *wa = (const struct workload *)a;
    const struct workload *wb = (const struct workload *)b;
    if (wa->is_pod != wb->is_pod) {
        return wa->is_pod ? -1 : 1;
    }
    if (wa->protocol != wb->protocol) {
        return wa->protocol == WORKLOAD_HBONE ? -1 : 1;
    }
    bool has_a = wa->common->identity[0] != '\0';
    bool has_b = wb->common->identity[0] != '\0';
    if (has_a != has_b) {
        return has_a ? -1 : 1;
    }
    return key_cmp(a, b);
}

static int order_services(const struct snapshot *snap, const struct leaf *a, const struct leaf *b) {
    const struct service *sa = (const struct service *)a;
    const struct service *sb = (const struct service *)b;
    if (sa->is_canonical != sb->is_canonical) {
        return sa->is_canonical ? -1 : 1;
    }
    const char *preferred = snap->mesh->preferred_service_ns;
    bool is_a = strcmp(sa->ns, preferred) == 0;
    bool is_b = strcmp(sb->ns, preferred) == 0;
    if (is_a != is_b) {
        return is_a ? -1 : 1;
    }
    return key_cmp(a, b);
}

// Edits. Each index key of the old leaf that the new one lacks goes; the others are replaced.

static bool has_ip(const struct ip *ips, size_t n, const struct ip *ip) {
    for (size_t i = 0; i < n; i++) {
        if (ip_eq(&ips[i], ip)) {
            return true;
        }
    }
    return false;
}

static void index_ips(struct snapshot *draft, struct pmap *map, const struct ip *old, size_t n_old,
                      struct slice key, void *leaf, const struct ip *ips, size_t n,
                      leaf_order *order) {
    for (size_t i = 0; i < n_old; i++) {
        if (!has_ip(ips, n, &old[i])) {
            index_del(map, ip_key(&old[i]), key);
        }
    }
    for (size_t i = 0; i < n; i++) {
        index_put(draft, map, ip_key(&ips[i]), leaf, order);
    }
}

static bool has_range(const struct service *service, const struct cidr *range) {
    for (size_t i = 0; service != NULL && i < service->n_ranges; i++) {
        if (service->ranges[i].len == range->len && ip_eq(&service->ranges[i].ip, &range->ip)) {
            return true;
        }
    }
    return false;
}

// With `service` NULL it is taken out.
static void index_range(struct snapshot *draft, struct slice key, struct service *service,
                        const struct cidr *range) {
    uint8_t buf[RANGE_KEY_MAX];
    struct pmap *map = &draft->services_by_range;
    size_t n = map->n_items;
    if (service != NULL) {
        index_put(draft, map, range_key(range, buf), service, order_services);
    } else {
        index_del(map, range_key(range, buf), key);
    }
    draft->n_ranges[range_class(range->ip.family, range->len)] += (uint32_t)(map->n_items - n);
}

static void index_ranges(struct snapshot *draft, struct slice key, const struct service *old,
                         struct service *service) {
    for (size_t i = 0; old != NULL && i < old->n_ranges; i++) {
        if (!has_range(service, &old->ranges[i])) {
            index_range(draft, key, NULL, &old->ranges[i]);
        }
    }
    for (size_t i = 0; service != NULL && i < service->n_ranges; i++) {
        index_range(draft, key, service, &service->ranges[i]);
    }
}

// Not by the node's addresses, nor by what an external host name resolves to.
static size_t n_indexed_ips(const struct workload *workload) {
    bool is_indexed =
        workload != NULL && !workload->is_host_network && workload->common->hostname[0] == '\0';
    return is_indexed ? workload->n_ips : 0;
}

static void edit_workload(struct snapshot *draft, struct slice key, struct workload *workload) {
    const struct workload *old = pmap_get(&draft->workloads, key);
    index_ips(draft, &draft->workloads_by_ip, old != NULL ? old->ips : NULL, n_indexed_ips(old),
              key, workload, workload != NULL ? workload->ips : NULL, n_indexed_ips(workload),
              order_workloads);
}

void snapshot_set_workload(struct snapshot *draft, struct workload *workload) {
    edit_workload(draft, workload->leaf.key, workload);
    pmap_set(&draft->workloads, workload);
    leaf_unref(workload);
}

void snapshot_del_workload(struct snapshot *draft, const char *uid) {
    edit_workload(draft, slice_str(uid), NULL);
    pmap_del(&draft->workloads, slice_str(uid));
}

static void edit_service(struct snapshot *draft, struct slice key, struct service *service) {
    const struct service *old = pmap_get(&draft->services, key);
    size_t n_old_vips = old != NULL ? old->n_vips : 0;
    size_t n_vips = service != NULL ? service->n_vips : 0;
    index_ips(draft, &draft->services_by_vip, old != NULL ? old->vips : NULL, n_old_vips, key,
              service, service != NULL ? service->vips : NULL, n_vips, order_services);
    index_ranges(draft, key, old, service);
    for (size_t i = 0; old != NULL && i < old->n_ports; i++) {
        uint16_t port = htons(old->ports[i].node_port);
        if (port != 0) {
            index_del(&draft->services_by_node_port, port_key(&port), key);
        }
    }
    if (old != NULL) {
        index_del(&draft->services_by_host, host_key(old), key);
    }
    if (service == NULL) {
        return;
    }
    for (size_t i = 0; i < service->n_ports; i++) {
        uint16_t port = htons(service->ports[i].node_port);
        if (port != 0) {
            index_put(draft, &draft->services_by_node_port, port_key(&port), service,
                      order_services);
        }
    }
    index_put(draft, &draft->services_by_host, host_key(service), service, order_services);
}

void snapshot_set_service(struct snapshot *draft, struct service *service) {
    edit_service(draft, service->leaf.key, service);
    pmap_set(&draft->services, service);
    leaf_unref(service);
}

void snapshot_del_service(struct snapshot *draft, const char *key) {
    edit_service(draft, slice_str(key), NULL);
    pmap_del(&draft->services, slice_str(key));
}

// A policy with a workload selector is found through its workloads.
static bool policy_index_key(const struct policy *policy, struct slice *ret_key) {
    if (policy == NULL || policy->scope == POLICY_WORKLOAD) {
        return false;
    }
    if (policy->scope == POLICY_TARGETED) {
        *ret_key = slice_make(policy->leaf.key.ptr, strlen(policy->ns) + 1); // "ns/", as no name is
        return true;
    }
    *ret_key = policy->scope == POLICY_GLOBAL ? slice_make("", 0) : slice_str(policy->ns);
    return true;
}

static void edit_policy(struct snapshot *draft, struct slice key, struct policy *policy) {
    struct slice index_key;
    if (policy_index_key(pmap_get(&draft->policies, key), &index_key)) {
        index_del(&draft->policies_by_ns, index_key, key);
    }
    if (policy_index_key(policy, &index_key)) {
        index_put(draft, &draft->policies_by_ns, index_key, policy, order_by_key);
    }
}

void snapshot_set_policy(struct snapshot *draft, struct policy *policy) {
    edit_policy(draft, policy->leaf.key, policy);
    pmap_set(&draft->policies, policy);
    leaf_unref(policy);
}

void snapshot_del_policy(struct snapshot *draft, const char *key) {
    edit_policy(draft, slice_str(key), NULL);
    pmap_del(&draft->policies, slice_str(key));
}

void snapshot_set_identity(struct snapshot *draft, struct identity *identity) {
    pmap_set(&draft->identities, identity);
    leaf_unref(identity);
}

void snapshot_del_identity(struct snapshot *draft, const char *spiffe_id) {
    pmap_del(&draft->identities, slice_str(spiffe_id));
}

static void edit_node(struct snapshot *draft, struct slice key, struct node *node) {
    const struct node *old = pmap_get(&draft->nodes, key);
    index_ips(draft, &draft->nodes_by_ip, old != NULL ? old->ips : NULL,
              old != NULL ? old->n_ips : 0, key, node, node != NULL ? node->ips : NULL,
              node != NULL ? node->n_ips : 0, order_by_key);
}

void snapshot_set_node(struct snapshot *draft, struct node *node) {
    edit_node(draft, node->leaf.key, node);
    pmap_set(&draft->nodes, node);
    leaf_unref(node);
}

void snapshot_del_node(struct snapshot *draft, const char *name) {
    edit_node(draft, slice_str(name), NULL);
    pmap_del(&draft->nodes, slice_str(name));
}

void snapshot_set_l7_routes(struct snapshot *draft, struct leaf *leaf) {
    pmap_set(&draft->l7_routes, leaf);
    leaf_unref(leaf);
}

void snapshot_del_l7_routes(struct snapshot *draft, const char *service_key) {
    pmap_del(&draft->l7_routes, slice_str(service_key));
}

void snapshot_set_l7_policy(struct snapshot *draft, struct leaf *leaf) {
    pmap_set(&draft->l7_policies, leaf);
    leaf_unref(leaf);
}

void snapshot_del_l7_policy(struct snapshot *draft, const char *service_key) {
    pmap_del(&draft->l7_policies, slice_str(service_key));
}

void snapshot_set_mesh(struct snapshot *draft, const struct mesh_settings *mesh) {
    struct root *root = root_of(draft);
    settings_unref(root->settings);
    root->settings = settings_new(mesh);
    draft->mesh = &root->settings->mesh;
}
