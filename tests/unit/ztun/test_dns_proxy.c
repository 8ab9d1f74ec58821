// SPDX-License-Identifier: Apache-2.0
// The DNS proxy: what the mesh knows, servers of a pod, and queries of a real pod that are
// captured, answered, or relayed to a server beside it.
#include "ztun/dns_proxy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mesh/dns_resolve.h"
#include "common/obs/metrics.h"
#include "common/proto/dns_msg.h"
#include "common/rt/netns.h"
#include "tests/unit/ztun/dns_bed.h"
#include "tests/unit/ztun/netlab.h"
#include "ztun/dns_upstream.h"
#include "ztun/inpod.h"

static void test_resolve(void **state) {
    static const struct {
        const char *name, *target, *ip; // target NULL: no alias; ip NULL: unknown, "": no address
        int family;
    } rows[] = {
        {"web.demo.svc.cluster.local", NULL, "10.96.0.1", 4},
        {"web.demo.svc.cluster.local", NULL, "fd96::1", 6},
        {"web.other.svc.cluster.local", NULL, "10.96.0.2", 4},
        {"web.other.svc.cluster.local", NULL, "", 6},
        {"web", NULL, "10.96.0.1", 4},
        {"web.demo", NULL, "10.96.0.1", 4},
        {"web.other", NULL, "10.96.0.2", 4},
        {"web.other.svc", NULL, "10.96.0.2", 4},
        {"nope", NULL, NULL, 4},
        {"nope.demo.svc.cluster.local", NULL, NULL, 4},
        {"", NULL, NULL, 4},
        {"svc.cluster.local", NULL, NULL, 4},
        {"cluster.local", NULL, NULL, 4},
        // a resolver's search list
        {"web.other.demo.svc.cluster.local", "web.other.svc.cluster.local", "10.96.0.2", 4},
        {"web.other.svc.svc.cluster.local", "web.other.svc.cluster.local", "10.96.0.2", 4},
        {"api.example.com.demo.svc.cluster.local", "api.example.com", "240.240.0.1", 4},
        {"api.example.com.svc.cluster.local", "api.example.com", "240.240.0.1", 4},
        {"api.example.com.cluster.local", "api.example.com", "240.240.0.1", 4},
        {"api.example.com.corp.example", "api.example.com", "240.240.0.1", 4},
        {"web.corp.example", "web.demo.svc.cluster.local", "10.96.0.1", 4},
        {"api.example.com.other.svc.cluster.local", NULL, NULL, 4},
        // ServiceEntries
        {"api.example.com", NULL, "240.240.0.1", 4},
        {"a.wild.example.com", NULL, "240.240.0.2", 4},
        {"a.b.wild.example.com", NULL, "240.240.0.2", 4},
        {"wild.example.com", NULL, NULL, 4},
        {"novip.example.com", NULL, NULL, 4},
        // headless, and its pods
        {"db.demo.svc.cluster.local", NULL, "10.1.0.*", 4},
        {"db", NULL, "10.1.0.*", 4},
        {"db.demo", NULL, "10.1.0.*", 4},
        {"db", NULL, "", 6},
        {"db-1.db.demo.svc.cluster.local", NULL, "10.1.0.1", 4},
        {"db-2.db.demo.svc.cluster.local", NULL, "10.1.0.2", 4},
        {"db-1.db", NULL, "10.1.0.1", 4},
        {"db-1.db.demo", NULL, "10.1.0.1", 4},
        {"db-1.db.demo.svc", NULL, "10.1.0.1", 4},
        {"db-9.db.demo.svc.cluster.local", NULL, NULL, 4},
        {"web.web.demo.svc.cluster.local", NULL, NULL, 4},
    };
    dns_mesh_up("");
    const struct snapshot *snap = snapshot_current();
    const struct workload *client = snapshot_workload_by_uid(snap, "c//Pod/demo/client");
    struct rand rand;
    rand_seed(&rand, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dns_resolution found;
        bool is_known =
            dns_resolve(snap, client, rows[i].name, (uint8_t)rows[i].family, &rand, &found);
        if (is_known != (rows[i].ip != NULL)) {
            fail_msg("%s: known %d", rows[i].name, is_known);
        }
        if (!is_known) {
            continue;
        }
        assert_int_equal(found.is_alias, rows[i].target != NULL);
        if (rows[i].target != NULL) {
            assert_string_equal(found.target, rows[i].target);
        }
        if (strcmp(rows[i].ip, "10.1.0.*") == 0) {
            assert_int_equal(found.n_ips, 2); // the ready ones
            continue;
        }
        assert_int_equal(found.n_ips, rows[i].ip[0] != '\0');
        char text[IP_TEXT_MAX];
        if (found.n_ips > 0) {
            assert_string_equal(ip_text(&found.ips[0], text), rows[i].ip);
        }
    }
    // Shuffled: either of the two comes first at times.
    unsigned n_first = 0;
    for (int i = 0; i < 100; i++) {
        struct dns_resolution found;
        assert_true(dns_resolve(snap, client, "db", 4, &rand, &found));
        n_first += found.ips[0].bytes[3];
    }
    assert_in_range(n_first, 20, 80);
    dns_mesh_down();
}

static void test_upstreams(void **state) {
    struct addr servers[DNS_UPSTREAMS_MAX];
    static const char text[] = "# nameserver 1.1.1.1\nsearch a b\n nameserver\t10.0.0.1  # x\r\n"
                               "nameserver 127.0.0.53\nnameserver ::1\nnameserver bad\nnameserver\n"
                               "nameservers 2.2.2.2\nnameserver 0.0.0.0\nnameserver fd00::1";
    assert_int_equal(dns_upstreams_parse(slice_str(text), true, servers), 2);
    struct addr wanted[] = {netlab_addr("10.0.0.1", 53), netlab_addr("fd00::1", 53)};
    assert_true(addr_eq(&servers[0], &wanted[0]) && addr_eq(&servers[1], &wanted[1]));
    assert_int_equal(dns_upstreams_parse(slice_str(text), false, servers), 4);
    char many[DNS_UPSTREAMS_MAX * 40 + 40] = "";
    for (int i = 0; i < DNS_UPSTREAMS_MAX + 1; i++) {
        snprintf(many + strlen(many), 40, "nameserver 10.0.0.%d\n", i + 1);
    }
    assert_int_equal(dns_upstreams_parse(slice_str(many), true, servers), DNS_UPSTREAMS_MAX);

    const char *reason;
    static const char *const some[] = {" 10.0.0.9", "[fd00::9]:5353", "x", NULL};
    static const char *const bad[] = {"x", NULL};
    struct workload_local local = {.netns = "", .nameservers = some};
    struct workload_common common = {.local = &local};
    struct workload workload = {.common = &common};
    assert_int_equal(dns_upstreams_for(&workload, local.netns, false, servers, &reason), 2);
    assert_int_equal(servers[1].port, 5353);
    local.nameservers = bad;
    assert_int_equal(dns_upstreams_for(&workload, local.netns, false, servers, &reason), 0);
    assert_non_null(strstr(reason, "nameservers"));
    char names[3][64];
    snprintf(names[0], sizeof(names[0]), "ztt%d-dns", (int)getpid());
    snprintf(names[1], sizeof(names[1]), "/run/netns/ztt%d-dns", (int)getpid());
    snprintf(names[2], sizeof(names[2]), "/var/run/netns/ztt%d-dns", (int)getpid());
    netlab_sh("mkdir -p /etc/netns/%s && echo nameserver 127.0.0.9 > /etc/netns/%s/resolv.conf",
              names[0], names[0]);
    local.nameservers = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        local.netns = names[i];
        assert_int_equal(dns_upstreams_for(&workload, local.netns, false, servers, &reason), 1);
        assert_int_equal(servers[0].ip.bytes[3], 9); // the pod's own loopback is allowed
    }
    local.netns = "/proc/1/ns/net";
    (void)dns_upstreams_for(&workload, local.netns, false, servers,
                            &reason); // ztun's own: whatever it is
    netlab_sh("rm -r /etc/netns/%s; rmdir /etc/netns 2>/dev/null; true", names[0]);
}

static void run_udp(int families) {
    struct dns_bed bed;
    struct dns_reply r;
    dns_bed_up(&bed, families, 1);
    dns_ask(&bed, "Web.demo.svc.cluster.local", DNS_A, &r);
    assert_int_equal(r.rcode, 0);
    assert_int_equal(r.n_answers, 1);
    assert_memory_equal(r.message + r.len - 11 - 4, "\x0a\x60\0\x01", 4);
    assert_memory_equal(r.message + r.len - 11 - 10, "\0\0\0\x1e", 4); // TTL 30
    assert_int_equal(r.message[2] & 4, 4); // authoritative
    dns_ask(&bed, "web.other", DNS_AAAA, &r); // known, but not in this family
    assert_int_equal(r.rcode + r.n_answers, 0);
    dns_ask(&bed, "api.example.com.demo.svc.cluster.local", DNS_A, &r);
    assert_int_equal(r.n_answers, 2);
    assert_int_equal(bed.n_udp, 0);
    dns_ask(&bed, "web.demo.svc.cluster.local", DNS_TXT, &r); // not ours: relayed
    assert_int_equal(bed.n_udp, 1);
    dns_ask(&bed, "example.org", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    assert_memory_equal(r.message + r.len - 4, "\xc0\0\x02\x07", 4);
    dns_ask(&bed, "spoof.example.org", DNS_HTTPS, &r); // wrong answers are passed over
    assert_int_equal(r.n_answers, 1);
    assert_int_equal(bed.n_udp, 3);
    dns_ask(&bed, "tc.example.org", DNS_A, &r); // the client is told to come again over TCP
    assert_int_equal(r.message[2] & 2, 2);
    assert_true(metrics_total(METRIC_DNS_REQUESTS) >= 7);
    assert_true(metrics_total(METRIC_DNS_UPSTREAM_REQUESTS) >= 4);
    dns_bed_down(&bed);
}

static void test_udp_v4(void **state) {
    run_udp(NETLAB_V4);
}
static void test_udp_v6(void **state) {
    run_udp(NETLAB_V6);
}
static void test_udp_dual(void **state) {
    run_udp(NETLAB_V4 | NETLAB_V6);
}

static void tcp_get(struct dns_bed *bed, int fd, uint8_t *to, size_t len) {
    size_t got = 0;
    for (int i = 0; i < 4000 && got < len; i++) {
        dns_bed_turn(bed);
        ssize_t n = recv(fd, to + got, len - got, MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(got, len);
}

static void test_tcp(void **state) {
    struct dns_bed bed;
    dns_bed_up(&bed, NETLAB_V4, 1);
    int fd = dns_tcp_client(&bed);
    // Several at once, one of them in pieces.
    static const char *const names[] = {"web", "tc.example.org", "web.other", "example.org"};
    uint8_t out[2048];
    size_t len = 0;
    for (uint16_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = dns_make_query(out + len + 2, i, names[i], DNS_A);
        out[len] = 0;
        out[len + 1] = (uint8_t)n;
        len += n + 2;
    }
    assert_int_equal(send(fd, out, len - 20, 0), len - 20);
    for (int i = 0; i < 50; i++) {
        dns_bed_turn(&bed);
    }
    assert_int_equal(send(fd, out + len - 20, 20, 0), 20);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    bool is_seen[ARRAY_LEN(names)] = {false};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        uint8_t in[512];
        tcp_get(&bed, fd, in, 2);
        size_t n = (size_t)(in[0] << 8 | in[1]);
        assert_in_range(n, 12, sizeof(in));
        tcp_get(&bed, fd, in, n);
        assert_int_equal(in[7], 1); // one answer
        assert_int_equal(in[2] & 2, 0);
        is_seen[in[1]] = true;
    }
    assert_true(is_seen[0] && is_seen[1] && is_seen[2] && is_seen[3]);
    assert_int_equal(bed.n_tcp, 2);
    for (int i = 0; i < 100; i++) {
        dns_bed_turn(&bed);
    }
    uint8_t byte;
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0); // closed after the last answer
    close(fd);
    // What is no DNS ends the connection.
    fd = dns_tcp_client(&bed);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, 0), 16);
    ssize_t n = -1;
    for (int i = 0; i < 1000 && n < 0; i++) {
        dns_bed_turn(&bed);
        n = recv(fd, &byte, 1, MSG_DONTWAIT);
        n = n < 0 && errno == ECONNRESET ? 0 : n;
    }
    assert_int_equal(n, 0);
    close(fd);
    dns_bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),  cmocka_unit_test(test_upstreams),
        cmocka_unit_test(test_udp_v4),   cmocka_unit_test(test_udp_v6),
        cmocka_unit_test(test_udp_dual), cmocka_unit_test(test_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
