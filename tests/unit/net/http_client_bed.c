// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/net/http_client_bed.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct server_conn {
    struct http_bed *bed;
    struct list node; // bed.conns
    struct link_end end;
    struct http_conn conn;
    uint32_t number;
};

static struct bed_request *of_stream(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct bed_request, stream);
}

static void copy_field(const struct http_head *head, const char *name, char *dst, size_t size) {
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq_str(head->fields[i].name, name)) {
            snprintf(dst, size, "%.*s", SLICE_ARG(head->fields[i].value));
        }
    }
}

static void is_whole(struct bed_request *request) {
    request->is_whole = true;
    if (request->bed->on_request != NULL) {
        request->bed->on_request(request->bed, request);
    }
}

static void on_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct bed_request *request = of_stream(stream);
    snprintf(request->method, sizeof(request->method), "%.*s", SLICE_ARG(head->method));
    snprintf(request->path, sizeof(request->path), "%.*s", SLICE_ARG(head->path));
    copy_field(head, "user-agent", request->agent, sizeof(request->agent));
    copy_field(head, "content-length", request->length, sizeof(request->length));
    copy_field(head, "content-type", request->type, sizeof(request->type));
    copy_field(head, "authorization", request->token, sizeof(request->token));
    if (end) {
        is_whole(request);
    }
}

static void on_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct bed_request *request = of_stream(stream);
    for (uint32_t i = 0; i < seg->len; i++, request->n_body++) {
        if (request->n_body < sizeof(request->body) - 1) {
            request->body[request->n_body] = (char)seg_ptr(seg)[i];
        }
    }
    http_stream_consumed(stream, seg->len);
    blk_unref(seg->blk);
    if (end) {
        is_whole(request);
    }
}

static void on_end(struct http_stream *stream) {
    is_whole(of_stream(stream));
}

static void on_nothing(struct http_stream *stream) {
}
static void on_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
}
static void on_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    of_stream(stream)->is_gone = true;
}

static struct http_stream *on_stream(struct http_conn *conn) {
    static const struct http_stream_events events = {
        .on_head = on_head,
        .on_data = on_data,
        .on_trailers = on_trailers,
        .on_end = on_end,
        .on_writable = on_nothing,
        .on_reset = on_reset,
    };
    struct server_conn *server = CONTAINER_OF(conn, struct server_conn, conn);
    struct http_bed *bed = server->bed;
    if (bed->on_stream != NULL) {
        return bed->on_stream(bed);
    }
    assert_true(bed->n_requests < BED_REQUESTS);
    struct bed_request *request = &bed->requests[bed->n_requests++];
    *request = (struct bed_request){.bed = bed, .conn = server->number};
    http_stream_init(&request->stream, &events, request);
    return &request->stream;
}

static void on_bad_request(struct http_conn *conn, enum http_err err) {
    fail_msg("bad request: %d", err);
}

static void on_conn_closed(struct http_conn *conn) {
    struct server_conn *server = CONTAINER_OF(conn, struct server_conn, conn);
    list_del(&server->node);
    server->bed->n_conns--;
    free(server);
}

static void on_accept(struct listener *listener, int fd) {
    static const struct http_conn_handler handler = {
        .on_stream = on_stream, .on_bad_request = on_bad_request, .on_closed = on_conn_closed};
    struct http_bed *bed = CONTAINER_OF(listener, struct http_bed, listener);
    struct server_conn *server = xcalloc(1, sizeof(*server));
    server->bed = bed;
    server->number = ++bed->n_accepted;
    bed->n_conns++;
    list_push_back(&bed->conns, &server->node);
    link_end_init(&server->end, &bed->loop, fd);
    http_conn_init(&server->conn, &bed->loop, &server->end.duplex, true, HTTP_CONN_AUTO, &bed->http,
                   &handler);
}

static void on_listen_error(struct listener *listener, int err) {
    fail_msg("accept: %d", err);
}

static void on_listener_closed(struct listener *listener) {
    CONTAINER_OF(listener, struct http_bed, listener)->listener_is_closed = true;
}

static const struct listener_handler listener_handler = {
    .on_accept = on_accept, .on_error = on_listen_error, .on_closed = on_listener_closed};

void http_bed_open(struct http_bed *bed) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    char ring_error[URING_ERROR_MAX];
    struct uring_options options = {.entries = 64, .n_buffers = 64};
    memset(bed, 0, sizeof(*bed));
    list_init(&bed->conns);
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&options, &bed->pool, ring_error, &bed->io), 0);
    loop_init(&bed->loop, bed->io, &bed->pool, bed);
    http_conn_config_init(&bed->http, true);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    listener_init(&bed->listener, &bed->loop, fd, &listener_handler);
    snprintf(bed->address, sizeof(bed->address), "http://127.0.0.1:%u", ntohs(sa.sin_port));
}

void http_bed_turn(struct http_bed *bed) {
    loop_turn(&bed->loop, false);
    usleep(100);
}

void http_bed_close(struct http_bed *bed) {
    listener_close(&bed->listener, false);
    http_bed_cut(bed);
    BED_WAIT(bed, bed->listener_is_closed && bed->n_conns == 0);
    BED_WAIT(bed, bed->io->n_ops == 0); // the client's own ends
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    blk_pool_fini(&bed->pool);
}

struct http_client *http_bed_client(struct http_bed *bed, enum http_client_protocol protocol,
                                    uint32_t conns_max) {
    char *error = NULL;
    struct http_client_config config = {
        .loop = &bed->loop, .address = bed->address, .protocol = protocol, .conns_max = conns_max};
    struct http_client *client = http_client_new(&config, &error);
    assert_non_null(client);
    return client;
}

void bed_reply_with(struct bed_request *request, uint16_t status, const char *name,
                    const char *value, const char *body, bool end) {
    struct http_field fields[] = {{.name = slice_str(name), .value = slice_str(value)}};
    struct http_head head = {.status = status, .fields = fields, .n_fields = name != NULL};
    struct chain data;
    if (status != 0 && !http_stream_send_head(&request->stream, &head, end && body[0] == '\0')) {
        return;
    }
    chain_init(&data, &request->bed->pool);
    chain_copy(&data, slice_str(body));
    if (!chain_empty(&data) || (end && status == 0)) {
        http_stream_send_data(&request->stream, &data, end);
    }
}

void bed_reply(struct bed_request *request, uint16_t status, const char *body, bool end) {
    bed_reply_with(request, status, NULL, NULL, body, end);
}

void http_bed_cut(struct http_bed *bed) {
    LIST_EACH_SAFE(node, &bed->conns) {
        http_conn_abort(&LIST_ITEM(node, struct server_conn, node)->conn, HTTP_RESET_TERMINATION);
    }
}

void http_bed_drain(struct http_bed *bed) {
    LIST_EACH_SAFE(node, &bed->conns) {
        http_conn_drain(&LIST_ITEM(node, struct server_conn, node)->conn);
    }
}
