// SPDX-License-Identifier: Apache-2.0
//
// ServiceEntries as service leaves, one for each host.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_priv.h"
#include "common/mesh/locality.h"

struct entry_build {
    struct mesh_builder *b;
    struct record *record;
    const struct kobj_service_entry *src;
    struct service spec; // what all hosts have in common
    struct ip *vips;
    struct cidr *ranges;
    size_t n_vips, n_ranges;
};

static void add_addresses(struct entry_build *e, const char *const *texts, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct cidr cidr;
        if (!cidr_parse(slice_str(texts[i]), false, &cidr)) {
            builder_problem(e->record, "'%s' is not an address", texts[i]);
        } else if (cidr.len != (cidr.ip.family == 4 ? 32 : 128)) {
            e->ranges[e->n_ranges++] = cidr;
        } else {
            e->vips[e->n_vips++] = cidr.ip;
        }
    }
}

// The target port of an inline endpoint: its own map, the port's targetPort, the port.
static uint16_t inline_port(const struct kobj_workload_entry *entry,
                            const struct kobj_se_port *port) {
    for (uint32_t i = 0; i < entry->n_ports; i++) {
        if (strcmp(entry->ports[i].name, port->name) == 0) {
            return entry->ports[i].port;
        }
    }
    return port->target_port != 0 ? port->target_port : port->port;
}

static void add_inline(struct entry_build *e, struct endpoint_set *set,
                       const struct kobj_workload_entry *entry, const char *uid_tail,
                       bool is_of_host) {
    char uid[1024];
    snprintf(uid, sizeof(uid), "%s/networking.istio.io/ServiceEntry/%s/%s/%s",
             e->b->mesh.cluster_id, e->record->ns->name, e->record->name, uid_tail);
    struct workload *leaf =
        builder_entry_leaf(e->b, e->record, entry, uid, e->record->name, &entry->labels);
    bool has_place = leaf->n_ips > 0 || leaf->common->hostname[0] != '\0';
    struct bwl *wl = builder_put_workload(e->b, e->record, leaf);
    if (!has_place && !is_of_host) {
        return;
    }
    uint16_t *ports;
    endpoint_set_add(set, wl, wl->leaf->n_ips > 0 ? &wl->leaf->ips[0] : NULL, wl->leaf->is_healthy,
                     &ports);
    for (uint32_t i = 0; ports != NULL && i < e->src->n_ports; i++) {
        ports[i] = inline_port(entry, &e->src->ports[i]);
    }
}

static void add_endpoints(struct entry_build *e, struct endpoint_set *set, const char *host) {
    const struct kobj_service_entry *src = e->src;
    bool is_dns = src->resolution == SE_DNS || src->resolution == SE_DNS_ROUND_ROBIN;
    if (src->has_selector) {
        endpoint_set_select(set, &src->selector, false);
        return;
    }
    for (uint32_t i = 0; i < src->n_endpoints; i++) {
        char tail[320];
        snprintf(tail, sizeof(tail), "%u/%s", i, src->endpoints[i].address);
        if (src->resolution == SE_STATIC || is_dns) {
            add_inline(e, set, &src->endpoints[i], tail, false);
        }
    }
    if (src->n_endpoints == 0 && is_dns && host[0] != '*') {
        // The host itself is the endpoint.
        struct kobj_workload_entry own = {
            .address = host, .network = "", .locality = "", .service_account = ""};
        add_inline(e, set, &own, host, true);
    }
}

// Istio's rule for automatic addresses: none given, one can be used, not switched off. Names under
// a wildcard share one where it is the waypoint that tells them apart.
static bool wants_allocation(const struct entry_build *e, const char *host) {
    const char *label =
        kobj_map_get(&e->record->obj->meta.labels, "networking.istio.io/enable-autoallocate-ip");
    bool is_usable = host[0] != '*' || e->src->resolution == SE_DYNAMIC_DNS;
    return e->n_vips == 0 && e->n_ranges == 0 && e->src->resolution != SE_NONE && is_usable &&
           (label == NULL || strcmp(label, "false") != 0);
}

static void build_host(struct entry_build *e, const char *host_text) {
    char host[254], key[320];
    size_t len = strlen(host_text);
    if (len == 0 || len >= sizeof(host)) {
        builder_problem(e->record, "host '%.64s' is too long", host_text);
        return;
    }
    for (size_t i = 0; i <= len; i++) {
        char c = host_text[i];
        host[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    snprintf(key, sizeof(key), "%s/%s", e->record->ns->name, host);
    struct service spec = e->spec;
    struct ip allocated[2];
    spec.leaf.key = slice_str(key);
    spec.hostname = host;
    spec.vips = e->vips;
    spec.n_vips = (uint16_t)e->n_vips;
    spec.ranges = e->ranges;
    spec.n_ranges = (uint16_t)e->n_ranges;
    if (wants_allocation(e, host)) {
        builder_allocate(e->b, key, allocated);
        spec.vips = allocated;
        spec.n_vips = ip_is_set(&allocated[0]) ? 2 : 0;
    } else {
        builder_unallocate(e->b, key);
    }
    spec.n_cluster_vips = spec.n_vips;
    spec.is_headless = spec.n_vips == 0;
    struct endpoint_set set;
    endpoint_set_init(&set, e->b, e->record, &spec);
    add_endpoints(e, &set, host);
    endpoint_set_publish(&set, &spec);
    endpoint_set_fini(&set);
}

static void set_traffic(struct entry_build *e) {
    static const char key[] = "networking.istio.io/traffic-distribution";
    const struct kobj *ns = builder_ns_obj(e->b, e->record->ns->name);
    struct locality_policy policy = {
        .annotation = kobj_map_get(&e->record->obj->meta.annotations, key),
        .ns_annotation = ns != NULL ? kobj_map_get(&ns->meta.annotations, key) : NULL,
    };
    if (!locality_set_policy(&policy, &e->spec)) {
        builder_problem(e->record, "unknown traffic distribution, taken as not set");
    }
    if (e->src->resolution == SE_NONE) {
        e->spec.lb_mode = LB_PASSTHROUGH;
        e->spec.n_scopes = 0;
        e->spec.allow_not_ready = true;
    }
}

static void set_dynamic(struct entry_build *e) {
    if (e->src->resolution != SE_DYNAMIC_DNS) {
        return;
    }
    e->spec.is_dynamic = e->spec.is_external;
    if (e->spec.waypoint[0] == '\0') {
        builder_problem(e->record,
                        "resolution DYNAMIC_DNS needs a waypoint: without one its hosts are not "
                        "reached");
    } else if (!e->spec.is_external) {
        builder_problem(e->record,
                        "resolution DYNAMIC_DNS behind a waypoint is for location MESH_EXTERNAL "
                        "only: its hosts are not resolved");
    }
}

static void build(struct entry_build *e) {
    const struct kobj_service_entry *src = e->src;
    char waypoint[512], canary[512];
    struct service_port *ports = xcalloc(src->n_ports + 1, sizeof(*ports));
    size_t n_addresses = (size_t)src->n_addresses + src->n_status_addresses + 1;
    e->vips = xcalloc(n_addresses, sizeof(*e->vips));
    e->ranges = xcalloc(n_addresses, sizeof(*e->ranges));
    for (uint32_t i = 0; i < src->n_ports; i++) {
        ports[i] = (struct service_port){
            .port = src->ports[i].port,
            .target_port =
                src->ports[i].target_port != 0 ? src->ports[i].target_port : src->ports[i].port,
            .name = src->ports[i].name,
            .target_name = "",
            .app_protocol = builder_app_protocol(src->ports[i].protocol, src->ports[i].name),
        };
    }
    e->spec = (struct service){
        .name = e->record->name,
        .ns = e->record->ns->name,
        .ports = ports,
        .n_ports = (uint16_t)MIN(src->n_ports, (uint32_t)UINT16_MAX),
        .sans = src->sans,
        .n_sans = (uint16_t)MIN(src->n_sans, (uint32_t)UINT16_MAX),
        .is_external = src->location == SE_MESH_EXTERNAL,
        .is_private = src->n_export_to == 1 && strcmp(src->export_to[0], ".") == 0,
        .waypoint = builder_waypoint(e->b, e->record, "service", waypoint),
    };
    builder_canary(e->b, e->record, &e->spec, canary);
    set_traffic(e);
    add_addresses(e, src->addresses, src->n_addresses);
    if (e->n_vips == 0 && src->n_addresses == 0) {
        add_addresses(e, src->status_addresses, src->n_status_addresses);
    }
    set_dynamic(e);
    for (uint32_t i = 0; i < src->n_hosts; i++) {
        build_host(e, src->hosts[i]);
    }
    free(ports);
    free(e->vips);
    free(e->ranges);
}

void builder_build_service_entry(struct mesh_builder *b, struct record *record) {
    builder_begin_services(record);
    if (record->obj != NULL) {
        struct entry_build e = {.b = b, .record = record, .src = record->obj->service_entry};
        bool is_nowhere = e.src->n_export_to == 1 && strcmp(e.src->export_to[0], "~") == 0;
        if (!is_nowhere) {
            build(&e);
        }
    }
    builder_end_services(b, record);
}
