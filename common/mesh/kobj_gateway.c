// SPDX-License-Identifier: Apache-2.0
//
// Gateway, GatewayClass and ReferenceGrant of the Gateway API.
#include <stdio.h>

#include "common/mesh/kobj_l7_priv.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

// Gateway

#define LISTENER struct kobj_listener
static const struct schema_name from_names[] = {{"Same", ROUTES_SAME},
                                                {"All", ROUTES_ALL},
                                                {"Selector", ROUTES_SELECTOR},
                                                {"None", ROUTES_NONE},
                                                {NULL, 0}};
static void check_namespaces(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const LISTENER *listener = out;

    if (listener->routes_from == ROUTES_SELECTOR && listener->selector == NULL) {
        schema_error(ctx, node, "selector", "is required with `from: Selector`");
    } else if (listener->routes_from != ROUTES_SELECTOR && listener->selector != NULL) {
        schema_warn(ctx, kobj_at(node, "selector"), "selector",
                    "has no effect without `from: Selector`");
    }
}
static const struct schema_field namespaces_fields[] = {
    F_ENUM(LISTENER, routes_from, "from", from_names),
    F_PTR(LISTENER, selector, "selector", &kobj_label_selector_msg),
};
static const struct schema_msg namespaces_msg = {
    SCHEMA_MSG(LISTENER, namespaces_fields),
    .check = check_namespaces,
};
static const struct schema_field kind_fields[] = {
    F_STR(struct kobj_route_kind, group, "group", .absent_text = GATEWAY_GROUP),
    F_STR(struct kobj_route_kind, kind, "kind", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg kind_msg = {SCHEMA_MSG(struct kobj_route_kind, kind_fields)};
static const struct schema_field allowed_fields[] = {
    F_FLAT("namespaces", &namespaces_msg),
    F_LIST(LISTENER, kinds, "kinds", &kind_msg, .max = 8),
};
static const struct schema_msg allowed_msg = {SCHEMA_MSG(LISTENER, allowed_fields)};
static const struct schema_field listener_fields[] = {
    F_STR(LISTENER, name, "name", .flags = SCHEMA_REQUIRED, .check = schema_check_dns_name),
    F_STR(LISTENER, hostname, "hostname", .check = schema_check_host_wildcard),
    F_INT(LISTENER, port, "port", 1, 65535, .flags = SCHEMA_REQUIRED),
    F_STR(LISTENER, protocol, "protocol", .flags = SCHEMA_REQUIRED),
    F_FLAT("allowedRoutes", &allowed_msg),
};
static const struct schema_msg listener_msg = {
    SCHEMA_MSG(LISTENER, listener_fields),
    SCHEMA_POS(LISTENER, pos),
    .known = "tls",
};

#define ADDRESS struct kobj_gateway_address
static const struct schema_field address_fields[] = {
    F_STR(ADDRESS, type, "type", .absent_text = "IPAddress"),
    F_STR(ADDRESS, value, "value"),
};
static const struct schema_msg address_msg = {SCHEMA_MSG(ADDRESS, address_fields)};

static void check_addresses(struct schema_ctx *ctx, const struct cfg_node *node,
                            const ADDRESS *list, uint32_t n) {
    char path[32];

    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(list[i].type, "IPAddress") == 0 && list[i].value[0] != '\0' &&
            schema_check_ip(list[i].value) != NULL) {
            snprintf(path, sizeof(path), "addresses[%u]", i);
            schema_error(ctx, kobj_item(node, "addresses", i), path,
                         "`%.60s` is not an IP address; a name has `type: Hostname`",
                         list[i].value);
        }
    }
}

#define GATEWAY struct kobj_gateway
static void check_gateway(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const GATEWAY *gateway = out;
    char path[32];

    for (uint32_t i = 0; i < gateway->n_listeners; i++) {
        const LISTENER *listener = &gateway->listeners[i];
        snprintf(path, sizeof(path), "listeners[%u]", i);
        for (uint32_t j = 0; j < i; j++) {
            const LISTENER *other = &gateway->listeners[j];
            if (listener->name[0] != '\0' && strcmp(listener->name, other->name) == 0) {
                schema_error(ctx, kobj_item(node, "listeners", i), path,
                             "the name `%.60s` is used twice", listener->name);
                break;
            }
            if (listener->port != 0 && listener->port == other->port &&
                strcmp(listener->protocol, other->protocol) == 0 &&
                strcmp(listener->hostname, other->hostname) == 0) {
                schema_error(ctx, kobj_item(node, "listeners", i), path,
                             "port %u with this protocol and hostname is there twice",
                             listener->port);
                break;
            }
        }
    }
    check_addresses(ctx, node, gateway->addresses, gateway->n_addresses);
}
static const struct schema_field gateway_spec_fields[] = {
    F_STR(GATEWAY, class_name, "gatewayClassName", .flags = SCHEMA_REQUIRED,
          .check = schema_check_dns_name),
    F_LIST(GATEWAY, listeners, "listeners", &listener_msg, .flags = SCHEMA_REQUIRED, .max = 64),
    F_LIST(GATEWAY, addresses, "addresses", &address_msg, .max = 16),
};
static const struct schema_msg gateway_spec_msg = {
    SCHEMA_MSG(GATEWAY, gateway_spec_fields),
    .known = "infrastructure allowedListeners tls backendTLS defaultScope",
    .check = check_gateway,
};
static void check_status(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const GATEWAY *gateway = out;
    check_addresses(ctx, node, gateway->status_addresses, gateway->n_status_addresses);
}
static const struct schema_field gateway_status_fields[] = {
    {.name = "addresses",
     .type = SCHEMA_LIST,
     SCHEMA_NAT(GATEWAY, status_addresses),
     .msg = &address_msg},
    F_LIST(GATEWAY, conditions, "conditions", &kobj_condition_msg),
};
static const struct schema_msg gateway_status_msg = {
    SCHEMA_MSG(GATEWAY, gateway_status_fields),
    .known = "listeners attachedListenerSets",
    .check = check_status,
};
static const struct schema_field gateway_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &gateway_spec_msg, .flags = SCHEMA_REQUIRED),
    F_FLAT("status", &gateway_status_msg),
};
const struct schema_msg kobj_gateway_msg = {SCHEMA_MSG(GATEWAY, gateway_fields)};

// GatewayClass

#define CLASS struct kobj_gateway_class
static const struct schema_field class_spec_fields[] = {
    F_STR(CLASS, controller, "controllerName", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg class_spec_msg = {
    SCHEMA_MSG(CLASS, class_spec_fields),
    .known = "parametersRef description",
};
static const struct schema_field class_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &class_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_gateway_class_msg = {SCHEMA_MSG(CLASS, class_fields)};

// ReferenceGrant

static const struct schema_field grant_from_fields[] = {
    F_STR(struct kobj_grant_from, group, "group"),
    F_STR(struct kobj_grant_from, kind, "kind", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_grant_from, ns, "namespace", .flags = SCHEMA_REQUIRED,
          .check = schema_check_dns_label),
};
static const struct schema_msg grant_from_msg = {
    SCHEMA_MSG(struct kobj_grant_from, grant_from_fields)};
static const struct schema_field grant_to_fields[] = {
    F_STR(struct kobj_grant_to, group, "group"),
    F_STR(struct kobj_grant_to, kind, "kind", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_grant_to, name, "name"),
};
static const struct schema_msg grant_to_msg = {SCHEMA_MSG(struct kobj_grant_to, grant_to_fields)};

#define GRANT struct kobj_reference_grant
static const struct schema_field grant_spec_fields[] = {
    F_LIST(GRANT, from, "from", &grant_from_msg, .flags = SCHEMA_REQUIRED, .max = 16),
    F_LIST(GRANT, to, "to", &grant_to_msg, .flags = SCHEMA_REQUIRED, .max = 16),
};
static const struct schema_msg grant_spec_msg = {SCHEMA_MSG(GRANT, grant_spec_fields)};
static const struct schema_field grant_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &grant_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_reference_grant_msg = {SCHEMA_MSG(GRANT, grant_fields)};
