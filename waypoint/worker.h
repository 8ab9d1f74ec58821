// SPDX-License-Identifier: Apache-2.0
//
// A worker of the waypoint: one thread with its own ring, buffers, tunnels and connections. Workers
// share the snapshot and, for limits that hold for the process, what http_worker.h says; the
// control thread talks to them by mail.
#pragma once

#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/base/slab.h"
#include "common/net/hbone_client.h"
#include "common/net/hbone_server.h"
#include "common/net/parked_cap.h"
#include "common/rt/listener.h"
#include "common/rt/turn_clock.h"
#include "common/rt/worker.h"
#include "waypoint/config.h"

struct waypoint;
struct http_worker; // http_serve.c
struct wconn_list;

struct wworker {
    struct worker thread;
    struct waypoint *waypoint; // its config is constant; its other fields are the control thread's
    const struct waypoint_config *config;
    struct loop *loop;
    uint32_t index;
    struct tls_queue tls_queue;
    struct turn_clock turn_clock;
    struct parked_cap parked; // of all tunnels
    struct hbone_client client; // tunnels to pods
    struct hbone_server server; // tunnels of clients
    struct h2_config server_h2;
    struct listener listener;
    struct rand rand;
    struct list conns; // wconn.node
    struct list waiting; // wconn.waiting: their binding is not known yet
    struct hmap bindings; // bindings.c
    struct slab conn_slab, tcp_slab;
    struct http_worker *http; // what the HTTP side keeps of this worker
    struct ip own_ip; // under which clients reach it; not set before the first connection
    uint64_t last_conn_id;
    _Atomic uint32_t n_conns, n_tunnels; // written by the worker alone
    int fd_high; // connections with a descriptor above are refused: RLIMIT_NOFILE is near
    bool is_listening; // the listener is not closed yet
    bool is_draining;
    bool refuse_new; // memory or descriptors are short
    bool allow_growth; // stream windows may grow
    uint32_t recheck; // policy changes seen
    struct timer recheck_timer; // goes on with the connections of the last one
    struct timer waiting_timer; // deadline of `waiting`
    struct timer tick_timer; // once a second
    struct timer accept_timer, cut_timer; // drain
    uint64_t cut_end;
};

// Messages from the control thread; each may be called on any thread, runs on the worker's.
void wworker_send_listen(struct wworker *worker, int fd); // a listening socket, taken over
// A snapshot was published: what it changed (struct builder_changes).
struct wworker_news {
    bool policies, services, workloads;
};
void wworker_send_news(struct wworker *worker, struct wworker_news news);
void wworker_send_trust_changed(struct wworker *worker); // re-check running tunnels
void wworker_send_pressure(struct wworker *worker, bool allow_growth, bool refuse_new);
// Drain in two steps: GOAWAY now, accepting stops after accept_ms (a successor may need the time);
// then (cut) what is left is reset, spread over spread_ms.
void wworker_send_drain(struct wworker *worker, uint32_t accept_ms);
void wworker_send_cut(struct wworker *worker, uint32_t spread_ms);
// Appends the worker's live connections to `into` (conn_list.h), then mails `done` to the control
// loop.
void wworker_send_list(struct wworker *worker, struct mail *done, struct wconn_list *into);

struct wworker *wworker_new(struct waypoint *waypoint, uint32_t index, char **ret_error);
void wworker_free(struct wworker *worker); // stops and joins the thread; connections are cut

// What the thread does at its start and its end, for tests that bring a loop of their own
// (worker->thread.loop is set, and so are waypoint and index).
void wworker_open(struct wworker *worker);
bool wworker_is_idle(struct wworker *worker); // nothing is left; closes idle upstream connections
void wworker_close(struct wworker *worker); // after that

// Inside the worker: false when a new connection must be refused for lack of memory or descriptors.
// fd: the accepted descriptor, or -1 (a stream of a tunnel). Counts it.
bool wworker_admits(struct wworker *worker, int fd);

// conn.c: what the server of tunnels hears.
extern const struct hbone_server_handler wconn_hbone_handler;

// The HTTP side's share of a worker (http_serve.c), inside the worker.
void http_worker_open(struct wworker *worker); // sets worker->http
// The process drains: connections say GOAWAY or close after the next answer.
void http_worker_drain(struct wworker *worker);
// A snapshot was published.
void http_worker_news(struct wworker *worker, struct wworker_news news);
// At the end: idle upstream connections are closed; false while some are still open.
bool http_worker_stop(struct wworker *worker);
void http_worker_close(struct wworker *worker); // frees worker->http
