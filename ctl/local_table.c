// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/slice.h"
#include "ctl/local_json.h"

// What kubectl prints: 59s, 2m5s, 15m, 3h20m, 12h, 2d ...
static char *age_of(const json_t *doc) {
    struct tm tm = {0};
    if (strptime(js_str(doc, "metadata.creationTimestamp", ""), "%Y-%m-%dT%H:%M:%SZ", &tm) ==
        NULL) {
        return xstrdup("<unknown>");
    }
    long long s = (long long)clock_wall_s() - (long long)timegm(&tm);
    s = s > 0 ? s : 0;
    long long m = s / 60, h = m / 60;
    if (s < 120) {
        return xasprintf("%llds", s);
    }
    if (m < 10) {
        return s % 60 != 0 ? xasprintf("%lldm%llds", m, s % 60) : xasprintf("%lldm", m);
    }
    if (h < 3) {
        return xasprintf("%lldm", m);
    }
    if (h < 8) {
        return m % 60 != 0 ? xasprintf("%lldh%lldm", h, m % 60) : xasprintf("%lldh", h);
    }
    return h < 48 ? xasprintf("%lldh", h) : xasprintf("%lldd", h / 24);
}

static char *number(const json_t *doc, const char *path) {
    return xasprintf("%lld", js_int(doc, path, 0));
}

static char *string(const json_t *doc, const char *path) {
    const char *text = js_str(doc, path, "");
    return xstrdup(text[0] != '\0' ? text : "<none>");
}

// ["a","b"], as kubectl shows lists of custom resources.
static char *list(const json_t *doc, const char *path) {
    json_t *value = js_get(doc, path);
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    return text != NULL ? text : xstrdup("");
}

static char *selector(const json_t *map) {
    struct text out = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        text_add(&out, "%s%s=%s", out.len > 0 ? "," : "", key, json_string_value(value));
    }
    if (out.len == 0) {
        text_add(&out, "<none>");
    }
    return text_take(&out);
}

static char *each_container(const json_t *doc, const char *field) {
    struct text out = {0};
    size_t i;
    json_t *container;
    json_array_foreach(js_get(doc, "spec.template.spec.containers"), i, container) {
        text_add(&out, "%s%s", i > 0 ? "," : "", js_str(container, field, ""));
    }
    return text_take(&out);
}

// Pods

static char *pod_ready(const json_t *doc) {
    size_t i, n_ready = 0;
    json_t *status;
    json_array_foreach(js_get(doc, "status.containerStatuses"), i, status) {
        n_ready += js_bool(status, "ready", false);
    }
    return xasprintf("%zu/%zu", n_ready, js_len(doc, "spec.containers"));
}

// "Init:0/2" and the like while init containers run; NULL: they have done their part.
static char *init_status(const json_t *doc) {
    size_t i, n = js_len(doc, "status.initContainerStatuses");
    json_t *status;
    json_array_foreach(js_get(doc, "status.initContainerStatuses"), i, status) {
        const json_t *ended = js_get(status, "state.terminated");
        const char *reason = js_str(status, "state.waiting.reason", "");
        const json_t *spec = json_array_get(js_get(doc, "spec.initContainers"), i);
        bool is_sidecar = strcmp(js_str(spec, "restartPolicy", ""), "Always") == 0;
        if ((ended != NULL && js_int(ended, "exitCode", 1) == 0) ||
            (is_sidecar && js_bool(status, "started", false))) {
            continue;
        }
        if (ended != NULL) {
            return xasprintf("Init:%s", js_str(ended, "reason", "Error"));
        }
        bool is_plain = reason[0] == '\0' || strcmp(reason, "PodInitializing") == 0 ||
                        strcmp(reason, "ContainerCreating") == 0;
        return is_plain ? xasprintf("Init:%zu/%zu", i, n) : xasprintf("Init:%s", reason);
    }
    return NULL;
}

static char *pod_status(const json_t *doc) {
    if (js_get(doc, "metadata.deletionTimestamp") != NULL) {
        return xstrdup("Terminating");
    }
    char *init = init_status(doc);
    if (init != NULL) {
        return init;
    }
    const char *word = js_str(doc, "status.phase", "Pending");
    size_t i;
    json_t *status;
    json_array_foreach(js_get(doc, "status.containerStatuses"), i, status) {
        word = js_str(status, "state.waiting.reason", word);
        word = js_str(status, "state.terminated.reason", word);
    }
    return xstrdup(word);
}

static char *pod_restarts(const json_t *doc) {
    long long n = 0;
    size_t i;
    json_t *status;
    json_array_foreach(js_get(doc, "status.containerStatuses"), i, status) {
        n += js_int(status, "restartCount", 0);
    }
    return xasprintf("%lld", n);
}

static void pod_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, pod_ready(doc));
    strv_add(row, pod_status(doc));
    strv_add(row, pod_restarts(doc));
    strv_add(row, age_of(doc));
    if (is_wide) {
        strv_add(row, string(doc, "status.podIP"));
        strv_add(row, string(doc, "spec.nodeName"));
        strv_addf(row, "<none>");
        strv_addf(row, "<none>");
    }
}

// Services and their endpoints

static char *service_external(const json_t *doc) {
    const char *type = js_str(doc, "spec.type", "ClusterIP");
    if (strcmp(type, "ExternalName") == 0) {
        return string(doc, "spec.externalName");
    }
    struct text out = {0};
    size_t i;
    json_t *item;
    json_array_foreach(js_get(doc, "status.loadBalancer.ingress"), i, item) {
        text_add(&out, "%s%s", out.len > 0 ? "," : "", js_str(item, "ip", ""));
    }
    json_array_foreach(js_get(doc, "spec.externalIPs"), i, item) {
        text_add(&out, "%s%s", out.len > 0 ? "," : "", json_string_value(item));
    }
    if (out.len == 0) {
        text_add(&out, "%s", strcmp(type, "LoadBalancer") == 0 ? "<pending>" : "<none>");
    }
    return text_take(&out);
}

static char *service_ports(const json_t *doc) {
    struct text out = {0};
    size_t i;
    json_t *port;
    json_array_foreach(js_get(doc, "spec.ports"), i, port) {
        text_add(&out, "%s%lld", i > 0 ? "," : "", js_int(port, "port", 0));
        if (js_int(port, "nodePort", 0) != 0) {
            text_add(&out, ":%lld", js_int(port, "nodePort", 0));
        }
        text_add(&out, "/%s", js_str(port, "protocol", "TCP"));
    }
    if (out.len == 0) {
        text_add(&out, "<none>");
    }
    return text_take(&out);
}

static void service_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%s", js_str(doc, "spec.type", "ClusterIP"));
    strv_add(row, string(doc, "spec.clusterIP"));
    strv_add(row, service_external(doc));
    strv_add(row, service_ports(doc));
    strv_add(row, age_of(doc));
    if (is_wide) {
        strv_add(row, selector(js_get(doc, "spec.selector")));
    }
}

static char *slice_endpoints(const json_t *doc, bool has_port) {
    struct text out = {0};
    long long port = js_int(json_array_get(js_get(doc, "ports"), 0), "port", 0);
    size_t i, k, n = 0;
    json_t *endpoint, *address;
    json_array_foreach(js_get(doc, "endpoints"), i, endpoint) {
        if (!js_bool(endpoint, "conditions.ready", true)) {
            continue;
        }
        json_array_foreach(js_get(endpoint, "addresses"), k, address) {
            n++;
            if (n <= 3) { // as kubectl: more are only counted
                text_add(&out, "%s%s", n > 1 ? "," : "", json_string_value(address));
                if (has_port) {
                    text_add(&out, ":%lld", port);
                }
            }
        }
    }
    if (n > 3) {
        text_add(&out, " + %zu more...", n - 3);
    } else if (n == 0) {
        text_add(&out, "<none>");
    }
    return text_take(&out);
}

static void endpoints_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, slice_endpoints(doc, true));
    strv_add(row, age_of(doc));
}

static void slice_row(const json_t *doc, bool is_wide, struct strv *row) {
    struct text ports = {0};
    size_t i;
    json_t *port;
    json_array_foreach(js_get(doc, "ports"), i, port) {
        text_add(&ports, "%s%lld", i > 0 ? "," : "", js_int(port, "port", 0));
    }
    strv_add(row, string(doc, "addressType"));
    strv_add(row, text_take(&ports));
    strv_add(row, slice_endpoints(doc, false));
    strv_add(row, age_of(doc));
}

// Workloads

static void workload_wide(const json_t *doc, bool is_wide, struct strv *row) {
    if (is_wide) {
        strv_add(row, each_container(doc, "name"));
        strv_add(row, each_container(doc, "image"));
        strv_add(row, selector(js_get(doc, "spec.selector.matchLabels")));
    }
}

static void deployment_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%lld/%lld", js_int(doc, "status.readyReplicas", 0),
              js_int(doc, "spec.replicas", 1));
    strv_add(row, number(doc, "status.updatedReplicas"));
    strv_add(row, number(doc, "status.availableReplicas"));
    strv_add(row, age_of(doc));
    workload_wide(doc, is_wide, row);
}

static void replica_set_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, number(doc, "spec.replicas"));
    strv_add(row, number(doc, "status.replicas"));
    strv_add(row, number(doc, "status.readyReplicas"));
    strv_add(row, age_of(doc));
    workload_wide(doc, is_wide, row);
}

static void stateful_set_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%lld/%lld", js_int(doc, "status.readyReplicas", 0),
              js_int(doc, "spec.replicas", 1));
    strv_add(row, age_of(doc));
    if (is_wide) {
        strv_add(row, each_container(doc, "name"));
        strv_add(row, each_container(doc, "image"));
    }
}

static void daemon_set_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, number(doc, "status.desiredNumberScheduled"));
    strv_add(row, number(doc, "status.currentNumberScheduled"));
    strv_add(row, number(doc, "status.numberReady"));
    strv_add(row, number(doc, "status.updatedNumberScheduled"));
    strv_add(row, number(doc, "status.numberAvailable"));
    strv_add(row, selector(js_get(doc, "spec.template.spec.nodeSelector")));
    strv_add(row, age_of(doc));
    workload_wide(doc, is_wide, row);
}

// All others

static void virtual_service_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, list(doc, "spec.gateways"));
    strv_add(row, list(doc, "spec.hosts"));
    strv_add(row, age_of(doc));
}

static void destination_rule_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, string(doc, "spec.host"));
    strv_add(row, age_of(doc));
}

static void service_entry_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, list(doc, "spec.hosts"));
    strv_addf(row, "%s", js_str(doc, "spec.location", ""));
    strv_addf(row, "%s", js_str(doc, "spec.resolution", ""));
    strv_add(row, age_of(doc));
}

static void authorization_policy_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%s", js_str(doc, "spec.action", ""));
    strv_add(row, age_of(doc));
}

static void peer_authentication_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%s", js_str(doc, "spec.mtls.mode", ""));
    strv_add(row, age_of(doc));
}

static void gateway_row(const json_t *doc, bool is_wide, struct strv *row) {
    const char *programmed = "Unknown";
    size_t i;
    json_t *condition;
    json_array_foreach(js_get(doc, "status.conditions"), i, condition) {
        if (strcmp(js_str(condition, "type", ""), "Programmed") == 0) {
            programmed = js_str(condition, "status", "");
        }
    }
    const json_t *address = json_array_get(js_get(doc, "status.addresses"), 0);
    strv_addf(row, "%s", js_str(doc, "spec.gatewayClassName", ""));
    strv_addf(row, "%s", js_str(address, "value", ""));
    strv_addf(row, "%s", programmed);
    strv_add(row, age_of(doc));
}

static void route_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, list(doc, "spec.hostnames"));
    strv_add(row, age_of(doc));
}

static void namespace_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%s", js_str(doc, "status.phase", "Active"));
    strv_add(row, age_of(doc));
}

static void node_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "Ready%s",
              js_bool(doc, "spec.unschedulable", false) ? ",SchedulingDisabled" : "");
    strv_addf(row, "<none>");
    strv_add(row, age_of(doc));
    strv_addf(row, "%s", js_str(doc, "status.nodeInfo.kubeletVersion", ""));
}

static void config_map_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_addf(row, "%zu", json_object_size(js_get(doc, "data")));
    strv_add(row, age_of(doc));
}

static void plain_row(const json_t *doc, bool is_wide, struct strv *row) {
    strv_add(row, age_of(doc));
}

struct shape {
    const char *kind, *header,
        *wide; // column names, with one blank between them; `_` is a blank in one
    void (*row)(const json_t *doc, bool is_wide, struct strv *row);
};

static const struct shape shapes[] = {
    {"Pod", "READY STATUS RESTARTS AGE", "IP NODE NOMINATED_NODE READINESS_GATES", pod_row},
    {"Service", "TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE", "SELECTOR", service_row},
    {"Endpoints", "ENDPOINTS AGE", "", endpoints_row},
    {"EndpointSlice", "ADDRESSTYPE PORTS ENDPOINTS AGE", "", slice_row},
    {"Deployment", "READY UP-TO-DATE AVAILABLE AGE", "CONTAINERS IMAGES SELECTOR", deployment_row},
    {"ReplicaSet", "DESIRED CURRENT READY AGE", "CONTAINERS IMAGES SELECTOR", replica_set_row},
    {"StatefulSet", "READY AGE", "CONTAINERS IMAGES", stateful_set_row},
    {"DaemonSet", "DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE_SELECTOR AGE",
     "CONTAINERS IMAGES SELECTOR", daemon_set_row},
    {"VirtualService", "GATEWAYS HOSTS AGE", "", virtual_service_row},
    {"DestinationRule", "HOST AGE", "", destination_rule_row},
    {"ServiceEntry", "HOSTS LOCATION RESOLUTION AGE", "", service_entry_row},
    {"AuthorizationPolicy", "ACTION AGE", "", authorization_policy_row},
    {"PeerAuthentication", "MODE AGE", "", peer_authentication_row},
    {"Gateway", "CLASS ADDRESS PROGRAMMED AGE", "", gateway_row},
    {"HTTPRoute", "HOSTNAMES AGE", "", route_row},
    {"Namespace", "STATUS AGE", "", namespace_row},
    {"Node", "STATUS ROLES AGE VERSION", "", node_row},
    {"ConfigMap", "DATA AGE", "", config_map_row},
};
static const struct shape plain = {"", "AGE", "", plain_row};

static const struct shape *shape_of(const char *kind) {
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if (strcmp(shapes[i].kind, kind) == 0) {
            return &shapes[i];
        }
    }
    return &plain;
}

static void add_names(struct strv *cells, const char *names) {
    while (*names != '\0') {
        size_t len = strcspn(names, " ");
        char *name = xstrndup(names, len);
        for (char *at = name; *at != '\0'; at++) {
            *at = *at == '_' ? ' ' : *at;
        }
        strv_add(cells, name);
        names += len + (names[len] == ' ');
    }
}

void lab_table_init(struct lab_table *table, const char *kind, bool has_ns, bool is_wide) {
    const struct shape *shape = shape_of(kind);
    *table = (struct lab_table){0};
    if (has_ns) {
        strv_addf(&table->cells, "NAMESPACE");
    }
    strv_addf(&table->cells, "NAME");
    add_names(&table->cells, shape->header);
    if (is_wide) {
        add_names(&table->cells, shape->wide);
    }
    table->n_columns = table->cells.n;
    CHECK(table->n_columns <= LAB_TABLE_COLUMNS_MAX);
}

void lab_table_fini(struct lab_table *table) {
    strv_free(&table->cells);
}

void lab_table_add(struct lab_table *table, const char *kind, const json_t *doc, bool has_ns,
                   bool is_wide) {
    if (has_ns) {
        strv_addf(&table->cells, "%s", js_ns(doc));
    }
    strv_addf(&table->cells, "%s", js_name(doc));
    shape_of(kind)->row(doc, is_wide, &table->cells);
    CHECK(table->cells.n % table->n_columns == 0);
}

void lab_table_print(struct lab_table *table, size_t first) {
    for (size_t i = first * table->n_columns; i < table->cells.n; i++) {
        size_t *width = &table->widths[i % table->n_columns];
        *width = MAX(*width, strlen(table->cells.items[i]));
    }
    for (size_t i = first * table->n_columns; i < table->cells.n; i++) {
        size_t column = i % table->n_columns;
        if (column + 1 == table->n_columns) {
            printf("%s\n", table->cells.items[i]);
        } else {
            printf("%-*s", (int)table->widths[column] + 3, table->cells.items[i]);
        }
    }
}

char *lab_table_row_key(const struct lab_table *table, size_t row) {
    struct text out = {0};
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcmp(table->cells.items[i], "AGE") != 0) {
            text_add(&out, "%s\t", table->cells.items[row * table->n_columns + i]);
        }
    }
    return text_take(&out);
}
