// SPDX-License-Identifier: Apache-2.0
//
// What a worker keeps to report its exchanges: series of metrics, the access log, and the streams
// of gRPC, whose messages are counted while they go on. exchange_report() itself, and what the
// exchange calls on the way, is in exchange.h.
//
// Thread: the worker's.
#pragma once

#include "common/proto/spiffe.h"
#include "common/rt/loop.h"
#include "waypoint/http_log.h"
#include "waypoint/http_metrics.h"
#include "waypoint/http_metrics_grpc.h"

struct wworker;

struct exchange_reporter { // of a worker
    struct wworker *worker;
    struct http_metrics metrics;
    struct http_log log;
    struct list streams; // exchange_seen.node
    struct timer timer;
    char own_id[SPIFFE_TEXT_MAX];
};

// What is kept of an exchange for its report; a part of struct exchange.
struct exchange_seen {
    struct list node; // reporter->streams, or alone
    struct http_metrics_grpc received, sent; // messages of gRPC
    uint64_t n_reported_received, n_reported_sent; // of them
    uint64_t n_head_sent;
    uint64_t service_time_ms; // of the upstream
    struct http_head response; // as sent, when the log wants it: in the arena
    bool has_response, has_service_time;
};

void exchange_reporter_open(struct exchange_reporter *reporter, struct wworker *worker);
// A snapshot was published: settings of the log may have changed.
void exchange_reporter_news(struct exchange_reporter *reporter);
void exchange_reporter_close(struct exchange_reporter *reporter); // no exchange is left
