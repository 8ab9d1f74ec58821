// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/config_doc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/mesh/config_doc_priv.h"

const struct config_doc_limits config_doc_default_limits = {
    .max_bytes = 256u << 20,
    .max_depth = 100,
    .max_nodes = 8000000,
};

const char *cfg_type_text(uint8_t type) {
    static const char *const texts[] = {
        [CFG_NULL] = "null",      [CFG_BOOL] = "a boolean",  [CFG_INT] = "an integer",
        [CFG_FLOAT] = "a number", [CFG_STRING] = "a string", [CFG_LIST] = "a list",
        [CFG_MAP] = "a map",
    };
    return texts[type];
}

static const struct cfg_node *get(const struct cfg_node *node, struct slice key) {
    if (node == NULL || node->type != CFG_MAP) {
        return NULL;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_node *have = &node->pairs[i].key;
        if (have->n == key.len && memcmp(have->text, key.ptr, key.len) == 0) {
            return &node->pairs[i].value;
        }
    }
    return NULL;
}

const struct cfg_node *cfg_get(const struct cfg_node *node, const char *key) {
    return get(node, slice_str(key));
}

// One step along a path: "name", "[3]" or "[key]" (for keys with dots). Advances *path.
static const struct cfg_node *step(const struct cfg_node *node, const char **path) {
    const char *start = *path;

    if (*start == '[') {
        size_t len = strcspn(start, "]");
        struct slice index = slice_make(start + 1, len > 0 ? len - 1 : 0);
        uint64_t i;
        *path = start + len + (start[len] == ']');
        if (node->type == CFG_LIST) {
            return slice_to_u64(index, UINT32_MAX, &i) && i < node->n ? &node->items[i] : NULL;
        }
        return get(node, index);
    }
    start += *start == '.';
    size_t len = strcspn(start, ".[");
    *path = start + len;
    return get(node, slice_make(start, len));
}

const struct cfg_node *cfg_find(const struct cfg_node *root, const char *path,
                                const struct cfg_node **ret_deepest) {
    const struct cfg_node *node = root, *deepest = root;

    while (node != NULL && *path != '\0') {
        node = step(node, &path);
        deepest = node != NULL ? node : deepest;
    }
    if (ret_deepest != NULL) {
        *ret_deepest = deepest;
    }
    return node;
}

const char *cfg_str(const struct cfg_node *node, const char *fallback) {
    return node != NULL && node->type == CFG_STRING ? node->text : fallback;
}

bool cfg_to_int(const struct cfg_node *node, int64_t *ret_value) {
    uint64_t value;

    if (node == NULL || node->type != CFG_INT) {
        return false;
    }
    bool is_negative = node->text[0] == '-';
    struct slice digits = slice_make(node->text + is_negative, node->n - is_negative);
    if (!slice_to_u64(digits, (uint64_t)INT64_MAX + is_negative, &value)) {
        return false;
    }
    *ret_value = is_negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

// Two runs over the tree: one to measure, one to copy into the block.
struct clone {
    char *nodes, *texts; // NULL: measure
    size_t nodes_len, texts_len;
};

static void clone_body(struct clone *c, struct cfg_node *node) {
    size_t n = node->type == CFG_MAP ? 2 * (size_t)node->n : node->n;

    if (node->type != CFG_LIST && node->type != CFG_MAP) {
        if (c->nodes != NULL) {
            node->text = memcpy(c->texts + c->texts_len, node->text, n + 1);
        }
        c->texts_len += n + 1;
        return;
    }
    const struct cfg_node *items = node->items;
    struct cfg_node *copies = NULL;
    if (c->nodes != NULL) {
        copies = (struct cfg_node *)(c->nodes + c->nodes_len);
        if (n > 0) {
            memcpy(copies, items, n * sizeof(items[0]));
        }
        node->items = copies;
    }
    c->nodes_len += n * sizeof(items[0]);
    for (size_t i = 0; i < n; i++) {
        struct cfg_node measured = items[i];
        clone_body(c, copies != NULL ? &copies[i] : &measured);
    }
}

struct cfg_node *cfg_clone(const struct cfg_node *node) {
    struct clone c = {.nodes_len = sizeof(*node)};
    struct cfg_node root = *node;

    clone_body(&c, &root);
    struct cfg_node *copy = xmalloc(c.nodes_len + c.texts_len);
    c = (struct clone){
        .nodes = (char *)copy, .texts = (char *)copy + c.nodes_len, .nodes_len = sizeof(*node)};
    *copy = *node;
    clone_body(&c, copy);
    return copy;
}

static bool is_skipped(const struct cfg_node *key, const char *const *skip) {
    for (; skip != NULL && *skip != NULL; skip++) {
        if (strcmp(key->text, *skip) == 0) {
            return true;
        }
    }
    return false;
}

static uint64_t hash_node(const struct cfg_node *node, const char *const *skip, unsigned level) {
    uint64_t sum = node->type;

    if (node->type == CFG_MAP) {
        for (uint32_t i = 0; i < node->n; i++) {
            const struct cfg_pair *pair = &node->pairs[i];
            bool is_metadata = level == 0 && strcmp(pair->key.text, "metadata") == 0;
            if (level == 1 && is_skipped(&pair->key, skip)) {
                continue;
            }
            // A sum: the order of keys has no meaning.
            uint64_t value = hash_node(&pair->value, is_metadata ? skip : NULL, level + 1);
            sum += XXH3_64bits_withSeed(pair->key.text, pair->key.n, value);
        }
        return XXH3_64bits_withSeed(&sum, sizeof(sum), node->n != 0 ? CFG_MAP : CFG_MAP + 1);
    }
    if (node->type == CFG_LIST) {
        for (uint32_t i = 0; i < node->n; i++) {
            uint64_t link[2] = {sum, hash_node(&node->items[i], NULL, level + 1)};
            sum = XXH3_64bits(link, sizeof(link));
        }
        return sum;
    }
    return XXH3_64bits_withSeed(node->text, node->n, node->type);
}

uint64_t cfg_hash(const struct cfg_node *root, const char *const *skip) {
    return hash_node(root, skip, 0);
}

void config_doc_reader_init(struct config_doc_reader *r, const char *file, struct slice text,
                            enum config_format format, const struct config_doc_limits *limits) {
    size_t len = strlen(file);

    *r = (struct config_doc_reader){
        .file = file,
        .text = text,
        .limits = limits != NULL ? limits : &config_doc_default_limits,
        .format = format,
    };
    if (format == CONFIG_AUTO && len > 5 && strcmp(file + len - 5, ".json") == 0) {
        r->format = CONFIG_JSON;
    }
    // A byte order mark that editors leave; libyaml knows those of UTF-16 by itself.
    if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0) {
        r->text = slice_skip(text, 3);
    }
}

int config_doc_next(struct config_doc_reader *r, struct arena *arena, struct config_errors *errors,
                    struct cfg_node *ret_root) {
    if (!r->is_started) {
        r->is_started = true;
        if (r->text.len > r->limits->max_bytes) {
            char text[80];
            snprintf(text, sizeof(text), "larger than %zu bytes", r->limits->max_bytes);
            config_errors_add(errors, &(struct config_error){.file = r->file, .text = text});
            r->pos = r->text.len;
            return -EINVAL;
        }
        if (r->format == CONFIG_AUTO) {
            // YAML reads most of JSON too, but JSON's own reader is faster and stricter.
            r->format = doc_json_accepts(r) ? CONFIG_JSON : CONFIG_YAML;
        }
    }
    return r->format == CONFIG_JSON ? doc_json_next(r, arena, errors, ret_root)
                                    : doc_yaml_next(r, arena, errors, ret_root);
}

static bool is_list(const struct cfg_node *root, struct slice *ret_item_kind) {
    const struct cfg_node *kind = cfg_get(root, "kind"), *items = cfg_get(root, "items");

    if (kind == NULL || kind->type != CFG_STRING || items == NULL ||
        (items->type != CFG_LIST && items->type != CFG_NULL)) {
        return false;
    }
    struct slice text = slice_make(kind->text, kind->n);
    if (!slice_has_suffix(text, SLICE_LIT("List"))) {
        return false;
    }
    *ret_item_kind = slice_head(text, text.len - 4);
    return true;
}

static struct cfg_pair text_pair(const struct cfg_node *at, const char *key, struct slice value) {
    struct cfg_node node = {
        .line = at->line, .col = at->col, .n = (uint32_t)strlen(key), .type = CFG_STRING};
    struct cfg_pair pair = {.key = node, .value = node};

    pair.key.text = key;
    pair.value.n = (uint32_t)value.len;
    pair.value.text = (const char *)value.ptr;
    return pair;
}

// An item as the API server's own lists have it: type only in the list.
static bool add_type(const struct cfg_node *list, struct slice kind, struct arena *arena,
                     struct cfg_node *item) {
    const struct cfg_node *version = cfg_get(list, "apiVersion");
    struct slice kind_copy;

    if (cfg_get(item, "kind") != NULL || kind.len == 0 || version == NULL ||
        version->type != CFG_STRING) {
        return true;
    }
    struct cfg_pair *pairs = arena_alloc(arena, (item->n + 2) * sizeof(pairs[0]));
    if (pairs == NULL || !arena_copy(arena, kind, &kind_copy)) {
        return false;
    }
    if (item->n > 0) {
        memcpy(pairs, item->pairs, item->n * sizeof(pairs[0]));
    }
    bool has_version = cfg_get(item, "apiVersion") != NULL;
    item->pairs = pairs;
    pairs[item->n++] = text_pair(item, "kind", kind_copy);
    if (!has_version) {
        pairs[item->n++] = text_pair(item, "apiVersion", slice_make(version->text, version->n));
    }
    return true;
}

enum { MAX_NESTED_LISTS = 4 };

struct each {
    struct arena *arena;
    const char *file;
    struct config_errors *errors;
    int (*fn)(void *arg, const struct cfg_node *obj);
    void *arg;
};

static void each_error(const struct each *e, const struct cfg_node *at, const char *text) {
    config_errors_add(e->errors,
                      &(struct config_error){
                          .file = e->file, .line = at->line, .col = at->col, .text = text});
}

static int each(const struct each *e, const struct cfg_node *node, unsigned level) {
    struct slice item_kind;
    int r = 0;

    if (node->type != CFG_MAP) {
        each_error(e, node, "expected an object (a map with apiVersion and kind)");
        return 0;
    }
    if (!is_list(node, &item_kind)) {
        return e->fn(e->arg, node);
    }
    if (level == MAX_NESTED_LISTS) {
        each_error(e, node, "too many Lists within Lists");
        return 0;
    }
    const struct cfg_node *items = cfg_get(node, "items");
    for (uint32_t i = 0; items->type == CFG_LIST && i < items->n && r == 0; i++) {
        struct cfg_node item = items->items[i];
        if (item.type == CFG_MAP && !add_type(node, item_kind, e->arena, &item)) {
            each_error(e, &item, "the document is too large");
            return 0;
        }
        r = each(e, &item, level + 1);
    }
    return r;
}

int config_doc_each(const struct cfg_node *root, struct arena *arena, const char *file,
                    struct config_errors *errors, int (*fn)(void *arg, const struct cfg_node *obj),
                    void *arg) {
    return each(&(struct each){arena, file, errors, fn, arg}, root, 0);
}
