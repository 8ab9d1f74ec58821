// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl explain` as a command on a small mesh.
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "common/base/check.h"
#include "ctl/cmd.h"
#include "ctl/cmd_explain.h"
#include "tests/unit/ctl/ctl_run.h"

static char dir[64];

// Two nodes in two zones; demo is in the mesh, outside is not.
static const char mesh[] =
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r,"
    " topology.kubernetes.io/zone: z1}}\n"
    "status: {addresses: [{type: InternalIP, address: 172.18.0.1}]}\n---\n"
    "apiVersion: v1\nkind: Node\nmetadata: {name: n2, labels: {topology.kubernetes.io/region: r,"
    " topology.kubernetes.io/zone: z2}}\n---\n"
    "apiVersion: v1\nkind: Namespace\n"
    "metadata: {name: demo, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: outside}\n---\n"
#define POD(ns, name, app, ip, node, ready, more)                                                  \
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: " ns ", name: " name ", labels: {app: " app  \
    "}" more "}\nspec: {nodeName: " node ", serviceAccountName: " app                              \
    ", containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}\n"           \
    "status: {phase: Running, podIP: " ip ", podIPs: [{ip: " ip "}], conditions: [{type: Ready,"   \
    " status: \"" ready "\"}]}\n---\n"
    POD("demo", "client", "client", "10.0.1.1", "n1", "True",
        "") POD("demo", "bad", "bad", "10.0.1.2", "n1", "True",
                "") POD("demo", "host", "host", "10.0.1.9", "n1", "True",
                        ", annotations: {sidecar.istio.io/status: x}") POD("outside", "plain",
                                                                           "plain", "10.0.1.3",
                                                                           "n1", "True", "")
        POD("demo", "web-1", "web", "10.0.1.4", "n1", "True",
            "") POD("demo", "web-2", "web", "10.0.2.4", "n2", "True",
                    "") POD("demo", "web-3", "web", "10.0.2.5", "n2", "False",
                            "") POD("demo", "way-1", "way", "10.0.2.6", "n2", "True",
                                    "") POD("demo", "db-0", "db", "10.0.2.7", "n2", "True", "")
#define SERVICE(name, app, ip, more)                                                               \
    "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: " name "}\n"                 \
    "spec: {clusterIP: " ip ", selector: {app: " app "}, ports: [{name: http, port: 80,"           \
    " targetPort: http}]" more "}\n---\n"
            SERVICE("web", "web", "10.96.0.1", "") SERVICE("near", "web", "10.96.0.2",
                                                           ", trafficDistribution: PreferClose")
                SERVICE("local", "web", "10.96.0.3", ", internalTrafficPolicy: Local")
                    SERVICE("port", "web", "10.96.0.4", ", type: NodePort") SERVICE(
                        "db", "db",
                        "None",
                        "") "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: way, "
                            "labels:"
                            " {gateway.networking.k8s.io/gateway-name: way}}\n"
                            "spec: {clusterIP: 10.96.0.7, selector: {app: way}, ports: [{name: "
                            "hbone, port: 15008}]}\n---\n"
                            "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: l7, "
                            "labels:"
                            " {istio.io/use-waypoint: way}}\n"
                            "spec: {clusterIP: 10.96.0.8, selector: {app: web}, ports: [{name: "
                            "http, port: 80}]}\n---\n"
                            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
                            "metadata: {namespace: demo, name: way}\n"
                            "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, "
                            "port: 15008, protocol:"
                            " HBONE}]}\n"
                            "status: {addresses: [{type: Hostname, value: "
                            "way.demo.svc.cluster.local}]}\n---\n" SERVICE(
                                "nobody", "nobody", "10.96.0.6",
                                "") "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                                    "metadata: {namespace: demo, name: web}\n"
                                    "spec: {selector: {matchLabels: {app: web}}, action: ALLOW, "
                                    "rules: [{from: [{source:"
                                    " {principals: [cluster.local/ns/demo/sa/client]}}]}]}\n---\n"
                                    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                                    "metadata: {namespace: demo, name: no-bad}\n"
                                    "spec: {action: DENY, rules: [{from: [{source: {principals: "
                                    "['*/sa/bad']}}]}]}\n";

static int run(const char *const *args, char **ret_out, char **ret_err) {
    return ctl_run(cmd_explain, "explain", args, ret_out, ret_err);
}

static int setup(void **state) {
    char path[128];
    snprintf(dir, sizeof(dir), "/tmp/test_cmd_explain.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/mesh.yaml", dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(mesh, file);
    fclose(file);
    return 0;
}

static int teardown(void **state) {
    char path[128];
    snprintf(path, sizeof(path), "%s/mesh.yaml", dir);
    unlink(path);
    rmdir(dir);
    return 0;
}

static const struct {
    const char *from, *to;
    const char *has[6]; // texts that are there, in this order
    const char *lacks;
} cases[] = {
    {"demo/client",
     "web",
     {"captured     yes: namespace demo has the label istio.io/dataplane-mode=ambient",
      "dns          web is web.demo.svc.cluster.local (service demo/web.demo.svc.cluster.local): "
      "10.96.0.1, says ztun's DNS proxy\n",
      "destination  10.96.0.1:80\n", "the peer must show spiffe://cluster.local/ns/demo/sa/web\n",
      "ALLOW demo/web (workload): rule 0 matches: principals [cluster.local/ns/demo/sa/client]\n",
      "verdict      ALLOWED: allowed by: demo/web (rule 0)\n"},
     NULL},
    {"demo/client",
     "web.demo:80",
     {"demo/web-1 10.0.1.4:8080 on n1 (z1) HBONE\n", "demo/web-2 10.0.2.4:8080 on n2 (z2) HBONE\n",
      "- demo/web-3 10.0.2.5 on n2 (z2)  out: not ready\n"},
     NULL},
    {"demo/bad",
     "web.demo.svc.cluster.local",
     {"DENY demo/no-bad (namespace): rule 0 matches: principals [*/sa/bad]\n",
      "denied: explicitly denied by: demo/no-bad (rule 0)\n",
      "verdict      REFUSED: explicitly denied by: demo/no-bad (rule 0)\n"},
     NULL},
    {"outside/plain",
     "10.96.0.1:80",
     {"captured     no: neither the pod nor namespace outside has the label "
      "istio.io/dataplane-mode=ambient\n",
      "inbound: plaintext, captured by its ztun", "ALLOW demo/web (workload): no rule matches\n",
      "verdict      REFUSED: allow policies exist, but none allowed\n"},
     "route"},
    {"outside/plain", "10.0.2.7:80", {"verdict      ALLOWED: no allow policies\n"}, NULL},
    {"demo/host",
     "web",
     {"captured     no: it has a sidecar", "dns          web is ", "says the cluster's DNS"},
     "tunnel"},
    {"demo/client",
     "near",
     {"* demo/web-1 10.0.1.4:8080", "demo/web-2 10.0.2.4:8080 on n2 (z2) HBONE out: farther away",
      "verdict      ALLOWED"},
     NULL},
    {"demo/client",
     "local",
     {"* demo/web-1 10.0.1.4:8080", "- demo/web-2 10.0.2.4 on n2 (z2)  out: too far",
      "verdict      ALLOWED"},
     NULL},
    {"demo/client", "nobody", {"verdict      REFUSED: no healthy upstream\n"}, NULL},
    {"demo/client", "web:81", {"verdict      REFUSED: service has no such port\n"}, NULL},
    {"demo/client",
     "db",
     {"dns          db is db.demo.svc.cluster.local", "destination  10.0.2.7:80\n",
      "destination is workload demo/db-0\n", "* demo/db-0 10.0.2.7:80"},
     NULL},
    {"demo/client", "db-0.db.demo.svc.cluster.local:5432", {"destination  10.0.2.7:5432\n"}, NULL},
    {"demo/client", "web.demo.svc.cluster.local.demo.svc.cluster.local", {"10.96.0.1"}, NULL},
    {"demo/client", "WEB.Demo.", {"destination  10.96.0.1:80\n"}, NULL},
    {"demo/client",
     "example.com:443",
     {"not a name of the mesh", "verdict      UNKNOWN: "},
     "destination"},
    {"demo/client",
     "1.1.1.1:443",
     {"decision     plain TCP to 1.1.1.1:443\n", "verdict      ALLOWED: it passes through"},
     "endpoints"},
    {"demo/client",
     "10.0.1.3:80",
     {"workload outside/plain is not in the mesh: plain TCP to 10.0.1.3:80\n",
      "inbound: plaintext, not captured", "verdict      ALLOWED: no ztun is at that end"},
     NULL},
    {"demo/client",
     "10.0.1.1:15008",
     {"verdict      REFUSED: port is reserved for the mesh itself\n"},
     NULL},
    {"demo/client", "10.0.1.4", {"destination  10.0.1.4:80\n"}, NULL},
    {"demo/client",
     "l7",
     {"waypoint demo/way.demo.svc.cluster.local is bound\n",
      "tunnel to 10.0.2.6:15008 (a waypoint), CONNECT 10.96.0.8:80\n",
      "the peer must show spiffe://cluster.local/ns/demo/sa/way\n", "* demo/way-1 ",
      "verdict      ALLOWED: it reaches the waypoint"},
     "inbound:"},
    {"demo/client",
     "172.18.0.1:80",
     {"destination is not known", "verdict      ALLOWED: it passes through"},
     NULL},
    {"demo/client", "10.0.1.1:80", {"self-call", "verdict      ALLOWED"}, NULL},
};

static void test_cases(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *args[] = {"--config", dir, "--from", cases[i].from, "--to", cases[i].to, NULL};
        char *out, *err;
        int code = run(args, &out, &err);
        const char *at = out;
        for (size_t k = 0; k < ARRAY_LEN(cases[i].has) && cases[i].has[k] != NULL; k++) {
            const char *found = strstr(at, cases[i].has[k]);
            if (found == NULL) {
                fail_msg("case %zu (%s -> %s): no `%s` in\n%s%s", i, cases[i].from, cases[i].to,
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

static void test_same_every_time(void **state) {
    const char *args[] = {"--config", dir, "--from", "demo/client", "--to", "web", NULL};
    char *first, *again, *err;
    assert_int_equal(run(args, &first, &err), CMD_OK);
    free(err);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(run(args, &again, &err), CMD_OK);
        assert_string_equal(first, again);
        free(again);
        free(err);
    }
    free(first);
}

static void test_json(void **state) {
    const char *args[] = {"--config", dir,  "--from", "demo/client", "--to",
                          "web",      "-o", "json",   NULL};
    char *out, *err;
    assert_int_equal(run(args, &out, &err), CMD_OK);
    json_t *root = json_loads(out, 0, NULL);
    assert_non_null(root);
    const char *action = "", *trust = "";
    int captured = 0, allowed = 0;
    json_t *candidates = NULL;
    assert_int_equal(json_unpack(root, "{s:{s:b}, s:{s:s}, s:{s:b}, s:{s:s}, s:o}", "capture",
                                 "captured", &captured, "route", "action", &action, "verdict",
                                 "allowed", &allowed, "source", "identity", &trust, "candidates",
                                 &candidates),
                     0);
    assert_true(captured && allowed);
    assert_string_equal(action, "HBONE");
    assert_string_equal(trust, "spiffe://cluster.local/ns/demo/sa/client");
    assert_int_equal(json_array_size(candidates), 3);
    json_decref(root);
    free(out);
    free(err);
}

static void test_hops_without_netns(void **state) {
    const char *args[] = {"--config", dir, "--from", "demo/client", "--to", "web", "--hops", NULL};
    char *out, *err;
    assert_int_equal(run(args, &out, &err), CMD_OK);
    assert_non_null(strstr(out, "hop: source demo/client"));
    assert_non_null(strstr(out, "its network namespace is not known"));
    free(out);
    free(err);
}

static void test_usage(void **state) {
    static const struct {
        const char *args[8];
        int code;
        const char *err;
    } rows[] = {
        {{NULL}, CMD_USAGE, "--from NS/POD and --to WHERE are needed"},
        {{"--from", "demo/client"}, CMD_USAGE, "are needed"},
        {{"--config", dir, "--from", "demo/client", "--to", "web", "x"}, CMD_USAGE, "are needed"},
        {{"--config", dir, "--from", "demo/client", "--to", "web", "-oxml"}, CMD_USAGE, "-o takes"},
        {{"--config", dir, "--from", "demo/clinet", "--to", "web"},
         CMD_FAILED,
         "there is no pod `demo/clinet` (did you mean `demo/client`?)"},
        {{"--config", dir, "--from", "demo/client", "--to", "web:x"}, CMD_FAILED, "the port is"},
        {{"--config", dir, "--from", "demo/client", "--to", ":80"}, CMD_FAILED, "is not HOST"},
        {{"--config", "/nowhere", "--from", "a/b", "--to", "web"}, CMD_FAILED, "No such file"},
        {{"--lab", "no-such-lab", "--from", "a/b", "--to", "web"},
         CMD_FAILED,
         "no lab `no-such-lab` runs"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out, *err;
        int code = run(rows[i].args, &out, &err);
        if (code != rows[i].code || strstr(err, rows[i].err) == NULL) {
            fail_msg("row %zu: %d %s", i, code, err);
        }
        free(out);
        free(err);
    }
    const char *help[] = {"--help", NULL};
    char *out, *err;
    assert_int_equal(run(help, &out, &err), CMD_OK);
    assert_memory_equal(out, "usage: ztunctl explain", 22);
    free(out);
    free(err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_same_every_time),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_hops_without_netns),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
