// SPDX-License-Identifier: Apache-2.0
//
// A client of one HTTP server, for the control plane: requests and their answers as streams of
// bytes, over TLS or plain text, by HTTP/2 or HTTP/1.1 as is asked for or as ALPN settles.
//
// Connections are made when a request needs one and closed when they had none for
// HTTP_CLIENT_IDLE_MS: as a rule one with HTTP/2, one for each request that runs with HTTP/1.1.
// What fails is told to the requests; whoever wants an answer opens its request again, later
// (back-off is the caller's). After a GOAWAY, or when the roots or the client certificate have
// changed, running requests go on and new ones use a new connection.
//
// Files are read when they are needed and have changed: roots and certificate before a connection
// is used for a new request, the token for each request. The token goes over TLS only.
//
// Limits: HTTP_CLIENT_QUEUE_MAX bytes of a request that a server does not take; what has been
// received is handed out at once and kept by nobody here.
//
// Thread: the loop's (control).
#pragma once

#include "common/proto/http_msg.h"
#include "common/rt/loop.h"
#include "common/tls/tls_ctx.h"

enum {
    HTTP_CLIENT_CONNECT_MS = 5000, // to one address
    HTTP_CLIENT_TLS_MS = 5000, // then
    HTTP_CLIENT_IDLE_MS = 20000, // before the first PING, which servers mind without a stream
    HTTP_CLIENT_PING_MS = 30000, // of silence, then a PING, with
    HTTP_CLIENT_PONG_MS = 10000, // to answer it
    HTTP_CLIENT_QUEUE_MAX = 4 << 20,
    HTTP_CLIENT_FIELDS_MAX = 64, // of a request, our own included
    HTTP_CLIENT_TEXT_MAX = 768, // of a reason
};

enum http_client_protocol {
    HTTP_CLIENT_2, // HTTP/2, also without TLS
    HTTP_CLIENT_ANY, // HTTP/2 or HTTP/1.1 as ALPN settles; HTTP/1.1 without TLS
};

// What a file holds, or where it is. A path counts before a text; neither: there is none.
struct http_client_file {
    const char *path;
    struct slice text;
};

struct http_client;

struct http_client_config { // all of it is copied
    struct loop *loop;
    const char *address; // "https://HOST:PORT"; "http://" is plain text; without either it is https
    struct http_client_file roots; // PEM: who may sign the server's certificate. https needs it
    const char *server_name; // that the certificate is to be for; NULL, "": HOST
    const char *alt_name; // that it may be for as well; NULL, "": none
    struct http_client_file token; // sent as a bearer token
    struct http_client_file cert, key; // PEM: a client certificate, for servers that ask for one
    enum http_client_protocol protocol;
    uint32_t conns_max; // that take new requests, at a time
    uint32_t mark; // SO_MARK, 0 = none
    enum tls_compliance compliance;
};

// NULL with a heap-allocated reason: the address is malformed, or names cannot be looked up. Files
// need not be there yet.
struct http_client *http_client_new(const struct http_client_config *config, char **ret_error);
// Its requests are gone without further calls. Connections end in later turns of the loop. Not from
// within a callback of a request.
void http_client_free(struct http_client *client); // NULL ok
const char *http_client_target(const struct http_client *client); // "HOST:PORT"
bool http_client_is_secure(const struct http_client *client); // over TLS
const char *http_client_token_path(const struct http_client *client); // NULL: none

enum http_client_end {
    HTTP_CLIENT_COMPLETE, // the answer is whole
    HTTP_CLIENT_NO_TOKEN, // its file is not there, or holds none
    HTTP_CLIENT_UNREACHABLE, // no connection was to be had; nothing was sent
    HTTP_CLIENT_REFUSED, // the server did not look at the request
    HTTP_CLIENT_LOST, // the connection ended before the answer did
    HTTP_CLIENT_RESET, // by the server
    HTTP_CLIENT_PROTOCOL, // what came is not HTTP
    HTTP_CLIENT_TIMEOUT,
    HTTP_CLIENT_FLOODED, // the server does not take what is sent
};

struct http_request;

// Slices are borrowed for the call. Each may cancel the request, and open others.
struct http_request_events {
    // The head has been sent on a connection. NULL ok.
    void (*on_open)(struct http_request *request);
    // The final response; `end`: nothing but on_closed follows.
    void (*on_head)(struct http_request *request, const struct http_head *head, bool end);
    void (*on_data)(struct http_request *request, struct slice bytes);
    void (*on_trailers)(struct http_request *request, const struct http_field *fields,
                        size_t n); // NULL ok
    // After http_request_can_send said no. NULL ok.
    void (*on_writable)(struct http_request *request);
    // The last call. `text`: a sentence that says where and why, "" when it is complete. The
    // request may be opened again.
    void (*on_closed)(struct http_request *request, enum http_client_end end, const char *text);
};

// Embedded in its owner; all fields are private.
struct http_request {
    const struct http_request_events *events;
    struct http_client *client; // NULL: closed
    struct http_call *call;
};

struct http_request_params { // all of it is copied
    struct slice method, path; // path with its query
    const struct http_field *fields; // lower case names; none of the connection's, no token
    size_t n_fields;
    struct slice body;
    bool is_stream; // more of the body follows by http_request_send; else it is all
    uint64_t timeout_ms; // for all of it, the connection included; 0 = none
};

void http_request_init(struct http_request *request, const struct http_request_events *events);
// Nothing is called before it returns. The request is closed or new. A GET whose connection was
// used before, and ends without a byte of an answer, is sent once more (RFC 9110 9.2.2).
void http_request_open(struct http_request *request, struct http_client *client,
                       const struct http_request_params *params);
// More of the body (copied); `end`: it is the last. Of no effect once closed or ended.
void http_request_send(struct http_request *request, struct slice bytes, bool end);
// The same in pieces, which are taken.
void http_request_send_chain(struct http_request *request, struct chain *data, bool end);
// False: the server takes no more for now; on_writable follows. More than HTTP_CLIENT_QUEUE_MAX
// closes the request (FLOODED).
bool http_request_can_send(const struct http_request *request);
// Nothing is called any more. Harmless when it is closed.
void http_request_cancel(struct http_request *request);
static inline bool http_request_is_open(const struct http_request *request) {
    return request->client != NULL;
}
