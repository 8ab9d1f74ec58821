// SPDX-License-Identifier: Apache-2.0
//
// HTTP/1.1 connection core (RFC 9112), client and server, sans-I/O.
//
//   h1_conn_recv(c, ...)   consumes decrypted bytes; h1_conn_recv_eof(c) when no more will come
//   h1_conn_next(c, &ev)   hands out what they meant, one event at a time
//   h1_conn_send_*(c, ...) queue a message
//   h1_conn_pull(c, ...)   emits bytes to send
//
// No callbacks, fds, clock, randomness or logging. Same input, same output, however it is cut.
// Order of use: after every recv, recv_eof, send or pull, call next until it returns false; pull
// while h1_conn_wants_write(); close when h1_conn_wants_close(). Deadlines are the owner's:
// h1_conn_is_idle and h1_conn_is_in_head tell which one applies.
//
// One exchange at a time. Events of an exchange, in this order, as those of an HTTP/2 stream:
//   HEADERS (client: INFORMATIONAL* first), DATA*, TRAILERS?, END, and at last CLOSED.
// ERROR may take the place of any of them but CLOSED, and comes at most once an exchange; an error
// outside of one has no CLOSED behind it on a client, and has one on a server (where it is a
// request, which can still be answered: h1_conn_send_error). SENT and WRITABLE come in between.
// Requests that a client has pipelined wait, unread, until the one before them is CLOSED.
//
// Server: a response that ends before the request did makes the rest of the request be read and
// dropped, up to config.drain_max; DATA and END do not come any more, CLOSED comes when it is
// through or given up (then the connection wants to be closed).
//
// Upgrade: a request with head->protocol has no END until the answer is known. 101, sent or
// received, makes all that follows DATA, raw in both directions, until recv_eof (END) and
// h1_conn_send_data with `end` (no framing: the owner half-closes its side when h1_conn_wants_fin).
// What is sent before the 101 arrives waits for it. Another answer ends the request as if it had
// had no body. A request with both a body and Upgrade is taken without the Upgrade. CONNECT is
// refused with an ERROR.
//
// Flow control: received payload that is not yet h1_conn_consumed counts against config.window;
// above it h1_conn_wants_read says no, which is to be obeyed: what is received all the same is
// kept, without a limit of its own.
//
// Ownership: blocks given to recv are referenced while unread; what is held over a next that
// returned false is copied to cold memory. Slices and heads of events are good until the next call
// of next, recv or recv_eof; the head of an ERROR may be incomplete.
#pragma once

#include "common/base/chain.h"
#include "common/proto/h1_head.h"
#include "common/proto/http_err.h"
#include "common/proto/http_msg.h"

// Defaults: h1_config_init(). All sizes in bytes.
struct h1_config {
    struct h1_head_limits head; // of heads and of trailers (60 KiB, 100)
    uint32_t window; // received payload not consumed before reading pauses (256 KiB)
    uint32_t send_queue_max; // queued before h1_conn_can_send() says no (256 KiB)
    uint32_t drain_max; // server: rest of a request read after its response ended (64 KiB)
    uint32_t max_informational; // client: 1xx responses to one request (16)
};

void h1_config_init(struct h1_config *config);

enum h1_event_type {
    H1_EV_HEADERS, // request (server) or final response, with 101 (client)
    H1_EV_INFORMATIONAL, // client: 1xx but 101
    H1_EV_DATA, // payload, borrowed: blk[off, off+len); ref the block to keep it
    H1_EV_TRAILERS,
    H1_EV_END, // the peer's side is finished; after HEADERS, DATA or TRAILERS
    // The peer broke the rules or the connection, or we were given a body that does not fit its
    // Content-Length: nothing more can be read. Server: the exchange goes on for as long as its
    // response needs. Client: the exchange is over, CLOSED follows.
    H1_EV_ERROR,
    H1_EV_WRITABLE, // send queue fell below half of send_queue_max after having been full
    H1_EV_SENT, // our message is complete and all of it has been pulled
    H1_EV_CLOSED, // both sides done: the exchange is over
};

struct h1_event {
    enum h1_event_type type;
    const struct http_head *head; // HEADERS, INFORMATIONAL, TRAILERS (fields only), ERROR (or NULL)
    struct blk *blk; // DATA
    uint32_t off, len;
    enum http_err err; // ERROR
    bool from_peer; // ERROR: false for HTTP_ERR_LENGTH_MISMATCH, which is ours
    bool end_stream; // HEADERS, DATA, TRAILERS: an END event follows at once
    bool expects_continue; // HEADERS of a request: it waits for 100 (RFC 9110 10.1.1)
};

struct h1_conn;

struct h1_conn *h1_conn_new(const struct h1_config *config, bool is_server, struct blk_pool *pool);
void h1_conn_free(struct h1_conn *conn); // NULL ok; an exchange dies with it, without events

// Takes blk[off, off+len), all of it.
void h1_conn_recv(struct h1_conn *conn, struct blk *blk, uint32_t off, uint32_t len);
// No more input. is_clean: an orderly end (FIN, with TLS behind a close_notify). Not clean: what is
// incomplete, and every body or tunnel that only ends with the connection, is HTTP_ERR_TRUNCATED.
void h1_conn_recv_eof(struct h1_conn *conn, bool is_clean);
MUST_USE bool h1_conn_next(struct h1_conn *conn, struct h1_event *ret_event);
bool h1_conn_has_events(const struct h1_conn *conn); // next may have something
bool h1_conn_wants_read(const struct h1_conn *conn);
// n bytes of received payload left the other side.
void h1_conn_consumed(struct h1_conn *conn, size_t n);

// Server: response head; 1xx may repeat (left out for HTTP/1.0), 101 switches protocols. Client:
// request head; needs h1_conn_can_open(). Framing and Connection are written here. False, and
// nothing was queued: the head cannot be sent (HTTP_ERR_LENGTH_MISMATCH, BAD_LENGTH, BAD_VALUE in
// *ret_err; BAD_SWITCH: 101 that nobody asked for).
MUST_USE bool h1_conn_send_head(struct h1_conn *conn, const struct http_head *head, bool end_stream,
                                enum http_err *ret_err);
// Moves all of `data` (may be empty) into the send queue. end_stream: nothing more will come.
// Harmless when the exchange cannot send any more (the data is dropped).
void h1_conn_send_data(struct h1_conn *conn, struct chain *data, bool end_stream);
void h1_conn_send_trailers(struct h1_conn *conn, const struct http_field *fields, size_t n_fields);
// Server: a whole response for an ERROR, as Envoy's codec gives it: the status, the reason phrase
// as text/plain or no body (http_err_body), Connection: close. Does nothing when a response head is
// out already: then reset.
void h1_conn_send_error(struct h1_conn *conn, enum http_err err);
// Ends the exchange at once: queued bytes are dropped, CLOSED follows, the connection must be
// closed, and not cleanly if is_cut: what was sent is incomplete.
void h1_conn_reset(struct h1_conn *conn);
bool h1_conn_can_send(const struct h1_conn *conn); // queue below send_queue_max
size_t h1_conn_queued(const struct h1_conn *conn); // bytes not pulled yet

// Moves about `budget` bytes to `out`. Returns how many.
size_t h1_conn_pull(struct h1_conn *conn, struct chain *out, size_t budget);
bool h1_conn_wants_write(const struct h1_conn *conn);
// No exchange is possible any more and everything was pulled: close. is_cut: the peer must see
// that something is missing (RST; with TLS no close_notify). A server should read on for a moment
// after its FIN, or the peer's last bytes reset the response (RFC 9112 9.6).
bool h1_conn_wants_close(const struct h1_conn *conn, bool *ret_is_cut);
bool h1_conn_wants_fin(const struct h1_conn *conn); // tunnel: our side ended and was pulled

// The next response (server) or request (client) says Connection: close, no other follows; an idle
// connection wants to be closed at once.
void h1_conn_drain(struct h1_conn *conn);
bool h1_conn_can_open(const struct h1_conn *conn); // client: idle and reusable
bool h1_conn_is_idle(const struct h1_conn *conn); // no exchange, no byte of a next one
bool h1_conn_is_in_head(const struct h1_conn *conn); // a head has begun and not ended
bool h1_conn_is_tunnel(const struct h1_conn *conn); // 101 happened
bool h1_conn_has_response(const struct h1_conn *conn); // server: a final response head is queued
size_t h1_conn_memory(const struct h1_conn *conn); // own heap bytes, for tests and caps
void *h1_conn_user(const struct h1_conn *conn);
void h1_conn_set_user(struct h1_conn *conn, void *user);
