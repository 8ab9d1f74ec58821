// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/intern.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/hash.h"

struct entry {
    struct entry *next;
    uint64_t hash;
    atomic_uint refs; // from 0 to 1 and back below the mutex only
    uint32_t len;
    char text[];
};

static struct {
    pthread_mutex_t mutex;
    struct entry **buckets;
    size_t n_buckets, n_entries, bytes;
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static const char empty_text[] = "";

static struct entry **bucket_of(uint64_t hash) {
    return &table.buckets[hash & (table.n_buckets - 1)];
}

static void grow(void) {
    size_t n_old = table.n_buckets;
    struct entry **old = table.buckets;
    table.n_buckets = n_old == 0 ? 256 : n_old * 2;
    table.buckets = xcalloc(table.n_buckets, sizeof(*table.buckets));
    for (size_t i = 0; i < n_old; i++) {
        for (struct entry *entry = old[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            struct entry **bucket = bucket_of(entry->hash);
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(old);
}

const char *intern(const char *text) {
    if (text == NULL || text[0] == '\0') {
        return empty_text;
    }
    struct slice key = slice_str(text);
    CHECK(key.len < UINT32_MAX);
    uint64_t hash = hash_bytes(key);

    pthread_mutex_lock(&table.mutex);
    if (table.n_entries >= table.n_buckets) {
        grow();
    }
    struct entry **bucket = bucket_of(hash);
    struct entry *entry = *bucket;
    while (entry != NULL && (entry->hash != hash || entry->len != key.len ||
                             memcmp(entry->text, text, key.len) != 0)) {
        entry = entry->next;
    }
    if (entry == NULL) {
        entry = xmalloc(sizeof(*entry) + key.len + 1);
        *entry = (struct entry){.next = *bucket, .hash = hash, .len = (uint32_t)key.len};
        memcpy(entry->text, text, key.len + 1);
        *bucket = entry;
        table.n_entries++;
        table.bytes += sizeof(*entry) + key.len + 1;
    }
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&table.mutex);
    return entry->text;
}

static struct entry *entry_of(const char *text) {
    return CONTAINER_OF(text, struct entry, text);
}

const char *intern_like(const char *text, const char *like) {
    if (like == NULL || text == NULL || like == empty_text || strcmp(text, like) != 0) {
        return intern(text);
    }
    atomic_fetch_add_explicit(&entry_of(like)->refs, 1, memory_order_relaxed);
    return like;
}

// False: it is the last one, which goes below the mutex.
static bool unref_shared(struct entry *entry) {
    unsigned refs = atomic_load_explicit(&entry->refs, memory_order_relaxed);
    while (refs > 1) {
        if (atomic_compare_exchange_weak_explicit(&entry->refs, &refs, refs - 1,
                                                  memory_order_release, memory_order_relaxed)) {
            return true;
        }
    }
    CHECK(refs == 1);
    return false;
}

void intern_unref(const char *text) {
    if (text == NULL || text == empty_text || unref_shared(entry_of(text))) {
        return;
    }
    struct entry *entry = entry_of(text);
    pthread_mutex_lock(&table.mutex);
    // Somebody may have found it, or got it from somebody who had, in the meantime.
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1) {
        struct entry **link = bucket_of(entry->hash);
        while (*link != entry) {
            link = &(*link)->next;
        }
        *link = entry->next;
        table.n_entries--;
        table.bytes -= sizeof(*entry) + entry->len + 1;
        free(entry);
        if (table.n_entries == 0) { // so that a clean exit leaves nothing behind
            free(table.buckets);
            table.buckets = NULL;
            table.n_buckets = 0;
        }
    }
    pthread_mutex_unlock(&table.mutex);
}

size_t intern_count(void) {
    pthread_mutex_lock(&table.mutex);
    size_t count = table.n_entries;
    pthread_mutex_unlock(&table.mutex);
    return count;
}

size_t intern_bytes(void) {
    pthread_mutex_lock(&table.mutex);
    size_t bytes = table.bytes + table.n_buckets * sizeof(*table.buckets);
    pthread_mutex_unlock(&table.mutex);
    return bytes;
}
