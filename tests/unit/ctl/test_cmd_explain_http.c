// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl explain --request` on data/explain_http.yaml.
#include <jansson.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "ctl/cmd.h"
#include "ctl/cmd_explain_http.h"
#include "ctl/local_json.h"
#include "tests/unit/ctl/ctl_run.h"

#define MESH ZTUN_SOURCE_DIR "/tests/unit/ctl/data/explain_http.yaml"
#define AT MESH ":"

static int run(const char *const *args, char **ret_out, char **ret_err) {
    return ctl_run(cmd_explain, "explain", args, ret_out, ret_err);
}

static const struct {
    const char *to, *request;
    const char *headers[4];
    const char *has[14]; // texts that are there, in this order
    const char *lacks;
} cases[] = {
    // The first rule.
    {"web",
     "GET /",
     {"X-User: jason"},
     {"request      GET /, host web\n", "x-user: jason\n",
      "read by      waypoint gw/way.gw.svc.cluster.local\n",
      "rules        * VirtualService gw/web, " AT "82:7 (canary): matches\n",
      "* web.m.svc.cluster.local:80 subset v2 (DestinationRule gw/web, " AT
      "117:5), weight 1, 100 %\n",
      "sent on: GET /, host web\n",
      "load balancer      ROUND_ROBIN (DestinationRule gw/web, " AT "112:5)\n",
      "connection pool    connect timeout 10s, idle timeout 3600s, maxConnections 2, "
      "http1MaxPendingRequests 1 (DestinationRule gw/web, " AT "112:5)\n",
      "outlier detection  on, consecutive5xx 1, consecutiveGatewayErrors 0, every 10s, ejects for "
      "30s, at most 10 % (DestinationRule gw/web, " AT "120:7)\n",
      "priority 0         1 hosts, 100 % of the requests\n",
      "* m/web-2 10.0.2.2:8080 on n2 (r/z2) weight 1, level 0\n",
      "- m/web-1 10.0.1.2 on n1 (r/z1) out: has not the labels of subset v2: version=v2\n",
      "- m/web-3 10.0.2.3 on n2 (r/z2) out: not ready\n",
      "verdict      ALLOWED: the waypoint sends it on, here to m/web-2 10.0.2.2:8080\n"},
     "fault  "},
    // Why earlier ones do not match; what is done with the request.
    {"web:80",
     "/api?q=1",
     {"x-user: you", "x-b: 1"},
     {"(canary): header x-user: exact `jason` does not match `you`\n",
      "- VirtualService gw/web, " AT "86:7 (api): method: exact `POST` does not match `GET`\n",
      "* VirtualService gw/web, " AT "88:7 (api): matches\n",
      "fault        delay of 2s for 10 % of requests\n",
      "abort of 0.5 % of requests: 503 FI (fault_filter_abort), body `fault filter abort`\n",
      "timeout      3s, of each try 500ms\n",
      "retries      3 more on 5xx,retriable-status-codes,503; back-off from 25ms to 250ms; other "
      "hosts first\n",
      "mirrors      * web.m.svc.cluster.local:80 subset v1",
      "a copy of 25 % of the requests as host web-shadow\n", "weight 90, 90 %\n",
      "sent on: GET /v2/api?q=1, host web\n", "+ x-a: you\n", "+ x-envoy-original-path: /api?q=1\n",
      "weight 10, 10 %\n"},
     NULL},
    {"web",
     "POST /api/x",
     {"x-b: 1"},
     {"sent on: POST /v2/api/x, host web\n", "- x-b: 1\n", "; such is the lot of "},
     "+ x-b"},
    {"web",
     "POST /",
     {NULL},
     {"header x-user is absent\n", "path: prefix `/api` does not match `/`\n",
      "path: exact `/api` does not match `/`\n", "rule         none matches\n",
      "answer       404 NR (route_not_found)\n",
      "verdict      REFUSED: the waypoint answers 404 by itself (route_not_found)\n"},
     "upstreams"},
    {"web",
     "/nope",
     {NULL},
     {"no DestinationRule for web.m.svc.cluster.local has a subset v9 (there are v1, v2)\n",
      "answered: 503 NC (cluster_not_found)\n", "verdict      REFUSED: the waypoint answers 503"},
     "priority"},
    {"web",
     "/go?x",
     {NULL},
     {"answer       302 - (direct_response), location http://web/there?x\n",
      "verdict      ALLOWED"},
     NULL},
    // Nobody reads the rules.
    {"plain",
     "/",
     {NULL},
     {"http         no rule for HTTP applies: service plain.m.svc.cluster.local has no waypoint",
      "nobody reads VirtualService m/plain, " AT "72:5\n",
      "nobody reads DestinationRule m/plain, " MESH "\n",
      "nobody reads AuthorizationPolicy m/on-plain, " AT, "verdict      ALLOWED: no allow"},
     "rules  "},
    {"raw",
     "/",
     {NULL},
     {"no rule for HTTP applies: port 80 of service raw.m.svc.cluster.local is declared as TCP",
      "there is none for this destination either\n"},
     "rules  "},
    {"10.0.1.2:8080",
     "/",
     {NULL},
     {"no rule for HTTP applies: the address is no service's"},
     "rules  "},
    // Gateway API; gRPC.
    {"api",
     "POST /v1/a",
     {"content-type: application/grpc", "grpc-timeout: 200m"},
     {"- HTTPRoute m/api, ", "query parameter debug is absent\n", "* HTTPRoute m/api, ",
      "timeout      200ms, of each try none\n", "api.m.svc.cluster.local:80, weight 1, 25 %\n",
      "+ x-envoy-expected-rq-timeout-ms: 200\n", "weight 3, 75 %\n",
      "there is no service gone.m.svc.cluster.local\n",
      "answered: 200 NC (cluster_not_found), "
      "grpc-status 2\n"},
     NULL},
    {"api",
     "/v1/a?debug=1",
     {NULL},
     {"answer       301 - (direct_response), location http://example.com"},
     NULL},
    {"api",
     "/v1x",
     {NULL},
     {"path: prefix of whole segments `/v1` does not match `/v1x`\n", "404 NR"},
     NULL},
    // Clients, ports, expressions.
    {"rest",
     "/",
     {"x-old: 1", "x-user: a"},
     {"is for clients with the label app=other; this one has client\n",
      "is for port 8080, not 80\n", "path: regex `/r/[0-9]+` does not match `/`\n",
      "method: exact `OPTIONS` does not match `GET`\n",
      "load balancer      RING_HASH by header x-user (DestinationRule m/rest, ",
      "outlier detection  on, consecutive5xx 3", "out: has not the labels of subset empty",
      "answered: 503 UH (no_healthy_upstream), body `no healthy upstream`\n"},
     "has no key"},
    {"rest", "/r/1", {"x-old: 1"}, {"header x-old is there (withoutHeaders)\n"}, NULL},
    {"rest",
     "/r/1",
     {NULL},
     {"answer       418 - (direct_response), body `short and stout`\n"},
     NULL},
    {"rest",
     "OPTIONS /",
     {"origin: http://a", "access-control-request-method: GET"},
     {"cors         a preflight, answered here with the permission\n", "answer       200 "},
     NULL},
    {"rest",
     "/none",
     {NULL},
     {"there is no service nowhere.m.svc.cluster.local\n", "503 NC"},
     NULL},
};

static void test_cases(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *args[CTL_ARGS_MAX] = {"--config", MESH,        "--from",    "m/client",
                                          "--to",     cases[i].to, "--request", cases[i].request};
        size_t n = 8;
        for (size_t k = 0; k < ARRAY_LEN(cases[i].headers) && cases[i].headers[k] != NULL; k++) {
            args[n++] = "-H";
            args[n++] = cases[i].headers[k];
        }
        char *out, *err;
        int code = run(args, &out, &err);
        const char *at = out;
        for (size_t k = 0; k < ARRAY_LEN(cases[i].has) && cases[i].has[k] != NULL; k++) {
            const char *found = strstr(at, cases[i].has[k]);
            if (found == NULL) {
                fail_msg("case %zu (%s %s): no `%s` in\n%s%s", i, cases[i].to, cases[i].request,
                         cases[i].has[k], out, err);
                return;
            }
            at = found;
        }
        if (cases[i].lacks != NULL && strstr(out, cases[i].lacks) != NULL) {
            fail_msg("case %zu: `%s` in\n%s", i, cases[i].lacks, out);
        }
        assert_int_equal(code, CMD_OK);
        assert_string_equal(err, "");
        free(out);
        free(err);
    }
}

static void test_policies(void **state) {
    const char *args[] = {"--config", MESH,        "--from", "m/bad", "--to",
                          "web",      "--request", "/",      NULL};
    char *out, *err;
    assert_int_equal(run(args, &out, &err), CMD_OK);
    assert_non_null(strstr(out, "policies     refused: explicitly denied by: gw/no-bad (rule 0)\n"
                                "verdict      REFUSED: the waypoint refuses the connection: "
                                "explicitly denied by: gw/no-bad (rule 0)\n"));
    free(out);
    free(err);
    args[3] = "m/client";
    assert_int_equal(run(args, &out, &err), CMD_OK);
    assert_non_null(strstr(out, "policies     allowed: no allow policies\nrules        "));
    free(out);
    free(err);
}

static void test_json(void **state) {
    const char *args[] = {"--config", MESH, "--from",       "m/client", "--to", "web", "--request",
                          "/api",     "-H", "x-user: jane", "-o",       "json", NULL};
    char *out, *err;
    assert_int_equal(run(args, &out, &err), CMD_OK);
    json_t *root = json_loads(out, 0, NULL), *http = js_get(root, "http");
    assert_non_null(http);
    assert_int_equal(js_len(http, "rules"), 3);
    const json_t *rule = json_array_get(js_get(http, "rules"), 2);
    assert_true(js_bool(rule, "matches", false));
    assert_int_equal(js_int(rule, "line", 0), 88);
    assert_string_equal(js_str(rule, "file", ""), MESH);
    assert_int_equal(js_int(http, "timeoutMs", 0), 3000);
    assert_int_equal(js_len(http, "destinations"), 2);
    int n_chosen = 0;
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(js_get(http, "destinations"), i);
        n_chosen += js_bool(item, "chosen", false);
        assert_string_equal(js_str(item, "sent.path", ""), "/v2/api");
        assert_int_equal(js_len(item, "endpoints"), 3);
        assert_string_equal(js_str(item, "policy.loadBalancer.object", ""),
                            "DestinationRule gw/web");
    }
    assert_int_equal(n_chosen, 1);
    json_decref(root);
    free(out);
    free(err);
}

static void test_usage(void **state) {
    static const struct {
        const char *args[6];
        const char *err;
    } rows[] = {
        {{"-H", "a: b"}, "-H needs --request"},
        {{"--request", "GET nope"}, "`nope` is no path; it begins with /"},
        {{"--request", "G@T /"}, "`G@T` is no method"},
        {{"--request", ""}, "is no path"},
        {{"--request", "/%zz"}, "answers 400"},
        {{"--request", "/", "-H", "nocolon"}, "-H `nocolon`: is not 'NAME: VALUE'"},
        {{"--request", "/", "-H", "a b: c"}, "is not 'NAME: VALUE'"},
        {{"--request", "/", "-H", "a: b\nc: d"}, "no line breaks"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *args[CTL_ARGS_MAX] = {"--config", MESH, "--from", "m/client", "--to", "web"};
        memcpy(&args[6], rows[i].args, sizeof(rows[i].args));
        char *out, *err;
        int code = run(args, &out, &err);
        if (code != CMD_USAGE || strstr(err, rows[i].err) == NULL || out[0] != '\0') {
            fail_msg("row %zu: %d %s", i, code, err);
        }
        free(out);
        free(err);
    }
}

static void test_too_many_headers(void **state) {
    const char *headers[EXPLAIN_HEADERS_MAX + 1];
    struct explain_request request;
    char *error = NULL;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        headers[i] = "a: b";
    }
    assert_false(explain_request_parse("/", headers, ARRAY_LEN(headers), "web", &request, &error));
    assert_non_null(strstr(error, "431"));
    free(error);
    assert_true(explain_request_parse("/a/../b#f", headers, EXPLAIN_HEADERS_MAX, "web", &request,
                                      &error));
    assert_slice_equal(request.head.path, "/b");
    explain_request_fini(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_too_many_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
