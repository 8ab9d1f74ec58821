// SPDX-License-Identifier: Apache-2.0
//
// Resources of istiod's workload discovery (xds.proto) as the leaves of model.h: what is sent is
// checked once, here. A resource that is not right as a whole is refused with a reason, so that its
// last good version stays; fields that we do not know are skipped.
//
// Refused: texts that are too long, are not UTF-8 or have control characters (a NUL inside would
// make two names one), addresses of other lengths than 4 and 16, ports above 65535, values of enums
// that we do not know, a name that is not the name of what is inside (it could not be removed), and
// what cannot be done: a tunnel protocol other than HBONE, waypoints at another port than 15008,
// more than two weighted waypoints, ranges of addresses as VIPs.
//
// Pure. Thread: control; results are in the arena.
#pragma once

#include "common/base/arena.h"
#include "common/mesh/model.h"

enum xds_type { XDS_ADDRESS, XDS_AUTHORIZATION, XDS_N_TYPES };
const char *xds_type_url(enum xds_type type);

enum {
    XDS_ERROR_MAX = 512, // bytes of a reason, with NUL
    XDS_NAME_MAX = 1024, // of a resource
    XDS_RESOURCE_MAX = 4 << 20, // encoded
};

struct xds_port {
    uint16_t service_port, target_port; // target_port 0: the service's
};
struct xds_membership { // a workload is an endpoint of this service
    const char *service; // "ns/hostname"
    const struct xds_port *ports; // no service port twice
    uint32_t n_ports; // at most 1024
};

enum xds_kind { XDS_WORKLOAD, XDS_SERVICE, XDS_POLICY };
struct xds_resource {
    uint8_t kind; // enum xds_kind
    union { // what workload_new(), service_new() (without endpoints) or policy_new() take
        struct workload workload;
        struct service service;
        struct policy policy;
    };
    const struct xds_membership *services; // of a workload; no service twice
    uint32_t n_services; // at most 1024
};

// `body` is the encoded Address or Authorization, `network` the own one: addresses of others are
// not reached, so that they are left out (a waypoint there is bound all the same, and not found).
// False: `error` says what is wrong, without the name.
MUST_USE bool xds_decode(enum xds_type type, struct slice name, struct slice body,
                         const char *network, struct arena *arena,
                         struct xds_resource *ret_resource, char error[XDS_ERROR_MAX]);
