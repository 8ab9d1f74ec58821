// SPDX-License-Identifier: Apache-2.0
//
// A client of one gRPC server (gRPC over HTTP/2 over TLS): unary calls and long-lived streams in
// both directions, for the control plane.
//
// One connection at a time, files, deadlines and what fails are as of http_client.h.
//
// Limits: what a message may have; GRPC_CLIENT_QUEUE_MAX bytes that a server does not take.
//
// Thread: the loop's (control).
#pragma once

#include "common/net/http_client.h"
#include "common/proto/grpc.h"

enum {
    GRPC_CLIENT_QUEUE_MAX = HTTP_CLIENT_QUEUE_MAX,
    GRPC_CLIENT_TEXT_MAX = HTTP_CLIENT_TEXT_MAX, // of a status
};

struct grpc_client;

struct grpc_client_config { // texts and fields are copied
    struct loop *loop;
    const char *address; // "https://HOST:PORT"; "http://" is plain text; without either it is https
    struct http_client_file roots; // PEM: who may sign the server's certificate
    const char *alt_name; // that the certificate may be for, in the place of HOST; NULL, "": none
    struct http_client_file token; // bearer token
    const struct http_field *metadata; // of each stream; lower case names
    size_t n_metadata;
    size_t message_max; // bytes of a received one
    uint32_t mark; // SO_MARK, 0 = none
    enum tls_compliance compliance;
};

// NULL with a heap-allocated reason: the address is malformed, or names cannot be looked up. Files
// need not be there yet.
struct grpc_client *grpc_client_new(const struct grpc_client_config *config, char **ret_error);
// Its streams are gone without further calls. Connections end in later turns of the loop. Not from
// within a callback of a stream.
void grpc_client_free(struct grpc_client *client); // NULL ok
const char *grpc_client_target(const struct grpc_client *client); // "HOST:PORT"
bool grpc_client_is_secure(const struct grpc_client *client); // over TLS

struct grpc_stream;

struct grpc_stream_events {
    // The request has been sent on a connection; answers may follow. NULL ok.
    void (*on_open)(struct grpc_stream *stream);
    // A whole message, borrowed for the call.
    void (*on_message)(struct grpc_stream *stream, struct slice message);
    // After grpc_stream_can_send said no. NULL ok.
    void (*on_writable)(struct grpc_stream *stream);
    // The last call: OK, or what the server or the way to it said. The stream may be opened again.
    // `text`: a sentence that says where and why; with a status of the server's, its message.
    void (*on_closed)(struct grpc_stream *stream, enum grpc_status status, const char *text);
};

// Embedded in its owner; all fields are private.
struct grpc_stream {
    const struct grpc_stream_events *events;
    struct grpc_client *client; // NULL: closed
    struct grpc_call *call;
};

void grpc_stream_init(struct grpc_stream *stream, const struct grpc_stream_events *events);
// path: "/package.Service/Method". timeout_ms: for all of it, the connection included; 0 = none.
// Nothing is called before it returns. The stream is closed or new.
void grpc_stream_open(struct grpc_stream *stream, struct grpc_client *client, const char *path,
                      uint64_t timeout_ms);
// Queues a message (copied); `end`: it is the last. Of no effect once closed.
void grpc_stream_send(struct grpc_stream *stream, struct slice message, bool end);
void grpc_stream_end(struct grpc_stream *stream); // no more messages
// False: the server takes no more for now; on_writable follows. More than GRPC_CLIENT_QUEUE_MAX
// closes the stream (RESOURCE_EXHAUSTED).
bool grpc_stream_can_send(const struct grpc_stream *stream);
// Nothing is called any more. Harmless when it is closed.
void grpc_stream_cancel(struct grpc_stream *stream);
static inline bool grpc_stream_is_open(const struct grpc_stream *stream) {
    return stream->client != NULL;
}
