// SPDX-License-Identifier: Apache-2.0
//
// Endpoints of a service: from EndpointSlices, Endpoints, or a selector over pods and
// WorkloadEntries. A workload is in a service once, whatever number of addresses it has there.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_priv.h"

void endpoint_set_init(struct endpoint_set *set, struct mesh_builder *b, struct record *record,
                       const struct service *spec) {
    *set = (struct endpoint_set){.b = b, .record = record, .spec = spec, .serial = ++b->n_sets};
}

void endpoint_set_fini(struct endpoint_set *set) {
    free(set->items);
    free(set->workloads);
    free(set->target_ports);
}

void endpoint_set_add(struct endpoint_set *set, struct bwl *wl, const struct ip *ip, bool is_ready,
                      uint16_t **ret_ports) {
    size_t n_ports = set->spec->n_ports;
    *ret_ports = NULL;
    if (wl->seen_by == set->serial) {
        return;
    }
    wl->seen_by = set->serial;
    if (set->n == set->cap) {
        set->cap = MAX(16, set->cap * 2);
        set->items = xrealloc(set->items, set->cap * sizeof(*set->items));
        set->workloads = xrealloc(set->workloads, set->cap * sizeof(*set->workloads));
        set->target_ports =
            xrealloc(set->target_ports, (set->cap * n_ports + 1) * sizeof(*set->target_ports));
    }
    set->items[set->n] = (struct endpoint){
        .workload = wl->leaf,
        .ip = ip != NULL ? *ip : (struct ip){0},
        .is_ready = is_ready,
        .weight = wl->leaf->capacity,
    };
    set->workloads[set->n] = wl;
    *ret_ports = &set->target_ports[set->n * n_ports];
    memset(*ret_ports, 0, n_ports * sizeof(**ret_ports));
    set->n++;
}

static uint16_t named_port(const struct workload *workload, const char *name) {
    for (size_t i = 0; name[0] != '\0' && i < workload->common->n_ports; i++) {
        if (strcmp(workload->common->ports[i].name, name) == 0) {
            return workload->common->ports[i].port;
        }
    }
    return 0;
}

// Target ports by the service's definition: a number, or a name that the workload resolves. A
// WorkloadEntry may map the service port's own name as well.
static void define_ports(const struct service *spec, const struct bwl *wl, uint16_t *ports) {
    bool is_entry = wl->record->kind == KOBJ_WORKLOAD_ENTRY;
    for (size_t i = 0; i < spec->n_ports; i++) {
        const struct service_port *port = &spec->ports[i];
        uint16_t mapped = is_entry ? named_port(wl->leaf, port->name) : 0;
        if (mapped == 0) {
            mapped = port->target_name[0] != '\0' ? named_port(wl->leaf, port->target_name)
                                                  : port->target_port;
        }
        ports[i] = mapped;
    }
}

struct selection {
    struct endpoint_set *set;
    bool without_pods;
};

static void select_workload(void *arg, struct record *record) {
    const struct selection *selection = arg;
    struct endpoint_set *set = selection->set;
    if (record->obj == NULL || list_empty(&record->workloads) ||
        (selection->without_pods && record->kind == KOBJ_POD)) {
        return;
    }
    struct bwl *wl = LIST_ITEM(record->workloads.next, struct bwl, in_record);
    uint16_t *ports;
    endpoint_set_add(set, wl, wl->leaf->n_ips > 0 ? &wl->leaf->ips[0] : NULL, wl->leaf->is_healthy,
                     &ports);
    if (ports != NULL) {
        define_ports(set->spec, wl, ports);
    }
}

void endpoint_set_select(struct endpoint_set *set, const struct kobj_map *selector,
                         bool without_pods) {
    struct selection selection = {set, without_pods};
    builder_each_selected(set->record->ns, selector, select_workload, &selection);
}

// EndpointSlices and Endpoints, both as: an address with its slice's ports.

struct slice_address {
    const char *ip, *node, *zone;
    const struct kobj_object_ref *target; // or NULL
    bool is_ready;
    const struct kobj_endpoint_port *ports;
    uint32_t n_ports;
    const char *slice; // object name
};

static uint16_t slice_port(const struct slice_address *address, const struct service_port *port,
                           size_t n_service_ports) {
    for (uint32_t i = 0; i < address->n_ports; i++) {
        const struct kobj_endpoint_port *p = &address->ports[i];
        bool is_same = strcmp(p->name, port->name) == 0 ||
                       (address->n_ports == 1 && n_service_ports == 1 && p->name[0] == '\0');
        if (is_same && p->protocol == PROTOCOL_TCP) {
            return p->port;
        }
    }
    return 0;
}

static struct bwl *target_pod(struct endpoint_set *set, const struct slice_address *address,
                              const struct ip *ip) {
    const struct kobj_object_ref *target = address->target;
    if (target == NULL || strcmp(target->kind, "Pod") != 0) {
        set->record->is_by_address = true;
        return builder_workload_by_ip(set->b, ip);
    }
    const char *ns = target->ns[0] != '\0' ? target->ns : set->record->ns->name;
    const struct record *pod = builder_find(set->b, KOBJ_POD, ns, target->name);
    if (pod == NULL || list_empty(&pod->workloads)) {
        return NULL;
    }
    return LIST_ITEM(pod->workloads.next, struct bwl, in_record);
}

// A workload of the service's own for an endpoint that is no pod.
static struct bwl *bare_workload(struct endpoint_set *set, const struct slice_address *address,
                                 const struct ip *ip) {
    char uid[768], text[IP_TEXT_MAX];
    ip_text(ip, text);
    snprintf(uid, sizeof(uid), "%s/discovery.k8s.io/EndpointSlice/%s/%s/%s",
             set->b->mesh.cluster_id, set->record->ns->name, address->slice, text);
    struct builder_bare bare = {
        .uid = uid,
        .name = text,
        .ns = set->record->ns->name,
        .node = address->node,
        .zone = address->zone,
        .ip = *ip,
    };
    return builder_put_workload(set->b, set->record, builder_bare_leaf(set->b, &bare));
}

static void add_address(struct endpoint_set *set, const struct slice_address *address) {
    struct ip ip;
    if (!ip_parse(slice_str(address->ip), &ip)) {
        builder_problem(set->record, "endpoint address '%s' in %s is not an IP address",
                        address->ip, address->slice);
        return;
    }
    struct bwl *wl = target_pod(set, address, &ip);
    bool is_ready = address->is_ready;
    if (wl != NULL) {
        // The pod's own state is fresher than what its slice says.
        is_ready = is_ready && wl->leaf->is_healthy;
    } else {
        set->record->is_by_address = true;
        wl = bare_workload(set, address, &ip);
    }
    uint16_t *ports;
    endpoint_set_add(set, wl, &ip, is_ready, &ports);
    for (size_t i = 0; ports != NULL && i < set->spec->n_ports; i++) {
        ports[i] = slice_port(address, &set->spec->ports[i], set->spec->n_ports);
    }
}

static void add_slice(struct endpoint_set *set, const struct kobj *obj) {
    const struct kobj_endpoint_slice *slice = obj->endpoint_slice;
    if (slice->address_type == ADDRESS_FQDN) {
        builder_problem(set->record, "EndpointSlice %s: address type FQDN is not supported",
                        obj->meta.name);
        return;
    }
    for (uint32_t i = 0; i < slice->n_endpoints; i++) {
        const struct kobj_slice_endpoint *e = &slice->endpoints[i];
        for (uint32_t k = 0; k < MIN(e->n_addresses, 1U); k++) { // more are not allowed to differ
            add_address(set, &(struct slice_address){
                                 .ip = e->addresses[k],
                                 .node = e->node_name,
                                 .zone = e->zone,
                                 .target = e->target,
                                 .is_ready = e->ready != TRI_FALSE,
                                 .ports = slice->ports,
                                 .n_ports = slice->n_ports,
                                 .slice = obj->meta.name,
                             });
        }
    }
}

static void add_subset(struct endpoint_set *set, const struct kobj_endpoint_subset *subset,
                       bool is_ready) {
    const struct kobj_endpoint_address *list = is_ready ? subset->addresses : subset->not_ready;
    uint32_t n = is_ready ? subset->n_addresses : subset->n_not_ready;
    for (uint32_t i = 0; i < n; i++) {
        add_address(set, &(struct slice_address){
                             .ip = list[i].ip,
                             .node = list[i].node_name,
                             .zone = "",
                             .target = list[i].target,
                             .is_ready = is_ready,
                             .ports = subset->ports,
                             .n_ports = subset->n_ports,
                             .slice = set->record->name,
                         });
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(struct record *const *)a)->name, (*(struct record *const *)b)->name);
}

bool endpoint_set_from_slices(struct endpoint_set *set, const char *service_name) {
    // In order of names, so that the result does not depend on the order of arrival.
    struct record **slices = NULL;
    size_t n = 0;
    LIST_EACH(pos, &set->record->ns->records[KOBJ_ENDPOINT_SLICE]) {
        struct record *record = LIST_ITEM(pos, struct record, in_ns);
        const char *owner = record->obj != NULL ? kobj_map_get(&record->obj->meta.labels,
                                                               "kubernetes.io/service-name")
                                                : NULL;
        if (owner != NULL && strcmp(owner, service_name) == 0) {
            slices = xrealloc(slices, (n + 1) * sizeof(struct record *));
            slices[n++] = record;
        }
    }
    if (n > 0) {
        qsort(slices, n, sizeof(struct record *), by_name);
    }
    for (size_t i = 0; i < n; i++) {
        add_slice(set, slices[i]->obj);
    }
    free(slices);
    if (n > 0) {
        return true;
    }
    const struct record *endpoints =
        builder_find(set->b, KOBJ_ENDPOINTS, set->record->ns->name, service_name);
    if (endpoints == NULL || endpoints->obj == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < endpoints->obj->endpoints->n_subsets; i++) {
        add_subset(set, &endpoints->obj->endpoints->subsets[i], true);
        add_subset(set, &endpoints->obj->endpoints->subsets[i], false);
    }
    return true;
}

// Publishing

static struct bsvc *find_service(struct record *record, struct slice key) {
    LIST_EACH(pos, &record->more->services) {
        struct bsvc *service = LIST_ITEM(pos, struct bsvc, in_record);
        if (slice_eq_str(key, service->key)) {
            return service;
        }
    }
    return NULL;
}

static void detach(struct bsvc *service) {
    for (size_t i = 0; i < service->n_members; i++) {
        list_del(&service->members[i].in_workload);
    }
    free(service->members);
    service->members = NULL;
    service->n_members = 0;
}

struct sort_item {
    struct endpoint endpoint;
    struct bwl *workload;
};

static int by_uid(const void *a, const void *b) {
    const struct sort_item *x = a, *y = b;
    return strcmp((const char *)x->endpoint.workload->leaf.key.ptr,
                  (const char *)y->endpoint.workload->leaf.key.ptr);
}

static void sort(struct endpoint_set *set) {
    struct sort_item *items = xcalloc(set->n + 1, sizeof(*items));
    for (size_t i = 0; i < set->n; i++) {
        set->items[i].target_ports = &set->target_ports[i * set->spec->n_ports];
        items[i] = (struct sort_item){set->items[i], set->workloads[i]};
    }
    qsort(items, set->n, sizeof(*items), by_uid);
    for (size_t i = 0; i < set->n; i++) {
        set->items[i] = items[i].endpoint;
        set->workloads[i] = items[i].workload;
    }
    free(items);
}

void endpoint_set_publish(struct endpoint_set *set, struct service *spec) {
    struct record *record = set->record;
    sort(set);
    spec->endpoints = set->items;
    spec->n_endpoints = (uint32_t)set->n;
    struct bsvc *service = find_service(record, spec->leaf.key);
    if (service == NULL) {
        service = xcalloc(1, sizeof(*service));
        service->record = record;
        service->key = slice_dup(spec->leaf.key);
        list_init(&service->in_l7);
        list_push_back(&builder_more(record)->services, &service->in_record);
        hmap_insert(&set->b->services, &service->by_host, hash_bytes(slice_str(spec->hostname)));
    }
    service->is_stale = false;
    service->members = xcalloc(set->n + 1, sizeof(*service->members));
    service->n_members = set->n;
    for (size_t i = 0; i < set->n; i++) {
        service->members[i].service = service;
        list_push_back(&set->workloads[i]->members, &service->members[i].in_workload);
    }
    snapshot_set_service(set->b->draft, service_new(spec));
    builder_l7_built(set->b, service, spec);
    set->b->has_changes = set->b->services_changed = true;
}

void builder_begin_services(struct record *record) {
    LIST_EACH(pos, &record->more->services) {
        struct bsvc *service = LIST_ITEM(pos, struct bsvc, in_record);
        service->is_stale = true;
        detach(service);
    }
    LIST_EACH(pos, &record->workloads) {
        LIST_ITEM(pos, struct bwl, in_record)->is_stale = true;
    }
}

void builder_end_services(struct mesh_builder *b, struct record *record) {
    LIST_EACH_SAFE(pos, &record->more->services) {
        struct bsvc *service = LIST_ITEM(pos, struct bsvc, in_record);
        if (!service->is_stale) {
            continue;
        }
        snapshot_del_service(b->draft, service->key);
        builder_unallocate(b, service->key);
        builder_l7_gone(b, service);
        hmap_remove(&b->services, &service->by_host);
        list_del(&service->in_record);
        free(service->members);
        free(service->key);
        free(service);
        b->has_changes = b->services_changed = true;
    }
    LIST_EACH_SAFE(pos, &record->workloads) {
        struct bwl *wl = LIST_ITEM(pos, struct bwl, in_record);
        if (wl->is_stale) {
            builder_drop_workload(b, wl);
        }
    }
}
