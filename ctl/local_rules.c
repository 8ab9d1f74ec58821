// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_rules.h"

#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_json.h"
#include "ctl/local_service.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

enum { ENDPOINTS_MAX = 1000 };

struct rules { // one namespace's table while it is written
    struct lab *lab;
    const struct lab_node *node; // NULL = the host
    struct text vips[2], node_ports[2], hairpins[2], chains;
    uint32_t n_chains;
};

static void add_element(struct text *set, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_element(struct text *set, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    text_add(set, "%s%s", set->len > 0 ? ",\n" : "", text);
    free(text);
}

// A chain that sends to one of the endpoints. Returns its number.
static uint32_t add_chain(struct rules *r, const json_t *service, const char *proto, int f,
                          const struct lab_endpoint *endpoints, size_t n) {
    char ip[IP_TEXT_MAX];
    const char *family = f == 0 ? "ip" : "ip6";
    uint32_t id = r->n_chains++;
    for (size_t i = 0; i < n; i++) {
        ip_text(&endpoints[i].ip, ip);
        text_add(&r->chains, "chain c%u_%zu {\nmeta l4proto %s dnat %s to %s%s%s:%u\n}\n", id, i,
                 proto, family, f == 0 ? "" : "[", ip, f == 0 ? "" : "]", endpoints[i].port);
        add_element(&r->hairpins[f], "%s . %s", ip, ip);
    }
    bool is_sticky = strcmp(js_str(service, "spec.sessionAffinity", ""), "ClientIP") == 0;
    text_add(&r->chains, "chain c%u {\n", id);
    if (is_sticky) {
        text_add(&r->chains, "jhash %s saddr mod %zu vmap { ", family, n);
    } else {
        text_add(&r->chains, "numgen random mod %zu vmap { ", n);
    }
    for (size_t i = 0; i < n; i++) {
        text_add(&r->chains, "%s%zu : goto c%u_%zu", i > 0 ? ", " : "", i, id, i);
    }
    text_add(&r->chains, " }\n}\n");
    return id;
}

// Endpoints of a port as this namespace sees them under a traffic policy. Returns a chain, -1 =
// none.
static int port_chain(struct rules *r, const json_t *service, const json_t *port, int f,
                      bool is_local_only) {
    struct lab_endpoint *endpoints = xcalloc(ENDPOINTS_MAX, sizeof(*endpoints));
    size_t n = lab_service_endpoints(r->lab, service, js_str(port, "name", ""), f == 0 ? 4 : 6,
                                     endpoints, ENDPOINTS_MAX);
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_here = r->node != NULL && strcmp(endpoints[i].node, r->node->name) == 0;
        if (!is_local_only || r->node == NULL || is_here) {
            endpoints[n_kept++] = endpoints[i];
        }
    }
    const char *proto = strcmp(js_str(port, "protocol", "TCP"), "UDP") == 0 ? "udp" : "tcp";
    int id = n_kept > 0 ? (int)add_chain(r, service, proto, f, endpoints, n_kept) : -1;
    free(endpoints);
    return id;
}

static bool is_policy_local(const json_t *service, const char *field) {
    return strcmp(js_str(service, field, "Cluster"), "Local") == 0;
}

static void add_vip(struct rules *r, const char *text, const char *proto, long long port, int id) {
    struct ip ip;
    if (id >= 0 && text != NULL && ip_parse(slice_str(text), &ip)) {
        add_element(&r->vips[ip.family == 4 ? 0 : 1], "%s . %s . %lld : goto c%d", text, proto,
                    port, id);
    }
}

static bool is_of_family(const char *text, int f) {
    struct ip ip;
    return text != NULL && ip_parse(slice_str(text), &ip) && (ip.family == 4) == (f == 0);
}

// External and load balancer addresses, and the node port.
static void add_external(struct rules *r, const json_t *service, const json_t *port, int f,
                         const char *proto, long long number) {
    bool is_local = is_policy_local(service, "spec.externalTrafficPolicy");
    long long node_port = js_int(port, "nodePort", 0);
    const json_t *externals = js_get(service, "spec.externalIPs");
    const json_t *ingress = js_get(service, "status.loadBalancer.ingress");
    if (node_port == 0 && json_array_size(externals) == 0 && json_array_size(ingress) == 0) {
        return;
    }
    int id = port_chain(r, service, port, f, is_local);
    if (id < 0) {
        return;
    }
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)externals, i, item) {
        if (is_of_family(json_string_value(item), f)) {
            add_vip(r, json_string_value(item), proto, number, id);
        }
    }
    json_array_foreach((json_t *)ingress, i, item) {
        if (is_of_family(js_str(item, "ip", NULL), f)) {
            add_vip(r, js_str(item, "ip", NULL), proto, number, id);
        }
    }
    if (node_port != 0 && r->node != NULL) {
        // The answer has to come back through this node, unless only its own pods are asked.
        text_add(&r->chains, "chain n%d {\n%sgoto c%d\n}\n", id,
                 is_local ? "" : "meta mark set meta mark | 0x4000\n", id);
        add_element(&r->node_ports[f], "%s . %lld : goto n%d", proto, node_port, id);
    }
}

static void add_service(struct rules *r, const json_t *service) {
    bool is_local = is_policy_local(service, "spec.internalTrafficPolicy");
    size_t i, k;
    json_t *port, *ip;
    json_array_foreach(js_get(service, "spec.ports"), i, port) {
        const char *proto = strcmp(js_str(port, "protocol", "TCP"), "UDP") == 0 ? "udp" : "tcp";
        long long number = js_int(port, "port", 0);
        for (int f = 0; f < 2; f++) {
            int id = -1;
            json_array_foreach(js_get(service, "spec.clusterIPs"), k, ip) {
                if (is_of_family(json_string_value(ip), f)) {
                    id = id < 0 ? port_chain(r, service, port, f, is_local) : id;
                    add_vip(r, json_string_value(ip), proto, number, id);
                }
            }
            add_external(r, service, port, f, proto, number);
        }
    }
}

static void put_map(struct text *out, const char *what, const char *name, const char *type,
                    const struct text *elements) {
    text_add(out, "%s %s {\ntype %s\n", what, name, type);
    if (elements->len > 0) {
        text_add(out, "elements = {\n%s\n}\n", elements->ptr);
    }
    text_add(out, "}\n");
}

// What nothing answers in the service ranges is refused at once, as kube-proxy does for services
// without endpoints. The DNS address is the node's own.
static void put_refusals(const struct rules *r, struct text *out, const char *hook) {
    char cidr[CIDR_TEXT_MAX], ip[IP_TEXT_MAX];
    text_add(out, "chain refuse_%s {\ntype filter hook %s priority 0; policy accept;\n", hook,
             hook);
    for (int f = 0; f < 2; f++) {
        if (r->lab->service_cidrs[f].ip.family == 0) {
            continue;
        }
        const char *family = f == 0 ? "ip" : "ip6";
        text_add(out, "%s daddr %s accept\n", family, ip_text(&r->lab->dns_ips[f], ip));
        text_add(out, "%s daddr %s reject\n", family, cidr_text(&r->lab->service_cidrs[f], cidr));
        text_add(out, "%s daddr %s reject\n", family, cidr_text(&r->lab->lb_cidrs[f], cidr));
    }
    text_add(out, "}\n");
}

static char *table_text(struct lab *lab, const struct lab_node *node) {
    struct rules r = {.lab = lab, .node = node};
    LIST_EACH(at, &lab->objects) {
        if (strcmp(js_kind(LAB_OBJECT(at)->doc), "Service") == 0) {
            add_service(&r, LAB_OBJECT(at)->doc);
        }
    }
    struct text out = {0};
    text_add(&out, "table inet zl-%s\ndelete table inet zl-%s\ntable inet zl-%s {\n", lab->opt.name,
             lab->opt.name, lab->opt.name);
    text_add(&out, "%s", r.chains.ptr != NULL ? r.chains.ptr : "");
    put_map(&out, "map", "vip4", "ipv4_addr . inet_proto . inet_service : verdict", &r.vips[0]);
    put_map(&out, "map", "vip6", "ipv6_addr . inet_proto . inet_service : verdict", &r.vips[1]);
    put_map(&out, "map", "port4", "inet_proto . inet_service : verdict", &r.node_ports[0]);
    put_map(&out, "map", "port6", "inet_proto . inet_service : verdict", &r.node_ports[1]);
    put_map(&out, "set", "hairpin4", "ipv4_addr . ipv4_addr", &r.hairpins[0]);
    put_map(&out, "set", "hairpin6", "ipv6_addr . ipv6_addr", &r.hairpins[1]);
    text_add(&out, "chain services {\n"
                   "ip daddr . meta l4proto . th dport vmap @vip4\n"
                   "ip6 daddr . meta l4proto . th dport vmap @vip6\n");
    if (node != NULL) {
        text_add(&out, "fib daddr type local ip daddr != 127.0.0.0/8 "
                       "meta l4proto . th dport vmap @port4\n"
                       "fib daddr type local ip6 daddr != ::1 "
                       "meta l4proto . th dport vmap @port6\n");
    }
    text_add(&out, "}\n");
    if (node != NULL) {
        text_add(&out, "chain prerouting {\ntype nat hook prerouting priority dstnat; "
                       "policy accept;\njump services\n}\n");
        put_refusals(&r, &out, "forward");
    }
    put_refusals(&r, &out, "output");
    text_add(&out, "chain output {\ntype nat hook output priority -100; policy accept;\n"
                   "jump services\n}\n"
                   "chain postrouting {\ntype nat hook postrouting priority srcnat; "
                   "policy accept;\n"
                   "meta mark & 0x4000 == 0x4000 masquerade\n"
                   "ct status dnat ip saddr . ip daddr @hairpin4 masquerade\n"
                   "ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade\n}\n}\n");
    for (int f = 0; f < 2; f++) {
        text_fini(&r.vips[f]);
        text_fini(&r.node_ports[f]);
        text_fini(&r.hairpins[f]);
    }
    text_fini(&r.chains);
    return text_take(&out);
}

// In the current network namespace. The message, if any, is logged.
static int run_nft(const char *text, bool is_quiet) {
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (ctx == NULL) {
        return -1;
    }
    nft_ctx_buffer_error(ctx);
    nft_ctx_buffer_output(ctx);
    int rc = nft_run_cmd_from_buffer(ctx, text);
    if (rc != 0 && !is_quiet) {
        lab_log("nftables: %s", nft_ctx_get_error_buffer(ctx));
    }
    nft_ctx_free(ctx);
    return rc;
}

static void apply(struct lab *lab, const struct lab_node *node, char **in_effect) {
    char *text = table_text(lab, node);
    if (*in_effect != NULL && strcmp(*in_effect, text) == 0) {
        free(text);
        return;
    }
    int previous = node != NULL ? lab_netns_enter(node->netns_fd) : -1;
    if (node != NULL && previous < 0) {
        free(text);
        return;
    }
    int rc = run_nft(text, false);
    if (node != NULL) {
        lab_netns_leave(previous);
    }
    free(*in_effect);
    *in_effect = text;
    if (rc != 0) {
        lab_note(lab, "service addresses are not up to date on %s, see supervisor.log",
                 node != NULL ? node->name : "the host");
    }
}

void lab_rules_update(struct lab *lab) {
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        apply(lab, &lab->nodes[i], &lab->nodes[i].rules);
    }
    if (lab->host_link[0] != '\0') {
        apply(lab, NULL, &lab->host_rules);
    }
}

int lab_rules_remove_host(const char *lab_name) {
    char command[64];
    snprintf(command, sizeof(command), "delete table inet zl-%s", lab_name);
    return run_nft(command, true) == 0;
}

bool lab_rules_has_table(int netns_fd, const char *table) {
    int previous = lab_netns_enter(netns_fd);
    if (previous < 0) {
        return false;
    }
    char *command = xasprintf("list table %s", table);
    bool is_there = run_nft(command, true) == 0;
    free(command);
    lab_netns_leave(previous);
    return is_there;
}
