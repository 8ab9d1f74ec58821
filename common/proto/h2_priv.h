// SPDX-License-Identifier: Apache-2.0
//
// Inside of the HTTP/2 connection core; for h2_*.c and their tests only.
//
//   h2_conn.c    life, deadlines, events, the public calls that belong to the connection
//   h2_recv.c    frames as they arrive: cutting, dispatch, DATA, header blocks
//   h2_ctrl.c    frames about the connection: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM
//   h2_stream.c  table and states of streams, their endings, the public calls on streams
//   h2_flow.c    windows of both directions, credit, growth, the cap on parked bytes
//   h2_out.c     what leaves: control frames, header blocks, DATA in turns
//   h2_export.c  hand-over to a successor process
#pragma once

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/proto/h2_block.h"
#include "common/proto/h2_conn.h"
#include "common/proto/h2_frame.h"
#include "common/proto/h2_guard.h"
#include "common/proto/h2_hpack.h"
#include "common/proto/h2_rules.h"

// RFC 9113 5.1. Idle streams have no object; reserved ones do not exist without push.
enum h2_state {
    H2_STATE_OPEN,
    H2_STATE_HALF_LOCAL, // we sent END_STREAM
    H2_STATE_HALF_REMOTE, // the peer did
    H2_STATE_CLOSED,
};

// Events of a stream that wait to be taken, handed out from the lowest bit on.
enum {
    H2_PEND_END = 1 << 0,
    H2_PEND_RESET = 1 << 1,
    H2_PEND_PROGRESS = 1 << 2,
    H2_PEND_WRITABLE = 1 << 3,
    H2_PEND_SENT = 1 << 4,
    H2_PEND_CLOSED = 1 << 5,
};

// Events of the connection that wait.
enum {
    H2_PEND_CONN_SETTINGS = 1 << 0,
    H2_PEND_CONN_GOAWAY = 1 << 1,
    H2_PEND_CONN_PING_ACK = 1 << 2,
    H2_PEND_CONN_ERROR = 1 << 3,
};

// An encoded header block that waits behind DATA.
struct h2_trailers {
    size_t len;
    uint8_t bytes[];
};

struct h2_stream {
    struct h2_conn *conn;
    struct h2_stream *next; // in the hash bucket, or the free list
    struct list send_node; // in conn->sendable or conn->blocked
    struct list event_node; // in conn->ready
    struct chain queue; // DATA not pulled yet
    struct h2_trailers *trailers;
    void *user;
    uint64_t credited_at; // when stream credit last went out
    int64_t body_left; // of what Content-Length announced of the peer's message; -1: no such word
    uint32_t id;
    int32_t send_window; // negative after the peer shrank its initial window
    int32_t recv_window; // what the peer may still send
    uint32_t recv_target; // window size that we keep up; grows
    uint32_t parked; // payload handed out and not consumed
    uint32_t credit; // consumed and not yet announced
    uint32_t pulled; // since the last PROGRESS
    uint8_t state; // enum h2_state
    uint8_t pending; // H2_PEND_*
    uint8_t reset_err; // of the RESET event
    bool is_local : 1; // we opened it
    bool is_connect : 1; // plain CONNECT: nothing but DATA after the heads
    bool is_tunnel_request : 1; // client: CONNECT of either kind
    bool is_head_request : 1; // client
    bool has_recv_head : 1; // final head received (client), request (server)
    bool has_sent_head : 1; // final head queued
    bool has_end_queued : 1; // END_STREAM follows the queue
    bool was_full : 1;
    bool reports_progress : 1;
    bool reset_from_peer : 1;
    bool reset_is_clean : 1;
};

enum h2_rx_state {
    H2_RX_PREFACE,
    H2_RX_HEADER, // the 9 bytes
    H2_RX_PREFIX, // pad length and priority
    H2_RX_FIXED, // a unit of a control frame
    H2_RX_DATA,
    H2_RX_BLOCK,
    H2_RX_SKIP, // padding, unknown frames, payload of streams that are gone
};

struct h2_rx {
    struct h2_frame_hd frame;
    uint32_t left; // payload bytes of the frame still to come, padding included
    uint32_t pad; // of which padding, at the end
    uint8_t state; // enum h2_rx_state
    uint8_t have; // bytes in buf
    bool seen_first; // the first frame must be SETTINGS
    bool has_init_window; // in this SETTINGS frame
    uint32_t init_window;
    uint8_t buf[16]; // a unit cut by the end of the input
};

enum { H2_N_CLOSED_IDS = 16 };

// The last closed streams, to tell a late frame from a wrong one.
struct h2_closed_ids {
    uint32_t ids[H2_N_CLOSED_IDS]; // top bit: we reset it, so its frames may still be under way
    uint32_t n; // ever
};

enum h2_goaway_step { H2_GOAWAY_NONE, H2_GOAWAY_ANNOUNCED, H2_GOAWAY_FINAL };

struct h2_peer {
    uint32_t max_frame_size, max_streams, max_header_list;
    int32_t init_window;
    uint32_t header_table_size;
    bool has_settings, connect_protocol;
};

struct h2_conn {
    struct h2_config config;
    struct blk_pool *pool;
    uint64_t now;
    bool is_server, is_dead, may_grow, is_acked;

    struct blk *in; // input that is being read; holds a reference
    uint32_t in_off, in_end;
    struct h2_rx rx;
    struct h2_block *block;
    struct h2_hpack_dec dec;
    struct h2_guard guard;

    struct h2_stream **buckets; // n_buckets is a power of two, or 0
    uint32_t n_buckets, n_objects;
    struct h2_stream *cached; // last one found
    struct h2_stream *reap; // CLOSED was handed out: freed with the next call
    struct h2_stream *free_streams;
    uint32_t n_free;
    uint32_t n_open_local, n_open_peer;
    uint32_t next_id;
    uint32_t last_peer_id; // highest that we accepted or refused
    uint32_t highest_peer_id; // likewise, with those ignored after our GOAWAY
    uint32_t goaway_last_id; // announced by us: peer streams above it are ignored
    struct h2_closed_ids closed;

    struct h2_peer peer;
    int32_t send_window, recv_window;
    uint32_t recv_credit; // arrived and not yet announced
    int32_t recv_init; // recv_window of new streams
    size_t parked, queued;

    struct chain ctrl; // control frames and heads, in order
    struct list sendable; // streams with something to send, in turns
    struct list blocked; // wait for the connection's window
    uint32_t n_answers; // in ctrl, provoked by the peer
    bool needs_size_update; // the next header block on the wire begins with one

    struct list ready; // streams with pending events
    uint8_t pending; // H2_PEND_CONN_*
    uint8_t conn_err; // enum h2_err
    uint8_t goaway_err;
    uint32_t goaway_id; // received; INT32_MAX until then
    bool has_goaway;

    uint8_t goaway_step; // enum h2_goaway_step, ours
    uint64_t goaway_at; // final GOAWAY at the latest
    uint64_t last_input;
    uint64_t idle_ping_at; // sent and not answered; TIME_NEVER = none
    uint64_t user_ping_at; // likewise, of h2_conn_ping
    uint64_t user_ping, ping_ack_opaque, ping_ack_rtt;
    uint64_t settings_at; // our SETTINGS queued
    uint64_t rtt_ns; // 0 = unknown
};

// h2_conn.c
void h2_conn_fail(struct h2_conn *conn, enum h2_err err); // connection error: GOAWAY, dead
void h2_conn_pend(struct h2_conn *conn, uint8_t event);
void h2_conn_rtt_sample(struct h2_conn *conn, uint64_t rtt_ns);
void h2_conn_goaway_final(struct h2_conn *conn, enum h2_err err);
// Takes a token; fails the connection when there is none left.
MUST_USE bool h2_conn_guard(struct h2_conn *conn, enum h2_guard_kind kind);
enum { H2_PING_KIND_IDLE = 1, H2_PING_KIND_GOAWAY = 2 };
uint64_t h2_ping_opaque(unsigned kind); // of our own PINGs

// h2_recv.c: reads on until an event is there (true) or the input is used up.
MUST_USE bool h2_recv_step(struct h2_conn *conn, struct h2_event *ret_event);

// h2_ctrl.c
void h2_ctrl_unit(struct h2_conn *conn, const uint8_t *unit); // one unit of a control frame
enum h2_err h2_ctrl_begin(struct h2_conn *conn, const struct h2_frame_hd *frame);
uint32_t h2_ctrl_unit_len(uint8_t type); // 0: not a frame of this kind
void h2_ctrl_end(struct h2_conn *conn); // a SETTINGS frame is complete

// h2_stream.c
struct h2_stream *h2_stream_find(struct h2_conn *conn, uint32_t id); // NULL also when closed
struct h2_stream *h2_stream_object(struct h2_conn *conn, uint32_t id); // also when closed
struct h2_stream *h2_stream_new(struct h2_conn *conn, uint32_t id, bool is_local);
void h2_stream_reap(struct h2_conn *conn); // frees the one whose CLOSED was taken
void h2_stream_free_all(struct h2_conn *conn);
void h2_stream_imported(struct h2_stream *stream); // its fields are set: counts and schedules it
void h2_stream_pend(struct h2_stream *stream, uint8_t event);
void h2_stream_on_recv_end(struct h2_stream *stream); // END_STREAM arrived
void h2_stream_on_send_end(struct h2_stream *stream); // END_STREAM left
void h2_stream_on_peer_reset(struct h2_stream *stream, enum h2_err err);
// Our stream error: RST_STREAM, events RESET and CLOSED.
void h2_stream_fail(struct h2_stream *stream, enum h2_err err);
// Ends it without a frame, events RESET (from the peer) and CLOSED: above a received GOAWAY.
void h2_stream_refused(struct h2_stream *stream);
// Our stream error for an id without object.
void h2_stream_refuse_id(struct h2_conn *conn, uint32_t id, enum h2_err err);
void h2_stream_each(struct h2_conn *conn, void (*fn)(struct h2_stream *stream, void *arg),
                    void *arg);
enum h2_late { H2_LATE_IGNORE, H2_LATE_CLOSED, H2_LATE_UNUSED };
// What a frame for a stream without object means, id being at most the highest one used.
enum h2_late h2_stream_late(const struct h2_conn *conn, uint32_t id);
bool h2_stream_id_is_idle(const struct h2_conn *conn, uint32_t id);
bool h2_stream_id_is_local(const struct h2_conn *conn, uint32_t id);

// h2_flow.c
void h2_flow_init(struct h2_conn *conn);
enum h2_err h2_flow_on_conn_update(struct h2_conn *conn, uint32_t increment);
enum h2_err h2_flow_on_stream_update(struct h2_stream *stream, uint32_t increment);
enum h2_err h2_flow_on_peer_init_window(struct h2_conn *conn, uint32_t window);
void h2_flow_on_settings_ack(struct h2_conn *conn);
void h2_flow_on_open(struct h2_stream *stream); // a stream of ours: a larger window at once
void h2_flow_conn_received(struct h2_conn *conn, uint32_t len); // returns it at once
void h2_flow_parked(struct h2_stream *stream, uint32_t len); // may reset a stream
void h2_flow_unpark(struct h2_stream *stream, size_t len);
void h2_flow_credit(struct h2_stream *stream, size_t len);

// h2_out.c
void h2_out_frame(struct h2_conn *conn, enum h2_frame_type type, uint8_t flags, uint32_t id,
                  struct slice payload);
// Like h2_out_frame, for what the peer provoked: capped until it is pulled.
void h2_out_answer(struct h2_conn *conn, enum h2_frame_type type, uint8_t flags, uint32_t id,
                   struct slice payload);
void h2_out_rst(struct h2_conn *conn, uint32_t id, enum h2_err err, bool is_provoked);
void h2_out_window_update(struct h2_conn *conn, uint32_t id, uint32_t increment);
void h2_out_head(struct h2_conn *conn, uint32_t id, const struct http_field *fields,
                 size_t n_fields, bool end_stream);
struct h2_trailers *h2_out_encode(const struct http_field *fields, size_t n_fields);
void h2_out_schedule(struct h2_stream *stream); // puts it into the right list, or takes it out
void h2_out_unblock(struct h2_conn *conn); // the connection's window opened
