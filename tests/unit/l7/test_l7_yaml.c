// SPDX-License-Identifier: Apache-2.0
//
// The whole way: YAML, objects, builder, snapshot; then a request's route, cluster and host, as a
// waypoint asks for them.
#include "common/l7/l7_lb.h"
#include "common/mesh/builder.h"
#include "tests/unit/l7/l7_fixture.h"
#include "tests/unit/mesh/config_fixture.h"

static const char mesh_yaml[] =
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata: {name: v1, namespace: shop, labels: {app: web, version: v1}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\n"
    "status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata: {name: v2, namespace: shop, labels: {app: web, version: v2}}\n"
    "spec: {nodeName: n1, containers: [{name: a}]}\n"
    "status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: 'True'}]}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: http, port: 80, "
    "targetPort: 8080}]}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata: {name: api, namespace: shop}\n"
    "spec: {clusterIP: 10.1.0.2, selector: {app: web}, ports: [{name: http, port: 80, "
    "targetPort: 8080}]}\n";

static const char l7_yaml[] =
    "apiVersion: networking.istio.io/v1\n"
    "kind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec:\n"
    "  hosts: [web]\n"
    "  http:\n"
    "  - name: safari\n"
    "    match: [{headers: {user-agent: {regex: '.*Safari.*'}}}]\n"
    "    route: [{destination: {host: web, subset: v2}}]\n"
    "  - name: gone\n"
    "    match: [{uri: {prefix: /old}}]\n"
    "    redirect: {uri: /new, redirectCode: 308}\n"
    "  - name: canary\n"
    "    route:\n"
    "    - {destination: {host: web, subset: v1}, weight: 75}\n"
    "    - {destination: {host: web, subset: v2}, weight: 25}\n"
    "    timeout: 1s\n"
    "    retries: {attempts: 3, perTryTimeout: 200ms, retryOn: '5xx,429'}\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: DestinationRule\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec:\n"
    "  host: web\n"
    "  trafficPolicy:\n"
    "    loadBalancer: {simple: ROUND_ROBIN}\n"
    "    outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}\n"
    "  subsets:\n"
    "  - {name: v1, labels: {version: v1}}\n"
    "  - name: v2\n"
    "    labels: {version: v2}\n"
    "    trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 1}}}\n"
    "---\n"
    "apiVersion: gateway.networking.k8s.io/v1\n"
    "kind: HTTPRoute\n"
    "metadata: {name: api, namespace: shop}\n"
    "spec:\n"
    "  parentRefs: [{group: '', kind: Service, name: api}]\n"
    "  rules:\n"
    "  - matches: [{path: {type: PathPrefix, value: /v2}}]\n"
    "    filters:\n"
    "    - type: URLRewrite\n"
    "      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}\n"
    "    backendRefs: [{name: web, port: 80}]\n";

static struct mesh_builder *builder;
static struct config_fixture fixture;

static void apply(const char *yaml) {
    struct builder_changes changes;
    uint32_t first = fixture.n_objs;
    fixture_read(&fixture, yaml, CONFIG_YAML);
    assert_messages(&fixture.errors, "");
    for (uint32_t i = first; i < fixture.n_objs; i++) {
        builder_set(builder, fixture.objs[i]);
    }
    builder_commit(builder, &changes);
    builder_changes_fini(&changes);
}

static int setup(void **state) {
    static const struct builder_l7_ops ops = {.routes = l7_routes_compile,
                                              .policy = l7_policy_compile};
    static const struct mesh_settings mesh = {.trust_domain = "cluster.local",
                                              .cluster_domain = "cluster.local",
                                              .root_namespace = "istio-system"};
    snapshot_init(&mesh);
    const struct builder_options options = {.mesh = mesh, .node = "", .l7 = &ops};
    builder = builder_new(&options);
    kobj_regex_problem = l7_regex_problem;
    fixture_init(&fixture);
    apply(mesh_yaml);
    return 0;
}

static int teardown(void **state) {
    builder_free(builder);
    fixture_fini(&fixture);
    snapshot_fini();
    kobj_regex_problem = NULL;
    return leaf_count() == 0 ? 0 : -1;
}

static const struct l7_route *route_of(const char *key, const char *text, struct l7_match *match) {
    static struct fx_head head;
    struct l7_request request;
    fx_head(&head, text);
    l7_request_init(&request, &head.head, 80, NULL);
    struct leaf *leaf = snapshot_l7_routes(snapshot_current(), slice_str(key));
    return fx_match(l7_routes_of_leaf(leaf), &request, match);
}

static const char web_key[] = "shop/web.shop.svc.cluster.local";
static const char api_key[] = "shop/api.shop.svc.cluster.local";

static void test_route_cluster_host(void **state) {
    struct l7_match match;
    struct rand rand;
    rand_seed(&rand, 3);
    assert_true(route_of(web_key, "GET http web /", &match)->is_default);
    apply(l7_yaml);
    assert_string_equal(route_of(web_key, "GET http web /old", &match)->name, "gone");
    assert_int_equal(match.route->redirect->status, 308);
    const struct l7_route *route = route_of(web_key, "GET http web /", &match);
    assert_string_equal(route->name, "canary");
    assert_int_equal(route->timeout_ms, 1000);
    assert_int_equal(route->retry.per_try_timeout_ms, 200);
    assert_int_equal(route->retry.codes[0], 429);
    assert_string_equal(route->source->file, "f.yaml");
    assert_true(route->pos.line > 0);
    int n_v2 = 0;
    for (int i = 0; i < 10000; i++) {
        n_v2 += strcmp(l7_route_cluster(route, &rand)->subset, "v2") == 0;
    }
    assert_in_range(n_v2, 2300, 2700);
    // From the destination to its host.
    route = route_of(web_key, "GET http web /\nuser-agent: x Safari y", &match);
    const struct l7_cluster *cluster = l7_route_cluster(route, &rand);
    const struct snapshot *snap = snapshot_current();
    const struct service *service =
        snapshot_service_by_host(snap, slice_str(cluster->host), "shop");
    assert_non_null(service);
    assert_int_equal(l7_cluster_port(cluster, service, 9999), 80);
    const struct l7_policy *policy = l7_policy_of_leaf(snapshot_l7_policy(snap, service->leaf.key));
    const struct l7_subset *subset;
    const struct l7_settings *settings = l7_policy_find(policy, cluster->subset, 80, &subset);
    assert_int_equal(settings->pool.max_pending, 1);
    assert_int_equal(settings->lb.kind, L7_LB_ROUND_ROBIN);
    assert_int_equal(settings->outlier.consecutive_5xx, 1);
    assert_null(l7_policy_find(policy, "v3", 80, &subset));
    settings = l7_policy_find(policy, cluster->subset, 80, &subset);
    struct l7_host hosts[4];
    assert_int_equal(l7_lb_hosts(service, subset, 0, hosts, 4), 1);
    assert_string_equal(hosts[0].endpoint->workload->name, "v2");
    assert_int_equal(hosts[0].addr.port, 8080);
    assert_int_equal(l7_lb_hosts(service, NULL, 0, hosts, 4), 2);
}

static void test_gateway_api(void **state) {
    struct l7_match match;
    const struct l7_route *route = route_of(api_key, "GET http api /v2/x", &match);
    assert_non_null(route);
    assert_string_equal(route->name, "shop.api.0");
    assert_string_equal(route->clusters[0].host, "web.shop.svc.cluster.local");
    assert_int_equal(route->path.change, L7_PATH_SEGMENTS);
    assert_int_equal(match.match_len, 3);
    assert_null(route_of(api_key, "GET http api /v2x", &match));
}

// Edits while the mesh runs.
static void test_changes(void **state) {
    struct l7_match match;
    apply("apiVersion: networking.istio.io/v1\n"
          "kind: VirtualService\n"
          "metadata: {name: web, namespace: shop}\n"
          "spec:\n"
          "  hosts: [web]\n"
          "  http:\n"
          "  - {name: root, match: [{uri: {prefix: /d}}], delegate: {name: sub}}\n"
          "  - {name: rest, route: [{destination: {host: web}}]}\n");
    assert_string_equal(route_of(web_key, "GET http web /d/1", &match)->name, "rest");
    apply("apiVersion: networking.istio.io/v1\n"
          "kind: VirtualService\n"
          "metadata: {name: sub, namespace: shop}\n"
          "spec: {http: [{name: child, route: [{destination: {host: api}}]}]}\n");
    const struct l7_route *route = route_of(web_key, "GET http web /d/1", &match);
    assert_string_equal(route->name, "root-child");
    assert_string_equal(route->source->name, "sub");
    assert_string_equal(route->clusters[0].host, "api.shop.svc.cluster.local");
    assert_string_equal(route_of(web_key, "GET http web /", &match)->name, "rest");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_cluster_host),
        cmocka_unit_test(test_gateway_api),
        cmocka_unit_test(test_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
