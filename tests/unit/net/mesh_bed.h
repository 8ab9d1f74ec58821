// SPDX-License-Identifier: Apache-2.0
//
// A whole tunnel in one loop, for tests: applications (blocking threads) talk through an outbound
// side (listener, HBONE client pool) and an inbound side (tunnel server, dial) over loopback.
#pragma once

#include "common/net/hbone_client.h"
#include "common/net/link_end.h"
#include "common/net/pipe.h"
#include "common/rt/dial.h"
#include "common/rt/listener.h"
#include "common/rt/uring.h"
#include "common/tls/tls_ca.h"

struct bed {
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct tls_queue queue;
    struct hbone_client client;
    struct h2_config server_h2;
    struct tls_ctx *client_ctx, *server_ctx;
    struct listener out_listener, in_listener;
    struct addr out_addr, in_addr, app_addr; // where apps connect; tunnel server; application
    struct slice expected_san;
    struct list flows, tunnels;
    uint32_t n_listeners;
    uint32_t n_flows, n_opened, n_failed, n_done, n_server_tunnels;
    enum flow_end last_end, last_fail; // of the pipes, of requests
    uint16_t last_status;
    uint16_t refuse_status; // != 0: the server answers so instead of dialling
    bool stop;
};

// Listeners on loopback; app_addr is where the inbound side connects.
void bed_init(struct bed *bed, const struct addr *app_addr);
void bed_fini(struct bed *bed); // closes all, checks that nothing is left
void bed_run_until(struct bed *bed, const bool *flag, uint32_t timeout_ms);
void bed_drain_servers(struct bed *bed); // GOAWAY in two steps on every server tunnel
void bed_abort_servers(struct bed *bed); // RST
