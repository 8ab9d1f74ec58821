// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_net.h"

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/local_json.h"
#include "ctl/local_rules.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

const char *lab_net_probe_address(int family) {
    return family == 6 ? "fd16:9254:7127:1337:ffff:ffff:ffff:ffff" : "169.254.7.127";
}

void lab_net_host_link(const char *lab_name, char ret_name[16]) {
    snprintf(ret_name, 16, "zl%08x", (unsigned)js_hash_text(lab_name));
}

// Runs lines of `ip` commands in one process. The first error stops it, and is logged.
static int ip_batch(int netns_fd, struct text *commands) {
    static const char *const argv[] = {"ip", "-batch", "-", NULL};
    char *text = text_take(commands);
    char *output = NULL;
    int rc = sys_run(argv, netns_fd, text, &output);
    if (rc != 0) {
        lab_log("ip -batch failed (%d): %s%s", rc, output != NULL ? output : "", text);
        rc = rc > 0 ? -EIO : rc;
    }
    free(output);
    free(text);
    return rc;
}

// In the namespace: no delay for duplicate address detection, forwarding on nodes, and what
// container runtimes set for pods.
static int tune(int netns_fd, bool is_node) {
    static const char *const both[][2] = {
        {"net.ipv4.conf.all.rp_filter", "0"},          {"net.ipv4.conf.default.rp_filter", "0"},
        {"net.ipv6.conf.all.accept_dad", "0"},         {"net.ipv6.conf.default.accept_dad", "0"},
        {"net.ipv6.conf.all.accept_ra", "0"},          {"net.ipv6.conf.default.accept_ra", "0"},
        {"net.ipv4.ping_group_range", "0 2147483647"}, {"net.ipv4.ip_unprivileged_port_start", "0"},
    };
    static const char *const node[][2] = {
        {"net.ipv4.ip_forward", "1"},
        {"net.ipv6.conf.all.forwarding", "1"},
        {"net.ipv4.conf.all.send_redirects", "0"},
        {"net.ipv4.conf.default.send_redirects", "0"},
        {"net.ipv4.conf.all.route_localnet", "0"},
    };
    int previous = lab_netns_enter(netns_fd);
    if (previous < 0) {
        return previous;
    }
    // A kernel without IPv6 lacks some of these: the addresses will say so where it matters.
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        sys_sysctl(both[i][0], both[i][1]);
    }
    for (size_t i = 0; is_node && i < ARRAY_LEN(node); i++) {
        sys_sysctl(node[i][0], node[i][1]);
    }
    lab_netns_leave(previous);
    return 0;
}

static int make_netns(const char *name, bool is_node, int *ret_fd) {
    int rc = netns_create(name);
    if (rc < 0) {
        lab_log("cannot make network namespace %s: %s", name, strerror(-rc));
        return rc;
    }
    int fd = lab_netns_open(name);
    rc = fd < 0 ? fd : tune(fd, is_node);
    if (rc < 0) {
        netns_delete(name);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static const char *cidr_at(const struct cidr *cidr, char buf[CIDR_TEXT_MAX]) {
    return cidr_text(cidr, buf);
}

// The networks that exist only in rules, and each node's pods: routes of the host or of a node.
static void add_service_routes(struct lab *lab, struct text *out, const char *dev) {
    char buf[CIDR_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (lab->service_cidrs[f].ip.family != 0) {
            text_add(out, "route add %s dev %s\n", cidr_at(&lab->service_cidrs[f], buf), dev);
            text_add(out, "route add %s dev %s\n", cidr_at(&lab->lb_cidrs[f], buf), dev);
        }
    }
}

static void add_pod_routes(const struct lab_node *to, struct text *out, const char *dev) {
    char cidr[CIDR_TEXT_MAX], ip[IP_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (to->ips[f].family != 0) {
            // The peer may be outside our prefix when Node objects chose the addresses.
            text_add(out, "route replace %s dev %s\n", ip_text(&to->ips[f], ip), dev);
        }
        if (to->pod_cidrs[f].ip.family != 0 && to->ips[f].family != 0) {
            text_add(out, "route replace %s via %s dev %s onlink\n",
                     cidr_at(&to->pod_cidrs[f], cidr), ip_text(&to->ips[f], ip), dev);
        }
    }
}

// The host's address on the wire: the first of the network of the first node, or the last.
static struct ip host_ip(const struct lab *lab, int f) {
    struct ip ip = lab->nodes[0].ips[f];
    if (ip.family == 0) {
        return ip;
    }
    uint8_t *last = &ip.bytes[f == 0 ? 3 : 15];
    *last = 1;
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        if (ip_eq(&ip, &lab->nodes[i].ips[f])) {
            *last = 254;
        }
    }
    return ip;
}

// Another lab, or something else, may own the routes already: then this lab has no host leg.
static int add_host_leg(struct lab *lab) {
    char name[16], ip[IP_TEXT_MAX];
    lab_net_host_link(lab->opt.name, name);
    struct text out = {0};
    text_add(&out, "link add %s type veth peer name host netns %s\nlink set %s up\n", name,
             lab->wire_netns, name);
    for (int f = 0; f < 2; f++) {
        struct ip own = host_ip(lab, f);
        if (own.family != 0) {
            text_add(&out, "addr add %s/%d dev %s%s\n", ip_text(&own, ip), f == 0 ? 24 : 64, name,
                     f == 0 ? "" : " nodad");
        }
    }
    add_service_routes(lab, &out, name);
    int rc = ip_batch(-1, &out);
    if (rc < 0) {
        const char *const argv[] = {"ip", "link", "del", name, NULL};
        rc = sys_run(argv, -1, NULL, NULL);
        lab_note(lab, "the host does not reach this lab: its addresses or routes are taken, "
                      "see supervisor.log (--no-host leaves this out)");
        return rc < 0 ? rc : 0;
    }
    memcpy(lab->host_link, name, sizeof(name));
    int fd = lab_netns_open(lab->wire_netns);
    text_add(&out, "link set host master wire\nlink set host up\n");
    rc = fd < 0 ? fd : ip_batch(fd, &out);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

int lab_net_up(struct lab *lab) {
    int fd = -1;
    int rc = make_netns(lab->wire_netns, false, &fd);
    if (rc < 0) {
        return rc;
    }
    struct text out = {0};
    text_add(&out, "link set lo up\nlink add wire type bridge\nlink set wire up\n");
    rc = ip_batch(fd, &out);
    close(fd);
    if (rc == 0 && lab->opt.has_host) {
        rc = add_host_leg(lab);
    }
    return rc;
}

static int plug_node(struct lab *lab, uint32_t index, const char *netns) {
    int fd = lab_netns_open(lab->wire_netns);
    if (fd < 0) {
        return fd;
    }
    struct text out = {0};
    text_add(&out,
             "link add n%u type veth peer name eth0 netns %s\n"
             "link set n%u master wire\nlink set n%u up\n",
             index, netns, index, index);
    int rc = ip_batch(fd, &out);
    close(fd);
    return rc;
}

static int configure_node(struct lab *lab, struct lab_node *node) {
    char ip[IP_TEXT_MAX];
    struct text out = {0};
    text_add(&out, "link set lo up\nlink set eth0 up\n");
    for (int f = 0; f < 2; f++) {
        if (node->ips[f].family == 0) {
            continue;
        }
        const char *nodad = f == 0 ? "" : " nodad";
        text_add(&out, "addr add %s/%d dev eth0%s\n", ip_text(&node->ips[f], ip), f == 0 ? 24 : 64,
                 nodad);
        text_add(&out, "addr add %s/%d dev lo%s\n", ip_text(&lab->dns_ips[f], ip),
                 f == 0 ? 32 : 128, nodad);
        text_add(&out, "addr add %s/%d dev lo%s\n", lab_net_probe_address(f == 0 ? 4 : 6),
                 f == 0 ? 32 : 128, nodad);
    }
    add_service_routes(lab, &out, "eth0");
    return ip_batch(node->netns_fd, &out);
}

int lab_net_add_node(struct lab *lab, struct lab_node *node) {
    int rc = make_netns(node->netns, true, &node->netns_fd);
    if (rc == 0) {
        rc = plug_node(lab, (uint32_t)(node - lab->nodes), node->netns);
    }
    if (rc == 0) {
        rc = configure_node(lab, node);
    }
    // Routes both ways between the new node and everyone who is there.
    struct text own = {0};
    for (uint32_t i = 0; rc == 0 && i < lab->n_nodes; i++) {
        struct lab_node *peer = &lab->nodes[i];
        if (peer == node || peer->netns_fd < 0) {
            continue;
        }
        add_pod_routes(peer, &own, "eth0");
        struct text theirs = {0};
        add_pod_routes(node, &theirs, "eth0");
        rc = ip_batch(peer->netns_fd, &theirs);
    }
    if (own.len > 0 && rc == 0) {
        rc = ip_batch(node->netns_fd, &own);
    }
    text_fini(&own);
    if (rc == 0 && lab->host_link[0] != '\0') {
        struct text host = {0};
        add_pod_routes(node, &host, lab->host_link);
        rc = ip_batch(-1, &host);
    }
    return rc;
}

void lab_net_down(struct lab *lab) {
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        if (lab->nodes[i].netns_fd >= 0) {
            close(lab->nodes[i].netns_fd);
            lab->nodes[i].netns_fd = -1;
        }
    }
    lab_net_sweep(lab->opt.name);
}

// A free address of the node's network: the next one in turn, so that a new pod does not inherit
// the address of one that has just gone.
static bool pick_ip(struct lab_pod *pod, int f) {
    struct lab_node *node = pod->node;
    const struct cidr *cidr = &node->pod_cidrs[f];
    uint32_t host_bits = (f == 0 ? 32U : 128U) - cidr->len;
    uint32_t n_hosts = host_bits >= 16 ? 65534 : (1U << host_bits) - 1;
    for (uint32_t i = 0; i < n_hosts; i++) {
        node->next_host[f] =
            node->next_host[f] < 2 || node->next_host[f] >= n_hosts ? 2 : node->next_host[f] + 1;
        struct ip ip = lab_ip_add(&cidr->ip, node->next_host[f]);
        bool is_taken = false;
        LIST_EACH(at, &pod->lab->pods) {
            const struct lab_pod *other = LIST_ITEM(at, struct lab_pod, link);
            is_taken = is_taken || (!other->is_host_network && ip_eq(&other->ips[f], &ip));
        }
        if (!is_taken) {
            pod->ips[f] = ip;
            return true;
        }
    }
    return false;
}

// Annotation ztun.io/ip-families: "IPv4", "IPv6" or "IPv4,IPv6" narrows what the lab has.
static bool wants_family(const struct lab_pod *pod, int f) {
    const char *wanted = js_annotation(pod->object->doc, "ztun.io/ip-families");
    return wanted == NULL || strstr(wanted, f == 0 ? "IPv4" : "IPv6") != NULL;
}

static int pick_ips(struct lab_pod *pod) {
    for (int f = 0; f < 2; f++) {
        if (pod->node->pod_cidrs[f].ip.family != 0 && wants_family(pod, f) && !pick_ip(pod, f)) {
            return -ENOSPC;
        }
    }
    return pod->ips[0].family != 0 || pod->ips[1].family != 0 ? 0 : -EADDRNOTAVAIL;
}

static int plug_pod(struct lab_pod *pod) {
    char ip[IP_TEXT_MAX], gw[IP_TEXT_MAX];
    struct text node = {0}, own = {0};
    text_add(&node, "link add %s type veth peer name eth0 netns %s\nlink set %s up\n", pod->veth,
             pod->netns, pod->veth);
    text_add(&own, "link set lo up\nlink set eth0 up\n");
    for (int f = 0; f < 2; f++) {
        if (pod->ips[f].family == 0) {
            continue;
        }
        const char *nodad = f == 0 ? "" : " nodad";
        int len = f == 0 ? 32 : 128;
        struct ip gateway = lab_ip_add(&pod->node->pod_cidrs[f].ip, 1);
        ip_text(&pod->ips[f], ip);
        ip_text(&gateway, gw);
        text_add(&node, "addr add %s/%d dev %s%s\nroute add %s/%d dev %s\n", gw, len, pod->veth,
                 nodad, ip, len, pod->veth);
        text_add(&own, "addr add %s/%d dev eth0%s\nroute add %s dev eth0\n", ip, len, nodad, gw);
        text_add(&own, "route add default via %s dev eth0\n", gw);
    }
    int rc = ip_batch(pod->node->netns_fd, &node);
    if (rc == 0) {
        rc = ip_batch(pod->netns_fd, &own);
    }
    text_fini(&own);
    return rc;
}

// securityContext.sysctls, before there are addresses (so that IPv6 can be switched off).
static int apply_sysctls(struct lab_pod *pod) {
    int previous = lab_netns_enter(pod->netns_fd);
    if (previous < 0) {
        return previous;
    }
    size_t i;
    json_t *item;
    json_array_foreach(js_get(pod->object->doc, "spec.securityContext.sysctls"), i, item) {
        const char *name = js_str(item, "name", "");
        int rc = strncmp(name, "net.", 4) == 0 ? sys_sysctl(name, js_str(item, "value", "")) : 0;
        if (rc < 0) {
            lab_note(pod->lab, "Pod %s/%s: sysctl %s: %s", js_ns(pod->object->doc),
                     js_name(pod->object->doc), name, strerror(-rc));
        }
    }
    lab_netns_leave(previous);
    return 0;
}

int lab_net_add_pod(struct lab_pod *pod) {
    const json_t *doc = pod->object->doc;
    int rc = pick_ips(pod);
    if (rc < 0) {
        return rc;
    }
    pod->netns = xasprintf("%s%s.%s", pod->lab->prefix, js_ns(doc), js_name(doc));
    snprintf(pod->veth, sizeof(pod->veth), "v%08x",
             (unsigned)js_hash_text(js_str(doc, "metadata.uid", "")));
    int fd = -1;
    rc = make_netns(pod->netns, false, &fd);
    if (rc < 0) {
        free(pod->netns);
        pod->netns = NULL;
        pod->veth[0] = '\0';
        return rc;
    }
    pod->netns_fd = fd;
    rc = apply_sysctls(pod);
    return rc < 0 ? rc : plug_pod(pod);
}

void lab_net_del_pod(struct lab_pod *pod) {
    if (pod->veth[0] != '\0' && pod->node->netns_fd >= 0 && !pod->lab->is_down) {
        // The namespace may live on for a while (TIME_WAIT, a reader of its files); its address
        // must not.
        const char *const argv[] = {"ip", "link", "del", pod->veth, NULL};
        if (sys_run(argv, pod->node->netns_fd, NULL, NULL) != 0) {
            lab_log("veth %s of %s had gone before", pod->veth, pod->netns);
        }
        pod->veth[0] = '\0';
    }
    if (pod->netns_fd >= 0) {
        close(pod->netns_fd);
        pod->netns_fd = -1;
    }
    if (pod->netns != NULL && !pod->is_host_network) {
        netns_delete(pod->netns);
    }
    free(pod->netns);
    pod->netns = NULL;
    memset(pod->ips, 0, sizeof(pod->ips));
}

int lab_net_sweep(const char *lab_name) {
    char *prefix = xasprintf("zl-%s.", lab_name);
    int n_found = netns_kill_all(prefix);
    DIR *dir = opendir(NETNS_DIR);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            netns_delete(entry->d_name);
            n_found++;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    char link[16];
    lab_net_host_link(lab_name, link);
    if (if_nametoindex(link) != 0) {
        const char *const argv[] = {"ip", "link", "del", link, NULL};
        n_found += sys_run(argv, -1, NULL, NULL) == 0;
    }
    n_found += lab_rules_remove_host(lab_name);
    free(prefix);
    return n_found;
}
