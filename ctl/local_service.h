// SPDX-License-Identifier: Apache-2.0
//
// Services: cluster IPs, node ports and load balancer addresses are given out, and EndpointSlices
// follow the readiness of the pods that a Service selects. Thread: supervisor.
#pragma once

#include "ctl/local_lab.h"

bool lab_service_init(struct lab *lab); // the address ranges
void lab_service_reconcile(struct lab *lab);

// An endpoint of a service port, for rules and DNS.
struct lab_endpoint {
    struct ip ip;
    uint16_t port;
    const char *node; // "" = not known
    const char *hostname; // "" = none
};
// The endpoints of one port (by name, "" = the only one) that take new connections: ready ones,
// else those that still serve while they terminate. `port_name` NULL: any port, 0 in the result.
// Borrowed texts. Returns how many were written, at most cap.
size_t lab_service_endpoints(struct lab *lab, const json_t *service, const char *port_name,
                             int family, struct lab_endpoint *ret, size_t cap);
