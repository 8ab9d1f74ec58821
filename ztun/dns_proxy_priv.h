// SPDX-License-Identifier: Apache-2.0
//
// Shared by dns_proxy.c (queries and their answers, UDP) and dns_tcp.c (clients that come over
// TCP).
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/rand.h"
#include "common/rt/watch.h"
#include "ztun/dns_proxy.h"
#include "ztun/dns_upstream.h"

enum {
    DNS_PENDING_MAX = 256, // queries of a pod and worker that are relayed, or wait for istiod
    DNS_ASK_MS = 2000, // then it is relayed: resolvers wait for 5 s
    DNS_TCP_CLIENTS_MAX = 64, // of a pod and worker
    DNS_TCP_PENDING_MAX = 32, // relayed queries of a connection; beyond it is not read
    DNS_TCP_IDLE_MS = 5000,
    DNS_QUERY_MAX = 4096, // longer ones are refused
    DNS_CLOSE_MS = 1000, // what is pending at close may take that long
    DNS_UDP_BUDGET = 64, // queries a socket and turn
};

struct dns_tcp;

struct dns_udp {
    struct dns_proxy *proxy;
    int fd; // -1: none
    struct watch watch;
    struct timer more; // the budget was used up
};

struct dns_listen {
    struct dns_proxy *proxy;
    int fd;
    struct watch watch;
};

struct dns_proxy {
    struct loop *loop;
    struct pod *pod;
    uint32_t mark;
    struct addr servers[DNS_UPSTREAMS_MAX];
    uint32_t n_servers;
    struct rand rand;
    struct dns_udp udp[2];
    struct dns_listen tcp[2];
    struct demands *demands;
    struct list pending; // dns_pending
    struct list asking; // dns_asking
    struct list clients; // dns_tcp
    uint32_t n_pending, n_clients;
    uint32_t n_watches;
    bool is_closing;
    struct timer close_timer;
    void (*closed)(void *arg);
    void *closed_arg;
};

// Where the answer to a query goes.
struct dns_reply_to {
    struct dns_udp *udp; // or
    struct dns_tcp *tcp; // or
    struct dns_lookup *lookup;
    struct sockaddr_storage peer; // UDP
    socklen_t peer_len;
};

// Takes one query; the answer goes out at once or later.
void dns_proxy_query(struct dns_proxy *proxy, struct slice message, const struct dns_reply_to *to);
// The connection, or the look-up, is gone: pending answers to it are dropped.
void dns_proxy_forget(struct dns_proxy *proxy, const struct dns_tcp *tcp);
void dns_proxy_forget_lookup(struct dns_proxy *proxy, const struct dns_lookup *lookup);
void dns_proxy_check_closed(struct dns_proxy *proxy); // may free the proxy

// dns_lookup.c: the answer to its query; may end the look-up.
void dns_lookup_answer(struct dns_lookup *lookup, struct slice answer);

// dns_tcp.c
void dns_tcp_accept(struct dns_listen *listen); // all that are queued
void dns_tcp_send(struct dns_tcp *tcp, struct slice answer);
// A relayed query of this connection is over (its answer was sent, or there is none).
void dns_tcp_pending(struct dns_tcp *tcp, int change);
void dns_tcp_close(struct dns_tcp *tcp);
