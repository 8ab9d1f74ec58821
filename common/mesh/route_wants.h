// SPDX-License-Identifier: Apache-2.0
//
// What a snapshot lacks for a decision, as istiod is asked for it on demand: "NETWORK/IP" of an
// address that nobody is known to have, "NS/HOSTNAME" of a waypoint or of a host name. Pure.
#pragma once

#include "common/mesh/snapshot.h"

enum { ROUTE_WANT_MAX = 600 }; // with NUL

// The one with number `nth` of what route_outbound() of `source` to `dst` lacks, in the order in
// which it is needed: the destination, a service without endpoints, too (istiod tells of new ones
// when it is asked), or else its waypoints. False: there is none.
MUST_USE bool route_wants(const struct snapshot *snap, const struct workload *source,
                          const struct addr *dst, unsigned nth, char ret_name[ROUTE_WANT_MAX]);
// Of the workload or service that has an address. False: one is known, or nobody in a mesh has
// such an address.
MUST_USE bool route_wants_ip(const struct snapshot *snap, const struct ip *ip,
                             char ret_name[ROUTE_WANT_MAX]);
// Of a service of Kubernetes that `host` (lower case) names in full, "NAME.NS.svc.DOMAIN", or is
// the name of a pod of. False: it does not, or the service is known.
MUST_USE bool route_wants_host(const struct snapshot *snap, const char *host,
                               char ret_name[ROUTE_WANT_MAX]);
