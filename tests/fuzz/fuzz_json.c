// SPDX-License-Identifier: Apache-2.0
//
// JSON documents: our tree, built by the tokeniser that knows positions, says the same as
// jansson's.
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "common/mesh/config_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void compare(const struct cfg_node *node, const json_t *json);

// With a duplicate key jansson keeps the last one, in the place of the first; both are in ours.
static void compare_map(const struct cfg_node *node, const json_t *json) {
    CHECK(node->type == CFG_MAP && node->n >= json_object_size(json));
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_node *key = &node->pairs[i].key;
        const json_t *value = json_object_getn(json, key->text, key->n);
        CHECK(value != NULL || key->is_bad);
        bool is_last = true;
        for (uint32_t j = i + 1; j < node->n; j++) {
            const struct cfg_node *other = &node->pairs[j].key;
            is_last = is_last && (other->n != key->n || memcmp(other->text, key->text, key->n));
        }
        if (value != NULL && is_last) {
            compare(&node->pairs[i].value, value);
        }
    }
}

static void compare(const struct cfg_node *node, const json_t *json) {
    int64_t value;

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        compare_map(node, json);
        break;
    case JSON_ARRAY:
        CHECK(node->type == CFG_LIST && node->n == json_array_size(json));
        for (uint32_t i = 0; i < node->n; i++) {
            compare(&node->items[i], json_array_get(json, i));
        }
        break;
    case JSON_STRING:
        CHECK(node->type == CFG_STRING && node->n == json_string_length(json));
        CHECK(memcmp(node->text, json_string_value(json), node->n) == 0);
        break;
    case JSON_INTEGER:
        CHECK(cfg_to_int(node, &value) && value == json_integer_value(json));
        break;
    case JSON_REAL:
        CHECK(node->type == CFG_FLOAT || node->type == CFG_INT || node->type == CFG_STRING);
        CHECK(node->type == CFG_STRING || strtod(node->text, NULL) == json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        CHECK(node->type == CFG_BOOL && (node->text[0] == 't') == json_is_true(json));
        break;
    case JSON_NULL:
        CHECK(node->type == CFG_NULL);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const struct config_doc_limits limits = {
        .max_bytes = 1 << 20, .max_depth = 40, .max_nodes = 100000};
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;
    json_error_t error;

    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f", slice_make(data, len), CONFIG_JSON, &limits);
    const char *text = (const char *)reader.text.ptr; // behind a byte order mark
    json_t *json = json_loadb(text, reader.text.len, JSON_DISABLE_EOF_CHECK, &error);
    int r = config_doc_next(&reader, &arena, &errors, &root);
    if (r == 1) {
        CHECK(json != NULL);
        compare(&root, json);
    } else {
        CHECK(json == NULL || errors.n_errors > 0);
    }
    while (r != 0) {
        r = config_doc_next(&reader, &arena, &errors, &root);
    }
    json_decref(json);
    config_errors_fini(&errors);
    arena_fini(&arena);
    return 0;
}
