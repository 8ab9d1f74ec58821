// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl explain --request`: what the running waypoint knows of hosts and configuration
// does not: who is ejected, what is under way, who is new. Read from its admin port (/l7_dump);
// where none can be asked, the configuration has to do, with the reason.
#pragma once

#include <jansson.h>

#include "common/l7/l7_lb.h"
#include "ctl/http_target.h"

struct explain_live {
    // Who is asked: what the options name; in a lab the waypoint's pod that the flow goes to.
    const struct http_target_options *target;
    bool is_lab;
    char *pod; // that was asked last, "ns/name"; NULL: nobody yet
    json_t *dump; // NULL: there is none, for this reason
    char *from; // who said so; heap
    char *reason; // heap
};

// `pod`: "ns/name" of the waypoint's pod. Asked once.
void explain_live_ask(struct explain_live *live, const char *pod);
void explain_live_fini(struct explain_live *live);
// {"source": "live", "from"} or {"source": "configuration", "reason"}: a new object.
json_t *explain_live_source(const struct explain_live *live);
// What is in use of a cluster. NULL: nothing is known of it, or it was not used yet. Borrowed.
const json_t *explain_live_cluster(const struct explain_live *live, const char *service,
                                   uint16_t port, const char *subset);
// The cluster's endpoint of this address; NULL as above.
const json_t *explain_live_host(const json_t *cluster, const struct addr *addr);
// Fills the cell that a choice looks at (active requests, ejection, age) with what the waypoint
// says of the host. `now_ms`: the time that explain counts from; a host's age is taken off it.
void explain_live_fill(const json_t *host, uint64_t now_ms, struct l7_host_cell *cell);
