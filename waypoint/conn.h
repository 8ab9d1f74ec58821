// SPDX-License-Identifier: Apache-2.0
//
// A connection of a client: one CONNECT stream in a tunnel to the waypoint, from its request to its
// end. Here: who the client is, what it asked for, whether it may, and who serves it (HTTP or TCP).
//
// Life. conn.c makes it at the request, decides, and calls wconn_serve's choice, http_serve or
// tcp_serve. From there on the server side owns the connection: it accepts or refuses the stream,
// and calls wconn_done exactly once, when the stream's duplex is closed (or was never taken) and
// nothing of its own refers to the connection any more.
//
//     refused:  wconn_refuse(conn, ...) -> wconn_done(conn)
//     accepted: duplex = wconn_accept(conn); attach events; hold(false); ... on_closed ->
//     wconn_done
//
// Between serve and accept the stream may be lost: ops->lost is called once, and then wconn_done is
// due without accept or refuse.
//
// Thread: the worker's.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/net/pipe.h"
#include "waypoint/worker.h"

struct wconn;
struct metric_series;

// What the side that serves a connection offers to the worker. All may be called at any time
// between serve and wconn_done.
struct wconn_ops {
    const char *protocol; // "http", "tcp": for lists
    // The client's stream is gone before it was accepted (FLOW_... says why).
    void (*lost)(struct wconn *conn, enum flow_end reason);
    // Ends it now, whatever its state (policy, drain deadline). wconn_done may come within the
    // call.
    void (*cut)(struct wconn *conn, enum flow_end reason);
    // The process drains: finish what runs, take nothing new. NULL ok.
    void (*drain)(struct wconn *conn);
    // Ends it in order now, if nothing runs; false: something does, or it ends already. NULL:
    // never.
    bool (*end)(struct wconn *conn);
    // Payload bytes so far, for lists. NULL ok.
    void (*count)(const struct wconn *conn, uint64_t *ret_sent, uint64_t *ret_received);
};

struct wconn {
    const struct wconn_ops *ops; // NULL before it is served
    void *user; // of the side that serves it
    struct wworker *worker;
    struct list node; // worker->conns
    struct list waiting; // worker->waiting
    struct hbone_tunnel *tunnel; // a reference
    struct hbone_stream down; // the CONNECT stream
    struct duplex *client_end; // its duplex, once it is accepted
    uint64_t id, started_ns; // monotonic
    struct addr client; // the client's address; port 0 when its proxy did not tell
    struct addr local; // where the tunnel came to
    struct slice client_id; // SPIFFE id, verified by TLS; lives as long as the connection
    struct addr dst; // the CONNECT authority: VIP:port or pod IP:port
    // Leaves, referenced; NULL = none. Either service or workload is set when it is served.
    struct workload *source; // the client's workload (its zone, labels, namespace)
    struct service *service; // dst is an address of it
    struct workload *workload; // dst is an address of it: no choice of an endpoint
    struct service *direct; // HTTP to `workload`: what stands for it (direct.h); else NULL
    uint16_t port; // index in service->ports
    uint8_t app_protocol; // enum app_protocol; UNKNOWN: to be sniffed
    bool is_accepted; // 200 was sent
    bool was_told; // its service was bound elsewhere
    bool is_tcp; // carried as bytes: reported as a whole
    uint64_t rebound_at; // when its service was bound elsewhere; 0: it is not (bindings.h)
    uint32_t checked; // worker->recheck that it was checked against
    // The upstream of the whole connection (TCP), for lists, logs and metrics.
    struct workload *destination; // referenced or NULL
    struct addr target, hbone_addr; // the endpoint; its tunnel's far end or not set
    bool is_mtls_up; // over HBONE
    uint64_t n_sent, n_received; // towards the client, from the client
    uint8_t end; // enum flow_end, for logs
    char *detail; // more about a failure, for the log; NULL = none
};

// Answers 200; the duplex is the client's end, held until its events are set and hold(false).
struct duplex *wconn_accept(struct wconn *conn);
// Before accept: answers with the status of `err`. The stream needs no further care.
void wconn_refuse(struct wconn *conn, enum hbone_err err, enum flow_end reason);
// The last step: gives up references, frees.
void wconn_done(struct wconn *conn);

// A connection that waits for its binding, once more; is_last: it does not wait longer. True: it
// waits no more (and may be gone).
bool wconn_dispatch_again(struct wconn *conn, bool is_last);
// Policy changed: true when it is no longer allowed (conn->detail says why).
bool wconn_is_denied(struct wconn *conn);
// Ends it in whatever state it is; it may be gone after that.
void wconn_cut(struct wconn *conn, enum flow_end reason);

// Keeps a copy of the text (NULL or "": none) for the log.
void wconn_set_detail(struct wconn *conn, const char *text);
// The chosen endpoint's workload (TCP); takes a reference.
void wconn_set_destination(struct wconn *conn, struct workload *workload);
static inline const struct service_port *wconn_service_port(const struct wconn *conn) {
    const struct service *direct = conn->direct;
    return conn->service != NULL ? &conn->service->ports[conn->port]
           : direct != NULL      ? &direct->ports[0]
                                 : NULL;
}

// tcp_serve.c: carries the connection as bytes. `early`: bytes that were taken from the client
// already (moved out; the connection was accepted, its duplex is attached to nobody); NULL: nothing
// was read and nothing answered. `fin`: the client's direction has ended with them.
void tcp_serve(struct wconn *conn, struct chain *early, bool fin);
// http_serve.c: HTTP, or (conn->app_protocol is APP_UNKNOWN) to be told from the first bytes.
void http_serve(struct wconn *conn);
