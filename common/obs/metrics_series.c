// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/obs/metrics_priv.h"

static struct {
    pthread_mutex_t lock;
    struct hmap keys; // series_key.node; without expired and plain ones
    size_t n_series; // keys times the metrics of their set, without overflow series
} directory = {.lock = PTHREAD_MUTEX_INITIALIZER};

// Packed labels: one byte for the set, then each value as two bytes of length and its bytes.

size_t series_pack(enum metric_label_set set, const struct slice *values,
                   uint8_t packed[SERIES_PACKED_MAX]) {
    size_t len = 0;
    packed[len++] = (uint8_t)set;
    struct metric_label_names labels = metric_label_names(set);
    for (unsigned i = 0; i < labels.n_labels; i++) {
        bool is_known = values[i].len > 0 || labels.are_optional[i];
        struct slice value = is_known ? values[i] : SLICE_LIT("unknown");
        value = slice_head(value, METRIC_LABEL_VALUE_MAX);
        packed[len++] = (uint8_t)(value.len >> 8);
        packed[len++] = (uint8_t)value.len;
        slice_copy(packed + len, value);
        len += value.len;
    }
    return len;
}

void series_unpack(const struct series_key *key, struct slice values[METRIC_MAX_LABELS]) {
    const uint8_t *at = key->packed + 1;
    unsigned n_labels = metric_label_names(key->set).n_labels;
    for (unsigned i = 0; i < n_labels; i++) {
        size_t len = (size_t)at[0] << 8 | at[1];
        values[i] = slice_make(at + 2, len);
        at += 2 + len;
    }
}

struct series_key *series_key_new(enum metric_label_set set, struct slice packed) {
    struct series_key *key = xmalloc(sizeof(*key) + packed.len);
    *key = (struct series_key){.set = set, .packed_len = packed.len};
    memcpy(key->packed, packed.ptr, packed.len);
    list_init(&key->locals);
    return key;
}

static bool has_labels(const struct series_key *key, struct slice packed) {
    return slice_eq(slice_make(key->packed, key->packed_len), packed);
}

struct metric_series *series_new(struct metrics_block *block, struct series_key *key) {
    size_t n_cells = label_set_infos[key->set].n_cells;
    struct metric_series *series = xcalloc(1, sizeof(*series) + n_cells * sizeof(series->cells[0]));
    series->key = key;
    series->block = block;
    list_push_back(&key->locals, &series->key_link);
    key->refs++;
    // In use from the moment it can be seen, so that it does not expire before its first user.
    atomic_store_explicit(&series->n_users, 1, memory_order_relaxed);
    struct metric_series *head = atomic_load_explicit(&block->all, memory_order_relaxed);
    atomic_store_explicit(&series->next, head, memory_order_relaxed);
    if (head != NULL) {
        head->prev = series;
    }
    atomic_store_explicit(&block->all, series, memory_order_release);
    return series;
}

static void unlink_series(struct metrics_block *block, struct metric_series *series) {
    struct metric_series *next = atomic_load_explicit(&series->next, memory_order_relaxed);
    if (series->prev != NULL) {
        atomic_store_explicit(&series->prev->next, next, memory_order_relaxed);
    } else {
        atomic_store_explicit(&block->all, next, memory_order_relaxed);
    }
    if (next != NULL) {
        next->prev = series->prev;
    }
}

static void key_unref(struct series_key *key, struct metric_series *series) {
    pthread_mutex_lock(&directory.lock);
    list_del(&series->key_link);
    bool is_last = --key->refs == 0;
    pthread_mutex_unlock(&directory.lock);
    if (is_last && !key->is_permanent) {
        free(key);
    }
}

static void push_expired(struct metrics_block *block, struct metric_series *series) {
    series->expired_next = atomic_load_explicit(&block->expired, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&block->expired, &series->expired_next, series,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

void series_free_expired(struct metrics_block *block, unsigned max) {
    struct metric_series *series =
        atomic_exchange_explicit(&block->expired, NULL, memory_order_acquire);
    for (; series != NULL && max > 0; max--) {
        struct metric_series *next = series->expired_next;
        CHECK(atomic_load_explicit(&series->n_users, memory_order_relaxed) == 0);
        hmap_remove(&block->by_labels, &series->node);
        unlink_series(block, series);
        key_unref(series->key, series);
        free(series);
        series = next;
    }
    while (series != NULL) { // for the next tick
        struct metric_series *next = series->expired_next;
        push_expired(block, series);
        series = next;
    }
}

void series_free_plain(struct metrics_block *block) {
    struct metric_series *plain = block->plain;
    unlink_series(block, plain);
    key_unref(plain->key, plain);
    free(plain);
    hmap_fini(&block->by_labels);
}

static bool is_used(const struct metric_series *series, uint64_t now_ns) {
    // Sequentially consistent, against use_again().
    return atomic_load(&series->n_users) > 0 ||
           atomic_load(&series->idle_since_ns) + SERIES_IDLE_MAX_S * NS_PER_SEC > now_ns;
}

bool series_key_expire(struct series_key *key, uint64_t now_ns) {
    pthread_mutex_lock(&directory.lock);
    atomic_store(&key->is_expired, true);
    bool is_in_use = false;
    LIST_EACH(pos, &key->locals) {
        is_in_use |= is_used(LIST_ITEM(pos, struct metric_series, key_link), now_ns);
    }
    if (is_in_use) {
        atomic_store(&key->is_expired, false);
    } else {
        hmap_remove(&directory.keys, &key->node);
        size_t n_metrics = label_set_infos[key->set].n_metrics;
        directory.n_series -= n_metrics;
        metric_sub(METRIC_SERIES, n_metrics);
        LIST_EACH(pos, &key->locals) {
            struct metric_series *series = LIST_ITEM(pos, struct metric_series, key_link);
            push_expired(series->block, series);
        }
    }
    pthread_mutex_unlock(&directory.lock);
    return !is_in_use;
}

// First user of idle cells. Announces the use, then looks whether the labels expired; who lets them
// expire does it the other way round, so that at least one of the two sees the other.
static bool use_again(struct metric_series *series) {
    atomic_store(&series->n_users, 1);
    if (LIKELY(!atomic_load(&series->key->is_expired))) {
        return true;
    }
    atomic_store(&series->n_users, 0);
    return false;
}

static bool use(struct metric_series *series) {
    uint32_t n_users = atomic_load_explicit(&series->n_users, memory_order_relaxed);
    if (n_users == 0) {
        return use_again(series);
    }
    atomic_store_explicit(&series->n_users, n_users + 1, memory_order_relaxed);
    return true;
}

static struct metric_series *find_local(const struct metrics_block *block, uint64_t hash,
                                        struct slice packed) {
    HMAP_EACH_WITH_HASH(pos, &block->by_labels, hash) {
        struct metric_series *series = HMAP_ITEM(pos, struct metric_series, node);
        // Cells of an expired key wait for metrics_tick(); the same labels may be there anew.
        if (has_labels(series->key, packed) &&
            !atomic_load_explicit(&series->key->is_expired, memory_order_relaxed)) {
            return series;
        }
    }
    return NULL;
}

// The key from the directory, made if need be; NULL at the limit of series.
static struct series_key *find_key(enum metric_label_set set, struct slice packed, uint64_t hash,
                                   bool is_overflow) {
    HMAP_EACH_WITH_HASH(pos, &directory.keys, hash) {
        struct series_key *key = HMAP_ITEM(pos, struct series_key, node);
        if (has_labels(key, packed)) {
            return key;
        }
    }
    size_t n_metrics = label_set_infos[set].n_metrics;
    if (!is_overflow) {
        if (directory.n_series + n_metrics > METRIC_MAX_SERIES) {
            return NULL;
        }
        directory.n_series += n_metrics;
        metric_add(METRIC_SERIES, n_metrics);
    }
    struct series_key *key = series_key_new(set, packed);
    key->is_permanent = is_overflow;
    hmap_insert(&directory.keys, &key->node, hash);
    return key;
}

// Under the directory's lock nothing expires, so a local series that is found now can be used.
static struct metric_series *get_slow(struct metrics_block *block, enum metric_label_set set,
                                      struct slice packed, uint64_t hash, bool is_overflow) {
    pthread_mutex_lock(&directory.lock);
    struct metric_series *series = find_local(block, hash, packed);
    if (series != NULL) {
        bool is_ok = use(series);
        CHECK(is_ok);
    } else {
        struct series_key *key = find_key(set, packed, hash, is_overflow);
        if (key != NULL) {
            series = series_new(block, key);
            hmap_insert(&block->by_labels, &series->node, hash);
        }
    }
    pthread_mutex_unlock(&directory.lock);
    return series;
}

static struct metric_series *get_packed(enum metric_label_set set, struct slice packed,
                                        bool is_overflow) {
    struct metrics_block *block = metrics_plain_here()->block;
    uint64_t hash = hash_bytes(packed);
    struct metric_series *series = find_local(block, hash, packed);
    if (series != NULL && use(series)) {
        return series;
    }
    return get_slow(block, set, packed, hash, is_overflow);
}

struct metric_series *metric_series_get(enum metric_label_set set, const struct slice *values) {
    CHECK(set != METRIC_LABELS_NONE && set < N_METRIC_LABEL_SETS);
    (void)metrics_plain_here(); // fills the tables that series_pack() reads
    uint8_t packed[SERIES_PACKED_MAX];
    size_t len = series_pack(set, values, packed);
    struct metric_series *series = get_packed(set, slice_make(packed, len), false);
    if (UNLIKELY(series == NULL)) {
        metric_add(METRIC_SERIES_OVERFLOW, 1);
        struct slice overflow[METRIC_MAX_LABELS];
        for (unsigned i = 0; i < METRIC_MAX_LABELS; i++) {
            overflow[i] = SLICE_LIT("_overflow");
        }
        len = series_pack(set, overflow, packed);
        series = get_packed(set, slice_make(packed, len), true);
    }
    return series;
}

void metric_series_put(struct metric_series *series, uint64_t now_ns) {
    uint32_t n_users = atomic_load_explicit(&series->n_users, memory_order_relaxed);
    CHECK(n_users > 0);
    if (n_users == 1) {
        atomic_store_explicit(&series->idle_since_ns, now_ns, memory_order_relaxed);
    }
    atomic_store_explicit(&series->n_users, n_users - 1, memory_order_release);
}

void metric_count(enum metric metric, const struct slice *values, uint64_t n, uint64_t now_ns) {
    struct metric_series *series = metric_series_get(metric_infos[metric].labels, values);
    metric_series_add(series, metric, n);
    metric_series_put(series, now_ns);
}
