// SPDX-License-Identifier: Apache-2.0
//
// Connections to endpoints: limits with one, two and four workers, reuse, times to live, and hosts
// that are left out for a while. The arithmetic alone is tested in tests/unit/l7.
#include "tests/unit/waypoint/waypoint_talk.h"

#include <stdio.h>

#include "waypoint/http_worker.h"

static const char *policy(const char *fields) {
    static char text[1024];
    snprintf(
        text, sizeof(text),
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n    %s\n",
        fields);
    return text;
}

// Requests at the same time, spread over the workers. Fills the number of each status.
static void send_many(struct talk *talk, uint32_t n, uint32_t *ret_ok, uint32_t *ret_refused) {
    struct talk_client *clients[TALK_CLIENTS];
    *ret_ok = *ret_refused = 0;
    for (uint32_t i = 0; i < n; i++) {
        clients[i] = talk_client(talk, i % talk->bed.n_workers);
        talk_get(clients[i], "/");
    }
    for (uint32_t i = 0; i < n; i++) {
        uint16_t status = talk_wait(clients[i], 1);
        *ret_ok += status == 200;
        *ret_refused += status == 503;
    }
    assert_int_equal(*ret_ok + *ret_refused, n);
}

static const uint32_t workers[] = {1, 2, 4};

// One connection serves all, one after the other, whichever worker has it.
static void test_max_connections(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        struct talk talk;
        uint32_t n_ok, n_refused;
        talk_open(&talk, workers[i], 1, false,
                  policy("connectionPool: {tcp: {maxConnections: 1}}"));
        talk.hosts[0].delay_ms = 5;
        send_many(&talk, 12, &n_ok, &n_refused);
        assert_int_equal(n_ok, 12);
        assert_int_equal(talk.hosts[0].max_open, 1);
        talk_close(&talk);
    }
}

// Of 12 requests one is under way and three wait: exact in the process.
static void test_max_pending(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        struct talk talk;
        uint32_t n_ok, n_refused;
        talk_open(&talk, workers[i], 1, false,
                  policy("connectionPool: {tcp: {maxConnections: 1}, http: "
                         "{http1MaxPendingRequests: 3}}"));
        talk.hosts[0].delay_ms = 20;
        struct talk_client *first = talk_client(&talk, 0);
        talk_get(first, "/");
        talk_run(&talk, 5); // it has the connection
        send_many(&talk, 12, &n_ok, &n_refused);
        assert_int_equal(n_ok, 3);
        assert_int_equal(n_refused, 9);
        assert_int_equal(talk_wait(first, 1), 200);
        talk_close(&talk);
    }
}

static void test_max_requests(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
        struct talk talk;
        uint32_t n_ok, n_refused;
        talk_open(&talk, workers[i], 1, false,
                  policy("connectionPool: {http: {http2MaxRequests: 5}}"));
        talk.hosts[0].delay_ms = 20;
        send_many(&talk, 12, &n_ok, &n_refused);
        assert_int_equal(n_ok, 5);
        talk_close(&talk);
    }
}

// How many connections so many requests in a row take.
static void test_reuse(void **state) {
    static const struct {
        const char *pool;
        enum talk_act act;
        uint64_t pause_ms;
        uint32_t n_opened;
    } cases[] = {
        {"{http: {}}", TALK_OK, 0, 1},
        {"{http: {}}", TALK_CLOSE, 0, 6},
        {"{http: {maxRequestsPerConnection: 1}}", TALK_OK, 0, 6},
        {"{http: {maxRequestsPerConnection: 2}}", TALK_OK, 0, 3},
        {"{http: {idleTimeout: 100ms}}", TALK_OK, 50, 1},
        {"{http: {idleTimeout: 100ms}}", TALK_OK, 500, 6},
        {"{tcp: {maxConnectionDuration: 400ms}}", TALK_OK, 300, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        char fields[256];
        snprintf(fields, sizeof(fields), "connectionPool: %s", cases[i].pool);
        talk_open(&talk, 1, 1, false, policy(fields));
        talk.hosts[0].act = (uint8_t)cases[i].act;
        for (int k = 0; k < 6; k++) {
            assert_int_equal(talk_once(&talk, 0, "/"), 200);
            talk_run(&talk, cases[i].pause_ms);
        }
        if (talk.hosts[0].n_opened != cases[i].n_opened) {
            fail_msg("case %zu: %u connections", i, talk.hosts[0].n_opened);
        }
        talk_close(&talk);
    }
}

// Requests that wait when the policy changes have their connection at once all the same.
static void test_change_while_dialling(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 2, false, policy("connectionPool: {http: {idleTimeout: 5s}}"));
    fake_set_quiet(talk.bed.net, false); // a connect takes some turns
    struct talk_client *client = talk_client(&talk, 0);
    talk_get(client, "/");
    const struct upstreams *upstreams = &talk.bed.workers[0]->http->upstreams;
    while (upstreams->n_conns == 0) {
        (void)wbed_turn(&talk.bed);
        fake_skip(talk.bed.net, NS_PER_MS / 10);
    }
    char rules[2048];
    snprintf(rules, sizeof(rules), "%s---\n%s", policy("connectionPool: {http: {idleTimeout: 6s}}"),
             talk_pod(1, false));
    talk_rules(&talk, rules);
    uint64_t start = talk_now_ms(&talk);
    assert_int_equal(talk_wait(client, 1), 200);
    assert_true(talk_now_ms(&talk) - start < 60);
    talk_close(&talk);
}

// A host that goes takes no new request; what it has is finished.
static void test_endpoint_leaves(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 2, false, "");
    talk.hosts[0].delay_ms = talk.hosts[1].delay_ms = 30;
    struct talk_client *clients[8];
    for (int i = 0; i < 8; i++) {
        clients[i] = talk_client(&talk, 0);
        talk_get(clients[i], "/");
    }
    talk_run(&talk, 10);
    uint32_t n_before = talk.hosts[0].n_requests;
    assert_true(n_before > 0);
    talk_rules(&talk, talk_pod(0, false));
    for (int i = 0; i < 8; i++) {
        assert_int_equal(talk_wait(clients[i], 1), 200);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(talk_once(&talk, 0, "/"), 200);
    }
    assert_int_equal(talk.hosts[0].n_requests, n_before);
    assert_int_equal(talk.hosts[0].n_open, 0); // not kept for anybody
    talk_close(&talk);
}

// Endpoints come and go; connections to the others stay, under a policy too.
static void test_others_stay(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 3, false, policy("loadBalancer: {simple: ROUND_ROBIN}"));
    for (int i = 0; i < 12; i++) {
        talk_rules(&talk, talk_pod(2, i % 2 == 0));
        assert_int_equal(talk_once(&talk, 0, "/"), 200);
    }
    assert_in_range(talk.hosts[0].n_requests, 2, 8);
    assert_int_equal(talk.hosts[0].n_opened, 1);
    assert_int_equal(talk.hosts[1].n_opened, 1);
    talk_rules(&talk, policy("connectionPool: {http: {maxRequestsPerConnection: 50}}"));
    assert_int_equal(talk_once(&talk, 0, "/"), 200); // another kind of connection
    talk_run(&talk, 50);
    assert_int_equal(talk.hosts[0].n_open + talk.hosts[1].n_open + talk.hosts[2].n_open, 1);
    talk_close(&talk);
}

// A server of HTTP/2 that does not answer a PING is given up, and with it what waits for it.
static void test_pings(void **state) {
    static const struct {
        const char *more;
        uint64_t ms;
    } cases[] = {{"", 30000}, {", http2KeepAlive: {interval: 3s, timeout: 2s}", 5000}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        char fields[256];
        snprintf(fields, sizeof(fields), "connectionPool: {http: {h2UpgradePolicy: UPGRADE%s}}",
                 cases[i].more);
        talk_open(&talk, 1, 1, false, policy(fields));
        talk.hosts[0].act = TALK_DEAF;
        struct talk_client *client = talk_client(&talk, 0);
        talk_get(client, "/");
        talk_run(&talk, cases[i].ms - 500);
        assert_int_equal(client->n_answers, 0);
        talk_run(&talk, 1000);
        assert_int_equal(client->status, 503);
        talk_close(&talk);
    }
}

// Each kind of failure counts: the second one in a row takes the host out, for half a second.
static void test_ejection(void **state) {
    static const struct {
        enum talk_act act;
        bool is_refusing;
        const char *more;
        bool is_ejected;
    } cases[] = {
        {TALK_503, false, "", true},
        {TALK_500, false, "", true},
        {TALK_404, false, "", false},
        {TALK_RESET, false, "", true},
        {TALK_SILENCE, false, "", true}, // by its time limit
        {TALK_OK, true, "", true}, // connections are refused
        {TALK_500, false, ", splitExternalLocalOriginErrors: true", true},
        {TALK_OK, true, ", splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2",
         true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        char rules[2048], fields[512];
        snprintf(fields, sizeof(fields),
                 "loadBalancer: {simple: ROUND_ROBIN}\n    outlierDetection: "
                 "{consecutive5xxErrors: 2, interval: 100ms, baseEjectionTime: 500ms, "
                 "maxEjectionPercent: 50%s}",
                 cases[i].more);
        snprintf(
            rules, sizeof(rules),
            "%s---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
            "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
            "  - {timeout: 50ms, retries: {attempts: 0}, route: [{destination: {host: web}}]}\n",
            policy(fields));
        talk_open(&talk, 2, 2, false, rules);
        talk.hosts[0].act = (uint8_t)cases[i].act;
        if (cases[i].is_refusing) {
            fake_close(talk.bed.net, talk.hosts[0].listener, false);
            talk.hosts[0].listener = -1;
        }
        uint32_t n_ok = 0, n_bad = 0;
        for (uint32_t k = 0; k < 12; k++) { // half of them until it is out
            uint16_t status = talk_once(&talk, k % 2, "/");
            n_ok += status == 200;
            n_bad += status != 200;
        }
        if (n_bad != (cases[i].is_ejected ? 2 : 6)) {
            fail_msg("case %zu: %u failed, %u did not", i, n_bad, n_ok);
        }
        talk_run(&talk, 800); // it is back, and fails again
        n_bad = 0;
        for (uint32_t k = 0; k < 4; k++) {
            n_bad += talk_once(&talk, k % 2, "/") != 200;
        }
        assert_int_equal(n_bad, 2);
        talk_close(&talk);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_max_connections),
        cmocka_unit_test(test_max_pending),
        cmocka_unit_test(test_max_requests),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_change_while_dialling),
        cmocka_unit_test(test_endpoint_leaves),
        cmocka_unit_test(test_pings),
        cmocka_unit_test(test_others_stay),
        cmocka_unit_test(test_ejection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
