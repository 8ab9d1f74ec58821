// SPDX-License-Identifier: Apache-2.0
//
// Inside the snapshot: what the index tables hold. Under a key is one leaf, itself, when it is the
// only one and the key its first of that kind; a list otherwise.
#pragma once

#include <string.h>

#include "common/mesh/snapshot.h"

enum { LEAF_LIST = 0xff }; // where leaves have their kind (struct leaf)

struct leaf_list {
    uint32_t refs; // control thread only
    uint8_t kind; // LEAF_LIST
    uint32_t n, key_len;
    struct leaf *items[]; // the key follows
};
_Static_assert(offsetof(struct leaf_list, kind) == offsetof(struct leaf, kind), "told apart by it");

static inline bool is_leaf_list(const void *value) {
    return ((const struct leaf_list *)value)->kind == LEAF_LIST;
}
// Leaf `i` of what is under a key (NULL: nothing is), NULL behind the last.
static inline struct leaf *indexed_leaf(const void *value, size_t i) {
    if (value == NULL || !is_leaf_list(value)) {
        return i == 0 ? (struct leaf *)value : NULL;
    }
    const struct leaf_list *list = value;
    return i < list->n ? list->items[i] : NULL;
}

static inline struct slice ip_key(const struct ip *ip) {
    return slice_make(ip->bytes, ip->family == 4 ? 4 : 16);
}
enum { RANGE_KEY_MAX = 17 };
static inline struct slice range_key(const struct cidr *range, uint8_t buf[RANGE_KEY_MAX]) {
    size_t n = range->ip.family == 4 ? 4 : 16;
    buf[0] = range->len;
    memcpy(&buf[1], range->ip.bytes, n);
    return slice_make(buf, n + 1);
}
// Where snapshot.n_ranges counts the ranges of this length.
static inline size_t range_class(uint8_t family, uint8_t len) {
    return family == 4 ? len : (size_t)33 + len;
}
static inline struct slice port_key(const uint16_t *net_port) {
    return slice_make(net_port, sizeof(*net_port));
}
