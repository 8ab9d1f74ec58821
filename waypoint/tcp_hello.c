// SPDX-License-Identifier: Apache-2.0
#include "waypoint/tcp_hello.h"

#include <stdlib.h>

struct hello {
    struct wconn *conn;
    struct duplex *duplex;
    struct chain input; // its credit goes back when it is served
    struct timer timer;
    tcp_hello_fn *fn;
};

static void hello_free(struct hello *hello) {
    timer_clear(&hello->conn->worker->loop->timers, &hello->timer);
    chain_clear(&hello->input);
    free(hello);
}

// True: it is somebody else's now, or gone.
static bool decide(struct hello *hello, bool fin, bool is_late) {
    uint8_t start[TLS_HELLO_MAX];
    char name[TLS_NAME_MAX + 1] = "";
    size_t n = chain_peek(&hello->input, start, sizeof(start));
    enum tls_hello verdict = tls_hello_name(slice_make(start, n), name);
    if (verdict == TLS_HELLO_MORE && !fin && !is_late) {
        return false;
    }
    if (verdict != TLS_HELLO_NAME) {
        name[0] = '\0';
    }
    struct wconn *conn = hello->conn;
    tcp_hello_fn *fn = hello->fn;
    struct chain early = hello->input;
    chain_init(&hello->input, early.pool);
    hello->duplex->ops->hold(hello->duplex, true);
    hello_free(hello);
    fn(conn, &early, fin, name);
    return true;
}

static void on_data(struct duplex *duplex, const struct seg *seg) {
    struct hello *hello = duplex->owner;
    chain_copy(&hello->input, seg_slice(seg));
    blk_unref(seg->blk);
    (void)decide(hello, false, false);
}

static void on_fin(struct duplex *duplex) {
    (void)decide(duplex->owner, true, false);
}

static void on_sent(struct duplex *duplex, size_t n) {
    (void)duplex;
    (void)n;
}

static void on_writable(struct duplex *duplex) {
    (void)duplex;
}

static void on_abort(struct duplex *duplex, enum flow_end reason) {
    ((struct hello *)duplex->owner)->conn->end = (uint8_t)reason;
}

static void on_closed(struct duplex *duplex) {
    struct hello *hello = duplex->owner;
    struct wconn *conn = hello->conn;
    hello_free(hello);
    wconn_done(conn);
}

static const struct duplex_events events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    (void)decide(CONTAINER_OF(timer, struct hello, timer), false, true);
}

static void on_lost(struct wconn *conn, enum flow_end reason) {
    (void)conn;
    (void)reason; // accepted at once: the duplex tells
}

static void on_cut(struct wconn *conn, enum flow_end reason) {
    struct hello *hello = conn->user;
    conn->end = (uint8_t)reason;
    hello->duplex->ops->abort(hello->duplex);
}

static const struct wconn_ops ops = {.protocol = "tls", .lost = on_lost, .cut = on_cut};

void tcp_hello_start(struct wconn *conn, struct chain *early, bool fin, tcp_hello_fn *fn) {
    struct loop *loop = conn->worker->loop;
    struct hello *hello = xcalloc(1, sizeof(*hello));
    hello->conn = conn;
    hello->fn = fn;
    chain_init(&hello->input, loop->pool);
    timer_init(&hello->timer, on_timer);
    if (early != NULL) {
        chain_move_all(&hello->input, early);
    }
    hello->duplex = early != NULL ? conn->client_end : wconn_accept(conn);
    hello->duplex->events = &events;
    hello->duplex->owner = hello;
    conn->ops = &ops;
    conn->user = hello;
    timer_set(&loop->timers, &hello->timer, loop->now + TCP_HELLO_MS * NS_PER_MS);
    if (early == NULL || !decide(hello, fin, false)) {
        hello->duplex->ops->hold(hello->duplex, false);
    }
}
