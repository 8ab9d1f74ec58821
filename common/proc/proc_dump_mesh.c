// SPDX-License-Identifier: Apache-2.0
//
// Workloads and services as ztunnel serialises them (its src/state/workload.rs, service.rs).
#include <stdio.h>
#include <stdlib.h>

#include "common/proc/proc_dump_priv.h"
#include "common/proto/hbone.h"

// ---- small values ------------------------------------------------------------------------------

static void put_ip(struct json_out *out, const struct ip *ip) {
    char text[IP_TEXT_MAX];
    json_out_string(out, slice_str(ip_text(ip, text)));
}

// "network/address"
static void put_network_ip(struct json_out *out, const char *network, const char *ip) {
    char text[512];
    snprintf(text, sizeof(text), "%s/%s", network, ip);
    json_out_string(out, slice_str(text));
}

// What is empty is left out, as ztunnel does.
static void put_text(struct json_out *out, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0') {
        json_out_kv_str(out, key, text);
    }
}

static void put_texts(struct json_out *out, const char *key, const char *const *texts, size_t n) {
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        json_out_string(out, slice_str(texts[i]));
    }
    json_out_end(out);
}

static void put_gateway(struct json_out *out, const char *waypoint, const char *network,
                        uint16_t port) {
    json_out_key(out, SLICE_LIT("destination"));
    if (strchr(waypoint, '/') != NULL) {
        json_out_string(out, slice_str(waypoint));
    } else {
        put_network_ip(out, network, waypoint);
    }
    json_out_kv_u64(out, "hboneMtlsPort", port);
}

static void put_waypoint(struct json_out *out, const char *waypoint, const char *network) {
    if (waypoint[0] == '\0') {
        return;
    }
    json_out_kv_object(out, "waypoint");
    put_gateway(out, waypoint, network, HBONE_PORT);
    json_out_end(out);
}

static void put_weighted(struct json_out *out, const struct service *service, const char *network) {
    const char *const names[] = {service->waypoint, service->canary};
    const uint64_t weights[] = {100U - service->canary_percent, service->canary_percent};
    if (service->canary[0] == '\0') {
        return;
    }
    json_out_kv_array(out, "weightedWaypoints");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_out_begin_object(out);
        json_out_kv_object(out, "destination");
        put_gateway(out, names[i], network, HBONE_PORT);
        json_out_end(out);
        json_out_kv_u64(out, "weight", weights[i]);
        json_out_end(out);
    }
    json_out_end(out);
}

// ---- workloads ---------------------------------------------------------------------------------

static void put_locality(struct json_out *out, const struct locality *locality) {
    if (locality->region[0] == '\0' && locality->zone[0] == '\0') {
        return;
    }
    json_out_kv_object(out, "locality");
    json_out_kv_str(out, "region", locality->region);
    json_out_kv_str(out, "zone", locality->zone);
    json_out_kv_str(out, "subzone", locality->subzone);
    json_out_end(out);
}

void proc_dump_workload_begin(struct json_out *out, const struct workload *workload) {
    json_out_begin_object(out);
    json_out_kv_array(out, "workloadIps");
    for (size_t i = 0; i < workload->n_ips; i++) {
        put_ip(out, &workload->ips[i]);
    }
    json_out_end(out);
    put_waypoint(out, workload->common->waypoint, workload->common->network);
    if (workload->common->network_gateway[0] != '\0') {
        json_out_kv_object(out, "networkGateway");
        put_gateway(out, workload->common->network_gateway, "",
                    workload->common->network_gateway_port);
        json_out_end(out);
    }
    if (workload->app_tunnel != APP_TUNNEL_ABSENT) {
        json_out_key(out, slice_str("applicationTunnel"));
        json_out_begin_object(out);
        json_out_kv_str(out, "protocol",
                        workload->app_tunnel == APP_TUNNEL_PROXY ? "PROXY" : "NONE");
        if (workload->app_tunnel_port != 0) {
            json_out_kv_u64(out, "port", workload->app_tunnel_port);
        }
        json_out_end(out);
    }
    json_out_kv_str(out, "protocol", workload->protocol == WORKLOAD_HBONE ? "HBONE" : "TCP");
    json_out_kv_str(out, "networkMode", workload->is_host_network ? "HostNetwork" : "Standard");
    json_out_kv_string(out, "uid", workload->leaf.key);
    json_out_kv_str(out, "name", workload->name);
    json_out_kv_str(out, "namespace", workload->ns);
    put_text(out, "trustDomain", workload->common->trust_domain);
    put_text(out, "serviceAccount", workload->common->service_account);
    put_text(out, "network", workload->common->network);
    put_text(out, "workloadName", workload_owner_name(workload));
    put_text(out, "workloadType", workload->common->owner_type);
    put_text(out, "canonicalName", workload_canonical_name(workload));
    put_text(out, "canonicalRevision", workload->common->canonical_revision);
    put_text(out, "hostname", workload->common->hostname);
    put_text(out, "node", workload->node);
    if (workload->common->n_policies > 0) {
        put_texts(out, "authorizationPolicies", workload->common->policies,
                  workload->common->n_policies);
    }
    json_out_kv_str(out, "status", workload->is_healthy ? "Healthy" : "Unhealthy");
    json_out_kv_str(out, "clusterId", workload->common->cluster);
    put_locality(out, &workload->common->locality);
}

void proc_dump_workload_end(struct json_out *out, const struct workload *workload) {
    json_out_kv_u64(out, "capacity", workload->capacity);
    json_out_end(out);
}

// ---- services ----------------------------------------------------------------------------------

static void put_port(struct json_out *out, uint16_t port, uint16_t target) {
    char text[8];
    snprintf(text, sizeof(text), "%u", port);
    json_out_key(out, slice_str(text));
    json_out_u64(out, target);
}

void proc_dump_service_endpoint(struct json_out *out, const struct service *service,
                                const struct endpoint *endpoint) {
    json_out_key(out, endpoint->workload->leaf.key);
    json_out_begin_object(out);
    json_out_kv_string(out, "workloadUid", endpoint->workload->leaf.key);
    json_out_kv_object(out, "port");
    for (size_t i = 0; i < service->n_ports; i++) {
        if (endpoint->target_ports[i] != 0) {
            put_port(out, service->ports[i].port, endpoint->target_ports[i]);
        }
    }
    json_out_end(out);
    json_out_kv_str(out, "status", endpoint->is_ready ? "Healthy" : "Unhealthy");
    json_out_end(out);
}

static void put_load_balancer(struct json_out *out, const struct service *service) {
    static const char *const modes[] = {"Standard", "Strict", "Failover", "Passthrough"};
    static const char *const scopes[] = {"",     "Region",  "Zone",   "Subzone",
                                         "Node", "Cluster", "Network"};
    if (service->lb_mode == LB_STANDARD && !service->allow_not_ready) {
        return;
    }
    json_out_kv_object(out, "loadBalancer");
    json_out_kv_array(out, "routingPreferences");
    for (size_t i = 0; i < service->n_scopes; i++) {
        json_out_string(out, slice_str(scopes[service->scopes[i] % ARRAY_LEN(scopes)]));
    }
    json_out_end(out);
    json_out_kv_str(out, "mode", modes[service->lb_mode % ARRAY_LEN(modes)]);
    json_out_kv_str(out, "healthPolicy", service->allow_not_ready ? "AllowAll" : "OnlyHealthy");
    json_out_end(out);
}

static void put_families(struct json_out *out, const struct service *service) {
    bool has_v4 = false, has_v6 = false;
    for (size_t i = 0; i < service->n_vips; i++) {
        has_v4 = has_v4 || service->vips[i].family == 4;
        has_v6 = has_v6 || service->vips[i].family == 6;
    }
    if (has_v4 || has_v6) {
        json_out_kv_str(out, "ipFamilies", has_v4 && has_v6 ? "Dual" : has_v4 ? "IPv4" : "IPv6");
    }
}

static void put_ranges(struct json_out *out, const struct service *service, const char *network) {
    if (service->n_ranges == 0) {
        return;
    }
    json_out_kv_array(out, "cidrVips");
    for (size_t i = 0; i < service->n_ranges; i++) {
        char text[CIDR_TEXT_MAX];
        json_out_begin_object(out);
        json_out_kv_str(out, "network", network);
        json_out_kv_str(out, "cidr", cidr_text(&service->ranges[i], text));
        json_out_end(out);
    }
    json_out_end(out);
}

void proc_dump_service_begin(struct json_out *out, const struct service *service,
                             const char *network) {
    json_out_begin_object(out);
    json_out_kv_str(out, "name", service->name);
    json_out_kv_str(out, "namespace", service->ns);
    json_out_kv_str(out, "hostname", service->hostname);
    json_out_kv_array(out, "vips");
    for (size_t i = 0; i < service->n_vips; i++) {
        char text[IP_TEXT_MAX];
        put_network_ip(out, network, ip_text(&service->vips[i], text));
    }
    json_out_end(out);
    put_ranges(out, service, network);
    json_out_kv_object(out, "ports");
    for (size_t i = 0; i < service->n_ports; i++) {
        put_port(out, service->ports[i].port, service->ports[i].target_port);
    }
    json_out_end(out);
    json_out_kv_object(out, "endpoints");
}

void proc_dump_service_end(struct json_out *out, const struct service *service,
                           const char *network) {
    json_out_end(out); // endpoints
    put_texts(out, "subjectAltNames", service->sans, service->n_sans);
    put_waypoint(out, service->waypoint, network);
    put_weighted(out, service, network);
    put_load_balancer(out, service);
    put_families(out, service);
    json_out_kv_bool(out, "canonical", service->is_canonical);
    json_out_kv_str(out, "visibility", service->is_private ? "Namespace" : "Public");
    json_out_end(out);
}
