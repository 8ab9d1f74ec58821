// SPDX-License-Identifier: Apache-2.0
//
// Which endpoint of a service a flow goes to (ambient-protocols §5, load balancing), pure and
// without allocation: endpoints that can serve the flow, the nearest of them by the service's
// scopes, one of these at random by weight.
#pragma once

#include "common/base/rand.h"
#include "common/mesh/model.h"

struct locality_request {
    const struct workload *source; // NULL: not known, near to nothing
    int port; // index in service->ports; -1: no port is required (a waypoint without 15008)
    uint8_t family; // of the address that was called: an endpoint is reached over it if it can be
    const char *node; // only endpoints on this node; NULL = all
    const struct ip *tried; // endpoints to leave out (of a host name: only these addresses)
    size_t n_tried;
    struct rand *rand;
};

struct locality_choice {
    const struct endpoint *endpoint; // NULL: none
    struct ip ip; // the endpoint's address to use
    uint16_t target_port; // 0 when request.port < 0
    // For explain: of n endpoints so many were left out, the rest ranked.
    uint32_t n, n_unhealthy, n_no_address, n_no_port, n_tried, n_too_far, n_best;
    uint8_t rank; // scopes that the best ones share with the source
};

void locality_pick(const struct service *service, const struct locality_request *request,
                   struct locality_choice *ret_choice);

// How many of the service's scopes, in order until the first mismatch, both workloads share.
unsigned locality_rank(const struct service *service, const struct workload *source,
                       const struct workload *destination);

const char *locality_scope_text(enum lb_scope scope);

// A Kubernetes Service's or ServiceEntry's settings in the form of lb_mode and scopes: internal
// traffic policy Local, else the first that is set of spec.trafficDistribution and the annotation
// networking.istio.io/traffic-distribution of the service and of its namespace ("" = not set).
struct locality_policy {
    bool is_internal_local;
    const char *distribution, *annotation, *ns_annotation;
};
// False: a value is not known and was taken as "not set".
bool locality_set_policy(const struct locality_policy *policy, struct service *service);
