// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "common/proto/h1_priv.h"

// ---- life

void h1_config_init(struct h1_config *config) {
    *config = (struct h1_config){
        .head = {.max_bytes = H1_HEAD_MAX_BYTES, .max_fields = H1_HEAD_MAX_FIELDS},
        .window = 256 << 10,
        .send_queue_max = 256 << 10,
        .drain_max = 64 << 10,
        .max_informational = 16,
    };
}

struct h1_conn *h1_conn_new(const struct h1_config *config, bool is_server, struct blk_pool *pool) {
    CHECK(config->head.max_bytes > 0 && config->head.max_fields > 0);
    CHECK(config->window > 0 && config->send_queue_max > 0);
    struct h1_conn *conn = xmalloc(sizeof(*conn));
    *conn = (struct h1_conn){
        .config = *config,
        .pool = pool,
        .is_server = is_server,
        .rx = is_server ? H1_RX_HEAD : H1_RX_IDLE,
    };
    chain_init(&conn->in, pool);
    chain_init(&conn->out, pool);
    chain_init(&conn->held, pool);
    h1_head_init(&conn->head, is_server ? H1_HEAD_REQUEST : H1_HEAD_RESPONSE, &config->head);
    return conn;
}

void h1_conn_free(struct h1_conn *conn) {
    if (conn == NULL) {
        return;
    }
    chain_clear(&conn->in);
    chain_clear(&conn->out);
    chain_clear(&conn->held);
    blk_unref(conn->lent);
    h1_head_fini(&conn->head);
    h1_body_fini(&conn->body);
    free(conn);
}

void h1_begin(struct h1_conn *conn) {
    conn->has_exchange = true;
    conn->recv_ended = false;
    conn->tx = H1_TX_HEAD;
    conn->parked = 0;
    conn->n_discarded = 0;
    conn->n_informational = 0;
    conn->awaits_continue = false;
    conn->held_has_end = false;
    conn->told_sent = false;
}

// The exchange is over; the next one may begin.
static void end_exchange(struct h1_conn *conn) {
    conn->has_exchange = false;
    conn->is_last |= conn->is_draining;
    conn->tx = H1_TX_HEAD;
    conn->rx = conn->is_server ? H1_RX_HEAD : H1_RX_IDLE;
    if (conn->is_last) {
        conn->rx = H1_RX_DEAD;
        chain_clear(&conn->in);
    }
}

// ---- input

void h1_conn_recv(struct h1_conn *conn, struct blk *blk, uint32_t off, uint32_t len) {
    CHECK((uint64_t)off + len <= blk->cap);
    if (conn->rx != H1_RX_DEAD && !conn->got_eof) {
        chain_append(&conn->in, blk, off, len);
    }
}

void h1_conn_recv_eof(struct h1_conn *conn, bool is_clean) {
    if (!conn->got_eof) {
        conn->got_eof = true;
        conn->eof_is_clean = is_clean;
    }
}

bool h1_conn_wants_read(const struct h1_conn *conn) {
    if (conn->got_eof) {
        return false;
    }
    switch (conn->rx) {
    case H1_RX_DEAD:
        return false;
    case H1_RX_HOLD:
    case H1_RX_UPGRADE:
        // Reading goes on to see the end of the connection; what comes instead has to wait.
        return chain_empty(&conn->in);
    case H1_RX_DISCARD:
        return true;
    default:
        return conn->parked < conn->config.window;
    }
}

void h1_conn_consumed(struct h1_conn *conn, size_t n) {
    conn->parked -= MIN(conn->parked, (uint64_t)n);
}

void h1_recv_end(struct h1_conn *conn, enum h1_rx rx) {
    conn->recv_ended = true;
    conn->rx = (uint8_t)rx;
    if (rx == H1_RX_DEAD) {
        chain_clear(&conn->in);
    }
    h1_check_closed(conn);
}

static void report(struct h1_conn *conn, enum http_err err, bool is_ours) {
    conn->err = (uint8_t)err;
    conn->err_is_ours = is_ours;
    h1_pend(conn, H1_PEND_ERROR);
}

void h1_fail(struct h1_conn *conn, enum http_err err) {
    bool is_ours = err == HTTP_ERR_LENGTH_MISMATCH;
    conn->is_last = true;
    if (conn->is_server && !conn->has_exchange) {
        h1_begin(conn); // it can be answered
        conn->version = HTTP_11;
        conn->is_head_request = slice_eq(conn->head.head.method, SLICE_LIT("HEAD"));
    }
    if ((conn->pending & H1_PEND_ERROR) == 0) {
        report(conn, err, is_ours);
    }
    h1_recv_end(conn, H1_RX_DEAD);
    if (!conn->is_server && conn->has_exchange) {
        h1_abort_send(conn);
    }
}

void h1_discard(struct h1_conn *conn) {
    conn->rx = H1_RX_DISCARD;
    conn->parked = 0;
    uint64_t left = h1_body_left(&conn->body);
    bool is_hopeless = left != UINT64_MAX && left > conn->config.drain_max;
    if (conn->is_last || is_hopeless) {
        conn->is_last = true;
        h1_recv_end(conn, H1_RX_DEAD);
    }
}

void h1_tunnel(struct h1_conn *conn) {
    conn->is_tunnel = conn->is_last = true;
    conn->rx = H1_RX_TUNNEL;
    conn->tx = H1_TX_TUNNEL;
}

// ---- heads

static bool take_head_error(struct h1_conn *conn, enum http_err err, struct h1_event *ret_event) {
    const struct http_head *msg = &conn->head.head;
    h1_fail(conn, err);
    conn->pending &= (uint8_t)~H1_PEND_ERROR;
    conn->lent_head = true;
    *ret_event = (struct h1_event){.type = H1_EV_ERROR, .err = err, .from_peer = true};
    ret_event->head = msg->method.len > 0 || msg->status != 0 ? msg : NULL;
    return true;
}

static bool take_request(struct h1_conn *conn, struct h1_event *ret_event) {
    const struct h1_head *head = &conn->head;
    h1_begin(conn);
    conn->version = head->head.version;
    conn->is_head_request = slice_eq(head->head.method, SLICE_LIT("HEAD"));
    conn->peer_keeps_alive = head->keep_alive;
    conn->awaits_continue = head->expects_continue;
    if (slice_eq(head->head.method, SLICE_LIT("CONNECT"))) {
        return take_head_error(conn, HTTP_ERR_CONNECT, ret_event);
    }
    conn->lent_head = true;
    *ret_event = (struct h1_event){
        .type = H1_EV_HEADERS,
        .head = &head->head,
        .expects_continue = head->expects_continue,
    };
    h1_body_init(&conn->body, (enum h1_body_kind)head->body, head->body_len, &conn->config.head);
    if (head->head.protocol.len > 0) {
        conn->rx = H1_RX_UPGRADE;
    } else if (head->body == H1_BODY_NONE) {
        ret_event->end_stream = true;
        h1_pend(conn, H1_PEND_END);
        h1_recv_end(conn, H1_RX_HOLD);
    } else {
        conn->rx = H1_RX_BODY;
    }
    return true;
}

static bool take_response(struct h1_conn *conn, struct h1_event *ret_event) {
    const struct h1_head *head = &conn->head;
    uint16_t status = head->head.status;
    conn->lent_head = true;
    *ret_event = (struct h1_event){.type = H1_EV_HEADERS, .head = &head->head};
    if (status == 101) {
        h1_tunnel(conn);
        chain_move_all(&conn->out, &conn->held);
        if (conn->held_has_end) {
            h1_end_send(conn);
        }
        return true;
    }
    if (status < 200) {
        if (++conn->n_informational > conn->config.max_informational) {
            return take_head_error(conn, HTTP_ERR_TOO_MANY_1XX, ret_event);
        }
        ret_event->type = H1_EV_INFORMATIONAL;
        return true;
    }
    if (conn->tx == H1_TX_HELD) { // refused: the request ends with its head
        chain_clear(&conn->held);
        h1_end_send(conn);
    }
    conn->is_last |= !head->keep_alive || head->body == H1_BODY_UNTIL_CLOSE;
    h1_body_init(&conn->body, (enum h1_body_kind)head->body, head->body_len, &conn->config.head);
    if (head->body == H1_BODY_NONE) {
        ret_event->end_stream = true;
        h1_pend(conn, H1_PEND_END);
        h1_recv_end(conn, H1_RX_HOLD);
    } else {
        conn->rx = H1_RX_BODY;
    }
    return true;
}

static bool step_head(struct h1_conn *conn, struct h1_event *ret_event) {
    size_t used;
    bool is_done;
    enum http_err err = h1_head_recv(&conn->head, seg_slice(conn->in.head), &used, &is_done);
    chain_skip(&conn->in, used);
    if (err != HTTP_ERR_OK) {
        return take_head_error(conn, err, ret_event);
    }
    if (!is_done) {
        return false;
    }
    return conn->is_server ? take_request(conn, ret_event) : take_response(conn, ret_event);
}

// ---- bodies

// `skip` bytes of framing, then `len` of payload, at the front of the input.
static void lend_data(struct h1_conn *conn, size_t skip, size_t len, struct h1_event *ret_event) {
    const struct seg *seg = conn->in.head;
    conn->lent = blk_ref(seg->blk);
    *ret_event = (struct h1_event){
        .type = H1_EV_DATA,
        .blk = seg->blk,
        .off = seg->off + (uint32_t)skip,
        .len = (uint32_t)len,
    };
    conn->parked += len;
    chain_skip(&conn->in, skip + len);
}

static void end_body(struct h1_conn *conn) {
    h1_pend(conn, H1_PEND_END);
    h1_recv_end(conn, H1_RX_HOLD);
}

static bool end_chunked(struct h1_conn *conn, struct h1_event *ret_event) {
    const struct http_head *trailers = h1_body_trailers(&conn->body);
    end_body(conn);
    if (trailers->n_fields == 0) {
        return false;
    }
    *ret_event = (struct h1_event){
        .type = H1_EV_TRAILERS,
        .head = trailers,
        .end_stream = true,
    };
    return true;
}

static bool step_body(struct h1_conn *conn, struct h1_event *ret_event) {
    size_t used, len;
    conn->awaits_continue = false; // it comes unasked
    switch (h1_body_recv(&conn->body, seg_slice(conn->in.head), &used, &len)) {
    case H1_STEP_DATA:
        lend_data(conn, used - len, len, ret_event);
        if (h1_body_left(&conn->body) == 0) {
            ret_event->end_stream = true;
            end_body(conn);
        }
        return true;
    case H1_STEP_END:
        chain_skip(&conn->in, used);
        return end_chunked(conn, ret_event);
    case H1_STEP_ERROR:
        h1_fail(conn, h1_body_err(&conn->body));
        return false;
    default:
        chain_skip(&conn->in, used);
        return false;
    }
}

static void step_discard(struct h1_conn *conn) {
    size_t used, len;
    enum h1_step step = h1_body_recv(&conn->body, seg_slice(conn->in.head), &used, &len);
    chain_skip(&conn->in, used);
    conn->n_discarded += len; // framing is bounded by h1_body
    if (step == H1_STEP_END || h1_body_left(&conn->body) == 0) {
        h1_recv_end(conn, H1_RX_HOLD);
    } else if (step == H1_STEP_ERROR || conn->n_discarded > conn->config.drain_max) {
        conn->is_last = true;
        h1_recv_end(conn, H1_RX_DEAD);
    }
}

// ---- the end of the input

static void eof_on_client(struct h1_conn *conn) {
    switch (conn->rx) {
    case H1_RX_HEAD: {
        bool is_first = conn->n_informational == 0 && !h1_head_is_started(&conn->head);
        h1_fail(conn, is_first ? HTTP_ERR_NO_RESPONSE : HTTP_ERR_TRUNCATED);
        break;
    }
    case H1_RX_HOLD: // the rest of the request has nobody to read it
        h1_abort_send(conn);
        break;
    default:
        break;
    }
}

static void step_eof(struct h1_conn *conn) {
    conn->eof_is_done = true;
    conn->is_last = true;
    switch (conn->rx) {
    case H1_RX_BODY:
        if (!h1_body_recv_eof(&conn->body) || !conn->eof_is_clean) {
            h1_fail(conn, HTTP_ERR_TRUNCATED);
        } else {
            end_body(conn);
        }
        break;
    case H1_RX_TUNNEL:
        if (conn->eof_is_clean) {
            end_body(conn);
        } else {
            h1_fail(conn, HTTP_ERR_TRUNCATED);
        }
        break;
    case H1_RX_DISCARD:
        h1_recv_end(conn, H1_RX_DEAD);
        break;
    default:
        if (!conn->is_server) {
            eof_on_client(conn);
        } else if (conn->rx == H1_RX_HEAD && h1_head_is_started(&conn->head)) {
            h1_fail(conn, HTTP_ERR_TRUNCATED);
        }
        break;
    }
}

// The end of the input can be acted upon: what waits for an answer first waits on.
static bool eof_is_due(const struct h1_conn *conn) {
    bool is_waiting = conn->is_server && (conn->rx == H1_RX_HOLD || conn->rx == H1_RX_UPGRADE);
    return conn->got_eof && !conn->eof_is_done && chain_empty(&conn->in) && !is_waiting;
}

// ---- events

void h1_pend(struct h1_conn *conn, uint8_t event) {
    conn->pending |= event;
}

void h1_check_closed(struct h1_conn *conn) {
    if (conn->has_exchange && conn->recv_ended && conn->tx == H1_TX_DONE &&
        chain_empty(&conn->out)) {
        h1_pend(conn, H1_PEND_CLOSED);
    }
}

static void take_back(struct h1_conn *conn) {
    blk_unref(conn->lent);
    conn->lent = NULL;
    if (conn->lent_head) {
        conn->lent_head = false;
        h1_head_reset(&conn->head);
        h1_head_answers(&conn->head, conn->is_head_request, conn->asked_upgrade);
    }
    if (conn->recv_ended) {
        h1_body_fini(&conn->body);
    }
}

static bool take_pending(struct h1_conn *conn, struct h1_event *ret_event) {
    uint8_t event = conn->pending & (uint8_t)-conn->pending;
    conn->pending &= (uint8_t)~event;
    if (event == 0) {
        return false;
    }
    *ret_event = (struct h1_event){0};
    switch (event) {
    case H1_PEND_END:
        ret_event->type = H1_EV_END;
        break;
    case H1_PEND_ERROR:
        ret_event->type = H1_EV_ERROR;
        ret_event->err = (enum http_err)conn->err;
        ret_event->from_peer = !conn->err_is_ours;
        break;
    case H1_PEND_WRITABLE:
        ret_event->type = H1_EV_WRITABLE;
        break;
    case H1_PEND_SENT:
        ret_event->type = H1_EV_SENT;
        break;
    default:
        ret_event->type = H1_EV_CLOSED;
        end_exchange(conn);
        break;
    }
    return true;
}

// Reads on. True: an event.
static bool step(struct h1_conn *conn, struct h1_event *ret_event) {
    switch (conn->rx) {
    case H1_RX_IDLE:
        h1_fail(conn, HTTP_ERR_UNSOLICITED);
        return false;
    case H1_RX_HEAD:
        return step_head(conn, ret_event);
    case H1_RX_BODY:
        return step_body(conn, ret_event);
    case H1_RX_TUNNEL:
        lend_data(conn, 0, conn->in.head->len, ret_event);
        return true;
    case H1_RX_DISCARD:
        step_discard(conn);
        return false;
    default: // client: behind a response, while its request is still being sent
        conn->is_last = true;
        chain_clear(&conn->in);
        return false;
    }
}

static bool can_step(const struct h1_conn *conn) {
    bool is_waiting = conn->is_server && (conn->rx == H1_RX_HOLD || conn->rx == H1_RX_UPGRADE);
    return !chain_empty(&conn->in) && !is_waiting;
}

// Nothing was lent and nothing came since the last time: most calls by far.
static bool is_quiet(const struct h1_conn *conn) {
    return conn->pending == 0 && chain_empty(&conn->in) && !conn->got_eof && !conn->lent_head &&
           conn->lent == NULL && conn->body.trailers.text == NULL;
}

static __attribute__((noinline)) bool next(struct h1_conn *conn, struct h1_event *ret_event) {
    take_back(conn);
    for (;;) {
        if (take_pending(conn, ret_event)) {
            return true;
        }
        if (can_step(conn)) {
            if (step(conn, ret_event)) {
                return true;
            }
        } else if (eof_is_due(conn)) {
            step_eof(conn);
        } else {
            chain_to_cold(&conn->in);
            return false;
        }
    }
}

bool h1_conn_next(struct h1_conn *conn, struct h1_event *ret_event) {
    return !is_quiet(conn) && next(conn, ret_event);
}

bool h1_conn_has_events(const struct h1_conn *conn) {
    return conn->pending != 0 || can_step(conn) || eof_is_due(conn);
}
