// SPDX-License-Identifier: Apache-2.0
//
// /l7_dump: what is configured, and the live numbers of clusters, in steps.
#include "waypoint/admin_l7.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/l7/l7_policy.h"
#include "common/l7/l7_routes.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/config_errors.h"
#include "common/mesh/kobj.h"
#include "tests/unit/base/unit.h"
#include "waypoint/cluster.h"

#define POD(name, ip, version, ready)                                                              \
    "{apiVersion: v1, kind: Pod, metadata: {namespace: m, name: " name                             \
    ", labels: {app: web, version: " version "}}, spec: {nodeName: n1, serviceAccountName: web, "  \
    "containers: [{name: c, image: i}]}, status: {phase: Running, podIP: " ip                      \
    ", podIPs: [{ip: " ip "}], conditions: [{type: Ready, status: '" ready "'}]}}\n---\n"
#define SERVICE(ns, name, ip, labels)                                                              \
    "{apiVersion: v1, kind: Service, metadata: {namespace: " ns ", name: " name                    \
    ", labels: {" labels "}}, spec: {clusterIP: " ip                                               \
    ", selector: {app: web}, ports: [{name: http, port: 80, "                                      \
    "targetPort: 8080}]}}\n---\n"
#define BOUND "istio.io/use-waypoint: way"

static const char mesh[] = "{apiVersion: v1, kind: Namespace, metadata: {name: m}}\n---\n" POD(
    "web-1", "10.0.0.1", "v1", "True") POD("web-2", "10.0.0.2", "v2",
                                           "True") POD("web-3", "10.0.0.3", "v2",
                                                       "False") SERVICE("m", "web", "10.96.0.1",
                                                                        BOUND)
    SERVICE("m", "bare", "10.96.0.2", BOUND) SERVICE("m", "far", "10.96.0.3", "") SERVICE(
        "m", "way", "10.96.0.9",
        "gateway.networking.k8s.io/gateway-name: way") "{apiVersion: gateway.networking.k8s.io/v1, "
                                                       "kind: Gateway, metadata: {namespace: m, "
                                                       "name: "
                                                       "way}, spec: {gatewayClassName: "
                                                       "istio-waypoint, listeners: [{name: mesh, "
                                                       "port: 15008, "
                                                       "protocol: HBONE}]}, status: {addresses: "
                                                       "[{type: Hostname, value: "
                                                       "way.m.svc.cluster.local}]}}\n---\n"
                                                       "apiVersion: networking.istio.io/v1\nkind: "
                                                       "VirtualService\n"
                                                       "metadata: {namespace: m, name: "
                                                       "vs}\nspec:\n  hosts: [web]\n  http:\n"
                                                       "  - name: a\n    match: [{uri: {prefix: "
                                                       "/a}, headers: {x-u: {exact: me}}}]\n"
                                                       "    fault: {abort: {httpStatus: 503, "
                                                       "percentage: {value: 50}}}\n"
                                                       "    route: [{destination: {host: web, "
                                                       "subset: v1}, weight: 90},"
                                                       " {destination: {host: far}, weight: 10}]\n "
                                                       "   mirror: {host: bare}\n    timeout: 2s\n"
                                                       "  - redirect: {uri: /x, redirectCode: "
                                                       "302}\n---\n"
                                                       "apiVersion: networking.istio.io/v1\nkind: "
                                                       "DestinationRule\n"
                                                       "metadata: {namespace: m, name: "
                                                       "dr}\nspec:\n  host: web\n"
                                                       "  trafficPolicy: {connectionPool: {tcp: "
                                                       "{maxConnections: 5}}, outlierDetection: "
                                                       "{}}\n"
                                                       "  subsets: [{name: v1, labels: {version: "
                                                       "v1}}, {name: v2, labels: {version: v2}}]\n";

static const struct waypoint_config config = {
    .ns = "m",
    .name = "way",
    .listen = {.ip = {.family = 4, .bytes = {10, 0, 0, 9}}, .port = 15008},
    .proc.admin = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 15000},
    .proc.metrics = {.ip = {.family = 4}, .port = 15020},
    .proc.readiness = {.ip = {.family = 4}, .port = 15021},
};

struct bed {
    struct mesh_builder *builder;
    struct arena arena;
    struct config_errors errors;
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct bed *bed = arg;
    struct kobj *obj = kobj_decode(node, "mesh.yaml", 0, &bed->arena, &bed->errors);
    assert_non_null(obj);
    builder_set(bed->builder, obj);
    kobj_unref(obj);
    return 0;
}

static int setup(void **state) {
    static const struct builder_l7_ops l7 = {.routes = l7_routes_compile,
                                             .policy = l7_policy_compile};
    struct bed *bed = xcalloc(1, sizeof(*bed));
    struct builder_options options = {.mesh = {.trust_domain = "cluster.local",
                                               .cluster_domain = "cluster.local",
                                               .root_namespace = "istio-system",
                                               .cluster_id = "c"},
                                      .node = "",
                                      .l7 = &l7,
                                      .proxy_namespace = "m"};
    struct config_doc_reader reader;
    struct cfg_node root;
    struct builder_changes changes;
    arena_init(&bed->arena, SIZE_MAX);
    config_errors_init(&bed->errors);
    snapshot_init(&options.mesh);
    bed->builder = builder_new(&options);
    config_doc_reader_init(&reader, "mesh.yaml", slice_str(mesh), CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &bed->arena, &bed->errors, &root) > 0) {
        config_doc_each(&root, &bed->arena, "mesh.yaml", &bed->errors, on_object, bed);
    }
    assert_int_equal(bed->errors.n_errors, 0);
    builder_commit(bed->builder, &changes);
    builder_changes_fini(&changes);
    *state = bed;
    return 0;
}

static int teardown(void **state) {
    struct bed *bed = *state;
    builder_free(bed->builder);
    snapshot_fini();
    config_errors_fini(&bed->errors);
    arena_fini(&bed->arena);
    free(bed);
    assert_int_equal(leaf_count(), 0);
    return 0;
}

static json_t *dumped(size_t *ret_n_steps) {
    struct buf text;
    struct json_out out;
    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, false);
    struct admin_l7 *dump = admin_l7_new(&config, snapshot_current(), true);
    json_out_begin_object(&out);
    for (*ret_n_steps = 1; admin_l7_step(dump, &out); (*ret_n_steps)++) {
    }
    assert_false(admin_l7_step(dump, &out));
    json_out_end(&out);
    admin_l7_free(dump);
    json_error_t error;
    json_t *value = json_loadb((const char *)text.ptr, text.len, 0, &error);
    if (value == NULL) {
        fail_msg("%s in %.*s", error.text, (int)text.len, text.ptr);
    }
    buf_fini(&text);
    return value;
}

static void check(const json_t *value, const char *want) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_string_equal(text, want);
    free(text);
}

static json_t *at(const json_t *object, const char *key, size_t i) {
    return json_array_get(json_object_get(object, key), i);
}

static void test_listeners_and_routes(void **state) {
    size_t n_steps;
    json_t *dump = dumped(&n_steps);
    assert_int_equal(json_array_size(json_object_get(dump, "listeners")), 4);
    check(at(dump, "listeners", 0),
          "{\"address\":\"10.0.0.9:15008\",\"name\":\"mesh\",\"open\":true,"
          "\"protocol\":\"HBONE\"}");
    assert_int_equal(json_array_size(json_object_get(dump, "routes")), 2); // of what is bound here
    const json_t *bare = at(dump, "routes", 0), *web = at(dump, "routes", 1);
    check(at(bare, "rules", 0),
          "{\"action\":\"forward\",\"cors\":false,\"destinations\":[{\"host\":"
          "\"bare.m.svc.cluster.local\",\"weight\":1}],\"match\":\"/*\",\"name\":\"default\","
          "\"retries\":2}");
    check(at(web, "rules", 0),
          "{\"action\":\"forward\",\"cors\":false,\"destinations\":[{\"host\":"
          "\"web.m.svc.cluster.local\",\"subset\":\"v1\",\"weight\":90},{\"host\":"
          "\"far.m.svc.cluster.local\",\"weight\":10}],\"fault\":{\"abortPercent\":50,"
          "\"abortStatus\":503},\"from\":{\"column\":13,\"file\":\"mesh.yaml\",\"kind\":"
          "\"VirtualService\",\"line\":26,\"name\":\"vs\",\"namespace\":\"m\"},\"match\":\"/a*, "
          "header x-u me\",\"mirrors\":[{\"host\":\"bare.m.svc.cluster.local\",\"percent\":100}],"
          "\"name\":\"a\",\"retries\":2,\"timeoutMs\":2000}");
    check(json_object_get(at(web, "rules", 1), "status"), "302");
    check(json_object_get(web, "ports"), "[{\"port\":80,\"protocol\":\"HTTP\"}]");
    json_decref(dump);
}

static const json_t *cluster_named(const json_t *dump, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(dump, "clusters"), i, item) {
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0) {
            return item;
        }
    }
    return NULL;
}

static void test_configured_clusters(void **state) {
    size_t n_steps;
    json_t *dump = dumped(&n_steps);
    // web, its two subsets, and bare; far is bound elsewhere and not in use.
    assert_int_equal(json_array_size(json_object_get(dump, "clusters")), 4);
    assert_null(cluster_named(dump, "inbound-vip|80|http|far.m.svc.cluster.local"));
    const json_t *v2 = cluster_named(dump, "inbound-vip|80|http/v2|web.m.svc.cluster.local");
    check(json_object_get(v2, "breakers"), "{\"connections\":{\"limit\":5,\"used\":0},\"pending\":"
                                           "{\"used\":0},\"requests\":{\"used\":0},\"retries\":"
                                           "{\"used\":0}}");
    check(json_object_get(v2, "used"), "false");
    check(json_object_get(v2, "loadBalancer"), "\"LEAST_REQUEST\"");
    check(json_object_get(json_object_get(v2, "from"), "name"), "\"dr\"");
    assert_int_equal(json_array_size(json_object_get(v2, "endpoints")), 1); // web-3 is not ready
    json_decref(dump);
}

static void test_live_numbers(void **state) {
    static const struct addr one = {.ip = {.family = 4, .bytes = {10, 0, 0, 1}}, .port = 8080};
    size_t n_steps;
    struct cluster *used =
        cluster_get("m/web.m.svc.cluster.local", "web.m.svc.cluster.local", 80, "v1");
    struct cluster *other =
        cluster_get("m/far.m.svc.cluster.local", "far.m.svc.cluster.local", 80, "");
    struct cluster *gone = cluster_get("m/gone.m.svc.cluster.local", "gone", 80, "");
    struct cluster_host *host = cluster_host_get(used, &one, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(l7_breaker_take(&used->breaker, L7_BREAKER_REQUESTS, L7_NO_LIMIT));
    }
    assert_true(l7_breaker_take(&used->breaker, L7_BREAKER_CONNECTIONS, 5));
    atomic_store(&host->n_conns, 1);
    atomic_store(&host->cell.active, 3);
    atomic_store(&host->cell.n_5xx, 4);
    atomic_store(&host->cell.n_ejections, 2);
    atomic_store(&host->cell.is_ejected, true);
    atomic_store(&used->outlier.n_ejected, 1);
    json_t *dump = dumped(&n_steps);
    const json_t *v1 = cluster_named(dump, "inbound-vip|80|http/v1|web.m.svc.cluster.local");
    check(json_object_get(v1, "breakers"), "{\"connections\":{\"limit\":5,\"used\":1},\"pending\":"
                                           "{\"used\":0},\"requests\":{\"used\":3},\"retries\":"
                                           "{\"used\":0}}");
    check(json_object_get(v1, "ejected"), "1");
    json_t *endpoint = at(v1, "endpoints", 0);
    assert_true(json_integer_value(json_object_get(endpoint, "ejectedForMs")) > 0);
    json_object_del(endpoint, "ejectedForMs");
    assert_true(json_integer_value(json_object_get(endpoint, "ageMs")) > 0);
    json_object_del(endpoint, "ageMs");
    check(endpoint, "{\"activeRequests\":3,\"address\":\"10.0.0.1:8080\",\"connections\":1,"
                    "\"ejected\":true,\"ejections\":2,\"failuresInARow\":{\"gateway\":0,"
                    "\"localOrigin\":0,\"status5xx\":4},\"name\":\"web-1\",\"namespace\":\"m\","
                    "\"ready\":true,\"weight\":1,\"workload\":\"c//Pod/m/web-1\"}");
    // What is in use is told wherever it is bound; what nobody has any more is not.
    assert_non_null(cluster_named(dump, "inbound-vip|80|http|far.m.svc.cluster.local"));
    assert_int_equal(json_array_size(json_object_get(dump, "clusters")), 5);
    json_decref(dump);
    for (int i = 0; i < 3; i++) {
        l7_breaker_give(&used->breaker, L7_BREAKER_REQUESTS);
    }
    l7_breaker_give(&used->breaker, L7_BREAKER_CONNECTIONS);
    cluster_host_unref(host);
    cluster_unref(used);
    cluster_unref(other);
    cluster_unref(gone);
}

static void test_steps(void **state) {
    size_t n_steps;
    json_decref(dumped(&n_steps));
    assert_true(n_steps >= 2 + 2 + 2); // a service each
    struct admin_l7 *dump = admin_l7_new(&config, snapshot_current(), false);
    struct buf text;
    struct json_out out;
    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, false);
    json_out_begin_object(&out);
    assert_true(admin_l7_step(dump, &out)); // given up in the middle
    admin_l7_free(dump);
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_listeners_and_routes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_configured_clusters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_live_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
