// SPDX-License-Identifier: Apache-2.0
//
// dial and listener on io_uring and on the simulator: refused, timed out, cancelled; back-off,
// pause, close with and without adoption, running out of descriptors.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/rt/dial.h"
#include "common/rt/listener.h"
#include "common/rt/sock.h"
#include "tests/unit/rt/bed.h"

static const enum bed_kind kinds[] = {BED_URING, BED_URING_PLAIN, BED_EPOLL, BED_FAKE_CALM};

struct dialled {
    bool is_done;
    int res;
};

static void on_dialled(void *arg, int res) {
    struct dialled *dialled = arg;
    assert_false(dialled->is_done);
    dialled->is_done = true;
    dialled->res = res;
}

struct server {
    struct listener listener;
    struct bed *bed;
    struct addr addr;
    int fds[256];
    int n_fds;
    int n_errors, last_error;
    bool is_closed;
};

static void on_accept(struct listener *listener, int fd) {
    struct server *server = CONTAINER_OF(listener, struct server, listener);
    assert_false(server->is_closed);
    server->fds[server->n_fds++] = fd;
}

static void on_listen_error(struct listener *listener, int err) {
    struct server *server = CONTAINER_OF(listener, struct server, listener);
    server->n_errors++;
    server->last_error = err;
}

static void on_listener_closed(struct listener *listener) {
    struct server *server = CONTAINER_OF(listener, struct server, listener);
    assert_false(server->is_closed);
    server->is_closed = true;
}

static const struct listener_handler listener_handler = {
    .on_accept = on_accept,
    .on_error = on_listen_error,
    .on_closed = on_listener_closed,
};

// A listening fd on some loopback port.
static int make_listen_fd(struct bed *bed, int backlog, struct addr *ret_addr) {
    struct sock_listen_params params = {.netns_fd = -1, .backlog = backlog};
    assert_true(addr_parse(SLICE_LIT("127.0.0.1:0"), &params.bind));
    int fd;
    if (bed_is_fake(bed)) {
        params.bind.port = 8080;
        fd = fake_listen(bed->net, -1, &params.bind);
        *ret_addr = params.bind;
    } else {
        fd = sock_listen(&params);
        assert_int_equal(sock_local_addr(fd, ret_addr), 0);
    }
    assert_true(fd >= 0);
    return fd;
}

static void server_init(struct server *server, struct bed *bed) {
    *server = (struct server){.bed = bed};
    int fd = make_listen_fd(bed, 0, &server->addr);
    listener_init(&server->listener, &bed->loop, fd, &listener_handler);
}

static void server_close(struct server *server, bool adopt) {
    if (!server->is_closed) {
        listener_close(&server->listener, adopt);
        bed_run(server->bed, &server->is_closed, 5);
    }
    for (int i = 0; i < server->n_fds; i++) {
        server->bed->io->ops->close(server->bed->io, server->fds[i], false);
    }
    server->n_fds = 0;
}

static struct dial *dial_to(struct bed *bed, const struct addr *addr, unsigned timeout_ms,
                            struct dialled *dialled) {
    struct io_socket_params params = {.netns_fd = -1, .family = addr->ip.family};
    *dialled = (struct dialled){0};
    return dial_start(&bed->loop, &params, addr, timeout_ms * NS_PER_MS, on_dialled, dialled);
}

static void test_dial(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        struct server server;
        server_init(&server, &bed);
        struct dialled dialled[20];
        for (int i = 0; i < 20; i++) {
            dial_to(&bed, &server.addr, 1000, &dialled[i]);
            assert_false(dialled[i].is_done); // never from inside
        }
        for (int i = 0; i < 20; i++) {
            bed_run(&bed, &dialled[i].is_done, 5);
            assert_true(dialled[i].res >= 0);
        }
        bed_run_ms(&bed, 5);
        assert_int_equal(server.n_fds, 20);
        struct addr local, peer;
        struct io *io = bed.io;
        assert_int_equal(io->ops->local_addr(io, dialled[0].res, &local), 0);
        assert_int_equal(io->ops->peer_addr(io, dialled[0].res, &peer), 0);
        assert_true(addr_eq(&peer, &server.addr));
        bool is_found = false;
        for (int i = 0; i < server.n_fds; i++) {
            assert_int_equal(io->ops->peer_addr(io, server.fds[i], &peer), 0);
            is_found = is_found || addr_eq(&peer, &local);
            struct addr dst;
            assert_int_equal(io->ops->original_dst(io, server.fds[i], &dst), 0);
            assert_true(addr_eq(&dst, &server.addr)); // nothing was redirected
        }
        assert_true(is_found);
        for (int i = 0; i < 20; i++) {
            io->ops->close(io, dialled[i].res, false);
        }
        server_close(&server, false);
        bed_fini(&bed);
    }
}

static void test_dial_refused(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        struct addr addr;
        int fd = make_listen_fd(&bed, 0, &addr);
        bed.io->ops->close(bed.io, fd, false);
        struct dialled dialled;
        dial_to(&bed, &addr, 1000, &dialled);
        bed_run(&bed, &dialled.is_done, 5);
        assert_int_equal(dialled.res, -ECONNREFUSED);

        // A socket that cannot be made is told by the callback too.
        if (!bed_is_fake(&bed)) {
            struct io_socket_params params = {.netns_fd = -1, .family = 4};
            assert_true(addr_parse(SLICE_LIT("192.0.2.77:0"), &params.bind)); // not ours
            dialled = (struct dialled){0};
            dial_start(&bed.loop, &params, &addr, NS_PER_SEC, on_dialled, &dialled);
            assert_false(dialled.is_done);
            bed_run(&bed, &dialled.is_done, 5);
            assert_int_equal(dialled.res, -EADDRNOTAVAIL);
        }
        bed_fini(&bed);
    }
}

// An address that answers no SYN: a listener whose queue is full.
struct deaf {
    int listen_fd;
    int fillers[4];
    struct addr addr;
};

static void deaf_init(struct deaf *deaf, struct bed *bed) {
    if (bed_is_fake(bed)) {
        assert_true(addr_parse(SLICE_LIT("10.0.0.1:80"), &deaf->addr));
        fake_set_dst(bed->net, &deaf->addr, FAKE_DST_BLACKHOLE);
        return;
    }
    struct sock_listen_params params = {.netns_fd = -1, .backlog = 1};
    assert_true(addr_parse(SLICE_LIT("127.0.0.1:0"), &params.bind));
    deaf->listen_fd = sock_listen(&params);
    assert_int_equal(sock_local_addr(deaf->listen_fd, &deaf->addr), 0);
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&deaf->addr, false, &sa);
    for (size_t i = 0; i < ARRAY_LEN(deaf->fillers); i++) {
        deaf->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(deaf->fillers[i], (struct sockaddr *)&sa, len);
    }
    usleep(20000);
}

static void deaf_fini(struct deaf *deaf, struct bed *bed) {
    if (!bed_is_fake(bed)) {
        close(deaf->listen_fd);
        for (size_t i = 0; i < ARRAY_LEN(deaf->fillers); i++) {
            close(deaf->fillers[i]);
        }
    }
}

static void test_dial_timeout(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        struct deaf deaf;
        deaf_init(&deaf, &bed);
        struct dialled dialled;
        uint64_t start = bed.loop.now;
        dial_to(&bed, &deaf.addr, 100, &dialled);
        bed_run(&bed, &dialled.is_done, 5);
        assert_int_equal(dialled.res, -ETIMEDOUT);
        assert_true(bed.loop.now - start >= 100 * NS_PER_MS);
        assert_true(bed.loop.now - start < 2 * NS_PER_SEC);
        deaf_fini(&deaf, &bed);
        bed_fini(&bed);
    }
}

static void test_dial_cancel(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        struct server server;
        server_init(&server, &bed);
        struct deaf deaf;
        deaf_init(&deaf, &bed);
        struct dialled dialled[3];
        // Under way; about to succeed; failed before it began.
        struct dial *dial = dial_to(&bed, &deaf.addr, 1000, &dialled[0]);
        bed_run_ms(&bed, 5);
        dial_cancel(dial);
        dial = dial_to(&bed, &server.addr, 1000, &dialled[1]);
        dial_cancel(dial);
        if (!bed_is_fake(&bed)) {
            struct io_socket_params params = {.netns_fd = -1, .family = 4};
            assert_true(addr_parse(SLICE_LIT("192.0.2.77:0"), &params.bind));
            dialled[2] = (struct dialled){0};
            dial_cancel(dial_start(&bed.loop, &params, &server.addr, NS_PER_SEC, on_dialled,
                                   &dialled[2]));
        }
        bed_run_ms(&bed, 20);
        assert_false(dialled[0].is_done || dialled[1].is_done);
        assert_int_equal(bed.io->n_ops, 1); // the listener's
        server_close(&server, false);
        deaf_fini(&deaf, &bed);
        bed_fini(&bed);
    }
}

// ---- Listener ----

static int connect_now(struct bed *bed, const struct addr *addr) {
    if (bed_is_fake(bed)) {
        return fake_dial(bed->net, -1, NULL, addr);
    }
    struct io_socket_params params = {.netns_fd = -1, .family = addr->ip.family};
    int fd = sock_stream(&params);
    assert_true(fd >= 0);
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(addr, false, &sa);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

// What a client sees: 0 = still open or EOF, else -errno.
static int client_state(struct bed *bed, int fd) {
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    ssize_t n = bed->io->ops->recv_now(bed->io, fd, &iov, 1);
    return n == -EAGAIN || n >= 0 ? 0 : (int)n;
}

static void test_pause(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        struct server server;
        server_init(&server, &bed);
        bed_run_ms(&bed, 2);
        listener_pause(&server.listener, true);
        bed_run_ms(&bed, 2);
        int client = connect_now(&bed, &server.addr);
        bed_run_ms(&bed, 10);
        assert_int_equal(server.n_fds, 0);
        listener_pause(&server.listener, false);
        listener_pause(&server.listener, true);
        listener_pause(&server.listener, false);
        bed_run_ms(&bed, 10);
        assert_int_equal(server.n_fds, 1);
        bed.io->ops->close(bed.io, client, false);
        server_close(&server, false);
        bed_fini(&bed);
    }
}

static void test_close_adopts(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int adopt = 0; adopt < 2; adopt++) {
            struct bed bed;
            bed_init(&bed, kinds[k], NULL, 0);
            struct server server;
            server_init(&server, &bed);
            bed_run_ms(&bed, 2);
            listener_pause(&server.listener, true); // the first half waits in the socket's queue
            bed_run_ms(&bed, 2);
            int clients[10];
            for (int i = 0; i < 10; i++) {
                clients[i] = connect_now(&bed, &server.addr);
            }
            listener_close(&server.listener, adopt);
            bed_run(&bed, &server.is_closed, 5);
            assert_int_equal(server.n_fds, adopt ? 10 : 0);
            bed_run_ms(&bed, 10);
            for (int i = 0; i < 10; i++) {
                assert_int_equal(client_state(&bed, clients[i]), adopt ? 0 : -ECONNRESET);
                bed.io->ops->close(bed.io, clients[i], false);
            }
            server_close(&server, adopt);
            bed_fini(&bed);
        }
    }
}

// Closing while connections pour in: each is handed over or reset, none is forgotten.
static void test_close_race(void **state) {
    const enum bed_kind mixed[] = {BED_FAKE, BED_URING, BED_FAKE, BED_EPOLL};
    for (int round = 0; round < 80; round++) {
        struct bed bed;
        bed_init(&bed, mixed[round % 4], NULL, (uint64_t)round);
        if (bed_is_fake(&bed)) {
            fake_set_quiet(bed.net, round % 4 == 0);
        }
        struct server server;
        server_init(&server, &bed);
        bool adopt = (round & 4) != 0;
        int clients[20], n_clients = 0;
        for (int i = 0; i < 20; i++) {
            if (i == 10 + round % 10) {
                break;
            }
            int fd = connect_now(&bed, &server.addr);
            if (fd >= 0) { // the simulator may refuse
                clients[n_clients++] = fd;
            }
            if (i % 3 == 0) {
                loop_turn(&bed.loop, false);
            }
        }
        listener_close(&server.listener, adopt);
        bed_run(&bed, &server.is_closed, 5);
        bed_run_ms(&bed, 3);
        int n_reset = 0;
        for (int i = 0; i < n_clients; i++) {
            n_reset += client_state(&bed, clients[i]) != 0;
            bed.io->ops->close(bed.io, clients[i], false);
        }
        assert_int_equal(server.n_fds + n_reset, n_clients);
        assert_true(!adopt || n_reset == 0 || bed_is_fake(&bed));
        server_close(&server, adopt);
        bed_fini(&bed);
    }
}

static void run_out_of_fds(enum bed_kind kind) {
    struct bed bed;
    bed_init(&bed, kind, NULL, 0);
    struct server server;
    server_init(&server, &bed);
    listener_pause(&server.listener, true);
    bed_run_ms(&bed, 2);
    enum { N = 12, N_FREE = 4 };
    int clients[N];
    for (int i = 0; i < N; i++) {
        clients[i] = connect_now(&bed, &server.addr);
    }
    struct rlimit old, low;
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = (rlim_t)clients[N - 1] + 1 + N_FREE;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    listener_pause(&server.listener, false);
    bed_run_ms(&bed, 50);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(server.n_fds, N_FREE);
    assert_int_equal(server.last_error, -EMFILE);
    assert_true(server.n_errors >= 1 && server.n_errors <= 4); // with back-off in between
    assert_int_equal(server.listener.stats.n_refused, N - N_FREE);
    int n_reset = 0;
    for (int i = 0; i < N; i++) {
        n_reset += client_state(&bed, clients[i]) == -ECONNRESET;
        close(clients[i]);
    }
    assert_int_equal(n_reset, N - N_FREE);
    // And it goes on by itself.
    int client = connect_now(&bed, &server.addr);
    bed_run_ms(&bed, 200);
    assert_int_equal(server.n_fds, N_FREE + 1);
    close(client);
    server_close(&server, false);
    bed_fini(&bed);
}

static void test_out_of_fds(void **state) {
    run_out_of_fds(BED_URING);
    run_out_of_fds(BED_EPOLL);
}

// The simulator's own faults: EMFILE now and then, connects that are refused or get lost.
static void test_chaos(void **state) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct bed bed;
        bed_init(&bed, BED_FAKE, NULL, seed);
        struct server server;
        server_init(&server, &bed);
        struct dialled dialled[20];
        int n_ok = 0;
        for (int i = 0; i < 20; i++) {
            dial_to(&bed, &server.addr, 1000, &dialled[i]);
            loop_turn(&bed.loop, false);
        }
        for (int i = 0; i < 20; i++) {
            bed_run(&bed, &dialled[i].is_done, 5);
            if (dialled[i].res >= 0) {
                n_ok++;
                bed.io->ops->close(bed.io, dialled[i].res, false);
            } else {
                assert_true(dialled[i].res == -ECONNREFUSED || dialled[i].res == -ETIMEDOUT);
            }
        }
        fake_set_quiet(bed.net, true);
        bed_run_ms(&bed, 3000);
        assert_int_equal(server.n_fds + (int)server.listener.stats.n_refused, n_ok);
        server_close(&server, true);
        bed_fini(&bed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dial),         cmocka_unit_test(test_dial_refused),
        cmocka_unit_test(test_dial_timeout), cmocka_unit_test(test_dial_cancel),
        cmocka_unit_test(test_pause),        cmocka_unit_test(test_close_adopts),
        cmocka_unit_test(test_close_race),   cmocka_unit_test(test_out_of_fds),
        cmocka_unit_test(test_chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
