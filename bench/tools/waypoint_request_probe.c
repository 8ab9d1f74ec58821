// SPDX-License-Identifier: Apache-2.0
//
// waypoint_request_probe [--requests=1000]: requests through the waypoint's HTTP side on the
// simulated network: parse, route, rewrite, pick a host, write, access log, metrics. One client,
// one endpoint, kept connections of HTTP/1.1, the messages of the plain series of the bench.
//
// No kernel and no clock have a part in it: the same binary executes the same instructions each
// time. bench/instructions.py counts those of the product under callgrind, and leaves out the
// simulated network's.
#include <errno.h>
#include <fcntl.h>

#include "bench/tools/load.h"
#include "common/obs/log.h"
#include "tests/unit/waypoint/waypoint_bed.h"

enum { N_WARM = 200, TURNS_MAX = 100, TIME_STEP_NS = 100000 };

static const char mesh[] =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: "
    "8080}]}\n"
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop, labels: {app: web}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\n"
    "status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec:\n  hosts: [web]\n  http:\n"
    "  - match: [{uri: {prefix: /admin/}}]\n    directResponse: {status: 403}\n"
    "  - route: [{destination: {host: web}}]\n    timeout: 10s\n";

static const char request[] =
    "GET /1k HTTP/1.1\r\nHost: web\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
static const char answer_head[] =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 06:14:20 GMT\r\n"
    "Content-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n";

static struct {
    struct wbed bed;
    int listener, client, server; // server: -1 until the waypoint has connected
    char answer[sizeof(answer_head) - 1 + 1024];
} probe = {.server = -1};

// What has come on a descriptor of the outside world.
static size_t take(int fd, char *buf, size_t size) {
    size_t len = 0;
    ssize_t n;
    while (len < size && (n = fake_read(probe.bed.net, fd, buf + len, size - len)) > 0) {
        len += (size_t)n;
    }
    return len;
}

static void say(int fd, const char *text, size_t len) {
    if (fake_write(probe.bed.net, fd, text, len) != (ssize_t)len) {
        die("the simulated socket is full");
    }
}

static bool ends_with(const char *buf, size_t len, const char *end, size_t end_len) {
    return len >= end_len && memcmp(buf + len - end_len, end, end_len) == 0;
}

static void turn(void) {
    (void)wbed_turn(&probe.bed);
    fake_skip(probe.bed.net, TIME_STEP_NS);
}

// One request and its answer.
static void exchange(void) {
    char seen[4096], buf[4096];
    size_t n_seen = 0, n_back = 0;
    bool is_answered = false;
    say(probe.client, request, sizeof(request) - 1);
    for (int i = 0; i < TURNS_MAX; i++) {
        turn();
        if (probe.server < 0) {
            struct io *io = probe.bed.workers[0]->loop->io;
            probe.server = io->ops->accept_now(io, probe.listener);
        }
        if (probe.server >= 0 && !is_answered) {
            n_seen += take(probe.server, seen + n_seen, sizeof(seen) - n_seen);
            is_answered = ends_with(seen, n_seen, "\r\n\r\n", 4);
            if (is_answered) {
                say(probe.server, probe.answer, sizeof(probe.answer));
            }
        }
        n_back += take(probe.client, buf + n_back, sizeof(buf) - n_back);
        if (ends_with(buf, n_back, probe.answer + sizeof(answer_head) - 1, 1024)) {
            return;
        }
    }
    die("no answer after %d turns", TURNS_MAX);
}

static void open_bed(void) {
    struct fake_options net = {.seed = 1, .latency_min_ns = 1000, .latency_max_ns = 2000};
    struct addr addr;
    wbed_init(&probe.bed, &net, 1);
    probe.bed.waypoint.config.access_log = 1;
    wbed_open(&probe.bed, 1);
    wbed_apply(&probe.bed, mesh);
    if (!addr_parse(SLICE_LIT("10.1.0.1:8080"), &addr)) {
        die("no address");
    }
    probe.listener = fake_listen(probe.bed.net, -1, &addr);
    turn(); // the news
    probe.client = wbed_connect(&probe.bed, 0, "shop/web.shop.svc.cluster.local", 80);
    memcpy(probe.answer, answer_head, sizeof(answer_head) - 1);
    for (size_t i = 0; i < 1024; i++) {
        probe.answer[sizeof(answer_head) - 1 + i] = "0123456789abcdef"[i % 16];
    }
}

static void close_bed(void) {
    fake_close(probe.bed.net, probe.client, false);
    while (!wbed_stop(&probe.bed)) {
        turn();
    }
    fake_close(probe.bed.net, probe.server, false);
    fake_close(probe.bed.net, probe.listener, false);
    wbed_fini(&probe.bed);
}

int main(int argc, char **argv) {
    uint64_t n_requests = 1000;
    const struct load_option options[] = {{"requests", &n_requests, 100000000}, {NULL, NULL, 0}};
    if (load_options(argc, argv, options, "waypoint_request_probe [--requests=1000]") != 0) {
        die("usage: waypoint_request_probe [--requests=1000]");
    }
    struct log_config log = {.fd = open("/dev/null", O_WRONLY | O_CLOEXEC), .filter = "info"};
    if (log.fd < 0 || !log_init(&log, NULL)) {
        die("no log");
    }
    log_start_async();
    open_bed();
    for (uint64_t i = 0; i < N_WARM + n_requests; i++) {
        exchange();
        (void)log_drain();
    }
    close_bed();
    printf("{\"requests\": %lu}\n", N_WARM + n_requests);
    return 0;
}
