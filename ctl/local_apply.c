// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ctl/local_json.h"
#include "ctl/local_kind.h"
#include "ctl/local_node.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_text.h"

static char *say(const json_t *doc, const char *what) {
    char *name = lab_kind_name(js_kind(doc), js_name(doc));
    char *text = xasprintf("%s %s", name, what);
    free(name);
    return text;
}

// Every namespace that is used exists, with its default service account, as the API server and its
// controllers see to it.
static void ensure_namespace(struct lab *lab, const char *ns) {
    if (ns[0] == '\0') {
        return;
    }
    if (lab_store_find(lab, "Namespace", "", ns) == NULL) {
        json_t *doc = json_pack("{s:s, s:s, s:{s:s, s:{s:s}}, s:{s:s}}", "apiVersion", "v1", "kind",
                                "Namespace", "metadata", "name", ns, "labels",
                                "kubernetes.io/metadata.name", ns, "status", "phase", "Active");
        lab_store_add(lab, doc, false);
    }
    if (lab_store_find(lab, "ServiceAccount", ns, "default") == NULL) {
        json_t *doc = json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "v1", "kind",
                                "ServiceAccount", "metadata", "name", "default", "namespace", ns);
        lab_store_add(lab, doc, false);
    }
}

// What `kubectl get -o yaml` exports along with its owner is made again from the owner.
static bool is_derived(struct lab *lab, const json_t *doc) {
    const json_t *owner = lab_owner(doc);
    if (owner != NULL && lab_store_find(lab, js_str(owner, "kind", ""), js_ns(doc),
                                        js_str(owner, "name", "")) != NULL) {
        return true;
    }
    const char *manager = js_label(doc, "endpointslice.kubernetes.io/managed-by");
    return strcmp(js_kind(doc), "EndpointSlice") == 0 && manager != NULL &&
           strstr(manager, "controller.k8s.io") != NULL;
}

// Names what of a pod's specification has no effect here. `known` ends with NULL.
static void note_unknown(struct lab *lab, const json_t *object, const char *where,
                         const char *const *known) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        bool is_known = false;
        for (size_t i = 0; known[i] != NULL; i++) {
            is_known = is_known || strcmp(known[i], key) == 0;
        }
        if (!is_known) {
            lab_note(lab, "%s.%s is ignored", where, key);
        }
    }
}

static void note_ignored(struct lab *lab, const json_t *spec) {
    static const char *const pod[] = {
        "containers",      "initContainers",   "restartPolicy",
        "nodeName",        "nodeSelector",     "serviceAccountName",
        "serviceAccount",  "volumes",          "terminationGracePeriodSeconds",
        "hostNetwork",     "hostname",         "subdomain",
        "dnsPolicy",       "dnsConfig",        "hostAliases",
        "securityContext", "schedulerName",    "enableServiceLinks",
        "priority",        "preemptionPolicy", "automountServiceAccountToken",
        "tolerations",     "imagePullSecrets", NULL};
    static const char *const container[] = {"name",
                                            "image",
                                            "command",
                                            "args",
                                            "env",
                                            "envFrom",
                                            "ports",
                                            "workingDir",
                                            "volumeMounts",
                                            "livenessProbe",
                                            "readinessProbe",
                                            "startupProbe",
                                            "lifecycle",
                                            "resources",
                                            "imagePullPolicy",
                                            "restartPolicy",
                                            "securityContext",
                                            "terminationMessagePath",
                                            "terminationMessagePolicy",
                                            NULL};
    note_unknown(lab, spec, "Pod spec", pod);
    size_t i;
    json_t *item;
    json_array_foreach(js_get(spec, "containers"), i, item) {
        note_unknown(lab, item, "Pod spec.containers", container);
        if (json_object_size(js_get(item, "resources")) > 0) {
            lab_note(lab, "Pod spec.containers.resources is ignored");
        }
    }
    json_array_foreach(js_get(spec, "initContainers"), i, item) {
        note_unknown(lab, item, "Pod spec.initContainers", container);
    }
}

static void default_pod(json_t *doc) {
    if (js_str(doc, "spec.serviceAccountName", NULL) == NULL) {
        js_set_str(doc, "spec.serviceAccountName", js_str(doc, "spec.serviceAccount", "default"));
    }
    if (js_str(doc, "spec.restartPolicy", NULL) == NULL) {
        js_set_str(doc, "spec.restartPolicy", "Always");
    }
    // Of an exported pod: its state was elsewhere.
    static const char *const stale[] = {"status", "metadata.deletionTimestamp",
                                        "metadata.deletionGracePeriodSeconds"};
    for (size_t i = 0; i < ARRAY_LEN(stale); i++) {
        js_del(doc, stale[i]);
    }
    json_object_del(js_get(doc, "metadata.annotations"), "ztun.io/netns");
}

struct lab_pod *lab_apply_pod(struct lab *lab, json_t *doc) {
    if (lab->n_pods >= LAB_PODS_MAX) {
        lab_note(lab, "no more than %d pods: %s/%s is not made", LAB_PODS_MAX, js_ns(doc),
                 js_name(doc));
        json_decref(doc);
        return NULL;
    }
    ensure_namespace(lab, js_ns(doc));
    default_pod(doc);
    note_ignored(lab, js_get(doc, "spec"));
    bool is_user = lab_owner(doc) == NULL;
    return lab_pod_new(lab, lab_store_add(lab, doc, is_user));
}

// A pod's specification cannot change: another one means another pod, once the first has gone.
static char *replace_pod(struct lab *lab, struct lab_object *object, json_t *doc) {
    struct lab_pod *pod = lab_pod_find(lab, js_ns(doc), js_name(doc));
    CHECK(pod != NULL);
    json_t *wanted = json_deep_copy(doc);
    default_pod(wanted);
    json_t *spec = json_object_get(wanted, "spec");
    if (js_str(spec, "nodeName", NULL) == NULL) {
        js_set_str(spec, "nodeName", js_str(object->doc, "spec.nodeName", ""));
    }
    bool is_same = json_equal(spec, json_object_get(object->doc, "spec"));
    json_decref(wanted);
    if (!is_same || pod->state == POD_STOPPING) {
        json_decref(pod->replacement);
        pod->replacement = doc;
        char *text = say(doc, "replaced");
        lab_pod_delete(pod, -1);
        return text;
    }
    static const char *const ours[] = {"ztun.io/netns", "ztun.io/nameservers"};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        const char *value = js_annotation(object->doc, ours[i]);
        if (value != NULL) {
            js_set_annotation(doc, ours[i], value);
        }
    }
    json_t *meta = json_object_get(object->doc, "metadata");
    static const char *const parts[] = {"labels", "annotations"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        json_t *value = json_object_get(json_object_get(doc, "metadata"), parts[i]);
        if (value != NULL) {
            json_object_set(meta, parts[i], value);
        } else {
            json_object_del(meta, parts[i]);
        }
    }
    lab->are_volumes_dirty = true;
    lab_store_touch(lab, object);
    char *text = say(doc, "configured");
    json_decref(doc);
    return text;
}

// What the API server allocated, or another hand changed, stays when the new document is silent.
static void keep_allocated(const json_t *old, json_t *doc) {
    static const char *const kept[] = {"spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies",
                                       "spec.ipFamilyPolicy", "spec.replicas"};
    bool is_external = strcmp(js_str(doc, "spec.type", ""), "ExternalName") == 0;
    for (size_t i = 0; i < ARRAY_LEN(kept) && !is_external; i++) {
        json_t *value = js_get(old, kept[i]);
        if (value != NULL && js_get(doc, kept[i]) == NULL) {
            json_incref(value);
            js_set(doc, kept[i], value);
        }
    }
    size_t i, k;
    json_t *port, *old_port;
    json_array_foreach(js_get(doc, "spec.ports"), i, port) {
        json_array_foreach(js_get(old, "spec.ports"), k, old_port) {
            json_t *node_port = json_object_get(old_port, "nodePort");
            if (node_port != NULL && json_object_get(port, "nodePort") == NULL &&
                js_int(port, "port", 0) == js_int(old_port, "port", -1)) {
                json_object_set(port, "nodePort", node_port);
            }
        }
    }
}

// What the API server adds to every object; a new document of the user's is silent about it.
static bool is_unchanged(const json_t *old, const json_t *doc) {
    json_t *filled = json_deep_copy(doc);
    json_t *meta = js_object_at(filled, "metadata");
    static const char *const kept[] = {"uid", "creationTimestamp", "generation"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        json_t *value = json_object_get(json_object_get(old, "metadata"), kept[i]);
        if (value != NULL) {
            json_object_set(meta, kept[i], value);
        }
    }
    json_t *status = json_object_get(old, "status");
    if (status != NULL) {
        json_object_set(filled, "status", status);
    }
    bool is_same = json_equal(old, filled);
    json_decref(filled);
    return is_same;
}

static char *replace(struct lab *lab, struct lab_object *object, json_t *doc) {
    if (strcmp(js_kind(doc), "Pod") == 0) {
        return replace_pod(lab, object, doc);
    }
    if (strcmp(js_kind(doc), "Node") == 0) {
        // Its network is fixed; labels, taints and the like may change.
        json_object_set(js_object_at(doc, "spec"), "podCIDR", js_get(object->doc, "spec.podCIDR"));
        json_object_set(json_object_get(doc, "spec"), "podCIDRs",
                        js_get(object->doc, "spec.podCIDRs"));
        json_object_del(doc, "status");
    }
    keep_allocated(object->doc, doc);
    if (is_unchanged(object->doc, doc)) {
        char *same = say(doc, "unchanged");
        json_decref(doc);
        return same;
    }
    char *text = say(doc, "configured");
    lab_store_replace(lab, object, doc);
    lab_node_rename(lab, object);
    lab->are_volumes_dirty = true;
    return text;
}

bool lab_change(struct lab *lab, struct lab_object *object, json_t *doc, char **ret_text) {
    if (strcmp(js_kind(doc), js_kind(object->doc)) != 0 ||
        strcmp(js_name(doc), js_name(object->doc)) != 0 ||
        strcmp(js_ns(doc), js_ns(object->doc)) != 0) {
        *ret_text = xstrdup("error: kind, name and namespace of an object cannot change");
        json_decref(doc);
        return false;
    }
    if (is_unchanged(object->doc, doc)) {
        *ret_text = xstrdup("unchanged");
        json_decref(doc);
        return true;
    }
    bool was_user = object->is_user; // what a controller made stays its own
    json_t *old = object->doc;
    *ret_text = replace(lab, object, doc);
    if (object->doc != old) { // else a pod, which may have gone to make place
        object->is_user = was_user;
    }
    return true;
}

bool lab_apply(struct lab *lab, json_t *doc, char **ret_text) {
    if (js_kind(doc)[0] == '\0' || js_name(doc)[0] == '\0' || strchr(js_name(doc), '/') != NULL) {
        *ret_text = xstrdup("a document without kind or metadata.name");
        json_decref(doc);
        return false;
    }
    lab_store_default(doc);
    if (is_derived(lab, doc)) {
        *ret_text = say(doc, "skipped: its owner is here and makes it");
        json_decref(doc);
        return true;
    }
    ensure_namespace(lab, js_ns(doc));
    struct lab_object *object = lab_store_find(lab, js_kind(doc), js_ns(doc), js_name(doc));
    if (object != NULL) {
        *ret_text = replace(lab, object, doc);
        return true;
    }
    if (lab->n_objects >= LAB_OBJECTS_MAX) {
        *ret_text = xstrdup("too many objects");
        json_decref(doc);
        return false;
    }
    *ret_text = say(doc, "created");
    lab->are_volumes_dirty = true;
    if (strcmp(js_kind(doc), "Pod") == 0) {
        return lab_apply_pod(lab, doc) != NULL;
    }
    struct lab_object *added = lab_store_add(lab, doc, true);
    if (strcmp(js_kind(doc), "Node") == 0 && !lab_node_add(lab, added)) {
        free(*ret_text);
        *ret_text = xasprintf("Node %s: refused, see supervisor.log", js_name(doc));
        lab_store_remove(lab, added);
        return false;
    }
    return true;
}

static struct lab_object *find_any(struct lab *lab, const char *kind, const char *ns,
                                   const char *name) {
    const struct lab_kind *known = lab_kind_find(kind);
    kind = known != NULL ? known->kind : kind;
    LIST_EACH(node, &lab->objects) {
        struct lab_object *object = LAB_OBJECT(node);
        const char *own_ns = js_ns(object->doc);
        if (strcmp(js_name(object->doc), name) == 0 &&
            strcasecmp(js_kind(object->doc), kind) == 0 &&
            (own_ns[0] == '\0' || strcmp(own_ns, ns) == 0)) {
            return object;
        }
    }
    return NULL;
}

static void delete_object(struct lab *lab, struct lab_object *object, long grace_s) {
    struct lab_pod *pod = strcmp(js_kind(object->doc), "Pod") == 0
                              ? lab_pod_find(lab, js_ns(object->doc), js_name(object->doc))
                              : NULL;
    if (pod != NULL) {
        json_decref(pod->replacement);
        pod->replacement = NULL;
        lab_pod_delete(pod, grace_s);
    } else {
        lab_store_remove(lab, object); // what it owned is collected
    }
}

bool lab_delete(struct lab *lab, const char *kind, const char *ns, const char *name, long grace_s,
                char **ret_text) {
    struct lab_object *object = find_any(lab, kind, ns[0] != '\0' ? ns : "default", name);
    if (object == NULL) {
        const struct lab_kind *known = lab_kind_find(kind);
        *ret_text = lab_kind_not_found(known != NULL ? known->kind : kind, name);
        return false;
    }
    if (strcmp(js_kind(object->doc), "Node") == 0) {
        *ret_text = say(object->doc, "stays: nodes go with the lab");
        return false;
    }
    char *resource = lab_kind_name(js_kind(object->doc), ""); // deployment.apps/
    *ret_text = xasprintf("%.*s \"%s\" deleted", (int)strcspn(resource, "/"), resource, name);
    free(resource);
    if (strcmp(js_kind(object->doc), "Namespace") == 0) {
        LIST_EACH_SAFE(node, &lab->objects) {
            struct lab_object *inner = LAB_OBJECT(node);
            if (inner != object && strcmp(js_ns(inner->doc), name) == 0) {
                delete_object(lab, inner, grace_s);
            }
        }
    }
    delete_object(lab, object, grace_s);
    return true;
}
