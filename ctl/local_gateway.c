// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "ctl/local_json.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_work.h"

enum { REPLICAS_MAX = 64 };

static const char gateway_name[] = "gateway.networking.k8s.io/gateway-name";
static const char managed[] = "gateway.istio.io/managed";
static const char replicas_key[] = "ztun.io/replicas";
static const char distribution_key[] = "networking.istio.io/traffic-distribution";
static const char bin_path[] = "/usr/local/bin/waypoint"; // in the container

bool lab_gateway_is_ours(const json_t *doc) {
    const char *class = js_str(doc, "spec.gatewayClassName", "");
    return strcmp(js_kind(doc), "Gateway") == 0 &&
           strncmp(js_str(doc, "apiVersion", ""), "gateway.networking.k8s.io/", 26) == 0 &&
           (strcmp(class, "istio-waypoint") == 0 || strcmp(class, "ztun-waypoint") == 0);
}

static const char *condition_of(const json_t *doc, const char *type) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(doc, "status.conditions"), i, item) {
        if (strcmp(js_str(item, "type", ""), type) == 0) {
            return js_str(item, "status", "");
        }
    }
    return "";
}

bool lab_gateway_is_programmed(const json_t *doc) {
    return strcmp(condition_of(doc, "Programmed"), "True") == 0;
}

json_t *lab_gateway_status(const json_t *doc) {
    return json_pack("{s:s, s:s, s:s, s:s, s:b}", "namespace", js_ns(doc), "name", js_name(doc),
                     "class", js_str(doc, "spec.gatewayClassName", ""), "address",
                     js_str(json_array_get(js_get(doc, "status.addresses"), 0), "value", ""),
                     "programmed", lab_gateway_is_programmed(doc));
}

// ---- what belongs to a Gateway -----------------------------------------------------------------

// spec.infrastructure: labels and annotations for all that is made for the Gateway.
static json_t *wanted_of(const struct lab_object *gateway, const char *what) {
    char path[64];
    snprintf(path, sizeof(path), "spec.infrastructure.%s", what);
    return js_get(gateway->doc, path);
}

static json_t *labels_of(const struct lab_object *gateway) {
    json_t *labels = json_object();
    json_object_update(labels, wanted_of(gateway, "labels"));
    json_object_set_new(labels, gateway_name, json_string(js_name(gateway->doc)));
    json_object_set_new(labels, managed, json_string("istio.io-mesh-controller"));
    return labels;
}

// True: something is new, or differs.
static bool add_annotations(json_t *doc, const struct lab_object *gateway) {
    const char *key;
    json_t *value;
    bool is_new = false;
    json_object_foreach(wanted_of(gateway, "annotations"), key, value) {
        const char *text = json_string_value(value), *had = js_annotation(doc, key);
        if (text != NULL && (had == NULL || strcmp(had, text) != 0)) {
            js_set_annotation(doc, key, text);
            is_new = true;
        }
    }
    return is_new;
}

// A document of a kind, with the Gateway's name, namespace and labels, owned by it.
static json_t *child(const struct lab_object *gateway, const char *api, const char *kind) {
    json_t *doc = json_object();
    js_set_str(doc, "apiVersion", api);
    js_set_str(doc, "kind", kind);
    js_set_str(doc, "metadata.name", js_name(gateway->doc));
    js_set_str(doc, "metadata.namespace", js_ns(gateway->doc));
    js_set(doc, "metadata.labels", labels_of(gateway));
    add_annotations(doc, gateway);
    js_set(doc, "metadata.ownerReferences", lab_owner_references(gateway));
    return doc;
}

// The child of that kind; NULL: there is none yet. *ret_is_foreign: one of that name is somebody
// else's, and stays as it is.
static struct lab_object *find_child(struct lab *lab, const struct lab_object *gateway,
                                     const char *kind, bool *ret_is_foreign) {
    struct lab_object *found =
        lab_store_find(lab, kind, js_ns(gateway->doc), js_name(gateway->doc));
    *ret_is_foreign = found != NULL && !lab_is_owned_by(found->doc, gateway);
    return found;
}

static json_t *port(const char *name, int number) {
    return json_pack("{s:s, s:i, s:s, s:s}", "name", name, "port", number, "protocol", "TCP",
                     "appProtocol", number == 15008 ? "hbone" : "tcp");
}

static void ensure_simple(struct lab *lab, const struct lab_object *gateway) {
    bool is_foreign;
    if (find_child(lab, gateway, "ServiceAccount", &is_foreign) == NULL) {
        lab_store_add(lab, child(gateway, "v1", "ServiceAccount"), false);
    }
    struct lab_object *service = find_child(lab, gateway, "Service", &is_foreign);
    if (service != NULL && !is_foreign && add_annotations(service->doc, gateway)) {
        lab_store_touch(lab, service);
    }
    if (service == NULL) {
        json_t *doc = child(gateway, "v1", "Service");
        json_t *selector = json_object();
        json_object_set_new(selector, gateway_name, json_string(js_name(gateway->doc)));
        js_set(doc, "spec.selector", selector);
        js_set(doc, "spec.ports",
               json_pack("[o, o]", port("status-port", 15021), port("mesh", 15008)));
        // As istiod's template has it: a waypoint of the client's place is preferred.
        if (js_annotation(doc, distribution_key) == NULL) {
            js_set_annotation(doc, distribution_key, "PreferClose");
        }
        lab_store_add(lab, doc, false);
    }
}

// ---- the Deployment ----------------------------------------------------------------------------

static void add_arg(json_t *args, const char *flag, const char *value) {
    json_array_append_new(args, json_string(flag));
    json_array_append_new(args, json_string(value));
}

static json_t *field_env(const char *name, const char *path) {
    return json_pack("{s:s, s:{s:{s:s}}}", "name", name, "valueFrom", "fieldRef", "fieldPath",
                     path);
}

static json_t *env_of(const struct lab *lab, const struct lab_object *gateway) {
    json_t *env = json_array();
    json_array_append_new(env, field_env("POD_NAME", "metadata.name"));
    json_array_append_new(env, field_env("POD_NAMESPACE", "metadata.namespace"));
    json_array_append_new(env, field_env("NODE_NAME", "spec.nodeName"));
    json_array_append_new(env, json_pack("{s:s, s:s}", "name", "GATEWAY_NAME", "value",
                                         js_name(gateway->doc)));
    size_t i;
    json_t *item;
    json_array_foreach(lab->opt.waypoint_env, i, item) {
        const char *text = json_string_value(item), *eq = strchr(text, '=');
        if (eq != NULL) {
            json_t *one = json_object();
            json_object_set_new(one, "name", json_stringn(text, (size_t)(eq - text)));
            json_object_set_new(one, "value", json_string(eq + 1));
            json_array_append_new(env, one);
        }
    }
    return env;
}

static void add_volume(json_t *spec, json_t *container, const char *name, const char *path,
                       const char *target, bool is_read_only) {
    json_array_append_new(js_array_at(spec, "volumes"),
                          json_pack("{s:s, s:{s:s}}", "name", name, "hostPath", "path", path));
    json_array_append_new(js_array_at(container, "volumeMounts"),
                          json_pack("{s:s, s:s, s:b}", "name", name, "mountPath", target,
                                    "readOnly", is_read_only));
}

static json_t *container_of(const struct lab *lab, const struct lab_object *gateway) {
    json_t *container = json_object(), *args = json_array();
    add_arg(args, "--config", lab->config_dir);
    add_arg(args, "--ca-dir", lab->ca_dir);
    add_arg(args, "--state-dir", lab->state_dir);
    size_t i;
    json_t *item;
    json_array_foreach(lab->opt.waypoint_args, i, item) {
        json_array_append(args, item);
    }
    js_set_str(container, "name", "waypoint");
    js_set(container, "command", json_pack("[s]", bin_path));
    js_set(container, "args", args);
    js_set(container, "env", env_of(lab, gateway));
    js_set(container, "ports",
           json_pack("[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}]", "name", "mesh", "containerPort", 15008,
                     "name", "status-port", "containerPort", 15021, "name", "metrics",
                     "containerPort", 15020));
    js_set(container, "readinessProbe",
           json_pack("{s:{s:s, s:i}, s:i, s:i}", "httpGet", "path", "/healthz/ready", "port", 15021,
                     "periodSeconds", 1, "failureThreshold", 1));
    return container;
}

static json_t *template_of(const struct lab *lab, const struct lab_object *gateway) {
    json_t *template = json_object(), *labels = labels_of(gateway), *spec = json_object();
    json_object_set_new(labels, "istio.io/dataplane-mode", json_string("none"));
    json_object_set_new(labels, "app", json_string(js_name(gateway->doc)));
    json_object_set_new(labels, "service.istio.io/canonical-name",
                        json_string(js_name(gateway->doc)));
    js_set(template, "metadata.labels", labels);
    json_t *annotations = json_deep_copy(wanted_of(gateway, "annotations"));
    if (annotations != NULL) {
        js_set(template, "metadata.annotations", annotations);
    }
    json_t *container = container_of(lab, gateway);
    js_set_str(spec, "serviceAccountName", js_name(gateway->doc));
    add_volume(spec, container, "bin", lab->opt.waypoint_bin, bin_path, true);
    add_volume(spec, container, "config", lab->config_dir, lab->config_dir, true);
    add_volume(spec, container, "ca", lab->ca_dir, lab->ca_dir, false);
    add_volume(spec, container, "state", lab->state_dir, lab->state_dir, false);
    js_set(spec, "containers", json_pack("[o]", container));
    js_set(spec, "terminationGracePeriodSeconds", json_integer(10));
    js_set(template, "spec", spec);
    return template;
}

// How many replicas the Gateway asks for; 0 = it asks for nothing that can be.
static long replicas_of(struct lab *lab, const struct lab_object *gateway) {
    const char *text = js_annotation(gateway->doc, replicas_key);
    char *end = NULL;
    if (text == NULL) {
        return 1;
    }
    long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 1 || n > REPLICAS_MAX) {
        lab_note(lab, "Gateway %s/%s: %s is \"%s\", expected 1 to %d", js_ns(gateway->doc),
                 js_name(gateway->doc), replicas_key, text, REPLICAS_MAX);
        return 1;
    }
    return n;
}

static struct lab_object *ensure_deployment(struct lab *lab, const struct lab_object *gateway) {
    bool is_foreign;
    struct lab_object *found = find_child(lab, gateway, "Deployment", &is_foreign);
    char wanted[16];
    snprintf(wanted, sizeof(wanted), "%ld", replicas_of(lab, gateway));
    if (is_foreign) {
        return found; // somebody's own: it may be a waypoint all the same
    }
    if (found == NULL) {
        json_t *doc = child(gateway, "apps/v1", "Deployment"), *match = json_object();
        js_set_annotation(doc, replicas_key, wanted);
        js_set(doc, "spec.replicas", json_integer(strtol(wanted, NULL, 10)));
        json_object_set_new(match, gateway_name, json_string(js_name(gateway->doc)));
        js_set(doc, "spec.selector.matchLabels", match);
        js_set(doc, "spec.template", template_of(lab, gateway));
        return lab_store_add(lab, doc, false);
    }
    // Only a change of the annotation counts: `scale` is allowed to differ.
    const char *last = js_annotation(found->doc, replicas_key);
    if (last == NULL || strcmp(last, wanted) != 0) {
        js_set_annotation(found->doc, replicas_key, wanted);
        js_set(found->doc, "spec.replicas", json_integer(strtol(wanted, NULL, 10)));
        lab_store_touch(lab, found);
    }
    return found;
}

// ---- the status --------------------------------------------------------------------------------

// One of `olds` keeps its time while it says the same.
static json_t *condition(const struct lab_object *gateway, const json_t *olds, const char *type,
                         bool is_true, const char *reason, const char *message) {
    const char *status = is_true ? "True" : "False", *since = "";
    char now[SYS_TIME_MAX];
    size_t i;
    json_t *old;
    json_array_foreach(olds, i, old) {
        if (strcmp(js_str(old, "type", ""), type) == 0 &&
            strcmp(js_str(old, "status", ""), status) == 0) {
            since = js_str(old, "lastTransitionTime", "");
        }
    }
    if (since[0] == '\0') {
        since = sys_time_text(clock_wall_s(), now);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "type", type, "status", status, "reason",
                     reason, "message", message, "lastTransitionTime", since, "observedGeneration",
                     js_int(gateway->doc, "metadata.generation", 1));
}

static bool is_served(const json_t *listener) {
    return strcmp(js_str(listener, "protocol", ""), "HBONE") == 0 &&
           js_int(listener, "port", 0) == 15008;
}

static const json_t *old_listener(const struct lab_object *gateway, const char *name) {
    size_t i;
    json_t *listener;
    json_array_foreach(js_get(gateway->doc, "status.listeners"), i, listener) {
        if (strcmp(js_str(listener, "name", ""), name) == 0) {
            return js_get(listener, "conditions");
        }
    }
    return NULL;
}

static json_t *listener_conditions(const struct lab_object *gateway, const json_t *listener,
                                   bool is_ready) {
    bool is_ok = is_served(listener);
    const json_t *olds = old_listener(gateway, js_str(listener, "name", ""));
    const char *why = is_ok ? "" : "a waypoint listens with protocol HBONE on port 15008 alone";
    is_ready = is_ready && is_ok;
    return json_pack("[o, o, o, o]",
                     condition(gateway, olds, "Accepted", is_ok,
                               is_ok ? "Accepted" : "UnsupportedProtocol", why),
                     condition(gateway, olds, "Programmed", is_ready,
                               is_ready ? "Programmed"
                               : is_ok  ? "Pending"
                                        : "Invalid",
                               why),
                     condition(gateway, olds, "ResolvedRefs", true, "ResolvedRefs", ""),
                     condition(gateway, olds, "Conflicted", false, "NoConflicts", ""));
}

static json_t *listener_status(const struct lab_object *gateway, bool is_ready,
                               bool *ret_is_any_served) {
    json_t *listeners = json_array(), *listener;
    size_t i;
    *ret_is_any_served = false;
    json_array_foreach(js_get(gateway->doc, "spec.listeners"), i, listener) {
        *ret_is_any_served = *ret_is_any_served || is_served(listener);
        json_array_append_new(listeners,
                              json_pack("{s:s, s:i, s:[], s:o}", "name",
                                        js_str(listener, "name", ""), "attachedRoutes", 0,
                                        "supportedKinds", "conditions",
                                        listener_conditions(gateway, listener, is_ready)));
    }
    return listeners;
}

// Programmed once a first pod is ready, and for good: a waypoint whose pods are away refuses, it is
// not bypassed.
static void write_status(struct lab *lab, struct lab_object *gateway,
                         const struct lab_object *deployment) {
    bool is_ready = lab_gateway_is_programmed(gateway->doc) ||
                    (deployment != NULL && js_int(deployment->doc, "status.readyReplicas", 0) > 0);
    json_t *status = json_object();
    if (is_ready) {
        char *host = xasprintf("%s.%s.svc.%s", js_name(gateway->doc), js_ns(gateway->doc),
                               lab->opt.cluster_domain);
        js_set(status, "addresses", json_pack("[{s:s, s:s}]", "type", "Hostname", "value", host));
        free(host);
    }
    bool is_ok;
    const json_t *olds = js_get(gateway->doc, "status.conditions");
    js_set(status, "listeners", listener_status(gateway, is_ready, &is_ok));
    js_set(status, "conditions",
           json_pack("[o, o]",
                     condition(gateway, olds, "Accepted", is_ok,
                               is_ok ? "Accepted" : "ListenersNotValid",
                               is_ok ? "" : "no listener with protocol HBONE on port 15008"),
                     condition(gateway, olds, "Programmed", is_ready,
                               is_ready ? "Programmed" : "AddressNotAssigned",
                               is_ready ? "" : "no pod of the waypoint has been ready so far")));
    lab_work_status(lab, gateway, status);
}

static void reconcile(struct lab *lab, struct lab_object *gateway) {
    if (!lab->opt.has_mesh || lab->opt.waypoint_bin == NULL) {
        lab_note(lab, "Gateway %s/%s has no waypoint: %s", js_ns(gateway->doc),
                 js_name(gateway->doc),
                 lab->opt.has_mesh ? "the program is not beside ztun, see --waypoint-bin"
                                   : "the lab has no mesh");
        return;
    }
    if (sys_mkdir_p(lab->ca_dir, 0700) < 0) { // it is mounted; whoever comes first fills it
        return;
    }
    ensure_simple(lab, gateway);
    write_status(lab, gateway, ensure_deployment(lab, gateway));
}

void lab_gateway_reconcile(struct lab *lab) {
    // What is added is behind us in the list.
    LIST_EACH_SAFE(node, &lab->objects) {
        struct lab_object *object = LAB_OBJECT(node);
        if (lab_gateway_is_ours(object->doc)) {
            reconcile(lab, object);
        }
    }
}
