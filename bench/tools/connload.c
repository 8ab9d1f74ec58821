// SPDX-License-Identifier: Apache-2.0
//
// connload ADDR: one TCP connection a request, to a reqserver, closed loop.
//
//   --threads=8   this many at a time, one blocking thread each
//   --count=8000  connections in all
//   --request=128 --answer=1024   bytes, heads included
//   --wait        say "ready" after one connection of each thread, begin when a line comes in
//
// A connection ends cleanly both ways: the client's FIN, then the server's. Latency is from
// connect() to the end of the answer. JSON on stdout.
#include <pthread.h>

#include "bench/tools/load.h"

enum { MAX_THREADS = 512, TIMEOUT_S = 20 };

static uint64_t n_threads = 8, count = 8000, request_len = 128, answer_len = 1024;
static struct load_addr addr;
static uint64_t n_taken, n_failed; // atomic

static bool exchange(uint64_t seq) {
    int fd = socket(addr.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char c;
    if (fd < 0) {
        die("socket: %s", strerror(errno));
    }
    load_tune(fd, TIMEOUT_S);
    bool ok = connect(fd, (const struct sockaddr *)&addr.sa, addr.len) == 0 &&
              load_exchange(fd, seq, request_len, answer_len);
    if (!ok && errno != 0) {
        fprintf(stderr, "connload: %s\n", strerror(errno));
    }
    if (ok) {
        ok = shutdown(fd, SHUT_WR) == 0 && !load_recv(fd, &c, 1) && errno == 0;
    }
    close(fd);
    return ok;
}

static void *work(void *arg) {
    struct load_hist *latency = arg;
    for (;;) {
        uint64_t seq = __atomic_fetch_add(&n_taken, 1, __ATOMIC_RELAXED);
        if (seq >= count) {
            return NULL;
        }
        uint64_t begin = now_ns();
        if (!exchange(seq)) {
            if (__atomic_add_fetch(&n_failed, 1, __ATOMIC_RELAXED) > 100) {
                die("connload: too many failures");
            }
        }
        hist_add(latency, now_ns() - begin);
    }
}

int main(int argc, char **argv) {
    uint64_t wait = 0;
    const struct load_option options[] = {{"threads", &n_threads, MAX_THREADS},
                                          {"count", &count, 10000000},
                                          {"request", &request_len, LOAD_MESSAGE_MAX},
                                          {"answer", &answer_len, LOAD_MESSAGE_MAX},
                                          {"wait", &wait, 1},
                                          {NULL, NULL, 0}};
    const char *usage = "connload ADDR [--threads=8] [--count=8000] [--request=128] "
                        "[--answer=1024] [--wait]";
    if (load_options(argc, argv, options, usage) != 1 || n_threads == 0 ||
        request_len < sizeof(struct load_head) || answer_len < sizeof(struct load_head)) {
        die("usage: %s", usage);
    }
    load_pattern_init();
    load_raise_files();
    addr = load_addr(argv[0]);
    alarm(600);
    for (uint64_t i = 0; i < n_threads; i++) {
        if (!exchange(i)) {
            die("connload: the first connections fail");
        }
    }
    load_wait_go(wait != 0);
    static pthread_t threads[MAX_THREADS];
    struct load_hist *latency = calloc(n_threads, sizeof(*latency));
    if (latency == NULL) {
        die("no memory");
    }
    double cpu = own_cpu_s();
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < n_threads; i++) {
        if (pthread_create(&threads[i], NULL, work, &latency[i]) != 0) {
            die("no thread");
        }
    }
    for (uint64_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        if (i > 0) {
            hist_merge(&latency[0], &latency[i]);
        }
    }
    double seconds = (double)(now_ns() - begin) * 1e-9;
    printf("{\"connections\": %lu, \"failed\": %lu, \"seconds\": %.4f, \"rate\": %.1f, "
           "\"own_cpu_s\": %.4f, ",
           (unsigned long)count, (unsigned long)n_failed, seconds, (double)count / seconds,
           own_cpu_s() - cpu);
    hist_print(&latency[0], "");
    printf("}\n");
    return n_failed == 0 ? 0 : 1;
}
