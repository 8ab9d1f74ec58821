// SPDX-License-Identifier: Apache-2.0
#include "waypoint/dial.h"

#include <errno.h>
#include <stdio.h>

#include "common/l7/l7_policy.h"
#include "common/mesh/route.h"
#include "common/proc/proc_labels.h"
#include "common/rt/sock.h"
#include "waypoint/dial_layer.h"
#include "waypoint/waypoint.h"

enum { // Linux' own: what tcpKeepalive leaves out
    KEEPALIVE_S = 7200,
    KEEPALIVE_INTERVAL_S = 75,
    KEEPALIVE_PROBES = 9,
};

// ---- the end of an attempt ---------------------------------------------------------------------

static void let_go(struct upstream_dial *dial) {
    timer_clear(&dial->worker->loop->timers, &dial->timer);
    loop_flush_disarm(&dial->flush);
    leaf_unref(dial->workload);
    leaf_unref(dial->service);
    dial->workload = NULL;
    dial->service = NULL;
    dial->is_active = false;
}

void upstream_dial_opened(struct upstream_dial *dial, struct duplex *duplex) {
    dial->layer = NULL; // it goes with its duplex
    let_go(dial);
    dial->ops->on_open(dial, duplex);
}

void upstream_dial_failed(struct upstream_dial *dial, const struct upstream_failure *failure) {
    dial_layer_drop(dial->layer);
    dial->layer = NULL;
    let_go(dial);
    dial->ops->on_fail(dial, failure);
}

// The transport is there.
static void transport_open(struct upstream_dial *dial, struct duplex *duplex, int fd) {
    if (sock_local_addr(fd, &dial->local) < 0) {
        dial->local = (struct addr){0};
    }
    if (dial->layer != NULL) {
        dial_layer_start(dial->layer, duplex);
    } else {
        upstream_dial_opened(dial, duplex);
    }
}

static void on_flush(struct loop_flush *flush) {
    struct upstream_dial *dial = CONTAINER_OF(flush, struct upstream_dial, flush);
    struct upstream_failure failure = dial->failure;
    upstream_dial_failed(dial, &failure);
}

// What fails within the start is told later in the turn.
static void fail_later(struct upstream_dial *dial, enum flow_end reason, const char *text) {
    snprintf(dial->text, sizeof(dial->text), "%s", text);
    dial->failure = (struct upstream_failure){.reason = (uint8_t)reason, .text = dial->text};
    loop_flush_arm(dial->worker->loop, &dial->flush);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct upstream_dial *dial = CONTAINER_OF(timer, struct upstream_dial, timer);
    struct upstream_failure failure = {.reason = FLOW_TIMEOUT,
                                       .is_timeout = true,
                                       .is_retryable = true,
                                       .text = dial_layer_timeout_text(dial->layer)};
    upstream_dial_cancel(dial);
    dial->ops->on_fail(dial, &failure);
}

// ---- plain TCP ---------------------------------------------------------------------------------

static void on_dial(void *arg, int fd_or_err) {
    struct upstream_dial *dial = arg;
    dial->dial = NULL;
    if (fd_or_err >= 0) {
        struct link_end *link = &dial->way->up.link;
        link_end_init(link, dial->worker->loop, fd_or_err);
        transport_open(dial, &link->duplex, fd_or_err);
        return;
    }
    struct upstream_failure failure = {
        .reason = FLOW_CONNECT_FAILED, .is_retryable = true, .text = strerror(-fd_or_err)};
    if (fd_or_err == -ETIMEDOUT) {
        failure.reason = FLOW_TIMEOUT;
        failure.is_timeout = true;
    } else if (fd_or_err == -EADDRNOTAVAIL) {
        failure.reason = FLOW_PORT_EXHAUSTED;
    } else if (fd_or_err == -EMFILE || fd_or_err == -ENFILE) {
        failure.reason = FLOW_OVERLOAD;
    }
    upstream_dial_failed(dial, &failure);
}

static void start_plain(struct upstream_dial *dial, uint64_t timeout_ns) {
    struct io_socket_params params;
    waypoint_socket_params(dial->worker->config, &dial->addr, false, &params);
    if (dial->has_keepalive) {
        params.keepalive_s = dial->keepalive_s;
        params.keepalive_interval_s = dial->keepalive_interval_s;
        params.keepalive_probes = dial->keepalive_probes;
    }
    dial->dial = dial_start(dial->worker->loop, &params, &dial->addr, timeout_ns, on_dial, dial);
}

// ---- tunnel ------------------------------------------------------------------------------------

static struct upstream_dial *of_request(struct hbone_request *request) {
    return CONTAINER_OF(request, struct upstream_way, up.request)->dial;
}

// The source of the inner connection is the waypoint (ambient-protocols §14).
static void build_head(struct hbone_request *request, struct hbone_head *ret_head) {
    struct upstream_dial *dial = of_request(request);
    struct wworker *worker = dial->worker;
    const struct workload *own = waypoint_workload(worker->config, snapshot_current());
    struct hbone_connect connect = {
        .target = {.addr = dial->addr},
        .source = {.ip = worker->own_ip},
        .host = slice_str(dial->service != NULL ? dial->service->hostname : ""),
        .has_trace = true,
    };
    if (own != NULL) {
        proc_labels_baggage(own, &connect.baggage);
        if (!ip_is_set(&connect.source.ip) && own->n_ips > 0) {
            connect.source.ip = own->ips[0];
        }
    }
    rand_bytes(&worker->rand, connect.trace_id, sizeof(connect.trace_id));
    rand_bytes(&worker->rand, connect.span_id, sizeof(connect.span_id));
    CHECK(hbone_connect_build(&connect, ret_head)); // the target is an address with a port
}

static void on_open(struct hbone_request *request, const struct h2_event *head) {
    (void)head; // response baggage: the destination is known from the snapshot
    struct upstream_dial *dial = of_request(request);
    dial->is_requesting = false;
    transport_open(dial, &request->stream.duplex, request->drv->tl.link.fd);
}

static void on_fail(struct hbone_request *request, enum flow_end reason, uint16_t status,
                    bool is_retryable) {
    struct upstream_dial *dial = of_request(request);
    dial->is_requesting = false;
    snprintf(dial->text, sizeof(dial->text), "%s",
             request->detail != NULL && request->detail[0] != '\0' ? request->detail
                                                                   : flow_end_text(reason));
    struct upstream_failure failure = {
        .reason = status == 401 ? FLOW_DENIED : (uint8_t)reason,
        .is_timeout = reason == FLOW_TIMEOUT || reason == FLOW_NETWORK_POLICY,
        .is_retryable = is_retryable,
        .is_unserved = request->is_unserved,
        .status = status,
        .text = dial->text,
    };
    if (dial->in_start) {
        dial->failure = failure;
        loop_flush_arm(dial->worker->loop, &dial->flush);
    } else {
        upstream_dial_failed(dial, &failure);
    }
}

static const struct hbone_request_ops request_ops = {
    .build = build_head, .on_open = on_open, .on_fail = on_fail};

// The endpoint must show its own identity, or one that the service names.
static size_t collect_sans(const struct upstream_dial *dial, struct slice sans[HBONE_SANS_MAX]) {
    size_t n = 0;
    if (dial->workload->common->identity[0] != '\0') {
        sans[n++] = slice_str(dial->workload->common->identity);
    }
    for (size_t i = 0; dial->service != NULL && i < dial->service->n_sans && n < HBONE_SANS_MAX;
         i++) {
        struct slice san = slice_str(dial->service->sans[i]);
        if (san.len > 0) {
            sans[n++] = san;
        }
    }
    return n;
}

static void start_hbone(struct upstream_dial *dial) {
    struct wworker *worker = dial->worker;
    struct tls_ctx *tls = waypoint_tls(worker->config, snapshot_current());
    struct slice sans[HBONE_SANS_MAX];
    size_t n_sans = collect_sans(dial, sans);
    if (tls == NULL) {
        fail_later(dial, FLOW_IDENTITY, "the waypoint has no valid certificate");
        return;
    }
    if (n_sans == 0) {
        // An empty list would let any identity of the trust domain answer.
        fail_later(dial, FLOW_NO_UPSTREAM, "the endpoint has no identity");
        return;
    }
    dial->hbone_addr = (struct addr){.ip = dial->addr.ip, .port = HBONE_PORT};
    struct hbone_route to = {
        .tls = tls,
        .destination = dial->hbone_addr,
        .sans = sans,
        .n_sans = n_sans,
    };
    waypoint_socket_params(worker->config, &dial->hbone_addr, true, &to.socket);
    dial->is_requesting = true;
    hbone_request_init(&dial->way->up.request, &request_ops);
    dial->in_start = true;
    hbone_client_connect(&worker->client, &dial->way->up.request, &to);
    dial->in_start = false;
}

// ---- interface ---------------------------------------------------------------------------------

static void *keep(const void *leaf) {
    void *own = (void *)(uintptr_t)leaf;
    if (own != NULL) {
        leaf_ref(own);
    }
    return own;
}

static void take_keepalive(struct upstream_dial *dial, const struct l7_pool_policy *pool) {
    dial->has_keepalive = pool != NULL && pool->has_keepalive;
    if (dial->has_keepalive) { // absent values are the system's
        dial->keepalive_s = pool->keepalive_time_ms != 0
                                ? (uint32_t)MAX(pool->keepalive_time_ms / 1000, UINT64_C(1))
                                : KEEPALIVE_S;
        dial->keepalive_interval_s =
            pool->keepalive_interval_ms != 0
                ? (uint32_t)MAX(pool->keepalive_interval_ms / 1000, UINT64_C(1))
                : KEEPALIVE_INTERVAL_S;
        dial->keepalive_probes =
            pool->keepalive_probes != 0 ? pool->keepalive_probes : KEEPALIVE_PROBES;
    }
}

void upstream_dial_start(struct upstream_dial *dial, struct wworker *worker,
                         const struct upstream_target *target,
                         const struct upstream_dial_ops *ops) {
    CHECK(!dial->is_active);
    dial->ops = ops;
    dial->worker = worker;
    dial->workload = keep(target->workload);
    dial->service = keep(target->service);
    dial->addr = target->addr;
    dial->hbone_addr = (struct addr){0};
    dial->is_active = true;
    dial->is_requesting = dial->in_start = false;
    dial->is_hbone = target->workload != NULL && target->workload->protocol == WORKLOAD_HBONE;
    dial->dial = NULL;
    dial->local = (struct addr){0};
    dial->layer = dial_layer_new(dial, target);
    dial->way = dial->layer != NULL ? dial_layer_way(dial->layer) : &dial->own;
    dial->way->dial = dial;
    take_keepalive(dial, target->pool);
    uint64_t timeout_ns =
        target->timeout_ns != 0 ? target->timeout_ns : UPSTREAM_DIAL_MS * NS_PER_MS;
    timer_init(&dial->timer, on_timer);
    loop_flush_init(&dial->flush, on_flush);
    timer_set(&worker->loop->timers, &dial->timer, worker->loop->now + timeout_ns);
    if (route_is_own_port(target->addr.port)) {
        fail_later(dial, FLOW_ILLEGAL_DESTINATION, "port is reserved for the mesh itself");
    } else if (dial->is_hbone) {
        start_hbone(dial);
    } else {
        start_plain(dial, timeout_ns);
    }
}

void upstream_dial_cancel(struct upstream_dial *dial) {
    if (!dial->is_active) {
        return;
    }
    if (dial->dial != NULL) {
        dial_cancel(dial->dial);
        dial->dial = NULL;
    }
    if (dial->is_requesting) {
        dial->is_requesting = false;
        hbone_request_cancel(&dial->way->up.request);
    }
    dial_layer_drop(dial->layer);
    dial->layer = NULL;
    let_go(dial);
}
