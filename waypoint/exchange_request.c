// SPDX-License-Identifier: Apache-2.0
//
// What is done with a request, in Envoy's order: is it one that we take, which rule applies, fault,
// CORS, then the rule's action. What goes to the upstream is made here; who gets it is
// exchange_try.c's.
#include "common/l7/l7_cors.h"
#include "common/l7/l7_timeout.h"
#include "common/proto/http_path.h"
#include "common/proto/http_rules.h"
#include "waypoint/direct.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"

static struct rand *rand_of(struct exchange *ex) {
    return &ex->http->worker->rand;
}

// ---- fields of ours ----------------------------------------------------------------------------

// RFC 9562 version 4. Envoy marks in the third group why a trace is sampled: 4 = it is not.
static struct slice new_request_id(struct exchange *ex) {
    uint8_t id[16];
    rand_bytes(rand_of(ex), id, sizeof(id));
    id[6] = (uint8_t)(0x40 | (id[6] & 0x0f));
    id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
    char text[36], *at = text;
    for (size_t i = 0; i < sizeof(id); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = "0123456789abcdef"[id[i] >> 4];
        *at++ = "0123456789abcdef"[id[i] & 0xf];
    }
    struct slice copy = {0};
    if (!arena_copy(&ex->arena, slice_make(text, sizeof(text)), &copy)) {
        ex->fields.is_overflowed = true;
    }
    return copy;
}

static bool has_field(const struct exchange *ex, struct slice name) {
    return l7_fields_find(ex->fields.items, ex->fields.n, name) != NULL;
}

// What only a proxy may say is not the client's to say.
static void remove_proxys_own(struct l7_fields *fields) {
    static const struct slice names[] = {
        SLICE_LIT("x-envoy-expected-rq-timeout-ms"), SLICE_LIT("x-envoy-original-path"),
        SLICE_LIT("x-envoy-attempt-count"),          SLICE_LIT("x-envoy-is-timeout-retry"),
        SLICE_LIT("x-envoy-decorator-operation"),
    };
    if (l7_fields_has_envoys(fields->items, fields->n)) {
        l7_fields_remove_all(fields, names, ARRAY_LEN(names));
    }
    l7_fields_remove(fields, SLICE_LIT("x-forwarded-client-cert"));
}

static void set_own_fields(struct exchange *ex) {
    remove_proxys_own(&ex->fields);
    http_worker_catch_up(ex->http);
    if (ex->http->client_cert != NULL) {
        struct slice id = exchange_wconn(ex)->client_id;
        l7_fields_add(&ex->fields, SLICE_LIT("x-forwarded-client-cert"),
                      l7_fields_printf(&ex->fields, "%s%.*s", ex->http->client_cert,
                                       SLICE_ARG(id)));
    }
    if (!has_field(ex, SLICE_LIT("x-forwarded-proto"))) {
        l7_fields_add(&ex->fields, SLICE_LIT("x-forwarded-proto"), SLICE_LIT("http"));
    }
    if (!has_field(ex, SLICE_LIT("x-request-id"))) {
        l7_fields_add(&ex->fields, SLICE_LIT("x-request-id"), new_request_id(ex));
    }
}

static void take_fields(struct exchange *ex) {
    ex->request.fields = ex->fields.items;
    ex->request.n_fields = ex->fields.n;
}

void exchange_set_attempt(struct exchange *ex) {
    l7_fields_set_u64(&ex->fields, SLICE_LIT("x-envoy-attempt-count"), ex->n_tries);
    take_fields(ex);
}

// ---- destinations ------------------------------------------------------------------------------

static struct service *called_service(const struct exchange *ex, const struct snapshot *snap) {
    const struct wconn *wconn = exchange_wconn(ex);
    struct http_down *conn = ex->conn;
    struct service *service = wconn->service;
    if (service == NULL) {
        return direct_now(ex->http, snap, wconn->direct);
    }
    if (conn->called == NULL || conn->generation != snap->generation) {
        // The connection may be older than the service's last change.
        struct service *now = snapshot_service(snap, (const char *)service->leaf.key.ptr);
        conn->called = now != NULL ? now : service;
        conn->routes = snapshot_l7_routes(snap, conn->called->leaf.key);
        conn->generation = snap->generation;
    }
    return conn->called;
}

static struct leaf *routes_of(const struct exchange *ex, const struct snapshot *snap,
                              const struct service *called) {
    return called == ex->conn->called ? ex->conn->routes
                                      : snapshot_l7_routes(snap, called->leaf.key);
}

static bool find_port(const struct service *service, uint16_t number, size_t *ret_index) {
    for (size_t i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == number) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

struct upstream_view *exchange_view(const struct exchange *ex, const struct l7_cluster *cluster) {
    const struct snapshot *snap = snapshot_current();
    struct service *called = called_service(ex, snap), *service = called;
    size_t port = 0;
    if (cluster->is_invalid) {
        return NULL;
    }
    if (cluster->host[0] != '\0') {
        service = snapshot_service_by_host(snap, slice_str(cluster->host), called->ns);
    }
    uint16_t called_port = wconn_service_port(exchange_wconn(ex))->port;
    if (service == NULL ||
        !find_port(service, l7_cluster_port(cluster, service, called_port), &port)) {
        return NULL;
    }
    return upstream_view_get(&ex->http->upstreams, snap, service, port, cluster->subset);
}

// ---- forwarding --------------------------------------------------------------------------------

// The head for the upstream, but for the number of the try.
static bool build_request(struct exchange *ex, const struct l7_timeouts *timeouts) {
    struct exchange_vars storage;
    struct l7_vars vars = exchange_vars(ex, NULL, &storage);
    struct l7_rewritten rewritten;
    l7_timeout_consume(&ex->fields);
    l7_timeout_announce(timeouts, ex->is_grpc, &ex->fields);
    l7_rewrite_request(&ex->match, ex->cluster, &ex->matched, &vars, &ex->fields, &rewritten);
    ex->request.path = rewritten.path;
    ex->request.authority = rewritten.authority;
    take_fields(ex);
    return l7_fields_ok(&ex->fields);
}

static void forward(struct exchange *ex) {
    ex->cluster = l7_route_cluster(ex->route, rand_of(ex));
    ex->view = exchange_view(ex, ex->cluster);
    if (ex->view == NULL) {
        exchange_reply_kind(ex, ex->cluster->no_cluster_status == 500 ? L7_REPLY_NO_CLUSTER_500
                                                                      : L7_REPLY_NO_CLUSTER);
        return;
    }
    struct l7_timeouts timeouts = l7_timeout_of(ex->route, &ex->received, ex->is_grpc);
    ex->timeout_ms = timeouts.total_ms;
    ex->try_timeout_ms = timeouts.per_try_ms;
    ex->answers_204 = timeouts.answers_204;
    l7_retry_init(&ex->retry, &ex->route->retry, &ex->received);
    ex->keeps = ex->retry.n_left > 0 && !ex->is_upgrade;
    if (ex->keeps) { // what came while a fault delayed it
        chain_copy_all(&ex->kept, &ex->waiting);
    }
    if (!build_request(ex, &timeouts)) {
        exchange_reply_kind(ex, L7_REPLY_HEADERS_TOO_LARGE);
        return;
    }
    if (ex->request_ended) {
        exchange_arm_deadline(ex);
    }
    mirrors_start(ex);
    exchange_start_try(ex);
}

static void reply_direct(struct exchange *ex) {
    struct l7_reply_spec spec = {.kind = L7_REPLY_DIRECT,
                                 .status = ex->route->direct->status,
                                 .body = ex->route->direct->body};
    exchange_reply(ex, &spec);
}

static void reply_redirect(struct exchange *ex) {
    struct l7_reply_spec spec = {.kind = L7_REPLY_REDIRECT, .status = ex->route->redirect->status};
    spec.location = l7_rewrite_location(&ex->match, &ex->matched, &ex->arena);
    exchange_reply(ex, &spec);
}

static void act(struct exchange *ex) {
    if (ex->route == NULL) {
        exchange_reply_kind(ex, L7_REPLY_NO_ROUTE);
        return;
    }
    enum l7_cors_verdict cors = l7_cors_check(ex->route->cors, &ex->request);
    if (cors == L7_CORS_PREFLIGHT || cors == L7_CORS_REFUSED) {
        exchange_reply_preflight(ex, cors == L7_CORS_PREFLIGHT);
        return;
    }
    ex->is_cors = cors == L7_CORS_ACTUAL;
    switch ((enum l7_action)ex->route->action) {
    case L7_REDIRECT:
        reply_redirect(ex);
        break;
    case L7_DIRECT:
        reply_direct(ex);
        break;
    case L7_FORWARD:
        forward(ex);
        break;
    }
}

static void abort_or_act(struct exchange *ex) {
    if (!ex->fault.is_aborted) {
        act(ex);
        return;
    }
    struct l7_reply_spec spec = {.kind = L7_REPLY_FAULT_ABORT,
                                 .status = ex->fault.status,
                                 .grpc_status = ex->fault.grpc_status};
    exchange_reply(ex, &spec);
}

void exchange_after_delay(struct exchange *ex) {
    ex->state = EXCHANGE_HEAD;
    abort_or_act(ex);
}

// ---- the start ---------------------------------------------------------------------------------

static void find_route(struct exchange *ex) {
    const struct wconn *wconn = exchange_wconn(ex);
    const struct snapshot *snap = snapshot_current();
    struct service *service = called_service(ex, snap);
    ex->routes = routes_of(ex, snap, service);
    if (ex->routes != NULL) {
        leaf_ref(ex->routes);
    }
    l7_request_init(&ex->matched, &ex->request, wconn_service_port(wconn)->port, wconn->source);
    l7_routes_match(ex->routes != NULL ? l7_routes_of_leaf(ex->routes) : NULL, &ex->matched, NULL,
                    &ex->match);
    ex->route = ex->match.route;
    char name[L7_NAME_MAX];
    if (service->is_dynamic && !l7_name_under(service->hostname, ex->received.authority, name)) {
        ex->route = NULL; // the one kind of service where it is Host that decides
    }
}

void exchange_begin(struct exchange *ex, const struct http_head *head, bool end) {
    (void)end;
    if (!http_rules_copy(head, &ex->arena, &ex->received)) {
        exchange_reply_kind(ex, L7_REPLY_HEADERS_TOO_LARGE);
        return;
    }
    ex->request = ex->received;
    ex->is_grpc = l7_fields_is_grpc(&ex->received);
    exchange_report_begin(ex);
    ex->is_upgrade = ex->received.protocol.len > 0;
    l7_fields_init(&ex->fields, &ex->arena, ex->received.fields, ex->received.n_fields);
    if (ex->received.version == HTTP_10) {
        exchange_reply_kind(ex, L7_REPLY_LOW_VERSION);
        return;
    }
    bool is_connect = slice_eq(ex->received.method, SLICE_LIT("CONNECT"));
    if (is_connect ||
        (ex->is_upgrade && !slice_eq(ex->received.protocol, SLICE_LIT("websocket")))) {
        exchange_reply_kind(ex, L7_REPLY_UPGRADE_FAILED);
        return;
    }
    enum http_err err =
        http_path_normalize(HTTP_PATH_BASE, ex->received.path, &ex->arena, &ex->request.path);
    if (err != HTTP_ERR_OK) {
        exchange_reply_kind(ex, L7_REPLY_BAD_PATH);
        return;
    }
    set_own_fields(ex);
    take_fields(ex);
    find_route(ex);
    l7_fault_draw(ex->route != NULL ? ex->route->fault : NULL, rand_of(ex), &ex->fault);
    if (ex->fault.is_delayed) {
        ex->flags |= L7_FLAG_DI;
        ex->state = EXCHANGE_DELAY;
        timer_set(&ex->http->loop->timers, &ex->timer,
                  ex->http->loop->now + ex->fault.delay_ms * NS_PER_MS);
        return;
    }
    abort_or_act(ex);
}
