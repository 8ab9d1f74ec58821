// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/waypoint/sim_server.h"

static struct sim_plan *of_stream(struct sim_server_conn *conn, int32_t id) {
    return nghttp2_session_get_stream_user_data(conn->h2, id);
}

// ---- requests ----------------------------------------------------------------------------------

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user) {
    (void)session;
    (void)frame;
    (void)flags;
    struct sim_server_conn *conn = user;
    char text[16];
    snprintf(text, sizeof(text), "%.*s", (int)value_len, (const char *)value);
    if (slice_eq_str(slice_make(name, name_len), "x-id")) {
        conn->id = (uint32_t)strtoul(text, NULL, 10);
    } else if (slice_eq_str(slice_make(name, name_len), "x-envoy-attempt-count")) {
        conn->attempt = (uint32_t)strtoul(text, NULL, 10);
    } else if (slice_eq_str(slice_make(name, name_len), ":protocol")) {
        CHECK(strcmp(text, "websocket") == 0);
        conn->is_ws = true;
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    (void)session;
    (void)frame;
    struct sim_server_conn *conn = user;
    conn->id = UINT32_MAX;
    conn->attempt = 0;
    conn->is_ws = false;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct sim_server_conn *conn = user;
    int32_t id = frame->hd.stream_id;
    bool is_head = frame->hd.type == NGHTTP2_HEADERS;
    if (is_head && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct sim_plan *plan = sim_server_plan(conn, conn->id, conn->attempt);
        plan->stream = id;
        CHECK(conn->is_ws == plan->try->request->is_ws);
        CHECK(nghttp2_session_set_stream_user_data(session, id, plan) == 0);
    }
    struct sim_plan *plan = of_stream(conn, id);
    bool is_message = is_head || frame->hd.type == NGHTTP2_DATA;
    if (plan != NULL && is_message && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        sim_server_took_end(plan);
    }
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                    size_t len, void *user) {
    (void)flags;
    struct sim_plan *plan = of_stream(user, id);
    if (plan != NULL) {
        sim_server_took(plan, bytes, len);
    }
    CHECK(nghttp2_session_consume_connection(session, len) == 0);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    (void)session;
    struct sim_plan *plan = of_stream(user, id);
    if (plan != NULL) {
        sim_tracef(plan->conn->sim, "server %d: stream %d closed, code %u", plan->conn->fd, id,
                   code);
        sim_server_drop(plan, SIM_TRY_LOST);
    }
    return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int code, void *user) {
    (void)session;
    (void)user;
    if (code == NGHTTP2_ERR_REFUSED_STREAM) { // opened before it had our limit
        return 0;
    }
    fprintf(stderr, "the waypoint sent a frame of type %d that is not valid: %s\n", frame->hd.type,
            nghttp2_strerror(code));
    CHECK(false);
    return 0;
}

static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *user) {
    (void)session;
    (void)frame;
    (void)flags;
    (void)user;
    fprintf(stderr, "the waypoint sent a field that is not valid: %.*s: %.*s\n", (int)name_len,
            (const char *)name, (int)value_len, (const char *)value);
    CHECK(false);
    return 0;
}

void sim_server_h2_open(struct sim_server_conn *conn) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid);
    nghttp2_option_set_no_auto_window_update(option, 1);
    CHECK(nghttp2_session_server_new2(&conn->h2, callbacks, conn, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    // Fewer than a client may count on before it has heard of it: some are refused.
    uint32_t max = conn->sim->has_faults ? (uint32_t)rand_range(&conn->sim->rand, 1, 20) : 100;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, !sim_is_bad(conn->sim, 1, 4)}};
    CHECK(nghttp2_submit_settings(conn->h2, NGHTTP2_FLAG_NONE, settings, 2) == 0);
}

bool sim_server_h2_read(struct sim_server_conn *conn, const uint8_t *bytes, size_t len) {
    ssize_t n = nghttp2_session_mem_recv(conn->h2, bytes, len);
    CHECK(n == (ssize_t)len); // else the waypoint broke the protocol
    return true;
}

// ---- responses ---------------------------------------------------------------------------------

static ssize_t on_source(nghttp2_session *session, int32_t id, uint8_t *bytes, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *user) {
    (void)source;
    struct sim_server_conn *conn = user;
    struct sim_plan *plan = of_stream(conn, id);
    size_t end = plan->act == SIM_CUT ? plan->cut_at : plan->try->len;
    if (sim_chance(conn->sim, 1, 4)) {
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t n = MIN(len, end - plan->n_sent);
    sim_fill(plan->try->key, plan->n_sent, bytes, n);
    plan->n_sent += n;
    if (plan->n_sent < end || !sim_server_may_end(plan)) {
        return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    }
    if (plan->act == SIM_CUT) {
        CHECK(nghttp2_submit_rst_stream(session, 0, id, NGHTTP2_INTERNAL_ERROR) == 0);
        return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (plan->has_trailers && !plan->try->is_tunnel) {
        nghttp2_nv field = {(uint8_t *)"x-end", (uint8_t *)"yes", 5, 3, 0};
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        CHECK(nghttp2_submit_trailer(session, id, &field, 1) == 0);
    }
    return (ssize_t)n;
}

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void answer(struct sim_plan *plan) {
    nghttp2_session *h2 = plan->conn->h2;
    struct sim_try *try = plan->try;
    char status[8], index[16], key[32], len[24];
    snprintf(status, sizeof(status), "%u", try->status);
    snprintf(index, sizeof(index), "%u", try->index);
    snprintf(key, sizeof(key), "%llu", (unsigned long long)try->key);
    snprintf(len, sizeof(len), "%zu", try->len);
    if (plan->has_informational) {
        nghttp2_nv early[] = {field(":status", "103"), field("link", "</a.css>")};
        CHECK(nghttp2_submit_headers(h2, 0, plan->stream, NULL, early, 2, NULL) == 0);
        try->n_informational++;
    }
    nghttp2_nv fields[] = {field(":status", status), field("x-try", index), field("x-key", key),
                           field("x-len", len), field("content-length", len)};
    bool has_body = (try->len > 0 && !try->request->is_head) || try->is_tunnel;
    bool has_length = plan->framing == SIM_LENGTH && !try->is_tunnel;
    nghttp2_data_provider source = {.read_callback = on_source};
    CHECK(nghttp2_submit_response(h2, plan->stream, fields, ARRAY_LEN(fields) - !has_length,
                                  has_body ? &source : NULL) == 0);
    sim_server_say(plan);
}

static void reset(struct sim_plan *plan, uint32_t code, enum sim_outcome outcome) {
    plan->try->outcome = (uint8_t)outcome;
    CHECK(nghttp2_submit_rst_stream(plan->conn->h2, 0, plan->stream, code) == 0);
}

// The streams above the last one were not looked at: they may be sent elsewhere.
static void go_away(struct sim_plan *plan) {
    struct sim_server_conn *conn = plan->conn;
    bool is_taken = sim_chance(conn->sim, 1, 2);
    int32_t last = is_taken ? plan->stream : plan->stream - 2;
    for (uint32_t i = 0; i < conn->n_plans; i++) {
        if (conn->plans[i]->stream > last && conn->plans[i]->try->outcome == SIM_TRY_OPEN) {
            conn->plans[i]->try->outcome = SIM_TRY_REFUSED;
            conn->plans[i]->is_done = true;
        }
    }
    CHECK(nghttp2_submit_goaway(conn->h2, 0, MAX(last, 0), NGHTTP2_NO_ERROR, NULL, 0) == 0);
    if (is_taken) {
        plan->act = SIM_ANSWER;
        answer(plan);
    }
}

static void act(struct sim_plan *plan) {
    plan->is_done = true;
    switch ((enum sim_act)plan->act) {
    case SIM_CUT:
        if ((plan->try->len == 0 || plan->try->request->is_head) && !plan->try->is_tunnel) {
            plan->act = SIM_ANSWER;
        }
        answer(plan);
        break;
    case SIM_ANSWER:
        answer(plan);
        break;
    case SIM_REFUSE:
        reset(plan, NGHTTP2_REFUSED_STREAM, SIM_TRY_REFUSED);
        break;
    case SIM_RESET:
    case SIM_HALF_HEAD:
        reset(plan, NGHTTP2_INTERNAL_ERROR, SIM_TRY_LOST);
        break;
    case SIM_SILENCE:
        break;
    case SIM_GARBAGE: // a frame of a stream that cannot be
        sim_out_add(&plan->conn->out, "\0\0\4\3\0\0\0\0\2\0\0\0\0", 13);
        break;
    case SIM_GOAWAY:
        go_away(plan);
        break;
    }
}

static void consume(struct sim_server_conn *conn) {
    for (uint32_t i = 0; i < conn->n_plans; i++) {
        int32_t id = conn->plans[i]->stream;
        int32_t n = nghttp2_session_get_stream_effective_recv_data_length(conn->h2, id);
        if (n > 0 && sim_chance(conn->sim, 1, 3)) {
            (void)nghttp2_session_consume_stream(conn->h2, id, (size_t)n);
        }
        (void)nghttp2_session_resume_data(conn->h2, id);
    }
}

void sim_server_h2_write(struct sim_server_conn *conn) {
    consume(conn);
    for (uint32_t i = conn->n_plans; i-- > 0;) {
        if (sim_server_says_continue(conn->plans[i])) {
            nghttp2_nv go_on = field(":status", "100");
            CHECK(nghttp2_submit_headers(conn->h2, 0, conn->plans[i]->stream, NULL, &go_on, 1,
                                         NULL) == 0);
        }
        if (sim_server_is_due(conn->plans[i])) {
            act(conn->plans[i]);
        }
    }
    while (sim_out_room(&conn->out) > 20000) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(conn->h2, &bytes);
        CHECK(n >= 0);
        if (n == 0) {
            break;
        }
        sim_out_add(&conn->out, bytes, (size_t)n);
    }
}

bool sim_server_h2_is_over(const struct sim_server_conn *conn) {
    return nghttp2_session_want_read(conn->h2) == 0 && nghttp2_session_want_write(conn->h2) == 0;
}
