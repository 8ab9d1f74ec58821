// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/workload_common.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/mesh/intern.h"

struct entry {
    struct entry *next;
    uint64_t hash;
    atomic_uint refs; // from 0 to 1 and back below the mutex only
    struct workload_common common; // its texts are interned; its lists follow
};

static struct {
    pthread_mutex_t mutex;
    struct entry **buckets;
    size_t n_buckets, n_entries;
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static const struct workload_local no_local = {.netns = "", .virtual_interfaces = ""};

#define EACH_TEXT(DO)                                                                              \
    DO(ns)                                                                                         \
    DO(service_account)                                                                            \
    DO(trust_domain)                                                                               \
    DO(cluster)                                                                                    \
    DO(network)                                                                                    \
    DO(canonical_name)                                                                             \
    DO(canonical_revision)                                                                         \
    DO(app)                                                                                        \
    DO(version)                                                                                    \
    DO(owner_name)                                                                                 \
    DO(owner_type)                                                                                 \
    DO(identity)                                                                                   \
    DO(hostname)                                                                                   \
    DO(waypoint)                                                                                   \
    DO(network_gateway)                                                                            \
    DO(locality.region)                                                                            \
    DO(locality.zone)                                                                              \
    DO(locality.subzone)

static bool texts_equal(const char *a, const char *b) {
    return a == b || strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static size_t list_len(const char *const *list) {
    size_t n = 0;
    while (list != NULL && list[n] != NULL) {
        n++;
    }
    return n;
}

static const struct workload_local *local_of(const struct workload_common *common) {
    return common->local != NULL ? common->local : &no_local;
}

// Hash of a spec

struct feed {
    size_t len;
    char bytes[1024];
};

static void feed_bytes(struct feed *feed, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        if (feed->len == sizeof(feed->bytes)) { // what was fed counts as its hash from here on
            uint64_t hash = hash_bytes(slice_make(feed->bytes, feed->len));
            memcpy(feed->bytes, &hash, sizeof(hash));
            feed->len = sizeof(hash);
        }
        size_t n = MIN(len, sizeof(feed->bytes) - feed->len);
        memcpy(&feed->bytes[feed->len], at, n);
        feed->len += n;
        at += n;
        len -= n;
    }
}

static void feed_text(struct feed *feed, const char *text) {
    feed_bytes(feed, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

static void feed_list(struct feed *feed, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        feed_text(feed, list[i]);
    }
}

static uint64_t hash_of(const struct workload_common *spec) {
    struct feed feed;
    const struct workload_local *local = local_of(spec);
    feed.len = 0;
    feed_bytes(&feed, &spec->own_names, sizeof(spec->own_names));
    feed_bytes(&feed, &spec->network_gateway_port, sizeof(spec->network_gateway_port));
#define FEED(field) feed_text(&feed, spec->field);
    EACH_TEXT(FEED)
#undef FEED
    for (size_t i = 0; i < spec->n_labels; i++) {
        feed_text(&feed, spec->labels[i].key);
        feed_text(&feed, spec->labels[i].value);
    }
    for (size_t i = 0; i < spec->n_ports; i++) {
        feed_text(&feed, spec->ports[i].name);
        feed_bytes(&feed, &spec->ports[i].port, sizeof(spec->ports[i].port));
    }
    feed_list(&feed, spec->policies, spec->n_policies);
    feed_text(&feed, local->netns);
    feed_text(&feed, local->virtual_interfaces);
    feed_list(&feed, local->dns_search, list_len(local->dns_search));
    feed_list(&feed, local->nameservers, list_len(local->nameservers));
    return hash_bytes(slice_make(feed.bytes, feed.len));
}

// Equality

static bool lists_equal(const char *const *a, size_t n_a, const char *const *b, size_t n_b) {
    bool is_equal = n_a == n_b;
    for (size_t i = 0; is_equal && i < n_a; i++) {
        is_equal = texts_equal(a[i], b[i]);
    }
    return is_equal;
}

static bool terminated_equal(const char *const *a, const char *const *b) {
    return (a == NULL) == (b == NULL) && lists_equal(a, list_len(a), b, list_len(b));
}

static bool locals_equal(const struct workload_local *a, const struct workload_local *b) {
    return a == b || (texts_equal(a->netns, b->netns) &&
                      texts_equal(a->virtual_interfaces, b->virtual_interfaces) &&
                      terminated_equal(a->dns_search, b->dns_search) &&
                      terminated_equal(a->nameservers, b->nameservers));
}

static bool labels_equal(const struct workload_common *a, const struct workload_common *b) {
    bool is_equal = a->n_labels == b->n_labels;
    for (size_t i = 0; is_equal && i < a->n_labels; i++) {
        is_equal = texts_equal(a->labels[i].value, b->labels[i].value) &&
                   texts_equal(a->labels[i].key, b->labels[i].key);
    }
    return is_equal;
}

static bool ports_equal(const struct workload_common *a, const struct workload_common *b) {
    bool is_equal = a->n_ports == b->n_ports;
    for (size_t i = 0; is_equal && i < a->n_ports; i++) {
        is_equal =
            a->ports[i].port == b->ports[i].port && texts_equal(a->ports[i].name, b->ports[i].name);
    }
    return is_equal;
}

static bool is_equal(const struct workload_common *a, const struct workload_common *b) {
    if (a == b) {
        return true;
    }
#define DIFFERS(field) || !texts_equal(a->field, b->field)
    if (a->own_names != b->own_names ||
        a->network_gateway_port != b->network_gateway_port EACH_TEXT(DIFFERS)) {
        return false;
    }
#undef DIFFERS
    return labels_equal(a, b) && ports_equal(a, b) &&
           lists_equal(a->policies, a->n_policies, b->policies, b->n_policies) &&
           locals_equal(local_of(a), local_of(b));
}

// Making and ending one. All that follows the entry is aligned as pointers are.

static bool has_text(const char *text) {
    return text != NULL && text[0] != '\0';
}

static bool has_local(const struct workload_common *spec) {
    const struct workload_local *local = local_of(spec);
    return has_text(local->netns) || local->dns_search != NULL || local->nameservers != NULL ||
           has_text(local->virtual_interfaces);
}

// Bytes of a NULL-terminated list.
static size_t terminated_size(const char *const *list) {
    return list != NULL ? (list_len(list) + 1) * sizeof(*list) : 0;
}

static size_t entry_size(const struct workload_common *spec) {
    const struct workload_local *local = local_of(spec);
    size_t size = sizeof(struct entry) + spec->n_labels * sizeof(struct label) +
                  spec->n_ports * sizeof(struct named_port) + spec->n_policies * sizeof(char *);
    if (has_local(spec)) {
        size += sizeof(*local) + terminated_size(local->dns_search) +
                terminated_size(local->nameservers);
    }
    return size;
}

static void *take(char **at, size_t size) {
    void *start = *at;
    *at += size;
    return size > 0 ? start : NULL;
}

static const char *const *copy_terminated(char **at, const char *const *src) {
    const char **dst = take(at, terminated_size(src));
    for (size_t i = 0; dst != NULL && i < list_len(src); i++) {
        dst[i] = intern(src[i]);
    }
    if (dst != NULL) {
        dst[list_len(src)] = NULL;
    }
    return dst;
}

static const struct workload_local *copy_local(char **at, const struct workload_common *spec) {
    if (!has_local(spec)) {
        return &no_local;
    }
    struct workload_local *dst = take(at, sizeof(*dst));
    *dst = (struct workload_local){
        .netns = intern(spec->local->netns),
        .virtual_interfaces = intern(spec->local->virtual_interfaces),
        .dns_search = copy_terminated(at, spec->local->dns_search),
        .nameservers = copy_terminated(at, spec->local->nameservers),
    };
    return dst;
}

static struct entry *entry_new(const struct workload_common *spec, uint64_t hash) {
    _Static_assert(alignof(struct label) == alignof(char *) &&
                       sizeof(struct named_port) % alignof(char *) == 0,
                   "lists follow each other");
    struct entry *entry = xmalloc(entry_size(spec));
    char *at = (char *)(entry + 1);
    *entry = (struct entry){.hash = hash, .common = *spec};
    struct workload_common *common = &entry->common;
#define INTERN(field) common->field = intern(spec->field);
    EACH_TEXT(INTERN)
#undef INTERN
    struct label *labels = take(&at, spec->n_labels * sizeof(*labels));
    for (size_t i = 0; i < spec->n_labels; i++) {
        labels[i] = (struct label){intern(spec->labels[i].key), intern(spec->labels[i].value)};
    }
    struct named_port *ports = take(&at, spec->n_ports * sizeof(*ports));
    for (size_t i = 0; i < spec->n_ports; i++) {
        ports[i] = (struct named_port){intern(spec->ports[i].name), spec->ports[i].port};
    }
    const char **policies = take(&at, spec->n_policies * sizeof(*policies));
    for (size_t i = 0; i < spec->n_policies; i++) {
        policies[i] = intern(spec->policies[i]);
    }
    common->labels = labels;
    common->ports = ports;
    common->policies = policies;
    common->local = copy_local(&at, spec);
    return entry;
}

static void unref_terminated(const char *const *list) {
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        intern_unref(list[i]);
    }
}

static void entry_free(struct entry *entry) {
    const struct workload_common *common = &entry->common;
#define UNREF(field) intern_unref(common->field);
    EACH_TEXT(UNREF)
#undef UNREF
    for (size_t i = 0; i < common->n_labels; i++) {
        intern_unref(common->labels[i].key);
        intern_unref(common->labels[i].value);
    }
    for (size_t i = 0; i < common->n_ports; i++) {
        intern_unref(common->ports[i].name);
    }
    for (size_t i = 0; i < common->n_policies; i++) {
        intern_unref(common->policies[i]);
    }
    if (common->local != &no_local) {
        intern_unref(common->local->netns);
        intern_unref(common->local->virtual_interfaces);
        unref_terminated(common->local->dns_search);
        unref_terminated(common->local->nameservers);
    }
    free(entry);
}

// The table

static struct entry **bucket_of(uint64_t hash) {
    return &table.buckets[hash & (table.n_buckets - 1)];
}

static void grow(void) {
    size_t n_old = table.n_buckets;
    struct entry **old = table.buckets;
    table.n_buckets = n_old == 0 ? 64 : n_old * 2;
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

static void ref(const struct entry *entry) {
    atomic_fetch_add_explicit((atomic_uint *)&entry->refs, 1, memory_order_relaxed);
}

static struct entry *entry_of(const struct workload_common *common) {
    return CONTAINER_OF(common, struct entry, common);
}

const struct workload_common *workload_common_get(const struct workload_common *spec,
                                                  const struct workload_common *like) {
    if (like != NULL && is_equal(spec, like)) {
        ref(entry_of(like));
        return like;
    }
    uint64_t hash = hash_of(spec);
    pthread_mutex_lock(&table.mutex);
    if (table.n_entries >= table.n_buckets) {
        grow();
    }
    struct entry **bucket = bucket_of(hash);
    struct entry *entry = *bucket;
    while (entry != NULL && (entry->hash != hash || !is_equal(spec, &entry->common))) {
        entry = entry->next;
    }
    if (entry == NULL) {
        entry = entry_new(spec, hash);
        entry->next = *bucket;
        *bucket = entry;
        table.n_entries++;
    }
    ref(entry);
    pthread_mutex_unlock(&table.mutex);
    return &entry->common;
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

void workload_common_unref(const struct workload_common *common) {
    struct entry *entry = entry_of(common);
    if (unref_shared(entry)) {
        return;
    }
    pthread_mutex_lock(&table.mutex);
    // Somebody may have found it, or got it from somebody who had, in the meantime.
    bool is_last = atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1;
    if (is_last) {
        struct entry **link = bucket_of(entry->hash);
        while (*link != entry) {
            link = &(*link)->next;
        }
        *link = entry->next;
        if (--table.n_entries == 0) { // so that a clean exit leaves nothing behind
            free(table.buckets);
            table.buckets = NULL;
            table.n_buckets = 0;
        }
    }
    pthread_mutex_unlock(&table.mutex);
    if (is_last) {
        entry_free(entry);
    }
}

size_t workload_common_count(void) {
    pthread_mutex_lock(&table.mutex);
    size_t count = table.n_entries;
    pthread_mutex_unlock(&table.mutex);
    return count;
}
