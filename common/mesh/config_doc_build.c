// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/config_doc_priv.h"

void doc_builder_init(struct doc_builder *b, const struct config_doc_reader *reader,
                      struct arena *arena, struct config_errors *errors) {
    *b = (struct doc_builder){.reader = reader, .arena = arena, .errors = errors};
}

void doc_builder_fini(struct doc_builder *b) {
    free(b->stack);
    free(b->frames);
}

void doc_builder_error(struct doc_builder *b, uint32_t line, uint32_t col, const char *fmt, ...) {
    char text[512];
    va_list args;

    if (b->errors == NULL) {
        b->is_failed = true;
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    config_errors_add(b->errors, &(struct config_error){.severity = CONFIG_ERROR,
                                                        .file = b->reader->file,
                                                        .object = b->reader->object,
                                                        .line = line,
                                                        .col = col,
                                                        .text = text});
}

static bool count(struct doc_builder *b, uint32_t n, uint32_t line, uint32_t col) {
    uint32_t max = b->reader->limits->max_nodes;

    if (n > max || b->n_nodes > max - n) {
        doc_builder_error(b, line, col, "the document has more than %u values (aliases expanded)",
                          max);
        b->is_failed = true;
        return false;
    }
    b->n_nodes += n;
    return true;
}

static bool too_deep(struct doc_builder *b, uint32_t line, uint32_t col) {
    doc_builder_error(b, line, col, "nested deeper than %u levels", b->reader->limits->max_depth);
    b->is_failed = true;
    return false;
}

static struct cfg_node *push(struct doc_builder *b) {
    if (b->n_stack == b->cap_stack) {
        b->cap_stack = b->cap_stack != 0 ? b->cap_stack * 2 : 64;
        b->stack = xrealloc(b->stack, b->cap_stack * sizeof(b->stack[0]));
    }
    return &b->stack[b->n_stack++];
}

bool doc_builder_push(struct doc_builder *b, const struct cfg_node *node, uint32_t n_nodes) {
    // Aliases of aliases can nest deeper than the text does.
    if (b->n_frames + node->height > b->reader->limits->max_depth) {
        return too_deep(b, node->line, node->col);
    }
    if (!count(b, n_nodes, node->line, node->col)) {
        return false;
    }
    *push(b) = *node;
    return true;
}

static bool out_of_memory(struct doc_builder *b, uint32_t line, uint32_t col) {
    doc_builder_error(b, line, col, "the document is too large");
    b->is_failed = true;
    return false;
}

bool doc_builder_scalar(struct doc_builder *b, struct cfg_node node, struct slice text) {
    if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL) {
        doc_builder_error(b, node.line, node.col, "a text must not hold a NUL character");
        node.is_bad = true;
        text.len = 0;
    }
    if (!count(b, 1, node.line, node.col)) {
        return false;
    }
    node.text = arena_strdup(b->arena, text);
    if (node.text == NULL) {
        return out_of_memory(b, node.line, node.col);
    }
    node.n = (uint32_t)text.len;
    *push(b) = node;
    return true;
}

bool doc_builder_open(struct doc_builder *b, uint8_t type, uint32_t line, uint32_t col) {
    // Nesting is bounded because readers of the tree recurse.
    if (b->n_frames >= b->reader->limits->max_depth) {
        return too_deep(b, line, col);
    }
    if (b->n_frames == b->cap_frames) {
        b->cap_frames = b->cap_frames != 0 ? b->cap_frames * 2 : 16;
        b->frames = xrealloc(b->frames, b->cap_frames * sizeof(b->frames[0]));
    }
    b->frames[b->n_frames++] = (struct doc_frame){
        .type = type, .start = b->n_stack, .line = line, .col = col, .n_nodes_before = b->n_nodes};
    return count(b, 1, line, col);
}

// A map's keys in JSON are strings: numbers and bools become their canonical text, as Kubernetes
// does it.
static void check_key(struct doc_builder *b, struct cfg_node *key) {
    if (key->type == CFG_INT || key->type == CFG_BOOL || key->type == CFG_FLOAT) {
        key->type = CFG_STRING;
    } else if (key->type != CFG_STRING) {
        doc_builder_error(b, key->line, key->col, "%s cannot be a key", cfg_type_text(key->type));
        *key = (struct cfg_node){
            .line = key->line, .col = key->col, .type = CFG_STRING, .is_bad = true, .text = ""};
    }
}

static int by_key(const void *a, const void *b) {
    const struct cfg_node *left = *(const struct cfg_node *const *)a;
    const struct cfg_node *right = *(const struct cfg_node *const *)b;

    if (left->n != right->n) {
        return left->n < right->n ? -1 : 1;
    }
    int order = memcmp(left->text, right->text, left->n);
    if (order != 0) {
        return order;
    }
    return left < right ? -1 : left > right; // same array: document order
}

static bool is_same_key(const struct cfg_node *a, const struct cfg_node *b) {
    return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
}

static bool report_duplicate(struct doc_builder *b, const struct cfg_node *first,
                             const struct cfg_node *again) {
    if (again->is_bad) {
        return true; // it has its own error
    }
    doc_builder_error(b, again->line, again->col, "the key `%.80s` is already set at line %u",
                      again->text, first->line);
    return true;
}

// Keys are at even indexes of `nodes`.
static bool has_duplicates(struct doc_builder *b, const struct cfg_node *nodes, uint32_t n_pairs) {
    bool has = false;

    if (n_pairs <= 8) {
        for (uint32_t i = 1; i < n_pairs; i++) {
            for (uint32_t j = 0; j < i; j++) {
                if (is_same_key(&nodes[2 * i], &nodes[2 * j])) {
                    has = report_duplicate(b, &nodes[2 * j], &nodes[2 * i]);
                    break;
                }
            }
        }
        return has;
    }
    const struct cfg_node **keys = xmalloc(n_pairs * sizeof(keys[0]));
    for (uint32_t i = 0; i < n_pairs; i++) {
        keys[i] = &nodes[2 * i];
    }
    qsort(keys, n_pairs, sizeof(keys[0]), by_key);
    for (uint32_t i = 1; i < n_pairs; i++) {
        if (is_same_key(keys[i - 1], keys[i])) {
            has = report_duplicate(b, keys[i - 1], keys[i]);
        }
    }
    free(keys);
    return has;
}

static bool has_key(const struct cfg_node *nodes, uint32_t n_nodes, const struct cfg_node *key) {
    for (uint32_t i = 0; i < n_nodes; i += 2) {
        if (is_same_key(&nodes[i], key)) {
            return true;
        }
    }
    return false;
}

// Appends the pairs of a merged map that are not set yet. Quadratic, so a bound on the size.
enum { MAX_MERGE = 256 };
static bool merge_map(struct doc_builder *b, uint32_t start, const struct cfg_node *map) {
    if (map->type != CFG_MAP || map->n > MAX_MERGE) {
        doc_builder_error(b, map->line, map->col,
                          map->type == CFG_MAP ? "a merged map may have at most 256 keys"
                                               : "`<<` takes a map or a list of maps");
        return false;
    }
    for (uint32_t i = 0; i < map->n; i++) {
        const struct cfg_pair *pair = &map->pairs[i];
        if (!has_key(&b->stack[start], b->n_stack - start, &pair->key)) {
            if (!doc_builder_push(b, &pair->key, 1) || !doc_builder_push(b, &pair->value, 1)) {
                return false;
            }
        }
    }
    return true;
}

// Takes the `<<` pairs out of the open map and merges what they name behind the others.
static bool merge(struct doc_builder *b, uint32_t start) {
    struct cfg_node merged[16];
    uint32_t n_merged = 0, to = start;
    bool is_ok = true;

    for (uint32_t from = start; from < b->n_stack; from += 2) {
        if (b->stack[from].is_merge && n_merged < ARRAY_LEN(merged)) {
            merged[n_merged++] = b->stack[from + 1];
            continue;
        }
        b->stack[to] = b->stack[from];
        b->stack[to + 1] = b->stack[from + 1];
        to += 2;
    }
    b->n_stack = to;
    for (uint32_t i = 0; i < n_merged; i++) {
        if (merged[i].type != CFG_LIST) {
            is_ok = merge_map(b, start, &merged[i]) && is_ok;
            continue;
        }
        for (uint32_t j = 0; j < merged[i].n; j++) {
            is_ok = merge_map(b, start, &merged[i].items[j]) && is_ok;
        }
    }
    return is_ok;
}

static bool close_map(struct doc_builder *b, uint32_t start) {
    bool has_merge = false, is_bad = false;

    for (uint32_t i = start; i < b->n_stack; i += 2) {
        check_key(b, &b->stack[i]);
        has_merge = has_merge || b->stack[i].is_merge;
    }
    if (has_duplicates(b, &b->stack[start], (b->n_stack - start) / 2)) {
        is_bad = true;
    }
    if (has_merge && !merge(b, start)) {
        is_bad = true;
    }
    return is_bad;
}

bool doc_builder_close(struct doc_builder *b) {
    struct doc_frame frame = b->frames[--b->n_frames];
    struct cfg_node node = {.line = frame.line, .col = frame.col, .type = frame.type};

    if (frame.type == CFG_MAP && b->n_stack > frame.start) {
        node.is_bad = close_map(b, frame.start);
    }
    if (b->is_failed) {
        return false;
    }
    uint32_t n = b->n_stack - frame.start;
    for (uint32_t i = frame.start; i < b->n_stack; i++) {
        node.is_bad = node.is_bad || b->stack[i].is_bad;
        node.height = MAX(node.height, b->stack[i].height);
    }
    node.height++;
    struct cfg_node *items = arena_alloc(b->arena, MAX(n, 1u) * sizeof(items[0]));
    if (items == NULL) {
        return out_of_memory(b, frame.line, frame.col);
    }
    if (n > 0) {
        memcpy(items, &b->stack[frame.start], n * sizeof(items[0]));
    }
    _Static_assert(sizeof(struct cfg_pair) == 2 * sizeof(struct cfg_node), "pairs are two nodes");
    node.n = frame.type == CFG_MAP ? n / 2 : n;
    node.items = items; // a map's pairs are key, value, key, value: the same bytes
    b->n_stack = frame.start;
    *push(b) = node;
    return true;
}
