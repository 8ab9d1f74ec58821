// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes Services as service leaves.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/mesh/builder_priv.h"
#include "common/mesh/locality.h"

// "http", "http-web", "HTTP2" ... as Istio reads port names and appProtocol.
static uint8_t protocol_of(struct slice text) {
    static const struct {
        const char *name;
        uint8_t protocol;
    } table[] = {
        {"http", APP_HTTP11}, {"http2", APP_HTTP2},
        {"grpc", APP_GRPC},   {"grpc-web", APP_HTTP11},
        {"tls", APP_TLS},     {"https", APP_TLS},
        {"tcp", APP_TCP},     {"kubernetes.io/h2c", APP_HTTP2},
        {"mongo", APP_TCP},   {"kubernetes.io/ws", APP_HTTP11},
        {"redis", APP_TCP},   {"kubernetes.io/wss", APP_TLS},
        {"mysql", APP_TCP},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (slice_eq_nocase(text, slice_str(table[i].name))) {
            return table[i].protocol;
        }
    }
    return APP_UNKNOWN;
}

uint8_t builder_app_protocol(const char *app_protocol, const char *port_name) {
    uint8_t protocol = protocol_of(slice_str(app_protocol));
    if (protocol != APP_UNKNOWN || app_protocol[0] != '\0') {
        return protocol;
    }
    struct slice name = slice_str(port_name);
    protocol = protocol_of(name);
    struct slice head, tail;
    if (protocol == APP_UNKNOWN && slice_split(name, '-', &head, &tail)) {
        bool is_web = slice_eq_str(head, "grpc") && slice_has_prefix(tail, SLICE_LIT("web"));
        protocol = is_web ? APP_HTTP11 : protocol_of(head);
    }
    return protocol;
}

static void add_vip(struct service *spec, struct ip *vips, size_t max, struct record *record,
                    const char *text) {
    struct ip ip;
    if (text[0] == '\0' || strcmp(text, "None") == 0) {
        return;
    }
    if (!ip_parse(slice_str(text), &ip)) {
        builder_problem(record, "'%s' is not an IP address", text);
        return;
    }
    for (size_t i = 0; i < spec->n_vips; i++) {
        if (ip_eq(&vips[i], &ip)) {
            return;
        }
    }
    if (spec->n_vips < max) {
        vips[spec->n_vips++] = ip;
    }
}

static void set_vips(struct service *spec, struct ip *vips, size_t max, struct record *record) {
    const struct kobj_service *src = record->obj->service;
    for (uint32_t i = 0; i < src->n_cluster_ips; i++) {
        add_vip(spec, vips, max, record, src->cluster_ips[i]);
    }
    add_vip(spec, vips, max, record, src->cluster_ip);
    spec->n_cluster_vips = spec->n_vips;
    for (uint32_t i = 0; i < src->n_external_ips; i++) {
        add_vip(spec, vips, max, record, src->external_ips[i]);
    }
    for (uint32_t i = 0; i < src->n_ingress; i++) {
        add_vip(spec, vips, max, record, src->ingress[i].ip);
    }
    spec->vips = vips;
    bool is_none = strcmp(src->cluster_ip, "None") == 0 ||
                   (src->n_cluster_ips > 0 && strcmp(src->cluster_ips[0], "None") == 0);
    spec->is_headless = is_none || spec->n_cluster_vips == 0;
}

static void set_ports(struct service *spec, struct service_port *ports,
                      const struct kobj_service *src) {
    for (uint32_t i = 0; i < src->n_ports; i++) {
        const struct kobj_service_port *p = &src->ports[i];
        if (p->protocol != PROTOCOL_TCP) {
            continue;
        }
        bool is_named = p->target_port.text[0] != '\0';
        uint16_t number = p->target_port.num != 0 ? (uint16_t)p->target_port.num : p->port;
        ports[spec->n_ports++] = (struct service_port){
            .port = p->port,
            .target_port = is_named ? 0 : number,
            .target_name = p->target_port.text,
            .node_port = p->node_port,
            .name = p->name,
            .app_protocol = builder_app_protocol(p->app_protocol, p->name),
        };
        spec->has_node_ports = spec->has_node_ports || p->node_port != 0;
    }
    spec->ports = ports;
}

static void set_traffic(struct mesh_builder *b, struct service *spec, struct record *record) {
    static const char key[] = "networking.istio.io/traffic-distribution";
    const struct kobj *ns = builder_ns_obj(b, record->ns->name);
    const struct kobj_service *src = record->obj->service;
    struct locality_policy policy = {
        .is_internal_local = src->internal_traffic_policy == TRAFFIC_LOCAL,
        .distribution = src->traffic_distribution,
        .annotation = kobj_map_get(&record->obj->meta.annotations, key),
        .ns_annotation = ns != NULL ? kobj_map_get(&ns->meta.annotations, key) : NULL,
    };
    if (!locality_set_policy(&policy, spec)) {
        builder_problem(record, "unknown traffic distribution, taken as not set");
    }
    spec->allow_not_ready = src->publish_not_ready;
    spec->is_external_local = src->external_traffic_policy == TRAFFIC_LOCAL;
}

// A target port by name that no endpoint has is most likely a typing error.
static void check_ports(struct record *record, const struct service *spec,
                        const struct endpoint_set *set) {
    for (size_t i = 0; set->n > 0 && i < spec->n_ports; i++) {
        bool is_served = false;
        for (size_t k = 0; k < set->n && !is_served; k++) {
            is_served = set->target_ports[k * spec->n_ports + i] != 0;
        }
        if (!is_served) {
            builder_problem(record, "port %u%s%s: no endpoint has it", spec->ports[i].port,
                            spec->ports[i].target_name[0] != '\0' ? ", target " : "",
                            spec->ports[i].target_name);
        }
    }
}

static void build(struct mesh_builder *b, struct record *record) {
    const struct kobj *obj = record->obj;
    const struct kobj_service *src = obj->service;
    char host[384], key[512], waypoint[512], canary[512];
    size_t max_vips = src->n_cluster_ips + 1 + src->n_external_ips + src->n_ingress;
    struct ip *vips = xcalloc(max_vips, sizeof(*vips));
    struct service_port *ports = xcalloc(src->n_ports + 1, sizeof(*ports));
    snprintf(host, sizeof(host), "%s.%s.svc.%s", obj->meta.name, obj->meta.ns,
             b->mesh.cluster_domain);
    snprintf(key, sizeof(key), "%s/%s", obj->meta.ns, host);
    struct service spec = {
        .leaf.key = slice_str(key),
        .name = obj->meta.name,
        .ns = obj->meta.ns,
        .hostname = host,
        .is_canonical = true,
        .waypoint = builder_waypoint(b, record, "service", waypoint),
    };
    builder_canary(b, record, &spec, canary);
    builder_set_waypoint(b, record->ns->name, record->name, &spec);
    set_vips(&spec, vips, max_vips, record);
    set_ports(&spec, ports, src);
    set_traffic(b, &spec, record);

    struct endpoint_set set;
    endpoint_set_init(&set, b, record, &spec);
    bool has_slices = endpoint_set_from_slices(&set, obj->meta.name);
    if (src->selector.n > 0) {
        endpoint_set_select(&set, &src->selector, has_slices);
    }
    check_ports(record, &spec, &set);
    endpoint_set_publish(&set, &spec);
    endpoint_set_fini(&set);
    free(vips);
    free(ports);
}

void builder_build_service(struct mesh_builder *b, struct record *record) {
    builder_begin_services(record);
    // ExternalName is DNS only: the client resolves the other name, and that is what it calls.
    if (record->obj != NULL && record->obj->service->type != SERVICE_EXTERNAL_NAME) {
        build(b, record);
    }
    builder_end_services(b, record);
}
