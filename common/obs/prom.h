// SPDX-License-Identifier: Apache-2.0
//
// The metrics as text for Prometheus: its own format (0.0.4) and OpenMetrics 1.0, from all of
// metrics.def plus what collectors add at scrape time.
//
// Thread: one scrape at a time (others wait); usually the control thread.
#pragma once

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/obs/metrics.h"

enum prom_format { PROM_TEXT, PROM_OPENMETRICS };

// What the Accept header of a scrape asks for.
enum prom_format prom_format_of(struct slice accept);
const char *prom_content_type(enum prom_format format);

// Appends everything, with the "# EOF" of OpenMetrics. Overflow is the buf's.
void prom_write(struct buf *buf, enum prom_format format);

// Values known only at scrape time. A collector writes whole families: the head once, then its
// samples.
struct prom_writer {
    struct buf *buf;
    enum prom_format format;
};
struct prom_label {
    const char *name;
    struct slice value;
};
// `name` without _total; unit "" = none.
void prom_family(struct prom_writer *w, const char *name, enum metric_kind kind, const char *unit,
                 const char *help);
// Counters and gauges.
void prom_sample(struct prom_writer *w, const char *name, enum metric_kind kind,
                 const struct prom_label *labels, size_t n_labels, double value);

// `fn` is called at each scrape, after the declared metrics. Before threads start; stays for good.
void prom_collector_add(void (*fn)(void *arg, struct prom_writer *w), void *arg);
enum { PROM_MAX_COLLECTORS = 16 };

// process_open_fds, process_max_fds, process_resident_memory_bytes, process_cpu_seconds_total,
// process_start_time_seconds. A collector: prom_collector_add(prom_process, NULL).
void prom_process(void *arg, struct prom_writer *w);
