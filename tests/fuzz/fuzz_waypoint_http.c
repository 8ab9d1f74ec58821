// SPDX-License-Identifier: Apache-2.0
//
// A whole waypoint between a client and servers that say anything. Each piece of the input: a byte
// (its lowest two bits: 0 and 1 = the client's, 2 = a server's, 3 = another connection of a client;
// the others: how many turns follow), a byte with the length, and that many bytes. When all have
// gone, nothing is left of it: no exchange, no copy, no place taken among the limits.
#include <fcntl.h>

#include "common/obs/log.h"
#include "tests/unit/waypoint/waypoint_bed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { N_CONNS = 32, RUN_MAX_S = 120, STEP_NS = 200000 };

static const char mesh[] =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: "
    "8080}, {name: http2, port: 81, targetPort: 8080}]}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\nstatus: {phase: Running, podIP: 10.1.0.1, "
    "conditions: [{type: Ready, status: 'True'}]}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
    "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n"
    "    connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 3, "
    "http2MaxRequests: 4, maxRetries: 1, idleTimeout: 1s}}\n"
    "    outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 1s, maxEjectionPercent: "
    "100}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
    "  - match: [{uri: {prefix: /r}}]\n    retries: {attempts: 2, retryOn: '5xx,reset', "
    "perTryTimeout: 300ms}\n    timeout: 1s\n    route: [{destination: {host: web}}]\n"
    "  - match: [{uri: {prefix: /m}}]\n    mirror: {host: web}\n    rewrite: {uri: /x/}\n"
    "    route: [{destination: {host: web}, headers: {request: {set: {x-p: '%REQ(:path)%'}}, "
    "response: {add: {x-f: '%RESPONSE_FLAGS%'}}}}]\n"
    "  - match: [{uri: {prefix: /d}}]\n    directResponse: {status: 200, body: {string: hello}}\n"
    "  - match: [{uri: {regex: '/g[0-9]+'}}]\n    redirect: {uri: /new, authority: other}\n"
    "  - match: [{uri: {prefix: /f}}]\n    fault: {delay: {percentage: {value: 100}, fixedDelay: "
    "20ms}}\n    route: [{destination: {host: web}}]\n"
    "  - match: [{uri: {prefix: /c}}]\n    corsPolicy: {allowOrigins: [{exact: 'http://a'}], "
    "allowMethods: [GET]}\n    route: [{destination: {host: web}}]\n"
    "  - route: [{destination: {host: web}}]\n";

static struct {
    struct wbed bed;
    int listener;
    int servers[N_CONNS], clients[N_CONNS];
    int n_servers, n_clients;
} run;

// The mesh is made once.
static void open_run(void) {
    struct fake_options options = {.seed = 1, .short_io = 200, .recv_buffer_min = 64};
    struct addr addr;
    bool is_first = run.bed.builder == NULL;
    if (is_first) {
        struct log_config log = {.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .filter = "off"};
        struct buf error;
        buf_init(&error, SIZE_MAX);
        CHECK(log.fd >= 0 && log_init(&log, &error));
        buf_fini(&error);
        wbed_init(&run.bed, &options, 1);
        run.bed.waypoint.config.access_log = 1; // formats its lines, which go nowhere
    }
    wbed_open(&run.bed, 1);
    if (is_first) {
        wbed_apply(&run.bed, mesh);
    }
    CHECK(addr_parse(SLICE_LIT("10.1.0.1:8080"), &addr));
    run.listener = fake_listen(run.bed.net, -1, &addr);
}

static void drain_fd(int fd) {
    uint8_t sink[8192];
    while (fake_read(run.bed.net, fd, sink, sizeof(sink)) > 0) {
    }
}

static void turn_workers(void) {
    (void)wbed_turn(&run.bed);
    fake_skip(run.bed.net, NS_PER_MS);
}

static void turn(uint64_t skip_ns) {
    struct io *io = run.bed.workers[0]->loop->io;
    int fd;
    (void)wbed_turn(&run.bed);
    while (run.n_servers < N_CONNS && (fd = io->ops->accept_now(io, run.listener)) >= 0) {
        run.servers[run.n_servers++] = fd;
    }
    for (int i = 0; i < run.n_servers; i++) {
        drain_fd(run.servers[i]);
    }
    for (int i = 0; i < run.n_clients; i++) {
        drain_fd(run.clients[i]);
    }
    fake_skip(run.bed.net, skip_ns);
}

// What a server says waits for the waypoint to connect, for a while.
static bool has_server(void) {
    for (int i = 0; i < 10 && run.n_servers == 0; i++) {
        turn(STEP_NS);
    }
    return run.n_servers > 0;
}

static void close_all(int *fds, int *n) {
    while (*n > 0) {
        fake_close(run.bed.net, fds[--*n], false);
    }
}

static void connect_client(uint8_t kind) {
    if (run.n_clients < N_CONNS) {
        run.clients[run.n_clients++] =
            wbed_connect(&run.bed, 0, "shop/web.shop.svc.cluster.local", kind % 8 < 4 ? 80 : 81);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    open_run();
    connect_client(len > 0 ? data[0] : 0);
    while (len >= 2) {
        uint8_t kind = data[0];
        size_t n = MIN((size_t)data[1], len - 2);
        if (kind % 4 == 3) {
            connect_client(kind / 4);
        } else if (kind % 4 < 2) {
            (void)fake_write(run.bed.net, run.clients[run.n_clients - 1], data + 2, n);
        } else if (has_server()) {
            (void)fake_write(run.bed.net, run.servers[run.n_servers - 1], data + 2, n);
        }
        data += n + 2;
        len -= n + 2;
        for (int i = 0; i < kind / 32 + 1; i++) {
            turn((uint64_t)(kind / 4 % 8) * NS_PER_MS + STEP_NS);
        }
    }
    close_all(run.clients, &run.n_clients);
    uint64_t end = fake_now(run.bed.net) + RUN_MAX_S * NS_PER_SEC;
    while (wbed_n_conns(&run.bed) > 0 || wbed_n_mirrors(&run.bed) > 0 || !wbed_stop(&run.bed)) {
        turn(20 * NS_PER_MS);
        close_all(run.servers, &run.n_servers);
        CHECK(fake_now(run.bed.net) < end);
    }
    fake_close(run.bed.net, run.listener, false);
    for (int i = 0; i < 20; i++) { // completions of what is closed
        turn_workers();
    }
    wbed_close(&run.bed);
    return 0;
}
