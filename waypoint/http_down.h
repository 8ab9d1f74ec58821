// SPDX-License-Identifier: Apache-2.0
//
// An HTTP connection of a client: the bytes of its CONNECT stream, once they are known to be HTTP.
// Its requests are exchanges.
//
// Thread: the worker's.
#pragma once

#include "common/net/http_conn.h"
#include "waypoint/conn.h"
#include "waypoint/http_worker.h"

enum { HTTP_DOWN_IDLE_MS = 3600 * 1000 }; // without an exchange: then the connection ends

struct http_down {
    struct http_worker *http;
    struct wconn *wconn; // outlives it
    struct list node; // http_worker.conns
    struct list exchanges; // exchange.node
    // What was called and its routes in the snapshot of that generation; borrowed from it.
    struct service *called; // NULL: not looked up yet
    struct leaf *routes; // NULL: the default route
    uint64_t generation;
    struct http_conn conn;
    struct timer idle;
    bool is_closed; // the transport is: gone with the last exchange
};

// The connection is accepted and its duplex attached to nobody, held. `early`: what was read
// already (NULL: nothing); `fin`: the client's direction has ended with it.
void http_down_start(struct wconn *wconn, struct duplex *duplex, struct chain *early, bool fin);
// An exchange has ended.
void http_down_check(struct http_down *down);
