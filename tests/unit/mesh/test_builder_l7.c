// SPDX-License-Identifier: Apache-2.0
//
// Which L7 objects concern which service, what a change compiles again, and which waypoint is bound
// to what. The operations of builder_fixture.c write down what they are given.
#include "common/mesh/builder_l7.h"

#include <stdio.h>

#include "tests/unit/mesh/builder_fixture.h"

static struct mesh_builder *b;

static int setup(void **state) {
    fx_init();
    b = fx_l7_builder("n1", NULL);
    return 0;
}

static int setup_infra(void **state) { // a waypoint of another namespace
    fx_init();
    b = fx_l7_builder("n1", "infra");
    return 0;
}

static int teardown(void **state) {
    fx_builder_free(b);
    fx_l7_calls();
    fx_fini();
    return 0;
}

#define OBJ(api, kind, ns, name, rest)                                                             \
    "---\napiVersion: " api "/v1\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns       \
    "}\nspec: {" rest "}\n"
#define VS(ns, name, hosts, rest)                                                                  \
    OBJ("networking.istio.io", "VirtualService", ns, name,                                         \
        "hosts: [" hosts "], http: [{route: [{destination: {host: x}}]}]" rest)
#define CHILD(ns, name, host)                                                                      \
    OBJ("networking.istio.io", "VirtualService", ns, name,                                         \
        "http: [{route: [{destination: {host: " host "}}]}]")
#define ROOT(ns, name, hosts, child)                                                               \
    OBJ("networking.istio.io", "VirtualService", ns, name,                                         \
        "hosts: [" hosts "], http: [{delegate: {" child "}}]")
#define DR(ns, name, host, rest)                                                                   \
    OBJ("networking.istio.io", "DestinationRule", ns, name, "host: " host rest)
#define ROUTE(kind, ns, name, parent)                                                              \
    OBJ("gateway.networking.k8s.io", kind, ns, name, "parentRefs: [{" parent "}]")
#define FOR_SERVICE(name) "group: '', kind: Service, name: " name
#define AUTHZ(ns, name, target)                                                                    \
    OBJ("security.istio.io", "AuthorizationPolicy", ns, name,                                      \
        "targetRefs: [{" target "}], rules: [{}]")
#define SVC(ns, name, ip, labels)                                                                  \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns                \
    ", labels: {" labels "}}\nspec: {clusterIP: " ip ", selector: {app: " name                     \
    "}, ports: [{port: 80}]}\n"
#define SE(ns, name, hosts)                                                                        \
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name          \
    ", namespace: " ns "}\nspec: {hosts: [" hosts                                                  \
    "], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}\n"
#define NS(name, labels)                                                                           \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {" labels "}}\n"
#define POD(ns, name, ip)                                                                          \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name "-1, namespace: " ns                  \
    ", labels: {app: " name "}}\nspec: {containers: [{name: c}]}\n"                                \
    "status: {phase: Running, podIP: " ip "}\n"

#define WEB "a/web.a.svc.cluster.local"
#define API "a/api.a.svc.cluster.local"
#define OTHER "b/web.b.svc.cluster.local"

static const char services[] = SVC("a", "web", "10.1.0.1", "") SVC("a", "api", "10.1.0.2", "")
    SVC("b", "web", "10.1.0.3", "") SE("a", "ext", "x.example.com, '*.wild.com'");

static void test_virtual_services(void **state) {
    fx_apply(b, services);
    assert_string_equal(fx_l7_routes(WEB), "-");
    fx_apply(b, VS("a", "wide", "'*.svc.cluster.local'", "") VS("a", "short", "web", "")
                    VS("a", "full", "web.a.svc.cluster.local", "")
                        VS("a", "middle", "'*.a.svc.cluster.local'", "") VS("a", "gw", "web",
                                                                            ", gateways: [gw]")
                            VS("a", "both", "WEB.a.svc.cluster.local.", ", gateways: [gw, mesh]")
                                VS("b", "far", "web.a.svc.cluster.local", "")
                                    VS("a", "hidden", "web", ", exportTo: [c]")
                                        VS("a", "here", "web", ", exportTo: ['.']"));
    // The most specific host first; then by age and name.
    assert_string_equal(fx_l7_routes(WEB),
                        "vs a/both@web.a.svc.cluster.local; vs a/full@web.a.svc.cluster.local; "
                        "vs a/here@web.a.svc.cluster.local; vs a/short@web.a.svc.cluster.local; "
                        "vs a/middle@*.a.svc.cluster.local; vs a/wide@*.svc.cluster.local");
    assert_string_equal(fx_l7_routes(API),
                        "vs a/middle@*.a.svc.cluster.local; vs a/wide@*.svc.cluster.local");
    assert_string_equal(fx_l7_routes(OTHER), "-"); // `far` names another host, `wide` is in a
    fx_apply(b, "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: short, "
                "namespace: a, creationTimestamp: '2020-01-02T00:00:00Z'}\n"
                "spec: {hosts: [web, api], http: [{redirect: {uri: /}}]}\n"
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: "
                "full, namespace: a, creationTimestamp: '2020-01-03T00:00:00Z'}\n"
                "spec: {hosts: [web], http: [{redirect: {uri: /}}]}\n");
    assert_string_equal(fx_l7_routes(API),
                        "vs a/short@api.a.svc.cluster.local; vs a/middle@*.a.svc.cluster.local; vs "
                        "a/wide@*.svc.cluster.local");
    assert_non_null(strstr(fx_l7_routes(WEB), "vs a/short@web.a.svc.cluster.local; vs a/full@"));
    fx_remove(b,
              VS("a", "short", "web", "") VS("a", "middle", "api", "") VS("a", "wide", "api", ""));
    assert_string_equal(fx_l7_routes(API), "-");
}

static void test_entry_hosts(void **state) {
    fx_apply(b, services);
    fx_apply(b, VS("a", "exact", "X.example.com", "") VS("a", "dom", "'*.example.com'", "")
                    VS("a", "wild", "'*.wild.com'", "") VS("a", "com", "'*.com'", "")
                        DR("a", "any", "'*'", ""));
    assert_string_equal(fx_l7_routes("a/x.example.com"),
                        "vs a/exact@x.example.com; vs a/dom@*.example.com; vs a/com@*.com");
    assert_string_equal(fx_l7_routes("a/*.wild.com"), "vs a/wild@*.wild.com; vs a/com@*.com");
    assert_string_equal(fx_l7_policy("a/*.wild.com"), "dr a/any; 0 endpoints");
    assert_string_equal(fx_l7_policy(OTHER), "-"); // `any` is not exported from elsewhere
}

static void test_proxy_namespace(void **state) {
    fx_apply(b, services);
    fx_apply(b, VS("infra", "theirs", "web.a.svc.cluster.local", "") VS("a", "ours", "web", "")
                    VS("b", "far", "web.a.svc.cluster.local", ""));
    assert_false(fx_changes.settings_changed); // routes are looked up by each request
    assert_string_equal(fx_l7_routes(WEB), "vs a/ours@web.a.svc.cluster.local; vs "
                                           "infra/theirs@web.a.svc.cluster.local");
    // The proxy's namespace, the service's, the root's: the first that has any.
    fx_apply(b, DR("istio-system", "root", "'*.cluster.local'", "")
                    DR("a", "own", "web", ", subsets: [{name: v1}]") DR("a", "own2", "web", "")
                        DR("a", "wide", "'*.cluster.local'", ""));
    assert_string_equal(fx_l7_policy(WEB), "dr a/own; dr a/own2; 0 endpoints");
    assert_string_equal(fx_l7_policy(API), "dr a/wide; 0 endpoints");
    assert_string_equal(fx_l7_policy(OTHER), "dr istio-system/root; 0 endpoints");
    fx_apply(b, DR("infra", "proxy", "'*.a.svc.cluster.local'", ""));
    assert_true(fx_changes.settings_changed);
    assert_false(fx_changes.services_changed);
    assert_string_equal(fx_l7_policy(WEB), "dr infra/proxy; 0 endpoints");
    fx_apply(b, DR("infra", "proxy", "'*.a.svc.cluster.local'",
                   ", workloadSelector: {matchLabels: {a: b}}"));
    assert_string_equal(fx_l7_policy(WEB), "dr a/own; dr a/own2; 0 endpoints");
    fx_apply(b, DR("a", "own", "web", ", exportTo: [c]") DR("a", "own2", "web", ", exportTo: [c]"));
    assert_string_equal(fx_l7_policy(WEB), "dr a/wide; 0 endpoints");
}

static void test_routes(void **state) {
    fx_apply(b, services);
    fx_apply(b, ROUTE("HTTPRoute", "a", "one", FOR_SERVICE("web"))
                    ROUTE("GRPCRoute", "a", "grpc", FOR_SERVICE("web") ", port: 80")
                        ROUTE("HTTPRoute", "b", "consumer", FOR_SERVICE("web") ", namespace: a")
                            ROUTE("HTTPRoute", "a", "ext",
                                  "group: networking.istio.io, kind: ServiceEntry, name: ext")
                                ROUTE("HTTPRoute", "a", "gw", "name: web"));
    assert_string_equal(fx_l7_routes(WEB), "route a/grpc; route a/one");
    assert_string_equal(fx_l7_routes(OTHER), "-");
    assert_string_equal(fx_l7_routes("a/x.example.com"), "route a/ext");
    assert_string_equal(fx_l7_routes("a/*.wild.com"), "route a/ext");
    fx_apply(b, VS("a", "vs", "web", "")); // both at once: the operation decides
    assert_string_equal(fx_l7_routes(WEB),
                        "vs a/vs@web.a.svc.cluster.local; route a/grpc; route a/one");
    fx_remove(b, SVC("a", "web", "10.1.0.1", ""));
    assert_string_equal(fx_l7_routes(WEB), "-");
}

// What each change compiles again, and nothing else.
#define TO_B                                                                                       \
    FOR_SERVICE("web")                                                                             \
    "}], rules: [{backendRefs: [{name: web, namespace: b, port: 80}], filters: [{type: "           \
    "RequestMirror, requestMirror: {backendRef: {name: web, namespace: c, port: 80}}}]"
#define GRANT(ns, from, to)                                                                        \
    OBJ("gateway.networking.k8s.io", "ReferenceGrant", ns, "grant",                                \
        "from: [{group: gateway.networking.k8s.io, " from "}], to: [{" to "}]")
#define FROM_A "kind: HTTPRoute, namespace: a"
#define TO_ALL "group: '', kind: Service"

// Grants count for what they name, and routes are compiled again when one comes, changes or goes.
static void test_grants(void **state) {
    static const char route[] =
        OBJ("gateway.networking.k8s.io", "HTTPRoute", "a", "r", "parentRefs: [{" TO_B "}]");
    fx_apply(b, services);
    fx_apply(b, route);
    fx_l7_calls();
    assert_false(builder_is_granted(b, "HTTPRoute", "a", "b", "web"));
    static const struct {
        const char *yaml;
        bool is_granted;
    } table[] = {
        {GRANT("b", FROM_A, TO_ALL), true},
        {GRANT("b", FROM_A, TO_ALL ", name: web"), true},
        {GRANT("b", FROM_A, TO_ALL ", name: other"), false},
        {GRANT("b", FROM_A, "group: '', kind: Secret"), false},
        {GRANT("b", FROM_A, "group: networking.istio.io, kind: Service"), false},
        {GRANT("b", "kind: GRPCRoute, namespace: a", TO_ALL), false},
        {GRANT("b", "kind: HTTPRoute, namespace: b", TO_ALL), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        fx_apply(b, table[i].yaml);
        assert_string_equal(fx_l7_calls(), "routes " WEB "\n");
        assert_int_equal(builder_is_granted(b, "HTTPRoute", "a", "b", "web"), table[i].is_granted);
        assert_false(builder_is_granted(b, "HTTPRoute", "a", "c", "web"));
    }
    fx_apply(b, GRANT("c", FROM_A, TO_ALL)); // of the mirror's
    assert_string_equal(fx_l7_calls(), "routes " WEB "\n");
    fx_remove(b, table[0].yaml);
    assert_string_equal(fx_l7_calls(), "routes " WEB "\n");
    assert_false(builder_is_granted(b, "HTTPRoute", "a", "b", "web"));
    fx_apply(b, GRANT("d", FROM_A, TO_ALL)); // nobody's
    assert_string_equal(fx_l7_calls(), "");
    fx_remove(b, route);
    assert_string_equal(fx_l7_calls(), "routes " WEB "\n");
    fx_remove(b, GRANT("c", FROM_A, TO_ALL));
    assert_string_equal(fx_l7_calls(), "");
}

static void test_exact(void **state) {
    static const struct {
        const char *what, *yaml, *calls;
        bool is_removed;
    } steps[] = {
        {"all at first", services,
         "policy a/*.wild.com\npolicy a/api.a.svc.cluster.local\npolicy a/web.a.svc.cluster.local\n"
         "policy a/x.example.com\npolicy b/web.b.svc.cluster.local\n"
         "routes a/*.wild.com\nroutes a/api.a.svc.cluster.local\nroutes a/web.a.svc.cluster.local\n"
         "routes a/x.example.com\nroutes b/web.b.svc.cluster.local\n",
         false},
        {"one host", VS("a", "v", "web", ""), "routes " WEB "\n", false},
        {"the same again", VS("a", "v", "web", ""), "routes " WEB "\n", false},
        {"another host", VS("a", "v", "api", ""), "routes " API "\nroutes " WEB "\n", false},
        {"of another namespace", VS("b", "v", "web.a.svc.cluster.local", ""), "", false},
        {"for a gateway", VS("a", "g", "web", ", gateways: [g]"), "", false},
        {"nobody's", VS("a", "nil", "nobody", ""), "", false},
        {"by wildcard", VS("a", "w", "'*.a.svc.cluster.local'", ""),
         "routes " API "\nroutes " WEB "\n", false},
        {"gone", VS("a", "w", "'*.a.svc.cluster.local'", ""), "routes " API "\nroutes " WEB "\n",
         true},
        {"a rule", DR("a", "d", "web", ""), "policy " WEB "\n", false},
        {"a rule behind it", DR("istio-system", "d", "web.a.svc.cluster.local", ""), "", false},
        {"its own goes", DR("a", "d", "web", ""), "policy " WEB "\n", true},
        {"a route", ROUTE("HTTPRoute", "a", "r", FOR_SERVICE("web")), "routes " WEB "\n", false},
        {"to another service", ROUTE("HTTPRoute", "a", "r", FOR_SERVICE("api")),
         "routes " API "\nroutes " WEB "\n", false},
        {"a policy", AUTHZ("a", "p", FOR_SERVICE("web")), "policy " WEB "\n", false},
        {"for an entry",
         AUTHZ("a", "p", "group: networking.istio.io, kind: ServiceEntry, name: ext"),
         "policy a/*.wild.com\npolicy " WEB "\npolicy a/x.example.com\n", false},
        {"endpoints", POD("a", "web", "10.0.0.1"), "policy " WEB "\n", false},
        {"addresses", SVC("a", "web", "10.1.0.9", ""), "policy " WEB "\nroutes " WEB "\n", false},
        {"a root", ROOT("a", "root", "web", "name: child"), "routes " WEB "\n", false},
        {"its delegate", CHILD("a", "child", "one"), "routes " WEB "\n", false},
        {"its delegate again", CHILD("a", "child", "two"), "routes " WEB "\n", false},
        {"somebody else's", CHILD("a", "child2", "two"), "", false},
        {"no delegate any more", CHILD("a", "child", "two"), "routes " WEB "\n", true},
        {"a service", SVC("a", "new", "10.1.0.7", ""),
         "policy a/new.a.svc.cluster.local\nroutes a/new.a.svc.cluster.local\n", false},
        {"it goes", SVC("a", "new", "10.1.0.7", ""), "", true},
        {"a namespace without a say", NS("c", "x: z"), "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        (steps[i].is_removed ? fx_remove : fx_apply)(b, steps[i].yaml);
        const char *calls = fx_l7_calls();
        if (strcmp(calls, steps[i].calls) != 0) {
            fail_msg("%s:\n%sinstead of\n%s", steps[i].what, calls, steps[i].calls);
        }
    }
}

static void test_delegates(void **state) {
    fx_apply(b, services);
    fx_apply(b, ROOT("a", "root", "web", "name: child, namespace: team"));
    assert_string_equal(fx_l7_routes(WEB), "vs a/root@web.a.svc.cluster.local");
    assert_string_equal(fx_problems(b), "VirtualService a/root: delegate child is not there\n");
    fx_apply(b, CHILD("team", "child", "one"));
    assert_string_equal(fx_l7_routes(WEB),
                        "vs a/root@web.a.svc.cluster.local; delegate team/child one");
    assert_string_equal(fx_problems(b), "");
    fx_apply(b, CHILD("team", "child", "two"));
    assert_non_null(strstr(fx_l7_routes(WEB), "team/child two"));
    fx_apply(b, VS("team", "child", "somewhere", "")); // has hosts now
    assert_string_equal(fx_problems(b), "VirtualService a/root: delegate child is not there\n");
    fx_apply(b, OBJ("networking.istio.io", "VirtualService", "team", "child",
                    "exportTo: ['.'], http: [{route: [{destination: {host: x}}]}]"));
    assert_string_equal(fx_l7_routes(WEB), "vs a/root@web.a.svc.cluster.local");
    // The problem of one object in two services is one problem, and goes with the last.
    fx_apply(b, ROOT("a", "root", "web, api", "name: none"));
    assert_string_equal(fx_problems(b), "VirtualService a/root: delegate none is not there\n");
    fx_remove(b, SVC("a", "web", "10.1.0.1", ""));
    assert_string_equal(fx_problems(b), "VirtualService a/root: delegate none is not there\n");
    fx_remove(b, ROOT("a", "root", "web", "name: none"));
    assert_string_equal(fx_problems(b), "");
}

// Waypoints

#define GATEWAY(ns, name, labels, routes, status)                                                  \
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " name         \
    ", namespace: " ns ", labels: {" labels "}}\nspec: {gatewayClassName: cls, listeners: "        \
    "[{name: mesh, port: 15008, protocol: HBONE" routes "}]}\nstatus: {" status "}\n"
#define HOST(value) "addresses: [{type: Hostname, value: " value "}]"
#define FROM(text) ", allowedRoutes: {namespaces: {from: " text "}}"
#define WAY GATEWAY("a", "way", "", "", HOST("way.a.svc.cluster.local"))
#define USE(name) "istio.io/use-waypoint: " name

static const char *bound(const char *key) {
    return fx_find_service(key)->waypoint;
}

static void test_binding(void **state) {
    static const struct {
        const char *what, *yaml, *waypoint, *problem;
    } steps[] = {
        {"by host name", WAY, "a/way.a.svc.cluster.local", ""},
        {"not programmed", GATEWAY("a", "way", "", "", ""), "",
         "Service a/web: waypoint a/way is not programmed (no status.addresses)"},
        {"by address, no service of its name",
         GATEWAY("a", "way", "", "", "addresses: [{value: 10.9.0.1}]"), "10.9.0.1", ""},
        {"which comes", SVC("a", "way", "10.9.0.1", ""), "a/way.a.svc.cluster.local", ""},
        {"the host name counts first",
         GATEWAY("a", "way", "", "",
                 "addresses: [{value: 10.9.0.1}, {type: Hostname, value: W.infra.example}]"),
         "a/w.infra.example", ""},
        {"for workloads", GATEWAY("a", "way", "istio.io/waypoint-for: workload", "", HOST("w.x")),
         "", ""},
        {"for all", GATEWAY("a", "way", "istio.io/waypoint-for: all", "", HOST("w.x")), "a/w.x",
         ""},
        {"for nothing", GATEWAY("a", "way", "istio.io/waypoint-for: none", "", HOST("w.x")), "",
         ""},
        {"the class says workload",
         WAY "---\napiVersion: gateway.networking.k8s.io/v1\nkind: "
             "GatewayClass\nmetadata: {name: cls, labels: "
             "{istio.io/waypoint-for: workload}}\nspec: "
             "{controllerName: a/b}\n",
         "", ""},
        {"the class says service",
         "---\napiVersion: gateway.networking.k8s.io/v1\nkind: "
         "GatewayClass\nmetadata: {name: cls, labels: "
         "{istio.io/waypoint-for: service}}\nspec: "
         "{controllerName: a/b}\n",
         "a/way.a.svc.cluster.local", ""},
        {"the object opts out", SVC("a", "web", "10.1.0.1", USE("none")), "", ""},
        {"the object's own", SVC("a", "web", "10.1.0.1", USE("other")), "",
         "Service a/web: waypoint a/other is not there"},
        {"of another namespace, which is not allowed",
         SVC("a", "web", "10.1.0.1", USE("way") ", istio.io/use-waypoint-namespace: infra")
             GATEWAY("infra", "way", "", "", HOST("way.infra.svc.cluster.local")),
         "",
         "Service a/web: waypoint infra/way does not take this namespace (allowedRoutes of its "
         "listener)"},
        {"from all", GATEWAY("infra", "way", "", FROM("All"), HOST("way.infra.svc.cluster.local")),
         "infra/way.infra.svc.cluster.local", ""},
        {"from same", GATEWAY("infra", "way", "", FROM("Same"), HOST("way.infra.svc")), "",
         "does not take this namespace"},
        {"from a selector that does not match",
         GATEWAY("infra", "way", "", FROM("Selector, selector: {matchLabels: {team: red}}"),
                 HOST("way.infra.svc")),
         "", "does not take this namespace"},
        {"the namespace gets the label", NS("a", USE("way") ", team: red"), "infra/way.infra.svc",
         ""},
        {"by the namespace's name",
         GATEWAY("infra", "way", "",
                 FROM("Selector, selector: {matchLabels: {kubernetes.io/metadata.name: a}}"),
                 HOST("way.infra.svc")),
         "infra/way.infra.svc", ""},
        {"a canary", SVC("a", "web", "10.1.0.1", USE("way") ", istio.io/use-waypoint-canary: next"),
         "a/way.a.svc.cluster.local", "Service a/web: waypoint a/next is not there"},
        {"a gateway's own service",
         SVC("a", "web", "10.1.0.1", "gateway.istio.io/managed: istio.io-mesh-controller"), "", ""},
    };
    fx_apply(b, NS("a", USE("way")) SVC("a", "web", "10.1.0.1", ""));
    assert_non_null(strstr(fx_problems(b), "waypoint a/way is not there"));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        fx_apply(b, steps[i].yaml);
        const char *problems = fx_problems(b);
        bool has_problem = steps[i].problem[0] != '\0' ? strstr(problems, steps[i].problem) != NULL
                                                       : strstr(problems, "a/web:") == NULL;
        if (strcmp(bound(WEB), steps[i].waypoint) != 0 || !has_problem) {
            fail_msg("%s: '%s', problems '%s'", steps[i].what, bound(WEB), problems);
        }
    }
}

#define ALL GATEWAY("a", "way", "istio.io/waypoint-for: all", "", HOST("way.a.svc.cluster.local"))
#define SOME_POD(labels)                                                                           \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a, labels: {" labels           \
    "}}\nspec: {containers: [{name: c, image: i}]}\nstatus: {phase: Running, podIP: 10.2.0.1}\n"
#define ENTRY(labels)                                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: we, "          \
    "namespace: a, labels: {" labels "}}\nspec: {address: 10.2.0.2}\n"
#define SERVICE_ENTRY(labels)                                                                      \
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: se, "           \
    "namespace: a, labels: {" labels "}}\nspec: {hosts: [ext.example], addresses: [10.3.0.1], "    \
    "ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, location: "            \
    "MESH_EXTERNAL, endpoints: [{address: 10.3.1.1}]}\n"

static const char *workload_waypoint(const char *ip) {
    struct ip parsed = fx_ip(ip);
    const struct workload *workload = snapshot_workload_by_ip(snapshot_current(), &parsed);
    assert_non_null(workload);
    return workload->common->waypoint;
}

// Pods, WorkloadEntries and ServiceEntries: by their own labels, by the namespace's, and not.
static void test_binding_of_all_kinds(void **state) {
    static const struct {
        const char *what, *yaml;
        bool is_service, is_pod, is_entry, is_service_entry; // bound
    } steps[] = {
        {"all by the namespace", NS("a", USE("way")) ALL, true, true, true, true},
        {"services only", WAY, true, false, false, true},
        {"workloads only",
         GATEWAY("a", "way", "istio.io/waypoint-for: workload", "",
                 HOST("way.a.svc.cluster.local")),
         false, true, true, false},
        {"all again", ALL, true, true, true, true},
        {"a pod opts out", SOME_POD(USE("none")), true, false, true, true},
        {"a WorkloadEntry opts out", ENTRY(USE("none")), true, false, false, true},
        {"a ServiceEntry opts out", SERVICE_ENTRY(USE("none")), true, false, false, false},
        {"the namespace says nothing", NS("a", ""), false, false, false, false},
        {"a pod of its own", SOME_POD(USE("way")), false, true, false, false},
        {"a WorkloadEntry of its own", ENTRY(USE("way")), false, true, true, false},
        {"a ServiceEntry of its own", SERVICE_ENTRY(USE("way")), false, true, true, true},
        {"not programmed", GATEWAY("a", "way", "istio.io/waypoint-for: all", "", ""), false, false,
         false, false},
        {"of another namespace",
         SOME_POD(USE("way") ", istio.io/use-waypoint-namespace: infra")
             GATEWAY("infra", "way", "istio.io/waypoint-for: all", FROM("All"),
                     HOST("way.a.svc.cluster.local")),
         false, true, false, false},
    };
    fx_apply(b, SVC("a", "web", "10.1.0.1", "") SOME_POD("") ENTRY("") SERVICE_ENTRY(""));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        fx_apply(b, steps[i].yaml);
        const char *got[] = {bound(WEB), workload_waypoint("10.2.0.1"),
                             workload_waypoint("10.2.0.2"), bound("a/ext.example")};
        bool want[] = {steps[i].is_service, steps[i].is_pod, steps[i].is_entry,
                       steps[i].is_service_entry};
        for (size_t k = 0; k < ARRAY_LEN(got); k++) {
            if (want[k] != (strstr(got[k], "/way.a.svc.cluster.local") != NULL)) {
                fail_msg("%s: %zu is bound to '%s'", steps[i].what, k, got[k]);
            }
        }
    }
}

// A Gateway whose address is a service of another name.
static void test_other_service(void **state) {
    fx_apply(b,
             NS("a", USE("way")) SVC("a", "proxy", "10.1.0.4", "") SVC("a", "web", "10.1.0.1", ""));
    assert_false(fx_find_service("a/proxy.a.svc.cluster.local")->is_waypoint);
    fx_apply(b, GATEWAY("a", "way", "", "", HOST("proxy.a.svc.cluster.local")));
    assert_true(fx_find_service("a/proxy.a.svc.cluster.local")->is_waypoint);
    assert_string_equal(bound("a/proxy.a.svc.cluster.local"), ""); // not to itself
    assert_string_equal(bound(WEB), "a/proxy.a.svc.cluster.local");
    fx_apply(b, WAY);
    assert_false(fx_find_service("a/proxy.a.svc.cluster.local")->is_waypoint);
    assert_string_equal(bound("a/proxy.a.svc.cluster.local"), "a/way.a.svc.cluster.local");
}

// A canary: of the object, or with the first waypoint of the namespace.
#define NS_WITH(labels, annotations)                                                               \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {" labels                   \
    "}, annotations: {" annotations "}}\n"
#define SVC_WITH(labels, annotations)                                                              \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a, labels: {" labels     \
    "}, annotations: {" annotations "}}\nspec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}\n"
#define NEXT "istio.io/use-waypoint-canary: next"
#define WEIGHT(w) "istio.io/use-waypoint-canary-weight: '" w "'"
#define NEXT_KEY "a/next.a.svc.cluster.local"

static void test_canary(void **state) {
    static const struct {
        const char *what, *yaml, *canary;
        uint8_t percent;
        const char *problem;
    } steps[] = {
        {"no weight", SVC_WITH(USE("way") ", " NEXT, ""), NEXT_KEY, 0, ""},
        {"a weight", SVC_WITH(USE("way") ", " NEXT, WEIGHT("5")), NEXT_KEY, 5, ""},
        {"all", SVC_WITH(USE("way") ", " NEXT, WEIGHT("100")), NEXT_KEY, 100, ""},
        {"too much", SVC_WITH(USE("way") ", " NEXT, WEIGHT("101")), "", 0,
         "Service a/web: istio.io/use-waypoint-canary-weight is '101', not a number from 0 to "
         "100: there is no canary"},
        {"negative", SVC_WITH(USE("way") ", " NEXT, WEIGHT("-1")), "", 0, "is '-1', not a number"},
        {"no number", SVC_WITH(USE("way") ", " NEXT, WEIGHT("5%")), "", 0, "is '5%', not a number"},
        {"the same", SVC_WITH(USE("way") ", istio.io/use-waypoint-canary: way", WEIGHT("5")), "", 0,
         "names the waypoint of istio.io/use-waypoint"},
        {"not there", SVC_WITH(USE("way") ", istio.io/use-waypoint-canary: far", WEIGHT("5")), "",
         0, "waypoint a/far is not there"},
        {"which comes", GATEWAY("a", "far", "", "", HOST("far.x")), "a/far.x", 5, ""},
        {"for workloads", GATEWAY("a", "far", "istio.io/waypoint-for: workload", "", HOST("far.x")),
         "", 0, "a/far is not for services (istio.io/waypoint-for)"},
        {"not programmed", GATEWAY("a", "far", "", "", ""), "", 0, "a/far is not programmed"},
        {"of another namespace",
         SVC_WITH(USE("way") ", istio.io/use-waypoint-canary: far, "
                             "istio.io/use-waypoint-canary-namespace: infra",
                  WEIGHT("5")) GATEWAY("infra", "far", "", FROM("All"), HOST("far.infra.svc")),
         "infra/far.infra.svc", 5, ""},
        {"which is not allowed", GATEWAY("infra", "far", "", FROM("Same"), HOST("far.infra.svc")),
         "", 0, "infra/far does not take this namespace"},
        {"none", SVC_WITH(USE("way") ", istio.io/use-waypoint-canary: none", WEIGHT("5")), "", 0,
         ""},
        {"without a first one", SVC_WITH(NEXT, WEIGHT("5")), "", 0, ""},
        {"both from the namespace", SVC_WITH("", "") NS_WITH(USE("way") ", " NEXT, WEIGHT("7")),
         NEXT_KEY, 7, ""},
        {"the weight from the service", SVC_WITH("", WEIGHT("9")), NEXT_KEY, 9, ""},
        {"the canary from the service", SVC_WITH("istio.io/use-waypoint-canary: none", WEIGHT("9")),
         "", 0, ""},
        {"the namespace's is for its own first one", SVC_WITH(USE("way"), ""), "", 0, ""},
    };
    fx_apply(b, NS("a", "") WAY GATEWAY("a", "next", "", "", HOST("next.a.svc.cluster.local")));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        fx_apply(b, steps[i].yaml);
        const struct service *web = fx_find_service(WEB);
        const char *problems = fx_problems(b);
        bool has_problem = steps[i].problem[0] != '\0' ? strstr(problems, steps[i].problem) != NULL
                                                       : problems[0] == '\0';
        if (strcmp(web->canary, steps[i].canary) != 0 || web->canary_percent != steps[i].percent ||
            !has_problem) {
            fail_msg("%s: '%s', %u %%, problems '%s'", steps[i].what, web->canary,
                     web->canary_percent, problems);
        }
    }
    // Pods have none; a ServiceEntry has.
    fx_apply(b, NS_WITH(USE("way") ", " NEXT, WEIGHT("7")) SERVICE_ENTRY(""));
    assert_string_equal(fx_find_service("a/ext.example")->canary, NEXT_KEY);
    fx_remove(b, GATEWAY("a", "next", "", "", HOST("next.a.svc.cluster.local")));
    assert_string_equal(fx_find_service("a/ext.example")->canary, "");
    assert_string_equal(bound("a/ext.example"), "a/way.a.svc.cluster.local");
}

#define AUTO "ztun.io/use-waypoint: auto"

static void test_auto(void **state) {
    static const struct {
        const char *what, *yaml;
        bool is_bound;
    } needs[] = {
        {"VirtualService", VS("a", "v", "web", ""), true},
        {"VirtualService of a gateway", VS("a", "v", "web", ", gateways: [g]"), false},
        {"HTTPRoute", ROUTE("HTTPRoute", "a", "r", FOR_SERVICE("web")), true},
        {"GRPCRoute", ROUTE("GRPCRoute", "a", "r", FOR_SERVICE("web")), true},
        {"consumer's route", ROUTE("HTTPRoute", "b", "r", FOR_SERVICE("web") ", namespace: a"),
         false},
        {"AuthorizationPolicy", AUTHZ("a", "p", FOR_SERVICE("web")), true},
        {"AuthorizationPolicy of the Gateway",
         AUTHZ("a", "p", "group: gateway.networking.k8s.io, kind: Gateway, name: way"), false},
        {"DestinationRule", DR("a", "d", "web", ", trafficPolicy: {outlierDetection: {}}"), true},
        {"policy of a subset",
         DR("a", "d", "web",
            ", subsets: [{name: s1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]"),
         true},
        {"subsets alone", DR("a", "d", "web", ", subsets: [{name: s1}]"), false},
        {"mutual TLS of the mesh",
         DR("a", "d", "web",
            ", trafficPolicy: {tls: {mode: "
            "ISTIO_MUTUAL}}"),
         false},
        {"TLS off", DR("a", "d", "web", ", trafficPolicy: {tls: {mode: DISABLE}}"), true},
    };
    fx_apply(b, NS("a", AUTO) WAY SVC("a", "way", "10.1.0.5", "") SVC("a", "web", "10.1.0.1", "")
                    SVC("a", "api", "10.1.0.2", "") POD("a", "web", "10.0.0.1"));
    for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
        assert_string_equal(bound(WEB), "");
        fx_apply(b, needs[i].yaml);
        if ((bound(WEB)[0] != '\0') != needs[i].is_bound) {
            fail_msg("%s: '%s'", needs[i].what, bound(WEB));
        }
        assert_string_equal(bound(API), "");
        assert_string_equal(fx_problems(b), "");
        fx_remove(b, needs[i].yaml);
    }
    // Also where the object was there before the service, and when the namespace changes.
    fx_apply(b, VS("a", "v", "web, new", ""));
    fx_apply(b, SVC("a", "new", "10.1.0.8", ""));
    assert_string_equal(bound("a/new.a.svc.cluster.local"), "a/way.a.svc.cluster.local");
    fx_apply(b, NS("a", ""));
    assert_string_equal(bound(WEB), "");
    fx_apply(b, NS("a", AUTO));
    assert_string_equal(bound(WEB), "a/way.a.svc.cluster.local");
    fx_apply(b, SVC("a", "web", "10.1.0.1", USE("none")));
    assert_string_equal(bound(WEB), "");
    fx_apply(b, NS("a", "ztun.io/use-waypoint: always"));
    assert_non_null(strstr(fx_problems(b), "'always' is not known, only `auto` is"));
}

static void test_auto_choice(void **state) {
    static const char second[] = GATEWAY("a", "way2", "", "", HOST("way2.a.svc.cluster.local"));
    fx_apply(b, NS("a", AUTO) SVC("a", "web", "10.1.0.1", "") VS("a", "v", "web", ""));
    assert_string_equal(
        fx_problems(b),
        "Service a/web: VirtualService a/v needs a waypoint (ztun.io/use-waypoint: auto), and "
        "namespace a has no Gateway with a listener HBONE on 15008: it has no effect\n");
    fx_apply(b, GATEWAY("a", "way", "istio.io/waypoint-for: workload", "", HOST("w.x")));
    assert_string_equal(bound(WEB), "");
    fx_apply(b, WAY);
    assert_string_equal(bound(WEB), "a/way.a.svc.cluster.local");
    fx_apply(b, second);
    assert_string_equal(bound(WEB), "");
    assert_non_null(strstr(fx_problems(b), "namespace a has 2: name one"));
    fx_apply(b, NS("a", AUTO ", " USE("way2")));
    assert_string_equal(bound(WEB), "a/way2.a.svc.cluster.local");
    assert_string_equal(fx_problems(b), "");
    fx_remove(b, VS("a", "v", "web", ""));
    assert_string_equal(bound(WEB), "");
    fx_apply(b, NS("a", AUTO));
    fx_remove(b, second);
    fx_apply(b, VS("a", "v", "web", ""));
    assert_string_equal(bound(WEB), "a/way.a.svc.cluster.local");
    fx_apply(b, GATEWAY("a", "way", "", "", ""));
    assert_string_equal(bound(WEB), "");
    assert_non_null(strstr(fx_problems(b), "is not programmed"));
}

static void test_authz_of_waypoint(void **state) {
    fx_apply(b, NS("a", USE("way")) WAY SVC("a", "web", "10.1.0.1", "")
                    SVC("a", "free", "10.1.0.2", USE("none")));
    fx_apply(b,
             AUTHZ("a", "svc", FOR_SERVICE("web"))
                 AUTHZ("a", "gw", "group: gateway.networking.k8s.io, kind: Gateway, name: way")
                     AUTHZ("istio-system", "class",
                           "group: gateway.networking.k8s.io, kind: GatewayClass, name: cls")
                         AUTHZ("a", "class-elsewhere",
                               "group: gateway.networking.k8s.io, kind: GatewayClass, name: cls"));
    assert_string_equal(fx_l7_policy(WEB),
                        "authz a/gw; authz a/svc; authz istio-system/class; 0 endpoints");
    assert_string_equal(fx_l7_policy("a/free.a.svc.cluster.local"), "-");
    fx_l7_calls();
    fx_remove(b, AUTHZ("istio-system", "class",
                       "group: gateway.networking.k8s.io, kind: GatewayClass, name: cls"));
    assert_string_equal(fx_l7_calls(), "policy " WEB "\n");
    assert_string_equal(fx_l7_policy(WEB), "authz a/gw; authz a/svc; 0 endpoints");
    fx_apply(b, SVC("a", "web", "10.1.0.1", USE("none")));
    assert_string_equal(fx_l7_policy(WEB), "authz a/svc; 0 endpoints");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_virtual_services),
        TEST(test_entry_hosts),
        cmocka_unit_test_setup_teardown(test_proxy_namespace, setup_infra, teardown),
        TEST(test_routes),
        TEST(test_grants),
        TEST(test_exact),
        TEST(test_delegates),
        TEST(test_binding),
        TEST(test_binding_of_all_kinds),
        TEST(test_canary),
        TEST(test_other_service),
        TEST(test_auto),
        TEST(test_auto_choice),
        TEST(test_authz_of_waypoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
