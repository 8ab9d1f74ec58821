// SPDX-License-Identifier: Apache-2.0
//
// Longest-prefix match over CIDRs of both families: a path-compressed binary trie. A lookup visits
// at most as many nodes as there are nested prefixes on its path.
//
// Values are opaque and not owned; NULL is not a value. Thread: one writer, no readers meanwhile.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/addr.h"

struct trie_node;

struct trie {
    struct trie_node *v4, *v6;
    size_t n_items;
};

void trie_init(struct trie *trie);
void trie_fini(struct trie *trie);

// Returns the value it replaced, or NULL. Host bits of `cidr` must be 0 (cidr_parse makes sure).
void *trie_set(struct trie *trie, const struct cidr *cidr, void *value);
// Returns the value it removed, or NULL.
void *trie_del(struct trie *trie, const struct cidr *cidr);
// The value of exactly this prefix, or NULL.
void *trie_get(const struct trie *trie, const struct cidr *cidr);
// The value of the longest prefix that contains `ip`, or NULL.
void *trie_match(const struct trie *trie, const struct ip *ip);
// Visits every prefix that contains `ip`, the shortest first, until fn returns false.
void trie_match_each(const struct trie *trie, const struct ip *ip,
                     bool (*fn)(void *arg, const struct cidr *cidr, void *value), void *arg);
// Visits all, IPv4 first, each family in the order of addresses, outer before inner.
void trie_each(const struct trie *trie, bool (*fn)(void *arg, const struct cidr *cidr, void *value),
               void *arg);
