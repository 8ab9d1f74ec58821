// SPDX-License-Identifier: Apache-2.0
#include "common/net/http_conn.h"

#include "common/net/http_conn_priv.h"

static struct http_conn *of_duplex(struct duplex *duplex) {
    return duplex->owner;
}

// ---- calls and the last of them ----------------------------------------------------------------

static void enter(struct http_conn *conn) {
    conn->depth++;
}

// The connection may be gone afterwards.
static void leave(struct http_conn *conn) {
    if (--conn->depth > 0 || !conn->is_closed) {
        return;
    }
    loop_flush_disarm(&conn->flush);
    timer_clear(&conn->loop->timers, &conn->timer);
    chain_clear(&conn->out);
    chain_clear(&conn->input);
    if (conn->codec != NULL) {
        conn->codec->free(conn);
    }
    conn->handler->on_closed(conn);
}

// ---- streams -----------------------------------------------------------------------------------

void http_stream_init(struct http_stream *stream, const struct http_stream_events *events,
                      void *owner) {
    *stream = (struct http_stream){.events = events, .owner = owner};
    list_init(&stream->node);
}

void http_conn_attach(struct http_conn *conn, struct http_stream *stream) {
    CHECK(stream->conn == NULL);
    stream->conn = conn;
    list_push_back(&conn->streams, &stream->node);
    conn->n_streams++;
    conn->n_streams_total++;
}

void http_conn_detach(struct http_stream *stream) {
    struct http_conn *conn = stream->conn;
    list_del(&stream->node);
    stream->conn = NULL;
    conn->n_streams--;
    conn->last_active = conn->loop->now;
    http_conn_kick(conn); // input may wait for this, or the end of the connection
}

void http_conn_reset_stream(struct http_stream *stream, enum http_reset reset, const char *detail) {
    http_conn_detach(stream);
    if (stream->h2 != NULL) {
        h2_stream_set_user(stream->h2, NULL);
        stream->h2 = NULL;
    }
    stream->events->on_reset(stream, reset, detail);
}

void http_conn_check_done(struct http_stream *stream) {
    if (!stream->is_recv_ended || !stream->is_send_ended || stream->conn == NULL) {
        return;
    }
    struct http_conn *conn = stream->conn;
    conn->codec->detach(stream);
    http_conn_detach(stream);
}

void http_conn_recv_head(struct http_stream *stream, const struct http_head *head, bool end) {
    stream->is_recv_ended = end;
    stream->events->on_head(stream, head, end);
}

void http_conn_recv_data(struct http_stream *stream, struct blk *blk, uint32_t off, uint32_t len,
                         bool end) {
    struct seg seg = {.blk = blk_ref(blk), .off = off, .len = len};
    stream->n_unconsumed += len;
    stream->is_recv_ended = end;
    stream->events->on_data(stream, &seg, end);
}

void http_conn_recv_trailers(struct http_stream *stream, const struct http_field *fields,
                             size_t n) {
    stream->is_recv_ended = true;
    stream->events->on_trailers(stream, fields, n);
}

void http_conn_recv_writable(struct http_stream *stream) {
    if (stream->was_full) {
        stream->was_full = false;
        stream->events->on_writable(stream);
    }
}

void http_conn_recv_ended(struct http_stream *stream) {
    bool was_told = stream->is_recv_ended; // with the head, payload or trailers
    stream->is_recv_ended = true;
    http_conn_check_done(stream);
    if (!was_told) {
        stream->events->on_end(stream);
    }
}

void http_conn_told_idle(struct http_conn *conn) {
    if (conn->handler->on_idle != NULL && !conn->is_ended) {
        conn->handler->on_idle(conn);
    }
}

struct http_stream *http_conn_new_stream(struct http_conn *conn) {
    if (conn->is_ended) {
        return NULL;
    }
    struct http_stream *stream = conn->handler->on_stream(conn);
    if (stream != NULL) {
        http_conn_attach(conn, stream);
    }
    return stream;
}

static void lose_streams(struct http_conn *conn, enum http_reset reset) {
    struct list *node;
    while ((node = conn->streams.next) != &conn->streams) {
        struct http_stream *stream = LIST_ITEM(node, struct http_stream, node);
        http_conn_reset_stream(stream, reset, NULL);
    }
}

// ---- endings -----------------------------------------------------------------------------------

void http_conn_set_draining(struct http_conn *conn) {
    if (!conn->is_draining) {
        conn->is_draining = true;
        if (conn->handler->on_draining != NULL) {
            conn->handler->on_draining(conn);
        }
    }
}

// Nobody is told of anything but the streams and, later, on_closed.
static void end_conn(struct http_conn *conn, enum http_reset reset) {
    if (conn->is_ended) {
        return;
    }
    conn->is_ended = true;
    http_conn_set_draining(conn);
    lose_streams(conn, reset);
}

void http_conn_finish(struct http_conn *conn) {
    conn->is_finishing = true;
    http_conn_kick(conn);
}

void http_conn_abort(struct http_conn *conn, enum http_reset reset) {
    if (conn->is_ended) {
        return;
    }
    enter(conn);
    end_conn(conn, reset);
    if (conn->duplex != NULL) {
        conn->duplex->ops->abort(conn->duplex);
    }
    leave(conn);
}

void http_conn_drain(struct http_conn *conn) {
    if (conn->is_ended) {
        return;
    }
    if (!conn->is_draining) {
        if (conn->codec != NULL) {
            conn->codec->drain(conn);
        } else { // its first request may be on its way
            timer_set(&conn->loop->timers, &conn->timer,
                      conn->loop->now + HTTP_CONN_LINGER_MS * NS_PER_MS);
        }
        http_conn_set_draining(conn);
    }
    http_conn_kick(conn);
}

bool http_conn_end_idle(struct http_conn *conn) {
    if (conn->is_ended || !list_empty(&conn->streams)) {
        return false;
    }
    http_conn_set_draining(conn);
    http_conn_finish(conn);
    return true;
}

static void set_held(struct http_conn *conn, bool is_held) {
    if (conn->duplex != NULL && conn->is_held != is_held) {
        conn->is_held = is_held;
        conn->duplex->ops->hold(conn->duplex, is_held);
    }
}

static void send_fin(struct http_conn *conn) {
    struct chain none;
    chain_init(&none, conn->loop->pool);
    conn->sent_fin = true;
    conn->duplex->ops->send(conn->duplex, &none, true);
}

// After our end: what the peer still sends is dropped, for a while.
static void wait_for_fin(struct http_conn *conn) {
    set_held(conn, false);
    if (conn->duplex == NULL) {
        return;
    }
    if (conn->got_fin) {
        conn->duplex->ops->finish(conn->duplex);
        return;
    }
    timer_set(&conn->loop->timers, &conn->timer, conn->loop->now + HTTP_CONN_LINGER_MS * NS_PER_MS);
}

// ---- output ------------------------------------------------------------------------------------

void http_conn_kick(struct http_conn *conn) {
    if (!conn->is_closed) {
        loop_flush_arm(conn->loop, &conn->flush);
    }
}

void http_conn_pull(struct http_conn *conn) {
    if (conn->codec != NULL && conn->out.len < HTTP_CONN_HIGH) {
        (void)conn->codec->pull(conn, &conn->out);
    }
}

static bool can_push(const struct http_conn *conn) {
    return conn->duplex != NULL && !conn->sent_fin && conn->duplex->ops->can_send(conn->duplex);
}

static void push_output(struct http_conn *conn) {
    while (can_push(conn)) {
        if (conn->codec != NULL) {
            (void)conn->codec->pull(conn, &conn->out);
            conn->codec->events(conn); // WRITABLE, CLOSED: there may be more to send
        }
        if (chain_empty(&conn->out) || !can_push(conn)) {
            break;
        }
        conn->duplex->ops->send(conn->duplex, &conn->out, false);
    }
    chain_to_cold(&conn->out); // nothing hot waits
    if (conn->codec != NULL) {
        conn->codec->cool(conn);
    }
}

static void arm_timer(struct http_conn *conn) {
    uint64_t due = conn->codec != NULL ? conn->codec->deadline(conn) : TIME_NEVER;
    if (due != TIME_NEVER && (!timer_is_armed(&conn->timer) || conn->timer.due > due)) {
        timer_set(&conn->loop->timers, &conn->timer, due);
    }
}

// ---- input -------------------------------------------------------------------------------------

// What waits to be read, or to be taken by the streams, is bounded by pausing the transport.
static void check_held(struct http_conn *conn) {
    if (!conn->is_ended && conn->codec != NULL) {
        set_held(conn, !conn->codec->wants_read(conn));
    }
}

static void open_codec(struct http_conn *conn, enum http_conn_version version) {
    conn->version = (uint8_t)version;
    if (version == HTTP_CONN_2) {
        conn->h2 =
            h2_conn_new(&conn->config->h2, conn->is_server, conn->loop->pool, conn->loop->now);
        conn->codec = &http_codec_2;
    } else {
        conn->h1 = h1_conn_new(&conn->config->h1, conn->is_server, conn->loop->pool);
        conn->codec = &http_codec_1;
    }
    if (conn->is_draining) {
        conn->codec->drain(conn);
    }
    http_conn_kick(conn);
}

// RFC 9113 3.4. False: not known yet.
static bool sniff(struct http_conn *conn, bool is_end) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    char start[sizeof(preface) - 1];
    size_t n = chain_peek(&conn->input, start, sizeof(start));
    if (memcmp(start, preface, n) != 0) {
        open_codec(conn, HTTP_CONN_1);
    } else if (n == sizeof(start)) {
        open_codec(conn, HTTP_CONN_2);
    } else if (is_end) {
        open_codec(conn, HTTP_CONN_1);
    } else {
        return false;
    }
    return true;
}

static bool takes_input(const struct http_conn *conn) {
    return !conn->is_ended && !conn->is_finishing;
}

static void pass_in(struct http_conn *conn, const struct seg *seg) {
    if (takes_input(conn)) {
        conn->codec->recv(conn, seg);
    }
}

// The first bytes tell the version.
static void recv_unknown(struct http_conn *conn, const struct seg *seg) {
    chain_copy(&conn->input, seg_slice(seg));
    if (!sniff(conn, false)) {
        return;
    }
    struct seg first;
    while (chain_pop(&conn->input, &first)) {
        pass_in(conn, &first);
        blk_unref(first.blk);
    }
}

static void take_seg(struct http_conn *conn, const struct seg *seg) {
    if (!takes_input(conn)) {
        return;
    }
    if (conn->codec == NULL) {
        recv_unknown(conn, seg);
    } else {
        pass_in(conn, seg);
    }
    check_held(conn);
    if (!conn->is_ended && conn->codec != NULL && conn->codec->wants_write(conn)) {
        http_conn_kick(conn);
    }
}

static void on_data(struct duplex *duplex, const struct seg *seg) {
    struct http_conn *conn = of_duplex(duplex);
    enter(conn);
    duplex->ops->consumed(duplex, seg->len); // hold() bounds what is read
    take_seg(conn, seg);
    blk_unref(seg->blk);
    leave(conn);
}

void http_conn_feed(struct http_conn *conn, struct chain *input) {
    struct seg seg;
    enter(conn);
    while (chain_pop(input, &seg)) {
        take_seg(conn, &seg);
        blk_unref(seg.blk);
    }
    leave(conn);
}

static void on_fin(struct duplex *duplex) {
    struct http_conn *conn = of_duplex(duplex);
    enter(conn);
    conn->got_fin = true;
    http_conn_set_draining(conn);
    if (conn->codec == NULL && !chain_empty(&conn->input)) {
        (void)sniff(conn, true);
        struct seg seg;
        while (chain_pop(&conn->input, &seg)) {
            pass_in(conn, &seg);
            blk_unref(seg.blk);
        }
    }
    if (conn->codec != NULL && takes_input(conn)) {
        conn->codec->fin(conn);
    } else if (!conn->is_ended) {
        http_conn_finish(conn); // nothing was said at all
    }
    if (conn->is_ended && conn->sent_fin && conn->duplex != NULL) {
        conn->duplex->ops->finish(duplex);
    }
    http_conn_kick(conn);
    leave(conn);
}

static void on_sent(struct duplex *duplex, size_t n) {
    (void)duplex;
    (void)n;
}

static void on_writable(struct duplex *duplex) {
    http_conn_kick(of_duplex(duplex));
}

static void on_abort(struct duplex *duplex, enum flow_end reason) {
    (void)reason;
    struct http_conn *conn = of_duplex(duplex);
    enter(conn);
    end_conn(conn, HTTP_RESET_TERMINATION);
    leave(conn);
}

static void on_closed(struct duplex *duplex) {
    struct http_conn *conn = of_duplex(duplex);
    enter(conn);
    conn->duplex = NULL;
    end_conn(conn, HTTP_RESET_TERMINATION);
    conn->is_closed = true;
    leave(conn);
}

static const struct duplex_events duplex_events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

// ---- the flush phase and time ------------------------------------------------------------------

static enum http_conn_end ending(const struct http_conn *conn) {
    if (conn->duplex == NULL || conn->is_ended || !chain_empty(&conn->out)) {
        return HTTP_CONN_GOES_ON;
    }
    if (conn->is_cut) {
        return HTTP_CONN_CUT;
    }
    if (conn->codec == NULL) {
        return conn->is_finishing ? HTTP_CONN_OVER : HTTP_CONN_GOES_ON;
    }
    if (conn->codec->wants_write(conn)) {
        return HTTP_CONN_GOES_ON;
    }
    enum http_conn_end end = conn->codec->ending(conn);
    return conn->is_finishing && end != HTTP_CONN_CUT ? HTTP_CONN_OVER : end;
}

static void check_ending(struct http_conn *conn) {
    switch (ending(conn)) {
    case HTTP_CONN_GOES_ON:
        break;
    case HTTP_CONN_FIN:
        if (!conn->sent_fin) {
            send_fin(conn);
        }
        break;
    case HTTP_CONN_OVER:
        end_conn(conn, HTTP_RESET_TERMINATION);
        if (!conn->sent_fin) {
            send_fin(conn);
        }
        wait_for_fin(conn);
        break;
    case HTTP_CONN_CUT:
        end_conn(conn, HTTP_RESET_TERMINATION);
        conn->duplex->ops->abort(conn->duplex);
        break;
    }
}

static void on_flush(struct loop_flush *flush) {
    struct http_conn *conn = CONTAINER_OF(flush, struct http_conn, flush);
    enter(conn);
    push_output(conn);
    check_ending(conn);
    if (!conn->is_ended) {
        check_held(conn);
        arm_timer(conn);
    }
    leave(conn);
}

// What was sent may still be on its way to a slow reader.
static void stop(struct http_conn *conn) {
    if (conn->duplex->ops->stop != NULL && conn->sent_fin) {
        conn->duplex->ops->stop(conn->duplex);
    } else {
        conn->duplex->ops->abort(conn->duplex);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct http_conn *conn = CONTAINER_OF(timer, struct http_conn, timer);
    enter(conn);
    if (conn->is_ended && conn->duplex != NULL) { // the peer does not end its side
        stop(conn);
    } else if (!conn->is_ended && conn->codec == NULL) {
        http_conn_finish(conn);
    } else if (!conn->is_ended) {
        if (conn->codec->deadline(conn) <= now) {
            conn->codec->tick(conn);
            conn->codec->events(conn);
            http_conn_kick(conn);
        }
        arm_timer(conn);
    }
    leave(conn);
}

// ---- interface ---------------------------------------------------------------------------------

void http_conn_config_init(struct http_conn_config *config, bool is_server) {
    h2_config_init_http(&config->h2, is_server);
    config->h2.max_header_list = HTTP_HEAD_MAX;
    config->h2.stream_window = HTTP_STREAM_WINDOW;
    h1_config_init(&config->h1);
}

void http_conn_init(struct http_conn *conn, struct loop *loop, struct duplex *duplex,
                    bool is_server, enum http_conn_version version,
                    const struct http_conn_config *config,
                    const struct http_conn_handler *handler) {
    *conn = (struct http_conn){.handler = handler,
                               .config = config,
                               .loop = loop,
                               .duplex = duplex,
                               .is_server = is_server,
                               .is_held = true,
                               .last_active = loop->now};
    list_init(&conn->streams);
    chain_init(&conn->out, loop->pool);
    chain_init(&conn->input, loop->pool);
    loop_flush_init(&conn->flush, on_flush);
    timer_init(&conn->timer, on_timer);
    duplex->events = &duplex_events;
    duplex->owner = conn;
    enter(conn);
    if (version != HTTP_CONN_AUTO) {
        open_codec(conn, version);
    }
    set_held(conn, false);
    leave(conn);
}

bool http_conn_can_open(const struct http_conn *conn) {
    return !conn->is_draining && !conn->is_ended && conn->codec->can_open(conn);
}

bool http_conn_has_settings(const struct http_conn *conn) {
    return conn->h2 == NULL || h2_conn_has_settings(conn->h2);
}

bool http_conn_takes_upgrade(const struct http_conn *conn) {
    return conn->h2 == NULL || h2_conn_peer_connect_protocol(conn->h2);
}

void http_conn_open(struct http_conn *conn, struct http_stream *stream) {
    http_conn_attach(conn, stream);
}

bool http_stream_send_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct http_conn *conn = stream->conn;
    if (conn == NULL) {
        return true;
    }
    enter(conn);
    stream->is_send_ended = stream->is_send_ended || end;
    bool is_sent = conn->codec->send_head(stream, head, end);
    if (is_sent) {
        http_conn_check_done(stream);
    }
    http_conn_kick(conn);
    leave(conn);
    return is_sent;
}

void http_stream_send_data(struct http_stream *stream, struct chain *data, bool end) {
    struct http_conn *conn = stream->conn;
    if (conn == NULL) {
        chain_clear(data);
        return;
    }
    enter(conn);
    stream->is_send_ended = stream->is_send_ended || end;
    conn->codec->send_data(stream, data, end);
    http_conn_check_done(stream);
    http_conn_kick(conn);
    leave(conn);
}

void http_stream_send_trailers(struct http_stream *stream, const struct http_field *fields,
                               size_t n) {
    struct http_conn *conn = stream->conn;
    if (conn == NULL) {
        return;
    }
    enter(conn);
    stream->is_send_ended = true;
    conn->codec->send_trailers(stream, fields, n);
    http_conn_check_done(stream);
    http_conn_kick(conn);
    leave(conn);
}

bool http_stream_can_send(struct http_stream *stream) {
    if (stream->conn == NULL || stream->conn->codec->can_send(stream)) {
        return true;
    }
    stream->was_full = true;
    return false;
}

void http_stream_consumed(struct http_stream *stream, size_t n) {
    struct http_conn *conn = stream->conn;
    if (conn == NULL) {
        return;
    }
    enter(conn);
    CHECK(stream->n_unconsumed >= n);
    stream->n_unconsumed -= n;
    conn->codec->consumed(stream, n);
    check_held(conn);
    if (conn->codec->wants_write(conn)) {
        http_conn_kick(conn);
    }
    leave(conn);
}

void http_stream_release(struct http_stream *stream, enum h2_err code) {
    struct http_conn *conn = stream->conn;
    if (conn == NULL) {
        return;
    }
    enter(conn);
    if (stream->is_recv_ended && stream->is_send_ended) { // its END event is still to come
        http_conn_check_done(stream);
    } else {
        conn->codec->release(stream, code);
        http_conn_detach(stream);
    }
    leave(conn);
}
