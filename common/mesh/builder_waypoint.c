// SPDX-License-Identifier: Apache-2.0
//
// Which waypoint is bound to an object: istio.io/use-waypoint on it or on its namespace, or, where
// the namespace says ztun.io/use-waypoint: auto, the namespace's waypoint for those services that
// have something which L4 does not do.
//
// A waypoint is a Gateway of any class that has an address in its status. One that is named but is
// not (yet) one does not capture anything, as in Istio; that is a problem of the object.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_l7_priv.h"
#include "common/mesh/kobj_l7.h"
#include "common/proto/hbone.h"

struct binding {
    const char *name, *ns; // of the Gateway; name NULL = none
    bool is_own; // by a label of the object itself
    bool is_auto;
};

static const char *ns_label(struct mesh_builder *b, const char *ns, const char *key) {
    const struct kobj *obj = builder_ns_obj(b, ns);
    return obj != NULL ? kobj_map_get(&obj->meta.labels, key) : NULL;
}

bool builder_is_auto_ns(struct mesh_builder *b, const char *ns) {
    const char *value = ns_label(b, ns, "ztun.io/use-waypoint");
    return value != NULL && strcmp(value, "auto") == 0;
}

static bool is_none(const char *name) {
    return name == NULL || name[0] == '\0' || strcmp(name, "none") == 0;
}

// Gateways

static const struct kobj_listener *hbone_listener(const struct kobj_gateway *gateway) {
    for (uint32_t i = 0; i < gateway->n_listeners; i++) {
        const struct kobj_listener *listener = &gateway->listeners[i];
        if (strcmp(listener->protocol, "HBONE") == 0 && listener->port == HBONE_PORT) {
            return listener;
        }
    }
    return NULL;
}

// "service", "workload", "all" or "none": of the Gateway, else of its class.
static const char *traffic_of(struct mesh_builder *b, const struct kobj *gateway) {
    const char *text = kobj_map_get(&gateway->meta.labels, "istio.io/waypoint-for");
    if (text == NULL) {
        const struct record *class =
            builder_find(b, KOBJ_GATEWAY_CLASS, "", gateway->gateway->class_name);
        text = class != NULL && class->obj != NULL
                   ? kobj_map_get(&class->obj->meta.labels, "istio.io/waypoint-for")
                   : NULL;
    }
    return text != NULL ? text : "service";
}

static bool takes(struct mesh_builder *b, const struct kobj *gateway, const char *type) {
    const char *traffic = traffic_of(b, gateway);
    return strcmp(traffic, "all") == 0 || strcmp(traffic, type) == 0;
}

// May objects of `ns` use it? By allowedRoutes of its HBONE listener; without one: its own
// namespace.
static bool is_allowed(struct mesh_builder *b, const struct kobj *gateway, const char *ns) {
    const struct kobj_listener *listener = hbone_listener(gateway->gateway);
    if (strcmp(gateway->meta.ns, ns) == 0) {
        return listener == NULL || listener->routes_from != ROUTES_NONE;
    }
    if (listener == NULL || listener->routes_from != ROUTES_SELECTOR) {
        return listener != NULL && listener->routes_from == ROUTES_ALL;
    }
    const struct kobj *obj = builder_ns_obj(b, ns);
    struct kobj_kv own = {.key = "kubernetes.io/metadata.name", .value = ns};
    struct kobj_map name_only = {.items = &own, .n = 1};
    // The API server puts the name among the labels; files need not.
    return (obj != NULL && kobj_label_selector_matches(listener->selector, &obj->meta.labels)) ||
           kobj_label_selector_matches(listener->selector, &name_only);
}

// Its address as a binding has it: the key of a service, or an IP address; "" when it is not
// programmed.
static const char *address_of(struct mesh_builder *b, const struct record *record, char key[512]) {
    const struct kobj_gateway *gateway = record->obj->gateway;
    const char *ip = NULL;
    int len = 0;
    for (uint32_t i = 0; i < gateway->n_status_addresses && len == 0; i++) {
        const struct kobj_gateway_address *address = &gateway->status_addresses[i];
        if (address->value[0] == '\0') {
            continue;
        }
        if (strcmp(address->type, "Hostname") == 0) {
            len = snprintf(key, 512, "%s/%s", record->ns->name, address->value);
        } else if (strcmp(address->type, "IPAddress") == 0 && ip == NULL) {
            ip = address->value;
        }
    }
    if (len == 0 && ip != NULL) {
        // Of its own Service, if that is there.
        const struct record *service =
            builder_find(b, KOBJ_SERVICE, record->ns->name, record->name);
        len = service != NULL && service->obj != NULL
                  ? snprintf(key, 512, "%s/%s.%s.svc.%s", record->ns->name, record->name,
                             record->ns->name, b->mesh.cluster_domain)
                  : snprintf(key, 512, "%s", ip);
    }
    for (char *c = key; len > 0 && len < 512 && *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return len > 0 && len < 512 ? key : "";
}

// The Gateway of which this is the Service.
static const struct record *gateway_of(struct mesh_builder *b, const char *ns, const char *name,
                                       const char *host) {
    const struct record *same = builder_find(b, KOBJ_GATEWAY, ns, name);
    const struct bns *space = builder_ns(b, ns, false);
    if (same != NULL || space == NULL) {
        return same;
    }
    LIST_EACH(pos, &space->records[KOBJ_GATEWAY]) {
        const struct record *record = LIST_ITEM(pos, struct record, in_ns);
        for (uint32_t i = 0; record->obj != NULL && i < record->obj->gateway->n_status_addresses;
             i++) {
            const struct kobj_gateway_address *address = &record->obj->gateway->status_addresses[i];
            if (strcmp(address->type, "Hostname") == 0 && strcmp(address->value, host) == 0) {
                return record;
            }
        }
    }
    return NULL;
}

void builder_bind_key(struct mesh_builder *b, struct record *record, const char *key) {
    struct slice ns, host, name, rest;
    if (!slice_split(slice_str(key), '/', &ns, &host) || !slice_split(host, '.', &name, &rest)) {
        record_set_gateway(record, NULL, NULL);
        return;
    }
    char *ns_text = slice_dup(ns), *name_text = slice_dup(name);
    const struct record *gateway = gateway_of(b, ns_text, name_text, (const char *)host.ptr);
    // One that is not known (yet) has the name of its Service, as a rule.
    record_set_gateway(record, ns_text, gateway != NULL ? gateway->name : name_text);
    free(ns_text);
    free(name_text);
}

// The Gateway's own, else its class's; NULL: neither has it.
static const char *annotation_of(struct mesh_builder *b, const struct kobj *gateway,
                                 const char *name) {
    const char *own = kobj_map_get(&gateway->meta.annotations, name);
    const struct record *class =
        own == NULL ? builder_find(b, KOBJ_GATEWAY_CLASS, "", gateway->gateway->class_name) : NULL;
    return class != NULL && class->obj != NULL ? kobj_map_get(&class->obj->meta.annotations, name)
                                               : own;
}

void builder_set_waypoint(struct mesh_builder *b, const char *ns, const char *name,
                          struct service *spec) {
    const struct record *gateway = gateway_of(b, ns, name, spec->hostname);
    spec->is_waypoint = gateway != NULL;
    if (gateway == NULL || gateway->obj == NULL) {
        return;
    }
    const char *text =
        annotation_of(b, gateway->obj, "ambient.istio.io/xfcc-include-client-identity");
    spec->tells_client = text != NULL && strcmp(text, "true") == 0;
    spec->gateway_class = gateway->obj->gateway->class_name;
}

// The name of the Gateway whose pod this is, or NULL: a label that its Deployment gives.
static const char *gateway_label(const struct record *pod) {
    return pod->obj != NULL
               ? kobj_map_get(&pod->obj->meta.labels, "gateway.networking.k8s.io/gateway-name")
               : NULL;
}

static bool gateway_label_is(const struct record *pod, const char *name) {
    const char *label = gateway_label(pod);
    return label != NULL && strcmp(label, name) == 0;
}

static const struct record *gateway_of_pod(struct mesh_builder *b, const struct record *pod) {
    const char *name = gateway_label(pod);
    const struct record *gateway =
        name != NULL ? builder_find(b, KOBJ_GATEWAY, pod->ns->name, name) : NULL;
    return gateway != NULL && gateway->obj != NULL ? gateway : NULL;
}

void builder_app_tunnel(struct mesh_builder *b, struct record *pod, struct workload *spec) {
    static const char inbound_binding[] = "ambient.istio.io/waypoint-inbound-binding";
    const struct record *gateway = gateway_of_pod(b, pod);
    const char *text = gateway != NULL ? annotation_of(b, gateway->obj, inbound_binding) : NULL;
    if (text == NULL) {
        return;
    }
    struct slice all = slice_str(text), protocol = all, port_text = {0};
    uint64_t port = 0;
    bool has_port = slice_split(all, '/', &protocol, &port_text);
    bool is_plain = slice_eq_str(protocol, "NONE"), is_proxy = slice_eq_str(protocol, "PROXY");
    if ((!is_plain && !is_proxy) ||
        (has_port && (!slice_to_u64(port_text, UINT16_MAX, &port) || port == 0))) {
        builder_problem(pod, "%s of Gateway %s is '%s': write NONE or PROXY, and '/' with a port",
                        inbound_binding, gateway->name, text);
        return;
    }
    spec->app_tunnel = is_proxy ? APP_TUNNEL_PROXY : APP_TUNNEL_PLAIN;
    spec->app_tunnel_port = (uint16_t)port;
}

// What L4 does not do

// ISTIO_MUTUAL alone is what the mesh does anyway.
static bool is_beyond_l4(const struct kobj_destination_rule *dr) {
    const struct kobj_traffic_policy *p = dr->policy;
    bool has_policy = false;
    for (uint32_t i = 0; i < dr->n_subsets; i++) {
        has_policy = has_policy || dr->subsets[i].policy != NULL;
    }
    if (p == NULL) {
        return has_policy;
    }
    bool is_plain_tls = p->tls == NULL || p->tls->mode == TLS_MODE_ISTIO_MUTUAL;
    return has_policy || !is_plain_tls || p->load_balancer != NULL || p->connection_pool != NULL ||
           p->outlier != NULL || p->n_ports > 0 || p->tunnel != NULL || p->proxy_protocol != 0 ||
           p->retry_budget != NULL;
}

static const struct record *host_needs(struct mesh_builder *b, const struct record *record,
                                       const char *host) {
    const char *ns = record->ns->name;
    const char *space = ns_label(b, ns, "istio.io/use-waypoint-namespace");
    const char *proxy_ns = space != NULL && space[0] != '\0' ? space : ns;
    const struct record *found = NULL;
    struct l7_list list = {0};
    builder_l7_virtual_services(b, host, ns, proxy_ns, &list);
    found = list.n > 0 ? list.items[0] : NULL;
    list.n = 0;
    if (found == NULL) {
        builder_l7_destination_rules(b, host, ns, proxy_ns, &list);
    }
    for (size_t i = 0; i < list.n && found == NULL; i++) {
        found = is_beyond_l4(list.items[i]->obj->destination_rule) ? list.items[i] : NULL;
    }
    l7_list_fini(&list);
    return found;
}

// An object that makes the service need a waypoint, or NULL.
const struct record *builder_l7_need(struct mesh_builder *b, const struct record *record) {
    char host[512];
    struct l7_list list = {0};
    builder_l7_routes(b, record, &list);
    builder_l7_own_authz(b, record, &list);
    const struct record *found = list.n > 0 ? list.items[0] : NULL;
    l7_list_fini(&list);
    if (found != NULL || record->obj == NULL) {
        return found;
    }
    if (record->kind == KOBJ_SERVICE) {
        snprintf(host, sizeof(host), "%s.%s.svc.%s", record->name, record->ns->name,
                 b->mesh.cluster_domain);
        return host_needs(b, record, host);
    }
    const struct kobj_service_entry *entry = record->obj->service_entry;
    for (uint32_t i = 0; i < entry->n_hosts && found == NULL; i++) {
        snprintf(host, sizeof(host), "%s", entry->hosts[i]);
        for (char *c = host; *c != '\0'; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        found = host_needs(b, record, host);
    }
    return found;
}

// Tells one need from another: problems name it.
static uint64_t need_id(const struct record *need) {
    return need != NULL ? need->by_key.hash | 1 : 0;
}

void builder_l7_rebind(struct mesh_builder *b) {
    LIST_EACH(pos, &b->l7_dirty) {
        struct record *record = LIST_ITEM(pos, struct bsvc, in_l7)->record;
        if (record->is_auto && need_id(builder_l7_need(b, record)) != record->more->need) {
            builder_mark(b, record);
        }
    }
}

// Binding

// The only waypoint of the namespace, for `auto` without a name.
static const char *only_waypoint(struct mesh_builder *b, struct record *record,
                                 const struct record *need) {
    const struct record *found = NULL;
    size_t n = 0;
    LIST_EACH(pos, &record->ns->records[KOBJ_GATEWAY]) {
        const struct record *gateway = LIST_ITEM(pos, struct record, in_ns);
        if (gateway->obj != NULL && hbone_listener(gateway->obj->gateway) != NULL &&
            takes(b, gateway->obj, "service")) {
            n++;
            found = gateway;
        }
    }
    if (n == 1) {
        return found->name;
    }
    if (n == 0) {
        builder_problem(record,
                        "%s %s/%s needs a waypoint (ztun.io/use-waypoint: auto), and namespace %s "
                        "has no Gateway with a listener HBONE on 15008: it has no effect",
                        need->obj->kind_name, need->ns->name, need->name, record->ns->name);
    } else {
        builder_problem(record,
                        "%s %s/%s needs a waypoint (ztun.io/use-waypoint: auto), and namespace %s "
                        "has %zu: name one with istio.io/use-waypoint; none is used",
                        need->obj->kind_name, need->ns->name, need->name, record->ns->name, n);
    }
    return NULL;
}

// The waypoint that `auto` means for this service, NULL = none: what its namespace names, else the
// only one that is there.
static const char *auto_name(struct mesh_builder *b, struct record *record) {
    const struct record *need = builder_l7_need(b, record);
    const char *name = ns_label(b, record->ns->name, "istio.io/use-waypoint");
    if (need == NULL) {
        return NULL;
    }
    return is_none(name) ? only_waypoint(b, record, need) : name;
}

static struct binding find_binding(struct mesh_builder *b, struct record *record,
                                   const char *type) {
    const struct kobj_map *labels = &record->obj->meta.labels;
    const char *home = record->ns->name;
    struct binding binding = {.name = kobj_map_get(labels, "istio.io/use-waypoint"),
                              .ns = kobj_map_get(labels, "istio.io/use-waypoint-namespace")};
    binding.is_own = binding.name != NULL;
    if (!binding.is_own) {
        binding.name = ns_label(b, home, "istio.io/use-waypoint");
        binding.ns = ns_label(b, home, "istio.io/use-waypoint-namespace");
        binding.is_auto = builder_is_auto_ns(b, home);
    }
    if (binding.is_auto) {
        bool is_service = record->kind == KOBJ_SERVICE || record->kind == KOBJ_SERVICE_ENTRY;
        const struct record *need = is_service ? builder_l7_need(b, record) : NULL;
        record->is_auto = is_service;
        if (is_service) {
            builder_more(record)->need = need_id(need);
        }
        if (need == NULL) {
            binding.name = NULL;
        } else if (is_none(binding.name)) {
            binding.name = only_waypoint(b, record, need);
            binding.ns = NULL;
        }
    }
    if (is_none(binding.name)) {
        binding.name = NULL;
    }
    if (binding.ns == NULL || binding.ns[0] == '\0') {
        binding.ns = home;
    }
    return binding;
}

static void report_labels(struct mesh_builder *b, struct record *record) {
    const char *mode = ns_label(b, record->ns->name, "ztun.io/use-waypoint");
    if (mode != NULL && strcmp(mode, "auto") != 0) {
        builder_problem(record, "ztun.io/use-waypoint: '%s' is not known, only `auto` is", mode);
    }
}

// The Gateway of the binding when it captures objects of this type, else NULL, with the reason.
static const struct record *usable(struct mesh_builder *b, struct record *record,
                                   const struct binding *binding, const char *type, char key[512]) {
    const struct record *gateway = builder_find(b, KOBJ_GATEWAY, binding->ns, binding->name);
    // Of a namespace's label only its services speak: its pods would all repeat it.
    bool is_told = binding->is_own || strcmp(type, "service") == 0;
    const char *reason = NULL;
    if (gateway == NULL || gateway->obj == NULL) {
        reason = "is not there";
    } else if (!takes(b, gateway->obj, type)) {
        return NULL;
    } else if (!is_allowed(b, gateway->obj, record->ns->name)) {
        reason = "does not take this namespace (allowedRoutes of its listener)";
    } else if (address_of(b, gateway, key)[0] == '\0') {
        reason = "is not programmed (no status.addresses)";
    }
    if (reason != NULL && is_told) {
        builder_problem(record, "waypoint %s/%s %s: traffic does not go through it", binding->ns,
                        binding->name, reason);
    }
    return reason == NULL ? gateway : NULL;
}

// Also when the status names a service of another name.
static bool is_own_service(const struct mesh_builder *b, const struct record *record,
                           const struct record *gateway, const char *key) {
    char own[512];
    if (record->kind != KOBJ_SERVICE || record->ns != gateway->ns) {
        return false;
    }
    snprintf(own, sizeof(own), "%s/%s.%s.svc.%s", record->ns->name, record->name, record->ns->name,
             b->mesh.cluster_domain);
    return strcmp(record->name, gateway->name) == 0 || strcmp(own, key) == 0;
}

static bool is_gateways(const struct kobj_map *labels) {
    return kobj_map_get(labels, "gateway.istio.io/managed") != NULL ||
           kobj_map_get(labels, "gateway.networking.k8s.io/gateway-name") != NULL;
}

const char *builder_waypoint(struct mesh_builder *b, struct record *record, const char *type,
                             char key[512]) {
    const struct kobj_map *labels = &record->obj->meta.labels;
    record->is_auto = false;
    record_set_gateway(record, NULL, NULL);
    if (is_gateways(labels)) {
        return ""; // a gateway's own Service and pods
    }
    if (strcmp(type, "service") == 0) {
        report_labels(b, record);
    }
    struct binding binding = find_binding(b, record, type);
    if (binding.name == NULL) {
        return "";
    }
    const struct record *gateway = usable(b, record, &binding, type, key);
    if (gateway == NULL || is_own_service(b, record, gateway, key)) {
        return "";
    }
    record_set_gateway(record, gateway->ns->name, gateway->name);
    return key;
}

void builder_each_auto(struct mesh_builder *b, const char *ns,
                       bool (*fn)(void *arg, const struct kobj *obj, const char *waypoint),
                       void *arg) {
    static const enum kobj_kind kinds[] = {KOBJ_SERVICE, KOBJ_SERVICE_ENTRY};
    const struct bns *space = builder_ns(b, ns, false);
    bool is_auto = builder_is_auto_ns(b, ns);
    for (size_t i = 0; space != NULL && i < ARRAY_LEN(kinds); i++) {
        LIST_EACH(pos, &space->records[kinds[i]]) {
            struct record *record = LIST_ITEM(pos, struct record, in_ns);
            if (record->obj == NULL || is_gateways(&record->obj->meta.labels) ||
                builder_find(b, KOBJ_GATEWAY, ns, record->name) != NULL) {
                continue;
            }
            const char *name = is_auto ? auto_name(b, record) : NULL;
            if (!fn(arg, record->obj, is_none(name) ? "" : name)) {
                return;
            }
        }
    }
}

// Canary: a second waypoint that takes a share of new connections. It and its weight are inherited
// from the namespace where the first waypoint is.

static const char *inherited(const struct kobj_map *own, const struct kobj_map *of_ns,
                             const char *key) {
    const char *value = kobj_map_get(own, key);
    return value == NULL && of_ns != NULL ? kobj_map_get(of_ns, key) : value;
}

// False: it is no number from 0 to 100.
static bool read_weight(struct record *record, const char *text, uint8_t *ret_percent) {
    uint64_t value = 0;
    if (text != NULL && !slice_to_u64(slice_str(text), 100, &value)) {
        builder_problem(record,
                        "istio.io/use-waypoint-canary-weight is '%s', not a number from 0 to 100: "
                        "there is no canary",
                        text);
        return false;
    }
    *ret_percent = (uint8_t)value;
    return true;
}

void builder_canary(struct mesh_builder *b, struct record *record, struct service *spec,
                    char key[512]) {
    static const char name_label[] = "istio.io/use-waypoint-canary",
                      ns_key[] = "istio.io/use-waypoint-canary-namespace",
                      weight_key[] = "istio.io/use-waypoint-canary-weight";
    const struct kobj_meta *meta = &record->obj->meta;
    const struct kobj *ns = kobj_map_get(&meta->labels, "istio.io/use-waypoint") == NULL
                                ? builder_ns_obj(b, record->ns->name)
                                : NULL;
    bool is_own = kobj_map_get(&meta->labels, name_label) != NULL;
    const struct kobj_map *labels = is_own || ns == NULL ? &meta->labels : &ns->meta.labels;
    struct binding binding = {.name = kobj_map_get(labels, name_label),
                              .ns = kobj_map_get(labels, ns_key),
                              .is_own = is_own};
    if (spec->waypoint[0] == '\0' || is_none(binding.name)) {
        return;
    }
    if (binding.ns == NULL || binding.ns[0] == '\0') {
        binding.ns = record->ns->name;
    }
    uint8_t percent;
    const char *weight =
        inherited(&meta->annotations, ns != NULL ? &ns->meta.annotations : NULL, weight_key);
    if (!read_weight(record, weight, &percent)) {
        return;
    }
    if (record->more->gateway != NULL && strcmp(record->more->gateway, binding.name) == 0 &&
        strcmp(record->more->gateway_ns, binding.ns) == 0) {
        builder_problem(record, "%s names the waypoint of istio.io/use-waypoint: it has no effect",
                        name_label);
        return;
    }
    const struct record *gateway = builder_find(b, KOBJ_GATEWAY, binding.ns, binding.name);
    if (gateway != NULL && gateway->obj != NULL && !takes(b, gateway->obj, "service")) {
        builder_problem(record,
                        "waypoint %s/%s is not for services (istio.io/waypoint-for): "
                        "traffic does not go through it",
                        binding.ns, binding.name);
        return;
    }
    gateway = usable(b, record, &binding, "service", key);
    if (gateway == NULL || is_own_service(b, record, gateway, key)) {
        return;
    }
    spec->canary = key;
    spec->canary_percent = percent;
}

// Marks

static bool uses_waypoint(struct mesh_builder *b, const struct record *record, const char *name) {
    static const char *const keys[] = {"istio.io/use-waypoint", "istio.io/use-waypoint-canary"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *own = kobj_map_get(&record->obj->meta.labels, keys[i]);
        if (own == NULL) {
            own = ns_label(b, record->ns->name, keys[i]);
        }
        if (own != NULL && strcmp(own, name) == 0) {
            return true;
        }
    }
    return record->is_auto;
}

static void mark_own_services(struct mesh_builder *b, const struct record *gateway,
                              const struct kobj *obj) {
    struct record *service = builder_find(b, KOBJ_SERVICE, gateway->ns->name, gateway->name);
    if (service != NULL) {
        builder_mark(b, service);
    }
    for (uint32_t i = 0; obj != NULL && i < obj->gateway->n_status_addresses; i++) {
        const char *host = obj->gateway->status_addresses[i].value;
        HMAP_EACH_WITH_HASH(pos, &b->services, hash_bytes(slice_str(host))) {
            builder_mark(b, HMAP_ITEM(pos, struct bsvc, by_host)->record);
        }
    }
}

void builder_gateway_changed(struct mesh_builder *b, const struct record *gateway,
                             const struct kobj *old) {
    if (b->istiod != NULL) {
        builder_istiod_gateway_changed(b, gateway, old);
    } else {
        mark_own_services(b, gateway, old);
        mark_own_services(b, gateway, gateway->obj);
    }
    HMAP_EACH_SAFE(pos, &b->records) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        bool has_targets = record->kind == KOBJ_AUTHORIZATION_POLICY && record->obj != NULL &&
                           record->obj->authz->n_targets > 0;
        bool is_pod = record->kind == KOBJ_POD && record->ns == gateway->ns &&
                      gateway_label_is(record, gateway->name);
        if (record->obj != NULL &&
            (has_targets || is_pod || uses_waypoint(b, record, gateway->name))) {
            builder_mark(b, record);
        }
    }
}

void builder_class_changed(struct mesh_builder *b, const char *class_name) {
    HMAP_EACH_SAFE(pos, &b->records) {
        const struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (record->kind == KOBJ_GATEWAY && record->obj != NULL &&
            strcmp(record->obj->gateway->class_name, class_name) == 0) {
            builder_gateway_changed(b, record, NULL);
        }
    }
}
