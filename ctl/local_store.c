// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_json.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

static bool is_cluster_scoped(const char *kind) {
    static const char *const kinds[] = {
        "Namespace",
        "Node",
        "PersistentVolume",
        "StorageClass",
        "ClusterRole",
        "ClusterRoleBinding",
        "PriorityClass",
        "IngressClass",
        "CustomResourceDefinition",
        "GatewayClass",
        "RuntimeClass",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            return true;
        }
    }
    return false;
}

// stringData is write-only in the API: it becomes data, in base64.
static void default_secret(json_t *doc) {
    json_t *plain = json_object_get(doc, "stringData");
    json_t *data = plain != NULL ? js_object_at(doc, "data") : NULL;
    const char *key;
    json_t *value;
    json_object_foreach(plain, key, value) {
        char *encoded = text_base64(json_string_value(value), json_string_length(value));
        json_object_set_new(data, key, json_string(encoded));
        free(encoded);
    }
    json_object_del(doc, "stringData");
    if (js_str(doc, "type", NULL) == NULL) {
        js_set_str(doc, "type", "Opaque");
    }
}

void lab_store_default(json_t *doc) {
    if (is_cluster_scoped(js_kind(doc))) {
        js_del(doc, "metadata.namespace");
    } else if (js_ns(doc)[0] == '\0') {
        js_set_str(doc, "metadata.namespace", "default");
    }
    if (strcmp(js_kind(doc), "Secret") == 0) {
        default_secret(doc);
    }
    if (strcmp(js_kind(doc), "Namespace") == 0) {
        json_object_set_new(js_object_at(doc, "metadata.labels"), "kubernetes.io/metadata.name",
                            json_string(js_name(doc)));
    }
}

struct lab_object *lab_store_find(struct lab *lab, const char *kind, const char *ns,
                                  const char *name) {
    LIST_EACH(node, &lab->objects) {
        struct lab_object *object = LAB_OBJECT(node);
        if (strcmp(js_name(object->doc), name) == 0 && strcmp(js_kind(object->doc), kind) == 0 &&
            strcmp(js_ns(object->doc), ns) == 0) {
            return object;
        }
    }
    return NULL;
}

struct lab_object *lab_store_add(struct lab *lab, json_t *doc, bool is_user) {
    struct lab_object *object = xcalloc(1, sizeof(*object));
    object->doc = doc;
    object->is_user = is_user;
    object->is_dirty = true;
    char uuid[37], when[SYS_TIME_MAX];
    // An exported object keeps its identity.
    if (js_str(doc, "metadata.uid", NULL) == NULL) {
        sys_random_uuid(uuid);
        js_set_str(doc, "metadata.uid", uuid);
    }
    if (js_str(doc, "metadata.creationTimestamp", NULL) == NULL) {
        js_set_str(doc, "metadata.creationTimestamp", sys_time_text(clock_wall_s(), when));
    }
    js_set(doc, "metadata.generation", json_integer(1));
    list_init(&object->link);
    list_push_back(&lab->objects, &object->link);
    lab->n_objects++;
    lab_dirty(lab);
    return object;
}

void lab_store_replace(struct lab *lab, struct lab_object *object, json_t *doc) {
    json_t *old = object->doc;
    static const char *const kept[] = {"uid", "creationTimestamp"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        json_object_set(js_get(doc, "metadata"), kept[i],
                        json_object_get(js_get(old, "metadata"), kept[i]));
    }
    bool is_same = json_equal(json_object_get(old, "spec"), json_object_get(doc, "spec"));
    js_set(doc, "metadata.generation",
           json_integer(js_int(old, "metadata.generation", 0) + (is_same ? 0 : 1)));
    json_t *status = json_object_get(old, "status");
    if (status != NULL) {
        json_object_set(doc, "status", status);
    }
    object->doc = doc;
    object->is_user = true;
    json_decref(old);
    lab_store_touch(lab, object);
}

void lab_store_touch(struct lab *lab, struct lab_object *object) {
    object->is_dirty = true;
    lab_dirty(lab);
}

static char *file_of(struct lab *lab, const json_t *doc, const char *dir) {
    char *name = xasprintf("%s.%s.%s.json", js_kind(doc), js_ns(doc), js_name(doc));
    for (char *at = name; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '_';
        } else if (at < name + strlen(js_kind(doc)) && *at >= 'A' && *at <= 'Z') {
            *at = (char)(*at + 'a' - 'A');
        }
    }
    char *path = xasprintf("%s/%s", dir, name);
    free(name);
    return path;
}

void lab_store_remove(struct lab *lab, struct lab_object *object) {
    if (object->written_hash != 0) {
        char *path = file_of(lab, object->doc, lab->config_dir);
        unlink(path);
        free(path);
    }
    list_del(&object->link);
    lab->n_objects--;
    json_decref(object->doc);
    free(object);
    lab_dirty(lab);
}

// In the temporary directory first (the same file system), so that a watcher sees one rename.
static void write_object(struct lab *lab, struct lab_object *object, const char *text) {
    char *temporary = file_of(lab, object->doc, lab->tmp_dir);
    char *path = file_of(lab, object->doc, lab->config_dir);
    int rc = sys_write_file(temporary, text, strlen(text), 0600);
    if (rc == 0 && rename(temporary, path) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        lab_log("cannot write %s: %s", path, strerror(-rc));
        object->written_hash = 0;
    }
    free(temporary);
    free(path);
}

int lab_store_flush(struct lab *lab) {
    int n = 0;
    LIST_EACH(node, &lab->objects) {
        struct lab_object *object = LAB_OBJECT(node);
        if (!object->is_dirty) {
            continue;
        }
        object->is_dirty = false;
        char *text = json_dumps(object->doc, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        uint64_t hash = js_hash_text(text) | 1;
        if (hash != object->written_hash) {
            object->written_hash = hash;
            write_object(lab, object, text);
            n++;
        }
        free(text);
    }
    return n;
}

void lab_store_clear(struct lab *lab) {
    while (!list_empty(&lab->objects)) {
        struct lab_object *object = LAB_OBJECT(lab->objects.next);
        list_del(&object->link);
        json_decref(object->doc);
        free(object);
    }
    lab->n_objects = 0;
}

const json_t *lab_owner(const json_t *doc) {
    size_t i;
    json_t *owner;
    json_array_foreach(js_get(doc, "metadata.ownerReferences"), i, owner) {
        if (js_bool(owner, "controller", false)) {
            return owner;
        }
    }
    return NULL;
}

bool lab_is_owned_by(const json_t *doc, const struct lab_object *owner) {
    const json_t *reference = lab_owner(doc);
    return reference != NULL &&
           strcmp(js_str(reference, "uid", ""), js_str(owner->doc, "metadata.uid", "-")) == 0;
}

json_t *lab_owner_references(const struct lab_object *owner) {
    const json_t *doc = owner->doc;
    return json_pack("[{s:s, s:s, s:s, s:s, s:b, s:b}]", "apiVersion",
                     js_str(doc, "apiVersion", ""), "kind", js_kind(doc), "name", js_name(doc),
                     "uid", js_str(doc, "metadata.uid", ""), "controller", 1, "blockOwnerDeletion",
                     1);
}
