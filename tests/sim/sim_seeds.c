// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_seeds.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/asan.h"
#include "common/base/check.h"
#include "common/base/rand.h"

#ifdef ZTUN_ASAN
#define SIM_EXIT exit // what is leaked is told
#else
#define SIM_EXIT _exit
#endif

// ---- determinism --------------------------------------------------------------------------------

// Keys, nonces, serial numbers and hash secrets are random, and the length of an ECDSA signature
// with them. The system's random bytes therefore come from the seed here: these two replace libc's.
// (The CPU's own generator is switched off by sim_seeds_main.) Each seed runs in a child, where
// BoringSSL starts afresh.
static struct rand os_rand = {.s = {1, 2, 3, 4}};

ssize_t getrandom(void *dst, size_t len, unsigned flags) {
    (void)flags;
    rand_bytes(&os_rand, dst, len);
    return (ssize_t)len;
}

long syscall(long number, ...) {
    va_list args;
    va_start(args, number);
    long a[6];
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    if (number == SYS_getrandom) {
        rand_bytes(&os_rand, (void *)a[0], (size_t)a[1]);
        return a[1];
    }
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    long rc;
    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (rc < 0 && rc > -4096) {
        errno = (int)-rc;
        return -1;
    }
    return rc;
}

// Certificates carry times, and a signature's length depends on what it signs.
int clock_gettime(clockid_t clock, struct timespec *ret_time) {
    if (clock == CLOCK_REALTIME) {
        *ret_time = (struct timespec){.tv_sec = 1800000000};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, ret_time, 0, 0, 0, 0);
}

// Starts the program again without what it would see of chance before main().
static void without_chance(char **argv) {
    static const char name[] = "OPENSSL_ia32cap"; // read by BoringSSL before main()
    if (getenv(name) == NULL) {
        CHECK(setenv(name, "~0x4000000000000000", 1) == 0);
        int before = personality(0xffffffff);
        if (before != -1) { // where it is forbidden, addresses differ from run to run
            (void)personality((unsigned long)before | ADDR_NO_RANDOMIZE);
        }
        (void)execv("/proc/self/exe", argv);
        CHECK(false);
    }
}

// ThreadSanitizer waits for a second at each exit, unless it is told not to.
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "atexit_sleep_ms=0";
}

// ---- seeds --------------------------------------------------------------------------------------

// In a child: BoringSSL notices the fork and takes new random bytes, which are the seed's. Returns
// whether the seed passed.
static bool run_child(const struct sim_program *program, uint64_t seed, bool trace) {
    (void)fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        rand_seed(&os_rand, seed);
        program->run(seed, trace);
        (void)fflush(NULL);
        SIM_EXIT(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int sim_seeds_main(const struct sim_program *program, int argc, char **argv) {
    uint64_t n_seeds = program->n_seeds, first = 1, n_failed = 0;
    bool trace = false;
    without_chance(argv);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            n_seeds = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--first") == 0 && i + 1 < argc) {
            first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else {
            fprintf(stderr, "usage: %s [--seeds N] [--first SEED] [--trace]\n", program->name);
            return 2;
        }
    }
    if (program->prepare != NULL) {
        program->prepare();
    }
    for (uint64_t seed = first; seed < first + n_seeds && n_failed < 3; seed++) {
        if (!run_child(program, seed, trace)) {
            n_failed++;
            fprintf(stderr, "%s: seed %llu failed; repeat: %s --seeds 1 --first %llu --trace\n",
                    program->name, (unsigned long long)seed, program->name,
                    (unsigned long long)seed);
        }
    }
    printf("%s: seeds %llu to %llu: %llu failed\n", program->name, (unsigned long long)first,
           (unsigned long long)(first + n_seeds - 1), (unsigned long long)n_failed);
    return n_failed > 0;
}
