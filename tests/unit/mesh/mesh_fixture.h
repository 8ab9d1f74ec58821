// SPDX-License-Identifier: Apache-2.0
//
// Small meshes for tests, put together by hand. Everything is set in one draft at a time.
#pragma once

#include "common/mesh/snapshot.h"
#include "tests/unit/base/unit.h"

void fx_init(void); // snapshot_init with usual settings
void fx_fini(void); // and checks that no leaf and no shared text is left
void fx_fini_leaves(void); // the same while texts are held by others

struct ip fx_ip(const char *text);
struct addr fx_addr(const char *text);

// Workload "Kubernetes//Pod/NS/NAME", a healthy pod with identity
// spiffe://cluster.local/ns/NS/sa/SA (SA = name unless set) and the addresses of a comma-separated
// list. `more` overrides what it sets.
struct fx_workload {
    struct workload_common common;
    const char *node;
    uint32_t capacity;
    uint8_t protocol;
    bool is_host_network, is_terminating;
};
struct workload *fx_workload(const char *ns, const char *name, const char *ips,
                             const struct fx_workload *more);
#define FX_WORKLOAD(ns, name, ips, ...)                                                            \
    fx_workload((ns), (name), (ips), &(struct fx_workload){__VA_ARGS__})

// Service NS/NAME.NS.svc.cluster.local with these ports (all target ports + 8000, so 80 -> 8080).
struct fx_service {
    const char *ns, *name, *hostname; // hostname NULL: NAME.NS.svc.cluster.local
    const char *vips, *ranges; // comma-separated
    uint16_t ports[4], node_port; // node port of the first
    struct workload *members[8]; // endpoints; ready as they are healthy, weight = capacity
    struct service more; // other fields
};
struct service *fx_service(const struct fx_service *spec);
#define FX_SERVICE(...) fx_service(&(struct fx_service){__VA_ARGS__})

// Publishes: each argument is a leaf whose reference is taken; NULL ends.
void fx_publish(void *leaf, ...);
