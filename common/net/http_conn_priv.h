// SPDX-License-Identifier: Apache-2.0
//
// Shared by http_conn*.c: what a version of HTTP does behind the face of http_conn.h.
#pragma once

#include "common/net/http_conn.h"

enum { HTTP_SCRATCH_MAX = 512 * 1024 }; // for a head on its way between two forms

// How a connection is to go on once all that may leave has left.
enum http_conn_end {
    HTTP_CONN_GOES_ON,
    HTTP_CONN_FIN, // our direction ends, the peer's goes on (a tunnel after an upgrade)
    HTTP_CONN_OVER, // ends in order
    HTTP_CONN_CUT, // what was sent is incomplete, and must look so
};

struct http_codec {
    void (*recv)(struct http_conn *conn, const struct seg *seg); // all of it, borrowed
    void (*fin)(struct http_conn *conn); // the peer's direction ended in order
    bool (*wants_read)(const struct http_conn *conn); // false: input is to be paused
    bool (*pull)(struct http_conn *conn, struct chain *out); // appends what may leave now
    bool (*wants_write)(const struct http_conn *conn);
    void (*events)(struct http_conn *conn); // dispatches what recv or pull has found
    enum http_conn_end (*ending)(const struct http_conn *conn);
    uint64_t (*deadline)(struct http_conn *conn); // TIME_NEVER: none
    void (*tick)(struct http_conn *conn);
    bool (*can_open)(const struct http_conn *conn);
    // False: it could not be sent, and the stream was reset.
    bool (*send_head)(struct http_stream *stream, const struct http_head *head, bool end);
    void (*send_data)(struct http_stream *stream, struct chain *data, bool end);
    void (*send_trailers)(struct http_stream *stream, const struct http_field *fields, size_t n);
    bool (*can_send)(const struct http_stream *stream);
    void (*consumed)(struct http_stream *stream, size_t n);
    void (*detach)(struct http_stream *stream); // complete: what it sent leaves without it
    void (*release)(struct http_stream *stream, enum h2_err code); // not complete: cut
    void (*cool)(struct http_conn *conn); // after a flush: what stays behind must not be hot
    void (*drain)(struct http_conn *conn);
    void (*free)(struct http_conn *conn);
};
extern const struct http_codec http_codec_1, http_codec_2;

// For the codecs.
void http_conn_kick(struct http_conn *conn); // output leaves in this turn's flush phase
void http_conn_pull(struct http_conn *conn); // moves what may leave to conn->out
// The stream is attached from now on.
void http_conn_attach(struct http_conn *conn, struct http_stream *stream);
// Takes it off; its owner has been told, or knows.
void http_conn_detach(struct http_stream *stream);
// Detaches and tells the owner.
void http_conn_reset_stream(struct http_stream *stream, enum http_reset reset, const char *detail);
// What a codec has read goes to the owner of the stream, who may free it.
void http_conn_recv_head(struct http_stream *stream, const struct http_head *head, bool end);
void http_conn_recv_data(struct http_stream *stream, struct blk *blk, uint32_t off, uint32_t len,
                         bool end);
void http_conn_recv_trailers(struct http_stream *stream, const struct http_field *fields, size_t n);
void http_conn_recv_ended(struct http_stream *stream); // takes the stream off if it is done
void http_conn_recv_writable(struct http_stream *stream);
// Detaches the stream if both its directions are complete.
void http_conn_check_done(struct http_stream *stream);
// Server: a request head has come: asks the owner for a stream, and attaches it. NULL: refused.
struct http_stream *http_conn_new_stream(struct http_conn *conn);
void http_conn_told_idle(struct http_conn *conn); // there is room for another stream
// Nothing new: the peer said so, or an error.
void http_conn_set_draining(struct http_conn *conn);
// The connection is of no use any more: after what is queued has left it ends, in order.
void http_conn_finish(struct http_conn *conn);
