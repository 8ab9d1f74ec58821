// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/l7/l7_routes_bed.h"

#include "tests/unit/l7/l7_fixture.h"

static const struct label client_labels[] = {{"app", "client"}, {"version", "v1"}};
static const struct workload_common client_common = {
    .ns = "shop", .labels = client_labels, .n_labels = ARRAY_LEN(client_labels)};
const struct workload probe_client = {.ns = "shop", .common = &client_common};

void probe_all(const struct l7_routes *routes, const struct probe *probes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct fx_head head;
        struct l7_request request;
        struct l7_match match;
        fx_head(&head, probes[i].request);
        l7_request_init(&request, &head.head, 80, &probe_client);
        const struct l7_route *route = fx_match(routes, &request, &match);
        const char *name = route != NULL ? route->name : "(none)";
        if (strcmp(name, probes[i].route != NULL ? probes[i].route : "(none)") != 0) {
            fail_msg("%s: %s, not %s", probes[i].request, name, probes[i].route);
        }
    }
}
