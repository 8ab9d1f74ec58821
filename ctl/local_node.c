// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "ctl/local_dns.h"
#include "ctl/local_json.h"
#include "ctl/local_mesh.h"
#include "ctl/local_net.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"

struct lab_node *lab_node_find(struct lab *lab, const char *name) {
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        if (strcmp(lab->nodes[i].name, name) == 0) {
            return &lab->nodes[i];
        }
    }
    return NULL;
}

struct ip lab_ip_add(const struct ip *base, uint32_t n) {
    struct ip ip = *base;
    size_t at = ip.family == 4 ? 0 : 12;
    uint32_t low = (uint32_t)ip.bytes[at] << 24 | (uint32_t)ip.bytes[at + 1] << 16 |
                   (uint32_t)ip.bytes[at + 2] << 8 | ip.bytes[at + 3];
    low += n;
    for (int i = 0; i < 4; i++) {
        ip.bytes[at + (size_t)i] = (uint8_t)(low >> (24 - 8 * i));
    }
    return ip;
}

static void default_addresses(struct lab *lab, struct lab_node *node, uint32_t index) {
    char text[CIDR_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (!(f == 0 ? lab->opt.has_v4 : lab->opt.has_v6)) {
            continue;
        }
        if (node->ips[f].family == 0) {
            snprintf(text, sizeof(text), f == 0 ? "172.28.0.%u" : "fd00:28::%u", 11 + index);
            CHECK(ip_parse(slice_str(text), &node->ips[f]));
        }
        if (node->pod_cidrs[f].ip.family == 0) {
            snprintf(text, sizeof(text), f == 0 ? "10.244.%u.0/24" : "fd00:244:0:%x::/64",
                     1 + index);
            CHECK(cidr_parse(slice_str(text), true, &node->pod_cidrs[f]));
        }
    }
}

static bool take_cidr(struct lab_node *node, const char *text) {
    struct cidr cidr;
    if (!cidr_parse(slice_str(text), false, &cidr)) {
        return false;
    }
    uint32_t bits = cidr.ip.family == 4 ? 32 : 128;
    if (bits - cidr.len < 3) {
        return false; // no room for pods
    }
    node->pod_cidrs[cidr.ip.family == 4 ? 0 : 1] = cidr;
    return true;
}

static bool read_node(struct lab_node *node) {
    const json_t *doc = node->object->doc;
    size_t i;
    json_t *item;
    bool is_ok = true;
    json_array_foreach(js_get(doc, "status.addresses"), i, item) {
        struct ip ip;
        if (strcmp(js_str(item, "type", ""), "InternalIP") == 0) {
            is_ok = is_ok && ip_parse(slice_str(js_str(item, "address", "")), &ip);
            if (is_ok) {
                node->ips[ip.family == 4 ? 0 : 1] = ip;
            }
        }
    }
    if (js_str(doc, "spec.podCIDR", NULL) != NULL) {
        is_ok = is_ok && take_cidr(node, js_str(doc, "spec.podCIDR", ""));
    }
    json_array_foreach(js_get(doc, "spec.podCIDRs"), i, item) {
        is_ok = is_ok && json_is_string(item) && take_cidr(node, json_string_value(item));
    }
    return is_ok;
}

// What the lab decided, in the form of the API.
static void write_node(struct lab_node *node) {
    json_t *doc = node->object->doc, *addresses = json_array(), *cidrs = json_array();
    char text[CIDR_TEXT_MAX], when[SYS_TIME_MAX];
    for (int f = 0; f < 2; f++) {
        if (node->ips[f].family != 0) {
            json_array_append_new(addresses, json_pack("{s:s, s:s}", "type", "InternalIP",
                                                       "address", ip_text(&node->ips[f], text)));
        }
        if (node->pod_cidrs[f].ip.family != 0) {
            json_array_append_new(cidrs, json_string(cidr_text(&node->pod_cidrs[f], text)));
        }
    }
    json_array_append_new(addresses,
                          json_pack("{s:s, s:s}", "type", "Hostname", "address", node->name));
    if (json_array_size(cidrs) > 0) {
        js_set_str(doc, "spec.podCIDR", json_string_value(json_array_get(cidrs, 0)));
    }
    js_set(doc, "spec.podCIDRs", cidrs);
    js_set(doc, "status.addresses", addresses);
    if (js_get(doc, "status.conditions") == NULL) {
        js_set(doc, "status.conditions",
               json_pack("[{s:s, s:s, s:s, s:s}]", "type", "Ready", "status", "True", "reason",
                         "KubeletReady", "lastTransitionTime",
                         sys_time_text(clock_wall_s(), when)));
    }
    json_t *labels = js_object_at(doc, "metadata.labels");
    json_object_set_new(labels, "kubernetes.io/hostname", json_string(node->name));
    json_object_set_new(labels, "kubernetes.io/os", json_string("linux"));
    js_set_annotation(doc, "ztun.io/netns", node->netns);
    lab_store_touch(node->lab, node->object);
}

static struct lab_node *new_node(struct lab *lab, struct lab_object *object) {
    struct lab_node *node = &lab->nodes[lab->n_nodes];
    *node = (struct lab_node){.lab = lab, .object = object, .netns_fd = -1};
    node->name = js_name(object->doc);
    node->netns = xasprintf("%s%s", lab->prefix, node->name);
    for (int f = 0; f < 2; f++) {
        node->dns_udp[f].fd = node->dns_tcp[f].fd = -1;
    }
    return node;
}

static json_t *made_up(uint32_t index) {
    char name[32], zone[32];
    snprintf(name, sizeof(name), "node%u", index + 1);
    snprintf(zone, sizeof(zone), "zone-%c", 'a' + (int)(index % 26));
    return json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s}}, s:{}}", "apiVersion", "v1", "kind", "Node",
                     "metadata", "name", name, "labels", "topology.kubernetes.io/region",
                     "region-1", "topology.kubernetes.io/zone", zone, "spec");
}

bool lab_nodes_init(struct lab *lab, json_t *docs, char **ret_error) {
    for (size_t i = 0; i < json_array_size(docs);) {
        json_t *doc = json_array_get(docs, i);
        if (strcmp(js_kind(doc), "Node") != 0 || js_name(doc)[0] == '\0') {
            i++;
            continue;
        }
        if (lab->n_nodes == LAB_NODES_MAX) {
            *ret_error = xasprintf("no more than %d nodes", LAB_NODES_MAX);
            return false;
        }
        json_incref(doc);
        json_array_remove(docs, i);
        lab_store_default(doc);
        struct lab_node *node = new_node(lab, lab_store_add(lab, doc, true));
        if (!read_node(node)) {
            *ret_error = xasprintf("Node %s: a podCIDR or InternalIP is wrong", node->name);
            return false;
        }
        lab->opt.has_v4 = lab->opt.has_v4 || node->pod_cidrs[0].ip.family != 0;
        lab->opt.has_v6 = lab->opt.has_v6 || node->pod_cidrs[1].ip.family != 0;
        lab->n_nodes++;
    }
    uint32_t n_wanted = lab->opt.n_nodes != 0 ? lab->opt.n_nodes : lab->n_nodes == 0 ? 2 : 0;
    for (uint32_t i = lab->n_nodes; i < n_wanted; i++) {
        new_node(lab, lab_store_add(lab, made_up(i), false));
        lab->n_nodes++;
    }
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        default_addresses(lab, &lab->nodes[i], i);
        write_node(&lab->nodes[i]);
    }
    return true;
}

bool lab_node_add(struct lab *lab, struct lab_object *object) {
    if (lab->n_nodes == LAB_NODES_MAX) {
        return false;
    }
    struct lab_node *node = new_node(lab, object);
    bool is_ok = read_node(node);
    default_addresses(lab, node, lab->n_nodes);
    for (uint32_t i = 0; i < lab->n_nodes && is_ok; i++) {
        for (int f = 0; f < 2; f++) {
            is_ok =
                is_ok && (node->ips[f].family == 0 || !ip_eq(&node->ips[f], &lab->nodes[i].ips[f]));
        }
    }
    if (!is_ok || lab_net_add_node(lab, node) < 0) {
        lab_log("Node %s: wrong or used addresses, or no network", node->name);
        netns_delete(node->netns);
        free(node->netns);
        return false;
    }
    lab->n_nodes++;
    write_node(node);
    lab_dns_open(node);
    lab_mesh_start(node);
    return true;
}

void lab_node_rename(struct lab *lab, struct lab_object *object) {
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        if (lab->nodes[i].object == object) {
            lab->nodes[i].name = js_name(object->doc);
            write_node(&lab->nodes[i]);
        }
    }
}

static uint32_t count_pods(struct lab *lab, const struct lab_node *node) {
    uint32_t n = 0;
    LIST_EACH(at, &lab->pods) {
        n += LAB_POD(at)->node == node;
    }
    return n;
}

// nodeName and nodeSelector, else the node with the fewest pods.
static struct lab_node *choose(struct lab *lab, const struct lab_pod *pod) {
    const json_t *spec = js_get(pod->object->doc, "spec");
    const char *wanted = js_str(spec, "nodeName", "");
    const json_t *selector = js_get(spec, "nodeSelector");
    struct lab_node *best = NULL;
    uint32_t best_n = 0;
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        struct lab_node *node = &lab->nodes[i];
        if (wanted[0] != '\0') {
            if (strcmp(node->name, wanted) == 0) {
                return node;
            }
            continue;
        }
        const json_t *labels = js_get(node->object->doc, "metadata.labels");
        if (js_bool(node->object->doc, "spec.unschedulable", false) ||
            (json_object_size(selector) > 0 && !js_selector_matches(selector, labels))) {
            continue;
        }
        uint32_t n = count_pods(lab, node);
        if (best == NULL || n < best_n) {
            best = node;
            best_n = n;
        }
    }
    return best;
}

void lab_nodes_schedule(struct lab *lab) {
    LIST_EACH(at, &lab->pods) {
        struct lab_pod *pod = LAB_POD(at);
        if (pod->node != NULL || pod->state != POD_PENDING) {
            continue;
        }
        pod->node = choose(lab, pod);
        if (pod->node == NULL) {
            pod->waiting_reason = "Unschedulable";
            snprintf(pod->waiting_message, sizeof(pod->waiting_message), "no node matches");
            continue;
        }
        pod->waiting_reason = NULL;
        pod->waiting_message[0] = '\0';
        js_set_str(pod->object->doc, "spec.nodeName", pod->node->name);
        lab_store_touch(lab, pod->object);
    }
}
