// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/mesh_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/intern.h"

void fx_init(void) {
    struct mesh_settings mesh = {
        .trust_domain = "cluster.local",
        .cluster_domain = "cluster.local",
        .root_namespace = "istio-system",
        .cluster_id = "Kubernetes",
    };
    snapshot_init(&mesh);
}

void fx_fini_leaves(void) {
    snapshot_fini();
    assert_int_equal(leaf_count(), 0);
}

void fx_fini(void) {
    fx_fini_leaves();
    assert_int_equal(intern_count(), 0);
}

struct ip fx_ip(const char *text) {
    struct ip ip;
    assert_true(ip_parse(slice_str(text), &ip));
    return ip;
}

struct addr fx_addr(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

static uint16_t parse_ips(const char *text, struct ip ips[8]) {
    uint16_t n = 0;
    struct slice rest = slice_str(text);
    while (rest.len > 0) {
        struct slice one = rest;
        if (!slice_split(rest, ',', &one, &rest)) {
            rest = slice_make(NULL, 0);
        }
        assert_true(ip_parse(one, &ips[n]));
        n++;
    }
    return n;
}

#define DEFAULT(field, value) c.field = c.field != NULL ? c.field : (value)

struct workload *fx_workload(const char *ns, const char *name, const char *ips,
                             const struct fx_workload *more) {
    struct workload_common c = more->common;
    struct ip parsed[8];
    char key[256], identity[256];
    snprintf(key, sizeof(key), "Kubernetes//Pod/%s/%s", ns, name);
    c.ns = ns;
    DEFAULT(service_account, name);
    DEFAULT(trust_domain, "cluster.local");
    DEFAULT(cluster, "Kubernetes");
    snprintf(identity, sizeof(identity), "spiffe://%s/ns/%s/sa/%s", c.trust_domain, ns,
             c.service_account);
    DEFAULT(identity, identity);
    struct workload w = {
        .leaf.key = slice_str(key),
        .name = name,
        .node = more->node,
        .common = &c,
        .ips = parsed,
        .n_ips = parse_ips(ips, parsed),
        .capacity = more->capacity,
        .protocol = more->protocol,
        .is_healthy = true,
        .is_ready = true,
        .is_host_network = more->is_host_network,
        .is_terminating = more->is_terminating,
        .is_pod = true,
    };
    return workload_new(&w);
}

static uint16_t parse_ranges(const char *text, struct cidr ranges[8]) {
    struct slice rest = slice_str(text), head;
    uint16_t n = 0;
    while (rest.len > 0) {
        if (!slice_split(rest, ',', &head, &rest)) {
            head = rest;
            rest.len = 0;
        }
        assert_true(n < 8 && cidr_parse(head, true, &ranges[n++]));
    }
    return n;
}

struct service *fx_service(const struct fx_service *spec) {
    struct service s = spec->more;
    struct ip vips[8];
    struct cidr ranges[8];
    struct service_port ports[4] = {0};
    uint16_t target_ports[4];
    struct endpoint endpoints[8];
    char host[256], key[512];
    snprintf(host, sizeof(host), "%s.%s.svc.cluster.local", spec->name, spec->ns);
    if (spec->hostname != NULL) {
        snprintf(host, sizeof(host), "%s", spec->hostname);
    }
    snprintf(key, sizeof(key), "%s/%s", spec->ns, host);
    s.leaf.key = slice_str(key);
    s.name = spec->name;
    s.ns = spec->ns;
    s.hostname = host;
    s.vips = vips;
    s.n_vips = parse_ips(spec->vips != NULL ? spec->vips : "", vips);
    s.ranges = ranges;
    s.n_ranges = parse_ranges(spec->ranges != NULL ? spec->ranges : "", ranges);
    s.ports = ports;
    while (s.n_ports < 4 && spec->ports[s.n_ports] != 0) {
        ports[s.n_ports].port = spec->ports[s.n_ports];
        ports[s.n_ports].target_port = target_ports[s.n_ports] =
            (uint16_t)(spec->ports[s.n_ports] + 8000);
        s.n_ports++;
    }
    ports[0].node_port = spec->node_port;
    s.endpoints = endpoints;
    while (s.n_endpoints < 8 && spec->members[s.n_endpoints] != NULL) {
        struct workload *w = spec->members[s.n_endpoints];
        endpoints[s.n_endpoints++] = (struct endpoint){
            .workload = w,
            .ip = w->n_ips > 0 ? w->ips[0] : (struct ip){0},
            .target_ports = target_ports,
            .is_ready = w->is_healthy && !w->is_terminating,
            .weight = w->capacity,
        };
    }
    return service_new(&s);
}

void fx_publish(void *leaf, ...) {
    struct snapshot *draft = snapshot_draft();
    va_list args;
    va_start(args, leaf);
    for (; leaf != NULL; leaf = va_arg(args, void *)) {
        switch (((struct leaf *)leaf)->kind) {
        case LEAF_WORKLOAD:
            snapshot_set_workload(draft, leaf);
            break;
        case LEAF_SERVICE:
            snapshot_set_service(draft, leaf);
            break;
        case LEAF_POLICY:
            snapshot_set_policy(draft, leaf);
            break;
        case LEAF_IDENTITY:
            snapshot_set_identity(draft, leaf);
            break;
        default:
            snapshot_set_node(draft, leaf);
            break;
        }
    }
    va_end(args);
    snapshot_publish(draft);
}
