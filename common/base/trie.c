// SPDX-License-Identifier: Apache-2.0
#include "common/base/trie.h"

#include <stdlib.h>

// A node stands for a prefix. A node without a value is a fork and has two children; removal keeps
// it so.
struct trie_node {
    struct cidr cidr;
    void *value; // NULL: fork only
    struct trie_node *child[2]; // by the bit behind the prefix
};

static unsigned bit_at(const struct ip *ip, unsigned index) {
    return (ip->bytes[index / 8] >> (7 - index % 8)) & 1;
}

// Length of the prefix that both have in common, at most `max`.
static unsigned common_len(const struct ip *a, const struct ip *b, unsigned max) {
    unsigned len = 0;
    for (unsigned i = 0; len < max; i++, len += 8) {
        unsigned diff = a->bytes[i] ^ b->bytes[i];
        if (diff != 0) {
            len += (unsigned)__builtin_clz(diff) - 24;
            break;
        }
    }
    return MIN(len, max);
}

static struct trie_node *node_new(const struct ip *ip, unsigned len, void *value) {
    struct trie_node *node = xcalloc(1, sizeof(*node));
    node->cidr = (struct cidr){.ip = *ip, .len = (uint8_t)len};
    node->value = value;
    return node;
}

static struct trie_node **root_of(struct trie *trie, const struct ip *ip) {
    CHECK(ip->family == 4 || ip->family == 6);
    return ip->family == 4 ? &trie->v4 : &trie->v6;
}

void trie_init(struct trie *trie) {
    *trie = (struct trie){0};
}

static void node_free(struct trie_node *node) {
    if (node != NULL) {
        node_free(node->child[0]);
        node_free(node->child[1]);
        free(node);
    }
}

void trie_fini(struct trie *trie) {
    node_free(trie->v4);
    node_free(trie->v6);
    trie_init(trie);
}

// A node for `cidr` above `*at`, or a fork over both when neither contains the other.
static void insert_above(struct trie_node **at, const struct cidr *cidr, unsigned common,
                         void *value) {
    struct trie_node *below = *at;
    struct trie_node *node = node_new(&cidr->ip, cidr->len, value);
    if (common == cidr->len) {
        node->child[bit_at(&below->cidr.ip, common)] = below;
        *at = node;
        return;
    }
    struct trie_node *fork = node_new(&cidr->ip, common, NULL);
    // The fork's prefix is the common part; clear the bits behind it.
    for (unsigned i = common; i < cidr->len; i++) {
        fork->cidr.ip.bytes[i / 8] &= (uint8_t) ~(0x80U >> i % 8);
    }
    fork->child[bit_at(&cidr->ip, common)] = node;
    fork->child[bit_at(&below->cidr.ip, common)] = below;
    *at = fork;
}

void *trie_set(struct trie *trie, const struct cidr *cidr, void *value) {
    CHECK(value != NULL);
    struct trie_node **at = root_of(trie, &cidr->ip);
    while (*at != NULL) {
        struct trie_node *node = *at;
        unsigned max = MIN(node->cidr.len, cidr->len);
        unsigned common = common_len(&node->cidr.ip, &cidr->ip, max);
        if (common < node->cidr.len) {
            insert_above(at, cidr, common, value);
            trie->n_items++;
            return NULL;
        }
        if (node->cidr.len == cidr->len) {
            void *old = node->value;
            node->value = value;
            trie->n_items += old == NULL ? 1 : 0;
            return old;
        }
        at = &node->child[bit_at(&cidr->ip, node->cidr.len)];
    }
    *at = node_new(&cidr->ip, cidr->len, value);
    trie->n_items++;
    return NULL;
}

// Takes a node without a value out when it has at most one child. True when it did.
static bool splice_out(struct trie_node **at) {
    struct trie_node *node = *at;
    if (node->value != NULL || (node->child[0] != NULL && node->child[1] != NULL)) {
        return false;
    }
    *at = node->child[0] != NULL ? node->child[0] : node->child[1];
    free(node);
    return true;
}

void *trie_del(struct trie *trie, const struct cidr *cidr) {
    struct trie_node **parent = NULL;
    struct trie_node **at = root_of(trie, &cidr->ip);
    while (*at != NULL && (*at)->cidr.len < cidr->len) {
        if (!cidr_contains(&(*at)->cidr, &cidr->ip)) {
            return NULL;
        }
        parent = at;
        at = &(*at)->child[bit_at(&cidr->ip, (*at)->cidr.len)];
    }
    if (*at == NULL || (*at)->cidr.len != cidr->len || !ip_eq(&(*at)->cidr.ip, &cidr->ip)) {
        return NULL;
    }
    void *old = (*at)->value;
    if (old == NULL) {
        return NULL;
    }
    (*at)->value = NULL;
    trie->n_items--;
    // A fork above that lost a child is no fork any more.
    if (splice_out(at) && parent != NULL) {
        (void)splice_out(parent);
    }
    return old;
}

static const struct trie_node *const_root_of(const struct trie *trie, const struct ip *ip) {
    if (ip->family == 4) {
        return trie->v4;
    }
    return ip->family == 6 ? trie->v6 : NULL;
}

void *trie_get(const struct trie *trie, const struct cidr *cidr) {
    const struct trie_node *node = const_root_of(trie, &cidr->ip);
    while (node != NULL && node->cidr.len < cidr->len) {
        node = node->child[bit_at(&cidr->ip, node->cidr.len)];
    }
    bool is_it = node != NULL && node->cidr.len == cidr->len && ip_eq(&node->cidr.ip, &cidr->ip);
    return is_it ? node->value : NULL;
}

void trie_match_each(const struct trie *trie, const struct ip *ip,
                     bool (*fn)(void *arg, const struct cidr *cidr, void *value), void *arg) {
    unsigned max_len = ip->family == 4 ? 32 : 128;
    const struct trie_node *node = const_root_of(trie, ip);
    while (node != NULL && cidr_contains(&node->cidr, ip)) {
        if (node->value != NULL && !fn(arg, &node->cidr, node->value)) {
            return;
        }
        node = node->cidr.len < max_len ? node->child[bit_at(ip, node->cidr.len)] : NULL;
    }
}

static bool keep_last(void *arg, const struct cidr *cidr, void *value) {
    *(void **)arg = value;
    return true;
}

void *trie_match(const struct trie *trie, const struct ip *ip) {
    void *value = NULL;
    trie_match_each(trie, ip, keep_last, &value);
    return value;
}

static bool node_each(const struct trie_node *node,
                      bool (*fn)(void *arg, const struct cidr *cidr, void *value), void *arg) {
    if (node == NULL) {
        return true;
    }
    return (node->value == NULL || fn(arg, &node->cidr, node->value)) &&
           node_each(node->child[0], fn, arg) && node_each(node->child[1], fn, arg);
}

void trie_each(const struct trie *trie, bool (*fn)(void *arg, const struct cidr *cidr, void *value),
               void *arg) {
    if (node_each(trie->v4, fn, arg)) {
        node_each(trie->v6, fn, arg);
    }
}
