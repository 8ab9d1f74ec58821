// SPDX-License-Identifier: Apache-2.0
//
// What a CONNECT means to a waypoint, and the policies that target it.
#include "common/mesh/route_waypoint.h"

#include <stdio.h>

#include "common/mesh/rbac.h"
#include "tests/unit/mesh/builder_fixture.h"

#define WAY "a/way.a.svc.cluster.local"

static int setup(void **state) {
    fx_init();
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

static void publish_mesh(void) {
    struct workload *server = FX_WORKLOAD("a", "server", "10.0.0.2", .protocol = WORKLOAD_HBONE);
    struct workload *bound = FX_WORKLOAD("a", "bound", "10.0.0.3", .common.waypoint = WAY);
    struct workload *other =
        FX_WORKLOAD("a", "other", "10.0.0.4", .common.waypoint = "a/else.a.svc.cluster.local");
    fx_publish(FX_SERVICE(.ns = "a", .name = "l7", .vips = "10.1.0.1,fd01::1", .ports = {80, 443},
                          .members = {server}, .more = {.waypoint = WAY}),
               FX_SERVICE(.ns = "a", .name = "share", .vips = "10.1.0.4", .ports = {80},
                          .members = {server},
                          .more = {.waypoint = "a/else.a.svc.cluster.local", .canary = WAY}),
               FX_SERVICE(.ns = "a", .name = "free", .vips = "10.1.0.2", .ports = {80},
                          .members = {server}),
               FX_SERVICE(.ns = "a", .name = "else", .vips = "10.1.0.3", .ports = {80},
                          .members = {server}, .more = {.waypoint = "b/x.b.svc.cluster.local"}),
               server, bound, other, NULL);
}

static void test_verdicts(void **state) {
    (void)state;
    publish_mesh();
    static const struct {
        const char *authority;
        bool any;
        uint8_t verdict;
        const char *name; // of the service or workload
        int port;
        const char *reason; // part of it
    } cases[] = {
        {"10.1.0.1:80", false, WAYPOINT_SERVE, "l7", 0, ""},
        {"10.1.0.1:443", false, WAYPOINT_SERVE, "l7", 1, ""},
        {"[fd01::1]:443", false, WAYPOINT_SERVE, "l7", 1, ""},
        {"10.1.0.1:81", false, WAYPOINT_NO_PORT, "l7", 0, "has no port 81"},
        {"10.1.0.2:80", false, WAYPOINT_NOT_BOUND, "free", 0, "no waypoint is bound"},
        {"10.1.0.2:80", true, WAYPOINT_SERVE, "free", 0, ""},
        {"10.1.0.2:81", true, WAYPOINT_NO_PORT, "free", 0, "has no port 81"},
        {"10.1.0.4:80", false, WAYPOINT_SERVE, "share", 0, ""}, // as a canary
        {"10.1.0.3:80", false, WAYPOINT_NOT_BOUND, "else", 0, "another waypoint: b/x"},
        {"10.1.0.3:80", true, WAYPOINT_NOT_BOUND, "else", 0, "another waypoint: b/x"},
        {"10.0.0.3:5432", false, WAYPOINT_SERVE, "bound", 0, ""},
        {"10.0.0.2:8080", false, WAYPOINT_NOT_BOUND, "server", 0, "no waypoint is bound"},
        {"10.0.0.4:8080", false, WAYPOINT_NOT_BOUND, "other", 0, "another waypoint"},
        {"10.9.9.9:80", false, WAYPOINT_NOT_BOUND, NULL, 0, "not known"},
        {"10.1.0.1:15008", false, WAYPOINT_OWN_PORT, NULL, 0, "reserved"},
        {"l7.a.svc.cluster.local:80", false, WAYPOINT_HOST, NULL, 0, "host name"},
        {"10.1.0.1:0", false, WAYPOINT_BAD, NULL, 0, "not address:port"},
        {"10.1.0.1", false, WAYPOINT_BAD, NULL, 0, "not address:port"},
        {"host:99999", false, WAYPOINT_BAD, NULL, 0, "not address:port"},
        {"", false, WAYPOINT_BAD, NULL, 0, "not address:port"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct waypoint_request request = {
            .key = WAY, .authority = slice_str(cases[i].authority), .any_binding = cases[i].any};
        struct waypoint_target target;
        route_waypoint(snapshot_current(), &request, &target);
        const char *name = target.service != NULL    ? target.service->name
                           : target.workload != NULL ? target.workload->name
                                                     : NULL;
        if (target.verdict != cases[i].verdict || target.port != cases[i].port ||
            strstr(target.reason, cases[i].reason) == NULL ||
            (cases[i].reason[0] == '\0') != (target.reason[0] == '\0')) {
            fail_msg("%s: verdict %u, port %u, %s", cases[i].authority, target.verdict, target.port,
                     target.reason);
        }
        if (name == NULL || cases[i].name == NULL) {
            assert_true(name == NULL && cases[i].name == NULL);
        } else {
            assert_string_equal(name, cases[i].name);
        }
    }
}

static void test_key(void **state) {
    (void)state;
    char key[512], ns[64], name[513];
    assert_true(route_waypoint_key(snapshot_current(), "a", "way", key));
    assert_string_equal(key, WAY);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    snprintf(ns, sizeof(ns), "n");
    assert_false(route_waypoint_key(snapshot_current(), ns, name, key));
}

// ---- policies ----------------------------------------------------------------------------------

#define AUTHZ(ns, spec)                                                                            \
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"                           \
    "metadata: {name: p, namespace: " ns "}\nspec: {" spec "}\n"
#define TARGET_OF(group, kind, name)                                                               \
    "targetRefs: [{kind: " kind ", name: " name ", group: '" group "'}], "
#define TARGET(kind, name) TARGET_OF("", kind, name)
#define GW_TARGET(kind, name) TARGET_OF("gateway.networking.k8s.io", kind, name)
#define ALICE "rules: [{from: [{source: {principals: [cluster.local/ns/red/sa/alice]}}]}]"
#define ALICE_ID "spiffe://cluster.local/ns/red/sa/alice"

// What alice and bob may do: of service a/web, and of what is called by a workload's own address.
static void test_targeted(void **state) {
    (void)state;
    static const struct {
        const char *policy;
        bool alice, bob, workload; // workload: alice, without a service
        const char *problem;
    } cases[] = {
        {AUTHZ("a", TARGET("Service", "web") ALICE), 1, 0, 1, ""},
        {AUTHZ("a", TARGET("Service", "web") "action: DENY, " ALICE), 0, 1, 1, ""},
        {AUTHZ("a", TARGET("Service", "other") ALICE), 1, 1, 1, ""},
        {AUTHZ("b", TARGET("Service", "web") ALICE), 1, 1, 1, ""}, // another namespace's
        {AUTHZ("a", TARGET_OF("networking.istio.io", "ServiceEntry", "web") "action: DENY, " ALICE),
         1, 1, 1, ""},
        {AUTHZ("a", GW_TARGET("Gateway", "way") "action: DENY, " ALICE), 0, 1, 0, ""},
        {AUTHZ("a", GW_TARGET("Gateway", "else") "action: DENY, " ALICE), 1, 1, 1, "is not there"},
        {AUTHZ("istio-system", GW_TARGET("GatewayClass", "istio-waypoint") "action: DENY, " ALICE),
         0, 1, 0, ""},
        {AUTHZ("a", GW_TARGET("GatewayClass", "istio-waypoint") "action: DENY, " ALICE), 1, 1, 1,
         ""},
        // What cannot be told is denied.
        {AUTHZ("a", TARGET("Service", "web") "action: DENY, rules: [{to: [{operation: "
                                             "{methods: [DELETE]}}]}]"),
         0, 0, 1, "the DENY policy denies everything"},
        {AUTHZ("a", TARGET("Service", "web") "rules: [{to: [{operation: {methods: [GET]}}]}]"), 0,
         0, 1, "never match"},
        {AUTHZ("a", TARGET("Service", "web") "action: CUSTOM, provider: {name: x}, rules: [{}]"), 0,
         0, 1, "CUSTOM"},
        {AUTHZ("a", TARGET("Service", "web") "action: AUDIT, " ALICE), 1, 1, 1, "AUDIT"},
        // Without a target it is for workloads.
        {AUTHZ("a", "action: DENY, " ALICE), 1, 1, 1, ""},
    };
    static const char base[] =
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\n"
        "spec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}\n"
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
        "metadata: {name: way, namespace: a}\n"
        "spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: "
        "HBONE}]}\n";
    struct builder_options options = {.mesh = *snapshot_current()->mesh, .has_targeted = true};
    struct mesh_builder *b = builder_new(&options);
    fx_apply(b, base);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fx_apply(b, cases[i].policy);
        const struct snapshot *snap = snapshot_current();
        struct service *web = fx_find_service("a/web.a.svc.cluster.local");
        bool expected[3] = {cases[i].alice, cases[i].bob, cases[i].workload};
        for (int k = 0; k < 3; k++) {
            struct rbac_target target = {.service = k < 2 ? web : NULL,
                                         .gateway_ns = "a",
                                         .gateway = "way",
                                         .gateway_class = "istio-waypoint"};
            struct rbac_request request = {
                .source_ip = fx_ip("10.0.0.9"),
                .source_identity =
                    slice_str(k == 1 ? "spiffe://cluster.local/ns/red/sa/bob" : ALICE_ID),
                .destination = fx_addr("10.1.0.1:80"),
            };
            struct rbac_verdict verdict;
            rbac_check_waypoint(snap, &target, &request, &verdict);
            if (verdict.is_allowed != expected[k]) {
                fail_msg("case %zu, request %d: %s", i, k, verdict.reason);
            }
        }
        const char *problems = fx_problems(b);
        if (strstr(problems, cases[i].problem) == NULL) {
            fail_msg("case %zu: problems: %s", i, problems);
        }
        fx_remove(b, cases[i].policy);
    }
    fx_builder_free(b);
}

// A node's proxy has nothing of them.
static void test_not_for_workloads(void **state) {
    (void)state;
    struct mesh_builder *b = fx_builder("");
    fx_apply(b, AUTHZ("a", TARGET("Service", "web") ALICE));
    assert_null(snapshot_policy(snapshot_current(), "a/p"));
    fx_builder_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_targeted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_for_workloads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
