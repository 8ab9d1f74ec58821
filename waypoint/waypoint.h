// SPDX-License-Identifier: Apache-2.0
//
// The waypoint as a whole: what the control thread owns, and what workers share with it.
#pragma once

#include "common/mesh/model.h"
#include "common/net/dns_cache.h"
#include "common/proto/hbone.h"
#include "common/proto/spiffe.h"
#include "common/rt/io.h"
#include "waypoint/config.h"
#include "waypoint/worker.h"

enum { WAYPOINT_WORKERS_MAX = 64 };

struct control; // control.c: sources, identity, admin

struct waypoint {
    struct waypoint_config config;
    enum io_kind io_kind; // of all loops, once the control thread's is open
    struct loop *control_loop; // mails from workers go here; owner = struct control
    struct control *control;
    struct wworker *workers[WAYPOINT_WORKERS_MAX];
    uint32_t n_workers;
    // Tests: who looks host names up, instead of c-ares (dynamic.h).
    dns_look_up_fn *look_up;
    void *look_up_arg;
};

struct snapshot;

// Any thread. The waypoint's own SPIFFE id, "spiffe://TD/ns/NS/sa/SA", by the snapshot's trust
// domain.
const char *waypoint_identity_id(const struct waypoint_config *config, const struct snapshot *snap,
                                 char text[SPIFFE_TEXT_MAX]);
// The key of the waypoint's own Service, "NS/NAME.NS.svc.DOMAIN": what services are bound to.
const char *waypoint_service_key(const struct waypoint_config *config, const struct snapshot *snap,
                                 char text[512]);
// Its certificate; NULL while there is none that is valid.
struct tls_ctx *waypoint_tls(const struct waypoint_config *config, const struct snapshot *snap);
// The waypoint's own pod by --pod; NULL: not known.
struct workload *waypoint_workload(const struct waypoint_config *config,
                                   const struct snapshot *snap);
// Socket parameters of a connection to `to`.
void waypoint_socket_params(const struct waypoint_config *config, const struct addr *to,
                            bool is_tunnel, struct io_socket_params *ret_params);
