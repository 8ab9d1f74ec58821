// SPDX-License-Identifier: Apache-2.0
//
// What metrics.c (declarations, threads, scrape) and metrics_series.c (labelled series) share.
//
// Life of a series. The directory holds one `series_key` for each combination of labels in the
// process; each thread that uses it has a `metric_series` with its own cells. Whether a combination
// expired is decided for all threads at once (metrics_expire): if each thread dropped its cells by
// itself, the sum would fall while other threads still count, and Prometheus would take the lower
// value for a restart and count it again.
//
// Locks, in this order:
//   registry.lock    list of threads; held through a scrape and through metrics_expire
//   block.lock       who holds it keeps the thread from freeing series; the thread itself only
//                    tries it (metrics_tick), so that a scrape never makes it wait
//   directory.lock   directory, key->locals, key->refs; held for a few operations at a time
#pragma once

#include <pthread.h>

#include "common/obs/metrics.h"

struct series_key {
    struct hmap_node node; // in the directory, until it expires
    enum metric_label_set set;
    uint32_t refs; // entries of `locals`
    struct list locals; // metric_series.key_link
    _Atomic bool is_expired;
    bool is_permanent; // no labels, or the overflow series
    // Of the scrape or metrics_expire that runs (registry.lock).
    bool is_seen;
    bool is_busy;
    uint64_t idle_since_ns;
    uint64_t touched;
    uint64_t *sums; // cells of the set; sums of histograms are doubles
    size_t packed_len;
    uint8_t packed[]; // see series_pack()
};

struct metrics_block {
    struct metrics_block *next; // registry
    pthread_mutex_t lock;
    struct hmap by_labels; // owner's
    struct metric_series *_Atomic all; // pushed by the owner, walked under `lock`
    struct metric_series *_Atomic expired; // to be freed by the owner
    struct metric_series *plain; // the metrics without labels
    bool is_dead; // the thread ended; registry.lock owns it now
};

struct label_set_info {
    uint16_t n_cells;
    uint16_t n_metrics;
};
extern struct label_set_info label_set_infos[N_METRIC_LABEL_SETS];

enum { SERIES_PACKED_MAX = 1 + METRIC_MAX_LABELS * (2 + METRIC_LABEL_VALUE_MAX) };

// The set and the values as bytes, one form for equal labels. Returns the length.
size_t series_pack(enum metric_label_set set, const struct slice *values,
                   uint8_t packed[SERIES_PACKED_MAX]);
void series_unpack(const struct series_key *key, struct slice values[METRIC_MAX_LABELS]);

struct series_key *series_key_new(enum metric_label_set set, struct slice packed);
// Makes the thread's cells for a key and publishes them. directory.lock is held by the caller, or
// the key is the plain one.
struct metric_series *series_new(struct metrics_block *block, struct series_key *key);
// Frees up to `max` expired series of the block; the caller holds block->lock, and is the owner or
// the block is dead.
void series_free_expired(struct metrics_block *block, unsigned max);
// Marks the key expired unless a thread uses it; true when it did.
bool series_key_expire(struct series_key *key, uint64_t now_ns);

// Frees the series of a dead block that has nothing but its plain one, and its table.
void series_free_plain(struct metrics_block *block);

enum {
    SERIES_IDLE_MAX_S = 5 * 60,
    SERIES_FREED_PER_TICK = 256,
};
