// SPDX-License-Identifier: Apache-2.0
#include "common/net/http_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/rt/sock.h"

struct http_exchange {
    struct link link;
    struct list node; // server->conns
    struct http_server *server;
    struct timer timer;
    struct http_query query;
    size_t head_len; // of the request under way, with the empty line
    size_t body_left; // request body still to come
    size_t in_len;
    bool is_answering; // handed to the handler, not answered
    bool keep_alive, is_http11, is_head, is_dead;
    bool is_final; // the last answer was given: further input is dropped
    bool is_closed; // link is gone; freed when the answer is in
    uint8_t *out; // body being sent, heap; NULL = none
    size_t out_len, out_sent;
    struct http_body *body; // being made and sent; NULL = none
    struct timer step; // its next piece
    bool is_chunked;
    char in[HTTP_SERVER_HEAD_MAX];
};

static struct http_exchange *of_link(struct link *link) {
    return CONTAINER_OF(link, struct http_exchange, link);
}

// ---- ending ------------------------------------------------------------------------------------

static void conn_put(struct http_exchange *exchange) {
    if (!exchange->is_closed || exchange->is_answering) {
        return;
    }
    struct http_server *server = exchange->server;
    list_del(&exchange->node);
    server->n_conns--;
    free(exchange->out);
    free(exchange);
    if (server->is_closing && server->n_conns == 0 && server->on_closed != NULL &&
        server->listener.fd < 0) {
        server->on_closed(server->arg);
    }
}

static bool is_sending(const struct http_exchange *exchange) {
    return exchange->out != NULL || exchange->body != NULL;
}

static void drop_body(struct http_exchange *exchange) {
    struct http_body *body = exchange->body;
    exchange->body = NULL;
    timer_clear(&exchange->server->loop->timers, &exchange->step);
    if (body != NULL) {
        body->free(body);
    }
}

static void conn_close(struct http_exchange *exchange) {
    if (!exchange->is_dead) {
        exchange->is_dead = true;
        drop_body(exchange);
        timer_clear(&exchange->server->loop->timers, &exchange->timer);
        link_close(&exchange->link);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    conn_close(CONTAINER_OF(timer, struct http_exchange, timer));
}

static void on_closed(struct link *link) {
    struct http_exchange *exchange = of_link(link);
    exchange->is_closed = exchange->is_dead = true;
    drop_body(exchange);
    timer_clear(&exchange->server->loop->timers, &exchange->timer);
    conn_put(exchange);
}

static bool is_idle(const struct http_exchange *exchange) {
    return !exchange->is_answering && !is_sending(exchange) && link_queued(&exchange->link) == 0;
}

static void set_timer(struct http_exchange *exchange) {
    struct loop *loop = exchange->server->loop;
    timer_set(&loop->timers, &exchange->timer, loop->now + HTTP_SERVER_TIMEOUT_MS * NS_PER_MS);
}

// ---- requests ----------------------------------------------------------------------------------

static bool parse_request_line(struct http_exchange *exchange, struct slice line) {
    struct slice rest, target, version;
    if (!slice_split(line, ' ', &exchange->query.method, &rest) ||
        !slice_split(rest, ' ', &target, &version) || target.len == 0 || target.ptr[0] != '/') {
        return false;
    }
    if (!slice_split(target, '?', &exchange->query.path, &exchange->query.query)) {
        exchange->query.path = target;
        exchange->query.query = slice_make(NULL, 0);
    }
    exchange->keep_alive = exchange->is_http11 = slice_eq_str(version, "HTTP/1.1");
    exchange->is_head = slice_eq_str(exchange->query.method, "HEAD");
    return exchange->keep_alive || slice_eq_str(version, "HTTP/1.0");
}

static bool parse_header(struct http_exchange *exchange, struct slice line) {
    struct slice name, value;
    if (!slice_split(line, ':', &name, &value)) {
        return false;
    }
    value = slice_trim(value);
    if (slice_eq_nocase(name, SLICE_LIT("connection"))) {
        exchange->keep_alive = exchange->keep_alive && !slice_eq_nocase(value, SLICE_LIT("close"));
    } else if (slice_eq_nocase(name, SLICE_LIT("accept"))) {
        exchange->query.accept = value;
    } else if (slice_eq_nocase(name, SLICE_LIT("accept-encoding"))) {
        exchange->query.accept_encoding = value;
    } else if (slice_eq_nocase(name, SLICE_LIT("content-length"))) {
        uint64_t len = 0;
        if (!slice_to_u64(value, HTTP_SERVER_BODY_MAX, &len)) {
            return false;
        }
        exchange->body_left = len;
    } else if (slice_eq_nocase(name, SLICE_LIT("transfer-encoding"))) {
        return false; // no endpoint takes a streamed body
    }
    return true;
}

static bool parse_head(struct http_exchange *exchange) {
    struct slice head = slice_make(exchange->in, exchange->head_len - 2);
    exchange->query = (struct http_query){0};
    exchange->body_left = 0;
    bool is_first = true;
    while (head.len > 0) {
        struct slice line;
        if (!slice_split(head, '\n', &line, &head)) {
            return false;
        }
        if (line.len == 0 || line.ptr[line.len - 1] != '\r') {
            return false;
        }
        line.len--;
        bool ok = is_first ? parse_request_line(exchange, line) : parse_header(exchange, line);
        if (!ok) {
            return false;
        }
        is_first = false;
    }
    return !is_first;
}

static void next_request(struct http_exchange *exchange) {
    while (!exchange->is_answering && !exchange->is_dead && !is_sending(exchange) &&
           !exchange->is_final) {
        const char *end = memmem(exchange->in, exchange->in_len, "\r\n\r\n", 4);
        if (end == NULL) {
            if (exchange->in_len == sizeof(exchange->in)) {
                exchange->keep_alive = false;
                exchange->is_answering = true;
                http_reply(exchange, 431, "text/plain", SLICE_LIT("request head too large\n"));
            }
            return;
        }
        exchange->head_len = (size_t)(end - exchange->in) + 4;
        exchange->is_answering = true;
        if (!parse_head(exchange)) {
            exchange->keep_alive = false;
            http_reply(exchange, 400, "text/plain", SLICE_LIT("malformed request\n"));
            return;
        }
        timer_clear(&exchange->server->loop->timers, &exchange->timer);
        exchange->server->handle(exchange->server->arg, exchange, &exchange->query);
    }
}

// Hands the next part of the answer to the link.
static void pump(struct http_exchange *exchange) {
    size_t queued = link_queued(&exchange->link);
    if (exchange->out == NULL || queued >= HTTP_SERVER_QUEUE_MAX / 2) {
        return;
    }
    size_t n = MIN(HTTP_SERVER_QUEUE_MAX - queued, exchange->out_len - exchange->out_sent);
    struct chain part;
    chain_init(&part, exchange->server->loop->pool);
    chain_copy(&part, slice_make(exchange->out + exchange->out_sent, n));
    exchange->out_sent += n;
    bool is_last = exchange->out_sent == exchange->out_len;
    if (is_last) {
        free(exchange->out);
        exchange->out = NULL;
    }
    link_write(&exchange->link, &part);
    if (is_last && exchange->keep_alive) {
        next_request(exchange);
    }
}

// ---- bodies in pieces --------------------------------------------------------------------------

static void arm_step(struct http_exchange *exchange) {
    struct loop *loop = exchange->server->loop;
    if (!timer_is_armed(&exchange->step)) {
        timer_set(&loop->timers, &exchange->step, loop->now);
    }
}

static void write_piece(struct http_exchange *exchange, struct slice piece, bool is_last) {
    char size[32];
    struct chain part;
    chain_init(&part, exchange->server->loop->pool);
    if (piece.len > 0) {
        int n = snprintf(size, sizeof(size), "%zx\r\n", piece.len);
        chain_copy(&part, slice_make(size, exchange->is_chunked ? (size_t)n : 0));
        chain_copy(&part, piece);
        chain_copy(&part, slice_make("\r\n", exchange->is_chunked ? 2 : 0));
    }
    if (is_last && exchange->is_chunked) {
        chain_copy(&part, SLICE_LIT("0\r\n\r\n"));
    }
    if (!chain_empty(&part)) {
        link_write(&exchange->link, &part);
    }
}

static void on_step(struct timer *timer, uint64_t now) {
    (void)now;
    struct http_exchange *exchange = CONTAINER_OF(timer, struct http_exchange, step);
    if (exchange->is_dead || link_queued(&exchange->link) >= HTTP_SERVER_QUEUE_MAX / 2) {
        return; // on_sent goes on
    }
    struct buf piece;
    buf_init(&piece, HTTP_SERVER_PIECE_MAX);
    bool has_more = exchange->body->next(exchange->body, &piece);
    if (!buf_ok(&piece)) {
        conn_close(exchange);
    } else {
        if (!has_more) {
            drop_body(exchange);
        }
        write_piece(exchange, buf_slice(&piece), !has_more);
    }
    buf_fini(&piece);
    if (exchange->is_dead) {
        return;
    }
    if (has_more) {
        arm_step(exchange);
    } else if (exchange->keep_alive) {
        next_request(exchange);
    } else if (is_idle(exchange)) { // all of it is gone already; else on_sent closes
        conn_close(exchange);
    }
}

static uint32_t on_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need) {
    (void)head;
    (void)tail;
    (void)ret_need;
    struct http_exchange *exchange = of_link(link);
    const uint8_t *in = blk->base + off;
    uint32_t left = len;
    while (left > 0 && !exchange->is_dead && !exchange->is_final) {
        if (exchange->body_left > 0 && !exchange->is_answering && !is_sending(exchange)) {
            uint32_t n = (uint32_t)MIN(left, exchange->body_left);
            exchange->body_left -= n;
            in += n;
            left -= n;
            continue;
        }
        uint32_t room = (uint32_t)(sizeof(exchange->in) - exchange->in_len);
        uint32_t n = MIN(left, room);
        if (n == 0) {
            conn_close(exchange); // pipelines more than a head while one is being answered
            break;
        }
        memcpy(exchange->in + exchange->in_len, in, n);
        exchange->in_len += n;
        in += n;
        left -= n;
        next_request(exchange);
    }
    return len;
}

static void on_eof(struct link *link) {
    struct http_exchange *exchange = of_link(link);
    exchange->keep_alive = false;
    if (is_idle(exchange)) {
        conn_close(exchange);
    }
}

static void on_sent(struct link *link, size_t len) {
    (void)len;
    struct http_exchange *exchange = of_link(link);
    if (exchange->out != NULL && !exchange->is_dead) {
        set_timer(exchange); // the client reads
        pump(exchange);
    }
    if (exchange->body != NULL && !exchange->is_dead) {
        set_timer(exchange);
        arm_step(exchange);
    }
    if (!exchange->keep_alive && is_idle(exchange)) {
        conn_close(exchange);
    }
}

static void on_error(struct link *link, int err) {
    (void)err;
    of_link(link)->is_dead = true; // the link closes by itself
}

static const struct link_handler link_handler = {.on_data = on_data,
                                                 .on_eof = on_eof,
                                                 .on_sent = on_sent,
                                                 .on_error = on_error,
                                                 .on_closed = on_closed};

static const char *status_text(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    default:
        return "Status";
    }
}

// Drops the answered request and its body from the input.
static void consume_request(struct http_exchange *exchange) {
    size_t used = MIN(exchange->head_len, exchange->in_len);
    size_t body = MIN(exchange->body_left, exchange->in_len - used);
    exchange->body_left -= body;
    used += body;
    memmove(exchange->in, exchange->in + used, exchange->in_len - used);
    exchange->in_len -= used;
}

// The handler has answered. False: nobody is there any more, and the exchange may be gone.
static bool begin_answer(struct http_exchange *exchange) {
    CHECK(exchange->is_answering && !is_sending(exchange));
    exchange->is_answering = false;
    exchange->is_final = !exchange->keep_alive;
    if (exchange->is_dead) {
        conn_put(exchange);
        return false;
    }
    return true;
}

// `framing`: what tells where the body ends, "Content-Length: 5\r\n".
static void begin_head(struct http_exchange *exchange, int status, const char *content_type,
                       const char *encoding, const char *framing, struct chain *ret_out) {
    char head[400];
    int n = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n%s%s%s%s%s\r\n",
                     status, status_text(status), content_type, framing,
                     encoding != NULL ? "Content-Encoding: " : "", encoding != NULL ? encoding : "",
                     encoding != NULL ? "\r\n" : "",
                     exchange->keep_alive ? "" : "Connection: close\r\n");
    CHECK(n > 0 && (size_t)n < sizeof(head));
    chain_init(ret_out, exchange->server->loop->pool);
    chain_copy(ret_out, slice_make(head, (size_t)n));
    consume_request(exchange);
}

void http_reply_stream(struct http_exchange *exchange, int status, const char *content_type,
                       const char *encoding, struct http_body *body) {
    struct chain out;
    if (!begin_answer(exchange)) {
        body->free(body);
        return;
    }
    exchange->is_chunked = exchange->is_http11;
    if (!exchange->is_chunked) {
        exchange->keep_alive = false; // its end is that of the body
        exchange->is_final = true;
    }
    begin_head(exchange, status, content_type, encoding,
               exchange->is_chunked ? "Transfer-Encoding: chunked\r\n" : "", &out);
    bool has_body = !exchange->is_head;
    if (has_body) {
        exchange->body = body;
        arm_step(exchange);
    } else {
        body->free(body);
    }
    link_write(&exchange->link, &out);
    set_timer(exchange);
    if (!has_body && exchange->keep_alive) {
        next_request(exchange);
    } // else on_sent closes
}

void http_reply_buf(struct http_exchange *exchange, int status, const char *content_type,
                    const char *encoding, struct buf *body) {
    char framing[64];
    struct chain out;
    if (!begin_answer(exchange)) {
        buf_clear(body);
        return;
    }
    snprintf(framing, sizeof(framing), "Content-Length: %zu\r\n", body->len);
    begin_head(exchange, status, content_type, encoding, framing, &out);
    if (body->len > 0 && !exchange->is_head) {
        exchange->out = (uint8_t *)buf_take(body, &exchange->out_len);
        exchange->out_sent = 0;
    }
    link_write(&exchange->link, &out);
    set_timer(exchange);
    if (exchange->out != NULL) {
        pump(exchange); // goes on to the next request at the end
    } else if (exchange->keep_alive) {
        next_request(exchange);
    } // else on_sent closes
}

void http_reply(struct http_exchange *exchange, int status, const char *content_type,
                struct slice body) {
    struct buf copy;
    buf_init(&copy, body.len);
    buf_append(&copy, body);
    http_reply_buf(exchange, status, content_type, NULL, &copy);
    buf_fini(&copy);
}

// ---- server ------------------------------------------------------------------------------------

static void on_accept(struct listener *listener, int fd) {
    struct http_server *server = CONTAINER_OF(listener, struct http_server, listener);
    if (server->n_conns >= HTTP_SERVER_CONNS_MAX || server->is_closing) {
        server->loop->io->ops->close(server->loop->io, fd, true);
        return;
    }
    struct http_exchange *exchange = xcalloc(1, sizeof(*exchange));
    exchange->server = server;
    timer_init(&exchange->timer, on_timer);
    timer_init(&exchange->step, on_step);
    list_push_back(&server->conns, &exchange->node);
    server->n_conns++;
    set_timer(exchange);
    link_init(&exchange->link, server->loop, fd, LINK_SLOTS, &link_handler);
    link_read(&exchange->link, true);
}

static void on_listener_closed(struct listener *listener) {
    struct http_server *server = CONTAINER_OF(listener, struct http_server, listener);
    listener->fd = -1;
    if (server->n_conns == 0 && server->on_closed != NULL) {
        server->on_closed(server->arg);
    }
}

static const struct listener_handler listener_handler = {.on_accept = on_accept,
                                                         .on_closed = on_listener_closed};

int http_server_open(struct http_server *server, struct loop *loop, const struct addr *address,
                     void (*handle)(void *arg, struct http_exchange *exchange,
                                    const struct http_query *query),
                     void *arg) {
    *server = (struct http_server){.loop = loop, .handle = handle, .arg = arg};
    list_init(&server->conns);
    struct sock_listen_params params = {.netns_fd = -1, .bind = *address};
    int fd = sock_listen(&params);
    if (fd == -EAFNOSUPPORT && ip_is_unspecified(&address->ip)) {
        params.bind.ip = (struct ip){.family = 4}; // a kernel without IPv6
        fd = sock_listen(&params);
    }
    if (fd < 0) {
        return fd;
    }
    listener_init(&server->listener, loop, fd, &listener_handler);
    return 0;
}

void http_server_close(struct http_server *server, void (*on_closed_fn)(void *arg)) {
    server->is_closing = true;
    server->on_closed = on_closed_fn;
    listener_close(&server->listener, false);
    LIST_EACH_SAFE(node, &server->conns) {
        struct http_exchange *exchange = LIST_ITEM(node, struct http_exchange, node);
        exchange->keep_alive = false;
        if (is_idle(exchange)) {
            conn_close(exchange);
        }
    }
}

bool http_query_get(struct slice query, const char *key, struct slice *ret_value) {
    while (query.len > 0) {
        struct slice pair, name, value;
        if (!slice_split(query, '&', &pair, &query)) {
            pair = query;
            query.len = 0;
        }
        if (!slice_split(pair, '=', &name, &value)) {
            name = pair;
            value = slice_make(NULL, 0);
        }
        if (slice_eq_str(name, key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}
