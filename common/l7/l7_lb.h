// SPDX-License-Identifier: Apache-2.0
//
// Which host of a cluster a request goes to. A cluster is a service, or a subset of it, on one of
// its ports, as seen from one place: the locality and labels of the client count, not the
// waypoint's.
//
// Three parts:
// - cells hold what has to be exact in the process or to outlive configuration: how many requests a
//   host has, whether it is ejected, the cursor of round robin. They are atomic and shared by all
//   workers; their owner makes them, and keeps them while a balancer points to them.
// - a balancer (struct l7_lb) is one worker's: hosts sorted into levels, made anew when the
// service,
//   its policy or the client's place is another one. Health, ejections and warm-up are followed as
//   they change: before a pick it looks at the cluster cell's generation.
// - a pick is a decision and takes nothing: the caller counts the request (l7_host_cell.active).
//
// Levels are priorities (0 = best, failover) or weighted groups (distribute). A priority keeps all
// of its traffic while 1/1.4 of its hosts are healthy; with fewer some spills to the next ones.
// When the healthy hosts of all levels are not enough for that, a level with too few of them
// (panic_percent) takes all of its hosts for healthy.
#pragma once

#include "common/base/addr.h"
#include "common/base/rand.h"
#include "common/l7/l7_policy.h"
#include "common/l7/l7_routes.h"

enum { L7_LB_LEVELS_MAX = 64, L7_LB_CURSORS = 8, L7_LB_OVERPROVISION = 140 };

// One of each host (address) of a cluster.
struct l7_host_cell {
    atomic_uint active; // requests that were sent there and have not ended
    atomic_bool is_ejected;
    uint64_t since_ms; // when the host came to the cluster, for warm-up; set once
    // l7_outlier's:
    atomic_uint n_5xx, n_gateway, n_local; // in a row
    atomic_uint n_ejections; // the factor of the next ejection's time
    atomic_uint_fast64_t ejected_at_ms;
};

// One of each cluster. Whoever changes a host's health adds 1 to `generation`.
struct l7_lb_cell {
    atomic_uint generation;
    atomic_uint_fast64_t cursors[L7_LB_CURSORS]; // of round robin, by level
};

struct l7_host {
    const struct endpoint *endpoint;
    struct addr addr; // where to: the endpoint's address and its port for the cluster
    uint32_t weight; // >= 1
    struct l7_host_cell *cell;
};

struct l7_lb;

struct l7_lb_spec {
    const struct l7_host *hosts; // copied; what they point to is borrowed for the balancer's life
    size_t n_hosts;
    const struct service *service; // its scopes (trafficDistribution)
    const struct l7_settings *settings; // borrowed, as long as the balancer
    const struct workload *source; // the client; NULL: not known, then localities do not count
    struct l7_lb_cell *cell;
};
struct l7_lb *l7_lb_new(const struct l7_lb_spec *spec);
void l7_lb_free(struct l7_lb *lb);

// The endpoints of a service that belong to a cluster: of the subset (NULL: all), ready or allowed
// not to be, with the port (index in service->ports). Fills hosts[] up to `cap` but for the cells.
// Returns how many there are. Hosts that are names have one entry for each of their addresses.
size_t l7_lb_hosts(const struct service *service, const struct l7_subset *subset, size_t port,
                   struct l7_host *hosts, size_t cap);
// Clients of one class see the same levels, and may share a balancer. The key is printed, cut off
// at `size`, NUL behind it; returns its length.
size_t l7_lb_client_class(const struct l7_settings *settings, const struct service *service,
                          const struct workload *source, char *ret_key, size_t size);

struct l7_lb_pick {
    struct rand *rand;
    uint64_t now_ms;
    bool has_hash; // RING, MAGLEV: without, a random host
    uint64_t hash;
    // Not these, if there is another one within 5 draws.
    const struct l7_host_cell *const *tried;
    size_t n_tried;
    // Leaves out the levels of the tried hosts once two were tried, until all levels were
    // (retryRemoteLocalities).
    bool leaves_locality;
};
// NULL: no healthy host (503, UH). The host is valid as long as the balancer.
const struct l7_host *l7_lb_pick(struct l7_lb *lb, const struct l7_lb_pick *pick);

// For explain, dumps and tests.
struct l7_lb_level {
    const char *name; // "region/zone/subzone" of a group, "" of a priority
    size_t n_hosts, n_healthy;
    unsigned percent; // of the requests that go there now
    bool is_panic;
};
size_t l7_lb_levels(struct l7_lb *lb, uint64_t now_ms, struct l7_lb_level *levels, size_t cap);
// The level that spec.hosts[host] is in. False: it is not used from the client's place.
bool l7_lb_level_of(const struct l7_lb *lb, size_t host, size_t *ret_level);

// The hash of a request under a policy with RING or MAGLEV. False: the request has no key.
// A cookie that is to be made: *ret_cookie is the whole Set-Cookie value in the arena (else empty),
// made of `peer` (the downstream's addresses), and the hash is that of its value.
bool l7_lb_hash(const struct l7_lb_policy *policy, const struct l7_request *request,
                const struct addr *peer, const struct addr *local, struct arena *arena,
                struct slice *ret_cookie, uint64_t *ret_hash);
uint64_t l7_lb_hash_bytes(struct slice bytes); // xxHash64, seed 0: the same in all processes
