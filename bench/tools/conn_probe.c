// SPDX-License-Identifier: Apache-2.0
//
// What bare TCP connections cost, as the floor for new tunnels:
//
//   conn_probe --serve ADDR [--flights]
//   conn_probe ADDR [--count=1000] [--flights] [--wait]
//
// The client opens connections one after the other and keeps them; the server accepts them. With
// --flights (on both sides) each also carries messages of the sizes of a mutual TLS 1.3 handshake
// with the hybrid group: 1500 bytes up, 2400 down, 1100 up. The caller reads the CPU time of both
// processes between "ready" and the line of JSON.
#include "bench/tools/load.h"

enum { MAX_CONNS = 16384, HELLO = 1500, SERVER_FLIGHT = 2400, CLIENT_FLIGHT = 1100 };

static int fds[MAX_CONNS];
static uint8_t flight[4096];

static void run_server(const char *text, bool with_flights) {
    struct load_addr addr = load_addr(text);
    int listener = load_listen(&addr);
    uint64_t n = 0;
    alarm(3600);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        load_tune(fd, 20);
        if (with_flights &&
            (!load_recv(fd, flight, HELLO) || !load_send(fd, flight, SERVER_FLIGHT, 0) ||
             !load_recv(fd, flight, CLIENT_FLIGHT))) {
            die("conn_probe: exchange: %s", strerror(errno));
        }
        // Those of the last round go when their places are needed.
        if (fds[n % MAX_CONNS] != 0) {
            close(fds[n % MAX_CONNS]);
        }
        fds[n++ % MAX_CONNS] = fd;
    }
}

int main(int argc, char **argv) {
    uint64_t serve = 0, count = 1000, with_flights = 0, wait = 0;
    const struct load_option options[] = {{"serve", &serve, 1},
                                          {"count", &count, MAX_CONNS},
                                          {"flights", &with_flights, 1},
                                          {"wait", &wait, 1},
                                          {NULL, NULL, 0}};
    const char *usage = "conn_probe [--serve] ADDR [--count=1000] [--flights] [--wait]";
    if (load_options(argc, argv, options, usage) != 1) {
        die("usage: %s", usage);
    }
    load_raise_files();
    if (serve) {
        run_server(argv[0], with_flights != 0);
    }
    struct load_addr addr = load_addr(argv[0]);
    load_wait_go(wait != 0);
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < count; i++) {
        int fd = fds[i] = load_connect(&addr, 20);
        if (with_flights &&
            (!load_send(fd, flight, HELLO, 0) || !load_recv(fd, flight, SERVER_FLIGHT) ||
             !load_send(fd, flight, CLIENT_FLIGHT, 0))) {
            die("conn_probe: exchange: %s", strerror(errno));
        }
    }
    printf("{\"connections\": %lu, \"seconds\": %.4f}\n", (unsigned long)count,
           (double)(now_ns() - begin) * 1e-9);
    fflush(stdout);
    if (wait) { // the caller still reads our CPU time
        char line[64];
        (void)!read(STDIN_FILENO, line, sizeof(line));
    }
    return 0;
}
