// SPDX-License-Identifier: Apache-2.0
//
// Which rule a request gets: VirtualServices, HTTPRoutes and GRPCRoutes.
#include <time.h>

#include "tests/unit/l7/l7_fixture.h"
#include "tests/unit/l7/l7_routes_bed.h"

static void test_paths(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "exact", FX_MATCH(.uri = FX_EXACT("/exact")), FX_TO("a")},
          {.name = "prefix", FX_MATCH(.uri = FX_PREFIX("/foo")), FX_TO("a")},
          {.name = "late", FX_MATCH(.uri = FX_PREFIX("/foo/late")), FX_TO("a")},
          {.name = "slash", FX_MATCH(.uri = FX_PREFIX("/dir/")), FX_TO("a")},
          {.name = "long", FX_MATCH(.uri = FX_PREFIX("/a/b/c")), FX_TO("a")},
          {.name = "short", FX_MATCH(.uri = FX_PREFIX("/a/b")), FX_TO("a")},
          {.name = "nocase",
           FX_MATCH(.uri = FX_PREFIX("/MiXed"), .ignore_uri_case = true),
           FX_TO("a")},
          {.name = "nocase-exact",
           FX_MATCH(.uri = FX_EXACT("/One"), .ignore_uri_case = true),
           FX_TO("a")},
          {.name = "case", FX_MATCH(.uri = FX_PREFIX("/mixed2")), FX_TO("a")},
          {.name = "regex", FX_MATCH(.uri = FX_REGEX("/v[0-9]+/.*")), FX_TO("a")},
          {.name = "regex2", FX_MATCH(.uri = FX_REGEX("/v1/x")), FX_TO("a")},
          {.name = "exact-late", FX_MATCH(.uri = FX_EXACT("/v1/late")), FX_TO("a")});
    PROBE(&fx, {"GET http web /exact", "exact"}, {"GET http web /exact?q=1", "exact"},
          {"GET http web /exact#f", "exact"}, {"GET http web /exact/", NULL},
          {"GET http web /Exact", NULL}, {"GET http web /foo", "prefix"},
          {"GET http web /foobar", "prefix"}, {"GET http web /foo/late", "prefix"},
          {"GET http web /fo", NULL}, {"GET http web /dir", NULL}, {"GET http web /dir/", "slash"},
          {"GET http web /dir/x", "slash"}, {"GET http web /a/b/c", "long"},
          {"GET http web /a/b/cd/e", "long"}, {"GET http web /a/b/d", "short"},
          {"GET http web /a/b", "short"}, {"GET http web /a/", NULL},
          {"GET http web /mixed", "nocase"}, {"GET http web /MIXED/x", "nocase"},
          {"GET http web /mixed2", "nocase"}, {"GET http web /one", "nocase-exact"},
          {"GET http web /ONE/", NULL}, {"GET http web /v12/x", "regex"},
          {"GET http web /v1/x", "regex"}, {"GET http web /v1/late", "regex"},
          {"GET http web /v/late", NULL}, {"GET http web /x/v1/", NULL},
          {"OPTIONS http web *", NULL}, {"GET http web /", NULL});
    assert_string_equal(fx.problems, "");
    fx_fini(&fx);
}

static void test_order(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "one", //
          {.name = "h", FX_MATCH(FX_NAMED(headers, FX_IS("x", "1"))), FX_TO("a")},
          {.name = "p1",
           FX_MATCH(.uri = FX_PREFIX("/p"), FX_NAMED(headers, FX_IS("y", "1"))),
           FX_TO("a")},
          {.name = "p2", FX_MATCH(.uri = FX_PREFIX("/p")), FX_TO("a")},
          {.name = "e", FX_MATCH(.uri = FX_EXACT("/p/e")), FX_TO("a")});
    FX_VS(&fx, "two", {.name = "all", FX_TO("a")},
          {.name = "unreachable", FX_MATCH(.uri = FX_EXACT("/z")), FX_TO("a")});
    PROBE(&fx, {"GET http web /p", "p2"}, {"GET http web /p\ny: 1", "p1"},
          {"GET http web /p\ny: 1\nx: 1", "h"}, {"GET http web /p/e", "p2"},
          {"GET http web /z", "all"}, {"GET http web /q\nx: 2", "all"},
          {"GET http web /q\nx: 1", "h"});
    assert_int_equal(l7_routes_count(l7_routes_of_leaf(fx.leaf)), 6);
    assert_string_equal(l7_routes_at(l7_routes_of_leaf(fx.leaf), 4)->name, "all");
    assert_string_equal(l7_routes_at(l7_routes_of_leaf(fx.leaf), 4)->source->name, "two");
    assert_null(l7_routes_at(l7_routes_of_leaf(fx.leaf), 6));
    fx_fini(&fx);
}

static void test_control_data(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "post", FX_MATCH(.method = FX_EXACT("POST")), FX_TO("a")},
          {.name = "p", FX_MATCH(.method = FX_PREFIX("PRO")), FX_TO("a")},
          {.name = "https", FX_MATCH(.scheme = FX_EXACT("https")), FX_TO("a")},
          {.name = "port", FX_MATCH(.authority = FX_EXACT("web:8080")), FX_TO("a")},
          {.name = "sub", FX_MATCH(.authority = FX_REGEX(".*\\.example\\.com")), FX_TO("a")},
          {.name = "pseudo",
           FX_MATCH(FX_NAMED(headers, FX_STARTS(":authority", "api."))),
           FX_TO("a")},
          {.name = "host", FX_MATCH(FX_NAMED(headers, FX_IS("Host", "h"))), FX_TO("a")},
          {.name = "path",
           FX_MATCH(FX_NAMED(headers, FX_MATCHES(":path", ".*x=1.*"))),
           FX_TO("a")});
    PROBE(&fx, {"POST http web /", "post"}, {"post http web /", NULL}, {"PROPFIND http web /", "p"},
          {"PRO http web /", "p"}, {"GET https web /", "https"},
          {"GET http web /\nx-forwarded-proto: https", "https"},
          {"GET https web /\nx-forwarded-proto: http", NULL}, {"GET http web:8080 /", "port"},
          {"GET http web /", NULL}, {"GET http a.example.com /", "sub"},
          {"GET http a.example.com:80 /", NULL}, {"GET http api.x /", "pseudo"},
          {"GET http h /", "host"}, {"GET http - /", NULL}, {"GET - web /?x=1", "path"},
          {"GET http web /?x=2", NULL});
    fx_fini(&fx);
}

static void test_headers(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "exact", FX_MATCH(FX_NAMED(headers, FX_IS("End-User", "jason"))), FX_TO("a")},
          {.name = "prefix", FX_MATCH(FX_NAMED(headers, FX_STARTS("end-user", "ja"))), FX_TO("a")},
          {.name = "regex",
           FX_MATCH(FX_NAMED(headers, FX_MATCHES("user-agent", ".*Safari.*"))),
           FX_TO("a")},
          {.name = "both",
           FX_MATCH(FX_NAMED(headers, FX_IS("a", "1"), FX_IS("b", "2"))),
           FX_TO("a")},
          {.name = "joined", FX_MATCH(FX_NAMED(headers, FX_IS("m", "x,y"))), FX_TO("a")},
          {.name = "present", FX_MATCH(FX_NAMED(headers, FX_HAS("p"))), FX_TO("a")},
          {.name = "or",
           .matches = (struct kobj_vs_match[]){{FX_NAMED(headers, FX_IS("o", "1"))},
                                               {FX_NAMED(headers, FX_IS("o", "2")), .name = "two"}},
           .n_matches = 2,
           FX_TO("a")});
    PROBE(&fx, {"GET http web /\nend-user: jason", "exact"},
          {"GET http web /\nend-user: jack", "prefix"}, {"GET http web /\nend-user: Jason", NULL},
          {"GET http web /\nend-user: jason\nend-user: x", "prefix"},
          {"GET http web /\nuser-agent: Mozilla Safari 1", "regex"},
          {"GET http web /\nuser-agent: Chrome", NULL}, {"GET http web /\na: 1", NULL},
          {"GET http web /\nb: 2\na: 1", "both"}, {"GET http web /\nm: x\nz: 1\nm: y", "joined"},
          {"GET http web /\nm: x,y", "joined"}, {"GET http web /\nm: x", NULL},
          {"GET http web /\np:", "present"}, {"GET http web /\np: 1", "present"},
          {"GET http web /\no: 1", "or"}, {"GET http web /\no: 2", "or.two"},
          {"GET http web /\no: 3", NULL}, {"GET http web /", NULL});
    fx_fini(&fx);
}

static void test_without_headers(void **state) {
    const struct {
        struct kobj_named_match match;
        const char *header;
        bool matches;
    } cases[] = {
        {FX_IS("x", "jason"), "", true}, // missing is "", and that is not jason
        {FX_IS("x", "jason"), "x: jason", false},
        {FX_IS("x", "jason"), "x: other", true},
        {FX_STARTS("x", "j"), "x: jason", false},
        {FX_STARTS("x", "j"), "", true},
        {FX_MATCHES("x", ".*"), "", false}, // matches "" too: never
        {FX_MATCHES("x", ".*"), "x: 1", false},
        {FX_MATCHES("x", ".+"), "", true},
        {FX_HAS("x"), "", true}, // must not be there
        {FX_HAS("x"), "x:", false},
        {FX_HAS("X"), "x: 1", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx fx;
        char request[64];
        fx_init(&fx);
        const struct kobj_named_match list[] = {cases[i].match};
        FX_VS(&fx, "vs",
              {.name = "r", FX_MATCH(.without_headers = list, .n_without_headers = 1), FX_TO("a")});
        snprintf(request, sizeof(request), "GET http web /\n%s", cases[i].header);
        PROBE(&fx, {request, cases[i].matches ? "r" : NULL});
        fx_fini(&fx);
    }
}

static void test_query(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", {.name = "e", FX_MATCH(FX_NAMED(query_params, FX_IS("k", "v 1"))), FX_TO("a")},
          {.name = "e2", FX_MATCH(FX_NAMED(query_params, FX_IS("k", "v%201"))), FX_TO("a")},
          {.name = "p", FX_MATCH(FX_NAMED(query_params, FX_STARTS("q", "ab"))), FX_TO("a")},
          {.name = "r", FX_MATCH(FX_NAMED(query_params, FX_MATCHES("n", "[0-9]+"))), FX_TO("a")},
          {.name = "has", FX_MATCH(FX_NAMED(query_params, FX_HAS("h"))), FX_TO("a")},
          {.name = "empty", FX_MATCH(FX_NAMED(query_params, FX_IS("z", ""))), FX_TO("a")});
    PROBE(&fx, {"GET http web /?k=v%201", "e2"}, {"GET http web /?x=1&q=abc", "p"},
          {"GET http web /?q=xab", NULL}, {"GET http web /?n=12", "r"},
          {"GET http web /?n=12a", NULL}, {"GET http web /?n=x&n=1", NULL}, // the first one
          {"GET http web /?h", "has"}, {"GET http web /?h=1", "has"}, {"GET http web /?H=1", NULL},
          {"GET http web /?z", "empty"}, {"GET http web /?z=", "empty"},
          {"GET http web /?z=1", NULL}, {"GET http web /?", NULL}, {"GET http web /?a?h=1", NULL},
          {"GET http web /?&&h&", "has"}, {"GET http web /#?h=1", NULL});
    fx_fini(&fx);
}

static void test_selectors(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "port", FX_MATCH(.port = 8080), FX_TO("a")},
          {.name = "gw", FX_MATCH(.gateways = (const char *[]){"gw"}, .n_gateways = 1), FX_TO("a")},
          {.name = "other-ns", FX_MATCH(.source_ns = "other"), FX_TO("a")},
          {.name = "labels", FX_MATCH(.source_labels = FX_MAP({"app", "x"})), FX_TO("a")},
          {.name = "mesh",
           FX_MATCH(.uri = FX_PREFIX("/mesh"), .gateways = (const char *[]){"other", "mesh"},
                    .n_gateways = 2, .source_labels = FX_MAP({"app", "none"})),
           FX_TO("a")},
          {.name = "v1",
           FX_MATCH(.source_labels = FX_MAP({"version", "v1"}, {"app", "client"})),
           FX_TO("a")});
    PROBE(&fx, {"GET http web /", "v1"}, {"GET http web /mesh", "mesh"});
    const struct l7_routes *routes = l7_routes_of_leaf(fx.leaf);
    struct fx_head head;
    struct l7_request request;
    struct l7_match match;
    fx_head(&head, "GET http web /");
    l7_request_init(&request, &head.head, 8080, NULL);
    assert_string_equal(fx_match(routes, &request, &match)->name, "port");
    request.port = 80;
    request.gateway = "shop/gw";
    assert_string_equal(fx_match(routes, &request, &match)->name, "gw");
    request.gateway = NULL;
    static const struct workload_common other = {.ns = "other"};
    static const struct workload foreign = {.ns = "other", .common = &other};
    request.source = &foreign;
    assert_string_equal(fx_match(routes, &request, &match)->name, "other-ns");
    // Someone unknown has the rules for the mesh alone, and this one is for another path.
    request.source = NULL;
    assert_null(fx_match(routes, &request, &match));
    fx_fini(&fx);
}

// Where no rule is left for a port or client there is the default route; where one is, 404.
static void test_default_route(void **state) {
    struct fx fx;
    fx_init(&fx);
    assert_null(fx_routes(&fx));
    PROBE(&fx, {"GET http web /", "default"});
    FX_VS(&fx, "vs", {.name = "a", FX_MATCH(.port = 8080, .uri = FX_PREFIX("/a")), FX_TO("a")},
          {.name = "b", FX_MATCH(.port = 9090), FX_TO("a")});
    PROBE(&fx, {"GET http web /a", "default"}, {"GET http web /b", "default"});
    struct fx_head head;
    struct l7_request request;
    struct l7_match match;
    fx_head(&head, "GET http web /b");
    l7_request_init(&request, &head.head, 8080, &probe_client);
    assert_null(fx_match(l7_routes_of_leaf(fx.leaf), &request, &match));
    const struct l7_route *route = l7_routes_default();
    assert_true(route->is_default);
    assert_int_equal(route->retry.attempts, 2);
    struct rand rand;
    rand_seed(&rand, 1);
    const struct l7_cluster *cluster = l7_route_cluster(route, &rand);
    assert_string_equal(cluster->host, "");
    assert_int_equal(l7_cluster_port(cluster, &fx.service, 8080), 8080);
    fx.service.n_ports = 1;
    assert_int_equal(l7_cluster_port(cluster, &fx.service, 8080), 80);
    fx_fini(&fx);
}

// Contents of routes

static void test_weights(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "split",
           FX_MATCH(.uri = FX_PREFIX("/split")),
           .routes = (struct kobj_vs_dest[]){{.host = "a", .subset = "v1", .weight = 90},
                                             {.host = "b.other", .weight = 10, .port = 81},
                                             {.host = "c", .weight = 0}},
           .n_routes = 3},
          {.name = "zero",
           FX_MATCH(.uri = FX_PREFIX("/zero")),
           .routes = (struct kobj_vs_dest[]){{.host = "a"}, {.host = "b"}},
           .n_routes = 2},
          {.name = "single",
           .routes = (struct kobj_vs_dest[]){{.host = "a", .weight = 7}},
           .n_routes = 1});
    const struct l7_routes *routes = fx_routes(&fx);
    const struct l7_route *split = l7_routes_at(routes, 0);
    assert_int_equal(split->n_clusters, 2);
    assert_string_equal(split->clusters[0].host, "a.shop.svc.cluster.local");
    assert_string_equal(split->clusters[1].host, "b.other");
    assert_int_equal(split->clusters[1].port, 81);
    struct rand rand;
    rand_seed(&rand, 42);
    int n_first = 0;
    for (int i = 0; i < 20000; i++) {
        n_first += l7_route_cluster(split, &rand) == &split->clusters[0];
    }
    assert_in_range(n_first, 17800, 18200); // 18000 +- 4.7 sigma
    const struct l7_route *zero = l7_routes_at(routes, 1);
    assert_true(l7_route_cluster(zero, &rand)->is_invalid);
    assert_int_equal(zero->clusters[0].no_cluster_status, 503);
    assert_non_null(strstr(fx.problems, "weight"));
    assert_int_equal(l7_routes_at(routes, 2)->weight_sum, 1);
    fx_fini(&fx);
}

static void test_actions(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "redirect",
           .redirect = &(struct kobj_vs_redirect){.uri = "/new", .scheme = "https", .port = 8443}},
          {.name = "direct",
           .direct = &(struct kobj_vs_direct){.status = 418,
                                              .has_body = true,
                                              .body = SLICE_LIT("teapot")}},
          {.name = "all",
           FX_TO("a"),
           .rewrite = &(struct kobj_vs_rewrite){.uri = "/v2", .authority = "b"},
           .timeout_ms = 1500,
           .retries = &(struct kobj_vs_retry){.attempts = 3,
                                              .per_try_timeout_ms = 200,
                                              .backoff_ms = 10,
                                              .retry_on = "5xx,503, 429",
                                              .remote_localities = TRI_TRUE,
                                              .ignore_previous_hosts = TRI_FALSE},
           .fault =
               &(struct kobj_vs_fault){
                   .delay = &(struct kobj_vs_delay){.fixed_ms = 7000, .ppm = 300000},
                   .abort = &(struct kobj_vs_abort){.grpc_status = "UNAVAILABLE", .ppm = 500000}},
           .mirrors = (struct kobj_vs_mirror[]){{.dest = {.host = "m"}, .ppm = 100},
                                                {.dest = {.host = "off"}, .ppm = 0}},
           .n_mirrors = 2,
           .headers = {.request = {.set = FX_MAP({"Host", "set.example"}, {"X-A", "1"}),
                                   .add = FX_MAP({":authority", "add.example"}, {"X-B", "%%"}),
                                   .remove = (const char *[]){"X-C", "host"},
                                   .n_remove = 2}}},
          {.name = "off", FX_TO("a"), .retries = &(struct kobj_vs_retry){.attempts = 0}});
    const struct l7_routes *routes = fx_routes(&fx);
    const struct l7_route *route = l7_routes_at(routes, 0);
    assert_int_equal(route->action, L7_REDIRECT);
    assert_int_equal(route->redirect->status, 301);
    assert_int_equal(route->redirect->port, 8443);
    route = l7_routes_at(routes, 1);
    assert_int_equal(route->action, L7_DIRECT);
    assert_int_equal(route->direct->status, 418);
    assert_slice_equal(route->direct->body, "teapot");
    route = l7_routes_at(routes, 2);
    assert_int_equal(route->action, L7_FORWARD);
    assert_int_equal(route->path.change, L7_PATH_PREFIX);
    assert_string_equal(route->headers.authority, "b"); // rewrite before headers
    assert_int_equal(route->timeout_ms, 1500);
    assert_int_equal(route->retry.attempts, 3);
    assert_int_equal(route->retry.per_try_timeout_ms, 200);
    assert_int_equal(route->retry.max_ms, 100);
    assert_int_equal(route->retry.n_codes, 2);
    assert_true(route->retry.leaves_locality && !route->retry.avoids_tried_hosts);
    assert_int_equal(route->fault->delay_ms, 7000);
    assert_int_equal(route->fault->grpc_status, 14);
    assert_int_equal(route->n_mirrors, 1);
    assert_string_equal(route->mirrors[0].cluster.host, "m.shop.svc.cluster.local");
    assert_int_equal(route->headers.request.n, 3);
    assert_int_equal(route->headers.request.items[0].action, L7_HEADER_REMOVE);
    assert_slice_equal(route->headers.request.items[0].name, "x-c");
    assert_slice_equal(route->headers.request.items[1].name, "x-a");
    assert_int_equal(route->headers.request.items[2].action, L7_HEADER_ADD);
    route = l7_routes_at(routes, 3);
    assert_int_equal(route->retry.on, 0);
    assert_string_equal(fx.problems, "");
    fx_fini(&fx);
}

static void test_problems(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", //
          {.name = "bad-uri", FX_MATCH(.uri = FX_REGEX("(")), FX_TO("a")},
          {.name = "bad-header", FX_MATCH(FX_NAMED(headers, FX_MATCHES("x", "["))), FX_TO("a")},
          {.name = "claim",
           FX_MATCH(FX_NAMED(headers, FX_IS("@request.auth.claims.sub", "x"))),
           FX_TO("a")},
          {.name = "bad-rewrite",
           FX_MATCH(.uri = FX_PREFIX("/")),
           FX_TO("a"),
           .rewrite = &(struct kobj_vs_rewrite){.regex = "/(a)", .substitution = "\\2"}},
          {.name = "missing", FX_MATCH(.uri = FX_PREFIX("/")), .delegate_name = "nobody"},
          {.name = "rest",
           FX_TO("a"),
           .headers = {.request = {.set = FX_MAP({"x", "%NOPE%"})}},
           .retries = &(struct kobj_vs_retry){.attempts = 1, .retry_on = "sometimes,5xx"}});
    PROBE(&fx, {"GET http web /", "rest"});
    assert_int_equal(l7_routes_count(l7_routes_of_leaf(fx.leaf)), 1);
    static const char *const words[] = {"\"(\"",  "\"[\"", "claims",   "uriRegexRewrite",
                                        "nobody", "NOPE",  "sometimes"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strstr(fx.problems, words[i]) == NULL) {
            fail_msg("no problem with %s in:\n%s", words[i], fx.problems);
        }
    }
    fx_fini(&fx);
}

static void test_delegates(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "root", //
          {.name = "a",
           .delegate_name = "da",
           .timeout_ms = 900,
           FX_MATCH(.uri = FX_PREFIX("/a"), FX_NAMED(headers, FX_IS("x", "1"))),
           .mirrors = (struct kobj_vs_mirror[]){{.dest = {.host = "m"}, .ppm = 1}},
           .n_mirrors = 1},
          {.name = "b", .delegate_name = "db", FX_MATCH(.uri = FX_EXACT("/b")), .timeout_ms = -1},
          {.name = "rest", FX_TO("rest")});
    fx_delegate(
        &fx, "da",
        (struct kobj_vs_http[]){
            {.name = "one", FX_MATCH(.uri = FX_EXACT("/a/one")), FX_TO("one"), .timeout_ms = 100},
            {.name = "out", FX_MATCH(.uri = FX_PREFIX("/b")), FX_TO("out"), .timeout_ms = -1},
            {.name = "regex", FX_MATCH(.uri = FX_REGEX("/a.*")), FX_TO("out"), .timeout_ms = -1},
            {.name = "nested", .delegate_name = "db", .timeout_ms = -1},
            {.name = "",
             FX_MATCH(FX_NAMED(headers, FX_IS("y", "2"))),
             FX_TO("two"),
             .timeout_ms = -1},
            {.name = "any", FX_TO("any"), .timeout_ms = -1}},
        6);
    fx_delegate(&fx, "db", (struct kobj_vs_http[]){{.name = "all", FX_TO("b"), .timeout_ms = -1}},
                1);
    PROBE(&fx, {"GET http web /a/one\nx: 1", "a-one"}, {"GET http web /a/one", "rest"},
          {"GET http web /a/two\nx: 1\ny: 2", "a"}, {"GET http web /a/two\nx: 1", "a-any"},
          {"GET http web /b", "b-all"}, {"GET http web /b/c\nx: 1", "rest"});
    const struct l7_routes *routes = l7_routes_of_leaf(fx.leaf);
    assert_int_equal(l7_routes_count(routes), 5);
    assert_int_equal(l7_routes_at(routes, 0)->timeout_ms, 100);
    assert_int_equal(l7_routes_at(routes, 1)->timeout_ms, 900);
    assert_int_equal(l7_routes_at(routes, 1)->n_mirrors, 1);
    assert_string_equal(l7_routes_at(routes, 0)->source->name, "da");
    assert_non_null(strstr(fx.problems, "outside"));
    assert_non_null(strstr(fx.problems, "no delegates"));
    fx_fini(&fx);
}

static void test_trace(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs", {.name = "a", FX_MATCH(.port = 8080), FX_TO("a"), .pos = {3, 1}},
          {.name = "b", FX_MATCH(.source_labels = FX_MAP({"app", "x"})), FX_TO("a")},
          {.name = "c", FX_MATCH(.uri = FX_PREFIX("/c"), .pos = {9, 5}), FX_TO("a")},
          {.name = "d", FX_MATCH(FX_NAMED(headers, FX_IS("X-User", "me"))), FX_TO("a")},
          {.name = "e", FX_MATCH(FX_NAMED(query_params, FX_HAS("q"))), FX_TO("a")},
          {.name = "f", FX_MATCH(.method = FX_EXACT("PUT")), FX_TO("a")}, {.name = "g", FX_TO("a")},
          {.name = "h", FX_TO("a")});
    struct fx_head head;
    struct l7_request request;
    struct l7_match match;
    struct l7_trace_step steps[16];
    struct l7_trace trace = {.steps = steps, .cap = ARRAY_LEN(steps)};
    fx_head(&head, "GET http web /");
    l7_request_init(&request, &head.head, 80, &probe_client);
    l7_routes_match(fx_routes(&fx), &request, &trace, &match);
    assert_string_equal(match.route->name, "g");
    static const struct {
        enum l7_miss miss;
        const char *name, *want;
        enum l7_trace_how how;
    } expect[] = {{L7_MISS_PORT, "", "", L7_HOW_PRESENT},
                  {L7_MISS_SOURCE_LABELS, "app", "x", L7_HOW_PRESENT},
                  {L7_MISS_PATH, "", "/c", L7_HOW_PREFIX},
                  {L7_MISS_HEADER, "x-user", "me", L7_HOW_EXACT},
                  {L7_MISS_QUERY, "q", "", L7_HOW_PRESENT},
                  {L7_MISS_METHOD, "", "PUT", L7_HOW_EXACT},
                  {L7_MISS_NONE, "", "", L7_HOW_PRESENT}};
    assert_int_equal(trace.n, ARRAY_LEN(expect));
    for (size_t i = 0; i < trace.n; i++) {
        assert_int_equal(steps[i].miss, expect[i].miss);
        assert_string_equal(steps[i].name, expect[i].name);
        assert_string_equal(steps[i].want, expect[i].want);
        assert_int_equal(steps[i].how, expect[i].how);
        assert_true(strlen(l7_miss_text(expect[i].miss)) > 3);
    }
    assert_int_equal(steps[0].port, 8080);
    assert_int_equal(steps[2].pos.line, 9);
    // A buffer that is too small counts on.
    trace = (struct l7_trace){.steps = steps, .cap = 2};
    l7_routes_match(l7_routes_of_leaf(fx.leaf), &request, &trace, &match);
    assert_int_equal(trace.n, ARRAY_LEN(expect));
    fx_fini(&fx);
}

// Tables of random rules: the index and the plain walk (in fx_match) agree.
static void test_random(void **state) {
    static const char *const parts[] = {"/",  "/a",   "/a/",  "/a/b", "/A",    "/ab",   "/a/b/c",
                                        "/b", "/b/a", "/abc", "",     "/a/b/", "/B/a/", "/ab/c"};
    struct rand rand;
    rand_seed(&rand, 20261122);
    for (int round = 0; round < 150; round++) {
        struct fx fx;
        fx_init(&fx);
        struct kobj_vs_http http[24] = {0};
        struct kobj_vs_match matches[24] = {0};
        struct kobj_string_match uris[24];
        struct kobj_named_match headers[24];
        struct kobj_vs_dest dest = {.host = "a"};
        size_t n = rand_range(&rand, 1, ARRAY_LEN(http));
        for (size_t i = 0; i < n; i++) {
            uris[i] = (struct kobj_string_match){
                .kind = (uint8_t)rand_range(&rand, KOBJ_MATCH_EXACT, KOBJ_MATCH_REGEX),
                .text = parts[rand_below(&rand, ARRAY_LEN(parts))]};
            headers[i] = (struct kobj_named_match)FX_IS("x", rand_chance(&rand, 1, 2) ? "1" : "2");
            matches[i].uri = rand_chance(&rand, 4, 5) ? &uris[i] : NULL;
            matches[i].headers = &headers[i];
            matches[i].n_headers = rand_chance(&rand, 1, 2);
            matches[i].ignore_uri_case = rand_chance(&rand, 1, 4);
            matches[i].port = rand_chance(&rand, 1, 8) ? 8080 : 0;
            http[i] = (struct kobj_vs_http){
                .matches = &matches[i], .n_matches = 1, .routes = &dest, .n_routes = 1};
        }
        fx_virtual_service(&fx, "vs", http, n);
        const struct l7_routes *routes = fx_routes(&fx);
        for (int i = 0; i < 40; i++) {
            struct fx_head head;
            struct l7_request request;
            struct l7_match match;
            char text[64];
            const char *first = parts[rand_below(&rand, ARRAY_LEN(parts))];
            const char *second = parts[rand_below(&rand, ARRAY_LEN(parts))];
            snprintf(text, sizeof(text), "GET http web %s%s%s\nx: %s", first[0] == '/' ? "" : "/",
                     first, i % 4 ? "" : second, i % 2 ? "1" : "2");
            fx_head(&head, text);
            l7_request_init(&request, &head.head, i % 3 ? 80 : 8080, NULL);
            fx_match(routes, &request, &match);
        }
        fx_fini(&fx);
    }
}

// What a match costs with 1, 1000 and 10000 rules: printed, not asserted.
static void bench_one(const char *what, size_t n, uint8_t kind) {
    struct fx fx;
    fx_init(&fx);
    struct kobj_vs_http *http = calloc(n, sizeof(*http));
    struct kobj_vs_match *matches = calloc(n, sizeof(*matches));
    struct kobj_string_match *uris = calloc(n, sizeof(*uris));
    char(*texts)[48] = calloc(n, sizeof(*texts));
    struct kobj_vs_dest dest = {.host = "a"};
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "/api/v%zu/items/%zu%s", i % 10, i,
                 kind == KOBJ_MATCH_REGEX ? "/[a-z]+" : "/list");
        uris[i] = (struct kobj_string_match){.kind = kind, .text = texts[i]};
        matches[i].uri = &uris[i];
        http[i] = (struct kobj_vs_http){
            .matches = &matches[i], .n_matches = 1, .routes = &dest, .n_routes = 1};
    }
    fx_virtual_service(&fx, "vs", http, n);
    const struct l7_routes *routes = fx_routes(&fx);
    enum { RUNS = 20000, HEADS = 64 };
    static struct fx_head heads[HEADS];
    for (size_t i = 0; i < HEADS; i++) {
        char text[128];
        size_t k = i * 7919 % n;
        snprintf(text, sizeof(text), "GET http web /api/v%zu/items/%zu/list\nuser-agent: x", k % 10,
                 k);
        fx_head(&heads[i], text);
    }
    size_t runs = kind == KOBJ_MATCH_REGEX ? RUNS / 40 : RUNS;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t i = 0; i < runs; i++) {
        struct l7_request request;
        struct l7_match match;
        l7_request_init(&request, &heads[i % HEADS].head, 80, NULL);
        l7_routes_match(routes, &request, NULL, &match);
        assert_non_null(match.route);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
    printf("%6zu %-6s rules: %7.0f ns a match\n", n, what, ns / (double)runs);
    free(http);
    free(matches);
    free(uris);
    free(texts);
    fx_fini(&fx);
}

static void test_cost(void **state) {
    static const size_t counts[] = {1, 1000, 10000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        bench_one("exact", counts[i], KOBJ_MATCH_EXACT);
        bench_one("prefix", counts[i], KOBJ_MATCH_PREFIX);
        bench_one("regex", counts[i], KOBJ_MATCH_REGEX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_control_data),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_without_headers),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_default_route),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_delegates),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
