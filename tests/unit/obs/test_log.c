// SPDX-License-Identifier: Apache-2.0
//
// The log as a whole, into pipes, sockets and files, with real threads.
#include "common/obs/log.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/log_out.h"
#include "common/obs/metrics.h"
#include "tests/unit/base/unit.h"

LOG_SCOPE(scope_a, "a");
LOG_SCOPE(scope_b, "a::b");

static int pipe_fds[2];

static void start(enum log_format format, const char *filter) {
    assert_int_equal(pipe(pipe_fds), 0);
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    struct buf error;
    buf_init(&error, 100);
    assert_true(log_init(
        &(struct log_config){.fd = pipe_fds[1], .format = format, .filter = filter}, &error));
    buf_fini(&error);
}

static void stop(void) {
    struct buf error;
    buf_init(&error, 100);
    assert_true(log_init(&(struct log_config){.fd = STDERR_FILENO}, &error));
    buf_fini(&error);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

// All that is in the pipe.
static struct buf read_all(void) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (;;) {
        uint8_t *at = buf_reserve(&text, 65536);
        ssize_t n = read(pipe_fds[0], at, 65536);
        if (n <= 0) {
            return text;
        }
        buf_commit(&text, (size_t)n);
    }
}

static unsigned count_lines(struct buf *text, const char *containing) {
    unsigned n = 0;
    const char *line = buf_cstr(text);
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char copy[LOG_LINE_MAX + 1];
        snprintf(copy, sizeof(copy), "%.*s", (int)(end - line), line);
        n += strstr(copy, containing) != NULL;
    }
    assert_string_equal(line, ""); // whole lines only
    return n;
}

static void test_direct(void **state) {
    start(LOG_FORMAT_TEXT, "warn,a::b=debug");
    log_info(&scope_a, "not shown");
    log_warn(&scope_a, "shown", LOG_U64("n", 1), LOG_STR("s", "x y"));
    log_debug(&scope_b, "also shown");
    log_trace(&scope_b, "not shown");
    log_error(&scope_b, "error shown");
    struct buf text = read_all();
    assert_int_equal(count_lines(&text, ""), 3);
    assert_int_equal(count_lines(&text, "Z\twarn\ta\tshown\tn=1 s=\"x y\""), 1);
    assert_int_equal(count_lines(&text, "Z\tdebug\ta::b\talso shown"), 1);
    assert_int_equal(count_lines(&text, "Z\terror\ta::b\terror shown"), 1);
    buf_fini(&text);
    stop();
}

// Lines of another format, up to the longest, in their order among the others.
static void test_whole(void **state) {
    static char longest[LOG_WHOLE_MAX];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\n';
    start(LOG_FORMAT_JSON, "info");
    log_write_whole(SLICE_LIT("direct\n"));
    log_start_async();
    log_write_whole(SLICE_LIT("[1] \"GET / HTTP/1.1\"\n"));
    log_info(&scope_a, "between");
    log_write_whole(slice_make(longest, sizeof(longest) / 2));
    log_write_whole(SLICE_LIT("\n"));
    assert_int_equal(log_drain(), 0);
    struct buf text = read_all();
    assert_int_equal(strncmp(buf_cstr(&text), "direct\n[1] \"GET / HTTP/1.1\"\n{", 29), 0);
    assert_non_null(strstr(buf_cstr(&text), "between\"}\nxxxx"));
    buf_fini(&text);
    log_write_whole(slice_make(longest, sizeof(longest)));
    assert_int_equal(log_drain(), 0);
    text = read_all();
    assert_int_equal(text.len, sizeof(longest));
    buf_fini(&text);
    log_stop_async(1000);
    stop();
}

static int evaluations;

static uint64_t count_evaluation(void) {
    evaluations++;
    return 0;
}

static void test_fields_are_lazy(void **state) {
    start(LOG_FORMAT_TEXT, "error");
    log_info(&scope_a, "off", LOG_U64("n", count_evaluation()));
    assert_int_equal(evaluations, 0);
    log_error(&scope_a, "on", LOG_U64("n", count_evaluation()));
    assert_int_equal(evaluations, 1);
    stop();
}

static void test_filter_at_runtime(void **state) {
    start(LOG_FORMAT_TEXT, "warn,a=info");
    struct buf text;
    buf_init(&text, 1000);
    assert_false(log_enabled(&scope_b, LOG_LEVEL_DEBUG));
    assert_true(log_filter_add(SLICE_LIT("a::b=debug"), &text));
    assert_true(log_enabled(&scope_b, LOG_LEVEL_DEBUG));
    assert_false(log_enabled(&scope_a, LOG_LEVEL_DEBUG));
    log_filter_text(&text);
    assert_string_equal(buf_cstr(&text), "warn,a=info,a::b=debug");
    buf_clear(&text);
    assert_false(log_filter_set(SLICE_LIT("a=nonsense"), &text));
    assert_true(text.len > 0);
    assert_true(log_enabled(&scope_b, LOG_LEVEL_DEBUG));
    assert_true(log_filter_set(SLICE_LIT("error"), &text));
    assert_false(log_enabled(&scope_b, LOG_LEVEL_WARN));
    log_filter_reset();
    assert_true(log_enabled(&scope_a, LOG_LEVEL_INFO));
    assert_false(log_enabled(&scope_b, LOG_LEVEL_DEBUG));
    // A wrong filter at start: everything else works, at level info.
    assert_false(log_init(&(struct log_config){.fd = pipe_fds[1], .filter = "x=y"}, &text));
    assert_true(log_enabled(&scope_a, LOG_LEVEL_INFO));
    buf_fini(&text);
    stop();
}

static void test_async(void **state) {
    start(LOG_FORMAT_JSON, "info");
    log_start_async();
    struct pollfd pfd = {.fd = log_wake_fd(), .events = POLLIN};
    log_drain();
    assert_int_equal(poll(&pfd, 1, 0), 0);
    log_info(&scope_a, "one", LOG_STR("k", "v"));
    log_info(&scope_a, "two");
    struct buf text = read_all();
    assert_int_equal(text.len, 0);
    buf_fini(&text);
    assert_int_equal(poll(&pfd, 1, 1000), 1);
    assert_int_equal(log_drain(), 0);
    assert_int_equal(poll(&pfd, 1, 0), 0);
    text = read_all();
    assert_int_equal(count_lines(&text, ""), 2);
    assert_int_equal(count_lines(&text, "\"scope\":\"a\",\"message\":\"one\",\"k\":\"v\"}"), 1);
    buf_fini(&text);
    // What is queued is written by the stop.
    log_info(&scope_a, "three");
    log_stop_async(1000);
    text = read_all();
    assert_int_equal(count_lines(&text, "three"), 1);
    buf_fini(&text);
    log_info(&scope_a, "four"); // direct again
    text = read_all();
    assert_int_equal(count_lines(&text, "four"), 1);
    buf_fini(&text);
    stop();
}

// Who comes back by itself is not woken, but when a ring fills up.
static void test_drain_some(void **state) {
    start(LOG_FORMAT_TEXT, "info");
    log_start_async();
    struct pollfd pfd = {.fd = log_wake_fd(), .events = POLLIN};
    size_t n_bytes = 1;
    assert_int_equal(log_drain_some(&n_bytes), 0);
    assert_int_equal(n_bytes, 0);
    log_write_whole(SLICE_LIT("one\n"));
    assert_int_equal(poll(&pfd, 1, 0), 0);
    assert_int_equal(log_drain_some(&n_bytes), 0);
    assert_int_equal(n_bytes, 4);
    struct buf text = read_all();
    assert_int_equal(count_lines(&text, "one"), 1);
    buf_fini(&text);
    // Much waits.
    static char line[4096];
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (size_t n = 0; n < LOG_RING_SIZE / 2; n += sizeof(line)) {
        assert_int_equal(poll(&pfd, 1, 0), 0);
        log_write_whole(slice_make(line, sizeof(line)));
    }
    assert_int_equal(poll(&pfd, 1, 0), 1);
    for (int i = 0; i < 100 && log_drain_some(&n_bytes) != 0; i++) { // the pipe holds less
        text = read_all();
        buf_fini(&text);
    }
    assert_int_equal(poll(&pfd, 1, 0), 0);
    text = read_all();
    buf_fini(&text);
    // It does not come back.
    assert_int_equal(log_drain(), 0);
    log_write_whole(SLICE_LIT("two\n"));
    assert_int_equal(poll(&pfd, 1, 0), 1);
    log_stop_async(1000);
    text = read_all();
    assert_int_equal(count_lines(&text, "two"), 1);
    buf_fini(&text);
    stop();
}

// Nobody reads the pipe: logging goes on without waiting, lines are dropped and counted, and once
// somebody reads the log says how many.
static void test_unread(void **state) {
    start(LOG_FORMAT_TEXT, "info");
    int64_t dropped_before = metrics_total(METRIC_LOG_DROPPED);
    log_start_async();
    char filler[500];
    memset(filler, 'f', sizeof(filler));
    uint64_t start_ns = clock_mono_ns();
    enum { N = 3000 }; // 1.5 MB into a pipe of 64 KiB and a ring of 256 KiB
    for (int i = 0; i < N; i++) {
        log_info(&scope_a, "filler", LOG_SLICE("f", slice_make(filler, sizeof(filler))));
        if (i % 100 == 0) {
            (void)log_drain();
        }
    }
    assert_true(log_drain() > 0); // asks to be called again
    assert_true(clock_mono_ns() - start_ns < 5 * NS_PER_SEC);
    int64_t n_dropped = metrics_total(METRIC_LOG_DROPPED) - dropped_before;
    assert_true(n_dropped > 1000);

    unsigned n_lines = 0, n_reports = 0;
    for (int i = 0; i < 100; i++) {
        struct buf text = read_all();
        const char *at = buf_cstr(&text);
        while ((at = strstr(at, "filler")) != NULL) {
            n_lines++;
            at++;
        }
        n_reports += strstr(buf_cstr(&text), "lines dropped") != NULL;
        buf_fini(&text);
        (void)log_drain();
    }
    assert_int_equal(n_lines + n_dropped, N);
    assert_true(n_reports > 0);
    assert_int_equal(log_drain(), 0);
    log_stop_async(1000);
    stop();
}

enum { N_THREADS = 4, N_PER_THREAD = 500 };

static void *log_many(void *arg) {
    for (unsigned i = 0; i < N_PER_THREAD; i++) {
        log_info(&scope_a, "many", LOG_U64("thread", (uintptr_t)arg), LOG_U64("i", i));
        if (i % 64 == 0) {
            usleep(1000);
        }
    }
    return NULL;
}

static void check_order(struct buf *text) {
    unsigned next[N_THREADS] = {0};
    const char *line = buf_cstr(text);
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        unsigned thread, i;
        const char *fields = strstr(line, "thread=");
        assert_non_null(fields);
        assert_int_equal(sscanf(fields, "thread=%u i=%u", &thread, &i), 2);
        assert_int_equal(i, next[thread]++);
    }
    for (int t = 0; t < N_THREADS; t++) {
        assert_int_equal(next[t], N_PER_THREAD);
    }
}

// Threads log, end, and leave their rings behind, while this one drains.
static void test_threads(void **state) {
    start(LOG_FORMAT_TEXT, "info");
    log_start_async();
    pthread_t threads[N_THREADS];
    for (uintptr_t t = 0; t < N_THREADS; t++) {
        assert_int_equal(pthread_create(&threads[t], NULL, log_many, (void *)t), 0);
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    unsigned n_lines = 0;
    uint64_t deadline_ns = clock_mono_ns() + 30 * NS_PER_SEC;
    while (n_lines < N_THREADS * N_PER_THREAD && clock_mono_ns() < deadline_ns) {
        struct pollfd pfd = {.fd = log_wake_fd(), .events = POLLIN};
        (void)poll(&pfd, 1, 10);
        (void)log_drain();
        // A filter change beside it is no race.
        assert_true(log_filter_set(SLICE_LIT("info,x=debug"), &text));
        struct buf part = read_all();
        for (size_t i = 0; i < part.len; i++) {
            n_lines += part.ptr[i] == '\n';
        }
        buf_append(&text, buf_slice(&part));
        buf_fini(&part);
    }
    for (int t = 0; t < N_THREADS; t++) {
        pthread_join(threads[t], NULL);
    }
    check_order(&text);
    buf_fini(&text);
    log_stop_async(1000);
    stop();
}

// A child that exits with lines queued writes them; with a full pipe it does not hang.
static void test_exit(void **state) {
    for (int is_full = 0; is_full < 2; is_full++) {
        start(LOG_FORMAT_TEXT, "info");
        if (is_full) {
            fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK);
            char bytes[4096] = {0};
            while (write(pipe_fds[1], bytes, sizeof(bytes)) > 0) {
            }
            fcntl(pipe_fds[1], F_SETFL, 0);
        }
        uint64_t start_ns = clock_mono_ns();
        pid_t pid = fork();
        if (pid == 0) {
            log_start_async();
            log_info(&scope_a, "last words");
            log_stop_async(LOG_EXIT_TIMEOUT_MS);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_true(clock_mono_ns() - start_ns < 20 * NS_PER_SEC);
        if (!is_full) {
            struct buf text = read_all();
            assert_int_equal(count_lines(&text, "last words"), 1);
            buf_fini(&text);
        }
        stop();
    }
}

// A failed CHECK writes what is queued before it aborts.
static void test_abort(void **state) {
    start(LOG_FORMAT_TEXT, "info");
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        log_start_async();
        log_info(&scope_a, "before the crash");
        CHECK(getpid() == 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    struct buf text = read_all();
    assert_int_equal(count_lines(&text, "before the crash"), 1);
    buf_fini(&text);
    stop();
}

// The kinds of output: none of them waits when asked not to, none becomes non-blocking.
static void fill(struct log_out *out, int fd) {
    static const char bytes[10000];
    int flags = fcntl(fd, F_GETFL);
    for (int i = 0; i < 1000; i++) {
        ssize_t n = log_out_write(out, slice_make(bytes, sizeof(bytes)), 0);
        assert_true(n >= 0);
        if (n < (ssize_t)sizeof(bytes)) {
            uint64_t start_ns = clock_mono_ns();
            assert_int_equal(log_out_write(out, slice_make(bytes, 100), 30), 0);
            assert_true(clock_mono_ns() - start_ns >= 25 * NS_PER_MS);
            assert_int_equal(fcntl(fd, F_GETFL), flags);
            return;
        }
    }
    fail_msg("never full");
}

static void test_outputs(void **state) {
    struct log_out out;
    int fds[2];
    for (int own = 0; own < 2; own++) {
        assert_int_equal(pipe(fds), 0);
        log_out_init(&out, fds[1]);
        assert_true(out.own_fd >= 0);
        if (!own) { // as when /proc is not there
            close(out.own_fd);
            out.own_fd = -1;
        }
        fill(&out, fds[1]);
        log_out_fini(&out);
        close(fds[0]);
        close(fds[1]);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    log_out_init(&out, fds[1]);
    fill(&out, fds[1]);
    close(fds[0]);
    assert_true(log_out_write(&out, SLICE_LIT("x"), 0) < 0); // nobody there, and no SIGPIPE
    log_out_fini(&out);
    close(fds[1]);

    char path[] = "/tmp/test_log_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    log_out_init(&out, fd);
    assert_int_equal(log_out_write(&out, SLICE_LIT("hello\n"), 0), 6);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 6);
    log_out_fini(&out);
    close(fd);
    unlink(path);
}

static void find_scope(void *arg, const struct log_scope *scope) {
    *(unsigned *)arg += scope == &scope_a || scope == &scope_b;
}

static void test_scopes(void **state) {
    unsigned n = 0;
    log_scopes_each(find_scope, &n);
    assert_int_equal(n, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct),          cmocka_unit_test(test_whole),
        cmocka_unit_test(test_fields_are_lazy), cmocka_unit_test(test_filter_at_runtime),
        cmocka_unit_test(test_async),           cmocka_unit_test(test_unread),
        cmocka_unit_test(test_threads),         cmocka_unit_test(test_exit),
        cmocka_unit_test(test_abort),           cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_scopes),          cmocka_unit_test(test_drain_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
