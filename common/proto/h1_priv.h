// SPDX-License-Identifier: Apache-2.0
//
// Shared by h1_conn.c (input, events) and h1_conn_out.c (output, endings).
#pragma once

#include "common/proto/h1_body.h"
#include "common/proto/h1_conn.h"

enum h1_rx {
    H1_RX_IDLE, // client without a request: any byte is one too many
    H1_RX_HEAD,
    H1_RX_BODY,
    H1_RX_DISCARD, // server: the response ended first
    H1_RX_HOLD, // the message is complete; what comes now belongs to the next one
    H1_RX_UPGRADE, // server: a request to switch protocols waits for its answer
    H1_RX_TUNNEL,
    H1_RX_DEAD, // nothing is read any more
};

enum h1_tx {
    H1_TX_HEAD, // no (final) head yet
    H1_TX_HELD, // client: the answer to Upgrade is not known, data waits in `held`
    H1_TX_BODY,
    H1_TX_TUNNEL,
    H1_TX_DONE, // all of the message is queued
};

// Events that are due, in the order in which they are handed out.
enum {
    H1_PEND_END = 1,
    H1_PEND_ERROR = 2,
    H1_PEND_WRITABLE = 4,
    H1_PEND_SENT = 8,
    H1_PEND_CLOSED = 16,
};

struct h1_conn {
    struct h1_config config;
    struct blk_pool *pool;
    void *user;
    struct chain in, out, held;
    struct h1_head head;
    struct h1_body body;
    struct h1_body_out body_out;
    struct blk *lent; // of the last DATA event
    uint64_t parked, n_discarded;
    uint32_t n_informational;
    uint8_t rx, tx, pending;
    uint8_t err; // of H1_PEND_ERROR
    uint8_t version; // of the request (server)
    bool err_is_ours;
    bool is_server;
    bool has_exchange;
    bool recv_ended;
    bool is_head_request, asked_upgrade;
    bool peer_keeps_alive, awaits_continue;
    bool lent_head; // with the last event
    bool held_has_end;
    bool told_sent;
    bool is_full;
    bool got_eof, eof_is_clean, eof_is_done;
    bool is_last; // no exchange after this one
    bool is_draining, is_cut, is_tunnel;
};

void h1_pend(struct h1_conn *conn, uint8_t event);
void h1_check_closed(struct h1_conn *conn);
// The peer's message is over, one way or the other; END is not implied.
void h1_recv_end(struct h1_conn *conn, enum h1_rx rx);
// The input cannot be read any further.
void h1_fail(struct h1_conn *conn, enum http_err err);
void h1_begin(struct h1_conn *conn); // an exchange
void h1_discard(struct h1_conn *conn); // the response ended, the request did not
void h1_tunnel(struct h1_conn *conn); // 101 was sent or received
void h1_end_send(struct h1_conn *conn); // our message is complete
void h1_abort_send(struct h1_conn *conn); // what is not sent yet is not sent at all
