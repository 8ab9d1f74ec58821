// SPDX-License-Identifier: Apache-2.0
//
// Frames about the connection and about stream life: SETTINGS, PING, GOAWAY, WINDOW_UPDATE,
// RST_STREAM, PRIORITY. They arrive in units of a few bytes, so nothing is collected.
#include "common/proto/h2_priv.h"

enum { MAX_SETTINGS = 64 }; // in one frame; more only make us work

uint32_t h2_ctrl_unit_len(uint8_t type) {
    switch (type) {
    case H2_FRAME_SETTINGS:
        return 6;
    case H2_FRAME_PING:
    case H2_FRAME_GOAWAY: // debug data behind it is skipped
        return 8;
    case H2_FRAME_PRIORITY:
        return 5;
    case H2_FRAME_RST_STREAM:
    case H2_FRAME_WINDOW_UPDATE:
        return 4;
    default:
        return 0;
    }
}

// What can be said before the payload is there.
enum h2_err h2_ctrl_begin(struct h2_conn *conn, const struct h2_frame_hd *frame) {
    switch (frame->type) {
    case H2_FRAME_RST_STREAM:
    case H2_FRAME_WINDOW_UPDATE:
        // RFC 9113 5.1: not on an idle stream.
        return frame->id != 0 && h2_stream_id_is_idle(conn, frame->id) ? H2_BAD_STREAM_ID
                                                                       : H2_NO_ERROR;
    case H2_FRAME_SETTINGS:
        if (frame->len > MAX_SETTINGS * 6) {
            return H2_FLOOD_SETTINGS;
        }
        return h2_guard_take(&conn->guard, H2_GUARD_SETTINGS, conn->now);
    case H2_FRAME_PRIORITY:
        return h2_guard_take(&conn->guard, H2_GUARD_EMPTY, conn->now);
    default:
        return H2_NO_ERROR;
    }
}

// ---- SETTINGS

static void on_setting(struct h2_conn *conn, uint16_t id, uint32_t value) {
    enum h2_err err = h2_setting_check(id, value, !conn->is_server);
    if (err == H2_NO_ERROR && id == H2_SETTING_ENABLE_CONNECT_PROTOCOL && value == 0 &&
        conn->peer.connect_protocol) {
        err = H2_BAD_SETTING; // RFC 8441 3: not taken back
    }
    if (err != H2_NO_ERROR) {
        h2_conn_fail(conn, err);
        return;
    }
    switch (id) {
    case H2_SETTING_HEADER_TABLE_SIZE:
        // Our encoder's table has size 0 already. Some decoders still want to hear it again.
        if (value < conn->peer.header_table_size) {
            conn->needs_size_update = true;
        }
        conn->peer.header_table_size = value;
        break;
    case H2_SETTING_MAX_CONCURRENT_STREAMS:
        conn->peer.max_streams = value;
        break;
    case H2_SETTING_INITIAL_WINDOW_SIZE:
        conn->rx.init_window = value; // applied once a frame
        conn->rx.has_init_window = true;
        break;
    case H2_SETTING_MAX_FRAME_SIZE:
        conn->peer.max_frame_size = value;
        break;
    case H2_SETTING_MAX_HEADER_LIST_SIZE:
        conn->peer.max_header_list = value;
        break;
    case H2_SETTING_ENABLE_CONNECT_PROTOCOL:
        conn->peer.connect_protocol = value == 1;
        break;
    default:
        break;
    }
}

static void on_settings_ack(struct h2_conn *conn) {
    if (conn->is_acked) {
        return;
    }
    conn->is_acked = true;
    h2_hpack_dec_acked(&conn->dec);
    h2_flow_on_settings_ack(conn);
    h2_conn_rtt_sample(conn, conn->now - conn->settings_at);
}

static void on_settings_end(struct h2_conn *conn) {
    if ((conn->rx.frame.flags & H2_FLAG_ACK) != 0) {
        on_settings_ack(conn);
        return;
    }
    if (conn->rx.has_init_window) {
        conn->rx.has_init_window = false;
        enum h2_err err = h2_flow_on_peer_init_window(conn, conn->rx.init_window);
        if (err != H2_NO_ERROR) {
            h2_conn_fail(conn, err);
            return;
        }
    }
    conn->peer.has_settings = true;
    h2_out_answer(conn, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, slice_make(NULL, 0));
    h2_conn_pend(conn, H2_PEND_CONN_SETTINGS);
}

// ---- the others

static void on_ping_ack(struct h2_conn *conn, uint64_t opaque) {
    if (opaque == h2_ping_opaque(H2_PING_KIND_IDLE) && conn->idle_ping_at != TIME_NEVER) {
        h2_conn_rtt_sample(conn, conn->now - conn->idle_ping_at);
        conn->idle_ping_at = TIME_NEVER;
    } else if (opaque == h2_ping_opaque(H2_PING_KIND_GOAWAY) &&
               conn->goaway_step == H2_GOAWAY_ANNOUNCED) {
        // What the peer opened before it saw the first GOAWAY has arrived (RFC 9113 6.8).
        h2_conn_goaway_final(conn, H2_NO_ERROR);
    } else if (conn->user_ping_at != TIME_NEVER && opaque == conn->user_ping) {
        conn->ping_ack_opaque = opaque;
        conn->ping_ack_rtt = conn->now - conn->user_ping_at;
        conn->user_ping_at = TIME_NEVER;
        h2_conn_rtt_sample(conn, conn->ping_ack_rtt);
        h2_conn_pend(conn, H2_PEND_CONN_PING_ACK);
    }
}

static void on_ping(struct h2_conn *conn, const uint8_t *unit) {
    if ((conn->rx.frame.flags & H2_FLAG_ACK) != 0) {
        on_ping_ack(conn, h2_get64(unit));
    } else if (h2_conn_guard(conn, H2_GUARD_PINGS)) {
        h2_out_answer(conn, H2_FRAME_PING, H2_FLAG_ACK, 0, slice_make(unit, 8));
    }
}

static void refuse_above(struct h2_stream *stream, void *arg) {
    const uint32_t *last_id = arg;
    if (stream->is_local && stream->id > *last_id && stream->state != H2_STATE_CLOSED) {
        h2_stream_refused(stream);
    }
}

static void on_goaway(struct h2_conn *conn, const uint8_t *unit) {
    uint32_t last_id = h2_get32(unit) & INT32_MAX;
    // RFC 9113 6.8: it must not rise again. Only what was refused before stays refused.
    conn->goaway_id = MIN(conn->goaway_id, last_id);
    conn->goaway_err = (uint8_t)h2_err_from_code(h2_get32(unit + 4));
    conn->has_goaway = true;
    if (!conn->is_server) {
        h2_stream_each(conn, refuse_above, &conn->goaway_id);
    }
    h2_conn_pend(conn, H2_PEND_CONN_GOAWAY);
}

static void on_window_update(struct h2_conn *conn, const uint8_t *unit) {
    uint32_t increment = h2_get32(unit) & INT32_MAX;
    uint32_t id = conn->rx.frame.id;
    if (!h2_conn_guard(conn, H2_GUARD_WINDOWS)) {
        return;
    }
    if (id == 0) {
        enum h2_err err =
            increment == 0 ? H2_ZERO_INCREMENT : h2_flow_on_conn_update(conn, increment);
        if (err != H2_NO_ERROR) {
            h2_conn_fail(conn, err);
        }
        return;
    }
    struct h2_stream *stream = h2_stream_find(conn, id);
    if (stream == NULL) {
        return; // RFC 9113 5.1: may arrive late
    }
    enum h2_err err =
        increment == 0 ? H2_ZERO_INCREMENT : h2_flow_on_stream_update(stream, increment);
    if (err != H2_NO_ERROR && h2_conn_guard(conn, H2_GUARD_GLITCHES)) {
        h2_stream_fail(stream, err);
    }
}

static void on_rst_stream(struct h2_conn *conn, const uint8_t *unit) {
    struct h2_stream *stream = h2_stream_find(conn, conn->rx.frame.id);
    if (stream == NULL) {
        return;
    }
    // Rapid reset: a request costs us most before its answer. Resets after it cost what any
    // stream costs, and tunnels that end by a TCP RST are among them.
    bool is_early = conn->is_server && !stream->has_sent_head;
    if (is_early && !h2_conn_guard(conn, H2_GUARD_RESETS)) {
        return;
    }
    h2_stream_on_peer_reset(stream, h2_err_from_code(h2_get32(unit)));
}

void h2_ctrl_unit(struct h2_conn *conn, const uint8_t *unit) {
    switch (conn->rx.frame.type) {
    case H2_FRAME_SETTINGS:
        on_setting(conn, (uint16_t)(unit[0] << 8 | unit[1]), h2_get32(unit + 2));
        break;
    case H2_FRAME_PING:
        on_ping(conn, unit);
        break;
    case H2_FRAME_GOAWAY:
        on_goaway(conn, unit);
        break;
    case H2_FRAME_WINDOW_UPDATE:
        on_window_update(conn, unit);
        break;
    case H2_FRAME_RST_STREAM:
        on_rst_stream(conn, unit);
        break;
    default:
        break; // PRIORITY: nothing is done with it (RFC 9113 5.3.2)
    }
}

void h2_ctrl_end(struct h2_conn *conn) {
    if (conn->rx.frame.type == H2_FRAME_SETTINGS) {
        on_settings_end(conn);
    }
}
