// SPDX-License-Identifier: Apache-2.0
//
// The parts of the waypoint's simulator (sim_waypoint.c says what it is for):
//
//   sim_config.c   the mesh: services, routes and policies, drawn from the seed, and their changes
//   sim_client.c   clients: connections with requests, HTTP/1.1 and HTTP/2
//   sim_request.c  the requests, and what must hold of what comes back
//   sim_server.c   endpoints: connections, what is planned for each try, HTTP/1.1
//   sim_server_h2.c  the same of HTTP/2
//   sim_tcp.c      connections that are carried as bytes, both sides of them
//   sim_log.c      the access log of the run
//
// Everything that a side learns of a request is written into its sim_request, where the sides are
// compared.
#pragma once

#include <nghttp2/nghttp2.h>

#include "common/base/rand.h"
#include "tests/unit/waypoint/h1_reader.h"
#include "tests/unit/waypoint/waypoint_bed.h"

enum {
    SIM_REQUESTS_MAX = 48,
    SIM_CLIENTS_MAX = 6,
    SIM_TRIES_MAX = 8, // of a request, as the servers see them
    SIM_HOSTS_MAX = 4, // of each service
    SIM_CONNS_MAX = 64, // of servers, at a time
    SIM_OUT_MAX = 48 * 1024,
    SIM_FLOWS_MAX = 12, // connections as bytes
    SIM_FLOW_PORT = 41000, // of the client, for the first one
};

// ---- bytes on their way out of a peer ----

struct sim_out {
    uint8_t bytes[SIM_OUT_MAX];
    size_t len;
};
static inline size_t sim_out_room(const struct sim_out *out) {
    return SIM_OUT_MAX - out->len;
}
void sim_out_add(struct sim_out *out, const void *bytes, size_t len);
void sim_out_printf(struct sim_out *out, const char *fmt, ...) PRINTF_LIKE(2, 3);

// ---- requests ----

enum sim_route { // by path, see sim_config.c
    SIM_PLAIN, // no VirtualService rule but the default retries
    SIM_NO_RETRY,
    SIM_RETRY, // 5xx, reset; three more tries, time limits
    SIM_TIMEOUT,
    SIM_FAULT,
    SIM_MIRROR,
    SIM_DIRECT,
    SIM_REDIRECT,
    SIM_NOWHERE,
    SIM_N_ROUTES,
};

// What became of a try, as its server knows.
enum sim_outcome {
    SIM_TRY_OPEN, // nothing was said yet
    SIM_TRY_REFUSED, // REFUSED_STREAM, or above the last stream of GOAWAY
    SIM_TRY_LOST, // cut before a response
    SIM_TRY_STATUS, // a response has begun
};

struct sim_request;
struct sim_try {
    struct sim_request *request;
    uint32_t index; // in request->tries
    uint32_t attempt; // as the waypoint counts (x-envoy-attempt-count)
    bool is_mirror;
    uint8_t outcome; // enum sim_outcome
    uint16_t status; // of the response
    uint64_t key;
    size_t len; // of the response
    size_t n_read; // of the request
    bool got_end; // the request was complete
    bool is_early; // it was answered before that
    bool is_tunnel; // an upgrade that was accepted: both say bytes now
    uint32_t n_informational; // heads of 1xx that were said
};

struct sim_request {
    uint32_t id;
    uint8_t route; // enum sim_route
    bool is_head, has_length, has_trailers;
    bool expects; // Expect: 100-continue; the body waits
    // A WebSocket. Its `body` are the bytes that go through it, `ends_first`: and the end.
    bool is_ws, ends_first;
    uint64_t key;
    size_t len; // of the body
    // The client's side.
    size_t n_sent;
    bool is_sent, sent_end;
    bool is_given_up; // by the client itself
    bool is_over; // has_end, or cut
    uint16_t status;
    bool has_head, has_end, may_go; // may_go: 100 has come, or it waited long enough
    uint32_t n_informational;
    int32_t n_try; // of the try that answered; -1: the waypoint
    size_t n_answer, answer_len;
    uint64_t answer_key;
    bool has_answer_len;
    // The servers' side.
    struct sim_try tries[SIM_TRIES_MAX];
    uint32_t n_tries; // primary ones
    struct sim_try mirror;
    uint32_t n_mirrored;
    // The access log's.
    uint32_t n_lines;
    uint16_t logged_status;
    uint64_t logged_len; // of the answer's body
    bool has_reason, was_passed_on; // response flags; the answer was a server's
};

uint8_t sim_byte(uint64_t key, size_t i);
void sim_fill(uint64_t key, size_t at, uint8_t *bytes, size_t len);
void sim_check(uint64_t key, size_t at, const uint8_t *bytes, size_t len);

// ---- the run ----

struct sim_client;
struct sim_server_conn;
enum sim_kind { SIM_WEB, SIM_SHADOW, SIM_BYTES, SIM_N_KINDS }; // of services

// A connection that is carried as bytes. Each side knows its own end of it.
struct sim_flow_end {
    int fd; // -1: none (yet, or any more)
    uint64_t key;
    size_t len; // that it says, after which it ends its direction
    size_t n_sent, n_read;
    size_t cut_at; // it resets when it has sent that much; SIZE_MAX: never
    bool sent_fin, got_fin, is_cut;
};
struct sim_flow {
    uint32_t id;
    bool is_started;
    struct sim_flow_end client, server;
    uint32_t n_servers; // that heard of it
    uint32_t n_lines; // of the access log
    bool has_reason;
};

struct sim_host { // an address of a service
    int listener; // -1: refuses
    bool is_mirror, is_ready;
    struct addr addr;
};

struct sim {
    uint64_t seed;
    struct rand rand;
    struct wbed bed;
    bool has_faults, has_trace;
    bool is_h2_up; // the service's port is declared as HTTP/2
    bool is_draining;
    bool has_moved; // a peer read or wrote in this step
    struct sim_request requests[SIM_REQUESTS_MAX];
    uint32_t n_requests, n_to_start;
    struct sim_client *clients[SIM_CLIENTS_MAX];
    struct sim_host hosts[SIM_N_KINDS][SIM_HOSTS_MAX];
    uint32_t n_hosts[SIM_N_KINDS];
    struct sim_flow flows[SIM_FLOWS_MAX];
    uint32_t n_flows;
    struct sim_greeting { // of a server of bytes: which flow's is not known yet
        int fd; // -1: none
        uint8_t bytes[64];
        size_t n;
    } greetings[SIM_CONNS_MAX];
    struct sim_server_conn *conns[SIM_CONNS_MAX];
    uint32_t n_conns;
    uint32_t n_loads; // of configuration
};
bool sim_chance(struct sim *sim, uint32_t n, uint32_t of);
bool sim_is_bad(struct sim *sim, uint32_t n, uint32_t of); // a fault, in seeds that have them
void sim_tracef(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);

// Sends some of `out`; false: the connection is dead.
bool sim_write(struct sim *sim, int fd, struct sim_out *out);
// Reads up to `cap`: bytes, 0: nothing now, -1: end in order, -2: cut.
ssize_t sim_read(struct sim *sim, int fd, uint8_t *bytes, size_t cap);

// sim_config.c
void sim_config_start(struct sim *sim); // the first configuration
void sim_config_change(struct sim *sim); // something of it

// sim_client.c
void sim_client_start(struct sim *sim);
void sim_client_step(struct sim *sim, struct sim_client *client);
bool sim_client_is_over(const struct sim_client *client);
void sim_client_free(struct sim *sim, struct sim_client *client);

// sim_request.c
struct sim_request *sim_request_new(struct sim *sim, bool can_upgrade);
// What the answer's head says about itself; `field` gives a header's value or NULL.
void sim_request_on_head(struct sim_request *request, uint16_t status, const char *try,
                         const char *key, const char *len);
void sim_request_on_body(struct sim_request *request, const uint8_t *bytes, size_t len);
void sim_request_on_informational(struct sim_request *request, uint16_t status);
void sim_request_on_end(struct sim *sim, struct sim_request *request);
void sim_request_on_cut(struct sim *sim, struct sim_request *request);
// The body waits for a 100, but not for ever.
bool sim_request_may_send_body(struct sim *sim, struct sim_request *request);
bool sim_request_has_tunnel(const struct sim_request *request); // an upgrade was accepted

// sim_server.c
void sim_server_open(struct sim *sim);
void sim_server_step(struct sim *sim);
void sim_server_close(struct sim *sim); // all of them
bool sim_server_is_idle(const struct sim *sim); // no connection

// sim_tcp.c
void sim_tcp_open(struct sim *sim);
void sim_tcp_step(struct sim *sim);
bool sim_tcp_is_over(const struct sim *sim);
void sim_tcp_close(struct sim *sim);
void sim_tcp_check(const struct sim *sim); // after sim_log_read

// sim_log.c
void sim_log_open(void);
void sim_log_read(struct sim *sim); // into the requests
