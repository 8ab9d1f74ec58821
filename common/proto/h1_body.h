// SPDX-License-Identifier: Apache-2.0
//
// Bodies of HTTP/1 messages (RFC 9112 sections 6 and 7): Content-Length, chunked, until the
// connection ends. Pure; payload is never copied: reading hands out ranges of the input, writing
// moves segments. Thread: one at a time.
//
// Limits: a chunk-size line has at most 256 bytes; size lines together may exceed what the payload
// justifies by 16 KiB (a flood of extensions); trailers have the limits of a head. Extensions are
// checked and dropped, trailers that nobody may send (http_rules_is_barred_trailer) too.
#pragma once

#include "common/proto/h1_head.h"

enum h1_step {
    H1_STEP_MORE, // all input is used up, the body goes on
    H1_STEP_DATA, // a piece of payload
    H1_STEP_END, // the body ended; trailers, if any, are in h1_body_trailers
    H1_STEP_ERROR,
};

struct h1_body {
    // Private.
    uint8_t kind, state;
    uint8_t n_digits, line_len;
    enum http_err err;
    uint32_t overhead;
    uint64_t left; // of the body or the chunk
    struct h1_head trailers;
};

// The limits are those of trailers.
void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t len,
                  const struct h1_head_limits *limits);
void h1_body_fini(struct h1_body *body); // a zeroed object is fine too

// Looks at `in` up to the end of the first piece of payload, or the end of the body. DATA: the
// payload is the last *ret_len bytes of the *ret_used that were consumed. Call it once with what
// is there even if that is nothing: an empty body ends at once.
MUST_USE enum h1_step h1_body_recv(struct h1_body *body, struct slice in, size_t *ret_used,
                                   size_t *ret_len);
// The connection ended. True: so did the body, properly.
MUST_USE bool h1_body_recv_eof(struct h1_body *body);
enum http_err h1_body_err(const struct h1_body *body); // after H1_STEP_ERROR
// Fields, after H1_STEP_END; good until _fini.
const struct http_head *h1_body_trailers(const struct h1_body *body);
// Bytes that are known to be missing (Content-Length), UINT64_MAX when nobody can say.
uint64_t h1_body_left(const struct h1_body *body);

// ---- writing

struct h1_body_out {
    uint8_t kind; // enum h1_body_kind
    uint64_t left; // H1_BODY_LENGTH
};

// Moves all of `data` to `out` with its framing, as one chunk. The chunk's size goes into the first
// segment's headroom and its CRLF into the last one's tailroom where there is enough to leave a TLS
// record its own; else they are small segments. False: more than Content-Length announced (what
// fits was moved, the rest dropped). H1_BODY_NONE: all is dropped, which is right for HEAD.
MUST_USE bool h1_body_write(struct h1_body_out *body, struct chain *data, struct chain *out);
// Ends it. Trailers are written when chunked, else dropped, as are those that nobody may send or
// that would break a line. False: less than Content-Length announced.
MUST_USE bool h1_body_write_end(struct h1_body_out *body, const struct http_field *trailers,
                                size_t n_trailers, struct chain *out);
