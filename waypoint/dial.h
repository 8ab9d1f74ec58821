// SPDX-License-Identifier: Apache-2.0
//
// A connection to one endpoint, whatever the way: a CONNECT stream in a tunnel to the pod's port
// 15008, where exactly the endpoint's SPIFFE id (or one that the service names) is accepted, or
// plain TCP to a workload that has no HBONE. Over that, as a DestinationRule asks for it, a header
// of the PROXY protocol, TLS with the server itself, and a tunnel through it, where it is a proxy
// (dial_layer.c). One attempt; choosing endpoints and trying others is the caller's.
//
// Embedded in its owner. After on_open the duplex lives in it: the owner keeps it until the
// duplex's on_closed. After on_fail and upstream_dial_cancel it may be freed or started again.
//
// Thread: the worker's.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/net/hbone_client.h"
#include "common/net/link_end.h"
#include "common/net/proxy_tunnel.h"
#include "common/net/tls_end.h"

struct l7_pool_policy;
struct wworker;
struct upstream_dial;

struct upstream_failure {
    uint8_t reason; // enum flow_end
    bool is_timeout; // the connect timeout
    bool is_retryable; // another endpoint may be tried
    bool is_unserved; // nobody is at the pod's port 15008: it may be joining the mesh
    uint16_t status; // what the peer answered the CONNECT with, 0 = nothing
    const char *text; // for logs and local replies; valid during the call; never NULL
};

struct upstream_dial_ops {
    // Connected. The duplex is held: set its events and owner, then hold(false).
    void (*on_open)(struct upstream_dial *dial, struct duplex *duplex);
    void (*on_fail)(struct upstream_dial *dial, const struct upstream_failure *failure);
};

struct upstream_target { // borrowed for the call
    struct workload *workload; // the endpoint's; NULL: plain TCP to `addr`
    const struct service *service; // its SANs are accepted too, its name goes into `forwarded`
    struct addr addr; // pod ip : target port
    uint64_t timeout_ns; // for all of it: connect, handshake, answer; 0: UPSTREAM_DIAL_MS
    // TLS with the server; NULL: none.
    struct tls_ctx *tls;
    struct tls_outside_server server;
    struct slice ahead; // what goes ahead of everything else: PROXY protocol; empty: nothing
    // The server is a proxy, through which the connection goes on to "host:port"; empty: it is not.
    struct proxy_tunnel_target proxy;
    const struct l7_pool_policy *pool; // tcpKeepalive of plain TCP; NULL: the waypoint's setting
};

enum { UPSTREAM_DIAL_MS = 10000 };

// The transport: lives in the dial, or in the layer above it.
struct upstream_way {
    struct upstream_dial *dial; // while it connects
    union {
        struct hbone_request request;
        struct link_end link;
    } up;
};

struct dial_layer;

struct upstream_dial {
    const struct upstream_dial_ops *ops;
    struct wworker *worker;
    struct workload *workload; // referenced until the end of the attempt
    struct service *service;
    struct addr addr, hbone_addr; // hbone_addr is not set for plain TCP
    struct timer timer;
    struct loop_flush flush; // on_fail of what fails at once
    struct dial *dial; // while connecting plainly
    bool is_active, in_start, is_requesting, is_hbone;
    struct upstream_failure failure; // that waits for `flush`
    char text[TLS_LINK_ERROR_MAX];
    bool has_keepalive; // other than the waypoint's setting
    uint32_t keepalive_s, keepalive_interval_s, keepalive_probes;
    struct addr local; // our end of the transport, once it is there
    struct upstream_way own, *way; // way: `own`, or the layer's
    struct dial_layer *layer; // NULL: none, or not the dial's any more
};

// Never calls an op before it returns. All zero before the first start.
void upstream_dial_start(struct upstream_dial *dial, struct wworker *worker,
                         const struct upstream_target *target, const struct upstream_dial_ops *ops);
// Before on_open or on_fail: gives up, no callback. Harmless on one that was never started when it
// is all zero, and after either callback.
void upstream_dial_cancel(struct upstream_dial *dial);
