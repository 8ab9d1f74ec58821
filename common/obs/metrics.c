// SPDX-License-Identifier: Apache-2.0
#include "common/obs/metrics.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/obs/metrics_priv.h"

// Tables from metrics.def.

#define BUCKET_SET(id, ...) static const double buckets_##id[] = {__VA_ARGS__};
#include "common/obs/metrics.def"

const struct metric_info metric_infos[N_METRICS] = {
#define METRIC(m_id, m_kind, m_name, m_unit, m_labels, m_buckets, m_help)                          \
    [METRIC_##m_id] = {                                                                            \
        .name = m_name,                                                                            \
        .unit = m_unit,                                                                            \
        .help = m_help,                                                                            \
        .kind = METRIC_##m_kind,                                                                   \
        .labels = METRIC_LABELS_##m_labels,                                                        \
        .buckets = buckets_##m_buckets,                                                            \
        .n_buckets = METRIC_##m_kind == METRIC_HISTOGRAM ? ARRAY_LEN(buckets_##m_buckets) : 0,     \
    },
#include "common/obs/metrics.def"
};

// All label names, at their metric_label_position.
static const char *const flat_label_names[] = {
#define LABEL_SET(set) NULL,
#define LABEL(set, id, name) name,
#define LABEL_SET_END(set) NULL,
#include "common/obs/metrics.def"
};

// Whether an empty value stays empty.
static const bool flat_label_optional[] = {
#define LABEL_SET(set) false,
#define LABEL(set, id, name) false,
#define LABEL_OPTIONAL(set, id, name) true,
#define LABEL_SET_END(set) false,
#include "common/obs/metrics.def"
};

static const struct {
    uint16_t first, n;
} label_ranges[N_METRIC_LABEL_SETS] = {
#define LABEL_SET(set) [METRIC_LABELS_##set] = {METRIC_LABEL_START_##set + 1, METRIC_N_LABELS(set)},
#include "common/obs/metrics.def"
};

struct metric_place metric_places[N_METRICS];
struct label_set_info label_set_infos[N_METRIC_LABEL_SETS];

struct metric_label_names metric_label_names(enum metric_label_set set) {
    return (struct metric_label_names){
        .names = &flat_label_names[label_ranges[set].first],
        .are_optional = &flat_label_optional[label_ranges[set].first],
        .n_labels = label_ranges[set].n,
    };
}

static unsigned cells_of(const struct metric_info *info) {
    // A histogram: its buckets, +Inf, and the sum.
    return info->kind == METRIC_HISTOGRAM ? info->n_buckets + 2U : 1U;
}

static void fill_tables(void) {
    for (size_t s = 0; s < N_METRIC_LABEL_SETS; s++) {
        CHECK(metric_label_names((enum metric_label_set)s).n_labels <= METRIC_MAX_LABELS);
    }
    for (size_t m = 0; m < N_METRICS; m++) {
        const struct metric_info *info = &metric_infos[m];
        struct label_set_info *set = &label_set_infos[info->labels];
        CHECK(info->n_buckets <= METRIC_MAX_BUCKETS);
        metric_places[m] = (struct metric_place){.slot = set->n_cells, .index = set->n_metrics};
        set->n_cells = (uint16_t)(set->n_cells + cells_of(info));
        set->n_metrics++;
        // `touched` has a bit for each; the set without labels does not use it.
        CHECK(info->labels == METRIC_LABELS_NONE || set->n_metrics <= 64);
    }
}

// Threads.

static struct {
    pthread_mutex_t lock;
    struct metrics_block *blocks;
    struct metrics_block *retired; // its plain series keeps the counts of threads that ended
    struct series_key *plain_key;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

_Thread_local struct metric_series *metrics_plain;
static pthread_key_t thread_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct metrics_block *block_new(void) {
    struct metrics_block *block = xcalloc(1, sizeof(*block));
    pthread_mutex_init(&block->lock, NULL);
    hmap_init(&block->by_labels);
    block->plain = series_new(block, registry.plain_key);
    block->next = registry.blocks;
    registry.blocks = block;
    return block;
}

// The owner ended: what it held is idle from now on, and freed by metrics_expire.
static void thread_ends(void *arg) {
    struct metrics_block *block = arg;
    metrics_plain = NULL;
    uint64_t now_ns = clock_mono_ns();
    pthread_mutex_lock(&registry.lock);
    for (struct metric_series *series = atomic_load(&block->all); series != NULL;
         series = atomic_load(&series->next)) {
        if (atomic_load(&series->n_users) > 0) {
            atomic_store(&series->idle_since_ns, now_ns);
            atomic_store(&series->n_users, 0);
        }
    }
    block->is_dead = true;
    pthread_mutex_unlock(&registry.lock);
}

static void init_once(void) {
    fill_tables();
    CHECK(pthread_key_create(&thread_key, thread_ends) == 0);
    uint8_t packed[SERIES_PACKED_MAX];
    size_t len = series_pack(METRIC_LABELS_NONE, NULL, packed);
    registry.plain_key = series_key_new(METRIC_LABELS_NONE, slice_make(packed, len));
    registry.plain_key->is_permanent = true;
    registry.retired = block_new();
}

struct metric_series *metrics_attach(void) {
    pthread_once(&once, init_once);
    pthread_mutex_lock(&registry.lock);
    struct metrics_block *block = block_new();
    pthread_mutex_unlock(&registry.lock);
    pthread_setspecific(thread_key, block);
    metrics_plain = block->plain;
    return metrics_plain;
}

void metric_series_observe(struct metric_series *series, enum metric metric, double value) {
    const struct metric_info *info = &metric_infos[metric];
    _Atomic uint64_t *cells = &series->cells[metric_places[metric].slot];
    unsigned bucket = 0;
    while (bucket < info->n_buckets && value > info->buckets[bucket]) {
        bucket++;
    }
    uint64_t count = atomic_load_explicit(&cells[bucket], memory_order_relaxed);
    atomic_store_explicit(&cells[bucket], count + 1, memory_order_relaxed);
    _Atomic uint64_t *sum_cell = &cells[info->n_buckets + 1];
    uint64_t bits = atomic_load_explicit(sum_cell, memory_order_relaxed);
    double sum;
    memcpy(&sum, &bits, sizeof(sum));
    sum += value;
    memcpy(&bits, &sum, sizeof(bits));
    atomic_store_explicit(sum_cell, bits, memory_order_relaxed);
    metric_touch(series, metric);
}

// Scrape.

static void lock_all(void) {
    pthread_once(&once, init_once);
    pthread_mutex_lock(&registry.lock);
    for (struct metrics_block *block = registry.blocks; block != NULL; block = block->next) {
        pthread_mutex_lock(&block->lock);
    }
}

static void unlock_all(void) {
    for (struct metrics_block *block = registry.blocks; block != NULL; block = block->next) {
        pthread_mutex_unlock(&block->lock);
    }
    pthread_mutex_unlock(&registry.lock);
}

static double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void add_cells(uint64_t *sums, const _Atomic uint64_t *cells, enum metric_label_set set) {
    for (size_t m = 0; m < N_METRICS; m++) {
        const struct metric_info *info = &metric_infos[m];
        if (info->labels != set) {
            continue;
        }
        size_t slot = metric_places[m].slot;
        unsigned n = cells_of(info);
        for (unsigned i = 0; i < n; i++) {
            uint64_t cell = atomic_load_explicit(&cells[slot + i], memory_order_relaxed);
            bool is_sum = info->kind == METRIC_HISTOGRAM && i == n - 1;
            sums[slot + i] = is_sum ? bits_of(double_of(sums[slot + i]) + double_of(cell))
                                    : sums[slot + i] + cell;
        }
    }
}

struct key_list {
    struct series_key **keys;
    size_t n, cap;
};

static void key_list_add(struct key_list *list, struct series_key *key) {
    if (list->n == list->cap) {
        list->cap = MAX(list->cap * 2, (size_t)64);
        list->keys = xrealloc(list->keys, list->cap * sizeof(list->keys[0]));
    }
    list->keys[list->n++] = key;
}

// Every key that a thread has cells for, once. The caller holds all locks and clears is_seen.
static void collect_keys(struct key_list *list,
                         void (*visit)(struct series_key *key, struct metric_series *series)) {
    for (struct metrics_block *block = registry.blocks; block != NULL; block = block->next) {
        struct metric_series *series = atomic_load_explicit(&block->all, memory_order_acquire);
        for (; series != NULL; series = atomic_load_explicit(&series->next, memory_order_acquire)) {
            struct series_key *key = series->key;
            if (atomic_load_explicit(&key->is_expired, memory_order_relaxed)) {
                continue;
            }
            if (!key->is_seen) {
                key->is_seen = true;
                key->is_busy = false;
                key->idle_since_ns = 0;
                key->touched = 0;
                key_list_add(list, key);
            }
            visit(key, series);
        }
    }
}

static void add_series(struct series_key *key, struct metric_series *series) {
    if (key->sums == NULL) {
        key->sums = xcalloc(label_set_infos[key->set].n_cells + 1U, sizeof(key->sums[0]));
    }
    key->touched |= atomic_load_explicit(&series->touched, memory_order_relaxed);
    add_cells(key->sums, series->cells, key->set);
}

static int compare_keys(const void *a, const void *b) {
    const struct series_key *x = *(struct series_key *const *)a;
    const struct series_key *y = *(struct series_key *const *)b;
    int order = memcmp(x->packed, y->packed, MIN(x->packed_len, y->packed_len));
    return order != 0 ? order : (x->packed_len > y->packed_len) - (x->packed_len < y->packed_len);
}

static void point_of(const struct series_key *key, enum metric metric,
                     struct metric_point *ret_point) {
    const struct metric_info *info = &metric_infos[metric];
    const uint64_t *sums = &key->sums[metric_places[metric].slot];
    *ret_point = (struct metric_point){.metric = metric};
    series_unpack(key, ret_point->values);
    if (info->kind != METRIC_HISTOGRAM) {
        ret_point->value = (int64_t)sums[0];
        return;
    }
    for (unsigned i = 0; i <= info->n_buckets; i++) {
        ret_point->counts[i] = sums[i];
    }
    ret_point->sum = double_of(sums[info->n_buckets + 1]);
}

static bool is_shown(const struct series_key *key, enum metric metric) {
    return key->set == METRIC_LABELS_NONE || (key->touched >> metric_places[metric].index & 1);
}

// The keys are sorted by label set first: the range of one set.
static size_t range_of(const struct key_list *list, size_t from, enum metric_label_set set,
                       size_t *ret_end) {
    while (from < list->n && list->keys[from]->set < set) {
        from++;
    }
    *ret_end = from;
    while (*ret_end < list->n && list->keys[*ret_end]->set == set) {
        ++*ret_end;
    }
    return from;
}

void metrics_each(void (*fn)(void *arg, const struct metric_point *point), void *arg) {
    (void)metrics_plain_here(); // `fn` may count something: attach before the lock
    struct key_list list = {0};
    lock_all();
    collect_keys(&list, add_series);
    qsort(list.keys, list.n, sizeof(list.keys[0]), compare_keys);
    for (size_t m = 0; m < N_METRICS; m++) {
        size_t end;
        for (size_t i = range_of(&list, 0, metric_infos[m].labels, &end); i < end; i++) {
            if (is_shown(list.keys[i], (enum metric)m)) {
                struct metric_point point;
                point_of(list.keys[i], (enum metric)m, &point);
                fn(arg, &point);
            }
        }
    }
    for (size_t i = 0; i < list.n; i++) {
        free(list.keys[i]->sums);
        list.keys[i]->sums = NULL;
        list.keys[i]->is_seen = false;
    }
    unlock_all();
    free(list.keys);
}

struct total {
    enum metric metric;
    int64_t value;
};

static void add_total(void *arg, const struct metric_point *point) {
    struct total *total = arg;
    if (point->metric == total->metric) {
        total->value += point->value;
        for (unsigned i = 0; i <= metric_infos[point->metric].n_buckets; i++) {
            total->value += (int64_t)point->counts[i];
        }
    }
}

int64_t metrics_total(enum metric metric) {
    struct total total = {.metric = metric};
    metrics_each(add_total, &total);
    return total.value;
}

// Expiry.

static void note_use(struct series_key *key, struct metric_series *series) {
    key->is_busy |= atomic_load_explicit(&series->n_users, memory_order_acquire) > 0;
    uint64_t idle_ns = atomic_load_explicit(&series->idle_since_ns, memory_order_relaxed);
    key->idle_since_ns = MAX(key->idle_since_ns, idle_ns);
}

// Adds the plain counts of a thread that ended to those of all such threads.
static void keep_counts(const struct metric_series *plain) {
    unsigned n_cells = label_set_infos[METRIC_LABELS_NONE].n_cells;
    uint64_t *sums = xcalloc(n_cells, sizeof(sums[0]));
    struct metric_series *kept = registry.retired->plain;
    add_cells(sums, kept->cells, METRIC_LABELS_NONE);
    add_cells(sums, plain->cells, METRIC_LABELS_NONE);
    for (unsigned i = 0; i < n_cells; i++) {
        atomic_store_explicit(&kept->cells[i], sums[i], memory_order_relaxed);
    }
    free(sums);
}

// Frees what threads that ended left behind: their expired series, and when none is left the block,
// whose plain counts are kept in `retired`.
static void bury_dead(void) {
    struct metrics_block **at = &registry.blocks;
    while (*at != NULL) {
        struct metrics_block *block = *at;
        if (block->is_dead) {
            series_free_expired(block, UINT32_MAX);
        }
        struct metric_series *first = atomic_load(&block->all);
        if (!block->is_dead || first != block->plain || atomic_load(&first->next) != NULL) {
            at = &block->next;
            continue;
        }
        *at = block->next;
        keep_counts(first);
        series_free_plain(block);
        pthread_mutex_unlock(&block->lock);
        pthread_mutex_destroy(&block->lock);
        free(block);
    }
}

void metrics_expire(uint64_t now_ns) {
    (void)metrics_plain_here();
    struct key_list list = {0};
    lock_all();
    collect_keys(&list, note_use);
    for (size_t i = 0; i < list.n; i++) {
        struct series_key *key = list.keys[i];
        key->is_seen = false;
        if (!key->is_permanent && !key->is_busy &&
            now_ns >= key->idle_since_ns + SERIES_IDLE_MAX_S * NS_PER_SEC) {
            (void)series_key_expire(key, now_ns);
        }
    }
    bury_dead();
    unlock_all();
    free(list.keys);
}

void metrics_tick(void) {
    struct metric_series *plain = metrics_plain;
    if (plain == NULL) {
        return;
    }
    struct metrics_block *block = plain->block;
    if (atomic_load_explicit(&block->expired, memory_order_relaxed) != NULL &&
        pthread_mutex_trylock(&block->lock) == 0) {
        series_free_expired(block, SERIES_FREED_PER_TICK);
        pthread_mutex_unlock(&block->lock);
    }
}
