// SPDX-License-Identifier: Apache-2.0
// The DNS proxy: what the mesh knows, servers of a pod, and queries of a real pod that are
// captured, answered, or relayed to a server beside it.
#include "ztun/dns_proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/obs/metrics.h"
#include "common/proto/dns_msg.h"
#include "common/rt/netns.h"
#include "tests/unit/ztun/dns_bed.h"
#include "tests/unit/ztun/netlab.h"
#include "ztun/dns_upstream.h"
#include "ztun/inpod.h"

static void test_failures(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 0);
    dns_ask(&bed, "example.org", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_non_null(memmem(r.message, r.len, "no upstream server", 18));
    dns_ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    dns_bed_down(&bed);
}

// A silent server is asked again, and in the end the client gets SERVFAIL before it gives up.
static void test_timeout(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 1);
    dns_ask(&bed, "slow.example.org", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_int_equal(bed.n_udp, 2);
    assert_true(metrics_total(METRIC_DNS_UPSTREAM_FAILURES) >= 1);
    dns_bed_down(&bed);
}

// An unreachable server costs one try.
static void test_next_server(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    // By hand: first a port where nobody is, then the server.
    dns_bed_up(&bed, NETLAB_V4, 0);
    struct pod_sockets sockets;
    pod_sockets_init(&sockets);
    struct addr servers[] = {netlab_addr("10.99.0.2", 54), bed.servers[0]};
    assert_int_equal(netns_enter(bed.lab.pod), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    netns_leave();
    struct sockaddr_storage sa;
    struct addr local = netlab_addr("127.0.0.1", 16053);
    socklen_t len = addr_to_sockaddr(&local, false, &sa);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    sockets.dns_udp[0] = fd;
    struct dns_proxy_config config = {.servers = servers, .n_servers = 2, .mark = MARK};
    struct dns_proxy *dns = dns_proxy_new(&bed.loop, bed.pod, &sockets, &config);
    int client = netlab_udp(bed.lab.pod, "127.0.0.1", 0, 0);
    uint8_t message[512];
    size_t n = dns_make_query(message, 7, "example.org", DNS_A);
    assert_int_equal(sendto(client, message, n, 0, (struct sockaddr *)&sa, len), n);
    struct addr server = bed.servers[0];
    bed.servers[0] = local;
    dns_get_reply(&bed, client, 1000, &r);
    bed.servers[0] = server;
    assert_int_equal(r.n_answers, 1);
    dns_proxy_close(dns, dns_bed_on_closed, &bed);
    while (!bed.is_closed) {
        dns_bed_turn(&bed);
    }
    bed.is_closed = false;
    close(client);
    dns_bed_down(&bed);
}

// Another process's socket of the same port.
static int successor_socket(struct dns_bed *bed) {
    struct sockaddr_storage sa;
    struct addr local = netlab_addr("127.0.0.1", 15053);
    socklen_t len = addr_to_sockaddr(&local, false, &sa);
    int one = 1;
    assert_int_equal(netns_enter(bed->lab.pod), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    netns_leave();
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

// Sends a query from each of many ports; returns how many of them the successor has.
static unsigned n_of_successor(struct dns_bed *bed, int successor, unsigned n) {
    uint8_t message[512];
    unsigned n_got = 0;
    for (unsigned i = 0; i < n; i++) {
        int client = netlab_udp(bed->lab.pod, "10.99.0.1", 0, 0);
        dns_send_query(bed, client, (uint16_t)(1000 + i), "web", DNS_A);
        close(client);
    }
    while (recv(successor, message, sizeof(message), 0) > 0) {
        n_got++;
    }
    return n_got;
}

// Closing with queries under way: they end within a second, those that come later are another
// process's, and nothing is left.
static void test_close(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 1);
    int client = netlab_udp(bed.lab.pod, "10.99.0.1", 0, 0);
    int tcp = dns_tcp_client(&bed);
    for (uint16_t i = 0; i < 10; i++) {
        dns_send_query(&bed, client, i, "slow.example.org", DNS_A);
    }
    for (int i = 0; i < 20; i++) {
        dns_bed_turn(&bed);
    }
    dns_send_query(&bed, client, 99, "web", DNS_A); // still in the queue
    enum { N = 64 };
    int successor = successor_socket(&bed);
    assert_in_range(n_of_successor(&bed, successor, N), 1, N - 1); // the kernel shares them out
    dns_proxy_close(bed.dns, dns_bed_on_closed, &bed);
    bed.dns = NULL;
    assert_int_equal(n_of_successor(&bed, successor, N), N);
    close(successor);
    dns_get_reply(&bed, client, 500, &r);
    assert_int_equal(r.message[1], 99);
    for (int i = 0; i < 10; i++) {
        dns_get_reply(&bed, client, 2000, &r);
        assert_int_equal(r.rcode, DNS_SERVFAIL);
    }
    for (int i = 0; i < 1000 && !bed.is_closed; i++) {
        dns_bed_turn(&bed);
    }
    assert_true(bed.is_closed);
    close(client);
    close(tcp);
    dns_bed_down(&bed);
}

// Many queries at once: bounded, each gets some answer.
static void test_flood(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 1);
    int client = netlab_udp(bed.lab.pod, "10.99.0.1", 0, 0);
    int n_failed = 0;
    enum { N = 400 };
    int n_got = 0;
    for (uint16_t i = 0; i < N; i++) {
        dns_send_query(&bed, client, i, "slow.example.org", DNS_A);
        if (i % 40 == 39) {
            loop_turn(&bed.loop, false);
            usleep(1000);
            loop_turn(&bed.loop, false);
        }
    }
    for (int i = 0; i < N - 256; i++, n_got++) {
        dns_get_reply(&bed, client, 1000, &r);
        n_failed += r.rcode == DNS_SERVFAIL;
    }
    assert_int_equal(n_failed, N - 256);
    dns_send_query(&bed, client, 999, "web", DNS_A); // the mesh's names are not affected
    dns_get_reply(&bed, client, 1000, &r);
    assert_int_equal(r.n_answers, 1);
    close(client);
    dns_bed_down(&bed);
}

// Another pod cannot use the proxy.
static void test_closed_to_others(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 1);
    netlab_sh("ip netns exec %s sysctl -qw net.ipv4.conf.all.route_localnet=1 "
              "net.ipv4.conf.eth0.route_localnet=1",
              bed.lab.pod_name);
    netlab_sh("ip netns exec %s sysctl -qw net.ipv4.conf.all.route_localnet=1 "
              "net.ipv4.conf.eth0.route_localnet=1 && ip -n %s addr del 127.0.0.1/8 dev lo && "
              "ip -n %s route add 127.0.0.1 via 10.99.0.1 src 10.99.0.2",
              bed.lab.peer_name, bed.lab.peer_name, bed.lab.peer_name);
    int client = netlab_udp(bed.lab.peer, "10.99.0.2", 0, 0);
    uint8_t message[512];
    size_t len = dns_make_query(message, 5, "web", DNS_A);
    struct addr targets[] = {netlab_addr("127.0.0.1", 15053), netlab_addr("10.99.0.1", 15053)};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct sockaddr_storage sa;
        socklen_t sa_len = addr_to_sockaddr(&targets[i], false, &sa);
        (void)sendto(client, message, len, 0, (struct sockaddr *)&sa, sa_len);
        for (int k = 0; k < 100; k++) {
            dns_bed_turn(&bed);
        }
        assert_true(recv(client, message, sizeof(message), MSG_DONTWAIT) <= 0);
    }
    close(client);
    dns_ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    dns_bed_down(&bed);
}

// A pod that the snapshot does not know (any more).
static void test_unknown_client(void **state) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, NETLAB_V4, 1);
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "c//Pod/demo/client");
    snapshot_publish(draft);
    dns_ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_int_equal(bed.n_udp, 0);
    dns_bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures),       cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_next_server),    cmocka_unit_test(test_close),
        cmocka_unit_test(test_flood),          cmocka_unit_test(test_closed_to_others),
        cmocka_unit_test(test_unknown_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
