// SPDX-License-Identifier: Apache-2.0
//
// bpf_relay LISTEN TARGET NETNS: an experiment, not a floor. Joins connections to LISTEN with ones
// to TARGET, which are made in the network namespace NETNS, by a BPF program at a sockmap: what
// arrives at one socket is sent by the other without user space. That is the short cut that a node
// proxy could take between two pods of its node, with no tunnel and no cipher.
//
// The kernel does the work in interrupts and in threads of its own, so that the process has no CPU
// time to speak of: what counts is the machine's. A pair ends when either side does.
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "bench/tools/load.h"

enum {
    MAX_PAIRS = 4096,
    GRACE_MS = 100, // what was redirected before an end is sent in the meantime
    DIAL_TIMEOUT_S = 10,
    LOG_SIZE = 4096,
};

struct pair {
    int fds[2];
    uint64_t end_ns; // 0: it runs
};

static struct pair pairs[MAX_PAIRS];
static int map_fd, epoll_fd, own_netns, far_netns;
static struct load_addr target;

static int bpf(int command, union bpf_attr *attr) {
    return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

// ---- The program: redirects to the socket that is stored under the cookie of the one that got it

#define INSN(op, dst, src, offset, value)                                                          \
    { .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (value) }

static void load_program(void) {
    static char log[LOG_SIZE];
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_SOCKHASH,
                          .key_size = sizeof(uint64_t),
                          .value_size = sizeof(uint64_t),
                          .max_entries = 2 * MAX_PAIRS};
    map_fd = bpf(BPF_MAP_CREATE, &map);
    if (map_fd < 0) {
        die("bpf_relay: no sockmap: %s", strerror(errno));
    }
    const struct bpf_insn program[] = {
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0), // r6 = skb
        INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_socket_cookie),
        INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_0, -8, 0), // key = cookie
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0),
        INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0, map_fd),
        INSN(0, 0, 0, 0, 0), // the map's second half
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_10, 0, 0),
        INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, -8), // r3 = &key
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, 0), // no flags: send it there
        INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_redirect_hash),
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_SK_SKB,
                           .insns = (uint64_t)(uintptr_t)program,
                           .insn_cnt = sizeof(program) / sizeof(program[0]),
                           .license = (uint64_t)(uintptr_t) "Apache-2.0",
                           .log_buf = (uint64_t)(uintptr_t)log,
                           .log_size = sizeof(log),
                           .log_level = 1};
    int fd = bpf(BPF_PROG_LOAD, &load);
    if (fd < 0) {
        die("bpf_relay: the program is refused: %s: %s", strerror(errno), log);
    }
    union bpf_attr attach = {.target_fd = (uint32_t)map_fd,
                             .attach_bpf_fd = (uint32_t)fd,
                             .attach_type = BPF_SK_SKB_STREAM_VERDICT};
    if (bpf(BPF_PROG_ATTACH, &attach) < 0) {
        die("bpf_relay: the program cannot be attached: %s", strerror(errno));
    }
}

// What arrives at `from` goes to `to`.
static void redirect(int from, int to) {
    uint64_t cookie, value = (uint64_t)to;
    socklen_t len = sizeof(cookie);
    if (getsockopt(from, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0) {
        die("bpf_relay: no cookie: %s", strerror(errno));
    }
    union bpf_attr update = {.map_fd = (uint32_t)map_fd,
                             .key = (uint64_t)(uintptr_t)&cookie,
                             .value = (uint64_t)(uintptr_t)&value};
    if (bpf(BPF_MAP_UPDATE_ELEM, &update) < 0) {
        die("bpf_relay: the socket cannot be put into the map: %s", strerror(errno));
    }
}

// ---- Pairs

static int dial(void) {
    if (setns(far_netns, CLONE_NEWNET) < 0) {
        die("bpf_relay: setns: %s", strerror(errno));
    }
    int fd = load_connect(&target, DIAL_TIMEOUT_S);
    if (setns(own_netns, CLONE_NEWNET) < 0) {
        die("bpf_relay: setns: %s", strerror(errno));
    }
    return fd;
}

static void start_pair(int fd) {
    struct pair *pair = pairs;
    while (pair < pairs + MAX_PAIRS && pair->fds[0] != 0) {
        pair++;
    }
    if (pair == pairs + MAX_PAIRS) {
        die("bpf_relay: more than %d connections", MAX_PAIRS);
    }
    load_tune(fd, DIAL_TIMEOUT_S);
    *pair = (struct pair){.fds = {fd, dial()}};
    redirect(pair->fds[0], pair->fds[1]);
    redirect(pair->fds[1], pair->fds[0]);
    for (int i = 0; i < 2; i++) {
        // The program sees new arrivals only: this makes the kernel look at what was there before.
        int one = 1;
        struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = pair};
        if (setsockopt(pair->fds[i], SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)) < 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pair->fds[i], &event) < 0) {
            die("bpf_relay: %s", strerror(errno));
        }
    }
}

static void end_pairs(void) {
    uint64_t now = now_ns();
    for (struct pair *pair = pairs; pair < pairs + MAX_PAIRS; pair++) {
        if (pair->end_ns != 0 && pair->end_ns <= now) {
            close(pair->fds[0]);
            close(pair->fds[1]);
            *pair = (struct pair){0};
        }
    }
}

static void serve(int listener) {
    struct epoll_event event = {.events = EPOLLIN}, events[64];
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) < 0) {
        die("bpf_relay: epoll: %s", strerror(errno));
    }
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 64, GRACE_MS);
        for (int i = 0; i < n; i++) {
            struct pair *pair = events[i].data.ptr;
            if (pair == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd >= 0) {
                    start_pair(fd);
                }
            } else if (pair->end_ns == 0) {
                pair->end_ns = now_ns() + GRACE_MS * 1000000ull;
                (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, pair->fds[0], NULL);
                (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, pair->fds[1], NULL);
            }
        }
        end_pairs();
    }
}

int main(int argc, char **argv) {
    const struct load_option none[] = {{NULL, NULL, 0}};
    const char *usage = "bpf_relay LISTEN TARGET NETNS";
    if (load_options(argc, argv, none, usage) != 3) {
        die("usage: %s", usage);
    }
    struct load_addr addr = load_addr(argv[0]);
    target = load_addr(argv[1]);
    own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    far_netns = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (own_netns < 0 || far_netns < 0) {
        die("bpf_relay: %s: %s", argv[2], strerror(errno));
    }
    load_program();
    serve(load_listen(&addr));
}
