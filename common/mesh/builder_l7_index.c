// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_l7_priv.h"
#include "common/mesh/kobj_l7.h"

// One entry of the table. Keys: "h/HOST", "v/NS/DELEGATE", "t/KIND/NS/NAME".
struct l7_ref {
    struct hmap_node by_key;
    struct list in_record;
    struct record *record;
    char key[];
};

void l7_list_fini(struct l7_list *list) {
    free(list->items);
    free(list->hosts);
}

static void list_add(struct l7_list *list, struct record *record, const char *host) {
    for (size_t i = 0; i < list->n; i++) {
        if (list->items[i] == record) {
            return; // a short name and the same in full
        }
    }
    if (list->n == list->cap) {
        list->cap = MAX(8, list->cap * 2);
        list->items = xrealloc(list->items, list->cap * sizeof(struct record *));
        list->hosts = xrealloc(list->hosts, list->cap * sizeof(const char *));
    }
    list->items[list->n] = record;
    list->hosts[list->n++] = host;
}

// Table

static void add_ref(struct mesh_builder *b, struct record *record, const char *key) {
    LIST_EACH(pos, &record->more->l7_refs) {
        if (strcmp(LIST_ITEM(pos, struct l7_ref, in_record)->key, key) == 0) {
            return;
        }
    }
    size_t len = strlen(key);
    struct l7_ref *ref = xmalloc(sizeof(*ref) + len + 1);
    *ref = (struct l7_ref){.record = record};
    memcpy(ref->key, key, len + 1);
    list_push_back(&builder_more(record)->l7_refs, &ref->in_record);
    hmap_insert(&b->l7_refs, &ref->by_key, hash_bytes(slice_make(key, len)));
}

// A name without a dot is a service of the object's own namespace.
static void add_host(struct mesh_builder *b, struct record *record, const char *host) {
    char key[L7_HOST_MAX];
    int n = strchr(host, '.') == NULL && host[0] != '*'
                ? snprintf(key, sizeof(key), "h/%s.%s.svc.%s", host, record->ns->name,
                           b->defaults.cluster_domain) // b->mesh is set at the first commit
                : snprintf(key, sizeof(key), "h/%s", host);
    if (n >= (int)sizeof(key)) {
        return; // no service can have it: names of hosts have at most 253 bytes
    }
    for (char *c = key; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    if (n > 3 && key[n - 1] == '.') {
        key[n - 1] = '\0'; // the root label
    }
    add_ref(b, record, key);
}

static void add_named(struct mesh_builder *b, struct record *record, const char *kind,
                      const char *ns, const char *name) {
    char key[L7_HOST_MAX];
    if (snprintf(key, sizeof(key), "t/%s/%s/%s", kind, ns, name) < (int)sizeof(key)) {
        add_ref(b, record, key);
    }
}

static void index_virtual_service(struct mesh_builder *b, struct record *record) {
    const struct kobj_virtual_service *vs = record->obj->virtual_service;
    for (uint32_t i = 0; i < vs->n_hosts; i++) {
        add_host(b, record, vs->hosts[i]);
    }
    for (uint32_t i = 0; i < vs->n_http; i++) {
        const struct kobj_vs_http *http = &vs->http[i];
        char key[L7_HOST_MAX];
        if (http->delegate_name[0] == '\0') {
            continue;
        }
        const char *ns = http->delegate_ns[0] != '\0' ? http->delegate_ns : record->ns->name;
        if (snprintf(key, sizeof(key), "v/%s/%s", ns, http->delegate_name) < (int)sizeof(key)) {
            add_ref(b, record, key);
        }
    }
}

static void index_route(struct mesh_builder *b, struct record *record) {
    const struct kobj_route *route = record->obj->route;
    for (uint32_t i = 0; i < route->n_parents; i++) {
        const struct kobj_parent_ref *parent = &route->parents[i];
        const char *group = strcmp(parent->group, "core") == 0 ? "" : parent->group;
        bool is_service = strcmp(parent->kind, "Service") == 0 && group[0] == '\0';
        bool is_entry =
            strcmp(parent->kind, "ServiceEntry") == 0 && strcmp(group, "networking.istio.io") == 0;
        // A route for a service of another namespace belongs to the consumers.
        bool is_here = parent->ns[0] == '\0' || strcmp(parent->ns, record->ns->name) == 0;
        if ((is_service || is_entry) && is_here) {
            add_named(b, record, parent->kind, record->ns->name, parent->name);
        }
    }
}

// That routes use Services of another namespace: its ReferenceGrants count.
static void index_backend(struct mesh_builder *b, struct record *record,
                          const struct kobj_backend *backend) {
    char key[L7_HOST_MAX];
    if (backend->ns[0] != '\0' && strcmp(backend->ns, record->ns->name) != 0 &&
        snprintf(key, sizeof(key), "g/%s", backend->ns) < (int)sizeof(key)) {
        add_ref(b, record, key);
    }
}

static void index_backends(struct mesh_builder *b, struct record *record) {
    const struct kobj_route *route = record->obj->route;
    for (uint32_t i = 0; i < route->n_rules; i++) {
        const struct kobj_route_rule *rule = &route->rules[i];
        for (uint32_t k = 0; k < rule->n_backends; k++) {
            index_backend(b, record, &rule->backends[k]);
        }
        for (uint32_t k = 0; k < rule->n_filters; k++) {
            if (rule->filters[k].type == FILTER_MIRROR) {
                index_backend(b, record, &rule->filters[k].mirror->backend);
            }
        }
    }
}

static void index_authz(struct mesh_builder *b, struct record *record) {
    const struct kobj_authz_policy *policy = record->obj->authz;
    for (uint32_t i = 0; i < policy->n_targets; i++) {
        const struct kobj_policy_target *target = &policy->targets[i];
        add_named(b, record, target->kind, record->ns->name, target->name);
    }
}

void builder_l7_index(struct mesh_builder *b, struct record *record) {
    LIST_EACH_SAFE(pos, &record->more->l7_refs) {
        struct l7_ref *ref = LIST_ITEM(pos, struct l7_ref, in_record);
        hmap_remove(&b->l7_refs, &ref->by_key);
        list_del(&ref->in_record);
        free(ref);
    }
    if (record->obj == NULL) {
        return;
    }
    switch ((enum kobj_kind)record->kind) {
    case KOBJ_VIRTUAL_SERVICE:
        index_virtual_service(b, record);
        break;
    case KOBJ_DESTINATION_RULE:
        add_host(b, record, record->obj->destination_rule->host);
        break;
    case KOBJ_HTTP_ROUTE:
    case KOBJ_GRPC_ROUTE:
        index_route(b, record);
        index_backends(b, record);
        break;
    case KOBJ_AUTHORIZATION_POLICY:
        index_authz(b, record);
        break;
    default:
        break;
    }
}

// Orders

static int by_age(const struct record *a, const struct record *b) {
    int diff = strcmp(a->obj->meta.creation_timestamp, b->obj->meta.creation_timestamp);
    diff = diff != 0 ? diff : strcmp(a->name, b->name);
    diff = diff != 0 ? diff : strcmp(a->ns->name, b->ns->name);
    return diff != 0 ? diff : a->kind - b->kind;
}

static int by_age_item(const void *a, const void *b) {
    return by_age(*(struct record *const *)a, *(struct record *const *)b);
}

static int by_key_item(const void *a, const void *b) {
    const struct record *x = *(struct record *const *)a, *y = *(struct record *const *)b;
    int diff = strcmp(x->ns->name, y->ns->name);
    return diff != 0 ? diff : strcmp(x->name, y->name);
}

static void sort_from(struct l7_list *list, size_t first,
                      int (*order)(const void *, const void *)) {
    if (list->n > first + 1) { // items of one host: list->hosts are the same
        qsort(list->items + first, list->n - first, sizeof(struct record *), order);
    }
}

// Which objects

static bool is_exported(const char *const *to, uint32_t n, const char *own, const char *a,
                        const char *b) {
    for (uint32_t i = 0; i < n; i++) {
        const char *ns = strcmp(to[i], ".") == 0 ? own : to[i];
        if (strcmp(ns, "*") == 0 || strcmp(ns, a) == 0 || strcmp(ns, b) == 0) {
            return true;
        }
    }
    return n == 0;
}

// The hosts that cover `host`, the most specific one first: a.b.c, *.b.c, *.c, *.
static bool next_cover(const char *host, size_t *at, char key[L7_HOST_MAX]) {
    size_t len = strlen(host);
    if (*at == 0) {
        *at = 1;
        return snprintf(key, L7_HOST_MAX, "h/%s", host) < L7_HOST_MAX;
    }
    if (*at > len) {
        return false;
    }
    const char *dot = strchr(host + *at, '.');
    if (*at == 1 && host[0] == '*' && dot == host + 1) {
        dot = strchr(host + 2, '.'); // *.b.c itself was the first
    }
    if (dot == NULL) {
        *at = len + 1;
        return snprintf(key, L7_HOST_MAX, "h/*") < L7_HOST_MAX;
    }
    *at = (size_t)(dot - host) + 1;
    return snprintf(key, L7_HOST_MAX, "h/*%s", dot) < L7_HOST_MAX;
}

static void add_virtual_services(struct mesh_builder *b, const char *key, const char *ns,
                                 const char *proxy_ns, struct l7_list *list) {
    HMAP_EACH_WITH_HASH(pos, &b->l7_refs, hash_bytes(slice_str(key))) {
        const struct l7_ref *ref = HMAP_ITEM(pos, struct l7_ref, by_key);
        struct record *record = ref->record;
        const char *own = record->ns->name;
        if (record->kind != KOBJ_VIRTUAL_SERVICE || strcmp(ref->key, key) != 0 ||
            (strcmp(own, ns) != 0 && strcmp(own, proxy_ns) != 0)) {
            continue;
        }
        const struct kobj_virtual_service *vs = record->obj->virtual_service;
        if (kobj_virtual_service_is_mesh(vs) &&
            is_exported(vs->export_to, vs->n_export_to, own, ns, proxy_ns)) {
            list_add(list, record, ref->key + 2);
        }
    }
}

void builder_l7_virtual_services(struct mesh_builder *b, const char *host, const char *ns,
                                 const char *proxy_ns, struct l7_list *list) {
    char key[L7_HOST_MAX];
    for (size_t at = 0; next_cover(host, &at, key);) {
        size_t first = list->n;
        add_virtual_services(b, key, ns, proxy_ns, list);
        sort_from(list, first, by_age_item);
    }
}

static void add_rules(struct mesh_builder *b, const char *key, const char *space, const char *ns,
                      const char *proxy_ns, struct l7_list *list) {
    HMAP_EACH_WITH_HASH(pos, &b->l7_refs, hash_bytes(slice_str(key))) {
        const struct l7_ref *ref = HMAP_ITEM(pos, struct l7_ref, by_key);
        struct record *record = ref->record;
        if (record->kind != KOBJ_DESTINATION_RULE || strcmp(ref->key, key) != 0 ||
            strcmp(record->ns->name, space) != 0) {
            continue;
        }
        const struct kobj_destination_rule *dr = record->obj->destination_rule;
        if (!dr->has_selector && is_exported(dr->export_to, dr->n_export_to, space, ns, proxy_ns)) {
            list_add(list, record, ref->key + 2);
        }
    }
}

void builder_l7_destination_rules(struct mesh_builder *b, const char *host, const char *ns,
                                  const char *proxy_ns, struct l7_list *list) {
    const char *const spaces[] = {proxy_ns, ns, b->mesh.root_namespace};
    char key[L7_HOST_MAX];
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        for (size_t at = 0; next_cover(host, &at, key);) {
            size_t first = list->n;
            add_rules(b, key, spaces[i], ns, proxy_ns, list);
            if (list->n > first) {
                sort_from(list, first, by_age_item);
                return;
            }
        }
    }
}

static void add_by_target(struct mesh_builder *b, const char *kind, const char *ns,
                          const char *name, bool is_authz, struct l7_list *list) {
    char key[L7_HOST_MAX];
    if (snprintf(key, sizeof(key), "t/%s/%s/%s", kind, ns, name) >= (int)sizeof(key)) {
        return;
    }
    HMAP_EACH_WITH_HASH(pos, &b->l7_refs, hash_bytes(slice_str(key))) {
        const struct l7_ref *ref = HMAP_ITEM(pos, struct l7_ref, by_key);
        if (strcmp(ref->key, key) == 0 &&
            (ref->record->kind == KOBJ_AUTHORIZATION_POLICY) == is_authz) {
            list_add(list, ref->record, NULL);
        }
    }
}

static const char *kind_of(const struct record *service) {
    return service->kind == KOBJ_SERVICE ? "Service" : "ServiceEntry";
}

void builder_l7_routes(struct mesh_builder *b, const struct record *service, struct l7_list *list) {
    size_t first = list->n;
    add_by_target(b, kind_of(service), service->ns->name, service->name, false, list);
    sort_from(list, first, by_age_item);
}

void builder_l7_own_authz(struct mesh_builder *b, const struct record *service,
                          struct l7_list *list) {
    size_t first = list->n;
    add_by_target(b, kind_of(service), service->ns->name, service->name, true, list);
    sort_from(list, first, by_key_item);
}

void builder_l7_authz(struct mesh_builder *b, const struct record *service, struct l7_list *list) {
    size_t first = list->n;
    add_by_target(b, kind_of(service), service->ns->name, service->name, true, list);
    if (service->more->gateway_ns != NULL) {
        const struct record *gateway =
            builder_find(b, KOBJ_GATEWAY, service->more->gateway_ns, service->more->gateway);
        add_by_target(b, "Gateway", service->more->gateway_ns, service->more->gateway, true, list);
        if (gateway != NULL && gateway->obj != NULL) {
            add_by_target(b, "GatewayClass", b->mesh.root_namespace,
                          gateway->obj->gateway->class_name, true, list);
        }
    }
    sort_from(list, first, by_key_item);
}

const struct kobj *builder_l7_delegate(struct mesh_builder *b, const struct kobj *from,
                                       const char *ns, const char *name) {
    const char *space = ns[0] != '\0' ? ns : from->meta.ns;
    const struct record *record = builder_find(b, KOBJ_VIRTUAL_SERVICE, space, name);
    if (record == NULL || record->obj == NULL || record->obj->virtual_service->n_hosts > 0) {
        return NULL;
    }
    const struct kobj_virtual_service *vs = record->obj->virtual_service;
    return is_exported(vs->export_to, vs->n_export_to, space, from->meta.ns, from->meta.ns)
               ? record->obj
               : NULL;
}

static bool grants_from(const struct kobj_reference_grant *grant, const char *kind,
                        const char *ns) {
    for (uint32_t i = 0; i < grant->n_from; i++) {
        const struct kobj_grant_from *from = &grant->from[i];
        if (strcmp(from->group, "gateway.networking.k8s.io") == 0 &&
            strcmp(from->kind, kind) == 0 && strcmp(from->ns, ns) == 0) {
            return true;
        }
    }
    return false;
}

static bool grants_to(const struct kobj_reference_grant *grant, const char *name) {
    for (uint32_t i = 0; i < grant->n_to; i++) {
        const struct kobj_grant_to *to = &grant->to[i];
        if (to->group[0] == '\0' && strcmp(to->kind, "Service") == 0 &&
            (to->name[0] == '\0' || strcmp(to->name, name) == 0)) {
            return true;
        }
    }
    return false;
}

bool builder_is_granted(struct mesh_builder *b, const char *kind, const char *from_ns,
                        const char *ns, const char *name) {
    const struct bns *space = builder_ns(b, ns, false);
    if (space == NULL) {
        return false;
    }
    LIST_EACH(pos, &space->records[KOBJ_REFERENCE_GRANT]) {
        const struct kobj *obj = LIST_ITEM(pos, struct record, in_ns)->obj;
        if (obj != NULL && grants_from(obj->reference_grant, kind, from_ns) &&
            grants_to(obj->reference_grant, name)) {
            return true;
        }
    }
    return false;
}

// Which services

static void touch_record(struct mesh_builder *b, struct record *record, bool is_delegate,
                         l7_touch *touch) {
    LIST_EACH_SAFE(pos, &record->more->services) {
        touch(b, LIST_ITEM(pos, struct bsvc, in_record), is_delegate);
    }
}

static void touch_host(struct mesh_builder *b, const char *host, bool is_delegate,
                       l7_touch *touch) {
    if (host[0] != '*') {
        HMAP_EACH_WITH_HASH(pos, &b->services, hash_bytes(slice_str(host))) {
            struct bsvc *service = HMAP_ITEM(pos, struct bsvc, by_host);
            if (strcmp(bsvc_host(service), host) == 0) {
                touch(b, service, is_delegate);
            }
        }
        return;
    }
    struct slice suffix = slice_str(host + 1);
    HMAP_EACH_SAFE(pos, &b->services) {
        struct bsvc *service = HMAP_ITEM(pos, struct bsvc, by_host);
        if (slice_has_suffix(slice_str(bsvc_host(service)), suffix)) {
            touch(b, service, is_delegate);
        }
    }
}

// "KIND/NS/NAME"
static void touch_target(struct mesh_builder *b, const char *text, bool is_delegate,
                         l7_touch *touch) {
    struct slice kind, ns, rest;
    char space[256];
    if (!slice_split(slice_str(text), '/', &kind, &rest) || !slice_split(rest, '/', &ns, &rest)) {
        return;
    }
    snprintf(space, sizeof(space), "%.*s", (int)ns.len, (const char *)ns.ptr);
    const char *name = (const char *)rest.ptr;
    bool is_gateway = slice_eq_str(kind, "Gateway"), is_class = slice_eq_str(kind, "GatewayClass");
    if (!is_gateway && !is_class) {
        enum kobj_kind of = slice_eq_str(kind, "Service") ? KOBJ_SERVICE : KOBJ_SERVICE_ENTRY;
        struct record *record = b->istiod != NULL ? builder_istiod_record(b, of, space, name)
                                                  : builder_find(b, of, space, name);
        if (record != NULL) {
            touch_record(b, record, is_delegate, touch);
        }
        return;
    }
    HMAP_EACH_SAFE(pos, &b->services) {
        struct bsvc *service = HMAP_ITEM(pos, struct bsvc, by_host);
        const struct record *record = service->record;
        if (record->more->gateway_ns == NULL) {
            continue;
        }
        bool is_bound = is_class || (strcmp(record->more->gateway_ns, space) == 0 &&
                                     strcmp(record->more->gateway, name) == 0);
        if (is_bound) {
            touch(b, service, false);
        }
    }
}

// The services that an object names, by host or as its targets.
static void touch_named(struct mesh_builder *b, const struct record *record, bool is_delegate,
                        l7_touch *touch) {
    LIST_EACH(pos, &record->more->l7_refs) {
        const struct l7_ref *ref = LIST_ITEM(pos, struct l7_ref, in_record);
        if (ref->key[0] == 'h') {
            touch_host(b, ref->key + 2, is_delegate, touch);
        } else if (ref->key[0] == 't') {
            touch_target(b, ref->key + 2, is_delegate, touch);
        }
    }
}

// Those of the objects that stand under `key`.
static void touch_by_way_of(struct mesh_builder *b, const char *key, l7_touch *touch) {
    HMAP_EACH_WITH_HASH(pos, &b->l7_refs, hash_bytes(slice_str(key))) {
        const struct l7_ref *ref = HMAP_ITEM(pos, struct l7_ref, by_key);
        if (strcmp(ref->key, key) == 0) {
            touch_named(b, ref->record, true, touch);
        }
    }
}

// Services whose VirtualServices delegate to it.
static void touch_roots(struct mesh_builder *b, const struct record *delegate, l7_touch *touch) {
    char key[L7_HOST_MAX];
    if (snprintf(key, sizeof(key), "v/%s/%s", delegate->ns->name, delegate->name) <
        (int)sizeof(key)) {
        touch_by_way_of(b, key, touch);
    }
}

// Services whose routes use Services of the namespace.
static void touch_granted(struct mesh_builder *b, const char *ns, l7_touch *touch) {
    char key[L7_HOST_MAX];
    if (snprintf(key, sizeof(key), "g/%s", ns) < (int)sizeof(key)) {
        touch_by_way_of(b, key, touch);
    }
}

void builder_l7_each_touched(struct mesh_builder *b, const struct record *record, l7_touch *touch) {
    touch_named(b, record, false, touch);
    if (record->kind == KOBJ_REFERENCE_GRANT) {
        touch_granted(b, record->ns->name, touch);
    }
    if (record->kind == KOBJ_VIRTUAL_SERVICE) {
        touch_roots(b, record, touch);
    }
}
