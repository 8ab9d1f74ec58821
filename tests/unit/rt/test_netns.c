// SPDX-License-Identifier: Apache-2.0
//
// Namespaces and socket options, in namespaces that this test makes and removes. Needs root.
#include "common/rt/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/rt/dial.h"
#include "common/rt/sock.h"
#include "tests/unit/rt/bed.h"

static char ns_name[64];

static void run(const char *fmt, ...) PRINTF_LIKE(1, 2);

static void run(const char *fmt, ...) {
    char cmd[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, args);
    va_end(args);
    int rc = system(cmd);
    if (rc != 0) {
        fail_msg("%s: %d", cmd, rc);
    }
}

static int make_netns(void **state) {
    snprintf(ns_name, sizeof(ns_name), "zt-rt-test-%d", (int)getpid());
    run("ip netns add %s", ns_name);
    run("ip -n %s link set lo up", ns_name);
    return 0;
}

static int remove_netns(void **state) {
    run("ip netns del %s", ns_name);
    return 0;
}

static uint64_t cookie_of(int fd) {
    uint64_t cookie;
    assert_int_equal(sock_netns_cookie(fd, &cookie), 0);
    return cookie;
}

static void test_open(void **state) {
    int fd = netns_open(ns_name);
    assert_true(fd >= 0);
    char path[128];
    snprintf(path, sizeof(path), "/run/netns/%s", ns_name);
    int same_fd = netns_open(path);
    assert_true(same_fd >= 0);
    struct netns_id id, same_id, own_id;
    assert_int_equal(netns_id(fd, &id), 0);
    assert_int_equal(netns_id(same_fd, &same_id), 0);
    assert_int_equal(netns_id(netns_own(), &own_id), 0);
    assert_true(netns_id_eq(&id, &same_id));
    assert_false(netns_id_eq(&id, &own_id));
    struct stat st;
    assert_int_equal(stat("/proc/self/ns/net", &st), 0);
    assert_int_equal(own_id.inode, st.st_ino);
    close(fd);
    close(same_fd);

    assert_int_equal(netns_open("zt-rt-test-none"), -ENOENT);
    assert_int_equal(netns_open("/etc/passwd"), -EINVAL);
    assert_int_equal(netns_open("/proc/self/ns/mnt"), -EINVAL);
    char long_name[5000];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(netns_open(long_name), -ENAMETOOLONG);
}

static void test_enter(void **state) {
    int ns_fd = netns_open(ns_name);
    int own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(netns_enter(ns_fd), 0);
    int inside = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    netns_leave();
    int after = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(cookie_of(own) != cookie_of(inside));
    assert_true(cookie_of(own) == cookie_of(after));
    close(own);
    close(inside);
    close(after);
    // Not a namespace: an error, and nothing changed.
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(netns_enter(null_fd), -EINVAL);
    close(null_fd);
    close(ns_fd);
}

static void *stay_outside(void *arg) {
    atomic_bool *is_done = arg;
    struct netns_id own, now;
    assert_int_equal(netns_id(netns_own(), &own), 0);
    while (!atomic_load(is_done)) {
        int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_int_equal(netns_id(fd, &now), 0);
        assert_true(netns_id_eq(&own, &now));
        close(fd);
    }
    return NULL;
}

// The threads of a process are in namespaces of their own.
static void test_threads(void **state) {
    int ns_fd = netns_open(ns_name);
    atomic_bool is_done = false;
    pthread_t thread;
    pthread_create(&thread, NULL, stay_outside, &is_done);
    for (int i = 0; i < 500; i++) {
        struct io_socket_params params = {.netns_fd = ns_fd, .family = 4};
        int fd = sock_stream(&params);
        assert_true(fd >= 0);
        close(fd);
    }
    atomic_store(&is_done, true);
    pthread_join(thread, NULL);
    close(ns_fd);
}

static int get_int(int fd, int level, int option) {
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, level, option, &value, &len), 0);
    return value;
}

static void test_options(void **state) {
    struct io_socket_params params = {
        .netns_fd = -1,
        .mark = 0x539,
        .family = 4,
        .is_tunnel = true,
        .keepalive_s = 180,
        .keepalive_probes = 9,
        .user_timeout_ms = 30000,
    };
    int fd = sock_stream(&params);
    assert_true(fd >= 0);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 0x539);
    assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), 180);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL), 180);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_KEEPCNT), 9);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 256 * 1024);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    params = (struct io_socket_params){.netns_fd = -1, .family = 6};
    fd = sock_stream(&params);
    assert_true(fd >= 0);
    assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 0);
    close(fd);
}

static struct addr addr_of(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

static void on_dialled(void *arg, int res) {
    *(int *)arg = res;
}

// Listener and connection inside the namespace, from a foreign source address.
static void check_transparent(const char *listen_text, const char *dst_text,
                              const char *source_text) {
    struct bed bed;
    bed_init(&bed, BED_URING, NULL, 0);
    int ns_fd = netns_open(ns_name);
    struct sock_listen_params listen_params = {
        .netns_fd = ns_fd,
        .bind = addr_of(listen_text),
        .mark = 0x539,
        .transparent = true,
        .reuse_port = true,
    };
    int listen_fd = sock_listen(&listen_params);
    assert_true(listen_fd >= 0);
    int second_fd = sock_listen(&listen_params); // SO_REUSEPORT
    assert_true(second_fd >= 0);
    close(second_fd);

    struct addr dst = addr_of(dst_text);
    struct io_socket_params params = {
        .netns_fd = ns_fd,
        .mark = 0x539,
        .family = dst.ip.family,
        .transparent = true,
        .bind = addr_of(source_text),
    };
    int res = -EINPROGRESS;
    (void)dial_start(&bed.loop, &params, &dst, NS_PER_SEC, on_dialled, &res);
    bed_run_ms(&bed, 20);
    assert_true(res >= 0);
    int fd = sock_accept_now(listen_fd);
    assert_true(fd >= 0);
    struct addr peer, local, original;
    assert_int_equal(sock_peer_addr(fd, &peer), 0);
    assert_int_equal(sock_local_addr(fd, &local), 0);
    assert_int_equal(sock_original_dst(fd, &original), 0);
    assert_true(ip_eq(&peer.ip, &params.bind.ip)); // mapped is IPv4 here
    assert_true(peer.port >= SOCK_FOREIGN_PORT_MIN);
    assert_true(addr_eq(&local, &dst));
    assert_true(addr_eq(&original, &dst));
    assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 0x539); // handed down
    assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    sock_close(res, true);
    sock_close(fd, true);
    close(listen_fd);
    close(ns_fd);
    bed_fini(&bed);
}

static void test_transparent(void **state) {
    // All of it is local there, so that answers find their way.
    run("ip -n %s route add local 10.0.0.0/8 dev lo", ns_name);
    run("ip -n %s -6 route add local fd00::/16 dev lo", ns_name);
    check_transparent("0.0.0.0:15001", "10.1.1.1:15001", "10.9.9.9:0");
    check_transparent("[::]:15002", "10.1.1.1:15002", "10.9.9.9:0"); // dual stack
    check_transparent("[::]:15003", "[fd00::1]:15003", "[fd00::9]:0");
}

static void check_redirected(const char *listen_text, const char *dst_text) {
    struct bed bed;
    bed_init(&bed, BED_URING, NULL, 0);
    int ns_fd = netns_open(ns_name);
    struct sock_listen_params listen_params = {.netns_fd = ns_fd, .bind = addr_of(listen_text)};
    int listen_fd = sock_listen(&listen_params);
    assert_true(listen_fd >= 0);
    struct addr dst = addr_of(dst_text);
    struct io_socket_params params = {.netns_fd = ns_fd, .family = dst.ip.family};
    int res = -EINPROGRESS;
    (void)dial_start(&bed.loop, &params, &dst, NS_PER_SEC, on_dialled, &res);
    bed_run_ms(&bed, 20);
    assert_true(res >= 0);
    int fd = sock_accept_now(listen_fd);
    assert_true(fd >= 0);
    struct addr original;
    assert_int_equal(sock_original_dst(fd, &original), 0);
    assert_true(addr_eq(&original, &dst));
    sock_close(res, true);
    sock_close(fd, true);
    close(listen_fd);
    close(ns_fd);
    bed_fini(&bed);
}

static void test_original_dst(void **state) {
    run("ip netns exec %s nft 'table inet t { chain o { type nat hook output priority -100; "
        "tcp dport 80 redirect to :15011; tcp dport 81 redirect to :15012; }; }'",
        ns_name);
    check_redirected("0.0.0.0:15011", "10.2.2.2:80");
    check_redirected("[::]:15012", "10.2.2.2:81"); // IPv4 on a dual-stack socket
    check_redirected("[::]:15011", "[fd00::2]:80");
    run("ip netns exec %s nft delete table inet t", ns_name);
}

// A name that was given to a new namespace.
static void test_replaced(void **state) {
    char name[80];
    snprintf(name, sizeof(name), "%s-b", ns_name);
    run("ip netns add %s", name);
    int fd = netns_open(name);
    struct netns_id id, new_id;
    assert_int_equal(netns_id(fd, &id), 0);
    run("ip netns del %s", name);
    run("ip netns add %s", name);
    int new_fd = netns_open(name);
    assert_int_equal(netns_id(new_fd, &new_id), 0);
    assert_false(netns_id_eq(&id, &new_id));
    run("ip netns del %s", name);
    close(fd);
    close(new_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),        cmocka_unit_test(test_enter),
        cmocka_unit_test(test_threads),     cmocka_unit_test(test_options),
        cmocka_unit_test(test_transparent), cmocka_unit_test(test_original_dst),
        cmocka_unit_test(test_replaced),
    };
    return cmocka_run_group_tests(tests, make_netns, remove_netns);
}
