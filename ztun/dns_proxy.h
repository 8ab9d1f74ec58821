// SPDX-License-Identifier: Apache-2.0
//
// The DNS proxy of one pod on one worker (ambient-protocols §7): answers A and AAAA for the mesh's
// hosts from the snapshot, relays everything else byte for byte to the pod's upstream servers.
// Where istiod is asked on demand, names of Kubernetes services are looked up there before they are
// relayed.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/rt/loop.h"
#include "ztun/pod.h"

struct demands;
struct dns_proxy;
struct metric_series;

struct dns_proxy_config {
    const struct addr *servers; // upstream, in order; copied
    uint32_t n_servers;
    uint32_t mark;
    struct demands *demands; // of the worker; NULL: istiod is not asked for names
};

// The address of a host name as the pod itself would find it: from the mesh, else from its servers;
// IPv4 before IPv6.
struct dns_lookup {
    struct dns_proxy *proxy;
    // Called once, maybe from within start; ip NULL: there is none, `why` (a literal) tells more.
    void (*done)(struct dns_lookup *lookup, const struct ip *ip, const char *why);
    const char *name; // the caller's; lower case
    bool is_v6, is_tcp; // private: the query under way
};
void dns_lookup_start(struct dns_lookup *lookup, struct dns_proxy *proxy, const char *name,
                      void (*done)(struct dns_lookup *lookup, const struct ip *ip,
                                   const char *why));
void dns_lookup_cancel(struct dns_lookup *lookup); // before it is done

// Takes over the DNS sockets of `sockets` (sets them to -1).
struct dns_proxy *dns_proxy_new(struct loop *loop, struct pod *pod, struct pod_sockets *sockets,
                                const struct dns_proxy_config *config);
// Stops taking queries; `closed` is called when all sockets and pending queries are gone.
void dns_proxy_close(struct dns_proxy *proxy, void (*closed)(void *arg), void *arg);
