// SPDX-License-Identifier: Apache-2.0
//
// Hosts that requests name (ServiceEntry, resolution DYNAMIC_DNS): which names are the service's,
// answers while a name is looked up, and when it cannot be. The cache alone is tested in
// tests/unit/net/test_dns_cache.c.
#include "waypoint/dynamic.h"

#include <stdio.h>

#include "tests/unit/waypoint/waypoint_talk.h"
#include "waypoint/exchange.h"

enum { RUNS_MAX = 64 };

static const char wild_key[] = "shop/*.ext.com";
static const char mesh[] =
    "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
    "metadata: {name: waypoint, namespace: shop}\n"
    "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
    "HBONE}]}\n"
    "status: {addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
    "metadata: {name: ext, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}\n"
    "spec: {hosts: ['*.ext.com'], resolution: DYNAMIC_DNS, ports: [{name: http, number: 80, "
    "protocol: HTTP, targetPort: 8080}]}\n";

// A name server: "hN..." has the addresses of hosts 0 to N, at once or when the test says.
struct names {
    struct talk talk;
    struct {
        char host[L7_NAME_MAX];
        dns_result_fn *fn;
        void *arg;
    } runs[RUNS_MAX];
    uint32_t n_runs, n_replied;
    bool is_slow;
};

static void reply(struct names *names) {
    while (names->n_replied < names->n_runs) {
        uint32_t i = names->n_replied++;
        struct ip ips[TALK_HOSTS];
        struct dns_result result = {.outcome = DNS_NO_NAME, .text = "Domain name not found"};
        if (names->runs[i].host[0] == 'h') {
            result = (struct dns_result){.outcome = DNS_FOUND,
                                         .ips = ips,
                                         .n_ips = names->runs[i].host[1] - '0' + 1,
                                         .ttl_s = 60,
                                         .text = ""};
            for (uint32_t k = 0; k < result.n_ips; k++) {
                ips[k] = (struct ip){.family = 4, .bytes = {10, 1, 0, (uint8_t)(k + 1)}};
            }
        }
        names->runs[i].fn(names->runs[i].arg, &result);
    }
}

static void look_up(void *arg, const char *host, dns_result_fn *fn, void *fn_arg) {
    struct names *names = arg;
    assert_true(names->n_runs < RUNS_MAX);
    snprintf(names->runs[names->n_runs].host, L7_NAME_MAX, "%s", host);
    names->runs[names->n_runs].fn = fn;
    names->runs[names->n_runs++].arg = fn_arg;
    if (!names->is_slow) {
        reply(names);
    }
}

static void names_open(struct names *names, uint32_t n_hosts, const char *rules) {
    char text[4096];
    *names = (struct names){0};
    snprintf(text, sizeof(text), "%s%s%s", mesh, rules[0] != '\0' ? "---\n" : "", rules);
    talk_open(&names->talk, 1, n_hosts, false, text);
    names->talk.called = wild_key;
    names->talk.bed.waypoint.look_up = look_up;
    names->talk.bed.waypoint.look_up_arg = names;
}

static void names_close(struct names *names) {
    talk_close(&names->talk);
    reply(names); // look-ups that run outlive everything
}

static void ask(struct talk_client *client, const char *host) {
    char text[512];
    int len = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nhost: %s\r\n\r\n", host);
    assert_int_equal(talk_say(client, text, (size_t)len), len);
}

// A request on a connection of its own; the answer's body is in the client.
static struct talk_client *once(struct names *names, const char *host) {
    struct talk_client *client = talk_client(&names->talk, 0);
    ask(client, host);
    (void)talk_wait(client, 1);
    return client;
}

static void test_name(void **state) {
    static const struct {
        const char *authority, *name; // NULL: none
    } cases[] = {
        {"a.ext.com", "a.ext.com"},
        {"a.b.ext.com", "a.b.ext.com"},
        {"A.Ext.COM:8080", "a.ext.com"},
        {"a.ext.com:80", "a.ext.com"},
        {"a-b_c.9.ext.com", "a-b_c.9.ext.com"},
        {"ext.com", NULL},
        {".ext.com", NULL},
        {"a..ext.com", NULL},
        {"a.ext.com.", NULL},
        {"aext.com", NULL},
        {"a.ext.com.evil.org", NULL},
        {"a.ext.com:", NULL},
        {"a.ext.com:x", NULL},
        {"a.ext.com:99999", NULL},
        {"127.0.0.1", NULL},
        {"[::1]:80", NULL},
        {"", NULL},
        {"*.ext.com", NULL},
        {"a b.ext.com", NULL},
        {"a%.ext.com", NULL},
        {"evil.org/a.ext.com", NULL},
        {"u@a.ext.com", NULL},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.ext.com", NULL},
    };
    static const char service[] = "*.ext.com";
    char name[L7_NAME_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_name = l7_name_under(service, slice_str(cases[i].authority), name);
        assert_int_equal(is_name, cases[i].name != NULL);
        if (is_name) {
            assert_string_equal(name, cases[i].name);
        }
    }
    char text[300];
    memset(text, 'a', sizeof(text));
    for (size_t i = 60; i < sizeof(text); i += 60) {
        text[i] = '.';
    }
    memcpy(text + 246, ".ext.com", 9); // 254 in all
    assert_false(l7_name_under(service, slice_str(text), name));
    assert_true(l7_name_under(service, slice_str(text + 1), name));
}

static void test_host_decides(void **state) {
    struct names names;
    names_open(&names, 2, "");
    struct talk_client *client = once(&names, "h0.ext.com");
    assert_int_equal(client->status, 200);
    assert_string_equal(client->body, "host 0");
    assert_string_equal(names.runs[0].host, "h0.ext.com");
    assert_int_equal(once(&names, "H0.ext.com:1234")->status, 200);
    assert_int_equal(names.n_runs, 1); // it is known
    assert_int_equal(names.talk.hosts[0].n_opened, 1); // and so is the connection
    // No name of the service's: nobody is asked.
    assert_int_equal(once(&names, "web")->status, 404);
    assert_int_equal(once(&names, "ext.com")->status, 404);
    assert_int_equal(once(&names, "10.1.0.1")->status, 404);
    assert_int_equal(names.n_runs, 1);
    client = once(&names, "none.ext.com");
    assert_int_equal(client->status, 503);
    assert_string_equal(client->body, "DNS resolution failure");
    assert_int_equal(once(&names, "h1.ext.com")->status, 200);
    names_close(&names);
}

// Bodies and clients that leave while a name is looked up.
static void test_wait(void **state) {
    static const char post[] = "POST / HTTP/1.1\r\nhost: h0.ext.com\r\ncontent-length: 10\r\n\r\n";
    struct names names;
    names_open(&names, 1, "");
    names.is_slow = true;
    struct talk_client *waits = talk_client(&names.talk, 0), *leaves = talk_client(&names.talk, 0);
    (void)talk_say(waits, post, sizeof(post) - 1);
    (void)talk_say(waits, "01234", 5);
    ask(leaves, "h0.ext.com");
    talk_run(&names.talk, 50);
    assert_int_equal(names.n_runs, 1);
    assert_int_equal(waits->n_answers, 0);
    fake_close(names.talk.bed.net, leaves->fd, true);
    leaves->fd = -1;
    talk_run(&names.talk, 50);
    reply(&names);
    talk_run(&names.talk, 50);
    (void)talk_say(waits, "56789", 5);
    assert_int_equal(talk_wait(waits, 1), 200);
    assert_int_equal(names.talk.hosts[0].n_body, 10);
    assert_int_equal(names.talk.hosts[0].n_requests, 1);
    names_close(&names);
}

// The request's time runs while its name is looked up.
static void test_timeout(void **state) {
    struct names names;
    names_open(&names, 1,
               "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
               "metadata: {name: ext, namespace: shop}\nspec:\n  hosts: ['*.ext.com']\n  http:\n"
               "  - {route: [{destination: {host: '*.ext.com'}}], timeout: 1s}\n");
    names.is_slow = true;
    struct talk_client *client = once(&names, "h0.ext.com");
    assert_int_equal(client->status, 504);
    assert_string_equal(client->body, "upstream request timeout");
    names_close(&names);
}

// A try goes to an address that was not tried.
static void test_retry(void **state) {
    struct names names;
    names_open(&names, 3,
               "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
               "metadata: {name: ext, namespace: shop}\nspec:\n  hosts: ['*.ext.com']\n  http:\n"
               "  - {route: [{destination: {host: '*.ext.com'}}], retries: {attempts: 2, retryOn: "
               "'connect-failure,503'}}\n");
    fake_close(names.talk.bed.net, names.talk.hosts[0].listener, false);
    names.talk.hosts[0].listener = -1;
    names.talk.hosts[1].act = TALK_503;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(once(&names, "h2.ext.com")->status, 200);
    }
    names_close(&names);
}

// Addresses that fail are left out for a while, and come back.
static void test_outlier(void **state) {
    struct names names;
    names_open(&names, 2,
               "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
               "metadata: {name: ext, namespace: shop}\nspec:\n  host: '*.ext.com'\n"
               "  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, interval: 1s, "
               "baseEjectionTime: 10s, maxEjectionPercent: 100}}\n");
    names.talk.hosts[0].act = TALK_500;
    struct talk_client *client = talk_client(&names.talk, 0);
    uint32_t n = 0;
    while (names.talk.hosts[0].n_requests == 0) {
        assert_true(n < 40);
        ask(client, "h1.ext.com");
        (void)talk_wait(client, ++n);
    }
    for (int i = 0; i < 20; i++) {
        ask(client, "h1.ext.com");
        assert_int_equal(talk_wait(client, ++n), 200);
        if (i == 10) { // news of another service change nothing
            talk_rules(&names.talk,
                       "apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\n"
                       "spec: {clusterIP: 10.9.0.9, ports: [{name: http, port: 80}]}\n");
            talk_run(&names.talk, 5);
        }
    }
    names.talk.hosts[0].act = TALK_OK;
    talk_run(&names.talk, 12000);
    for (int i = 0; i < 40; i++) {
        ask(client, "h1.ext.com");
        assert_int_equal(talk_wait(client, ++n), 200);
    }
    assert_true(names.talk.hosts[0].n_requests > 1);
    names_close(&names);
}

// A service of the mesh whose route leads to a name, and copies that do.
static void test_route_and_mirror(void **state) {
    struct names names;
    names_open(
        &names, 2,
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
        "  - match: [{uri: {prefix: /ext}}]\n    route: [{destination: {host: h0.ext.com}}]\n"
        "  - match: [{uri: {prefix: /no}}]\n    route: [{destination: {host: '*.ext.com'}}]\n"
        "  - route: [{destination: {host: web}}]\n    mirror: {host: h0.ext.com}\n");
    names.talk.called = NULL;
    names.is_slow = true;
    struct talk_client *client = talk_client(&names.talk, 0);
    talk_get(client, "/");
    assert_int_equal(talk_wait(client, 1), 200);
    assert_int_equal(names.n_runs, 1);
    assert_string_equal(names.runs[0].host, "h0.ext.com");
    uint32_t before = names.talk.hosts[0].n_requests;
    fake_close(names.talk.bed.net, client->fd, false); // the copy goes on alone
    client->fd = -1;
    talk_run(&names.talk, 50);
    reply(&names);
    talk_run(&names.talk, 50);
    assert_int_equal(names.talk.hosts[0].n_requests, before + 1);
    assert_int_equal(talk_once(&names.talk, 0, "/ext"), 200);
    assert_int_equal(talk_once(&names.talk, 0, "/no"), 503); // "web" is no name under it
    names_close(&names);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_host_decides),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_outlier),
        cmocka_unit_test(test_route_and_mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
