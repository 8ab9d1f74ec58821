// SPDX-License-Identifier: Apache-2.0
//
// A small HTTP/1.1 server for the operator's endpoints (admin, metrics, readiness): requests
// without a body worth keeping, answers that are built whole, or piece by piece in turns of the
// loop, and sent at the client's pace. Not on the data path.
//
// Limits: HTTP_SERVER_HEAD_MAX bytes of request head, HTTP_SERVER_CONNS_MAX connections, 30 s for a
// request to arrive. Thread: the loop's (control).
#pragma once

#include "common/base/buf.h"
#include "common/rt/link.h"
#include "common/rt/listener.h"

enum {
    HTTP_SERVER_HEAD_MAX = 8192,
    HTTP_SERVER_CONNS_MAX = 64,
    HTTP_SERVER_BODY_MAX = 64 * 1024, // request bodies are read and dropped
    HTTP_SERVER_TIMEOUT_MS = 30000,
    HTTP_SERVER_QUEUE_MAX = 256 * 1024, // bytes of an answer handed to the link at a time
    HTTP_SERVER_PIECE_MAX = 16 * 1024 * 1024, // of a body that is made in pieces
};

struct http_exchange;

struct http_query {
    struct slice method, path, query; // path without '?'; as received, not decoded
    struct slice accept, accept_encoding;
};

struct http_server {
    struct loop *loop;
    struct listener listener;
    struct list conns;
    uint32_t n_conns;
    bool is_closing;
    // Answers now or later, exactly once, with http_reply. `query` is valid until then.
    void (*handle)(void *arg, struct http_exchange *exchange, const struct http_query *query);
    void (*on_closed)(void *arg);
    void *arg;
};

// Listens on `address`; "::" is every address, also where there is no IPv6. 0 or -errno;
// -EADDRINUSE while another process, or we, do.
MUST_USE int http_server_open(struct http_server *server, struct loop *loop,
                              const struct addr *address,
                              void (*handle)(void *arg, struct http_exchange *exchange,
                                             const struct http_query *query),
                              void *arg);
void http_server_close(struct http_server *server, void (*on_closed)(void *arg));
// Bytes are copied. content_type is a literal.
void http_reply(struct http_exchange *exchange, int status, const char *content_type,
                struct slice body);
// For large bodies: takes the memory of `body` (which is empty after it) and hands it to the socket
// as fast as the client reads. A client that takes nothing for HTTP_SERVER_TIMEOUT_MS is cut.
// encoding: Content-Encoding, a literal; NULL = none.
void http_reply_buf(struct http_exchange *exchange, int status, const char *content_type,
                    const char *encoding, struct buf *body);
// A body that is made piece by piece, as the client takes it: at most one piece in a millisecond,
// so that a large answer does not hold up the loop.
struct http_body {
    // Appends the next piece to `out` (nothing: it is still at work), and returns false with the
    // last one. When `out` overflows the connection is cut.
    bool (*next)(struct http_body *body, struct buf *out);
    void (*free)(struct http_body *body); // called once, at the end or when the client is gone
};
// Takes `body`. Sent in chunks; to a client of HTTP/1.0 up to the end of the connection.
void http_reply_stream(struct http_exchange *exchange, int status, const char *content_type,
                       const char *encoding, struct http_body *body);
// The value of key in "a=b&c=d"; false when it is not there. Percent-encoding is not decoded.
bool http_query_get(struct slice query, const char *key, struct slice *ret_value);
