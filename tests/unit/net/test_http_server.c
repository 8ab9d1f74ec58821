// SPDX-License-Identifier: Apache-2.0
// The operator's HTTP server over io_uring and loopback, and gzip.
#include "common/net/http_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/clock.h"
#include "common/net/http_gzip.h"
#include "common/rt/uring.h"
#include "tests/unit/base/unit.h"

enum {
    BIG = 24 * 1024 * 1024 + 17, // more than sockets hold
    PIECE = 100000,
    PIECES = 400, // more than sockets hold, too
};

struct bed {
    struct blk_pool pool;
    struct io *io;
    struct loop loop;
    struct http_server server;
    struct addr addr;
    struct http_exchange *held; // a request that is answered later
    int n_requests;
    int n_made, n_bodies; // pieces of all bodies; bodies that are alive
    bool is_closed;
};

struct pieces {
    struct http_body body;
    struct bed *bed;
    int n, max;
    size_t size; // of each
    bool is_broken;
};

// Every third one is empty: it is still at work.
static bool next_piece(struct http_body *body, struct buf *out) {
    struct pieces *pieces = CONTAINER_OF(body, struct pieces, body);
    pieces->bed->n_made++;
    pieces->n++;
    if (pieces->is_broken && pieces->n == 3) {
        out->is_overflowed = true;
    } else if (pieces->n % 3 != 0) {
        memset(buf_reserve(out, pieces->size), 'a' + pieces->n % 26, pieces->size);
        buf_commit(out, pieces->size);
    }
    return pieces->n < pieces->max;
}

static void free_pieces(struct http_body *body) {
    struct pieces *pieces = CONTAINER_OF(body, struct pieces, body);
    pieces->bed->n_bodies--;
    free(pieces);
}

static void reply_pieces(struct bed *bed, struct http_exchange *exchange, int max, size_t size,
                         bool is_broken) {
    struct pieces *pieces = xcalloc(1, sizeof(*pieces));
    *pieces = (struct pieces){.body = {next_piece, free_pieces},
                              .bed = bed,
                              .max = max,
                              .size = size,
                              .is_broken = is_broken};
    bed->n_bodies++;
    http_reply_stream(exchange, 200, "text/plain", NULL, &pieces->body);
}

static void handle(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    struct bed *bed = arg;
    bed->n_requests++;
    if (slice_eq_str(query->path, "/later")) {
        bed->held = exchange;
    } else if (slice_eq_str(query->path, "/big")) {
        struct buf body;
        buf_init(&body, BIG);
        memset(buf_reserve(&body, BIG), 'x', BIG);
        buf_commit(&body, BIG);
        http_reply_buf(exchange, 200, "text/plain", "gzip", &body);
        assert_int_equal(body.len, 0);
        buf_fini(&body);
    } else if (slice_eq_str(query->path, "/pieces")) {
        reply_pieces(bed, exchange, 4, 2, false);
    } else if (slice_eq_str(query->path, "/broken")) {
        reply_pieces(bed, exchange, 4, 2, true);
    } else if (slice_eq_str(query->path, "/long")) {
        reply_pieces(bed, exchange, PIECES, PIECE, false);
    } else if (slice_eq_str(query->path, "/echo")) {
        struct buf text;
        buf_init(&text, 65536);
        buf_printf(&text, "%.*s %.*s accept=%.*s", SLICE_ARG(query->method),
                   SLICE_ARG(query->query), SLICE_ARG(query->accept));
        http_reply(exchange, 200, "text/plain", buf_slice(&text));
        buf_fini(&text);
    } else {
        http_reply(exchange, 404, "text/plain", SLICE_LIT("none"));
    }
}

static int setup(void **state) {
    struct bed *bed = xcalloc(1, sizeof(*bed));
    char error[URING_ERROR_MAX];
    struct addr any = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&(struct uring_options){0}, &bed->pool, error, &bed->io), 0);
    loop_init(&bed->loop, bed->io, &bed->pool, NULL);
    assert_int_equal(http_server_open(&bed->server, &bed->loop, &any, handle, bed), 0);
    assert_int_equal(getsockname(bed->server.listener.fd, (struct sockaddr *)&sa, &len), 0);
    assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &bed->addr));
    *state = bed;
    return 0;
}

static void on_closed(void *arg) {
    ((struct bed *)arg)->is_closed = true;
}

static void turns(struct bed *bed, int n) {
    for (int i = 0; i < n; i++) {
        loop_turn(&bed->loop, false);
        usleep(200);
    }
}

static int teardown(void **state) {
    struct bed *bed = *state;
    http_server_close(&bed->server, on_closed);
    for (int i = 0; i < 2000 && !bed->is_closed; i++) {
        turns(bed, 1);
    }
    assert_true(bed->is_closed);
    assert_int_equal(bed->server.n_conns, 0);
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    blk_pool_fini(&bed->pool);
    free(bed);
    return 0;
}

static int dial(const struct bed *bed) {
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&bed->addr, false, &sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
    return fd;
}

// Reads until the peer closes or nothing has come for a while; a text, the caller's.
static char *read_answer(struct bed *bed, int fd, size_t *ret_len) {
    struct buf in;
    int idle = 0;
    buf_init(&in, SIZE_MAX);
    while (idle < 60) {
        uint8_t *at = buf_reserve(&in, 65536);
        ssize_t n = recv(fd, at, 65536, MSG_DONTWAIT);
        if (n > 0) {
            buf_commit(&in, (size_t)n);
            idle = 0;
            loop_turn(&bed->loop, false);
            continue;
        }
        if (n == 0) {
            break;
        }
        idle++;
        turns(bed, 1);
    }
    return buf_take(&in, ret_len);
}

static char *ask(struct bed *bed, const char *request) {
    int fd = dial(bed);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    char *answer = read_answer(bed, fd, NULL);
    close(fd);
    turns(bed, 5);
    return answer;
}

// ---- requests ----------------------------------------------------------------------------------

static const struct {
    const char *request;
    const char *start, *contains; // of the answer; NULL = anything
} cases[] = {
    {"GET /echo?a=b HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\nGET a=b accept="},
    {"POST /echo HTTP/1.1\r\nAccept: text/x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\n",
     "POST  accept=text/x"},
    {"GET /none HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "none"},
    {"GET /echo HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n"},
    {"GET /echo HTTP/1.1\r\nConnection: CLOSE\r\n\r\n", "HTTP/1.1 200 OK\r\n",
     "Connection: close\r\n"},
    {"GET /pieces HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
     "Transfer-Encoding: chunked\r\n\r\n2\r\nbb\r\n2\r\ncc\r\n2\r\nee\r\n0\r\n\r\n"},
    {"GET /pieces HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n\r\nbbccee"},
    {"HEAD /pieces HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n",
     "chunked\r\nConnection: close\r\n\r\n"},
    {"GET echo HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"GET /echo HTTP/3\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"GET /echo HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"GET /echo HTTP/1.1\nHost: x\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"POST /echo HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "HTTP/1.1 400 ", NULL},
    {"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 ", NULL},
};

static void check_answer(const char *answer, size_t i) {
    if (strncmp(answer, cases[i].start, strlen(cases[i].start)) != 0 ||
        (cases[i].contains != NULL && strstr(answer, cases[i].contains) == NULL)) {
        fail_msg("case %zu: %s", i, answer);
    }
}

static void test_requests(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *answer = ask(*state, cases[i].request);
        check_answer(answer, i);
        free(answer);
    }
}

static void test_byte_by_byte(void **state) {
    struct bed *bed = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int fd = dial(bed);
        for (const char *at = cases[i].request; *at != '\0'; at++) {
            if (send(fd, at, 1, MSG_NOSIGNAL) < 0) {
                assert_true(errno == EPIPE || errno == ECONNRESET); // refused already
                break;
            }
            turns(bed, 1);
        }
        char *answer = read_answer(bed, fd, NULL);
        if (answer[0] != '\0') { // else: closed with unread input, the kernel dropped it
            check_answer(answer, i);
        }
        free(answer);
        close(fd);
    }
    turns(bed, 5);
}

static void test_pieces(void **state) {
    struct bed *bed = *state;
    // The next request is answered behind the last piece.
    char *answer = ask(bed, "GET /pieces HTTP/1.1\r\n\r\n"
                            "GET /pieces HTTP/1.1\r\nConnection: close\r\n\r\n"
                            "GET /echo HTTP/1.1\r\n\r\n");
    const char *first = strstr(answer, "0\r\n\r\nHTTP/1.1 200 OK\r\n");
    assert_non_null(first);
    assert_non_null(strstr(first + 5, "ee\r\n0\r\n\r\n"));
    assert_null(strstr(answer, "GET"));
    free(answer);
    // What goes wrong in the middle is not whole for the client.
    answer = ask(bed, "GET /broken HTTP/1.1\r\n\r\n");
    assert_null(strstr(answer, "0\r\n\r\n"));
    free(answer);
    assert_int_equal(bed->n_bodies, 0);
}

static void test_pieces_at_the_clients_pace(void **state) {
    struct bed *bed = *state;
    static const char request[] = "GET /long HTTP/1.1\r\nConnection: close\r\n\r\n";
    int fd = dial(bed);
    bed->n_made = 0;
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    for (int last = -1; last != bed->n_made;) { // nobody reads: it stops by itself
        last = bed->n_made;
        turns(bed, 100);
    }
    assert_in_range(bed->n_made, 1, PIECES - 1);
    size_t len = 0;
    char *answer = read_answer(bed, fd, &len);
    assert_int_equal(bed->n_made, PIECES);
    assert_int_equal(bed->n_bodies, 0);
    size_t n_full = PIECES - PIECES / 3;
    char *body = strstr(answer, "\r\n\r\n") + 4;
    assert_int_equal(len - (size_t)(body - answer), n_full * (PIECE + strlen("186a0\r\n\r\n")) + 5);
    free(answer);
    close(fd);
    // A client that leaves: the body goes with it.
    fd = dial(bed);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    turns(bed, 30);
    assert_int_equal(bed->n_bodies, 1);
    struct linger hard = {.l_onoff = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(fd);
    turns(bed, 50);
    assert_int_equal(bed->n_bodies, 0);
}

static void test_pipeline(void **state) {
    char *answer = ask(*state, "GET /echo?1 HTTP/1.1\r\n\r\n"
                               "POST /echo?2 HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345"
                               "HEAD /echo?3 HTTP/1.1\r\n\r\n"
                               "GET /echo?4 HTTP/1.1\r\nConnection: close\r\n\r\n"
                               "GET /echo?5 HTTP/1.1\r\n\r\n");
    const char *at = answer;
    assert_non_null(at = strstr(at, "GET 1 "));
    assert_non_null(at = strstr(at, "POST 2 "));
    assert_null(strstr(at, "HEAD 3 ")); // no body, but its length
    assert_non_null(at = strstr(at, "Content-Length: 14\r\n"));
    assert_non_null(at = strstr(at, "GET 4 "));
    assert_null(strstr(at, "GET 5 "));
    free(answer);
}

static void test_head_too_large(void **state) {
    struct buf request;
    buf_init(&request, 65536);
    buf_append_str(&request, "GET /echo HTTP/1.1\r\nX: ");
    for (int i = 0; i < HTTP_SERVER_HEAD_MAX; i++) {
        buf_append_byte(&request, 'x');
    }
    buf_append_str(&request, "\r\n\r\nGET /echo HTTP/1.1\r\n\r\n");
    char *answer = ask(*state, buf_cstr(&request));
    if (answer[0] != '\0') { // closed with unread input: the kernel may drop the answer
        assert_memory_equal(answer, "HTTP/1.1 431 ", 13);
        assert_null(strstr(answer, "HTTP/1.1 200"));
    }
    assert_int_equal(((struct bed *)*state)->n_requests, 0);
    free(answer);
    buf_fini(&request);
}

// ---- answers -----------------------------------------------------------------------------------

static void test_big_answer(void **state) {
    struct bed *bed = *state;
    int fd = dial(bed);
    const char *request = "GET /big HTTP/1.1\r\n\r\nGET /echo?after HTTP/1.1\r\n\r\n";
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    turns(bed, 50); // nobody reads: no more than the limit is queued
    struct list *node = bed->server.conns.next;
    assert_ptr_not_equal(node, &bed->server.conns);
    assert_int_equal(bed->n_requests, 1);
    size_t len;
    char *answer = read_answer(bed, fd, &len);
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_non_null(strstr(answer, "Content-Encoding: gzip\r\n"));
    body += 4;
    for (size_t i = 0; i < BIG; i++) {
        assert_int_equal(body[i], 'x');
    }
    assert_non_null(strstr(body + BIG, "GET after "));
    assert_int_equal(bed->n_requests, 2);
    free(answer);
    close(fd);
    turns(bed, 5);
}

static void test_client_leaves(void **state) {
    struct bed *bed = *state;
    int fd = dial(bed);
    const char *request = "GET /big HTTP/1.1\r\n\r\n";
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    turns(bed, 10);
    close(fd); // in the middle of the answer
    turns(bed, 20);
    assert_int_equal(bed->server.n_conns, 0);

    fd = dial(bed);
    request = "GET /later HTTP/1.1\r\n\r\n";
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    turns(bed, 10);
    assert_non_null(bed->held);
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd); // before it
    turns(bed, 20);
    assert_int_equal(bed->server.n_conns, 1); // the exchange waits for its answer
    http_reply(bed->held, 200, "text/plain", SLICE_LIT("late"));
    turns(bed, 5);
    assert_int_equal(bed->server.n_conns, 0);
}

static void test_later(void **state) {
    struct bed *bed = *state;
    int fd = dial(bed);
    const char *request = "GET /later HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    turns(bed, 10);
    assert_non_null(bed->held);
    http_reply(bed->held, 500, "text/plain", SLICE_LIT("sorry"));
    char *answer = read_answer(bed, fd, NULL);
    assert_memory_equal(answer, "HTTP/1.1 500 ", 13);
    assert_non_null(strstr(answer, "\r\n\r\nsorry"));
    free(answer);
    close(fd);
    turns(bed, 5);
}

static void test_connection_cap(void **state) {
    struct bed *bed = *state;
    int fds[HTTP_SERVER_CONNS_MAX + 4];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial(bed);
        turns(bed, 2);
    }
    turns(bed, 10);
    assert_int_equal(bed->server.n_conns, HTTP_SERVER_CONNS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    turns(bed, 40);
    assert_int_equal(bed->server.n_conns, 0);
}

// ---- helpers -----------------------------------------------------------------------------------

static void test_query(void **state) {
    static const struct {
        const char *query, *key, *value; // NULL: not there
    } rows[] = {
        {"level=info,a=debug", "level", "info,a=debug"},
        {"reset", "reset", ""},
        {"a=1&b=2&c", "b", "2"},
        {"a=1&b=2&c", "c", ""},
        {"aa=1", "a", NULL},
        {"", "a", NULL},
        {"a=", "a", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice value;
        bool is_there = http_query_get(slice_str(rows[i].query), rows[i].key, &value);
        assert_int_equal(is_there, rows[i].value != NULL);
        if (is_there) {
            assert_slice_equal(value, rows[i].value);
        }
    }
}

static void test_accepts_gzip(void **state) {
    static const struct {
        const char *header;
        bool accepts;
    } rows[] = {
        {"", false},
        {"gzip", true},
        {"br, GZIP;q=0.5", true},
        {"gzip;q=0", false},
        {"gzip; q=0.000", false},
        {"*", true},
        {"*;q=0", false},
        {"*, gzip;q=0", false},
        {"identity", false},
        {"xgzip, deflate", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(http_accepts_gzip(slice_str(rows[i].header)), rows[i].accepts);
    }
}

static void check_gzip(size_t len) {
    uint8_t *in = xmalloc(len + 1), *back = xmalloc(len + 1);
    struct buf out;
    for (size_t i = 0; i < len; i++) {
        in[i] = (uint8_t)(i * i >> 7);
    }
    buf_init(&out, SIZE_MAX);
    assert_true(http_gzip(slice_make(in, len), &out));
    z_stream stream = {.next_in = out.ptr, .avail_in = (uInt)out.len};
    stream.next_out = back;
    stream.avail_out = (uInt)len + 1;
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(stream.total_out, len);
    inflateEnd(&stream);
    assert_memory_equal(in, back, len);
    buf_fini(&out);
    free(in);
    free(back);
}

static void test_gzip(void **state) {
    check_gzip(0);
    check_gzip(1);
    check_gzip(100000);
    check_gzip(3000000);
    struct buf small;
    buf_init(&small, 100);
    assert_false(http_gzip(SLICE_LIT("does not fit"), &small));
    buf_fini(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces_at_the_clients_pace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_head_too_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_cap, setup, teardown),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_accepts_gzip),
        cmocka_unit_test(test_gzip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
