// SPDX-License-Identifier: Apache-2.0
//
// Shared by grpc_client.c (streams, addresses), grpc_conn.c (one connection) and grpc_files.c.
#pragma once

#include "common/net/dns_channel.h"
#include "common/net/grpc_client.h"
#include "common/net/http_conn.h"
#include "common/net/link_end.h"
#include "common/net/tls_end.h"
#include "common/rt/dial.h"
#include "common/rt/file.h"

// One connection, from the dial to its last end.
struct grpc_conn {
    struct grpc_client *client;
    struct list node; // grpc_client.conns
    struct dial *dial; // NULL: connected
    struct addr to;
    uint64_t trust; // grpc_client.trust at its handshake
    struct timer timer; // of the handshake, then of idleness
    struct link_end link;
    struct tls_end tls;
    struct http_conn http;
    bool is_open; // http is in use
    uint8_t n_parts; // of tls and http: gone with the last one
};

// A stream on its way: outlives the owner's handle when that is cancelled within a callback.
struct grpc_call {
    struct grpc_client *client;
    struct grpc_stream *stream; // NULL: nobody wants it any more
    struct list node; // grpc_client.waiting or .running
    struct http_stream http;
    struct timer timer; // deadline
    struct chain queue; // what is sent before there is a connection
    struct grpc_reader reader;
    char *path;
    uint64_t timeout_ms;
    size_t n_queued; // bytes of messages since the stream could last send
    bool is_sent; // the head
    bool is_end; // of our messages
    bool is_flooded; // more than the server takes: closed by the timer
    bool is_busy; // hands out messages
};

struct grpc_client {
    struct loop *loop;
    char *host, *target, *server_name; // target: "HOST:PORT"
    struct ip ip; // HOST, when it is one
    uint16_t port;
    bool is_secure, is_freed;
    struct watched_file *roots, *token; // NULL: none
    struct tls_ctx *tls; // NULL: no roots yet
    char *roots_error; // why not, or why newer ones are not in force; NULL: they are
    char *token_text; // NULL: no token
    char *token_error;
    uint64_t trust; // counts the versions of `tls`
    enum tls_compliance compliance;
    uint32_t mark;
    size_t message_max;
    struct http_field *metadata;
    size_t n_metadata;
    struct http_conn_config http;
    struct tls_queue queue;
    struct dns_channel *dns; // NULL: HOST is an address
    struct ip ips[DNS_CHANNEL_IPS_MAX];
    uint32_t n_ips, next_ip;
    bool is_resolving;
    bool is_resolved; // ips are to be tried
    struct grpc_conn *connecting, *current; // current: takes new streams
    struct list conns, waiting, running;
    struct timer timer; // serves what waits
    char error[GRPC_CLIENT_TEXT_MAX]; // of the last attempt to connect
};

// Dials ips[next_ip]; one of the next two follows, never at once.
void grpc_conn_start(struct grpc_client *client, const struct ip *ip);
void grpc_client_connected(struct grpc_conn *conn);
void grpc_client_connect_failed(struct grpc_conn *conn, const char *text);
// Takes no new streams any more.
void grpc_client_conn_draining(struct grpc_conn *conn);
void grpc_client_conn_idle(struct grpc_client *client); // there may be room for a stream
void grpc_client_conn_gone(struct grpc_client *client); // the last use of client->conns by it
void grpc_conn_abort(struct grpc_conn *conn); // whatever its state; nobody is told
extern const struct http_stream_events grpc_call_events;

void grpc_files_init(struct grpc_client *client, const char *roots_path, const char *token_path);
void grpc_files_fini(struct grpc_client *client); // harmless without init
// Reads the file if it has changed. What is there stays in force when newer roots cannot be used; a
// token that is gone is no token.
void grpc_files_roots(struct grpc_client *client);
void grpc_files_token(struct grpc_client *client);
