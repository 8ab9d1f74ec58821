// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/tls/tls_verify_priv.h"

enum { N_BUCKETS = TLS_CACHE_MAX };

struct entry {
    struct entry *next; // in its bucket
    struct list lru;
    uint8_t key[TLS_SHA256_LEN];
    struct tls_chain *chain; // one reference
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *buckets[N_BUCKETS];
static struct list lru = {&lru, &lru}; // the one used last is in front
static struct tls_verify_stats stats;

// Keys are SHA-256: any bytes of them spread evenly, and no peer can aim at a bucket cheaply.
static struct entry **find(const uint8_t *key) {
    uint32_t h;
    memcpy(&h, key, sizeof(h));
    struct entry **at = &buckets[h % N_BUCKETS];
    while (*at != NULL && memcmp((*at)->key, key, TLS_SHA256_LEN) != 0) {
        at = &(*at)->next;
    }
    return at;
}

static void drop(struct entry **at) {
    struct entry *entry = *at;
    *at = entry->next;
    list_del(&entry->lru);
    stats.n_entries--;
    stats.bytes -= sizeof(*entry) + entry->chain->size;
    tls_chain_unref(entry->chain);
    free(entry);
}

struct tls_chain *tls_cache_get(const uint8_t key[TLS_SHA256_LEN], int64_t now_s) {
    struct tls_chain *chain = NULL;
    pthread_mutex_lock(&lock);
    struct entry *entry = *find(key);
    if (entry != NULL && now_s >= entry->chain->not_before && now_s < entry->chain->not_after) {
        chain = tls_chain_ref(entry->chain);
        list_del(&entry->lru);
        list_push_front(&lru, &entry->lru);
        stats.hits++;
    } else {
        stats.misses++;
    }
    pthread_mutex_unlock(&lock);
    return chain;
}

void tls_cache_put(const uint8_t key[TLS_SHA256_LEN], struct tls_chain *chain) {
    struct entry *entry = xmalloc(sizeof(*entry));
    memcpy(entry->key, key, TLS_SHA256_LEN);
    entry->chain = tls_chain_ref(chain);
    list_init(&entry->lru);
    pthread_mutex_lock(&lock);
    struct entry **at = find(key);
    if (*at != NULL) {
        drop(at); // another thread verified the same chain, or its validity was misread before
    }
    if (stats.n_entries >= TLS_CACHE_MAX) {
        drop(find(LIST_ITEM(lru.prev, struct entry, lru)->key));
        stats.evictions++;
    }
    at = find(key);
    entry->next = NULL;
    *at = entry;
    list_push_front(&lru, &entry->lru);
    stats.n_entries++;
    stats.bytes += sizeof(*entry) + chain->size;
    pthread_mutex_unlock(&lock);
}

void tls_verify_stats(struct tls_verify_stats *ret_stats) {
    pthread_mutex_lock(&lock);
    *ret_stats = stats;
    pthread_mutex_unlock(&lock);
}

void tls_verify_cache_clear(void) {
    pthread_mutex_lock(&lock);
    while (!list_empty(&lru)) {
        drop(find(LIST_ITEM(lru.next, struct entry, lru)->key));
    }
    pthread_mutex_unlock(&lock);
}
