// SPDX-License-Identifier: Apache-2.0
//
// Shared by hbone_client.c (keys, tunnels, requests) and hbone_client_all.c (the pool as a whole).
#pragma once

#include "common/net/hbone_client.h"

enum tunnel_state { TUNNEL_DIALING, TUNNEL_SHAKING, TUNNEL_READY, TUNNEL_ENDING };

struct hbone_tunnel {
    struct h2_drv drv;
    struct dial *dial; // while DIALING
    struct hbone_key *key; // NULL once it is out of the pool
    struct hbone_client *client;
    struct list node; // key->tunnels
    struct list all; // client->tunnels, until it is freed
    uint64_t pod_id;
    struct tls_ctx *tls;
    struct tls_peer *peer; // own copy, once ready
    uint64_t busy_since; // monotonic ns since it has held HBONE_BUSY_BYTES; 0 = it has not
    int64_t not_after; // Unix seconds: no new streams later
    uint8_t state;
    bool served; // had a stream
    bool is_proven; // frames of the peer arrived: it has taken our certificate and speaks HTTP/2
};

// One pool key with its tunnels and the requests that wait for one.
struct hbone_key {
    struct hmap_node node;
    struct hbone_client *client;
    struct list tunnels, waiting;
    uint32_t n_tunnels, n_connecting;
    uint32_t n_requests; // that wait, or have a stream without an answer
    struct tls_ctx *tls;
    struct io_socket_params socket;
    uint64_t pod_id;
    struct addr destination;
    bool has_room; // as on_room was told
    size_t text_len; // the whole key as bytes: fixed part, then the SANs with NULs
    uint8_t text[];
};

// No new streams; it closes with the last one. is_gone: there is nothing to connect to any more.
void hbone_client_drain(struct hbone_tunnel *tunnel, bool is_gone);

// Past the validity of either certificate: running streams live, new ones go elsewhere.
static inline bool hbone_client_is_expired(const struct hbone_tunnel *tunnel) {
    return tunnel->not_after < clock_wall_s();
}
