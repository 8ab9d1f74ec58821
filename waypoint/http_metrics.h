// SPDX-License-Identifier: Apache-2.0
//
// istio_* metrics of HTTP, reporter="waypoint". The label values of a request are 25 texts; what
// they come from are a few pointers and numbers, by which each worker keeps the series that it used
// lately, so that a request costs one look-up.
//
// Entries reference the leaves that they were made of. They go when they were not used for a while,
// or when there are too many.
//
// Thread: the worker's; a struct http_metrics is one worker's.
#pragma once

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/mesh/model.h"
#include "common/obs/metrics.h"
#include "common/proto/http_msg.h"

enum {
    HTTP_METRICS_ENTRIES_MAX = 4096, // of a worker
    HTTP_METRICS_IDLE_S = 60, // entries without use
};

struct http_metrics {
    struct hmap entries;
    struct list by_use; // most recently used first
    size_t n;
};

// Who talked to whom, and how it ended. Borrowed for the call.
struct http_metrics_labels {
    struct workload *source, *destination; // NULL: unknown
    struct service *service;
    struct slice source_id; // SPIFFE id of the client; empty: unknown
    uint32_t flags; // enum l7_flag
    uint16_t status;
    int16_t grpc_status; // -1: none
    bool is_grpc;
    bool is_destination_mtls; // the destination has proved its identity
};

struct http_metrics_request {
    struct http_metrics_labels labels;
    uint64_t duration_ns;
    uint64_t n_received, n_sent; // heads and bodies
    uint64_t n_messages_received, n_messages_sent; // gRPC, not counted before
};

void http_metrics_init(struct http_metrics *metrics);
void http_metrics_fini(struct http_metrics *metrics, uint64_t now_ns);

// A request has ended. `now_ns`: monotonic.
void http_metrics_request(struct http_metrics *metrics, const struct http_metrics_request *request,
                          uint64_t now_ns);
// Messages of a stream that goes on.
void http_metrics_messages(struct http_metrics *metrics, const struct http_metrics_labels *labels,
                           uint64_t n_received, uint64_t n_sent, uint64_t now_ns);
// About once a second: lets old entries go, a bounded number.
void http_metrics_tick(struct http_metrics *metrics, uint64_t now_ns);

// Bytes of a head as HTTP/1.1 would write it, of any version: for HTTP/2 that is without HPACK and
// frame headers.
uint64_t http_metrics_head_size(const struct http_head *head);
