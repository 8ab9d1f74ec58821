// SPDX-License-Identifier: Apache-2.0
#include "ctl/cmd_top_http.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cmd_top.h"

enum { CAUSES_SHOWN = 3 };

// ---- samples -----------------------------------------------------------------------------------

void top_http_sample_init(struct top_http_sample *sample) {
    *sample = (struct top_http_sample){0};
    hmap_init(&sample->pairs);
}

void top_http_sample_fini(struct top_http_sample *sample) {
    HMAP_EACH_SAFE(pos, &sample->pairs) {
        struct top_http_pair *pair = HMAP_ITEM(pos, struct top_http_pair, node);
        hmap_remove(&sample->pairs, pos);
        free(pair->source);
        free(pair->destination);
        free(pair->causes);
        free(pair);
    }
    hmap_fini(&sample->pairs);
}

static uint64_t pair_hash(const char *source, const char *destination) {
    return hash_bytes(slice_str(source)) * 31 + hash_bytes(slice_str(destination));
}

static struct top_http_pair *find_pair(const struct top_http_sample *sample, const char *source,
                                       const char *destination) {
    HMAP_EACH_WITH_HASH(pos, &sample->pairs, pair_hash(source, destination)) {
        struct top_http_pair *pair = HMAP_ITEM(pos, struct top_http_pair, node);
        if (strcmp(pair->source, source) == 0 && strcmp(pair->destination, destination) == 0) {
            return pair;
        }
    }
    return NULL;
}

static struct top_http_cause *get_cause(struct top_http_pair *pair, const char *name) {
    for (size_t i = 0; i < pair->n_causes; i++) {
        if (strcmp(pair->causes[i].name, name) == 0) {
            return &pair->causes[i];
        }
    }
    pair->causes = xrealloc(pair->causes, (pair->n_causes + 1) * sizeof(*pair->causes));
    struct top_http_cause *cause = &pair->causes[pair->n_causes++];
    *cause = (struct top_http_cause){0};
    snprintf(cause->name, sizeof(cause->name), "%s", name);
    return cause;
}

// The bound's index, added when it is new (histograms list them in order). False: too many.
static bool get_bound(struct top_http_sample *sample, double bound, size_t *ret_index) {
    for (size_t i = 0; i < sample->n_bounds; i++) {
        if (sample->bounds[i] == bound) {
            *ret_index = i;
            return true;
        }
    }
    if (sample->n_bounds == TOP_HTTP_BOUNDS_MAX) {
        return false;
    }
    *ret_index = sample->n_bounds;
    sample->bounds[sample->n_bounds++] = bound;
    return true;
}

// ---- Prometheus' text --------------------------------------------------------------------------

enum label { SOURCE, SOURCE_NS, DESTINATION, CODE, FLAGS, GRPC, BOUND, N_LABELS };
struct labels {
    char values[N_LABELS][320];
};

static void keep_label(struct labels *labels, struct slice name, const char *value) {
    static const char *const names[N_LABELS] = {[SOURCE] = "source_workload",
                                                [SOURCE_NS] = "source_workload_namespace",
                                                [DESTINATION] = "destination_service",
                                                [CODE] = "response_code",
                                                [FLAGS] = "response_flags",
                                                [GRPC] = "grpc_response_status",
                                                [BOUND] = "le"};
    for (size_t i = 0; i < N_LABELS; i++) {
        if (slice_eq_str(name, names[i])) {
            snprintf(labels->values[i], sizeof(labels->values[i]), "%s", value);
        }
    }
}

// `rest` behind '{'; on success behind '}'.
static bool parse_labels(struct slice *rest, struct labels *ret_labels) {
    char value[320];
    *ret_labels = (struct labels){0};
    while (rest->len > 0 && rest->ptr[0] != '}') {
        struct slice name;
        if (rest->ptr[0] == ',') {
            *rest = slice_skip(*rest, 1);
        }
        if (!slice_split(*rest, '=', &name, rest) || rest->len < 2 || rest->ptr[0] != '"') {
            return false;
        }
        size_t at = 1, n = 0;
        for (; at < rest->len && rest->ptr[at] != '"'; at++) {
            if (rest->ptr[at] == '\\' && at + 1 < rest->len) {
                at++;
            }
            if (n + 1 < sizeof(value)) {
                value[n++] = (char)rest->ptr[at];
            }
        }
        value[n] = '\0';
        *rest = slice_skip(*rest, at + 1);
        keep_label(ret_labels, name, value);
    }
    *rest = slice_skip(*rest, 1);
    return true;
}

static struct top_http_pair *get_pair(struct top_http_sample *sample, const struct labels *labels) {
    char source[650];
    const char *ns = labels->values[SOURCE_NS], *destination = labels->values[DESTINATION];
    snprintf(source, sizeof(source), "%s%s%s", labels->values[SOURCE], ns[0] != '\0' ? "." : "",
             ns);
    struct top_http_pair *pair = find_pair(sample, source, destination);
    if (pair == NULL) {
        pair = xcalloc(1, sizeof(*pair));
        pair->source = xstrdup(source);
        pair->destination = xstrdup(destination);
        hmap_insert(&sample->pairs, &pair->node, pair_hash(source, destination));
    }
    return pair;
}

static void add_requests(struct top_http_pair *pair, const struct labels *labels, uint64_t n) {
    const char *code = labels->values[CODE], *flags = labels->values[FLAGS];
    const char *grpc = labels->values[GRPC];
    bool is_grpc_error = grpc[0] != '\0' && strcmp(grpc, "0") != 0;
    bool is_error = code[0] == '5' || strcmp(code, "0") == 0 || is_grpc_error;
    pair->n_requests += n;
    pair->n_errors += is_error ? n : 0;
    if (flags[0] != '\0' && strcmp(flags, "-") != 0) {
        get_cause(pair, flags)->n += n;
    } else if (is_error) {
        char name[24];
        snprintf(name, sizeof(name), is_grpc_error ? "grpc %.8s" : "%.8s",
                 is_grpc_error ? grpc : code);
        get_cause(pair, name)->n += n;
    }
}

static void add_line(struct top_http_sample *sample, struct slice line) {
    static const struct slice requests = SLICE_LIT("istio_requests_total");
    static const struct slice buckets = SLICE_LIT("istio_request_duration_milliseconds_bucket");
    struct slice name, rest;
    struct labels labels;
    char number[40];
    if (!slice_split(line, '{', &name, &rest) ||
        !(slice_eq(name, requests) || slice_eq(name, buckets)) || !parse_labels(&rest, &labels)) {
        return;
    }
    rest = slice_trim(rest);
    snprintf(number, sizeof(number), "%.*s", SLICE_ARG(slice_head(rest, sizeof(number) - 1)));
    double value = strtod(number, NULL);
    uint64_t n = value > 0 ? (uint64_t)value : 0;
    struct top_http_pair *pair = get_pair(sample, &labels);
    size_t bound;
    if (slice_eq(name, requests)) {
        add_requests(pair, &labels, n);
    } else if (get_bound(sample, strtod(labels.values[BOUND], NULL), &bound)) {
        pair->buckets[bound] += n;
    }
}

void top_http_sample_add(struct top_http_sample *sample, struct slice text) {
    struct slice line;
    while (slice_split(text, '\n', &line, &text)) {
        add_line(sample, line);
    }
}

// ---- what came in between ----------------------------------------------------------------------

struct row {
    const struct top_http_pair *pair;
    uint64_t n_requests, n_errors;
    double p50, p99;
    struct top_http_cause causes[CAUSES_SHOWN];
    size_t n_causes; // of all
};

// A process that began anew counts from 0.
static uint64_t more(uint64_t now, uint64_t before) {
    return now >= before ? now - before : now;
}

static uint64_t cause_before(const struct top_http_pair *before, const char *name) {
    for (size_t i = 0; before != NULL && i < before->n_causes; i++) {
        if (strcmp(before->causes[i].name, name) == 0) {
            return before->causes[i].n;
        }
    }
    return 0;
}

static void fill_causes(struct row *row, const struct top_http_pair *before) {
    for (size_t i = 0; i < row->pair->n_causes; i++) {
        struct top_http_cause cause = row->pair->causes[i];
        cause.n = more(cause.n, cause_before(before, cause.name));
        if (cause.n == 0) {
            continue;
        }
        row->n_causes++;
        for (size_t k = 0; k < CAUSES_SHOWN; k++) {
            if (cause.n > row->causes[k].n) { // the most first
                struct top_http_cause next = row->causes[k];
                row->causes[k] = cause;
                cause = next;
            }
        }
    }
}

double top_http_quantile(const double *bounds, const uint64_t *cumulative, size_t n, double q) {
    if (n == 0 || cumulative[n - 1] == 0) {
        return NAN;
    }
    double rank = q * (double)cumulative[n - 1];
    size_t i = 0;
    while (i + 1 < n && (double)cumulative[i] < rank) {
        i++;
    }
    double low = i > 0 ? bounds[i - 1] : 0;
    if (isinf(bounds[i])) {
        return low;
    }
    uint64_t below = i > 0 ? cumulative[i - 1] : 0, here = cumulative[i] - below;
    return here == 0 ? bounds[i] : low + (bounds[i] - low) * (rank - (double)below) / (double)here;
}

static void fill_row(const struct top_http_sample *sample, const struct top_http_sample *before,
                     const struct top_http_pair *pair, struct row *row) {
    const struct top_http_pair *old =
        before != NULL ? find_pair(before, pair->source, pair->destination) : NULL;
    uint64_t buckets[TOP_HTTP_BOUNDS_MAX];
    *row = (struct row){.pair = pair,
                        .n_requests = more(pair->n_requests, old != NULL ? old->n_requests : 0),
                        .n_errors = more(pair->n_errors, old != NULL ? old->n_errors : 0)};
    for (size_t i = 0; i < sample->n_bounds; i++) {
        buckets[i] = more(pair->buckets[i], old != NULL ? old->buckets[i] : 0);
    }
    row->p50 = top_http_quantile(sample->bounds, buckets, sample->n_bounds, 0.5);
    row->p99 = top_http_quantile(sample->bounds, buckets, sample->n_bounds, 0.99);
    fill_causes(row, old);
}

static int by_requests(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->n_requests != y->n_requests) {
        return x->n_requests < y->n_requests ? 1 : -1;
    }
    int order = strcmp(x->pair->source, y->pair->source);
    return order != 0 ? order : strcmp(x->pair->destination, y->pair->destination);
}

// ---- text --------------------------------------------------------------------------------------

static void put_line(struct buf *out, size_t n_cols, const char *text) {
    size_t len = MIN(strlen(text), n_cols);
    while (len > 0 && text[len - 1] == ' ') {
        len--;
    }
    buf_append(out, slice_make(text, len));
    buf_append_byte(out, '\n');
}

static const char *ms_text(double ms, char buf[24]) {
    if (isnan(ms)) {
        return "-";
    }
    snprintf(buf, 24,
             ms < 10      ? "%.1fms"
             : ms < 10000 ? "%.0fms"
                          : "%.1fs",
             ms < 10000 ? ms : ms / 1000);
    return buf;
}

static const char *rate_text(uint64_t n, uint64_t ns, char buf[24]) {
    double rate = ns > 0 ? (double)n * 1e9 / (double)ns : 0;
    if (rate < 10) {
        snprintf(buf, 24, "%.1f", rate);
        return buf;
    }
    return top_amount((uint64_t)rate, buf);
}

static void put_causes(const struct row *row, struct buf *text) {
    size_t n_shown = MIN(row->n_causes, (size_t)CAUSES_SHOWN);
    for (size_t i = 0; i < n_shown; i++) {
        buf_printf(text, "%s%s:%llu", i > 0 ? " " : "", row->causes[i].name,
                   (unsigned long long)row->causes[i].n);
    }
    if (row->n_causes > n_shown) {
        buf_printf(text, " +%zu", row->n_causes - n_shown);
    }
}

static void put_row(const struct row *row, const int widths[2], uint64_t ns, size_t n_cols,
                    struct buf *out) {
    char rate[24], total[24], p50[24], p99[24];
    struct buf causes;
    buf_init(&causes, 4096);
    put_causes(row, &causes);
    double percent =
        row->n_requests > 0 ? 100.0 * (double)row->n_errors / (double)row->n_requests : 0;
    char *line =
        xasprintf("%-*s %-*s %7s %7s %6.1f %8s %8s  %s", widths[0], row->pair->source, widths[1],
                  row->pair->destination, ns > 0 ? rate_text(row->n_requests, ns, rate) : "-",
                  top_amount(row->n_requests, total), percent, ms_text(row->p50, p50),
                  ms_text(row->p99, p99), buf_cstr(&causes));
    put_line(out, n_cols, line);
    free(line);
    buf_fini(&causes);
}

static void put_head(const struct row *rows, size_t n, size_t n_shown, uint64_t ns, size_t n_cols,
                     int widths[2], struct buf *out) {
    uint64_t n_requests = 0, n_errors = 0;
    char a[24], b[24], c[24];
    for (size_t i = 0; i < n; i++) {
        n_requests += rows[i].n_requests;
        n_errors += rows[i].n_errors;
        if (i < n_shown) {
            widths[0] = MAX(widths[0], (int)strlen(rows[i].pair->source));
            widths[1] = MAX(widths[1], (int)strlen(rows[i].pair->destination));
        }
    }
    char *line = ns > 0 ? xasprintf("%zu pairs, %s requests/s, %s failed/s", n,
                                    rate_text(n_requests, ns, a), rate_text(n_errors, ns, b))
                        : xasprintf("%zu pairs, %s requests since the start, %s failed", n,
                                    top_amount(n_requests, a), top_amount(n_errors, c));
    put_line(out, n_cols, line);
    free(line);
    line = xasprintf("%-*s %-*s %7s %7s %6s %8s %8s  %s", widths[0], "SOURCE", widths[1],
                     "DESTINATION", "REQ/s", "REQS", "ERR%", "P50", "P99", "FLAGS");
    put_line(out, n_cols, line);
    free(line);
}

void top_http_render(const struct top_http_sample *sample, const struct top_http_sample *before,
                     size_t n_rows, size_t n_cols, struct buf *out) {
    size_t n = 0;
    uint64_t ns = before != NULL ? MAX(sample->at_ns - before->at_ns, (uint64_t)1) : 0;
    struct row *rows = xcalloc(sample->pairs.n_items + 1, sizeof(*rows));
    HMAP_EACH_SAFE(pos, &sample->pairs) {
        fill_row(sample, before, HMAP_ITEM(pos, struct top_http_pair, node), &rows[n++]);
    }
    qsort(rows, n, sizeof(*rows), by_requests);
    size_t n_shown = n_rows > 3 && n > n_rows - 3 ? n_rows - 3 : n;
    int widths[2] = {6, 11};
    put_head(rows, n, n_shown, ns, n_cols, widths, out);
    for (size_t i = 0; i < n_shown; i++) {
        put_row(&rows[i], widths, ns, n_cols, out);
    }
    if (n_shown < n) {
        char *line = xasprintf("... and %zu more", n - n_shown);
        put_line(out, n_cols, line);
        free(line);
    }
    free(rows);
}
