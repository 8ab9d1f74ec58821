// SPDX-License-Identifier: Apache-2.0
//
// Shared by upstream*.c.
#pragma once

#include "waypoint/dial.h"
#include "waypoint/upstream.h"
#include "waypoint/upstream_tls.h"

struct balancer { // for one class of clients
    struct hmap_node node; // upstream_view.balancers
    struct l7_lb *lb;
    struct workload *source; // referenced; NULL = not known
    char class[];
};

struct through { // a host by its address alone
    struct through *next;
    struct l7_host host; // its cell is a cluster_host's, referenced
    struct endpoint endpoint; // without a workload
};

struct upstream_view {
    uint32_t refs;
    uint32_t epoch; // upstream.epoch when it was made
    struct upstream *upstream; // borrowed: it stays while it has views
    struct cluster *cluster;
    struct service *service;
    struct leaf *policy; // NULL: the defaults
    const struct l7_settings *settings; // the policy's
    size_t port; // index in service->ports
    struct l7_host *hosts; // each cell is a cluster_host's, referenced
    size_t n_hosts;
    struct hmap balancers;
    struct through *through; // as many as the service has addresses
};

struct upstream {
    struct hmap_node node; // upstreams.table
    struct list in_all; // upstreams.all
    struct upstreams *all;
    uint32_t refreshed; // upstreams.refresh that it has seen
    struct cluster *cluster;
    struct upstream_view *view; // the newest
    struct hmap pools; // upstream_pool.node, by address
    // Of the settings that connections are made of (l7_settings_same_connections, and what the
    // service says). Those of an older epoch serve requests that began then, and nobody else.
    uint32_t epoch;
    // What is due next: a look at ejected hosts, the end of an idle or old connection, the end of
    // all that when nobody uses it.
    struct timer due;
    uint64_t last_used; // monotonic ns
    uint32_t n_waiting; // requests, of all pools
    uint32_t n_views; // that exist
    bool is_starved; // counted in cluster->n_starved
};

// What connections to one host may differ in, but for the version of HTTP.
struct upstream_flavor {
    char name[UPSTREAM_NAME_MAX]; // the server's, for TLS without sni; else ""
    uint8_t ahead[PROXY_HEADER_MAX]; // of the PROXY protocol
    size_t ahead_len;
};

// Connections of one worker to one host, and requests that wait for one.
struct upstream_pool {
    struct hmap_node node;
    struct upstream *upstream;
    struct cluster_host *host; // referenced
    struct upstream_flavor *flavor; // heap; NULL: none of it
    uint32_t epoch; // upstream.epoch of its requests
    bool is_left; // the newest view has no use for it: keeps no idle connection
    struct http_conn_config http; // of its connections
    struct list conns; // upstream_conn.node
    struct list waiting; // upstream_request.node
    // For further connections: those of the request that came last.
    struct workload *workload; // referenced; NULL: plain TCP. All of them are reached alike
    struct upstream_view *view; // referenced while requests wait
    uint32_t n_conns, n_dialing, n_waiting;
};

struct upstream_conn {
    struct list node;
    struct upstream_pool *pool;
    struct upstream_dial dial;
    struct http_conn http; // once connected
    struct upstream_path path;
    uint64_t opened_ns, idle_ns, max_age_ns; // times to live; 0 = for ever
    uint32_t max_requests; // 0 = any number
    uint32_t max_streams; // at a time
    uint8_t version; // enum http_conn_version
    bool is_open;
    bool is_leaving; // takes no new request
    bool is_shed; // counted in cluster->n_shed
};

// Whether the way to both, and whose identity is accepted there, is the same. NULL: plain TCP.
bool upstream_is_same_way(const struct workload *a, const struct workload *b);
// The pool's address is an endpoint, and its connections are what the view would make.
bool upstream_view_has_pool(const struct upstream_view *view, const struct upstream_pool *pool);
// Takes no request but those that wait: what is idle ends now, what is busy when it is idle.
void upstream_pool_leave(struct upstream_pool *pool);
// Ends idle connections that are more than maxConnections, but not the last one to the host.
void upstream_pool_shed(struct upstream_pool *pool);
void upstream_pool_stop(struct upstream_pool *pool); // the same, and requests that wait fail
bool upstream_pool_is_empty(const struct upstream_pool *pool); // no connection, no request
void upstream_pool_free(struct upstream_pool *pool); // an empty one
// Ends what is idle or old; returns when to look again, TIME_NEVER: nothing will be due.
uint64_t upstream_pool_tick(struct upstream_pool *pool, uint64_t now);
// Something is due at `at`: no later than that it is looked at (but not more often than TICK_MS).
void upstream_due(struct upstream *up, uint64_t at);
// The cluster at this worker, or NULL.
struct upstream *upstream_find(struct upstreams *all, const struct cluster *cluster);
// A connection of the cluster is free again somewhere: requests that wait may have it.
void upstream_pools_go_on(struct upstream *up);
// Closes idle connections, for the sake of a worker that has none; returns how many.
uint32_t upstream_pools_yield(struct upstream *up);
