// SPDX-License-Identifier: Apache-2.0
//
// reqload ADDR [PATH [HOST]]: requests to a reqserver over kept connections, one at a time on each;
// with a PATH: to an HTTP/1.1 server (load_http.h).
//
//   --rate=N      open loop: N requests a second on a fixed schedule; 0 = closed loop (saturation)
//   --conns=4     connections
//   --seconds=5   how long
//   --warm-ms=300 requests of this first part are not in the percentiles
//   --request=128 --answer=1024   bytes, heads included (not with a PATH)
//   --upgrade     with a PATH: an upgrade to a WebSocket, and then the messages of a reqserver
//   --slots       the histogram too, so that several runs can be added up
//   --wait        say "ready", begin when a line comes in
//
// Latency counts from the time at which the schedule wanted the request to be sent, not from when
// it was sent: a stall of the path delays every request that it holds up. When all connections are
// busy a due request waits for one. JSON on stdout, before the connections are closed.
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>

#include "bench/tools/load_http.h"

enum { MAX_CONNS = 16384, MAX_EVENTS = 256, DRAIN_S = 10, CLOCK_MIN_NS = 10000 };

struct conn {
    int fd;
    bool is_out_watched;
    uint64_t seq;
    uint64_t intended_ns;
    uint32_t out, in; // bytes of the request sent, of the answer received
    struct load_head head; // of the answer
    struct load_http_answer *http; // instead of `head`
    struct conn *next_idle;
};

static struct {
    uint64_t rate, n_conns, seconds, warm_ms, request_len, answer_len, slots, upgrade, wait;
} opt = {.n_conns = 4, .seconds = 5, .warm_ms = 300, .request_len = 128, .answer_len = 1024};

static bool is_http;

static struct {
    int epoll_fd;
    int clock_fd; // readable when a request is due
    struct conn *conns, *idle;
    uint64_t start_ns, warm_ns, end_ns;
    uint64_t n_sent, n_done;
    struct load_hist latency, lateness;
} run;

static void watch(struct conn *conn, uint32_t events, int op) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(run.epoll_fd, op, conn->fd, &event) < 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

static const uint8_t *request_of(const struct conn *conn) {
    static uint8_t message[LOAD_MESSAGE_MAX];
    if (is_http) {
        return (const uint8_t *)load_http.request;
    }
    struct load_head head = load_request(conn->seq, opt.request_len, opt.answer_len);
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), load_pattern_at(conn->seq), opt.request_len - sizeof(head));
    return message;
}

static void send_more(struct conn *conn) {
    const uint8_t *message = request_of(conn);
    while (conn->out < opt.request_len) {
        ssize_t n = send(conn->fd, message + conn->out, opt.request_len - conn->out,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            if (!conn->is_out_watched) {
                watch(conn, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
                conn->is_out_watched = true;
            }
            return;
        }
        if (n < 0) {
            die("send: %s", strerror(errno));
        }
        conn->out += (uint32_t)n;
    }
    if (conn->is_out_watched) {
        watch(conn, EPOLLIN, EPOLL_CTL_MOD);
        conn->is_out_watched = false;
    }
}

static void begin(struct conn *conn, uint64_t intended_ns) {
    conn->seq = run.n_sent++;
    conn->intended_ns = intended_ns;
    conn->out = conn->in = 0;
    if (is_http) {
        load_http_begin(conn->http);
    }
    if (intended_ns >= run.warm_ns) {
        hist_add(&run.lateness, now_ns() - intended_ns);
    }
    send_more(conn);
}

static void finish(struct conn *conn) {
    uint64_t now = now_ns();
    if (!is_http && (conn->head.magic != LOAD_MAGIC || conn->head.seq != conn->seq ||
                     conn->head.len != opt.answer_len)) {
        die("wrong answer to request %lu", (unsigned long)conn->seq);
    }
    if (conn->intended_ns >= run.warm_ns) {
        hist_add(&run.latency, now - conn->intended_ns);
    }
    run.n_done++;
    if (opt.rate == 0 && now < run.end_ns) {
        begin(conn, now);
        return;
    }
    conn->next_idle = run.idle;
    run.idle = conn;
}

static void receive(struct conn *conn) {
    static uint8_t buf[LOAD_MESSAGE_MAX];
    ssize_t n = recv(conn->fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        die("the connection ended: %s", n == 0 ? "closed" : strerror(errno));
    }
    if (is_http) {
        if (load_http_take(conn->http, buf, (uint32_t)n)) {
            finish(conn);
        }
        return;
    }
    uint32_t len = (uint32_t)n, used = 0, head_len = sizeof(conn->head);
    if (conn->in < head_len) {
        used = len < head_len - conn->in ? len : head_len - conn->in;
        memcpy((char *)&conn->head + conn->in, buf, used);
        conn->in += used;
    }
    if (len > used) {
        uint32_t off = conn->in - head_len;
        if (conn->in + len - used > opt.answer_len ||
            memcmp(buf + used, load_pattern_at(conn->seq + 1) + off, len - used) != 0) {
            die("wrong bytes in the answer to request %lu", (unsigned long)conn->seq);
        }
        conn->in += len - used;
    }
    if (conn->in == opt.answer_len) {
        finish(conn);
    }
}

// The clock of the schedule ticks by itself. A timeout of each wait would do the same, but then the
// timer is set while the path works on the request and unset before its answer is read, and in a
// virtual machine both cost as much as the path does.
static void start_clock(void) {
    run.clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    uint64_t interval = 1000000000 / opt.rate;
    interval = interval > CLOCK_MIN_NS ? interval : CLOCK_MIN_NS;
    struct itimerspec clock = {
        .it_value = {.tv_sec = (time_t)(run.start_ns / 1000000000),
                     .tv_nsec = (long)(run.start_ns % 1000000000)},
        .it_interval = {.tv_sec = (time_t)(interval / 1000000000),
                        .tv_nsec = (long)(interval % 1000000000)},
    };
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (run.clock_fd < 0 || timerfd_settime(run.clock_fd, TFD_TIMER_ABSTIME, &clock, NULL) < 0 ||
        epoll_ctl(run.epoll_fd, EPOLL_CTL_ADD, run.clock_fd, &event) < 0) {
        die("clock: %s", strerror(errno));
    }
}

// Before the requests are sent: the read sets the timer for the next tick.
static void read_clock(void) {
    uint64_t n_ticks;
    if (read(run.clock_fd, &n_ticks, sizeof(n_ticks)) < 0 && errno != EAGAIN) {
        die("clock: %s", strerror(errno));
    }
}

// Requests that are due, as far as connections are free: a completion brings us back, or the clock.
static void send_due(uint64_t now) {
    while (opt.rate != 0 && run.idle != NULL) {
        uint64_t due = run.start_ns + run.n_sent * 1000000000 / opt.rate;
        if (due > now || due >= run.end_ns) {
            return;
        }
        struct conn *conn = run.idle;
        run.idle = conn->next_idle;
        begin(conn, due);
    }
}

static bool is_over(uint64_t now) {
    if (now > run.end_ns + DRAIN_S * 1000000000ull) {
        die("%lu requests without an answer", (unsigned long)(run.n_sent - run.n_done));
    }
    bool is_all_sent = opt.rate == 0
                           ? now >= run.end_ns
                           : run.start_ns + run.n_sent * 1000000000 / opt.rate >= run.end_ns;
    return is_all_sent && run.n_done == run.n_sent;
}

static void drive(void) {
    run.start_ns = now_ns();
    run.warm_ns = run.start_ns + opt.warm_ms * 1000000;
    run.end_ns = run.start_ns + opt.seconds * 1000000000;
    if (opt.rate == 0) {
        for (uint64_t i = 0; i < opt.n_conns; i++) {
            begin(&run.conns[i], now_ns());
        }
        run.idle = NULL;
    } else {
        start_clock();
    }
    uint64_t now = now_ns();
    while (!is_over(now)) {
        send_due(now);
        struct epoll_event events[MAX_EVENTS];
        int n = epoll_wait(run.epoll_fd, events, MAX_EVENTS, opt.rate == 0 ? 100 : -1);
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn == NULL) {
                read_clock();
                continue;
            }
            if (events[i].events & EPOLLOUT) {
                send_more(conn);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                receive(conn);
            }
        }
        now = now_ns();
    }
}

static void upgrade(int fd, const char *path, const char *host) {
    char request[1024], answer[4096];
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\n"
                       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: " LOAD_WEBSOCKET_KEY "\r\n\r\n",
                       path, host);
    size_t got = 0;
    if (len <= 0 || (size_t)len >= sizeof(request) || !load_send(fd, request, (size_t)len, 0)) {
        die("upgrade: %s", strerror(errno));
    }
    // Byte by byte: nothing behind the head may be taken.
    while (got < 4 || memcmp(answer + got - 4, "\r\n\r\n", 4) != 0) {
        if (got == sizeof(answer) - 1 || !load_recv(fd, answer + got, 1)) {
            die("upgrade: no answer");
        }
        got++;
    }
    answer[got] = '\0';
    if (strncmp(answer, "HTTP/1.1 101 ", 13) != 0 ||
        strstr(answer, LOAD_WEBSOCKET_ACCEPT) == NULL) {
        die("upgrade: %s", answer);
    }
}

static void open_conns(const struct load_addr *addr, char **args, int n_args) {
    run.conns = calloc(opt.n_conns, sizeof(*run.conns));
    run.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (run.conns == NULL || run.epoll_fd < 0) {
        die("no memory");
    }
    for (uint64_t i = 0; i < opt.n_conns; i++) {
        struct conn *conn = &run.conns[i];
        conn->fd = load_connect(addr, 20);
        if (opt.upgrade != 0) {
            upgrade(conn->fd, args[1], n_args > 2 ? args[2] : args[0]);
        }
        conn->http = is_http ? malloc(sizeof(*conn->http)) : NULL;
        if (is_http ? !load_http_exchange(conn->fd)
                    : !load_exchange(conn->fd, i, opt.request_len, opt.answer_len)) {
            die("first exchange: %s", errno == 0 ? "closed" : strerror(errno));
        }
        watch(conn, EPOLLIN, EPOLL_CTL_ADD);
        conn->next_idle = run.idle;
        run.idle = conn;
    }
}

int main(int argc, char **argv) {
    const struct load_option options[] = {
        {"rate", &opt.rate, 1000000},
        {"conns", &opt.n_conns, MAX_CONNS},
        {"seconds", &opt.seconds, 3600},
        {"warm-ms", &opt.warm_ms, 60000},
        {"request", &opt.request_len, LOAD_MESSAGE_MAX},
        {"answer", &opt.answer_len, LOAD_MESSAGE_MAX},
        {"slots", &opt.slots, 1},
        {"upgrade", &opt.upgrade, 1},
        {"wait", &opt.wait, 1},
        {NULL, NULL, 0},
    };
    const char *usage = "reqload ADDR [PATH [HOST]] [--rate=0] [--conns=4] [--seconds=5] "
                        "[--warm-ms=300] [--request=128] [--answer=1024] [--upgrade] [--slots] "
                        "[--wait]";
    int n = load_options(argc, argv, options, usage);
    if (n < 1 || n > 3 || opt.request_len < sizeof(struct load_head) ||
        opt.answer_len < sizeof(struct load_head) || opt.n_conns == 0) {
        die("usage: %s", usage);
    }
    if (opt.upgrade != 0 && n < 2) {
        die("usage: %s", usage);
    }
    is_http = n > 1 && opt.upgrade == 0;
    if (is_http) {
        load_http_init(argv[1], n > 2 ? argv[2] : argv[0]);
        opt.request_len = load_http.request_len;
    }
    load_raise_files();
    load_pattern_init();
    // The schedule shall not be rounded to 50 us.
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    struct load_addr addr = load_addr(argv[0]);
    open_conns(&addr, argv, n);
    load_wait_go(opt.wait != 0);
    double cpu = own_cpu_s();
    drive();
    double seconds = (double)(now_ns() - run.start_ns) * 1e-9;
    printf("{\"requests\": %lu, \"seconds\": %.4f, \"rate\": %.1f, \"conns\": %lu, "
           "\"own_cpu_s\": %.4f, ",
           (unsigned long)run.n_done, seconds, (double)run.n_done / seconds,
           (unsigned long)opt.n_conns, own_cpu_s() - cpu);
    hist_print(&run.latency, "");
    printf(", ");
    hist_print(&run.lateness, "send_late_");
    if (opt.slots != 0) {
        hist_print_slots(&run.latency);
    }
    printf("}\n");
    fflush(stdout);
    return 0;
}
