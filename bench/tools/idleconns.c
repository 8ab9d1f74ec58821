// SPDX-License-Identifier: Apache-2.0
//
// idleconns ADDR...: opens connections to reqservers, one address after the other, exchanges one
// small request on each, then holds them without a byte until stdin ends.
//
//   --count=1000  connections        --threads=8   opened by this many threads
//   --hold-s=600  at most this long  --wait        say "ready" first, begin when a line comes in
//   --http, --h2  the request is GET /1k of HTTP/1.1 or HTTP/2, its answer has 1 KB
//
// A line of JSON when all are open, another when all are closed.
#include <poll.h>
#include <pthread.h>

#include "bench/tools/load_h2.h"

enum { MAX_CONNS = 65536, MAX_THREADS = 64, MAX_ADDRS = 256, TIMEOUT_S = 30, MESSAGE = 64 };

static uint64_t count = 1000, n_threads = 8, hold_s = 600, is_http, is_h2;
static struct load_addr addrs[MAX_ADDRS];
static uint64_t n_addrs;
static int fds[MAX_CONNS];
static uint64_t n_taken; // atomic

static void open_one(uint64_t i) {
    fds[i] = load_connect(&addrs[i % n_addrs], TIMEOUT_S);
    bool is_done = is_h2     ? load_h2_exchange(fds[i], "/1k", "web", 1024)
                   : is_http ? load_http_exchange(fds[i])
                             : load_exchange(fds[i], i, MESSAGE, MESSAGE);
    if (!is_done) {
        die("connection %lu: %s", (unsigned long)i, errno == 0 ? "closed" : strerror(errno));
    }
}

static void *work(void *arg) {
    (void)arg;
    for (;;) {
        uint64_t i = __atomic_fetch_add(&n_taken, 1, __ATOMIC_RELAXED);
        if (i >= count) {
            return NULL;
        }
        open_one(i);
    }
}

// Until stdin ends or the time is up. A connection that ends by itself ends the program.
static void hold(void) {
    uint64_t end = now_ns() + hold_s * 1000000000;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[64];
    while (now_ns() < end) {
        if (poll(&in, 1, 200) > 0 && read(STDIN_FILENO, line, sizeof(line)) <= 0) {
            break;
        }
    }
    for (uint64_t i = 0; i < count; i++) {
        char c;
        ssize_t n = recv(fds[i], &c, 1, MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN) {
            die("connection %lu did not last", (unsigned long)i);
        }
    }
}

int main(int argc, char **argv) {
    uint64_t wait = 0;
    const struct load_option options[] = {{"count", &count, MAX_CONNS},
                                          {"threads", &n_threads, MAX_THREADS},
                                          {"hold-s", &hold_s, 3600},
                                          {"http", &is_http, 1},
                                          {"h2", &is_h2, 1},
                                          {"wait", &wait, 1},
                                          {NULL, NULL, 0}};
    const char *usage = "idleconns ADDR... [--count=1000] [--threads=8] [--hold-s=600] "
                        "[--http] [--h2] [--wait]";
    int n = load_options(argc, argv, options, usage);
    if (n < 1 || n > MAX_ADDRS || n_threads == 0 || count == 0) {
        die("usage: %s", usage);
    }
    load_pattern_init();
    load_http_init("/1k", "web");
    load_raise_files();
    for (; n_addrs < (uint64_t)n; n_addrs++) {
        addrs[n_addrs] = load_addr(argv[n_addrs]);
    }
    load_wait_go(wait != 0);
    pthread_t threads[MAX_THREADS];
    double cpu = own_cpu_s();
    uint64_t begin = now_ns();
    open_one(n_taken++); // whose answer the others are compared with
    for (uint64_t i = 0; i < n_threads; i++) {
        if (pthread_create(&threads[i], NULL, work, NULL) != 0) {
            die("no thread");
        }
    }
    for (uint64_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    double seconds = (double)(now_ns() - begin) * 1e-9;
    printf("{\"open\": %lu, \"seconds\": %.4f, \"own_cpu_s\": %.4f}\n", (unsigned long)count,
           seconds, own_cpu_s() - cpu);
    fflush(stdout);
    hold();
    for (uint64_t i = 0; i < count; i++) {
        close(fds[i]);
    }
    printf("{\"closed\": %lu}\n", (unsigned long)count);
    return 0;
}
