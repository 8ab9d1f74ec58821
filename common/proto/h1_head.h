// SPDX-License-Identifier: Apache-2.0
//
// Heads of HTTP/1.0 and 1.1 messages, and trailers (RFC 9112 sections 2 to 6): bytes to http_head
// and back. Pure; thread: one at a time.
//
// Reading is strict: whatever two implementations are known to read differently is refused, not
// repaired (obs-fold, bare CR or LF, space before the colon, both framings, unequal lengths, any
// coding but one chunked ...). It is incremental: lines are judged as they are completed, so that
// input gives the same verdict at the same byte however it was cut.
//
// Memory: the bytes of a head are copied into the reader's own buffer, where names become lower
// case; slices point there. A buffer grows up to the limit of the head, the field array up to the
// limit of fields.
#pragma once

#include "common/base/chain.h"
#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/http_err.h"
#include "common/proto/http_msg.h"
#include "common/proto/http_rules.h"

enum h1_head_kind { H1_HEAD_REQUEST, H1_HEAD_RESPONSE, H1_HEAD_TRAILERS };

// How the end of a body is found (RFC 9112 6.3).
enum h1_body_kind { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_UNTIL_CLOSE };

enum {
    H1_HEAD_MAX_BYTES = 60 << 10, // start line, fields, line ends
    H1_HEAD_MAX_FIELDS = 100,
};

struct h1_head_limits {
    uint32_t max_bytes; // 431 above it; 414 when the start line alone is longer
    uint32_t max_fields; // 431 above it; Host and the connection's own fields count
};

struct h1_head {
    // The result, after h1_head_recv has said done. Slices are good until h1_head_reset or _fini.
    struct http_head head;
    uint8_t body; // enum h1_body_kind
    uint64_t body_len; // H1_BODY_LENGTH
    bool keep_alive; // as far as the sender is concerned, the connection goes on (RFC 9112 9.3)
    bool expects_continue; // HTTP/1.1 request with Expect: 100-continue (the field is kept)

    // Private.
    struct h1_head_limits limits;
    uint8_t kind, state;
    bool is_head_request, asked_upgrade, has_length, has_host, has_hop;
    bool has_coding, is_chunked, has_unknown_coding;
    uint8_t n_empty_lines;
    uint32_t n_lines; // field lines so far
    uint32_t len, cap, line, scan; // of `text`: used, allocated, start of the line, looked at
    uint8_t *text;
    uint32_t cap_fields;
    enum http_err err;
    struct slice host;
    uint64_t length;
};

void h1_head_init(struct h1_head *head, enum h1_head_kind kind,
                  const struct h1_head_limits *limits);
void h1_head_fini(struct h1_head *head); // a zeroed object is fine too
// Ready for the next head; gives all memory back.
void h1_head_reset(struct h1_head *head);
// Responses: the request that is answered was HEAD; it asked for an upgrade (101 is allowed).
void h1_head_answers(struct h1_head *head, bool is_head_request, bool asked_upgrade);

// Consumes bytes up to the end of the head at most. *ret_used tells how many, *ret_is_done whether
// it ended there. After an error (repeated from then on) nothing more is consumed; what is known
// of the start line by then stays in `head`, for logs. Up to 4 empty lines before a request are
// skipped (RFC 9112 2.2).
MUST_USE enum http_err h1_head_recv(struct h1_head *head, struct slice in, size_t *ret_used,
                                    bool *ret_is_done);
// Bytes of a head have arrived (skipped empty lines do not count).
bool h1_head_is_started(const struct h1_head *head);

// ---- writing

// What stands beside the head on the wire.
struct h1_wire {
    uint8_t body; // enum h1_body_kind: of the body that follows
    bool has_len; // Content-Length is written: with H1_BODY_LENGTH, and as information with HEAD,
                  // 304
    uint64_t len;
    bool close, keep_alive; // options of Connection
};

// The framing of what is to be sent, from Content-Length in the head and the kind of message.
// has_end: no body follows. HTTP_ERR_BAD_LENGTH: Content-Length is invalid;
// HTTP_ERR_LENGTH_MISMATCH: it announces a body and there is none. Outputs as h1_head_write needs
// them, `close` unset except where the body ends with the connection.
MUST_USE enum http_err h1_wire_request(const struct http_head *head, bool has_end,
                                       struct h1_wire *ret_wire);
// is_head_request and version (enum http_version) are the request's.
MUST_USE enum http_err h1_wire_response(const struct http_head *head, bool has_end,
                                        bool is_head_request, uint8_t version,
                                        struct h1_wire *ret_wire);
// Appends the head: one cold segment with headroom and tailroom and, when the head is small, room
// for some body behind it. Fields of the connection and Content-Length in head->fields are left
// out; `wire` and head->protocol say what is written of them. False, and nothing is appended:
// a character that would end a line or a field (response splitting), or no path.
MUST_USE bool h1_head_write(const struct http_head *head, const struct h1_wire *wire,
                            struct chain *out);
