// SPDX-License-Identifier: Apache-2.0
//
// Counters, gauges and histograms, declared in metrics.def. Every thread has cells of its own,
// which it alone changes (a relaxed load and store, no locked instruction); a scrape adds them up.
//
//     metric_add(METRIC_LOG_DROPPED, 1);                       // no labels
//
//     struct slice labels[METRIC_N_LABELS(REPORTER)] = {SLICE_LIT("source")};
//     struct metric_series *series = metric_series_get(METRIC_LABELS_REPORTER, labels);
//     metric_series_add(series, METRIC_TCP_SOCKETS_OPEN, 1);
//     metric_series_put(series, now_ns);
//
// A series is one combination of label values and holds the cells of all metrics of that label set:
// a flow takes one handle when it opens and counts through it. A series that no thread used for 5
// minutes goes; used again it starts from 0, which Prometheus takes for a restart.
//
// The sum over threads is what counts: a gauge may be raised by one thread and lowered by another;
// metric_set belongs to gauges that one thread keeps.
//
// Thread: any; a series handle belongs to the thread that got it.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/base/slice.h"

enum metric {
#define METRIC(id, kind, name, unit, labels, buckets, help) METRIC_##id,
#include "common/obs/metrics.def"
    N_METRICS
};

enum metric_label_set {
#define LABEL_SET(set) METRIC_LABELS_##set,
#include "common/obs/metrics.def"
    N_METRIC_LABEL_SETS
};

// METRIC_LABEL(TRAFFIC, REPORTER) is the index of that label's value in the array of its set, which
// has METRIC_N_LABELS(TRAFFIC) values.
#define METRIC_LABEL(set, id) (METRIC_LABEL_##set##_##id - METRIC_LABEL_START_##set - 1)
#define METRIC_N_LABELS(set) (METRIC_LABEL_END_##set - METRIC_LABEL_START_##set - 1)

enum metric_label_position {
#define LABEL_SET(set) METRIC_LABEL_START_##set,
#define LABEL(set, id, name) METRIC_LABEL_##set##_##id,
#define LABEL_SET_END(set) METRIC_LABEL_END_##set,
#include "common/obs/metrics.def"
};

// Enough for the values of any set.
enum { METRIC_MAX_LABELS = 32, METRIC_MAX_BUCKETS = 24 };

enum {
    METRIC_LABEL_VALUE_MAX = 256, // bytes; longer values are cut
    METRIC_MAX_SERIES = 100000, // a metric with a combination of labels each
};

// Fields are those of metrics_series.c; public for the inline functions only.
struct metric_series {
    struct hmap_node node; // in the thread's table, by labels
    struct series_key *key;
    struct metrics_block *block;
    struct list key_link; // in key->locals, under the directory's lock
    struct metric_series *_Atomic next; // in the thread's list, which a scrape walks
    struct metric_series *prev;
    struct metric_series *expired_next;
    _Atomic uint32_t n_users;
    _Atomic uint64_t idle_since_ns; // while n_users is 0
    _Atomic uint64_t touched; // bit per metric of the set: it was changed, so it is shown
    _Atomic uint64_t cells[];
};

struct metric_place {
    uint16_t slot; // first cell in a series
    uint16_t index; // among the metrics of its label set
};

extern struct metric_place metric_places[N_METRICS];
extern _Thread_local struct metric_series *metrics_plain; // of this thread, NULL before first use
struct metric_series *metrics_attach(void);

static inline void metric_touch(struct metric_series *series, enum metric metric) {
    uint64_t bit = UINT64_C(1) << (metric_places[metric].index & 63);
    uint64_t touched = atomic_load_explicit(&series->touched, memory_order_relaxed);
    if (UNLIKELY(!(touched & bit))) {
        atomic_store_explicit(&series->touched, touched | bit, memory_order_relaxed);
    }
}

// Counters and gauges; the metric must be of the series' label set. Gauges are lowered with _sub.
static inline void metric_series_add(struct metric_series *series, enum metric metric, uint64_t n) {
    _Atomic uint64_t *cell = &series->cells[metric_places[metric].slot];
    uint64_t value = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, value + n, memory_order_relaxed);
    metric_touch(series, metric);
}
static inline void metric_series_sub(struct metric_series *series, enum metric metric, uint64_t n) {
    metric_series_add(series, metric, -n);
}
static inline void metric_series_set(struct metric_series *series, enum metric metric,
                                     int64_t value) {
    atomic_store_explicit(&series->cells[metric_places[metric].slot], (uint64_t)value,
                          memory_order_relaxed);
    metric_touch(series, metric);
}
void metric_series_observe(struct metric_series *series, enum metric metric, double value);

// The same for metrics without labels.
static inline struct metric_series *metrics_plain_here(void) {
    struct metric_series *series = metrics_plain;
    return LIKELY(series != NULL) ? series : metrics_attach();
}
static inline void metric_add(enum metric metric, uint64_t n) {
    metric_series_add(metrics_plain_here(), metric, n);
}
static inline void metric_sub(enum metric metric, uint64_t n) {
    metric_series_sub(metrics_plain_here(), metric, n);
}
static inline void metric_set(enum metric metric, int64_t value) {
    metric_series_set(metrics_plain_here(), metric, value);
}
static inline void metric_observe(enum metric metric, double value) {
    metric_series_observe(metrics_plain_here(), metric, value);
}

// The series of these label values, one for each label of the set in the order of metrics.def; an
// empty value counts as "unknown" unless the label is optional. Never NULL: at METRIC_MAX_SERIES it
// is one with "_overflow" for every value. Stays until metric_series_put(); `now_ns` there is the
// monotonic time.
struct metric_series *metric_series_get(enum metric_label_set set, const struct slice *values);
void metric_series_put(struct metric_series *series, uint64_t now_ns);
// One count under labels that are not kept.
void metric_count(enum metric metric, const struct slice *values, uint64_t n, uint64_t now_ns);

// Each thread that uses series, about once a second: frees those that expired. Bounded, no waiting.
void metrics_tick(void);
// Control thread, about every 30 s: decides which series expired.
void metrics_expire(uint64_t now_ns);

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_info {
    const char *name;
    const char *unit;
    const char *help;
    enum metric_kind kind;
    enum metric_label_set labels;
    const double *buckets; // upper bounds without +Inf; histograms only
    uint8_t n_buckets;
};
extern const struct metric_info metric_infos[N_METRICS];

struct metric_label_names {
    const char *const *names;
    const bool *are_optional;
    unsigned n_labels;
};
struct metric_label_names metric_label_names(enum metric_label_set set);

// One metric with one combination of labels, summed over threads.
struct metric_point {
    enum metric metric;
    struct slice values[METRIC_MAX_LABELS];
    int64_t value; // counters (unsigned) and gauges
    uint64_t counts[METRIC_MAX_BUCKETS + 1]; // histograms: a bucket each, +Inf last; not cumulative
    double sum;
};
// All points, ordered by metric, then by labels. Never stops a counting thread, only other scrapes
// and metrics_expire(). Metrics without labels come even when they are 0.
void metrics_each(void (*fn)(void *arg, const struct metric_point *point), void *arg);
// Sum over all labels; histograms: the number of observations. For tests and admin.
int64_t metrics_total(enum metric metric);
