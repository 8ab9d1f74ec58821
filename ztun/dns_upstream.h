// SPDX-License-Identifier: Apache-2.0
//
// Which servers a pod's DNS queries are relayed to, and the exchange of one query with them.
#pragma once

#include "common/mesh/model.h"
#include "common/rt/loop.h"
#include "ztun/pod.h"

enum { DNS_UPSTREAMS_MAX = 8 };

// The servers of a pod: annotation ztun.io/nameservers, else /etc/netns/NAME/resolv.conf, else
// /etc/resolv.conf without loopback addresses (those are of another namespace). workload NULL: not
// known. netns: the namespace's name or path, "" = it has none. is_own: its namespace is ours, and
// so is that file. Returns how many; 0: ret_reason says why there are none. Reads small local
// files: control thread.
uint32_t dns_upstreams_for(const struct workload *workload, const char *netns, bool is_own,
                           struct addr servers[DNS_UPSTREAMS_MAX], const char **ret_reason);
// The servers of a resolv.conf text.
uint32_t dns_upstreams_parse(struct slice resolv_conf, bool skip_loopback,
                             struct addr servers[DNS_UPSTREAMS_MAX]);

// One query on its way, from the pod's namespace with our mark: from a socket of its own, so that
// each has a random source port. It goes to the next server after DNS_TRY_MS or an error (twice
// round); after DNS_DEADLINE_MS, before a usual client gives up, it is over. Thread: the worker's.
enum { DNS_TRY_MS = 2000, DNS_DEADLINE_MS = 4500 };

struct dns_exchange;

struct dns_exchange_params {
    struct loop *loop;
    struct pod *pod; // referenced meanwhile
    uint32_t mark;
    const struct addr *servers; // these must stay as long as the exchange
    uint32_t n_servers; // > 0
    bool is_tcp;
    struct slice query; // copied; its id is replaced by a random one on the way
    // Called once, never from within start. `answer` (with the query's id again) is valid during
    // the call; rc < 0: no server answered. The exchange is gone after it.
    void (*done)(void *arg, int rc, struct slice answer, uint64_t started_ns);
    void *arg;
};

struct dns_exchange *dns_exchange_start(const struct dns_exchange_params *params);
// Ends it with -ECANCELED; `done` is called soon, and not from within.
void dns_exchange_cancel(struct dns_exchange *exchange);
