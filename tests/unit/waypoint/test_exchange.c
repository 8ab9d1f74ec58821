// SPDX-License-Identifier: Apache-2.0
//
// Requests on their way: tries, time limits, copies. What is decided alone is tested in
// tests/unit/l7; here it meets connections.
#include "tests/unit/waypoint/waypoint_talk.h"

#include <stdio.h>

// A VirtualService of one route; `more`: its fields beside the destination. Its answers say the
// response flags.
static const char *route(const char *more) {
    static char text[1024];
    snprintf(text, sizeof(text),
             "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
             "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
             "  - route: [{destination: {host: web}, headers: {response: {set: {x-flags: "
             "'%%RESPONSE_FLAGS%%'}}}}]\n    headers: {response: {set: {x-flags: "
             "'%%RESPONSE_FLAGS%%'}}}\n%s%s%s",
             more[0] != '\0' ? "    " : "", more, more[0] != '\0' ? "\n" : "");
    return text;
}

static void test_pass(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false, "");
    struct talk_client *client = talk_client(&talk, 0);
    talk_get(client, "/");
    assert_int_equal(talk_wait(client, 1), 200);
    assert_string_equal(client->body, "host 0");
    talk_get(client, "/again");
    assert_int_equal(talk_wait(client, 2), 200);
    assert_int_equal(talk.hosts[0].n_opened, 1); // the same connection
    assert_int_equal(talk.hosts[0].n_requests, 2);
    talk_close(&talk);
}

// What the endpoint does, what the route retries: how often it is tried, and what the client gets.
static void test_retries(void **state) {
    static const struct {
        const char *retries;
        enum talk_act act;
        uint32_t n_tries;
        uint16_t status;
    } cases[] = {
        {"", TALK_503, 1, 503},
        {"", TALK_RESET, 1, 503},
        {"retries: {attempts: 0}", TALK_503, 1, 503},
        {"retries: {attempts: 2, retryOn: 5xx}", TALK_503, 3, 503},
        {"retries: {attempts: 2, retryOn: 5xx}", TALK_RESET, 3, 503},
        {"retries: {attempts: 2, retryOn: 5xx}", TALK_404, 1, 404},
        {"retries: {attempts: 2, retryOn: '404'}", TALK_404, 3, 404},
        {"retries: {attempts: 2, retryOn: gateway-error}", TALK_500, 1, 500},
        {"retries: {attempts: 2, retryOn: gateway-error}", TALK_503, 3, 503},
        {"retries: {attempts: 3, retryOn: reset}", TALK_RESET, 4, 503},
        {"retries: {attempts: 3, retryOn: reset}", TALK_503, 1, 503},
        {"retries: {attempts: 1, retryOn: reset, perTryTimeout: 50ms}", TALK_SILENCE, 2, 504},
        {"retries: {attempts: 1, retryOn: connect-failure, perTryTimeout: 50ms}", TALK_SILENCE, 1,
         504},
        {"timeout: 100ms", TALK_SILENCE, 1, 504},
        {"retries: {attempts: 5, retryOn: reset, perTryTimeout: 70ms}\n    timeout: 150ms",
         TALK_SILENCE, 2, 504},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        talk_open(&talk, 1, 1, false, route(cases[i].retries));
        talk.hosts[0].act = (uint8_t)cases[i].act;
        struct talk_client *client = talk_client(&talk, 0);
        static const char post[] = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 3\r\n\r\nabc";
        talk_say(client, post, sizeof(post) - 1);
        uint16_t status = talk_wait(client, 1);
        talk_run(&talk, 5);
        if (status != cases[i].status || talk.hosts[0].n_requests != cases[i].n_tries) {
            fail_msg("case %zu: status %u after %u tries", i, status, talk.hosts[0].n_requests);
        }
        assert_int_equal(talk.hosts[0].n_body, 3); // each try has all of it
        talk_close(&talk);
    }
}

// A connection that is refused, and a host that fails: the next try goes to another one.
static void test_another_host(void **state) {
    // Round robin, so that every draw is of another host.
    static const char policy[] =
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n"
        "    loadBalancer: {simple: ROUND_ROBIN}\n";
    struct talk talk;
    char rules[2048];
    snprintf(rules, sizeof(rules), "%s%s",
             route("retries: {attempts: 2, retryOn: 'connect-failure,5xx'}"), policy);
    talk_open(&talk, 1, 3, false, rules);
    talk.hosts[0].act = TALK_503;
    fake_close(talk.bed.net, talk.hosts[1].listener, false);
    talk.hosts[1].listener = -1;
    for (int i = 0; i < 12; i++) {
        struct talk_client *client = talk_client(&talk, 0);
        talk_get(client, "/");
        assert_int_equal(talk_wait(client, 1), 200);
        assert_string_equal(client->body, "host 2");
        assert_string_equal(client->flags, "-");
    }
    assert_int_equal(talk.hosts[2].n_requests, 12);
    talk_close(&talk);
}

// The time of all tries is the route's; it runs from the end of the request.
static void test_timeout(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false, route("timeout: 300ms"));
    talk.hosts[0].act = TALK_SILENCE;
    struct talk_client *client = talk_client(&talk, 0);
    static const char head[] = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\n\r\na";
    talk_say(client, head, sizeof(head) - 1);
    talk_run(&talk, 500); // the request is not complete: its time does not run yet
    assert_int_equal(client->n_answers, 0);
    uint64_t start = talk_now_ms(&talk);
    talk_say(client, "b", 1);
    assert_int_equal(talk_wait(client, 1), 504);
    assert_string_equal(client->flags, "UT");
    assert_in_range(talk_now_ms(&talk) - start, 300, 310);
    talk_close(&talk);
}

// What comes of the body while a fault delays the request is part of every try.
static void test_body_during_delay(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 2, false,
              route("fault: {delay: {percentage: {value: 100}, fixedDelay: 50ms}}\n"
                    "    retries: {attempts: 1, retryOn: reset}"));
    talk.hosts[0].act = TALK_RESET;
    for (int i = 0; i < 4; i++) {
        struct talk_client *client = talk_client(&talk, 0);
        static const char post[] =
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 6\r\n\r\nabcdef";
        talk_say(client, post, sizeof(post) - 1);
        assert_int_equal(talk_wait(client, 1), 200);
        assert_int_equal(talk.hosts[1].n_body, 6);
    }
    assert_true(talk.hosts[0].n_requests > 0);
    talk_close(&talk);
}

// A server that ends an idle connection while a request is on its way: what may be repeated is.
static void test_stale_connection(void **state) {
    static const struct {
        const char *request, *retries;
        uint16_t status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nhost: web\r\n\r\n", "", 200},
        {"GET / HTTP/1.1\r\nhost: web\r\n\r\n", "retries: {attempts: 0}", 503},
        {"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\n\r\na", "", 503},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        talk_open(&talk, 1, 1, false, route(cases[i].retries));
        talk.hosts[0].act = TALK_LEAVE;
        struct talk_client *client = talk_client(&talk, 0);
        talk_say(client, cases[i].request, strlen(cases[i].request));
        assert_int_equal(talk_wait(client, 1), 200);
        talk_say(client, cases[i].request, strlen(cases[i].request));
        assert_int_equal(talk_wait(client, 2), cases[i].status);
        assert_int_equal(talk.hosts[0].n_opened, cases[i].status == 200 ? 2 : 1);
        talk_close(&talk);
    }
}

enum { UPLOAD = 10000000 };

// A body of 10 MB, with a copy of it for nobody, for one who answers, and for one who does not even
// read, from the start or from the middle on: the request takes the same time.
static uint64_t upload_ms(const char *more, enum talk_act mirror, enum talk_act later,
                          size_t *ret_mirrored) {
    enum { SIZE = UPLOAD };
    static char block[64 * 1024];
    struct talk talk;
    char head[128];
    talk_open(&talk, 1, 2, true, route(more));
    talk.hosts[1].act = (uint8_t)mirror;
    struct talk_client *client = talk_client(&talk, 0);
    uint64_t start = talk_now_ms(&talk);
    int len = snprintf(head, sizeof(head),
                       "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: %d\r\n\r\n", SIZE);
    talk_say(client, head, (size_t)len);
    for (size_t n = 0; n < SIZE;) {
        n += talk_say(client, block, MIN(sizeof(block), SIZE - n));
        talk_run(&talk, 1);
        if (n > SIZE / 2) {
            talk.hosts[1].act = (uint8_t)later;
        }
        assert_true(talk_now_ms(&talk) < start + 10000);
    }
    assert_int_equal(talk_wait(client, 1), 200);
    uint64_t took = talk_now_ms(&talk) - start;
    assert_int_equal(talk.hosts[0].n_body, SIZE);
    talk_run(&talk, 100);
    *ret_mirrored = talk.hosts[1].n_body;
    talk_close(&talk);
    return took;
}

static void test_mirror_is_free(void **state) {
    size_t n_mirrored;
    uint64_t alone = upload_ms("", TALK_OK, TALK_OK, &n_mirrored);
    assert_int_equal(n_mirrored, 0);
    static const char copy[] = "mirror: {host: shadow}";
    uint64_t copied = upload_ms(copy, TALK_OK, TALK_OK, &n_mirrored);
    assert_int_equal(n_mirrored, UPLOAD);
    uint64_t deaf = upload_ms(copy, TALK_DEAF, TALK_DEAF, &n_mirrored);
    assert_int_equal(n_mirrored, 0);
    uint64_t stalls = upload_ms(copy, TALK_OK, TALK_DEAF, &n_mirrored);
    assert_int_equal(n_mirrored, 0); // never whole
    assert_in_range(copied, alone / 2, alone * 3 / 2);
    assert_in_range(deaf, alone / 2, alone * 3 / 2);
    assert_in_range(stalls, alone / 2, alone * 3 / 2);
}

// The client goes: so does what was under way for it.
static void test_client_leaves(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false, route("timeout: 10s"));
    talk.hosts[0].act = TALK_SILENCE;
    struct talk_client *client = talk_client(&talk, 0);
    talk_get(client, "/");
    talk_run(&talk, 20);
    assert_int_equal(talk.hosts[0].n_requests, 1);
    assert_int_equal(talk.hosts[0].n_open, 1);
    fake_close(talk.bed.net, client->fd, true);
    client->fd = -1;
    talk_run(&talk, 20);
    assert_int_equal(talk.hosts[0].n_open, 0); // its answer is not waited for
    talk_close(&talk);
}

// Retries end where the cluster's limit of them does.
static void test_retry_limit(void **state) {
    static const char limit[] =
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n"
        "    connectionPool: {http: {maxRetries: 1}}\n";
    struct talk talk;
    char rules[2048];
    snprintf(rules, sizeof(rules), "%s%s",
             route("retries: {attempts: 1, retryOn: reset, perTryTimeout: 300ms}"), limit);
    talk_open(&talk, 1, 1, false, rules);
    talk.hosts[0].act = TALK_SILENCE;
    struct talk_client *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = talk_client(&talk, 0);
        talk_get(clients[i], "/");
    }
    talk_run(&talk, 450); // all have failed once; one is tried again
    assert_int_equal(talk.hosts[0].n_requests, 4);
    int n_over = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(talk_wait(clients[i], 1), 504);
        n_over += strstr(clients[i]->flags, "UO") != NULL;
    }
    assert_int_equal(n_over, 2);
    talk_close(&talk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pass),
        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_another_host),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_body_during_delay),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_mirror_is_free),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_retry_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
