// SPDX-License-Identifier: Apache-2.0
//
// Which destination a connection gets: `tls` and `tcp` of VirtualServices.
#include "tests/unit/l7/l7_fixture.h"

static const struct label client_labels[] = {{"app", "client"}, {"version", "v1"}};
static const struct workload_common client_common = {
    .ns = "shop", .labels = client_labels, .n_labels = ARRAY_LEN(client_labels)};
static const struct workload client = {.ns = "shop", .common = &client_common};

struct probe {
    const char *called, *from, *name, *want; // want: host of the destination; NULL: the default
    uint8_t protocol;
    const struct workload *source; // NULL: not known
};

static void probe_all(const struct l7_routes *routes, const struct probe *probes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct probe *probe = &probes[i];
        struct addr called, from;
        assert_true(addr_parse(slice_str(probe->called), &called));
        assert_true(addr_parse(slice_str(probe->from), &from));
        struct l7_flow flow = {.client = &from,
                               .called = &called,
                               .port = called.port,
                               .protocol = probe->protocol,
                               .source = probe->source,
                               .name = slice_str(probe->name)};
        const struct l7_route *route = l7_routes_match_flow(routes, &flow);
        assert_non_null(route);
        assert_int_equal(route->is_default, probe->want == NULL);
        if (probe->want != NULL && strcmp(route->clusters[0].host, probe->want) != 0) {
            fail_msg("%s %s: %s, not %s", probe->called, probe->name, route->clusters[0].host,
                     probe->want);
        }
    }
}

#define MATCH(ns, ...)                                                                             \
    .matches = (struct kobj_vs_l4_match[]){{.source_ns = (ns), __VA_ARGS__}}, .n_matches = 1
#define TO(h) .routes = (struct kobj_vs_dest[]){{.host = (h), .subset = ""}}, .n_routes = 1
#define LIST(field, ...)                                                                           \
    .field = (const char *const[]){__VA_ARGS__},                                                   \
    .n_##field = ARRAY_LEN(((const char *const[]){__VA_ARGS__}))

static struct kobj_virtual_service *add(struct fx *fx) {
    fx_virtual_service(fx, "vs", NULL, 0);
    return (struct kobj_virtual_service *)(uintptr_t)fx
        ->virtual_services[fx->in.n_virtual_services - 1]
        ->virtual_service;
}

#define A "x.a.example.com"

static void test_matches(void **state) {
    struct fx fx;
    fx_init(&fx);
    const struct kobj_vs_l4 tls[] = {
        {MATCH("", LIST(sni_hosts, "y.example.com", "*.A.example.com")), TO("names.b")},
        {MATCH("", LIST(sni_hosts, "*"), .port = 8443), TO("any.b")},
    };
    const struct kobj_vs_l4 tcp[] = {
        {MATCH("", .port = 81), TO("port.b")},
        {MATCH("", LIST(destination_subnets, "10.0.0.0/8", "192.0.2.1")), TO("subnet.b")},
        {MATCH("", .source_subnet = "172.16.0.0/12"), TO("from.b")},
        {MATCH("elsewhere", .port = 82), TO("ns.b")},
        {MATCH("", .port = 82, .source_labels = FX_MAP({"app", "client"})), TO("labels.b")},
        {MATCH("", .port = 83, LIST(gateways, "shop/edge")), TO("edge.b")},
    };
    struct kobj_virtual_service *vs = add(&fx);
    vs->tls = tls;
    vs->n_tls = ARRAY_LEN(tls);
    vs->tcp = tcp;
    vs->n_tcp = ARRAY_LEN(tcp);
    const struct l7_routes *routes = fx_routes(&fx);
    assert_true(l7_routes_has_names(routes));
    const struct probe probes[] = {
        {"1.1.1.1:81", "1.2.3.4:1", "", "port.b", APP_UNKNOWN, &client},
        {"1.1.1.1:80", "1.2.3.4:1", "", NULL, APP_UNKNOWN, &client},
        {"10.1.1.1:80", "1.2.3.4:1", "", "subnet.b", APP_UNKNOWN, &client},
        {"192.0.2.1:80", "1.2.3.4:1", "", "subnet.b", APP_UNKNOWN, &client},
        {"192.0.2.2:80", "1.2.3.4:1", "", NULL, APP_UNKNOWN, &client},
        {"1.1.1.1:80", "172.16.3.4:1", "", "from.b", APP_UNKNOWN, &client},
        {"1.1.1.1:82", "1.2.3.4:1", "", "labels.b", APP_UNKNOWN, &client},
        {"1.1.1.1:82", "1.2.3.4:1", "", NULL, APP_UNKNOWN, NULL},
        {"1.1.1.1:83", "1.2.3.4:1", "", NULL, APP_UNKNOWN, &client}, // of a gateway
        {"1.1.1.1:80", "1.2.3.4:1", A, "names.b", APP_UNKNOWN, &client},
        {"1.1.1.1:80", "1.2.3.4:1", A, "names.b", APP_TLS, &client},
        {"1.1.1.1:80", "1.2.3.4:1", A, NULL, APP_TCP, &client}, // declared: no tls rules
        {"1.1.1.1:81", "1.2.3.4:1", "z", NULL, APP_TLS, &client}, // declared: no tcp rules
        {"1.1.1.1:80", "1.2.3.4:1", "a.example.com", NULL, APP_UNKNOWN, &client},
        {"1.1.1.1:80", "1.2.3.4:1", "y.example.com", "names.b", APP_UNKNOWN, &client},
        {"1.1.1.1:8443", "1.2.3.4:1", "other", "any.b", APP_TLS, &client},
        {"1.1.1.1:8443", "1.2.3.4:1", "", NULL, APP_TLS, &client}, // no name
    };
    probe_all(routes, probes, ARRAY_LEN(probes));
    fx_fini(&fx);
}

static void test_weights(void **state) {
    struct fx fx;
    fx_init(&fx);
    const struct kobj_vs_dest three[] = {{.host = "a.b", .subset = "", .weight = 90},
                                         {.host = "b.b", .subset = "v1", .weight = 10},
                                         {.host = "c.b", .subset = "", .weight = 0}};
    const struct kobj_vs_dest none[] = {{.host = "a.b", .subset = ""},
                                        {.host = "b.b", .subset = ""}};
    const struct kobj_vs_l4 tcp[] = {{MATCH("", .port = 80), .routes = three, .n_routes = 3},
                                     {.routes = none, .n_routes = 2}};
    struct kobj_virtual_service *vs = add(&fx);
    vs->tcp = tcp;
    vs->n_tcp = ARRAY_LEN(tcp);
    const struct l7_routes *routes = fx_routes(&fx);
    assert_false(l7_routes_has_names(routes));
    struct addr any = {.ip = {.family = 4}};
    struct l7_flow flow = {.client = &any, .called = &any, .port = 80};
    const struct l7_route *route = l7_routes_match_flow(routes, &flow);
    assert_int_equal(route->n_clusters, 2);
    assert_int_equal(route->weight_sum, 100);
    assert_string_equal(route->clusters[1].subset, "v1");
    flow.port = 81;
    route = l7_routes_match_flow(routes, &flow);
    assert_true(route->n_clusters == 1 && route->clusters[0].is_invalid);
    assert_non_null(strstr(fx.problems, "no destination has a weight"));
    fx_fini(&fx);
}

static void test_nothing(void **state) {
    struct addr any = {.ip = {.family = 4}};
    struct l7_flow flow = {.client = &any, .called = &any, .port = 80};
    assert_true(l7_routes_match_flow(NULL, &flow)->is_default);
    assert_false(l7_routes_has_names(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
