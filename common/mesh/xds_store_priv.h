// SPDX-License-Identifier: Apache-2.0
//
// Shared by the parts of xds_store: all but host names (xds_store.c), and those
// (xds_store_hosts.c).
#pragma once

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/mesh/xds_binding.h"
#include "common/mesh/xds_store.h"

struct xservice;
struct xhost;

// A workload in a service. Those of a workload are one allocation, with their ports behind the
// last: there are as many as workloads, or more.
struct xmember {
    struct list in_service;
    struct xservice *service;
    struct xworkload *workload;
    uint32_t first_port;
    uint16_t n_ports;
    uint16_t n_left; // members from here on
};

struct xspecial { // what few workloads have
    struct xworkload *workload;
    struct xhost *host; // NULL: it has addresses of its own
    struct list in_host;
    struct xds_binding binding; // linked when it is bound by an address
};

struct xworkload {
    struct hmap_node by_uid;
    struct list in_dirty;
    struct workload *leaf; // NULL: it goes at the next commit
    struct workload *published; // NULL: it is not in the snapshot
    struct xmember *members; // NULL: none
    struct xspecial *special; // NULL: nothing
};

struct xservice {
    struct hmap_node by_key;
    struct list in_dirty;
    struct list members; // struct xmember.in_service
    // What is published, or what is to be, then without endpoints. NULL: workloads name it, but it
    // is not there (yet).
    struct service *leaf;
    uint8_t *protocols; // of the leaf's ports, as istiod says; with a builder
    bool is_published;
    bool is_sorted; // members, by uid
    struct xds_binding binding;
    char key[];
};

struct xpolicy {
    struct hmap_node by_key;
    struct list in_dirty;
    struct policy *leaf; // NULL: it goes at the next commit
    char key[];
};

struct xhost { // a name that workloads have instead of an address
    struct hmap_node by_name;
    struct list workloads; // struct xspecial.in_host
    struct ip *ips; // sorted
    size_t n_ips;
    char name[];
};

struct xds_store {
    char *node;
    struct mesh_builder *builder; // it publishes; NULL: nobody adds anything
    struct hmap workloads, services, policies, hosts;
    struct list dirty_workloads, dirty_services, dirty_policies;
    const struct xworkload *last_set; // or NULL; the next one has probably much in common with it
    size_t counts[3]; // by enum xds_kind
    struct list bound_workloads, bound_services; // struct xds_binding.node; with a builder
};

static inline void xds_store_mark(struct list *dirty, struct list *node) {
    if (!list_linked(node)) {
        list_push_back(dirty, node);
    }
}

struct xspecial *xds_store_special(struct xworkload *wl); // made when it is not there
void xds_store_drop_special(struct xworkload *wl); // when there is nothing left in it
// `name` is NULL when it has addresses of its own.
void xds_store_set_host(struct xds_store *store, struct xworkload *wl, const char *name);
