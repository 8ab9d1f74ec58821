// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cmd_top.h"
#include "ctl/local_json.h"

// ---- samples -----------------------------------------------------------------------------------

void top_sample_fini(struct top_sample *sample) {
    for (size_t i = 0; i < sample->n; i++) {
        struct top_flow *flow = &sample->items[i];
        free(flow->node);
        free(flow->source);
        free(flow->destination);
        free(flow->service);
        free(flow->key);
    }
    free(sample->items);
    *sample = (struct top_sample){0};
}

// A workload's name, else the address that stands for it.
static char *end_text(const json_t *flow, const char *name_key, const char *address_key) {
    const char *name = js_str(flow, name_key, "");
    return xstrdup(name[0] != '\0' ? name : js_str(flow, address_key, ""));
}

static void add_flow(struct top_sample *sample, const char *node, const json_t *flow) {
    if (sample->n == sample->cap) {
        sample->cap = sample->cap == 0 ? 64 : 2 * sample->cap;
        sample->items = xrealloc(sample->items, sample->cap * sizeof(*sample->items));
    }
    bool is_outbound = strcmp(js_str(flow, "direction", ""), "outbound") == 0;
    struct top_flow *item = &sample->items[sample->n++];
    *item = (struct top_flow){
        .node = xstrdup(node),
        .source = end_text(flow, "source", "src"),
        .destination = end_text(flow, "destination", "target"),
        .service = end_text(flow, "service", is_outbound ? "dst" : "target"),
        .direction = is_outbound ? "out" : "in",
        .protocol = strcmp(js_str(flow, "protocol", ""), "HBONE") == 0 ? "HBONE" : "TCP",
        .key = xasprintf("%s %s %lld", node, js_str(flow, "pod", ""), js_int(flow, "id", 0)),
        .age_ms = (uint64_t)js_int(flow, "ageMs", 0),
        .sent = (uint64_t)js_int(flow, "bytesSent", 0),
        .received = (uint64_t)js_int(flow, "bytesReceived", 0),
    };
}

void top_sample_add(struct top_sample *sample, const char *node, const json_t *connections) {
    size_t i;
    json_t *flow;
    json_array_foreach(json_object_get(connections, "connections"), i, flow) {
        add_flow(sample, node, flow);
    }
    sample->n_skipped += (uint64_t)js_int(connections, "skipped", 0);
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(const struct top_flow *const *)a)->key,
                  (*(const struct top_flow *const *)b)->key);
}

static int by_rate(const void *a, const void *b) {
    const struct top_flow *x = a, *y = b;
    uint64_t rx = x->sent_rate + x->received_rate, ry = y->sent_rate + y->received_rate;
    if (rx != ry) {
        return rx < ry ? 1 : -1;
    }
    uint64_t tx = x->sent + x->received, ty = y->sent + y->received;
    return tx != ty ? (tx < ty ? 1 : -1) : strcmp(x->key, y->key);
}

static const struct top_flow **index_by_key(const struct top_sample *sample) {
    const struct top_flow **index = xcalloc(sample->n + 1, sizeof(*index));
    for (size_t i = 0; i < sample->n; i++) {
        index[i] = &sample->items[i];
    }
    qsort(index, sample->n, sizeof(*index), by_key);
    return index;
}

void top_sample_rate(struct top_sample *sample, const struct top_sample *before) {
    const struct top_flow **index = before != NULL ? index_by_key(before) : NULL;
    for (size_t i = 0; i < sample->n; i++) {
        struct top_flow *flow = &sample->items[i], **found = NULL;
        const struct top_flow *key = flow;
        if (index != NULL) {
            found = bsearch(&key, index, before->n, sizeof(*index), by_key);
        }
        uint64_t ms = flow->age_ms, sent = 0, received = 0;
        if (found != NULL) {
            ms = (sample->at_ns - before->at_ns) / 1000000;
            sent = (*found)->sent;
            received = (*found)->received;
        }
        ms = ms == 0 ? 1 : ms;
        flow->sent_rate = flow->sent > sent ? (flow->sent - sent) * 1000 / ms : 0;
        flow->received_rate =
            flow->received > received ? (flow->received - received) * 1000 / ms : 0;
    }
    free(index);
    if (sample->n > 0) {
        qsort(sample->items, sample->n, sizeof(*sample->items), by_rate);
    }
}

// ---- text --------------------------------------------------------------------------------------

const char *top_amount(uint64_t n, char buf[24]) {
    static const char units[] = " kMGTPE";
    size_t unit = 0;
    uint64_t whole = n, rest = 0;
    while (whole >= 1000) {
        rest = whole % 1000;
        whole /= 1000;
        unit++;
    }
    if (unit == 0) {
        snprintf(buf, 24, "%llu", (unsigned long long)n);
    } else if (whole < 10) {
        snprintf(buf, 24, "%u.%u%c", (unsigned)whole, (unsigned)(rest / 100), units[unit]);
    } else {
        snprintf(buf, 24, "%u%c", (unsigned)whole, units[unit]);
    }
    return buf;
}

static const char *age_text(uint64_t ms, char buf[24]) {
    uint64_t s = ms / 1000;
    if (s < 60) {
        snprintf(buf, 24, "%u.%us", (unsigned)s, (unsigned)(ms % 1000 / 100));
    } else if (s < 3600) {
        snprintf(buf, 24, "%um%us", (unsigned)(s / 60), (unsigned)(s % 60));
    } else {
        snprintf(buf, 24, "%lluh%um", (unsigned long long)(s / 3600), (unsigned)(s % 3600 / 60));
    }
    return buf;
}

// One line, cut at the terminal's width.
static void add_line(struct buf *out, size_t n_cols, const char *text) {
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == ' ') {
        len--;
    }
    buf_append(out, slice_make(text, MIN(len, n_cols)));
    buf_append_byte(out, '\n');
}

static void add_flow_line(const struct top_flow *flow, const int widths[4], size_t n_cols,
                          struct buf *out) {
    char age[24], amounts[4][24];
    char *line =
        xasprintf("%-*s %-3s %-5s %-*s %-*s %-*s %8s %6s %6s %6s %6s", widths[0], flow->node,
                  flow->direction, flow->protocol, widths[1], flow->source, widths[2],
                  flow->destination, widths[3], flow->service, age_text(flow->age_ms, age),
                  top_amount(flow->sent, amounts[0]), top_amount(flow->received, amounts[1]),
                  top_amount(flow->sent_rate, amounts[2]),
                  top_amount(flow->received_rate, amounts[3]));
    add_line(out, n_cols, line);
    free(line);
}

void top_render(const struct top_sample *sample, size_t n_rows, size_t n_cols, struct buf *out) {
    uint64_t sent = 0, received = 0;
    int widths[4] = {4, 6, 11, 7};
    size_t n_shown = n_rows > 3 && sample->n > n_rows - 3 ? n_rows - 3 : sample->n;
    for (size_t i = 0; i < sample->n; i++) {
        const struct top_flow *flow = &sample->items[i];
        const char *texts[4] = {flow->node, flow->source, flow->destination, flow->service};
        sent += flow->sent_rate;
        received += flow->received_rate;
        for (size_t k = 0; k < 4 && i < n_shown; k++) {
            widths[k] = MAX(widths[k], (int)strlen(texts[k]));
        }
    }
    char a[24], b[24];
    char *head = xasprintf("%zu flows, %s B/s sent, %s B/s received%s",
                           sample->n + (size_t)sample->n_skipped, top_amount(sent, a),
                           top_amount(received, b),
                           sample->n_skipped > 0 ? " (more flows than are listed)" : "");
    add_line(out, n_cols, head);
    free(head);
    head = xasprintf("%-*s %-3s %-5s %-*s %-*s %-*s %8s %6s %6s %6s %6s", widths[0], "NODE", "DIR",
                     "PROTO", widths[1], "SOURCE", widths[2], "DESTINATION", widths[3], "SERVICE",
                     "AGE", "SENT", "RECV", "SENT/s", "RECV/s");
    add_line(out, n_cols, head);
    free(head);
    for (size_t i = 0; i < n_shown; i++) {
        add_flow_line(&sample->items[i], widths, n_cols, out);
    }
    if (n_shown < sample->n) {
        char *more = xasprintf("... and %zu more", sample->n - n_shown);
        add_line(out, n_cols, more);
        free(more);
    }
}
