// SPDX-License-Identifier: Apache-2.0
//
// Mutable hash map of intrusive nodes: the owner embeds a `struct hmap_node`, computes the hash of
// its key and compares keys itself. Hash keys that a peer chooses with hash_bytes(), which is keyed
// with a secret (hash flooding).
//
// The table grows in small steps, a few buckets with each insertion, so that no single insertion
// into a large map stalls the loop.
//
//     HMAP_EACH_WITH_HASH(pos, &table->by_id, hash) {
//         struct flow *flow = HMAP_ITEM(pos, struct flow, node);
//         if (flow->id == id) { ...
//
// Thread: one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/hash.h"

struct hmap_node {
    struct hmap_node *next;
    uint64_t hash;
};

struct hmap_table {
    struct hmap_node **buckets;
    size_t n_buckets; // 0 or a power of two
};

struct hmap {
    struct hmap_table now; // where insertions go
    struct hmap_table old; // being emptied into `now`; buckets below n_moved are empty
    size_t n_moved;
    size_t n_items;
};

#define HMAP_ITEM(node, type, member) CONTAINER_OF(node, type, member)
#define HMAP_EACH_WITH_HASH(pos, map, hash)                                                        \
    for (struct hmap_node *pos = hmap_find((map), (hash)); pos != NULL;                            \
         pos = hmap_find_next((map), pos))
// All nodes, in no order. The body may remove `pos` but no other node, and insert nothing.
#define HMAP_EACH_SAFE(pos, map)                                                                   \
    for (struct hmap_node *pos = hmap_first(map), *pos##_next = hmap_next((map), pos);             \
         pos != NULL; pos = pos##_next, pos##_next = hmap_next((map), pos))

void hmap_init(struct hmap *map);
// Frees the table; nodes still in it are forgotten (they are their owners').
void hmap_fini(struct hmap *map);

// The node must be in no map. Equal hashes and keys are allowed.
void hmap_insert(struct hmap *map, struct hmap_node *node, uint64_t hash);
void hmap_remove(struct hmap *map, struct hmap_node *node);

// First / next node with exactly this hash; NULL when there is none.
struct hmap_node *hmap_find(const struct hmap *map, uint64_t hash);
struct hmap_node *hmap_find_next(const struct hmap *map, const struct hmap_node *node);
// Iteration over all nodes; hmap_next(map, NULL) is NULL.
struct hmap_node *hmap_first(const struct hmap *map);
struct hmap_node *hmap_next(const struct hmap *map, const struct hmap_node *node);
