// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_patch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/slice.h"
#include "ctl/local_json.h"
#include "ctl/local_text.h"

enum { PATCH_DEPTH_MAX = 64, POINTER_KEY_MAX = 256 };

// Lists that the API merges, and the key of their items.
static const struct {
    const char *list, *key;
} merged_lists[] = {
    {"containers", "name"}, {"initContainers", "name"},    {"env", "name"},
    {"volumes", "name"},    {"volumeMounts", "mountPath"}, {"imagePullSecrets", "name"},
    {"hostAliases", "ip"},  {"ownerReferences", "uid"},    {"conditions", "type"},
};

static const char *key_of_list(const char *list, const json_t *items) {
    for (size_t i = 0; list != NULL && i < ARRAY_LEN(merged_lists); i++) {
        if (strcmp(merged_lists[i].list, list) == 0) {
            return merged_lists[i].key;
        }
    }
    if (list == NULL || strcmp(list, "ports") != 0) {
        return NULL;
    }
    // A container's ports by containerPort, a Service's by port.
    const json_t *first = json_array_get(items, 0);
    return json_object_get(first, "containerPort") != NULL ? "containerPort" : "port";
}

static json_t *apply(const json_t *target, const json_t *patch, const char *name, bool is_strategic,
                     int depth);

static size_t find_item(const json_t *list, const char *key, const json_t *value) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item) {
        if (value != NULL && json_equal(json_object_get(item, key), value)) {
            return i;
        }
    }
    return SIZE_MAX;
}

static json_t *merge_list(const json_t *target, const json_t *patch, const char *key, int depth) {
    json_t *result = json_array();
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)patch, i, item) {
        if (strcmp(js_str(item, "$patch", ""), "replace") == 0) {
            target = NULL;
        }
    }
    json_array_foreach((json_t *)target, i, item) {
        json_array_append_new(result, json_deep_copy(item));
    }
    json_array_foreach((json_t *)patch, i, item) {
        const char *what = js_str(item, "$patch", "");
        size_t at = find_item(result, key, json_object_get(item, key));
        if (strcmp(what, "delete") == 0) {
            if (at != SIZE_MAX) {
                json_array_remove(result, at);
            }
        } else if (at != SIZE_MAX) {
            json_array_set_new(result, at,
                               apply(json_array_get(result, at), item, NULL, true, depth + 1));
        } else if (what[0] == '\0') {
            json_array_append_new(result, apply(NULL, item, NULL, true, depth + 1));
        }
    }
    return result;
}

static json_t *apply(const json_t *target, const json_t *patch, const char *name, bool is_strategic,
                     int depth) {
    const char *key = is_strategic && json_is_array(patch) ? key_of_list(name, patch) : NULL;
    if (key != NULL && depth < PATCH_DEPTH_MAX) {
        return merge_list(target, patch, key, depth);
    }
    if (!json_is_object(patch) || depth >= PATCH_DEPTH_MAX) {
        return json_deep_copy(patch);
    }
    json_t *result = json_is_object(target) ? json_deep_copy(target) : json_object();
    const char *field;
    json_t *value;
    json_object_foreach((json_t *)patch, field, value) {
        if (is_strategic && field[0] == '$') {
            continue; // a directive, such as $setElementOrder/containers
        }
        if (json_is_null(value)) {
            json_object_del(result, field);
        } else {
            json_t *old = json_object_get(result, field);
            json_object_set_new(result, field, apply(old, value, field, is_strategic, depth + 1));
        }
    }
    return result;
}

json_t *patch_merge(const json_t *target, const json_t *patch) {
    return apply(target, patch, NULL, false, 0);
}

json_t *patch_strategic(const json_t *target, const json_t *patch) {
    return apply(target, patch, NULL, true, 0);
}

// The next key of a JSON pointer (RFC 6901), unescaped.
static bool next_key(const char **at, char key[POINTER_KEY_MAX]) {
    if (**at != '/') {
        return false;
    }
    (*at)++;
    size_t n = 0;
    for (; **at != '/' && **at != '\0'; (*at)++) {
        char c = **at;
        if (c == '~' && ((*at)[1] == '0' || (*at)[1] == '1')) {
            c = (*at)[1] == '0' ? '~' : '/';
            (*at)++;
        }
        if (n + 1 >= POINTER_KEY_MAX) {
            return false;
        }
        key[n++] = c;
    }
    key[n] = '\0';
    return true;
}

// "-" is the end of a list, where an item can be added.
static bool list_index(const json_t *list, const char *key, size_t *ret) {
    if (strcmp(key, "-") == 0) {
        *ret = json_array_size(list);
        return true;
    }
    size_t len = strlen(key);
    if (len == 0 || len > 6 || strspn(key, "0123456789") != len) {
        return false;
    }
    *ret = (size_t)strtoul(key, NULL, 10);
    return true;
}

static json_t *child(const json_t *parent, const char *key) {
    size_t i;
    if (json_is_array(parent)) {
        return list_index(parent, key, &i) ? json_array_get(parent, i) : NULL;
    }
    return json_object_get(parent, key);
}

// The container of the pointer's last key, which is left in `key`. NULL: there is none.
static json_t *parent_at(json_t *root, const char *pointer, char key[POINTER_KEY_MAX]) {
    json_t *at = root;
    if (!next_key(&pointer, key)) {
        return NULL;
    }
    while (at != NULL && *pointer != '\0') {
        at = child(at, key);
        if (!next_key(&pointer, key)) {
            return NULL;
        }
    }
    return at;
}

static bool remove_at(json_t *root, const char *pointer) {
    char key[POINTER_KEY_MAX];
    size_t i;
    json_t *parent = parent_at(root, pointer, key);
    if (json_is_array(parent)) {
        return list_index(parent, key, &i) && json_array_remove(parent, i) == 0;
    }
    return json_object_del(parent, key) == 0;
}

static bool add_at(json_t *root, const char *pointer, const json_t *value) {
    char key[POINTER_KEY_MAX];
    size_t i;
    json_t *parent = parent_at(root, pointer, key);
    json_t *copy = json_deep_copy(value);
    if (copy == NULL || (!json_is_array(parent) && !json_is_object(parent))) {
        json_decref(copy);
        return false;
    }
    if (json_is_array(parent)) {
        if (!list_index(parent, key, &i)) {
            json_decref(copy);
            return false;
        }
        return json_array_insert_new(parent, i, copy) == 0;
    }
    return json_object_set_new(parent, key, copy) == 0;
}

static bool replace_at(json_t *root, const char *pointer, const json_t *value) {
    char key[POINTER_KEY_MAX];
    json_t *parent = parent_at(root, pointer, key);
    size_t i;
    if (child(parent, key) == NULL || value == NULL) {
        return false;
    }
    if (json_is_array(parent)) {
        return list_index(parent, key, &i) &&
               json_array_set_new(parent, i, json_deep_copy(value)) == 0;
    }
    return json_object_set_new(parent, key, json_deep_copy(value)) == 0;
}

static bool run(json_t *root, const json_t *operation) {
    const char *op = js_str(operation, "op", ""), *path = js_str(operation, "path", "");
    const char *from = js_str(operation, "from", "");
    const json_t *value = json_object_get(operation, "value");
    char key[POINTER_KEY_MAX];
    if (strcmp(op, "remove") == 0) {
        return remove_at(root, path);
    }
    if (strcmp(op, "add") == 0) {
        return add_at(root, path, value);
    }
    if (strcmp(op, "replace") == 0) {
        return replace_at(root, path, value);
    }
    if (strcmp(op, "test") == 0) {
        const json_t *have = child(parent_at(root, path, key), key);
        return have != NULL && json_equal(have, value);
    }
    if (strcmp(op, "copy") == 0 || strcmp(op, "move") == 0) {
        json_t *have = json_deep_copy(child(parent_at(root, from, key), key));
        bool is_ok =
            have != NULL && (op[0] == 'c' || remove_at(root, from)) && add_at(root, path, have);
        json_decref(have);
        return is_ok;
    }
    return false;
}

json_t *patch_json(const json_t *target, const json_t *operations, char **ret_error) {
    if (!json_is_array(operations)) {
        *ret_error = xstrdup("a JSON patch is a list of operations");
        return NULL;
    }
    json_t *result = json_deep_copy(target);
    size_t i;
    json_t *operation;
    json_array_foreach((json_t *)operations, i, operation) {
        if (!run(result, operation)) {
            *ret_error = xasprintf("operation %zu, %s of \"%s\", cannot be done", i + 1,
                                   js_str(operation, "op", "?"), js_str(operation, "path", ""));
            json_decref(result);
            return NULL;
        }
    }
    return result;
}
