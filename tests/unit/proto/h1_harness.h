// SPDX-License-Identifier: Apache-2.0
//
// For the tests of HTTP/1: an h1_conn whose events become a line of text.
//
//   GET a /p     HEADERS of a request: method, authority, path, then {fields}, ^protocol, ?100 when
//   it
//                waits for 100, =1.0
//   200          HEADERS of a response, likewise; 1xx the same with ~ in front
//   <...>        DATA, joined
//   {a=b|c=d}    TRAILERS
//   .            END
//   !NAME        ERROR
//   $ # w        SENT, CLOSED, WRITABLE
#pragma once

#include "common/base/buf.h"
#include "common/base/chain.h"
#include "common/proto/h1_conn.h"
#include "tests/unit/base/unit.h"

enum h1_bed_mode {
    H1_BED_PASSIVE,
    H1_BED_ANSWER, // server: 200 without a body to each request that has ended, and to each error
    H1_BED_SWITCH, // server: 101 to each request that asks for it, else as ANSWER
};

struct h1_bed {
    struct blk_pool pool;
    struct h1_conn *conn;
    struct buf seen; // the events
    struct buf sent; // what was pulled
    enum h1_bed_mode mode;
    bool in_data, keeps_unconsumed;
};

void h1_bed_init(struct h1_bed *bed, bool is_server, enum h1_bed_mode mode,
                 const struct h1_config *config); // NULL: the default
void h1_bed_fini(struct h1_bed *bed); // nothing may be left
// In pieces of `chunk` bytes, each in a block of its own; takes the events after each.
void h1_bed_feed(struct h1_bed *bed, struct slice bytes, size_t chunk);
void h1_bed_eof(struct h1_bed *bed, bool is_clean);
// Takes the events, pulls, until nothing happens any more.
void h1_bed_run(struct h1_bed *bed);
// "GET a /p" or "200", then {a=b|c=d}, then ^protocol. Names and values are copied to `text`.
struct h1_msg {
    struct http_head head;
    struct http_field fields[128];
    char text[512];
};
void h1_msg_parse(struct h1_msg *msg, const char *text);
// Sends it; must be possible.
void h1_bed_head(struct h1_bed *bed, const char *text, bool end);
void h1_bed_data(struct h1_bed *bed, const char *text, bool end);
const char *h1_bed_seen(struct h1_bed *bed); // and forgets it
const char *h1_bed_sent(struct h1_bed *bed);
