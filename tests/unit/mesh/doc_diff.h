// SPDX-License-Identifier: Apache-2.0
//
// The two parsers of YAML, one against the other: where doc_block_parse gives a tree, libyaml has
// to give the same one.
#pragma once

#include <errno.h>

#include "common/mesh/config_doc_priv.h"

static inline bool doc_diff_same(const struct cfg_node *a, const struct cfg_node *b) {
    if (a->line != b->line || a->col != b->col || a->n != b->n || a->type != b->type ||
        a->height != b->height || a->is_merge != b->is_merge || a->is_block != b->is_block ||
        a->is_bad != b->is_bad) {
        return false;
    }
    if (a->type != CFG_LIST && a->type != CFG_MAP) {
        return memcmp(a->text, b->text, a->n + 1) == 0;
    }
    uint32_t n = a->type == CFG_MAP ? 2 * a->n : a->n;
    for (uint32_t i = 0; i < n; i++) { // a pair is two nodes
        if (!doc_diff_same(&a->items[i], &b->items[i])) {
            return false;
        }
    }
    return true;
}

// What doc_block_parse says of one document; -ERANGE when libyaml says something else.
static inline int doc_diff(struct slice chunk, const struct config_doc_limits *limits) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena, other_arena;
    struct cfg_node root, other_root;

    arena_init(&arena, 8 << 20);
    arena_init(&other_arena, 8 << 20);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f.yaml", chunk, CONFIG_YAML, limits);
    reader.line = 3; // as if there were more above it, and it were indented
    reader.col_offset = 2;
    int result = doc_block_parse(&reader, chunk, &arena, &root);
    if (result >= 0) {
        int other = doc_libyaml_parse(&reader, chunk, &other_arena, &errors, &other_root);
        if (other == 1 && other_root.type == CFG_NULL) {
            other = 0;
        }
        if (other != result || errors.n_errors > 0 ||
            (result == 1 && !doc_diff_same(&root, &other_root))) {
            result = -ERANGE;
        }
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
    arena_fini(&other_arena);
    return result;
}
