// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "common/proto/h2_priv.h"

enum {
    HBONE_STREAMS_SERVER = 200,
    HBONE_STREAMS_CLIENT = 100,
    GOAWAY_WAIT_MS = 1000, // for the PING between the two GOAWAYs
    RTT_KEEP = 8, // a slower sample moves the estimate by an eighth
};

static const uint64_t ping_prefix = UINT64_C(0x7a74756e68320000);

uint64_t h2_ping_opaque(unsigned kind) {
    return ping_prefix | kind;
}

// ---- configuration

void h2_config_init(struct h2_config *config, bool is_server) {
    *config = (struct h2_config){
        .stream_window = 256 << 10,
        .stream_window_max = 4 << 20,
        .early_window = is_server ? 0 : 8 << 20,
        .conn_window = 16 << 20,
        .max_frame_size = 1 << 20,
        .max_header_list = (is_server ? 64 : 16) << 10,
        .max_streams = HBONE_STREAMS_SERVER,
        .max_streams_local = HBONE_STREAMS_CLIENT,
        .header_table_size = 0,
        .send_frame_max = BLK_DATA_MAX,
        .send_queue_max = 256 << 10,
        .ping_idle_ns = 10 * NS_PER_SEC,
        .ping_timeout_ns = 20 * NS_PER_SEC,
    };
}

void h2_config_init_http(struct h2_config *config, bool is_server) {
    h2_config_init(config, is_server);
    config->max_frame_size = H2_FRAME_SIZE_MIN;
    config->max_header_list = 64 << 10;
    config->header_table_size = H2_HPACK_TABLE_DEFAULT;
    config->early_window = 0;
    config->enable_connect_protocol = is_server;
}

static void check_config(const struct h2_config *config) {
    CHECK(config->max_frame_size >= H2_FRAME_SIZE_MIN);
    CHECK(config->max_frame_size <= H2_FRAME_SIZE_MAX);
    CHECK(config->stream_window > 0 && config->stream_window <= config->stream_window_max);
    CHECK(config->stream_window_max <= H2_WINDOW_MAX && config->conn_window <= H2_WINDOW_MAX);
    CHECK(config->send_frame_max > 0 && config->send_queue_max > 0);
    CHECK(config->max_header_list > 0 && config->header_table_size <= UINT16_MAX);
}

// A consumer that is only slow is never cut: its window is its share.
static uint32_t windows_of_all(const struct h2_config *config, bool is_server) {
    uint64_t n_streams = is_server ? config->max_streams : config->max_streams_local;
    uint64_t window = MAX(config->stream_window, (uint32_t)H2_WINDOW_INIT);
    return (uint32_t)MIN(n_streams * window + H2_GROWTH_MAX, (uint64_t)UINT32_MAX);
}

// ---- life

static void put_setting(uint8_t *payload, size_t *len, enum h2_setting id, uint32_t value) {
    payload[(*len)++] = 0;
    payload[(*len)++] = (uint8_t)id;
    h2_put32(payload + *len, value);
    *len += 4;
}

static void send_settings(struct h2_conn *conn) {
    const struct h2_config *config = &conn->config;
    uint8_t payload[6 * 6];
    size_t len = 0;
    if (config->header_table_size != H2_HPACK_TABLE_DEFAULT) {
        put_setting(payload, &len, H2_SETTING_HEADER_TABLE_SIZE, config->header_table_size);
    }
    if (conn->is_server) {
        put_setting(payload, &len, H2_SETTING_MAX_CONCURRENT_STREAMS, config->max_streams);
    } else {
        put_setting(payload, &len, H2_SETTING_ENABLE_PUSH, 0);
    }
    if (config->stream_window != H2_WINDOW_INIT) {
        put_setting(payload, &len, H2_SETTING_INITIAL_WINDOW_SIZE, config->stream_window);
    }
    if (config->max_frame_size != H2_FRAME_SIZE_MIN) {
        put_setting(payload, &len, H2_SETTING_MAX_FRAME_SIZE, config->max_frame_size);
    }
    put_setting(payload, &len, H2_SETTING_MAX_HEADER_LIST_SIZE, config->max_header_list);
    if (conn->is_server && config->enable_connect_protocol) {
        put_setting(payload, &len, H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1);
    }
    h2_out_frame(conn, H2_FRAME_SETTINGS, 0, 0, slice_make(payload, len));
    conn->settings_at = conn->now;
}

struct h2_conn *h2_conn_new(const struct h2_config *config, bool is_server, struct blk_pool *pool,
                            uint64_t now) {
    check_config(config);
    struct h2_conn *conn = xmalloc(sizeof(*conn));
    *conn = (struct h2_conn){
        .config = *config,
        .pool = pool,
        .now = now,
        .is_server = is_server,
        .may_grow = true,
        .rx.state = is_server ? H2_RX_PREFACE : H2_RX_HEADER,
        .next_id = is_server ? 2 : 1,
        .goaway_last_id = H2_STREAM_ID_MAX,
        .goaway_id = H2_STREAM_ID_MAX,
        .peer =
            {
                .max_frame_size = H2_FRAME_SIZE_MIN,
                .max_streams = UINT32_MAX,
                .max_header_list = UINT32_MAX,
                .header_table_size = H2_HPACK_TABLE_DEFAULT,
            },
        .needs_size_update = true,
        .last_input = now,
        .idle_ping_at = TIME_NEVER,
        .user_ping_at = TIME_NEVER,
    };
    if (config->parked_max == 0) {
        conn->config.parked_max = windows_of_all(config, is_server);
    }
    list_init(&conn->sendable);
    list_init(&conn->blocked);
    list_init(&conn->ready);
    chain_init(&conn->ctrl, pool);
    h2_hpack_dec_init(&conn->dec, config->header_table_size);
    h2_guard_init(&conn->guard, &config->guard, now);
    if (!is_server) {
        chain_copy(&conn->ctrl, SLICE_LIT(H2_PREFACE));
    }
    send_settings(conn);
    h2_flow_init(conn);
    return conn;
}

static void drop_input(struct h2_conn *conn) {
    blk_unref(conn->in);
    conn->in = NULL;
    conn->in_off = conn->in_end = 0;
}

void h2_conn_free(struct h2_conn *conn) {
    if (conn == NULL) {
        return;
    }
    drop_input(conn);
    h2_stream_free_all(conn);
    h2_block_free(conn->block);
    h2_hpack_dec_fini(&conn->dec);
    chain_clear(&conn->ctrl);
    free(conn);
}

// ---- input and events

static void forget_events(struct h2_conn *conn) {
    h2_stream_reap(conn);
    if (conn->block != NULL && conn->block->is_done) {
        h2_block_free(conn->block);
        conn->block = NULL;
    }
}

void h2_conn_recv(struct h2_conn *conn, struct blk *blk, uint32_t off, uint32_t len, uint64_t now,
                  uint32_t *ret_used) {
    CHECK((uint64_t)off + len <= blk->cap);
    conn->now = MAX(conn->now, now);
    if (conn->is_dead || len == 0) {
        *ret_used = len;
        return;
    }
    conn->last_input = now;
    if (conn->in != NULL) {
        *ret_used = 0; // events of the last input were not all taken
        return;
    }
    forget_events(conn);
    conn->in = blk_ref(blk);
    conn->in_off = off;
    conn->in_end = off + len;
    *ret_used = len;
}

void h2_conn_pend(struct h2_conn *conn, uint8_t event) {
    conn->pending |= event;
}

static bool take_conn_event(struct h2_conn *conn, struct h2_event *ret_event) {
    uint8_t event = conn->pending & (uint8_t)-conn->pending;
    conn->pending &= (uint8_t)~event;
    *ret_event = (struct h2_event){0};
    switch (event) {
    case H2_PEND_CONN_SETTINGS:
        ret_event->type = H2_EV_SETTINGS;
        return true;
    case H2_PEND_CONN_GOAWAY:
        ret_event->type = H2_EV_GOAWAY;
        ret_event->from_peer = true;
        ret_event->err = (enum h2_err)conn->goaway_err;
        ret_event->last_id = conn->goaway_id;
        return true;
    case H2_PEND_CONN_PING_ACK:
        ret_event->type = H2_EV_PING_ACK;
        ret_event->opaque = conn->ping_ack_opaque;
        ret_event->rtt_ns = conn->ping_ack_rtt;
        return true;
    default:
        ret_event->type = H2_EV_CONN_ERROR;
        ret_event->err = (enum h2_err)conn->conn_err;
        return true;
    }
}

static bool take_stream_event(struct h2_conn *conn, struct h2_event *ret_event) {
    if (list_empty(&conn->ready)) {
        return false;
    }
    struct h2_stream *stream = LIST_ITEM(conn->ready.next, struct h2_stream, event_node);
    uint8_t event = stream->pending & (uint8_t)-stream->pending;
    stream->pending &= (uint8_t)~event;
    if (stream->pending == 0) {
        list_del(&stream->event_node);
    }
    *ret_event = (struct h2_event){.stream = stream};
    switch (event) {
    case H2_PEND_END:
        ret_event->type = H2_EV_END;
        return true;
    case H2_PEND_RESET:
        ret_event->type = H2_EV_RESET;
        ret_event->err = (enum h2_err)stream->reset_err;
        ret_event->from_peer = stream->reset_from_peer;
        ret_event->is_clean = stream->reset_is_clean;
        return true;
    case H2_PEND_PROGRESS:
        ret_event->type = H2_EV_PROGRESS;
        ret_event->len = stream->pulled;
        stream->pulled = 0;
        return true;
    case H2_PEND_WRITABLE:
        ret_event->type = H2_EV_WRITABLE;
        return true;
    case H2_PEND_SENT:
        ret_event->type = H2_EV_SENT;
        return true;
    default:
        ret_event->type = H2_EV_CLOSED;
        conn->reap = stream;
        return true;
    }
}

bool h2_conn_next(struct h2_conn *conn, struct h2_event *ret_event) {
    forget_events(conn);
    for (;;) {
        if ((conn->pending & ~H2_PEND_CONN_ERROR) != 0 ||
            (conn->pending != 0 && list_empty(&conn->ready))) {
            return take_conn_event(conn, ret_event);
        }
        if (take_stream_event(conn, ret_event)) {
            return true;
        }
        if (conn->is_dead || conn->in_off == conn->in_end) {
            drop_input(conn);
            return false;
        }
        if (h2_recv_step(conn, ret_event)) {
            return true;
        }
    }
}

bool h2_conn_has_events(const struct h2_conn *conn) {
    return conn->pending != 0 || !list_empty(&conn->ready) || conn->in != NULL;
}

// ---- errors

void h2_conn_fail(struct h2_conn *conn, enum h2_err err) {
    if (conn->is_dead) {
        return;
    }
    h2_conn_goaway(conn, err);
    conn->is_dead = true;
    conn->conn_err = (uint8_t)err;
    h2_conn_pend(conn, H2_PEND_CONN_ERROR);
}

bool h2_conn_guard(struct h2_conn *conn, enum h2_guard_kind kind) {
    enum h2_err err = h2_guard_take(&conn->guard, kind, conn->now);
    if (err != H2_NO_ERROR) {
        h2_conn_fail(conn, err);
        return false;
    }
    return true;
}

// ---- GOAWAY, PING, time

static void send_goaway(struct h2_conn *conn, uint32_t last_id, enum h2_err err) {
    uint8_t payload[8];
    h2_put32(payload, last_id);
    h2_put32(payload + 4, h2_err_code(err));
    h2_out_frame(conn, H2_FRAME_GOAWAY, 0, 0, slice_make(payload, sizeof(payload)));
}

static void send_ping(struct h2_conn *conn, uint64_t opaque) {
    uint8_t payload[8];
    h2_put64(payload, opaque);
    h2_out_frame(conn, H2_FRAME_PING, 0, 0, slice_make(payload, sizeof(payload)));
}

void h2_conn_goaway_final(struct h2_conn *conn, enum h2_err err) {
    conn->goaway_step = H2_GOAWAY_FINAL;
    conn->goaway_last_id = conn->last_peer_id;
    send_goaway(conn, conn->last_peer_id, err);
}

void h2_conn_goaway(struct h2_conn *conn, enum h2_err err) {
    // A second final one only where it tells something new.
    if (!conn->is_dead && (conn->goaway_step != H2_GOAWAY_FINAL || err != H2_NO_ERROR)) {
        h2_conn_goaway_final(conn, err);
    }
}

void h2_conn_goaway_start(struct h2_conn *conn, uint64_t now) {
    conn->now = MAX(conn->now, now);
    if (conn->is_dead || conn->goaway_step != H2_GOAWAY_NONE) {
        return;
    }
    if (!conn->is_server) {
        h2_conn_goaway_final(conn, H2_NO_ERROR); // a server opens no streams: nothing to wait for
        return;
    }
    // RFC 9113 6.8: announce first, so that streams under way are not lost.
    conn->goaway_step = H2_GOAWAY_ANNOUNCED;
    conn->goaway_at = conn->now + GOAWAY_WAIT_MS * NS_PER_MS;
    send_goaway(conn, H2_STREAM_ID_MAX, H2_NO_ERROR);
    send_ping(conn, h2_ping_opaque(H2_PING_KIND_GOAWAY));
}

void h2_conn_ping(struct h2_conn *conn, uint64_t opaque, uint64_t now) {
    conn->now = MAX(conn->now, now);
    if (conn->is_dead) {
        return;
    }
    conn->user_ping = opaque;
    conn->user_ping_at = conn->now;
    send_ping(conn, opaque);
}

void h2_conn_rtt_sample(struct h2_conn *conn, uint64_t rtt_ns) {
    uint64_t rtt = MAX(rtt_ns, (uint64_t)1);
    // Near the minimum, but able to follow a path that became longer.
    conn->rtt_ns = conn->rtt_ns == 0 || rtt < conn->rtt_ns
                       ? rtt
                       : conn->rtt_ns + (rtt - conn->rtt_ns) / RTT_KEEP;
}

static uint64_t ping_deadline(const struct h2_conn *conn) {
    if (conn->config.ping_idle_ns == 0) {
        return TIME_NEVER;
    }
    return conn->idle_ping_at != TIME_NEVER ? conn->idle_ping_at + conn->config.ping_timeout_ns
                                            : conn->last_input + conn->config.ping_idle_ns;
}

uint64_t h2_conn_deadline(const struct h2_conn *conn) {
    if (conn->is_dead) {
        return TIME_NEVER;
    }
    uint64_t at = ping_deadline(conn);
    return conn->goaway_step == H2_GOAWAY_ANNOUNCED ? MIN(at, conn->goaway_at) : at;
}

void h2_conn_tick(struct h2_conn *conn, uint64_t now) {
    forget_events(conn);
    conn->now = MAX(conn->now, now);
    if (conn->is_dead) {
        return;
    }
    if (conn->goaway_step == H2_GOAWAY_ANNOUNCED && conn->now >= conn->goaway_at) {
        h2_conn_goaway_final(conn, H2_NO_ERROR);
    }
    if (conn->now < ping_deadline(conn)) {
        return;
    }
    if (conn->idle_ping_at != TIME_NEVER) {
        h2_conn_fail(conn, H2_PING_TIMEOUT);
        return;
    }
    conn->idle_ping_at = conn->now;
    send_ping(conn, h2_ping_opaque(H2_PING_KIND_IDLE));
}

// ---- questions

void h2_conn_allow_growth(struct h2_conn *conn, bool is_allowed) {
    conn->may_grow = is_allowed;
}

bool h2_conn_is_dead(const struct h2_conn *conn) {
    return conn->is_dead;
}

bool h2_conn_is_draining(const struct h2_conn *conn) {
    return conn->has_goaway || conn->goaway_step != H2_GOAWAY_NONE;
}

bool h2_conn_goaway_is_open(const struct h2_conn *conn) {
    return conn->goaway_step == H2_GOAWAY_ANNOUNCED && !conn->is_dead;
}

bool h2_conn_has_settings(const struct h2_conn *conn) {
    return conn->peer.has_settings;
}

bool h2_conn_peer_connect_protocol(const struct h2_conn *conn) {
    return conn->peer.connect_protocol;
}

uint32_t h2_conn_n_streams(const struct h2_conn *conn) {
    return conn->n_open_local + conn->n_open_peer;
}

uint32_t h2_conn_n_free_streams(const struct h2_conn *conn) {
    uint32_t max = MIN(conn->config.max_streams_local, conn->peer.max_streams);
    if (conn->is_server || conn->is_dead || h2_conn_is_draining(conn) ||
        conn->n_open_local >= max) {
        return 0;
    }
    uint32_t n_ids =
        conn->next_id > H2_STREAM_ID_MAX ? 0 : (H2_STREAM_ID_MAX - conn->next_id) / 2 + 1;
    return MIN(max - conn->n_open_local, n_ids);
}

size_t h2_conn_queued(const struct h2_conn *conn) {
    return conn->queued + conn->ctrl.len;
}

size_t h2_conn_parked(const struct h2_conn *conn) {
    return conn->parked;
}

size_t h2_conn_memory(const struct h2_conn *conn) {
    size_t n_streams = conn->n_objects + conn->n_free;
    return sizeof(*conn) + n_streams * sizeof(struct h2_stream) +
           conn->n_buckets * sizeof(struct h2_stream *) + h2_block_memory(conn->block) +
           h2_hpack_dec_memory(&conn->dec) + chain_capacity(&conn->ctrl);
}
