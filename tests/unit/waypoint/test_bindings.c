// SPDX-License-Identifier: Apache-2.0
//
// What a worker does when services are bound elsewhere: how long clients that have not heard are
// served, and how open connections are made to follow.
#include "waypoint/bindings.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/snapshot.h"
#include "common/obs/log.h"
#include "tests/unit/base/unit.h"
#include "tests/unit/waypoint/waypoint_bed.h"
#include "waypoint/conn.h"

static const char web_key[] = "shop/web.shop.svc.cluster.local";
static const char mesh[] =
    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
    "metadata: {name: waypoint, namespace: shop}\n"
    "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
    "HBONE}]}\n"
    "status: {addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
    "metadata: {name: other, namespace: shop}\n"
    "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
    "HBONE}]}\n"
    "status: {addresses: [{type: Hostname, value: other.shop.svc.cluster.local}]}\n";

enum { REBIND_MS = 5000 };

static struct fixture {
    struct wbed bed;
    struct wworker *worker;
    struct wconn conn; // one that is open
    uint32_t n_drained, n_ended, n_cut;
    bool can_end;
} f;

static void on_drain(struct wconn *conn) {
    f.n_drained++;
}

static bool on_end(struct wconn *conn) {
    f.n_ended += f.can_end;
    return f.can_end;
}

static void on_cut(struct wconn *conn, enum flow_end reason) {
    assert_int_equal(reason, FLOW_REBIND);
    f.n_cut++;
    list_del(&conn->node); // as wconn_done
}

static const struct wconn_ops http_ops = {
    .protocol = "http", .cut = on_cut, .drain = on_drain, .end = on_end};
static const struct wconn_ops tcp_ops = {.protocol = "tcp", .cut = on_cut};

static void run(uint64_t ms) {
    uint64_t end = fake_now(f.bed.net) + ms * NS_PER_MS;
    while (fake_now(f.bed.net) < end) {
        while (wbed_turn(&f.bed)) {
        }
        fake_skip(f.bed.net, NS_PER_MS);
    }
    (void)wbed_turn(&f.bed);
}

// "" = to none.
static const struct service *bind_to(const char *waypoint) {
    char text[400];
    snprintf(text, sizeof(text),
             "apiVersion: v1\nkind: Service\n"
             "metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: '%s'}}\n"
             "spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}\n",
             waypoint);
    wbed_apply(&f.bed, text);
    run(2);
    return snapshot_service(snapshot_current(), web_key);
}

static int setup_with(uint32_t rebind_ms) {
    struct fake_options options = {.seed = 3, .delay = 1000};
    struct buf error;
    f = (struct fixture){0};
    list_init(&f.conn.node);
    buf_init(&error, 1000);
    assert_true(log_filter_set(SLICE_LIT("off"), &error));
    buf_fini(&error);
    wbed_init(&f.bed, &options, 1);
    f.bed.waypoint.config.proc.rebind_ms = rebind_ms;
    wbed_open(&f.bed, 3);
    fake_set_quiet(f.bed.net, true);
    f.worker = f.bed.workers[0];
    wbed_apply(&f.bed, mesh);
    return 0;
}

static int setup(void **state) {
    return setup_with(REBIND_MS);
}

static int setup_never(void **state) {
    return setup_with(0);
}

static int teardown(void **state) {
    list_del(&f.conn.node);
    leaf_unref(f.conn.service);
    free(f.conn.detail);
    f.conn.service = NULL;
    run(2); // its last mails
    wbed_fini(&f.bed);
    return 0;
}

static void open_conn(const struct wconn_ops *ops) {
    struct service *service = snapshot_service(snapshot_current(), web_key);
    leaf_ref(service);
    f.conn = (struct wconn){.worker = f.worker, .ops = ops, .service = service};
    list_init(&f.conn.waiting);
    list_push_back(&f.worker->conns, &f.conn.node);
}

// A service that was served, and is bound to nothing now, is served for a while.
static void test_linger(void **state) {
    const struct service *service = bind_to("");
    assert_false(bindings_linger(f.worker, NULL));
    bindings_served(f.worker, NULL);
    bindings_served(f.worker, service); // was bound to nothing: that counts for nothing
    assert_false(bindings_linger(f.worker, service));
    service = bind_to("waypoint");
    bindings_served(f.worker, service);
    assert_false(bindings_linger(f.worker, service)); // it is bound
    service = bind_to("");
    assert_true(bindings_linger(f.worker, service));
    run(BINDINGS_LINGER_MS - 100);
    assert_true(bindings_linger(f.worker, service));
    run(200);
    assert_false(bindings_linger(f.worker, service));
    // Bound again, and elsewhere: that one's policies count, at once.
    bind_to("waypoint");
    bindings_served(f.worker, snapshot_service(snapshot_current(), web_key));
    assert_false(bindings_linger(f.worker, bind_to("other")));
    bind_to("waypoint");
    assert_true(bindings_linger(f.worker, bind_to("")));
}

// Told at once, ended when it is quiet a second later, and never twice.
static void test_http_follows(void **state) {
    bind_to("waypoint");
    open_conn(&http_ops);
    bind_to("other");
    run(BINDINGS_SWEEP_MS);
    assert_int_equal(f.n_drained, 1);
    assert_string_equal(f.conn.detail, "now through waypoint shop/other.shop.svc.cluster.local");
    run(BINDINGS_TOLD_MS - 200);
    f.can_end = true;
    assert_int_equal(f.n_ended, 0);
    run(400);
    assert_true(f.n_ended > 0);
    assert_int_equal(f.n_drained, 1);
    assert_int_equal(f.n_cut, 0);
}

// Busy until the deadline.
static void test_http_is_cut(void **state) {
    bind_to("waypoint");
    open_conn(&http_ops);
    bind_to("");
    run(REBIND_MS - 300);
    assert_int_equal(f.n_drained, 1);
    assert_int_equal(f.n_cut, 0);
    run(600);
    assert_int_equal(f.n_cut, 1);
}

// Nobody can be told of bytes: its client's proxy ends it at the deadline, else it is cut.
static void test_tcp_is_cut(void **state) {
    bind_to("waypoint");
    open_conn(&tcp_ops);
    bind_to("other");
    run(REBIND_MS + BINDINGS_TCP_GRACE_MS - 300);
    assert_int_equal(f.n_cut, 0);
    run(600);
    assert_int_equal(f.n_cut, 1);
}

static void test_bound_back(void **state) {
    bind_to("waypoint");
    open_conn(&http_ops);
    bind_to("other");
    run(200);
    assert_true(f.conn.rebound_at != 0);
    bind_to("waypoint");
    assert_int_equal(f.conn.rebound_at, 0);
    assert_null(f.conn.detail);
    f.can_end = true;
    run(2 * REBIND_MS);
    assert_int_equal(f.n_ended + f.n_cut, 0);
}

// One that came while the binding lingered has a second more.
static void test_late_client(void **state) {
    bind_to("waypoint");
    bind_to("");
    open_conn(&http_ops);
    f.can_end = true;
    bindings_lingers(&f.conn);
    run(BINDINGS_LATE_MS - 200);
    assert_int_equal(f.n_drained, 0);
    run(400);
    assert_int_equal(f.n_drained, 1);
}

static void test_never(void **state) {
    bind_to("waypoint");
    open_conn(&http_ops);
    f.can_end = true;
    bind_to("other");
    run(2 * REBIND_MS);
    assert_int_equal(f.n_drained + f.n_ended + f.n_cut, 0);
}

// A drained process lets nobody wait, nor do more than the cap.
static void test_may_wait(void **state) {
    static struct wconn conns[BINDINGS_WAITING_MAX];
    assert_true(bindings_may_wait(f.worker));
    for (int i = 0; i < BINDINGS_WAITING_MAX; i++) {
        assert_true(bindings_may_wait(f.worker));
        list_init(&conns[i].waiting);
        list_push_back(&f.worker->waiting, &conns[i].waiting);
    }
    assert_false(bindings_may_wait(f.worker));
    for (int i = 0; i < BINDINGS_WAITING_MAX; i++) {
        list_del(&conns[i].waiting);
    }
    assert_true(bindings_may_wait(f.worker));
    f.worker->is_draining = true;
    assert_false(bindings_may_wait(f.worker));
    f.worker->is_draining = false;
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_linger),
        TEST(test_http_follows),
        TEST(test_http_is_cut),
        TEST(test_tcp_is_cut),
        TEST(test_bound_back),
        TEST(test_late_client),
        cmocka_unit_test_setup_teardown(test_never, setup_never, teardown),
        TEST(test_may_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
