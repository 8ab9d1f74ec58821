// SPDX-License-Identifier: Apache-2.0
//
// stall_probe: a thread that wakes at a rate and computes for a while, as a worker does that shakes
// hands. It waits for nothing and nobody, so what its bursts take more than they compute is the
// machine's doing, as it would be anybody's.
//
//   --rate=1000 --seconds=2  bursts a second, for so long
//   --work-us=250            CPU time of each
//   --wait                   say "ready", begin when a line comes in
//
// JSON on stdout: bursts that took more than 1 ms above their work (of them: of the thread's CPU
// time), and how late the thread woke, in microseconds.
#include "bench/tools/load.h"

enum { LONG_NS = 1000000 };

static uint64_t thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    uint64_t rate = 1000, seconds = 2, work_us = 250, wait = 0;
    const struct load_option options[] = {{"rate", &rate, 10000},
                                          {"seconds", &seconds, 600},
                                          {"work-us", &work_us, 10000000},
                                          {"wait", &wait, 1},
                                          {NULL, NULL, 0}};
    const char *usage = "stall_probe [--rate=1000] [--seconds=2] [--work-us=250] [--wait]";
    if (load_options(argc, argv, options, usage) != 0 || rate == 0 || seconds == 0) {
        die("usage: %s", usage);
    }
    uint64_t n = rate * seconds, n_long = 0, n_long_cpu = 0, work_ns = work_us * 1000;
    uint64_t *late = calloc(n, sizeof(*late));
    if (late == NULL) {
        die("out of memory");
    }
    load_wait_go(wait != 0);
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t due = start + i * 1000000000 / rate;
        struct timespec until = {.tv_sec = (time_t)(due / 1000000000),
                                 .tv_nsec = (long)(due % 1000000000)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
        uint64_t begin = now_ns(), cpu = thread_cpu_ns(), now_cpu;
        late[i] = begin - due;
        do {
            now_cpu = thread_cpu_ns();
        } while (now_cpu - cpu < work_ns);
        n_long += now_ns() - begin > work_ns + LONG_NS;
        n_long_cpu += now_cpu - cpu > work_ns + LONG_NS;
    }
    qsort(late, n, sizeof(*late), compare);
    printf("{\"bursts\": %lu, \"long\": %lu, \"long_cpu\": %lu, \"late_p50_us\": %.1f, "
           "\"late_p99_us\": %.1f}\n",
           (unsigned long)n, (unsigned long)n_long, (unsigned long)n_long_cpu,
           (double)late[n / 2] / 1e3, (double)late[n * 99 / 100] / 1e3);
    free(late);
    return 0;
}
