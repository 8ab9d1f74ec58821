// SPDX-License-Identifier: Apache-2.0
//
// Whatever the order of changes, the snapshot is that of a fresh builder with the same objects.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/buf.h"
#include "common/base/rand.h"
#include "common/mesh/intern.h"
#include "tests/unit/mesh/builder_fixture.h"

enum { N_STEPS = 60, N_SEEDS = 60, N_OBJECTS = 36 };

static struct rand rng;
static const char *proxy_ns; // of the run

static unsigned below(unsigned n) {
    return (unsigned)rand_below(&rng, n);
}

static const char *one(const char *const *items, unsigned n) {
    return items[below(n)];
}
#define ONE(...)                                                                                   \
    one((const char *const[]){__VA_ARGS__}, ARRAY_LEN(((const char *const[]){__VA_ARGS__})))

static void meta(struct buf *out, const char *kind, const char *name, const char *ns,
                 const char *labels) {
    buf_printf(out, "kind: %s\nmetadata: {name: %s, namespace: %s, labels: {%s}}\n", kind, name, ns,
               labels);
}

static void istio(struct buf *out, const char *kind, const char *name, const char *ns) {
    buf_printf(out, "apiVersion: networking.istio.io/v1\n");
    meta(out, kind, name, ns, "");
}

static void random_l7(struct buf *out, unsigned i) {
    static const char *const spaces[] = {"a", "a", "b", "istio-system"};
    const char *host = ONE("web", "api", "web.a.svc.cluster.local", "api.b.svc.cluster.local",
                           "'*.a.svc.cluster.local'", "x.com", "'*.com'", "nobody");
    switch (i) {
    case 0 ... 3:
        istio(out, "VirtualService", i % 2 == 0 ? "v0" : "v1", spaces[i % 4]);
        buf_printf(out, "spec: {hosts: [%s], %s %s http: [{%s}]}\n", host,
                   ONE("", "exportTo: ['.'],", "exportTo: [b],"),
                   ONE("", "gateways: [gw],", "gateways: [gw, mesh],"),
                   ONE("route: [{destination: {host: x}}]", "delegate: {name: child}",
                       "delegate: {name: child, namespace: a}"));
        break;
    case 4:
        istio(out, "VirtualService", "child", "a");
        buf_printf(out, "spec: {%s http: [{route: [{destination: {host: %s}}]}]}\n",
                   ONE("", "", "hosts: [web],", "exportTo: [x],"), ONE("one", "two"));
        break;
    case 5 ... 7:
        istio(out, "DestinationRule", i % 2 == 0 ? "d0" : "d1", spaces[i % 4]);
        buf_printf(out, "spec: {host: %s, %s %s subsets: [{name: s1}]}\n", host,
                   ONE("", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}},",
                       "trafficPolicy: {outlierDetection: {}},"),
                   ONE("", "exportTo: [b],", "workloadSelector: {matchLabels: {a: b}},"));
        break;
    case 8:
    case 9:
        buf_printf(out, "apiVersion: gateway.networking.k8s.io/v1\n");
        meta(out, i == 8 ? "HTTPRoute" : "GRPCRoute", "r", "a", "");
        buf_printf(out,
                   "spec: {parentRefs: [{group: %s, kind: %s, name: %s, namespace: %s}], rules: "
                   "[{backendRefs: [{name: web, port: 80, namespace: %s}]}]}\n",
                   ONE("''", "''", "gateway.networking.k8s.io"), "Service", ONE("web", "api"),
                   ONE("a", "a", "b"), ONE("b", "b", "istio-system"));
        break;
    case 12:
    case 13:
        buf_printf(out, "apiVersion: gateway.networking.k8s.io/v1\n");
        meta(out, "ReferenceGrant", "g", i == 12 ? "b" : "istio-system", "");
        buf_printf(out,
                   "spec: {from: [{group: gateway.networking.k8s.io, kind: %s, namespace: a}], "
                   "to: [{group: '', kind: Service%s}]}\n",
                   ONE("HTTPRoute", "GRPCRoute"), ONE("", ", name: web", ", name: x"));
        break;
    case 10:
        buf_printf(out, "apiVersion: security.istio.io/v1\n");
        meta(out, "AuthorizationPolicy", "target", "a", "");
        buf_printf(out, "spec: {targetRefs: [{kind: %s}], rules: [{}]}\n",
                   ONE("Service, group: '', name: web",
                       "ServiceEntry, group: networking.istio.io, name: se",
                       "Gateway, group: gateway.networking.k8s.io, name: way"));
        break;
    default:
        buf_printf(out,
                   "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\n"
                   "metadata: {name: istio-waypoint, labels: {%s}}\n"
                   "spec: {controllerName: a/b}\n",
                   ONE("", "istio.io/waypoint-for: all", "istio.io/waypoint-for: none"));
        break;
    }
}

// One random version of object number `i`.
static void random_object(struct buf *out, unsigned i) {
    const char *app = ONE("app: web", "app: api", "app: web, tier: x1", "");
    switch (i) {
    case 0:
    case 1:
        buf_printf(out, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n",
                   i == 0 ? "a" : "b",
                   ONE("istio.io/dataplane-mode: ambient", "istio.io/use-waypoint: way", "",
                       "ztun.io/use-waypoint: auto", "ztun.io/use-waypoint: auto",
                       "ztun.io/use-waypoint: auto, istio.io/use-waypoint: way",
                       "istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: a"));
        break;
    case 2:
        buf_printf(out,
                   "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: "
                   "{topology.kubernetes.io/zone: %s}}\n"
                   "status: {addresses: [{type: InternalIP, address: %s}]}\n",
                   ONE("z1", "z2"), ONE("192.168.0.1", "192.168.0.2"));
        break;
    case 3 ... 8:
        buf_printf(out, "apiVersion: v1\n");
        meta(out, "Pod", i % 2 == 0 ? "p-even" : "p-odd",
             i < 5 ? "a" : (i < 7 ? "b" : "istio-system"), app);
        buf_printf(out,
                   "spec: {nodeName: %s, hostNetwork: %s, containers: [{name: c, image: i, "
                   "ports: [{name: web, containerPort: 8080}]}]}\n"
                   "status: {phase: %s, podIP: 10.0.0.%u}\n",
                   ONE("n1", "n2"), ONE("false", "false", "true"),
                   ONE("Running", "Running", "Running", "Pending", "Succeeded"), 1 + below(4));
        break;
    case 9 ... 11:
        buf_printf(out, "apiVersion: v1\n");
        meta(out, "Service", i == 9 ? "web" : "api", i == 11 ? "b" : "a", "");
        buf_printf(out,
                   "spec: {clusterIP: 10.1.0.%u, %s ports: [{name: http, port: 80, "
                   "targetPort: %s, nodePort: %u}]}\n",
                   1 + below(3), ONE("selector: {app: web},", "selector: {app: api},", ""),
                   ONE("web", "8080"), 30000 + below(2));
        break;
    case 12:
    case 13:
        buf_printf(out, "apiVersion: discovery.k8s.io/v1\n");
        meta(out, "EndpointSlice", i == 12 ? "s1" : "s2", "a",
             ONE("kubernetes.io/service-name: web", "kubernetes.io/service-name: api"));
        buf_printf(out,
                   "addressType: IPv4\nports: [{name: http, port: %u}]\nendpoints:\n"
                   "- {addresses: [10.0.0.%u], conditions: {ready: %s}}\n"
                   "- {addresses: [10.0.0.%u], targetRef: {kind: Pod, name: %s, namespace: a}}\n"
                   "- {addresses: [192.168.0.1]}\n",
                   8080 + below(2), 1 + below(4), ONE("true", "false"), 1 + below(4),
                   ONE("p-odd", "p-even", "p-none"));
        break;
    case 14:
        buf_printf(out, "apiVersion: v1\n");
        meta(out, "Endpoints", "api", "a", "");
        buf_printf(out,
                   "subsets: [{addresses: [{ip: 10.0.0.%u}], ports: [{name: http, port: 1}]}]\n",
                   1 + below(4));
        break;
    case 15:
        buf_printf(out, "apiVersion: networking.istio.io/v1\n");
        meta(out, "ServiceEntry", "se", "a", "");
        buf_printf(out,
                   "spec: {hosts: [%s], resolution: %s, "
                   "ports: [{number: 443, name: https, protocol: TLS}]%s}\n",
                   ONE("x.com", "x.com, y.com"), ONE("STATIC", "DNS", "STATIC"),
                   ONE("", ", workloadSelector: {labels: {app: web}}",
                       ", endpoints: [{address: 9.9.9.9}, {address: 10.0.0.1}]"));
        break;
    case 16:
        buf_printf(out, "apiVersion: networking.istio.io/v1\n");
        meta(out, "WorkloadEntry", "vm", "a", app);
        buf_printf(out, "spec: {address: 10.0.0.%u, labels: {vm: v1}}\n", 3 + below(3));
        break;
    case 17:
    case 18:
        buf_printf(out, "apiVersion: security.istio.io/v1\n");
        meta(out, "AuthorizationPolicy", "az", i == 17 ? "a" : "istio-system", "");
        buf_printf(
            out, "spec: {%s rules: [{to: [{operation: {ports: ['%u']}}]}]}\n",
            ONE("", "selector: {matchLabels: {app: web}},", "action: DENY,",
                "selector: {matchLabels: {app: api}}, action: DENY,",
                "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: way}],"),
            80 + below(2));
        break;
    case 19:
    case 20:
        buf_printf(out, "apiVersion: security.istio.io/v1\n");
        meta(out, "PeerAuthentication", "pa", i == 19 ? "a" : "istio-system", "");
        buf_printf(out, "spec: {%s mtls: {mode: %s}}\n",
                   ONE("", "selector: {matchLabels: {app: web}},",
                       "selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: STRICT}},",
                       "selector: {matchLabels: {app: api}}, portLevelMtls: "
                       "{80: {mode: PERMISSIVE}},"),
                   ONE("STRICT", "PERMISSIVE", "UNSET"));
        break;
    case 22 ... N_OBJECTS - 1:
        random_l7(out, i - 22);
        break;
    default:
        if (below(2) == 0) {
            buf_printf(out, "apiVersion: gateway.networking.k8s.io/v1\n");
            meta(out, "Gateway", "way", "a", ONE("istio.io/waypoint-for: all", "", ""));
            buf_printf(out,
                       "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: "
                       "15008, protocol: HBONE%s}]}\n%s",
                       ONE("", ", allowedRoutes: {namespaces: {from: All}}"),
                       ONE("status: {addresses: [{type: Hostname, value: "
                           "way.a.svc.cluster.local}]}\n",
                           "status: {addresses: [{value: 10.1.0.1}]}\n", ""));
        } else {
            buf_printf(out, "apiVersion: v1\n");
            meta(out, "ConfigMap", "istio", "istio-system", "");
            buf_printf(out, "data: {mesh: '{trustDomain: %s, rootNamespace: %s}'}\n",
                       ONE("td1", "td2"), ONE("istio-system", "a"));
        }
        break;
    }
}

static void full_dump(struct kobj *const *objects, char **ret_dump, char **ret_problems) {
    // A fresh mesh in the same process: the running snapshot is put aside by a second init.
    struct mesh_builder *b = fx_l7_builder("n1", proxy_ns);
    struct builder_changes changes;
    for (size_t i = 0; i < 2 * N_OBJECTS; i++) {
        if (objects[i] != NULL) {
            builder_set(b, objects[i]);
        }
    }
    builder_commit(b, &changes);
    builder_changes_fini(&changes);
    *ret_dump = fx_dump();
    *ret_problems = xstrdup(fx_problems(b));
    builder_free(b);
}

static int line_order(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Problems come in no order.
static void sort_lines(char *text) {
    char *lines[512];
    size_t n = 0;
    char *copy = xstrdup(text);
    for (char *at = copy; *at != '\0' && n < ARRAY_LEN(lines); n++) {
        lines[n] = at;
        at += strcspn(at, "\n");
        if (*at != '\0') {
            *at++ = '\0';
        }
    }
    qsort(lines, n, sizeof(char *), line_order);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(lines[i]);
        memcpy(text, lines[i], len);
        text[len] = '\n';
        text += len + 1;
    }
    free(copy);
}

// Runs the steps; the final objects go to `objects`, two slots for each number since one number can
// be two kinds.
static void run(uint64_t seed, struct kobj **objects, char **ret_dump, char **ret_problems) {
    struct mesh_builder *b = fx_l7_builder("n1", proxy_ns);
    rand_seed(&rng, seed);
    for (int step = 0; step < N_STEPS; step++) {
        unsigned i = below(N_OBJECTS);
        if (below(4) == 0) {
            for (unsigned k = 2 * i; k < 2 * i + 2; k++) {
                if (objects[k] != NULL) {
                    builder_del(b, objects[k]);
                    kobj_unref(objects[k]);
                    objects[k] = NULL;
                }
            }
        } else {
            struct buf yaml;
            struct fx_objects decoded;
            buf_init(&yaml, 65536);
            random_object(&yaml, i);
            fx_decode(buf_cstr(&yaml), &decoded);
            buf_fini(&yaml);
            assert_int_equal(decoded.n, 1);
            struct kobj **slot = &objects[2 * i + (decoded.items[0]->kind == KOBJ_CONFIG_MAP)];
            kobj_unref(*slot);
            *slot = decoded.items[0];
            builder_set(b, *slot);
        }
        if (below(3) == 0) {
            struct builder_changes changes;
            builder_commit(b, &changes);
            builder_changes_fini(&changes);
        }
    }
    struct builder_changes changes;
    builder_commit(b, &changes);
    builder_changes_fini(&changes);
    *ret_dump = fx_dump();
    *ret_problems = xstrdup(fx_problems(b));
    builder_free(b);
}

// Shows the first line that differs.
static void compare(uint64_t seed, const char *have, const char *want) {
    while (*have != '\0' || *want != '\0') {
        int have_len = (int)strcspn(have, "\n"), want_len = (int)strcspn(want, "\n");
        if (have_len != want_len || strncmp(have, want, (size_t)have_len) != 0) {
            fail_msg("ZTUN_SEED=%llu\nincremental: %.*s\nfull:        %.*s",
                     (unsigned long long)seed, have_len, have, want_len, want);
        }
        have += have_len + (have[have_len] != '\0');
        want += want_len + (want[want_len] != '\0');
    }
}

static void test_incremental_equals_full(void **state) {
    const char *env = getenv("ZTUN_SEED");
    uint64_t first = env != NULL ? strtoull(env, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + (env != NULL ? 1 : N_SEEDS); seed++) {
        struct kobj *objects[2 * N_OBJECTS] = {0};
        char *dump, *problems, *full, *full_problems;
        proxy_ns = seed % 3 == 0 ? NULL : seed % 3 == 1 ? "a" : "istio-system";
        fx_init();
        run(seed, objects, &dump, &problems);
        fx_fini_leaves();
        fx_init();
        full_dump(objects, &full, &full_problems);
        fx_fini_leaves();
        sort_lines(problems);
        sort_lines(full_problems);
        compare(seed, dump, full);
        compare(seed, problems, full_problems);
        for (size_t i = 0; i < 2 * N_OBJECTS; i++) {
            kobj_unref(objects[i]);
        }
        assert_int_equal(intern_count(), 0);
        fx_l7_calls();
        free(dump);
        free(problems);
        free(full);
        free(full_problems);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incremental_equals_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
