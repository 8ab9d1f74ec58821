// SPDX-License-Identifier: Apache-2.0
//
// The HTTP client over plain text, by HTTP/1.1 and by HTTP/2. TLS, files and ALPN are the
// end-to-end tests' (a stand-in for the Kubernetes API).
#include "common/net/http_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/net/http_client_bed.h"

struct user {
    struct http_request request;
    char body[512];
    size_t n_body;
    uint16_t status;
    uint32_t n_opened, n_data, n_writable, n_closed;
    bool had_end; // with the head
    enum { CANCEL_NEVER, CANCEL_OPEN, CANCEL_HEAD, CANCEL_DATA } cancels;
    enum http_client_end end;
    char text[HTTP_CLIENT_TEXT_MAX];
};

static struct user *of(struct http_request *request) {
    return CONTAINER_OF(request, struct user, request);
}

static void on_open(struct http_request *request) {
    of(request)->n_opened++;
    if (of(request)->cancels == CANCEL_OPEN) {
        http_request_cancel(request);
    }
}

static void on_head(struct http_request *request, const struct http_head *head, bool end) {
    of(request)->status = head->status;
    of(request)->had_end = end;
    if (of(request)->cancels == CANCEL_HEAD) {
        http_request_cancel(request);
    }
}

static void on_data(struct http_request *request, struct slice bytes) {
    struct user *user = of(request);
    user->n_data++;
    for (size_t i = 0; i < bytes.len && user->n_body + 1 < sizeof(user->body); i++) {
        user->body[user->n_body++] = (char)bytes.ptr[i];
    }
    if (user->cancels == CANCEL_DATA) {
        http_request_cancel(request);
    }
}

static void on_writable(struct http_request *request) {
    of(request)->n_writable++;
}

static void on_closed(struct http_request *request, enum http_client_end end, const char *text) {
    struct user *user = of(request);
    assert_false(http_request_is_open(request));
    user->n_closed++;
    user->end = end;
    snprintf(user->text, sizeof(user->text), "%s", text);
}

static void user_init(struct user *user) {
    static const struct http_request_events events = {.on_open = on_open,
                                                      .on_head = on_head,
                                                      .on_data = on_data,
                                                      .on_writable = on_writable,
                                                      .on_closed = on_closed};
    memset(user, 0, sizeof(*user));
    http_request_init(&user->request, &events);
}

static void ask(struct user *user, struct http_client *client, const char *method, const char *path,
                const char *body, uint64_t timeout_ms) {
    struct http_field type = {.name = SLICE_LIT("content-type"), .value = SLICE_LIT("text/x")};
    struct http_request_params params = {.method = slice_str(method),
                                         .path = slice_str(path),
                                         .fields = &type,
                                         .n_fields = 1,
                                         .body = slice_str(body),
                                         .timeout_ms = timeout_ms};
    user_init(user);
    http_request_open(&user->request, client, &params);
    assert_int_equal(user->n_opened, 0); // nothing before it returns
}

static struct bed_request *last(struct http_bed *bed) {
    return &bed->requests[bed->n_requests - 1];
}

static bool is_asked(struct http_bed *bed, const char *path) {
    return bed->n_requests > 0 && strcmp(last(bed)->path, path) == 0;
}

static const enum http_client_protocol protocols[] = {HTTP_CLIENT_ANY, HTTP_CLIENT_2};

static void test_requests(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        ask(&user, client, "GET", "/a?b=c", "", 0);
        BED_WAIT(&bed, bed.n_requests == 1 && last(&bed)->is_whole);
        assert_string_equal(last(&bed)->method, "GET");
        assert_string_equal(last(&bed)->path, "/a?b=c");
        assert_string_equal(last(&bed)->type, "text/x");
        assert_string_equal(last(&bed)->length, "");
        assert_string_equal(last(&bed)->token, ""); // there is no TLS
        assert_non_null(strstr(last(&bed)->agent, "ztun/"));
        bed_reply(last(&bed), 200, "one", false); // a body that grows
        BED_WAIT(&bed, user.n_data == 1);
        assert_int_equal(user.status, 200);
        assert_int_equal(user.n_closed, 0);
        bed_reply(last(&bed), 0, " two", true);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.end, HTTP_CLIENT_COMPLETE);
        assert_string_equal(user.text, "");
        assert_string_equal(user.body, "one two");
        ask(&user, client, "PUT", "/put", "a body", 0);
        BED_WAIT(&bed, bed.n_requests == 2 && last(&bed)->is_whole);
        assert_string_equal(last(&bed)->length, "6");
        assert_string_equal(last(&bed)->body, "a body");
        bed_reply(last(&bed), 409, "", true);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.status, 409);
        assert_int_equal(user.end, HTTP_CLIENT_COMPLETE);
        assert_int_equal(bed.n_accepted, 1); // one connection for both
        http_client_free(client);
        http_bed_close(&bed);
    }
}

// HTTP/1.1 has one request at a time: others run beside, up to the limit, and then wait.
static void test_beside(void **state) {
    struct http_bed bed;
    struct user users[4];
    http_bed_open(&bed);
    struct http_client *client = http_bed_client(&bed, HTTP_CLIENT_ANY, 3);
    for (int i = 0; i < 4; i++) {
        ask(&users[i], client, "GET", "/", "", 0);
    }
    BED_WAIT(&bed, bed.n_requests == 3);
    for (int i = 0; i < 50; i++) {
        http_bed_turn(&bed);
    }
    assert_int_equal(bed.n_accepted, 3);
    assert_int_equal(bed.n_requests, 3);
    bed_reply(&bed.requests[1], 200, "x", true);
    BED_WAIT(&bed, bed.n_requests == 4); // in the place of the one that ended
    assert_int_equal(bed.requests[3].conn, bed.requests[1].conn);
    http_client_free(client); // with three of them open
    http_bed_close(&bed);
}

static void test_dead_connection(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        static const struct {
            const char *method, *body;
            bool is_repeated;
        } cases[] = {{"GET", "", true}, {"PUT", "x", false}, {"DELETE", "", false}};
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct http_bed bed;
            struct user user;
            http_bed_open(&bed);
            struct http_client *client = http_bed_client(&bed, protocols[p], 4);
            ask(&user, client, "GET", "/first", "", 0);
            BED_WAIT(&bed, bed.n_requests == 1);
            bed_reply(last(&bed), 200, "", true);
            BED_WAIT(&bed, user.n_closed == 1);
            ask(&user, client, cases[i].method, "/second", cases[i].body, 0);
            BED_WAIT(&bed, bed.n_requests == 2);
            http_bed_cut(&bed); // before a byte of the answer
            if (!cases[i].is_repeated) {
                BED_WAIT(&bed, user.n_closed == 1);
                assert_int_equal(user.end, HTTP_CLIENT_LOST);
                assert_non_null(strstr(user.text, "the connection was lost"));
                assert_true(slice_has_prefix(slice_str(user.text),
                                             slice_str(http_client_target(client))));
            } else {
                BED_WAIT(&bed, bed.n_requests == 3);
                assert_int_equal(bed.n_accepted, 2);
                assert_string_equal(last(&bed)->path, "/second");
                http_bed_cut(&bed); // that was its first request: no dead connection
                BED_WAIT(&bed, user.n_closed == 1);
                assert_int_equal(user.end, HTTP_CLIENT_LOST);
            }
            http_client_free(client);
            http_bed_close(&bed);
        }
    }
}

static void test_lost_within(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        ask(&user, client, "GET", "/", "", 0);
        BED_WAIT(&bed, bed.n_requests == 1);
        bed_reply(last(&bed), 200, "half", false);
        BED_WAIT(&bed, user.n_data == 1);
        http_bed_cut(&bed);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.end, HTTP_CLIENT_LOST);
        assert_string_equal(user.body, "half");
        http_client_free(client);
        http_bed_close(&bed);
    }
}

// A server that says it goes: what runs goes on, what is new has another connection.
static void test_drain(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user, other;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        ask(&user, client, "GET", "/old", "", 0);
        BED_WAIT(&bed, bed.n_requests == 1);
        bed_reply(last(&bed), 200, "a", false);
        BED_WAIT(&bed, user.n_data == 1);
        http_bed_drain(&bed);
        for (int i = 0; i < 50; i++) {
            http_bed_turn(&bed);
        }
        ask(&other, client, "GET", "/new", "", 0);
        BED_WAIT(&bed, bed.n_requests == 2);
        assert_int_not_equal(bed.requests[0].conn, bed.requests[1].conn);
        bed_reply(&bed.requests[1], 200, "b", true);
        bed_reply(&bed.requests[0], 0, "c", true);
        BED_WAIT(&bed, user.n_closed == 1 && other.n_closed == 1);
        assert_string_equal(user.body, "ac");
        assert_int_equal(user.end, HTTP_CLIENT_COMPLETE);
        assert_string_equal(other.body, "b");
        http_client_free(client);
        http_bed_close(&bed);
    }
}

static void test_deadlines(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        ask(&user, client, "GET", "/", "", 50);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.end, HTTP_CLIENT_TIMEOUT);
        assert_non_null(strstr(user.text, "no answer within 50 ms"));
        BED_WAIT(&bed, bed.requests[0].is_gone);
        ask(&user, client, "GET", "/", "", 50);
        BED_WAIT(&bed, bed.n_requests == 2);
        bed_reply(last(&bed), 200, "a", false);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.end, HTTP_CLIENT_TIMEOUT);
        assert_non_null(strstr(user.text, "no end of the answer within 50 ms"));
        http_client_free(client);
        http_bed_close(&bed);
    }
}

static void test_cancel(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        for (int when = CANCEL_OPEN; when <= CANCEL_DATA; when++) {
            char path[8] = {'/', (char)('a' + when)};
            ask(&user, client, "GET", path, "", 0);
            user.cancels = when;
            BED_WAIT(&bed, when == CANCEL_OPEN ? user.n_opened == 1 : is_asked(&bed, path));
            if (when != CANCEL_OPEN) {
                bed_reply(last(&bed), 200, "abc", when == CANCEL_DATA); // also with the end
                BED_WAIT(&bed, !http_request_is_open(&user.request));
            }
            assert_int_equal(user.n_closed, 0);
        }
        ask(&user, client, "GET", "/", "", 0);
        http_request_cancel(&user.request); // before it was sent
        ask(&user, client, "GET", "/after", "", 0);
        BED_WAIT(&bed, is_asked(&bed, "/after"));
        bed_reply(last(&bed), 200, "", true);
        BED_WAIT(&bed, user.n_closed == 1);
        http_client_free(client);
        http_bed_close(&bed);
    }
}

// A body in pieces, more of it than the server takes at once.
static void test_streamed_body(void **state) {
    for (size_t p = 0; p < ARRAY_LEN(protocols); p++) {
        struct http_bed bed;
        struct user user;
        size_t n = 0;
        http_bed_open(&bed);
        struct http_client *client = http_bed_client(&bed, protocols[p], 4);
        struct http_request_params params = {
            .method = SLICE_LIT("POST"), .path = SLICE_LIT("/"), .is_stream = true};
        user_init(&user);
        http_request_open(&user.request, client, &params);
        char *piece = xcalloc(1, 100000);
        while (n < 3000000) {
            if (!http_request_can_send(&user.request)) {
                http_bed_turn(&bed);
                continue;
            }
            http_request_send(&user.request, slice_make(piece, 100000), false);
            n += 100000;
        }
        http_request_send(&user.request, (struct slice){0}, true);
        BED_WAIT(&bed, bed.n_requests == 1 && last(&bed)->is_whole);
        assert_int_equal(last(&bed)->n_body, n);
        bed_reply(last(&bed), 204, "", true);
        BED_WAIT(&bed, user.n_closed == 1);
        assert_int_equal(user.end, HTTP_CLIENT_COMPLETE);
        free(piece);
        http_client_free(client);
        http_bed_close(&bed);
    }
}

// What answers is no HTTP server.
static void test_garbage(void **state) {
    struct http_bed bed;
    struct user user;
    http_bed_open(&bed);
    struct http_client *client = http_bed_client(&bed, HTTP_CLIENT_ANY, 4);
    ask(&user, client, "GET", "/", "", 0);
    BED_WAIT(&bed, bed.n_requests == 1);
    struct http_client_conn *conn = LIST_ITEM(client->conns.next, struct http_client_conn, node);
    struct chain data;
    chain_init(&data, &bed.pool);
    chain_copy(&data, SLICE_LIT("SSH-2.0-none\r\n\r\n"));
    struct seg seg;
    assert_true(chain_pop(&data, &seg));
    conn->link.duplex.events->on_data(&conn->link.duplex, &seg); // as if it had come
    BED_WAIT(&bed, user.n_closed == 1);
    assert_int_equal(user.end, HTTP_CLIENT_PROTOCOL);
    assert_non_null(strstr(user.text, "does not keep to HTTP"));
    http_client_free(client);
    http_bed_close(&bed);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_dead_connection), cmocka_unit_test(test_lost_within),
        cmocka_unit_test(test_drain),           cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_cancel),          cmocka_unit_test(test_streamed_body),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
