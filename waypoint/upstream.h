// SPDX-License-Identifier: Apache-2.0
//
// One worker's side of the clusters that requests go to: which endpoints there are now (a view),
// balancers over them, and connections to them.
//
// A view is a version of a cluster: made of a service leaf and a policy leaf of one snapshot, and
// kept by the requests that chose from it. Connections belong to an address of the cluster and
// survive views; when the settings that they are made of changed, or the address is no endpoint any
// more, they take no new request.
//
// Limits (cluster.h) hold for the process; connections stay with their worker. A worker that may
// open none, and has none to the host, asks the others to close one that is idle.
//
// Thread: the worker's.
#pragma once

#include "common/l7/l7_lb.h"
#include "common/l7/l7_retry.h"
#include "common/mesh/snapshot.h"
#include "common/net/http_conn.h"
#include "waypoint/cluster.h"
#include "waypoint/worker.h"

struct upstream; // a cluster at this worker
struct upstream_conn;
struct upstream_pool;
struct upstream_view;

struct upstreams { // of a worker
    struct wworker *worker;
    struct hmap table; // struct upstream
    struct http_conn_config http;
    struct list all; // of upstreams, the longest not refreshed in front
    uint32_t refresh; // upstreams_refresh calls
    struct timer refresh_timer; // goes on with the upstreams of the last one
    uint32_t n_conns, n_layers; // that exist: connections, layers over their transports
    bool is_stopping;
};

void upstreams_init(struct upstreams *all, struct wworker *worker);
void upstreams_drain(struct upstreams *all); // no new connections are kept
// At the end: requests that wait fail, idle connections are closed; false while some exist.
bool upstreams_stop(struct upstreams *all);
void upstreams_fini(struct upstreams *all); // after that
// A snapshot was published. Works in steps: the rest of many upstreams in later turns.
void upstreams_refresh(struct upstreams *all);

// What a request is sent to: the service's port (index) and a subset. NULL: there is no such subset
// (NC). The caller's reference.
struct upstream_view *upstream_view_get(struct upstreams *all, const struct snapshot *snap,
                                        struct service *service, size_t port, const char *subset);
// The same for the destination of a route: its service, port and subset. `called`, `called_port`:
// what the client called.
struct upstream_view *upstream_view_route(struct upstreams *all, const struct snapshot *snap,
                                          struct service *called, uint16_t called_port,
                                          const struct l7_cluster *cluster);
struct upstream_view *upstream_view_ref(struct upstream_view *view);
void upstream_view_unref(struct upstream_view *view); // NULL ok
struct cluster *upstream_view_cluster(const struct upstream_view *view);
const struct l7_settings *upstream_view_settings(const struct upstream_view *view);
const struct service *upstream_view_service(const struct upstream_view *view);
size_t upstream_view_n_hosts(const struct upstream_view *view); // for outlier detection
// The balancer for this client, valid as long as the view.
struct l7_lb *upstream_view_lb(struct upstream_view *view, const struct workload *source);

// Where the client wanted to go is where it goes: a ServiceEntry with resolution NONE, load
// balancer PASSTHROUGH, or (is_dynamic) DYNAMIC_DNS, where it is a name that says so (dynamic.h).
// Then there is nothing to balance: the host is that of the address.
bool upstream_view_is_through(const struct upstream_view *view);
const struct l7_host *upstream_view_through(struct upstream_view *view, const struct addr *addr);
// `host` is among those that were tried already, by their cells.
bool upstream_is_tried(const struct l7_host *host, const struct l7_host_cell *const *tried,
                       size_t n_tried);
// A host that was not tried yet, of the best level (`lb`: the client's balancer) that has one, for
// whoever must not try one twice. NULL: there is none.
const struct l7_host *upstream_view_other(struct upstream_view *view, const struct l7_lb *lb,
                                          const struct l7_host_cell *const *tried, size_t n_tried,
                                          struct rand *rand);
// A place among the cluster's connections for one that is no request's (TCP); false: maxConnections
// are in use. Given back, those that wait for one hear of it.
MUST_USE bool upstream_view_take_conn(struct upstream_view *view);
void upstream_view_give_conn(struct upstream_view *view);

// A request that wants a connection to a host; embedded in its owner.
struct upstream_request;
struct upstream_path { // of a connection
    struct addr addr, via; // the endpoint; the far end of its tunnel (not set: plain TCP)
    struct addr local; // our end of the transport
};
struct upstream_request_ops {
    // A connection with room: open a stream (http_conn_open) and send at once. `path` is valid
    // during the call.
    void (*on_ready)(struct upstream_request *request, struct http_conn *conn,
                     const struct upstream_path *path);
    // No connection. `text`: transport failure reason, may be "".
    void (*on_fail)(struct upstream_request *request, enum l7_reset reset, const char *text);
};
struct upstream_request {
    const struct upstream_request_ops *ops;
    struct list node; // of the host's waiting requests
    struct upstream_pool *pool; // not NULL while it waits
    uint8_t version; // enum http_conn_version
    bool is_upgrade; // needs to know what the server's SETTINGS allow
};

// HTTP/2 to ports that are declared so, or as the policy says; else HTTP/1.
enum http_conn_version upstream_version(const struct upstream_view *view, bool client_has_h2);
// Whose request it is. Connections are shared by those for which they would be made alike.
struct upstream_caller {
    struct slice authority; // the request's: the server's name in TLS where the policy sets none
    const struct addr *client, *called; // for the PROXY protocol
    bool is_upgrade; // the request asks for another protocol (http_head.protocol)
};
// One of both ops is called once, later or before this returns.
void upstream_request_start(struct upstream_request *request, struct upstream_view *view,
                            const struct l7_host *host, enum http_conn_version version,
                            const struct upstream_caller *caller,
                            const struct upstream_request_ops *ops);
void upstream_request_cancel(struct upstream_request *request); // harmless when it does not wait
