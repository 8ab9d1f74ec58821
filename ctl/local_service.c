// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"

enum { NODE_PORT_MIN = 30000, NODE_PORT_MAX = 32767 };

bool lab_service_init(struct lab *lab) {
    static const char *const ranges[2][3] = {
        {"10.96.0.0/16", "172.29.0.0/24", "10.96.0.10"},
        {"fd00:96::/112", "fd00:29::/120", "fd00:96::a"},
    };
    for (int f = 0; f < 2; f++) {
        if ((f == 0 ? lab->opt.has_v4 : lab->opt.has_v6) &&
            (!cidr_parse(slice_str(ranges[f][0]), true, &lab->service_cidrs[f]) ||
             !cidr_parse(slice_str(ranges[f][1]), true, &lab->lb_cidrs[f]) ||
             !ip_parse(slice_str(ranges[f][2]), &lab->dns_ips[f]))) {
            return false;
        }
        lab->next_service[f] = 256;
        lab->next_lb[f] = 0;
    }
    lab->next_node_port = NODE_PORT_MIN;
    return true;
}

static bool has_value(const json_t *list, const char *text) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), text) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_service(const struct lab_object *object) {
    return strcmp(js_kind(object->doc), "Service") == 0;
}

static bool is_ip_taken(struct lab *lab, const char *text) {
    LIST_EACH(node, &lab->objects) {
        const json_t *doc = LAB_OBJECT(node)->doc;
        if (!is_service(LAB_OBJECT(node))) {
            continue;
        }
        size_t i;
        json_t *item;
        json_array_foreach(js_get(doc, "status.loadBalancer.ingress"), i, item) {
            if (strcmp(js_str(item, "ip", ""), text) == 0) {
                return true;
            }
        }
        if (strcmp(js_str(doc, "spec.clusterIP", ""), text) == 0 ||
            strcmp(js_str(doc, "spec.loadBalancerIP", ""), text) == 0 ||
            has_value(js_get(doc, "spec.clusterIPs"), text)) {
            return true;
        }
    }
    return false;
}

// The next free address of a range: in turn, so that an address is not used again soon.
static bool pick(struct lab *lab, const struct cidr *range, uint32_t *next, char ret[IP_TEXT_MAX]) {
    uint32_t bits = (range->ip.family == 4 ? 32U : 128U) - range->len;
    uint32_t n = bits >= 16 ? 65535 : 1U << bits;
    for (uint32_t i = 0; i < n; i++) {
        *next = *next + 1 >= n ? 1 : *next + 1;
        struct ip ip = lab_ip_add(&range->ip, *next);
        ip_text(&ip, ret);
        if (!is_ip_taken(lab, ret)) {
            return true;
        }
    }
    return false;
}

static bool is_port_taken(struct lab *lab, long long node_port) {
    LIST_EACH(node, &lab->objects) {
        size_t i;
        json_t *port;
        json_array_foreach(js_get(LAB_OBJECT(node)->doc, "spec.ports"), i, port) {
            if (is_service(LAB_OBJECT(node)) && js_int(port, "nodePort", 0) == node_port) {
                return true;
            }
        }
    }
    return false;
}

static void give_node_ports(struct lab *lab, json_t *doc) {
    size_t i;
    json_t *port;
    json_array_foreach(js_get(doc, "spec.ports"), i, port) {
        for (int tries = 0; js_int(port, "nodePort", 0) == 0 && tries < 2768; tries++) {
            uint32_t candidate = lab->next_node_port;
            lab->next_node_port = candidate >= NODE_PORT_MAX ? NODE_PORT_MIN : candidate + 1;
            if (!is_port_taken(lab, candidate)) {
                js_set(port, "nodePort", json_integer(candidate));
            }
        }
    }
}

// ipFamilies from what is written, the policy, and what the lab has.
static json_t *families_of(const struct lab *lab, const json_t *doc) {
    json_t *families = js_get(doc, "spec.ipFamilies");
    if (json_array_size(families) > 0) {
        return json_incref(families);
    }
    families = json_array();
    const char *policy = js_str(doc, "spec.ipFamilyPolicy", "SingleStack");
    if (lab->opt.has_v4) {
        json_array_append_new(families, json_string("IPv4"));
    }
    if (lab->opt.has_v6 && (!lab->opt.has_v4 || strcmp(policy, "SingleStack") != 0)) {
        json_array_append_new(families, json_string("IPv6"));
    }
    return families;
}

static void give_cluster_ips(struct lab *lab, json_t *doc) {
    json_t *families = families_of(lab, doc), *ips = json_array();
    const char *given = js_str(doc, "spec.clusterIP", "");
    size_t i;
    json_t *item;
    json_array_foreach(families, i, item) {
        int f = strcmp(json_string_value(item), "IPv6") == 0;
        char text[IP_TEXT_MAX];
        if (i == 0 && given[0] != '\0') {
            json_array_append_new(ips, json_string(given));
        } else if (lab->service_cidrs[f].ip.family != 0 &&
                   pick(lab, &lab->service_cidrs[f], &lab->next_service[f], text)) {
            json_array_append_new(ips, json_string(text));
        }
    }
    if (json_array_size(ips) > 0) {
        json_object_set(js_get(doc, "spec"), "clusterIP", json_array_get(ips, 0));
        js_set(doc, "spec.clusterIPs", ips);
    } else {
        json_decref(ips);
    }
    if (js_str(doc, "spec.ipFamilyPolicy", NULL) == NULL) {
        js_set_str(doc, "spec.ipFamilyPolicy", "SingleStack");
    }
    js_set(doc, "spec.ipFamilies", families);
}

static void give_load_balancer(struct lab *lab, json_t *doc) {
    json_t *ingress = json_array();
    const char *wanted = js_str(doc, "spec.loadBalancerIP", NULL);
    size_t i;
    json_t *item;
    json_array_foreach(js_get(doc, "spec.ipFamilies"), i, item) {
        int f = strcmp(json_string_value(item), "IPv6") == 0;
        char text[IP_TEXT_MAX];
        if (i == 0 && wanted != NULL) {
            json_array_append_new(ingress, json_pack("{s:s, s:s}", "ip", wanted, "ipMode", "VIP"));
        } else if (lab->lb_cidrs[f].ip.family != 0 &&
                   pick(lab, &lab->lb_cidrs[f], &lab->next_lb[f], text)) {
            json_array_append_new(ingress, json_pack("{s:s, s:s}", "ip", text, "ipMode", "VIP"));
        }
    }
    js_set(doc, "status.loadBalancer.ingress", ingress);
}

// What the API server and its controllers fill in. Nothing happens when all is there.
static void allocate(struct lab *lab, struct lab_object *object) {
    json_t *doc = object->doc, *before = json_deep_copy(doc);
    const char *type = js_str(doc, "spec.type", "ClusterIP");
    bool is_headless = strcmp(js_str(doc, "spec.clusterIP", ""), "None") == 0;
    if (js_get(doc, "spec.type") == NULL) {
        js_set_str(doc, "spec.type", type);
    }
    if (strcmp(type, "ExternalName") == 0) {
        json_decref(before);
        return;
    }
    if (is_headless) {
        js_set(doc, "spec.clusterIPs", json_pack("[s]", "None"));
        js_set(doc, "spec.ipFamilies", families_of(lab, doc));
    } else if (js_len(doc, "spec.clusterIPs") == 0) {
        give_cluster_ips(lab, doc);
    }
    bool is_lb = strcmp(type, "LoadBalancer") == 0;
    if (strcmp(type, "NodePort") == 0 ||
        (is_lb && js_bool(doc, "spec.allocateLoadBalancerNodePorts", true))) {
        give_node_ports(lab, doc);
    }
    if (is_lb && js_len(doc, "status.loadBalancer.ingress") == 0) {
        give_load_balancer(lab, doc);
    }
    if (!json_equal(before, doc)) {
        lab_store_touch(lab, object);
    }
    json_decref(before);
}

// EndpointSlices

// A target port of a pod: a number, or the name of a container port; 0 = the pod lacks it.
static uint16_t target_port(const json_t *pod, const json_t *service_port) {
    const json_t *target = json_object_get(service_port, "targetPort");
    const char *name = json_string_value(target);
    long long number =
        json_is_integer(target) ? json_integer_value(target) : js_int(service_port, "port", 0);
    if (name != NULL) {
        number = strtol(name, NULL, 10);
        size_t i, k;
        json_t *container, *port;
        json_array_foreach(js_get(pod, "spec.containers"), i, container) {
            json_array_foreach(js_get(container, "ports"), k, port) {
                if (strcmp(js_str(port, "name", ""), name) == 0) {
                    number = js_int(port, "containerPort", 0);
                }
            }
        }
    }
    return (uint16_t)(number > 0 && number < 65536 ? number : 0);
}

static json_t *slice_ports(const json_t *service, const json_t *pod) {
    json_t *ports = json_array();
    size_t i;
    json_t *port;
    json_array_foreach(js_get(service, "spec.ports"), i, port) {
        uint16_t number = target_port(pod, port);
        if (number == 0) {
            continue;
        }
        json_t *out = json_pack("{s:s, s:s, s:i}", "name", js_str(port, "name", ""), "protocol",
                                js_str(port, "protocol", "TCP"), "port", number);
        const char *app = js_str(port, "appProtocol", NULL);
        if (app != NULL) {
            js_set_str(out, "appProtocol", app);
        }
        json_array_append_new(ports, out);
    }
    return ports;
}

static json_t *slice_endpoint(const json_t *service, const struct lab_pod *pod, int f) {
    char text[IP_TEXT_MAX];
    const json_t *doc = pod->object->doc;
    const struct ip *ips = pod->is_host_network ? pod->node->ips : pod->ips;
    bool is_serving = lab_pod_is_ready(pod), is_stopping = pod->state == POD_STOPPING;
    bool is_ready =
        (is_serving && !is_stopping) || js_bool(service, "spec.publishNotReadyAddresses", false);
    json_t *endpoint =
        json_pack("{s:[s], s:{s:b, s:b, s:b}, s:s, s:{s:s, s:s, s:s, s:s}}", "addresses",
                  ip_text(&ips[f], text), "conditions", "ready", is_ready, "serving", is_serving,
                  "terminating", is_stopping, "nodeName", pod->node->name, "targetRef", "kind",
                  "Pod", "name", js_name(doc), "namespace", js_ns(doc), "uid",
                  js_str(doc, "metadata.uid", ""));
    const char *zone = js_label(pod->node->object->doc, "topology.kubernetes.io/zone");
    if (zone != NULL) {
        js_set_str(endpoint, "zone", zone);
    }
    const char *hostname = js_str(doc, "spec.hostname", NULL);
    if (hostname != NULL && strcmp(js_str(doc, "spec.subdomain", ""), js_name(service)) == 0) {
        js_set_str(endpoint, "hostname", hostname);
    }
    return endpoint;
}

static bool is_endpoint(const json_t *service, const struct lab_pod *pod, int f) {
    const json_t *doc = pod->object->doc;
    if (!pod->has_sandbox || pod->state == POD_DONE || strcmp(js_ns(doc), js_ns(service)) != 0) {
        return false;
    }
    const struct ip *ips = pod->is_host_network ? pod->node->ips : pod->ips;
    return ips[f].family != 0 &&
           js_selector_matches(js_get(service, "spec.selector"), js_get(doc, "metadata.labels"));
}

// Puts the endpoint into the group of pods with the same port numbers.
static void add_to_group(json_t *groups, json_t *ports, json_t *endpoint) {
    size_t i;
    json_t *group;
    json_array_foreach(groups, i, group) {
        if (json_equal(json_object_get(group, "ports"), ports)) {
            json_array_append_new(json_object_get(group, "endpoints"), endpoint);
            json_decref(ports);
            return;
        }
    }
    group = json_object();
    json_object_set_new(group, "ports", ports);
    json_object_set_new(group, "endpoints", json_pack("[o]", endpoint));
    json_array_append_new(groups, group);
}

static void put_slice(struct lab *lab, const struct lab_object *service, int f, size_t index,
                      json_t *group) {
    char name[300], suffix[16];
    snprintf(suffix, sizeof(suffix), index == 0 ? "-v%d" : "-v%d-%zu", f == 0 ? 4 : 6, index);
    snprintf(name, sizeof(name), "%s%s", js_name(service->doc), suffix);
    struct lab_object *object = lab_store_find(lab, "EndpointSlice", js_ns(service->doc), name);
    json_t *ports = json_object_get(group, "ports");
    json_t *endpoints = json_object_get(group, "endpoints");
    if (object != NULL && json_equal(json_object_get(object->doc, "ports"), ports) &&
        json_equal(json_object_get(object->doc, "endpoints"), endpoints) &&
        lab_is_owned_by(object->doc, service)) {
        return;
    }
    if (object != NULL) {
        json_object_set(object->doc, "ports", ports);
        json_object_set(object->doc, "endpoints", endpoints);
        js_set(object->doc, "metadata.ownerReferences", lab_owner_references(service));
        lab_store_touch(lab, object);
        return;
    }
    json_t *doc =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:s}", "apiVersion",
                  "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata", "name", name,
                  "namespace", js_ns(service->doc), "labels", "kubernetes.io/service-name",
                  js_name(service->doc), "endpointslice.kubernetes.io/managed-by",
                  "endpointslice-controller.k8s.io", "addressType", f == 0 ? "IPv4" : "IPv6");
    js_set(doc, "metadata.ownerReferences", lab_owner_references(service));
    json_object_set(doc, "endpoints", endpoints);
    json_object_set(doc, "ports", ports);
    lab_store_add(lab, doc, false);
}

static bool wants_family(const json_t *service, int f) {
    return has_value(js_get(service, "spec.ipFamilies"), f == 0 ? "IPv4" : "IPv6");
}

static void drop_slices(struct lab *lab, const struct lab_object *service, int f, size_t from) {
    for (size_t i = from; i < from + 16; i++) {
        char name[300];
        snprintf(name, sizeof(name), i == 0 ? "%s-v%d" : "%s-v%d-%zu", js_name(service->doc),
                 f == 0 ? 4 : 6, i);
        struct lab_object *object = lab_store_find(lab, "EndpointSlice", js_ns(service->doc), name);
        if (object == NULL) {
            return;
        }
        if (lab_is_owned_by(object->doc, service)) {
            lab_store_remove(lab, object);
        }
    }
}

static void update_slices(struct lab *lab, struct lab_object *service) {
    if (json_object_size(js_get(service->doc, "spec.selector")) == 0) {
        return; // its endpoints are the user's
    }
    for (int f = 0; f < 2; f++) {
        json_t *groups = json_array();
        LIST_EACH(node, &lab->pods) {
            struct lab_pod *pod = LAB_POD(node);
            if (wants_family(service->doc, f) && is_endpoint(service->doc, pod, f)) {
                add_to_group(groups, slice_ports(service->doc, pod->object->doc),
                             slice_endpoint(service->doc, pod, f));
            }
        }
        if (json_array_size(groups) == 0 && wants_family(service->doc, f)) {
            // An empty slice says more than none: the service is known to have no endpoint.
            json_array_append_new(groups, json_pack("{s:[], s:[]}", "ports", "endpoints"));
        }
        for (size_t i = 0; i < json_array_size(groups); i++) {
            put_slice(lab, service, f, i, json_array_get(groups, i));
        }
        drop_slices(lab, service, f, json_array_size(groups));
        json_decref(groups);
    }
}

void lab_service_reconcile(struct lab *lab) {
    LIST_EACH(node, &lab->objects) { // slices are added behind
        if (is_service(LAB_OBJECT(node))) {
            allocate(lab, LAB_OBJECT(node));
            update_slices(lab, LAB_OBJECT(node));
        }
    }
}

static uint16_t slice_port(const json_t *slice, const char *port_name) {
    size_t i;
    json_t *port;
    json_array_foreach(js_get(slice, "ports"), i, port) {
        if (strcmp(js_str(port, "name", ""), port_name) == 0) {
            return (uint16_t)js_int(port, "port", 0);
        }
    }
    return 0;
}

static size_t collect(const json_t *slice, uint16_t port, bool is_serving_ok,
                      struct lab_endpoint *ret, size_t n, size_t cap) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(slice, "endpoints"), i, item) {
        bool is_ready = js_bool(item, "conditions.ready", true);
        bool is_usable = is_ready || (is_serving_ok && js_bool(item, "conditions.serving", false));
        const char *text = json_string_value(json_array_get(js_get(item, "addresses"), 0));
        struct lab_endpoint endpoint = {.port = port,
                                        .node = js_str(item, "nodeName", ""),
                                        .hostname = js_str(item, "hostname", "")};
        if (is_usable && n < cap && text != NULL && ip_parse(slice_str(text), &endpoint.ip)) {
            ret[n++] = endpoint;
        }
    }
    return n;
}

size_t lab_service_endpoints(struct lab *lab, const json_t *service, const char *port_name,
                             int family, struct lab_endpoint *ret, size_t cap) {
    size_t n = 0;
    for (int pass = 0; pass < 2 && n == 0; pass++) {
        LIST_EACH(node, &lab->objects) {
            const json_t *slice = LAB_OBJECT(node)->doc;
            const char *of = js_label(slice, "kubernetes.io/service-name");
            if (of == NULL || strcmp(js_kind(slice), "EndpointSlice") != 0 ||
                strcmp(of, js_name(service)) != 0 || strcmp(js_ns(slice), js_ns(service)) != 0 ||
                strcmp(js_str(slice, "addressType", ""), family == 4 ? "IPv4" : "IPv6") != 0) {
                continue;
            }
            uint16_t port = port_name != NULL ? slice_port(slice, port_name) : 0;
            if (port != 0 || port_name == NULL) {
                n = collect(slice, port, pass == 1, ret, n, cap);
            }
        }
    }
    return n;
}
