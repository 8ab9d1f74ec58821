// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/l7/l7_reply.h"

enum { EXPIRED_PER_TICK = 64 };

// What tells entries apart, without padding: compared and hashed as bytes. The id, which belongs to
// the client's address but for rare cases, is compared and not hashed.
struct entry_key {
    uintptr_t source, destination, service;
    uint32_t flags;
    uint16_t status;
    int16_t grpc_status;
    uint64_t bits; // is_grpc, is_destination_mtls
};
_Static_assert(sizeof(struct entry_key) == 3 * sizeof(uintptr_t) + 16, "no padding");

struct entry {
    struct hmap_node node;
    struct list use; // http_metrics.by_use
    struct entry_key key;
    char *source_id;
    struct metric_series *series;
    struct workload *source, *destination; // referenced
    struct service *service;
    uint64_t used_ns;
};

void http_metrics_init(struct http_metrics *metrics) {
    *metrics = (struct http_metrics){0};
    hmap_init(&metrics->entries);
    list_init(&metrics->by_use);
}

static void drop(struct http_metrics *metrics, struct entry *entry, uint64_t now_ns) {
    hmap_remove(&metrics->entries, &entry->node);
    list_del(&entry->use);
    metrics->n--;
    metric_series_put(entry->series, now_ns);
    leaf_unref(entry->source);
    leaf_unref(entry->destination);
    leaf_unref(entry->service);
    free(entry->source_id);
    free(entry);
}

static struct entry *oldest(struct http_metrics *metrics) {
    return list_empty(&metrics->by_use) ? NULL : LIST_ITEM(metrics->by_use.prev, struct entry, use);
}

void http_metrics_fini(struct http_metrics *metrics, uint64_t now_ns) {
    struct entry *entry;
    while ((entry = oldest(metrics)) != NULL) {
        drop(metrics, entry, now_ns);
    }
    hmap_fini(&metrics->entries);
}

void http_metrics_tick(struct http_metrics *metrics, uint64_t now_ns) {
    for (int i = 0; i < EXPIRED_PER_TICK; i++) {
        struct entry *entry = oldest(metrics);
        if (entry == NULL || now_ns - entry->used_ns < HTTP_METRICS_IDLE_S * NS_PER_SEC) {
            return;
        }
        drop(metrics, entry, now_ns);
    }
}

// ---- labels ------------------------------------------------------------------------------------

static void label_source(struct slice *labels, const struct workload *workload) {
    labels[METRIC_LABEL(HTTP, SOURCE_WORKLOAD)] = slice_str(workload_owner_name(workload));
    labels[METRIC_LABEL(HTTP, SOURCE_CANONICAL_SERVICE)] =
        slice_str(workload_canonical_name(workload));
    labels[METRIC_LABEL(HTTP, SOURCE_CANONICAL_REVISION)] =
        slice_str(workload->common->canonical_revision);
    labels[METRIC_LABEL(HTTP, SOURCE_WORKLOAD_NAMESPACE)] = slice_str(workload->ns);
    labels[METRIC_LABEL(HTTP, SOURCE_APP)] = slice_str(workload_app(workload));
    labels[METRIC_LABEL(HTTP, SOURCE_VERSION)] = slice_str(workload->common->version);
    labels[METRIC_LABEL(HTTP, SOURCE_CLUSTER)] = slice_str(workload->common->cluster);
}

static void label_destination(struct slice *labels, const struct workload *workload) {
    labels[METRIC_LABEL(HTTP, DESTINATION_WORKLOAD)] = slice_str(workload_owner_name(workload));
    labels[METRIC_LABEL(HTTP, DESTINATION_CANONICAL_SERVICE)] =
        slice_str(workload_canonical_name(workload));
    labels[METRIC_LABEL(HTTP, DESTINATION_CANONICAL_REVISION)] =
        slice_str(workload->common->canonical_revision);
    labels[METRIC_LABEL(HTTP, DESTINATION_WORKLOAD_NAMESPACE)] = slice_str(workload->ns);
    labels[METRIC_LABEL(HTTP, DESTINATION_APP)] = slice_str(workload_app(workload));
    labels[METRIC_LABEL(HTTP, DESTINATION_VERSION)] = slice_str(workload->common->version);
    labels[METRIC_LABEL(HTTP, DESTINATION_CLUSTER)] = slice_str(workload->common->cluster);
}

static void label_service(struct slice *labels, const struct service *service) {
    labels[METRIC_LABEL(HTTP, DESTINATION_SERVICE)] = slice_str(service->hostname);
    labels[METRIC_LABEL(HTTP, DESTINATION_SERVICE_NAMESPACE)] = slice_str(service->ns);
    labels[METRIC_LABEL(HTTP, DESTINATION_SERVICE_NAME)] = slice_str(service->name);
}

static void label_ends(struct slice *labels, const struct http_metrics_labels *in) {
    if (in->source != NULL) {
        label_source(labels, in->source);
    }
    if (in->destination != NULL) {
        label_destination(labels, in->destination);
        if (in->is_destination_mtls) {
            labels[METRIC_LABEL(HTTP, DESTINATION_PRINCIPAL)] =
                slice_str(in->destination->common->identity);
        }
    }
    if (in->service != NULL) {
        label_service(labels, in->service);
    }
    labels[METRIC_LABEL(HTTP, SOURCE_PRINCIPAL)] = in->source_id;
    labels[METRIC_LABEL(HTTP, CONNECTION_SECURITY_POLICY)] =
        in->source_id.len > 0 ? SLICE_LIT("mutual_tls") : SLICE_LIT("unknown");
}

static struct metric_series *series_of(const struct http_metrics_labels *in) {
    struct slice labels[METRIC_N_LABELS(HTTP)] = {0};
    char status[8], grpc_status[8];
    struct buf flags;
    buf_init(&flags, METRIC_LABEL_VALUE_MAX);
    l7_flags_append(in->flags, &flags);
    snprintf(status, sizeof(status), "%u", in->status);
    snprintf(grpc_status, sizeof(grpc_status), "%d", in->grpc_status);
    label_ends(labels, in);
    labels[METRIC_LABEL(HTTP, REPORTER)] = SLICE_LIT("waypoint");
    labels[METRIC_LABEL(HTTP, REQUEST_PROTOCOL)] =
        in->is_grpc ? SLICE_LIT("grpc") : SLICE_LIT("http");
    labels[METRIC_LABEL(HTTP, RESPONSE_CODE)] = slice_str(status);
    labels[METRIC_LABEL(HTTP, RESPONSE_FLAGS)] = buf_slice(&flags);
    if (in->grpc_status >= 0) {
        labels[METRIC_LABEL(HTTP, GRPC_RESPONSE_STATUS)] = slice_str(grpc_status);
    }
    struct metric_series *series = metric_series_get(METRIC_LABELS_HTTP, labels);
    buf_fini(&flags);
    return series;
}

// ---- entries -----------------------------------------------------------------------------------

static struct entry_key key_of(const struct http_metrics_labels *in) {
    return (struct entry_key){
        .source = (uintptr_t)in->source,
        .destination = (uintptr_t)in->destination,
        .service = (uintptr_t)in->service,
        .flags = in->flags,
        .status = in->status,
        .grpc_status = in->grpc_status,
        .bits = (uint64_t)in->is_grpc | (uint64_t)in->is_destination_mtls << 1,
    };
}

static void ref(void *leaf) {
    if (leaf != NULL) {
        leaf_ref(leaf);
    }
}

static struct entry *add(struct http_metrics *metrics, const struct http_metrics_labels *in,
                         const struct entry_key *key, uint64_t hash, uint64_t now_ns) {
    if (metrics->n >= HTTP_METRICS_ENTRIES_MAX) {
        drop(metrics, oldest(metrics), now_ns);
    }
    struct entry *entry = xcalloc(1, sizeof(*entry));
    *entry = (struct entry){
        .key = *key,
        .source_id = slice_dup(in->source_id),
        .series = series_of(in),
        .source = in->source,
        .destination = in->destination,
        .service = in->service,
    };
    ref(in->source);
    ref(in->destination);
    ref(in->service);
    hmap_insert(&metrics->entries, &entry->node, hash);
    list_push_front(&metrics->by_use, &entry->use);
    metrics->n++;
    return entry;
}

static struct entry *find(const struct http_metrics *metrics, const struct http_metrics_labels *in,
                          const struct entry_key *key, uint64_t hash) {
    HMAP_EACH_WITH_HASH(node, &metrics->entries, hash) {
        struct entry *entry = HMAP_ITEM(node, struct entry, node);
        if (memcmp(&entry->key, key, sizeof(*key)) == 0 &&
            slice_eq_str(in->source_id, entry->source_id)) {
            return entry;
        }
    }
    return NULL;
}

static struct metric_series *get(struct http_metrics *metrics, const struct http_metrics_labels *in,
                                 uint64_t now_ns) {
    struct entry_key key = key_of(in);
    uint64_t hash = hash_bytes(slice_make(&key, sizeof(key)));
    struct entry *entry = find(metrics, in, &key, hash);
    if (entry == NULL) {
        entry = add(metrics, in, &key, hash, now_ns);
    } else if (metrics->by_use.next != &entry->use) {
        list_del(&entry->use);
        list_push_front(&metrics->by_use, &entry->use);
    }
    entry->used_ns = now_ns;
    return entry->series;
}

// ---- counting ----------------------------------------------------------------------------------

static void count_messages(struct metric_series *series, uint64_t n_received, uint64_t n_sent) {
    if (n_received > 0) {
        metric_series_add(series, METRIC_HTTP_REQUEST_MESSAGES, n_received);
    }
    if (n_sent > 0) {
        metric_series_add(series, METRIC_HTTP_RESPONSE_MESSAGES, n_sent);
    }
}

void http_metrics_request(struct http_metrics *metrics, const struct http_metrics_request *request,
                          uint64_t now_ns) {
    struct metric_series *series = get(metrics, &request->labels, now_ns);
    metric_series_add(series, METRIC_HTTP_REQUESTS, 1);
    metric_series_observe(series, METRIC_HTTP_DURATION,
                          (double)request->duration_ns / (double)NS_PER_MS);
    metric_series_observe(series, METRIC_HTTP_REQUEST_BYTES, (double)request->n_received);
    metric_series_observe(series, METRIC_HTTP_RESPONSE_BYTES, (double)request->n_sent);
    count_messages(series, request->n_messages_received, request->n_messages_sent);
}

void http_metrics_messages(struct http_metrics *metrics, const struct http_metrics_labels *labels,
                           uint64_t n_received, uint64_t n_sent, uint64_t now_ns) {
    count_messages(get(metrics, labels, now_ns), n_received, n_sent);
}

uint64_t http_metrics_head_size(const struct http_head *head) {
    enum {
        REQUEST_LINE = sizeof("  HTTP/1.1\r\n") - 1, // without method and target
        STATUS_LINE = sizeof("HTTP/1.1 200 \r\n") - 1, // without a phrase
        HOST = sizeof("host: \r\n") - 1,
        FIELD = sizeof(": \r\n") - 1,
        END = 2,
    };
    uint64_t size = END;
    if (head->status != 0) {
        size += STATUS_LINE;
    } else {
        size += REQUEST_LINE + head->method.len + head->path.len;
        size += head->authority.len > 0 ? HOST + head->authority.len : 0;
    }
    for (size_t i = 0; i < head->n_fields; i++) {
        size += head->fields[i].name.len + head->fields[i].value.len + FIELD;
    }
    return size;
}
