// SPDX-License-Identifier: Apache-2.0
#include "ctl/waypoint_gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/proto/hbone.h"
#include "ctl/local_json.h"

static char *service_host(const struct waypoint_spec *spec) {
    const char *service = spec->service != NULL ? spec->service : spec->name;

    // istiod takes a name without dots as one of the Gateway's namespace, too.
    if (strchr(service, '.') != NULL || spec->ns[0] == '\0') {
        return xstrdup(service);
    }
    return xasprintf("%s.%s.svc.%s", service, spec->ns, spec->cluster_domain);
}

json_t *waypoint_gateway(const struct waypoint_spec *spec) {
    json_t *gateway =
        json_pack("{s:s, s:s}", "apiVersion", "gateway.networking.k8s.io/v1", "kind", "Gateway");
    json_t *metadata = js_object_at(gateway, "metadata");
    char *host = service_host(spec);

    js_set_str(metadata, "name", spec->name);
    if (spec->ns[0] != '\0') {
        js_set_str(metadata, "namespace", spec->ns);
    }
    const struct {
        const char *key, *value;
    } labels[] = {{"istio.io/waypoint-for", spec->traffic}, {"istio.io/rev", spec->revision}};
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        if (labels[i].value != NULL) {
            json_object_set_new(js_object_at(metadata, "labels"), labels[i].key,
                                json_string(labels[i].value));
        }
    }
    json_object_set_new(gateway, "spec",
                        json_pack("{s:s, s:[{s:s, s:s}], s:[{s:s, s:i, s:s}]}", "gatewayClassName",
                                  spec->class_name, "addresses", "type", "Hostname", "value", host,
                                  "listeners", "name", "mesh", "port", HBONE_PORT, "protocol",
                                  "HBONE"));
    free(host);
    return gateway;
}

// Takes a name off a host name; false when it does not fit or is empty.
static bool take_label(const char **host, char label[64]) {
    size_t len = strcspn(*host, ".");
    if (len == 0 || len > 63) {
        return false;
    }
    memcpy(label, *host, len);
    label[len] = '\0';
    *host += len + ((*host)[len] == '.');
    return true;
}

bool waypoint_service(const json_t *gateway, char name[64], char ns[64]) {
    const json_t *addresses = js_get(gateway, "spec.addresses"), *address;
    size_t i;

    json_array_foreach(addresses, i, address) {
        const char *host = js_str(address, "value", "");
        if (strcmp(js_str(address, "type", "IPAddress"), "Hostname") != 0 ||
            !take_label(&host, name)) {
            continue;
        }
        if (host[0] == '\0') {
            snprintf(ns, 64, "%s", js_ns(gateway));
            return true;
        }
        if (take_label(&host, ns) && (host[0] == '\0' || strncmp(host, "svc", 3) == 0)) {
            return true;
        }
    }
    return false;
}

bool waypoint_has_port(const json_t *service) {
    const json_t *ports = js_get(service, "spec.ports"), *port;
    size_t i;
    json_array_foreach(ports, i, port) {
        if (js_int(port, "port", 0) == HBONE_PORT) {
            return true;
        }
    }
    return false;
}

bool waypoint_is_ours(const json_t *gateway) {
    const char *name = js_str(gateway, "spec.gatewayClassName", "");
    return strcmp(name, WAYPOINT_CLASS_ISTIO) == 0 || strcmp(name, WAYPOINT_CLASS_ZTUN) == 0;
}

static bool is_true(const json_t *condition) {
    return strcmp(js_str(condition, "status", ""), "True") == 0;
}

const json_t *waypoint_condition(const json_t *gateway) {
    const json_t *conditions = js_get(gateway, "status.conditions"), *condition;
    const json_t *bad = NULL;
    size_t i;

    json_array_foreach(conditions, i, condition) {
        if (strcmp(js_str(condition, "type", ""), "Programmed") == 0) {
            return condition;
        }
        bad = bad == NULL && !is_true(condition) ? condition : bad;
    }
    return bad != NULL ? bad : json_array_get(conditions, 0);
}

bool waypoint_is_programmed(const json_t *gateway) {
    const json_t *condition = waypoint_condition(gateway);
    return condition != NULL && is_true(condition) &&
           strcmp(js_str(condition, "type", ""), "Programmed") == 0;
}

const char *waypoint_traffic(const json_t *gateway) {
    const char *text = js_label(gateway, "istio.io/waypoint-for");
    return text != NULL && text[0] != '\0' ? text : "service";
}

static int by_name(const void *a, const void *b) {
    const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
    int order = strcmp(js_ns(left), js_ns(right));
    return order != 0 ? order : strcmp(js_name(left), js_name(right));
}

json_t *waypoint_list(const json_t *gateways) {
    const json_t *items = json_object_get(gateways, "items");
    size_t n = 0, i;
    json_t **sorted = xcalloc(json_array_size(items) + 1, sizeof(sorted[0]));
    json_t *out = json_array(), *gateway;

    json_array_foreach(items, i, gateway) {
        if (waypoint_is_ours(gateway)) {
            sorted[n++] = gateway;
        }
    }
    qsort(sorted, n, sizeof(sorted[0]), by_name);
    for (i = 0; i < n; i++) {
        json_array_append(out, sorted[i]);
    }
    free(sorted);
    return out;
}
