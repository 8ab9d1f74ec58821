// SPDX-License-Identifier: Apache-2.0
// The DNS proxy: what the mesh knows, servers of a pod, and queries of a real pod that are
// captured, answered, or relayed to a server beside it.
#include "ztun/dns_proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "common/rt/uring.h"
#include "tests/unit/ztun/netlab.h"
#include "ztun/dns_upstream.h"
#include "ztun/inpod.h"

// A small mesh: namespaces demo and other.

static struct workload *add_workload(struct snapshot *draft, const char *name, const char *netns) {
    static const char *const search[] = {"corp.example", NULL};
    char key[64];
    snprintf(key, sizeof(key), "c//Pod/demo/%s", name);
    struct workload_local local = {.netns = netns, .dns_search = search};
    struct workload spec = {
        .leaf.key = slice_str(key),
        .name = name,
        .ns = "demo",
        .local = &local,
        .canonical_name = name,
        .canonical_revision = "v1",
    };
    struct workload *workload = workload_new(&spec);
    leaf_ref(workload);
    snapshot_set_workload(draft, workload);
    return workload;
}

static struct ip ip_of(const char *text) {
    return netlab_addr(text, 0).ip;
}

static void add_service(struct snapshot *draft, const char *host, const char *ns, const char *v4,
                        const char *v6) {
    struct ip vips[2];
    uint16_t n = 0;
    if (v4 != NULL) {
        vips[n++] = ip_of(v4);
    }
    if (v6 != NULL) {
        vips[n++] = ip_of(v6);
    }
    char key[300];
    snprintf(key, sizeof(key), "%s/%s", ns, host);
    struct service spec = {
        .leaf.key = slice_str(key),
        .name = host,
        .ns = ns,
        .hostname = host,
        .vips = vips,
        .n_vips = n,
    };
    snapshot_set_service(draft, service_new(&spec));
}

static void add_headless(struct snapshot *draft, struct workload *pods[3]) {
    static const uint16_t target_port = 5432;
    static const struct service_port port = {
        .port = 5432, .target_port = 5432, .name = "sql", .target_name = ""};
    struct endpoint endpoints[3];
    for (int i = 0; i < 3; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "10.1.0.%d", i);
        endpoints[i] = (struct endpoint){
            .workload = pods[i],
            .ip = ip_of(ip),
            .target_ports = &target_port,
            .is_ready = i != 2,
            .weight = 1,
        };
    }
    struct service spec = {
        .leaf.key = SLICE_LIT("demo/db.demo.svc.cluster.local"),
        .name = "db",
        .ns = "demo",
        .hostname = "db.demo.svc.cluster.local",
        .ports = &port,
        .n_ports = 1,
        .endpoints = endpoints,
        .n_endpoints = 3,
        .is_headless = true,
    };
    snapshot_set_service(draft, service_new(&spec));
}

static void mesh_up(const char *netns) {
    struct mesh_settings mesh = {.trust_domain = "cluster.local",
                                 .cluster_domain = "cluster.local",
                                 .root_namespace = "istio-system"};
    snapshot_init(&mesh);
    snapshot_thread_register();
    struct snapshot *draft = snapshot_draft();
    struct workload *pods[3] = {
        add_workload(draft, "db-0", ""),
        add_workload(draft, "db-1", ""),
        add_workload(draft, "db-2", ""),
    };
    leaf_unref(add_workload(draft, "client", netns));
    add_service(draft, "web.demo.svc.cluster.local", "demo", "10.96.0.1", "fd96::1");
    add_service(draft, "web.other.svc.cluster.local", "other", "10.96.0.2", NULL);
    add_service(draft, "api.example.com", "demo", "240.240.0.1", NULL);
    add_service(draft, "*.wild.example.com", "demo", "240.240.0.2", NULL);
    add_service(draft, "novip.example.com", "demo", NULL, NULL);
    add_headless(draft, pods);
    for (int i = 0; i < 3; i++) {
        leaf_unref(pods[i]);
    }
    snapshot_publish(draft);
}

static void mesh_down(void) {
    snapshot_thread_unregister();
    snapshot_fini();
    assert_int_equal(leaf_count(), 0);
}

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
    mesh_up("");
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
    mesh_down();
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
    struct workload workload = {.local = &local};
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

// A real pod.

struct bed {
    struct netlab lab;
    struct blk_pool pool;
    struct loop loop;
    struct inpod *inpod;
    struct pod *pod;
    struct addr servers[2];
    uint32_t n_servers;
    struct dns_proxy *dns;
    int server_udp, server_tcp; // beside the pod
    int n_udp, n_tcp; // queries that the server got
    bool is_closed;
};

enum { MARK = 0x539 };

static void on_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets) {
    struct bed *bed = arg;
    struct dns_proxy_config config = {
        .servers = bed->servers, .n_servers = bed->n_servers, .mark = MARK};
    bed->pod = pod_ref(pod);
    bed->dns = dns_proxy_new(&bed->loop, pod, &sets[0], &config);
    assert_int_equal(sets[0].dns_udp[0], -1);
    pod_sockets_close(&sets[0]);
}

static void on_down(void *arg, struct pod *pod, enum pod_down_reason reason) {
}

// The server answers from one buffer: the query with QR set and one address, or (name "tc...") TC.
// It keeps silent over UDP for "slow..." and sends a wrong answer first for "spoof...".
static size_t serve(uint8_t *message, size_t len, bool is_tcp) {
    struct dns_query query;
    assert_int_not_equal(dns_query_parse(slice_make(message, len), &query), DNS_QUERY_IGNORE);
    message[2] |= 0x80;
    if (strncmp(query.name, "tc", 2) == 0 && !is_tcp) {
        message[2] |= 2;
        return len;
    }
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7};
    message[7] = 1;
    message[11] = 0;
    size_t end = DNS_HEADER_LEN + query.question.len;
    memcpy(message + end, record, sizeof(record));
    return end + sizeof(record);
}

static void serve_udp(struct bed *bed) {
    uint8_t message[2048];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t n =
        recvfrom(bed->server_udp, message, 1024, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    if (n <= 0) {
        return;
    }
    bed->n_udp++;
    bool is_spoof = memcmp(message + 13, "spoof", 5) == 0;
    if (memcmp(message + 13, "slow", 4) == 0) {
        return;
    }
    size_t len = serve(message, (size_t)n, false);
    if (is_spoof) {
        message[13] ^= 1;
        sendto(bed->server_udp, message, len, 0, (struct sockaddr *)&from, from_len);
        message[13] ^= 1;
        message[0] ^= 1;
        sendto(bed->server_udp, message, len, 0, (struct sockaddr *)&from, from_len);
        message[0] ^= 1;
    }
    assert_int_equal(sendto(bed->server_udp, message, len, 0, (struct sockaddr *)&from, from_len),
                     len);
}

static void serve_tcp(struct bed *bed) {
    int fd = accept4(bed->server_tcp, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    bed->n_tcp++;
    uint8_t message[2048];
    for (int i = 0; i < 2000 && recv(fd, message, 1, MSG_PEEK | MSG_DONTWAIT) < 1; i++) {
        loop_turn(&bed->loop, false);
        usleep(500);
    }
    assert_int_equal(recv(fd, message, 2, MSG_WAITALL), 2);
    size_t len = (size_t)(message[0] << 8 | message[1]);
    assert_int_equal(recv(fd, message + 2, len, MSG_WAITALL), len);
    len = serve(message + 2, len, true);
    message[0] = (uint8_t)(len >> 8);
    message[1] = (uint8_t)len;
    for (size_t i = 0; i < len + 2; i++) { // byte by byte
        assert_int_equal(send(fd, message + i, 1, MSG_NOSIGNAL), 1);
    }
    close(fd);
}

static void turn(struct bed *bed) {
    loop_turn(&bed->loop, false);
    serve_udp(bed);
    serve_tcp(bed);
    usleep(500);
}

static void bed_up(struct bed *bed, int families, uint32_t n_servers) {
    *bed = (struct bed){.n_servers = n_servers};
    netlab_up(&bed->lab, families);
    const char *server = families == NETLAB_V6 ? "fd99::2" : "10.99.0.2";
    bed->servers[0] = netlab_addr(server, 53);
    bed->servers[1] = bed->servers[0];
    bed->server_udp = netlab_udp(bed->lab.peer, server, 53, 0);
    bed->server_tcp = netlab_listen(bed->lab.peer, server, 53, 0);
    assert_int_equal(fcntl(bed->server_tcp, F_SETFL, O_NONBLOCK), 0);
    mesh_up(bed->lab.pod_name);
    char error[URING_ERROR_MAX];
    struct io *io;
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&(struct uring_options){0}, &bed->pool, error, &io), 0);
    loop_init(&bed->loop, io, &bed->pool, NULL);
    struct inpod_config config = {
        .loop = &bed->loop,
        .n_workers = 1,
        .outbound_port = 15001,
        .inbound_port = 15006,
        .hbone_port = 15008,
        .dns_port = 15053,
        .mark = MARK,
        .dns_capture = true,
        .redirect = true,
        .ipv6 = true,
        .original_source = -1,
        .on_up = on_up,
        .on_down = on_down,
        .arg = bed,
    };
    bed->inpod = inpod_new(&config);
    inpod_want(bed->inpod, snapshot_workload_by_uid(snapshot_current(), "c//Pod/demo/client"));
    struct inpod_status status = {0};
    for (int i = 0; i < 4000 && status.n_active == 0; i++) {
        turn(bed);
        inpod_get_status(bed->inpod, &status);
    }
    assert_int_equal(status.n_active, 1);
}

static void on_closed(void *arg) {
    ((struct bed *)arg)->is_closed = true;
}

static void bed_down(struct bed *bed) {
    if (bed->dns != NULL) {
        dns_proxy_close(bed->dns, on_closed, bed);
        for (int i = 0; i < 4000 && !bed->is_closed; i++) {
            turn(bed);
        }
        assert_true(bed->is_closed);
    }
    inpod_free(bed->inpod);
    pod_unref(bed->pod);
    loop_turn(&bed->loop, false);
    loop_fini(&bed->loop);
    bed->loop.io->ops->free(bed->loop.io);
    blk_pool_fini(&bed->pool);
    close(bed->server_udp);
    close(bed->server_tcp);
    netlab_down(&bed->lab);
    mesh_down();
}

static size_t make_query(uint8_t *out, uint16_t id, const char *name, uint16_t type) {
    struct buf buf;
    buf_init(&buf, 512);
    buf_put_u16(&buf, id);
    buf_put_u16(&buf, 0x0100);
    buf_put_u16(&buf, 1);
    buf_put_u32(&buf, 0);
    buf_put_u16(&buf, 1);
    struct slice rest = slice_str(name);
    while (rest.len > 0) {
        struct slice label = rest;
        if (!slice_split(rest, '.', &label, &rest)) {
            rest = slice_skip(rest, rest.len);
        }
        buf_put_u8(&buf, (uint8_t)label.len);
        buf_append(&buf, label);
    }
    buf_put_u8(&buf, 0);
    buf_put_u16(&buf, type);
    buf_put_u16(&buf, DNS_IN);
    buf_append(&buf, slice_make("\0\0\x29\x04\xd0\0\0\0\0\0\0", 11)); // OPT, 1232 bytes
    size_t len = buf.len;
    memcpy(out, buf.ptr, len);
    buf_fini(&buf);
    return len;
}

static void send_query(struct bed *bed, int client, uint16_t id, const char *name, uint16_t type) {
    uint8_t message[512];
    size_t len = make_query(message, id, name, type);
    struct sockaddr_storage sa;
    struct addr server = bed->servers[0];
    socklen_t sa_len = addr_to_sockaddr(&server, server.ip.family == 6, &sa);
    assert_int_equal(sendto(client, message, len, 0, (struct sockaddr *)&sa, sa_len), len);
}

struct reply {
    uint8_t message[4096];
    size_t len;
    int rcode, n_answers;
};

// The next answer to come, which must come from the server that was asked.
static void get_reply(struct bed *bed, int client, unsigned limit_ms, struct reply *ret) {
    for (unsigned i = 0; i < 2 * limit_ms; i++) {
        turn(bed);
        struct sockaddr_storage sa;
        socklen_t sa_len = sizeof(sa);
        ssize_t n = recvfrom(client, ret->message, sizeof(ret->message), MSG_DONTWAIT,
                             (struct sockaddr *)&sa, &sa_len);
        if (n > 0) {
            struct addr from;
            assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &from));
            assert_true(addr_eq(&from, &bed->servers[0]));
            ret->len = (size_t)n;
            ret->rcode = ret->message[3] & 15;
            ret->n_answers = ret->message[7];
            return;
        }
    }
    fail_msg("no answer");
}

static void ask(struct bed *bed, const char *name, uint16_t type, struct reply *ret) {
    static uint16_t id = 700;
    struct addr any = {.ip = bed->servers[0].ip};
    char text[IP_TEXT_MAX];
    int client = netlab_udp(bed->lab.pod, ip_text(&any.ip, text), 0, 0);
    send_query(bed, client, ++id, name, type);
    get_reply(bed, client, 6000, ret);
    assert_int_equal(ret->message[0] << 8 | ret->message[1], id);
    close(client);
}

static void run_udp(int families) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, families, 1);
    ask(&bed, "Web.demo.svc.cluster.local", DNS_A, &r);
    assert_int_equal(r.rcode, 0);
    assert_int_equal(r.n_answers, 1);
    assert_memory_equal(r.message + r.len - 11 - 4, "\x0a\x60\0\x01", 4);
    assert_memory_equal(r.message + r.len - 11 - 10, "\0\0\0\x1e", 4); // TTL 30
    assert_int_equal(r.message[2] & 4, 4); // authoritative
    ask(&bed, "web.other", DNS_AAAA, &r); // known, but not in this family
    assert_int_equal(r.rcode + r.n_answers, 0);
    ask(&bed, "api.example.com.demo.svc.cluster.local", DNS_A, &r);
    assert_int_equal(r.n_answers, 2);
    assert_int_equal(bed.n_udp, 0);
    ask(&bed, "web.demo.svc.cluster.local", DNS_TXT, &r); // not ours: relayed
    assert_int_equal(bed.n_udp, 1);
    ask(&bed, "example.org", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    assert_memory_equal(r.message + r.len - 4, "\xc0\0\x02\x07", 4);
    ask(&bed, "spoof.example.org", DNS_HTTPS, &r); // wrong answers are passed over
    assert_int_equal(r.n_answers, 1);
    assert_int_equal(bed.n_udp, 3);
    ask(&bed, "tc.example.org", DNS_A, &r); // the client is told to come again over TCP
    assert_int_equal(r.message[2] & 2, 2);
    assert_true(metrics_total(METRIC_DNS_REQUESTS) >= 7);
    assert_true(metrics_total(METRIC_DNS_UPSTREAM_REQUESTS) >= 4);
    bed_down(&bed);
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

static int tcp_client(struct bed *bed) {
    char text[IP_TEXT_MAX];
    int fd = netlab_connect(bed->lab.pod, NULL, ip_text(&bed->servers[0].ip, text), 53, 0);
    assert_true(fd >= 0);
    return fd;
}

static void tcp_get(struct bed *bed, int fd, uint8_t *to, size_t len) {
    size_t got = 0;
    for (int i = 0; i < 4000 && got < len; i++) {
        turn(bed);
        ssize_t n = recv(fd, to + got, len - got, MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(got, len);
}

static void test_tcp(void **state) {
    struct bed bed;
    bed_up(&bed, NETLAB_V4, 1);
    int fd = tcp_client(&bed);
    // Several at once, one of them in pieces.
    static const char *const names[] = {"web", "tc.example.org", "web.other", "example.org"};
    uint8_t out[2048];
    size_t len = 0;
    for (uint16_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = make_query(out + len + 2, i, names[i], DNS_A);
        out[len] = 0;
        out[len + 1] = (uint8_t)n;
        len += n + 2;
    }
    assert_int_equal(send(fd, out, len - 20, 0), len - 20);
    for (int i = 0; i < 50; i++) {
        turn(&bed);
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
        turn(&bed);
    }
    uint8_t byte;
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0); // closed after the last answer
    close(fd);
    // What is no DNS ends the connection.
    fd = tcp_client(&bed);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, 0), 16);
    ssize_t n = -1;
    for (int i = 0; i < 1000 && n < 0; i++) {
        turn(&bed);
        n = recv(fd, &byte, 1, MSG_DONTWAIT);
        n = n < 0 && errno == ECONNRESET ? 0 : n;
    }
    assert_int_equal(n, 0);
    close(fd);
    bed_down(&bed);
}

static void test_failures(void **state) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 0);
    ask(&bed, "example.org", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_non_null(memmem(r.message, r.len, "no upstream server", 18));
    ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    bed_down(&bed);
}

// A silent server is asked again, and in the end the client gets SERVFAIL before it gives up.
static void test_timeout(void **state) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 1);
    ask(&bed, "slow.example.org", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_int_equal(bed.n_udp, 2);
    assert_true(metrics_total(METRIC_DNS_UPSTREAM_FAILURES) >= 1);
    bed_down(&bed);
}

// An unreachable server costs one try.
static void test_next_server(void **state) {
    struct bed bed;
    struct reply r;
    // By hand: first a port where nobody is, then the server.
    bed_up(&bed, NETLAB_V4, 0);
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
    size_t n = make_query(message, 7, "example.org", DNS_A);
    assert_int_equal(sendto(client, message, n, 0, (struct sockaddr *)&sa, len), n);
    struct addr server = bed.servers[0];
    bed.servers[0] = local;
    get_reply(&bed, client, 1000, &r);
    bed.servers[0] = server;
    assert_int_equal(r.n_answers, 1);
    dns_proxy_close(dns, on_closed, &bed);
    while (!bed.is_closed) {
        turn(&bed);
    }
    bed.is_closed = false;
    close(client);
    bed_down(&bed);
}

// Another process's socket of the same port.
static int successor_socket(struct bed *bed) {
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
static unsigned n_of_successor(struct bed *bed, int successor, unsigned n) {
    uint8_t message[512];
    unsigned n_got = 0;
    for (unsigned i = 0; i < n; i++) {
        int client = netlab_udp(bed->lab.pod, "10.99.0.1", 0, 0);
        send_query(bed, client, (uint16_t)(1000 + i), "web", DNS_A);
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
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 1);
    int client = netlab_udp(bed.lab.pod, "10.99.0.1", 0, 0);
    int tcp = tcp_client(&bed);
    for (uint16_t i = 0; i < 10; i++) {
        send_query(&bed, client, i, "slow.example.org", DNS_A);
    }
    for (int i = 0; i < 20; i++) {
        turn(&bed);
    }
    send_query(&bed, client, 99, "web", DNS_A); // still in the queue
    enum { N = 64 };
    int successor = successor_socket(&bed);
    assert_in_range(n_of_successor(&bed, successor, N), 1, N - 1); // the kernel shares them out
    dns_proxy_close(bed.dns, on_closed, &bed);
    bed.dns = NULL;
    assert_int_equal(n_of_successor(&bed, successor, N), N);
    close(successor);
    get_reply(&bed, client, 500, &r);
    assert_int_equal(r.message[1], 99);
    for (int i = 0; i < 10; i++) {
        get_reply(&bed, client, 2000, &r);
        assert_int_equal(r.rcode, DNS_SERVFAIL);
    }
    for (int i = 0; i < 1000 && !bed.is_closed; i++) {
        turn(&bed);
    }
    assert_true(bed.is_closed);
    close(client);
    close(tcp);
    bed_down(&bed);
}

// Many queries at once: bounded, each gets some answer.
static void test_flood(void **state) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 1);
    int client = netlab_udp(bed.lab.pod, "10.99.0.1", 0, 0);
    int n_failed = 0;
    enum { N = 400 };
    int n_got = 0;
    for (uint16_t i = 0; i < N; i++) {
        send_query(&bed, client, i, "slow.example.org", DNS_A);
        if (i % 40 == 39) {
            loop_turn(&bed.loop, false);
            usleep(1000);
            loop_turn(&bed.loop, false);
        }
    }
    for (int i = 0; i < N - 256; i++, n_got++) {
        get_reply(&bed, client, 1000, &r);
        n_failed += r.rcode == DNS_SERVFAIL;
    }
    assert_int_equal(n_failed, N - 256);
    send_query(&bed, client, 999, "web", DNS_A); // the mesh's names are not affected
    get_reply(&bed, client, 1000, &r);
    assert_int_equal(r.n_answers, 1);
    close(client);
    bed_down(&bed);
}

// Another pod cannot use the proxy.
static void test_closed_to_others(void **state) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 1);
    netlab_sh("ip netns exec %s sysctl -qw net.ipv4.conf.all.route_localnet=1 "
              "net.ipv4.conf.eth0.route_localnet=1",
              bed.lab.pod_name);
    netlab_sh("ip netns exec %s sysctl -qw net.ipv4.conf.all.route_localnet=1 "
              "net.ipv4.conf.eth0.route_localnet=1 && ip -n %s addr del 127.0.0.1/8 dev lo && "
              "ip -n %s route add 127.0.0.1 via 10.99.0.1 src 10.99.0.2",
              bed.lab.peer_name, bed.lab.peer_name, bed.lab.peer_name);
    int client = netlab_udp(bed.lab.peer, "10.99.0.2", 0, 0);
    uint8_t message[512];
    size_t len = make_query(message, 5, "web", DNS_A);
    struct addr targets[] = {netlab_addr("127.0.0.1", 15053), netlab_addr("10.99.0.1", 15053)};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct sockaddr_storage sa;
        socklen_t sa_len = addr_to_sockaddr(&targets[i], false, &sa);
        (void)sendto(client, message, len, 0, (struct sockaddr *)&sa, sa_len);
        for (int k = 0; k < 100; k++) {
            turn(&bed);
        }
        assert_true(recv(client, message, sizeof(message), MSG_DONTWAIT) <= 0);
    }
    close(client);
    ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.n_answers, 1);
    bed_down(&bed);
}

// A pod that the snapshot does not know (any more).
static void test_unknown_client(void **state) {
    struct bed bed;
    struct reply r;
    bed_up(&bed, NETLAB_V4, 1);
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "c//Pod/demo/client");
    snapshot_publish(draft);
    ask(&bed, "web", DNS_A, &r);
    assert_int_equal(r.rcode, DNS_SERVFAIL);
    assert_int_equal(bed.n_udp, 0);
    bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),        cmocka_unit_test(test_upstreams),
        cmocka_unit_test(test_udp_v4),         cmocka_unit_test(test_udp_v6),
        cmocka_unit_test(test_udp_dual),       cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_failures),       cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_next_server),    cmocka_unit_test(test_close),
        cmocka_unit_test(test_flood),          cmocka_unit_test(test_closed_to_others),
        cmocka_unit_test(test_unknown_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
