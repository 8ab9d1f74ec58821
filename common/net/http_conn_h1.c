// SPDX-License-Identifier: Apache-2.0
//
// HTTP/1.1 behind the face of http_conn.h: one stream at a time.
#include "common/net/http_conn_priv.h"

enum { PULL_BUDGET = 128 * 1024 };

// The stream of the exchange that runs; NULL: none, or its owner has let go of it.
static struct http_stream *current(struct http_conn *conn) {
    return list_empty(&conn->streams) ? NULL
                                      : LIST_ITEM(conn->streams.next, struct http_stream, node);
}

// ---- events ------------------------------------------------------------------------------------

static void on_head(struct http_conn *conn, const struct h1_event *event) {
    struct http_stream *stream = current(conn);
    if (conn->is_server) {
        stream = http_conn_new_stream(conn);
        if (stream == NULL) {
            h1_conn_reset(conn->h1);
            return;
        }
        stream->is_upgrade = event->head->protocol.len > 0;
    }
    if (stream == NULL) {
        return;
    }
    if (conn->linger_until != 0) {
        conn->linger_until = 0;
        h1_conn_drain(conn->h1);
    }
    http_conn_recv_head(stream, event->head, event->end_stream);
}

// A message that is none. To a client that has had no answer yet we say so.
static void on_error(struct http_conn *conn, const struct h1_event *event) {
    struct http_stream *stream = current(conn);
    http_conn_set_draining(conn);
    if (!conn->is_server) {
        if (stream != NULL) {
            bool is_cut = event->err == HTTP_ERR_TRUNCATED || event->err == HTTP_ERR_NO_RESPONSE;
            http_conn_reset_stream(stream, is_cut ? HTTP_RESET_TERMINATION : HTTP_RESET_PROTOCOL,
                                   http_err_text(event->err));
        }
        return;
    }
    bool is_cut = event->err == HTTP_ERR_TRUNCATED;
    if (!is_cut) {
        conn->handler->on_bad_request(conn, event->err);
    }
    if (stream != NULL) {
        http_conn_reset_stream(stream, is_cut ? HTTP_RESET_TERMINATION : HTTP_RESET_PROTOCOL,
                               http_err_text(event->err));
    }
    if (is_cut || h1_conn_has_response(conn->h1)) {
        h1_conn_reset(conn->h1);
    } else {
        h1_conn_send_error(conn->h1, event->err);
    }
}

static void on_exchange_closed(struct http_conn *conn) {
    struct http_stream *stream = current(conn);
    http_conn_kick(conn); // it may have been the last one
    if (stream != NULL) { // incomplete: what ended it has been told
        http_conn_reset_stream(stream, HTTP_RESET_TERMINATION, NULL);
    }
    if (!h1_conn_can_open(conn->h1) && !conn->is_server) {
        http_conn_set_draining(conn);
    }
    http_conn_told_idle(conn);
}

static void dispatch(struct http_conn *conn, const struct h1_event *event) {
    struct http_stream *stream = current(conn);
    switch (event->type) {
    case H1_EV_HEADERS:
        on_head(conn, event);
        break;
    case H1_EV_ERROR:
        on_error(conn, event);
        break;
    case H1_EV_CLOSED:
        on_exchange_closed(conn);
        break;
    case H1_EV_DATA:
        if (stream != NULL) {
            http_conn_recv_data(stream, event->blk, event->off, event->len, event->end_stream);
        } else { // nobody wants it any more
            h1_conn_consumed(conn->h1, event->len);
        }
        break;
    case H1_EV_INFORMATIONAL:
        if (stream != NULL) {
            stream->events->on_informational(stream, event->head);
        }
        break;
    case H1_EV_TRAILERS:
        if (stream != NULL) {
            http_conn_recv_trailers(stream, event->head->fields, event->head->n_fields);
        }
        break;
    case H1_EV_END:
        if (stream != NULL) {
            http_conn_recv_ended(stream);
        }
        break;
    case H1_EV_WRITABLE:
        if (stream != NULL) {
            http_conn_recv_writable(stream);
        }
        break;
    case H1_EV_SENT:
        break;
    }
}

static void codec_events(struct http_conn *conn) {
    struct h1_event event;
    while (!conn->is_ended && h1_conn_next(conn->h1, &event)) {
        dispatch(conn, &event);
    }
}

static void codec_recv(struct http_conn *conn, const struct seg *seg) {
    h1_conn_recv(conn->h1, seg->blk, seg->off, seg->len);
    codec_events(conn);
}

static void codec_fin(struct http_conn *conn) {
    h1_conn_recv_eof(conn->h1, true);
    codec_events(conn);
}

static bool codec_wants_read(const struct http_conn *conn) {
    return h1_conn_wants_read(conn->h1);
}

// ---- output ------------------------------------------------------------------------------------

static bool codec_pull(struct http_conn *conn, struct chain *out) {
    return h1_conn_wants_write(conn->h1) && h1_conn_pull(conn->h1, out, PULL_BUDGET) > 0;
}

static bool codec_wants_write(const struct http_conn *conn) {
    return h1_conn_wants_write(conn->h1) || h1_conn_has_events(conn->h1);
}

static enum http_conn_end codec_ending(const struct http_conn *conn) {
    bool is_cut = false;
    if (h1_conn_wants_close(conn->h1, &is_cut)) {
        return is_cut ? HTTP_CONN_CUT : HTTP_CONN_OVER;
    }
    return h1_conn_wants_fin(conn->h1) ? HTTP_CONN_FIN : HTTP_CONN_GOES_ON;
}

static uint64_t codec_deadline(struct http_conn *conn) {
    return conn->linger_until != 0 ? conn->linger_until : TIME_NEVER;
}

static void codec_tick(struct http_conn *conn) {
    conn->linger_until = 0;
    h1_conn_drain(conn->h1);
}

static bool codec_can_open(const struct http_conn *conn) {
    return h1_conn_can_open(conn->h1);
}

static bool codec_send_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct http_conn *conn = stream->conn;
    enum http_err err = HTTP_ERR_OK;
    stream->is_upgrade = stream->is_upgrade || (!conn->is_server && head->protocol.len > 0);
    if (!h1_conn_send_head(conn->h1, head, end, &err)) {
        h1_conn_reset(conn->h1);
        http_conn_reset_stream(stream, HTTP_RESET_PROTOCOL, http_err_text(err));
        return false;
    }
    return true;
}

static void codec_send_data(struct http_stream *stream, struct chain *data, bool end) {
    h1_conn_send_data(stream->conn->h1, data, end);
}

static void codec_send_trailers(struct http_stream *stream, const struct http_field *fields,
                                size_t n) {
    h1_conn_send_trailers(stream->conn->h1, fields, n);
}

static bool codec_can_send(const struct http_stream *stream) {
    return h1_conn_can_send(stream->conn->h1);
}

static void codec_consumed(struct http_stream *stream, size_t n) {
    h1_conn_consumed(stream->conn->h1, n);
}

static void codec_detach(struct http_stream *stream) {
    (void)stream; // the core finishes by itself
}

static void codec_release(struct http_stream *stream, enum h2_err code) {
    (void)code;
    struct http_conn *conn = stream->conn;
    if (!conn->is_server) { // nobody wants the rest of the response
        conn->is_cut = true;
    } else if (!stream->is_send_ended) {
        h1_conn_reset(conn->h1);
    } // else: the response goes out whole; the rest of its request is read and dropped
}

static void codec_cool(struct http_conn *conn) {
    (void)conn; // http_conn.out has all that was pulled
}

static void codec_drain(struct http_conn *conn) {
    if (conn->is_server && list_empty(&conn->streams)) {
        conn->linger_until = conn->loop->now + HTTP_CONN_LINGER_MS * NS_PER_MS;
    } else {
        h1_conn_drain(conn->h1);
    }
}

static void codec_free(struct http_conn *conn) {
    h1_conn_free(conn->h1);
    conn->h1 = NULL;
}

const struct http_codec http_codec_1 = {
    .recv = codec_recv,
    .fin = codec_fin,
    .wants_read = codec_wants_read,
    .pull = codec_pull,
    .wants_write = codec_wants_write,
    .events = codec_events,
    .ending = codec_ending,
    .deadline = codec_deadline,
    .tick = codec_tick,
    .can_open = codec_can_open,
    .send_head = codec_send_head,
    .send_data = codec_send_data,
    .send_trailers = codec_send_trailers,
    .can_send = codec_can_send,
    .consumed = codec_consumed,
    .detach = codec_detach,
    .release = codec_release,
    .cool = codec_cool,
    .drain = codec_drain,
    .free = codec_free,
};
