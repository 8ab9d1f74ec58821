// SPDX-License-Identifier: Apache-2.0
//
// The access log of HTTP: a line for each request, in the format that flags or MeshConfig ask for
// (l7_log_format.h), to the log's output. While it is off, requests that failed here are told by
// the ordinary log, so many a second.
//
// Thread: the worker's; a struct http_log is one worker's.
#pragma once

#include "common/base/addr.h"
#include "common/l7/l7_log_format.h"

enum {
    HTTP_LOG_FAILURES = 10, // lines a second about failures
};

// What is known of a request at its end. Zero or empty: nothing is. Borrowed for the call.
struct http_log_record {
    uint64_t start_ns; // wall clock
    uint64_t duration_ns;
    uint64_t response_ns; // from the start to the response's head; 0 = none came
    const struct http_head *request; // as it went on; NULL: it was none
    const struct http_head *response; // as it was sent; NULL: only what stands here is known
    uint8_t version; // enum http_version
    uint16_t status; // 0: no response was sent
    uint32_t flags; // enum l7_flag
    struct slice details, termination_details, transport_failure;
    uint64_t n_received, n_sent; // bytes of bodies
    uint64_t n_head_received, n_head_sent; // of heads, see http_metrics_head_size
    uint64_t service_time_ms; // of the upstream
    bool has_service_time;
    int grpc_status; // -1 = none
    uint32_t n_tries;
    uint64_t connection_id;
    const struct addr *upstream_host, *upstream_local; // NULL or not set: unknown
    const struct addr *downstream_local, *downstream_remote;
    struct slice cluster, route, service;
    struct slice peer_id, own_id; // SPIFFE ids of the client and of ours
    struct slice hostname; // of the waypoint's pod
};

// Appends a time as START_TIME does; "" = RFC 3339 with milliseconds. UTC.
void http_log_time(uint64_t wall_ns, struct slice format, struct buf *out);

struct http_log_vars { // storage for the fields of a response that was not kept
    const struct http_log_record *record;
    struct http_head response;
    struct http_field service_time;
    char text[24];
};
// Values of %VARIABLES% from the record; `storage` is borrowed too.
struct l7_vars http_log_vars(const struct http_log_record *record, struct http_log_vars *storage);

// From flags, or else from MeshConfig.
struct http_log_settings {
    bool is_on;
    enum l7_log_encoding encoding;
    const char *format; // "" = the default one
};

struct http_log {
    struct l7_log_format *format; // NULL: off
    enum l7_log_encoding encoding;
    char *text; // of `format`
    struct buf line;
    uint64_t failures_since_ns; // start of the second
    uint32_t n_failures; // told in it
    uint64_t n_untold; // not told since the last that was
};

void http_log_init(struct http_log *log); // off
void http_log_fini(struct http_log *log);
// False: the format is wrong, ret_error (appended to) says why, and the default one of that
// encoding is used. Cheap when nothing changed.
bool http_log_set(struct http_log *log, const struct http_log_settings *settings,
                  struct buf *ret_error);
static inline bool http_log_is_on(const struct http_log *log) {
    return log->format != NULL;
}
// The response's head has to be kept for the record.
static inline bool http_log_wants_response(const struct http_log *log) {
    return log->format != NULL && l7_log_format_wants_response(log->format);
}
void http_log_write(struct http_log *log, const struct http_log_record *record);
// The ordinary log's line about a request that failed here. `now_ns`: monotonic.
void http_log_failure(struct http_log *log, const struct http_log_record *record, uint64_t now_ns);
