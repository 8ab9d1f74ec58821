// SPDX-License-Identifier: Apache-2.0
//
// Inbound HBONE: tunnels that peers open to a pod's port 15008, and the CONNECT streams in them.
// Each stream is checked (destination, policy), the application is dialled at the pod's own
// address, and only then answered 200.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/rbac.h"
#include "common/mesh/route.h"
#include "common/net/link_end.h"
#include "common/proc/proc_labels.h"
#include "common/proto/proxy_protocol.h"
#include "common/proto/spiffe.h"
#include "ztun/flow.h"
#include "ztun/report.h"
#include "ztun/ztun.h"

enum {
    INBOUND_DIAL_MS = 10000,
    // The pod's first certificate may be on its way: clients wait for it as for the handshake.
    INBOUND_CERTIFICATE_MS = TLS_LINK_HS_TIMEOUT_MS,
    INBOUND_PAUSE_MS = 20, // between two looks
};

struct inbound {
    struct flow flow;
    struct hbone_tunnel *tunnel;
    struct hbone_stream down;
    struct link_end up;
    struct dial *dial;
    struct addr upstream;
    // For a waypoint that wants the PROXY protocol (APP_TUNNEL_PROXY): the authority, not set when
    // that is a host name. NULL for all others.
    struct addr *called;
};

static struct inbound *of_flow(struct flow *flow) {
    return CONTAINER_OF(flow, struct inbound, flow);
}

// ---- answers -----------------------------------------------------------------------------------

static void respond(struct inbound *in, enum hbone_err err) {
    struct flow *flow = &in->flow;
    struct hbone_head head;
    struct hbone_baggage baggage, *with = NULL;
    if (err == HBONE_OK && flow->destination != NULL &&
        flow->zpod->worker->config->proc.response_baggage) {
        proc_labels_baggage(flow->destination, &baggage);
        with = &baggage;
    }
    hbone_response_build(err, with, &head);
    if (in->down.user.stream != NULL) {
        h2_stream_send_headers(in->down.user.stream, head.fields, head.n_fields, err != HBONE_OK);
        h2_drv_kick(in->down.user.drv);
    }
}

// Refuses before the pipe has started: answers with the status; the stream needs no further care.
static void refuse(struct inbound *in, enum hbone_err err, enum flow_end reason) {
    struct flow *flow = &in->flow;
    if (in->dial != NULL) {
        dial_cancel(in->dial);
        in->dial = NULL;
    }
    if (in->down.user.stream != NULL) {
        respond(in, err);
        // The response ends our side; the peer's is cut off without an error, as RFC 9113 8.1 has
        // it.
        hbone_stream_drop(&in->down, H2_NO_ERROR);
    }
    pipe_cut(&flow->pipe, reason);
}

static void cancel(struct flow *flow, enum flow_end reason) {
    refuse(of_flow(flow), HBONE_CONNECT_FAILED, reason);
}

static void on_stream_lost(struct hbone_stream *stream, enum flow_end reason) {
    struct inbound *in = CONTAINER_OF(stream, struct inbound, down);
    refuse(in, HBONE_CONNECT_FAILED, reason); // the stream is detached: only the flow ends
}

static void inbound_free(struct flow *flow) {
    struct inbound *in = of_flow(flow);
    struct hbone_tunnel *tunnel = in->tunnel;
    free(in->called);
    slab_free(&flow->zpod->worker->inbound_slab, in);
    hbone_tunnel_put(tunnel);
}

static void pipe_done(struct pipe *pipe) {
    flow_done(flow_of_pipe(pipe));
}

// ---- a stream ----------------------------------------------------------------------------------

static enum flow_end dial_reason(int err) {
    switch (err) {
    case -EADDRNOTAVAIL:
        return FLOW_PORT_EXHAUSTED;
    case -EMFILE:
    case -ENFILE:
        return FLOW_OVERLOAD;
    default:
        return FLOW_CONNECT_FAILED;
    }
}

// To a waypoint that speaks no HBONE: who the client is and what it called, before its first byte.
// 0 or -errno.
static int send_proxy_header(struct inbound *in, int fd) {
    uint8_t header[PROXY_HEADER_MAX + PROXY_TLV_HEAD + SPIFFE_TEXT_MAX];
    struct flow *flow = &in->flow;
    struct io *io = flow->zpod->worker->loop->io;
    size_t len = proxy_header_v2(&flow->src, in->called, header);
    len = proxy_header_add_tlv(header, len, PROXY_TLV_IDENTITY, flow->peer_identity);
    struct iovec iov = {.iov_base = header, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    // The connection is new: its buffer has room.
    ssize_t n = io->ops->send_now(io, fd, &msg, 0);
    return n == (ssize_t)len ? 0 : n < 0 ? (int)n : -EAGAIN;
}

static void on_dial(void *arg, int fd_or_err) {
    struct inbound *in = arg;
    struct flow *flow = &in->flow;
    in->dial = NULL;
    if (fd_or_err < 0) {
        flow_set_detail(flow, strerror(-fd_or_err));
        refuse(in, HBONE_CONNECT_FAILED, dial_reason(fd_or_err));
        return;
    }
    int rc = in->called != NULL ? send_proxy_header(in, fd_or_err) : 0;
    if (rc < 0) {
        struct io *io = flow->zpod->worker->loop->io;
        io->ops->close(io, fd_or_err, true);
        flow_set_detail(flow, strerror(-rc));
        refuse(in, HBONE_CONNECT_FAILED, FLOW_CONNECT_FAILED);
        return;
    }
    link_end_init(&in->up, flow->zpod->worker->loop, fd_or_err);
    respond(in, HBONE_OK);
    pipe_attach(&flow->pipe, PIPE_DOWN, &in->down.duplex);
    pipe_attach(&flow->pipe, PIPE_UP, &in->up.duplex);
    flow_start(flow);
}

static bool check_policy(struct inbound *in, const struct snapshot *snap,
                         const struct workload *local, struct rbac_verdict *ret_verdict) {
    struct rbac_request request = {
        .source_ip = in->flow.src.ip,
        .source_identity = in->flow.peer_identity,
        .destination = in->upstream,
    };
    rbac_check(snap, local, &request, ret_verdict);
    return ret_verdict->is_allowed;
}

static struct ip loopback(uint8_t family) {
    struct ip ip = {.family = family};
    if (family == 4) {
        ip.bytes[0] = 127;
        ip.bytes[3] = 1;
    } else {
        ip.bytes[15] = 1;
    }
    return ip;
}

static void dial_application(struct inbound *in) {
    struct flow *flow = &in->flow;
    struct zworker *worker = flow->zpod->worker;
    struct io_socket_params params;
    struct addr at = in->upstream;
    if (in->called != NULL && worker->config->localhost_app_tunnel) {
        // As ztunnel does: what listens there need not be reachable for others.
        at.ip = loopback(at.ip.family);
    }
    ztun_application_params(&params, flow, &at, in->called == NULL);
    in->dial = dial_start(worker->loop, &params, &at, INBOUND_DIAL_MS * NS_PER_MS, on_dial, in);
    h2_drv_await_answer(&in->tunnel->drv); // a connect within one machine takes no longer
}

// Who the client is, for telemetry: the workload at its address, if the identity agrees.
static struct workload *find_source(const struct snapshot *snap, const struct inbound *in,
                                    const struct hbone_connect *connect) {
    struct workload *source = ztun_source(in->flow.zpod->worker, snap, &in->flow.src.ip);
    if (source == NULL && ip_is_set(&connect->source.ip)) {
        source = snapshot_workload_by_ip(snap, &connect->source.ip);
    }
    if (source != NULL && !mesh_is_same_identity(snap->mesh, in->flow.peer_identity,
                                                 slice_str(source->common->identity))) {
        return NULL;
    }
    return source;
}

// What tunnels to ztun itself may reach: what it serves to the network. Other things may listen in
// its namespace, which can be the host's.
static bool is_operator_port(const struct ztun_config *config, uint16_t port) {
    return port == config->proc.metrics.port || port == config->proc.readiness.port;
}

static void check_target(const struct zpod *zpod, struct inbound_target *target) {
    if (target->status == 200 && zpod->pod->is_self &&
        !is_operator_port(zpod->worker->config, target->upstream.port)) {
        target->status = 503;
        snprintf(target->reason, sizeof(target->reason), "not a port of ztun's own");
    }
}

static void serve(struct inbound *in, const struct h2_event *event) {
    struct flow *flow = &in->flow;
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(flow->zpod->pod, snap);
    char scratch[HBONE_BAGGAGE_MAX];
    struct hbone_connect connect = {0};
    enum hbone_err err = hbone_connect_parse(event->fields, event->n_fields, scratch, &connect);
    if (err != HBONE_OK) {
        refuse(in, err, FLOW_CONNECT_REFUSED);
        return;
    }
    if (local == NULL) {
        refuse(in, HBONE_UNKNOWN_WORKLOAD, FLOW_UNKNOWN_SOURCE);
        return;
    }
    struct slice authority = {0};
    for (size_t i = 0; i < event->n_fields; i++) {
        if (slice_eq_str(event->fields[i].name, ":authority")) {
            authority = event->fields[i].value;
        }
    }
    struct inbound_request request = {
        .local = local, .authority = authority, .local_ip = in->tunnel->dst.ip};
    struct inbound_target target;
    route_inbound(snap, &request, &target);
    check_target(flow->zpod, &target);
    if (target.status == 200) {
        flow->target = in->upstream = target.upstream;
    } else if (ip_is_set(&connect.target.addr.ip)) {
        flow->target = connect.target.addr;
    }
    if (local->app_tunnel == APP_TUNNEL_PROXY) {
        in->called = xmalloc(sizeof(*in->called));
        *in->called = connect.target.addr;
    }
    flow_set_ends(flow, find_source(snap, in, &connect), local, target.service);
    if (target.status != 200) {
        flow_set_detail(flow, target.reason);
        refuse(in, target.status == 400 ? HBONE_WRONG_DESTINATION : HBONE_UNKNOWN_SERVICE,
               FLOW_CONNECT_REFUSED);
        return;
    }
    struct rbac_verdict verdict;
    bool is_allowed = check_policy(in, snap, local, &verdict);
    report_policies(flow, &verdict);
    if (!is_allowed) {
        flow_set_detail(flow, verdict.reason);
        refuse(in, HBONE_DENIED, FLOW_DENIED);
        return;
    }
    dial_application(in);
}

// ---- tunnels -----------------------------------------------------------------------------------

static struct zpod *of_server(struct hbone_server *server) {
    return CONTAINER_OF(server, struct zpod, server);
}

static void on_request(struct hbone_tunnel *tunnel, const struct h2_event *event) {
    struct zpod *zpod = of_server(tunnel->server);
    struct zworker *worker = zpod->worker;
    struct inbound *in = slab_alloc(&worker->inbound_slab);
    struct flow *flow = &in->flow;
    flow_init(flow, zpod, FLOW_INBOUND_HBONE, pipe_done, inbound_free, cancel);
    in->tunnel = tunnel;
    in->dial = NULL;
    in->called = NULL;
    hbone_tunnel_get(tunnel);
    flow->src = tunnel->src;
    flow->dst = flow->hbone_addr = tunnel->dst;
    flow->is_mtls = true;
    flow->peer_identity = tunnel->peer->identity;
    hbone_stream_init(&in->down, &tunnel->drv, event->stream);
    in->down.on_lost = on_stream_lost;
    if (!zworker_admits(worker, -1)) {
        refuse(in, HBONE_OVERLOADED, FLOW_OVERLOAD);
        return;
    }
    if (hbone_tunnel_is_expired(tunnel, clock_wall_s())) {
        h2_drv_drain(&tunnel->drv);
        hbone_stream_drop(&in->down, H2_REFUSED);
        flow_set_detail(flow, "a certificate of the tunnel has expired");
        refuse(in, HBONE_CONNECT_FAILED, FLOW_IDENTITY);
        return;
    }
    serve(in, event);
}

static void on_failed(struct hbone_server *server, const struct addr *src, const struct addr *dst,
                      enum flow_end reason, const char *detail) {
    report_tunnel_failed(of_server(server), src, dst, reason, detail);
}

static void on_gone(struct hbone_server *server) {
    zpod_check_drained(of_server(server));
}

const struct hbone_server_handler inbound_hbone_handler = {
    .on_request = on_request, .on_failed = on_failed, .on_gone = on_gone};

// ---- interface ---------------------------------------------------------------------------------

static void reset_fd(struct zworker *worker, int fd) {
    worker->loop->io->ops->close(worker->loop->io, fd, true);
}

static void refuse_arrival(struct zpod *zpod, int fd, const struct addr *src,
                           const struct addr *dst, enum flow_end reason, const char *detail) {
    report_tunnel_failed(zpod, src, dst, reason, detail);
    reset_fd(zpod->worker, fd);
}

// The pod's certificate, or NULL and why not. *ret_is_coming: it is the first that is asked for, or
// the workload that it is for is not known yet.
static struct tls_ctx *own_certificate(const struct zpod *zpod, const char **ret_why,
                                       bool *ret_is_coming) {
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(zpod->pod, snap);
    const struct identity *identity =
        local != NULL ? snapshot_identity(snap, local->common->identity) : NULL;
    *ret_is_coming = false;
    if (local == NULL) {
        *ret_is_coming = zpod->pod->service_account != NULL; // it was handed over
        *ret_why = "own workload is unknown";
        return NULL;
    }
    if (identity == NULL || identity->tls == NULL) {
        *ret_is_coming = local->common->identity[0] != '\0' &&
                         (identity == NULL || identity->state == IDENTITY_PENDING);
        *ret_why = *ret_is_coming ? "not issued yet" : identity != NULL ? identity->error : "";
        return NULL;
    }
    return identity->tls;
}

// A connection that came before the certificate. Attack: a crowd of them; their number is bounded.
struct arrival {
    struct timer pause;
    struct zpod *zpod;
    struct addr src, dst;
    uint64_t since_ns;
    int fd;
};

static void arrival_done(struct arrival *arrival) {
    struct zpod *zpod = arrival->zpod;
    free(arrival);
    zpod->n_arrivals--;
    zpod_part_closed(zpod);
}

static void arrival_pause(struct arrival *arrival) {
    struct loop *loop = arrival->zpod->worker->loop;
    timer_set(&loop->timers, &arrival->pause, loop->now + INBOUND_PAUSE_MS * NS_PER_MS);
}

static void on_arrival_pause_end(struct timer *timer, uint64_t now) {
    struct arrival *arrival = CONTAINER_OF(timer, struct arrival, pause);
    struct zpod *zpod = arrival->zpod;
    const char *why;
    bool is_coming;
    struct tls_ctx *tls = own_certificate(zpod, &why, &is_coming);
    bool is_late = now - arrival->since_ns >= INBOUND_CERTIFICATE_MS * NS_PER_MS;
    if (tls == NULL && is_coming && !is_late && !zpod->is_closing) {
        arrival_pause(arrival);
        return;
    }
    if (zpod->is_closing) {
        refuse_arrival(zpod, arrival->fd, &arrival->src, &arrival->dst, FLOW_POD_REMOVED, "");
    } else if (tls == NULL) {
        refuse_arrival(zpod, arrival->fd, &arrival->src, &arrival->dst, FLOW_IDENTITY, why);
    } else {
        hbone_server_accept(&zpod->server, arrival->fd, tls, &arrival->src, &arrival->dst);
    }
    arrival_done(arrival);
}

static void arrive(struct zpod *zpod, int fd, const struct addr *src, const struct addr *dst) {
    struct arrival *arrival = xcalloc(1, sizeof(*arrival));
    arrival->zpod = zpod;
    arrival->fd = fd;
    arrival->src = *src;
    arrival->dst = *dst;
    arrival->since_ns = zpod->worker->loop->now;
    timer_init(&arrival->pause, on_arrival_pause_end);
    zpod->n_arrivals++;
    zpod->n_open++; // the pod's part of the worker stays until it is served or refused
    arrival_pause(arrival);
}

void inbound_accept(struct zpod *zpod, int fd) {
    struct zworker *worker = zpod->worker;
    struct io *io = worker->loop->io;
    struct addr src, dst;
    if (io->ops->peer_addr(io, fd, &src) < 0 || io->ops->local_addr(io, fd, &dst) < 0) {
        reset_fd(worker, fd);
        return;
    }
    if (!zworker_admits(worker, fd)) {
        refuse_arrival(zpod, fd, &src, &dst, FLOW_OVERLOAD, "");
        return;
    }
    const char *why;
    bool is_coming;
    struct tls_ctx *tls = own_certificate(zpod, &why, &is_coming);
    if (tls != NULL) {
        hbone_server_accept(&zpod->server, fd, tls, &src, &dst);
    } else if (is_coming && zpod->n_arrivals < HBONE_UNFINISHED_MAX) {
        arrive(zpod, fd, &src, &dst);
    } else {
        refuse_arrival(zpod, fd, &src, &dst, is_coming ? FLOW_OVERLOAD : FLOW_IDENTITY, why);
    }
}

void inbound_recheck_tunnels(struct zpod *zpod) {
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(zpod->pod, snap);
    struct identity *identity =
        local != NULL ? snapshot_identity(snap, local->common->identity) : NULL;
    if (identity == NULL || identity->tls == NULL) {
        return;
    }
    hbone_server_recheck(&zpod->server, identity->tls);
}

bool inbound_is_denied(struct flow *flow) {
    if (flow->kind != FLOW_INBOUND_HBONE) {
        return false;
    }
    struct inbound *in = of_flow(flow);
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(flow->zpod->pod, snap);
    struct rbac_verdict verdict;
    if (local == NULL || check_policy(in, snap, local, &verdict)) {
        return false;
    }
    flow_set_detail(flow, verdict.reason);
    return true;
}

size_t inbound_size(void) {
    return sizeof(struct inbound);
}
