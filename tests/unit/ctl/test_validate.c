// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl validate` as a command: what it prints and its exit codes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "ctl/cmd.h"

static char dir[64];

static char *in_dir(const char *name) {
    static char path[160];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(in_dir(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

// Runs it with stdout and stderr in files; the texts are the caller's.
static int run(const char *const *args, char **ret_out, char **ret_err) {
    char *argv[12] = {xstrdup("validate")};
    int argc = 1, saved[2] = {dup(1), dup(2)};
    FILE *files[2] = {tmpfile(), tmpfile()};
    char *texts[2];

    for (; *args != NULL; args++) {
        argv[argc++] = xstrdup(*args);
    }
    fflush(stdout);
    fflush(stderr);
    dup2(fileno(files[0]), 1);
    dup2(fileno(files[1]), 2);
    int code = cmd_validate(argc, argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        long len = lseek(fileno(files[i]), 0, SEEK_END);
        texts[i] = calloc(1, (size_t)len + 1);
        assert_int_equal(pread(fileno(files[i]), texts[i], (size_t)len, 0), len);
        fclose(files[i]);
    }
    for (int i = 0; i < argc; i++) {
        free(argv[i]);
    }
    *ret_out = texts[0];
    *ret_err = texts[1];
    return code;
}

// The messages about one text, without the file's name.
static char *messages(const char *yaml, int *ret_code) {
    char *out, *err;
    struct slice line, rest;
    struct buf plain;
    write_file("x.yaml", yaml);
    char *path = xstrdup(in_dir("x.yaml"));
    const char *args[] = {path, NULL};
    *ret_code = run(args, &out, &err);
    buf_init(&plain, SIZE_MAX);
    for (rest = slice_str(out); slice_split(rest, '\n', &line, &rest);) {
        bool is_named = slice_has_prefix(line, slice_str(path));
        buf_append(&plain, slice_skip(line, is_named ? strlen(path) + 1 : 0));
        buf_append_byte(&plain, '\n');
    }
    char *texts = xstrdup(buf_cstr(&plain));
    buf_fini(&plain);
    free(path);
    free(out);
    free(err);
    return texts;
}

#define WEB                                                                                        \
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n"              \
    "spec:\n  selector: {matchLabels: {app: web}}\n  template:\n"                                  \
    "    metadata: {labels: {app: web}}\n"                                                         \
    "    spec: {serviceAccountName: web, containers: [{name: c, image: x, ports: [{name: http, "   \
    "containerPort: 8080}]}]}\n---\n"
#define SERVICE(ports)                                                                             \
    "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: "    \
    "{app: web}, ports: [" ports "]}}\n---\n"
#define AUTHZ(spec)                                                                                \
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, "           \
    "namespace: shop}, spec: {" spec "}}\n---\n"
#define NS(labels)                                                                                 \
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {" labels "}}}\n---\n"

#define L7(kind, spec)                                                                             \
    "{apiVersion: networking.istio.io/v1, kind: " kind ", metadata: {name: l7, namespace: shop}, " \
    "spec: {" spec "}}\n---\n"
#define VS(hosts, rules) L7("VirtualService", "hosts: [" hosts "], http: [" rules "]")
#define TO(dest) "{route: [{destination: {host: " dest "}}]}"
#define ROUTE(parent, rules)                                                                       \
    "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: "  \
    "shop}, spec: {parentRefs: [{" parent "}], rules: [" rules "]}}\n---\n"
#define OF(name) "group: '', kind: Service, name: " name
#define SHOP WEB SERVICE("{port: 80, targetPort: http}")
#define AUTO NS("ztun.io/use-waypoint: auto")

// Texts whose only messages hold these parts (NULL: no message), all of them warnings.
static const struct {
    const char *yaml, *part;
} references[] = {
    {WEB SERVICE("{port: 80, targetPort: 8080}"), NULL},
    {WEB SERVICE("{port: 80, targetPort: http}"), NULL},
    {WEB SERVICE("{port: 80, targetPort: htp}"),
     "Service shop/web: spec.ports[0].targetPort: no container that it selects has a port "
     "named `htp`"},
    {WEB SERVICE("{port: 80}"), "no container that it selects declares port 80"},
    {WEB "{apiVersion: v1, kind: Service, metadata: {name: w, namespace: shop}, spec: "
         "{selector: {app: wob}, ports: [{port: 1}]}}",
     "Service shop/w: spec.selector: selects no pods of these files"},
    {WEB "{apiVersion: v1, kind: Service, metadata: {name: w}, spec: {selector: {app: web}, "
         "ports: [{port: 1}]}}",
     "Service default/w: spec.selector: selects no pods of these files"},
    // Without any workload there is nothing to compare with.
    {SERVICE("{port: 80}"), NULL},
    {"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d, namespace: shop}, spec: "
     "{template: {metadata: {labels: {app: web}}}}}\n---\n" SERVICE("{port: 80}"),
     NULL},
    {NS("istio-injection: enabled"),
     "kubectl label namespace shop istio-injection- istio.io/dataplane-mode=ambient"},
    {NS("istio.io/rev: canary"), "chooses sidecars of a revision"},
    {NS("istio.io/dataplane-mode: ambiant"), "`ambiant` enrols nothing (did you mean `ambient`?)"},
    {NS("istio.io/dataplane-mode: ambient"), NULL},
    {"{apiVersion: v1, kind: Pod, metadata: {name: a, annotations: {sidecar.istio.io/inject: "
     "\"true\"}}, spec: {containers: [{name: c}]}}",
     "Pod default/a: metadata.annotations[sidecar.istio.io/inject]: no sidecar is injected"},
    {NS("") "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shup}, spec: "
            "{containers: [{name: c}]}}",
     "there is no namespace `shup` in these files (did you mean `shop`?)"},
    {"{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: b}}\n---\n"
     "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, env: "
     "[{name: X, valueFrom: {configMapKeyRef: {name: m, key: z}}}]}]}}",
     "env[0].valueFrom: ConfigMap `default/m` has no key `z`"},
    {"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, "
     "livenessProbe: {tcpSocket: {port: web}}}]}}",
     "containers[0].livenessProbe: the container has no port named `web`"},
    {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, "
     "addressType: IPv4, endpoints: []}",
     "has no label kubernetes.io/service-name"},
    {WEB AUTHZ("selector: {matchLabels: {app: web}}, rules: [{}]"), NULL},
    {WEB AUTHZ("selector: {matchLabels: {app: wob}}"),
     "AuthorizationPolicy shop/p: spec.selector: selects no pods of these files"},
    {WEB SERVICE("{port: 80, targetPort: 8080}")
         AUTHZ("rules: [{to: [{operation: {ports: [\"80\"]}}]}]"),
     "spec.rules[0].to[0].operation.ports[0]: 80 is a service's port; a policy sees the port "
     "of the pod, which is 8080"},
    {WEB AUTHZ("rules: [{to: [{operation: {ports: [\"81\"]}}]}]"),
     "no pod that it applies to declares port 81"},
    {WEB AUTHZ("rules: [{to: [{operation: {ports: [\"8080\"]}}]}]"), NULL},
    {NS("") WEB AUTHZ("rules: [{from: [{source: {namespaces: [shopp]}}]}]"),
     "namespaces[0]: there is no namespace `shopp` in these files (did you mean `shop`?)"},
    {WEB AUTHZ("rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]"), NULL},
    {WEB AUTHZ("rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/wob]}}]}]"),
     "no pod of these files runs as service account `shop/wob`"},
    {WEB AUTHZ("rules: [{from: [{source: {principals: [web]}}]}]"),
     "principals[0]: `web` never matches"},
    {WEB AUTHZ("rules: [{from: [{source: {serviceAccounts: [wob]}}]}]"),
     "no pod of these files runs as service account `shop/wob`"},
    // L7: waypoints
    {AUTO SHOP VS("web", TO("web")), NULL},
    {NS("istio.io/use-waypoint: way") SHOP VS("web", TO("web")), NULL},
    {SHOP VS("web", TO("web")), NULL}, // the namespace is not in the files
    {NS("") SHOP VS("web", TO("web")),
     "VirtualService shop/l7: spec.hosts[0]: Service `shop/web` has no waypoint, so this has no "
     "effect: label its namespace (kubectl label namespace shop ztun.io/use-waypoint=auto)"},
    {NS("istio.io/use-waypoint: none") SHOP L7("DestinationRule", "host: web"),
     "DestinationRule shop/l7: spec.host: Service `shop/web` has no waypoint"},
    {NS("") SHOP ROUTE(OF("web"), "{}"),
     "HTTPRoute shop/r: spec.parentRefs[0]: Service `shop/web` has no waypoint"},
    {AUTO SHOP "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x, "
               "namespace: kube-system}, spec: {hosts: [web.shop.svc.cluster.local], http: "
               "[{redirect: {uri: /}}]}}",
     "Service `shop/web` is in another namespace: a waypoint reads objects of the service's "
     "namespace and of its own"},
    {AUTO SHOP ROUTE("name: gw", "{}"), "a Gateway as parent is ingress, which is a later step"},
    {AUTO SHOP ROUTE(OF("web, namespace: kube-system"), "{}"), "no waypoint reads it"},
    {AUTO SHOP VS("web", TO("web")) ROUTE(OF("web"), "{}"),
     "`web` has HTTPRoute `shop/r` as well, whose rules come first: use one kind"},
    // L7: names
    {AUTO SHOP VS("wob", TO("web")), "spec.hosts[0]: there is no service `wob` in these files"},
    {AUTO SHOP VS("'*.elsewhere.example'", TO("web")), NULL},
    {AUTO SHOP VS("web", TO("web.shop")),
     "spec.http[0].route[0].destination.host: `web.shop` is taken as a full host name, of which "
     "there is no service (did you mean `web.shop.svc.cluster.local`?)"},
    {AUTO SHOP VS("web", TO("web, port: {number: 81}")), "Service `shop/web` has no port 81"},
    {AUTO SHOP VS("web", TO("web, subset: v1")),
     "no DestinationRule for `web` has a subset `v1`: requests get 503"},
    {AUTO SHOP VS("web", TO("web, subset: v1"))
         L7("DestinationRule", "host: web.shop.svc.cluster.local, subsets: [{name: v1}]"),
     NULL},
    {AUTO SHOP L7("DestinationRule", "host: web, subsets: [{name: v1, labels: {version: v9}}]"),
     "spec.subsets[0].labels: selects no pods of these files: requests get 503"},
    {AUTO SHOP L7("DestinationRule", "host: wob"), "spec.host: there is no service `wob`"},
    {AUTO SHOP VS("web", "{delegate: {name: child}}"),
     "spec.http[0].delegate: there is no VirtualService `shop/child` in these files"},
    {AUTO SHOP VS("web", "{route: [{destination: {host: web}}], mirror: {host: wob}}"),
     "spec.http[0].mirror.host: there is no service `wob`"},
    {AUTO SHOP ROUTE(OF("wob"), "{}"), "spec.parentRefs[0]: there is no Service `shop/wob`"},
    {AUTO SHOP ROUTE(OF("web") ", port: 81", "{}"), "Service `shop/web` has no port 81"},
    {AUTO SHOP ROUTE(OF("web"), "{backendRefs: [{name: web, port: 81}]}"),
     "spec.rules[0].backendRefs[0]: Service `shop/web` has no port 81"},
    {AUTO SHOP ROUTE(OF("web"), "{backendRefs: [{name: wob, port: 80}]}"),
     "there is no Service `shop/wob` in these files: its share of the requests gets 500"},
    // L7: what is valid and has no effect
    {AUTO SHOP L7("VirtualService", "http: [" TO("web") "]"),
     "spec.hosts: is absent, so this is a delegate, but no rule of these files delegates to it"},
    {AUTO SHOP VS("web",
                  "{delegate: {name: child}}") "{apiVersion: networking.istio.io/v1, kind: "
                                               "VirtualService, metadata: {name: child, "
                                               "namespace: shop}, spec: {http: [" TO("web") "]}}",
     NULL},
    {AUTO SHOP L7("VirtualService", "hosts: [web], gateways: [gw], http: [" TO("web") "]"),
     "spec.gateways: has not `mesh`: these rules are for ingress, and no waypoint reads them"},
    {AUTO SHOP L7("VirtualService", "hosts: [web], gateways: [gw, mesh], http: [" TO("web") "]"),
     NULL},
    {AUTO SHOP L7("VirtualService", "hosts: [web], exportTo: [other], http: [" TO("web") "]"),
     "spec.exportTo: has neither the namespace of Service `shop/web` nor that of its waypoint"},
    {AUTO SHOP L7("VirtualService", "hosts: [web], exportTo: ['.'], http: [" TO("web") "]"), NULL},
    {AUTO SHOP L7("DestinationRule", "host: web, exportTo: [other]"),
     "spec.exportTo: has neither the namespace of Service `shop/web`"},
    {NS("istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: other")
         SHOP L7("DestinationRule", "host: web, exportTo: [other]"),
     NULL},
    {AUTO SHOP L7("DestinationRule", "host: web, trafficPolicy: {outlierDetection: {}}"),
     "spec.trafficPolicy.outlierDetection.maxEjectionPercent: is absent, which is 10 %: with 1 "
     "endpoint in these files none is ever ejected; at least 100 % ejects one"},
    {AUTO SHOP L7("DestinationRule", "host: web, subsets: [{name: a, trafficPolicy: "
                                     "{outlierDetection: {maxEjectionPercent: 99}}}]"),
     "spec.subsets[0].trafficPolicy.outlierDetection.maxEjectionPercent: is 99 %: with 1 endpoint"},
    {AUTO SHOP L7("DestinationRule",
                  "host: web, trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}"),
     NULL},
    {AUTO SHOP L7("DestinationRule", "host: web, trafficPolicy: {loadBalancer: "
                                     "{localityLbSetting: {failover: [{from: a, to: b}]}}}"),
     "spec.trafficPolicy.loadBalancer.localityLbSetting: fails over to other places only with "
     "`outlierDetection`, which is absent"},
    {AUTO SHOP L7("DestinationRule", "host: web, trafficPolicy: {portLevelSettings: [{port: "
                                     "{number: 81}, loadBalancer: {simple: RANDOM}}]}"),
     "spec.trafficPolicy.portLevelSettings[0].port: Service `shop/web` has no port 81"},
    {AUTO SHOP ROUTE(OF("web"), "{backendRefs: [{name: web, port: 80, weight: 0}]}"),
     "spec.rules[0].backendRefs: has only weights of 0: requests that take this rule get 500"},
    {AUTHZ("targetRefs: [{kind: Service, name: x}]"),
     "spec.targetRefs: belongs to the waypoint: it is not enforced on L4"},
};

static void test_references(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(references); i++) {
        int code;
        char *have = messages(references[i].yaml, &code);
        bool is_right = references[i].part == NULL
                            ? have[0] == '\0'
                            : strstr(have, references[i].part) != NULL &&
                                  strchr(have, '\n')[1] == '\0' && strstr(have, ": warning: ");
        if (!is_right || code != 0) {
            fail_msg("row %zu code %d\n%s---\n%s", i, code, references[i].yaml, have);
        }
        free(have);
    }
}

static void test_targets(void **state) {
    int code;
    char *have =
        messages(NS("") WEB SERVICE("{port: 80, targetPort: 8080}")
                     AUTHZ("targetRefs: [{kind: Service, name: web}, {kind: Service, name: wob}]"),
                 &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(have, "targetRefs[0]: Service `web` has no waypoint"));
    assert_non_null(strstr(have, "targetRefs[1]: there is no Service `shop/wob` in these files"));
    free(have);
}

// What the tutorials wrote, as whole configurations: messages with file, line and column.
#define HELLO(version)                                                                             \
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: hello-server-" version "\n  labels:\n"          \
    "    app: hello\n    version: " version "\nspec:\n  containers:\n  - name: hello\n"            \
    "    image: hello\n    ports:\n    - containerPort: 8080\n---\n"
#define HELLO_SERVICE                                                                              \
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-hello\nspec:\n  selector:\n"            \
    "    app: hello\n  ports:\n  - name: http\n    protocol: TCP\n    port: 8080\n---\n"
#define DEFAULT                                                                                    \
    "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: "                         \
    "{istio.io/use-waypoint: waypoint}}}\n---\n"
#define FAULT(percent)                                                                             \
    "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n"                  \
    "  name: hello\nspec:\n  hosts:\n  - svc-hello\n  http:\n  - fault:\n      abort:\n"           \
    "        httpStatus: 503\n        " percent "\n    route:\n    - destination:\n"               \
    "        host: svc-hello\n        subset: app-recommendation\n"

static void test_tutorials(void **state) {
    static const struct {
        const char *yaml, *messages;
        int code;
    } rows[] = {
        // 15: pods, a service with a port named http, and both versions behind it
        {DEFAULT HELLO("v1") HELLO("v2") HELLO_SERVICE
         "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n"
         "  name: hello\nspec:\n  hosts:\n  - svc-hello\n  http:\n  - route:\n"
         "    - destination:\n        host: svc-hello\n        subset: v1\n      weight: 90\n"
         "    - destination:\n        host: svc-hello\n        subset: v2\n      weight: 10\n---\n"
         "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata:\n"
         "  name: hello\nspec:\n  host: svc-hello\n  subsets:\n  - name: v1\n    labels:\n"
         "      version: v1\n  - name: v2\n    labels:\n      version: v2\n",
         "", 0},
        // 15, the selector edited to a version that no pod has
        {HELLO("v1") "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-hello\nspec:\n"
                     "  selector:\n    app: hello\n    version: v2\n  ports:\n  - port: 8080\n",
         "21:5: warning: Service default/svc-hello: spec.selector: selects no pods of these "
         "files\n",
         0},
        // 13 with an apiVersion: the percentage of 2018 is an error, and then the subset is missing
        {DEFAULT HELLO("v1") HELLO_SERVICE FAULT("percent: 50"),
         "40:9: VirtualService default/hello: spec.http[0].fault.abort.percent: was removed, and "
         "without it nothing is aborted: write `percentage: {value: ...}`\n",
         1},
        {DEFAULT HELLO("v1") HELLO_SERVICE FAULT("percentage: {value: 50}"),
         "44:17: warning: VirtualService default/hello: spec.http[0].route[0].destination.subset: "
         "no "
         "DestinationRule for `svc-hello` has a subset `app-recommendation`: requests get 503\n",
         0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int code;
        char *have = messages(rows[i].yaml, &code);
        assert_string_equal(have, rows[i].messages);
        assert_int_equal(code, rows[i].code);
        free(have);
    }
}

static void test_format(void **state) {
    int code;
    char *have = messages("apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n"
                          "  - port: 80\n    targetport: 8080\n",
                          &code);
    assert_string_equal(have, "8:5: Service default/web: spec.ports[0].targetport: unknown field "
                              "(did you mean `targetPort`?)\n");
    assert_int_equal(code, 1);
    free(have);
}

static void test_json(void **state) {
    char *out, *err;
    write_file("x.yaml", "{apiVersion: v1, kind: Namespace, metadata: {nam: a}}\n---\n"
                         "{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: "
                         "t}}\n");
    char *path = xstrdup(in_dir("x.yaml"));
    const char *args[] = {"-o", "json", path, NULL};
    assert_int_equal(run(args, &out, &err), 1);
    json_error_t error;
    json_t *json = json_loads(out, 0, &error);
    assert_non_null(json);
    assert_true(json_is_false(json_object_get(json, "valid")));
    assert_int_equal(json_integer_value(json_object_get(json, "objects")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "errors")), 2);
    assert_int_equal(json_integer_value(json_object_get(json, "warnings")), 1);
    const json_t *first = json_array_get(json_object_get(json, "messages"), 1);
    assert_string_equal(json_string_value(json_object_get(first, "severity")), "error");
    assert_string_equal(json_string_value(json_object_get(first, "field")), "metadata.nam");
    assert_string_equal(json_string_value(json_object_get(first, "suggestion")), "name");
    assert_int_equal(json_integer_value(json_object_get(first, "column")), 46);
    json_decref(json);
    free(out);
    free(err);
    free(path);
}

static void test_usage(void **state) {
    static const struct {
        const char *args[4];
        int code;
    } rows[] = {
        {{NULL}, 2},           {{"-o", "xml", "a", NULL}, 2},    {{"--bogus", "a", NULL}, 2},
        {{"--help", NULL}, 0}, {{"/nonexistent/path", NULL}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out, *err;
        assert_int_equal(run(rows[i].args, &out, &err), rows[i].code);
        if (rows[i].code == 2) {
            assert_string_equal(out, "");
            assert_string_not_equal(err, "");
        } else {
            assert_string_not_equal(out, "");
        }
        free(out);
        free(err);
    }
}

static void test_strictness(void **state) {
    char *out, *err;
    write_file("x.yaml", NS("istio-injection: enabled"));
    char *path = xstrdup(in_dir("x.yaml"));
    const char *strict[] = {"--strict", path, NULL};
    assert_int_equal(run(strict, &out, &err), 1);
    assert_string_not_equal(out, "");
    free(out);
    free(err);
    const char *quiet[] = {"-q", path, NULL};
    assert_int_equal(run(quiet, &out, &err), 0);
    assert_string_equal(out, "");
    assert_string_equal(err, "1 file, 1 object: valid, 1 warning\n");
    free(out);
    free(err);
    free(path);
}

// All paths are one configuration.
// A note is no reason to fail, not even a strict one; who writes retryOn gets none.
static void test_notes(void **state) {
    static const struct {
        const char *retries;
        bool has_note;
    } rows[] = {{"attempts: 3", true},
                {"attempts: 3, retryOn: 5xx", false},
                {"attempts: 0", false},
                {"attempts: 3, perTryTimeout: 2s", true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out, *err,
            *yaml = xasprintf(VS("web", "{retries: {%s}, route: [{destination: {host: "
                                        "web}}]}"),
                              rows[i].retries);
        write_file("x.yaml", yaml);
        char *path = xstrdup(in_dir("x.yaml"));
        const char *strict[] = {"--strict", path, NULL}, *quiet[] = {"-q", path, NULL};
        const char *json[] = {"-o", "json", path, NULL};
        assert_int_equal(run(strict, &out, &err), 0);
        assert_true((strstr(out, ": note: VirtualService shop/l7: spec.http[0].retries: has no "
                                 "`retryOn`") != NULL) == rows[i].has_note);
        assert_true((strstr(err, "valid, 1 note") != NULL) == rows[i].has_note);
        free(out);
        free(err);
        assert_int_equal(run(quiet, &out, &err), 0);
        assert_string_equal(out, "");
        free(out);
        free(err);
        assert_int_equal(run(json, &out, &err), 0);
        assert_true((strstr(out, "\"severity\": \"note\"") != NULL) == rows[i].has_note);
        free(out);
        free(err);
        free(path);
        free(yaml);
    }
}

static void test_paths(void **state) {
    char *out, *err;
    mkdir(in_dir("d"), 0755);
    mkdir(in_dir("d/deeper"), 0755);
    write_file("d/a.yaml", WEB);
    write_file("d/deeper/b.yml", NS(""));
    write_file("d/ignored.txt", "a: [");
    write_file("svc.yaml", SERVICE("{port: 80, targetPort: http}"));
    char *first = xstrdup(in_dir("d")), *second = xstrdup(in_dir("svc.yaml"));
    const char *args[] = {first, second, NULL};
    assert_int_equal(run(args, &out, &err), 0);
    assert_string_equal(out, "");
    assert_string_equal(err, "3 files, 3 objects: valid\n");
    free(out);
    free(err);
    const char *twice[] = {first, second, second, NULL};
    assert_int_equal(run(twice, &out, &err), 0);
    free(out);
    free(err);
    free(first);
    free(second);
}

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/ztun-validate-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    char command[96];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references), cmocka_unit_test(test_targets),
        cmocka_unit_test(test_tutorials),  cmocka_unit_test(test_format),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_usage),
        cmocka_unit_test(test_strictness), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
