// SPDX-License-Identifier: Apache-2.0
//
// News travel to the mesh's proxies at their own pace. A client's proxy may know of a binding to
// this waypoint before the waypoint does: its request waits, BINDINGS_WAIT_MS at most. Or it may
// not know yet that a service needs no waypoint any more: that goes on being served for
// BINDINGS_LINGER_MS. (A service that is bound to another waypoint is refused at once: its policy
// is that one's.)
//
// Connections that are open when their service, or workload, is bound elsewhere follow it: HTTP
// clients are told (GOAWAY, Connection: close) and idle connections ended; what is left at
// --rebind-deadline ends there.
//
// Thread: the worker's.
#pragma once

#include "common/mesh/model.h"
#include "waypoint/worker.h"

struct wconn;

enum {
    BINDINGS_WAIT_MS = 2000,
    BINDINGS_WAITING_MAX = 256, // connections of a worker; more are refused at once
    BINDINGS_LINGER_MS = 30000,
    BINDINGS_LATE_MS = 1000, // for a client's proxy to hear of it
    BINDINGS_TOLD_MS = 1000, // an idle HTTP connection is ended this long after it was told
    BINDINGS_SWEEP_MS = 100,
    BINDINGS_TCP_GRACE_MS = 1000, // beyond the deadline, at which the client's proxy ends it
};

void bindings_init(struct wworker *worker);
void bindings_fini(struct wworker *worker);
// A connection to the service is served; NULL ok.
void bindings_served(struct wworker *worker, const struct service *service);
// It is bound to no waypoint, and was bound to this one until a while ago. NULL: false.
bool bindings_linger(struct wworker *worker, const struct service *service);
// A new connection lingers: its client's proxy has not heard yet. It is to follow like those that
// were open, but a little later: its client would else come back the same way.
void bindings_lingers(struct wconn *conn);
bool bindings_may_wait(const struct wworker *worker);
void bindings_wait(struct wworker *worker, struct wconn *conn);
// A snapshot was published: who waits may go on.
void bindings_news(struct wworker *worker);
