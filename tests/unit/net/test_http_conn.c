// SPDX-License-Identifier: Apache-2.0
//
// HTTP connections against each other over loopback: client and server in one loop, each case with
// HTTP/1 and HTTP/2.
#include "common/net/http_conn.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/net/link_end.h"
#include "common/rt/uring.h"

enum { BIG = 3 * 1024 * 1024 };

struct peer { // one end of the connection
    struct bed *bed;
    struct link_end end;
    struct http_conn conn;
    bool is_closed, is_draining;
};

struct side { // a stream as one end sees it
    struct http_stream stream;
    struct bed *bed;
    struct buf body;
    char method[16], path[64], trailer[64], protocol[16];
    uint16_t status;
    uint32_t n_informational;
    size_t to_send; // bytes of the body that are still to be sent
    bool releases_at_end;
    bool got_end, is_reset, holds; // holds: gives no credit
    size_t held;
    enum http_reset reset;
};

struct bed {
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct peer client, server;
    struct http_conn_config client_config, server_config;
    struct side up, down; // the client's, the server's
    enum http_err bad;
    bool refuses;
    size_t answer_len;
    bool answers_early; // at the head, not at the end
    bool cuts_answer, releases_answer; // releases: has no more to do with it after the last byte
};

// ---- sides -------------------------------------------------------------------------------------

static struct side *of_stream(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct side, stream);
}

static void copy_text(char *dst, size_t size, struct slice text) {
    snprintf(dst, size, "%.*s", SLICE_ARG(text));
}

static void send_more(struct side *side) {
    static const char block[16000];
    while (side->stream.conn != NULL && side->to_send > 0 && http_stream_can_send(&side->stream)) {
        size_t n = MIN(side->to_send, sizeof(block));
        struct chain data;
        chain_init(&data, &side->bed->pool);
        chain_copy(&data, slice_make(block, n));
        side->to_send -= n;
        http_stream_send_data(&side->stream, &data, side->to_send == 0);
    }
}

static void answer(struct bed *bed) {
    struct side *down = &bed->down;
    struct http_field fields[] = {{.name = SLICE_LIT("server"), .value = SLICE_LIT("test")}};
    struct http_head head = {.status = 200, .fields = fields, .n_fields = 1};
    if (down->protocol[0] != 0) {
        head.status = 101;
        head.protocol = slice_str(down->protocol);
    }
    http_stream_send_head(&down->stream, &head, bed->answer_len == 0);
    down->to_send = bed->answer_len;
    if (bed->cuts_answer) {
        http_stream_release(&down->stream, H2_INTERNAL_ERROR);
        return;
    }
    send_more(down);
    if (bed->releases_answer) {
        assert_int_equal(down->to_send, 0);
        http_stream_release(&down->stream, H2_NO_ERROR);
    }
}

static void ended(struct side *side) {
    side->got_end = true;
    if (side->releases_at_end) {
        http_stream_release(&side->stream, H2_CANCEL);
    }
    if (side == &side->bed->down && !side->bed->answers_early) {
        answer(side->bed);
    }
}

static void on_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct side *side = of_stream(stream);
    copy_text(side->method, sizeof(side->method), head->method);
    copy_text(side->path, sizeof(side->path), head->path);
    copy_text(side->protocol, sizeof(side->protocol), head->protocol);
    side->status = head->status;
    if (side == &side->bed->down && (side->bed->answers_early || head->protocol.len > 0)) {
        answer(side->bed);
    }
    if (end) {
        ended(side);
    }
}

static void on_informational(struct http_stream *stream, const struct http_head *head) {
    (void)head;
    of_stream(stream)->n_informational++;
}

static void on_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct side *side = of_stream(stream);
    buf_append(&side->body, seg_slice(seg));
    if (side->holds) {
        side->held += seg->len;
    } else {
        http_stream_consumed(stream, seg->len);
    }
    blk_unref(seg->blk);
    if (end) {
        ended(side);
    }
}

static void on_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
    struct side *side = of_stream(stream);
    assert_int_equal(n, 1);
    copy_text(side->trailer, sizeof(side->trailer), fields[0].value);
    ended(side);
}

static void on_end(struct http_stream *stream) {
    ended(of_stream(stream));
}

static void on_writable(struct http_stream *stream) {
    send_more(of_stream(stream));
}

static void on_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    (void)detail;
    struct side *side = of_stream(stream);
    assert_false(side->is_reset);
    side->is_reset = true;
    side->reset = reset;
}

static const struct http_stream_events side_events = {
    .on_head = on_head,
    .on_informational = on_informational,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

static void side_init(struct side *side, struct bed *bed) {
    buf_fini(&side->body);
    *side = (struct side){.bed = bed};
    buf_init(&side->body, 16 * 1024 * 1024);
    http_stream_init(&side->stream, &side_events, side);
}

// ---- connections -------------------------------------------------------------------------------

static struct http_stream *on_stream(struct http_conn *conn) {
    struct bed *bed = CONTAINER_OF(conn, struct peer, conn)->bed;
    if (bed->refuses) {
        return NULL;
    }
    side_init(&bed->down, bed);
    return &bed->down.stream;
}

static void on_bad_request(struct http_conn *conn, enum http_err err) {
    CONTAINER_OF(conn, struct peer, conn)->bed->bad = err;
}

static void on_draining(struct http_conn *conn) {
    CONTAINER_OF(conn, struct peer, conn)->is_draining = true;
}

static void on_closed(struct http_conn *conn) {
    CONTAINER_OF(conn, struct peer, conn)->is_closed = true;
}

static const struct http_conn_handler server_handler = {.on_stream = on_stream,
                                                        .on_bad_request = on_bad_request,
                                                        .on_draining = on_draining,
                                                        .on_closed = on_closed};
static const struct http_conn_handler client_handler = {.on_draining = on_draining,
                                                        .on_closed = on_closed};

static void pair(int fds[2]) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&sa, sizeof(sa)), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
    int size = 64 * 1024; // the kernel would hold a whole body else
    for (int i = 0; i < 2; i++) {
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
    }
}

static void turns(struct bed *bed, const bool *flag) {
    for (int i = 0; i < 20000 && !*flag; i++) {
        loop_turn(&bed->loop, false);
        usleep(i > 1000 ? 1000 : 0); // closing waits for time
    }
    assert_true(*flag);
}

static void some_turns(struct bed *bed) {
    for (int i = 0; i < 300; i++) {
        loop_turn(&bed->loop, false);
        usleep(100);
    }
}

static void bed_open(struct bed *bed, enum http_conn_version version) {
    char error[URING_ERROR_MAX];
    int fds[2];
    struct uring_options options = {.entries = 64, .n_buffers = 64};
    *bed = (struct bed){0};
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&options, &bed->pool, error, &bed->io), 0);
    loop_init(&bed->loop, bed->io, &bed->pool, bed);
    pair(fds);
    bed->client.bed = bed->server.bed = bed;
    http_conn_config_init(&bed->client_config, false);
    http_conn_config_init(&bed->server_config, true);
    link_end_init(&bed->client.end, &bed->loop, fds[0]);
    link_end_init(&bed->server.end, &bed->loop, fds[1]);
    http_conn_init(&bed->server.conn, &bed->loop, &bed->server.end.duplex, true, HTTP_CONN_AUTO,
                   &bed->server_config, &server_handler);
    http_conn_init(&bed->client.conn, &bed->loop, &bed->client.end.duplex, false, version,
                   &bed->client_config, &client_handler);
}

static void bed_close(struct bed *bed) {
    if (!bed->client.is_closed) {
        http_conn_drain(&bed->client.conn);
        turns(bed, &bed->client.is_closed);
    }
    turns(bed, &bed->server.is_closed);
    buf_fini(&bed->up.body);
    buf_fini(&bed->down.body);
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    blk_pool_fini(&bed->pool);
}

static void request(struct bed *bed, const char *method, const char *path, size_t len) {
    struct http_field fields[] = {{.name = SLICE_LIT("x-test"), .value = SLICE_LIT("1")}};
    struct http_head head = {.method = slice_str(method),
                             .scheme = SLICE_LIT("http"),
                             .authority = SLICE_LIT("example.test:80"),
                             .path = slice_str(path),
                             .fields = fields,
                             .n_fields = 1};
    side_init(&bed->up, bed);
    assert_true(http_conn_can_open(&bed->client.conn));
    http_conn_open(&bed->client.conn, &bed->up.stream);
    http_stream_send_head(&bed->up.stream, &head, len == 0);
    bed->up.to_send = len;
    send_more(&bed->up);
}

// ---- cases -------------------------------------------------------------------------------------

static const enum http_conn_version versions[] = {HTTP_CONN_1, HTTP_CONN_2};
#define EACH_VERSION(i) for (size_t i = 0; i < ARRAY_LEN(versions); i++)

static void test_get(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        for (int n = 0; n < 3; n++) {
            bed.answer_len = (size_t)n * 1000;
            request(&bed, "GET", "/a?b=c", 0);
            turns(&bed, &bed.up.got_end);
            assert_string_equal(bed.down.method, "GET");
            assert_string_equal(bed.down.path, "/a?b=c");
            assert_int_equal(bed.up.status, 200);
            assert_int_equal(bed.up.body.len, n * 1000);
            assert_null(bed.up.stream.conn);
            assert_null(bed.down.stream.conn);
        }
        assert_int_equal(bed.client.conn.n_streams, 0);
        assert_int_equal(bed.client.conn.n_streams_total, 3);
        bed_close(&bed);
    }
}

static void test_big_bodies(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = BIG;
        request(&bed, "POST", "/", BIG);
        turns(&bed, &bed.up.got_end);
        assert_int_equal(bed.down.body.len, BIG);
        assert_int_equal(bed.up.body.len, BIG);
        bed_close(&bed);
    }
}

// Without credit no more than a window comes; with it the rest.
static void test_backpressure(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = BIG;
        request(&bed, "GET", "/", 0);
        bed.up.holds = true;
        some_turns(&bed);
        size_t len = bed.up.body.len;
        assert_true(len >= HTTP_STREAM_WINDOW / 2 && len <= HTTP_STREAM_WINDOW * 2);
        some_turns(&bed);
        assert_int_equal(bed.up.body.len, len);
        assert_true(bed.down.to_send > 0); // the sender was held back too
        bed.up.holds = false;
        http_stream_consumed(&bed.up.stream, bed.up.held);
        turns(&bed, &bed.up.got_end);
        assert_int_equal(bed.up.body.len, BIG);
        bed_close(&bed);
    }
}

static void test_trailers(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        struct http_field trailer = {.name = SLICE_LIT("x-sum"), .value = SLICE_LIT("42")};
        bed_open(&bed, versions[i]);
        request(&bed, "POST", "/", 100000);
        some_turns(&bed);
        struct chain none;
        chain_init(&none, &bed.pool);
        assert_true(bed.down.got_end);
        side_init(&bed.up, &bed);
        struct http_head head = {.method = SLICE_LIT("POST"),
                                 .scheme = SLICE_LIT("http"),
                                 .authority = SLICE_LIT("x"),
                                 .path = SLICE_LIT("/")};
        http_conn_open(&bed.client.conn, &bed.up.stream);
        http_stream_send_head(&bed.up.stream, &head, false);
        http_stream_send_trailers(&bed.up.stream, &trailer, 1);
        turns(&bed, &bed.up.got_end);
        assert_string_equal(bed.down.trailer, "42");
        bed_close(&bed);
    }
}

static void test_upgrade(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        some_turns(&bed); // HTTP/2: SETTINGS allow extended CONNECT
        struct http_head head = {.method = SLICE_LIT("GET"),
                                 .scheme = SLICE_LIT("http"),
                                 .authority = SLICE_LIT("x"),
                                 .path = SLICE_LIT("/chat"),
                                 .protocol = SLICE_LIT("websocket")};
        bed.answer_len = 5;
        side_init(&bed.up, &bed);
        http_conn_open(&bed.client.conn, &bed.up.stream);
        http_stream_send_head(&bed.up.stream, &head, false);
        some_turns(&bed);
        assert_string_equal(bed.down.protocol, "websocket");
        assert_string_equal(bed.down.method, "GET");
        assert_int_equal(bed.up.status, 101);
        assert_int_equal(bed.up.body.len, 5);
        bed.up.to_send = 7;
        send_more(&bed.up);
        turns(&bed, &bed.down.got_end);
        assert_int_equal(bed.down.body.len, 7);
        bed_close(&bed);
    }
}

// A response that is cut never looks complete.
static void test_cut_answer(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = 1000;
        bed.cuts_answer = true;
        request(&bed, "GET", "/", 0);
        turns(&bed, &bed.up.is_reset);
        assert_false(bed.up.got_end);
        if (versions[i] == HTTP_CONN_1) {
            assert_int_equal(bed.up.reset, HTTP_RESET_TERMINATION);
        } else {
            assert_int_equal(bed.up.reset, HTTP_RESET_REMOTE);
        }
        bed_close(&bed);
    }
}

// The client lets go: the server's stream hears of it.
static void test_client_releases(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = BIG;
        request(&bed, "GET", "/", 0);
        bed.up.holds = true;
        some_turns(&bed);
        http_stream_release(&bed.up.stream, H2_CANCEL);
        turns(&bed, &bed.down.is_reset);
        bed_close(&bed);
    }
}

// An owner that lets go of its stream as soon as it has all leaves the connection as it is.
static void test_release_at_the_end(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = 1000;
        for (int n = 0; n < 2; n++) {
            request(&bed, "GET", "/", 0);
            bed.up.releases_at_end = true;
            turns(&bed, &bed.up.got_end);
            some_turns(&bed);
            assert_false(bed.client.is_closed);
            assert_true(http_conn_can_open(&bed.client.conn));
        }
        bed_close(&bed);
    }
}

static void test_refused(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.refuses = true;
        request(&bed, "GET", "/", 0);
        turns(&bed, &bed.up.is_reset);
        assert_int_equal(bed.up.reset,
                         versions[i] == HTTP_CONN_2 ? HTTP_RESET_REFUSED : HTTP_RESET_TERMINATION);
        bed_close(&bed);
    }
}

// Draining: what runs is answered, then the connection ends in order.
static void test_server_drains(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = 100;
        bed.answers_early = true;
        request(&bed, "POST", "/", BIG);
        http_conn_drain(&bed.server.conn);
        turns(&bed, &bed.up.got_end);
        assert_int_equal(bed.up.body.len, 100);
        turns(&bed, &bed.client.is_draining);
        http_stream_release(&bed.up.stream, H2_CANCEL);
        bed_close(&bed);
    }
}

// An answer before the end of its request, whose owner has let go of it: all of it arrives, however
// long the client takes to read it.
static void test_early_answer(void **state) {
    (void)state;
    enum { ANSWER = 200000 };
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = ANSWER;
        bed.answers_early = bed.releases_answer = true;
        request(&bed, "POST", "/", 30000);
        bed.up.holds = true;
        some_turns(&bed);
        bed.up.holds = false;
        if (bed.up.stream.conn != NULL) {
            http_stream_consumed(&bed.up.stream, bed.up.held);
        }
        turns(&bed, &bed.up.got_end);
        assert_int_equal(bed.up.body.len, ANSWER);
        assert_false(bed.up.is_reset);
        http_stream_release(&bed.up.stream, H2_CANCEL);
        bed_close(&bed);
    }
}

static void test_idle_drain(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        request(&bed, "GET", "/", 0);
        turns(&bed, &bed.up.got_end);
        http_conn_drain(&bed.server.conn);
        turns(&bed, &bed.client.is_closed);
        bed_close(&bed);
    }
}

// A request that crosses with the drain of an idle connection is answered, and is the last one.
static void test_crossed_drain(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        request(&bed, "POST", "/", 0);
        turns(&bed, &bed.up.got_end);
        http_stream_release(&bed.up.stream, H2_CANCEL);
        http_conn_drain(&bed.server.conn);
        some_turns(&bed);
        if (versions[i] == HTTP_CONN_1) {
            assert_false(bed.client.is_closed); // it has not heard of it
            request(&bed, "POST", "/", 0);
            turns(&bed, &bed.up.got_end);
            assert_false(bed.up.is_reset);
            http_stream_release(&bed.up.stream, H2_CANCEL);
        }
        turns(&bed, &bed.client.is_draining);
        turns(&bed, &bed.client.is_closed);
        bed_close(&bed);
    }
}

static void test_abort(void **state) {
    (void)state;
    EACH_VERSION(i) {
        struct bed bed;
        bed_open(&bed, versions[i]);
        bed.answer_len = BIG;
        request(&bed, "GET", "/", 0);
        bed.up.holds = true;
        some_turns(&bed);
        http_conn_abort(&bed.server.conn, HTTP_RESET_TERMINATION);
        assert_true(bed.down.is_reset);
        turns(&bed, &bed.up.is_reset);
        bed_close(&bed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_big_bodies),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_cut_answer),
        cmocka_unit_test(test_client_releases),
        cmocka_unit_test(test_release_at_the_end),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_server_drains),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_idle_drain),
        cmocka_unit_test(test_crossed_drain),
        cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
