// SPDX-License-Identifier: Apache-2.0
//
// A way through an HTTP/1.1 proxy, as a duplex over the duplex that leads to the proxy: CONNECT
// (RFC 9110 9.3.6), whose bytes are the connection's own once the proxy has answered 2xx, or POST,
// where they are the bodies of one request and its response.
//
// With CONNECT half-close and credit are the transport's. With POST the end of a body is the end of
// a direction; a response that breaks off is a cut.
//
// Life: from proxy_tunnel_init to handler->on_closed, which is the last call; the memory may be
// reused then. The plain duplex has its own on_closed just before, if it was handed out.
//
// Limits: those of a response's head (h1_head.h); 8 interim responses. The time is the owner's.
//
// Thread: the worker's.
#pragma once

#include "common/net/duplex.h"
#include "common/proto/h1_body.h"

struct proxy_tunnel;

struct proxy_tunnel_handler {
    // The proxy agrees: `tunnel->duplex` is held; set its events and owner, then hold(false).
    void (*on_ready)(struct proxy_tunnel *tunnel);
    // It does not; the transport is being closed. The reason is borrowed for the call.
    void (*on_fail)(struct proxy_tunnel *tunnel, const char *text);
    void (*on_closed)(struct proxy_tunnel *tunnel);
};

struct proxy_tunnel_target {
    struct slice authority; // "host:port"
    bool is_post;
};

struct proxy_tunnel {
    struct duplex duplex; // the plain side
    const struct proxy_tunnel_handler *handler;
    struct duplex *inner; // towards the proxy; NULL once closed
    struct h1_head head; // of the response
    struct h1_body body; // POST
    struct h1_body_out out; // POST
    struct chain input; // received, not handed out yet
    size_t n_unsent, n_plain_unsent; // bytes that have not left: all; what of them is the owner's
    uint8_t n_interim;
    uint8_t depth; // calls under way: on_closed comes after the outermost
    bool is_post, is_ready, is_held, is_reading;
    bool got_fin, told_fin; // of the transport; to the owner
    bool is_closing; // nothing is handed out any more
    bool is_cut, is_closed;
};

// Sends the request. The transport is held, as it comes from on_open of whoever made it; its blocks
// are the pool's.
void proxy_tunnel_init(struct proxy_tunnel *tunnel, struct blk_pool *pool, struct duplex *inner,
                       const struct proxy_tunnel_target *target,
                       const struct proxy_tunnel_handler *handler);
// Before on_ready: gives up; on_closed follows.
void proxy_tunnel_abort(struct proxy_tunnel *tunnel);
