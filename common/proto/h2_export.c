// SPDX-License-Identifier: Apache-2.0
//
// Hand-over to a successor process. One routine walks the state for both directions, so that
// writer and reader cannot disagree; bump FORMAT with any change to it.
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/proto/h2_priv.h"

enum { FORMAT = 1, MAX_STREAMS = 1 << 20 };

struct xfer {
    struct buf *out; // writing
    struct cur *in; // or reading
};

static void x_u64(struct xfer *x, uint64_t *value) {
    if (x->out != NULL) {
        buf_put_u64(x->out, *value);
    } else {
        *value = cur_u64(x->in);
    }
}

static void x_u32(struct xfer *x, uint32_t *value) {
    if (x->out != NULL) {
        buf_put_u32(x->out, *value);
    } else {
        *value = cur_u32(x->in);
    }
}

static void x_i32(struct xfer *x, int32_t *value) {
    uint32_t bits = (uint32_t)*value;
    x_u32(x, &bits);
    *value = (int32_t)bits;
}

static void x_u16(struct xfer *x, uint16_t *value) {
    uint32_t wide = *value;
    x_u32(x, &wide);
    *value = (uint16_t)wide;
}

static void x_u8(struct xfer *x, uint8_t *value) {
    if (x->out != NULL) {
        buf_put_u8(x->out, *value);
    } else {
        *value = cur_u8(x->in);
    }
}

static void x_bool(struct xfer *x, bool *value) {
    uint8_t byte = *value;
    x_u8(x, &byte);
    *value = byte != 0;
}

static void x_chain(struct xfer *x, struct chain *chain) {
    uint32_t len = (uint32_t)chain->len;
    x_u32(x, &len);
    if (x->in != NULL) {
        chain_copy(chain, cur_bytes(x->in, len));
        return;
    }
    for (const struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        buf_append(x->out, seg_slice(seg));
    }
}

// ---- the connection

static void x_config(struct xfer *x, struct h2_config *config) {
    x_u32(x, &config->stream_window);
    x_u32(x, &config->stream_window_max);
    x_u32(x, &config->early_window);
    x_u32(x, &config->conn_window);
    x_u32(x, &config->max_frame_size);
    x_u32(x, &config->max_header_list);
    x_u32(x, &config->max_streams);
    x_u32(x, &config->max_streams_local);
    x_u32(x, &config->header_table_size);
    x_u32(x, &config->send_frame_max);
    x_u32(x, &config->send_queue_max);
    x_u32(x, &config->parked_max);
    x_u64(x, &config->ping_idle_ns);
    x_u64(x, &config->ping_timeout_ns);
    x_bool(x, &config->enable_connect_protocol);
}

static void x_rx(struct xfer *x, struct h2_rx *rx) {
    x_u32(x, &rx->frame.len);
    x_u32(x, &rx->frame.id);
    x_u8(x, &rx->frame.type);
    x_u8(x, &rx->frame.flags);
    x_u32(x, &rx->left);
    x_u32(x, &rx->pad);
    x_u8(x, &rx->state);
    x_u8(x, &rx->have);
    x_bool(x, &rx->seen_first);
    x_bool(x, &rx->has_init_window);
    x_u32(x, &rx->init_window);
    for (size_t i = 0; i < sizeof(rx->buf); i++) {
        x_u8(x, &rx->buf[i]);
    }
}

static void x_guard(struct xfer *x, struct h2_guard *guard) {
    x_u64(x, &guard->refilled_at);
    x_u16(x, &guard->max_continuations);
    for (int i = 0; i < H2_GUARD_COUNT; i++) {
        x_u16(x, &guard->tokens[i]);
        x_u16(x, &guard->caps[i]);
    }
}

static void x_peer(struct xfer *x, struct h2_peer *peer) {
    x_u32(x, &peer->max_frame_size);
    x_u32(x, &peer->max_streams);
    x_u32(x, &peer->max_header_list);
    x_i32(x, &peer->init_window);
    x_u32(x, &peer->header_table_size);
    x_bool(x, &peer->has_settings);
    x_bool(x, &peer->connect_protocol);
}

static void x_conn(struct xfer *x, struct h2_conn *conn) {
    x_config(x, &conn->config);
    x_u64(x, &conn->now);
    x_bool(x, &conn->is_server);
    x_bool(x, &conn->may_grow);
    x_bool(x, &conn->is_acked);
    x_rx(x, &conn->rx);
    x_guard(x, &conn->guard);
    x_peer(x, &conn->peer);
    x_bool(x, &conn->dec.is_acked);
    x_bool(x, &conn->dec.has_update);
    x_bool(x, &conn->needs_size_update);
    x_u32(x, &conn->next_id);
    x_u32(x, &conn->last_peer_id);
    x_u32(x, &conn->highest_peer_id);
    x_u32(x, &conn->goaway_last_id);
    for (int i = 0; i < H2_N_CLOSED_IDS; i++) {
        x_u32(x, &conn->closed.ids[i]);
    }
    x_u32(x, &conn->closed.n);
    x_i32(x, &conn->send_window);
    x_i32(x, &conn->recv_window);
    x_u32(x, &conn->recv_credit);
    x_i32(x, &conn->recv_init);
    x_u8(x, &conn->goaway_err);
    x_u32(x, &conn->goaway_id);
    x_bool(x, &conn->has_goaway);
    x_u8(x, &conn->goaway_step);
    x_u64(x, &conn->goaway_at);
    x_u64(x, &conn->last_input);
    x_u64(x, &conn->idle_ping_at);
    x_u64(x, &conn->user_ping_at);
    x_u64(x, &conn->user_ping);
    x_u64(x, &conn->settings_at);
    x_u64(x, &conn->rtt_ns);
}

// ---- streams

enum {
    BIT_LOCAL = 1 << 0,
    BIT_CONNECT = 1 << 1,
    BIT_RECV_HEAD = 1 << 2,
    BIT_SENT_HEAD = 1 << 3,
    BIT_END_QUEUED = 1 << 4,
    BIT_WAS_FULL = 1 << 5,
};

static void x_bits(struct xfer *x, struct h2_stream *stream) {
    uint8_t bits = 0;
    bits |= stream->is_local ? BIT_LOCAL : 0;
    bits |= stream->is_connect ? BIT_CONNECT : 0;
    bits |= stream->has_recv_head ? BIT_RECV_HEAD : 0;
    bits |= stream->has_sent_head ? BIT_SENT_HEAD : 0;
    bits |= stream->has_end_queued ? BIT_END_QUEUED : 0;
    bits |= stream->was_full ? BIT_WAS_FULL : 0;
    x_u8(x, &bits);
    stream->is_local = (bits & BIT_LOCAL) != 0;
    stream->is_connect = (bits & BIT_CONNECT) != 0;
    stream->is_tunnel_request = stream->is_connect; // tunnels carry no extended CONNECT
    stream->has_recv_head = (bits & BIT_RECV_HEAD) != 0;
    stream->has_sent_head = (bits & BIT_SENT_HEAD) != 0;
    stream->has_end_queued = (bits & BIT_END_QUEUED) != 0;
    stream->was_full = (bits & BIT_WAS_FULL) != 0;
}

static void x_trailers(struct xfer *x, struct h2_trailers **trailers) {
    bool has = *trailers != NULL;
    x_bool(x, &has);
    if (!has) {
        return;
    }
    uint32_t len = *trailers != NULL ? (uint32_t)(*trailers)->len : 0;
    x_u32(x, &len);
    if (x->out != NULL) {
        buf_append(x->out, slice_make((*trailers)->bytes, len));
        return;
    }
    struct slice bytes = cur_bytes(x->in, len);
    *trailers = xmalloc(sizeof(**trailers) + bytes.len);
    (*trailers)->len = bytes.len;
    slice_copy((*trailers)->bytes, bytes);
}

static void x_stream(struct xfer *x, struct h2_stream *stream) {
    x_u8(x, &stream->state);
    x_bits(x, stream);
    x_u64(x, &stream->credited_at);
    x_i32(x, &stream->send_window);
    x_i32(x, &stream->recv_window);
    x_u32(x, &stream->recv_target);
    x_u32(x, &stream->parked);
    x_u32(x, &stream->credit);
    x_chain(x, &stream->queue);
    x_trailers(x, &stream->trailers);
}

static void write_stream(struct h2_stream *stream, void *arg) {
    struct xfer *x = arg;
    x_u32(x, &stream->id);
    x_stream(x, stream);
}

// ---- writing

// What has no form outside this process: events and input that wait, a header block or an HPACK
// table in use, and a connection that is over.
static bool is_exportable(const struct h2_conn *conn) {
    return !conn->is_dead && conn->in == NULL && conn->block == NULL && conn->pending == 0 &&
           list_empty(&conn->ready) && conn->reap == NULL && conn->dec.inflater == NULL &&
           conn->config.header_table_size == 0;
}

bool h2_conn_export(struct h2_conn *conn, struct buf *out) {
    if (!is_exportable(conn)) {
        return false;
    }
    struct xfer x = {.out = out};
    buf_put_u8(out, FORMAT);
    x_conn(&x, conn);
    x_chain(&x, &conn->ctrl);
    buf_put_u32(out, conn->n_objects);
    h2_stream_each(conn, write_stream, &x);
    return buf_ok(out);
}

// ---- reading

static bool config_is_sane(const struct h2_config *config) {
    return config->max_frame_size >= H2_FRAME_SIZE_MIN &&
           config->max_frame_size <= H2_FRAME_SIZE_MAX && config->stream_window > 0 &&
           config->stream_window <= config->stream_window_max &&
           config->stream_window_max <= H2_WINDOW_MAX && config->conn_window <= H2_WINDOW_MAX &&
           config->send_frame_max > 0 && config->max_header_list > 0 &&
           config->header_table_size == 0;
}

static bool rx_is_sane(const struct h2_rx *rx) {
    return rx->state <= H2_RX_SKIP && rx->state != H2_RX_BLOCK && rx->left <= rx->frame.len &&
           rx->pad <= rx->left && rx->frame.type != H2_FRAME_CONTINUATION &&
           rx->frame.len <= H2_FRAME_SIZE_MAX && rx->frame.id <= H2_STREAM_ID_MAX &&
           rx->have < (rx->state == H2_RX_PREFACE ? H2_PREFACE_LEN : H2_FRAME_HD_LEN) &&
           (rx->state != H2_RX_FIXED || rx->have < h2_ctrl_unit_len(rx->frame.type)) &&
           (rx->state != H2_RX_PREFIX || rx->frame.type == H2_FRAME_DATA);
}

static bool conn_is_sane(const struct h2_conn *conn) {
    return config_is_sane(&conn->config) && rx_is_sane(&conn->rx) &&
           conn->peer.max_frame_size >= H2_FRAME_SIZE_MIN &&
           conn->peer.max_frame_size <= H2_FRAME_SIZE_MAX && conn->peer.init_window >= 0 &&
           conn->recv_window >= 0 &&
           (int64_t)conn->recv_window + conn->recv_credit <=
               MAX(conn->config.conn_window, (uint32_t)H2_WINDOW_INIT) &&
           conn->recv_init >= 0 && conn->goaway_step <= H2_GOAWAY_FINAL &&
           conn->goaway_err <= H2_DRAINING && conn->next_id <= (uint32_t)H2_STREAM_ID_MAX + 2;
}

static bool stream_is_sane(const struct h2_stream *stream, uint32_t parked) {
    const struct h2_config *config = &stream->conn->config;
    int64_t window = (int64_t)stream->recv_window + parked + stream->credit;
    return stream->state <= H2_STATE_CLOSED && stream->recv_target > 0 &&
           stream->recv_target <= config->stream_window_max &&
           window <= MAX(stream->recv_target, (uint32_t)H2_WINDOW_INIT) &&
           (stream->state != H2_STATE_CLOSED || parked > 0);
}

static bool read_stream(struct xfer *x, struct h2_conn *conn) {
    uint32_t id = cur_u32(x->in);
    bool is_local = h2_stream_id_is_local(conn, id);
    if (!cur_ok(x->in) || id == 0 || id > H2_STREAM_ID_MAX || h2_stream_id_is_idle(conn, id) ||
        h2_stream_object(conn, id) != NULL) {
        return false;
    }
    struct h2_stream *stream = h2_stream_new(conn, id, is_local);
    x_stream(x, stream);
    uint32_t parked = stream->parked;
    stream->parked = 0;
    conn->queued += stream->queue.len;
    if (!cur_ok(x->in) || stream->is_local != is_local || !stream_is_sane(stream, parked)) {
        stream->is_local = is_local;
        return false;
    }
    stream->parked = parked;
    conn->parked += parked;
    h2_stream_imported(stream);
    return true;
}

static bool read_conn(struct xfer *x, struct h2_conn *conn) {
    x_conn(x, conn);
    if (!cur_ok(x->in) || !conn_is_sane(conn)) {
        return false;
    }
    conn->dec.table_size = conn->config.header_table_size;
    x_chain(x, &conn->ctrl);
    uint32_t n_streams = cur_u32(x->in);
    if (!cur_ok(x->in) || n_streams > MAX_STREAMS) {
        return false;
    }
    for (uint32_t i = 0; i < n_streams; i++) {
        if (!read_stream(x, conn)) {
            return false;
        }
    }
    return cur_done(x->in);
}

struct h2_conn *h2_conn_import(struct slice bytes, struct blk_pool *pool) {
    struct cur cur = cur_make(bytes);
    if (cur_u8(&cur) != FORMAT) {
        return NULL;
    }
    struct h2_conn *conn = xcalloc(1, sizeof(*conn));
    conn->pool = pool;
    list_init(&conn->sendable);
    list_init(&conn->blocked);
    list_init(&conn->ready);
    chain_init(&conn->ctrl, pool);
    struct xfer x = {.in = &cur};
    if (!read_conn(&x, conn)) {
        h2_conn_free(conn);
        return NULL;
    }
    return conn;
}
