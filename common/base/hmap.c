// SPDX-License-Identifier: Apache-2.0
//
// Chained buckets, load factor up to 1 (up to 3 for a while when a map that shrank grows again).
// While `old` is being emptied, a node lives in `old` when its bucket there was not moved yet, else
// in `now`: every operation can tell from the hash.
#include "common/base/hmap.h"

#include <stdlib.h>

enum {
    MIN_BUCKETS = 16,
    MOVES_PER_INSERT = 4, // buckets; 2 would do for growth by 2 at load 1
    SHRINK_AT = 16, // buckets per node
};

static size_t index_in(const struct hmap_table *table, uint64_t hash) {
    return hash & (table->n_buckets - 1);
}

static bool is_in_old(const struct hmap *map, uint64_t hash) {
    return map->old.n_buckets != 0 && index_in(&map->old, hash) >= map->n_moved;
}

static struct hmap_node **bucket_of(const struct hmap *map, uint64_t hash) {
    const struct hmap_table *table = is_in_old(map, hash) ? &map->old : &map->now;
    return &table->buckets[index_in(table, hash)];
}

static void table_free(struct hmap_table *table) {
    free(table->buckets);
    *table = (struct hmap_table){0};
}

static struct hmap_table table_new(size_t n_buckets) {
    return (struct hmap_table){
        .buckets = xcalloc(n_buckets, sizeof(struct hmap_node *)),
        .n_buckets = n_buckets,
    };
}

void hmap_init(struct hmap *map) {
    *map = (struct hmap){0};
}

void hmap_fini(struct hmap *map) {
    table_free(&map->now);
    table_free(&map->old);
    hmap_init(map);
}

static void move_bucket(struct hmap *map) {
    struct hmap_node *node = map->old.buckets[map->n_moved++];
    while (node != NULL) {
        struct hmap_node *next = node->next;
        struct hmap_node **bucket = &map->now.buckets[index_in(&map->now, node->hash)];
        node->next = *bucket;
        *bucket = node;
        node = next;
    }
    if (map->n_moved == map->old.n_buckets) {
        table_free(&map->old);
        map->n_moved = 0;
    }
}

static void resize_step(struct hmap *map) {
    if (map->old.n_buckets != 0) {
        for (int i = 0; i < MOVES_PER_INSERT && map->old.n_buckets != 0; i++) {
            move_bucket(map);
        }
        return;
    }
    size_t n_buckets = map->now.n_buckets;
    if (n_buckets == 0) {
        map->now = table_new(MIN_BUCKETS);
    } else if (map->n_items >= n_buckets) {
        map->old = map->now;
        map->now = table_new(n_buckets * 2);
    } else if (n_buckets > MIN_BUCKETS && map->n_items < n_buckets / SHRINK_AT) {
        map->old = map->now;
        map->now = table_new(MAX(n_buckets / (SHRINK_AT / 2), (size_t)MIN_BUCKETS));
    }
}

void hmap_insert(struct hmap *map, struct hmap_node *node, uint64_t hash) {
    resize_step(map);
    struct hmap_node **bucket = bucket_of(map, hash);
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    map->n_items++;
}

void hmap_remove(struct hmap *map, struct hmap_node *node) {
    CHECK(map->n_items > 0);
    struct hmap_node **at = bucket_of(map, node->hash);
    while (*at != node) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->n_items--;
    if (map->n_items == 0) {
        // No insertion may follow for a long time: give the memory back now.
        hmap_fini(map);
    }
}

static struct hmap_node *with_hash(struct hmap_node *node, uint64_t hash) {
    while (node != NULL && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct hmap_node *hmap_find(const struct hmap *map, uint64_t hash) {
    return map->n_items != 0 ? with_hash(*bucket_of(map, hash), hash) : NULL;
}

struct hmap_node *hmap_find_next(const struct hmap *map, const struct hmap_node *node) {
    return with_hash(node->next, node->hash);
}

static struct hmap_node *first_from(const struct hmap_table *table, size_t index) {
    for (; index < table->n_buckets; index++) {
        if (table->buckets[index] != NULL) {
            return table->buckets[index];
        }
    }
    return NULL;
}

struct hmap_node *hmap_first(const struct hmap *map) {
    struct hmap_node *node = first_from(&map->old, map->n_moved);
    return node != NULL ? node : first_from(&map->now, 0);
}

struct hmap_node *hmap_next(const struct hmap *map, const struct hmap_node *node) {
    if (node == NULL || node->next != NULL) {
        return node != NULL ? node->next : NULL;
    }
    if (!is_in_old(map, node->hash)) {
        return first_from(&map->now, index_in(&map->now, node->hash) + 1);
    }
    struct hmap_node *next = first_from(&map->old, index_in(&map->old, node->hash) + 1);
    return next != NULL ? next : first_from(&map->now, 0);
}
