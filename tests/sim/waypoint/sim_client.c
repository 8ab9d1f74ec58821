// SPDX-License-Identifier: Apache-2.0
//
// Clients. Each has one connection at a time, HTTP/1.1 (now and then with two requests on their
// way) or HTTP/2 (up to five), and goes on with a new one when it ends.
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/waypoint/sim_waypoint.h"
#include "waypoint/websocket.h"

#define SIM_WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="

enum { H2_OPEN_MAX = 5, H1_OPEN_MAX = 2, PIECE_MAX = 8000 };

static const char key_of_web[] = "shop/web.shop.svc.cluster.local";
static const char *const paths[SIM_N_ROUTES] = {"plain",  "none",   "retry",    "timeout", "fault",
                                                "mirror", "direct", "redirect", "nowhere"};

struct sim_client {
    struct sim *sim;
    int fd; // -1: not connected
    bool is_h2, is_leaving;
    bool is_tunnel; // HTTP/1: an upgrade was accepted, its request is open[0]
    uint32_t n_left; // requests to start
    struct sim_out out;
    struct sim_request *open[H2_OPEN_MAX]; // not over; HTTP/1: in order
    uint32_t n_open;
    struct h1_reader reader; // HTTP/1
    nghttp2_session *h2;
    char try[16], key[32], len[32]; // of the head that comes (HTTP/2)
    uint16_t status;
};

// ---- the connection ----------------------------------------------------------------------------

static void forget(struct sim_client *client, const struct sim_request *request) {
    for (uint32_t i = 0; i < client->n_open; i++) {
        if (client->open[i] == request) {
            memmove(&client->open[i], &client->open[i + 1],
                    (client->n_open - i - 1) * sizeof(client->open[0]));
            client->n_open--;
            return;
        }
    }
}

static void disconnect(struct sim_client *client, bool is_reset) {
    struct sim *sim = client->sim;
    for (uint32_t i = 0; i < client->n_open; i++) {
        sim_request_on_cut(sim, client->open[i]);
    }
    client->n_open = 0;
    fake_close(sim->bed.net, client->fd, is_reset);
    client->fd = -1;
    nghttp2_session_del(client->h2);
    client->h2 = NULL;
    if (client->n_left > 0 && sim->is_draining) {
        client->n_left = 0; // nobody would take it
    }
}

static void give_up(struct sim_client *client) {
    for (uint32_t i = 0; i < client->n_open; i++) {
        client->open[i]->is_given_up = true;
    }
    disconnect(client, true);
}

// ---- HTTP/1.1 ----------------------------------------------------------------------------------

static void on_h1_head(void *arg, const char *head) {
    struct sim_client *client = arg;
    struct sim_request *request = client->open[0];
    uint16_t status = (uint16_t)strtol(head + 9, NULL, 10);
    char try[16] = "", key[32] = "", len[32] = "", value[32];
    CHECK(client->n_open > 0);
    if (status < 200 && status != 101) {
        sim_request_on_informational(request, status);
        return;
    }
    (void)h1_reader_field(head, "x-try", try, sizeof(try));
    (void)h1_reader_field(head, "x-key", key, sizeof(key));
    (void)h1_reader_field(head, "x-len", len, sizeof(len));
    sim_request_on_head(request, status, try, key, len);
    if (status == 101) {
        char proof[WEBSOCKET_PROOF_LEN], given[64] = "";
        CHECK(request->is_ws && sim_request_has_tunnel(request));
        (void)h1_reader_field(head, "sec-websocket-accept", given, sizeof(given));
        websocket_proof(SLICE_LIT(SIM_WS_KEY), proof);
        CHECK(slice_eq(slice_str(given), slice_make(proof, sizeof(proof))));
        client->is_tunnel = client->is_leaving = true;
    }
    if (h1_reader_field(head, "connection", value, sizeof(value)) && strcmp(value, "close") == 0) {
        client->is_leaving = true;
    }
}

static void on_h1_body(void *arg, const uint8_t *bytes, size_t len) {
    sim_request_on_body(((struct sim_client *)arg)->open[0], bytes, len);
}

static void on_h1_end(void *arg) {
    struct sim_client *client = arg;
    struct sim_request *request = client->open[0];
    if (!request->has_head || client->is_tunnel) { // 1xx
        return;
    }
    sim_request_on_end(client->sim, request);
    bool was_read = request->n_try >= 0 ? request->tries[request->n_try].got_end
                                        : request->len == 0 || request->is_ws;
    if (!was_read) { // what is left of it may be more than the waypoint reads for nobody
        client->is_leaving = true;
    }
    forget(client, request);
    client->reader.has_no_body = client->n_open > 0 && client->open[0]->is_head;
}

static void put_h1_head(struct sim_client *client, struct sim_request *request) {
    struct sim_out *out = &client->out;
    if (request->is_ws) {
        sim_out_printf(out,
                       "GET /%s/%u HTTP/1.1\r\nhost: web\r\nx-id: %u\r\nconnection: Upgrade\r\n"
                       "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                       "sec-websocket-key: %s\r\n\r\n",
                       paths[request->route], request->id, request->id, SIM_WS_KEY);
        request->is_sent = true;
        return;
    }
    sim_out_printf(out, "%s /%s/%u HTTP/1.1\r\nhost: web\r\nx-id: %u\r\n",
                   request->is_head   ? "HEAD"
                   : request->len > 0 ? "POST"
                                      : "GET",
                   paths[request->route], request->id, request->id);
    if (request->len > 0 && request->has_length) {
        sim_out_printf(out, "content-length: %zu\r\n", request->len);
    } else if (request->len > 0) {
        sim_out_printf(out, "transfer-encoding: chunked\r\n");
    }
    if (request->expects) {
        sim_out_printf(out, "expect: 100-continue\r\n");
    }
    sim_out_printf(out, "\r\n");
    request->is_sent = true;
    request->sent_end = request->len == 0;
}

static void put_h1_body(struct sim_client *client, struct sim_request *request) {
    struct sim *sim = client->sim;
    struct sim_out *out = &client->out;
    if (sim_out_room(out) < PIECE_MAX + 100) {
        return;
    }
    uint8_t piece[PIECE_MAX];
    size_t n = (size_t)rand_range(&sim->rand, 1, PIECE_MAX);
    n = MIN(n, request->len - request->n_sent);
    sim_fill(request->key, request->n_sent, piece, n);
    if (!request->has_length) {
        sim_out_printf(out, "%zx\r\n", n);
    }
    sim_out_add(out, piece, n);
    request->n_sent += n;
    request->sent_end = request->n_sent == request->len;
    if (!request->has_length) {
        sim_out_printf(out, "\r\n%s",
                       !request->sent_end      ? ""
                       : request->has_trailers ? "0\r\nx-end: yes\r\n\r\n"
                                               : "0\r\n\r\n");
    }
}

// Bytes through an upgrade, and behind them the end of the client's direction.
static void put_tunnel(struct sim_client *client, struct sim_request *request) {
    struct sim *sim = client->sim;
    uint8_t piece[PIECE_MAX];
    if (request->n_sent < request->len && sim_out_room(&client->out) > PIECE_MAX) {
        size_t n = (size_t)rand_range(&sim->rand, 1, PIECE_MAX);
        n = MIN(n, request->len - request->n_sent);
        sim_fill(request->key, request->n_sent, piece, n);
        sim_out_add(&client->out, piece, n);
        request->n_sent += n;
    } else if (request->n_sent == request->len && request->ends_first && !request->sent_end &&
               client->out.len == 0) {
        request->sent_end = true;
        (void)fake_shutdown(sim->bed.net, client->fd);
    }
}

static void write_h1(struct sim_client *client) {
    struct sim *sim = client->sim;
    struct sim_request *last = client->n_open > 0 ? client->open[client->n_open - 1] : NULL;
    if (client->is_tunnel) {
        put_tunnel(client, last);
        return;
    }
    if (last != NULL && last->is_ws) {
        return; // waits for the answer
    }
    if (last != NULL && !last->sent_end) {
        if (sim_request_may_send_body(sim, last)) {
            put_h1_body(client, last);
        }
        return;
    }
    uint32_t max = sim->has_faults && sim_chance(sim, 1, 10) ? H1_OPEN_MAX : 1;
    if (client->n_left > 0 && client->n_open < max && !client->is_leaving &&
        sim_chance(sim, 1, 4)) {
        struct sim_request *request = sim_request_new(sim, client->n_open == 0);
        client->n_left--;
        sim_tracef(sim, "client %d: request %u, route %u, %zu bytes%s", client->fd, request->id,
                   request->route, request->len, request->is_ws ? ", WebSocket" : "");
        client->open[client->n_open++] = request;
        client->reader.has_no_body = client->open[0]->is_head;
        put_h1_head(client, request);
    }
}

static bool read_h1(struct sim_client *client, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        if (client->n_open == 0) { // only the answer to what was no request comes unasked
            return false;
        }
        if (client->is_tunnel) {
            sim_request_on_body(client->open[0], bytes, len);
            return true;
        }
        size_t n = h1_reader_read(&client->reader, bytes, len);
        bytes += n;
        len -= n;
    }
    return true;
}

// ---- HTTP/2 ------------------------------------------------------------------------------------

static struct sim_request *of_stream(struct sim_client *client, int32_t id) {
    return nghttp2_session_get_stream_user_data(client->h2, id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user) {
    (void)session;
    (void)frame;
    (void)flags;
    struct sim_client *client = user;
    struct {
        const char *name;
        char *text;
        size_t cap;
    } known[] = {{"x-try", client->try, sizeof(client->try)},
                 {"x-key", client->key, sizeof(client->key)},
                 {"x-len", client->len, sizeof(client->len)}};
    struct slice is = slice_make(name, name_len);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (slice_eq_str(is, known[i].name)) {
            snprintf(known[i].text, known[i].cap, "%.*s", (int)value_len, (const char *)value);
        }
    }
    if (slice_eq_str(is, ":status")) {
        client->status = (uint16_t)strtol((const char *)value, NULL, 10);
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    (void)session;
    (void)frame;
    struct sim_client *client = user;
    client->try[0] = client->key[0] = client->len[0] = '\0';
    client->status = 0;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    (void)session;
    struct sim_client *client = user;
    struct sim_request *request = of_stream(client, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->is_leaving = true;
    }
    if (request == NULL || request->is_over) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && client->status > 0 && client->status < 200) {
        sim_request_on_informational(request, client->status);
    } else if (frame->hd.type == NGHTTP2_HEADERS && client->status >= 200) {
        sim_request_on_head(request, client->status, client->try, client->key, client->len);
    }
    bool has_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (has_end && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        sim_request_on_end(client->sim, request);
    }
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                    size_t len, void *user) {
    (void)flags;
    struct sim_client *client = user;
    struct sim_request *request = of_stream(client, id);
    if (request != NULL && !request->is_over) {
        sim_request_on_body(request, bytes, len);
    }
    CHECK(nghttp2_session_consume_connection(session, len) == 0);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
    (void)session;
    (void)code;
    struct sim_client *client = user;
    struct sim_request *request = of_stream(client, id);
    if (request != NULL) {
        sim_request_on_cut(client->sim, request);
        forget(client, request);
    }
    return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int code, void *user) {
    (void)session;
    (void)user;
    fprintf(stderr, "the waypoint sent a frame of type %d that is not valid: %s\n", frame->hd.type,
            nghttp2_strerror(code));
    CHECK(false);
    return 0;
}

static ssize_t on_source(nghttp2_session *session, int32_t id, uint8_t *bytes, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *user) {
    struct sim_client *client = user;
    struct sim_request *request = source->ptr;
    bool waits = request->is_ws && !request->is_over && !sim_request_has_tunnel(request);
    if (sim_chance(client->sim, 1, 4) || waits ||
        !sim_request_may_send_body(client->sim, request)) {
        return NGHTTP2_ERR_DEFERRED; // goes on with a later step
    }
    size_t n = MIN(len, request->len - request->n_sent);
    sim_fill(request->key, request->n_sent, bytes, n);
    request->n_sent += n;
    if (request->is_ws && !request->ends_first && !request->is_over) {
        return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED; // the end comes behind the server's
    }
    if (request->n_sent == request->len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        request->sent_end = true;
        if (request->has_trailers) {
            nghttp2_nv field = {(uint8_t *)"x-end", (uint8_t *)"yes", 5, 3, 0};
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            CHECK(nghttp2_submit_trailer(session, id, &field, 1) == 0);
        }
    }
    return (ssize_t)n;
}

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void submit_ws(struct sim_client *client, struct sim_request *request, const char *path,
                      const char *id) {
    nghttp2_nv fields[] = {field(":method", "CONNECT"),
                           field(":scheme", "http"),
                           field(":authority", "web"),
                           field(":path", path),
                           field(":protocol", "websocket"),
                           field("sec-websocket-version", "13"),
                           field("x-id", id)};
    nghttp2_data_provider source = {.source.ptr = request, .read_callback = on_source};
    int32_t stream =
        nghttp2_submit_request(client->h2, NULL, fields, ARRAY_LEN(fields), &source, request);
    CHECK(stream > 0);
    request->is_sent = true;
    client->open[client->n_open++] = request;
    sim_tracef(client->sim, "client %d: request %u on stream %d, route %u, %zu bytes, WebSocket",
               client->fd, request->id, stream, request->route, request->len);
}

static void submit(struct sim_client *client, struct sim_request *request) {
    char path[64], id[16], len[24];
    snprintf(path, sizeof(path), "/%s/%u", paths[request->route], request->id);
    snprintf(id, sizeof(id), "%u", request->id);
    snprintf(len, sizeof(len), "%zu", request->len);
    if (request->is_ws) {
        submit_ws(client, request, path, id);
        return;
    }
    nghttp2_nv fields[7] = {
        field(":method", request->is_head   ? "HEAD"
                         : request->len > 0 ? "POST"
                                            : "GET"),
        field(":scheme", "http"),
        field(":authority", "web"),
        field(":path", path),
        field("x-id", id),
    };
    nghttp2_data_provider source = {.source.ptr = request, .read_callback = on_source};
    size_t n = 5;
    if (request->len > 0 && request->has_length) {
        fields[n++] = field("content-length", len);
    }
    if (request->expects) {
        fields[n++] = field("expect", "100-continue");
    }
    int32_t stream = nghttp2_submit_request(client->h2, NULL, fields, n,
                                            request->len > 0 ? &source : NULL, request);
    CHECK(stream > 0);
    request->is_sent = true;
    request->sent_end = request->len == 0;
    client->open[client->n_open++] = request;
    sim_tracef(client->sim, "client %d: request %u on stream %d, route %u, %zu bytes", client->fd,
               request->id, stream, request->route, request->len);
}

static void open_h2(struct sim_client *client) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid);
    nghttp2_option_set_no_auto_window_update(option, 1);
    CHECK(nghttp2_session_client_new2(&client->h2, callbacks, client, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    CHECK(nghttp2_submit_settings(client->h2, NGHTTP2_FLAG_NONE, NULL, 0) == 0);
}

// Credit of the streams comes as a reader takes what has come: slowly.
static void consume_h2(struct sim_client *client) {
    nghttp2_session *h2 = client->h2;
    for (int32_t id = 1; id < (int32_t)nghttp2_session_get_next_stream_id(h2); id += 2) {
        int32_t n = nghttp2_session_get_stream_effective_recv_data_length(h2, id);
        if (n > 0 && sim_chance(client->sim, 1, 3)) {
            (void)nghttp2_session_consume_stream(h2, id, (size_t)n);
        }
        (void)nghttp2_session_resume_data(h2, id);
    }
}

static void write_h2(struct sim_client *client) {
    struct sim *sim = client->sim;
    nghttp2_session *h2 = client->h2;
    consume_h2(client);
    if (client->n_left > 0 && client->n_open < H2_OPEN_MAX && !client->is_leaving &&
        nghttp2_session_check_request_allowed(h2) && sim_chance(sim, 1, 4)) {
        client->n_left--;
        bool can_upgrade =
            nghttp2_session_get_remote_settings(h2, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
        submit(client, sim_request_new(sim, can_upgrade));
    }
    if (client->n_open > 0 && !client->is_leaving && sim_is_bad(sim, 1, 500)) {
        // It wants no pushes any more: what it asked for goes on.
        CHECK(nghttp2_submit_goaway(h2, 0, 0, NGHTTP2_NO_ERROR, NULL, 0) == 0);
        client->is_leaving = true;
    }
    if (client->n_open > 0 && sim_is_bad(sim, 1, 400)) { // it does not want this one any more
        struct sim_request *request = client->open[rand_below(&sim->rand, client->n_open)];
        for (int32_t id = 1; id < (int32_t)nghttp2_session_get_next_stream_id(h2); id += 2) {
            if (of_stream(client, id) == request && !request->is_over) {
                request->is_given_up = request->is_over = true;
                CHECK(nghttp2_submit_rst_stream(h2, 0, id, NGHTTP2_CANCEL) == 0);
            }
        }
    }
    while (sim_out_room(&client->out) > 20000) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(h2, &bytes);
        CHECK(n >= 0);
        if (n == 0) {
            break;
        }
        sim_out_add(&client->out, bytes, (size_t)n);
    }
}

// ---- steps -------------------------------------------------------------------------------------

static void reconnect(struct sim_client *client) {
    struct sim *sim = client->sim;
    client->fd = wbed_connect(&sim->bed, (uint32_t)rand_below(&sim->rand, sim->bed.n_workers),
                              key_of_web, 80);
    client->is_h2 = sim_chance(sim, 1, 2);
    client->is_leaving = client->is_tunnel = false;
    client->out.len = 0;
    client->reader = (struct h1_reader){.on_head = on_h1_head,
                                        .on_body = on_h1_body,
                                        .on_end = on_h1_end,
                                        .arg = client,
                                        .is_response = true};
    sim_tracef(sim, "client %d: HTTP/%d", client->fd, client->is_h2 ? 2 : 1);
    if (client->is_h2) {
        open_h2(client);
    }
}

static void read_some(struct sim_client *client) {
    uint8_t bytes[16384];
    ssize_t n = sim_read(client->sim, client->fd, bytes, sizeof(bytes));
    if (n == 0) {
        return;
    }
    if (n == -1 && client->is_tunnel) { // in order: all of the server's bytes have come
        struct sim_request *request = client->open[0];
        sim_request_on_end(client->sim, request);
        request->sent_end = true; // with the connection
        forget(client, request);
    } else if (n == -1 && !client->is_h2) {
        (void)h1_reader_end(&client->reader); // an answer up to the end of the connection
    }
    bool goes_on = n > 0;
    if (n > 0 && client->is_h2) {
        goes_on = nghttp2_session_mem_recv(client->h2, bytes, (size_t)n) == n;
        CHECK(goes_on);
    } else if (n > 0) {
        goes_on = read_h1(client, bytes, (size_t)n);
    }
    if (!goes_on) {
        disconnect(client, false);
    }
}

void sim_client_step(struct sim *sim, struct sim_client *client) {
    if (client->fd < 0) {
        if (client->n_left > 0 && !sim->is_draining) {
            reconnect(client);
        } else if (client->n_left > 0) {
            sim->n_to_start -= client->n_left;
            client->n_left = 0;
        }
        return;
    }
    if (client->n_open > 0 && sim_is_bad(sim, 1, 1500)) {
        give_up(client);
        return;
    }
    if (client->is_h2) {
        write_h2(client);
    } else {
        write_h1(client);
    }
    if (!sim_write(sim, client->fd, &client->out)) {
        disconnect(client, false);
        return;
    }
    read_some(client);
    bool is_idle = client->fd >= 0 && client->n_open == 0 && client->out.len == 0;
    if (is_idle && (client->n_left == 0 || client->is_leaving) && sim_chance(sim, 1, 4)) {
        disconnect(client, false);
    }
}

bool sim_client_is_over(const struct sim_client *client) {
    return client->fd < 0 && client->n_left == 0;
}

void sim_client_start(struct sim *sim) {
    struct sim_client *client = xcalloc(1, sizeof(*client));
    client->sim = sim;
    client->fd = -1;
    client->n_left = (uint32_t)rand_range(&sim->rand, 1, 8);
    sim->n_to_start += client->n_left;
    for (int i = 0; i < SIM_CLIENTS_MAX; i++) {
        if (sim->clients[i] == NULL) {
            sim->clients[i] = client;
            return;
        }
    }
    CHECK(false);
}

void sim_client_free(struct sim *sim, struct sim_client *client) {
    (void)sim;
    CHECK(sim_client_is_over(client));
    free(client);
}
