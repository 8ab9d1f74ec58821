// SPDX-License-Identifier: Apache-2.0
//
// The io_uring back end itself: feature switches, what it says when it is forbidden, cancellation,
// its buffers.
#include "common/rt/uring.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/rt/ring_blks.h"
#include "tests/unit/rt/bed.h"

static struct uring_stats new_and_free(const struct uring_options *options) {
    int n_fds = count_fds();
    struct blk_pool pool;
    blk_pool_init(&pool, 0);
    struct io *io;
    char error[URING_ERROR_MAX];
    int rc = uring_new(options, &pool, error, &io);
    if (rc < 0) {
        fail_msg("%s", error);
    }
    struct uring_stats stats;
    uring_get_stats(io, &stats);
    io->ops->free(io);
    blk_pool_fini(&pool);
    assert_int_equal(count_fds(), n_fds);
    return stats;
}

static void test_switches(void **state) {
    struct uring_stats stats = new_and_free(&(struct uring_options){0});
    assert_true(stats.has_defer_taskrun && stats.has_single_issuer && stats.has_registered_fd);
    assert_int_equal(stats.n_buffers, 256);
    stats = new_and_free(&(struct uring_options){.disable_defer_taskrun = true});
    assert_true(!stats.has_defer_taskrun && stats.has_single_issuer);
    stats = new_and_free(&(struct uring_options){.disable_single_issuer = true});
    assert_true(!stats.has_defer_taskrun && !stats.has_single_issuer);
    stats = new_and_free(&(struct uring_options){.disable_registered_fd = true});
    assert_true(stats.has_defer_taskrun && !stats.has_registered_fd);
    stats = new_and_free(&(struct uring_options){.entries = 8, .n_buffers = 3});
    assert_int_equal(stats.n_buffers, 4);
}

// In a child whose io_uring_setup fails with `err`, as under a container's seccomp profile.
static void refused_child(int err, int fd) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = ARRAY_LEN(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
        _exit(3);
    }
    struct blk_pool pool;
    blk_pool_init(&pool, 0);
    struct io *io;
    char error[URING_ERROR_MAX] = "";
    int rc = uring_new(&(struct uring_options){0}, &pool, error, &io);
    ssize_t n = write(fd, error, strlen(error));
    _exit(rc == -err && n > 0 ? 0 : 4);
}

static void check_refused(int err, const char *expected) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        refused_child(err, fds[1]);
    }
    close(fds[1]);
    char text[URING_ERROR_MAX + 1] = "";
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(n > 0);
    if (strstr(text, expected) == NULL) {
        fail_msg("no '%s' in: %s", expected, text);
    }
    assert_int_equal(status, 0);
}

static void test_refused(void **state) {
    check_refused(EPERM, "seccomp");
    check_refused(ENOSYS, "Linux 6.1");
    check_refused(ENOMEM, "memory");
    check_refused(EMFILE, "RLIMIT_NOFILE");
}

// ---- Ops ----

struct recorder {
    struct op op;
    int results[64];
    int n_results;
    bool is_final;
    struct blk *blks[64]; // kept
    int n_blks;
};

static void record(struct op *op, const struct io_result *result) {
    struct recorder *recorder = CONTAINER_OF(op, struct recorder, op);
    assert_false(recorder->is_final);
    assert_true(recorder->n_results < 64);
    recorder->results[recorder->n_results++] = result->res;
    recorder->is_final = !result->more;
    assert_int_equal(op_is_pending(op), result->more);
    if (result->blk != NULL) {
        assert_true(result->res > 0);
        assert_int_equal(result->off, BLK_HEADROOM);
        assert_true(result->blk->cap >= result->off + (uint32_t)result->res + BLK_TAILROOM);
        recorder->blks[recorder->n_blks++] = result->blk;
    }
}

static void recorder_init(struct recorder *recorder) {
    *recorder = (struct recorder){0};
    op_init(&recorder->op, record);
}

static void drop_blocks(struct recorder *recorder) {
    while (recorder->n_blks > 0) {
        blk_unref(recorder->blks[--recorder->n_blks]);
    }
}

static void test_cancel(void **state) {
    const enum bed_kind kinds[] = {BED_URING, BED_URING_PLAIN, BED_EPOLL, BED_FAKE_CALM};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 5);
        struct io *io = bed.io;
        int fds[2];
        bed_pair(&bed, fds);
        struct recorder r;

        // Idle: only the end comes.
        recorder_init(&r);
        io->ops->recv_multishot(io, &r.op, fds[0]);
        bed_run_ms(&bed, 2);
        io->ops->cancel(io, &r.op);
        io->ops->cancel(io, &r.op); // twice is once
        assert_int_equal(r.n_results, 0); // never from inside the call
        bed_run(&bed, &r.is_final, 5);
        assert_int_equal(r.n_results, 1);
        assert_int_equal(r.results[0], -ECANCELED);
        io->ops->cancel(io, &r.op); // not pending: nothing

        // In the turn that submitted it.
        recorder_init(&r);
        io->ops->poll(io, &r.op, fds[0], POLLIN, false);
        io->ops->cancel(io, &r.op);
        bed_run(&bed, &r.is_final, 5);
        assert_int_equal(r.n_results, 1);

        // With data under way: what was received is delivered, then the end.
        struct recorder send;
        char hello[] = "hello";
        recorder_init(&send);
        struct iovec iov = {.iov_base = hello, .iov_len = 5};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        recorder_init(&r);
        io->ops->recv_multishot(io, &r.op, fds[0]);
        io->ops->sendmsg(io, &send.op, fds[1], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        bed_run(&bed, &send.is_final, 5);
        bed_run_ms(&bed, 2);
        io->ops->cancel(io, &r.op);
        bed_run(&bed, &r.is_final, 5);
        assert_int_equal(send.results[0], 5);
        assert_int_equal(r.n_results, 2);
        assert_int_equal(r.results[0], 5);
        assert_memory_equal(r.blks[0]->base + BLK_HEADROOM, "hello", 5);
        assert_int_equal(r.results[1], -ECANCELED);
        drop_blocks(&r);
        io->ops->close(io, fds[0], false);
        io->ops->close(io, fds[1], false);
        bed_fini(&bed);
    }
}

// Sends `len` bytes in a turn that could wait for `wait_ms`; how long it took, and the result.
static uint64_t send_silently(struct io *io, int fd, void *bytes, size_t len, unsigned wait_ms,
                              int *ret_result) {
    struct recorder r;
    recorder_init(&r);
    struct iovec iov[] = {{.iov_base = bytes, .iov_len = len - 1},
                          {.iov_base = (char *)bytes + len - 1, .iov_len = 1}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    uint64_t start = io->ops->now(io);
    io->ops->send_silently(io, &r.op, fd, &msg);
    assert_int_equal(io->ops->turn(io, start + wait_ms * NS_PER_MS, true), 0);
    assert_int_equal(r.n_results, 1);
    assert_true(r.is_final);
    *ret_result = r.results[0];
    return io->ops->now(io) - start;
}

// Success is told in the turn that sends and does not end its wait; anything else does.
static void test_silent(void **state) {
    const enum bed_kind kinds[] = {BED_URING, BED_URING_PLAIN, BED_FAKE_CALM};
    enum { LEN = 65536 };
    static char bytes[LEN];
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 5);
        struct io *io = bed.io;
        int fds[2], result;
        bed_pair(&bed, fds);
        assert_true(send_silently(io, fds[0], bytes, 5, 20, &result) >= 20 * NS_PER_MS);
        assert_int_equal(result, 5);
        assert_int_equal(io->n_ops, 0);
        uint64_t took_ns;
        do { // until the socket is full
            took_ns = send_silently(io, fds[0], bytes, LEN, 5, &result);
        } while (result == LEN);
        took_ns = MIN(took_ns, send_silently(io, fds[0], bytes, LEN, 5000, &result));
        assert_true(result == -EAGAIN || (result > 0 && result < LEN));
        assert_true(took_ns < 5 * NS_PER_SEC);
        io->ops->close(io, fds[1], true);
        bed_run_ms(&bed, 2);
        (void)send_silently(io, fds[0], bytes, 5, 5000, &result);
        assert_true(result == -ECONNRESET || result == -EPIPE);
        io->ops->close(io, fds[0], false);
        bed_fini(&bed);
    }
}

// More of them than the submission queue holds, and one whose socket is full among them.
static void test_silent_many(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, &(struct uring_options){.entries = 4}, 0);
    enum { N = 9, FULL = 5 };
    int fds[N][2];
    static struct recorder r[N];
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    for (int i = 0; i < N; i++) {
        bed_pair(&bed, fds[i]);
    }
    static char bytes[65536];
    while (send(fds[FULL][0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
    while (send(fds[FULL][0], bytes, 1, MSG_DONTWAIT) > 0) {
    }
    for (int i = 0; i < N; i++) {
        recorder_init(&r[i]);
        bed.io->ops->send_silently(bed.io, &r[i].op, fds[i][0], &msg);
    }
    assert_int_equal(bed.io->ops->turn(bed.io, bed.io->ops->now(bed.io) + 5 * NS_PER_SEC, true), 0);
    for (int i = 0; i < N; i++) {
        assert_true(r[i].is_final);
        assert_int_equal(r[i].n_results, 1);
        assert_int_equal(r[i].results[0], i == FULL ? -EAGAIN : 1);
        bed.io->ops->close(bed.io, fds[i][0], true);
        bed.io->ops->close(bed.io, fds[i][1], true);
    }
    bed_fini(&bed);
}

static unsigned n_on_buffers;

static void on_buffers(struct io *io, void *arg) {
    n_on_buffers++;
}

static void test_buffers(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, &(struct uring_options){.n_buffers = 4}, 0);
    struct io *io = bed.io;
    io->on_buffers = on_buffers;
    int fds[2];
    bed_pair(&bed, fds);
    struct recorder r;
    recorder_init(&r);
    io->ops->recv_multishot(io, &r.op, fds[0]);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send(fds[1], "x", 1, 0), 1);
        bed_run_ms(&bed, 1);
    }
    assert_int_equal(r.n_blks, 4);
    assert_true(r.is_final);
    assert_int_equal(r.results[4], -ENOBUFS);
    struct uring_stats stats;
    uring_get_stats(io, &stats);
    assert_int_equal(stats.n_buffers_out, 4);
    assert_int_equal(stats.n_no_buffers, 1);
    bed_run_ms(&bed, 1);
    assert_int_equal(n_on_buffers, 0);
    drop_blocks(&r);
    bed_run_ms(&bed, 1);
    assert_int_equal(n_on_buffers, 1); // once
    bed_run_ms(&bed, 1);
    assert_int_equal(n_on_buffers, 1);
    recorder_init(&r);
    io->ops->recv_multishot(io, &r.op, fds[0]);
    bed_run_ms(&bed, 1);
    assert_int_equal(r.results[0], 1); // the byte that had no room before
    close(fds[1]);
    bed_run(&bed, &r.is_final, 5);
    assert_int_equal(r.results[r.n_results - 1], 0);
    drop_blocks(&r);
    io->ops->close(io, fds[0], false);
    bed_fini(&bed);
}

// The window grows only as far as there was need.
static void test_window(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, &(struct uring_options){.n_buffers = 512}, 0);
    struct uring_stats stats;
    uring_get_stats(bed.io, &stats);
    assert_int_equal(stats.window, 64);
    enum { N = 20 };
    int fds[N][2];
    struct recorder *r = calloc(N, sizeof(*r));
    uint8_t *data = calloc(1, 32 * RING_BLK_SIZE);
    for (int i = 0; i < N; i++) {
        bed_pair(&bed, fds[i]);
        recorder_init(&r[i]);
        assert_int_equal(send(fds[i][1], data, 8 * RING_BLK_SIZE, 0), 8 * RING_BLK_SIZE);
        bed.io->ops->recv_multishot(bed.io, &r[i].op, fds[i][0]);
    }
    bed_run_ms(&bed, 5);
    uring_get_stats(bed.io, &stats);
    assert_true(stats.window > 64 && stats.window <= 512);
    assert_true(stats.n_no_buffers > 0);
    for (int i = 0; i < N; i++) {
        bed.io->ops->cancel(bed.io, &r[i].op);
    }
    bed_run_ms(&bed, 5);
    for (int i = 0; i < N; i++) {
        assert_true(r[i].is_final);
        drop_blocks(&r[i]);
        bed.io->ops->close(bed.io, fds[i][0], false);
        close(fds[i][1]);
    }
    free(data);
    free(r);
    bed_fini(&bed);
}

// More ops in one turn than the submission queue holds.
static void test_many_ops(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, &(struct uring_options){.entries = 4}, 0);
    enum { N = 50 };
    int fds[2];
    bed_pair(&bed, fds);
    static struct recorder r[N];
    for (int i = 0; i < N; i++) {
        recorder_init(&r[i]);
        bed.io->ops->poll(bed.io, &r[i].op, fds[0], POLLIN, false);
    }
    bed_run_ms(&bed, 2);
    assert_int_equal(bed.io->n_ops, N);
    assert_int_equal(send(fds[1], "x", 1, 0), 1);
    bed_run_ms(&bed, 5);
    for (int i = 0; i < N; i++) {
        assert_true(r[i].is_final && (r[i].results[0] & POLLIN) != 0);
    }
    close(fds[0]);
    close(fds[1]);
    bed_fini(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switches), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancel),   cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_window),   cmocka_unit_test(test_many_ops),
        cmocka_unit_test(test_silent),   cmocka_unit_test(test_silent_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
