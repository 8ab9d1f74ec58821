// SPDX-License-Identifier: Apache-2.0
//
// Addresses that are in no object: what host names of endpoints resolve to, and the VIPs that hosts
// without addresses get.
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_priv.h"

struct resolved {
    struct hmap_node by_name;
    char *hostname;
    struct ip *ips;
    size_t n;
};

struct allocated {
    struct hmap_node by_offset;
    char *key; // service key
    uint32_t offset; // in 240.240.0.0/16
};

static struct resolved *find_resolved(const struct mesh_builder *b, const char *hostname) {
    HMAP_EACH_WITH_HASH(pos, &b->resolved, hash_bytes(slice_str(hostname))) {
        struct resolved *entry = HMAP_ITEM(pos, struct resolved, by_name);
        if (strcmp(entry->hostname, hostname) == 0) {
            return entry;
        }
    }
    return NULL;
}

size_t builder_resolved(struct mesh_builder *b, const char *hostname, const struct ip **ret_ips) {
    const struct resolved *entry = find_resolved(b, hostname);
    *ret_ips = entry != NULL ? entry->ips : NULL;
    return entry != NULL ? entry->n : 0;
}

static bool uses_hostname(const struct record *record, const char *hostname) {
    LIST_EACH(pos, &record->workloads) {
        if (strcmp(LIST_ITEM(pos, struct bwl, in_record)->leaf->common->hostname, hostname) == 0) {
            return true;
        }
    }
    return false;
}

static int ip_order(const void *a, const void *b) {
    return ip_cmp(a, b);
}

void builder_set_resolved(struct mesh_builder *b, const char *hostname, const struct ip *ips,
                          size_t n) {
    struct resolved *entry = find_resolved(b, hostname);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->hostname = xstrdup(hostname);
        hmap_insert(&b->resolved, &entry->by_name, hash_bytes(slice_str(hostname)));
    }
    // Name servers rotate their answers: sorted, so that only another set is a change.
    n = MIN(n, (size_t)UINT16_MAX);
    struct ip *sorted = xcalloc(n + 1, sizeof(*sorted));
    if (n > 0) {
        memcpy(sorted, ips, n * sizeof(*ips));
        qsort(sorted, n, sizeof(*sorted), ip_order);
    }
    bool is_same = n == entry->n && (n == 0 || memcmp(sorted, entry->ips, n * sizeof(*ips)) == 0);
    free(entry->ips);
    entry->ips = sorted;
    entry->n = n;
    if (is_same) {
        return;
    }
    HMAP_EACH_SAFE(pos, &b->records) {
        struct record *record = HMAP_ITEM(pos, struct record, by_key);
        if (uses_hostname(record, hostname)) {
            builder_mark(b, record);
        }
    }
}

void builder_each_hostname(struct mesh_builder *b, bool (*fn)(void *arg, const char *hostname),
                           void *arg) {
    HMAP_EACH_SAFE(pos, &b->workloads) {
        const struct bwl *wl = HMAP_ITEM(pos, struct bwl, by_uid);
        if (wl->leaf->common->hostname[0] != '\0' && !fn(arg, wl->leaf->common->hostname)) {
            return;
        }
    }
}

// FNV-1a: the same in every process, unlike hash_bytes().
static uint32_t stable_hash(const char *text) {
    uint32_t hash = 2166136261;
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 16777619;
    }
    return hash;
}

static struct allocated *find_offset(const struct mesh_builder *b, uint32_t offset) {
    struct hmap_node *node = hmap_find(&b->allocated, offset);
    return node != NULL ? HMAP_ITEM(node, struct allocated, by_offset) : NULL;
}

// The offset is a hash of the key, the next free one on collision: a restart, and each node, gives
// a host the same address unless two hosts collide (1 in 65 000 for a pair).
static struct allocated *allocate(struct mesh_builder *b, const char *key) {
    enum { FIRST = 1, COUNT = 65534 };
    uint32_t start = stable_hash(key) % COUNT;
    struct allocated *free_at = NULL;
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t offset = FIRST + (start + i) % COUNT;
        struct allocated *entry = find_offset(b, offset);
        if (entry == NULL) {
            free_at = xcalloc(1, sizeof(*free_at));
            free_at->key = xstrdup(key);
            free_at->offset = offset;
            hmap_insert(&b->allocated, &free_at->by_offset, offset);
            return free_at;
        }
        if (strcmp(entry->key, key) == 0) {
            return entry;
        }
    }
    return NULL; // 65 534 hosts: the rest have no address
}

void builder_allocate(struct mesh_builder *b, const char *key, struct ip ret_ips[2]) {
    memset(ret_ips, 0, 2 * sizeof(*ret_ips));
    const struct allocated *entry = allocate(b, key);
    if (entry == NULL) {
        return;
    }
    uint8_t high = (uint8_t)(entry->offset >> 8), low = (uint8_t)entry->offset;
    ret_ips[0] = (struct ip){.family = 4, .bytes = {240, 240, high, low}};
    ret_ips[1] = (struct ip){
        .family = 6,
        .bytes = {0x20, 0x01, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0xf0, high, low},
    };
}

void builder_unallocate(struct mesh_builder *b, const char *key) {
    HMAP_EACH_SAFE(pos, &b->allocated) {
        struct allocated *entry = HMAP_ITEM(pos, struct allocated, by_offset);
        if (strcmp(entry->key, key) == 0) {
            hmap_remove(&b->allocated, pos);
            free(entry->key);
            free(entry);
            return;
        }
    }
}

void builder_resolve_fini(struct mesh_builder *b) {
    HMAP_EACH_SAFE(pos, &b->resolved) {
        struct resolved *entry = HMAP_ITEM(pos, struct resolved, by_name);
        hmap_remove(&b->resolved, pos);
        free(entry->hostname);
        free(entry->ips);
        free(entry);
    }
    HMAP_EACH_SAFE(pos, &b->allocated) {
        struct allocated *entry = HMAP_ITEM(pos, struct allocated, by_offset);
        hmap_remove(&b->allocated, pos);
        free(entry->key);
        free(entry);
    }
    hmap_fini(&b->resolved);
    hmap_fini(&b->allocated);
}
