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
    // A pod that the node agent has handed over may be asked before the mesh knows of its workload.
    PLAIN_WORKLOAD_MS = 5000,
    PLAIN_PAUSE_MS = 50, // between two looks
};

struct plain {
    struct flow flow;
    struct link_end down, up;
    struct dial *dial;
    struct timer pause; // while is_paused: until the workload is looked for again
    uint8_t n_dials;
    bool is_paused;
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
    if (plain->is_paused) {
        plain->is_paused = false;
        timer_clear(&flow->zpod->worker->loop->timers, &plain->pause);
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
    if (!flow->is_joined) {
        report_policies(flow, &verdict);
    }
    if (!verdict.is_allowed) {
        flow_set_detail(flow, verdict.reason);
    }
    return verdict.is_allowed;
}

static void serve(struct plain *plain);

static void on_pause_end(struct timer *timer, uint64_t now) {
    (void)now;
    struct plain *plain = CONTAINER_OF(timer, struct plain, pause);
    plain->is_paused = false;
    serve(plain);
}

// False: it has waited long enough, or nobody has announced this pod.
static bool wait_for_workload(struct plain *plain) {
    const struct flow *flow = &plain->flow;
    struct loop *loop = flow->zpod->worker->loop;
    if (flow->zpod->pod->service_account == NULL || flow->zpod->is_removed ||
        loop->now - flow->started_ns >= PLAIN_WORKLOAD_MS * NS_PER_MS) {
        return false;
    }
    plain->is_paused = true;
    timer_init(&plain->pause, on_pause_end);
    timer_set(&loop->timers, &plain->pause, loop->now + PLAIN_PAUSE_MS * NS_PER_MS);
    return true;
}

static void serve(struct plain *plain) {
    struct flow *flow = &plain->flow;
    struct zpod *zpod = flow->zpod;
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(zpod->pod, snap);
    flow_set_ends(flow, ztun_source(flow->zpod->worker, snap, &flow->src.ip), local, NULL);
    if (local == NULL) {
        if (!wait_for_workload(plain)) {
            cancel(flow, FLOW_UNKNOWN_SOURCE);
        }
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
    plain->is_paused = false;
    link_end_init(&plain->down, worker->loop, fd);
    pipe_attach(&plain->flow.pipe, PIPE_DOWN, &plain->down.duplex);
    // Connected to the capture port itself, or to another port of the proxy: a loop.
    if (addr_eq(&dst, &local) || route_is_own_port(dst.port)) {
        flow_set_ends(&plain->flow, ztun_source(worker, snapshot_current(), &src.ip),
                      pod_workload(zpod->pod, snapshot_current()), NULL);
        cancel(&plain->flow, FLOW_ILLEGAL_DESTINATION);
        return;
    }
    serve(plain);
}

bool inbound_plain_is_denied(struct flow *flow) {
    const struct snapshot *snap = snapshot_current();
    struct workload *local = pod_workload(flow->zpod->pod, snap);
    return flow->kind == FLOW_INBOUND_PLAIN && local != NULL && !is_allowed(flow, snap, local);
}

size_t inbound_plain_size(void) {
    return sizeof(struct plain);
}
