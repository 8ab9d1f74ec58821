// SPDX-License-Identifier: Apache-2.0
//
// Windows (RFC 9113 5.2 and 6.9). All are signed 32-bit and may be negative; sums are checked in
// 64 bits. Credit for the connection returns when bytes arrive, credit for a stream when its
// consumer is done with them, so that a stalled stream costs its own window only.
#include "common/proto/h2_priv.h"

enum {
    CONN_CREDIT_PART = 4, // the connection's credit goes out by quarters of its window
    STREAM_CREDIT_PART = 2, // a stream's by halves
    EARLY_MIN = 64 << 10, // less is not worth a frame
    GROWTH_PART = 4, // of what a thread may park, for the growth of one connection's windows
    GROW_RTTS = 2, // half a window within two round trips: the window is what limits the sender
};

void h2_flow_init(struct h2_conn *conn) {
    conn->send_window = H2_WINDOW_INIT;
    conn->recv_window = H2_WINDOW_INIT;
    conn->peer.init_window = H2_WINDOW_INIT;
    // Until the peer has our SETTINGS it uses the protocol's default, which may be larger.
    conn->recv_init = (int32_t)MAX(conn->config.stream_window, (uint32_t)H2_WINDOW_INIT);
    if (conn->config.conn_window > H2_WINDOW_INIT) {
        uint32_t more = conn->config.conn_window - H2_WINDOW_INIT;
        h2_out_window_update(conn, 0, more);
        conn->recv_window += (int32_t)more;
    }
}

// ---- sending

enum h2_err h2_flow_on_conn_update(struct h2_conn *conn, uint32_t increment) {
    int64_t window = (int64_t)conn->send_window + increment;
    if (window > H2_WINDOW_MAX) {
        return H2_FLOW_CONTROL_ERROR;
    }
    conn->send_window = (int32_t)window;
    if (window > 0) {
        h2_out_unblock(conn);
    }
    return H2_NO_ERROR;
}

enum h2_err h2_flow_on_stream_update(struct h2_stream *stream, uint32_t increment) {
    int64_t window = (int64_t)stream->send_window + increment;
    if (window > H2_WINDOW_MAX) {
        return H2_FLOW_CONTROL_ERROR;
    }
    stream->send_window = (int32_t)window;
    h2_out_schedule(stream);
    return H2_NO_ERROR;
}

struct init_change {
    int64_t delta;
    bool overflows;
};

static void check_overflow(struct h2_stream *stream, void *arg) {
    struct init_change *change = arg;
    if (stream->send_window + change->delta > H2_WINDOW_MAX) {
        change->overflows = true;
    }
}

static void apply_delta(struct h2_stream *stream, void *arg) {
    const struct init_change *change = arg;
    if (stream->state != H2_STATE_CLOSED) {
        // Not below -2^31: windows only fall to minus the largest initial window.
        stream->send_window = (int32_t)(stream->send_window + change->delta);
        h2_out_schedule(stream);
    }
}

// RFC 9113 6.9.2.
enum h2_err h2_flow_on_peer_init_window(struct h2_conn *conn, uint32_t window) {
    struct init_change change = {.delta = (int64_t)window - conn->peer.init_window};
    if (change.delta == 0) {
        return H2_NO_ERROR;
    }
    h2_stream_each(conn, check_overflow, &change);
    if (change.overflows) {
        return H2_FLOW_CONTROL_ERROR;
    }
    conn->peer.init_window = (int32_t)window;
    h2_stream_each(conn, apply_delta, &change);
    return H2_NO_ERROR;
}

// ---- receiving

static void shrink_recv(struct h2_stream *stream, void *arg) {
    const int32_t *delta = arg;
    stream->recv_window -= *delta;
}

// The peer now counts with what we announced (only of interest when that was less).
void h2_flow_on_settings_ack(struct h2_conn *conn) {
    int32_t delta = conn->recv_init - (int32_t)conn->config.stream_window;
    if (delta > 0) {
        conn->recv_init -= delta;
        h2_stream_each(conn, shrink_recv, &delta);
    }
}

void h2_flow_conn_received(struct h2_conn *conn, uint32_t len) {
    conn->recv_credit += len;
    uint32_t window = MAX(conn->config.conn_window, (uint32_t)H2_WINDOW_INIT);
    if (conn->recv_credit >= window / CONN_CREDIT_PART) {
        h2_out_window_update(conn, 0, conn->recv_credit);
        conn->recv_window += (int32_t)conn->recv_credit;
        conn->recv_credit = 0;
    }
}

void h2_flow_unpark(struct h2_stream *stream, size_t len) {
    CHECK(len <= stream->parked);
    stream->parked -= (uint32_t)len;
    stream->conn->parked -= len;
    if (stream->conn->config.parked_all != NULL) {
        stream->conn->config.parked_all->n_bytes -= len;
    }
}

static void find_largest(struct h2_stream *stream, void *arg) {
    struct h2_stream **largest = arg;
    // Ties go to the younger stream, whatever the order of the table is.
    if (*largest == NULL || stream->parked > (*largest)->parked ||
        (stream->parked == (*largest)->parked && stream->id > (*largest)->id)) {
        *largest = stream;
    }
}

void h2_flow_parked(struct h2_stream *stream, uint32_t len) {
    struct h2_conn *conn = stream->conn;
    stream->parked += len;
    conn->parked += len;
    if (conn->config.parked_all != NULL) {
        conn->config.parked_all->n_bytes += len;
    }
    // Slow consumers of one connection together must not fill the memory: the worst one goes.
    while (conn->parked > conn->config.parked_max) {
        (void)h2_conn_shed(conn);
    }
}

void h2_conn_uncount(struct h2_conn *conn) {
    if (conn->config.parked_all != NULL) {
        conn->config.parked_all->n_bytes -= conn->parked;
        conn->config.parked_all = NULL;
    }
}

bool h2_conn_shed(struct h2_conn *conn) {
    struct h2_stream *largest = NULL;
    h2_stream_each(conn, find_largest, &largest);
    if (largest == NULL || largest->parked == 0) {
        return false;
    }
    h2_stream_fail(largest, H2_LOCAL_PARKED);
    return true;
}

static void add_excess(struct h2_stream *stream, void *arg) {
    uint64_t *sum = arg;
    uint32_t base = stream->conn->config.stream_window;
    if (stream->state != H2_STATE_CLOSED && stream->recv_target > base) {
        *sum += stream->recv_target - base;
    }
}

// How much further the windows of all streams may grow.
static uint32_t growth_left(struct h2_conn *conn, uint32_t max) {
    const struct h2_parked *all = conn->config.parked_all;
    if (all != NULL && all->max != 0) {
        max = (uint32_t)MIN(max, all->max / GROWTH_PART);
    }
    uint64_t excess = 0;
    h2_stream_each(conn, add_excess, &excess);
    return excess < max ? (uint32_t)(max - excess) : 0;
}

// The first streams need not wait for their window to grow, and some servers lose what does not
// fit into the first one (decision 017). Each takes half of what the others have left, so that the
// sum is bounded whatever the number of streams.
void h2_flow_on_open(struct h2_stream *stream) {
    struct h2_conn *conn = stream->conn;
    const struct h2_config *config = &conn->config;
    if (!conn->may_grow || config->early_window == 0) {
        return;
    }
    uint32_t more = growth_left(conn, MIN(config->early_window, (uint32_t)H2_GROWTH_MAX)) / 2;
    more = MIN(more, config->stream_window_max - stream->recv_target);
    if (more < EARLY_MIN) {
        return;
    }
    stream->recv_target += more;
    stream->recv_window += (int32_t)more;
    h2_out_window_update(conn, stream->id, more);
}

// What the window grows by: nothing, or its size, when the consumer keeps up with a sender whom
// the window limits.
static uint32_t growth(const struct h2_stream *stream) {
    struct h2_conn *conn = stream->conn;
    uint32_t window = stream->recv_target;
    if (!conn->may_grow || conn->rtt_ns == 0 || window >= conn->config.stream_window_max) {
        return 0;
    }
    bool keeps_up = stream->parked <= window / 4;
    bool is_limiting = conn->now - stream->credited_at < GROW_RTTS * conn->rtt_ns;
    if (!keeps_up || !is_limiting) {
        return 0;
    }
    uint32_t more = MIN(window, conn->config.stream_window_max - window);
    return MIN(more, growth_left(conn, H2_GROWTH_MAX));
}

void h2_flow_credit(struct h2_stream *stream, size_t len) {
    if (stream->state != H2_STATE_OPEN && stream->state != H2_STATE_HALF_LOCAL) {
        return; // nothing more will come
    }
    stream->credit += (uint32_t)len;
    if (stream->credit < stream->recv_target / STREAM_CREDIT_PART) {
        return;
    }
    uint32_t more = growth(stream);
    stream->recv_target += more;
    uint32_t increment = stream->credit + more;
    stream->credit = 0;
    stream->credited_at = stream->conn->now;
    stream->recv_window += (int32_t)increment;
    h2_out_window_update(stream->conn, stream->id, increment);
}
