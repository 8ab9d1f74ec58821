// SPDX-License-Identifier: Apache-2.0
//
// Bulk transfer, one blocking thread a stream and direction, every byte checked.
//
//   bulk --serve ADDR [--life-s=3600]
//   bulk ADDR [--streams=1] [--up] [--down] [--ms=4000 | --bytes=N] [--wait]
//
// --up and --down together send both ways at once. A sender writes chunks, each with its length in
// front, then a length of 0; the receiver checks the pattern, the total and the order. With
// --up the server answers with the number of bytes it got. The client ends first. JSON on stdout.
#include <pthread.h>

#include "bench/tools/load.h"

enum { PIECE = PATTERN_RUN, CHUNK = 1 << 20, MAX_STREAMS = 1024, STALL_S = 20 };

enum { BULK_PING = 1, BULK_UP = 2, BULK_DOWN = 4 };

struct command {
    uint64_t op; // BULK_ flags
    uint64_t ms, bytes; // how long, or how many
};

struct transfer { // one direction of one stream
    int fd;
    struct command command;
    bool is_sender;
    uint64_t n_bytes;
    pthread_t thread;
};

// Sends until time or bytes are up. Returns the payload bytes.
static uint64_t send_all(int fd, const struct command *command) {
    uint64_t end = now_ns() + command->ms * 1000000, total = 0;
    bool is_timed = command->bytes == 0;
    for (;;) {
        uint64_t len = is_timed || command->bytes - total > CHUNK ? CHUNK : command->bytes - total;
        if (is_timed && now_ns() >= end) {
            len = 0;
        }
        if (!load_send(fd, &len, sizeof(len), len > 0 ? MSG_MORE : 0)) {
            die("bulk: send: %s", strerror(errno));
        }
        if (len == 0) {
            break;
        }
        for (uint64_t n; len > 0; len -= n, total += n) {
            n = len < PIECE ? len : PIECE;
            if (!load_send(fd, load_pattern_at(total), n, 0)) {
                die("bulk: send: %s", strerror(errno));
            }
        }
    }
    return total;
}

// Takes chunks until the length 0, and not a byte more. Returns the payload bytes.
static uint64_t receive_all(int fd) {
    uint8_t *buf = malloc(PIECE);
    uint64_t total = 0;
    if (buf == NULL) {
        die("no memory");
    }
    for (;;) {
        uint64_t left;
        if (!load_recv(fd, &left, sizeof(left)) || left > CHUNK) {
            die("bulk: the stream ended early, after %lu bytes: %s", (unsigned long)total,
                errno == 0 ? "closed" : strerror(errno));
        }
        if (left == 0) {
            break;
        }
        for (ssize_t n; left > 0; left -= (uint64_t)n, total += (uint64_t)n) {
            n = recv(fd, buf, left < PIECE ? left : PIECE, 0);
            if (n <= 0) {
                die("bulk: the stream ended early, after %lu bytes: %s", (unsigned long)total,
                    n == 0 ? "closed" : strerror(errno));
            }
            if (memcmp(buf, load_pattern_at(total), (size_t)n) != 0) {
                die("bulk: wrong bytes after %lu", (unsigned long)total);
            }
        }
    }
    free(buf);
    return total;
}

static void expect_end(int fd) {
    char c;
    errno = 0;
    if (load_recv(fd, &c, 1) || errno != 0) {
        die("bulk: no clean end: %s", errno != 0 ? strerror(errno) : "more bytes");
    }
}

// ---- Server
// --------------------------------------------------------------------------------------

static void *run_sender(void *arg) {
    struct transfer *t = arg;
    (void)send_all(t->fd, &t->command);
    return NULL;
}

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    struct transfer down = {.fd = fd};
    load_tune(fd, STALL_S);
    while (load_recv(fd, &down.command, sizeof(down.command))) {
        uint64_t op = down.command.op;
        if (op == BULK_PING) {
            if (!load_send(fd, &op, sizeof(op), 0)) {
                break;
            }
            struct timeval none = {0}; // it may be idle for long
            (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
            continue;
        }
        load_tune(fd, STALL_S);
        if ((op & BULK_DOWN) && pthread_create(&down.thread, NULL, run_sender, &down) != 0) {
            die("bulk: no thread");
        }
        uint64_t total = 0;
        if (op & BULK_UP) {
            total = receive_all(fd);
        }
        if (op & BULK_DOWN) {
            pthread_join(down.thread, NULL);
        }
        if (!load_send(fd, &total, sizeof(total), 0)) {
            die("bulk: answer: %s", strerror(errno));
        }
        expect_end(fd); // the client ends first: Envoy cuts a CONNECT stream whose server does
        break;
    }
    close(fd);
    return NULL;
}

static void run_server(const char *text, uint64_t life_s) {
    struct load_addr addr = load_addr(text);
    int listener = load_listen(&addr);
    alarm((unsigned)life_s);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
            pthread_detach(thread);
        }
    }
}

// ---- Client
// --------------------------------------------------------------------------------------

static void *run_transfer(void *arg) {
    struct transfer *t = arg;
    t->n_bytes = t->is_sender ? send_all(t->fd, &t->command) : receive_all(t->fd);
    return NULL;
}

static void start(struct transfer *t, int fd, const struct command *command, bool is_sender) {
    *t = (struct transfer){.fd = fd, .command = *command, .is_sender = is_sender};
    if (pthread_create(&t->thread, NULL, run_transfer, t) != 0) {
        die("bulk: no thread");
    }
}

static void open_streams(const char *text, int *fds, uint64_t n) {
    struct load_addr addr = load_addr(text);
    struct command ping = {.op = BULK_PING};
    for (uint64_t i = 0; i < n; i++) {
        uint64_t answer = 0;
        fds[i] = load_connect(&addr, STALL_S);
        if (!load_send(fds[i], &ping, sizeof(ping), 0) ||
            !load_recv(fds[i], &answer, sizeof(answer)) || answer != BULK_PING) {
            die("bulk: no answer: %s", strerror(errno));
        }
    }
}

// Runs all streams to their ends; returns the bytes received, as both sides counted them.
static uint64_t run_streams(int *fds, uint64_t n, const struct command *command) {
    static struct transfer up[MAX_STREAMS], down[MAX_STREAMS];
    uint64_t total = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (!load_send(fds[i], command, sizeof(*command), 0)) {
            die("bulk: send: %s", strerror(errno));
        }
        if (command->op & BULK_UP) {
            start(&up[i], fds[i], command, true);
        }
        if (command->op & BULK_DOWN) {
            start(&down[i], fds[i], command, false);
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t sent = 0, answer = 0;
        if (command->op & BULK_UP) {
            pthread_join(up[i].thread, NULL);
            sent = up[i].n_bytes;
        }
        if (command->op & BULK_DOWN) {
            pthread_join(down[i].thread, NULL);
            total += down[i].n_bytes;
        }
        if (!load_recv(fds[i], &answer, sizeof(answer)) || answer != sent) {
            die("bulk: %lu bytes sent, %lu arrived", (unsigned long)sent, (unsigned long)answer);
        }
        total += sent;
        (void)shutdown(fds[i], SHUT_WR);
        expect_end(fds[i]);
    }
    return total;
}

int main(int argc, char **argv) {
    uint64_t serve_flag = 0, life_s = 3600, n = 1, up = 0, down = 0, ms = 4000, bytes = 0, wait = 0;
    const struct load_option options[] = {{"serve", &serve_flag, 1},
                                          {"life-s", &life_s, 86400},
                                          {"streams", &n, MAX_STREAMS},
                                          {"up", &up, 1},
                                          {"down", &down, 1},
                                          {"ms", &ms, 600000},
                                          {"bytes", &bytes, 1ull << 40},
                                          {"wait", &wait, 1},
                                          {NULL, NULL, 0}};
    const char *usage = "bulk --serve ADDR | bulk ADDR [--streams=1] [--up] [--down] "
                        "[--ms=4000 | --bytes=N] [--wait]";
    if (load_options(argc, argv, options, usage) != 1 || n == 0) {
        die("usage: %s", usage);
    }
    load_raise_files();
    load_pattern_init();
    if (serve_flag) {
        run_server(argv[0], life_s);
    }
    alarm((unsigned)(ms / 1000 + 600));
    static int fds[MAX_STREAMS];
    open_streams(argv[0], fds, n);
    load_wait_go(wait != 0);
    struct command command = {
        .op = (up ? BULK_UP : 0) | (down ? BULK_DOWN : 0), .ms = ms, .bytes = bytes};
    if (command.op == 0) {
        command.op = BULK_DOWN;
    }
    double cpu = own_cpu_s();
    uint64_t begin = now_ns();
    uint64_t total = run_streams(fds, n, &command);
    double seconds = (double)(now_ns() - begin) * 1e-9;
    printf("{\"bytes\": %lu, \"seconds\": %.4f, \"gbit_s\": %.3f, \"streams\": %lu, "
           "\"own_cpu_s\": %.4f}\n",
           (unsigned long)total, seconds, (double)total * 8e-9 / seconds, (unsigned long)n,
           own_cpu_s() - cpu);
    return 0;
}
