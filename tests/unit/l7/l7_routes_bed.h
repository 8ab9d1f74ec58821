// SPDX-License-Identifier: Apache-2.0
//
// Requests, and the route of each.
#pragma once

#include "tests/unit/l7/l7_fixture.h"

struct probe { // a request, and the name of the route it gets; NULL: none
    const char *request, *route;
};

// Whose the requests are.
extern const struct workload probe_client;

void probe_all(const struct l7_routes *routes, const struct probe *probes, size_t n);
#define PROBE(fx, ...)                                                                             \
    do {                                                                                           \
        const struct probe probes_[] = {__VA_ARGS__};                                              \
        probe_all(fx_routes(fx), probes_, ARRAY_LEN(probes_));                                     \
    } while (0)
