// SPDX-License-Identifier: Apache-2.0
//
// Idle and busy connections to endpoints when configuration changes: those that would be made
// otherwise now go by themselves, all others stay. Connections are counted at the endpoints.
#include "tests/unit/waypoint/waypoint_talk.h"

#include <stdio.h>

#include "waypoint/http_worker.h"
#include "waypoint/upstream_priv.h"

static const char *policy(const char *fields) {
    static char text[1024];
    snprintf(text, sizeof(text),
             "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
             "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n%s%s\n",
             fields[0] != '\0' ? "  " : "", fields);
    return text;
}

static uint32_t n_open(const struct talk *talk) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        n += talk->hosts[i].n_open;
    }
    return n;
}

static uint32_t n_opened(const struct talk *talk) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        n += talk->hosts[i].n_opened;
    }
    return n;
}

// Requests at the same time, so many at each worker: each leaves an idle connection.
static void fill(struct talk *talk, uint32_t n) {
    struct talk_client *clients[TALK_CLIENTS];
    uint64_t delays[TALK_HOSTS];
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        delays[i] = talk->hosts[i].delay_ms;
        talk->hosts[i].delay_ms = 10;
    }
    for (uint32_t i = 0; i < n; i++) {
        clients[i] = talk_client(talk, i % talk->bed.n_workers);
        talk_get(clients[i], "/");
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(talk_wait(clients[i], 1), 200);
    }
    for (uint32_t i = 0; i < n; i++) {
        fake_close(talk->bed.net, clients[i]->fd, false);
    }
    talk->n_clients -= n;
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        talk->hosts[i].delay_ms = delays[i];
    }
}

// What is changed in a DestinationRule, and whether idle connections go: without any request.
static void test_idle(void **state) {
    static const struct {
        const char *before, *after;
        bool stay;
    } cases[] = {
        {"", "trafficPolicy: {connectionPool: {http: {idleTimeout: 50s}}}", false},
        {"", "trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 9}}}", false},
        {"", "trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}", false},
        {"", "trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}", false},
        {"", "trafficPolicy: {connectionPool: {http: {maxConcurrentStreams: 7}}}", false},
        {"", "trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {time: 5s}}}}", false},
        {"", "trafficPolicy: {connectionPool: {tcp: {maxConnectionDuration: 5s}}}", false},
        {"",
         "trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 5s, timeout: 2s}}}}",
         false},
        {"", "trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}", false},
        {"", "trafficPolicy: {proxyProtocol: {version: V2}}", false},
        {"trafficPolicy: {connectionPool: {http: {idleTimeout: 50s}}}", "", false},
        {"",
         "trafficPolicy: {portLevelSettings: [{port: {number: 80}, connectionPool: {http: "
         "{idleTimeout: 50s}}}]}",
         false},
        {"",
         "trafficPolicy: {portLevelSettings: [{port: {number: 81}, connectionPool: {http: "
         "{idleTimeout: 50s}}}]}",
         true},
        {"", "trafficPolicy: {loadBalancer: {simple: RANDOM}}", true},
        {"", "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}", true},
        {"", "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}", true},
        {"", "trafficPolicy: {connectionPool: {http: {http2MaxRequests: 5}}}", true},
        {"", "trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 5}}}", true},
        {"", "trafficPolicy: {connectionPool: {http: {maxRetries: 5}}}", true},
        {"", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 100}}}", true},
        {"", "trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}", true},
        {"", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", true},
        {"", "subsets: [{name: v1, labels: {version: v1}}]", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        char rules[1024];
        snprintf(rules, sizeof(rules), "%s", policy(cases[i].before));
        talk_open(&talk, 2, 2, false, rules);
        fill(&talk, 8);
        uint32_t n = n_open(&talk);
        assert_in_range(n, 4, 8);
        talk_rules(&talk, policy(cases[i].after));
        talk_run(&talk, 20);
        if (n_open(&talk) != (cases[i].stay ? n : 0)) {
            fail_msg("case %zu: %u of %u connections are left", i, n_open(&talk), n);
        }
        talk_close(&talk);
    }
}

// A change of the service, or of the way to an endpoint.
static void test_service(void **state) {
    static const char *const texts[] = {
        // HTTP/2 from now on
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
        "spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80, "
        "targetPort: 8080, appProtocol: http2}]}\n",
        // reached by a tunnel from now on
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop, labels: {app: web}, "
        "annotations: {ambient.istio.io/redirection: enabled}}\n"
        "spec: {nodeName: n1, containers: [{name: a}]}\n"
        "status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}\n",
        // another port of the endpoints
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
        "spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80, "
        "targetPort: 8081}]}\n",
        // another port of the service
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
        "spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 90, "
        "targetPort: 8080}]}\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct talk talk;
        talk_open(&talk, 1, 1, false, "");
        fill(&talk, 3);
        assert_int_equal(n_open(&talk), 3);
        talk_rules(&talk, texts[i]);
        talk_run(&talk, 20);
        if (n_open(&talk) != 0) {
            fail_msg("case %zu: %u connections are left", i, n_open(&talk));
        }
        talk_close(&talk);
    }
}

static const char to_subset[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
    "  - {route: [{destination: {host: web, subset: all}}]}\n---\n";

// A subset that is no more keeps nothing.
static void test_subset_goes(void **state) {
    struct talk talk;
    char rules[2048];
    snprintf(rules, sizeof(rules), "%s%s", to_subset,
             policy("subsets: [{name: all, labels: {app: web}}]"));
    talk_open(&talk, 1, 1, false, rules);
    fill(&talk, 2);
    assert_int_equal(n_open(&talk), 2);
    talk_rules(&talk, policy("subsets: [{name: other, labels: {app: web}}]"));
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 0);
    assert_int_equal(talk_once(&talk, 0, "/"), 503);
    talk_rules(&talk, policy("subsets: [{name: all, labels: {app: web}}]"));
    assert_int_equal(talk_once(&talk, 0, "/"), 200);
    assert_int_equal(n_open(&talk), 1); // and is kept
    talk_close(&talk);
}

// One that is busy ends after its exchange; what comes in the meantime has a connection of its own.
static void test_busy(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false, "");
    talk.hosts[0].delay_ms = 100;
    struct talk_client *first = talk_client(&talk, 0), *second;
    talk_get(first, "/");
    talk_run(&talk, 20);
    talk_rules(&talk, policy("trafficPolicy: {connectionPool: {http: {idleTimeout: 50s}}}"));
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 1);
    second = talk_client(&talk, 0);
    talk_get(second, "/");
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 2);
    assert_int_equal(talk_wait(first, 1), 200);
    assert_int_equal(talk_wait(second, 1), 200);
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 1);
    assert_int_equal(n_opened(&talk), 2);
    talk.hosts[0].delay_ms = 0;
    talk_get(first, "/"); // the second one's
    assert_int_equal(talk_wait(first, 2), 200);
    assert_int_equal(n_opened(&talk), 2);
    talk_close(&talk);
}

// A connection that comes to be after the change, for a request from before, is that one's alone.
static void test_late(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false, "");
    fake_set_quiet(talk.bed.net, false); // a connect takes some turns
    struct talk_client *client = talk_client(&talk, 0);
    talk_get(client, "/");
    const struct upstreams *upstreams = &talk.bed.workers[0]->http->upstreams;
    while (upstreams->n_conns == 0) {
        (void)wbed_turn(&talk.bed);
        fake_skip(talk.bed.net, NS_PER_MS / 10);
    }
    talk_rules(&talk, policy("trafficPolicy: {connectionPool: {http: {idleTimeout: 50s}}}"));
    assert_int_equal(talk_wait(client, 1), 200);
    talk_run(&talk, 50);
    assert_int_equal(n_opened(&talk), 1); // it was not dialled again
    assert_int_equal(n_open(&talk), 0); // nor kept
    talk_close(&talk);
}

// The next try of a request from before: the same.
static void test_retry(void **state) {
    struct talk talk;
    talk_open(&talk, 1, 1, false,
              "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
              "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
              "  - {route: [{destination: {host: web}}], retries: {attempts: 1, retryOn: 5xx, "
              "backoff: 5s}}\n");
    talk.hosts[0].act = TALK_503;
    struct talk_client *client = talk_client(&talk, 0);
    talk_get(client, "/");
    while (talk.hosts[0].n_requests == 0) {
        talk_run(&talk, 1);
    }
    talk_run(&talk, 1); // the next try is in 0 to 5 s
    assert_int_equal(client->n_answers, 0);
    talk.hosts[0].act = TALK_OK;
    talk_rules(&talk, policy("trafficPolicy: {connectionPool: {http: {idleTimeout: 50s}}}"));
    talk_run(&talk, 5);
    assert_int_equal(n_open(&talk), 0);
    assert_int_equal(talk_wait(client, 1), 200);
    talk_run(&talk, 20);
    assert_int_equal(n_opened(&talk), 2);
    assert_int_equal(n_open(&talk), 0);
    talk_close(&talk);
}

// A lower maxConnections is for those that are idle, too: exact with any number of workers. To each
// host one may stay.
static void test_fewer(void **state) {
    static const struct {
        uint32_t n_workers, n_hosts, max, n_left;
    } cases[] = {{1, 1, 3, 3}, {1, 1, 1, 1}, {2, 1, 3, 3}, {4, 1, 5, 5}, {1, 4, 1, 4}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct talk talk;
        char fields[128];
        talk_open(&talk, cases[i].n_workers, cases[i].n_hosts, false,
                  policy("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"));
        fill(&talk, 12);
        assert_int_equal(n_open(&talk), 12);
        snprintf(fields, sizeof(fields),
                 "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: "
                 "{maxConnections: %u}}}",
                 cases[i].max);
        talk_rules(&talk, policy(fields));
        talk_run(&talk, 20);
        if (n_open(&talk) != cases[i].n_left) {
            fail_msg("case %zu: %u connections are left", i, n_open(&talk));
        }
        talk_close(&talk);
    }
}

// Those that are busy when the limit is lowered go when they are idle.
static void test_fewer_busy(void **state) {
    struct talk talk;
    struct talk_client *clients[8];
    talk_open(&talk, 2, 1, false, "");
    talk.hosts[0].delay_ms = 50;
    for (uint32_t i = 0; i < 8; i++) {
        clients[i] = talk_client(&talk, i % 2);
        talk_get(clients[i], "/");
    }
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 8);
    talk_rules(&talk, policy("trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}"));
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(talk_wait(clients[i], 1), 200);
    }
    talk_run(&talk, 20);
    assert_int_equal(n_open(&talk), 2);
    assert_int_equal(n_opened(&talk), 8);
    talk_close(&talk);
}

// What a cluster has learned does not change with its settings: who is out stays out.
static void test_ejection_stays(void **state) {
    static const char before[] = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, "
                                 "outlierDetection: {consecutive5xxErrors: 1, interval: 60s, "
                                 "baseEjectionTime: 60s, maxEjectionPercent: 50}%s}";
    struct talk talk;
    char fields[512];
    snprintf(fields, sizeof(fields), before, "");
    talk_open(&talk, 1, 2, false, policy(fields));
    talk.hosts[0].act = TALK_500;
    for (int i = 0; i < 4; i++) {
        (void)talk_once(&talk, 0, "/");
    }
    assert_int_equal(talk.hosts[0].n_requests, 1);
    snprintf(fields, sizeof(fields), before, ", connectionPool: {http: {idleTimeout: 50s}}");
    talk_rules(&talk, policy(fields));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(talk_once(&talk, 0, "/"), 200);
    }
    assert_int_equal(talk.hosts[0].n_requests, 1);
    assert_int_equal(talk.hosts[1].n_opened, 2); // one of each kind
    talk_close(&talk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),           cmocka_unit_test(test_service),
        cmocka_unit_test(test_subset_goes),    cmocka_unit_test(test_busy),
        cmocka_unit_test(test_late),           cmocka_unit_test(test_retry),
        cmocka_unit_test(test_fewer),          cmocka_unit_test(test_fewer_busy),
        cmocka_unit_test(test_ejection_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
