// SPDX-License-Identifier: Apache-2.0
//
// The blocking HTTP client against answers that are whole, cut, or none.
#include "ctl/http_get.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/base/unit.h"

struct peer {
    int fd;
    struct addr addr;
    const char *answer;
    char request[1024];
    pthread_t thread;
};

// Takes one connection, reads the request head, answers in small pieces, closes.
static void *serve(void *arg) {
    struct peer *peer = arg;
    int fd = accept(peer->fd, NULL, NULL);
    size_t len = 0;
    while (strstr(peer->request, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, peer->request + len, sizeof(peer->request) - 1 - len, 0);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    for (const char *at = peer->answer; *at != '\0';) {
        size_t n = strnlen(at, 7);
        if (send(fd, at, n, MSG_NOSIGNAL) < 0) {
            break;
        }
        at += n;
    }
    close(fd);
    return NULL;
}

static void start(struct peer *peer, const char *answer) {
    struct addr any = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&any, false, &sa);
    *peer = (struct peer){.answer = answer};
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(peer->fd, 1), 0);
    len = sizeof(sa);
    assert_int_equal(getsockname(peer->fd, (struct sockaddr *)&sa, &len), 0);
    assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &peer->addr));
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
}

static void stop(struct peer *peer) {
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

static void test_answers(void **state) {
    static const struct {
        const char *answer;
        int status; // -1: refused
        const char *body;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
        {"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, ""},
        {"HTTP/1.1 404 No\r\n\r\nup to the end", 404, "up to the end"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", -1, ""}, // cut
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello", -1, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", -1, ""},
        {"HTTP/1.1 xyz\r\n\r\n", -1, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
         "chunked\r\n\r\n3\r\nhel\r\n00002\r\nlo\r\n0\r\n\r\n",
         200, "hello"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", 200,
         "0123456789"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", -1, ""}, // cut
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", -1, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n0\r\n\r\n", -1, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", -1, ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhel", -1, ""},
        {"SSH-2.0\r\n\r\n", -1, ""},
        {"", -1, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer peer;
        struct buf body;
        char *error = NULL;
        start(&peer, rows[i].answer);
        buf_init(&body, 1000);
        int status = http_get("", &peer.addr, "POST", "/a?b", &body, &error);
        stop(&peer);
        if (status != rows[i].status) {
            fail_msg("row %zu: %d %s", i, status, error);
        }
        assert_slice_equal(buf_slice(&body), rows[i].body);
        assert_int_equal(error != NULL, status < 0);
        assert_memory_equal(peer.request, "POST /a?b HTTP/1.1\r\n", 20);
        free(error);
        buf_fini(&body);
    }
}

static void test_too_large(void **state) {
    struct peer peer;
    struct buf body;
    char *error = NULL;
    start(&peer, "HTTP/1.1 200 OK\r\n\r\n0123456789");
    buf_init(&body, 9);
    assert_int_equal(http_get("", &peer.addr, "GET", "/", &body, &error), -1);
    assert_non_null(error);
    stop(&peer);
    free(error);
    buf_fini(&body);
}

static void test_nobody(void **state) {
    struct addr addr = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 1};
    struct buf body;
    char *error = NULL;
    buf_init(&body, 10);
    assert_int_equal(http_get("", &addr, "GET", "/", &body, &error), -1);
    assert_string_equal(error, "127.0.0.1:1: Connection refused");
    free(error);
    assert_int_equal(http_get("no-such-netns", &addr, "GET", "/", &body, &error), -1);
    assert_string_equal(error, "127.0.0.1:1 in no-such-netns: No such file or directory");
    free(error);
    buf_fini(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
