// SPDX-License-Identifier: Apache-2.0
//
// Persistent hash map (hash array mapped trie): an update makes a new root that shares all
// untouched nodes with the old one, so that it costs O(log n) time and memory whatever the size.
//
// One writer thread builds versions; readers on other threads look up in a root that was published
// to them (RCU). Nodes are reference counted by the writer only; a root is given up with
// pmap_unref() after a grace period. Values are opaque pointers: the map calls ref/unref of its
// type when it copies or frees the node that holds one.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"

struct pmap_node;

struct pmap_type {
    // The key of a value: bytes that stay valid and constant while the value lives.
    struct slice (*key)(const void *value);
    void (*ref)(void *value); // may be NULL with unref
    void (*unref)(void *value);
    // NULL = hash_bytes(). Tests set it to force collisions.
    uint64_t (*hash)(struct slice key);
};

// A version: a plain value, copied freely; pmap_ref/pmap_unref manage its lifetime.
struct pmap {
    const struct pmap_type *type;
    struct pmap_node *root; // NULL = empty
    size_t n_items;
};

struct pmap pmap_empty(const struct pmap_type *type);
struct pmap pmap_ref(struct pmap map);
void pmap_unref(struct pmap *map);

// Reader side; any thread that may hold the root.
void *pmap_get(const struct pmap *map, struct slice key);

// Writer side: *map becomes the new version, the old one loses the reference that *map held. Nodes
// that only *map can reach are changed in place, so whoever publishes a version to readers holds a
// reference of its own (pmap_ref) until they are done with it.
// pmap_set takes one reference on `value` (through type->ref) and drops a replaced value's.
void pmap_set(struct pmap *map, void *value);
// True when there was one. `key` may be that of the stored value.
bool pmap_del(struct pmap *map, struct slice key);

// Visits all items in unspecified order; stops when fn returns false.
void pmap_each(const struct pmap *map, bool (*fn)(void *arg, void *value), void *arg);
