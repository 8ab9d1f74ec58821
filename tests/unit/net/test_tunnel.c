// SPDX-License-Identifier: Apache-2.0
//
// Tunnels end to end in one loop: integrity both ways, half-close, resets, refusals, pooling,
// drain.
#include <errno.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/rand.h"
#include "tests/unit/net/mesh_bed.h"

// ---- applications: blocking sockets on threads --------------------------------------------------

struct app {
    struct bed *bed;
    int listen_fd;
    pthread_t server, client;
    size_t n_up, n_down; // bytes client -> server, server -> client
    bool done, client_done, server_resets, client_resets;
    uint64_t up_sum, down_sum, up_seen, down_seen; // order-sensitive checksums
    bool client_saw_reset, client_saw_eof, server_saw_reset, server_saw_eof;
    uint32_t n_conns;
};

static uint64_t mix(uint64_t sum, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    }
    return sum;
}

static void send_random(int fd, size_t n, uint64_t seed, uint64_t *ret_sum) {
    struct rand rand;
    rand_seed(&rand, seed);
    uint8_t buf[70000];
    uint64_t sum = 1;
    while (n > 0) {
        size_t len = (size_t)rand_range(&rand, 1, rand_chance(&rand, 1, 2) ? 300 : sizeof(buf));
        len = len < n ? len : n;
        rand_bytes(&rand, buf, len);
        sum = mix(sum, buf, len);
        size_t off = 0;
        while (off < len) {
            ssize_t sent = send(fd, buf + off, len - off, MSG_NOSIGNAL);
            if (sent <= 0) {
                *ret_sum = 0;
                return;
            }
            off += (size_t)sent;
        }
        n -= len;
    }
    *ret_sum = sum;
}

// Reads to the end; returns the checksum, sets how it ended.
static uint64_t recv_all(int fd, bool *ret_eof, bool *ret_reset) {
    uint8_t buf[65536];
    uint64_t sum = 1;
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n <= 0) {
            *ret_eof = n == 0;
            *ret_reset = n < 0;
            return sum;
        }
        sum = mix(sum, buf, (size_t)n);
    }
}

static void set_reset(int fd) {
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

// Both applications have seen the end: the loop may stop.
static void finish(struct app *app) {
    if (__atomic_exchange_n(&app->client_done, true, __ATOMIC_ACQ_REL)) {
        __atomic_store_n(&app->done, true, __ATOMIC_RELEASE);
    }
}

struct sender {
    int fd;
    size_t n;
    uint64_t seed, sum;
    bool saw_reset; // told to one call only: who receives gets the end of the stream
};

static void *run_sender(void *arg) {
    struct sender *sender = arg;
    send_random(sender->fd, sender->n, sender->seed, &sender->sum);
    sender->saw_reset = sender->sum == 0 && errno == ECONNRESET;
    shutdown(sender->fd, SHUT_WR);
    return NULL;
}

static void *run_server(void *arg) {
    struct app *app = arg;
    for (uint32_t i = 0; i < app->n_conns; i++) {
        int fd = accept(app->listen_fd, NULL, NULL);
        if (fd < 0) {
            break;
        }
        if (app->server_resets) {
            char byte;
            (void)!recv(fd, &byte, 1, 0);
            set_reset(fd);
            close(fd);
            continue;
        }
        struct sender sender = {.fd = fd, .n = app->n_down, .seed = 7};
        pthread_t thread;
        pthread_create(&thread, NULL, run_sender, &sender);
        app->up_seen = recv_all(fd, &app->server_saw_eof, &app->server_saw_reset);
        pthread_join(thread, NULL);
        app->down_sum = sender.sum;
        close(fd);
    }
    finish(app);
    return NULL;
}

static int dial_bed(struct bed *bed) {
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&bed->out_addr, false, &sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    struct timeval timeout = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return fd;
}

static void *run_client(void *arg) {
    struct app *app = arg;
    for (uint32_t i = 0; i < app->n_conns; i++) {
        int fd = dial_bed(app->bed);
        if (app->client_resets) {
            (void)!send(fd, "x", 1, MSG_NOSIGNAL);
            usleep(50000);
            set_reset(fd);
            close(fd);
            continue;
        }
        struct sender sender = {.fd = fd, .n = app->n_up, .seed = 3};
        pthread_t thread;
        pthread_create(&thread, NULL, run_sender, &sender);
        app->down_seen = recv_all(fd, &app->client_saw_eof, &app->client_saw_reset);
        pthread_join(thread, NULL);
        app->client_saw_reset = app->client_saw_reset || sender.saw_reset;
        app->up_sum = sender.sum;
        close(fd);
    }
    finish(app);
    return NULL;
}

static void app_listen(struct app *app, struct bed *bed) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    app->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(app->listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(app->listen_fd, 16), 0);
    socklen_t len = sizeof(sa);
    getsockname(app->listen_fd, (struct sockaddr *)&sa, &len);
    struct addr addr;
    assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &addr));
    bed_init(bed, &addr);
    app->bed = bed;
}

static void app_start(struct app *app, struct bed *bed) {
    app_listen(app, bed);
    pthread_create(&app->server, NULL, run_server, app);
    pthread_create(&app->client, NULL, run_client, app);
}

static void app_stop(struct app *app) {
    shutdown(app->listen_fd, SHUT_RDWR);
    pthread_join(app->client, NULL);
    pthread_join(app->server, NULL);
    close(app->listen_fd);
}

static void run_app(struct app *app, struct bed *bed) {
    app_start(app, bed);
    bed_run_until(bed, &app->done, 60000);
    app_stop(app);
}

// ---- tests --------------------------------------------------------------------------------------

static void test_bulk_both_ways(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.n_up = 30000000, .n_down = 20000000, .n_conns = 1};
    run_app(&app, &bed);
    assert_true(app.server_saw_eof && app.client_saw_eof);
    assert_int_equal(app.up_sum, app.up_seen);
    assert_int_equal(app.down_sum, app.down_seen);
    assert_int_equal(bed.last_end, FLOW_OK);
    bed_fini(&bed);
}

static void test_half_close(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{0, 0}, {1, 0}, {0, 1}, {0, 3000000}, {3000000, 0}, {5, 5}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct bed bed;
        struct app app = {.n_up = sizes[i][0], .n_down = sizes[i][1], .n_conns = 1};
        run_app(&app, &bed);
        assert_true(app.server_saw_eof && app.client_saw_eof);
        assert_int_equal(app.up_sum, app.up_seen);
        assert_int_equal(app.down_sum, app.down_seen);
        bed_fini(&bed);
    }
}

static void test_pooled(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.n_up = 1000, .n_down = 2000, .n_conns = 50};
    run_app(&app, &bed);
    assert_int_equal(bed.n_opened, 50);
    assert_int_equal(bed.client.stats.n_opened, 1); // one tunnel served them all
    assert_int_equal(app.down_sum, app.down_seen);
    bed_fini(&bed);
}

static struct tcp_info tcp_info_of(struct hbone_server *server) {
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    LIST_EACH(node, &server->tunnels) {
        int fd = LIST_ITEM(node, struct hbone_tunnel, node)->drv.tl.link.fd;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    }
    return info;
}

// The client's last flight goes with its SETTINGS and CONNECT, the server's SETTINGS with its 200.
// A hello with its key share of 1.2 KB, and the server's flight, are two segments each (link.h).
static void test_sends_of_a_new_tunnel(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {0};
    app_listen(&app, &bed);
    int fd = dial_bed(&bed);
    assert_int_equal(send(fd, "first", 5, 0), 5);
    // Hello; Finished, SETTINGS, CONNECT; SETTINGS ACK with what the application has said by then.
    for (int i = 0; i < 10000 && tcp_info_of(&bed.server).tcpi_data_segs_in < 4; i++) {
        loop_turn(&bed.loop, i % 16 == 0);
    }
    assert_int_equal(bed.n_opened, 1);
    int server = accept(app.listen_fd, NULL, NULL);
    char bytes[8];
    for (int i = 0; i < 10000 && recv(server, bytes, 5, MSG_PEEK | MSG_DONTWAIT) < 5; i++) {
        loop_turn(&bed.loop, i % 16 == 0);
    }
    assert_int_equal(recv(server, bytes, sizeof(bytes), MSG_DONTWAIT), 5);
    close(server);
    assert_int_equal(tcp_info_of(&bed.server).tcpi_data_segs_in, 4);
    assert_int_equal(tcp_info_of(&bed.server).tcpi_data_segs_out, 3);
    close(fd);
    close(app.listen_fd);
    bed_fini(&bed);
}

static struct io_ops counting_ops;
static ssize_t (*real_send_now)(struct io *io, int fd, const struct msghdr *msg, int flags);
static unsigned n_sends_now;

static ssize_t count_send_now(struct io *io, int fd, const struct msghdr *msg, int flags) {
    n_sends_now++;
    return real_send_now(io, fd, msg, flags);
}

static void carry(struct bed *bed, int from, int to) {
    char bytes[1024] = {0};
    assert_int_equal(send(from, bytes, sizeof(bytes), 0), sizeof(bytes));
    for (int i = 0; recv(to, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT) < 0; i++) {
        assert_true(i < 1000000 && errno == EAGAIN);
        loop_turn(&bed->loop, false);
    }
    assert_int_equal(recv(to, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
}

// Requests and answers leave with the wait for what comes next, towards the applications too.
static void test_small_messages_are_silent(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {0};
    app_listen(&app, &bed);
    int client = dial_bed(&bed);
    for (int i = 0; i < 100000 && bed.n_opened == 0; i++) {
        loop_turn(&bed.loop, false);
    }
    int server = accept(app.listen_fd, NULL, NULL);
    carry(&bed, client, server);
    counting_ops = *bed.io->ops;
    real_send_now = counting_ops.send_now;
    counting_ops.send_now = count_send_now;
    bed.io->ops = &counting_ops;
    n_sends_now = 0;
    enum { N = 40 };
    for (int i = 0; i < N; i++) {
        carry(&bed, client, server);
        carry(&bed, server, client);
    }
    // But for those with a window update in between.
    assert_in_range(n_sends_now, 0, 4);
    close(client);
    close(server);
    close(app.listen_fd);
    bed_fini(&bed);
}

static void test_server_reset(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.n_up = 100000, .server_resets = true, .n_conns = 1};
    run_app(&app, &bed);
    assert_true(app.client_saw_reset); // never a FIN for a cut flow
    assert_int_not_equal(bed.last_end, FLOW_OK);
    bed_fini(&bed);
}

static void test_client_reset(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.client_resets = true, .n_down = 100, .n_conns = 1};
    run_app(&app, &bed);
    assert_true(app.server_saw_reset);
    assert_int_equal(bed.last_end, FLOW_DOWNSTREAM_RESET);
    bed_fini(&bed);
}

static void refused_with(uint16_t status) {
    struct bed bed;
    struct app app = {.n_up = 10, .n_conns = 1};
    app_start(&app, &bed);
    bed.refuse_status = status;
    bed_run_until(&bed, &app.client_done, 10000);
    app_stop(&app);
    assert_int_equal(bed.last_status, status);
    assert_int_equal(bed.last_fail, FLOW_CONNECT_REFUSED);
    assert_true(app.client_saw_reset);
    bed_fini(&bed);
}

static void test_refused(void **state) {
    (void)state;
    refused_with(401);
    refused_with(503);
}

static void test_wrong_identity(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.n_up = 10, .n_conns = 1};
    app_start(&app, &bed);
    bed.expected_san = SLICE_LIT("spiffe://cluster.local/ns/b/sa/other");
    bed_run_until(&bed, &app.client_done, 10000);
    app_stop(&app);
    assert_int_equal(bed.last_fail, FLOW_TLS_FAILURE);
    bed_fini(&bed);
}

// A tunnel that is drained takes no new stream; the next connection gets another tunnel.
static void test_drain(void **state) {
    (void)state;
    struct bed bed;
    struct app app = {.n_up = 1000, .n_down = 1000, .n_conns = 1};
    run_app(&app, &bed);
    bed_drain_servers(&bed);
    bool never = false;
    uint64_t end = clock_mono_ns() + 100 * NS_PER_MS;
    while (!never && clock_mono_ns() < end) {
        loop_turn(&bed.loop, false);
    }
    assert_int_equal(bed.n_server_tunnels, 0);
    assert_int_equal(hbone_client_n_tunnels(&bed.client), 0);
    bed_fini(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sends_of_a_new_tunnel),
        cmocka_unit_test(test_small_messages_are_silent),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_bulk_both_ways),
        cmocka_unit_test(test_pooled),
        cmocka_unit_test(test_server_reset),
        cmocka_unit_test(test_client_reset),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wrong_identity),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
