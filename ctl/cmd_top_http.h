// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl top --http`: requests by pair of client and service, from the metrics of
// waypoints. Pure.
#pragma once

#include "common/base/buf.h"
#include "common/base/hmap.h"

enum { TOP_HTTP_BOUNDS_MAX = 32 };

// How requests ended: a response flag, or the status class of failures without one ("5xx").
struct top_http_cause {
    char name[24];
    uint64_t n;
};

struct top_http_pair {
    struct hmap_node node;
    char *source, *destination; // "client.shop", "web.shop.svc.cluster.local"
    uint64_t n_requests, n_errors;
    uint64_t buckets[TOP_HTTP_BOUNDS_MAX]; // of the duration, cumulative
    struct top_http_cause *causes;
    size_t n_causes;
};

struct top_http_sample {
    struct hmap pairs;
    double bounds[TOP_HTTP_BOUNDS_MAX]; // ms, ascending; the last one is infinite
    size_t n_bounds;
    uint64_t at_ns; // monotonic
};
void top_http_sample_init(struct top_http_sample *sample);
void top_http_sample_fini(struct top_http_sample *sample);
// Adds the samples of one process (Prometheus' text format). Failed are 5xx, answers of gRPC with a
// status that is not 0, and requests whose client did not wait (0).
void top_http_sample_add(struct top_http_sample *sample, struct slice text);

// What came between two samples; `before` NULL: all since the processes began (rates are then left
// out). n_rows 0: everything.
void top_http_render(const struct top_http_sample *sample, const struct top_http_sample *before,
                     size_t n_rows, size_t n_cols, struct buf *out);
// The quantile q of a histogram, as Prometheus' histogram_quantile has it: linear within a bucket;
// in the last, infinite one its lower bound. NaN without observations.
double top_http_quantile(const double *bounds, const uint64_t *cumulative, size_t n, double q);
