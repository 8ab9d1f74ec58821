// SPDX-License-Identifier: Apache-2.0
//
// HTTP to a workload's own address. No VirtualService, route or DestinationRule applies, as those
// are about services; all else of HTTP does: policies, retries, telemetry. For that the workload is
// a service of its own with one endpoint, which is in no snapshot and not named in logs.
//
// Thread: the worker's.
#pragma once

#include <string.h>

#include "common/mesh/snapshot.h"

struct http_worker;

enum { DIRECT_MAX = 1024 }; // ports of workloads that a worker remembers

#define DIRECT_PREFIX "workload:" // of the service's key; the workload's uid follows

void direct_init(struct http_worker *http);
void direct_fini(struct http_worker *http);
void direct_news(struct http_worker *http); // workloads changed: those that left are forgotten
// For this port of the workload, which is called by this address. Borrowed: of the worker's cache.
struct service *direct_service(struct http_worker *http, struct workload *workload,
                               const struct addr *addr);

// The same as it is now; what it was when the workload is gone. Borrowed.
struct service *direct_now(struct http_worker *http, const struct snapshot *snap,
                           struct service *service);

static inline bool direct_is_key(const char *service_key) {
    return strncmp(service_key, DIRECT_PREFIX, sizeof(DIRECT_PREFIX) - 1) == 0;
}
// The workload is still there, with these addresses and all.
bool direct_is_current(const struct snapshot *snap, const struct service *service);
