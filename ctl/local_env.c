// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_docs.h"
#include "ctl/local_json.h"
#include "ctl/local_store.h"

int lab_images_load(const char *path, json_t **ret_images, char **ret_error) {
    json_t *docs = NULL;
    int rc = lab_docs_load(path, NULL, &docs, ret_error);
    if (rc < 0) {
        return rc;
    }
    json_t *images = js_get(json_array_get(docs, 0), "images");
    if (!json_is_array(images)) {
        *ret_error = xasprintf("%s: no list `images`", path);
        json_decref(docs);
        return -EINVAL;
    }
    char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    json_t *map = json_object();
    json_object_set(map, "images", images);
    json_object_set_new(map, "dir", json_string(slash != NULL ? dir : "."));
    free(dir);
    json_decref(docs);
    *ret_images = map;
    return 0;
}

// The entry for an image: patterns are tried in order, against the name as written and without
// registry, tag and digest.
static json_t *find_image(struct lab *lab, const char *image) {
    char bare[256];
    const char *slash = strrchr(image, '/');
    snprintf(bare, sizeof(bare), "%s", slash != NULL ? slash + 1 : image);
    bare[strcspn(bare, ":@")] = '\0';
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(lab->images, "images"), i, entry) {
        const char *pattern = js_str(entry, "match", "");
        if (text_glob(pattern, image) || text_glob(pattern, bare)) {
            return entry;
        }
    }
    return NULL;
}

// 'metadata.labels['x']' and its sister.
static char *map_field(const json_t *doc, const char *path) {
    const char *open = strstr(path, "['");
    const char *close = open != NULL ? strstr(open, "']") : NULL;
    if (close == NULL) {
        return NULL;
    }
    char *head = xstrndup(path, (size_t)(open - path));
    char *key = xstrndup(open + 2, (size_t)(close - open - 2));
    const char *value = json_string_value(json_object_get(js_get(doc, head), key));
    free(head);
    free(key);
    return xstrdup(value != NULL ? value : "");
}

static char *ips_field(const struct ip ips[2], bool is_all) {
    struct text out = {0};
    char buf[IP_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (ips[f].family != 0 && (is_all || out.len == 0)) {
            text_add(&out, "%s%s", out.len > 0 ? "," : "", ip_text(&ips[f], buf));
        }
    }
    return text_take(&out);
}

// The whole map, as kubelet writes it into a file: key="value" lines.
static char *whole_map(const json_t *map) {
    struct text out = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        text_add(&out, "%s=\"%s\"\n", key, json_string_value(value));
    }
    return text_take(&out);
}

char *lab_env_field(const struct lab_pod *pod, const char *path) {
    const json_t *doc = pod->object->doc;
    if (strchr(path, '[') != NULL) {
        return map_field(doc, path);
    }
    if (strcmp(path, "metadata.labels") == 0 || strcmp(path, "metadata.annotations") == 0) {
        return whole_map(js_get(doc, path));
    }
    bool is_all = path[0] != '\0' && path[strlen(path) - 1] == 's';
    if (strncmp(path, "status.podIP", 12) == 0) {
        return ips_field(pod->is_host_network ? pod->node->ips : pod->ips, is_all);
    }
    if (strncmp(path, "status.hostIP", 13) == 0) {
        return ips_field(pod->node->ips, is_all);
    }
    static const char *const texts[] = {"metadata.name", "metadata.namespace", "metadata.uid",
                                        "spec.nodeName", "spec.serviceAccountName"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (strcmp(path, texts[i]) == 0) {
            return xstrdup(js_str(doc, path, ""));
        }
    }
    return NULL;
}

static int wait_for(struct lab_pod *pod, const char *kind, const char *name, const char *key) {
    pod->waiting_reason = "CreateContainerConfigError";
    snprintf(pod->waiting_message, sizeof(pod->waiting_message), "%s \"%s\"%s%s not found", kind,
             name, key[0] != '\0' ? " key " : "", key);
    return -EAGAIN;
}

// A ConfigMap's or Secret's value as text; NULL when it is not there. The caller frees.
static char *data_text(const json_t *doc, const char *key) {
    const char *value = json_string_value(json_object_get(json_object_get(doc, "data"), key));
    if (value == NULL || strcmp(js_kind(doc), "Secret") != 0) {
        return value != NULL ? xstrdup(value) : NULL;
    }
    uint8_t *bytes = NULL;
    size_t len = 0;
    return text_unbase64(value, &bytes, &len) ? (char *)bytes : NULL;
}

static int add_key_ref(struct lab_pod *pod, const char *kind, const json_t *ref, const char *name,
                       struct strv *env) {
    const char *object = js_str(ref, "name", ""), *key = js_str(ref, "key", "");
    struct lab_object *found = lab_store_find(pod->lab, kind, js_ns(pod->object->doc), object);
    char *value = found != NULL ? data_text(found->doc, key) : NULL;
    if (value == NULL) {
        return js_bool(ref, "optional", false) ? 0 : wait_for(pod, kind, object, key);
    }
    env_set(env, name, value);
    free(value);
    return 0;
}

static int add_env(struct lab_pod *pod, const json_t *item, struct strv *env) {
    const char *name = js_str(item, "name", "");
    const json_t *from = js_get(item, "valueFrom");
    if (from == NULL) {
        char number[32];
        char *value =
            text_expand(js_text(js_get(item, "value"), number, sizeof(number)), env->items);
        env_set(env, name, value);
        free(value);
        return 0;
    }
    if (js_get(from, "configMapKeyRef") != NULL) {
        return add_key_ref(pod, "ConfigMap", js_get(from, "configMapKeyRef"), name, env);
    }
    if (js_get(from, "secretKeyRef") != NULL) {
        return add_key_ref(pod, "Secret", js_get(from, "secretKeyRef"), name, env);
    }
    const char *path = js_str(from, "fieldRef.fieldPath", NULL);
    char *value = path != NULL ? lab_env_field(pod, path) : NULL;
    if (value == NULL) {
        lab_note(pod->lab,
                 "env %s: valueFrom is only known for fieldRef and key references; "
                 "it is \"0\" here",
                 name);
        value = xstrdup("0");
    }
    env_set(env, name, value);
    free(value);
    return 0;
}

static int add_env_from(struct lab_pod *pod, const json_t *item, struct strv *env) {
    bool is_secret = js_get(item, "secretRef") != NULL;
    const json_t *ref = js_get(item, is_secret ? "secretRef" : "configMapRef");
    const char *kind = is_secret ? "Secret" : "ConfigMap", *name = js_str(ref, "name", "");
    struct lab_object *found = lab_store_find(pod->lab, kind, js_ns(pod->object->doc), name);
    if (found == NULL) {
        return js_bool(ref, "optional", false) ? 0 : wait_for(pod, kind, name, "");
    }
    const char *key;
    json_t *ignored;
    json_object_foreach(json_object_get(found->doc, "data"), key, ignored) {
        char *full = xasprintf("%s%s", js_str(item, "prefix", ""), key);
        char *value = data_text(found->doc, key);
        if (value != NULL) {
            env_set(env, full, value);
        }
        free(value);
        free(full);
    }
    return 0;
}

static void add_list(const json_t *list, char *const *env, struct strv *argv) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item) {
        char number[32];
        strv_add(argv, text_expand(js_text(item, number, sizeof(number)), env));
    }
}

static int build_argv(struct lab_pod *pod, const json_t *container, json_t *image, struct strv *env,
                      struct strv *argv) {
    const json_t *command = js_get(container, "command"), *args = js_get(container, "args");
    if (json_array_size(command) > 0) {
        add_list(command, env->items, argv);
        add_list(args, env->items, argv);
        return 0;
    }
    if (image == NULL) {
        pod->waiting_reason = "ErrImagePull";
        snprintf(pod->waiting_message, sizeof(pod->waiting_message),
                 "image \"%s\" has no entry in the image map, and there is no command",
                 js_str(container, "image", ""));
        return -ENOENT;
    }
    add_list(js_get(image, "command"), env->items, argv);
    add_list(json_array_size(args) > 0 ? args : js_get(image, "args"), env->items, argv);
    return argv->n > 0 ? 0 : -ENOENT;
}

int lab_env_build(struct lab_pod *pod, const json_t *container, struct strv *ret_env,
                  struct strv *ret_argv) {
    struct strv env = {0}, argv = {0};
    json_t *image = find_image(pod->lab, js_str(container, "image", ""));
    env_set(&env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    env_set(&env, "HOME", "/root");
    env_set(&env, "HOSTNAME", js_name(pod->object->doc));
    env_set(&env, "IMAGES_DIR", js_str(pod->lab->images, "dir", ""));
    const char *key;
    json_t *value;
    json_object_foreach(js_get(image, "env"), key, value) {
        char number[32];
        char *expanded = text_expand(js_text(value, number, sizeof(number)), env.items);
        env_set(&env, key, expanded);
        free(expanded);
    }
    int rc = 0;
    size_t i;
    json_t *item;
    json_array_foreach(js_get(container, "envFrom"), i, item) {
        rc = rc == 0 ? add_env_from(pod, item, &env) : rc;
    }
    json_array_foreach(js_get(container, "env"), i, item) {
        rc = rc == 0 ? add_env(pod, item, &env) : rc;
    }
    if (rc == 0) {
        rc = build_argv(pod, container, image, &env, &argv);
    }
    if (rc < 0) {
        strv_free(&env);
        strv_free(&argv);
        return rc;
    }
    *ret_env = env;
    *ret_argv = argv;
    return 0;
}
