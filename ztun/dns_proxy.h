// SPDX-License-Identifier: Apache-2.0
//
// The DNS proxy of one pod on one worker (ambient-protocols §7): answers A and AAAA for the mesh's
// hosts from the snapshot, relays everything else byte for byte to the pod's upstream servers.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/rt/loop.h"
#include "ztun/pod.h"

struct dns_proxy;
struct metric_series;

struct dns_proxy_config {
    const struct addr *servers; // upstream, in order; copied
    uint32_t n_servers;
    uint32_t mark;
};

// Takes over the DNS sockets of `sockets` (sets them to -1).
struct dns_proxy *dns_proxy_new(struct loop *loop, struct pod *pod, struct pod_sockets *sockets,
                                const struct dns_proxy_config *config);
// Stops taking queries; `closed` is called when all sockets and pending queries are gone.
void dns_proxy_close(struct dns_proxy *proxy, void (*closed)(void *arg), void *arg);
