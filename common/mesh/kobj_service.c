// SPDX-License-Identifier: Apache-2.0
//
// Service, EndpointSlice, Endpoints.
#include <stdio.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_priv.h"

static const struct schema_name service_types[] = {{"ClusterIP", SERVICE_CLUSTER_IP},
                                                   {"NodePort", SERVICE_NODE_PORT},
                                                   {"LoadBalancer", SERVICE_LOAD_BALANCER},
                                                   {"ExternalName", SERVICE_EXTERNAL_NAME},
                                                   {NULL, 0}};
static const struct schema_name traffic_policies[] = {
    {"Cluster", TRAFFIC_CLUSTER}, {"Local", TRAFFIC_LOCAL}, {NULL, 0}};

static const char *check_cluster_ip(const char *text) {
    struct ip ip;
    return strcmp(text, "None") == 0 || ip_parse(slice_str(text), &ip)
               ? NULL
               : "is neither an IP address nor `None`";
}

static const char *check_distribution(const char *text) {
    static const char *const known[] = {"PreferClose", "PreferSameZone", "PreferSameNode"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(text, known[i]) == 0) {
            return NULL;
        }
    }
    return "is none of PreferClose, PreferSameZone, PreferSameNode";
}

static const char *check_affinity(const char *text) {
    return strcmp(text, "None") == 0 || strcmp(text, "ClientIP") == 0 ? NULL
                                                                      : "is none of None, ClientIP";
}

static const struct schema_field port_fields[] = {
    F_INT(struct kobj_service_port, port, "port", 1, 65535, .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_service_port, name, "name", .check = schema_check_dns_label),
    F_ENUM(struct kobj_service_port, protocol, "protocol", kobj_protocol_names),
    F_IOS(struct kobj_service_port, target_port, "targetPort", .min = 1, .max = 65535,
          .check = schema_check_port_name),
    F_INT(struct kobj_service_port, node_port, "nodePort", 0, 65535),
    F_STR(struct kobj_service_port, app_protocol, "appProtocol"),
};
static const struct schema_msg port_msg = {
    SCHEMA_MSG(struct kobj_service_port, port_fields),
    SCHEMA_POS(struct kobj_service_port, pos),
};

static const struct schema_field client_ip_fields[] = {
    F_INT(struct kobj_service, session_affinity_timeout_s, "timeoutSeconds", 1, 86400,
          .absent = -1),
};
static const struct schema_msg client_ip_msg = {SCHEMA_MSG(struct kobj_service, client_ip_fields)};
static const struct schema_field affinity_fields[] = {F_FLAT("clientIP", &client_ip_msg)};
static const struct schema_msg affinity_msg = {SCHEMA_MSG(struct kobj_service, affinity_fields)};

static void check_ports(struct schema_ctx *ctx, const struct cfg_node *node,
                        const struct kobj_service *service) {
    const struct cfg_node *ports = cfg_get(node, "ports");
    char path[32];

    for (uint32_t i = 0; i < service->n_ports; i++) {
        const struct kobj_service_port *port = &service->ports[i];
        snprintf(path, sizeof(path), "ports[%u]", i);
        if (service->n_ports > 1 && port->name[0] == '\0') {
            schema_error(ctx, &ports->items[i], path,
                         "needs a `name`, as the service has several ports");
        }
        for (uint32_t j = 0; j < i; j++) {
            const struct kobj_service_port *other = &service->ports[j];
            if (port->name[0] != '\0' && strcmp(port->name, other->name) == 0) {
                schema_error(ctx, &ports->items[i], path, "the name `%.60s` is used twice",
                             port->name);
                break;
            }
            if (port->port != 0 && port->port == other->port && port->protocol == other->protocol) {
                schema_error(ctx, &ports->items[i], path, "port %u is there twice", port->port);
                break;
            }
        }
    }
}

static void check_service(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_service *service = out;
    bool is_headless = strcmp(service->cluster_ip, "None") == 0;

    if (service->type == SERVICE_EXTERNAL_NAME) {
        if (service->external_name[0] == '\0') {
            schema_error(ctx, node, "externalName", "is required with type ExternalName");
        }
        return;
    }
    if (service->n_ports == 0 && !is_headless) {
        schema_error(ctx, node, "ports", "is required");
    }
    check_ports(ctx, node, service);
}

static const struct schema_field service_spec_fields[] = {
    F_ENUM(struct kobj_service, type, "type", service_types),
    F_STR(struct kobj_service, cluster_ip, "clusterIP", .check = check_cluster_ip),
    F_STRS(struct kobj_service, cluster_ips, "clusterIPs", .check = check_cluster_ip),
    F_STRS(struct kobj_service, external_ips, "externalIPs", .check = schema_check_ip),
    F_STRS(struct kobj_service, ip_families, "ipFamilies"),
    F_LIST(struct kobj_service, ports, "ports", &port_msg, .max = 1000),
    F_MAP(struct kobj_service, selector, "selector", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_BOOL(struct kobj_service, publish_not_ready, "publishNotReadyAddresses"),
    F_ENUM(struct kobj_service, internal_traffic_policy, "internalTrafficPolicy", traffic_policies),
    F_ENUM(struct kobj_service, external_traffic_policy, "externalTrafficPolicy", traffic_policies),
    F_STR(struct kobj_service, traffic_distribution, "trafficDistribution",
          .check = check_distribution),
    F_STR(struct kobj_service, external_name, "externalName"),
    F_STR(struct kobj_service, session_affinity, "sessionAffinity", .check = check_affinity),
    F_FLAT("sessionAffinityConfig", &affinity_msg),
    F_STR(struct kobj_service, ip_family_policy, "ipFamilyPolicy"),
    F_STR(struct kobj_service, load_balancer_ip, "loadBalancerIP", .check = schema_check_ip),
};
static const struct schema_msg service_spec_msg = {
    SCHEMA_MSG(struct kobj_service, service_spec_fields),
    .known = "loadBalancerSourceRanges healthCheckNodePort allocateLoadBalancerNodePorts "
             "loadBalancerClass",
    .check = check_service,
};

static const struct schema_field ingress_fields[] = {
    F_STR(struct kobj_lb_ingress, ip, "ip", .check = schema_check_ip),
    F_STR(struct kobj_lb_ingress, hostname, "hostname"),
};
static const struct schema_msg ingress_msg = {
    SCHEMA_MSG(struct kobj_lb_ingress, ingress_fields),
    .known = "ipMode ports",
};
static const struct schema_field load_balancer_fields[] = {
    F_LIST(struct kobj_service, ingress, "ingress", &ingress_msg),
};
static const struct schema_msg load_balancer_msg = {
    SCHEMA_MSG(struct kobj_service, load_balancer_fields)};
static const struct schema_field service_status_fields[] = {
    F_FLAT("loadBalancer", &load_balancer_msg),
};
static const struct schema_msg service_status_msg = {
    SCHEMA_MSG(struct kobj_service, service_status_fields),
    .known = "conditions",
};
static const struct schema_field service_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &service_spec_msg, .flags = SCHEMA_REQUIRED),
    F_FLAT("status", &service_status_msg),
};
const struct schema_msg kobj_service_msg = {SCHEMA_MSG(struct kobj_service, service_fields)};

void kobj_service_finish(struct kobj_service *service) {
    if (service->n_cluster_ips == 0 && service->cluster_ip[0] != '\0') {
        service->cluster_ips = &service->cluster_ip;
        service->n_cluster_ips = 1;
    } else if (service->n_cluster_ips > 0 && service->cluster_ip[0] == '\0') {
        service->cluster_ip = service->cluster_ips[0];
    }
}

// EndpointSlice

static const struct schema_field object_ref_fields[] = {
    F_STR(struct kobj_object_ref, kind, "kind"),
    F_STR(struct kobj_object_ref, ns, "namespace"),
    F_STR(struct kobj_object_ref, name, "name"),
    F_STR(struct kobj_object_ref, uid, "uid"),
};
static const struct schema_msg object_ref_msg = {
    SCHEMA_MSG(struct kobj_object_ref, object_ref_fields),
    .known = "apiVersion resourceVersion fieldPath",
};

static const struct schema_field endpoint_port_fields[] = {
    F_STR(struct kobj_endpoint_port, name, "name"),
    F_STR(struct kobj_endpoint_port, app_protocol, "appProtocol"),
    F_INT(struct kobj_endpoint_port, port, "port", 1, 65535),
    F_ENUM(struct kobj_endpoint_port, protocol, "protocol", kobj_protocol_names),
};
static const struct schema_msg endpoint_port_msg = {
    SCHEMA_MSG(struct kobj_endpoint_port, endpoint_port_fields)};

static const struct schema_field endpoint_conditions_fields[] = {
    F_TRI(struct kobj_slice_endpoint, ready, "ready"),
    F_TRI(struct kobj_slice_endpoint, serving, "serving"),
    F_TRI(struct kobj_slice_endpoint, terminating, "terminating"),
};
static const struct schema_msg endpoint_conditions_msg = {
    SCHEMA_MSG(struct kobj_slice_endpoint, endpoint_conditions_fields)};
static const struct schema_field endpoint_fields[] = {
    F_STRS(struct kobj_slice_endpoint, addresses, "addresses", .flags = SCHEMA_REQUIRED),
    F_FLAT("conditions", &endpoint_conditions_msg),
    F_STR(struct kobj_slice_endpoint, hostname, "hostname"),
    F_STR(struct kobj_slice_endpoint, node_name, "nodeName"),
    F_STR(struct kobj_slice_endpoint, zone, "zone"),
    F_PTR(struct kobj_slice_endpoint, target, "targetRef", &object_ref_msg),
};
static const struct schema_msg endpoint_msg = {
    SCHEMA_MSG(struct kobj_slice_endpoint, endpoint_fields),
    .known = "deprecatedTopology hints topology",
};

static void check_slice(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_endpoint_slice *slice = out;
    const struct cfg_node *endpoints = cfg_get(node, "endpoints");
    char path[64];

    for (uint32_t i = 0; slice->address_type != ADDRESS_FQDN && i < slice->n_endpoints; i++) {
        const struct kobj_slice_endpoint *endpoint = &slice->endpoints[i];
        for (uint32_t j = 0; j < endpoint->n_addresses; j++) {
            struct ip ip;
            uint8_t family = slice->address_type == ADDRESS_IPV4 ? 4 : 6;
            if (slice->address_type == 0 || endpoint->addresses[j][0] == '\0' ||
                (ip_parse(slice_str(endpoint->addresses[j]), &ip) && ip.family == family)) {
                continue;
            }
            snprintf(path, sizeof(path), "endpoints[%u].addresses[%u]", i, j);
            schema_error(ctx, &cfg_get(&endpoints->items[i], "addresses")->items[j], path,
                         "`%.60s` is not an IPv%u address", endpoint->addresses[j], family);
        }
    }
}

static const struct schema_name address_types[] = {
    {"IPv4", ADDRESS_IPV4}, {"IPv6", ADDRESS_IPV6}, {"FQDN", ADDRESS_FQDN}, {NULL, 0}};
static const struct schema_field slice_fields[] = {
    KOBJ_HEAD,
    F_ENUM(struct kobj_endpoint_slice, address_type, "addressType", address_types,
           .flags = SCHEMA_REQUIRED),
    F_LIST(struct kobj_endpoint_slice, endpoints, "endpoints", &endpoint_msg),
    F_LIST(struct kobj_endpoint_slice, ports, "ports", &endpoint_port_msg),
};
const struct schema_msg kobj_endpoint_slice_msg = {
    SCHEMA_MSG(struct kobj_endpoint_slice, slice_fields),
    .check = check_slice,
};

// Endpoints

static const struct schema_field address_fields[] = {
    F_STR(struct kobj_endpoint_address, ip, "ip", .flags = SCHEMA_REQUIRED,
          .check = schema_check_ip),
    F_STR(struct kobj_endpoint_address, hostname, "hostname"),
    F_STR(struct kobj_endpoint_address, node_name, "nodeName"),
    F_PTR(struct kobj_endpoint_address, target, "targetRef", &object_ref_msg),
};
static const struct schema_msg address_msg = {
    SCHEMA_MSG(struct kobj_endpoint_address, address_fields)};
static const struct schema_field subset_fields[] = {
    F_LIST(struct kobj_endpoint_subset, addresses, "addresses", &address_msg),
    {.name = "notReadyAddresses",
     .type = SCHEMA_LIST,
     SCHEMA_NAT(struct kobj_endpoint_subset, not_ready),
     .msg = &address_msg},
    F_LIST(struct kobj_endpoint_subset, ports, "ports", &endpoint_port_msg),
};
static const struct schema_msg subset_msg = {
    SCHEMA_MSG(struct kobj_endpoint_subset, subset_fields)};
static const struct schema_field endpoints_fields[] = {
    KOBJ_HEAD,
    F_LIST(struct kobj_endpoints, subsets, "subsets", &subset_msg),
};
const struct schema_msg kobj_endpoints_msg = {SCHEMA_MSG(struct kobj_endpoints, endpoints_fields)};
