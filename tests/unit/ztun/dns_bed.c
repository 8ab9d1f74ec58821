// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/ztun/dns_bed.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/obs/metrics.h"
#include "common/proto/dns_msg.h"
#include "common/rt/netns.h"
#include "common/rt/uring.h"
#include "tests/unit/ztun/netlab.h"
#include "ztun/dns_proxy.h"
#include "ztun/dns_upstream.h"
#include "ztun/inpod.h"

static struct workload *add_workload(struct snapshot *draft, const char *name, const char *netns) {
    static const char *const search[] = {"corp.example", NULL};
    char key[64];
    snprintf(key, sizeof(key), "c//Pod/demo/%s", name);
    struct workload_local local = {.netns = netns, .dns_search = search};
    struct workload_common common = {
        .ns = "demo",
        .local = &local,
        .canonical_name = name,
        .canonical_revision = "v1",
    };
    struct workload spec = {.leaf.key = slice_str(key), .name = name, .common = &common};
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

void dns_mesh_up(const char *netns) {
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

void dns_mesh_down(void) {
    snapshot_thread_unregister();
    snapshot_fini();
    assert_int_equal(leaf_count(), 0);
}

static void on_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets) {
    struct dns_bed *bed = arg;
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

static void serve_udp(struct dns_bed *bed) {
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

static void serve_tcp(struct dns_bed *bed) {
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

void dns_bed_turn(struct dns_bed *bed) {
    loop_turn(&bed->loop, false);
    serve_udp(bed);
    serve_tcp(bed);
    usleep(500);
}

void dns_bed_up(struct dns_bed *bed, int families, uint32_t n_servers) {
    *bed = (struct dns_bed){.n_servers = n_servers};
    netlab_up(&bed->lab, families);
    const char *server = families == NETLAB_V6 ? "fd99::2" : "10.99.0.2";
    bed->servers[0] = netlab_addr(server, 53);
    bed->servers[1] = bed->servers[0];
    bed->server_udp = netlab_udp(bed->lab.peer, server, 53, 0);
    bed->server_tcp = netlab_listen(bed->lab.peer, server, 53, 0);
    assert_int_equal(fcntl(bed->server_tcp, F_SETFL, O_NONBLOCK), 0);
    dns_mesh_up(bed->lab.pod_name);
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
        dns_bed_turn(bed);
        inpod_get_status(bed->inpod, &status);
    }
    assert_int_equal(status.n_active, 1);
}

void dns_bed_on_closed(void *arg) {
    ((struct dns_bed *)arg)->is_closed = true;
}

void dns_bed_down(struct dns_bed *bed) {
    if (bed->dns != NULL) {
        dns_proxy_close(bed->dns, dns_bed_on_closed, bed);
        for (int i = 0; i < 4000 && !bed->is_closed; i++) {
            dns_bed_turn(bed);
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
    dns_mesh_down();
}

size_t dns_make_query(uint8_t *out, uint16_t id, const char *name, uint16_t type) {
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

void dns_send_query(struct dns_bed *bed, int client, uint16_t id, const char *name, uint16_t type) {
    uint8_t message[512];
    size_t len = dns_make_query(message, id, name, type);
    struct sockaddr_storage sa;
    struct addr server = bed->servers[0];
    socklen_t sa_len = addr_to_sockaddr(&server, server.ip.family == 6, &sa);
    assert_int_equal(sendto(client, message, len, 0, (struct sockaddr *)&sa, sa_len), len);
}

void dns_get_reply(struct dns_bed *bed, int client, unsigned limit_ms, struct dns_reply *ret) {
    for (unsigned i = 0; i < 2 * limit_ms; i++) {
        dns_bed_turn(bed);
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

void dns_ask(struct dns_bed *bed, const char *name, uint16_t type, struct dns_reply *ret) {
    static uint16_t id = 700;
    struct addr any = {.ip = bed->servers[0].ip};
    char text[IP_TEXT_MAX];
    int client = netlab_udp(bed->lab.pod, ip_text(&any.ip, text), 0, 0);
    dns_send_query(bed, client, ++id, name, type);
    dns_get_reply(bed, client, 6000, ret);
    assert_int_equal(ret->message[0] << 8 | ret->message[1], id);
    close(client);
}

int dns_tcp_client(struct dns_bed *bed) {
    char text[IP_TEXT_MAX];
    int fd = netlab_connect(bed->lab.pod, NULL, ip_text(&bed->servers[0].ip, text), 53, 0);
    assert_true(fd >= 0);
    return fd;
}
