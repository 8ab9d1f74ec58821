// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "tests/unit/mesh/builder_fixture.h"

static struct xds_store *store;
static struct builder_changes changes;

static int setup(void **state) {
    fx_init();
    store = xds_store_new("node-1");
    return 0;
}

static int teardown(void **state) {
    builder_changes_fini(&changes);
    xds_store_free(store);
    fx_fini();
    return 0;
}

static void commit(void) {
    builder_changes_fini(&changes);
    xds_store_commit(store, &changes);
}

static const struct xds_port http = {80, 8080};

static void uid_of(int i, char uid[64]) {
    snprintf(uid, 64, "Kubernetes//Pod/shop/web-%d", i);
}

// A pod of node-1; services: a list that ends with NULL.
static void set_pod(int i, uint32_t variant, const char *const *services,
                    const struct xds_port *port) {
    char uid[64], name[32];
    uid_of(i, uid);
    snprintf(name, sizeof(name), "web-%d", i);
    struct ip ip = {4, {10, 0, (uint8_t)(variant >> 8), (uint8_t)i}};
    struct xds_membership list[8];
    const struct workload_common common = {.ns = "shop",
                                           .identity = "spiffe://cluster.local/ns/shop/sa/web"};
    struct xds_resource r = {
        .kind = XDS_WORKLOAD,
        .workload = {.leaf.key = slice_str(uid),
                     .name = name,
                     .common = &common,
                     .node = variant % 2 == 0 ? "node-1" : "node-2",
                     .ips = &ip,
                     .n_ips = 1,
                     .protocol = WORKLOAD_HBONE,
                     .capacity = 1 + variant % 3,
                     .is_healthy = variant % 5 != 0,
                     .is_ready = variant % 5 != 0,
                     .is_pod = true},
        .services = list,
    };
    for (; services != NULL && services[r.n_services] != NULL; r.n_services++) {
        list[r.n_services] = (struct xds_membership){
            .service = services[r.n_services], .ports = port, .n_ports = port != NULL};
    }
    xds_store_set(store, &r);
}

static void set_service(const char *key, uint16_t target_port) {
    struct service_port port = {
        .port = 80, .target_port = target_port, .name = "", .target_name = ""};
    struct ip vip = {4, {10, 96, 0, (uint8_t)key[5]}};
    struct xds_resource r = {.kind = XDS_SERVICE,
                             .service = {.leaf.key = slice_str(key),
                                         .name = key + 5,
                                         .ns = "shop",
                                         .hostname = key + 5,
                                         .waypoint = "",
                                         .vips = &vip,
                                         .n_vips = 1,
                                         .n_cluster_vips = 1,
                                         .ports = &port,
                                         .n_ports = 1}};
    xds_store_set(store, &r);
}

static void set_policy(const char *name, uint8_t action) {
    char key[64];
    snprintf(key, sizeof(key), "shop/%s", name);
    struct xds_resource r = {.kind = XDS_POLICY,
                             .policy = {.leaf.key = slice_str(key),
                                        .name = name,
                                        .ns = "shop",
                                        .scope = POLICY_NAMESPACE,
                                        .action = action}};
    xds_store_set(store, &r);
}

static void del(const char *name) {
    xds_store_del(store, XDS_ADDRESS, slice_str(name));
}

static const char *const in_web[] = {"shop/web", NULL};
static const char *const in_both[] = {"shop/web", "shop/all", NULL};

// Whichever comes first, the service or its workloads.
static void test_join(void **state) {
    set_pod(1, 2, in_both, &http);
    commit();
    assert_null(fx_find_service("shop/web"));
    assert_true(changes.workloads_changed && !changes.services_changed);
    assert_int_equal(changes.n_locals, 1);
    assert_int_equal(changes.locals[0].event, BUILDER_ADDED);
    set_service("shop/web", 9000);
    commit();
    assert_true(changes.services_changed && !changes.workloads_changed);
    assert_int_equal(changes.n_locals, 0);
    const struct service *web = fx_find_service("shop/web");
    assert_int_equal(web->n_endpoints, 1);
    assert_ptr_equal(web->endpoints[0].workload, fx_find_workload("Kubernetes//Pod/shop/web-1"));
    assert_int_equal(web->endpoints[0].target_ports[0], 8080); // its own map counts
    set_service("shop/all", 9000);
    set_pod(2, 2, in_web, NULL); // no map: the service's
    commit();
    web = fx_find_service("shop/web");
    assert_int_equal(web->n_endpoints, 2);
    assert_int_equal(web->endpoints[1].target_ports[0], 9000);
    assert_int_equal(fx_find_service("shop/all")->n_endpoints, 1);
    set_pod(1, 2, in_web, &http); // leaves one of them
    commit();
    assert_int_equal(fx_find_service("shop/all")->n_endpoints, 0);
    assert_int_equal(fx_find_service("shop/web")->n_endpoints, 2);
    assert_int_equal(xds_store_count(store, XDS_WORKLOAD), 2);
    assert_int_equal(xds_store_count(store, XDS_SERVICE), 2);
    del("shop/web");
    commit();
    assert_null(fx_find_service("shop/web"));
    set_service("shop/web", 9001); // comes back: they are still its endpoints
    commit();
    assert_int_equal(fx_find_service("shop/web")->n_endpoints, 2);
    assert_int_equal(fx_find_service("shop/web")->endpoints[1].target_ports[0], 9001);
}

static void test_app_tunnel_port(void **state) {
    struct xds_membership membership = {.service = "shop/web"};
    const struct workload_common common = {.ns = "shop"};
    struct xds_resource r = {
        .kind = XDS_WORKLOAD,
        .workload = {.leaf.key = SLICE_LIT("uid"), .name = "way", .common = &common},
        .services = &membership,
        .n_services = 1};
    xds_store_set(store, &r);
    set_service("shop/web", 0);
    commit();
    assert_int_equal(fx_find_service("shop/web")->endpoints[0].target_ports[0], 0);
    r.workload.app_tunnel = APP_TUNNEL_PROXY;
    xds_store_set(store, &r);
    commit();
    assert_int_equal(fx_find_service("shop/web")->endpoints[0].target_ports[0], 80);
}

static void test_changes(void **state) {
    set_service("shop/web", 80);
    set_pod(1, 2, in_web, &http);
    commit();
    uint64_t generation = changes.generation;
    assert_true(generation > 0);
    set_pod(1, 2, in_web, &http); // the same again: nothing is published
    commit();
    assert_int_equal(changes.generation, 0);
    assert_int_equal(changes.n_locals, 0);
    set_pod(1, 4, in_web, &http);
    set_pod(1, 6, in_web, &http);
    commit(); // once, and against what was published
    assert_int_equal(changes.generation, generation + 1);
    assert_int_equal(changes.n_locals, 1);
    assert_int_equal(changes.locals[0].event, BUILDER_CHANGED);
    assert_int_equal(changes.locals[0].old->capacity, 3);
    assert_int_equal(fx_find_service("shop/web")->endpoints[0].weight, 1);
    set_pod(1, 7, in_web, &http); // moves to another node
    commit();
    assert_int_equal(changes.locals[0].event, BUILDER_REMOVED);
    set_pod(1, 8, in_web, &http);
    commit();
    assert_int_equal(changes.locals[0].event, BUILDER_ADDED);
    del("Kubernetes//Pod/shop/web-1");
    del("Kubernetes//Pod/shop/web-1");
    del("shop/nobody");
    commit();
    assert_int_equal(changes.n_locals, 1);
    assert_int_equal(changes.locals[0].event, BUILDER_REMOVED);
    assert_int_equal(fx_find_service("shop/web")->n_endpoints, 0);
    set_pod(2, 8, in_web, &http); // comes and goes between two commits
    del("Kubernetes//Pod/shop/web-2");
    commit();
    assert_int_equal(changes.n_locals, 0);
    set_pod(1, 8, in_web, &http);
    commit();
    del("Kubernetes//Pod/shop/web-1"); // goes and comes
    set_pod(1, 8, in_web, &http);
    commit();
    assert_int_equal(changes.n_locals, 0);
    assert_int_equal(fx_find_service("shop/web")->n_endpoints, 1);
}

static void test_policies(void **state) {
    set_policy("a", POLICY_ALLOW);
    commit();
    assert_true(changes.policies_changed && !changes.workloads_changed);
    assert_int_equal(fx_find_policy("shop/a")->action, POLICY_ALLOW);
    set_policy("a", POLICY_DENY);
    commit();
    assert_int_equal(fx_find_policy("shop/a")->action, POLICY_DENY);
    assert_int_equal(xds_store_count(store, XDS_POLICY), 1);
    xds_store_del(store, XDS_AUTHORIZATION, SLICE_LIT("shop/a"));
    xds_store_del(store, XDS_AUTHORIZATION, SLICE_LIT("shop/b"));
    set_policy("c", POLICY_DENY);
    xds_store_del(store, XDS_AUTHORIZATION, SLICE_LIT("shop/c"));
    commit();
    assert_null(fx_find_policy("shop/a"));
    assert_int_equal(xds_store_count(store, XDS_POLICY), 0);
    // A workload that has another list of policies is checked against them.
    const char *const lists[] = {"shop/x"};
    struct workload_common common = {.ns = "shop"};
    struct xds_resource r = {
        .kind = XDS_WORKLOAD,
        .workload = {.leaf.key = SLICE_LIT("uid"), .name = "w", .common = &common}};
    xds_store_set(store, &r);
    commit();
    assert_false(changes.policies_changed);
    common.policies = lists;
    common.n_policies = 1;
    xds_store_set(store, &r);
    commit();
    assert_true(changes.policies_changed);
}

static bool copy_name(void *arg, const char *hostname) {
    snprintf(arg, 64, "%s", hostname);
    return true;
}

static void test_hostnames(void **state) {
    char name[64] = "";
    struct xds_membership membership = {.service = "shop/web"};
    const struct workload_common common = {.ns = "shop", .hostname = "db.example.com"};
    struct xds_resource r = {
        .kind = XDS_WORKLOAD,
        .workload = {.leaf.key = SLICE_LIT("uid"), .name = "db", .common = &common},
        .services = &membership,
        .n_services = 1};
    set_service("shop/web", 80);
    xds_store_set(store, &r);
    commit();
    xds_store_each_hostname(store, copy_name, name);
    assert_string_equal(name, "db.example.com");
    struct ip ips[] = {fx_ip("10.0.0.2"), fx_ip("10.0.0.1")};
    xds_store_set_resolved(store, "db.example.com", ips, 2);
    commit();
    assert_int_equal(fx_find_workload("uid")->n_ips, 2);
    assert_true(ip_eq(&fx_find_service("shop/web")->endpoints[0].ip, &ips[1])); // sorted
    struct ip again[] = {ips[1], ips[0]};
    xds_store_set_resolved(store, "db.example.com", again, 2);
    commit();
    assert_int_equal(changes.generation, 0);
    r.workload.capacity = 5; // what is resolved stays
    xds_store_set(store, &r);
    commit();
    assert_int_equal(fx_find_workload("uid")->n_ips, 2);
    xds_store_set_resolved(store, "db.example.com", NULL, 0);
    commit();
    assert_int_equal(fx_find_workload("uid")->n_ips, 0);
    del("uid");
    commit();
    name[0] = '\0';
    xds_store_each_hostname(store, copy_name, name);
    assert_string_equal(name, "");
    xds_store_set_resolved(store, "db.example.com", ips, 2); // late
    commit();
    assert_int_equal(changes.generation, 0);
}

// Whatever the sequence, the result is that of a store that only saw the last state.

enum { N_PODS = 12, N_SERVICES = 4, N_POLICIES = 3 };
static const char *const services[] = {"shop/a", "shop/b", "shop/c", "shop/d"};
static const char *const policies[] = {"p", "q", "r"};

struct model { // 0 = not there
    uint32_t pods[N_PODS], members[N_PODS], services[N_SERVICES], policies[N_POLICIES];
};

static void put_pod(const struct model *m, int i) {
    const char *list[N_SERVICES + 1];
    size_t n = 0;
    for (size_t k = 0; k < N_SERVICES; k++) {
        if ((m->members[i] >> k & 1) != 0) {
            list[n++] = services[k];
        }
    }
    list[n] = NULL;
    set_pod(i, m->pods[i], list, m->members[i] % 3 == 0 ? &http : NULL);
}

static void step(struct model *m, struct rand *rand) {
    char uid[64];
    uint32_t value = rand_chance(rand, 1, 4) ? 0 : (uint32_t)rand_range(rand, 1, 1000);
    switch (rand_below(rand, 3)) {
    case 0: {
        int i = (int)rand_below(rand, N_PODS);
        m->pods[i] = value;
        m->members[i] = (uint32_t)rand_below(rand, 1 << N_SERVICES);
        uid_of(i, uid);
        if (value == 0) {
            del(uid);
        } else {
            put_pod(m, i);
        }
        break;
    }
    case 1: {
        size_t i = rand_below(rand, N_SERVICES);
        m->services[i] = value;
        if (value == 0) {
            del(services[i]);
        } else {
            set_service(services[i], (uint16_t)value);
        }
        break;
    }
    default: {
        size_t i = rand_below(rand, N_POLICIES);
        m->policies[i] = value;
        if (value == 0) {
            char key[64];
            snprintf(key, sizeof(key), "shop/%s", policies[i]);
            xds_store_del(store, XDS_AUTHORIZATION, slice_str(key));
        } else {
            set_policy(policies[i], value % 2);
        }
    }
    }
}

static void put_all(const struct model *m) {
    for (int i = 0; i < N_PODS; i++) {
        if (m->pods[i] != 0) {
            put_pod(m, i);
        }
    }
    for (size_t i = 0; i < N_SERVICES; i++) {
        if (m->services[i] != 0) {
            set_service(services[i], (uint16_t)m->services[i]);
        }
    }
    for (size_t i = 0; i < N_POLICIES; i++) {
        if (m->policies[i] != 0) {
            set_policy(policies[i], m->policies[i] % 2);
        }
    }
}

static void test_random(void **state) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rand rand;
        struct model model = {0};
        rand_seed(&rand, seed);
        for (int i = 0; i < 200; i++) {
            step(&model, &rand);
            if (rand_chance(&rand, 1, 4)) {
                commit();
            }
        }
        commit();
        char *have = fx_dump();
        teardown(NULL);
        setup(NULL);
        put_all(&model);
        commit();
        char *want = fx_dump();
        assert_string_equal(have, want);
        free(have);
        free(want);
        teardown(NULL);
        setup(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_join, setup, teardown),
        cmocka_unit_test_setup_teardown(test_app_tunnel_port, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostnames, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
