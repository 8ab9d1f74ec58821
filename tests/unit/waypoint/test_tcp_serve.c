// SPDX-License-Identifier: Apache-2.0
//
// A TCP connection through a waypoint whose endpoint, a pod of the mesh, has nobody at port 15008
// yet: it waits, as a connection of ztun does, and not for long.
#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/mesh/snapshot.h"
#include "common/obs/log.h"
#include "common/tls/tls_ca.h"
#include "tests/unit/base/unit.h"
#include "tests/unit/waypoint/waypoint_bed.h"

static const char db_key[] = "shop/db.shop.svc.cluster.local";
static const char own_id[] = "spiffe://cluster.local/ns/shop/sa/waypoint";
static const char mesh[] =
    "apiVersion: v1\nkind: Namespace\n"
    "metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n"
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
    "metadata: {name: waypoint, namespace: shop}\n"
    "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
    "HBONE}]}\n"
    "status: {addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]}\n"
    "---\napiVersion: v1\nkind: Service\n"
    "metadata: {name: db, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}\n"
    "spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{name: tcp, port: 80, targetPort: "
    "8080}]}\n"
    "---\napiVersion: v1\nkind: Pod\n"
    "metadata: {name: db, namespace: shop, labels: {app: db}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\n"
    "status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}\n";

static struct fixture {
    struct wbed bed;
    struct addr hbone;
    int client;
    char byte;
    ssize_t got; // of the client's last read
} f;

static struct tls_ctx *make_ctx(void) {
    char *cert, *key, *error = NULL;
    struct tls_svid svid;
    tls_ca_make_root(SLICE_LIT("test"), clock_wall_s(), &cert, &key);
    struct tls_ca_params ca_params = {
        .ca_cert_pem = slice_str(cert), .ca_key_pem = slice_str(key), .now_s = clock_wall_s()};
    struct tls_ca *ca = tls_ca_new(&ca_params, &error);
    assert_non_null(ca);
    assert_true(tls_ca_sign(ca, slice_str(own_id), clock_wall_s(), 3600, &svid, &error));
    struct tls_ctx_params params = {.cert_chain_pem = slice_str(svid.cert_chain_pem),
                                    .key_pem = slice_str(svid.key_pem),
                                    .roots_pem = slice_str(svid.roots_pem),
                                    .trust_domain = SLICE_LIT("cluster.local")};
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    assert_non_null(ctx);
    tls_svid_fini(&svid);
    tls_ca_free(ca);
    free(cert);
    free(key);
    return ctx;
}

static void set_identity(bool is_there) {
    struct snapshot *draft = snapshot_draft();
    if (is_there) {
        struct tls_ctx *ctx = make_ctx();
        struct identity spec = {.leaf.key = slice_str(own_id),
                                .state = IDENTITY_READY,
                                .error = "",
                                .chain_pem = "",
                                .roots_pem = "",
                                .tls = ctx};
        snapshot_set_identity(draft, identity_new(&spec));
        tls_ctx_unref(ctx);
    } else {
        snapshot_del_identity(draft, own_id);
    }
    snapshot_publish(draft);
}

static uint64_t now_ms(void) {
    return fake_now(f.bed.net) / NS_PER_MS;
}

static void step(void) {
    if (!wbed_turn(&f.bed)) {
        fake_skip(f.bed.net, NS_PER_MS);
    }
    ssize_t n = f.client >= 0 ? fake_read(f.bed.net, f.client, &f.byte, 1) : -EAGAIN;
    if (n != -EAGAIN) {
        f.got = n;
        fake_close(f.bed.net, f.client, false);
        f.client = -1;
    }
}

static int setup(void **state) {
    struct fake_options options = {.seed = 3, .delay = 1000};
    struct buf error;
    f = (struct fixture){.client = -1};
    buf_init(&error, 1000);
    assert_true(log_filter_set(SLICE_LIT("off"), &error));
    buf_fini(&error);
    assert_true(addr_parse(SLICE_LIT("10.1.0.1:15008"), &f.hbone));
    wbed_init(&f.bed, &options, 1);
    wbed_open(&f.bed, 3);
    fake_set_quiet(f.bed.net, true);
    wbed_apply(&f.bed, mesh);
    set_identity(true);
    step();
    return 0;
}

static int teardown(void **state) {
    set_identity(false);
    uint64_t end = now_ms() + 60000;
    while ((wbed_n_conns(&f.bed) > 0 || !wbed_stop(&f.bed)) && now_ms() < end) {
        step();
    }
    wbed_fini(&f.bed);
    return 0;
}

// It is refused for as long as that lasts, and for a second at most.
static void test_nobody_comes(void **state) {
    uint64_t since = now_ms();
    f.client = wbed_connect_tcp(&f.bed, 0, db_key, 80, 4000);
    while (f.client >= 0 && now_ms() < since + 5000) {
        step();
    }
    assert_int_equal(f.client, -1);
    assert_int_equal(f.got, -ECONNRESET);
    uint64_t waited = now_ms() - since;
    assert_true(waited >= 1000 && waited < 1300);
}

// Somebody listens while it waits: the next attempt reaches it.
static void test_pod_joins(void **state) {
    uint64_t since = now_ms();
    f.client = wbed_connect_tcp(&f.bed, 0, db_key, 80, 4000);
    while (now_ms() < since + 400) {
        step();
    }
    assert_true(f.client >= 0);
    int listener = fake_listen(f.bed.net, -1, &f.hbone);
    struct io *io = f.bed.workers[0]->thread.io;
    int peer = -1;
    while (peer < 0 && now_ms() < since + 1000) {
        step();
        peer = io->ops->accept_now(io, listener);
    }
    assert_true(peer >= 0 && f.client >= 0);
    uint8_t hello[5];
    while (fake_read(f.bed.net, peer, hello, sizeof(hello)) != sizeof(hello) &&
           now_ms() < since + 2000) {
        step();
    }
    assert_int_equal(hello[0], 22); // a TLS handshake
    fake_close(f.bed.net, peer, false);
    fake_close(f.bed.net, listener, false);
    while (f.client >= 0 && now_ms() < since + 20000) {
        step();
    }
    assert_int_equal(f.got, -ECONNRESET);
}

// The client leaves while it waits.
static void test_client_leaves(void **state) {
    f.client = wbed_connect_tcp(&f.bed, 0, db_key, 80, 4000);
    uint64_t since = now_ms();
    while (now_ms() < since + 100) {
        step();
    }
    fake_close(f.bed.net, f.client, true);
    f.client = -1;
    while (wbed_n_conns(&f.bed) > 0 && now_ms() < since + 5000) {
        step();
    }
    assert_int_equal(wbed_n_conns(&f.bed), 0);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_nobody_comes),
        TEST(test_pod_joins),
        TEST(test_client_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
