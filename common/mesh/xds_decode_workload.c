// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "common/mesh/xds_decode_priv.h"
#include "common/proto/hbone.h"
#include "common/proto/spiffe.h"

// Values of the enums

enum { TUNNEL_NONE, TUNNEL_HBONE, TUNNEL_LEGACY_ISTIO_MTLS, N_TUNNELS };
enum { STATUS_HEALTHY, STATUS_UNHEALTHY, N_STATUS };
enum { MODE_STANDARD, MODE_HOST_NETWORK, N_MODES };
enum { APPLICATION_NONE, APPLICATION_PROXY, N_APPLICATIONS };

enum { MAX_IPS = 64, MAX_SERVICES = 1024, MAX_PORTS = 1024 };

const char *xds_waypoint(struct xds_decoder *d, const Xds__GatewayAddress *src, const char *field) {
    char text[XDS_TEXT_MAX];
    if (src == NULL) {
        return "";
    }
    if (src->hbone_mtls_port != HBONE_PORT) {
        xds_fail(d, "%s: port %u, only %d is supported", field, src->hbone_mtls_port, HBONE_PORT);
    }
    if (src->destination_case == XDS__GATEWAY_ADDRESS__DESTINATION_HOSTNAME) {
        const char *ns = xds_required(d, src->hostname->namespace_, field, XDS_NS_MAX);
        return xds_join(d, ns, xds_required(d, src->hostname->hostname, field, SPIFFE_SA_MAX));
    }
    if (src->destination_case != XDS__GATEWAY_ADDRESS__DESTINATION_ADDRESS) {
        xds_fail(d, "%s: has neither a host name nor an address", field);
        return "";
    }
    const char *network = xds_text(d, src->address->network, field, XDS_TEXT_MAX);
    struct ip ip = xds_ip(d, src->address->address, field);
    if (!ip_is_set(&ip)) {
        return "";
    }
    ip_text(&ip, text);
    // One that we cannot reach must not become none: as the key of a service it is never found.
    if (strcmp(network, d->network) != 0) {
        return xds_join(d, network, text);
    }
    return xds_copy(d, text);
}

// Of another network than ours as a rule: its address is shown with that.
static void set_network_gateway(struct xds_decoder *d, struct workload_common *c,
                                const Xds__GatewayAddress *src) {
    static const char field[] = "network_gateway";
    char text[IP_TEXT_MAX];
    if (src == NULL) {
        return;
    }
    c->network_gateway_port = xds_port_of(d, src->hbone_mtls_port, field);
    if (src->destination_case == XDS__GATEWAY_ADDRESS__DESTINATION_HOSTNAME) {
        const char *ns = xds_required(d, src->hostname->namespace_, field, XDS_NS_MAX);
        c->network_gateway =
            xds_join(d, ns, xds_required(d, src->hostname->hostname, field, SPIFFE_SA_MAX));
    } else if (src->destination_case == XDS__GATEWAY_ADDRESS__DESTINATION_ADDRESS) {
        struct ip ip = xds_ip(d, src->address->address, field);
        c->network_gateway = xds_join(d, xds_text(d, src->address->network, field, XDS_TEXT_MAX),
                                      ip_is_set(&ip) ? ip_text(&ip, text) : "");
    } else {
        xds_fail(d, "%s: has neither a host name nor an address", field);
    }
}

static void set_ips(struct xds_decoder *d, struct workload *w, const Xds__Workload *src) {
    if (!xds_list_ok(d, src->n_addresses, MAX_IPS, "addresses")) {
        return;
    }
    struct ip *ips = xds_array(d, src->n_addresses, sizeof(*ips));
    for (size_t i = 0; i < src->n_addresses && !d->has_failed; i++) {
        ips[i] = xds_ip(d, src->addresses[i], "addresses");
        if (ip_is_unspecified(&ips[i])) {
            xds_fail(d, "addresses: the unspecified one is nobody's");
        }
    }
    // Of another network: the same address may be somebody else's here.
    bool is_near = strcmp(w->common->network, d->network) == 0;
    w->ips = ips;
    w->n_ips = is_near ? (uint16_t)src->n_addresses : 0;
}

static const char *text_or(const char *text, const char *fallback) {
    return text[0] != '\0' ? text : fallback;
}

static void set_identity(struct xds_decoder *d, struct workload_common *c, bool is_needed,
                         const Xds__Workload *src) {
    c->trust_domain =
        text_or(xds_text(d, src->trust_domain, "trust_domain", SPIFFE_TRUST_DOMAIN_MAX),
                "cluster.local");
    c->service_account =
        text_or(xds_text(d, src->service_account, "service_account", SPIFFE_SA_MAX), "default");
    struct spiffe_id id = {.trust_domain = slice_str(c->trust_domain),
                           .ns = slice_str(c->ns),
                           .sa = slice_str(c->service_account)};
    char text[SPIFFE_TEXT_MAX];
    struct slice formatted;
    if (spiffe_format(&id, text, &formatted)) {
        c->identity = xds_copy(d, text);
    } else if (is_needed) {
        xds_fail(d, "'%s', '%s', '%s' do not make a SPIFFE id", c->trust_domain, c->ns,
                 c->service_account);
    }
}

static void set_owner(struct xds_decoder *d, struct workload_common *c, const char *name,
                      const Xds__Workload *src) {
    static const char *const types[] = {"deployment", "cronjob", "pod", "job"};
    c->owner_type = types[xds_enum(d, src->workload_type, ARRAY_LEN(types), "workload_type")];
    c->owner_name = text_or(xds_text(d, src->workload_name, "workload_name", XDS_TEXT_MAX), name);
    c->canonical_name = xds_text(d, src->canonical_name, "canonical_name", XDS_TEXT_MAX);
    c->canonical_revision =
        xds_text(d, src->canonical_revision, "canonical_revision", XDS_TEXT_MAX);
    c->app = c->canonical_name; // as ztunnel's metrics do
    c->version = c->canonical_revision;
}

static void set_policies(struct xds_decoder *d, struct workload_common *c,
                         const Xds__Workload *src) {
    size_t n = src->n_authorization_policies;
    if (!xds_list_ok(d, n, XDS_LIST_MAX, "authorization_policies")) {
        return;
    }
    const char **policies = xds_array(d, n, sizeof(*policies));
    for (size_t i = 0; i < n && !d->has_failed; i++) {
        policies[i] =
            xds_required(d, src->authorization_policies[i], "authorization_policies", XDS_TEXT_MAX);
        if (strchr(policies[i], '/') == NULL) {
            xds_fail(d, "authorization_policies: '%s' is not NAMESPACE/NAME", policies[i]);
        }
    }
    c->policies = policies;
    c->n_policies = (uint16_t)n;
}

static void set_tunnels(struct xds_decoder *d, struct workload *w, const Xds__Workload *src) {
    uint8_t tunnel = xds_enum(d, src->tunnel_protocol, N_TUNNELS, "tunnel_protocol");
    if (tunnel == TUNNEL_LEGACY_ISTIO_MTLS) {
        xds_fail(d, "tunnel_protocol: LEGACY_ISTIO_MTLS is not supported");
    }
    w->protocol = tunnel == TUNNEL_HBONE ? WORKLOAD_HBONE : WORKLOAD_TCP;
    w->is_enrolled = tunnel == TUNNEL_HBONE;
    const Xds__ApplicationTunnel *application = src->application_tunnel;
    if (application != NULL) {
        uint8_t protocol =
            xds_enum(d, application->protocol, N_APPLICATIONS, "application_tunnel.protocol");
        w->app_tunnel = protocol == APPLICATION_PROXY ? APP_TUNNEL_PROXY : APP_TUNNEL_PLAIN;
        w->app_tunnel_port = xds_port_of(d, application->port, "application_tunnel.port");
    }
}

// A port that is listed twice counts as it is last.
static void set_ports(struct xds_decoder *d, struct xds_membership *membership,
                      const Xds__PortList *src) {
    size_t n = src != NULL ? src->n_ports : 0;
    if (!xds_list_ok(d, n, MAX_PORTS, "services: ports")) {
        return;
    }
    struct xds_port *ports = xds_array(d, n, sizeof(*ports));
    for (size_t i = 0; i < n; i++) {
        struct xds_port port = {
            .service_port = xds_port_of(d, src->ports[i]->service_port, "services: service_port"),
            .target_port = xds_port_of(d, src->ports[i]->target_port, "services: target_port"),
        };
        uint32_t at = 0;
        while (at < membership->n_ports && ports[at].service_port != port.service_port) {
            at++;
        }
        ports[at] = port;
        membership->n_ports += at == membership->n_ports;
    }
    membership->ports = ports;
}

// The same of a service: a map has each key once, and on the wire the last one counts.
static void set_services(struct xds_decoder *d, struct xds_resource *resource,
                         const Xds__Workload *src) {
    if (!xds_list_ok(d, src->n_services, MAX_SERVICES, "services")) {
        return;
    }
    struct xds_membership *list = xds_array(d, src->n_services, sizeof(*list));
    uint32_t n = 0;
    for (size_t i = 0; i < src->n_services && !d->has_failed; i++) {
        const Xds__ServicesEntry *entry = src->services[i];
        struct xds_membership membership = {
            .service = xds_required(d, entry->key, "services", XDS_TEXT_MAX)};
        if (strchr(membership.service, '/') == NULL) {
            xds_fail(d, "services: '%s' is not NAMESPACE/HOSTNAME", membership.service);
        }
        set_ports(d, &membership, entry->value);
        uint32_t at = 0;
        while (at < n && strcmp(list[at].service, membership.service) != 0) {
            at++;
        }
        list[at] = membership;
        n += at == n;
    }
    resource->services = list;
    resource->n_services = n;
}

static void set_place(struct xds_decoder *d, struct workload_common *c, const Xds__Workload *src) {
    c->network = xds_text(d, src->network, "network", XDS_TEXT_MAX);
    c->cluster = text_or(xds_text(d, src->cluster_id, "cluster_id", XDS_TEXT_MAX), "Kubernetes");
    if (src->locality != NULL) {
        c->locality = (struct locality){
            .region = xds_text(d, src->locality->region, "locality", XDS_TEXT_MAX),
            .zone = xds_text(d, src->locality->zone, "locality", XDS_TEXT_MAX),
            .subzone = xds_text(d, src->locality->subzone, "locality", XDS_TEXT_MAX),
        };
    }
}

void xds_decode_workload(struct xds_decoder *d, const Xds__Workload *src,
                         struct xds_resource *ret_resource) {
    const char *uid = xds_required(d, src->uid, "uid", XDS_NAME_MAX);
    ret_resource->kind = XDS_WORKLOAD;
    struct workload_common *c = xds_array(d, 1, sizeof(*c));
    if (d->has_failed) {
        return; // there may be no memory of its own behind it
    }
    *c = (struct workload_common){
        .ns = xds_text(d, src->namespace_, "namespace", XDS_NS_MAX),
        .hostname = xds_text(d, src->hostname, "hostname", SPIFFE_SA_MAX),
        .waypoint = xds_waypoint(d, src->waypoint, "waypoint"),
    };
    struct workload *w = &ret_resource->workload;
    *w = (struct workload){
        .leaf.key = slice_str(uid),
        .name = xds_text(d, src->name, "name", XDS_TEXT_MAX),
        .node = xds_text(d, src->node, "node", XDS_TEXT_MAX),
        .common = c,
        .is_pod = strstr(uid, "//Pod/") != NULL,
        .is_host_network =
            xds_enum(d, src->network_mode, N_MODES, "network_mode") == MODE_HOST_NETWORK,
        .is_healthy = xds_enum(d, src->status, N_STATUS, "status") == STATUS_HEALTHY,
        .capacity = src->capacity != NULL ? src->capacity->value : 1,
    };
    w->is_ready = w->is_healthy;
    set_place(d, c, src);
    set_network_gateway(d, c, src->network_gateway);
    set_ips(d, w, src);
    set_tunnels(d, w, src);
    set_identity(d, c, w->protocol == WORKLOAD_HBONE, src);
    set_owner(d, c, w->name, src);
    set_policies(d, c, src);
    set_services(d, ret_resource, src);
}
