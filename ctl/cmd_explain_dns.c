// SPDX-License-Identifier: Apache-2.0
//
// What the DNS proxy answers to the pod, by the proxy's own look-up.
#include <stdio.h>

#include "common/mesh/dns_resolve.h"
#include "ctl/cmd_explain.h"

bool explain_resolve(const struct snapshot *snap, const struct workload *client, const char *host,
                     struct explain_dns *ret) {
    struct rand rand;
    struct dns_resolution found;
    rand_seed(&rand, 1); // the same answer every time
    *ret = (struct explain_dns){0};
    bool is_known = false;
    for (size_t i = 0; i < client->n_ips && !ip_is_set(&ret->ip); i++) {
        if (!dns_resolve(snap, client, host, client->ips[i].family, &rand, &found)) {
            continue;
        }
        is_known = true;
        ret->service = found.service;
        snprintf(ret->name, sizeof(ret->name), "%s",
                 found.is_alias ? found.target : found.service->hostname);
        if (found.n_ips > 0) {
            ret->ip = found.ips[0];
        }
    }
    return is_known;
}
