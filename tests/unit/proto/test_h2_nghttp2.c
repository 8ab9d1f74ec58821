// SPDX-License-Identifier: Apache-2.0
//
// Conversations with a peer that no one here wrote: libnghttp2's own session, as client and as
// server, over random cuts, windows, frame sizes, padding, resets and settings changes. Every body
// is echoed and compared.
#include "tests/unit/proto/h2_harness.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_STREAMS = 40, MAX_BODY = 300000, N_SEEDS = 60 };

struct body {
    uint8_t *bytes;
    size_t len, cap;
};

static void body_add(struct body *body, const uint8_t *bytes, size_t len) {
    if (body->len + len > body->cap) {
        body->cap = (body->len + len) * 2;
        body->bytes = xrealloc(body->bytes, body->cap);
    }
    memcpy(body->bytes + body->len, bytes, len);
    body->len += len;
}

// One exchange as the client side sees it; `echo` is what came back.
struct exchange {
    struct talk *talk;
    int32_t id;
    struct body sent, echo;
    struct body plan; // what ours sends as client
    size_t at; // read position of the data source
    uint32_t status;
    bool wants_trailers, has_trailers;
    bool is_reset; // somebody gave up on purpose
    bool is_done, is_source_ended, is_deferred;
    struct h2_stream *stream; // our side, when ours is the client
};

struct talk {
    uint64_t seed;
    struct h2_end end; // ours
    nghttp2_session *session; // theirs
    bool is_our_server;
    struct exchange exchanges[N_STREAMS];
    size_t n_open;
    bool has_padding;
    uint32_t n_resets;
};

static struct exchange *exchange_of(struct talk *talk, int32_t id) {
    size_t i = (size_t)(id - 1) / 2;
    return id > 0 && (id & 1) != 0 && i < N_STREAMS ? &talk->exchanges[i] : NULL;
}

static void fill_body(struct talk *talk, struct body *body) {
    size_t len = rnd(&talk->seed) % 4 == 0 ? rnd(&talk->seed) % MAX_BODY : rnd(&talk->seed) % 3000;
    uint64_t seed = talk->seed;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(rnd(&seed) >> 56);
        body_add(body, &byte, 1);
    }
}

static nghttp2_nv nv(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

// ---- libnghttp2's side

static ssize_t read_source(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *user) {
    (void)user;
    struct exchange *ex = source->ptr;
    struct talk *talk = ex->talk;
    // As server it echoes what has come so far.
    struct body *from = talk->is_our_server ? &ex->sent : &ex->echo;
    size_t n = MIN(len, from->len - ex->at);
    if (n > 1 && rnd(&talk->seed) % 3 == 0) {
        n = 1 + rnd(&talk->seed) % n;
    }
    if (n > 0) {
        memcpy(buf, from->bytes + ex->at, n);
        ex->at += n;
    }
    bool is_complete = talk->is_our_server || ex->is_source_ended;
    if (is_complete && ex->at == from->len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!talk->is_our_server && ex->wants_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_nv trailer = nv("x-trailer", "yes");
            assert_int_equal(nghttp2_submit_trailer(session, id, &trailer, 1), 0);
        }
        return (ssize_t)n;
    }
    if (n == 0) {
        ex->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user) {
    (void)session;
    (void)flags;
    struct talk *talk = user;
    struct exchange *ex = exchange_of(talk, frame->hd.stream_id);
    struct slice n = slice_make(name, name_len);
    struct slice v = slice_make(value, value_len);
    uint64_t status;
    if (slice_eq_str(n, ":status") && slice_to_u64(v, 999, &status)) {
        ex->status = (uint32_t)status;
    } else if (slice_eq_str(n, "x-trailer")) {
        ex->has_trailers = true;
    } else if (slice_eq_str(n, "x-wants-trailers")) {
        ex->wants_trailers = true;
    }
    return 0;
}

static void server_respond(struct talk *talk, struct exchange *ex, int32_t id) {
    nghttp2_nv head[] = {nv(":status", "200"), nv("server", "oracle"),
                         nv("x-long", "aaaaaaaaaaaaa")};
    nghttp2_data_provider provider = {.source.ptr = ex, .read_callback = read_source};
    assert_int_equal(nghttp2_submit_response(talk->session, id, head, 3, &provider), 0);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct talk *talk = user;
    struct exchange *ex = exchange_of(talk, frame->hd.stream_id);
    if (talk->is_our_server || ex == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        server_respond(talk, ex, frame->hd.stream_id);
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        ex->is_source_ended = true;
        if (ex->is_deferred) {
            ex->is_deferred = false;
            nghttp2_session_resume_data(session, frame->hd.stream_id);
        }
    }
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                    size_t len, void *user) {
    (void)flags;
    struct talk *talk = user;
    struct exchange *ex = exchange_of(talk, id);
    body_add(&ex->echo, data, len);
    if (!talk->is_our_server && ex->is_deferred) {
        ex->is_deferred = false;
        nghttp2_session_resume_data(session, id);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    (void)session;
    struct talk *talk = user;
    struct exchange *ex = exchange_of(talk, id);
    if (talk->is_our_server) {
        ex->is_done = true;
    }
    if (code != 0) {
        ex->is_reset = true;
        talk->n_resets++;
    }
    return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int code, void *user) {
    (void)session;
    (void)user;
    fail_msg("libnghttp2 refuses frame type %d on stream %d: %s", frame->hd.type,
             frame->hd.stream_id, nghttp2_strerror(code));
    return 0;
}

static ssize_t padding(nghttp2_session *session, const nghttp2_frame *frame, size_t max,
                       void *user) {
    (void)session;
    struct talk *talk = user;
    size_t len = frame->hd.length;
    size_t padded = talk->has_padding ? len + rnd(&talk->seed) % 256 : len;
    return (ssize_t)MIN(max, padded);
}

static void session_open(struct talk *talk) {
    nghttp2_session_callbacks *callbacks;
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, padding);
    if (talk->is_our_server) {
        assert_int_equal(nghttp2_session_client_new(&talk->session, callbacks, talk), 0);
    } else {
        assert_int_equal(nghttp2_session_server_new(&talk->session, callbacks, talk), 0);
    }
    nghttp2_session_callbacks_del(callbacks);
    uint32_t window = rnd(&talk->seed) % 2 == 0 ? 65535 : 1 + (uint32_t)(rnd(&talk->seed) % 200000);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384 + (uint32_t)(rnd(&talk->seed) % 20000)},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, (uint32_t)(rnd(&talk->seed) % 3) * 2048},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, N_STREAMS},
    };
    assert_int_equal(nghttp2_submit_settings(talk->session, 0, settings, ARRAY_LEN(settings)), 0);
}

// ---- our side

static void send_bytes(struct h2_end *end, struct h2_stream *stream, const uint8_t *bytes,
                       size_t len, bool is_end) {
    struct chain data;
    chain_init(&data, &end->pool);
    chain_copy(&data, slice_make(bytes, len));
    h2_stream_send_data(stream, &data, is_end);
}

// Ours as server echoes each piece at once.
static void serve(struct h2_end *end, const struct h2_event *ev) {
    struct talk *talk = end->hook_arg;
    struct exchange *ex =
        ev->stream != NULL ? exchange_of(talk, (int32_t)h2_stream_id(ev->stream)) : NULL;
    struct http_field fields[4];
    switch (ev->type) {
    case H2_EV_HEADERS:
        if (ex->wants_trailers) { // of the test's own wish
            h2_stream_send_headers(ev->stream, fields, fields_of(":status=103|link=a", fields, 4),
                                   false);
        }
        h2_stream_send_headers(ev->stream, fields, fields_of(":status=200|server=x", fields, 4),
                               false);
        break;
    case H2_EV_DATA:
        send_bytes(end, ev->stream, ev->blk->base + ev->off, ev->len, false);
        h2_stream_consumed(ev->stream, ev->len);
        break;
    case H2_EV_END:
        if (ex->wants_trailers) {
            h2_stream_send_trailers(ev->stream, fields, fields_of("x-trailer=yes", fields, 4));
        } else {
            send_bytes(end, ev->stream, NULL, 0, true);
        }
        break;
    case H2_EV_CONN_ERROR:
        fail_msg("connection error: %s", h2_err_label(ev->err));
        break;
    default:
        break;
    }
}

static void client_event(struct h2_end *end, const struct h2_event *ev) {
    struct talk *talk = end->hook_arg;
    struct exchange *ex =
        ev->stream != NULL ? exchange_of(talk, (int32_t)h2_stream_id(ev->stream)) : NULL;
    uint64_t status = 0;
    switch (ev->type) {
    case H2_EV_HEADERS:
        assert_true(slice_to_u64(ev->fields[0].value, 999, &status));
        ex->status = (uint32_t)status;
        break;
    case H2_EV_DATA:
        body_add(&ex->sent, ev->blk->base + ev->off, ev->len); // the roles of the two are swapped
        h2_stream_consumed(ev->stream, ev->len);
        break;
    case H2_EV_TRAILERS:
        ex->has_trailers = true;
        break;
    case H2_EV_RESET:
        ex->is_reset = true;
        break;
    case H2_EV_CLOSED:
        ex->is_done = true;
        ex->stream = NULL;
        break;
    case H2_EV_CONN_ERROR:
        fail_msg("connection error: %s", h2_err_label(ev->err));
        break;
    default:
        break;
    }
}

// ---- the conversation

static void open_theirs(struct talk *talk, struct exchange *ex) {
    fill_body(talk, &ex->sent);
    nghttp2_nv head[] = {nv(":method", "POST"),      nv(":scheme", "https"),
                         nv(":path", "/echo/a?b=c"), nv(":authority", "echo.example"),
                         nv("user-agent", "oracle"), nv("cookie", "a=b; c=d")};
    nghttp2_data_provider provider = {.source.ptr = ex, .read_callback = read_source};
    ex->id = nghttp2_submit_request(talk->session, NULL, head, ARRAY_LEN(head), &provider, NULL);
    assert_true(ex->id > 0);
}

static void open_ours(struct talk *talk, struct exchange *ex) {
    fill_body(talk, &ex->plan);
    struct body body = ex->plan;
    struct http_field fields[16];
    size_t n =
        fields_of(":method=POST|:scheme=https|:path=/x|:authority=e.f|x-a=b|x-wants-trailers=1",
                  fields, 16);
    enum h2_err err;
    ex->stream =
        h2_stream_open(talk->end.conn, fields, ex->wants_trailers ? n : n - 1, false, NULL, &err);
    assert_non_null(ex->stream);
    for (size_t at = 0; at < body.len;) {
        size_t len = 1 + rnd(&talk->seed) % MIN(body.len - at, (size_t)20000);
        send_bytes(&talk->end, ex->stream, body.bytes + at, len, false);
        at += len;
    }
    send_bytes(&talk->end, ex->stream, NULL, 0, true);
}

static bool step(struct talk *talk) {
    bool moved = false;
    const uint8_t *bytes;
    for (size_t n = 1 + rnd(&talk->seed) % 5; n > 0; n--) {
        ssize_t len = nghttp2_session_mem_send(talk->session, &bytes);
        if (len < 0) {
            fail_msg("libnghttp2: %s", nghttp2_strerror((int)len));
        }
        moved |= len > 0;
        end_feed(&talk->end, bytes, (size_t)len);
    }
    struct wire wire = {0};
    end_pull(&talk->end, &wire, 1 + rnd(&talk->seed) % 40000);
    moved |= wire.len > 0;
    for (size_t at = 0; at < wire.len;) {
        size_t len = 1 + rnd(&talk->seed) % MIN(wire.len - at, (size_t)5000);
        assert_int_equal(nghttp2_session_mem_recv(talk->session, wire.bytes + at, len), len);
        at += len;
    }
    wire_free(&wire);
    return moved || h2_conn_wants_write(talk->end.conn);
}

static void random_act(struct talk *talk) {
    uint64_t what = rnd(&talk->seed) % 40;
    if (what == 0) {
        nghttp2_submit_ping(talk->session, 0, NULL);
    } else if (what == 1) {
        h2_conn_ping(talk->end.conn, rnd(&talk->seed), talk->end.now);
    } else if (what == 2) {
        nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                        1 + (uint32_t)(rnd(&talk->seed) % 100000)};
        nghttp2_submit_settings(talk->session, 0, &entry, 1);
    } else if (what == 3) {
        nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
                                        (uint32_t)(rnd(&talk->seed) % 5000)};
        nghttp2_submit_settings(talk->session, 0, &entry, 1);
    } else if (what == 4 && talk->n_open > 0) {
        struct exchange *ex = &talk->exchanges[rnd(&talk->seed) % talk->n_open];
        if (talk->is_our_server && !ex->is_done && !ex->is_reset) {
            ex->is_reset = true;
            nghttp2_submit_rst_stream(talk->session, 0, ex->id, NGHTTP2_CANCEL);
        } else if (!talk->is_our_server && ex->stream != NULL) {
            ex->is_reset = true;
            h2_stream_reset(ex->stream, H2_CANCEL);
        }
    }
}

static void check(struct talk *talk, uint64_t seed) {
    for (size_t i = 0; i < talk->n_open; i++) {
        struct exchange *ex = &talk->exchanges[i];
        if (!ex->is_done) {
            fail_msg("seed %llu: exchange %zu did not end (%zu of %zu)", (unsigned long long)seed,
                     i, ex->echo.len, ex->sent.len);
        }
        if (!ex->is_reset) {
            assert_int_equal(ex->status, 200);
            assert_int_equal(ex->echo.len, ex->sent.len);
            assert_true(ex->echo.len == 0 ||
                        memcmp(ex->echo.bytes, ex->sent.bytes, ex->echo.len) == 0);
            assert_true(ex->has_trailers == ex->wants_trailers);
            assert_true(talk->is_our_server || ex->plan.len == ex->sent.len);
            assert_true(ex->plan.len == 0 ||
                        memcmp(ex->plan.bytes, ex->sent.bytes, ex->plan.len) == 0);
        }
        free(ex->plan.bytes);
        free(ex->echo.bytes);
        free(ex->sent.bytes);
    }
}

static void converse(uint64_t seed, bool is_our_server) {
    struct talk *talk = xcalloc(1, sizeof(*talk));
    talk->seed = seed;
    talk->is_our_server = is_our_server;
    talk->has_padding = seed % 3 == 0;
    end_init(&talk->end, is_our_server);
    if (seed % 2 == 0) {
        h2_config_init_http(&talk->end.config, is_our_server);
    }
    talk->end.config.stream_window = 1000 + (uint32_t)(rnd(&talk->seed) % 300000);
    talk->end.seed = seed + 1;
    talk->end.max_chunk = 1 + rnd(&talk->seed) % 20000;
    talk->end.is_quiet = true;
    talk->end.hook = is_our_server ? serve : client_event;
    talk->end.hook_arg = talk;
    end_open(&talk->end, is_our_server);
    session_open(talk);
    for (bool moved = true; moved || talk->n_open < N_STREAMS;) {
        if (talk->n_open < N_STREAMS && rnd(&talk->seed) % 3 == 0) {
            struct exchange *ex = &talk->exchanges[talk->n_open++];
            ex->talk = talk;
            ex->wants_trailers = rnd(&talk->seed) % 3 == 0;
            if (is_our_server) {
                open_theirs(talk, ex);
            } else {
                open_ours(talk, ex);
            }
        }
        random_act(talk);
        talk->end.now += rnd(&talk->seed) % NS_PER_MS;
        moved = step(talk);
    }
    check(talk, seed);
    assert_int_equal(h2_conn_n_streams(talk->end.conn), 0);
    assert_int_equal(h2_conn_parked(talk->end.conn), 0);
    assert_int_equal(nghttp2_session_want_write(talk->session), 0);
    nghttp2_session_del(talk->session);
    end_fini(&talk->end);
    free(talk);
}

static void test_our_server(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        converse(seed, true);
    }
}

static void test_our_client(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        converse(seed, false);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_server),
        cmocka_unit_test(test_our_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
