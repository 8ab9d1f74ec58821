// SPDX-License-Identifier: Apache-2.0
//
// A cluster: a service, or a subset of it, on one of its ports, as a place that requests are sent
// to. Here is what all workers share of it, and what outlives configuration: how much is in use of
// the limits that its DestinationRule sets, the cells of its hosts (active requests, ejection), the
// cursor of round robin. Limits are exact in the process, with any number of workers.
//
// Clusters are made at their first use and counted; one that nobody uses goes.
//
// Threads: any. Counters are atomic, the table of hosts is under the cluster's lock.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/hmap.h"
#include "common/l7/l7_breaker.h"
#include "common/l7/l7_lb.h"
#include "common/l7/l7_outlier.h"

struct cluster {
    struct hmap_node node; // of the process's table
    atomic_uint refs;
    char *service_key, *subset; // "ns/hostname"; "" = all of its endpoints
    uint16_t port;
    char *name; // "inbound-vip|80|http/v1|reviews.default.svc.cluster.local", for logs
    struct l7_lb_cell lb;
    struct l7_breaker breaker;
    struct l7_outlier outlier;
    atomic_uint_fast64_t next_outlier_ms; // monotonic: the next look at ejected hosts
    // Workers that wait for a connection which others hold idle (upstream.c).
    atomic_uint n_starved;
    atomic_uint n_shed; // connections that end because maxConnections is lower now
    pthread_mutex_t lock;
    struct hmap hosts; // cluster_host.node
};

// An address of a cluster.
struct cluster_host {
    struct hmap_node node;
    struct cluster *cluster; // outlives it
    uint32_t refs; // under the cluster's lock
    struct addr addr;
    atomic_uint n_conns; // of all workers
    struct l7_host_cell cell;
};

// The cluster, made when it is not there; the caller's reference. `host`: the service's host name.
struct cluster *cluster_get(const char *service_key, const char *host, uint16_t port,
                            const char *subset);
struct cluster *cluster_ref(struct cluster *cluster);
void cluster_unref(struct cluster *cluster); // NULL ok

// All that exist, under the lock of their table: `fn` must not call the functions above.
void cluster_each(void (*fn)(void *arg, struct cluster *cluster), void *arg);

size_t cluster_n_hosts(struct cluster *cluster); // that it knows of now
// At most once an interval of the policy, whoever calls first: hosts whose ejection is over return.
// `hosts` NULL: all that the cluster knows of.
void cluster_tick(struct cluster *cluster, const struct l7_outlier_policy *policy,
                  const struct l7_host *hosts, size_t n_hosts, uint64_t now_ms);

// What the settings ask for and connections of HTTP cannot do: such a cluster is not connected to.
// NULL: nothing.
const char *cluster_missing_feature(const struct l7_settings *settings);

// The host with this address, made when it is not there; the caller's reference.
struct cluster_host *cluster_host_get(struct cluster *cluster, const struct addr *addr,
                                      uint64_t now_ms);
void cluster_host_unref(struct cluster_host *host);
