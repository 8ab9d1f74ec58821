// SPDX-License-Identifier: Apache-2.0
// c-ares on the loop, against a small server on the loopback interface.
#include "common/net/dns_client.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/net/dns_channel.h"
#include "common/proto/dns_msg.h"
#include "common/rt/uring.h"

struct bed {
    struct blk_pool pool;
    struct loop loop;
    int udp, tcp;
    char servers[64];
    char log[4096]; // "host=ip,ip;" for each change
    uint8_t last; // of the addresses that the server gives
    bool is_silent, is_nxdomain, truncates;
    int n_queries, n_tcp;
};

static void on_change(void *arg, const char *host, const struct ip *ips, uint32_t n_ips) {
    struct bed *bed = arg;
    size_t at = strlen(bed->log);
    at += (size_t)snprintf(bed->log + at, sizeof(bed->log) - at, "%s=", host);
    for (uint32_t i = 0; i < n_ips; i++) {
        char text[IP_TEXT_MAX];
        at += (size_t)snprintf(bed->log + at, sizeof(bed->log) - at, "%s%s", i > 0 ? "," : "",
                               ip_text(&ips[i], text));
    }
    snprintf(bed->log + at, sizeof(bed->log) - at, ";");
}

// *ret_addr: the address that both sockets have. bed->tcp stays -1 when its port is taken.
static void bind_both(struct bed *bed, const struct addr *any, struct sockaddr_storage *ret_addr) {
    socklen_t len = addr_to_sockaddr(any, false, ret_addr);
    bed->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(bed->udp, (struct sockaddr *)ret_addr, len), 0);
    len = sizeof(*ret_addr);
    assert_int_equal(getsockname(bed->udp, (struct sockaddr *)ret_addr, &len), 0);
    bed->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(bed->tcp, (struct sockaddr *)ret_addr, len) < 0) {
        assert_int_equal(errno, EADDRINUSE);
        close(bed->udp);
        close(bed->tcp);
        bed->tcp = -1;
    }
}

static void bed_up(struct bed *bed) {
    *bed = (struct bed){.last = 1, .tcp = -1};
    char error[URING_ERROR_MAX];
    struct io *io;
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&(struct uring_options){0}, &bed->pool, error, &io), 0);
    loop_init(&bed->loop, io, &bed->pool, NULL);
    struct addr any = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    struct sockaddr_storage sa;
    // A port that is free for UDP may be in use for TCP.
    for (int i = 0; i < 100 && bed->tcp < 0; i++) {
        bind_both(bed, &any, &sa);
    }
    assert_true(bed->tcp >= 0);
    assert_int_equal(listen(bed->tcp, 16), 0);
    assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &any));
    snprintf(bed->servers, sizeof(bed->servers), "127.0.0.1:%u", any.port);
}

static struct dns_client *client_new(struct bed *bed, uint32_t timeout_ms) {
    struct dns_client_config config = {
        .loop = &bed->loop,
        .servers = bed->servers,
        .timeout_ms = timeout_ms,
        .tries = 2,
        .on_change = on_change,
        .arg = bed,
    };
    const char *error = "";
    struct dns_client *client = dns_client_new(&config, &error);
    assert_non_null(client);
    return client;
}

static void answer(struct bed *bed, struct slice message, bool is_tcp, struct buf *out) {
    struct dns_query query;
    assert_int_equal(dns_query_parse(message, &query), DNS_QUERY_OK);
    // Two addresses in the wrong order; the name's first letter tells them apart.
    struct ip ips[] = {
        {.family = 4, .bytes = {10, 0, (uint8_t)query.name[0], 9}},
        {.family = 4, .bytes = {10, 0, (uint8_t)query.name[0], bed->last}},
        {.family = 6, .bytes = {0xfd, [14] = (uint8_t)query.name[0], bed->last}},
    };
    bool truncates = bed->truncates && !is_tcp;
    struct dns_answer spec = {
        .rcode = bed->is_nxdomain ? DNS_NXDOMAIN : DNS_NOERROR,
        .ips = query.type == DNS_A ? ips : ips + 2,
        .n_ips = bed->is_nxdomain || truncates ? 0
                 : query.type == DNS_A         ? 2
                                               : 1,
        .ttl_s = 1,
        .ede = DNS_EDE_NONE,
    };
    dns_answer_build(&query, &spec, DNS_MESSAGE_MAX, out);
    if (truncates) {
        out->ptr[2] |= 2;
    }
}

static void serve_udp(struct bed *bed) {
    uint8_t in[1024];
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    ssize_t n;
    while ((n = recvfrom(bed->udp, in, sizeof(in), MSG_DONTWAIT, (struct sockaddr *)&from, &len)) >
           0) {
        bed->n_queries++;
        if (bed->is_silent) {
            continue;
        }
        struct buf out;
        buf_init(&out, DNS_MESSAGE_MAX);
        answer(bed, slice_make(in, (size_t)n), false, &out);
        sendto(bed->udp, out.ptr, out.len, 0, (struct sockaddr *)&from, len);
        buf_fini(&out);
    }
}

static void turn(struct bed *bed) {
    loop_turn(&bed->loop, false);
    serve_udp(bed);
    usleep(500);
}

static void serve_tcp(struct bed *bed) {
    int fd = accept4(bed->tcp, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    bed->n_tcp++;
    for (int i = 0; i < 2; i++) { // A and AAAA on one connection
        uint8_t in[1024];
        for (int k = 0; k < 1000 && recv(fd, in, 2, MSG_PEEK | MSG_DONTWAIT) < 2; k++) {
            turn(bed);
        }
        assert_int_equal(recv(fd, in, 2, MSG_DONTWAIT), 2);
        size_t len = (size_t)(in[0] << 8 | in[1]);
        assert_int_equal(recv(fd, in, len, MSG_WAITALL), len);
        struct buf out;
        buf_init(&out, DNS_MESSAGE_MAX);
        buf_put_u16(&out, 0);
        answer(bed, slice_make(in, len), true, &out);
        out.ptr[0] = (uint8_t)((out.len - 2) >> 8);
        out.ptr[1] = (uint8_t)(out.len - 2);
        assert_int_equal(send(fd, out.ptr, out.len, MSG_NOSIGNAL), out.len);
        buf_fini(&out);
    }
    for (int k = 0; k < 50; k++) {
        turn(bed);
    }
    close(fd);
}

// Turns until the log holds `wanted`.
static void expect(struct bed *bed, const char *wanted) {
    for (int i = 0; i < 16000 && strstr(bed->log, wanted) == NULL; i++) {
        turn(bed);
        serve_tcp(bed);
    }
    if (strstr(bed->log, wanted) == NULL) {
        fail_msg("'%s' lacks '%s'", bed->log, wanted);
    }
}

static void bed_down(struct bed *bed, struct dns_client *client) {
    dns_client_free(client);
    for (int i = 0; i < 100 && (i < 3 || bed->loop.io->n_ops > 0); i++) {
        turn(bed);
    }
    assert_int_equal(bed->loop.io->n_ops, 0);
    loop_fini(&bed->loop);
    bed->loop.io->ops->free(bed->loop.io);
    blk_pool_fini(&bed->pool);
    close(bed->udp);
    close(bed->tcp);
}

static void test_names(void **state) {
    struct bed bed;
    bed_up(&bed);
    struct dns_client *client = client_new(&bed, 500);
    dns_client_set_names(client, (const char *const[]){"a.example.com", "b.example.com"}, 2);
    assert_string_equal(bed.log, "");
    expect(&bed, "a.example.com=10.0.97.1,10.0.97.9,fd00::6101;");
    expect(&bed, "b.example.com=10.0.98.1,10.0.98.9,fd00::6201;");
    // The same set: nothing is asked again.
    int n = bed.n_queries;
    dns_client_set_names(client, (const char *const[]){"b.example.com", "a.example.com"}, 2);
    for (int i = 0; i < 100; i++) {
        turn(&bed);
    }
    assert_int_equal(bed.n_queries, n);
    // One goes, the other changes when its time to live (5 s at least) is over.
    dns_client_set_names(client, (const char *const[]){"a.example.com"}, 1);
    bed.last = 2;
    bed.log[0] = '\0';
    expect(&bed, "a.example.com=10.0.97.2,10.0.97.9,fd00::6102;");
    assert_null(strstr(bed.log, "b.example"));
    struct dns_client_stats stats;
    dns_client_get_stats(client, &stats);
    assert_int_equal(stats.n_names, 1);
    assert_int_equal(stats.n_lookups, 3);
    bed_down(&bed, client);
}

static void test_failures(void **state) {
    struct bed bed;
    bed_up(&bed);
    struct dns_client *client = client_new(&bed, 100);
    bed.is_silent = true;
    dns_client_set_names(client, (const char *const[]){"a.example.com"}, 1);
    struct dns_client_stats stats = {0};
    for (int i = 0; i < 4000 && stats.n_failures == 0; i++) {
        turn(&bed);
        dns_client_get_stats(client, &stats);
    }
    assert_int_equal(stats.n_failures, 1);
    assert_string_equal(bed.log, "");
    bed.is_silent = false;
    expect(&bed, "a.example.com=10.0.97.1,");
    bed_down(&bed, client);

    bed_up(&bed);
    client = client_new(&bed, 500);
    bed.is_nxdomain = true;
    dns_client_set_names(client, (const char *const[]){"a.example.com"}, 1);
    expect(&bed, "a.example.com=;");
    bed_down(&bed, client);
}

static void test_tcp(void **state) {
    struct bed bed;
    bed_up(&bed);
    bed.truncates = true;
    struct dns_client *client = client_new(&bed, 2000);
    dns_client_set_names(client, (const char *const[]){"a.example.com"}, 1);
    expect(&bed, "a.example.com=10.0.97.1,10.0.97.9,fd00::6101;");
    assert_true(bed.n_tcp >= 1);
    bed_down(&bed, client);
}

// Many names: no more than 64 look-ups at a time, all are answered; then the end while some run.
static void test_many(void **state) {
    struct bed bed;
    enum { N = 200 };
    char texts[N][32];
    const char *hosts[N];
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof(texts[i]), "n%d.example.com", i);
        hosts[i] = texts[i];
    }
    bed_up(&bed);
    struct dns_client *client = client_new(&bed, 1000);
    dns_client_set_names(client, hosts, N);
    struct dns_client_stats stats = {.n_running = 1};
    for (int i = 0; i < 4000 && (stats.n_lookups < N || stats.n_running > 0); i++) {
        turn(&bed);
        bed.log[0] = '\0';
        dns_client_get_stats(client, &stats);
        assert_true(stats.n_running <= DNS_CLIENT_RUNNING_MAX);
    }
    assert_int_equal(stats.n_lookups, N);
    assert_int_equal(stats.n_failures, 0);
    bed_down(&bed, client);

    bed_up(&bed);
    bed.is_silent = true;
    client = client_new(&bed, 1000);
    dns_client_set_names(client, hosts, N);
    for (int i = 0; i < 20; i++) {
        turn(&bed);
    }
    dns_client_set_names(client, hosts, N / 2);
    bed_down(&bed, client);
}

static void on_result(void *arg, const struct dns_result *result) {
    *(int *)arg = result->outcome;
}

// Who frees a channel while a look-up runs hears of it, and of the end of its sockets.
static void test_freed_while_it_runs(void **state) {
    struct bed bed;
    bed_up(&bed);
    bed.is_silent = true;
    uint32_t n_socks = 0;
    int outcome = -1;
    const char *error = "";
    struct dns_channel_config config = {
        .loop = &bed.loop, .servers = bed.servers, .timeout_ms = 2000, .n_socks = &n_socks};
    struct dns_channel *channel = dns_channel_new(&config, &error);
    assert_non_null(channel);
    dns_channel_look_up(channel, "a.example.com", on_result, &outcome);
    for (int i = 0; i < 2000 && bed.n_queries == 0; i++) {
        turn(&bed);
    }
    assert_true(n_socks > 0);
    dns_channel_free(channel);
    assert_int_equal(outcome, DNS_CANCELLED);
    for (int i = 0; i < 2000 && n_socks > 0; i++) {
        turn(&bed);
    }
    assert_int_equal(n_socks, 0);
    bed_down(&bed, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_freed_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
