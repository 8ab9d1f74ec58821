// SPDX-License-Identifier: Apache-2.0
//
// Frames as they arrive. A step consumes some input and changes state; whatever an application
// should know becomes an event. Nothing depends on how the input was cut.
#include "common/proto/h2_priv.h"
#include "common/proto/http_rules.h"

// ---- taking input

static uint32_t available(const struct h2_conn *conn) {
    return conn->in_end - conn->in_off;
}

static const uint8_t *input(const struct h2_conn *conn) {
    return conn->in->base + conn->in_off;
}

// A unit of n bytes: in place when it is whole, else collected. NULL: more input is needed.
static const uint8_t *take(struct h2_conn *conn, uint32_t n) {
    struct h2_rx *rx = &conn->rx;
    uint32_t avail = available(conn);
    if (rx->have == 0 && avail >= n) {
        const uint8_t *unit = input(conn);
        conn->in_off += n;
        return unit;
    }
    uint32_t len = MIN(n - rx->have, avail);
    memcpy(rx->buf + rx->have, input(conn), len);
    rx->have = (uint8_t)(rx->have + len);
    conn->in_off += len;
    if (rx->have < n) {
        return NULL;
    }
    rx->have = 0;
    return rx->buf;
}

// ---- stream errors

// A stream error of the peer. Each costs a token (made-you-reset).
static void stream_error(struct h2_conn *conn, uint32_t id, struct h2_stream *stream,
                         enum h2_err err) {
    if (!h2_conn_guard(conn, H2_GUARD_GLITCHES)) {
        return;
    }
    if (stream != NULL) {
        h2_stream_fail(stream, err);
    } else {
        h2_stream_refuse_id(conn, id, err);
    }
}

// ---- DATA

// RFC 9113 8.1.1: a body is as long as its Content-Length says. False: the stream has failed.
static bool take_body(struct h2_conn *conn, struct h2_stream *stream, uint32_t len, bool is_end) {
    if (stream->body_left < 0) {
        return true;
    }
    stream->body_left -= len;
    if (stream->body_left < 0 || (is_end && stream->body_left > 0)) {
        stream_error(conn, stream->id, stream, H2_BAD_LENGTH);
        return false;
    }
    return true;
}

static void begin_payload(struct h2_conn *conn, struct h2_stream *stream) {
    bool is_end = (conn->rx.frame.flags & H2_FLAG_END_STREAM) != 0;
    if (take_body(conn, stream, conn->rx.left - conn->rx.pad, is_end)) {
        conn->rx.state = H2_RX_DATA;
    }
}

static void begin_data(struct h2_conn *conn, const struct h2_frame_hd *frame) {
    conn->rx.state = H2_RX_SKIP;
    if (h2_stream_id_is_idle(conn, frame->id)) {
        h2_conn_fail(conn, H2_BAD_STREAM_ID);
        return;
    }
    // RFC 9113 6.9: padding counts, and so do frames for streams that are gone.
    if ((int64_t)frame->len > conn->recv_window) {
        h2_conn_fail(conn, H2_FLOW_CONTROL_ERROR);
        return;
    }
    conn->recv_window -= (int32_t)frame->len;
    h2_flow_conn_received(conn, frame->len);
    if (frame->len == 0 && (frame->flags & H2_FLAG_END_STREAM) == 0 &&
        !h2_conn_guard(conn, H2_GUARD_EMPTY)) {
        return;
    }
    struct h2_stream *stream = h2_stream_find(conn, frame->id);
    if (stream == NULL) {
        if (h2_stream_late(conn, frame->id) != H2_LATE_IGNORE) {
            stream_error(conn, frame->id, NULL, H2_STREAM_CLOSED);
        }
    } else if (h2_stream_recv_ended(stream)) {
        stream_error(conn, frame->id, stream, H2_STREAM_CLOSED); // RFC 9113 5.1
    } else if (!stream->has_recv_head) {
        stream_error(conn, frame->id, stream, H2_BAD_MESSAGE);
    } else if ((int64_t)frame->len > stream->recv_window) {
        stream_error(conn, frame->id, stream, H2_FLOW_CONTROL_ERROR);
    } else {
        stream->recv_window -= (int32_t)frame->len;
        if ((frame->flags & H2_FLAG_PADDED) != 0) {
            conn->rx.state = H2_RX_PREFIX;
        } else {
            begin_payload(conn, stream);
        }
    }
}

static void end_data(struct h2_conn *conn) {
    if ((conn->rx.frame.flags & H2_FLAG_END_STREAM) == 0) {
        return;
    }
    struct h2_stream *stream = h2_stream_find(conn, conn->rx.frame.id);
    if (stream != NULL && !h2_stream_recv_ended(stream)) {
        h2_stream_on_recv_end(stream);
    }
}

// ---- header blocks

// What a HEADERS frame for this id is; NO_ERROR and *ret_use, or a connection error.
static enum h2_err classify_peer_stream(struct h2_conn *conn, const struct h2_frame_hd *frame,
                                        enum h2_block_use *ret_use, enum h2_err *ret_discard) {
    *ret_use = H2_BLOCK_DISCARD;
    *ret_discard = H2_NO_ERROR;
    if (!conn->is_server) {
        return H2_BAD_STREAM_ID; // RFC 9113 5.1.1: no pushed streams here
    }
    if (frame->id <= conn->highest_peer_id) {
        switch (h2_stream_late(conn, frame->id)) {
        case H2_LATE_IGNORE:
            return H2_NO_ERROR;
        case H2_LATE_CLOSED:
            return H2_STREAM_CLOSED; // RFC 9113 5.1
        case H2_LATE_UNUSED:
            return H2_BAD_STREAM_ID; // RFC 9113 5.1.1: ids only rise
        }
    }
    conn->highest_peer_id = frame->id;
    if (frame->id > conn->goaway_last_id) {
        return H2_NO_ERROR; // RFC 9113 6.8: the peer will learn it from the GOAWAY
    }
    conn->last_peer_id = frame->id;
    // Objects of ended streams wait for their consumers; they get as much room again.
    if (conn->n_open_peer >= conn->config.max_streams ||
        conn->n_objects >= 2 * (uint64_t)conn->config.max_streams) {
        *ret_discard = H2_REFUSED;
        return H2_NO_ERROR;
    }
    *ret_use = H2_BLOCK_REQUEST;
    return H2_NO_ERROR;
}

static enum h2_err begin_headers(struct h2_conn *conn, const struct h2_frame_hd *frame) {
    enum h2_block_use use = H2_BLOCK_DISCARD;
    enum h2_err discard = H2_NO_ERROR;
    struct h2_stream *stream = h2_stream_find(conn, frame->id);
    if (stream != NULL) {
        use = stream->has_recv_head ? H2_BLOCK_TRAILERS : H2_BLOCK_RESPONSE;
        if (h2_stream_recv_ended(stream)) {
            use = H2_BLOCK_DISCARD;
            discard = H2_STREAM_CLOSED; // RFC 9113 5.1, half-closed (remote)
        }
    } else if (!h2_stream_id_is_local(conn, frame->id)) {
        enum h2_err err = classify_peer_stream(conn, frame, &use, &discard);
        if (err != H2_NO_ERROR) {
            return err;
        }
    } else if (h2_stream_id_is_idle(conn, frame->id)) {
        return H2_BAD_STREAM_ID;
    } else if (h2_stream_late(conn, frame->id) != H2_LATE_IGNORE) {
        discard = H2_STREAM_CLOSED;
    }
    conn->block = h2_block_new(frame->id, use, (frame->flags & H2_FLAG_END_STREAM) != 0);
    conn->block->discard_err = discard;
    bool has_prefix = h2_frame_prefix_len(frame) > 0;
    conn->rx.state = has_prefix ? H2_RX_PREFIX : H2_RX_BLOCK;
    return H2_NO_ERROR;
}

static enum h2_err begin_continuation(struct h2_conn *conn) {
    // CVE-2024-27316 and others: endless CONTINUATIONs.
    if (++conn->block->n_continuations > conn->guard.max_continuations) {
        return H2_FLOOD_CONTINUATION;
    }
    conn->rx.state = H2_RX_BLOCK;
    return H2_NO_ERROR;
}

static bool block_event(struct h2_conn *conn, struct h2_stream *stream, enum h2_event_type type,
                        struct h2_event *ret_event) {
    struct h2_block *block = conn->block;
    block->is_done = true;
    *ret_event = (struct h2_event){
        .type = type,
        .stream = stream,
        .fields = block->fields,
        .n_fields = block->n_fields,
        .end_stream = block->end_stream,
    };
    if (block->end_stream) {
        h2_stream_on_recv_end(stream);
    }
    return true;
}

static bool finish_request(struct h2_conn *conn, const struct h2_list_info *info,
                           struct h2_event *ret_event) {
    if (conn->block->end_stream && info->body_len > 0) { // RFC 9113 8.1.1
        stream_error(conn, conn->block->id, NULL, H2_BAD_LENGTH);
        return false;
    }
    struct h2_stream *stream = h2_stream_new(conn, conn->block->id, false);
    stream->is_connect = info->is_connect;
    stream->body_left = info->body_len;
    stream->has_recv_head = true;
    return block_event(conn, stream, H2_EV_HEADERS, ret_event);
}

static bool finish_response(struct h2_conn *conn, struct h2_stream *stream,
                            const struct h2_list_info *info, struct h2_event *ret_event) {
    if (info->status < 200) {
        if (conn->block->end_stream) { // RFC 9113 8.1
            stream_error(conn, stream->id, stream, H2_BAD_MESSAGE);
            return false;
        }
        return block_event(conn, stream, H2_EV_INFORMATIONAL, ret_event);
    }
    stream->has_recv_head = true;
    bool has_no_body = http_rules_has_no_body(info->status, stream->is_head_request);
    if (info->status >= 300) {
        stream->is_connect = false; // no tunnel: an ordinary response
    } else if (stream->is_tunnel_request) {
        return block_event(conn, stream, H2_EV_HEADERS, ret_event);
    }
    // RFC 9113 8.1.1: what has no body may tell the length of one.
    stream->body_left = has_no_body ? 0 : info->body_len;
    if (!take_body(conn, stream, 0, conn->block->end_stream)) {
        return false;
    }
    return block_event(conn, stream, H2_EV_HEADERS, ret_event);
}

static bool finish_known(struct h2_conn *conn, struct h2_event *ret_event) {
    struct h2_block *block = conn->block;
    struct h2_stream *stream = h2_stream_find(conn, block->id);
    enum h2_list_kind kind = H2_LIST_TRAILERS;
    if (block->use == H2_BLOCK_REQUEST) {
        kind = H2_LIST_REQUEST;
    } else if (stream == NULL) {
        return false; // ended by our side in the middle of the block
    } else if (block->use == H2_BLOCK_RESPONSE) {
        kind = H2_LIST_RESPONSE;
    } else if (!block->end_stream || stream->is_connect) {
        stream_error(conn, block->id, stream, H2_BAD_MESSAGE); // RFC 9113 8.1, 8.5
        return false;
    }
    if (block->use == H2_BLOCK_TRAILERS && !take_body(conn, stream, 0, true)) {
        return false;
    }
    if (block->is_too_big) {
        stream_error(conn, block->id, stream, H2_HEADER_LIST_TOO_BIG);
        return false;
    }
    struct h2_list_info info;
    bool allow_protocol = conn->config.enable_connect_protocol;
    if (!h2_rules_check(kind, block->fields, block->n_fields, allow_protocol, &info)) {
        stream_error(conn, block->id, stream, H2_BAD_MESSAGE);
        return false;
    }
    switch (kind) {
    case H2_LIST_REQUEST:
        return finish_request(conn, &info, ret_event);
    case H2_LIST_RESPONSE:
        return finish_response(conn, stream, &info, ret_event);
    default:
        return block_event(conn, stream, H2_EV_TRAILERS, ret_event);
    }
}

static bool end_headers(struct h2_conn *conn, struct h2_event *ret_event) {
    if ((conn->rx.frame.flags & H2_FLAG_END_HEADERS) == 0) {
        return false;
    }
    struct h2_block *block = conn->block;
    bool has_event = false;
    if (block->use != H2_BLOCK_DISCARD) {
        has_event = finish_known(conn, ret_event);
    } else if (block->discard_err == H2_REFUSED) {
        // No fault of a peer that has not seen our limit yet, but not for free either.
        if (h2_conn_guard(conn, conn->is_acked ? H2_GUARD_GLITCHES : H2_GUARD_RESETS)) {
            h2_stream_refuse_id(conn, block->id, H2_REFUSED);
        }
    } else if (block->discard_err != H2_NO_ERROR) {
        stream_error(conn, block->id, h2_stream_find(conn, block->id), block->discard_err);
    }
    if (!has_event) {
        h2_block_free(conn->block);
        conn->block = NULL;
    }
    return has_event;
}

// ---- frames

static enum h2_err begin_by_type(struct h2_conn *conn, const struct h2_frame_hd *frame) {
    switch (frame->type) {
    case H2_FRAME_DATA:
        begin_data(conn, frame);
        return H2_NO_ERROR;
    case H2_FRAME_HEADERS:
        return begin_headers(conn, frame);
    case H2_FRAME_CONTINUATION:
        return begin_continuation(conn);
    case H2_FRAME_PUSH_PROMISE:
        return H2_PUSH_PROMISE; // RFC 9113 8.4: a server never gets it, a client switched it off
    default:
        break;
    }
    if (h2_ctrl_unit_len(frame->type) == 0) {
        conn->rx.state = H2_RX_SKIP; // RFC 9113 5.5
        return h2_guard_take(&conn->guard, H2_GUARD_EMPTY, conn->now);
    }
    conn->rx.state = H2_RX_FIXED;
    return h2_ctrl_begin(conn, frame);
}

static void begin_frame(struct h2_conn *conn, const uint8_t *bytes) {
    struct h2_rx *rx = &conn->rx;
    struct h2_frame_hd frame = h2_frame_hd_get(bytes);
    rx->frame = frame;
    rx->left = frame.len;
    rx->pad = 0;
    enum h2_err err = H2_NO_ERROR;
    if (!rx->seen_first) {
        // RFC 9113 3.4: SETTINGS comes first.
        rx->seen_first = true;
        if (frame.type != H2_FRAME_SETTINGS || (frame.flags & H2_FLAG_ACK) != 0) {
            err = H2_BAD_PREFACE;
        }
    }
    if (err == H2_NO_ERROR) {
        err = h2_frame_check(&frame, conn->config.max_frame_size);
    }
    bool in_block = conn->block != NULL;
    if (err == H2_NO_ERROR && (in_block != (frame.type == H2_FRAME_CONTINUATION) ||
                               (in_block && frame.id != conn->block->id))) {
        err = H2_BAD_CONTINUATION; // RFC 9113 6.10
    }
    if (err == H2_NO_ERROR) {
        err = begin_by_type(conn, &frame);
    }
    if (err != H2_NO_ERROR) {
        h2_conn_fail(conn, err);
    }
}

static bool end_frame(struct h2_conn *conn, struct h2_event *ret_event) {
    conn->rx.state = H2_RX_HEADER;
    switch (conn->rx.frame.type) {
    case H2_FRAME_DATA:
        end_data(conn);
        return false;
    case H2_FRAME_HEADERS:
    case H2_FRAME_CONTINUATION:
        return end_headers(conn, ret_event);
    default:
        h2_ctrl_end(conn);
        return false;
    }
}

static void on_prefix(struct h2_conn *conn) {
    struct h2_rx *rx = &conn->rx;
    uint32_t len = h2_frame_prefix_len(&rx->frame);
    const uint8_t *prefix = take(conn, len);
    if (prefix == NULL) {
        return;
    }
    rx->left -= len;
    rx->pad = (rx->frame.flags & H2_FLAG_PADDED) != 0 ? prefix[0] : 0;
    if (rx->pad > rx->left) {
        h2_conn_fail(conn, H2_BAD_PADDING); // RFC 9113 6.1
        return;
    }
    if (rx->frame.type == H2_FRAME_HEADERS) {
        rx->state = H2_RX_BLOCK;
        return;
    }
    struct h2_stream *stream = h2_stream_find(conn, rx->frame.id);
    rx->state = H2_RX_SKIP;
    if (stream != NULL) {
        h2_flow_credit(stream, rx->pad + len);
        begin_payload(conn, stream);
    }
}

static void on_fixed(struct h2_conn *conn) {
    struct h2_rx *rx = &conn->rx;
    uint32_t len = h2_ctrl_unit_len(rx->frame.type);
    if (rx->left == 0) {
        return; // SETTINGS without any, or its acknowledgement
    }
    const uint8_t *unit = take(conn, len);
    if (unit == NULL) {
        return;
    }
    rx->left -= len;
    h2_ctrl_unit(conn, unit);
    if (rx->frame.type != H2_FRAME_SETTINGS) {
        rx->state = H2_RX_SKIP;
    }
}

static bool on_data(struct h2_conn *conn, struct h2_event *ret_event) {
    struct h2_rx *rx = &conn->rx;
    uint32_t len = MIN(available(conn), rx->left - rx->pad);
    uint32_t off = conn->in_off;
    conn->in_off += len;
    rx->left -= len;
    bool is_end = rx->left == 0;
    if (rx->left == rx->pad) {
        rx->state = H2_RX_SKIP;
    }
    struct h2_stream *stream = h2_stream_find(conn, rx->frame.id);
    if (len == 0 || stream == NULL) {
        return false; // the consumer ended it between two pieces
    }
    h2_guard_received(&conn->guard);
    h2_flow_parked(stream, len);
    if (stream->state == H2_STATE_CLOSED) {
        return false;
    }
    *ret_event = (struct h2_event){
        .type = H2_EV_DATA,
        .stream = stream,
        .blk = conn->in,
        .off = off,
        .len = len,
        .end_stream = is_end && (rx->frame.flags & H2_FLAG_END_STREAM) != 0,
    };
    return true;
}

static void on_block(struct h2_conn *conn) {
    struct h2_rx *rx = &conn->rx;
    uint32_t len = MIN(available(conn), rx->left - rx->pad);
    struct slice piece = slice_make(input(conn), len);
    conn->in_off += len;
    rx->left -= len;
    bool is_frame_end = rx->left == rx->pad;
    bool is_last = is_frame_end && (rx->frame.flags & H2_FLAG_END_HEADERS) != 0;
    enum h2_err err =
        h2_block_feed(conn->block, &conn->dec, piece, is_last, conn->config.max_header_list);
    if (err != H2_NO_ERROR) {
        h2_conn_fail(conn, err);
    } else if (is_frame_end) {
        rx->state = H2_RX_SKIP;
    }
}

static void on_preface(struct h2_conn *conn) {
    static const char preface[] = H2_PREFACE;
    struct h2_rx *rx = &conn->rx;
    uint32_t len = MIN(available(conn), (uint32_t)H2_PREFACE_LEN - rx->have);
    if (memcmp(input(conn), &preface[rx->have], len) != 0) {
        h2_conn_fail(conn, H2_BAD_PREFACE);
        return;
    }
    conn->in_off += len;
    rx->have = (uint8_t)(rx->have + len);
    if (rx->have == H2_PREFACE_LEN) {
        rx->have = 0;
        rx->state = H2_RX_HEADER;
    }
}

static void on_skip(struct h2_conn *conn) {
    uint32_t len = MIN(available(conn), conn->rx.left);
    conn->in_off += len;
    conn->rx.left -= len;
}

static bool payload_step(struct h2_conn *conn, struct h2_event *ret_event) {
    switch ((enum h2_rx_state)conn->rx.state) {
    case H2_RX_PREFIX:
        on_prefix(conn);
        return false;
    case H2_RX_FIXED:
        on_fixed(conn);
        return false;
    case H2_RX_DATA:
        return on_data(conn, ret_event);
    case H2_RX_BLOCK:
        on_block(conn);
        return false;
    default:
        on_skip(conn);
        return false;
    }
}

// A payload may be empty, so that a frame can end without further input.
static bool needs_input(const struct h2_rx *rx) {
    switch ((enum h2_rx_state)rx->state) {
    case H2_RX_PREFACE:
    case H2_RX_HEADER:
    case H2_RX_PREFIX:
        return true;
    default:
        return rx->left > 0;
    }
}

// An empty header block still has to be ended.
static bool is_frame_done(const struct h2_rx *rx) {
    return rx->left == 0 && rx->state != H2_RX_BLOCK && rx->state != H2_RX_PREFIX;
}

bool h2_recv_step(struct h2_conn *conn, struct h2_event *ret_event) {
    struct h2_rx *rx = &conn->rx;
    if (rx->state == H2_RX_PREFACE) {
        on_preface(conn);
        return false;
    }
    if (rx->state == H2_RX_HEADER) {
        const uint8_t *bytes = take(conn, H2_FRAME_HD_LEN);
        if (bytes == NULL) {
            return false;
        }
        begin_frame(conn, bytes);
        if (conn->is_dead || needs_input(rx)) {
            return false;
        }
    }
    for (;;) {
        bool has_event = payload_step(conn, ret_event);
        if (conn->is_dead) {
            return has_event;
        }
        if (is_frame_done(rx)) {
            return end_frame(conn, ret_event) || has_event;
        }
        if (has_event || needs_input(rx)) {
            return has_event;
        }
    }
}
