// SPDX-License-Identifier: Apache-2.0
//
// Shared by sim_server*.c.
#pragma once

#include "tests/sim/waypoint/sim_waypoint.h"

enum sim_act {
    SIM_ANSWER,
    SIM_REFUSE, // HTTP/2: REFUSED_STREAM; HTTP/1: as RESET
    SIM_RESET, // the connection (HTTP/1), the stream
    SIM_HALF_HEAD, // HTTP/1: a part of the head, then the end
    SIM_CUT, // in the body
    SIM_SILENCE, // no answer for as long as the connection lives
    SIM_GARBAGE,
    SIM_GOAWAY, // HTTP/2: with or without this stream
};
enum sim_framing { SIM_LENGTH, SIM_CHUNKED, SIM_TO_THE_END };

// What a server does about a try.
struct sim_plan {
    struct sim_try *try;
    struct sim_server_conn *conn;
    int32_t stream; // HTTP/2
    uint64_t due;
    uint8_t act, framing;
    bool waits_for_end, has_informational, has_trailers, closes, cuts_in_order;
    size_t n_sent, cut_at;
    bool is_begun, sent_head, is_done;
    bool says_continue, said_continue; // 100, when its body is expected
    bool is_short; // a WebSocket's: it ends without waiting for all of the client's bytes
};

struct sim_server_conn {
    struct sim *sim;
    const struct sim_host *host;
    int fd;
    bool is_known, is_h2; // after the first bytes
    bool is_leaving; // nothing more is read or written but the end
    bool resets; // what was said, then a reset
    bool sent_fin, got_end;
    uint8_t start[3];
    size_t n_start;
    struct sim_out out;
    struct sim_plan *plans[SIM_REQUESTS_MAX]; // of tries that run; HTTP/1: one
    uint32_t n_plans;
    struct h1_reader reader;
    struct sim_plan *tunnel; // HTTP/1: whose bytes all are, since 101
    char key[64]; // of the WebSocket
    nghttp2_session *h2;
    uint32_t id, attempt; // of the head that comes (HTTP/2)
    bool is_ws; // :protocol
};

// A request has come, with this x-id and x-envoy-attempt-count.
struct sim_plan *sim_server_plan(struct sim_server_conn *conn, uint32_t id, uint32_t attempt);
void sim_server_took(struct sim_plan *plan, const uint8_t *bytes, size_t len); // of its body
void sim_server_took_end(struct sim_plan *plan);
bool sim_server_is_due(const struct sim_plan *plan);
void sim_server_say(struct sim_plan *plan); // its response begins
bool sim_server_says_continue(struct sim_plan *plan); // 100, now; once
bool sim_server_may_end(const struct sim_plan *plan);
void sim_server_drop(struct sim_plan *plan, enum sim_outcome outcome); // frees it

// sim_server_h2.c
void sim_server_h2_open(struct sim_server_conn *conn);
bool sim_server_h2_read(struct sim_server_conn *conn, const uint8_t *bytes, size_t len);
void sim_server_h2_write(struct sim_server_conn *conn);
bool sim_server_h2_is_over(const struct sim_server_conn *conn);
