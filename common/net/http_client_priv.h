// SPDX-License-Identifier: Apache-2.0
//
// Shared by http_client.c (requests, addresses), http_client_conn.c (one connection) and
// http_client_files.c.
#pragma once

#include "common/net/dns_channel.h"
#include "common/net/http_client.h"
#include "common/net/http_conn.h"
#include "common/net/link_end.h"
#include "common/net/tls_end.h"
#include "common/rt/dial.h"
#include "common/rt/file.h"

// A text that counts: of a file, when there is one, as it was read last.
struct http_client_pem {
    struct watched_file *file; // NULL: there is none, or `own` is it
    char *own;
    struct slice text;
};

// One connection, from the dial to its last end.
struct http_client_conn {
    struct http_client *client;
    struct list node; // http_client.conns
    struct dial *dial; // NULL: connected
    struct addr to;
    uint64_t trust; // http_client.trust at its handshake
    struct timer timer; // of the handshake, then of idleness
    struct link_end link;
    struct tls_end tls;
    struct http_conn http;
    bool is_open; // http is in use
    bool is_retired; // takes no new requests
    uint8_t n_parts; // of tls and http: gone with the last one
};

// A request on its way: outlives the owner's handle when that is cancelled within a callback.
struct http_call {
    struct http_client *client;
    struct http_request *request; // NULL: nobody wants it any more
    struct list node; // http_client.waiting or .running
    struct http_stream http;
    struct timer timer; // deadline
    struct chain queue; // what is sent before there is a connection
    char *method, *path;
    struct http_field *fields; // texts of their own
    size_t n_fields;
    char length[24]; // Content-Length, as a text
    uint64_t timeout_ms;
    size_t n_queued; // bytes since the server could last take some
    bool is_sent; // the head
    bool is_end; // of the body
    bool has_answer; // the head of one
    bool can_repeat; // by itself, if the connection turns out to be a dead one
    bool is_flooded; // more than the server takes: closed by the timer
    bool is_busy; // within a callback
};

struct http_client {
    struct loop *loop;
    char *host, *target; // target: "HOST:PORT"
    char *server_name, *alt_name; // alt_name NULL: none
    struct ip ip; // HOST, when it is one
    uint16_t port;
    bool is_secure, is_freed;
    enum http_client_protocol protocol;
    uint32_t conns_max;
    struct http_client_pem roots, cert, key;
    struct watched_file *token; // NULL: none, or given as a text
    struct tls_ctx *tls; // NULL: no roots yet
    char *tls_error; // why not, or why newer files are not in force; NULL: they are
    char *token_text; // NULL: no token
    char *token_error; // why not; NULL: none is wanted, or there is one
    uint64_t trust; // counts the versions of `tls`
    enum tls_compliance compliance;
    uint32_t mark;
    struct http_conn_config http;
    struct tls_queue queue;
    struct dns_channel *dns; // NULL: HOST is an address
    struct ip ips[DNS_CHANNEL_IPS_MAX];
    uint32_t n_ips, next_ip;
    bool is_resolving;
    bool is_resolved; // ips are to be tried
    struct http_client_conn *connecting;
    struct list conns, waiting, running;
    struct timer timer; // serves what waits
    char error[HTTP_CLIENT_TEXT_MAX]; // of the last attempt to connect
};

// Dials; one of the next two follows, never at once.
void http_client_conn_start(struct http_client *client, const struct ip *ip);
void http_client_connected(struct http_client_conn *conn);
void http_client_connect_failed(struct http_client_conn *conn, const char *text);
void http_client_conn_idle(struct http_client *client); // there may be room for a request
void http_client_conn_gone(struct http_client *client); // the last use of client->conns by it
void http_client_conn_abort(struct http_client_conn *conn); // whatever its state; nobody is told

void http_client_files_init(struct http_client *client, const struct http_client_config *config);
void http_client_files_fini(struct http_client *client); // harmless without init
// Read what has changed. What is there stays in force when newer roots or certificates cannot be
// used; a token that is gone is no token.
void http_client_files_tls(struct http_client *client);
void http_client_files_token(struct http_client *client);
