// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_node.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/arena.h"
#include "common/mesh/xds.pb-c.h"

#define META "ISTIO_META_"
#define META_JSON "ISTIO_METAJSON_"

// ---- metadata

static bool set_text(json_t *meta, const char *key, const char *text) {
    return json_object_set_new(meta, key, json_string(text)) == 0; // not when it is no UTF-8
}

static bool add_object(json_t *meta, const char *text) {
    json_t *fields = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool is_object = json_is_object(fields) && json_object_update(meta, fields) == 0;
    json_decref(fields);
    return is_object;
}

static bool add_value(json_t *meta, const char *key, const char *text) {
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    return json_object_set_new(meta, key, value) == 0; // not without a value
}

static bool add_variable(const struct xds_node *node, json_t *meta, const char *variable,
                         char error[XDS_NODE_ERROR_MAX]) {
    bool is_keyed = strcmp(node->role, "ztunnel") == 0;
    struct slice name, value;
    bool is_good = true;
    if (!slice_split(slice_str(variable), '=', &name, &value)) {
        return true;
    }
    char *key = slice_dup(name);
    if (slice_has_prefix(name, SLICE_LIT(META_JSON))) {
        const char *text = (const char *)value.ptr;
        is_good =
            is_keyed ? add_value(meta, key + strlen(META_JSON), text) : add_object(meta, text);
    } else if (slice_has_prefix(name, SLICE_LIT(META))) {
        is_good = set_text(meta, key + strlen(META), (const char *)value.ptr);
    }
    if (!is_good) {
        snprintf(error, XDS_NODE_ERROR_MAX, "%.100s: is not %s", key,
                 !slice_has_prefix(name, SLICE_LIT(META_JSON)) ? "UTF-8"
                 : is_keyed                                    ? "JSON"
                                                               : "a JSON object");
    }
    free(key);
    return is_good;
}

static bool collect(const struct xds_node *node, json_t *meta, char error[XDS_NODE_ERROR_MAX]) {
    const struct {
        const char *key, *text;
    } own[] = {
        {"NAME", node->pod},
        {"NAMESPACE", node->ns},
        {"INSTANCE_IPS", node->ip},
        {"NODE_NAME", node->node_name},
        {"CLUSTER_ID", node->cluster_id},
    };
    for (const char *const *variable = node->env; *variable != NULL; variable++) {
        if (!add_variable(node, meta, *variable, error)) {
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(own); i++) { // these are not the environment's to change
        if (!set_text(meta, own[i].key, own[i].text)) {
            snprintf(error, XDS_NODE_ERROR_MAX, "%s: is not UTF-8", own[i].key);
            return false;
        }
    }
    return true;
}

// ---- as messages; jansson has bounded the depth

static Xds__Struct *struct_of(struct arena *arena, json_t *object);

static void *make(struct arena *arena, size_t n, size_t size) {
    void *items = arena_array(arena, n + 1, size);
    CHECK(items != NULL); // the arena has no maximum
    return items;
}

static ProtobufCBinaryData text_of(const char *text) {
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
}

static Xds__Value *value_of(struct arena *arena, json_t *json) {
    Xds__Value *value = make(arena, 1, sizeof(*value));
    xds__value__init(value);
    if (json_is_object(json)) {
        value->kind_case = XDS__VALUE__KIND_FIELDS;
        value->fields = struct_of(arena, json);
    } else if (json_is_array(json)) {
        size_t n = json_array_size(json);
        Xds__ListValue *list = make(arena, 1, sizeof(*list));
        xds__list_value__init(list);
        list->values = make(arena, n, sizeof(Xds__Value *));
        for (; list->n_values < n; list->n_values++) {
            list->values[list->n_values] = value_of(arena, json_array_get(json, list->n_values));
        }
        value->kind_case = XDS__VALUE__KIND_LIST;
        value->list = list;
    } else if (json_is_string(json)) {
        value->kind_case = XDS__VALUE__KIND_TEXT;
        value->text = text_of(json_string_value(json));
    } else if (json_is_number(json)) {
        value->kind_case = XDS__VALUE__KIND_NUMBER;
        value->number = json_number_value(json);
    } else if (json_is_boolean(json)) {
        value->kind_case = XDS__VALUE__KIND_BOOLEAN;
        value->boolean = json_is_true(json);
    } else {
        value->kind_case = XDS__VALUE__KIND_NULL;
    }
    return value;
}

static Xds__Struct *struct_of(struct arena *arena, json_t *object) {
    Xds__Struct *fields = make(arena, 1, sizeof(*fields));
    const char *key;
    json_t *value;
    xds__struct__init(fields);
    fields->fields = make(arena, json_object_size(object), sizeof(Xds__StructEntry *));
    json_object_foreach(object, key, value) {
        Xds__StructEntry *entry = make(arena, 1, sizeof(*entry));
        xds__struct_entry__init(entry);
        entry->key = text_of(key);
        entry->value = value_of(arena, value);
        fields->fields[fields->n_fields++] = entry;
    }
    return fields;
}

bool xds_node_encode(const struct xds_node *node, struct buf *ret_bytes,
                     char error[XDS_NODE_ERROR_MAX]) {
    Xds__Node message = XDS__NODE__INIT;
    struct arena arena;
    json_t *meta = json_object();
    bool is_good = collect(node, meta, error);
    if (is_good) {
        char *id = xasprintf("%s~%s~%s.%s~%s.svc.%s", node->role, node->ip, node->pod, node->ns,
                             node->ns, node->cluster_domain);
        arena_init(&arena, SIZE_MAX);
        message.id = text_of(id);
        message.metadata = struct_of(&arena, meta);
        size_t len = xds__node__get_packed_size(&message);
        uint8_t *at = buf_reserve(ret_bytes, len);
        CHECK(at != NULL); // its maximum is the caller's business
        buf_commit(ret_bytes, xds__node__pack(&message, at));
        arena_fini(&arena);
        free(id);
    }
    json_decref(meta);
    return is_good;
}
