// SPDX-License-Identifier: Apache-2.0
//
// What the mesh knows of a host name, as a pod sees it (ambient-protocols §7); pure.
//
// Tried in this order, the first that is known wins: the name itself; as a short form of a
// Kubernetes name (`svc`, `svc.ns`, `svc.ns.svc`, the same below a pod of a headless service); and
// both again after taking off a search domain (NS.svc.D, svc.D, D, the pod's own), since resolvers
// add those before they try the name as it was written.
#pragma once

#include "common/base/rand.h"
#include "common/mesh/snapshot.h"

enum { DNS_RESOLVE_IPS_MAX = 256, DNS_HOST_MAX = 254 };

struct dns_resolution {
    const struct service *service; // borrowed from the snapshot
    bool is_alias; // a search domain was taken off: `target` is what the name stands for
    char target[DNS_HOST_MAX];
    uint32_t n_ips; // may be 0: the name exists, but without address of this family
    struct ip ips[DNS_RESOLVE_IPS_MAX]; // shuffled
};

// `name`: lower case, without the last dot. False: not a name of the mesh, ask somebody else.
bool dns_resolve(const struct snapshot *snap, const struct workload *client, const char *name,
                 uint8_t family, struct rand *rand, struct dns_resolution *ret);
