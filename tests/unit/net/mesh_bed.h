// SPDX-License-Identifier: Apache-2.0
//
// A whole tunnel in one loop, for tests: applications talk through an outbound side (listener,
// HBONE client pool) and an inbound side (tunnel server, dial). Over io_uring and loopback for the
// unit tests (bed_init), over the simulator's fake network for tests/sim (bed_init_on).
#pragma once

#include "common/net/hbone_client.h"
#include "common/net/hbone_server.h"
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
    struct hbone_server server;
    struct h2_config server_h2;
    struct tls_ctx *client_ctx, *server_ctx;
    struct listener out_listener, in_listener;
    struct addr out_addr, in_addr, app_addr; // where apps connect; tunnel server; application
    struct slice expected_san;
    uint32_t n_listeners; // not closed yet
    uint32_t n_flows, n_opened, n_failed, n_done;
    _Atomic uint32_t n_server_tunnels;
    enum flow_end last_end, last_fail; // of the pipes, of requests
    uint16_t last_status;
    char last_detail[128]; // of a request that failed
    uint32_t max_retries; // of a request that failed and may be tried again
    uint16_t refuse_status; // != 0: the server answers so instead of dialling
    enum h2_err refuse_reset; // not NO_ERROR: it resets the stream with it
    bool is_silent; // it does not answer
    uint32_t n_requests; // that the server has seen
    enum flow_end last_server_fail; // of a connection that became no tunnel
    enum h2_err last_server_err; // why the server lost a stream that it had not answered
    bool stop;
};

// Listeners on loopback; app_addr is where the inbound side connects.
void bed_init(struct bed *bed, const struct addr *app_addr);
// The same on another io, made by make_io from the bed's pool; the listening fds pass to the bed,
// and in_addr, out_addr and app_addr are set already.
void bed_init_on(struct bed *bed, struct io *(*make_io)(void *arg, struct blk_pool *pool),
                 void *arg, int out_fd, int in_fd);
// The certificates that all beds of the process use; made at the first need.
void bed_make_identities(void);
// Begins to close everything: listeners, drain of tunnels.
void bed_close(struct bed *bed);
bool bed_is_closed(const struct bed *bed);
void bed_fini(struct bed *bed); // closes all, checks that nothing is left
void bed_free(struct bed *bed); // the last part of bed_fini: bed_is_closed is true
// A new certificate for both sides, as after a rotation: tunnels made from now on use it.
void bed_rotate(struct bed *bed);
// The server's, or the client's, certificate is on the CRL of both from now on.
void bed_revoke(struct bed *bed, bool is_server);
void bed_run_until(struct bed *bed, const bool *flag, uint32_t timeout_ms);
void bed_drain_servers(struct bed *bed); // GOAWAY in two steps on every server tunnel
void bed_abort_servers(struct bed *bed, uint32_t nth); // RST of the nth server tunnel, modulo
