// SPDX-License-Identifier: Apache-2.0
//
// What leaves the connection: control frames and heads in order, then DATA of all streams in
// turns, one frame each.
#include <stdlib.h>

#include "common/proto/h2_priv.h"

enum {
    SMALL_DATA = 512, // below, DATA is copied to the frames before it
    SMALL_FRAME_MAX = 4096, // small pieces gathered into one frame
    CTRL_BLK = 1024 - (int)sizeof(struct blk),
    HEAD_STACK = 2048,
    MAX_ANSWERS = 2000, // queued answers; beyond, the peer does not read them
    TRICKLE = 256, // a frame cut to less by the peer's window is not useful work
};

static bool fits_behind(const struct seg *tail, size_t len) {
    return tail != NULL && tail->blk->kind == BLK_COLD && blk_is_exclusive(tail->blk) &&
           (size_t)tail->off + tail->len + len + BLK_TAILROOM <= tail->blk->cap;
}

// Leaves room for frames that follow, so that a small message becomes one segment.
static void append_small(struct chain *out, const uint8_t *bytes, size_t len) {
    if (fits_behind(out->tail, len) || len > CTRL_BLK - BLK_HEADROOM - BLK_TAILROOM) {
        chain_copy(out, slice_make(bytes, len));
        return;
    }
    struct blk *blk = blk_new_cold(out->pool, CTRL_BLK);
    memcpy(blk->base + BLK_HEADROOM, bytes, len);
    chain_give_room(out, blk, BLK_HEADROOM, (uint32_t)len, BLK_HEADROOM,
                    (uint16_t)(CTRL_BLK - BLK_HEADROOM - len));
}

// ---- control frames

void h2_out_frame(struct h2_conn *conn, enum h2_frame_type type, uint8_t flags, uint32_t id,
                  struct slice payload) {
    uint8_t frame[H2_FRAME_HD_LEN + 64];
    CHECK(payload.len <= sizeof(frame) - H2_FRAME_HD_LEN);
    h2_frame_hd_put(frame, type, flags, id, (uint32_t)payload.len);
    if (payload.len > 0) {
        memcpy(frame + H2_FRAME_HD_LEN, payload.ptr, payload.len);
    }
    append_small(&conn->ctrl, frame, H2_FRAME_HD_LEN + payload.len);
}

// A peer that provokes answers and does not read them would grow the queue without end.
static bool count_answer(struct h2_conn *conn) {
    if (++conn->n_answers <= MAX_ANSWERS) {
        return true;
    }
    h2_conn_fail(conn, H2_FLOOD_OUTPUT);
    return false;
}

void h2_out_answer(struct h2_conn *conn, enum h2_frame_type type, uint8_t flags, uint32_t id,
                   struct slice payload) {
    if (count_answer(conn)) {
        h2_out_frame(conn, type, flags, id, payload);
    }
}

void h2_out_rst(struct h2_conn *conn, uint32_t id, enum h2_err err, bool is_provoked) {
    if (conn->is_dead || (is_provoked && !count_answer(conn))) {
        return;
    }
    uint8_t code[4];
    h2_put32(code, h2_err_code(err));
    h2_out_frame(conn, H2_FRAME_RST_STREAM, 0, id, slice_make(code, sizeof(code)));
}

void h2_out_window_update(struct h2_conn *conn, uint32_t id, uint32_t increment) {
    if (conn->is_dead) {
        return;
    }
    uint8_t payload[4];
    h2_put32(payload, increment);
    h2_out_frame(conn, H2_FRAME_WINDOW_UPDATE, 0, id, slice_make(payload, sizeof(payload)));
}

// ---- header blocks

static void append_frame_hd(struct chain *out, enum h2_frame_type type, uint8_t flags, uint32_t id,
                            size_t len) {
    uint8_t hd[H2_FRAME_HD_LEN];
    h2_frame_hd_put(hd, type, flags, id, (uint32_t)len);
    append_small(out, hd, sizeof(hd));
}

// HEADERS and as many CONTINUATIONs as the peer's frame size asks for (RFC 9113 6.10).
static void append_block(struct h2_conn *conn, struct chain *out, uint32_t id, struct slice block,
                         bool end_stream) {
    uint8_t update = H2_HPACK_UPDATE_ZERO;
    size_t prefix = conn->needs_size_update ? 1 : 0;
    conn->needs_size_update = false;
    enum h2_frame_type type = H2_FRAME_HEADERS;
    uint8_t flags = end_stream ? H2_FLAG_END_STREAM : 0;
    // One record's worth at most, so that a frame is one segment.
    size_t max = MIN(conn->peer.max_frame_size, (uint32_t)BLK_DATA_MAX);
    do {
        size_t len = MIN(block.len, max - prefix);
        bool is_last = len == block.len;
        append_frame_hd(out, type, is_last ? flags | H2_FLAG_END_HEADERS : flags, id, len + prefix);
        if (prefix > 0) {
            append_small(out, &update, 1);
        }
        append_small(out, block.ptr, len);
        block = slice_skip(block, len);
        type = H2_FRAME_CONTINUATION;
        flags = 0;
        prefix = 0;
    } while (block.len > 0);
}

void h2_out_head(struct h2_conn *conn, uint32_t id, const struct http_field *fields,
                 size_t n_fields, bool end_stream) {
    uint8_t stack[HEAD_STACK];
    size_t cap = h2_hpack_bound(fields, n_fields);
    uint8_t *buf = cap <= sizeof(stack) ? stack : xmalloc(cap);
    size_t len = h2_hpack_encode(fields, n_fields, buf, cap);
    append_block(conn, &conn->ctrl, id, slice_make(buf, len), end_stream);
    if (buf != stack) {
        free(buf);
    }
}

struct h2_trailers *h2_out_encode(const struct http_field *fields, size_t n_fields) {
    size_t cap = h2_hpack_bound(fields, n_fields);
    struct h2_trailers *trailers = xmalloc(sizeof(*trailers) + cap);
    trailers->len = h2_hpack_encode(fields, n_fields, trailers->bytes, cap);
    return trailers;
}

// ---- scheduling

// Streams with DATA wait in `sendable` while their own window is open. What ends a stream without
// DATA needs no window.
void h2_out_schedule(struct h2_stream *stream) {
    bool has_data = stream->queue.len > 0;
    bool wants = has_data ? stream->send_window > 0
                          : stream->has_end_queued && !h2_stream_send_ended(stream);
    if (!wants) {
        list_del(&stream->send_node);
    } else if (!list_linked(&stream->send_node)) {
        struct h2_conn *conn = stream->conn;
        bool is_blocked = has_data && conn->send_window <= 0;
        list_push_back(is_blocked ? &conn->blocked : &conn->sendable, &stream->send_node);
    }
}

void h2_out_unblock(struct h2_conn *conn) {
    list_splice_back(&conn->sendable, &conn->blocked);
}

// ---- DATA

// The header goes in front of the segment where that place is its own, else behind the last one.
static void append_seg(struct chain *out, struct seg *seg, const uint8_t hd[H2_FRAME_HD_LEN]) {
    if (seg->headroom >= H2_FRAME_HD_LEN) {
        seg->off -= H2_FRAME_HD_LEN;
        seg->len += H2_FRAME_HD_LEN;
        seg->headroom -= H2_FRAME_HD_LEN;
        memcpy(seg_ptr(seg), hd, H2_FRAME_HD_LEN);
    } else {
        append_small(out, hd, H2_FRAME_HD_LEN);
    }
    chain_push(out, seg);
}

// Length of the next frame: one large segment, or the small ones up to the next large one.
static size_t frame_len(const struct h2_stream *stream, size_t max) {
    size_t len = 0;
    for (const struct seg *seg = stream->queue.head; seg != NULL; seg = seg->next) {
        if (seg->len >= SMALL_DATA) {
            return MIN(len > 0 ? len : seg->len, max);
        }
        if (len + seg->len > SMALL_FRAME_MAX) {
            break;
        }
        len += seg->len;
    }
    return MIN(len, max);
}

static void append_payload(struct h2_stream *stream, struct chain *out, size_t len,
                           const uint8_t hd[H2_FRAME_HD_LEN]) {
    struct chain *queue = &stream->queue;
    struct seg *first = queue->head;
    if (first->len < SMALL_DATA || len < SMALL_DATA) {
        append_small(out, hd, H2_FRAME_HD_LEN);
        while (len > 0) {
            size_t n = MIN(len, (size_t)queue->head->len);
            append_small(out, seg_ptr(queue->head), n);
            chain_skip(queue, n);
            len -= n;
        }
        return;
    }
    struct seg seg;
    if (len == first->len) {
        CHECK(chain_pop(queue, &seg));
    } else {
        seg = (struct seg){
            .blk = blk_ref(first->blk),
            .off = first->off,
            .len = (uint32_t)len,
            .headroom = first->headroom,
        };
        chain_skip(queue, len);
    }
    append_seg(out, &seg, hd);
}

static void send_trailers(struct h2_stream *stream, struct chain *out) {
    append_block(stream->conn, out, stream->id,
                 slice_make(stream->trailers->bytes, stream->trailers->len), true);
    free(stream->trailers);
    stream->trailers = NULL;
    h2_stream_on_send_end(stream);
}

static void send_data(struct h2_stream *stream, struct chain *out) {
    struct h2_conn *conn = stream->conn;
    uint32_t window = (uint32_t)MIN(stream->send_window, conn->send_window);
    uint32_t max = MIN(conn->config.send_frame_max, conn->peer.max_frame_size);
    size_t len = stream->queue.len > 0 ? frame_len(stream, MIN(max, window)) : 0;
    bool is_last = stream->has_end_queued && len == stream->queue.len && stream->trailers == NULL;
    uint8_t hd[H2_FRAME_HD_LEN];
    h2_frame_hd_put(hd, H2_FRAME_DATA, is_last ? H2_FLAG_END_STREAM : 0, stream->id, (uint32_t)len);
    if (len > 0) {
        append_payload(stream, out, len, hd);
        conn->queued -= len;
        conn->send_window -= (int32_t)len;
        stream->send_window -= (int32_t)len;
        if (stream->reports_progress) {
            stream->pulled += (uint32_t)len;
            h2_stream_pend(stream, H2_PEND_PROGRESS);
        }
        if (len < window || len >= TRICKLE) {
            h2_guard_sent(&conn->guard);
        }
    } else {
        append_small(out, hd, sizeof(hd));
    }
    if (stream->was_full && stream->queue.len < conn->config.send_queue_max / 2) {
        stream->was_full = false;
        if (!stream->has_end_queued) {
            h2_stream_pend(stream, H2_PEND_WRITABLE);
        }
    }
    if (is_last) {
        h2_stream_on_send_end(stream);
    }
}

// One frame of the stream whose turn it is.
static void send_one(struct h2_conn *conn, struct chain *out) {
    struct list *node = list_pop_front(&conn->sendable);
    struct h2_stream *stream = LIST_ITEM(node, struct h2_stream, send_node);
    if (stream->queue.len > 0 && conn->send_window <= 0) {
        list_push_back(&conn->blocked, node);
        return;
    }
    if (stream->queue.len == 0 && stream->trailers != NULL) {
        send_trailers(stream, out);
    } else {
        send_data(stream, out);
    }
    h2_out_schedule(stream);
}

static void move_ctrl(struct h2_conn *conn, struct chain *out, size_t budget) {
    size_t start = out->len;
    struct seg seg;
    while (out->len - start < budget && chain_pop(&conn->ctrl, &seg)) {
        // Few bytes are better put behind the last segment than sent as one of their own.
        if (seg.len < SMALL_DATA && fits_behind(out->tail, seg.len)) {
            chain_copy(out, seg_slice(&seg));
            blk_unref(seg.blk);
        } else {
            chain_push(out, &seg);
        }
    }
    if (chain_empty(&conn->ctrl)) {
        conn->n_answers = 0;
    }
}

size_t h2_conn_pull(struct h2_conn *conn, struct chain *out, size_t budget) {
    h2_stream_reap(conn);
    size_t start = out->len;
    move_ctrl(conn, out, budget);
    if (!chain_empty(&conn->ctrl) || conn->is_dead) {
        return out->len - start;
    }
    while (out->len - start < budget && !list_empty(&conn->sendable)) {
        send_one(conn, out);
    }
    return out->len - start;
}

bool h2_conn_wants_write(const struct h2_conn *conn) {
    // A stream that meets the connection's closed window leaves `sendable` at the next pull.
    bool has_data = !conn->is_dead && !list_empty(&conn->sendable);
    return has_data || !chain_empty(&conn->ctrl) || !list_empty(&conn->ready);
}
