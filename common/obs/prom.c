// SPDX-License-Identifier: Apache-2.0
#include "common/obs/prom.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/utf8.h"

static struct {
    void (*fn)(void *arg, struct prom_writer *w);
    void *arg;
} collectors[PROM_MAX_COLLECTORS];
static size_t n_collectors;

static const char *const kind_names[] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM] = "histogram",
};

enum prom_format prom_format_of(struct slice accept) {
    static const char type[] = "application/openmetrics-text";
    size_t len = sizeof(type) - 1;
    for (; accept.len >= len; accept = slice_skip(accept, 1)) {
        if (slice_eq_nocase(slice_head(accept, len), slice_make(type, len))) {
            return PROM_OPENMETRICS;
        }
    }
    return PROM_TEXT;
}

const char *prom_content_type(enum prom_format format) {
    return format == PROM_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                      : "text/plain; version=0.0.4; charset=utf-8";
}

// In label values, and without `has_quotes` help texts of the older format, which knows no escaped
// quotes. Bytes that are no UTF-8 would make the whole scrape invalid.
static void append_escaped(struct buf *buf, struct slice text, bool has_quotes) {
    while (text.len > 0) {
        size_t len = utf8_len(text);
        if (len == 0) {
            buf_append(buf, SLICE_LIT("\xef\xbf\xbd"));
            len = 1;
        } else if (text.ptr[0] == '\n') {
            buf_append(buf, SLICE_LIT("\\n"));
        } else if (text.ptr[0] == '\\' || (text.ptr[0] == '"' && has_quotes)) {
            buf_append_byte(buf, '\\');
            buf_append_byte(buf, text.ptr[0]);
        } else {
            buf_append(buf, slice_head(text, len));
        }
        text = slice_skip(text, len);
    }
}

static void append_double(struct buf *buf, double value) {
    if (isnan(value)) {
        buf_append_str(buf, "NaN");
        return;
    }
    if (isinf(value)) {
        buf_append_str(buf, value > 0 ? "+Inf" : "-Inf");
        return;
    }
    char text[32];
    snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value) {
        snprintf(text, sizeof(text), "%.17g", value);
    }
    buf_append_str(buf, text);
}

static void append_bound(struct buf *buf, double bound, enum prom_format format) {
    size_t from = buf->len;
    append_double(buf, bound);
    // OpenMetrics wants "1.0": the bound is a number that is compared as text.
    struct slice text = slice_skip(buf_slice(buf), from);
    if (format == PROM_OPENMETRICS && isfinite(bound) && slice_find(text, '.') < 0 &&
        slice_find(text, 'e') < 0) {
        buf_append(buf, SLICE_LIT(".0"));
    }
}

void prom_family(struct prom_writer *w, const char *name, enum metric_kind kind, const char *unit,
                 const char *help) {
    // The older format knows counters by the name of their samples.
    const char *suffix = kind == METRIC_COUNTER && w->format == PROM_TEXT ? "_total" : "";
    struct buf *buf = w->buf;
    buf_printf(buf, "# HELP %s%s ", name, suffix);
    append_escaped(buf, slice_str(help), w->format == PROM_OPENMETRICS);
    buf_printf(buf, "\n# TYPE %s%s %s\n", name, suffix, kind_names[kind]);
    if (w->format == PROM_OPENMETRICS && unit[0] != '\0') {
        buf_printf(buf, "# UNIT %s %s\n", name, unit);
    }
}

static void append_label(struct buf *buf, const char *name, struct slice value, bool is_first) {
    buf_append_byte(buf, is_first ? '{' : ',');
    buf_append_str(buf, name);
    buf_append(buf, SLICE_LIT("=\""));
    append_escaped(buf, value, true);
    buf_append_byte(buf, '"');
}

void prom_sample(struct prom_writer *w, const char *name, enum metric_kind kind,
                 const struct prom_label *labels, size_t n_labels, double value) {
    buf_append_str(w->buf, name);
    buf_append_str(w->buf, kind == METRIC_COUNTER ? "_total" : "");
    for (size_t i = 0; i < n_labels; i++) {
        append_label(w->buf, labels[i].name, labels[i].value, i == 0);
    }
    buf_append_str(w->buf, n_labels > 0 ? "} " : " ");
    append_double(w->buf, value);
    buf_append_byte(w->buf, '\n');
}

// Name, suffix and labels of a point; the brace stays open when `is_open`.
static void append_point_head(struct buf *buf, const struct metric_point *point, const char *suffix,
                              bool is_open) {
    const struct metric_info *info = &metric_infos[point->metric];
    struct metric_label_names labels = metric_label_names(info->labels);
    buf_append_str(buf, info->name);
    buf_append_str(buf, suffix);
    for (unsigned i = 0; i < labels.n_labels; i++) {
        append_label(buf, labels.names[i], point->values[i], i == 0);
    }
    if (!is_open) {
        buf_append_str(buf, labels.n_labels > 0 ? "} " : " ");
    }
}

static void write_histogram(struct prom_writer *w, const struct metric_point *point) {
    const struct metric_info *info = &metric_infos[point->metric];
    bool has_labels = metric_label_names(info->labels).n_labels > 0;
    struct buf *buf = w->buf;
    uint64_t n = 0;
    for (unsigned i = 0; i <= info->n_buckets; i++) {
        n += point->counts[i];
        append_point_head(buf, point, "_bucket", true);
        buf_append_str(buf, has_labels ? ",le=\"" : "{le=\"");
        append_bound(buf, i < info->n_buckets ? info->buckets[i] : INFINITY, w->format);
        buf_append_str(buf, "\"} ");
        buf_append_u64(buf, n);
        buf_append_byte(buf, '\n');
    }
    append_point_head(buf, point, "_sum", false);
    append_double(buf, point->sum);
    buf_append_byte(buf, '\n');
    append_point_head(buf, point, "_count", false);
    buf_append_u64(buf, n);
    buf_append_byte(buf, '\n');
}

struct write_state {
    struct prom_writer w;
    int last_metric; // whose family head was written
};

static void write_point(void *arg, const struct metric_point *point) {
    struct write_state *state = arg;
    const struct metric_info *info = &metric_infos[point->metric];
    struct buf *buf = state->w.buf;
    if (!buf_ok(buf)) {
        return;
    }
    if (state->last_metric != (int)point->metric) {
        state->last_metric = (int)point->metric;
        prom_family(&state->w, info->name, info->kind, info->unit, info->help);
    }
    if (info->kind == METRIC_HISTOGRAM) {
        write_histogram(&state->w, point);
        return;
    }
    append_point_head(buf, point, info->kind == METRIC_COUNTER ? "_total" : "", false);
    if (info->kind == METRIC_COUNTER) {
        buf_append_u64(buf, (uint64_t)point->value);
    } else {
        buf_append_i64(buf, point->value);
    }
    buf_append_byte(buf, '\n');
}

void prom_write(struct buf *buf, enum prom_format format) {
    struct write_state state = {.w = {.buf = buf, .format = format}, .last_metric = -1};
    metrics_each(write_point, &state);
    for (size_t i = 0; i < n_collectors; i++) {
        collectors[i].fn(collectors[i].arg, &state.w);
    }
    if (format == PROM_OPENMETRICS) {
        buf_append(buf, SLICE_LIT("# EOF\n"));
    }
}

void prom_collector_add(void (*fn)(void *arg, struct prom_writer *w), void *arg) {
    CHECK(n_collectors < PROM_MAX_COLLECTORS);
    collectors[n_collectors].fn = fn;
    collectors[n_collectors].arg = arg;
    n_collectors++;
}
