// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl top`: flows from /connections, their rates, the screen. Pure.
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/base/buf.h"

struct top_flow {
    char *node, *source, *destination, *service; // what is shown
    const char *direction, *protocol; // constants
    char *key; // node, pod and id: the same flow in the next sample
    uint64_t age_ms, sent, received;
    uint64_t sent_rate, received_rate; // bytes a second
};
struct top_sample {
    struct top_flow *items;
    size_t n, cap;
    uint64_t n_skipped; // the proxies have more than they list
    uint64_t at_ns; // monotonic
};
void top_sample_fini(struct top_sample *sample);
// Adds the flows of one node's /connections.
void top_sample_add(struct top_sample *sample, const char *node, const json_t *connections);
// Rates against the sample before; the mean of its life for a flow that was not in it, and for all
// when `before` is NULL. Then sorts: the busiest first.
void top_sample_rate(struct top_sample *sample, const struct top_sample *before);
// Text for a terminal of this size; n_rows 0: everything.
void top_render(const struct top_sample *sample, size_t n_rows, size_t n_cols, struct buf *out);
// "999", "1.5k", "12M": at most 5 characters and NUL.
const char *top_amount(uint64_t n, char buf[24]);
