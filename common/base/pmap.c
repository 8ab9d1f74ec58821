// SPDX-License-Identifier: Apache-2.0
//
// The trie is in the canonical CHAMP form: a node has two bitmaps, one for the slots that are
// values and one for those that are child nodes; values come first in its array. A child never
// holds a single value and nothing else (it would be a value of its parent). Below the last level
// of hash bits, values with equal hashes share a collision node.
//
// Every editing function consumes one reference to a node and returns one to its successor. A node
// with one reference is held by this version alone (whoever published a version holds a reference
// to its root, so that a published root has two and the nodes below it are copied on the way
// down): it is changed in place, which makes building a version of n changes cost n edits, not n
// copied paths.
#include "common/base/pmap.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"

enum {
    LEVEL_BITS = 5,
    HASH_BITS = 64,
};

struct pmap_node {
    uint32_t refs; // writer only
    uint32_t n_collided; // > 0: a collision node with that many values, both bitmaps 0
    uint32_t value_map;
    uint32_t node_map;
    void *slots[]; // values, then struct pmap_node *
};

// The baseline of x86-64 has no instruction for it, and __builtin_popcount would be a call.
static unsigned n_bits(uint32_t map) {
    map -= (map >> 1) & 0x55555555;
    map = (map & 0x33333333) + ((map >> 2) & 0x33333333);
    return (((map + (map >> 4)) & 0x0f0f0f0f) * 0x01010101) >> 24;
}

static unsigned n_values(const struct pmap_node *node) {
    return node->n_collided + n_bits(node->value_map);
}

static unsigned n_children(const struct pmap_node *node) {
    return n_bits(node->node_map);
}

static unsigned n_slots(const struct pmap_node *node) {
    return n_values(node) + n_children(node);
}

static uint32_t bit_at(uint64_t hash, unsigned shift) {
    return UINT32_C(1) << ((hash >> shift) & ((1U << LEVEL_BITS) - 1));
}

static unsigned value_index(const struct pmap_node *node, uint32_t bit) {
    return n_bits(node->value_map & (bit - 1));
}

static unsigned child_index(const struct pmap_node *node, uint32_t bit) {
    return n_values(node) + n_bits(node->node_map & (bit - 1));
}

static uint64_t key_hash(const struct pmap_type *type, struct slice key) {
    return type->hash != NULL ? type->hash(key) : hash_bytes(key);
}

static uint64_t value_hash(const struct pmap_type *type, const void *value) {
    return key_hash(type, type->key(value));
}

static bool has_key(const struct pmap_type *type, const void *value, struct slice key) {
    return slice_eq(type->key(value), key);
}

static void value_ref(const struct pmap_type *type, void *value) {
    if (type->ref != NULL) {
        type->ref(value);
    }
}

static void value_unref(const struct pmap_type *type, void *value) {
    if (type->unref != NULL) {
        type->unref(value);
    }
}

// An even number of slots: allocators round up to 16 bytes in any case.
static size_t node_size(unsigned slots) {
    return sizeof(struct pmap_node) + ((slots + 1) & ~1U) * sizeof(void *);
}

static struct pmap_node *node_alloc(unsigned slots) {
    struct pmap_node *node = xmalloc(node_size(slots));
    *node = (struct pmap_node){.refs = 1};
    return node;
}

static void node_unref(const struct pmap_type *type, struct pmap_node *node) {
    CHECK(node->refs > 0);
    if (--node->refs > 0) {
        return;
    }
    unsigned values = n_values(node);
    unsigned total = n_slots(node);
    for (unsigned i = 0; i < total; i++) {
        if (i < values) {
            value_unref(type, node->slots[i]);
        } else {
            node_unref(type, node->slots[i]);
        }
    }
    free(node);
}

// The node itself when this version alone holds it, else a copy with references of its own.
static struct pmap_node *node_own(const struct pmap_type *type, struct pmap_node *node) {
    if (node->refs == 1) {
        return node;
    }
    unsigned values = n_values(node);
    unsigned total = n_slots(node);
    struct pmap_node *copy = node_alloc(total);
    copy->n_collided = node->n_collided;
    copy->value_map = node->value_map;
    copy->node_map = node->node_map;
    for (unsigned i = 0; i < total; i++) {
        copy->slots[i] = node->slots[i];
        if (i < values) {
            value_ref(type, copy->slots[i]);
        } else {
            ((struct pmap_node *)copy->slots[i])->refs++;
        }
    }
    node->refs--;
    return copy;
}

// An owned node with a hole at slot `at`; the caller fills it and corrects the maps.
static struct pmap_node *slot_open(struct pmap_node *node, unsigned at) {
    unsigned total = n_slots(node);
    if (node_size(total + 1) != node_size(total)) {
        node = xrealloc(node, node_size(total + 1));
    }
    memmove(&node->slots[at + 1], &node->slots[at], (total - at) * sizeof(node->slots[0]));
    return node;
}

// The reverse: closes slot `at`, whose content the caller took; the caller corrects the maps.
static struct pmap_node *slot_close(struct pmap_node *node, unsigned at) {
    unsigned total = n_slots(node);
    memmove(&node->slots[at], &node->slots[at + 1], (total - at - 1) * sizeof(node->slots[0]));
    return node_size(total - 1) != node_size(total) ? xrealloc(node, node_size(total - 1)) : node;
}

// A node for two values (references pass to it) whose hashes agree in all bits below `shift`.
static struct pmap_node *node_pair(void *a, uint64_t hash_a, void *b, uint64_t hash_b,
                                   unsigned shift) {
    if (shift >= HASH_BITS) {
        struct pmap_node *node = node_alloc(2);
        node->n_collided = 2;
        node->slots[0] = a;
        node->slots[1] = b;
        return node;
    }
    uint32_t bit_a = bit_at(hash_a, shift);
    uint32_t bit_b = bit_at(hash_b, shift);
    if (bit_a == bit_b) {
        struct pmap_node *node = node_alloc(1);
        node->node_map = bit_a;
        node->slots[0] = node_pair(a, hash_a, b, hash_b, shift + LEVEL_BITS);
        return node;
    }
    struct pmap_node *node = node_alloc(2);
    node->value_map = bit_a | bit_b;
    node->slots[bit_a < bit_b ? 0 : 1] = a;
    node->slots[bit_a < bit_b ? 1 : 0] = b;
    return node;
}

static void value_replace(const struct pmap_type *type, void **slot, void *value) {
    void *old = *slot;
    *slot = value;
    value_unref(type, old);
}

static struct pmap_node *collision_set(const struct pmap_type *type, struct pmap_node *node,
                                       void *value, bool *ret_is_new) {
    node = node_own(type, node);
    for (unsigned i = 0; i < node->n_collided; i++) {
        if (has_key(type, node->slots[i], type->key(value))) {
            value_replace(type, &node->slots[i], value);
            *ret_is_new = false;
            return node;
        }
    }
    node = slot_open(node, node->n_collided);
    node->slots[node->n_collided++] = value;
    *ret_is_new = true;
    return node;
}

// The reference to `value` passes to the node.
static struct pmap_node *node_set(const struct pmap_type *type, struct pmap_node *node,
                                  unsigned shift, uint64_t hash, void *value, bool *ret_is_new) {
    if (shift >= HASH_BITS) {
        return collision_set(type, node, value, ret_is_new);
    }
    node = node_own(type, node);
    uint32_t bit = bit_at(hash, shift);
    if (node->node_map & bit) {
        void **slot = &node->slots[child_index(node, bit)];
        *slot = node_set(type, *slot, shift + LEVEL_BITS, hash, value, ret_is_new);
        return node;
    }
    unsigned at = value_index(node, bit);
    if (!(node->value_map & bit)) {
        node = slot_open(node, at);
        node->slots[at] = value;
        node->value_map |= bit;
        *ret_is_new = true;
        return node;
    }
    void *other = node->slots[at];
    if (has_key(type, other, type->key(value))) {
        value_replace(type, &node->slots[at], value);
        *ret_is_new = false;
        return node;
    }
    // Two values under one bit: both move down into a child. The number of slots stays.
    struct pmap_node *child =
        node_pair(other, value_hash(type, other), value, hash, shift + LEVEL_BITS);
    unsigned to = n_values(node) - 1 + n_bits(node->node_map & (bit - 1));
    memmove(&node->slots[at], &node->slots[at + 1], (to - at) * sizeof(node->slots[0]));
    node->slots[to] = child;
    node->value_map &= ~bit;
    node->node_map |= bit;
    *ret_is_new = true;
    return node;
}

static bool is_single_value(const struct pmap_node *node) {
    return node->node_map == 0 && n_values(node) == 1;
}

// Keeps the form canonical: the only value of the child under `bit` moves up into the node.
static void pull_up(struct pmap_node *node, uint32_t bit) {
    unsigned from = child_index(node, bit);
    unsigned to = value_index(node, bit);
    struct pmap_node *child = node->slots[from];
    void *value = child->slots[0];
    free(child);
    memmove(&node->slots[to + 1], &node->slots[to], (from - to) * sizeof(node->slots[0]));
    node->slots[to] = value;
    node->value_map |= bit;
    node->node_map &= ~bit;
}

// The key is known to be there.
static struct pmap_node *node_del(const struct pmap_type *type, struct pmap_node *node,
                                  unsigned shift, uint64_t hash, struct slice key) {
    node = node_own(type, node);
    void *gone;
    if (shift >= HASH_BITS) {
        unsigned at = 0;
        while (!has_key(type, node->slots[at], key)) {
            at++;
        }
        gone = node->slots[at];
        node = slot_close(node, at);
        node->n_collided--;
    } else {
        uint32_t bit = bit_at(hash, shift);
        if (node->node_map & bit) {
            void **slot = &node->slots[child_index(node, bit)];
            *slot = node_del(type, *slot, shift + LEVEL_BITS, hash, key);
            if (is_single_value(*slot)) {
                pull_up(node, bit);
            }
            return node;
        }
        unsigned at = value_index(node, bit);
        gone = node->slots[at];
        node = slot_close(node, at);
        node->value_map &= ~bit;
    }
    value_unref(type, gone);
    return node;
}

struct pmap pmap_empty(const struct pmap_type *type) {
    return (struct pmap){.type = type};
}

struct pmap pmap_ref(struct pmap map) {
    if (map.root != NULL) {
        map.root->refs++;
    }
    return map;
}

void pmap_unref(struct pmap *map) {
    if (map->root != NULL) {
        node_unref(map->type, map->root);
    }
    *map = pmap_empty(map->type);
}

void *pmap_get(const struct pmap *map, struct slice key) {
    const struct pmap_node *node = map->root;
    if (node == NULL) {
        return NULL;
    }
    uint64_t hash = key_hash(map->type, key);
    for (unsigned shift = 0; shift < HASH_BITS; shift += LEVEL_BITS) {
        uint32_t bit = bit_at(hash, shift);
        if (node->value_map & bit) {
            void *value = node->slots[value_index(node, bit)];
            return has_key(map->type, value, key) ? value : NULL;
        }
        if (!(node->node_map & bit)) {
            return NULL;
        }
        node = node->slots[child_index(node, bit)];
    }
    for (unsigned i = 0; i < node->n_collided; i++) {
        if (has_key(map->type, node->slots[i], key)) {
            return node->slots[i];
        }
    }
    return NULL;
}

void pmap_set(struct pmap *map, void *value) {
    value_ref(map->type, value);
    uint64_t hash = value_hash(map->type, value);
    bool is_new = false;
    if (map->root == NULL) {
        map->root = node_alloc(0);
    }
    map->root = node_set(map->type, map->root, 0, hash, value, &is_new);
    map->n_items += is_new ? 1 : 0;
}

bool pmap_del(struct pmap *map, struct slice key) {
    // Looked up first: a miss copies nothing.
    if (pmap_get(map, key) == NULL) {
        return false;
    }
    uint64_t hash = key_hash(map->type, key);
    map->root = node_del(map->type, map->root, 0, hash, key);
    map->n_items--;
    if (map->n_items == 0) {
        pmap_unref(map);
    }
    return true;
}

static bool node_each(const struct pmap_node *node, bool (*fn)(void *arg, void *value), void *arg) {
    unsigned values = n_values(node);
    unsigned total = n_slots(node);
    for (unsigned i = 0; i < total; i++) {
        bool go_on = i < values ? fn(arg, node->slots[i]) : node_each(node->slots[i], fn, arg);
        if (!go_on) {
            return false;
        }
    }
    return true;
}

void pmap_each(const struct pmap *map, bool (*fn)(void *arg, void *value), void *arg) {
    if (map->root != NULL) {
        node_each(map->root, fn, arg);
    }
}
