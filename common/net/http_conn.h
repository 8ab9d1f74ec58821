// SPDX-License-Identifier: Apache-2.0
//
// An HTTP connection on a duplex (a plain link or a CONNECT stream), client or server, HTTP/1.1
// (h1_conn.h) or HTTP/2 (h2_conn.h), behind one face: streams that carry one request and its
// answer.
//
// Backpressure: the owner sends while http_stream_can_send, and returns credit for received payload
// with http_stream_consumed. HTTP/1 has one stream at a time: without credit its reading pauses.
// Output of a turn leaves in the loop's flush phase as one send.
//
// Lifetime. The connection is embedded in its owner; its memory may be reused after on_closed. A
// stream is embedded in its owner too. It is attached from http_conn_open, or from on_stream, until
// http_stream_release; after on_reset, and once both directions have ended, the connection no
// longer knows it and release does nothing more.
//
// Thread: the worker's.
#pragma once

#include "common/base/list.h"
#include "common/net/duplex.h"
#include "common/proto/h1_conn.h"
#include "common/proto/h2_conn.h"
#include "common/rt/loop.h"

enum {
    HTTP_STREAM_WINDOW = 256 * 1024, // payload received and not consumed before reading pauses
    HTTP_CONN_HIGH = 256 * 1024, // output of a connection above which nothing more is pulled
    HTTP_CONN_LINGER_MS = 1000, // for the peer's end after ours, then nothing more is read; and for
    // a request that crosses with the end of an idle connection
    HTTP_HEAD_MAX = 60 * 1024, // bytes of a head
};

// Why a stream ended before both of its messages were complete.
enum http_reset {
    HTTP_RESET_TERMINATION, // the connection ended
    HTTP_RESET_REMOTE, // the peer reset it
    HTTP_RESET_REFUSED, // the same, and nothing of the request was looked at
    HTTP_RESET_PROTOCOL, // the peer sent what is not HTTP, or we were given what cannot be sent
};

struct http_codec;
struct http_conn;
struct http_stream;

// What the owner of a stream hears. Slices are borrowed for the call.
struct http_stream_events {
    // Server: the request; client: the final response. `end`: there is nothing more, on_end does
    // not follow.
    void (*on_head)(struct http_stream *stream, const struct http_head *head, bool end);
    // Client: a 1xx response other than 101.
    void (*on_informational)(struct http_stream *stream, const struct http_head *head);
    // Payload; the block reference passes on. `end` as above.
    void (*on_data)(struct http_stream *stream, const struct seg *seg, bool end);
    void (*on_trailers)(struct http_stream *stream, const struct http_field *fields, size_t n);
    void (*on_end)(struct http_stream *stream); // after on_data without `end`
    void (*on_writable)(struct http_stream *stream); // http_stream_can_send is true again
    // The stream is lost; `detail` says more or is NULL. Nothing follows.
    void (*on_reset)(struct http_stream *stream, enum http_reset reset, const char *detail);
};

struct http_stream {
    const struct http_stream_events *events;
    void *owner;
    struct http_conn *conn; // NULL: not attached (any more)
    struct list node; // http_conn.streams
    struct h2_stream *h2; // HTTP/2: NULL once it is closed
    uint64_t n_unconsumed; // received payload without credit
    bool is_recv_ended, is_send_ended;
    bool was_full; // on_writable is owed
    bool is_upgrade; // the request asked for one (http_head.protocol)
    bool is_dirty; // sent data in this turn
};

struct http_conn_handler {
    // Server: a request has come. Gives the stream (http_stream_init) whose on_head follows at
    // once. NULL: it is refused (HTTP/2: REFUSED_STREAM; HTTP/1: the connection ends).
    struct http_stream *(*on_stream)(struct http_conn *conn);
    // Server: a request that is not HTTP; it is answered here (HTTP/1: and the connection ends).
    void (*on_bad_request)(struct http_conn *conn, enum http_err err);
    // A stream ended, or SETTINGS changed what may be opened. NULL ok.
    void (*on_idle)(struct http_conn *conn);
    // No further stream can be opened: GOAWAY, Connection: close. NULL ok.
    void (*on_draining)(struct http_conn *conn);
    void (*on_closed)(struct http_conn *conn); // all streams were told before
};

enum http_conn_version {
    HTTP_CONN_AUTO, // server: HTTP/2 when its preface comes first (RFC 9113 3.3), else HTTP/1
    HTTP_CONN_1,
    HTTP_CONN_2,
};

struct http_conn_config {
    struct h2_config h2;
    struct h1_config h1;
};
// Defaults of a proxy: 60 KiB of head, 100 fields, 200 streams.
void http_conn_config_init(struct http_conn_config *config, bool is_server);

struct http_conn {
    const struct http_conn_handler *handler;
    const struct http_conn_config *config;
    struct loop *loop;
    struct duplex *duplex; // NULL once closed
    struct h1_conn *h1; // one of both, once the version is known
    struct h2_conn *h2;
    const struct http_codec *codec; // NULL: the version is not known yet
    struct chain out; // output of this turn
    struct chain input; // while the version is not known
    struct loop_flush flush;
    struct timer timer; // deadlines of the codec
    struct list streams;
    uint64_t last_active; // monotonic ns: start, then the end of the last stream
    uint64_t linger_until; // HTTP/1.1, server: it is drained then, unless a request comes before; 0
    uint64_t n_streams_total;
    uint32_t n_streams;
    uint8_t version; // enum http_conn_version
    uint8_t depth; // calls under way: on_closed comes after the outermost
    bool is_server;
    bool is_draining; // takes no new stream
    bool is_held; // input is paused
    bool is_finishing; // ends in order when `out` and what the codec has queued have left
    bool is_cut; // ends by a reset in the next flush
    bool is_ended; // the transport is being closed: no stream is left
    bool is_closed; // on_closed is due
    bool got_fin, sent_fin;
};

// The duplex is attached by the connection, and started. config outlives the connection.
void http_conn_init(struct http_conn *conn, struct loop *loop, struct duplex *duplex,
                    bool is_server, enum http_conn_version version,
                    const struct http_conn_config *config, const struct http_conn_handler *handler);
// Input that was read before (sniffing); takes it.
void http_conn_feed(struct http_conn *conn, struct chain *input);
// Client: room for one more stream now.
bool http_conn_can_open(const struct http_conn *conn);
// Client: what the peer takes is known: HTTP/1, or its SETTINGS have come (on_idle tells of them).
bool http_conn_has_settings(const struct http_conn *conn);
// It takes requests with http_head.protocol; HTTP/2: it has announced extended CONNECT (RFC 8441).
bool http_conn_takes_upgrade(const struct http_conn *conn);
// Client: attaches the stream; the caller sends its head at once.
void http_conn_open(struct http_conn *conn, struct http_stream *stream);
// Server: GOAWAY, Connection: close; ends when the last stream did. One of HTTP/1.1 that is idle
// ends HTTP_CONN_LINGER_MS later: its next request may be on its way, and is answered with
// Connection: close. Client: ends when idle.
void http_conn_drain(struct http_conn *conn);
// Ends in order at once, if no stream is open (false: one is, or it ends already). What the peer
// has just sent is not answered: for connections that were idle for a while.
bool http_conn_end_idle(struct http_conn *conn);
// Cuts the transport; streams are reset with `reset`; on_closed follows later.
void http_conn_abort(struct http_conn *conn, enum http_reset reset);

void http_stream_init(struct http_stream *stream, const struct http_stream_events *events,
                      void *owner);
// Client: the request; server: 1xx (repeatable, never with `end`) and the response. Fields of the
// connection are written by the codec; the caller gives none.
// False: it cannot be sent, and the stream was reset (on_reset came; the stream may be gone).
bool http_stream_send_head(struct http_stream *stream, const struct http_head *head, bool end);
void http_stream_send_data(struct http_stream *stream, struct chain *data, bool end); // takes all
void http_stream_send_trailers(struct http_stream *stream, const struct http_field *fields,
                               size_t n); // ends the message
bool http_stream_can_send(struct http_stream *stream); // false: on_writable follows
// May hand out more of the stream, to its end, before it returns.
void http_stream_consumed(struct http_stream *stream, size_t n);
// The owner wants no more of it. Both directions complete: nothing happens on the wire. Else it is
// cut: RST_STREAM with `code`; HTTP/1: the connection ends, on a server after a complete response
// in order.
void http_stream_release(struct http_stream *stream, enum h2_err code);
