// SPDX-License-Identifier: Apache-2.0
//
// AuthorizationPolicy and PeerAuthentication: the converted form, and what it means for requests.
#include <stdio.h>

#include "common/mesh/rbac.h"
#include "tests/unit/mesh/builder_fixture.h"

static struct mesh_builder *b;

static int setup(void **state) {
    fx_init();
    b = fx_builder("");
    return 0;
}

static int teardown(void **state) {
    fx_builder_free(b);
    fx_fini();
    return 0;
}

#define POD(ns, name, app, ip)                                                                     \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: " ns                    \
    ", labels: {app: " app "}}\nspec: {containers: [{name: c, image: i}]}\n"                       \
    "status: {phase: Running, podIP: " ip "}\n"
#define AUTHZ(ns, name, meta, spec)                                                                \
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name     \
    ", namespace: " ns meta "}\nspec: {" spec "}\n"
#define PEER(ns, name, meta, spec)                                                                 \
    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name      \
    ", namespace: " ns meta "}\nspec: {" spec "}\n"

#define ALICE "spiffe://cluster.local/ns/red/sa/alice"

static bool allowed(const char *ns_name, const char *identity, uint16_t port) {
    char uid[128];
    snprintf(uid, sizeof(uid), "Kubernetes//Pod/%s", ns_name);
    struct workload *w = fx_find_workload(uid);
    struct rbac_request request = {
        .source_ip = fx_ip("10.0.0.77"),
        .source_identity = slice_str(identity),
        .destination = {.ip = w->ips[0], .port = port},
    };
    struct rbac_verdict verdict;
    rbac_check(snapshot_current(), w, &request, &verdict);
    return verdict.is_allowed;
}

static void test_rules(void **state) {
    const struct {
        const char *spec;
        bool alice80, alice81, plain80; // a request by alice to port 80 ...
        const char *problem;
    } cases[] = {
        {"", 0, 0, 0, ""}, // ALLOW without rules: nothing
        {"rules: [{}]", 1, 1, 1, ""},
        {"action: DENY, rules: [{}]", 0, 0, 0, ""},
        {"rules: [{from: [{source: {principals: ['*']}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {principals: [cluster.local/ns/red/sa/alice]}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {principals: [cluster.local/ns/red/*]}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {principals: ['*/sa/alice']}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {notPrincipals: ['*/sa/alice']}}]}]", 0, 0, 1, ""},
        {"rules: [{from: [{source: {namespaces: [red]}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {serviceAccounts: [red/alice]}}]}]", 1, 1, 0, ""},
        {"rules: [{from: [{source: {serviceAccounts: [alice]}}]}]", 0, 0, 0, ""}, // of ns "a"
        {"rules: [{from: [{source: {ipBlocks: [10.0.0.0/24]}}]}]", 1, 1, 1, ""},
        {"rules: [{from: [{source: {notIpBlocks: [10.0.0.77]}}]}]", 0, 0, 0, ""},
        {"rules: [{to: [{operation: {ports: ['80']}}]}]", 1, 0, 1, ""},
        {"rules: [{to: [{operation: {notPorts: ['80']}}]}]", 0, 1, 0, ""},
        {"rules: [{from: [{source: {namespaces: [red]}}], to: [{operation: {ports: ['80']}}]}]", 1,
         0, 0, ""},
        {"rules: [{from: [{source: {namespaces: [blue]}}, {source: {namespaces: [red]}}]}]", 1, 1,
         0, ""},
        {"rules: [{from: [{source: {namespaces: [blue]}}]}, {to: [{operation: {ports: ['80']}}]}]",
         1, 0, 1, ""},
        {"rules: [{when: [{key: source.namespace, values: [red]}]}]", 1, 1, 0, ""},
        {"rules: [{when: [{key: source.principal, notValues: ['*']}]}]", 0, 0, 1, ""},
        {"rules: [{when: [{key: destination.port, values: ['81']}]}]", 0, 1, 0, ""},
        {"rules: [{when: [{key: destination.ip, values: [10.0.0.1]}]}]", 1, 1, 1, ""},
        {"rules: [{when: [{key: source.ip, values: [10.0.0.77/32]}]}]", 1, 1, 1, ""},
        // L7: ALLOW rules never match
        {"rules: [{to: [{operation: {methods: [GET]}}]}]", 0, 0, 0, "found: methods"},
        {"rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]", 0, 0, 0,
         "found: methods"},
        {"rules: [{to: [{operation: {paths: [/x]}}]}, {to: [{operation: {ports: ['80']}}]}]", 1, 0,
         1, "found: paths"},
        {"rules: [{when: [{key: 'request.headers[x]', values: [y1]}]}]", 0, 0, 0,
         "found: request.headers[x]"},
        // L7: DENY keeps the L4 part; a clause without any is never true
        {"action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]", 0, 1, 0,
         "denies more"},
        {"action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]", 1, 1, 1, "denies more"},
        {"action: DENY, rules: [{from: [{source: {namespaces: [red]}}], "
         "to: [{operation: {methods: [GET]}}]}]",
         1, 1, 1, "denies more"},
        // not at L4
        {"action: AUDIT, rules: [{}]", 1, 1, 1, "AUDIT is not enforced"},
        {"action: CUSTOM, provider: {name: x1}, rules: [{}]", 1, 1, 1, "CUSTOM is not enforced"},
        {"targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: way}]", 1, 1, 1,
         "Gateway way is not there"},
    };
    fx_apply(b, POD("a", "p", "web", "10.0.0.1"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), AUTHZ("a", "p", "", "%s"), cases[i].spec);
        fx_apply(b, yaml);
        if (allowed("a/p", ALICE, 80) != cases[i].alice80 ||
            allowed("a/p", ALICE, 81) != cases[i].alice81 ||
            allowed("a/p", "", 80) != cases[i].plain80) {
            fail_msg("%s: alice:80 %d, alice:81 %d, plain:80 %d", cases[i].spec,
                     allowed("a/p", ALICE, 80), allowed("a/p", ALICE, 81), allowed("a/p", "", 80));
        }
        const char *problems = fx_problems(b);
        if (cases[i].problem[0] != '\0' ? strstr(problems, cases[i].problem) == NULL
                                        : problems[0] != '\0') {
            fail_msg("%s: problems '%s'", cases[i].spec, problems);
        }
    }
}

#define DENY_ALL "action: DENY, rules: [{}]"

static void test_scopes(void **state) {
    const struct {
        const char *ns, *spec;
        bool web, api, other; // allowed at a/web, a/api, b/web
    } cases[] = {
        {"a", DENY_ALL, 0, 0, 1},
        {"istio-system", DENY_ALL, 0, 0, 0},
        {"a", "selector: {matchLabels: {app: web}}, " DENY_ALL, 0, 1, 1},
        {"b", "selector: {matchLabels: {app: web}}, " DENY_ALL, 1, 1, 0},
        {"istio-system", "selector: {matchLabels: {app: web}}, " DENY_ALL, 0, 1, 0},
    };
    fx_apply(b, POD("a", "web", "web", "10.0.0.1") POD("a", "api", "api", "10.0.0.2")
                    POD("b", "web", "web", "10.0.0.3"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml), AUTHZ("%s", "p", "", "%s"), cases[i].ns, cases[i].spec);
        fx_apply(b, yaml);
        assert_true(fx_changes.policies_changed);
        assert_int_equal(allowed("a/web", ALICE, 80), cases[i].web);
        assert_int_equal(allowed("a/api", ALICE, 80), cases[i].api);
        assert_int_equal(allowed("b/web", ALICE, 80), cases[i].other);
        fx_remove(b, yaml);
        assert_true(allowed("a/web", ALICE, 80) && allowed("b/web", ALICE, 80));
    }
    // a workload's labels change: another policy list
    fx_apply(b, AUTHZ("a", "p", "", "selector: {matchLabels: {app: web}}, " DENY_ALL));
    fx_apply(b, POD("a", "api", "web", "10.0.0.2"));
    assert_true(fx_changes.policies_changed);
    assert_false(allowed("a/api", ALICE, 80));
}

static void test_dry_run(void **state) {
    fx_apply(b, POD("a", "p", "web", "10.0.0.1")
                    AUTHZ("a", "p", ", annotations: {istio.io/dry-run: 'true'}", DENY_ALL));
    assert_true(allowed("a/p", ALICE, 80));
    assert_true(fx_find_policy("a/p")->is_dry_run);
    fx_apply(b, AUTHZ("a", "p", ", annotations: {istio.io/dry-run: 'maybe'}", DENY_ALL));
    assert_false(allowed("a/p", ALICE, 80));
    assert_non_null(strstr(fx_problems(b), "neither true nor false"));
}

static bool count_policy(void *arg, const struct kobj *policy) {
    (*(int *)arg)++;
    return true;
}

static void test_waypoint_policies(void **state) {
    int n = 0;
    fx_apply(b, AUTHZ("a", "l7", "",
                      "targetRefs: [{kind: Service, group: '', name: web}], "
                      "rules: [{to: [{operation: {methods: [GET]}}]}]"));
    builder_each_waypoint_policy(b, count_policy, &n);
    assert_int_equal(n, 1);
    assert_null(fx_find_policy("a/l7"));
}

#define STRICT "mtls: {mode: STRICT}"
#define PERMISSIVE "mtls: {mode: PERMISSIVE}"
#define UNSET "mtls: {mode: UNSET}"
#define SELECT "selector: {matchLabels: {app: web}}"
#define PORTS(a, b) "portLevelMtls: {80: {mode: " a "}, 81: {mode: " b "}}"

// Is plaintext allowed at a/p on ports 80, 81 and 82, under root, namespace and workload policy?
static void test_peer_authentication(void **state) {
    const struct {
        const char *root, *ns, *workload;
        bool p80, p81, p82;
        const char *policy; // in the workload's list, "" = none
    } cases[] = {
        {NULL, NULL, NULL, 1, 1, 1, ""},
        {STRICT, NULL, NULL, 0, 0, 0, "istio-system/istio_converted_static_strict"},
        {NULL, STRICT, NULL, 0, 0, 0, "istio-system/istio_converted_static_strict"},
        {NULL, NULL, SELECT ", " STRICT, 0, 0, 0, "istio-system/istio_converted_static_strict"},
        {STRICT, PERMISSIVE, NULL, 1, 1, 1, ""},
        {STRICT, UNSET, NULL, 0, 0, 0, "istio-system/istio_converted_static_strict"},
        {STRICT, "mtls: {mode: DISABLE}", NULL, 1, 1, 1, ""},
        {STRICT, NULL, SELECT ", " PERMISSIVE, 1, 1, 1, ""},
        {STRICT, PERMISSIVE, SELECT ", " STRICT, 0, 0, 0,
         "istio-system/istio_converted_static_strict"},
        {NULL, STRICT, SELECT ", " UNSET, 0, 0, 0, "istio-system/istio_converted_static_strict"},
        // by port
        {NULL, NULL, SELECT ", " STRICT ", " PORTS("PERMISSIVE", "STRICT"), 1, 0, 0,
         "a/converted_peer_authentication_w"},
        {NULL, NULL, SELECT ", " STRICT ", " PORTS("STRICT", "STRICT"), 0, 0, 0,
         "istio-system/istio_converted_static_strict"},
        {NULL, NULL, SELECT ", " PERMISSIVE ", " PORTS("STRICT", "PERMISSIVE"), 0, 1, 1,
         "a/converted_peer_authentication_w"},
        {NULL, NULL, SELECT ", " PERMISSIVE ", " PORTS("DISABLE", "PERMISSIVE"), 1, 1, 1, ""},
        {NULL, NULL, SELECT ", " PORTS("STRICT", "UNSET"), 0, 1, 1,
         "a/converted_peer_authentication_w"},
        {STRICT, NULL, SELECT ", " PORTS("PERMISSIVE", "UNSET"), 1, 0, 0,
         "a/converted_peer_authentication_w"},
        {STRICT, PERMISSIVE, SELECT ", " PORTS("STRICT", "DISABLE"), 0, 1, 1,
         "a/converted_peer_authentication_w"},
        {STRICT, NULL, SELECT ", " PORTS("DISABLE", "STRICT"), 1, 0, 0,
         "a/converted_peer_authentication_w"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[2048] = POD("a", "p", "web", "10.0.0.1");
        size_t len = strlen(yaml);
        const char *const specs[] = {cases[i].root, cases[i].ns, cases[i].workload};
        const char *const spaces[] = {"istio-system", "a", "a"};
        const char *const names[] = {"r", "nsw", "w"};
        for (int k = 0; k < 3; k++) {
            if (specs[k] != NULL) {
                len += (size_t)snprintf(yaml + len, sizeof(yaml) - len, PEER("%s", "%s", "", "%s"),
                                        names[k], spaces[k], specs[k]);
            }
        }
        fx_apply(b, yaml);
        struct workload *w = fx_find_workload("Kubernetes//Pod/a/p");
        if (allowed("a/p", "", 80) != cases[i].p80 || allowed("a/p", "", 81) != cases[i].p81 ||
            allowed("a/p", "", 82) != cases[i].p82) {
            fail_msg("case %zu: %d %d %d", i, allowed("a/p", "", 80), allowed("a/p", "", 81),
                     allowed("a/p", "", 82));
        }
        assert_true(allowed("a/p", ALICE, 80));
        assert_string_equal(w->common->n_policies > 0 ? w->common->policies[0] : "",
                            cases[i].policy);
        assert_int_equal(fx_find_policy("istio-system/istio_converted_static_strict") != NULL,
                         strstr(yaml, "PeerAuthentication") != NULL);
        fx_remove(b, yaml);
        assert_null(fx_find_policy("istio-system/istio_converted_static_strict"));
    }
}

static void test_peer_conflicts(void **state) {
    fx_apply(b, POD("a", "p", "web", "10.0.0.1")
                    PEER("a", "new", ", creationTimestamp: '2026-02-01T00:00:00Z'", STRICT)
                        PEER("a", "old", ", creationTimestamp: '2026-01-01T00:00:00Z'", PERMISSIVE)
                            PEER("istio-system", "sel", "", SELECT ", " STRICT));
    assert_true(allowed("a/p", "", 80)); // the oldest counts; a selector in the root does not
    assert_non_null(strstr(fx_problems(b), "a/new: a/old is older"));
    assert_non_null(strstr(fx_problems(b), "a selector in the root namespace is ignored"));
    fx_remove(b, PEER("a", "old", "", PERMISSIVE));
    assert_false(allowed("a/p", "", 80));
    assert_null(strstr(fx_problems(b), "is older"));
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rules),
        TEST(test_scopes),
        TEST(test_dry_run),
        TEST(test_waypoint_policies),
        TEST(test_peer_authentication),
        TEST(test_peer_conflicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
