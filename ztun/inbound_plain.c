// SPDX-License-Identifier: Apache-2.0
//
// Inbound plaintext, captured on 15006: the same policy with no identity (a STRICT
// PeerAuthentication denies it), then plain TCP to the application at the original address.
#include <errno.h>

#include "common/mesh/rbac.h"
#include "common/mesh/route.h"
#include "common/net/link_end.h"
#include "ztun/flow.h"
#include "ztun/report.h"
#include "ztun/ztun.h"

enum {
    PLAIN_DIAL_MS = 10000,
    // Source ports of connections under the client's address. Outside of the usual ephemeral range:
    // conntrack would take a new connection of the same client from that port for ours, and it
    // would pass us by.
    SPOOF_PORT_MIN = 10000,
    SPOOF_PORT_MAX = 32767,
    SPOOF_PORT_TRIES = 8, // then any port
};

struct plain {
    struct flow flow;
    struct link_end down, up;
    struct dial *dial;
    uint8_t n_dials;
};

static struct plain *of_flow(struct flow *flow) {
    return CONTAINER_OF(flow, struct plain, flow);
}

static void plain_free(struct flow *flow) {
    slab_free(&flow->zpod->worker->plain_slab, of_flow(flow));
}

static void pipe_done(struct pipe *pipe) {
    flow_done(flow_of_pipe(pipe));
}

static void cancel(struct flow *flow, enum flow_end reason) {
    struct plain *plain = of_flow(flow);
    if (plain->dial != NULL) {
        dial_cancel(plain->dial);
        plain->dial = NULL;
    }
    pipe_cut(&flow->pipe, reason);
}

static void on_dial(void *arg, int fd_or_err);

static uint16_t next_spoof_port(struct zworker *worker) {
    if (worker->spoof_port < SPOOF_PORT_MIN || worker->spoof_port >= SPOOF_PORT_MAX) {
        worker->spoof_port =
            (uint16_t)rand_range(&worker->rand, SPOOF_PORT_MIN, SPOOF_PORT_MAX - 1);
    }
    return worker->spoof_port++;
}

static void dial_application(struct plain *plain) {
    struct flow *flow = &plain->flow;
    struct zpod *zpod = flow->zpod;
    struct io_socket_params params;
    ztun_application_params(&params, flow, &flow->dst, true);
    if (params.transparent && plain->n_dials < SPOOF_PORT_TRIES) {
        params.bind.port = next_spoof_port(zpod->worker);
    }
    plain->n_dials++;
    plain->dial = dial_start(zpod->worker->loop, &params, &flow->dst, PLAIN_DIAL_MS * NS_PER_MS,
                             on_dial, plain);
}

static void on_dial(void *arg, int fd_or_err) {
    struct plain *plain = arg;
    struct flow *flow = &plain->flow;
    plain->dial = NULL;
    if ((fd_or_err == -EADDRNOTAVAIL || fd_or_err == -EADDRINUSE) &&
        plain->n_dials <= SPOOF_PORT_TRIES) {
        dial_application(plain);
        return;
    }
    if (fd_or_err < 0) {
        flow_set_detail(flow, strerror(-fd_or_err));
        cancel(flow, fd_or_err == -EADDRNOTAVAIL ? FLOW_PORT_EXHAUSTED : FLOW_CONNECT_FAILED);
        return;
    }
    link_end_init(&plain->up, flow->zpod->worker->loop, fd_or_err);
    pipe_attach(&flow->pipe, PIPE_UP, &plain->up.duplex);
    flow_start(flow);
}

static bool is_allowed(struct flow *flow, const struct snapshot *snap,
                       const struct workload *local) {
    struct rbac_request request = {.source_ip = flow->src.ip, .destination = flow->dst};
    struct rbac_verdict verdict;
    rbac_check(snap, local, &request, &verdict);
    if (verdict.is_allowed && verdict.dry_run_denies && !flow->is_joined) {
        report_dry_run(flow, &verdict);
    }
    if (!verdict.is_allowed) {
        flow_set_detail(flow, verdict.reason);
    }
    return verdict.is_allowed;
}

static void serve(struct plain *plain, const struct addr *local_addr) {
    struct flow *flow = &plain->flow;
    struct zpod *zpod = flow->zpod;
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(zpod->pod, snap);
    flow_set_ends(flow, ztun_source(flow->zpod->worker, snap, &flow->src.ip), local, NULL);
    // Connected to the capture port itself, or to another port of the proxy: a loop.
    if (addr_eq(&flow->dst, local_addr) || route_is_own_port(flow->dst.port)) {
        cancel(flow, FLOW_ILLEGAL_DESTINATION);
        return;
    }
    if (local == NULL) {
        cancel(flow, FLOW_UNKNOWN_SOURCE);
        return;
    }
    if (!is_allowed(flow, snap, local)) {
        cancel(flow, FLOW_DENIED);
        return;
    }
    dial_application(plain);
}

void inbound_plain_accept(struct zpod *zpod, int fd) {
    struct zworker *worker = zpod->worker;
    struct io *io = worker->loop->io;
    struct addr src, dst, local;
    if (!zworker_admits(worker, fd) || io->ops->peer_addr(io, fd, &src) < 0 ||
        io->ops->local_addr(io, fd, &local) < 0) {
        io->ops->close(io, fd, true);
        return;
    }
    if (io->ops->original_dst(io, fd, &dst) < 0) {
        dst = local;
    }
    struct plain *plain = slab_alloc(&worker->plain_slab);
    flow_init(&plain->flow, zpod, FLOW_INBOUND_PLAIN, pipe_done, plain_free, cancel);
    plain->flow.src = src;
    plain->flow.dst = plain->flow.target = dst;
    plain->dial = NULL;
    plain->n_dials = 0;
    link_end_init(&plain->down, worker->loop, fd);
    pipe_attach(&plain->flow.pipe, PIPE_DOWN, &plain->down.duplex);
    serve(plain, &local);
}

bool inbound_plain_is_denied(struct flow *flow) {
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(flow->zpod->pod, snap);
    return flow->kind == FLOW_INBOUND_PLAIN && local != NULL && !is_allowed(flow, snap, local);
}

size_t inbound_plain_size(void) {
    return sizeof(struct plain);
}
