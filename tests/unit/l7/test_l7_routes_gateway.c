// SPDX-License-Identifier: Apache-2.0
//
// Which rule a request gets: VirtualServices, HTTPRoutes and GRPCRoutes.

#include "tests/unit/l7/l7_fixture.h"
#include "tests/unit/l7/l7_routes_bed.h"

// Gateway API

#define PATH(t, p) .path_type = ROUTE_PATH_##t, .path = (p)
#define GW_MATCH(...) .matches = (struct kobj_route_match[]){{__VA_ARGS__}}, .n_matches = 1
#define GW_TO(n)                                                                                   \
    .backends = (struct kobj_backend[]){{.name = (n), .port = 80, .weight = 1}}, .n_backends = 1

static void test_http_route(void **state) {
    struct fx fx;
    fx_init(&fx);
    // Written in the wrong order.
    FX_ROUTE(&fx, "HTTPRoute", "r1", //
             {.name = "none", GW_TO("a")},
             {.name = "regex", GW_MATCH(PATH(REGEX, "/foo/[a-z]+")), GW_TO("a")},
             {.name = "root", GW_MATCH(PATH(PREFIX, "/")), GW_TO("a")},
             {.name = "short", GW_MATCH(PATH(PREFIX, "/foo")), GW_TO("a")},
             {.name = "long", GW_MATCH(PATH(PREFIX, "/foo/bar/")), GW_TO("a")},
             {.name = "exact", GW_MATCH(PATH(EXACT, "/foo/bar")), GW_TO("a")},
             {.name = "header",
              GW_MATCH(PATH(PREFIX, "/foo"), FX_NAMED(headers, FX_IS("V", "2"))),
              GW_TO("a")},
             {.name = "method", GW_MATCH(PATH(PREFIX, "/foo"), .method = "PUT"), GW_TO("a")},
             {.name = "query",
              GW_MATCH(PATH(PREFIX, "/foo"), FX_NAMED(query_params, FX_IS("q", "1"))),
              GW_TO("a")});
    FX_ROUTE(&fx, "HTTPRoute", "r2", {GW_MATCH(PATH(PREFIX, "/foo")), GW_TO("b")},
             {GW_MATCH(PATH(PREFIX, "/only/")), GW_TO("b")});
    FX_VS(&fx, "vs", {.name = "vs", FX_TO("a")});
    PROBE(&fx, {"GET http web /foo/bar", "exact"}, {"GET http web /foo/bar/x", "long"},
          {"GET http web /foo/barx", "short"}, {"GET http web /foo/x", "short"},
          {"GET http web /foo", "short"}, {"GET http web /foobar", "root"},
          {"GET http web /", "root"}, {"PUT http web /foo\nv: 2", "method"},
          {"GET http web /foo\nv: 2", "header"}, {"GET http web /foo?q=1", "query"},
          {"GET http web /foo?q=1\nv: 2", "header"}, {"GET http web /only", "shop.r2.1"},
          {"GET http web /only/x", "shop.r2.1"}, {"GET http web /onlyx", "root"},
          {"OPTIONS http web *", "none"});
    fx_fini(&fx);
    // A port of the parent.
    fx_init(&fx);
    fx_route(&fx, "HTTPRoute", "r", (struct kobj_route_rule[]){{.name = "p", GW_TO("a")}}, 1, 8080);
    PROBE(&fx, {"GET http web /", "default"});
    fx_fini(&fx);
}

static void test_http_route_content(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_ROUTE(&fx, "HTTPRoute", "r", //
             {.name = "no-backend"},
             {.name = "zero",
              .backends = (struct kobj_backend[]){{.name = "a", .port = 80, .weight = 0}},
              .n_backends = 1},
             {.name = "bad",
              .backends =
                  (struct kobj_backend[]){
                      {.name = "a", .port = 80, .weight = 1},
                      {.name = "x", .kind = "Bucket", .group = "s3", .port = 80, .weight = 1},
                      {.name = "no-port", .weight = 1},
                      {.name = "h.example",
                       .kind = "Hostname",
                       .group = "networking.istio.io",
                       .port = 443,
                       .weight = 1},
                      {.name = "a", .ns = "other", .port = 80, .weight = 1},
                      {.name = "a", .ns = "open", .port = 80, .weight = 1},
                      {.name = "secret", .ns = "open", .port = 80, .weight = 1}},
              .n_backends = 7},
             {.name = "mirror",
              .filters =
                  (struct kobj_route_filter[]){
                      {.type = FILTER_MIRROR,
                       .mirror = &(struct kobj_gw_mirror){.backend = {.name = "a",
                                                                      .ns = "other",
                                                                      .kind = "Service",
                                                                      .group = "",
                                                                      .port = 80},
                                                          .ppm = 1000000}},
                      {.type = FILTER_MIRROR,
                       .mirror = &(struct kobj_gw_mirror){.backend = {.name = "b",
                                                                      .ns = "open",
                                                                      .kind = "Service",
                                                                      .group = "",
                                                                      .port = 80},
                                                          .ppm = 1000000}}},
              .n_filters = 2,
              GW_TO("a")},
             {.name = "ext",
              .filters = (struct kobj_route_filter[]){{.type = FILTER_EXTENSION}},
              .n_filters = 1,
              GW_TO("a")},
             {.name = "redirect",
              .filters =
                  (struct kobj_route_filter[]){
                      {.type = FILTER_REDIRECT,
                       .redirect =
                           &(struct kobj_gw_redirect){
                               .scheme = "https", .hostname = "", .path = "", .code = 302}}},
              .n_filters = 1},
             {.name = "timeouts",
              GW_TO("a"),
              .request_timeout_ms = 1000,
              .backend_timeout_ms = 300,
              .retry = &(struct kobj_gw_retry){.codes = (uint32_t[]){500, 503},
                                               .n_codes = 2,
                                               .attempts = -1,
                                               .backoff_ms = -1}},
             {.name = "backend-timeout",
              GW_TO("a"),
              .request_timeout_ms = -1,
              .backend_timeout_ms = 300});
    const struct l7_routes *routes = fx_routes(&fx);
    assert_int_equal(l7_routes_at(routes, 0)->direct->status, 500);
    assert_int_equal(l7_routes_at(routes, 1)->direct->status, 500);
    const struct l7_route *bad = l7_routes_at(routes, 2);
    // Of another namespace: without and with a ReferenceGrant, and with one for others.
    static const bool invalid[] = {false, true, true, false, true, false, true};
    assert_int_equal(bad->n_clusters, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(bad->clusters[i].is_invalid, invalid[i]);
        assert_int_equal(bad->clusters[i].no_cluster_status, 500);
    }
    assert_string_equal(bad->clusters[3].host, "h.example");
    assert_string_equal(bad->clusters[5].host, "a.open.svc.cluster.local");
    const struct l7_route *mirror = l7_routes_at(routes, 3);
    assert_int_equal(mirror->n_mirrors, 1);
    assert_string_equal(mirror->mirrors[0].cluster.host, "b.open.svc.cluster.local");
    assert_int_equal(l7_routes_at(routes, 4)->direct->status, 500);
    const struct l7_route *redirect = l7_routes_at(routes, 5);
    assert_int_equal(redirect->action, L7_REDIRECT);
    assert_int_equal(redirect->redirect->status, 302);
    assert_true(redirect->redirect->strips_port);
    const struct l7_route *timeouts = l7_routes_at(routes, 6);
    assert_int_equal(timeouts->timeout_ms, 1000);
    assert_int_equal(timeouts->retry.per_try_timeout_ms, 300);
    assert_int_equal(timeouts->retry.attempts, 2);
    assert_int_equal(timeouts->retry.n_codes, 2);
    assert_int_equal(l7_routes_at(routes, 7)->timeout_ms, 300);
    fx_fini(&fx);
}

static void test_grpc_route(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_ROUTE(&fx, "GRPCRoute", "g", //
             {.name = "any", GW_TO("a")}, {.name = "method", GW_MATCH(.method = "Get"), GW_TO("a")},
             {.name = "service", GW_MATCH(.grpc_service = "pkg.Svc"), GW_TO("a")},
             {.name = "exact", GW_MATCH(.grpc_service = "pkg.Svc", .method = "Put"), GW_TO("a")},
             {.name = "regex",
              GW_MATCH(.grpc_type = KOBJ_MATCH_REGEX, .grpc_service = "re\\.[a-z]+"),
              GW_TO("a")},
             {.name = "header", GW_MATCH(FX_NAMED(headers, FX_IS("x", "1"))), GW_TO("a")});
    PROBE(&fx, {"POST http web /pkg.Svc/Put", "exact"}, {"POST http web /pkg.Svc/Get", "service"},
          {"POST http web /pkg.Svc2/Get", "method"}, {"POST http web /re.foo/X", "regex"},
          {"POST http web /re.foo/", "any"}, {"POST http web /q/X", "any"},
          {"POST http web /q/X\nx: 1", "header"}, {"POST http web /pkg.Svc", "any"});
    fx_fini(&fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_route),
        cmocka_unit_test(test_http_route_content),
        cmocka_unit_test(test_grpc_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
