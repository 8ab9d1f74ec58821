// SPDX-License-Identifier: Apache-2.0
//
// ServiceEntry, WorkloadEntry, WorkloadGroup.
#include <stdio.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_priv.h"

static bool is_ip(const char *text) {
    struct ip ip;
    return ip_parse(slice_str(text), &ip);
}

static bool is_host(const char *text) {
    return text[0] != '*' && schema_check_host_wildcard(text) == NULL;
}

static const char *check_no_wildcard(const char *text) {
    return strchr(text, '*') == NULL ? NULL : "must not hold `*`: selectors match whole values";
}

// WorkloadEntry

static const struct schema_field port_fields[] = {
    F_STR(struct kobj_named_port, name, "<key>"),
    F_INT(struct kobj_named_port, port, "<value>", 1, 65535),
};
static const struct schema_msg port_msg = {SCHEMA_MSG(struct kobj_named_port, port_fields)};

static void check_unix(struct schema_ctx *ctx, const struct cfg_node *node,
                       const struct kobj_workload_entry *entry) {
    const char *path = entry->address + strlen("unix://");
    size_t len = strlen(path);

    if (len == 0 || (path[0] != '/' && path[0] != '@')) {
        schema_error(ctx, node, "address", "needs an absolute path or an abstract name (@name)");
    } else if (path[0] == '/' && path[len - 1] == '/') {
        schema_error(ctx, node, "address", "is a directory");
    }
    if (entry->n_ports > 0) {
        schema_error(ctx, node, "ports", "cannot be set with a Unix socket");
    }
}

static void check_workload_entry(struct schema_ctx *ctx, const struct cfg_node *node,
                                 const void *out) {
    const struct kobj_workload_entry *entry = out;
    const struct cfg_node *address = cfg_get(node, "address");

    if (strncmp(entry->address, "unix://", 7) == 0) {
        check_unix(ctx, address, entry);
    } else if (entry->address[0] != '\0' && !is_ip(entry->address) && !is_host(entry->address)) {
        schema_error(ctx, address, "address", "`%.60s` is neither an IP address nor a host name",
                     entry->address);
    }
}

static const struct schema_field workload_entry_fields[] = {
    F_STR(struct kobj_workload_entry, address, "address"),
    F_KEYED(struct kobj_workload_entry, ports, "ports", &port_msg,
            .check_key = schema_check_dns_label),
    F_MAP(struct kobj_workload_entry, labels, "labels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_STR(struct kobj_workload_entry, network, "network"),
    F_STR(struct kobj_workload_entry, locality, "locality"),
    F_INT(struct kobj_workload_entry, weight, "weight", 0, UINT32_MAX),
    F_STR(struct kobj_workload_entry, service_account, "serviceAccount"),
};
// Inside of a ServiceEntry or WorkloadGroup.
static const struct schema_msg endpoint_msg = {
    SCHEMA_MSG(struct kobj_workload_entry, workload_entry_fields),
    .check = check_workload_entry,
};

static void check_entry_spec(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_workload_entry *entry = out;

    check_workload_entry(ctx, node, out);
    if (entry->address[0] == '\0' && entry->network[0] == '\0') {
        schema_error(ctx, node, "address", "is required");
    }
}
static const struct schema_msg entry_spec_msg = {
    SCHEMA_MSG(struct kobj_workload_entry, workload_entry_fields),
    .check = check_entry_spec,
};
static const struct schema_field entry_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &entry_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_workload_entry_msg = {
    SCHEMA_MSG(struct kobj_workload_entry, entry_fields)};

// WorkloadGroup

static const struct schema_field group_meta_fields[] = {
    F_MAP(struct kobj_workload_group, labels, "labels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_MAP(struct kobj_workload_group, annotations, "annotations"),
};
static const struct schema_msg group_meta_msg = {
    SCHEMA_MSG(struct kobj_workload_group, group_meta_fields)};
static const struct schema_field group_spec_fields[] = {
    F_FLAT("metadata", &group_meta_msg),
    F_MSG(struct kobj_workload_group, tmpl, "template", &endpoint_msg, .flags = SCHEMA_REQUIRED),
    F_PTR(struct kobj_workload_group, probe, "probe", &kobj_probe_msg),
};
static const struct schema_msg group_spec_msg = {
    SCHEMA_MSG(struct kobj_workload_group, group_spec_fields)};
static const struct schema_field group_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &group_spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_workload_group_msg = {
    SCHEMA_MSG(struct kobj_workload_group, group_fields)};

// ServiceEntry

// `*x` without a dot is what Istio accepts with a warning, too.
static const char *check_entry_host(const char *text) {
    if (text[0] == '*' && text[1] != '\0' && text[1] != '.') {
        text++;
    }
    return strcmp(text, "*") == 0 ? "cannot be a host: name at least a domain, *.example.com"
                                  : schema_check_host_wildcard(text);
}

static const char *check_protocol(const char *text) {
    static const char *const known[] = {"HTTP", "HTTP2", "HTTPS", "GRPC",  "GRPC-WEB",   "TCP",
                                        "TLS",  "MONGO", "REDIS", "MYSQL", "HTTP_PROXY", "UDP"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcasecmp(text, known[i]) == 0) {
            return NULL;
        }
    }
    return "is none of HTTP, HTTP2, HTTPS, GRPC, GRPC-WEB, TCP, TLS, MONGO, REDIS, MYSQL";
}

static const struct schema_field se_port_fields[] = {
    F_INT(struct kobj_se_port, port, "number", 1, 65535, .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_se_port, protocol, "protocol", .check = check_protocol),
    F_STR(struct kobj_se_port, name, "name", .flags = SCHEMA_REQUIRED,
          .check = schema_check_dns_label),
    F_INT(struct kobj_se_port, target_port, "targetPort", 0, 65535),
};
static const struct schema_msg se_port_msg = {SCHEMA_MSG(struct kobj_se_port, se_port_fields)};

static const struct cfg_node *item_of(const struct cfg_node *node, const char *list, uint32_t i) {
    const struct cfg_node *items = cfg_get(node, list);
    return items != NULL && items->type == CFG_LIST && i < items->n ? &items->items[i] : node;
}

static bool has_port(const struct kobj_service_entry *entry, const char *name) {
    for (uint32_t i = 0; i < entry->n_ports; i++) {
        if (strcmp(entry->ports[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_se_ports(struct schema_ctx *ctx, const struct cfg_node *node,
                           const struct kobj_service_entry *entry) {
    char path[32];

    for (uint32_t i = 0; i < entry->n_ports; i++) {
        const struct kobj_se_port *port = &entry->ports[i];
        snprintf(path, sizeof(path), "ports[%u]", i);
        for (uint32_t j = 0; j < i; j++) {
            if (port->name[0] != '\0' && strcmp(port->name, entry->ports[j].name) == 0) {
                schema_error(ctx, item_of(node, "ports", i), path, "the name `%.60s` is used twice",
                             port->name);
                break;
            }
            if (port->port != 0 && port->port == entry->ports[j].port) {
                schema_error(ctx, item_of(node, "ports", i), path, "port %u is there twice",
                             port->port);
                break;
            }
        }
        if (port->target_port != 0 && entry->resolution == SE_NONE) {
            schema_warn(ctx, item_of(node, "ports", i), path,
                        "targetPort has no effect with resolution NONE");
        }
    }
}

static void check_se_endpoints(struct schema_ctx *ctx, const struct cfg_node *node,
                               const struct kobj_service_entry *entry) {
    char path[96];

    for (uint32_t i = 0; i < entry->n_endpoints; i++) {
        const struct kobj_workload_entry *endpoint = &entry->endpoints[i];
        const struct cfg_node *at = item_of(node, "endpoints", i);
        bool is_unix = strncmp(endpoint->address, "unix://", 7) == 0;
        snprintf(path, sizeof(path), "endpoints[%u].address", i);
        if (endpoint->address[0] == '\0' && endpoint->network[0] == '\0') {
            schema_error(ctx, at, path, "is required");
        } else if (entry->resolution == SE_STATIC && endpoint->address[0] != '\0' && !is_unix &&
                   !is_ip(endpoint->address)) {
            schema_error(ctx, at, path, "`%.60s` must be an IP address with resolution STATIC",
                         endpoint->address);
        }
        if (is_unix && entry->n_ports != 1) {
            schema_error(ctx, at, path, "a Unix socket needs exactly one port in `ports`");
        }
        for (uint32_t j = 0; j < endpoint->n_ports; j++) {
            if (!has_port(entry, endpoint->ports[j].name)) {
                snprintf(path, sizeof(path), "endpoints[%u].ports.%.40s", i,
                         endpoint->ports[j].name);
                schema_error(ctx, at, path, "spec.ports has no port of this name");
            }
        }
    }
}

// The waypoint resolves what requests ask for: nothing else can say where a host is.
static void check_dynamic(struct schema_ctx *ctx, const struct cfg_node *node,
                          const struct kobj_service_entry *entry) {
    static const char *const known[] = {"HTTP", "HTTP2", "GRPC", "TLS"};
    char path[32];

    for (uint32_t i = 0; i < entry->n_hosts; i++) {
        if (entry->hosts[i][0] != '*') {
            snprintf(path, sizeof(path), "hosts[%u]", i);
            schema_error(ctx, item_of(node, "hosts", i), path,
                         "must be a wildcard (*.example.com) with resolution DYNAMIC_DNS; a full "
                         "name has resolution DNS");
        }
    }
    if (entry->n_addresses > 0) {
        schema_error(ctx, cfg_get(node, "addresses"), "addresses",
                     "cannot be set with resolution DYNAMIC_DNS");
    }
    if (entry->n_endpoints > 0) {
        schema_error(ctx, cfg_get(node, "endpoints"), "endpoints",
                     "cannot be set with resolution DYNAMIC_DNS");
    }
    for (uint32_t i = 0; i < entry->n_ports; i++) {
        bool is_known = false;
        for (size_t k = 0; k < ARRAY_LEN(known); k++) {
            is_known = is_known || strcasecmp(entry->ports[i].protocol, known[k]) == 0;
        }
        if (!is_known) {
            snprintf(path, sizeof(path), "ports[%u].protocol", i);
            schema_error(ctx, item_of(node, "ports", i), path,
                         "must be HTTP, HTTP2, GRPC or TLS with resolution DYNAMIC_DNS: in other "
                         "bytes no host is named");
        }
    }
}

static void check_resolution(struct schema_ctx *ctx, const struct cfg_node *node,
                             const struct kobj_service_entry *entry) {
    bool is_dns = entry->resolution == SE_DNS || entry->resolution == SE_DNS_ROUND_ROBIN;

    for (uint32_t i = 0; is_dns && entry->n_endpoints == 0 && i < entry->n_hosts; i++) {
        if (!is_host(entry->hosts[i])) {
            char path[32];
            snprintf(path, sizeof(path), "hosts[%u]", i);
            schema_error(ctx, item_of(node, "hosts", i), path,
                         "must be a full host name, as there are no endpoints to resolve instead");
        }
    }
    for (uint32_t i = 0; i < entry->n_addresses; i++) {
        if (strchr(entry->addresses[i], '/') != NULL && entry->resolution != SE_NONE &&
            entry->resolution != SE_STATIC) {
            schema_error(ctx, item_of(node, "addresses", i), "addresses",
                         "CIDRs are allowed only with resolution NONE and STATIC");
            break;
        }
    }
    if (entry->resolution == SE_NONE && entry->n_endpoints > 0) {
        schema_error(ctx, cfg_get(node, "endpoints"), "endpoints",
                     "cannot be set with resolution NONE");
    }
    if (entry->resolution == SE_NONE && entry->n_addresses == 0 && entry->n_hosts > 0 &&
        !entry->has_selector) {
        schema_warn(ctx, cfg_get(node, "hosts"), "hosts",
                    "connections go by address, and with resolution NONE (the default) there is "
                    "none without `addresses`: this has no effect; write `resolution: %s`",
                    entry->hosts[0][0] == '*' ? "DYNAMIC_DNS" : "DNS");
    }
    if (entry->resolution == SE_DNS_ROUND_ROBIN && entry->n_endpoints > 1) {
        schema_error(ctx, cfg_get(node, "endpoints"), "endpoints",
                     "only one is allowed with resolution DNS_ROUND_ROBIN");
    }
    if (entry->has_selector && entry->resolution != SE_STATIC) {
        schema_warn(ctx, cfg_get(node, "workloadSelector"), "workloadSelector",
                    "has a meaning with resolution STATIC only");
    }
}

static void warn_partial_wildcards(struct schema_ctx *ctx, const struct cfg_node *node,
                                   const struct kobj_service_entry *entry) {
    char path[32];

    for (uint32_t i = 0; i < entry->n_hosts; i++) {
        const char *host = entry->hosts[i];
        if (host[0] == '*' && host[1] != '\0' && host[1] != '.') {
            snprintf(path, sizeof(path), "hosts[%u]", i);
            schema_warn(ctx, item_of(node, "hosts", i), path,
                        "`%.60s` stands for no domain; a wildcard is a whole label, *.example.com",
                        host);
        }
    }
}

static void check_service_entry(struct schema_ctx *ctx, const struct cfg_node *node,
                                const void *out) {
    const struct kobj_service_entry *entry = out;

    warn_partial_wildcards(ctx, node, entry);
    if (entry->has_selector && entry->endpoints != NULL) {
        schema_error(ctx, cfg_get(node, "endpoints"), "endpoints",
                     "only one of `workloadSelector` and `endpoints` may be set");
    }
    if (entry->has_selector && entry->selector.n == 0) {
        schema_warn(ctx, cfg_get(node, "workloadSelector"), "workloadSelector", "has no labels");
    }
    check_se_ports(ctx, node, entry);
    check_se_endpoints(ctx, node, entry);
    check_resolution(ctx, node, entry);
    if (entry->resolution == SE_DYNAMIC_DNS) {
        check_dynamic(ctx, node, entry);
    }
}

static void check_whole_entry(struct schema_ctx *ctx, const struct cfg_node *node,
                              const void *out) {
    const struct kobj_service_entry *entry = out;
    const struct cfg_node *labels = cfg_get(cfg_get(node, "metadata"), "labels");
    const char *waypoint = cfg_str(cfg_get(labels, "istio.io/use-waypoint"), "none");

    if (entry->resolution == SE_DYNAMIC_DNS && entry->location == SE_MESH_INTERNAL &&
        strcmp(waypoint, "none") != 0) {
        schema_error(ctx, cfg_get(node, "spec"), "spec.location",
                     "must be MESH_EXTERNAL with resolution DYNAMIC_DNS and a waypoint");
    }
}

static const struct schema_name locations[] = {
    {"MESH_EXTERNAL", SE_MESH_EXTERNAL}, {"MESH_INTERNAL", SE_MESH_INTERNAL}, {NULL, 0}};
static const struct schema_name resolutions[] = {{"NONE", SE_NONE},
                                                 {"STATIC", SE_STATIC},
                                                 {"DNS", SE_DNS},
                                                 {"DNS_ROUND_ROBIN", SE_DNS_ROUND_ROBIN},
                                                 {"DYNAMIC_DNS", SE_DYNAMIC_DNS},
                                                 {NULL, 0}};
static const struct schema_field selector_fields[] = {
    F_MAP(struct kobj_service_entry, selector, "labels", .check = check_no_wildcard,
          .check_key = check_no_wildcard),
};
static const struct schema_msg selector_msg = {
    SCHEMA_MSG(struct kobj_service_entry, selector_fields)};
static const struct schema_field se_spec_fields[] = {
    F_STRS(struct kobj_service_entry, hosts, "hosts", .flags = SCHEMA_REQUIRED,
           .check = check_entry_host),
    F_STRS(struct kobj_service_entry, addresses, "addresses", .check = schema_check_cidr),
    F_LIST(struct kobj_service_entry, ports, "ports", &se_port_msg, .max = 1000),
    F_ENUM(struct kobj_service_entry, location, "location", locations),
    F_ENUM(struct kobj_service_entry, resolution, "resolution", resolutions),
    F_LIST(struct kobj_service_entry, endpoints, "endpoints", &endpoint_msg, .max = 10000),
    F_FLAT("workloadSelector", &selector_msg, F_TAG(struct kobj_service_entry, has_selector, 1)),
    F_STRS(struct kobj_service_entry, export_to, "exportTo"),
    F_STRS(struct kobj_service_entry, sans, "subjectAltNames"),
};
static const struct schema_msg se_spec_msg = {
    SCHEMA_MSG(struct kobj_service_entry, se_spec_fields),
    .check = check_service_entry,
};

// A list of such structs is a list of texts.
struct status_address {
    const char *value;
};
static const struct schema_field status_address_fields[] = {
    F_STR(struct status_address, value, "value", .check = schema_check_ip),
};
static const struct schema_msg status_address_msg = {
    SCHEMA_MSG(struct status_address, status_address_fields),
    .known = "host",
};
static const struct schema_field se_status_fields[] = {
    {.name = "addresses",
     .type = SCHEMA_LIST,
     SCHEMA_NAT(struct kobj_service_entry, status_addresses),
     .msg = &status_address_msg},
};
static const struct schema_msg se_status_msg = {
    SCHEMA_MSG(struct kobj_service_entry, se_status_fields),
    .known = "conditions validationMessages observedGeneration",
};
static const struct schema_field se_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &se_spec_msg, .flags = SCHEMA_REQUIRED),
    F_FLAT("status", &se_status_msg),
};
const struct schema_msg kobj_service_entry_msg = {
    SCHEMA_MSG(struct kobj_service_entry, se_fields),
    .check = check_whole_entry,
};
