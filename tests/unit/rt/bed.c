// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/rt/bed.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/rt/epoll.h"
#include "common/rt/sock.h"

int count_fds(void) {
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    int n = 0;
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

void bed_init(struct bed *bed, enum bed_kind kind, const struct uring_options *uring,
              uint64_t seed) {
    *bed = (struct bed){.kind = kind, .n_fds = count_fds()};
    blk_pool_init(&bed->pool, 4);
    struct uring_options options = uring != NULL ? *uring : (struct uring_options){0};
    if (kind == BED_URING_PLAIN) {
        options.disable_single_issuer = true;
        options.disable_defer_taskrun = true;
        options.disable_registered_fd = true;
        options.disable_poll_first = true;
    }
    if (kind == BED_FAKE || kind == BED_FAKE_CALM) {
        struct fake_options fake =
            kind == BED_FAKE ? fake_chaos(seed) : (struct fake_options){.seed = seed};
        bed->net = fake_net_new(&fake);
        bed->io = fake_io_new(bed->net, &bed->pool);
    } else if (kind == BED_EPOLL) {
        assert_int_equal(epoll_new(options.n_buffers, &bed->pool, &bed->io), 0);
    } else {
        char error[URING_ERROR_MAX];
        int rc = uring_new(&options, &bed->pool, error, &bed->io);
        if (rc < 0) {
            fail_msg("%s", error);
        }
    }
    loop_init(&bed->loop, bed->io, &bed->pool, bed);
}

void bed_fini(struct bed *bed) {
    for (int i = 0; i < 100 && bed->io->n_ops > 0; i++) {
        loop_turn(&bed->loop, false);
    }
    assert_int_equal(bed->io->n_ops, 0);
    if (bed->net != NULL) {
        fake_print_open(bed->net, stderr);
        assert_int_equal(fake_open_fds(bed->net), 0);
    }
    assert_int_equal(bed->loop.timers.n_armed, 0);
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    fake_net_free(bed->net);
    blk_pool_fini(&bed->pool);
    assert_int_equal(count_fds(), bed->n_fds);
}

void bed_pair(struct bed *bed, int ret_fds[2]) {
    if (bed->net != NULL) {
        assert_int_equal(fake_pair(bed->net, ret_fds), 0);
        return;
    }
    struct sock_listen_params params = {.netns_fd = -1};
    assert_true(addr_parse(SLICE_LIT("127.0.0.1:0"), &params.bind));
    int listen_fd = sock_listen(&params);
    assert_true(listen_fd >= 0);
    struct addr addr;
    assert_int_equal(sock_local_addr(listen_fd, &addr), 0);
    struct io_socket_params client = {.netns_fd = -1, .family = 4};
    ret_fds[0] = sock_stream(&client);
    assert_true(ret_fds[0] >= 0);
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&addr, false, &sa);
    assert_int_equal(connect(ret_fds[0], (struct sockaddr *)&sa, len), 0);
    ret_fds[1] = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(ret_fds[1] >= 0);
    close(listen_fd);
}

static void on_time(struct timer *timer, uint64_t now) {
}

void bed_run(struct bed *bed, const bool *done, unsigned limit_s) {
    struct timer timer; // a loop that waits for ever is woken to fail
    timer_init(&timer, on_time);
    timer_set(&bed->loop.timers, &timer, bed->loop.now + limit_s * NS_PER_SEC);
    while (!*done) {
        if (!timer_is_armed(&timer)) {
            fail_msg("not done after %u s", limit_s);
        }
        loop_turn(&bed->loop, true);
    }
    timer_clear(&bed->loop.timers, &timer);
}

void bed_run_ms(struct bed *bed, unsigned ms) {
    uint64_t end = bed->loop.now + ms * NS_PER_MS;
    struct timer timer;
    timer_init(&timer, on_time);
    timer_set(&bed->loop.timers, &timer, end);
    while (timer_is_armed(&timer)) {
        loop_turn(&bed->loop, true);
    }
}
