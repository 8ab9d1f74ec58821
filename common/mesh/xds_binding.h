// SPDX-License-Identifier: Apache-2.0
//
// What istiod binds to a waypoint by its address (a Gateway whose status has no host name) is bound
// to the service that has the address: a waypoint knows itself by the key of its Service. Where no
// service has it, the address stays.
//
// Pure. Thread: control.
#pragma once

#include "common/base/list.h"
#include "common/mesh/snapshot.h"

enum { XDS_BINDINGS = 2 }; // the waypoint and its canary

struct xds_binding { // of a workload or a service
    struct list node; // of those that have an address
    struct ip ips[XDS_BINDINGS]; // not set: by key, or none
};

// `keys` as istiod has them (NULL or "" = none). Links it into `all` when one is an address.
void xds_binding_set(struct xds_binding *binding, struct list *all,
                     const char *const keys[XDS_BINDINGS]);
void xds_binding_clear(struct xds_binding *binding);
// Replaces those of `keys` that were addresses by what these are in the snapshot; buf[] is where an
// address goes that is nobody's. True: one is another one now.
bool xds_binding_resolve(const struct xds_binding *binding, const struct snapshot *snap,
                         const char *keys[XDS_BINDINGS], char buf[XDS_BINDINGS][IP_TEXT_MAX]);
