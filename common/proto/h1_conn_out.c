// SPDX-License-Identifier: Apache-2.0
//
// Output and endings of h1_conn.h.
#include "common/proto/h1_priv.h"

// ---- the end of our message

static void after_output(struct h1_conn *conn) {
    if (conn->tx == H1_TX_DONE && conn->has_exchange && !conn->told_sent &&
        chain_empty(&conn->out)) {
        conn->told_sent = true;
        conn->pending &= (uint8_t)~H1_PEND_WRITABLE;
        h1_pend(conn, H1_PEND_SENT);
    }
    h1_check_closed(conn);
}

void h1_end_send(struct h1_conn *conn) {
    conn->tx = H1_TX_DONE;
    if (conn->is_server && conn->rx == H1_RX_BODY) {
        h1_discard(conn);
    }
    after_output(conn);
}

// What was announced and what was given differ: the peer must not take it for the whole.
static void mismatch(struct h1_conn *conn) {
    conn->is_cut = true;
    h1_fail(conn, HTTP_ERR_LENGTH_MISMATCH);
}

void h1_abort_send(struct h1_conn *conn) {
    conn->is_cut |= conn->tx != H1_TX_DONE || !chain_empty(&conn->out);
    conn->told_sent = true; // it never will be
    conn->tx = H1_TX_DONE;
    chain_clear(&conn->out);
    chain_clear(&conn->held);
    conn->pending &= (uint8_t) ~(H1_PEND_WRITABLE | H1_PEND_SENT);
    h1_check_closed(conn);
}

// ---- heads

static bool write_head(struct h1_conn *conn, const struct http_head *head,
                       const struct h1_wire *wire, enum http_err *ret_err) {
    if (!h1_head_write(head, wire, &conn->out)) {
        *ret_err = HTTP_ERR_BAD_VALUE;
        return false;
    }
    return true;
}

static void begin_body(struct h1_conn *conn, const struct h1_wire *wire, bool end_stream) {
    conn->body_out = (struct h1_body_out){.kind = wire->body, .left = wire->len};
    conn->tx = H1_TX_BODY;
    if (end_stream) {
        h1_end_send(conn);
    }
}

static bool send_request(struct h1_conn *conn, const struct http_head *head, bool end_stream,
                         enum http_err *ret_err) {
    struct h1_wire wire;
    enum http_err err = h1_wire_request(head, end_stream, &wire);
    if (err != HTTP_ERR_OK) {
        *ret_err = err;
        return false;
    }
    wire.close = conn->is_draining;
    if (!write_head(conn, head, &wire, ret_err)) {
        return false;
    }
    h1_begin(conn);
    conn->is_last |= wire.close;
    conn->is_head_request = slice_eq(head->method, SLICE_LIT("HEAD"));
    conn->asked_upgrade = head->protocol.len > 0;
    conn->rx = H1_RX_HEAD;
    h1_head_answers(&conn->head, conn->is_head_request, conn->asked_upgrade);
    if (!conn->asked_upgrade) {
        begin_body(conn, &wire, end_stream);
        return true;
    }
    conn->tx = H1_TX_HELD;
    conn->held_has_end = end_stream;
    return true;
}

static bool send_switch(struct h1_conn *conn, const struct http_head *head, bool end_stream,
                        enum http_err *ret_err) {
    struct h1_wire wire = {.body = H1_BODY_NONE};
    if (conn->rx != H1_RX_UPGRADE || head->protocol.len == 0) {
        *ret_err = HTTP_ERR_BAD_SWITCH;
        return false;
    }
    if (!write_head(conn, head, &wire, ret_err)) {
        return false;
    }
    h1_tunnel(conn);
    if (end_stream) {
        h1_end_send(conn);
    }
    return true;
}

static bool send_informational(struct h1_conn *conn, const struct http_head *head,
                               enum http_err *ret_err) {
    struct h1_wire wire = {.body = H1_BODY_NONE};
    if (conn->version == HTTP_10) {
        return true; // RFC 9110 15.2
    }
    if (head->status == 100) {
        conn->awaits_continue = false;
    }
    return write_head(conn, head, &wire, ret_err);
}

static bool send_response(struct h1_conn *conn, const struct http_head *head, bool end_stream,
                          enum http_err *ret_err) {
    struct h1_wire wire;
    enum http_err err =
        h1_wire_response(head, end_stream, conn->is_head_request, conn->version, &wire);
    if (err != HTTP_ERR_OK) {
        *ret_err = err;
        return false;
    }
    // A client that waits for 100 may or may not send its body now, and one that was refused a
    // protocol may have begun to speak it: what comes next has two readings.
    wire.close |= conn->is_last || conn->is_draining || !conn->peer_keeps_alive ||
                  conn->awaits_continue || conn->rx == H1_RX_UPGRADE;
    wire.keep_alive = conn->version == HTTP_10 && !wire.close;
    if (!write_head(conn, head, &wire, ret_err)) {
        return false;
    }
    conn->is_last |= wire.close;
    if (conn->rx == H1_RX_UPGRADE) {
        h1_pend(conn, H1_PEND_END);
        h1_recv_end(conn, H1_RX_DEAD);
    }
    begin_body(conn, &wire, end_stream);
    return true;
}

bool h1_conn_send_head(struct h1_conn *conn, const struct http_head *head, bool end_stream,
                       enum http_err *ret_err) {
    CHECK((head->status != 0) == conn->is_server);
    if (!conn->is_server) {
        CHECK(h1_conn_can_open(conn));
        return send_request(conn, head, end_stream, ret_err);
    }
    if (!conn->has_exchange || conn->tx != H1_TX_HEAD) {
        return true;
    }
    if (head->status == 101) {
        return send_switch(conn, head, end_stream, ret_err);
    }
    if (head->status < 200) {
        return send_informational(conn, head, ret_err);
    }
    return send_response(conn, head, end_stream, ret_err);
}

// ---- bodies

size_t h1_conn_queued(const struct h1_conn *conn) {
    return conn->out.len + conn->held.len;
}

bool h1_conn_can_send(const struct h1_conn *conn) {
    return h1_conn_queued(conn) < conn->config.send_queue_max;
}

void h1_conn_send_data(struct h1_conn *conn, struct chain *data, bool end_stream) {
    bool fits = true;
    switch (conn->has_exchange ? conn->tx : H1_TX_DONE) {
    case H1_TX_HELD:
        chain_move_all(&conn->held, data);
        conn->held_has_end |= end_stream;
        break;
    case H1_TX_TUNNEL:
        chain_move_all(&conn->out, data);
        break;
    case H1_TX_BODY:
        fits = h1_body_write(&conn->body_out, data, &conn->out);
        if (fits && end_stream) {
            fits = h1_body_write_end(&conn->body_out, NULL, 0, &conn->out);
        }
        break;
    default:
        chain_clear(data);
        return;
    }
    if (!fits) {
        mismatch(conn);
    }
    if (conn->tx != H1_TX_HELD && (end_stream || !fits)) {
        h1_end_send(conn);
    }
    conn->is_full |= !h1_conn_can_send(conn);
}

void h1_conn_send_trailers(struct h1_conn *conn, const struct http_field *fields, size_t n_fields) {
    if (!conn->has_exchange || conn->tx == H1_TX_DONE || conn->tx == H1_TX_HEAD) {
        return;
    }
    if (conn->tx == H1_TX_HELD) {
        conn->held_has_end = true;
        return;
    }
    if (conn->tx == H1_TX_BODY &&
        !h1_body_write_end(&conn->body_out, fields, n_fields, &conn->out)) {
        mismatch(conn);
    }
    h1_end_send(conn);
}

void h1_conn_send_error(struct h1_conn *conn, enum http_err err) {
    if (!conn->is_server || !conn->has_exchange || conn->tx != H1_TX_HEAD) {
        return;
    }
    struct http_field type = {.name = SLICE_LIT("content-type"), .value = SLICE_LIT("text/plain")};
    struct slice body = http_err_body(err);
    CHECK(err != HTTP_ERR_OK);
    struct http_head head = {
        .status = http_err_status(err),
        .fields = &type,
        .n_fields = body.len > 0 ? 1 : 0,
    };
    struct h1_wire wire = {
        .body = H1_BODY_LENGTH,
        .has_len = true,
        .len = body.len,
        .close = true,
    };
    conn->is_last = true;
    CHECK(h1_head_write(&head, &wire, &conn->out)); // all of it is ours
    if (!conn->is_head_request) {
        chain_copy(&conn->out, body);
    }
    if (conn->rx == H1_RX_UPGRADE) {
        h1_pend(conn, H1_PEND_END);
        h1_recv_end(conn, H1_RX_DEAD);
    }
    conn->body_out = (struct h1_body_out){.kind = H1_BODY_NONE};
    h1_end_send(conn);
}

void h1_conn_reset(struct h1_conn *conn) {
    conn->is_last = true;
    if (!conn->has_exchange) {
        conn->rx = H1_RX_DEAD;
        chain_clear(&conn->in);
        return;
    }
    bool is_closed = (conn->pending & H1_PEND_CLOSED) != 0;
    conn->pending = is_closed ? H1_PEND_CLOSED : 0;
    h1_abort_send(conn);
    h1_recv_end(conn, H1_RX_DEAD);
}

// ---- output

size_t h1_conn_pull(struct h1_conn *conn, struct chain *out, size_t budget) {
    size_t n = MIN(budget, conn->out.len);
    chain_move(out, &conn->out, n);
    if (conn->is_full && h1_conn_queued(conn) < conn->config.send_queue_max / 2) {
        conn->is_full = false;
        if (conn->has_exchange && conn->tx != H1_TX_DONE) {
            h1_pend(conn, H1_PEND_WRITABLE);
        }
    }
    if (n > 0) {
        after_output(conn);
    }
    return n;
}

bool h1_conn_wants_write(const struct h1_conn *conn) {
    return !chain_empty(&conn->out);
}

// ---- state

bool h1_conn_is_in_head(const struct h1_conn *conn) {
    return conn->rx == H1_RX_HEAD && h1_head_is_started(&conn->head);
}

bool h1_conn_is_idle(const struct h1_conn *conn) {
    return !conn->has_exchange && !h1_conn_is_in_head(conn) && chain_empty(&conn->in);
}

bool h1_conn_wants_close(const struct h1_conn *conn, bool *ret_is_cut) {
    *ret_is_cut = conn->is_cut;
    if (conn->has_exchange || conn->pending != 0 || !chain_empty(&conn->out)) {
        return false;
    }
    return conn->is_last || (conn->is_draining && h1_conn_is_idle(conn));
}

bool h1_conn_wants_fin(const struct h1_conn *conn) {
    return conn->is_tunnel && conn->tx == H1_TX_DONE && chain_empty(&conn->out) &&
           !conn->recv_ended;
}

void h1_conn_drain(struct h1_conn *conn) {
    conn->is_draining = true;
}

bool h1_conn_can_open(const struct h1_conn *conn) {
    return conn->rx == H1_RX_IDLE && !conn->has_exchange && !conn->is_last && !conn->is_draining &&
           !conn->got_eof && conn->pending == 0 && chain_empty(&conn->in);
}

bool h1_conn_is_tunnel(const struct h1_conn *conn) {
    return conn->is_tunnel;
}

bool h1_conn_has_response(const struct h1_conn *conn) {
    return conn->is_server && conn->has_exchange && conn->tx != H1_TX_HEAD;
}

size_t h1_conn_memory(const struct h1_conn *conn) {
    const struct h1_head *head = &conn->head;
    const struct h1_head *trailers = &conn->body.trailers;
    return sizeof(*conn) + head->cap + head->cap_fields * sizeof(struct http_field) +
           trailers->cap + trailers->cap_fields * sizeof(struct http_field);
}

void *h1_conn_user(const struct h1_conn *conn) {
    return conn->user;
}

void h1_conn_set_user(struct h1_conn *conn, void *user) {
    conn->user = user;
}
