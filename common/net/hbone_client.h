// SPDX-License-Identifier: Apache-2.0
//
// Client side of HBONE: CONNECT streams on pooled tunnels.
//
// A pool key is pod, TLS generation (source identity), source address, destination address and the
// set of accepted identities: tunnels are never shared between pods. Pools belong to one worker. A
// further tunnel of a key opens when the others are at half their stream limit or hold
// HBONE_BUSY_BYTES for HBONE_BUSY_MS; at most HBONE_TUNNELS_MAX, except when not one of them has a
// free stream: flows that live long would keep the next one waiting for good. All but one of a key
// close after 10 s without streams, the last one after idle_ns. A tunnel with GOAWAY,
// or past the validity of either certificate, takes no new stream.
//
// Retries in here: only a request that found its pooled tunnel stale (it died before any answer),
// or refused (REFUSED_STREAM, id above GOAWAY), goes once to a fresh tunnel. All else is the
// caller's: another endpoint may be tried after a failed connect or handshake, a refusal as above
// and 503, when nothing can have happened to the request. A reset stream, a tunnel that was up and
// died, 400 and 401 are final.
#pragma once

#include "common/base/hmap.h"
#include "common/net/hbone_stream.h"
#include "common/proto/hbone.h"
#include "common/rt/dial.h"

enum {
    HBONE_TUNNELS_MAX = 4,
    HBONE_TUNNELS_FULL_MAX = 320, // with 100 streams each: a client's ports
    HBONE_BUSY_BYTES = 256 * 1024,
    HBONE_BUSY_MS = 10,
    HBONE_ANSWER_MS = 15000,
    HBONE_WAIT_MS = 21000, // for a tunnel: its connect and handshake have 10 s each
    HBONE_SANS_MAX = 16,
};

struct hbone_client_config {
    struct h2_config h2;
    uint64_t idle_ns; // close a tunnel without streams after this long (5 min)
    uint64_t dial_timeout_ns; // TCP connect (10 s)
    uint32_t n_full_max; // tunnels of a key when all are full (HBONE_TUNNELS_FULL_MAX)
    // A key (its hash as of hbone_route_hash) has a live tunnel with a free stream now, or has none
    // any more. NULL ok.
    void (*on_room)(void *arg, uint64_t key, bool has_room);
    void *arg;
};
void hbone_client_config_init(struct hbone_client_config *config);

struct hbone_client_stats {
    uint64_t n_tunnels; // gauge: dialing, shaking hands, ready
    uint64_t n_ready; // gauge
    uint64_t n_opened, n_dial_failed, n_tls_failed, n_streams, n_stale_retries;
};

struct hbone_client {
    struct loop *loop;
    struct tls_queue *tls_queue;
    struct hbone_client_config config;
    struct hmap keys;
    struct list tunnels; // all that exist, also those that left the pool and end with their streams
    struct timer sweep;
    struct hbone_client_stats stats;
    bool allow_growth;
    bool is_closing; // requests that wait fail instead of getting another tunnel
};

// Where a tunnel goes and as whom.
struct hbone_route {
    uint64_t pod_id; // unique number of the source pod
    struct tls_ctx *tls; // source identity
    struct io_socket_params socket; // namespace, mark, options
    struct addr destination; // tunnel endpoint, mostly port 15008
    struct ip source_ip;
    const struct slice *sans; // accepted identities
    size_t n_sans;
};

enum {
    HBONE_KEY_FIXED = 8 + 8 + 17 + 17 + 2,
    HBONE_KEY_MAX = HBONE_KEY_FIXED + HBONE_SANS_MAX * 600,
};
// The pool key of a route as bytes: HBONE_KEY_FIXED of them, then the identities with a NUL each.
// Returns their number. ANY thread, as the next.
size_t hbone_route_key(const struct hbone_route *route, uint8_t ret_text[HBONE_KEY_MAX]);
uint64_t hbone_route_hash(const struct hbone_route *route); // of the key; the same on all workers

struct hbone_request;

struct hbone_request_ops {
    // Writes the CONNECT head when a stream is at hand.
    void (*build)(struct hbone_request *request, struct hbone_head *ret_head);
    // 2xx: request->stream is open and held; attach it to a pipe at once.
    void (*on_open)(struct hbone_request *request, const struct h2_event *head);
    // No stream. `status` != 0: the peer answered so (reason FLOW_CONNECT_REFUSED).
    // is_retryable: another endpoint may be tried.
    void (*on_fail)(struct hbone_request *request, enum flow_end reason, uint16_t status,
                    bool is_retryable);
};

// Embedded in a flow; idle before connect and after on_open/on_fail.
struct hbone_request {
    const struct hbone_request_ops *ops;
    struct hbone_stream stream;
    struct h2_drv *drv; // of the stream, while is_open
    struct hbone_client *client;
    struct hbone_key *key; // while waiting or open
    struct list node; // key's waiting list
    struct timer timer; // deadline of the wait for a tunnel, then of the answer
    bool is_reused, was_retried; // the tunnel served others before; second try
    bool is_open; // stream opened, no answer yet
    bool is_unserved; // why it failed: nobody is there yet, or any more; valid during on_fail
    const char *detail; // why it failed, for logs; valid during on_fail
};

void hbone_client_init(struct hbone_client *client, struct loop *loop, struct tls_queue *queue,
                       const struct hbone_client_config *config);
void hbone_client_fini(struct hbone_client *client); // all tunnels are closed
void hbone_request_init(struct hbone_request *request, const struct hbone_request_ops *ops);
// The route is copied as needed.
void hbone_client_connect(struct hbone_client *client, struct hbone_request *request,
                          const struct hbone_route *route);
// Before on_open/on_fail: gives up, no callback.
void hbone_request_cancel(struct hbone_request *request);

// The pod goes away: drains (flows go on) or, with reason, aborts its tunnels.
void hbone_client_close_pod(struct hbone_client *client, uint64_t pod_id, bool abort,
                            enum flow_end reason);
// No new streams to destinations that `keep` rejects (their workload left); they close when idle.
void hbone_client_retain(struct hbone_client *client,
                         bool (*keep)(void *arg, const struct addr *destination), void *arg);
// The process stops: drains, or aborts, everything; requests that wait for a tunnel fail.
void hbone_client_drain_all(struct hbone_client *client);
void hbone_client_abort_all(struct hbone_client *client, enum flow_end reason);
// Trust bundle or CRL changed: ends tunnels whose peer `check` rejects (FLOW_REVOKED,
// FLOW_UNTRUSTED).
void hbone_client_recheck(struct hbone_client *client,
                          enum tls_err (*check)(void *arg, uint64_t pod_id,
                                                const struct tls_peer *peer),
                          void *arg);
void hbone_client_allow_growth(struct hbone_client *client, bool is_allowed);
size_t hbone_client_n_tunnels(const struct hbone_client *client);
