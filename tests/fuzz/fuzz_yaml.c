// SPDX-License-Identifier: Apache-2.0
//
// YAML documents: whatever the bytes, the tree is within its limits, its texts are NUL-terminated,
// a copy of it hashes equal, and both parsers make the same of it.
#include <stdlib.h>

#include "common/mesh/config_doc.h"
#include "tests/unit/mesh/doc_diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct config_doc_limits limits = {
    .max_bytes = 1 << 20, .max_depth = 20, .max_nodes = 20000};

static uint32_t walk(const struct cfg_node *node, unsigned depth) {
    uint32_t n = 1;

    CHECK(depth <= limits.max_depth);
    CHECK(node->line > 0 && node->col > 0);
    if (node->type == CFG_LIST) {
        for (uint32_t i = 0; i < node->n; i++) {
            n += walk(&node->items[i], depth + 1);
        }
    } else if (node->type == CFG_MAP) {
        for (uint32_t i = 0; i < node->n; i++) {
            CHECK(node->pairs[i].key.type == CFG_STRING);
            CHECK(strlen(node->pairs[i].key.text) == node->pairs[i].key.n);
            n += 1 + walk(&node->pairs[i].value, depth + 1);
        }
    } else {
        CHECK(strlen(node->text) == node->n);
    }
    return n;
}

static int on_object(void *arg, const struct cfg_node *obj) {
    CHECK(obj->type == CFG_MAP);
    ++*(uint32_t *)arg;
    return 0;
}

// Each piece between lines that begin with `---`.
static void compare(struct slice text) {
    size_t from = 0;

    for (size_t i = 0; i < text.len; i++) {
        struct slice rest = slice_skip(text, i + 1);
        bool is_cut = text.ptr[i] == '\n' && rest.len >= 3 && memcmp(rest.ptr, "---", 3) == 0;
        if (is_cut || rest.len == 0) {
            CHECK(doc_diff(slice_make(text.ptr + from, i + 1 - from), &limits) != -ERANGE);
            from = i + 1;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;
    uint32_t n_objects = 0;
    int r;

    compare(slice_make(data, len));
    arena_init(&arena, 8 << 20);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f", slice_make(data, len), CONFIG_YAML, &limits);
    while ((r = config_doc_next(&reader, &arena, &errors, &root)) != 0) {
        CHECK(r == 1 || errors.n_errors > 0);
        if (r == 1) {
            CHECK(walk(&root, 0) <= 2 * limits.max_nodes);
            struct cfg_node *copy = cfg_clone(&root);
            CHECK(cfg_hash(copy, NULL) == cfg_hash(&root, NULL));
            free(copy);
            config_doc_each(&root, &arena, "f", &errors, on_object, &n_objects);
        }
        arena_reset(&arena);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
    return 0;
}
