// SPDX-License-Identifier: Apache-2.0
//
// HTTP/2 behind the face of http_conn.h.
#include "common/net/http_conn_priv.h"
#include "common/proto/http_rules.h"

enum { PULL_BUDGET = 128 * 1024 };

// ---- events ------------------------------------------------------------------------------------

static enum http_reset reset_of(const struct h2_event *event) {
    if (event->from_peer) {
        return event->err == H2_REFUSED ? HTTP_RESET_REFUSED : HTTP_RESET_REMOTE;
    }
    return event->err == H2_REFUSED ? HTTP_RESET_REFUSED : HTTP_RESET_PROTOCOL;
}

static void take_request(struct http_conn *conn, const struct h2_event *event,
                         struct arena *arena) {
    struct http_head head;
    enum http_err err = http_rules_request_from_list(event->fields, event->n_fields, arena, &head);
    if (err == HTTP_ERR_OK && head.n_fields > conn->config->h1.head.max_fields) {
        err = HTTP_ERR_TOO_MANY_FIELDS;
    }
    if (err != HTTP_ERR_OK) {
        conn->handler->on_bad_request(conn, err);
        h2_stream_reject(event->stream, H2_PROTOCOL_ERROR);
        http_conn_kick(conn);
        return;
    }
    struct http_stream *stream = http_conn_new_stream(conn);
    if (stream == NULL) {
        h2_stream_reset(event->stream, H2_REFUSED);
        http_conn_kick(conn);
        return;
    }
    stream->h2 = event->stream;
    h2_stream_set_user(event->stream, stream);
    stream->is_upgrade = head.protocol.len > 0;
    http_conn_recv_head(stream, &head, event->end_stream);
}

static void on_request(struct http_conn *conn, const struct h2_event *event) {
    struct arena arena;
    arena_init(&arena, HTTP_SCRATCH_MAX);
    take_request(conn, event, &arena);
    arena_fini(&arena);
}

static void take_response(struct http_stream *stream, const struct h2_event *event,
                          struct arena *arena) {
    struct http_head head;
    // Other upgrades are not asked for (RFC 8441 knows websocket alone).
    struct slice upgrade = slice_str(stream->is_upgrade ? "websocket" : "");
    enum http_err err =
        http_rules_response_from_list(event->fields, event->n_fields, upgrade, arena, &head);
    if (err != HTTP_ERR_OK) {
        struct h2_stream *h2 = stream->h2;
        h2_stream_set_user(h2, NULL);
        http_conn_reset_stream(stream, HTTP_RESET_PROTOCOL, http_err_text(err));
        h2_stream_reject(h2, H2_PROTOCOL_ERROR);
        return;
    }
    if (event->type == H2_EV_INFORMATIONAL) {
        stream->events->on_informational(stream, &head);
        return;
    }
    http_conn_recv_head(stream, &head, event->end_stream);
}

static void on_response(struct http_stream *stream, const struct h2_event *event) {
    struct arena arena;
    arena_init(&arena, HTTP_SCRATCH_MAX);
    take_response(stream, event, &arena);
    arena_fini(&arena);
}

static void on_reset(struct http_stream *stream, const struct h2_event *event) {
    if (event->is_clean && stream->is_recv_ended) {
        return; // the answer is complete, the rest of the request is not wanted
    }
    http_conn_reset_stream(stream, reset_of(event), h2_err_text(event->err));
}

static void on_stream_closed(struct http_stream *stream) {
    stream->h2 = NULL;
    if (stream->is_recv_ended && stream->is_send_ended) {
        http_conn_check_done(stream);
    } else {
        http_conn_reset_stream(stream, HTTP_RESET_REMOTE, NULL);
    }
}

static void on_stream_event(struct http_stream *stream, const struct h2_event *event) {
    switch (event->type) {
    case H2_EV_HEADERS:
    case H2_EV_INFORMATIONAL:
        on_response(stream, event);
        break;
    case H2_EV_DATA:
        http_conn_recv_data(stream, event->blk, event->off, event->len, event->end_stream);
        break;
    case H2_EV_TRAILERS:
        http_conn_recv_trailers(stream, event->fields, event->n_fields);
        break;
    case H2_EV_END:
        http_conn_recv_ended(stream);
        break;
    case H2_EV_WRITABLE:
        http_conn_recv_writable(stream);
        break;
    case H2_EV_RESET:
        on_reset(stream, event);
        break;
    case H2_EV_CLOSED:
        on_stream_closed(stream);
        break;
    default:
        break;
    }
}

// Nobody has the stream any more: the core finishes it by itself.
static void on_released_event(struct http_conn *conn, const struct h2_event *event) {
    if (event->type == H2_EV_DATA) { // a client may read nothing before it has sent all
        h2_stream_consumed(event->stream, event->len);
    } else if (event->type == H2_EV_SENT && conn->is_server) {
        h2_stream_reset(event->stream, H2_NO_ERROR);
        http_conn_kick(conn);
    }
}

static void dispatch(struct http_conn *conn, const struct h2_event *event) {
    struct http_stream *stream = event->stream != NULL ? h2_stream_user(event->stream) : NULL;
    switch (event->type) {
    case H2_EV_CONN_ERROR:
        http_conn_set_draining(conn);
        http_conn_finish(conn);
        return;
    case H2_EV_GOAWAY:
        if (event->from_peer) {
            http_conn_set_draining(conn);
        }
        return;
    case H2_EV_HEADERS:
        if (stream == NULL && conn->is_server) {
            on_request(conn, event);
            return;
        }
        break;
    default:
        break;
    }
    if (stream != NULL) {
        on_stream_event(stream, event);
    } else {
        on_released_event(conn, event);
    }
    if (event->type == H2_EV_SETTINGS || event->type == H2_EV_CLOSED) {
        http_conn_told_idle(conn);
    }
}

static void codec_events(struct http_conn *conn) {
    struct h2_event event;
    while (!conn->is_ended && h2_conn_next(conn->h2, &event)) {
        dispatch(conn, &event);
    }
}

static void codec_recv(struct http_conn *conn, const struct seg *seg) {
    uint32_t off = seg->off, len = seg->len;
    while (len > 0 && !conn->is_ended) {
        uint32_t used = 0;
        h2_conn_recv(conn->h2, seg->blk, off, len, conn->loop->now, &used);
        off += used;
        len -= used;
        codec_events(conn);
    }
}

static bool codec_wants_read(const struct http_conn *conn) {
    (void)conn; // its windows bound what comes
    return true;
}

static void codec_fin(struct http_conn *conn) {
    http_conn_set_draining(conn);
    http_conn_finish(conn); // HTTP/2 knows no half-close: open streams are lost
}

// ---- output ------------------------------------------------------------------------------------

static bool codec_wants_write(const struct http_conn *conn) {
    return h2_conn_wants_write(conn->h2);
}

static bool codec_pull(struct http_conn *conn, struct chain *out) {
    return h2_conn_pull(conn->h2, out, PULL_BUDGET) > 0;
}

static uint64_t codec_deadline(struct http_conn *conn) {
    return h2_conn_deadline(conn->h2);
}

static void codec_tick(struct http_conn *conn) {
    h2_conn_tick(conn->h2, conn->loop->now);
}

static bool codec_can_open(const struct http_conn *conn) {
    return !h2_conn_is_dead(conn->h2) && !h2_conn_is_draining(conn->h2) &&
           h2_conn_n_free_streams(conn->h2) > 0;
}

static bool codec_send_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct http_conn *conn = stream->conn;
    struct http_field *list = NULL;
    size_t n = 0;
    struct arena arena;
    arena_init(&arena, HTTP_SCRATCH_MAX);
    // What comes out of a codec, and what we add, is far below the arena's maximum.
    CHECK(http_rules_to_list(head, SLICE_LIT("http"), &arena, &list, &n));
    if (conn->is_server) {
        if (stream->h2 != NULL) {
            h2_stream_send_headers(stream->h2, list, n, end);
        }
        arena_fini(&arena);
        return true;
    }
    enum h2_err err = H2_NO_ERROR;
    stream->is_upgrade = head->protocol.len > 0;
    stream->h2 = h2_stream_open(conn->h2, list, n, end, stream, &err);
    arena_fini(&arena);
    if (stream->h2 == NULL) {
        http_conn_reset_stream(stream, HTTP_RESET_REFUSED, h2_err_text(err));
        return false;
    }
    return true;
}

static void codec_send_data(struct http_stream *stream, struct chain *data, bool end) {
    if (stream->h2 == NULL) {
        chain_clear(data);
        return;
    }
    h2_stream_send_data(stream->h2, data, end);
    stream->is_dirty = true;
}

static void codec_send_trailers(struct http_stream *stream, const struct http_field *fields,
                                size_t n) {
    if (stream->h2 != NULL) {
        h2_stream_send_trailers(stream->h2, fields, n);
    }
}

static bool codec_can_send(const struct http_stream *stream) {
    return stream->h2 == NULL || h2_stream_can_send(stream->h2);
}

static void codec_consumed(struct http_stream *stream, size_t n) {
    if (stream->h2 != NULL) {
        h2_stream_consumed(stream->h2, n);
    }
}

// What is queued goes on without the owner: it is pulled now, or cooled.
static void codec_detach(struct http_stream *stream) {
    if (stream->h2 == NULL) {
        return;
    }
    if (h2_stream_queued(stream->h2) > 0) {
        http_conn_pull(stream->conn);
        h2_stream_to_cold(stream->h2);
    }
    h2_stream_set_user(stream->h2, NULL);
    stream->h2 = NULL;
}

// An answer that is complete goes out whole, and RST_STREAM behind it (RFC 9113 8.1).
static void codec_release(struct http_stream *stream, enum h2_err code) {
    struct h2_stream *h2 = stream->h2;
    if (h2 == NULL) {
        return;
    }
    if (stream->conn->is_server && stream->is_send_ended && !h2_stream_send_ended(h2)) {
        codec_detach(stream);
        return;
    }
    h2_stream_set_user(h2, NULL);
    h2_stream_reset(h2, code);
    stream->h2 = NULL;
}

static void codec_cool(struct http_conn *conn) {
    LIST_EACH(node, &conn->streams) {
        struct http_stream *stream = LIST_ITEM(node, struct http_stream, node);
        if (stream->is_dirty && stream->h2 != NULL && h2_stream_queued(stream->h2) > 0) {
            h2_stream_to_cold(stream->h2);
        }
        stream->is_dirty = false;
    }
}

static void codec_drain(struct http_conn *conn) {
    h2_conn_goaway_start(conn->h2, conn->loop->now);
}

static enum http_conn_end codec_ending(const struct http_conn *conn) {
    bool is_idle = h2_conn_n_streams(conn->h2) == 0 && !h2_conn_goaway_is_open(conn->h2);
    return conn->is_draining && is_idle ? HTTP_CONN_OVER : HTTP_CONN_GOES_ON;
}

static void codec_free(struct http_conn *conn) {
    h2_conn_free(conn->h2);
    conn->h2 = NULL;
}

const struct http_codec http_codec_2 = {
    .recv = codec_recv,
    .fin = codec_fin,
    .wants_read = codec_wants_read,
    .pull = codec_pull,
    .wants_write = codec_wants_write,
    .events = codec_events,
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
    .ending = codec_ending,
    .free = codec_free,
};
