// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/builder_istiod.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_l7_priv.h"
#include "common/mesh/kobj_l7.h"
#include "common/mesh/xds_store.h"

void builder_set_istiod(struct mesh_builder *b, struct xds_store *store) {
    CHECK(hmap_first(&b->records) == NULL);
    b->istiod = store;
    xds_store_set_builder(store, b);
}

// ---- records that stand for istiod's services: there is no object in them, they are in no list of
// their namespace, and never marked

struct record *builder_istiod_record(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                     const char *name) {
    HMAP_EACH_WITH_HASH(pos, &b->istiod_services, record_hash(kind, ns, name)) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (record->kind == kind && strcmp(record->name, name) == 0 &&
            strcmp(record->ns->name, ns) == 0) {
            return record;
        }
    }
    return NULL;
}

// A Kubernetes Service is the one whose host is made of its name.
static enum kobj_kind kind_of(const struct mesh_builder *b, const struct service *leaf) {
    char host[512];
    int len =
        snprintf(host, sizeof(host), "%s.%s.svc.%s", leaf->name, leaf->ns, b->mesh.cluster_domain);
    return len < (int)sizeof(host) && strcmp(leaf->hostname, host) == 0 ? KOBJ_SERVICE
                                                                        : KOBJ_SERVICE_ENTRY;
}

static struct bsvc *find_service(const struct mesh_builder *b, const char *key) {
    uint64_t hash = hash_bytes(slice_str(strchr(key, '/') + 1));
    HMAP_EACH_WITH_HASH(pos, &b->services, hash) {
        struct bsvc *service = HMAP_ITEM(pos, struct bsvc, by_host);
        if (strcmp(service->key, key) == 0) {
            return service;
        }
    }
    return NULL;
}

static void drop_service(struct mesh_builder *b, struct bsvc *service) {
    struct record *record = service->record;
    builder_l7_gone(b, service);
    hmap_remove(&b->services, &service->by_host);
    list_del(&service->in_record);
    free(service->key);
    free(service);
    if (list_empty(&record->more->services)) {
        record_free(b, record);
    }
}

void builder_istiod_fini(struct mesh_builder *b) {
    struct hmap_node *node;
    while ((node = hmap_first(&b->istiod_services)) != NULL) {
        const struct record *record = HMAP_ITEM(node, struct record, by_key);
        drop_service(b, LIST_ITEM(record->more->services.next, struct bsvc, in_record));
    }
    hmap_fini(&b->istiod_services);
}

static struct bsvc *new_service(struct mesh_builder *b, const struct service *leaf) {
    enum kobj_kind kind = kind_of(b, leaf);
    struct record *record = builder_istiod_record(b, kind, leaf->ns, leaf->name);
    if (record == NULL) {
        record = record_new_istiod(b, kind, leaf->ns, leaf->name);
    }
    struct bsvc *service = xcalloc(1, sizeof(*service));
    service->record = record;
    service->key = slice_dup(leaf->leaf.key);
    list_init(&service->in_l7);
    list_push_back(&builder_more(record)->services, &service->in_record);
    hmap_insert(&b->services, &service->by_host, hash_bytes(slice_str(leaf->hostname)));
    return service;
}

void builder_istiod_published(struct mesh_builder *b, const struct service *leaf) {
    struct bsvc *service = find_service(b, (const char *)leaf->leaf.key.ptr);
    if (service != NULL && (service->record->kind != kind_of(b, leaf) ||
                            strcmp(service->record->name, leaf->name) != 0)) {
        drop_service(b, service); // the host is another object's now
        service = NULL;
    }
    if (service == NULL) {
        service = new_service(b, leaf);
    }
    builder_bind_key(b, service->record, leaf->waypoint);
    builder_l7_built(b, service, leaf);
}

void builder_istiod_gone(struct mesh_builder *b, const char *key) {
    struct bsvc *service = find_service(b, key);
    if (service != NULL) {
        drop_service(b, service);
    }
}

// ---- workloads

struct uid {
    enum kobj_kind kind;
    char ns[256], name[256];
    const char *rest; // of an endpoint of a ServiceEntry: its address
};

static bool take_part(const char **at, char *part, size_t size) {
    size_t len = strcspn(*at, "/");
    bool fits = len > 0 && len < size;
    snprintf(part, size, "%.*s", fits ? (int)len : 0, *at);
    *at += len + ((*at)[len] == '/');
    return fits;
}

// "CLUSTER/GROUP/KIND/NS/NAME[/ADDRESS]". False: of no object that we could have.
static bool split_uid(const struct mesh_builder *b, const char *text, struct uid *ret_uid) {
    static const struct {
        const char *text;
        enum kobj_kind kind;
    } kinds[] = {{"/Pod/", KOBJ_POD},
                 {"networking.istio.io/WorkloadEntry/", KOBJ_WORKLOAD_ENTRY},
                 {"networking.istio.io/ServiceEntry/", KOBJ_SERVICE_ENTRY}};
    size_t len = strlen(b->mesh.cluster_id);
    if (strncmp(text, b->mesh.cluster_id, len) != 0 || text[len] != '/') {
        return false;
    }
    const char *at = text + len + 1;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t n = strlen(kinds[i].text);
        if (strncmp(at, kinds[i].text, n) == 0) {
            const char *rest = at + n;
            ret_uid->kind = kinds[i].kind;
            bool is_good = take_part(&rest, ret_uid->ns, sizeof(ret_uid->ns)) &&
                           take_part(&rest, ret_uid->name, sizeof(ret_uid->name));
            ret_uid->rest = rest;
            return is_good;
        }
    }
    return false;
}

static const struct kobj_map *entry_labels(const struct kobj_service_entry *entry,
                                           const char *address) {
    for (uint32_t i = 0; i < entry->n_endpoints; i++) {
        if (strcmp(entry->endpoints[i].address, address) == 0) {
            return &entry->endpoints[i].labels;
        }
    }
    return NULL;
}

static const struct kobj_map *labels_of(struct mesh_builder *b, const char *uid_text) {
    struct uid uid;
    const struct record *record =
        split_uid(b, uid_text, &uid) ? builder_find(b, uid.kind, uid.ns, uid.name) : NULL;
    if (record == NULL || record->obj == NULL) {
        return NULL;
    }
    return uid.kind == KOBJ_SERVICE_ENTRY ? entry_labels(record->obj->service_entry, uid.rest)
                                          : record_labels(record);
}

static bool same_labels(const struct workload_common *c, const struct kobj_map *labels) {
    size_t n = labels != NULL ? labels->n : 0;
    for (size_t i = 0; c->n_labels == n && i < n; i++) {
        if (strcmp(c->labels[i].key, labels->items[i].key) != 0 ||
            strcmp(c->labels[i].value, labels->items[i].value) != 0) {
            return false;
        }
    }
    return c->n_labels == n;
}

struct workload *builder_istiod_workload(struct mesh_builder *b, struct workload *leaf) {
    const struct kobj_map *labels = labels_of(b, (const char *)leaf->leaf.key.ptr);
    if (same_labels(leaf->common, labels)) {
        leaf_ref(leaf);
        return leaf;
    }
    size_t n = labels != NULL ? MIN(labels->n, UINT16_MAX) : 0;
    struct label *list = xcalloc(n + 1, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        list[i] = (struct label){labels->items[i].key, labels->items[i].value};
    }
    struct workload_common common = *leaf->common;
    struct workload spec = *leaf;
    spec.common = &common;
    common.labels = list;
    common.n_labels = (uint16_t)n;
    const char *app = labels != NULL ? kobj_map_get(labels, "app") : NULL;
    const char *version = labels != NULL ? kobj_map_get(labels, "version") : NULL;
    common.own_names &= (uint8_t)~WORKLOAD_OWN_APP;
    common.app = app != NULL ? app : workload_canonical_name(leaf); // as istiod's leaf has it
    common.version = version != NULL ? version : common.canonical_revision;
    struct workload *merged = workload_new_like(&spec, leaf);
    free(list);
    return merged;
}

// ---- services

static void add_from_service(struct service_port *port, const struct kobj_service *src) {
    for (uint32_t i = 0; i < src->n_ports; i++) {
        const struct kobj_service_port *p = &src->ports[i];
        if (p->port != port->port || p->protocol != PROTOCOL_TCP) {
            continue;
        }
        uint8_t protocol = builder_app_protocol(p->app_protocol, p->name);
        port->name = p->name;
        port->app_protocol = protocol != APP_UNKNOWN ? protocol : port->app_protocol;
        return;
    }
}

static void add_from_entry(struct service_port *port, const struct kobj_service_entry *src) {
    for (uint32_t i = 0; i < src->n_ports; i++) {
        const struct kobj_se_port *p = &src->ports[i];
        if (p->port != port->port) {
            continue;
        }
        uint8_t protocol = builder_app_protocol(p->protocol, p->name);
        port->name = p->name;
        port->app_protocol = protocol != APP_UNKNOWN ? protocol : port->app_protocol;
        return;
    }
}

struct service *builder_istiod_service(struct mesh_builder *b, const struct service *from,
                                       const uint8_t *protocols) {
    struct service spec = *from;
    enum kobj_kind kind = kind_of(b, from);
    const struct record *record = builder_find(b, kind, from->ns, from->name);
    const struct kobj *obj = record != NULL ? record->obj : NULL;
    struct service_port *ports = xcalloc(spec.n_ports + 1U, sizeof(*ports));
    for (size_t i = 0; i < spec.n_ports; i++) {
        ports[i] = spec.ports[i];
        ports[i].name = "";
        ports[i].app_protocol = protocols[i];
        if (obj != NULL && kind == KOBJ_SERVICE) {
            add_from_service(&ports[i], obj->service);
        } else if (obj != NULL) {
            add_from_entry(&ports[i], obj->service_entry);
        }
    }
    spec.ports = ports;
    // Older istiods do not say it, and policies that target a Service go by it.
    spec.is_canonical = from->is_canonical || kind == KOBJ_SERVICE;
    bool is_entry = obj != NULL && kind == KOBJ_SERVICE_ENTRY;
    spec.is_external = is_entry && obj->service_entry->location == SE_MESH_EXTERNAL;
    spec.is_dynamic = spec.is_external && obj->service_entry->resolution == SE_DYNAMIC_DNS;
    spec.is_waypoint = spec.tells_client = false;
    spec.gateway_class = NULL;
    builder_set_waypoint(b, from->ns, from->name, &spec);
    struct service *leaf = service_new(&spec);
    free(ports);
    return leaf;
}

bool builder_istiod_has_policy(struct mesh_builder *b, const char *key) {
    const char *at = key;
    char ns[256];
    const struct record *record =
        take_part(&at, ns, sizeof(ns)) ? builder_find(b, KOBJ_AUTHORIZATION_POLICY, ns, at) : NULL;
    return record != NULL && record->obj != NULL && record->obj->authz->n_targets > 0;
}

// ---- touches

static void touch_services(struct mesh_builder *b, const struct record *object) {
    const struct record *record =
        builder_istiod_record(b, (enum kobj_kind)object->kind, object->ns->name, object->name);
    if (record == NULL) {
        return;
    }
    LIST_EACH(pos, &record->more->services) {
        xds_store_touch_service(b->istiod, LIST_ITEM(pos, struct bsvc, in_record)->key,
                                object->kind == KOBJ_SERVICE_ENTRY);
    }
}

static void touch_workload(struct mesh_builder *b, const struct record *object) {
    const char *kind = object->kind == KOBJ_POD ? "/Pod" : "networking.istio.io/WorkloadEntry";
    char *uid = xasprintf("%s/%s/%s/%s", b->mesh.cluster_id, kind, object->ns->name, object->name);
    xds_store_touch_workload(b->istiod, uid);
    free(uid);
}

static void touch_policy(struct mesh_builder *b, struct record *object) {
    char *key = xasprintf("%s/%s", object->ns->name, object->name);
    bool is_own = builder_istiod_has_policy(b, key);
    if (is_own) {
        builder_build_policy(b, object);
    } else {
        builder_put_policy(b, object, NULL);
    }
    xds_store_touch_policy(b->istiod, key);
    free(key);
}

void builder_istiod_changed(struct mesh_builder *b, struct record *object) {
    switch ((enum kobj_kind)object->kind) {
    case KOBJ_POD:
    case KOBJ_WORKLOAD_ENTRY:
        touch_workload(b, object);
        break;
    case KOBJ_SERVICE:
    case KOBJ_SERVICE_ENTRY:
        touch_services(b, object);
        break;
    case KOBJ_AUTHORIZATION_POLICY:
        touch_policy(b, object);
        break;
    default: // istiod made its own of them
        break;
    }
}

static bool is_address(const struct kobj *gateway, const char *host) {
    for (uint32_t i = 0; gateway != NULL && i < gateway->gateway->n_status_addresses; i++) {
        if (strcmp(gateway->gateway->status_addresses[i].value, host) == 0) {
            return true;
        }
    }
    return false;
}

void builder_istiod_gateway_changed(struct mesh_builder *b, const struct record *gateway,
                                    const struct kobj *old) {
    HMAP_EACH_SAFE(pos, &b->services) {
        const struct bsvc *service = HMAP_ITEM(pos, struct bsvc, by_host);
        const struct record_more *more = service->record->more;
        bool is_bound = more->gateway != NULL && strcmp(more->gateway, gateway->name) == 0 &&
                        strcmp(more->gateway_ns, gateway->ns->name) == 0;
        bool is_own =
            service->record->ns == gateway->ns &&
            (strcmp(service->record->name, gateway->name) == 0 ||
             is_address(old, bsvc_host(service)) || is_address(gateway->obj, bsvc_host(service)));
        if (is_bound || is_own) {
            xds_store_touch_service(b->istiod, service->key, false);
        }
    }
}
