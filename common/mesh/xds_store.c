// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_store.h"

#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_istiod.h"
#include "common/mesh/builder_locals.h"
#include "common/mesh/xds_store_priv.h"

struct xds_store *xds_store_new(const char *node) {
    struct xds_store *store = xcalloc(1, sizeof(*store));
    store->node = xstrdup(node);
    hmap_init(&store->workloads);
    hmap_init(&store->services);
    hmap_init(&store->policies);
    hmap_init(&store->hosts);
    list_init(&store->dirty_workloads);
    list_init(&store->dirty_services);
    list_init(&store->dirty_policies);
    list_init(&store->bound_workloads);
    list_init(&store->bound_services);
    return store;
}

// ---- services

static struct xservice *find_service(struct xds_store *store, struct slice key) {
    HMAP_EACH_WITH_HASH(pos, &store->services, hash_bytes(key)) {
        struct xservice *service = HMAP_ITEM(pos, struct xservice, by_key);
        if (slice_eq_str(key, service->key)) {
            return service;
        }
    }
    return NULL;
}

static struct xservice *get_service(struct xds_store *store, struct slice key) {
    struct xservice *service = find_service(store, key);
    if (service == NULL) {
        service = xcalloc(1, sizeof(*service) + key.len + 1);
        slice_copy(service->key, key);
        list_init(&service->in_dirty);
        list_init(&service->members);
        list_init(&service->binding.node);
        hmap_insert(&store->services, &service->by_key, hash_bytes(key));
    }
    return service;
}

static void set_service(struct xds_store *store, const struct service *spec) {
    struct xservice *service = get_service(store, spec->leaf.key);
    store->counts[XDS_SERVICE] += service->leaf == NULL;
    leaf_unref(service->leaf);
    service->leaf = service_new(spec);
    if (store->builder != NULL) {
        free(service->protocols);
        service->protocols = xmalloc(spec->n_ports + 1U);
        for (size_t i = 0; i < spec->n_ports; i++) {
            service->protocols[i] = spec->ports[i].app_protocol;
        }
        const char *keys[] = {spec->waypoint, spec->canary};
        xds_binding_set(&service->binding, &store->bound_services, keys);
    }
    xds_store_mark(&store->dirty_services, &service->in_dirty);
}

static void del_service(struct xds_store *store, struct slice key) {
    struct xservice *service = find_service(store, key);
    if (service == NULL || service->leaf == NULL) {
        return;
    }
    store->counts[XDS_SERVICE]--;
    xds_binding_clear(&service->binding);
    leaf_unref(service->leaf);
    service->leaf = NULL;
    xds_store_mark(&store->dirty_services, &service->in_dirty);
}

static const struct xds_port *ports_of(const struct xmember *member) {
    return (const struct xds_port *)(member + member->n_left) + member->first_port;
}

static int by_uid(const void *a, const void *b) {
    const struct xmember *x = *(struct xmember *const *)a, *y = *(struct xmember *const *)b;
    return strcmp((const char *)x->workload->leaf->leaf.key.ptr,
                  (const char *)y->workload->leaf->leaf.key.ptr);
}

// The endpoint's own map, else the service's definition, else, behind an application tunnel, which
// takes any port, the service port itself.
static uint16_t target_port(const struct xmember *member, const struct service_port *port) {
    const struct xds_port *ports = ports_of(member);
    for (uint32_t i = 0; i < member->n_ports; i++) {
        if (ports[i].service_port == port->port && ports[i].target_port != 0) {
            return ports[i].target_port;
        }
    }
    bool is_tunneled = member->workload->leaf->app_tunnel != APP_TUNNEL_ABSENT;
    return port->target_port == 0 && is_tunneled ? port->port : port->target_port;
}

// By uid, whatever the order of arrival; most come in order.
static void sort_members(struct xservice *service, size_t n) {
    if (service->is_sorted) {
        return;
    }
    struct xmember **members = xcalloc(n + 1, sizeof(struct xmember *));
    struct list *pos;
    for (size_t i = 0; (pos = list_pop_front(&service->members)) != NULL; i++) {
        members[i] = LIST_ITEM(pos, struct xmember, in_service);
    }
    qsort(members, n, sizeof(struct xmember *), by_uid);
    for (size_t i = 0; i < n; i++) {
        list_push_back(&service->members, &members[i]->in_service);
    }
    free(members);
    service->is_sorted = true;
}

static void add_member(struct xservice *service, struct xmember *member) {
    if (list_empty(&service->members)) {
        service->is_sorted = true;
    } else {
        const struct xmember *last = LIST_ITEM(service->members.prev, struct xmember, in_service);
        service->is_sorted = service->is_sorted && by_uid(&last, &member) < 0;
    }
    list_push_back(&service->members, &member->in_service);
}

static struct service *join(struct xds_store *store, const struct snapshot *draft,
                            struct xservice *service) {
    struct service spec = *service->leaf;
    const char *keys[] = {spec.waypoint, spec.canary};
    char texts[XDS_BINDINGS][IP_TEXT_MAX];
    size_t n = 0;
    (void)xds_binding_resolve(&service->binding, draft, keys, texts);
    spec.waypoint = keys[0];
    spec.canary = keys[1];
    LIST_EACH(pos, &service->members) {
        n++;
    }
    sort_members(service, n);
    struct endpoint *endpoints = xcalloc(n + 1, sizeof(*endpoints));
    uint16_t *ports = xcalloc(n * spec.n_ports + 1, sizeof(*ports));
    n = 0;
    LIST_EACH(pos, &service->members) {
        const struct xmember *member = LIST_ITEM(pos, struct xmember, in_service);
        struct workload *workload = member->workload->leaf;
        uint16_t *own_ports = &ports[n * spec.n_ports];
        endpoints[n++] = (struct endpoint){
            .workload = workload,
            .ip = workload->n_ips > 0 ? workload->ips[0] : (struct ip){0},
            .target_ports = own_ports,
            .is_ready = workload->is_healthy,
            .weight = workload->capacity,
        };
        for (size_t k = 0; k < spec.n_ports; k++) {
            own_ports[k] = target_port(member, &spec.ports[k]);
        }
    }
    spec.endpoints = endpoints;
    spec.n_endpoints = (uint32_t)n;
    struct service *leaf = store->builder != NULL
                               ? builder_istiod_service(store->builder, &spec, service->protocols)
                               : service_new(&spec);
    free(endpoints);
    free(ports);
    return leaf;
}

// ---- workloads

static struct xworkload *find_workload(struct xds_store *store, struct slice uid) {
    HMAP_EACH_WITH_HASH(pos, &store->workloads, hash_bytes(uid)) {
        struct xworkload *wl = HMAP_ITEM(pos, struct xworkload, by_uid);
        const struct workload *leaf = wl->leaf != NULL ? wl->leaf : wl->published;
        if (slice_eq(leaf->leaf.key, uid)) {
            return wl;
        }
    }
    return NULL;
}

static uint32_t n_members(const struct xworkload *wl) {
    return wl->members != NULL ? wl->members->n_left : 0;
}

static bool same_members(const struct xworkload *wl, const struct xds_resource *resource) {
    uint32_t n = n_members(wl);
    for (uint32_t i = 0; n == resource->n_services && i < n; i++) {
        const struct xmember *old = &wl->members[i];
        const struct xds_membership *new = &resource->services[i];
        if (strcmp(old->service->key, new->service) != 0 || old->n_ports != new->n_ports ||
            (new->n_ports > 0 &&
             memcmp(ports_of(old), new->ports, new->n_ports * sizeof(*new->ports)) != 0)) {
            return false;
        }
    }
    return n == resource->n_services;
}

static void detach(struct xds_store *store, struct xworkload *wl) {
    for (uint32_t i = 0; i < n_members(wl); i++) {
        list_del(&wl->members[i].in_service);
        xds_store_mark(&store->dirty_services, &wl->members[i].service->in_dirty);
    }
    free(wl->members);
    wl->members = NULL;
}

static void attach(struct xds_store *store, struct xworkload *wl,
                   const struct xds_resource *resource) {
    size_t n_ports = 0;
    if (resource->n_services == 0) {
        return;
    }
    for (uint32_t i = 0; i < resource->n_services; i++) {
        n_ports += resource->services[i].n_ports;
    }
    uint32_t n = resource->n_services, first_port = 0;
    wl->members = xmalloc(n * sizeof(*wl->members) + n_ports * sizeof(struct xds_port));
    struct xds_port *ports = (struct xds_port *)&wl->members[n];
    for (uint32_t i = 0; i < n; i++) {
        const struct xds_membership *src = &resource->services[i];
        struct xmember *member = &wl->members[i];
        *member = (struct xmember){.service = get_service(store, slice_str(src->service)),
                                   .workload = wl,
                                   .first_port = first_port,
                                   .n_ports = (uint16_t)src->n_ports,
                                   .n_left = (uint16_t)(n - i)};
        if (src->n_ports > 0) {
            memcpy(&ports[first_port], src->ports, src->n_ports * sizeof(*ports));
        }
        first_port += src->n_ports;
        add_member(member->service, member);
        xds_store_mark(&store->dirty_services, &member->service->in_dirty);
    }
}

static void unbind(struct xworkload *wl) {
    if (wl->special != NULL) {
        xds_binding_clear(&wl->special->binding);
        xds_store_drop_special(wl);
    }
}

// With a builder.
static void set_bound(struct xds_store *store, struct xworkload *wl, const char *waypoint) {
    const char *keys[] = {waypoint, NULL};
    xds_binding_set(&xds_store_special(wl)->binding, &store->bound_workloads, keys);
    xds_store_drop_special(wl);
}

static void set_workload(struct xds_store *store, const struct xds_resource *resource) {
    struct workload spec = resource->workload;
    struct xworkload *wl = find_workload(store, spec.leaf.key);
    bool is_new = wl == NULL;
    if (is_new) {
        wl = xcalloc(1, sizeof(*wl));
        list_init(&wl->in_dirty);
    }
    const char *hostname = spec.common->hostname;
    bool is_host = hostname != NULL && hostname[0] != '\0' && spec.n_ips == 0;
    xds_store_set_host(store, wl, is_host ? hostname : NULL);
    if (is_host) {
        spec.ips = wl->special->host->ips;
        spec.n_ips = (uint16_t)wl->special->host->n_ips;
    }
    store->counts[XDS_WORKLOAD] += wl->leaf == NULL;
    const struct xworkload *like = wl->leaf != NULL ? wl : store->last_set;
    struct workload *leaf = workload_new_like(&spec, like != NULL ? like->leaf : NULL);
    leaf_unref(wl->leaf);
    wl->leaf = leaf;
    store->last_set = wl;
    if (store->builder != NULL) {
        set_bound(store, wl, spec.common->waypoint);
    }
    if (is_new) {
        hmap_insert(&store->workloads, &wl->by_uid, hash_bytes(spec.leaf.key));
    }
    if (!same_members(wl, resource)) {
        detach(store, wl);
        attach(store, wl, resource);
    }
    xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
}

static void workload_free(struct xds_store *store, struct xworkload *wl) {
    unbind(wl);
    hmap_remove(&store->workloads, &wl->by_uid);
    list_del(&wl->in_dirty);
    leaf_unref(wl->leaf);
    leaf_unref(wl->published);
    free(wl);
}

static void del_workload(struct xds_store *store, struct slice uid) {
    struct xworkload *wl = find_workload(store, uid);
    if (wl == NULL || wl->leaf == NULL) {
        return;
    }
    store->counts[XDS_WORKLOAD]--;
    unbind(wl);
    store->last_set = store->last_set == wl ? NULL : store->last_set;
    xds_store_set_host(store, wl, NULL);
    detach(store, wl);
    if (wl->published == NULL) { // it came and went within one commit
        workload_free(store, wl);
        return;
    }
    leaf_unref(wl->leaf);
    wl->leaf = NULL;
    xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
}

// ---- policies

static struct xpolicy *find_policy(struct xds_store *store, struct slice key) {
    HMAP_EACH_WITH_HASH(pos, &store->policies, hash_bytes(key)) {
        struct xpolicy *policy = HMAP_ITEM(pos, struct xpolicy, by_key);
        if (slice_eq_str(key, policy->key)) {
            return policy;
        }
    }
    return NULL;
}

static void set_policy(struct xds_store *store, const struct policy *spec) {
    struct slice key = spec->leaf.key;
    struct xpolicy *policy = find_policy(store, key);
    if (policy == NULL) {
        policy = xcalloc(1, sizeof(*policy) + key.len + 1);
        slice_copy(policy->key, key);
        list_init(&policy->in_dirty);
        hmap_insert(&store->policies, &policy->by_key, hash_bytes(key));
    }
    store->counts[XDS_POLICY] += policy->leaf == NULL;
    leaf_unref(policy->leaf);
    policy->leaf = policy_new(spec);
    xds_store_mark(&store->dirty_policies, &policy->in_dirty);
}

static void del_policy(struct xds_store *store, struct slice key) {
    struct xpolicy *policy = find_policy(store, key);
    if (policy == NULL || policy->leaf == NULL) {
        return;
    }
    store->counts[XDS_POLICY]--;
    leaf_unref(policy->leaf);
    policy->leaf = NULL;
    xds_store_mark(&store->dirty_policies, &policy->in_dirty);
}

// ---- all

void xds_store_set(struct xds_store *store, const struct xds_resource *resource) {
    switch ((enum xds_kind)resource->kind) {
    case XDS_WORKLOAD:
        set_workload(store, resource);
        break;
    case XDS_SERVICE:
        set_service(store, &resource->service);
        break;
    case XDS_POLICY:
        set_policy(store, &resource->policy);
        break;
    }
}

void xds_store_del(struct xds_store *store, enum xds_type type, struct slice name) {
    if (type == XDS_AUTHORIZATION) {
        del_policy(store, name);
        return;
    }
    del_workload(store, name); // a name does not tell which of the two it is
    del_service(store, name);
}

size_t xds_store_count(const struct xds_store *store, enum xds_kind kind) {
    return store->counts[kind];
}

// What objects add: what was there is what istiod said, whatever was added to it before.
static void add_to_workload(struct xds_store *store, const struct snapshot *draft,
                            struct xworkload *wl) {
    const char *keys[] = {wl->leaf->common->waypoint, NULL};
    char texts[XDS_BINDINGS][IP_TEXT_MAX];
    if (wl->special != NULL && xds_binding_resolve(&wl->special->binding, draft, keys, texts)) {
        struct workload_common common = *wl->leaf->common;
        struct workload spec = *wl->leaf;
        common.waypoint = keys[0];
        spec.common = &common;
        struct workload *bound = workload_new_like(&spec, wl->leaf);
        leaf_unref(wl->leaf);
        wl->leaf = bound;
    }
    struct workload *leaf = builder_istiod_workload(store->builder, wl->leaf);
    leaf_unref(wl->leaf);
    wl->leaf = leaf;
}

static void commit_workload(struct xds_store *store, struct snapshot *draft, struct xworkload *wl,
                            struct builder_locals *locals, struct builder_changes *changes) {
    if (wl->leaf != NULL && store->builder != NULL) {
        add_to_workload(store, draft, wl);
    }
    if (wl->leaf != NULL && wl->published != NULL && workload_equal(wl->leaf, wl->published)) {
        leaf_unref(wl->leaf);
        wl->leaf = wl->published;
        leaf_ref(wl->leaf);
        return;
    }
    changes->workloads_changed = true;
    if (wl->leaf != NULL && wl->published != NULL &&
        !workload_same_policies(wl->leaf, wl->published)) {
        changes->policies_changed = true;
    }
    builder_locals_note(locals, store->node, wl->published, wl->leaf);
    if (wl->leaf == NULL) {
        snapshot_del_workload(draft, (const char *)wl->published->leaf.key.ptr);
        workload_free(store, wl);
        return;
    }
    for (uint32_t i = 0; i < n_members(wl); i++) {
        xds_store_mark(&store->dirty_services, &wl->members[i].service->in_dirty);
    }
    leaf_unref(wl->published);
    wl->published = wl->leaf;
    leaf_ref(wl->leaf); // as published
    leaf_ref(wl->leaf); // the draft's
    snapshot_set_workload(draft, wl->leaf);
}

static void commit_service(struct xds_store *store, struct snapshot *draft,
                           struct xservice *service, struct builder_changes *changes) {
    if (service->leaf != NULL) {
        struct service *leaf = join(store, draft, service);
        leaf_unref(service->leaf);
        service->leaf = leaf;
        service->is_published = changes->services_changed = true;
        leaf_ref(leaf);
        snapshot_set_service(draft, leaf);
        if (store->builder != NULL) {
            builder_istiod_published(store->builder, leaf);
        }
        return;
    }
    if (service->is_published) {
        snapshot_del_service(draft, service->key);
        service->is_published = false;
        changes->services_changed = true;
        if (store->builder != NULL) {
            builder_istiod_gone(store->builder, service->key);
        }
    }
    if (list_empty(&service->members)) {
        hmap_remove(&store->services, &service->by_key);
        free(service->protocols);
        free(service);
    }
}

static void commit_policy(struct xds_store *store, struct snapshot *draft, struct xpolicy *policy,
                          struct builder_changes *changes) {
    bool is_builders =
        store->builder != NULL && builder_istiod_has_policy(store->builder, policy->key);
    changes->policies_changed = true;
    if (policy->leaf != NULL && !is_builders) {
        leaf_ref(policy->leaf);
        snapshot_set_policy(draft, policy->leaf);
    } else if (!is_builders) {
        snapshot_del_policy(draft, policy->key);
    }
    if (policy->leaf != NULL) {
        return;
    }
    hmap_remove(&store->policies, &policy->by_key);
    free(policy);
}

// What is bound by an address that is another service's now. True: something is.
static bool mark_rebound(struct xds_store *store, const struct snapshot *draft) {
    char texts[XDS_BINDINGS][IP_TEXT_MAX];
    bool is_any = false;
    LIST_EACH(pos, &store->bound_workloads) {
        struct xspecial *special =
            CONTAINER_OF(LIST_ITEM(pos, struct xds_binding, node), struct xspecial, binding);
        struct xworkload *wl = special->workload;
        const char *keys[] = {wl->leaf->common->waypoint, NULL};
        if (xds_binding_resolve(&special->binding, draft, keys, texts)) {
            xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
            is_any = true;
        }
    }
    LIST_EACH(pos, &store->bound_services) {
        struct xservice *service =
            CONTAINER_OF(LIST_ITEM(pos, struct xds_binding, node), struct xservice, binding);
        const char *keys[] = {service->leaf->waypoint, service->leaf->canary};
        if (xds_binding_resolve(&service->binding, draft, keys, texts)) {
            xds_store_mark(&store->dirty_services, &service->in_dirty);
            is_any = true;
        }
    }
    return is_any;
}

void xds_store_merge(struct xds_store *store, struct snapshot *draft,
                     struct builder_changes *ret_changes) {
    struct builder_changes changes = {0};
    struct builder_locals locals = {0};
    struct list *pos;
    while ((pos = list_pop_front(&store->dirty_policies)) != NULL) {
        commit_policy(store, draft, LIST_ITEM(pos, struct xpolicy, in_dirty), &changes);
    }
    do {
        while ((pos = list_pop_front(&store->dirty_workloads)) != NULL) {
            commit_workload(store, draft, LIST_ITEM(pos, struct xworkload, in_dirty), &locals,
                            &changes);
        }
        while ((pos = list_pop_front(&store->dirty_services)) != NULL) {
            commit_service(store, draft, LIST_ITEM(pos, struct xservice, in_dirty), &changes);
        }
    } while (mark_rebound(store, draft)); // at most once: addresses are as they will be
    changes.locals = locals.items;
    changes.n_locals = locals.n;
    *ret_changes = changes;
}

void xds_store_commit(struct xds_store *store, struct builder_changes *ret_changes) {
    struct snapshot *draft = snapshot_draft();
    struct builder_changes changes;
    CHECK(store->builder == NULL);
    xds_store_merge(store, draft, &changes);
    if (changes.policies_changed || changes.workloads_changed || changes.services_changed) {
        snapshot_publish(draft);
        changes.generation = draft->generation;
    } else {
        snapshot_drop(draft);
    }
    *ret_changes = changes;
}

void xds_store_set_builder(struct xds_store *store, struct mesh_builder *builder) {
    store->builder = builder;
}

void xds_store_touch_workload(struct xds_store *store, const char *uid) {
    struct xworkload *wl = find_workload(store, slice_str(uid));
    if (wl != NULL) {
        xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
    }
}

void xds_store_touch_service(struct xds_store *store, const char *key, bool with_endpoints) {
    struct xservice *service = find_service(store, slice_str(key));
    if (service == NULL) {
        return;
    }
    xds_store_mark(&store->dirty_services, &service->in_dirty);
    if (with_endpoints) {
        LIST_EACH(pos, &service->members) {
            xds_store_mark(&store->dirty_workloads,
                           &LIST_ITEM(pos, struct xmember, in_service)->workload->in_dirty);
        }
    }
}

void xds_store_touch_policy(struct xds_store *store, const char *key) {
    struct xpolicy *policy = find_policy(store, slice_str(key));
    if (policy != NULL) {
        xds_store_mark(&store->dirty_policies, &policy->in_dirty);
    }
}

void xds_store_free(struct xds_store *store) {
    if (store == NULL) {
        return;
    }
    HMAP_EACH_SAFE(pos, &store->workloads) {
        struct xworkload *wl = HMAP_ITEM(pos, struct xworkload, by_uid);
        xds_store_set_host(store, wl, NULL);
        free(wl->members);
        workload_free(store, wl);
    }
    HMAP_EACH_SAFE(pos, &store->services) {
        struct xservice *service = HMAP_ITEM(pos, struct xservice, by_key);
        hmap_remove(&store->services, pos);
        leaf_unref(service->leaf);
        free(service->protocols);
        free(service);
    }
    HMAP_EACH_SAFE(pos, &store->policies) {
        struct xpolicy *policy = HMAP_ITEM(pos, struct xpolicy, by_key);
        hmap_remove(&store->policies, pos);
        leaf_unref(policy->leaf);
        free(policy);
    }
    hmap_fini(&store->workloads);
    hmap_fini(&store->services);
    hmap_fini(&store->policies);
    hmap_fini(&store->hosts);
    free(store->node);
    free(store);
}
