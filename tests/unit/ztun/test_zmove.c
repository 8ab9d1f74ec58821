// SPDX-License-Identifier: Apache-2.0
// Connections that move between workers while pods come and go and the process stops: each ends on
// some worker, and no descriptor and no reference stays behind. The loads are forged, so that all
// of them move. There is no workload: what is taken over is refused, with a reset.
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/rt/netns.h"
#include "common/rt/sock.h"
#include "tests/unit/base/unit.h"
#include "ztun/control.h"
#include "ztun/zmove.h"

enum { WORKERS = 3, KINDS = 3, WAIT_S = 10 };

struct fix {
    struct ztun ztun;
    struct control control; // takes the mails of drained pods
    struct blk_pool pool;
    struct pod *pod;
    struct sockaddr_in addrs[KINDS];
    uint32_t n_fds;
};

static uint32_t count_fds(void) {
    uint32_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static void control_up(struct fix *fix) {
    char error[URING_ERROR_MAX];
    struct uring_options options = {.entries = 64, .n_buffers = 16};
    blk_pool_init(&fix->pool, 1);
    assert_int_equal(uring_new(&options, &fix->pool, error, &fix->control.io), 0);
    loop_init(&fix->control.loop, fix->control.io, &fix->pool, &fix->control);
    list_init(&fix->control.draining);
    fix->ztun.control_loop = &fix->control.loop;
}

static struct fix *fix_up(void) {
    struct fix *fix = xcalloc(1, sizeof(*fix));
    fix->n_fds = count_fds();
    control_up(fix);
    fix->ztun.config.proc.n_workers = WORKERS;
    fix->ztun.config.proc.max_streams = 100;
    fix->ztun.config.proc.stream_window = fix->ztun.config.proc.stream_window_max = 1 << 18;
    fix->ztun.config.proc.conn_window = 1 << 24;
    fix->ztun.config.proc.frame_size = 1 << 20;
    fix->ztun.config.proc.pool_idle_ns = 300 * NS_PER_SEC;
    fix->ztun.placement = placement_new(WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++) {
        char *error = NULL;
        fix->ztun.workers[i] = zworker_new(&fix->ztun, i, &error);
        assert_non_null(fix->ztun.workers[i]);
        fix->ztun.n_workers++;
    }
    return fix;
}

static void stop(struct fix *fix) {
    zmove_stop(&fix->ztun);
    for (uint32_t i = 0; i < WORKERS; i++) {
        zworker_free(fix->ztun.workers[i]);
    }
    fix->ztun.n_workers = 0;
}

static void fix_down(struct fix *fix) {
    if (fix->ztun.n_workers > 0) {
        stop(fix);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        assert_int_equal(atomic_load(&fix->ztun.placement->loads[i].n_coming), 0);
        assert_int_equal(atomic_load(&fix->ztun.placement->loads[i].n_tunnels), 0);
    }
    placement_free(fix->ztun.placement);
    for (int i = 0; i < 10; i++) { // the mails that pods have drained
        loop_turn(&fix->control.loop, false);
    }
    loop_fini(&fix->control.loop);
    fix->control.io->ops->free(fix->control.io);
    blk_pool_fini(&fix->pool);
    if (fix->pod != NULL) {
        assert_int_equal(atomic_load(&fix->pod->n_moving), 0);
        assert_int_equal(atomic_load(&fix->pod->refs), 1);
        pod_unref(fix->pod);
    }
    assert_int_equal(count_fds(), fix->n_fds);
    free(fix);
}

static void forge_loads(struct fix *fix, uint32_t a, uint32_t b, uint32_t c) {
    atomic_store(&fix->ztun.placement->loads[0].n_flows, a);
    atomic_store(&fix->ztun.placement->loads[1].n_flows, b);
    atomic_store(&fix->ztun.placement->loads[2].n_flows, c);
}

// Not a port of the ephemeral range: who connects to such a one while nobody listens there may meet
// itself.
static int listen_any(struct sockaddr_in *ret_sa) {
    static uint16_t port = 20000;
    struct sock_listen_params params = {.netns_fd = -1};
    assert_true(addr_parse(SLICE_LIT("127.0.0.1:0"), &params.bind));
    int fd = -EADDRINUSE;
    for (int i = 0; i < 1000 && fd == -EADDRINUSE; i++) {
        params.bind.port = ++port;
        fd = sock_listen(&params);
    }
    assert_true(fd >= 0);
    socklen_t len = sizeof(*ret_sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_sa, &len), 0);
    return fd;
}

// The workers of `mask` know the pod; worker 0 has the sockets.
static void pod_up(struct fix *fix, uint32_t mask) {
    int netns = netns_open("/proc/self/ns/net");
    assert_true(netns >= 0);
    fix->pod = pod_new(
        &(struct pod_params){.uid = "uid", .workload_uid = "uid", .ns = "ns", .name = "pod"},
        netns);
    struct pod_sockets sockets;
    pod_sockets_init(&sockets);
    sockets.outbound = listen_any(&fix->addrs[0]);
    sockets.inbound = listen_any(&fix->addrs[1]);
    sockets.hbone = listen_any(&fix->addrs[2]);
    for (uint32_t i = 0; i < WORKERS; i++) {
        if ((mask >> i & 1) != 0) {
            zworker_send_pod_up(fix->ztun.workers[i], fix->pod);
        }
    }
    zworker_send_pod_sockets(fix->ztun.workers[0], fix->pod, &sockets, NULL, 0);
}

static void pod_down(struct fix *fix, uint32_t worker, bool removed) {
    zworker_send_pod_down(fix->ztun.workers[worker], fix->pod->id, removed);
}

static void wait_until_forgotten(struct fix *fix) {
    uint64_t end = clock_mono_ns() + WAIT_S * NS_PER_SEC;
    while (atomic_load(&fix->pod->refs) > 1 && clock_mono_ns() < end) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&fix->pod->refs), 1);
}

static bool is_over(int fd) {
    char byte;
    ssize_t n;
    do { // EINTR: a ring of this process has news
        n = recv(fd, &byte, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

// Connects, and waits for the end: true when there was a connection at all.
static bool try_connect(const struct sockaddr_in *sa) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    int rc = connect(fd, (const struct sockaddr *)sa, sizeof(*sa));
    bool was_interrupted = rc < 0 && errno == EINTR;
    if (was_interrupted) { // it may be over when it is asked again
        rc = connect(fd, (const struct sockaddr *)sa, sizeof(*sa));
    }
    bool is_connected =
        rc == 0 || errno == EISCONN ||
        (was_interrupted && (errno == ECONNRESET || errno == ECONNABORTED || errno == EINTR));
    assert_true(is_connected || errno == ECONNREFUSED || errno == ECONNRESET);
    if (is_connected && !is_over(fd)) {
        // The kernel may forget one in the very moment in which its listener closes; it says so
        // when a byte comes. To one that was forgotten here, nobody says anything.
        (void)!send(fd, "x", 1, MSG_NOSIGNAL);
        assert_true(is_over(fd));
    }
    close(fd);
    return is_connected;
}

static void test_moves(void **state) {
    (void)state;
    struct fix *fix = fix_up();
    int64_t moved = metrics_total(METRIC_FLOWS_MOVED);
    pod_up(fix, 7);
    forge_loads(fix, 100, 0, 0);
    for (int i = 0; i < 60; i++) {
        assert_true(try_connect(&fix->addrs[i % KINDS]));
    }
    // What was captured on its way to the capture port itself is refused where it is.
    assert_int_equal(metrics_total(METRIC_FLOWS_MOVED), moved + 40);
    for (uint32_t i = 0; i < WORKERS; i++) {
        pod_down(fix, i, true);
    }
    wait_until_forgotten(fix);
    fix_down(fix);
}

// What is sent to a worker that does not know the pod (any more) returns to the sender.
static void test_target_has_no_pod(void **state) {
    (void)state;
    struct fix *fix = fix_up();
    int64_t refused = metrics_total(METRIC_FLOWS_REFUSED);
    pod_up(fix, 1);
    forge_loads(fix, 100, 0, 0);
    for (int i = 0; i < 30; i++) {
        assert_true(try_connect(&fix->addrs[i % KINDS]));
    }
    assert_int_equal(metrics_total(METRIC_FLOWS_REFUSED), refused); // worker 0 took them
    pod_down(fix, 0, false);
    wait_until_forgotten(fix);
    fix_down(fix);
}

struct storm {
    struct fix *fix;
    atomic_bool stop;
    atomic_uint n_connected, n_refused;
};

static void *storm(void *arg) {
    struct storm *storm = arg;
    for (uint32_t i = 0; !atomic_load(&storm->stop); i++) {
        bool ok = try_connect(&storm->fix->addrs[i % KINDS]);
        atomic_fetch_add(ok ? &storm->n_connected : &storm->n_refused, 1);
    }
    return NULL;
}

static void run_storm(struct fix *fix, void (*action)(struct fix *fix)) {
    enum { THREADS = 3 };
    struct storm job = {.fix = fix};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, storm, &job), 0);
    }
    while (atomic_load(&job.n_connected) < 50) {
        usleep(1000);
    }
    action(fix);
    atomic_store(&job.stop, true);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void leave_targets_first(struct fix *fix) {
    for (uint32_t i = WORKERS; i-- > 0;) {
        pod_down(fix, i, false);
        usleep(3000);
    }
    wait_until_forgotten(fix);
}

static void remove_targets_first(struct fix *fix) {
    for (uint32_t i = WORKERS; i-- > 0;) {
        pod_down(fix, i, true);
        usleep(3000);
    }
    wait_until_forgotten(fix);
}

static void remove_sender_first(struct fix *fix) {
    for (uint32_t i = 0; i < WORKERS; i++) {
        pod_down(fix, i, true);
    }
    wait_until_forgotten(fix);
}

static void leave_at_once(struct fix *fix) {
    for (uint32_t i = 0; i < WORKERS; i++) {
        pod_down(fix, i, false);
    }
    wait_until_forgotten(fix);
}

static void drain(struct fix *fix) {
    for (uint32_t i = WORKERS; i-- > 0;) {
        zworker_send_drain(fix->ztun.workers[i], 20);
    }
    wait_until_forgotten(fix);
}

static void test_storms(void **state) {
    (void)state;
    void (*const actions[])(struct fix *) = {
        leave_targets_first, remove_targets_first, remove_sender_first, leave_at_once, drain, stop};
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        for (int round = 0; round < 3; round++) {
            struct fix *fix = fix_up();
            pod_up(fix, 7);
            forge_loads(fix, 1000, round == 1 ? 1000 : 0, round == 2 ? 1000 : 0);
            run_storm(fix, actions[i]);
            forge_loads(fix, 0, 0, 0);
            fix_down(fix);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_target_has_no_pod),
        cmocka_unit_test(test_storms),
    };
    struct mesh_settings mesh = {.trust_domain = "cluster.local"};
    struct log_config log = {.fd = STDOUT_FILENO, .filter = "off"};
    struct buf error;
    buf_init(&error, 512);
    assert_true(log_init(&log, &error));
    buf_fini(&error);
    snapshot_init(&mesh);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    snapshot_fini();
    return rc;
}
