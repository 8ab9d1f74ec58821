// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/route_wants.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/mesh/mesh_fixture.h"

static char name[ROUTE_WANT_MAX];

static void publish_mesh(void) {
    struct workload *client = FX_WORKLOAD("a", "client", "10.0.0.1", .protocol = WORKLOAD_HBONE);
    struct workload *bound =
        FX_WORKLOAD("a", "bound", "10.0.0.2", .common.waypoint = "a/gone.a.svc.cluster.local");
    struct workload *there =
        FX_WORKLOAD("a", "there", "10.0.0.3", .common.waypoint = "a/way.a.svc.cluster.local");
    struct workload *by_ip = FX_WORKLOAD("a", "byip", "10.0.0.4", .common.waypoint = "10.9.9.9");
    fx_publish(FX_SERVICE(.ns = "a", .name = "web", .vips = "10.1.0.1", .ports = {80},
                          .members = {there}),
               FX_SERVICE(.ns = "a", .name = "empty", .vips = "10.1.0.5", .ports = {80}),
               FX_SERVICE(.ns = "a", .name = "way", .vips = "10.1.0.2", .ports = {15008}),
               FX_SERVICE(.ns = "a", .name = "two", .vips = "10.1.0.3", .ports = {80},
                          .more = {.waypoint = "a/one.a.svc.cluster.local",
                                   .canary = "b/two.b.svc.cluster.local"}),
               FX_SERVICE(.ns = "a", .name = "half", .vips = "10.1.0.4", .ports = {80},
                          .more = {.waypoint = "a/way.a.svc.cluster.local",
                                   .canary = "b/two.b.svc.cluster.local"}),
               FX_SERVICE(.ns = "a", .name = "range", .ranges = "10.7.0.0/16", .ports = {80},
                          .more = {.waypoint = "a/one.a.svc.cluster.local"}),
               client, bound, there, by_ip, NULL);
}

static const char *wants(const char *to, unsigned nth) {
    const struct snapshot *snap = snapshot_current();
    const struct workload *source = snapshot_workload_by_uid(snap, "Kubernetes//Pod/a/client");
    struct addr addr = fx_addr(to);
    assert_non_null(source);
    return route_wants(snap, source, &addr, nth, name) ? name : "";
}

static void test_route(void **state) {
    static const struct {
        const char *to, *names[3];
    } rows[] = {
        {"10.0.0.9:80", {"/10.0.0.9", ""}},
        {"[fd00::9]:80", {"/fd00::9", ""}},
        {"10.0.0.1:80", {""}},
        {"10.1.0.1:80", {""}},
        {"10.1.0.1:81", {""}}, // the service is known, its port is not
        {"10.1.0.5:80", {"/10.1.0.5", ""}}, // it may have got endpoints
        {"10.0.0.2:80", {"a/gone.a.svc.cluster.local", ""}},
        {"10.0.0.3:80", {""}},
        {"10.0.0.4:80", {"/10.9.9.9", ""}},
        {"10.1.0.3:80", {"a/one.a.svc.cluster.local", "b/two.b.svc.cluster.local", ""}},
        {"10.1.0.4:80", {"b/two.b.svc.cluster.local", ""}},
        {"10.7.0.1:80", {"/10.7.0.1", "a/one.a.svc.cluster.local", ""}}, // it may be a pod's
        {"127.0.0.1:80", {""}},
        {"[::1]:80", {""}},
        {"0.0.0.0:80", {""}},
    };
    publish_mesh();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned n = 0; n == 0 || rows[i].names[n - 1][0] != '\0'; n++) {
            assert_string_equal(wants(rows[i].to, n), rows[i].names[n]);
        }
    }
    struct addr addr = fx_addr("10.0.0.9:80");
    assert_false(route_wants(snapshot_current(), NULL, &addr, 0, name)); // who asks is not known
}

static void test_network(void **state) {
    struct mesh_settings mesh = *snapshot_current()->mesh;
    snprintf(mesh.network, sizeof(mesh.network), "net-1");
    struct snapshot *draft = snapshot_draft();
    snapshot_set_mesh(draft, &mesh);
    snapshot_publish(draft);
    struct ip ip = fx_ip("10.0.0.9");
    assert_true(route_wants_ip(snapshot_current(), &ip, name));
    assert_string_equal(name, "net-1/10.0.0.9");
}

static void test_host(void **state) {
    static const struct {
        const char *host, *name;
    } rows[] = {
        {"new.a.svc.cluster.local", "a/new.a.svc.cluster.local"},
        {"pod-0.new.a.svc.cluster.local", "a/new.a.svc.cluster.local"},
        {"new.b.svc.cluster.local.a.svc.cluster.local", "b/new.b.svc.cluster.local"},
        {"web.a.svc.cluster.local", ""},
        {"a.svc.cluster.local", ""},
        {".a.svc.cluster.local", ""},
        {"new..svc.cluster.local", ""},
        {".svc.cluster.local", ""},
        {"svc.cluster.local", ""},
        {"new.a.svc.cluster.other", ""},
        {"www.example.com", ""},
        {"", ""},
    };
    publish_mesh();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool is_wanted = route_wants_host(snapshot_current(), rows[i].host, name);
        assert_string_equal(is_wanted ? name : "", rows[i].name);
    }
}

static int setup(void **state) {
    fx_init();
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_route, setup, teardown),
        cmocka_unit_test_setup_teardown(test_network, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
