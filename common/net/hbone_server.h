// SPDX-License-Identifier: Apache-2.0
//
// Server side of HBONE: the tunnels that peers open to one listener (a pod's 15008, a waypoint's),
// and the CONNECT requests in them. Here: handshake, limits on unfinished handshakes, deadline of
// the first request, expiry of certificates, drain, re-checks. What a request means, and whether it
// may, is the owner's.
//
// Thread: the worker's. The server is embedded in its owner, which goes when `tunnels` is empty.
#pragma once

#include "common/net/hbone_stream.h"

enum {
    HBONE_FIRST_CONNECT_MS = 10000,
    HBONE_UNFINISHED_MAX = 64, // handshakes under way of one server
};

struct hbone_server;

// A tunnel. It lives until its transport is closed and every user has put it.
struct hbone_tunnel {
    struct h2_drv drv;
    struct list node; // hbone_server.tunnels
    struct hbone_server *server;
    struct tls_peer *peer; // NULL before the end of the handshake
    struct addr src, dst;
    struct timer first; // deadline of the first request
    int64_t not_after; // Unix seconds, the earlier of both chains
    uint32_t n_users;
    bool is_closed;
};

struct hbone_server_handler {
    // A request; event->stream has no user yet: hbone_stream_init(stream, &tunnel->drv, ..), and
    // hbone_tunnel_get for as long as the tunnel is looked at.
    void (*on_request)(struct hbone_tunnel *tunnel, const struct h2_event *event);
    // A connection that ended before it was a tunnel.
    void (*on_failed)(struct hbone_server *server, const struct addr *src, const struct addr *dst,
                      enum flow_end reason, const char *detail);
    // A tunnel's memory went; the owner may be waiting for the last one. May free the server.
    void (*on_gone)(struct hbone_server *server);
};

struct hbone_server {
    const struct hbone_server_handler *handler;
    struct loop *loop;
    struct tls_queue *queue;
    const struct h2_config *h2; // for new tunnels; outlives them
    _Atomic uint32_t *gauge; // of tunnels, written by this thread alone; several servers may share
    struct list tunnels;
    uint32_t n_unfinished; // in their handshake
    bool allow_growth; // of stream windows
    bool is_draining; // new tunnels get GOAWAY as soon as they are up
};

void hbone_server_init(struct hbone_server *server, struct loop *loop, struct tls_queue *queue,
                       const struct h2_config *h2, _Atomic uint32_t *gauge,
                       const struct hbone_server_handler *handler);
// A connection was accepted: takes the fd, and shows the identity of `tls`. With too many
// unfinished handshakes the oldest that has said nothing makes room, else the fd is reset
// (on_failed with FLOW_OVERLOAD).
void hbone_server_accept(struct hbone_server *server, int fd, struct tls_ctx *tls,
                         const struct addr *src, const struct addr *dst);
void hbone_server_drain(struct hbone_server *server); // GOAWAY; streams go on
// Ends all tunnels: in order (GOAWAY, close_notify, FIN) or by RST. Their streams are lost.
void hbone_server_end(struct hbone_server *server, enum flow_end reason, bool orderly);
void hbone_server_allow_growth(struct hbone_server *server, bool is_allowed);
// Trust bundle or CRL changed: ends tunnels whose client `tls` no longer accepts (FLOW_REVOKED,
// FLOW_UNTRUSTED).
void hbone_server_recheck(struct hbone_server *server, struct tls_ctx *tls);

static inline void hbone_tunnel_get(struct hbone_tunnel *tunnel) {
    tunnel->n_users++;
}
void hbone_tunnel_put(struct hbone_tunnel *tunnel);
// One of the certificates is past its end: running streams live, new ones need a new tunnel.
bool hbone_tunnel_is_expired(const struct hbone_tunnel *tunnel, int64_t now_s);
