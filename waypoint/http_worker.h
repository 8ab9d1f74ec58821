// SPDX-License-Identifier: Apache-2.0
//
// What the HTTP side keeps of a worker.
#pragma once

#include "waypoint/exchange_report.h"
#include "waypoint/upstream.h"

struct http_worker {
    struct wworker *worker;
    struct loop *loop;
    struct upstreams upstreams;
    struct exchange_reporter reporter;
    struct http_conn_config server; // of connections of clients
    struct slab exchange_slab;
    struct list conns; // http_down.node
    struct hmap direct; // direct.c: ports of workloads that are called by their addresses
    uint32_t n_direct;
    struct dynamic *dynamic; // dynamic.c: host names that requests ask for; NULL: none has yet
    uint32_t n_dns_socks; // of its look-ups, that the loop still polls
    uint32_t n_exchanges, n_mirrors; // that exist
    bool is_draining;
    uint64_t generation; // of the snapshot whose settings client_cert and the reporter have
    // Of x-forwarded-client-cert, up to the client's identity: "By=OUR ID;URI="; NULL: the Gateway
    // does not ask for it.
    char *client_cert;
};

// The news of a snapshot are mail: a request that comes right behind its publication may be taken
// first. What goes by settings that are kept of a snapshot calls this before.
void http_worker_catch_up(struct http_worker *http);
