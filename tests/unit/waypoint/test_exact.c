// SPDX-License-Identifier: Apache-2.0
//
// What has to be exact in the process, with one, two and four workers: round robin, ejections,
// retry budgets; and what balancers do over time: warm-up, cookies.
#include "tests/unit/waypoint/waypoint_talk.h"

#include <stdio.h>

static const uint32_t workers[] = {1, 2, 4};

static const char *rule(const char *policy) {
    static char text[1024];
    snprintf(text, sizeof(text),
             "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
             "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy: {%s}\n",
             policy);
    return text;
}

static const char *rule_and_route(const char *policy, const char *http) {
    static char text[2048];
    snprintf(text, sizeof(text),
             "%s---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
             "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
             "  - {%s, route: [{destination: {host: web}}], headers: {response: {set: {x-flags: "
             "'%%RESPONSE_FLAGS%%'}}}}\n",
             rule(policy), http);
    return text;
}

// Whichever worker a request comes to, the next host has it.
static void test_round_robin(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        struct talk talk;
        talk_open(&talk, workers[i], 3, false, rule("loadBalancer: {simple: ROUND_ROBIN}"));
        for (uint32_t n = 1; n <= 24; n++) {
            // Some workers more often than others.
            assert_int_equal(talk_once(&talk, (n * n / 3) % workers[i], "/"), 200);
            for (uint32_t k = 0; k < 3; k++) {
                assert_in_range(talk.hosts[k].n_requests, n / 3, n / 3 + (n % 3 != 0));
            }
        }
        talk_close(&talk);
    }
}

// All hosts fail, at once at all workers: no more are out than may be.
static void test_ejections(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        struct talk talk;
        struct talk_client *clients[12];
        talk_open(&talk, workers[i], 4, false,
                  rule_and_route("loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: "
                                 "{consecutive5xxErrors: 3, interval: 60s, baseEjectionTime: 60s, "
                                 "maxEjectionPercent: 50}",
                                 "retries: {attempts: 0}"));
        for (int k = 0; k < 4; k++) {
            talk.hosts[k].act = TALK_500;
            talk.hosts[k].delay_ms = 10;
        }
        for (uint32_t k = 0; k < 12; k++) { // three for each of them
            clients[k] = talk_client(&talk, k % workers[i]);
            talk_get(clients[k], "/");
        }
        for (uint32_t k = 0; k < 12; k++) {
            assert_int_equal(talk_wait(clients[k], 1), 500);
        }
        uint32_t before[4], n_out = 0;
        for (int k = 0; k < 4; k++) {
            assert_int_equal(talk.hosts[k].n_requests, 3);
            before[k] = talk.hosts[k].n_requests;
            talk.hosts[k].act = TALK_OK;
            talk.hosts[k].delay_ms = 0;
        }
        for (uint32_t k = 0; k < 16; k++) {
            assert_int_equal(talk_once(&talk, k % workers[i], "/"), 200);
        }
        for (int k = 0; k < 4; k++) {
            n_out += talk.hosts[k].n_requests == before[k];
        }
        assert_int_equal(n_out, 2);
        talk_close(&talk);
    }
}

// Ten requests are under way, and four more fail: as many of those are tried again as the budget
// has room for: a share of all of them, or the least number.
static void test_retry_budget(void **state) {
    static const struct {
        const char *budget;
        uint32_t n_again;
    } cases[] = {{"percent: 20, minRetryConcurrency: 1", 2},
                 {"percent: 5, minRetryConcurrency: 3", 3},
                 {"percent: 0, minRetryConcurrency: 0", 0},
                 {"percent: 100", 4}};
    for (size_t i = 0; i < ARRAY_LEN(cases) * ARRAY_LEN(workers); i++) {
        uint32_t n_workers = workers[i % ARRAY_LEN(workers)];
        uint32_t n_again = cases[i / ARRAY_LEN(workers)].n_again;
        struct talk talk;
        struct talk_client *clients[14];
        char policy[128];
        snprintf(policy, sizeof(policy), "retryBudget: {%s}", cases[i / ARRAY_LEN(workers)].budget);
        talk_open(&talk, n_workers, 1, false,
                  rule_and_route(policy, "retries: {attempts: 1, retryOn: 5xx}, timeout: 5s"));
        talk.hosts[0].act = TALK_SILENCE;
        for (uint32_t k = 0; k < 14; k++) {
            clients[k] = talk_client(&talk, k % n_workers);
            if (k < 10) {
                talk_get(clients[k], "/");
            }
        }
        talk_run(&talk, 20);
        assert_int_equal(talk.hosts[0].n_requests, 10);
        talk.hosts[0].act = TALK_503;
        talk.hosts[0].delay_ms = 10;
        for (uint32_t k = 10; k < 14; k++) {
            talk_get(clients[k], "/");
        }
        uint32_t n_over = 0;
        for (uint32_t k = 10; k < 14; k++) {
            assert_int_equal(talk_wait(clients[k], 1), 503);
            assert_string_equal(clients[k]->body, "host 0"); // the server's, whole
            n_over += strstr(clients[k]->flags, "UO") != NULL;
        }
        if (talk.hosts[0].n_requests != 14 + n_again || n_over != 4 - n_again) {
            fail_msg("%s, %u workers: %u requests, %u over", policy, n_workers,
                     talk.hosts[0].n_requests, n_over);
        }
        talk_close(&talk);
    }
}

// A host that joins gets its share little by little: after a tenth of the time a tenth of what the
// old one has, in the middle half of it, then as much.
static void test_warmup(void **state) {
    struct talk talk;
    char rules[2048];
    snprintf(rules, sizeof(rules), "%s---\n%s",
             rule("loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 100s}}"),
             talk_pod(1, false));
    talk_open(&talk, 1, 2, false, rules);
    assert_int_equal(talk_once(&talk, 0, "/"), 200);
    talk_run(&talk, 110000); // the first one is an old one
    talk_rules(&talk, talk_pod(1, true));
    static const struct {
        uint64_t wait_ms;
        uint32_t min, max; // of 110 requests
    } steps[] = {{9000, 5, 15}, {40000, 30, 43}, {60000, 54, 56}};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        talk_run(&talk, steps[i].wait_ms);
        uint32_t before = talk.hosts[1].n_requests;
        for (int k = 0; k < 110; k++) {
            assert_int_equal(talk_once(&talk, 0, "/"), 200);
        }
        uint32_t n = talk.hosts[1].n_requests - before;
        if (n < steps[i].min || n > steps[i].max) {
            fail_msg("step %zu: %u of 110", i, n);
        }
    }
    talk_close(&talk);
}

// A cookie that is not there is made, and leads to the same host from then on, at any worker.
static void test_cookie(void **state) {
    struct talk talk;
    talk_open(&talk, 4, 4, false,
              rule("loadBalancer: {consistentHash: {httpCookie: {name: user, path: /a, ttl: "
                   "90s}}}"));
    uint32_t n_hosts = 0;
    bool is_used[4] = {false};
    for (uint32_t i = 0; i < 12; i++) {
        struct talk_client *client = talk_client(&talk, i % 4);
        char request[512], value[128], body[sizeof(client->body)];
        talk_get(client, "/a");
        assert_int_equal(talk_wait(client, 1), 200);
        // user="..."; Max-Age=90; Path=/a; HttpOnly
        assert_memory_equal(client->cookie, "user=\"", 6);
        if (strstr(client->cookie, "; Max-Age=90; Path=/a; HttpOnly") == NULL) {
            fail_msg("%s", client->cookie);
        }
        snprintf(value, sizeof(value), "%.*s", (int)strcspn(client->cookie, ";"), client->cookie);
        memcpy(body, client->body, sizeof(body));
        uint32_t host = (uint32_t)(body[5] - '0');
        assert_in_range(host, 0, 3);
        n_hosts += !is_used[host];
        is_used[host] = true;
        fake_close(talk.bed.net, client->fd, false);
        client->fd = -1;
        for (uint32_t k = 0; k < 4; k++) {
            struct talk_client *again = talk_client(&talk, k);
            int len = snprintf(request, sizeof(request),
                               "GET /a HTTP/1.1\r\nhost: web\r\ncookie: a=b; %s\r\n\r\n", value);
            talk_say(again, request, (size_t)len);
            assert_int_equal(talk_wait(again, 1), 200);
            assert_string_equal(again->body, body);
            assert_string_equal(again->cookie, ""); // it has one
            fake_close(talk.bed.net, again->fd, false);
            talk.n_clients--;
        }
        talk.n_clients--;
    }
    assert_true(n_hosts > 1); // cookies differ
    talk_close(&talk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_robin),  cmocka_unit_test(test_ejections),
        cmocka_unit_test(test_retry_budget), cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_cookie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
