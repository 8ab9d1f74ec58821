// SPDX-License-Identifier: Apache-2.0
//
// reqserver ADDR [--seconds=3600] [--upgrade]: answers requests of reqload, connload and idleconns,
// one thread on epoll. Checks every byte of a request. Closes when the client does. With --upgrade
// each connection begins with an HTTP/1.1 upgrade to a WebSocket (reqload --upgrade).
#include <sys/epoll.h>
#include <sys/uio.h>

#include "bench/tools/load.h"

enum { MAX_EVENTS = 256 };

static uint64_t is_upgrade;

struct conn {
    int fd;
    bool is_writing; // an answer is partly sent: reading waits
    uint8_t head_end; // bytes of the CRLF CRLF behind the upgrade that have come; 4: all
    uint32_t got; // bytes of the current request
    uint32_t sent; // bytes of the current answer
    struct load_head head;
};

static int epoll_fd;

static void watch(struct conn *conn, uint32_t events, int op) {
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(epoll_fd, op, conn->fd, &event) < 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

static void conn_free(struct conn *conn) {
    close(conn->fd);
    free(conn);
}

// False when the connection is gone.
static bool write_answer(struct conn *conn) {
    struct load_head head = {
        .magic = LOAD_MAGIC, .len = conn->head.answer_len, .seq = conn->head.seq};
    while (conn->sent < head.len) {
        struct iovec iov[2];
        struct msghdr msg = {.msg_iov = iov};
        uint32_t body = conn->sent > sizeof(head) ? conn->sent - (uint32_t)sizeof(head) : 0;
        if (conn->sent < sizeof(head)) {
            iov[msg.msg_iovlen++] = (struct iovec){.iov_base = (char *)&head + conn->sent,
                                                   .iov_len = sizeof(head) - conn->sent};
        }
        iov[msg.msg_iovlen++] =
            (struct iovec){.iov_base = (void *)(load_pattern_at(head.seq + 1) + body),
                           .iov_len = head.len - sizeof(head) - body};
        ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            if (!conn->is_writing) {
                conn->is_writing = true;
                watch(conn, EPOLLOUT, EPOLL_CTL_MOD);
            }
            return true;
        }
        if (n < 0) {
            return false;
        }
        conn->sent += (uint32_t)n;
    }
    conn->got = conn->sent = 0;
    if (conn->is_writing) {
        conn->is_writing = false;
        watch(conn, EPOLLIN, EPOLL_CTL_MOD);
    }
    return true;
}

// One piece of a request; never crosses into the next one.
static bool take(struct conn *conn, const uint8_t *data, uint32_t len) {
    uint32_t head_len = sizeof(conn->head);
    if (conn->got < head_len) {
        uint32_t n = len < head_len - conn->got ? len : head_len - conn->got;
        memcpy((char *)&conn->head + conn->got, data, n);
        conn->got += n;
        data += n;
        len -= n;
        if (conn->got == head_len &&
            (conn->head.magic != LOAD_MAGIC || conn->head.len < head_len ||
             conn->head.answer_len < head_len || conn->head.len > LOAD_MESSAGE_MAX ||
             conn->head.answer_len > LOAD_MESSAGE_MAX)) {
            die("reqserver: not a request");
        }
    }
    if (len > 0) {
        if (memcmp(data, load_pattern_at(conn->head.seq) + conn->got - head_len, len) != 0) {
            die("reqserver: wrong bytes in request %lu", (unsigned long)conn->head.seq);
        }
        conn->got += len;
    }
    return conn->got < head_len || conn->got < conn->head.len || write_answer(conn);
}

// The request for an upgrade, byte by byte: it comes once a connection.
static bool read_upgrade(struct conn *conn) {
    static const char end[] = "\r\n\r\n";
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                 "Upgrade: websocket\r\n"
                                 "Sec-WebSocket-Accept: " LOAD_WEBSOCKET_ACCEPT "\r\n\r\n";
    char c;
    while (conn->head_end < 4) {
        ssize_t n = recv(conn->fd, &c, 1, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n <= 0) {
            return false;
        }
        conn->head_end = c == end[conn->head_end] ? conn->head_end + 1 : c == '\r';
    }
    return send(conn->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) ==
           (ssize_t)sizeof(answer) - 1;
}

static bool read_request(struct conn *conn) {
    if (conn->head_end < 4) {
        return read_upgrade(conn);
    }
    static uint8_t buf[LOAD_MESSAGE_MAX];
    size_t want = sizeof(conn->head);
    if (conn->got >= want) {
        want = conn->head.len - conn->got;
    } else {
        want = sizeof(buf);
    }
    ssize_t n = recv(conn->fd, buf, want, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return true;
    }
    if (n <= 0) {
        return false;
    }
    // A client of ours never sends a request before the answer to the last one.
    if (conn->got < sizeof(conn->head) && (size_t)n + conn->got > sizeof(conn->head)) {
        uint32_t rest = (uint32_t)sizeof(conn->head) - conn->got;
        return take(conn, buf, rest) && take(conn, buf + rest, (uint32_t)n - rest);
    }
    return take(conn, buf, (uint32_t)n);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        load_tune(fd, 0);
        struct conn *conn = calloc(1, sizeof(*conn));
        if (conn == NULL) {
            die("no memory");
        }
        conn->fd = fd;
        conn->head_end = is_upgrade != 0 ? 0 : 4;
        watch(conn, EPOLLIN, EPOLL_CTL_ADD);
    }
}

int main(int argc, char **argv) {
    uint64_t seconds = 3600;
    const struct load_option options[] = {
        {"seconds", &seconds, 86400}, {"upgrade", &is_upgrade, 1}, {NULL, NULL, 0}};
    const char *usage = "reqserver ADDR [--seconds=3600] [--upgrade]";
    if (load_options(argc, argv, options, usage) != 1) {
        die("usage: %s", usage);
    }
    load_raise_files();
    load_pattern_init();
    struct load_addr addr = load_addr(argv[0]);
    int listener = load_listen(&addr);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0 || epoll_fd < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) < 0) {
        die("epoll: %s", strerror(errno));
    }
    uint64_t end = now_ns() + seconds * 1000000000;
    while (now_ns() < end) {
        struct epoll_event events[MAX_EVENTS];
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, 1000);
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn == NULL) {
                accept_all(listener);
            } else if (!(conn->is_writing ? write_answer(conn) : read_request(conn))) {
                conn_free(conn);
            }
        }
    }
    return 0;
}
