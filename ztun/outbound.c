// SPDX-License-Identifier: Apache-2.0
//
// Outbound: a connection that an application of the pod opened, captured on 15001. Decide where it
// goes (route.h), reach it by a tunnel or plainly, join the two.
#include <errno.h>

#include "common/base/slab.h"
#include "common/mesh/route.h"
#include "common/mesh/route_wants.h"
#include "common/net/link_end.h"
#include "common/proc/proc_labels.h"
#include "ztun/rebind.h"
#include "ztun/report.h"
#include "ztun/socks.h"
#include "ztun/zmove.h"
#include "ztun/ztun.h"

enum {
    OUTBOUND_ATTEMPTS = 3, // the first endpoint and two more
    OUTBOUND_RETRY_MS = 10000, // no further attempt later than this
    OUTBOUND_DIAL_MS = 10000, // one TCP connect; else MeshConfig's connectTimeout
    // A pod whose port 15008 is closed may be joining the mesh: we heard of its label before its
    // node's ztun was done, or that one is starting again. Its flows wait for so long.
    OUTBOUND_JOIN_MS = 1000,
    // A pod that the node agent has handed over may be here before the mesh knows of its workload;
    // and, on demand, istiod has to say whose the destination is.
    OUTBOUND_SOURCE_MS = 5000,
    OUTBOUND_CERTIFICATE_MS = 10000, // and before its first certificate is
    OUTBOUND_ASKS = 8, // the destination, two waypoints, and what is forgotten meanwhile
    OUTBOUND_PAUSE_MIN_MS = 20, // between two attempts: half of the flow's age within these bounds
    OUTBOUND_PAUSE_MAX_MS = 200,
};

struct outbound {
    struct flow flow;
    struct link_end down;
    union {
        struct {
            union {
                struct hbone_request request; // while is_requesting, and of a flow in a tunnel
                struct dial *dial; // while is_dialing: plain TCP
                struct timer pause; // while is_paused: until the next attempt
                struct demand demand; // while is_asking: whose the destination is
            };
            struct ip tried[OUTBOUND_ATTEMPTS]; // before the flow starts
        };
        struct link_end link; // of a plain flow that has started
    } up;
    struct rebind rebind;
    uint8_t n_tried;
    uint8_t last_reason; // enum flow_end: why the last attempt failed
    uint8_t socks_code; // enum socks5_code for is_socks; SUCCEEDED: what the reason of its end says
    uint8_t n_asked : 4; // questions to istiod
    uint8_t n_lacking : 4; // names that stay unknown, though it was asked
    bool is_requesting : 1, is_dialing : 1, is_paused : 1, is_asking : 1, via_waypoint : 1;
    bool is_unserved : 1; // nobody was there, at port 15008 of the last attempt
    bool is_socks : 1; // a client of SOCKS5 that waits for its reply
    bool is_unknown : 1; // passed on to what nobody in the mesh has
};

// With the stream of its tunnel an idle flow is 1.2 KB: 16 of these share a chunk of the slab.
_Static_assert(sizeof(struct outbound) <= 1008, "an idle flow has grown");

static struct outbound *of_flow(struct flow *flow) {
    return CONTAINER_OF(flow, struct outbound, flow);
}

struct rebind *outbound_rebind(struct flow *flow) {
    return flow->kind == FLOW_OUTBOUND ? &of_flow(flow)->rebind : NULL;
}

static void outbound_free(struct flow *flow) {
    struct outbound *out = of_flow(flow);
    rebind_fini(&out->rebind);
    slab_free(&flow->zpod->worker->outbound_slab, out);
}

static void pipe_done(struct pipe *pipe) {
    flow_done(flow_of_pipe(pipe));
}

// Before the pipe has started: resets the application's connection; pipe_done follows.
static void refuse(struct outbound *out, enum flow_end reason) {
    if (out->is_socks) {
        enum socks5_code code = out->socks_code;
        out->is_socks = false;
        socks_answer(out->flow.zpod->worker->loop->io, out->down.link.fd,
                     code != SOCKS5_SUCCEEDED ? code : socks_code(reason));
    }
    if (out->is_dialing) {
        out->is_dialing = false;
        dial_cancel(out->up.dial);
    }
    if (out->is_requesting) {
        out->is_requesting = false;
        hbone_request_cancel(&out->up.request);
    }
    if (out->is_paused) {
        out->is_paused = false;
        timer_clear(&out->flow.zpod->worker->loop->timers, &out->up.pause);
    }
    if (out->is_asking) {
        out->is_asking = false;
        demand_cancel(&out->up.demand);
    }
    pipe_cut(&out->flow.pipe, reason);
}

static void cancel(struct flow *flow, enum flow_end reason) {
    refuse(of_flow(flow), reason);
}

// The way to the destination is there.
static void start(struct outbound *out, struct duplex *up) {
    if (out->is_socks) {
        out->is_socks = false;
        socks_answer(out->flow.zpod->worker->loop->io, out->down.link.fd, SOCKS5_SUCCEEDED);
    }
    pipe_attach(&out->flow.pipe, PIPE_UP, up);
    rebind_start(&out->rebind);
    flow_start(&out->flow);
}

static bool connect_next(struct outbound *out);
static void connect_again(struct outbound *out);

static uint64_t age_of(const struct outbound *out) {
    return out->flow.zpod->worker->loop->now - out->flow.started_ns;
}

static void on_pause_end(struct timer *timer, uint64_t now) {
    (void)now;
    struct outbound *out = CONTAINER_OF(timer, struct outbound, up.pause);
    out->is_paused = false;
    out->n_tried = 0;
    connect_again(out);
}

// False: it is older than that.
static bool pause_until(struct outbound *out, uint64_t limit_ms) {
    uint64_t age = age_of(out);
    if (age >= limit_ms * NS_PER_MS) {
        return false;
    }
    struct loop *loop = out->flow.zpod->worker->loop;
    uint64_t pause =
        MIN(MAX(age / 2, OUTBOUND_PAUSE_MIN_MS * NS_PER_MS), OUTBOUND_PAUSE_MAX_MS * NS_PER_MS);
    out->is_paused = true;
    timer_init(&out->up.pause, on_pause_end);
    timer_set(&loop->timers, &out->up.pause, loop->now + pause);
    return true;
}

// Nobody else is left to try, and the last one may be joining.
static bool waits(struct outbound *out) {
    return out->is_unserved && pause_until(out, OUTBOUND_JOIN_MS);
}

// An attempt failed: the next endpoint, or this one a little later, or the end.
static void attempt_failed(struct outbound *out, enum flow_end reason, bool is_retryable) {
    const struct flow *flow = &out->flow;
    out->last_reason = (uint8_t)reason;
    if (!is_retryable || flow->zpod->is_removed || age_of(out) >= OUTBOUND_RETRY_MS * NS_PER_MS) {
        refuse(out, reason);
        return;
    }
    bool has_others = flow->service != NULL || out->via_waypoint;
    if (has_others && out->n_tried < OUTBOUND_ATTEMPTS && connect_next(out)) {
        return;
    }
    if (!waits(out)) {
        refuse(out, reason); // the log tells of the endpoint that was tried last
    }
}

// ---- plain TCP ---------------------------------------------------------------------------------

static enum flow_end dial_reason(int err) {
    switch (err) {
    case -ETIMEDOUT:
        return FLOW_TIMEOUT;
    case -EADDRNOTAVAIL:
        return FLOW_PORT_EXHAUSTED;
    case -EMFILE:
    case -ENFILE:
        return FLOW_OVERLOAD;
    default:
        return FLOW_CONNECT_FAILED;
    }
}

static void on_dial(void *arg, int fd_or_err) {
    struct outbound *out = arg;
    struct flow *flow = &out->flow;
    out->is_dialing = false;
    if (fd_or_err < 0) {
        out->is_unserved = false; // the application's own port: its refusal is passed on
        out->socks_code = (uint8_t)socks_code_of_errno(fd_or_err);
        flow_set_detail(flow, strerror(-fd_or_err));
        attempt_failed(out, dial_reason(fd_or_err), true);
        return;
    }
    link_end_init(&out->up.link, flow->zpod->worker->loop, fd_or_err);
    start(out, &out->up.link.duplex);
}

static void connect_plain(struct outbound *out, const struct route *route) {
    struct zworker *worker = out->flow.zpod->worker;
    struct io_socket_params params;
    ztun_socket_params(&params, out->flow.zpod, &route->target, false);
    uint32_t timeout_ms = snapshot_current()->mesh->connect_timeout_ms;
    timeout_ms = timeout_ms != 0 ? timeout_ms : OUTBOUND_DIAL_MS;
    out->flow.target = route->target;
    out->is_dialing = true;
    out->up.dial =
        dial_start(worker->loop, &params, &route->target, timeout_ms * NS_PER_MS, on_dial, out);
}

// ---- tunnel ------------------------------------------------------------------------------------

static struct outbound *of_request(struct hbone_request *request) {
    return CONTAINER_OF(request, struct outbound, up.request);
}

static void build_head(struct hbone_request *request, struct hbone_head *ret_head) {
    struct outbound *out = of_request(request);
    struct flow *flow = &out->flow;
    struct hbone_connect connect = {
        .target = {.addr = flow->target},
        .source = flow->src,
        .host = slice_str(flow->hostname),
        .has_trace = true,
    };
    if (flow->source != NULL) {
        proc_labels_baggage(flow->source, &connect.baggage);
    }
    rand_bytes(&flow->zpod->worker->rand, connect.trace_id, sizeof(connect.trace_id));
    rand_bytes(&flow->zpod->worker->rand, connect.span_id, sizeof(connect.span_id));
    CHECK(hbone_connect_build(&connect, ret_head)); // the target is an address with a port
}

static void on_open(struct hbone_request *request, const struct h2_event *head) {
    (void)head; // response baggage: the destination is known from the snapshot
    struct outbound *out = of_request(request);
    out->is_requesting = false;
    if (out->via_waypoint) {
        route_shun_del(&out->flow.zpod->worker->shun, &out->flow.hbone_addr.ip);
    }
    start(out, &request->stream.duplex);
}

// There is no tunnel to it. (What it answered is not its fault: an application may be gone.)
static bool is_unreached(enum flow_end reason) {
    return reason == FLOW_CONNECT_FAILED || reason == FLOW_TIMEOUT ||
           reason == FLOW_NETWORK_POLICY || reason == FLOW_TLS_FAILURE ||
           reason == FLOW_HTTP2_FAILURE || reason == FLOW_TUNNEL_LOST;
}

static void on_fail(struct hbone_request *request, enum flow_end reason, uint16_t status,
                    bool is_retryable) {
    struct outbound *out = of_request(request);
    out->is_requesting = false;
    out->is_unserved = request->is_unserved;
    out->socks_code = SOCKS5_SUCCEEDED; // the reason says it
    flow_set_detail(&out->flow, request->detail);
    if (status == 401) {
        reason = FLOW_DENIED;
    }
    if (out->via_waypoint && is_unreached(reason)) {
        struct zworker *worker = out->flow.zpod->worker;
        route_shun_add(&worker->shun, &out->flow.hbone_addr.ip, worker->loop->now);
    }
    attempt_failed(out, reason, is_retryable);
}

static const struct hbone_request_ops request_ops = {
    .build = build_head, .on_open = on_open, .on_fail = on_fail};

static void tunnel_route(const struct zpod *zpod, const struct addr *src, const struct route *route,
                         struct tls_ctx *tls, struct hbone_route *ret_to) {
    *ret_to = (struct hbone_route){
        .pod_id = zpod->pod->id,
        .tls = tls,
        .destination = route->target,
        .source_ip = src->ip,
        .sans = route->sans,
        .n_sans = route->n_sans,
    };
    ztun_socket_params(&ret_to->socket, zpod, &route->target, true);
}

static void connect_tunnel(struct outbound *out, const struct snapshot *snap,
                           const struct route *route) {
    struct flow *flow = &out->flow;
    struct zworker *worker = flow->zpod->worker;
    struct identity *identity =
        route->source != NULL ? snapshot_identity(snap, route->source->common->identity) : NULL;
    bool is_coming = identity != NULL && identity->state == IDENTITY_PENDING;
    if (is_coming && !flow->zpod->is_removed && pause_until(out, OUTBOUND_CERTIFICATE_MS)) {
        return;
    }
    if (identity == NULL || identity->tls == NULL) {
        flow_set_detail(flow, identity != NULL && identity->error[0] != 0 ? identity->error
                                                                          : "not issued yet");
        refuse(out, FLOW_IDENTITY);
        return;
    }
    if (tls_ctx_not_after(identity->tls) < clock_wall_s()) {
        flow_set_detail(flow, "own certificate has expired");
        refuse(out, FLOW_IDENTITY);
        return;
    }
    out->is_requesting = flow->is_mtls = true;
    flow->target = route->inner;
    flow->hbone_addr = route->target;
    struct hbone_route to;
    tunnel_route(flow->zpod, &flow->src, route, identity->tls, &to);
    hbone_request_init(&out->up.request, &request_ops);
    hbone_client_connect(&worker->client, &out->up.request, &to);
}

// ---- decision ----------------------------------------------------------------------------------

static enum flow_end refusal_reason(uint8_t refusal) {
    switch (refusal) {
    case ROUTE_NO_SOURCE:
        return FLOW_UNKNOWN_SOURCE;
    case ROUTE_ILLEGAL_PORT:
        return FLOW_ILLEGAL_DESTINATION;
    default:
        return FLOW_NO_UPSTREAM;
    }
}

// Of the endpoint that a further attempt leaves out: the waypoint, if that is where it goes.
static struct ip endpoint_ip(const struct route *route) {
    bool is_pod = route->action == ROUTE_HBONE && !route->via_waypoint;
    return is_pod ? route->inner.ip : route->target.ip;
}

// What nobody in the mesh has, under the names that Istio has for it.
static const char *unknown_name(const struct route *route) {
    bool is_known = route->service != NULL || route->destination != NULL;
    if (route->action == ROUTE_REFUSE && route->refusal == ROUTE_BLOCKED) {
        return "BlackHoleCluster";
    }
    return route->action == ROUTE_PASSTHROUGH && !is_known ? "PassthroughCluster" : NULL;
}

// Follows a decision of this turn.
static void connect_route(struct outbound *out, const struct snapshot *snap,
                          const struct route *route) {
    struct flow *flow = &out->flow;
    flow_set_ends(flow, route->source, route->destination, route->service);
    const char *unknown = unknown_name(route);
    flow->hostname = unknown != NULL ? unknown : flow->hostname;
    out->is_unknown = unknown != NULL && route->action == ROUTE_PASSTHROUGH;
    flow->hbone_addr = (struct addr){0};
    flow_set_detail(flow, NULL);
    if (route->action == ROUTE_REFUSE) {
        flow_set_detail(flow, route_refusal_text(route->refusal));
        out->last_reason = (uint8_t)refusal_reason(route->refusal);
        if (route->refusal == ROUTE_NO_SOURCE && flow->zpod->pod->service_account != NULL &&
            pause_until(out, OUTBOUND_SOURCE_MS)) {
            return;
        }
        out->socks_code = route->refusal == ROUTE_BLOCKED ? SOCKS5_NOT_ALLOWED : SOCKS5_SUCCEEDED;
        refuse(out, out->last_reason);
        return;
    }
    if (out->n_tried < OUTBOUND_ATTEMPTS) {
        out->up.tried[out->n_tried++] = endpoint_ip(route);
    }
    out->via_waypoint = route->via_waypoint;
    rebind_routed(&out->rebind, snap, route->waypoint);
    if (route->destination != NULL && route->destination->common->hostname[0] != '\0') {
        report_on_demand_dns(flow);
    }
    flow->is_mtls = false;
    if (route->action == ROUTE_HBONE) {
        connect_tunnel(out, snap, route);
    } else {
        connect_plain(out, route);
    }
}

static void route_next(struct outbound *out, const struct snapshot *snap, struct route *ret_route) {
    struct flow *flow = &out->flow;
    struct zworker *worker = flow->zpod->worker;
    struct route_request request = {
        .source = pod_workload(flow->zpod->pod, snap),
        .original_dst = flow->dst,
        .rand = &worker->rand,
        .n_tried = out->n_tried,
    };
    memcpy(request.tried, out->up.tried, out->n_tried * sizeof(out->up.tried[0]));
    route_shun_outbound(&worker->shun, worker->loop->now, snap, &request, ret_route);
}

// False: there is no endpoint that was not tried.
static bool connect_next(struct outbound *out) {
    const struct snapshot *snap = snapshot_current();
    struct route route;
    route_next(out, snap, &route);
    if (route.action == ROUTE_REFUSE) {
        return false;
    }
    connect_route(out, snap, &route);
    return true;
}

// ---- on demand ---------------------------------------------------------------------------------

static void on_demand(struct demand *demand, enum demand_result result);

// What the decision lacks is asked for: it is made when istiod has answered.
static bool asks(struct outbound *out, const struct snapshot *snap) {
    struct flow *flow = &out->flow;
    struct demands *demands = &flow->zpod->worker->demands;
    const struct workload *source = pod_workload(flow->zpod->pod, snap);
    char name[ROUTE_WANT_MAX];
    while (demands->is_on && out->n_asked < OUTBOUND_ASKS &&
           route_wants(snap, source, &flow->dst, out->n_lacking, name)) {
        if (demand_start(&out->up.demand, demands, name, OUTBOUND_SOURCE_MS, on_demand)) {
            out->n_asked++;
            out->is_asking = true;
            return true;
        }
        out->n_lacking++;
    }
    return false;
}

static void on_demand(struct demand *demand, enum demand_result result) {
    struct outbound *out = CONTAINER_OF(demand, struct outbound, up.demand);
    out->is_asking = false;
    if (result != DEMAND_ANSWERED) {
        // Nobody's, it would go out as it is; but it may be somebody's who is to be protected.
        flow_set_detail(&out->flow, demand_result_text(result));
        refuse(out, FLOW_NO_UPSTREAM);
        return;
    }
    connect_again(out);
}

// After a pause, or an answer.
static void connect_again(struct outbound *out) {
    const struct snapshot *snap = snapshot_current();
    struct route route;
    if (out->n_tried == 0 && asks(out, snap)) {
        return;
    }
    route_next(out, snap, &route);
    bool has_failed = out->last_reason != FLOW_OK && out->last_reason != FLOW_UNKNOWN_SOURCE;
    if (route.action == ROUTE_REFUSE && has_failed) {
        refuse(out, out->last_reason); // what was tried says more
    } else {
        connect_route(out, snap, &route);
    }
}

bool outbound_is_blocked(struct flow *flow) {
    if (!of_flow(flow)->is_unknown) {
        return false;
    }
    const struct snapshot *snap = snapshot_current();
    struct route_request request = {
        .source = pod_workload(flow->zpod->pod, snap),
        .original_dst = flow->dst,
        .rand = &flow->zpod->worker->rand,
    };
    struct route route;
    route_outbound(snap, &request, &route);
    if (route.action != ROUTE_REFUSE || route.refusal != ROUTE_BLOCKED) {
        return false;
    }
    flow_set_detail(flow, route_refusal_text(ROUTE_BLOCKED));
    return true;
}

// The first decision. It depends on the snapshot and the seed alone (but for waypoints that the one
// worker could not reach), so that a worker to which the flow moves finds the endpoint whose tunnel
// it moved for.
static void route_first(const struct zpod *zpod, const struct snapshot *snap,
                        const struct addr *dst, uint64_t seed, struct route *ret_route) {
    struct rand rand;
    rand_seed(&rand, seed);
    struct route_request request = {
        .source = pod_workload(zpod->pod, snap),
        .original_dst = *dst,
        .rand = &rand,
    };
    route_shun_outbound(&zpod->worker->shun, zpod->worker->loop->now, snap, &request, ret_route);
}

// A connection of an application: captured, or asked for by SOCKS5.
struct client {
    int fd;
    bool is_socks, is_moved;
    uint64_t seed; // of the first decision
    struct addr src, dst;
};

static bool moves_on(struct zpod *zpod, const struct client *client, const struct snapshot *snap,
                     const struct route *route) {
    if (!zmove_is_possible(zpod) || route->action == ROUTE_REFUSE) {
        return false;
    }
    struct identity *identity = route->action == ROUTE_HBONE && route->source != NULL
                                    ? snapshot_identity(snap, route->source->common->identity)
                                    : NULL;
    uint64_t key = 0;
    if (identity != NULL && identity->tls != NULL) {
        struct hbone_route to;
        tunnel_route(zpod, &client->src, route, identity->tls, &to);
        key = hbone_route_hash(&to);
    }
    return zmove_outbound(zpod, client->fd, key, client->seed,
                          client->is_socks ? &client->dst : NULL);
}

// is_loop: connected to the capture port itself, so that answering would make a loop.
static void serve(struct zpod *zpod, const struct client *client, bool is_loop) {
    struct zworker *worker = zpod->worker;
    const struct snapshot *snap = snapshot_current();
    struct route route;
    char name[ROUTE_WANT_MAX];
    bool has_all = !worker->demands.is_on ||
                   !route_wants(snap, pod_workload(zpod->pod, snap), &client->dst, 0, name);
    if (!is_loop && has_all) {
        route_first(zpod, snap, &client->dst, client->seed, &route);
        if (!client->is_moved && moves_on(zpod, client, snap, &route)) {
            return;
        }
    }
    struct outbound *out = slab_alloc(&worker->outbound_slab);
    struct flow *flow = &out->flow;
    flow_init(flow, zpod, FLOW_OUTBOUND, pipe_done, outbound_free, cancel);
    flow->src = client->src;
    flow->dst = client->dst;
    rebind_init(&out->rebind, flow);
    out->n_tried = 0;
    out->is_requesting = out->is_dialing = out->is_paused = false;
    out->is_unserved = out->is_unknown = false;
    out->is_asking = false;
    out->n_asked = out->n_lacking = 0;
    out->last_reason = FLOW_OK;
    out->is_socks = client->is_socks;
    out->socks_code = SOCKS5_SUCCEEDED;
    link_end_init(&out->down, worker->loop, client->fd);
    pipe_attach(&flow->pipe, PIPE_DOWN, &out->down.duplex);
    if (is_loop) {
        refuse(out, FLOW_ILLEGAL_DESTINATION);
        return;
    }
    if (has_all) {
        connect_route(out, snap, &route);
    } else {
        connect_again(out);
    }
}

void outbound_socks(struct zpod *zpod, int fd, const struct addr *to) {
    struct zworker *worker = zpod->worker;
    struct io *io = worker->loop->io;
    struct client client = {
        .fd = fd, .is_socks = true, .seed = rand_u64(&worker->rand), .dst = *to};
    if (io->ops->peer_addr(io, fd, &client.src) < 0) {
        io->ops->close(io, fd, true);
        return;
    }
    client.src.ip = socks_client_ip(zpod, &client.src.ip, to->ip.family);
    serve(zpod, &client, false);
}

// Asks the kernel only where the port leaves it open: one system call less for all others.
static bool is_own_address(const struct zpod *zpod, int fd, const struct addr *dst) {
    struct io *io = zpod->worker->loop->io;
    struct addr local;
    return dst->port == zpod->worker->config->outbound_port &&
           io->ops->local_addr(io, fd, &local) == 0 && addr_eq(dst, &local);
}

void outbound_accept(struct zpod *zpod, int fd, const struct zmove *moved) {
    struct zworker *worker = zpod->worker;
    struct io *io = worker->loop->io;
    struct addr src, dst;
    if (!zworker_admits(worker, fd) || io->ops->peer_addr(io, fd, &src) < 0 ||
        io->ops->original_dst(io, fd, &dst) < 0) {
        io->ops->close(io, fd, true);
        return;
    }
    struct client client = {.fd = fd, .is_moved = moved != NULL, .src = src, .dst = dst};
    client.seed = moved != NULL ? moved->seed : rand_u64(&worker->rand);
    if (moved != NULL && ip_is_set(&moved->socks_to.ip)) {
        client.is_socks = true;
        client.dst = moved->socks_to;
        client.src.ip = socks_client_ip(zpod, &src.ip, moved->socks_to.ip.family);
    }
    serve(zpod, &client, !client.is_socks && is_own_address(zpod, fd, &dst));
}

size_t outbound_size(void) {
    return sizeof(struct outbound);
}
