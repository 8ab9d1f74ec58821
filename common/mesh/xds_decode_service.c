// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "common/mesh/xds_decode_priv.h"
#include "common/proto/spiffe.h"

// Values of the enums

enum { MODE_UNSPECIFIED, MODE_STRICT, MODE_FAILOVER, MODE_PASSTHROUGH, N_MODES };
enum { HEALTH_ONLY_HEALTHY, HEALTH_ALLOW_ALL, N_HEALTH };
enum { VISIBILITY_PUBLIC, VISIBILITY_NAMESPACE, N_VISIBILITY };

enum { MAX_PORTS = 1024 };

// The prefix of an address that is a range; false: it is a single one.
static bool is_range(struct xds_decoder *d, const Xds__NetworkAddress *src, const struct ip *ip,
                     struct cidr *ret_range) {
    uint32_t max = 8 * (uint32_t)src->address.len, full = ip->family == 4 ? 32 : 128;
    if (src->optional_length_case != XDS__NETWORK_ADDRESS__OPTIONAL_LENGTH_LENGTH ||
        src->length == max || !ip_is_set(ip)) {
        return false;
    }
    if (src->length > max || max - src->length > full) { // more than all of mapped IPv4, too
        xds_fail(d, "addresses: /%u is no length of such a range", src->length);
        return false;
    }
    *ret_range = cidr_make(ip, (uint8_t)(full - (max - src->length)));
    return true;
}

static void set_addresses(struct xds_decoder *d, struct service *s, const Xds__Service *src) {
    if (!xds_list_ok(d, src->n_addresses, XDS_LIST_MAX, "addresses")) {
        return;
    }
    struct ip *vips = xds_array(d, src->n_addresses, sizeof(*vips));
    struct cidr *ranges = xds_array(d, src->n_addresses, sizeof(*ranges));
    s->is_headless = true;
    for (size_t i = 0; i < src->n_addresses && !d->has_failed; i++) {
        const Xds__NetworkAddress *address = src->addresses[i];
        const char *network = xds_text(d, address->network, "addresses: network", XDS_TEXT_MAX);
        struct ip ip = xds_ip(d, address->address, "addresses");
        struct cidr range;
        bool is_near = strcmp(network, d->network) == 0;
        if (is_range(d, address, &ip, &range)) {
            ranges[s->n_ranges] = range;
            s->n_ranges += is_near;
        } else {
            vips[s->n_vips] = ip;
            s->n_vips += is_near;
            s->is_headless = false;
        }
    }
    s->vips = vips;
    s->ranges = ranges;
    s->n_cluster_vips = s->n_vips;
}

// A port that is listed twice counts as it is last.
static void set_ports(struct xds_decoder *d, struct service *s, const Xds__Service *src) {
    static const uint8_t protocols[] = {APP_UNKNOWN, APP_HTTP11, APP_HTTP2,
                                        APP_GRPC,    APP_TCP,    APP_TLS};
    if (!xds_list_ok(d, src->n_ports, MAX_PORTS, "ports")) {
        return;
    }
    struct service_port *ports = xds_array(d, src->n_ports, sizeof(*ports));
    for (size_t i = 0; i < src->n_ports; i++) {
        uint8_t protocol =
            xds_enum(d, src->ports[i]->app_protocol, ARRAY_LEN(protocols), "ports: app_protocol");
        struct service_port port = {
            .port = xds_port_of(d, src->ports[i]->service_port, "ports: service_port"),
            .target_port = xds_port_of(d, src->ports[i]->target_port, "ports: target_port"),
            .name = "",
            .target_name = "",
            .app_protocol = protocols[protocol],
        };
        if (port.port == 0) {
            xds_fail(d, "ports: service_port: 0 is not a port");
        }
        uint16_t at = 0;
        while (at < s->n_ports && ports[at].port != port.port) {
            at++;
        }
        ports[at] = port;
        s->n_ports += at == s->n_ports;
    }
    s->ports = ports;
}

static void set_sans(struct xds_decoder *d, struct service *s, const Xds__Service *src) {
    size_t n = src->n_subject_alt_names;
    if (!xds_list_ok(d, n, XDS_LIST_MAX, "subject_alt_names")) {
        return;
    }
    const char **sans = xds_array(d, n, sizeof(*sans));
    for (size_t i = 0; i < n; i++) {
        sans[i] = xds_required(d, src->subject_alt_names[i], "subject_alt_names", SPIFFE_TEXT_MAX);
    }
    s->sans = sans;
    s->n_sans = (uint16_t)n;
}

static void set_load_balancing(struct xds_decoder *d, struct service *s,
                               const Xds__LoadBalancing *src) {
    static const uint8_t modes[N_MODES] = {LB_STANDARD, LB_STRICT, LB_FAILOVER, LB_PASSTHROUGH};
    if (src == NULL || !xds_list_ok(d, src->n_routing_preference, ARRAY_LEN(s->scopes),
                                    "load_balancing.routing_preference")) {
        return;
    }
    s->lb_mode = modes[xds_enum(d, src->mode, N_MODES, "load_balancing.mode")];
    s->allow_not_ready = xds_enum(d, src->health_policy, N_HEALTH,
                                  "load_balancing.health_policy") == HEALTH_ALLOW_ALL;
    for (size_t i = 0; i < src->n_routing_preference; i++) {
        uint8_t scope = xds_enum(d, src->routing_preference[i], SCOPE_NETWORK + 1,
                                 "load_balancing.routing_preference");
        if (scope == 0) {
            xds_fail(d, "load_balancing.routing_preference: 0 is not known");
        }
        s->scopes[s->n_scopes++] = scope;
    }
}

// The first is what is bound, the second its canary.
static void set_waypoints(struct xds_decoder *d, struct service *s, const Xds__Service *src) {
    s->waypoint = xds_waypoint(d, src->waypoint, "waypoint");
    size_t n = src->n_weighted_waypoints;
    if (n == 0 || !xds_list_ok(d, n, 2, "weighted_waypoints")) {
        return;
    }
    const char *keys[2] = {"", ""};
    uint64_t weights[2] = {0};
    for (size_t i = 0; i < n; i++) {
        const Xds__WeightedWaypoint *waypoint = src->weighted_waypoints[i];
        keys[i] = xds_waypoint(d, waypoint->destination, "weighted_waypoints");
        weights[i] = waypoint->weight;
        if (waypoint->destination == NULL) {
            xds_fail(d, "weighted_waypoints: has no destination");
        }
    }
    uint64_t sum = weights[0] + weights[1];
    if (sum == 0) {
        xds_fail(d, "weighted_waypoints: no weight is above 0");
        return;
    }
    s->waypoint = keys[0];
    s->canary = keys[1];
    s->canary_percent = (uint8_t)((weights[1] * 100 + sum / 2) / sum);
}

void xds_decode_service(struct xds_decoder *d, const Xds__Service *src,
                        struct xds_resource *ret_resource) {
    const char *ns = xds_required(d, src->namespace_, "namespace", XDS_NS_MAX);
    const char *hostname = xds_required(d, src->hostname, "hostname", SPIFFE_SA_MAX);
    ret_resource->kind = XDS_SERVICE;
    ret_resource->service = (struct service){
        .leaf.key = slice_str(xds_join(d, ns, hostname)),
        .name = xds_text(d, src->name, "name", XDS_TEXT_MAX),
        .ns = ns,
        .hostname = hostname,
        .is_canonical = src->canonical,
        .is_private =
            xds_enum(d, src->visibility, N_VISIBILITY, "visibility") == VISIBILITY_NAMESPACE,
    };
    struct service *s = &ret_resource->service;
    set_addresses(d, s, src);
    set_ports(d, s, src);
    set_sans(d, s, src);
    set_load_balancing(d, s, src->load_balancing);
    set_waypoints(d, s, src);
}
