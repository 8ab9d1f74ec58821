// SPDX-License-Identifier: Apache-2.0
//
// What the load tools share: options, addresses, the clock, a histogram, the bytes that travel and
// the start signal. Plain libc and blocking calls or epoll: nothing of common/ is used, so that a
// bug of the proxy's runtime cannot hide in the tool that looks for it. One thread each, except
// where a function says otherwise. Every error ends the program: a load tool has no one to save.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOAD_UNUSED __attribute__((unused))

// Prints the message and ends the program.
__attribute__((noreturn, format(printf, 1, 2))) LOAD_UNUSED static void die(const char *format,
                                                                            ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

LOAD_UNUSED static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// CPU seconds of this process, all threads.
LOAD_UNUSED static double own_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Resident memory of this process.
LOAD_UNUSED static uint64_t load_resident_kb(void) {
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2) {
        die("/proc/self/statm: %s", strerror(errno));
    }
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

// ---- Options: --name=NUMBER, --flag, and plain arguments ----------------------------------------

struct load_option {
    const char *name; // NULL ends the table
    uint64_t *value; // set to 1 by a bare --name
    uint64_t max;
};

// Returns the number of plain arguments, which it moves to argv[0..].
LOAD_UNUSED static int load_options(int argc, char **argv, const struct load_option *options,
                                    const char *usage) {
    int n_plain = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[n_plain++] = argv[i];
            continue;
        }
        char *equals = strchr(argv[i], '=');
        size_t len = equals != NULL ? (size_t)(equals - argv[i]) - 2 : strlen(argv[i]) - 2;
        const struct load_option *o = options;
        while (o->name != NULL && (strlen(o->name) != len || memcmp(o->name, argv[i] + 2, len))) {
            o++;
        }
        char *end = NULL;
        errno = 0;
        uint64_t value = equals != NULL ? strtoull(equals + 1, &end, 10) : 1;
        if (o->name == NULL || errno != 0 || (equals != NULL && (end == equals + 1 || *end)) ||
            value > o->max) {
            die("%s: bad option\nusage: %s", argv[i], usage);
        }
        *o->value = value;
    }
    return n_plain;
}

// ---- Sockets
// -------------------------------------------------------------------------------------

struct load_addr {
    struct sockaddr_storage sa;
    socklen_t len;
};

// "10.0.0.1:80" or "[fd00::1]:80"
LOAD_UNUSED static struct load_addr load_addr(const char *text) {
    struct load_addr addr = {0};
    char ip[INET6_ADDRSTRLEN] = "";
    const char *colon = strrchr(text, ':');
    bool is_v6 = text[0] == '[';
    size_t skip = is_v6 ? 1 : 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(ip) ||
        (size_t)(colon - text) < 2 * skip + 1) {
        die("%s: not an address and port", text);
    }
    memcpy(ip, text + skip, (size_t)(colon - text) - 2 * skip);
    char *end = NULL;
    unsigned long port = strtoul(colon + 1, &end, 10);
    struct sockaddr_in *v4 = (struct sockaddr_in *)&addr.sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr.sa;
    int ok =
        is_v6 ? inet_pton(AF_INET6, ip, &v6->sin6_addr) : inet_pton(AF_INET, ip, &v4->sin_addr);
    if (ok != 1 || *end != 0 || port == 0 || port > 65535) {
        die("%s: not an address and port", text);
    }
    if (is_v6) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        addr.len = sizeof(*v6);
    } else {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        addr.len = sizeof(*v4);
    }
    return addr;
}

LOAD_UNUSED static void load_raise_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

// A socket whose blocking calls fail with EAGAIN after so many seconds: a lost byte ends the
// program with a message instead of hanging it.
LOAD_UNUSED static void load_tune(int fd, int timeout_s) {
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct timeval t = {.tv_sec = timeout_s};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

LOAD_UNUSED static int load_listen(const struct load_addr *addr) {
    int fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0 || listen(fd, 4096) < 0) {
        die("listen: %s", strerror(errno));
    }
    return fd;
}

// A connected blocking socket.
LOAD_UNUSED static int load_connect(const struct load_addr *addr, int timeout_s) {
    int fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        die("socket: %s", strerror(errno));
    }
    load_tune(fd, timeout_s);
    if (connect(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0) {
        die("connect: %s", strerror(errno));
    }
    return fd;
}

// All of it, blocking; false at an end, an error or a timeout (errno 0 at a clean end).
LOAD_UNUSED static bool load_send(int fd, const void *data, size_t len, int flags) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL | flags);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

LOAD_UNUSED static bool load_recv(int fd, void *data, size_t len) {
    char *p = data;
    while (len > 0) {
        ssize_t n = recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

// ---- The bytes that travel
// -----------------------------------------------------------------------

// A pattern with a prime period: a lost, doubled or swapped block does not go unseen. From any
// offset below the period, PATTERN_RUN bytes can be read in one piece.
enum { PATTERN_PERIOD = 65521, PATTERN_RUN = 65536 };

static uint8_t load_pattern[PATTERN_PERIOD + PATTERN_RUN];

LOAD_UNUSED static void load_pattern_init(void) {
    uint32_t x = 2463534242;
    for (size_t i = 0; i < sizeof(load_pattern); i++) {
        if (i >= PATTERN_PERIOD) {
            load_pattern[i] = load_pattern[i - PATTERN_PERIOD];
            continue;
        }
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        load_pattern[i] = (uint8_t)x;
    }
}

LOAD_UNUSED static const uint8_t *load_pattern_at(uint64_t offset) {
    return load_pattern + offset % PATTERN_PERIOD;
}

// A request and the answer to it begin with this head. The rest of each is the pattern from
// offset `seq` (request) and `seq + 1` (answer) on. Both ends run on one machine: host byte order.
struct load_head {
    uint32_t magic;
    uint32_t len; // of this message, head included
    uint32_t answer_len; // wanted, head included; 0 in an answer
    uint32_t reserved;
    uint64_t seq;
};

// The key of the upgrades, and what RFC 6455 1.3 makes of it.
#define LOAD_WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define LOAD_WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { LOAD_MAGIC = 0x7a74626e, LOAD_MESSAGE_MAX = PATTERN_RUN };

LOAD_UNUSED static struct load_head load_request(uint64_t seq, uint64_t len, uint64_t answer_len) {
    return (struct load_head){
        .magic = LOAD_MAGIC, .len = (uint32_t)len, .answer_len = (uint32_t)answer_len, .seq = seq};
}

// One blocking exchange; false like load_send(). Ends the program when the answer is a wrong one.
LOAD_UNUSED static bool load_exchange(int fd, uint64_t seq, uint64_t len, uint64_t answer_len) {
    static __thread uint8_t message[LOAD_MESSAGE_MAX];
    struct load_head head = load_request(seq, len, answer_len);
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), load_pattern_at(seq), len - sizeof(head));
    if (!load_send(fd, message, len, 0) || !load_recv(fd, message, answer_len)) {
        return false;
    }
    memcpy(&head, message, sizeof(head));
    if (head.magic != LOAD_MAGIC || head.seq != seq || head.len != answer_len ||
        memcmp(message + sizeof(head), load_pattern_at(seq + 1), answer_len - sizeof(head))) {
        die("wrong bytes in the answer to request %lu", (unsigned long)seq);
    }
    return true;
}

// ---- Histogram
// -----------------------------------------------------------------------------------

// Log-linear: 128 steps for each power of two, so a value is right within 0.8 %.
enum { HIST_BITS = 7, HIST_STEPS = 1 << HIST_BITS, HIST_SLOTS = HIST_STEPS * 48 };

struct load_hist {
    uint64_t slots[HIST_SLOTS];
    uint64_t n, sum, max;
};

LOAD_UNUSED static void hist_add(struct load_hist *h, uint64_t value) {
    unsigned shift = 0;
    if (value >= 2 * HIST_STEPS) {
        shift = 63 - (unsigned)__builtin_clzll(value) - HIST_BITS;
    }
    uint64_t slot = ((uint64_t)shift << HIST_BITS) + (value >> shift);
    h->slots[slot < HIST_SLOTS ? slot : HIST_SLOTS - 1]++;
    h->n++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
}

LOAD_UNUSED static void hist_merge(struct load_hist *to, const struct load_hist *from) {
    for (size_t i = 0; i < HIST_SLOTS; i++) {
        to->slots[i] += from->slots[i];
    }
    to->n += from->n;
    to->sum += from->sum;
    to->max = from->max > to->max ? from->max : to->max;
}

// The middle of the slot that holds the given share (0 to 1) of the values.
LOAD_UNUSED static double hist_at(const struct load_hist *h, double share) {
    uint64_t want = (uint64_t)((double)h->n * share), seen = 0;
    for (uint64_t i = 0; i < HIST_SLOTS; i++) {
        seen += h->slots[i];
        if (seen > want) {
            unsigned shift = i < 2 * HIST_STEPS ? 0 : (unsigned)(i >> HIST_BITS) - 1;
            uint64_t low = i < 2 * HIST_STEPS ? i : ((i & (HIST_STEPS - 1)) + HIST_STEPS) << shift;
            return (double)low + (double)(1ull << shift) / 2;
        }
    }
    return (double)h->max;
}

// "p50_us": ..., and so on, of nanoseconds.
LOAD_UNUSED static void hist_print(const struct load_hist *h, const char *prefix) {
    printf("\"%sp50_us\": %.1f, \"%sp90_us\": %.1f, \"%sp99_us\": %.1f, \"%smax_us\": %.1f, "
           "\"%smean_us\": %.1f",
           prefix, hist_at(h, 0.50) / 1e3, prefix, hist_at(h, 0.90) / 1e3, prefix,
           hist_at(h, 0.99) / 1e3, prefix, (double)h->max / 1e3, prefix,
           h->n > 0 ? (double)h->sum / (double)h->n / 1e3 : 0.0);
}

// , "slots": [[upper end of the slot in us, how many], ...], of those that are not empty.
LOAD_UNUSED static void hist_print_slots(const struct load_hist *h) {
    printf(", \"slots\": [");
    const char *comma = "";
    for (uint64_t i = 0; i < HIST_SLOTS; i++) {
        if (h->slots[i] == 0) {
            continue;
        }
        unsigned shift = i < 2 * HIST_STEPS ? 0 : (unsigned)(i >> HIST_BITS) - 1;
        uint64_t low = i < 2 * HIST_STEPS ? i : ((i & (HIST_STEPS - 1)) + HIST_STEPS) << shift;
        printf("%s[%.2f, %lu]", comma, (double)(low + (1ull << shift)) / 1e3,
               (unsigned long)h->slots[i]);
        comma = ", ";
    }
    printf("]");
}

// ---- Start
// ---------------------------------------------------------------------------------------

// With --wait: says "ready" when the connections stand, and begins when a line comes in. The
// caller takes the CPU time of the proxies in between, so that set-up is not counted.
LOAD_UNUSED static void load_wait_go(bool is_wanted) {
    if (!is_wanted) {
        return;
    }
    printf("ready\n");
    fflush(stdout);
    char line[64];
    if (fgets(line, sizeof(line), stdin) == NULL) {
        exit(1);
    }
}
