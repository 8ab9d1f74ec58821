// SPDX-License-Identifier: Apache-2.0
//
// Helpers of the HTTP/2 tests: a connection core with its pool and a text log of its events, raw
// frames, and a pair of cores that talk to each other.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/chain.h"
#include "common/base/clock.h"
#include "common/proto/h2_conn.h"
#include "common/proto/h2_frame.h"

// ---- raw bytes

struct wire {
    uint8_t *bytes;
    size_t len, cap;
};

void wire_free(struct wire *wire);
void wire_add(struct wire *wire, const void *bytes, size_t len);
void wire_frame(struct wire *wire, unsigned type, unsigned flags, uint32_t id, const void *payload,
                size_t len);
void wire_u32_frame(struct wire *wire, unsigned type, uint32_t id, uint32_t value);
void wire_settings(struct wire *wire, size_t n, const uint32_t (*pairs)[2]); // {id, value}
void wire_settings_ack(struct wire *wire);
void wire_data(struct wire *wire, uint32_t id, size_t len, bool end);
void wire_preface(struct wire *wire); // client preface and empty SETTINGS
// Header block text: "name=value|name=value"; '=' at position 0 of a name is not possible.
size_t wire_block(uint8_t *buf, size_t cap, const char *fields, bool size_update);
void wire_headers(struct wire *wire, uint32_t id, const char *fields, unsigned flags);
#define REQ_GET ":method=GET|:scheme=https|:path=/|:authority=a.b"
#define REQ_CONNECT ":method=CONNECT|:authority=10.0.0.1:80"

// ---- one core

struct h2_end {
    struct h2_conn *conn;
    struct blk_pool pool;
    struct h2_config config;
    uint64_t now;
    char *log; // events as text; DATA pieces in a row are joined
    size_t log_len, log_cap;
    uint32_t data_id; // DATA line that is open, 0 = none
    uint64_t data_len, data_hash;
    bool auto_consume; // h2_stream_consumed at once
    bool is_quiet; // no log
    void (*hook)(struct h2_end *end, const struct h2_event *ev); // sees each event, may be NULL
    void *hook_arg;
    struct h2_stream *streams[64]; // by id / 2
    size_t max_chunk; // input is cut in pieces of up to this; 0 = whole
    uint64_t seed; // random piece lengths when not 0
    uint64_t n_data; // payload bytes received
    uint32_t n_events[H2_EV_CONN_ERROR + 1];
    enum h2_err last_err; // of the last RESET or CONN_ERROR
    uint64_t rtt_ns;
};

void end_init(struct h2_end *end, bool is_server); // default config in end->config; then end_open
void end_open(struct h2_end *end, bool is_server);
void end_fini(struct h2_end *end); // asserts that nothing leaked
void end_feed(struct h2_end *end, const void *bytes, size_t len); // recv and take all events
void end_events(struct h2_end *end); // take events
size_t end_pull(struct h2_end *end, struct wire *wire, size_t budget); // 0 = all there is
const char *end_log(struct h2_end *end); // closes the open DATA line
void end_log_reset(struct h2_end *end);
struct h2_stream *end_stream_of(struct h2_end *end, uint32_t id);
uint64_t rnd(uint64_t *seed); // splitmix64

// A chain of `len` patterned bytes in pieces of `piece`, with head- and tailroom.
void make_data(struct chain *chain, struct blk_pool *pool, size_t len, size_t piece);
size_t fields_of(const char *text, struct http_field *fields, size_t max); // borrows from text

// Moves bytes both ways until both are quiet.
void pump(struct h2_end *a, struct h2_end *b);
// Starts a client and a server and exchanges SETTINGS.
void pair_open(struct h2_end *client, struct h2_end *server);

// One line per frame of `wire`: "TYPE flags=.. id=.. len=.." for assertions.
char *wire_text(const struct wire *wire, bool has_preface); // caller frees
