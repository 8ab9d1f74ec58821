// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl explain --request` with a waypoint that can be asked what is live, and with one that
// cannot. The mesh is that of data/explain_http.yaml.
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/addr.h"
#include "ctl/cmd.h"
#include "ctl/local_json.h"
#include "tests/unit/ctl/ctl_run.h"

#define MESH ZTUN_SOURCE_DIR "/tests/unit/ctl/data/explain_http.yaml"

struct waypoint { // an admin port that answers once
    int fd;
    char admin[ADDR_TEXT_MAX];
    const char *answer;
    char request[512];
    pthread_t thread;
};

static void *serve(void *arg) {
    struct waypoint *waypoint = arg;
    int fd = accept(waypoint->fd, NULL, NULL);
    if (fd < 0) {
        return NULL; // nobody asked
    }
    size_t len = 0;
    while (strstr(waypoint->request, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, waypoint->request + len, sizeof(waypoint->request) - 1 - len, 0);
        if (n <= 0) {
            break;
        }
        len += (size_t)n;
    }
    (void)!send(fd, waypoint->answer, strlen(waypoint->answer), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static void start(struct waypoint *waypoint, const char *answer) {
    struct addr any = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}}, addr;
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&any, false, &sa);
    *waypoint = (struct waypoint){.answer = answer};
    waypoint->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(waypoint->fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(waypoint->fd, 1), 0);
    len = sizeof(sa);
    assert_int_equal(getsockname(waypoint->fd, (struct sockaddr *)&sa, &len), 0);
    assert_true(addr_from_sockaddr((struct sockaddr *)&sa, &addr));
    (void)addr_text(&addr, waypoint->admin);
    assert_int_equal(pthread_create(&waypoint->thread, NULL, serve, waypoint), 0);
}

static void stop(struct waypoint *waypoint) {
    (void)shutdown(waypoint->fd, SHUT_RDWR);
    pthread_join(waypoint->thread, NULL);
    close(waypoint->fd);
}

#define DUMP(used, subset, endpoint)                                                               \
    "HTTP/1.1 200 OK\r\n\r\n{\"l7\": {\"clusters\": [{\"service\": \"m/other\", \"port\": 80, "    \
    "\"subset\": \"" subset "\", \"used\": true, \"endpoints\": [{\"address\": "                   \
    "\"10.0.2.2:8080\", \"ejected\": true}]}, {\"service\": \"m/web.m.svc.cluster.local\", "       \
    "\"port\": 80, \"subset\": \"" subset "\", \"used\": " used ", \"endpoints\": [" endpoint "]}" \
    "]}}"

// What the waypoint says, and what explain makes of it.
static void test_answers(void **state) {
    static const struct {
        const char *answer, *source, *reason;
        const char *live; // JSON of the host, NULL: none
        bool is_chosen;
    } cases[] = {
        {DUMP("true", "v2",
              "{\"address\": \"10.0.2.2:8080\", \"ejected\": false, \"activeRequests\": 3, "
              "\"connections\": 2, \"ageMs\": 9000}"),
         "live", NULL, "{\"activeRequests\":3,\"connections\":2,\"ejected\":false}", true},
        {DUMP("true", "v2",
              "{\"address\": \"10.0.2.2:8080\", \"ejected\": true, \"ejectedForMs\": 4000, "
              "\"activeRequests\": 0, \"connections\": 0, \"ageMs\": 9000}"),
         "live", NULL,
         "{\"activeRequests\":0,\"connections\":0,\"ejected\":true,\"ejectedForMs\":4000}", false},
        {DUMP("true", "v2", "{\"address\": \"10.0.9.9:8080\", \"ejected\": true}"), "live", NULL,
         NULL, true}, // of another host
        {DUMP("false", "v2", "{\"address\": \"10.0.2.2:8080\", \"ejected\": true}"), "live", NULL,
         NULL, true}, // the cluster is not in use
        {DUMP("true", "v1", "{\"address\": \"10.0.2.2:8080\", \"ejected\": true}"), "live", NULL,
         NULL, true}, // of another subset
        {"HTTP/1.1 404 Not Found\r\n\r\n", "configuration", "status 404 from /l7_dump", NULL, true},
        {"HTTP/1.1 200 OK\r\n\r\n{\"config\": 1}", "configuration", "its /l7_dump is none", NULL,
         true},
        {"HTTP/1.1 200 OK\r\n\r\n{", "configuration", "its /l7_dump is none", NULL, true},
        {"nonsense", "configuration", "", NULL, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct waypoint waypoint;
        char *out, *err;
        start(&waypoint, cases[i].answer);
        const char *args[] = {"--config", MESH,           "--from", "m/client", "--to",
                              "web",      "--request",    "/",      "-H",       "x-user: jason",
                              "--admin",  waypoint.admin, "-o",     "json",     NULL};
        assert_int_equal(ctl_run(cmd_explain, "explain", args, &out, &err), CMD_OK);
        assert_string_equal(err, "");
        stop(&waypoint);
        assert_memory_equal(waypoint.request, "GET /l7_dump HTTP/1.1\r\n", 23);
        json_t *root = json_loads(out, 0, NULL), *http = js_get(root, "http");
        assert_string_equal(js_str(http, "health.source", ""), cases[i].source);
        if (cases[i].reason != NULL) {
            assert_non_null(strstr(js_str(http, "health.reason", ""), cases[i].reason));
            assert_non_null(strstr(js_str(http, "health.reason", ""), waypoint.admin));
        } else {
            assert_string_equal(js_str(http, "health.from", ""), waypoint.admin);
        }
        const json_t *destination = json_array_get(js_get(http, "destinations"), 0);
        const json_t *host = json_array_get(js_get(destination, "endpoints"), 0);
        assert_string_equal(js_str(host, "address", ""), "10.0.2.2:8080");
        char *live = json_dumps(js_get(host, "live"), JSON_COMPACT | JSON_SORT_KEYS);
        if (cases[i].live != NULL) {
            assert_non_null(live);
            assert_string_equal(live, cases[i].live);
        } else {
            assert_null(live);
        }
        free(live);
        if (js_bool(host, "chosen", false) != cases[i].is_chosen) {
            fail_msg("case %zu: %s", i, out);
        }
        assert_int_equal(js_int(destination, "answer.status", 0), cases[i].is_chosen ? 0 : 503);
        json_decref(root);
        free(out);
        free(err);
    }
}

static char *text_of(const char *admin) {
    const char *args[] = {"--config",
                          MESH,
                          "--from",
                          "m/client",
                          "--to",
                          "web",
                          "--request",
                          "/",
                          "-H",
                          "x-user: jason",
                          admin != NULL ? "--admin" : NULL,
                          admin,
                          NULL};
    char *out, *err;
    assert_int_equal(ctl_run(cmd_explain, "explain", args, &out, &err), CMD_OK);
    free(err);
    return out;
}

static void test_text(void **state) {
    struct waypoint waypoint;
    char line[128];
    start(&waypoint, DUMP("true", "v2",
                          "{\"address\": \"10.0.2.2:8080\", \"ejected\": true, \"ejectedForMs\": "
                          "4000, \"activeRequests\": 1, \"connections\": 2, \"ageMs\": 9000}"));
    char *out = text_of(waypoint.admin);
    stop(&waypoint);
    snprintf(line, sizeof(line), "health       live: what waypoint %s knows now\n", waypoint.admin);
    assert_non_null(strstr(out, line));
    assert_non_null(strstr(out, "- m/web-2 10.0.2.2:8080 on n2 (r/z2) weight 1, level 0, ejected "
                                "for 4s, 1 active requests, 2 connections\n"));
    assert_non_null(strstr(out, "answered: 503 UH"));
    free(out);
    // The port is nobody's now; and nobody was named.
    out = text_of(waypoint.admin);
    snprintf(line, sizeof(line), "health       from configuration only: %s: ", waypoint.admin);
    assert_non_null(strstr(out, line));
    assert_non_null(strstr(out, "* m/web-2 10.0.2.2:8080 on n2 (r/z2) weight 1, level 0\n"));
    free(out);
    out = text_of(NULL);
    assert_non_null(strstr(out, "health       from configuration only: no waypoint was named "
                                "(--netns, --admin)\n"));
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
