// SPDX-License-Identifier: Apache-2.0
//
// An HTTP server in the loop of the test, HTTP/1.1 or HTTP/2 as the client begins, whose answers
// the test writes: for tests of the HTTP client and what is built on it.
#pragma once

#include "common/net/http_client.h"
#include "common/net/http_client_priv.h"
#include "common/rt/listener.h"
#include "common/rt/uring.h"
#include "tests/unit/base/unit.h"

enum { BED_REQUESTS = 256 };

struct http_bed;

struct bed_request { // as the server sees it
    struct http_stream stream;
    struct http_bed *bed;
    char method[8], path[512], agent[32], length[16], type[64], token[32];
    char body[256];
    size_t n_body; // also beyond what is kept
    bool is_whole; // the request has ended
    bool is_gone; // reset by the client
    uint32_t conn; // number of its connection
};

struct http_bed {
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct listener listener;
    bool listener_is_closed;
    struct http_conn_config http;
    struct list conns;
    uint32_t n_conns, n_accepted;
    struct bed_request requests[BED_REQUESTS];
    uint32_t n_requests;
    // Called when a request is whole; NULL: the test looks by itself.
    void (*on_request)(struct http_bed *bed, struct bed_request *request);
    // A stream of the test's own for each request; NULL: one of `requests`.
    struct http_stream *(*on_stream)(struct http_bed *bed);
    void *arg;
    char address[64]; // "http://127.0.0.1:PORT"
};

void http_bed_open(struct http_bed *bed);
void http_bed_close(struct http_bed *bed); // when the clients are freed
struct http_client *http_bed_client(struct http_bed *bed, enum http_client_protocol protocol,
                                    uint32_t conns_max);
void http_bed_turn(struct http_bed *bed);
// The server's side. status 0: no head any more.
void bed_reply(struct bed_request *request, uint16_t status, const char *body, bool end);
void bed_reply_with(struct bed_request *request, uint16_t status, const char *name,
                    const char *value, const char *body, bool end);
void http_bed_cut(struct http_bed *bed); // all connections
void http_bed_drain(struct http_bed *bed); // GOAWAY, or an end when idle

#define BED_WAIT(bed, condition)                                                                   \
    do {                                                                                           \
        for (int i_ = 0; i_ < 50000 && !(condition); i_++) {                                       \
            http_bed_turn(bed);                                                                    \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)
