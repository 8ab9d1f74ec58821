// SPDX-License-Identifier: Apache-2.0
//
// A builder under istiod: leaves are istiod's, objects add to them, and L7 objects are compiled for
// istiod's services, in whatever order all of it comes.
#include "common/mesh/builder_istiod.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "common/mesh/xds_store.h"
#include "tests/unit/mesh/builder_fixture.h"

struct mesh {
    struct xds_store *store;
    struct mesh_builder *b;
};
static struct mesh m;

static struct mesh mesh_new(void) {
    struct mesh made = {.store = xds_store_new(""), .b = fx_l7_builder("", "shop")};
    builder_set_istiod(made.b, made.store);
    return made;
}

static void mesh_free(struct mesh *mesh) {
    fx_builder_free(mesh->b);
    xds_store_free(mesh->store);
    fx_l7_calls();
}

static int setup(void **state) {
    fx_init();
    m = mesh_new();
    return 0;
}

static int teardown(void **state) {
    mesh_free(&m);
    fx_fini();
    return 0;
}

// ---- what istiod sends

#define UID(name) "Kubernetes//Pod/shop/" name
#define KEY(name) "shop/" name ".shop.svc.cluster.local"

static void send_pod(const char *uid, const char *service, uint8_t last) {
    struct ip ip = {4, {10, 0, 0, last}};
    struct xds_membership membership = {.service = service};
    const struct workload_common common = {.ns = "shop",
                                           .canonical_name = "canonical",
                                           .canonical_revision = "latest",
                                           .app = "canonical",
                                           .version = "latest"};
    struct xds_resource r = {
        .kind = XDS_WORKLOAD,
        .workload = {.leaf.key = slice_str(uid),
                     .name = "web",
                     .common = &common,
                     .ips = &ip,
                     .n_ips = 1,
                     .capacity = 1,
                     .is_healthy = true,
                     .is_pod = true},
        .services = &membership,
        .n_services = service != NULL,
    };
    xds_store_set(m.store, &r);
}

static void send_service(const char *name, const char *key, uint8_t protocol,
                         const char *waypoint) {
    struct ip vip = {4, {10, 96, 0, (uint8_t)key[5]}};
    struct service_port port = {
        .port = 80, .target_port = 8080, .name = "", .target_name = "", .app_protocol = protocol};
    struct xds_resource r = {.kind = XDS_SERVICE,
                             .service = {.leaf.key = slice_str(key),
                                         .name = name,
                                         .ns = "shop",
                                         .hostname = strchr(key, '/') + 1,
                                         .waypoint = waypoint,
                                         .vips = &vip,
                                         .n_vips = 1,
                                         .n_cluster_vips = 1,
                                         .ports = &port,
                                         .n_ports = 1}};
    xds_store_set(m.store, &r);
}

static void forget(const char *name) {
    xds_store_del(m.store, XDS_ADDRESS, slice_str(name));
}

// ---- objects

#define META(kind, api, name, rest)                                                                \
    "---\nkind: " kind "\napiVersion: " api "\nmetadata: {namespace: shop, name: " name "}\n" rest \
    "\n"
#define POD(name, labels)                                                                          \
    "---\nkind: Pod\napiVersion: v1\nmetadata: {namespace: shop, name: " name ", labels: {" labels \
    "}}\nspec: {nodeName: n1, containers: [{name: main}]}\n"                                       \
    "status: {phase: Running, podIP: 10.9.9.9}\n"
#define SERVICE(name, port)                                                                        \
    META("Service", "v1", name, "spec: {clusterIP: 10.99.0.1, ports: [{port: 80, " port "}]}")
#define VS(name, host)                                                                             \
    META("VirtualService", "networking.istio.io/v1", name,                                         \
         "spec: {hosts: [" host "], http: [{route: [{destination: {host: x}}]}]}")
#define DR(name, host)                                                                             \
    META("DestinationRule", "networking.istio.io/v1", name, "spec: {host: " host "}")
#define ROUTE(name, parent)                                                                        \
    META("HTTPRoute", "gateway.networking.k8s.io/v1", name,                                        \
         "spec: {parentRefs: [{group: '', kind: Service, name: " parent "}]}")
#define AUTHZ(ns, name, target)                                                                    \
    "---\nkind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {namespace: " ns  \
    ", name: " name "}\nspec: {targetRefs: [{" target "}], rules: [{}]}\n"
#define GATEWAY(name, class, xfcc)                                                                 \
    "---\nkind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {namespace: shop, "   \
    "name: " name ", annotations: {ambient.istio.io/xfcc-include-client-identity: '" xfcc          \
    "'}}\nspec: {gatewayClassName: " class ", listeners: [{name: mesh, port: 15008, protocol: "    \
                                           "HBONE}]}\n"

static const char *label(const char *uid, const char *key) {
    const struct workload *w = fx_find_workload(uid);
    for (size_t i = 0; i < w->common->n_labels; i++) {
        if (strcmp(w->common->labels[i].key, key) == 0) {
            return w->common->labels[i].value;
        }
    }
    return "-";
}

static void test_labels_are_the_pods(void **state) {
    fx_apply(m.b, POD("web", "version: v1"));
    assert_null(fx_find_workload(UID("web"))); // what istiod does not know is not there
    send_service("web", KEY("web"), APP_HTTP11, "");
    send_pod(UID("web"), KEY("web"), 1);
    fx_commit(m.b);
    const struct workload *w = fx_find_workload(UID("web"));
    assert_string_equal(label(UID("web"), "version"), "v1");
    assert_string_equal(w->common->version, "v1");
    assert_string_equal(workload_app(w), "canonical"); // which the Pod has no label for
    assert_true(ip_eq(&w->ips[0], &(struct ip){4, {10, 0, 0, 1}}));
    assert_int_equal(snapshot_current()->workloads.n_items, 1);
    assert_ptr_equal(fx_find_service(KEY("web"))->endpoints[0].workload, w);
    // Labels change, the workload changes, the Pod goes: each time both are in force.
    fx_apply(m.b, POD("web", "version: v2, app: shop"));
    assert_true(fx_changes.workloads_changed && fx_changes.services_changed);
    w = fx_find_service(KEY("web"))->endpoints[0].workload;
    assert_ptr_equal(w, fx_find_workload(UID("web")));
    assert_string_equal(label(UID("web"), "version"), "v2");
    assert_string_equal(workload_app(w), "shop");
    send_pod(UID("web"), KEY("web"), 2);
    fx_commit(m.b);
    assert_string_equal(label(UID("web"), "version"), "v2");
    fx_apply(m.b, POD("web", "version: v2, app: shop")); // nothing that counts
    assert_int_equal(fx_changes.generation, 0);
    fx_remove(m.b, POD("web", ""));
    assert_string_equal(label(UID("web"), "version"), "-");
    assert_string_equal(fx_find_workload(UID("web"))->common->version, "latest");
    forget(UID("web"));
    fx_commit(m.b);
    assert_null(fx_find_workload(UID("web")));
}

static void test_labels_of_entries(void **state) {
    static const char we[] = "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm",
                      se[] = "Kubernetes/networking.istio.io/ServiceEntry/shop/db/10.1.1.1",
                      other[] = "elsewhere//Pod/shop/web";
    send_pod(we, "shop/db.example.com", 1);
    send_pod(se, "shop/db.example.com", 2);
    send_pod(other, "shop/db.example.com", 3);
    send_service("db", "shop/db.example.com", APP_TCP, "");
    fx_commit(m.b);
    fx_apply(m.b, META("WorkloadEntry", "networking.istio.io/v1", "vm",
                       "spec: {address: 10.1.1.9, labels: {version: vm}}"));
    fx_apply(m.b, META("ServiceEntry", "networking.istio.io/v1", "db",
                       "spec: {hosts: [db.example.com], resolution: STATIC, location: "
                       "MESH_EXTERNAL, ports: [{number: 80, name: web, protocol: HTTP}], "
                       "endpoints: [{address: 10.1.1.1, labels: {version: inline}}]}"));
    fx_apply(m.b, POD("web", "version: ours"));
    assert_string_equal(label(we, "version"), "vm");
    assert_string_equal(label(se, "version"), "inline");
    assert_string_equal(label(other, "version"), "-"); // of another cluster
    const struct service *db = fx_find_service("shop/db.example.com");
    assert_int_equal(db->n_endpoints, 3);
    assert_true(db->is_external && !db->is_canonical);
    assert_string_equal(db->ports[0].name, "web");
    assert_int_equal(db->ports[0].app_protocol, APP_HTTP11);
    assert_int_equal(snapshot_current()->workloads.n_items, 3);
    assert_int_equal(snapshot_current()->services.n_items, 1);
}

static void test_ports_are_the_services(void **state) {
    fx_apply(m.b, SERVICE("web", "name: grpc-x"));
    assert_null(fx_find_service(KEY("web")));
    send_service("web", KEY("web"), APP_HTTP11, "");
    fx_commit(m.b);
    const struct service *web = fx_find_service(KEY("web"));
    assert_true(web->is_canonical); // a policy with targetRefs means it as a Service
    assert_int_equal(web->ports[0].app_protocol, APP_GRPC);
    assert_string_equal(web->ports[0].name, "grpc-x");
    assert_true(ip_eq(&web->vips[0], &(struct ip){4, {10, 96, 0, 'w'}}));
    fx_apply(m.b, SERVICE("web", "name: x")); // says nothing: istiod's
    assert_int_equal(fx_find_service(KEY("web"))->ports[0].app_protocol, APP_HTTP11);
    fx_remove(m.b, SERVICE("web", ""));
    assert_int_equal(fx_find_service(KEY("web"))->ports[0].app_protocol, APP_HTTP11);
    assert_string_equal(fx_find_service(KEY("web"))->ports[0].name, "");
    forget(KEY("web"));
    fx_commit(m.b);
    assert_null(fx_find_service(KEY("web")));
}

static void test_rules_of_istiods_services(void **state) {
    fx_apply(m.b, VS("a", "web"));
    fx_apply(m.b, DR("d", "web.shop.svc.cluster.local"));
    assert_string_equal(fx_l7_routes(KEY("web")), "-");
    send_service("web", KEY("web"), APP_HTTP11, "");
    send_service("ext", "shop/api.example.com", APP_HTTP11, "");
    fx_commit(m.b);
    assert_string_equal(fx_l7_routes(KEY("web")), "vs shop/a@web.shop.svc.cluster.local");
    assert_string_equal(fx_l7_policy(KEY("web")), "dr shop/d; 0 endpoints");
    assert_string_equal(fx_l7_routes("shop/api.example.com"), "-");
    send_pod(UID("web"), KEY("web"), 1);
    fx_commit(m.b);
    assert_string_equal(fx_l7_policy(KEY("web")), "dr shop/d; 1 endpoints");
    fx_l7_calls();
    fx_apply(m.b, VS("b", "'*.example.com'") ROUTE("r", "web"));
    assert_string_equal(fx_l7_routes("shop/api.example.com"), "vs shop/b@*.example.com");
    assert_string_equal(fx_l7_routes(KEY("web")),
                        "vs shop/a@web.shop.svc.cluster.local; route shop/r");
    assert_string_equal(fx_l7_calls(), "routes shop/api.example.com\nroutes " KEY("web") "\n");
    fx_remove(m.b, VS("a", "web"));
    assert_string_equal(fx_l7_routes(KEY("web")), "route shop/r");
    forget(KEY("web"));
    fx_commit(m.b);
    assert_string_equal(fx_l7_routes(KEY("web")), "-");
    assert_string_equal(fx_l7_policy(KEY("web")), "-");
    send_service("web", KEY("web"), APP_HTTP11, "");
    fx_commit(m.b);
    assert_string_equal(fx_l7_routes(KEY("web")), "route shop/r");
}

static void test_policies_of_the_gateway(void **state) {
    send_service("way", KEY("way"), APP_UNKNOWN, "");
    send_service("web", KEY("web"), APP_HTTP11, KEY("way"));
    fx_apply(m.b, AUTHZ("shop", "gw", "group: gateway.networking.k8s.io, kind: Gateway, name: way")
                      AUTHZ("istio-system", "class",
                            "group: gateway.networking.k8s.io, kind: GatewayClass, name: fast")
                          AUTHZ("shop", "svc", "group: '', kind: Service, name: web"));
    assert_false(fx_find_service(KEY("way"))->is_waypoint);
    assert_string_equal(fx_l7_policy(KEY("web")), "authz shop/gw; authz shop/svc; 0 endpoints");
    fx_apply(m.b, GATEWAY("way", "fast", "true"));
    const struct service *way = fx_find_service(KEY("way"));
    assert_true(way->is_waypoint && way->tells_client);
    assert_string_equal(way->gateway_class, "fast");
    assert_string_equal(fx_l7_policy(KEY("web")),
                        "authz istio-system/class; authz shop/gw; authz shop/svc; 0 endpoints");
    fx_apply(m.b, GATEWAY("way", "slow", "false"));
    assert_string_equal(fx_l7_policy(KEY("web")), "authz shop/gw; authz shop/svc; 0 endpoints");
    assert_false(fx_find_service(KEY("way"))->tells_client);
    send_service("web", KEY("web"), APP_HTTP11, ""); // bound to nothing any more
    fx_commit(m.b);
    assert_string_equal(fx_l7_policy(KEY("web")), "authz shop/svc; 0 endpoints");
    fx_remove(m.b, GATEWAY("way", "slow", "false"));
    assert_false(fx_find_service(KEY("way"))->is_waypoint);
}

// A Gateway whose status has an address alone: istiod binds to that, and whose it is comes and
// goes.
static void test_bound_to_an_address(void **state) {
    const char vip[] = "10.96.0.119"; // of a service whose name begins with w
    struct ip ip = {4, {10, 0, 0, 7}};
    struct workload_common common = {.ns = "shop", .waypoint = vip};
    struct xds_resource pod = {.kind = XDS_WORKLOAD,
                               .workload = {.leaf.key = SLICE_LIT(UID("p")),
                                            .name = "p",
                                            .common = &common,
                                            .ips = &ip,
                                            .n_ips = 1}};
    send_service("api", KEY("api"), APP_HTTP11, vip);
    xds_store_set(m.store, &pod);
    fx_apply(m.b,
             AUTHZ("shop", "gw", "group: gateway.networking.k8s.io, kind: Gateway, name: way"));
    for (int i = 0; i < 2; i++) {
        assert_string_equal(fx_find_service(KEY("api"))->waypoint, vip);
        assert_string_equal(fx_find_workload(UID("p"))->common->waypoint, vip);
        assert_string_equal(fx_l7_policy(KEY("api")), "-");
        send_service("way", KEY("way"), APP_UNKNOWN, ""); // later than what is bound to it
        fx_commit(m.b);
        assert_string_equal(fx_find_service(KEY("api"))->waypoint, KEY("way"));
        assert_string_equal(fx_find_workload(UID("p"))->common->waypoint, KEY("way"));
        assert_string_equal(fx_l7_policy(KEY("api")), "authz shop/gw; 0 endpoints");
        forget(KEY("way"));
        fx_commit(m.b);
    }
    // Before it, and told again while it is there.
    send_service("way", KEY("way"), APP_UNKNOWN, vip); // its own, too
    fx_commit(m.b);
    send_service("api", KEY("api"), APP_HTTP11, vip);
    xds_store_set(m.store, &pod);
    fx_commit(m.b);
    assert_string_equal(fx_find_service(KEY("api"))->waypoint, KEY("way"));
    assert_string_equal(fx_find_service(KEY("way"))->waypoint, KEY("way"));
    assert_string_equal(fx_find_workload(UID("p"))->common->waypoint, KEY("way"));
    send_service("api", KEY("api"), APP_HTTP11, "other/10.96.0.119"); // of another network
    common.waypoint = "";
    xds_store_set(m.store, &pod);
    fx_commit(m.b);
    assert_string_equal(fx_find_service(KEY("api"))->waypoint, "other/10.96.0.119");
    assert_string_equal(fx_find_workload(UID("p"))->common->waypoint, "");
}

// One name, first istiod's with a selector, then the builder's with a target, and back: whoever is
// first to tell, a policy with a target is never lost to istiod's news.
static void test_policy_changes_hands(void **state) {
    static const char targeted[] = AUTHZ("shop", "p", "group: '', kind: Service, name: web");
    static const char plain[] = META("AuthorizationPolicy", "security.istio.io/v1", "p",
                                     "spec: {action: DENY, rules: [{}]}");
    struct xds_resource r = {.kind = XDS_POLICY,
                             .policy = {.leaf.key = SLICE_LIT("shop/p"),
                                        .name = "p",
                                        .ns = "shop",
                                        .scope = POLICY_NAMESPACE,
                                        .action = POLICY_DENY}};
    for (int istiod_first = 0; istiod_first < 2; istiod_first++) {
        fx_apply(m.b, plain);
        assert_null(fx_find_policy("shop/p")); // istiod's to tell
        xds_store_set(m.store, &r);
        fx_commit(m.b);
        assert_int_equal(fx_find_policy("shop/p")->scope, POLICY_NAMESPACE);
        if (istiod_first) {
            xds_store_del(m.store, XDS_AUTHORIZATION, SLICE_LIT("shop/p"));
            fx_commit(m.b);
            fx_apply(m.b, targeted);
        } else {
            fx_apply(m.b, targeted);
            xds_store_del(m.store, XDS_AUTHORIZATION, SLICE_LIT("shop/p"));
            fx_commit(m.b);
        }
        assert_int_equal(fx_find_policy("shop/p")->scope, POLICY_TARGETED);
        if (istiod_first) {
            xds_store_set(m.store, &r);
            fx_commit(m.b);
            assert_int_equal(fx_find_policy("shop/p")->scope, POLICY_TARGETED);
        }
        fx_apply(m.b, plain);
        xds_store_set(m.store, &r);
        fx_commit(m.b);
        assert_int_equal(fx_find_policy("shop/p")->scope, POLICY_NAMESPACE);
        xds_store_del(m.store, XDS_AUTHORIZATION, SLICE_LIT("shop/p"));
        fx_commit(m.b);
        assert_null(fx_find_policy("shop/p"));
    }
}

// Whatever the order, the result is that of a mesh that only saw the last state.

static const char *const names[] = {"aa", "bb", "cc"};
enum { N_NAMES = 3, N_KINDS = 7 };

struct model { // 0: not there
    uint32_t state[N_NAMES][N_KINDS];
};

static void put_text(const char *fmt, const char *name, uint32_t value) {
    char yaml[1024];
    char number[16];
    snprintf(number, sizeof(number), "%u", value);
    size_t len = 0;
    for (const char *at = fmt; *at != '\0' && len + 32 < sizeof(yaml); at++) {
        const char *text = *at == '@' ? name : *at == '#' ? number : NULL;
        len += text != NULL ? (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%s", text)
                            : (size_t)snprintf(yaml + len, sizeof(yaml) - len, "%c", *at);
    }
    struct fx_objects objects;
    fx_decode(yaml, &objects);
    for (size_t i = 0; i < objects.n; i++) {
        if (value != 0) {
            builder_set(m.b, objects.items[i]);
        } else {
            builder_del(m.b, objects.items[i]);
        }
    }
    fx_objects_free(&objects);
}

static void put(size_t i, size_t kind, uint32_t value) {
    static const char *const texts[N_KINDS] = {
        POD("@", "version: v#, app: x"),
        SERVICE("@", "name: http-#"),
        VS("@", "@.shop.svc.cluster.local"),
        GATEWAY("@", "class-#", "true"),
        AUTHZ("istio-system", "@",
              "group: gateway.networking.k8s.io, "
              "kind: GatewayClass, name: class-1"),
    };
    const char *name = names[i];
    char uid[64], key[64], waypoint[64] = "";
    snprintf(uid, sizeof(uid), UID("%s"), name);
    snprintf(key, sizeof(key), KEY("%s"), name);
    if (texts[kind] != NULL) {
        put_text(texts[kind], name, value);
    } else if (value == 0) {
        forget(kind == 5 ? uid : key);
    } else if (kind == 5) {
        send_pod(uid, key, (uint8_t)value);
    } else {
        if (value % 3 != 0) {
            snprintf(waypoint, sizeof(waypoint), KEY("%s"), names[value % N_NAMES]);
        }
        send_service(name, key, (uint8_t)(value % 4), waypoint);
    }
}

static char *dump_all(void) {
    char *leaves = fx_dump();
    char *all = xstrdup(leaves);
    free(leaves);
    for (size_t i = 0; i < N_NAMES; i++) {
        char key[64];
        snprintf(key, sizeof(key), KEY("%s"), names[i]);
        const struct service *service = fx_find_service(key);
        char *next = xasprintf("%s%s: %s | %s | %s\n", all, key, fx_l7_routes(key),
                               fx_l7_policy(key), service != NULL ? service->gateway_class : "-");
        free(all);
        all = next;
    }
    return all;
}

static void start_anew(void) {
    mesh_free(&m);
    fx_fini();
    fx_init();
    m = mesh_new();
}

static void run_random(uint64_t seed) {
    struct rand rand;
    struct model model = {0};
    rand_seed(&rand, seed);
    for (int step = 0; step < 120; step++) {
        size_t i = rand_below(&rand, N_NAMES), kind = rand_below(&rand, N_KINDS);
        uint32_t value = rand_chance(&rand, 1, 3) ? 0 : (uint32_t)rand_range(&rand, 1, 4);
        model.state[i][kind] = value;
        put(i, kind, value);
        if (rand_chance(&rand, 1, 2)) {
            fx_commit(m.b);
        }
    }
    fx_commit(m.b);
    char *have = dump_all();
    start_anew();
    for (size_t i = 0; i < N_NAMES; i++) {
        for (size_t kind = 0; kind < N_KINDS; kind++) {
            if (model.state[i][kind] != 0) {
                put(i, kind, model.state[i][kind]);
            }
        }
    }
    fx_commit(m.b);
    char *want = dump_all();
    if (strcmp(have, want) != 0) {
        fprintf(stderr, "have:\n%s\nwant:\n%s\n", have, want);
        fail_msg("seed %llu", (unsigned long long)seed);
    }
    free(have);
    free(want);
}

static void test_random(void **state) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        start_anew();
        run_random(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_labels_are_the_pods, setup, teardown),
        cmocka_unit_test_setup_teardown(test_labels_of_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ports_are_the_services, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rules_of_istiods_services, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies_of_the_gateway, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policy_changes_hands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound_to_an_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
