// SPDX-License-Identifier: Apache-2.0
//
// HTTP/2 connection core (RFC 9113), client and server, sans-I/O.
//
//   h2_conn_recv(c, ...)   consumes decrypted bytes
//   h2_conn_next(c, &ev)   hands out what they meant, one event at a time
//   h2_conn_pull(c, ...)   emits frames to send
//   h2_conn_deadline(c)    says when h2_conn_tick(c, now) is due
//
// No callbacks, fds, clock, randomness or logging. Same input, same output, however it is cut.
// Order of use: after every recv, call next until it returns false, then pull while
// h2_conn_wants_write(). Time is monotonic nanoseconds, passed in.
//
// Flow control. Sending: h2_stream_send_data queues on the stream and leaves when both windows
// allow. Receiving: connection credit returns by itself when bytes arrive (a stalled stream never
// freezes the others); stream credit returns only when the consumer says that the bytes left the
// other side (h2_stream_consumed). A stream's window starts at config.stream_window and is grown by
// h2_conn up to config.stream_window_max while the consumer keeps up, growth is allowed, and all
// streams together have less than H2_GROWTH_MAX above config.stream_window.
// Received bytes that wait unconsumed are capped by config.parked_max for the whole connection;
// beyond it, h2_conn resets the stream with most of them (event RESET with H2_LOCAL_PARKED).
//
// Ownership: the connection owns its streams. A stream pointer is valid until the event
// H2_EV_CLOSED for it was taken from h2_conn_next, or h2_conn_free. `user` fields are the caller's.
#pragma once

#include "common/base/chain.h"
#include "common/base/slice.h"
#include "common/proto/http_msg.h"

enum { H2_GROWTH_MAX = 16 << 20 };

// Wire error codes (RFC 9113 section 7) and our own reasons; table in h2_err.def:
// H2_ERR(name, wire code, metric label, text).
enum h2_err {
#define H2_ERR(name, code, label, text) H2_##name,
#include "common/proto/h2_err.def"
#undef H2_ERR
};

uint32_t h2_err_code(enum h2_err err); // wire code
const char *h2_err_label(enum h2_err err); // for metrics and logs
const char *h2_err_text(enum h2_err err); // a sentence
enum h2_err h2_err_from_code(uint32_t wire_code); // the peer's codes

// Received bytes that were not consumed, of several connections of one thread together.
struct h2_parked {
    uint64_t n_bytes;
    uint64_t max; // windows grow while a part of this is left; 0 = no cap
};

// Defaults: h2_config_init(). All sizes in bytes.
struct h2_config {
    uint32_t stream_window; // SETTINGS_INITIAL_WINDOW_SIZE we announce (256 KiB)
    uint32_t stream_window_max; // growth limit (4 MiB)
    // Client: a stream begins with more than stream_window, up to half of what is left of this
    // while the windows of all streams together exceed stream_window by less (HBONE: 8 MiB; 0 =
    // never). See docs/decisions/017.
    uint32_t early_window;
    uint32_t conn_window; // receive window of the connection (16 MiB)
    uint32_t max_frame_size; // SETTINGS_MAX_FRAME_SIZE we announce (1 MiB for HBONE, 16 KiB else)
    uint32_t max_header_list; // decoded header block, both announced and enforced
    uint32_t max_streams; // peer-initiated concurrent streams (server)
    uint32_t max_streams_local; // ours, further limited by the peer's SETTINGS (client)
    uint32_t header_table_size; // HPACK decoder table: 0 for HBONE, 4096 else
    uint32_t send_frame_max; // largest DATA payload we send (BLK_DATA_MAX)
    uint32_t send_queue_max; // bytes queued per stream before h2_stream_can_send() says no
    // Received bytes not consumed, all streams together; 0 = as much as the windows of as many
    // streams as may be open allow, so that only streams which ended before can exceed it.
    uint32_t parked_max;
    // The connection's share of its thread's; NULL = not counted; else it outlives the connection.
    // Whoever feeds the connections calls h2_conn_shed on one of them when there are too many.
    struct h2_parked *parked_all;
    uint64_t ping_idle_ns; // PING after this long without input (10 s); 0 = never
    uint64_t ping_timeout_ns; // to answer it (20 s), then event CONN_ERROR with H2_PING_TIMEOUT
    bool enable_connect_protocol; // server: SETTINGS_ENABLE_CONNECT_PROTOCOL = 1 (RFC 8441)
    struct h2_guard_limits { // budgets against floods; 0 = default, see h2_guard.h
        uint32_t resets, pings, settings, empty_frames, continuations, glitches;
    } guard;
};

// The profile of HBONE tunnels.
void h2_config_init(struct h2_config *config, bool is_server);
// The profile of ordinary HTTP: 16 KiB frames, a decoder table of 4096, extended CONNECT (server).
void h2_config_init_http(struct h2_config *config, bool is_server);

// Fields are struct http_field; for requests the pseudo fields come first. Their slices are
// borrowed for the call (send) or until the next h2_conn_next/recv (events).

enum h2_event_type {
    H2_EV_HEADERS, // request (server) or final response (client) head
    H2_EV_INFORMATIONAL, // client: 1xx head
    H2_EV_DATA, // payload, borrowed: blk[off, off+len); ref the block to keep it
    H2_EV_TRAILERS,
    H2_EV_END, // the peer's side is finished (END_STREAM); after HEADERS, DATA or TRAILERS
    H2_EV_RESET, // stream ended abnormally: by the peer (`from_peer`) or by us for its error
    H2_EV_PROGRESS, // `len` queued bytes were pulled (only with h2_stream_report_progress)
    H2_EV_WRITABLE, // send queue fell below half of send_queue_max after having been full
    H2_EV_SENT, // all queued bytes of a stream, and END_STREAM, have been pulled
    // Both sides done, and all received payload consumed (or the stream was reset): the stream
    // pointer dies with the next recv, next, pull or tick.
    H2_EV_CLOSED,
    H2_EV_SETTINGS, // peer settings arrived or changed (first: connection usable)
    H2_EV_GOAWAY, // peer will take no new streams; streams above last_id end with RESET/H2_REFUSED
    H2_EV_PING_ACK, // answer to h2_conn_ping
    H2_EV_CONN_ERROR, // connection is dead: GOAWAY is queued, pull once more, then close
};

struct h2_stream;

struct h2_event {
    enum h2_event_type type;
    struct h2_stream *stream; // NULL for connection events
    const struct http_field *fields; // HEADERS, INFORMATIONAL, TRAILERS
    size_t n_fields;
    struct blk *blk; // DATA
    uint32_t off, len; // DATA; PROGRESS: len
    enum h2_err err; // RESET, CONN_ERROR, GOAWAY
    bool from_peer;
    bool is_clean; // RESET: peer's NO_ERROR after a complete response
    bool end_stream; // HEADERS, DATA, TRAILERS: an END event follows at once
    uint32_t last_id; // GOAWAY
    uint64_t opaque; // PING_ACK
    uint64_t rtt_ns;
};

struct h2_conn;

// Never NULL. The preface and SETTINGS are queued at once.
struct h2_conn *h2_conn_new(const struct h2_config *config, bool is_server, struct blk_pool *pool,
                            uint64_t now);
void h2_conn_free(struct h2_conn *conn); // NULL ok; streams die with it, without events

// Consumes bytes of blk[off, off+len); DATA events point into blk. May stop early when its event
// queue is full: *ret_used tells how much was taken; call next until false, then again with the
// rest. Bytes after a connection error are swallowed.
void h2_conn_recv(struct h2_conn *conn, struct blk *blk, uint32_t off, uint32_t len, uint64_t now,
                  uint32_t *ret_used);
MUST_USE bool h2_conn_next(struct h2_conn *conn, struct h2_event *ret_event);
// pull, tick and the calls on streams make events too (SENT, WRITABLE, CLOSED, CONN_ERROR).
bool h2_conn_has_events(const struct h2_conn *conn);

// Appends frames to `out`, about `budget` bytes (one frame more at most). DATA payload is moved,
// not copied: the 9-byte header goes into the segment's headroom where it has some, so that header
// + payload is one segment with at least 5 bytes of headroom and 17 of tailroom left. Small pieces
// (< 512 bytes) may be copied together with control frames into one segment. Returns the bytes
// appended.
size_t h2_conn_pull(struct h2_conn *conn, struct chain *out, size_t budget);
// A flush is due: pull, then next. Also true while only events of streams wait (one that
// h2_stream_consumed or h2_stream_reset completed), when pull has nothing.
bool h2_conn_wants_write(const struct h2_conn *conn);

uint64_t h2_conn_deadline(const struct h2_conn *conn); // TIME_NEVER when none
void h2_conn_tick(struct h2_conn *conn, uint64_t now);

// Connection level actions.
void h2_conn_goaway_start(struct h2_conn *conn, uint64_t now); // 2^31-1 and a PING; the final
// GOAWAY follows by itself when the PING is answered (or at h2_conn_tick 1 s later)
void h2_conn_goaway(struct h2_conn *conn, enum h2_err err); // final, at once
void h2_conn_ping(struct h2_conn *conn, uint64_t opaque, uint64_t now);
void h2_conn_allow_growth(struct h2_conn *conn, bool is_allowed); // memory pressure switch
bool h2_conn_is_dead(const struct h2_conn *conn); // CONN_ERROR happened
bool h2_conn_is_draining(const struct h2_conn *conn); // GOAWAY sent or received
// Between the two GOAWAYs of h2_conn_goaway_start: streams of the peer may still be on their way.
bool h2_conn_goaway_is_open(const struct h2_conn *conn);
bool h2_conn_has_settings(const struct h2_conn *conn);
bool h2_conn_peer_connect_protocol(const struct h2_conn *conn); // RFC 8441 announced by the server
uint32_t h2_conn_n_streams(const struct h2_conn *conn); // open, both sides
uint32_t h2_conn_n_free_streams(
    const struct h2_conn *conn); // client: how many more may be opened now
size_t h2_conn_queued(const struct h2_conn *conn); // bytes waiting to be pulled (all streams)
// Resets the stream for which most received bytes wait (event RESET with H2_LOCAL_PARKED). False:
// none waits.
bool h2_conn_shed(struct h2_conn *conn);
// Its streams have no consumers any more: it does not count for config.parked_all from now on.
void h2_conn_uncount(struct h2_conn *conn);
size_t h2_conn_parked(const struct h2_conn *conn); // received and not consumed (all streams)
size_t h2_conn_memory(const struct h2_conn *conn); // own heap bytes, for tests and caps

// Hand-over to a successor process (same machine: times are CLOCK_MONOTONIC). Export is possible
// after every event was taken, for connections that announced header_table_size 0, except within a
// header block; false: not now, or `out` is full. What is queued goes along as bytes; received
// bytes are their consumer's to hand over. The exported object is only good for h2_conn_free after
// it. Import: NULL when malformed; `user` fields are NULL, h2_conn_stream finds the streams by id.
struct buf;
MUST_USE bool h2_conn_export(struct h2_conn *conn, struct buf *out);
MUST_USE struct h2_conn *h2_conn_import(struct slice bytes, struct blk_pool *pool);
struct h2_stream *h2_conn_stream(struct h2_conn *conn, uint32_t id); // NULL: none

// Streams.
// Client: opens a stream. NULL with *ret_err when the peer's limit, a GOAWAY or the id space
// forbids.
struct h2_stream *h2_stream_open(struct h2_conn *conn, const struct http_field *fields,
                                 size_t n_fields, bool end_stream, void *user,
                                 enum h2_err *ret_err);
// Server: response head (1xx may repeat); either side: trailers (always end the stream).
void h2_stream_send_headers(struct h2_stream *stream, const struct http_field *fields,
                            size_t n_fields, bool end_stream);
void h2_stream_send_trailers(struct h2_stream *stream, const struct http_field *fields,
                             size_t n_fields);
// Moves all of `data` (may be empty) into the send queue. end_stream: nothing more will come.
void h2_stream_send_data(struct h2_stream *stream, struct chain *data, bool end_stream);
// Ends the stream at once: queued bytes are dropped, RST_STREAM is queued. The stream's CLOSED
// event follows; no RESET event. Harmless when it is closed already.
void h2_stream_reset(struct h2_stream *stream, enum h2_err err);
// Likewise, for a fault of the peer's that only the caller could see: it costs what a stream error
// costs, and too many of them end the connection.
void h2_stream_reject(struct h2_stream *stream, enum h2_err err);
// n bytes of received payload left the other side: returns their stream credit.
void h2_stream_consumed(struct h2_stream *stream, size_t n);
bool h2_stream_can_send(const struct h2_stream *stream); // queue below send_queue_max
size_t h2_stream_queued(const struct h2_stream *stream); // bytes not pulled yet
// From now on PROGRESS events tell of bytes that were pulled.
void h2_stream_report_progress(struct h2_stream *stream);
void h2_stream_to_cold(struct h2_stream *stream); // queued hot blocks become cold copies (blk.h)
MUST_USE bool h2_stream_cool(struct h2_stream *stream); // chain_cool of what is queued
bool h2_stream_recv_ended(const struct h2_stream *stream); // END_STREAM was received
bool h2_stream_send_ended(const struct h2_stream *stream);
uint32_t h2_stream_id(const struct h2_stream *stream);
void *h2_stream_user(const struct h2_stream *stream);
void h2_stream_set_user(struct h2_stream *stream, void *user);
