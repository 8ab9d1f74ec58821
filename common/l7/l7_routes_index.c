// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_routes_priv.h"

#include <stdlib.h>

static uint8_t fold(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

// Bytes that both begin with.
static size_t common_len(struct slice a, struct slice b, bool ignores_case) {
    size_t max = MIN(a.len, b.len), len = 0;
    if (ignores_case) {
        while (len < max && fold(a.ptr[len]) == fold(b.ptr[len])) {
            len++;
        }
    } else {
        while (len < max && a.ptr[len] == b.ptr[len]) {
            len++;
        }
    }
    return len;
}

static int compare(struct slice a, struct slice b, bool ignores_case) {
    if (!ignores_case) {
        size_t len = MIN(a.len, b.len);
        int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
        return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
    }
    size_t len = common_len(a, b, true);
    if (len == a.len || len == b.len) {
        return (a.len > b.len) - (a.len < b.len);
    }
    return fold(a.ptr[len]) - fold(b.ptr[len]);
}

struct item { // for sorting
    const struct l7_entry *entry;
    uint32_t index;
};

static int compare_items(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    int order = compare(x->entry->path, y->entry->path, x->entry->ignores_case);
    if (order != 0) {
        return order;
    }
    bool x_is = x->entry->path_kind == L7_PATH_IS, y_is = y->entry->path_kind == L7_PATH_IS;
    if (x_is != y_is) {
        return x_is ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

static bool is_indexed(const struct l7_entry *entry) {
    return entry->path_kind == L7_PATH_IS || entry->path_kind == L7_PATH_STARTS ||
           entry->path_kind == L7_PATH_UNDER;
}

static void link_parents(struct l7_path_index *index) {
    for (uint32_t i = 0; i < index->n_nodes; i++) {
        struct l7_path_node *node = &index->nodes[i];
        // In order, what a text begins with comes before it; in between are only texts that begin
        // with the same.
        uint32_t parent = i > 0 ? i - 1 : L7_NO_NODE;
        while (parent != L7_NO_NODE &&
               common_len(index->nodes[parent].key, node->key, index->ignores_case) <
                   index->nodes[parent].key.len) {
            parent = index->nodes[parent].parent;
        }
        node->parent = parent;
    }
}

static void index_paths(struct l7_routes *routes, struct l7_path_index *index, bool ignores_case) {
    index->ignores_case = ignores_case;
    struct item *items = xcalloc(routes->n_entries, sizeof(*items));
    size_t n = 0;
    for (size_t i = 0; i < routes->n_entries; i++) {
        const struct l7_entry *entry = &routes->entries[i];
        if (is_indexed(entry) && entry->ignores_case == ignores_case) {
            items[n++] = (struct item){entry, (uint32_t)i};
        }
    }
    qsort(items, n, sizeof(*items), compare_items);
    index->nodes = arena_array(&routes->arena, n, sizeof(*index->nodes));
    index->lists = arena_array(&routes->arena, n, sizeof(*index->lists));
    CHECK(index->nodes != NULL && index->lists != NULL);
    for (size_t i = 0; i < n; i++) {
        struct slice key = items[i].entry->path;
        struct l7_path_node *node = &index->nodes[index->n_nodes];
        if (index->n_nodes == 0 || compare(node[-1].key, key, ignores_case) != 0) {
            *node = (struct l7_path_node){.key = key, .first = (uint32_t)i};
            index->n_nodes++;
        } else {
            node--;
        }
        index->lists[i] = items[i].index;
        if (items[i].entry->path_kind == L7_PATH_IS) {
            node->n_exact++;
        } else {
            node->n_prefix++;
        }
    }
    link_parents(index);
    free(items);
}

uint32_t l7_path_index_find(const struct l7_path_index *index, struct slice path) {
    uint32_t low = 0, high = index->n_nodes; // the first behind the path is in [low, high]
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(index->nodes[middle].key, path, index->ignores_case) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    uint32_t at = low > 0 ? low - 1 : L7_NO_NODE;
    if (at == L7_NO_NODE) {
        return at;
    }
    size_t len = common_len(index->nodes[at].key, path, index->ignores_case);
    while (at != L7_NO_NODE && index->nodes[at].key.len > len) {
        at = index->nodes[at].parent;
    }
    return at;
}

static void index_rest(struct l7_routes *routes) {
    routes->any = arena_array(&routes->arena, routes->n_entries, sizeof(*routes->any));
    routes->expressions = arena_array(&routes->arena, routes->n_entries, sizeof(*routes->any));
    const struct l7_regex **items = xcalloc(routes->n_entries, sizeof(struct l7_regex *));
    CHECK(routes->any != NULL && routes->expressions != NULL);
    for (size_t i = 0; i < routes->n_entries; i++) {
        const struct l7_entry *entry = &routes->entries[i];
        if (entry->path_kind == L7_PATH_ANY) {
            routes->any[routes->n_any++] = (uint32_t)i;
        } else if (entry->path_kind == L7_PATH_MATCHES) {
            items[routes->n_expressions] = entry->regex;
            routes->expressions[routes->n_expressions++] = (uint32_t)i;
        }
    }
    // One expression is matched faster than a set of one.
    if (routes->n_expressions > 1) {
        routes->set = l7_regex_set_new(items, routes->n_expressions);
    }
    free(items);
}

static bool selector_equal(const struct l7_selector *a, const struct l7_selector *b) {
    return a == b || (a->n_gateways == 0 && b->n_gateways == 0 && a->n_labels == 0 &&
                      b->n_labels == 0 && a->port == b->port && strcmp(a->ns, b->ns) == 0);
}

static void index_selectors(struct l7_routes *routes) {
    enum { LOOK_BACK = 64 }; // only so that the list is short where rules have few of them
    const struct l7_selector **list =
        arena_array(&routes->arena, routes->n_entries, sizeof(struct l7_selector *));
    CHECK(list != NULL);
    for (size_t i = 0; i < routes->n_entries && !routes->has_open; i++) {
        const struct l7_selector *selector = routes->entries[i].selector;
        routes->has_open = selector == NULL;
        bool is_known = false;
        for (size_t k = 0; k < LOOK_BACK && k < routes->n_selectors && selector != NULL; k++) {
            is_known = is_known || selector_equal(list[routes->n_selectors - 1 - k], selector);
        }
        if (!is_known && selector != NULL) {
            list[routes->n_selectors++] = selector;
        }
    }
    routes->selectors = list;
}

void l7_routes_index(struct l7_routes *routes) {
    index_paths(routes, &routes->paths, false);
    index_paths(routes, &routes->nocase_paths, true);
    index_rest(routes);
    index_selectors(routes);
}
