// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/net/mesh_bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/rt/sock.h"
#include "common/tls/tls_cert.h"

static const char client_id[] = "spiffe://cluster.local/ns/a/sa/client";
static const char server_id[] = "spiffe://cluster.local/ns/b/sa/server";

// ---- outbound side -----------------------------------------------------------------------------

struct out_flow {
    struct pipe pipe;
    struct link_end down;
    struct hbone_request request;
    struct bed *bed;
    uint32_t n_retries;
};

static void out_connect(struct out_flow *flow);

static void out_done(struct pipe *pipe) {
    struct out_flow *flow = CONTAINER_OF(pipe, struct out_flow, pipe);
    flow->bed->last_end = pipe->end;
    flow->bed->n_done++;
    flow->bed->n_flows--;
    free(flow);
}

static void out_build(struct hbone_request *request, struct hbone_head *ret_head) {
    struct out_flow *flow = CONTAINER_OF(request, struct out_flow, request);
    struct hbone_connect connect = {.target = {.addr = flow->bed->app_addr}};
    CHECK(hbone_connect_build(&connect, ret_head));
}

static void out_open(struct hbone_request *request, const struct h2_event *head) {
    (void)head;
    struct out_flow *flow = CONTAINER_OF(request, struct out_flow, request);
    flow->bed->n_opened++;
    pipe_attach(&flow->pipe, PIPE_UP, &request->stream.duplex);
    pipe_start(&flow->pipe);
}

static void out_fail(struct hbone_request *request, enum flow_end reason, uint16_t status,
                     bool is_retryable) {
    struct out_flow *flow = CONTAINER_OF(request, struct out_flow, request);
    if (is_retryable && flow->n_retries < flow->bed->max_retries) {
        flow->n_retries++;
        out_connect(flow);
        return;
    }
    flow->bed->n_failed++;
    flow->bed->last_fail = reason;
    flow->bed->last_status = status;
    snprintf(flow->bed->last_detail, sizeof(flow->bed->last_detail), "%s", request->detail);
    pipe_cut(&flow->pipe, reason);
}

static const struct hbone_request_ops out_ops = {
    .build = out_build, .on_open = out_open, .on_fail = out_fail};

static void out_accept(struct listener *listener, int fd) {
    struct bed *bed = CONTAINER_OF(listener, struct bed, out_listener);
    struct out_flow *flow = calloc(1, sizeof(*flow));
    flow->bed = bed;
    bed->n_flows++;
    pipe_init(&flow->pipe, &bed->pool, out_done);
    link_end_init(&flow->down, &bed->loop, fd);
    pipe_attach(&flow->pipe, PIPE_DOWN, &flow->down.duplex);
    out_connect(flow);
}

static void out_connect(struct out_flow *flow) {
    struct bed *bed = flow->bed;
    struct hbone_route route = {.pod_id = 1,
                                .tls = bed->client_ctx,
                                .socket = {.netns_fd = -1, .family = 4, .is_tunnel = true},
                                .destination = bed->in_addr,
                                .sans = &bed->expected_san,
                                .n_sans = 1};
    hbone_request_init(&flow->request, &out_ops);
    hbone_client_connect(&bed->client, &flow->request, &route);
}

// ---- inbound side ------------------------------------------------------------------------------

struct in_flow {
    struct pipe pipe;
    struct hbone_tunnel *tunnel;
    struct hbone_stream down;
    struct link_end up;
    struct dial *dial;
    struct bed *bed;
};

static void in_done(struct pipe *pipe) {
    struct in_flow *flow = CONTAINER_OF(pipe, struct in_flow, pipe);
    flow->bed->n_flows--;
    hbone_tunnel_put(flow->tunnel);
    free(flow);
}

static void in_answer(struct in_flow *flow, uint16_t status) {
    char text[8];
    int n = snprintf(text, sizeof(text), "%u", status);
    struct http_field field = {.name = SLICE_LIT(":status"), .value = slice_make(text, (size_t)n)};
    h2_stream_send_headers(flow->down.user.stream, &field, 1, status != 200);
    h2_drv_kick(flow->down.user.drv);
}

static void in_dialed(void *arg, int res) {
    struct in_flow *flow = arg;
    flow->dial = NULL;
    if (res < 0) {
        in_answer(flow, 503);
        hbone_stream_drop(&flow->down, H2_NO_ERROR);
        pipe_cut(&flow->pipe, FLOW_CONNECT_FAILED);
        return;
    }
    link_end_init(&flow->up, &flow->bed->loop, res);
    in_answer(flow, 200);
    pipe_attach(&flow->pipe, PIPE_DOWN, &flow->down.duplex);
    pipe_attach(&flow->pipe, PIPE_UP, &flow->up.duplex);
    pipe_start(&flow->pipe);
}

static void in_lost(struct hbone_stream *stream, enum flow_end reason) {
    struct in_flow *flow = CONTAINER_OF(stream, struct in_flow, down);
    flow->bed->last_server_err = stream->reset_err;
    if (flow->dial != NULL) {
        dial_cancel(flow->dial);
        flow->dial = NULL;
    }
    pipe_cut(&flow->pipe, reason);
}

static void in_request(struct hbone_tunnel *tunnel, const struct h2_event *event) {
    CHECK(slice_eq_str(tunnel->peer->identity, client_id));
    struct in_flow *flow = calloc(1, sizeof(*flow));
    flow->bed = CONTAINER_OF(tunnel->server, struct bed, server);
    flow->tunnel = tunnel;
    hbone_tunnel_get(tunnel);
    flow->bed->n_flows++;
    flow->bed->n_requests++;
    pipe_init(&flow->pipe, &flow->bed->pool, in_done);
    hbone_stream_init(&flow->down, &tunnel->drv, event->stream);
    flow->down.on_lost = in_lost;
    if (flow->bed->is_silent) {
        return;
    }
    if (flow->bed->refuse_reset != H2_NO_ERROR) {
        hbone_stream_drop(&flow->down, flow->bed->refuse_reset);
        pipe_cut(&flow->pipe, FLOW_DENIED);
        return;
    }
    if (flow->bed->refuse_status != 0) {
        in_answer(flow, flow->bed->refuse_status);
        hbone_stream_drop(&flow->down, H2_NO_ERROR);
        pipe_cut(&flow->pipe, FLOW_DENIED);
        return;
    }
    struct io_socket_params params = {.netns_fd = -1, .family = 4};
    flow->dial = dial_start(&flow->bed->loop, &params, &flow->bed->app_addr, 5 * NS_PER_SEC,
                            in_dialed, flow);
    h2_drv_await_answer(&flow->tunnel->drv);
}

static void in_failed(struct hbone_server *server, const struct addr *src, const struct addr *dst,
                      enum flow_end reason, const char *detail) {
    (void)src;
    (void)dst;
    (void)detail;
    CONTAINER_OF(server, struct bed, server)->last_server_fail = reason;
}

static void in_tunnel_gone(struct hbone_server *server) {
    (void)server;
}

static const struct hbone_server_handler in_handler = {
    .on_request = in_request, .on_failed = in_failed, .on_gone = in_tunnel_gone};

static void in_accept(struct listener *listener, int fd) {
    struct bed *bed = CONTAINER_OF(listener, struct bed, in_listener);
    struct addr src = {0};
    hbone_server_accept(&bed->server, fd, bed->server_ctx, &src, &bed->in_addr);
}

void bed_drain_servers(struct bed *bed) {
    hbone_server_drain(&bed->server);
}

void bed_abort_servers(struct bed *bed, uint32_t nth) {
    uint32_t n = 0;
    LIST_EACH_SAFE(node, &bed->server.tunnels) {
        if (n++ == nth % bed->n_server_tunnels) {
            h2_drv_abort(&LIST_ITEM(node, struct hbone_tunnel, node)->drv, FLOW_DRAIN);
            return;
        }
    }
}

// ---- the bed -----------------------------------------------------------------------------------

static struct tls_ctx *ctx_of(const struct tls_svid *svid, const char *crl) {
    char *error = NULL;
    struct tls_ctx_params params = {.cert_chain_pem = slice_str(svid->cert_chain_pem),
                                    .key_pem = slice_str(svid->key_pem),
                                    .roots_pem = slice_str(svid->roots_pem),
                                    .crl_pem = slice_str(crl),
                                    .crl_generation = crl[0] != 0,
                                    .trust_domain = SLICE_LIT("cluster.local")};
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    CHECK(ctx != NULL);
    return ctx;
}

static void sign(const struct tls_ca *ca, const char *id, struct tls_svid *ret_svid) {
    char *error = NULL;
    CHECK(tls_ca_sign(ca, slice_str(id), clock_wall_s(), 3600, ret_svid, &error));
}

static struct tls_ctx *make_ctx(const struct tls_ca *ca, const char *id) {
    struct tls_svid svid;
    sign(ca, id, &svid);
    struct tls_ctx *ctx = ctx_of(&svid, "");
    tls_svid_fini(&svid);
    return ctx;
}

// One root for the whole process: making it takes longer than a simulated run.
static struct tls_ca *shared_ca(void) {
    static struct tls_ca *ca;
    if (ca == NULL) {
        char *cert = NULL, *key = NULL, *error = NULL;
        tls_ca_make_root(SLICE_LIT("cluster.local"), clock_wall_s(), &cert, &key);
        struct tls_ca_params params = {
            .ca_cert_pem = slice_str(cert), .ca_key_pem = slice_str(key), .now_s = clock_wall_s()};
        ca = tls_ca_new(&params, &error);
        CHECK(ca != NULL);
        free(cert);
        tls_key_pem_free(key);
    }
    return ca;
}

void bed_rotate(struct bed *bed) {
    tls_ctx_unref(bed->client_ctx);
    tls_ctx_unref(bed->server_ctx);
    bed->client_ctx = make_ctx(shared_ca(), client_id);
    bed->server_ctx = make_ctx(shared_ca(), server_id);
}

void bed_revoke(struct bed *bed, bool is_server) {
    struct tls_svid client, server;
    struct tls_cert_info *infos;
    char *error = NULL;
    sign(shared_ca(), client_id, &client);
    sign(shared_ca(), server_id, &server);
    const struct tls_svid *revoked = is_server ? &server : &client;
    size_t n = tls_cert_parse(slice_str(revoked->cert_chain_pem), &infos, &error);
    CHECK(n > 0);
    struct slice serial = slice_str(infos[0].serial_hex);
    char *crl = tls_ca_make_crl(shared_ca(), &serial, 1, clock_wall_s(), 3600);
    CHECK(crl != NULL);
    tls_ctx_unref(bed->client_ctx);
    tls_ctx_unref(bed->server_ctx);
    bed->client_ctx = ctx_of(&client, crl);
    bed->server_ctx = ctx_of(&server, crl);
    free(crl);
    tls_cert_infos_free(infos, n);
    tls_svid_fini(&client);
    tls_svid_fini(&server);
}

// Kept between runs: contexts are immutable.
static struct tls_ctx *shared_client, *shared_server;

void bed_make_identities(void) {
    if (shared_client == NULL) {
        shared_client = make_ctx(shared_ca(), client_id);
        shared_server = make_ctx(shared_ca(), server_id);
    }
}

static void take_identities(struct bed *bed) {
    bed_make_identities();
    bed->client_ctx = tls_ctx_ref(shared_client);
    bed->server_ctx = tls_ctx_ref(shared_server);
}

static void out_gone(struct listener *listener) {
    CONTAINER_OF(listener, struct bed, out_listener)->n_listeners--;
}

static void in_gone(struct listener *listener) {
    CONTAINER_OF(listener, struct bed, in_listener)->n_listeners--;
}

static const struct listener_handler out_handler = {.on_accept = out_accept, .on_closed = out_gone};
static const struct listener_handler in_listen_handler = {.on_accept = in_accept,
                                                          .on_closed = in_gone};

static int listen_any(struct addr *ret_addr) {
    struct sock_listen_params params = {.netns_fd = -1};
    CHECK(addr_parse(SLICE_LIT("127.0.0.1:0"), &params.bind));
    int fd = sock_listen(&params);
    CHECK(fd >= 0);
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    CHECK((getsockname(fd, (struct sockaddr *)&sa, &len)) == (0));
    CHECK(addr_from_sockaddr((struct sockaddr *)&sa, ret_addr));
    return fd;
}

void bed_init_on(struct bed *bed, struct io *(*make_io)(void *arg, struct blk_pool *pool),
                 void *arg, int out_fd, int in_fd) {
    bed->expected_san = slice_str(server_id);
    blk_pool_init(&bed->pool, 4);
    bed->io = make_io(arg, &bed->pool);
    loop_init(&bed->loop, bed->io, &bed->pool, bed);
    take_identities(bed);
    tls_queue_init(&bed->queue, &bed->loop);
    struct hbone_client_config config;
    hbone_client_config_init(&config);
    config.h2.header_table_size = 0;
    hbone_client_init(&bed->client, &bed->loop, &bed->queue, &config);
    h2_config_init(&bed->server_h2, true);
    bed->server_h2.header_table_size = 0;
    hbone_server_init(&bed->server, &bed->loop, &bed->queue, &bed->server_h2,
                      &bed->n_server_tunnels, &in_handler);
    bed->n_listeners = 2;
    listener_init(&bed->out_listener, &bed->loop, out_fd, &out_handler);
    listener_init(&bed->in_listener, &bed->loop, in_fd, &in_listen_handler);
}

static struct io *make_uring(void *arg, struct blk_pool *pool) {
    (void)arg;
    char error[URING_ERROR_MAX];
    struct uring_options options = {0};
    struct io *io = NULL;
    CHECK(uring_new(&options, pool, error, &io) == 0);
    return io;
}

void bed_init(struct bed *bed, const struct addr *app_addr) {
    *bed = (struct bed){.app_addr = *app_addr};
    int out_fd = listen_any(&bed->out_addr), in_fd = listen_any(&bed->in_addr);
    bed_init_on(bed, make_uring, NULL, out_fd, in_fd);
}

void bed_run_until(struct bed *bed, const bool *flag, uint32_t timeout_ms) {
    uint64_t end = clock_mono_ns() + timeout_ms * NS_PER_MS;
    while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE) && clock_mono_ns() < end) {
        loop_turn(&bed->loop, false);
    }
    CHECK(__atomic_load_n(flag, __ATOMIC_ACQUIRE));
}

void bed_close(struct bed *bed) {
    listener_close(&bed->out_listener, false);
    listener_close(&bed->in_listener, false);
    hbone_client_drain_all(&bed->client);
    bed_drain_servers(bed);
}

bool bed_is_closed(const struct bed *bed) {
    return bed->n_flows == 0 && bed->n_server_tunnels == 0 && bed->n_listeners == 0 &&
           hbone_client_n_tunnels(&bed->client) == 0;
}

void bed_free(struct bed *bed) {
    hbone_client_fini(&bed->client);
    tls_queue_fini(&bed->queue);
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    CHECK(bed->pool.stats.n_cold == 0);
    blk_pool_fini(&bed->pool);
    tls_ctx_unref(bed->client_ctx);
    tls_ctx_unref(bed->server_ctx);
}

void bed_fini(struct bed *bed) {
    bed_close(bed);
    uint64_t end = clock_mono_ns() + 5 * NS_PER_SEC;
    while (!bed_is_closed(bed) && clock_mono_ns() < end) {
        loop_turn(&bed->loop, false);
    }
    CHECK(bed_is_closed(bed));
    bed_free(bed);
}
