// SPDX-License-Identifier: Apache-2.0
//
// An exchange: one request of a client and its answer, from the head to the access log line.
//
//   HEAD        the request's head is judged: route, fault, CORS, redirect, direct response
//   DELAY       a fault's delay runs
//   TRY         a try at a host: it waits for a connection, or for the response's head
//   BACKOFF     the last try failed; the next one comes when the timer fires
//   RESPONSE    the response's head has gone to the client: nothing is tried again
//   (gone)      the response is complete, or the client is gone: reported and freed
//
// Both bodies are streamed; each side's credit returns when the other can take more. What a further
// try would need of the request is kept, up to EXCHANGE_KEEP_MAX.
//
//   exchange.c           life, the client's side, the bodies
//   exchange_request.c   what is done with a request (head to first try)
//   exchange_try.c       tries, retries, time-outs
//   exchange_reply.c     responses: those passed on, and our own
//   websocket.c          handshakes of WebSockets between versions of HTTP
//   mirror.c             copies of the request to other services
//   exchange_report.c    the access log and the metrics
//
// Thread: the worker's.
#pragma once

#include "common/l7/l7_fault.h"
#include "common/l7/l7_fields.h"
#include "common/l7/l7_reply.h"
#include "common/l7/l7_retry.h"
#include "common/l7/l7_rewrite.h"
#include "common/l7/l7_routes.h"
#include "waypoint/dynamic.h"
#include "waypoint/exchange_report.h"
#include "waypoint/http_worker.h"
#include "waypoint/upstream.h"
#include "waypoint/websocket.h"

struct http_down;
struct mirror;

enum {
    EXCHANGE_ARENA_MAX = 256 * 1024, // heads, and what is derived from them
    EXCHANGE_KEEP_MAX = 1024 * 1024, // of a request's body, for another try
    EXCHANGE_TRIED_MAX = 16, // hosts that a retry avoids
    EXCHANGE_REPLAYS_MAX = 2,
};

enum exchange_state {
    EXCHANGE_HEAD,
    EXCHANGE_DELAY,
    EXCHANGE_TRY,
    EXCHANGE_BACKOFF,
    EXCHANGE_RESPONSE,
};

struct exchange {
    struct http_stream down; // the client's stream
    struct http_down *conn; // its connection: lives longer
    struct http_worker *http;
    struct list node; // conn->exchanges
    struct arena arena;
    uint8_t state; // enum exchange_state
    uint64_t started_ns, first_byte_ns; // monotonic; first_byte_ns: of the response, 0 = none yet

    // The request as it came, and as it goes on.
    struct http_head received, request;
    struct l7_fields fields; // of `request`
    bool is_grpc, is_upgrade;

    // Decisions.
    struct leaf *routes; // referenced; NULL = the default route
    const struct l7_route *route; // NULL: none matched
    struct l7_match match;
    struct l7_request matched; // what was matched: `request` and the service's port
    const struct l7_cluster *cluster; // of the route; NULL: not forwarded
    struct upstream_view *view; // referenced
    struct l7_retry retry;
    struct l7_fault_draw fault;
    bool is_cors; // the response gets the CORS headers of the route
    struct slice set_cookie; // of hash load balancing

    // The try that runs.
    struct http_stream up;
    struct dns_cache_query query; // of a host that the request names
    struct upstream_request wait;
    const struct l7_host *host; // counted in its cell
    const struct l7_host_cell *tried[EXCHANGE_TRIED_MAX];
    uint32_t n_tried, n_tries;
    uint64_t try_started_ns;
    bool has_request_slot, has_retry_slot; // limits of the cluster that are taken
    bool has_sent_head; // of this try
    bool is_reused; // its connection has carried others
    uint8_t n_replays; // tries that only made up for a connection that had ended
    bool is_h2_up; // upgrades: the version that the try's connection speaks
    char websocket_key[WEBSOCKET_KEY_LEN]; // between versions, to a server of HTTP/1.1
    struct timer timer; // fault delay, back-off
    struct timer deadline; // of the whole exchange
    struct timer try_deadline;
    uint64_t timeout_ms, try_timeout_ms; // 0 = none
    bool answers_204; // instead of 504

    // The request's body.
    struct chain waiting; // received before there is a stream to send it on
    struct chain kept; // from the start, for another try
    bool keeps; // `kept` is whole so far
    bool request_ended;
    struct http_field *trailers; // of the request; NULL = none
    size_t n_trailers;
    struct list mirrors; // mirror.node

    // The outcome, for the report.
    uint16_t status; // sent to the client; 0: none
    uint32_t flags; // enum l7_flag
    const char *details; // RESPONSE_CODE_DETAILS; static or in the arena
    char *transport_failure; // heap; NULL = none
    uint64_t n_received, n_sent; // bytes of bodies
    int grpc_status; // of a response, -1 = none seen
    struct addr upstream_addr, upstream_via; // of the last try
    struct addr upstream_local; // our end of its connection, where it is known
    struct workload *upstream_workload; // referenced; of the last try
    bool is_local_reply;
    struct exchange_seen seen; // exchange_report.c's
};

// exchange.c
struct exchange *exchange_new(struct http_down *conn); // give conn &exchange->down
// Ends it, whatever its state: streams are cut, it is reported and freed.
void exchange_end(struct exchange *ex);
const struct wconn *exchange_wconn(const struct exchange *ex);
// Sends what waits of the request's body on the try's stream, and the end if it came. The exchange
// may be gone afterwards.
void exchange_send_body(struct exchange *ex);

// exchange_request.c
void exchange_begin(struct exchange *ex, const struct http_head *head, bool end);
// The view of a destination: its service, port and subset. NULL: there is none (NC). The caller's
// reference.
struct upstream_view *exchange_view(const struct exchange *ex, const struct l7_cluster *cluster);
void exchange_after_delay(struct exchange *ex); // the fault's delay is over
void exchange_set_attempt(struct exchange *ex); // the header that counts tries

// exchange_try.c
void exchange_timers_init(struct exchange *ex);
void exchange_start_try(struct exchange *ex); // chooses a host
// Of a service with is_dynamic: the name that is meant: the destination's, where that is a name,
// else the Host as it goes on, else as it came. False: none of them is the service's.
bool exchange_name(const struct exchange *ex, const struct service *service,
                   const struct l7_cluster *cluster, char ret_name[L7_NAME_MAX]);
void exchange_drop_try(struct exchange *ex, enum h2_err code); // gives up the one that runs
void exchange_arm_deadline(struct exchange *ex); // the request is complete: its time runs

// exchange_reply.c
// Our own answer instead of an upstream's (is_grpc and is_retried are filled in). The exchange may
// be gone afterwards.
void exchange_reply(struct exchange *ex, const struct l7_reply_spec *spec);
void exchange_reply_kind(struct exchange *ex, enum l7_reply_kind kind);
// The upstream could not be reached, or broke off before its head. `failure` may be NULL.
void exchange_reply_reset(struct exchange *ex, enum l7_reset reset, const char *failure);
void exchange_reply_preflight(struct exchange *ex, bool is_allowed);
// The upstream's head, to the client.
void exchange_pass_head(struct exchange *ex, const struct http_head *head, bool end);
// grpc-status of a response's head or trailers; `before` when there is none.
int exchange_grpc_status(const struct http_field *fields, size_t n, int before);

// mirror.c
void mirrors_start(struct exchange *ex); // draws, and copies the head
void mirrors_data(struct exchange *ex, struct slice payload, bool end);
void mirrors_trailers(struct exchange *ex);
void mirrors_detach(struct exchange *ex, bool is_complete); // they go on without the exchange

// exchange_report.c
void exchange_report_begin(struct exchange *ex); // is_grpc is known
// The response's head goes to the client, after the route's changes; not for 1xx.
void exchange_report_head(struct exchange *ex, const struct http_head *head);
// Payload came from the client, or goes to it.
void exchange_report_received(struct exchange *ex, struct slice payload);
void exchange_report_sent(struct exchange *ex, struct slice payload);
// Values of %VARIABLES% in header values, as the log has them; borrowed from the exchange and
// `storage`. `response` may be NULL.
struct exchange_vars { // the record is made when a variable is asked for
    const struct exchange *ex;
    const struct http_head *response;
    bool is_made;
    struct http_log_record record;
    struct http_log_vars log;
    struct l7_vars vars;
};
struct l7_vars exchange_vars(const struct exchange *ex, const struct http_head *response,
                             struct exchange_vars *storage);
// The end: metrics, log lines. What the exchange refers to must still be there.
void exchange_report(struct exchange *ex);
// A request that was none: it has no exchange.
void exchange_report_bad_request(struct http_down *conn, enum http_err err);
