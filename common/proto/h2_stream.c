// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "common/proto/h2_priv.h"

enum {
    MIN_BUCKETS = 8,
    MAX_FREE_STREAMS = 4, // recycled objects kept a connection
    CLOSED_BY_US = 1U << 31,
};

// ---- table

static uint32_t bucket_of(const struct h2_conn *conn, uint32_t id) {
    // Ids of one side differ by 2; neighbours go to neighbouring buckets. A peer that aims at one
    // bucket gains a walk over at most max_streams objects.
    return (id >> 1) & (conn->n_buckets - 1);
}

static void table_resize(struct h2_conn *conn, uint32_t n_buckets) {
    struct h2_stream **old = conn->buckets;
    uint32_t n_old = conn->n_buckets;
    conn->buckets = xcalloc(n_buckets, sizeof(struct h2_stream *));
    conn->n_buckets = n_buckets;
    for (uint32_t i = 0; i < n_old; i++) {
        for (struct h2_stream *stream = old[i]; stream != NULL;) {
            struct h2_stream *next = stream->next;
            struct h2_stream **head = &conn->buckets[bucket_of(conn, stream->id)];
            stream->next = *head;
            *head = stream;
            stream = next;
        }
    }
    free(old);
}

static void table_add(struct h2_stream *stream) {
    struct h2_conn *conn = stream->conn;
    if (conn->n_objects >= conn->n_buckets) {
        table_resize(conn, conn->n_buckets == 0 ? MIN_BUCKETS : conn->n_buckets * 2);
    }
    struct h2_stream **head = &conn->buckets[bucket_of(conn, stream->id)];
    stream->next = *head;
    *head = stream;
    conn->n_objects++;
}

static void table_del(struct h2_stream *stream) {
    struct h2_conn *conn = stream->conn;
    struct h2_stream **link = &conn->buckets[bucket_of(conn, stream->id)];
    while (*link != stream) {
        link = &(*link)->next;
    }
    *link = stream->next;
    conn->n_objects--;
    if (conn->cached == stream) {
        conn->cached = NULL;
    }
    if (conn->n_objects == 0 && conn->n_buckets > MIN_BUCKETS) {
        table_resize(conn, MIN_BUCKETS);
    }
}

struct h2_stream *h2_stream_object(struct h2_conn *conn, uint32_t id) {
    if (conn->cached != NULL && conn->cached->id == id) {
        return conn->cached;
    }
    if (conn->n_buckets == 0) {
        return NULL;
    }
    struct h2_stream *stream = conn->buckets[bucket_of(conn, id)];
    while (stream != NULL && stream->id != id) {
        stream = stream->next;
    }
    if (stream != NULL) {
        conn->cached = stream;
    }
    return stream;
}

struct h2_stream *h2_stream_find(struct h2_conn *conn, uint32_t id) {
    struct h2_stream *stream = h2_stream_object(conn, id);
    return stream == NULL || stream->state == H2_STATE_CLOSED ? NULL : stream;
}

void h2_stream_each(struct h2_conn *conn, void (*fn)(struct h2_stream *stream, void *arg),
                    void *arg) {
    for (uint32_t i = 0; i < conn->n_buckets; i++) {
        for (struct h2_stream *stream = conn->buckets[i]; stream != NULL; stream = stream->next) {
            fn(stream, arg);
        }
    }
}

// ---- life

struct h2_stream *h2_stream_new(struct h2_conn *conn, uint32_t id, bool is_local) {
    struct h2_stream *stream = conn->free_streams;
    if (stream != NULL) {
        conn->free_streams = stream->next;
        conn->n_free--;
    } else {
        stream = xmalloc(sizeof(*stream));
    }
    *stream = (struct h2_stream){
        .conn = conn,
        .id = id,
        .credited_at = conn->now,
        .send_window = conn->peer.init_window,
        .recv_window = conn->recv_init,
        .recv_target = conn->config.stream_window,
        .body_left = -1,
        .state = H2_STATE_OPEN,
        .is_local = is_local,
    };
    list_init(&stream->send_node);
    list_init(&stream->event_node);
    chain_init(&stream->queue, conn->pool);
    table_add(stream);
    if (is_local) {
        conn->n_open_local++;
    } else {
        conn->n_open_peer++;
    }
    return stream;
}

void h2_stream_imported(struct h2_stream *stream) {
    if (stream->state != H2_STATE_CLOSED) {
        h2_out_schedule(stream);
    } else if (stream->is_local) {
        stream->conn->n_open_local--;
    } else {
        stream->conn->n_open_peer--;
    }
}

static void drop_output(struct h2_stream *stream) {
    stream->conn->queued -= stream->queue.len;
    chain_clear(&stream->queue);
    free(stream->trailers);
    stream->trailers = NULL;
    list_del(&stream->send_node);
}

static void release(struct h2_stream *stream) {
    drop_output(stream);
    h2_flow_unpark(stream, stream->parked);
    list_del(&stream->event_node);
}

static void recycle(struct h2_stream *stream) {
    struct h2_conn *conn = stream->conn;
    if (conn->n_free < MAX_FREE_STREAMS) {
        stream->next = conn->free_streams;
        conn->free_streams = stream;
        conn->n_free++;
    } else {
        free(stream);
    }
}

void h2_stream_reap(struct h2_conn *conn) {
    if (conn->reap != NULL) {
        struct h2_stream *stream = conn->reap;
        conn->reap = NULL;
        release(stream);
        table_del(stream);
        recycle(stream);
    }
}

static void free_list(struct h2_stream *stream) {
    while (stream != NULL) {
        struct h2_stream *next = stream->next;
        free(stream);
        stream = next;
    }
}

static void release_one(struct h2_stream *stream, void *arg) {
    (void)arg;
    release(stream);
}

void h2_stream_free_all(struct h2_conn *conn) {
    h2_stream_each(conn, release_one, NULL);
    for (uint32_t i = 0; i < conn->n_buckets; i++) {
        free_list(conn->buckets[i]);
    }
    free_list(conn->free_streams);
    free(conn->buckets);
}

// ---- states and endings

void h2_stream_pend(struct h2_stream *stream, uint8_t event) {
    if (list_linked(&stream->event_node)) {
        // has its turn
    } else if (event == H2_PEND_END) {
        list_push_front(&stream->conn->ready, &stream->event_node); // it follows its cause at once
    } else {
        list_push_back(&stream->conn->ready, &stream->event_node);
    }
    stream->pending |= event;
}

static void remember_closed(struct h2_conn *conn, uint32_t id, bool by_us) {
    struct h2_closed_ids *closed = &conn->closed;
    closed->ids[closed->n++ % H2_N_CLOSED_IDS] = id | (by_us ? CLOSED_BY_US : 0);
}

void h2_stream_refuse_id(struct h2_conn *conn, uint32_t id, enum h2_err err) {
    h2_out_rst(conn, id, err, true);
    remember_closed(conn, id, true);
}

static void set_closed(struct h2_stream *stream, bool by_us) {
    struct h2_conn *conn = stream->conn;
    stream->state = H2_STATE_CLOSED;
    remember_closed(conn, stream->id, by_us);
    if (stream->is_local) {
        conn->n_open_local--;
    } else {
        conn->n_open_peer--;
    }
    // What was received and not consumed still counts against the connection's cap; the object
    // stays until then.
    if (stream->parked == 0) {
        h2_stream_pend(stream, H2_PEND_CLOSED);
    }
}

// The abnormal end: nothing of the stream is of use any more.
static void abort_stream(struct h2_stream *stream, bool by_us) {
    drop_output(stream);
    h2_flow_unpark(stream, stream->parked);
    stream->pending &=
        (uint8_t) ~(H2_PEND_END | H2_PEND_PROGRESS | H2_PEND_WRITABLE | H2_PEND_SENT);
    if (stream->state == H2_STATE_CLOSED) {
        h2_stream_pend(stream, H2_PEND_CLOSED); // it only waited for the consumer
    } else {
        set_closed(stream, by_us);
    }
}

void h2_stream_on_recv_end(struct h2_stream *stream) {
    h2_stream_pend(stream, H2_PEND_END);
    if (stream->state == H2_STATE_HALF_LOCAL) {
        set_closed(stream, false);
    } else {
        stream->state = H2_STATE_HALF_REMOTE;
    }
}

void h2_stream_on_send_end(struct h2_stream *stream) {
    h2_stream_pend(stream, H2_PEND_SENT);
    if (stream->state == H2_STATE_HALF_REMOTE) {
        set_closed(stream, false);
    } else {
        stream->state = H2_STATE_HALF_LOCAL;
    }
}

static void pend_reset(struct h2_stream *stream, enum h2_err err, bool from_peer) {
    stream->reset_err = (uint8_t)err;
    stream->reset_from_peer = from_peer;
    h2_stream_pend(stream, H2_PEND_RESET);
}

void h2_stream_on_peer_reset(struct h2_stream *stream, enum h2_err err) {
    stream->reset_is_clean = err == H2_NO_ERROR && h2_stream_recv_ended(stream);
    pend_reset(stream, err, true);
    abort_stream(stream, false);
}

void h2_stream_fail(struct h2_stream *stream, enum h2_err err) {
    if (stream->state != H2_STATE_CLOSED) {
        h2_out_rst(stream->conn, stream->id, err, true);
    }
    pend_reset(stream, err, false);
    abort_stream(stream, true);
}

void h2_stream_refused(struct h2_stream *stream) {
    pend_reset(stream, H2_REFUSED, true);
    abort_stream(stream, false);
}

bool h2_stream_id_is_local(const struct h2_conn *conn, uint32_t id) {
    return (id & 1) == (conn->is_server ? 0U : 1U);
}

bool h2_stream_id_is_idle(const struct h2_conn *conn, uint32_t id) {
    return h2_stream_id_is_local(conn, id) ? id >= conn->next_id : id > conn->highest_peer_id;
}

enum h2_late h2_stream_late(const struct h2_conn *conn, uint32_t id) {
    if (!h2_stream_id_is_local(conn, id) && id > conn->goaway_last_id) {
        return H2_LATE_IGNORE;
    }
    const struct h2_closed_ids *closed = &conn->closed;
    for (uint32_t i = 0; i < MIN(closed->n, (uint32_t)H2_N_CLOSED_IDS); i++) {
        if ((closed->ids[i] & ~CLOSED_BY_US) == id) {
            return (closed->ids[i] & CLOSED_BY_US) != 0 ? H2_LATE_IGNORE : H2_LATE_CLOSED;
        }
    }
    // Forgotten ones get the benefit of the doubt.
    return closed->n > H2_N_CLOSED_IDS ? H2_LATE_IGNORE : H2_LATE_UNUSED;
}

// ---- public calls

static bool can_send(const struct h2_stream *stream) {
    return !stream->conn->is_dead && !stream->has_end_queued && stream->state != H2_STATE_CLOSED;
}

// What the method says about the answer.
static void note_method(struct h2_stream *stream, const struct http_field *fields,
                        size_t n_fields) {
    bool has_protocol = false; // RFC 8441
    for (size_t i = 0; i < n_fields && fields[i].name.len > 0 && fields[i].name.ptr[0] == ':';
         i++) {
        has_protocol |= slice_eq(fields[i].name, SLICE_LIT(":protocol"));
        if (slice_eq(fields[i].name, SLICE_LIT(":method"))) {
            stream->is_tunnel_request = slice_eq(fields[i].value, SLICE_LIT("CONNECT"));
            stream->is_head_request = slice_eq(fields[i].value, SLICE_LIT("HEAD"));
        }
    }
    stream->is_connect = stream->is_tunnel_request && !has_protocol;
}

struct h2_stream *h2_stream_open(struct h2_conn *conn, const struct http_field *fields,
                                 size_t n_fields, bool end_stream, void *user,
                                 enum h2_err *ret_err) {
    CHECK(!conn->is_server && n_fields > 0);
    if (conn->is_dead || h2_conn_is_draining(conn)) {
        *ret_err = H2_DRAINING;
        return NULL;
    }
    if (h2_conn_n_free_streams(conn) == 0) {
        *ret_err = H2_STREAM_LIMIT;
        return NULL;
    }
    struct h2_stream *stream = h2_stream_new(conn, conn->next_id, true);
    conn->next_id += 2;
    stream->user = user;
    note_method(stream, fields, n_fields);
    h2_stream_send_headers(stream, fields, n_fields, end_stream);
    h2_flow_on_open(stream); // behind HEADERS: an idle stream has no window
    return stream;
}

void h2_stream_send_headers(struct h2_stream *stream, const struct http_field *fields,
                            size_t n_fields, bool end_stream) {
    if (!can_send(stream)) {
        return;
    }
    CHECK(!stream->has_sent_head && n_fields > 0);
    bool is_informational =
        stream->conn->is_server && fields[0].value.len == 3 && fields[0].value.ptr[0] == '1';
    CHECK(!is_informational || !end_stream);
    stream->has_sent_head = !is_informational;
    h2_out_head(stream->conn, stream->id, fields, n_fields, end_stream);
    if (end_stream) {
        stream->has_end_queued = true;
        h2_stream_on_send_end(stream);
    }
}

void h2_stream_send_trailers(struct h2_stream *stream, const struct http_field *fields,
                             size_t n_fields) {
    if (!can_send(stream)) {
        return;
    }
    CHECK(stream->has_sent_head);
    stream->trailers = h2_out_encode(fields, n_fields);
    stream->has_end_queued = true;
    h2_out_schedule(stream);
}

void h2_stream_send_data(struct h2_stream *stream, struct chain *data, bool end_stream) {
    if (!can_send(stream)) {
        chain_clear(data);
        return;
    }
    CHECK(stream->has_sent_head);
    stream->conn->queued += data->len;
    chain_move_all(&stream->queue, data);
    if (stream->queue.len >= stream->conn->config.send_queue_max) {
        stream->was_full = true;
    }
    stream->has_end_queued = end_stream;
    h2_out_schedule(stream);
}

void h2_stream_reset(struct h2_stream *stream, enum h2_err err) {
    if (stream->state != H2_STATE_CLOSED) {
        h2_out_rst(stream->conn, stream->id, err, false);
        abort_stream(stream, true);
    } else if (stream->parked > 0) {
        abort_stream(stream, true);
    }
    stream->pending &= (uint8_t)~H2_PEND_RESET;
}

void h2_stream_reject(struct h2_stream *stream, enum h2_err err) {
    if (h2_conn_guard(stream->conn, H2_GUARD_GLITCHES)) {
        h2_stream_reset(stream, err);
    }
}

void h2_stream_consumed(struct h2_stream *stream, size_t n) {
    if (stream->parked == 0) {
        return; // dropped meanwhile, by a reset that the caller has yet to hear of
    }
    h2_flow_unpark(stream, n);
    if (stream->state != H2_STATE_CLOSED) {
        h2_flow_credit(stream, n);
    } else if (stream->parked == 0) {
        h2_stream_pend(stream, H2_PEND_CLOSED);
    }
}

bool h2_stream_can_send(const struct h2_stream *stream) {
    return can_send(stream) && stream->queue.len < stream->conn->config.send_queue_max;
}

size_t h2_stream_queued(const struct h2_stream *stream) {
    return stream->queue.len;
}

void h2_stream_report_progress(struct h2_stream *stream) {
    stream->reports_progress = true;
}

void h2_stream_to_cold(struct h2_stream *stream) {
    chain_to_cold(&stream->queue);
}

bool h2_stream_cool(struct h2_stream *stream) {
    return chain_cool(&stream->queue);
}

bool h2_stream_recv_ended(const struct h2_stream *stream) {
    return stream->state == H2_STATE_HALF_REMOTE || stream->state == H2_STATE_CLOSED;
}

bool h2_stream_send_ended(const struct h2_stream *stream) {
    return stream->state == H2_STATE_HALF_LOCAL || stream->state == H2_STATE_CLOSED;
}

struct h2_stream *h2_conn_stream(struct h2_conn *conn, uint32_t id) {
    return h2_stream_object(conn, id);
}

uint32_t h2_stream_id(const struct h2_stream *stream) {
    return stream->id;
}

void *h2_stream_user(const struct h2_stream *stream) {
    return stream->user;
}

void h2_stream_set_user(struct h2_stream *stream, void *user) {
    stream->user = user;
}
