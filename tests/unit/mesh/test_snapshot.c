// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/snapshot.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/mesh/intern.h"
#include "common/mesh/workload_common.h"
#include "tests/unit/mesh/mesh_fixture.h"

static int setup(void **state) {
    fx_init();
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

static const struct snapshot *now(void) {
    return snapshot_current();
}

static void test_workloads(void **state) {
    struct ip ip1 = fx_ip("10.0.0.1"), ip2 = fx_ip("fd00::1");
    fx_publish(FX_WORKLOAD("a", "one", "10.0.0.1,fd00::1"), NULL);
    struct workload *one = snapshot_workload_by_uid(now(), "Kubernetes//Pod/a/one");
    assert_non_null(one);
    assert_string_equal(one->name, "one");
    assert_string_equal(one->common->hostname, "");
    assert_ptr_equal(snapshot_workload_by_ip(now(), &ip1), one);
    assert_ptr_equal(snapshot_workload_by_ip(now(), &ip2), one);

    // replaced with one address less
    fx_publish(FX_WORKLOAD("a", "one", "10.0.0.1"), NULL);
    one = snapshot_workload_by_uid(now(), "Kubernetes//Pod/a/one");
    assert_ptr_equal(snapshot_workload_by_ip(now(), &ip1), one);
    assert_null(snapshot_workload_by_ip(now(), &ip2));

    // one address, several workloads: pods, then HBONE
    fx_publish(FX_WORKLOAD("a", "a-hbone", "10.0.0.1", .protocol = WORKLOAD_HBONE), NULL);
    assert_string_equal(snapshot_workload_by_ip(now(), &ip1)->name, "a-hbone");
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/a-hbone");
    snapshot_del_workload(draft, "Kubernetes//Pod/a/nobody");
    assert_string_equal(snapshot_workload_by_ip(now(), &ip1)->name, "a-hbone"); // not published yet
    snapshot_publish(draft);
    assert_string_equal(snapshot_workload_by_ip(now(), &ip1)->name, "one");

    // not by address in the host's network
    fx_publish(FX_WORKLOAD("a", "one", "10.0.0.1", .is_host_network = true), NULL);
    assert_null(snapshot_workload_by_ip(now(), &ip1));
    assert_int_equal(now()->workloads_by_ip.n_items, 0);

    draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/one");
    snapshot_drop(draft);
    assert_non_null(snapshot_workload_by_uid(now(), "Kubernetes//Pod/a/one"));
}

static const char *host(const char *name, const char *ns) {
    struct service *service = snapshot_service_by_host(now(), slice_str(name), ns);
    return service != NULL ? (const char *)service->leaf.key.ptr : "";
}

static void test_hosts(void **state) {
    const char *const sn = "x.com";
    fx_publish(
        FX_SERVICE(.ns = "b", .name = "x", .hostname = sn, .ports = {80}, .vips = "10.1.0.2"),
        FX_SERVICE(.ns = "a", .name = "x", .hostname = sn, .ports = {80}, .vips = "10.1.0.1"),
        FX_SERVICE(.ns = "c", .name = "x", .hostname = sn, .ports = {80}, .vips = "10.1.0.3",
                   .more = {.is_canonical = true}),
        FX_SERVICE(.ns = "d", .name = "p", .hostname = "p.com", .more = {.is_private = true}),
        FX_SERVICE(.ns = "a", .name = "w", .hostname = "*.x.com"),
        FX_SERVICE(.ns = "a", .name = "v", .hostname = "*.y.x.com"),
        FX_SERVICE(.ns = "e", .name = "all", .hostname = "*", .more = {.is_private = true}), NULL);
    const struct {
        const char *name, *ns, *expect;
    } cases[] = {
        {"x.com", "b", "b/x.com"}, // own namespace
        {"x.com", "a", "a/x.com"},
        {"x.com", "z", "c/x.com"}, // canonical
        {"x.com", "", "c/x.com"},
        {"X.Com.", "z", "c/x.com"},
        {"p.com", "z", ""}, // not visible
        {"p.com", "d", "d/p.com"},
        {"a.x.com", "z", "a/*.x.com"},
        {"a.b.x.com", "z", "a/*.x.com"},
        {"a.y.x.com", "z", "a/*.y.x.com"}, // longest suffix
        {"y.x.com", "z", "a/*.x.com"},
        {"nosuch.com", "z", ""},
        {"nosuch.com", "e", "e/*"},
        {"", "z", ""},
        {".", "z", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(host(cases[i].name, cases[i].ns), cases[i].expect);
    }
    struct snapshot *draft = snapshot_draft();
    snapshot_del_service(draft, "c/x.com");
    snapshot_publish(draft);
    assert_string_equal(host("x.com", "z"), "a/x.com"); // the first

    struct mesh_settings mesh = *now()->mesh;
    snprintf(mesh.preferred_service_ns, sizeof(mesh.preferred_service_ns), "b");
    draft = snapshot_draft();
    snapshot_set_mesh(draft, &mesh);
    snapshot_publish(draft);
    fx_publish(FX_SERVICE(.ns = "b", .name = "x", .hostname = sn, .ports = {80}), NULL);
    assert_string_equal(host("x.com", "z"), "b/x.com"); // PREFERED_SERVICE_NAMESPACE
}

static void test_addresses(void **state) {
    struct ip node_ip = fx_ip("192.168.0.1");
    struct node node = {.leaf.key = SLICE_LIT("n1"), .ips = &node_ip, .n_ips = 1};
    struct ip vip = fx_ip("10.1.0.1");
    fx_publish(FX_SERVICE(.ns = "a", .name = "a", .vips = "10.1.0.1", .ports = {80},
                          .node_port = 30080),
               FX_SERVICE(.ns = "a", .name = "b", .vips = "10.1.0.1", .ports = {443}),
               node_new(&node), NULL);
    struct addr addr = {.ip = vip, .port = 443};
    assert_string_equal(snapshot_service_by_vip(now(), &vip)->name, "a");
    assert_string_equal(snapshot_service_by_addr(now(), &addr)->name, "b");
    addr.port = 81;
    assert_string_equal(snapshot_service_by_addr(now(), &addr)->name, "a");
    assert_string_equal(snapshot_service_by_node_port(now(), 30080)->name, "a");
    assert_null(snapshot_service_by_node_port(now(), 30081));
    assert_string_equal(snapshot_node_by_ip(now(), &node_ip)->name, "n1");

    // another address, another node port
    fx_publish(FX_SERVICE(.ns = "a", .name = "a", .vips = "10.1.0.9", .ports = {80},
                          .node_port = 30081),
               NULL);
    assert_string_equal(snapshot_service_by_vip(now(), &vip)->name, "b");
    assert_null(snapshot_service_by_node_port(now(), 30080));
    assert_non_null(snapshot_service_by_node_port(now(), 30081));
    struct snapshot *draft = snapshot_draft();
    snapshot_del_service(draft, "a/a.a.svc.cluster.local");
    snapshot_del_node(draft, "n1");
    snapshot_publish(draft);
    assert_null(snapshot_service_by_node_port(now(), 30081));
    assert_null(snapshot_node_by_ip(now(), &node_ip));
}

static const char *at(const char *text) {
    struct addr addr = fx_addr(text);
    const struct service *service = snapshot_service_by_addr(now(), &addr);
    return service != NULL ? service->name : "";
}

static void del_service(const char *key) {
    struct snapshot *draft = snapshot_draft();
    snapshot_del_service(draft, key);
    snapshot_publish(draft);
}

static void test_ranges(void **state) {
    fx_publish(FX_SERVICE(.ns = "a", .name = "wide", .ranges = "10.0.0.0/8,fd00::/16"),
               FX_SERVICE(.ns = "a", .name = "near",
                          .ranges = "10.1.0.0/16,fd00:1::/32,10.1.0.0/16"),
               FX_SERVICE(.ns = "a", .name = "one", .vips = "10.1.2.3", .ranges = "10.1.2.4/32"),
               FX_SERVICE(.ns = "b", .name = "near443", .ranges = "10.1.0.0/16", .ports = {443}),
               NULL);
    static const struct {
        const char *addr, *expect;
    } cases[] = {
        {"10.255.0.1:80", "wide"},   {"10.1.9.9:80", "near"}, // the longest prefix, then by key
        {"10.1.9.9:443", "near443"}, // of those with that prefix, who has the port
        {"10.1.2.3:443", "one"}, // a VIP before any range
        {"10.1.2.4:443", "one"},     {"[fd00:1::1]:80", "near"},
        {"[fd00:2::1]:80", "wide"},  {"11.0.0.1:80", ""},
        {"[fe00::1]:80", ""},        {"[a00::]:80", ""}, // 10/8 of the other family
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(at(cases[i].addr), cases[i].expect);
    }
    struct ip ip = fx_ip("10.1.9.9");
    assert_null(snapshot_service_by_vip(now(), &ip));

    // ranges change and go
    fx_publish(FX_SERVICE(.ns = "a", .name = "near", .ranges = "fd00:1::/32,0.0.0.0/0"), NULL);
    assert_string_equal(at("10.1.9.9:80"), "near443");
    assert_string_equal(at("11.0.0.1:80"), "near");
    del_service("b/near443.b.svc.cluster.local");
    assert_string_equal(at("10.1.9.9:80"), "wide");
    del_service("a/wide.a.svc.cluster.local");
    assert_string_equal(at("10.1.9.9:80"), "near");
    del_service("a/near.a.svc.cluster.local");
    del_service("a/one.a.svc.cluster.local");
    assert_string_equal(at("10.1.9.9:80"), "");
    assert_int_equal(now()->services_by_range.n_items, 0);
    for (size_t i = 0; i < SNAPSHOT_RANGE_LENS; i++) {
        assert_int_equal(now()->n_ranges[i], 0);
    }
}

static bool append_name(void *arg, const struct policy *policy) {
    char *names = arg;
    size_t len = strlen(names);
    snprintf(names + len, 64 - len, "%s", policy->name);
    return strcmp(policy->name, "stop") != 0;
}

static struct policy *policy(const char *key, uint8_t scope) {
    struct policy spec = {.leaf.key = slice_str(key), .scope = scope};
    char ns[8] = {key[0]};
    spec.ns = ns;
    spec.name = key + 2;
    return policy_new(&spec);
}

static void test_policies(void **state) {
    char names[64] = "";
    fx_publish(policy("a/n2", POLICY_NAMESPACE), policy("a/n1", POLICY_NAMESPACE),
               policy("b/n3", POLICY_NAMESPACE), policy("r/g", POLICY_GLOBAL),
               policy("a/w", POLICY_WORKLOAD), policy("a/w2", POLICY_WORKLOAD),
               FX_WORKLOAD("a", "x", "10.0.0.1", .common.n_policies = 2,
                           .common.policies = (const char *const[]){"a/none", "a/w"}),
               NULL);
    struct workload *w = snapshot_workload_by_uid(now(), "Kubernetes//Pod/a/x");
    snapshot_policies_for(now(), w, append_name, names);
    assert_string_equal(names, "gn1n2w"); // global, namespace, selected

    fx_publish(policy("a/n1", POLICY_WORKLOAD), policy("a/stop", POLICY_NAMESPACE), NULL);
    names[0] = '\0';
    snapshot_policies_for(now(), w, append_name, names);
    assert_string_equal(names, "gn2stop");
}

// The allocations that one change makes do not depend on the size of the tables.
static void test_update_cost(void **state) {
    enum { N = 100000 };
    struct snapshot *draft = snapshot_draft();
    struct workload *members[8];
    for (int i = 0; i < N; i++) {
        char name[32], ip[32];
        snprintf(name, sizeof(name), "w-%d", i);
        snprintf(ip, sizeof(ip), "10.%d.%d.%d", i >> 16, (i >> 8) & 255, i & 255);
        struct workload *w = FX_WORKLOAD("a", name, ip, .common.service_account = "sa");
        members[i % 8] = w;
        snapshot_set_workload(draft, w);
        if (i % 8 == 7) {
            char vip[32];
            snprintf(vip, sizeof(vip), "11.%d.%d.%d", i >> 16, (i >> 8) & 255, i & 255);
            struct fx_service spec = {.ns = "a", .name = name, .vips = vip, .ports = {80}};
            memcpy(spec.members, members, sizeof(members));
            snapshot_set_service(draft, fx_service(&spec));
        }
    }
    snapshot_publish(draft);

    size_t before = mallinfo2().uordblks;
    size_t leaves = leaf_count();
    struct service *old = snapshot_service(now(), "a/w-7.a.svc.cluster.local");
    struct fx_service spec = {.ns = "a", .name = "w-7", .vips = "11.0.0.7", .ports = {80}};
    memcpy(spec.members, members, sizeof(members));
    spec.members[7] = NULL; // one endpoint less
    draft = snapshot_draft();
    snapshot_set_service(draft, fx_service(&spec));
    snapshot_publish(draft);
    assert_ptr_not_equal(snapshot_service(now(), "a/w-7.a.svc.cluster.local"), old);
    assert_in_range(leaf_count(), leaves, leaves + 1); // the new leaf; the old may be gone
#ifndef ZTUN_SANITIZED
    size_t grown = mallinfo2().uordblks - before;
    print_message("one change of an endpoint among %d costs %zu bytes until the old version goes\n",
                  N, grown);
    assert_in_range(grown, 1, 24 * 1024);
#else
    (void)before;
#endif
}

static void test_memory(void **state) {
    enum { N = 10000 };
    size_t before = mallinfo2().uordblks;
    struct snapshot *draft = snapshot_draft();
    size_t leaf_bytes = 0;
    for (int i = 0; i < N; i++) {
        char name[64], ip[32], app[32], hash[32], node[32];
        snprintf(name, sizeof(name), "app-%d-5d4f8c7b9f-%05x", i / 10, i * 7919);
        snprintf(ip, sizeof(ip), "10.%d.%d.%d", i >> 16, (i >> 8) & 255, i & 255);
        snprintf(app, sizeof(app), "app-%d", i / 10);
        snprintf(hash, sizeof(hash), "5d4f8c%04x", i / 10);
        snprintf(node, sizeof(node), "node-%d", i % 100);
        const struct label labels[] = {
            {"app", app}, {"version", "v1"}, {"pod-template-hash", hash}};
        const struct named_port ports[] = {{"http", 8080}};
        struct workload *w =
            FX_WORKLOAD("production", name, ip, .common.service_account = app, .node = node,
                        .common.canonical_name = app, .common.canonical_revision = "v1",
                        .common.app = app, .common.version = "v1", .common.owner_name = app,
                        .common.owner_type = "deployment", .common.labels = labels,
                        .common.n_labels = 3, .common.ports = ports, .common.n_ports = 1,
                        .common.locality = {.region = "eu", .zone = "eu-1"});
        leaf_bytes += leaf_size(w);
        snapshot_set_workload(draft, w);
    }
    snapshot_publish(draft);
#ifndef ZTUN_SANITIZED
    size_t used = mallinfo2().uordblks - before;
    print_message("%d workloads: %zu bytes each in all (%zu the leaf, %zu shared texts)\n", N,
                  used / N, leaf_bytes / N, intern_bytes() / N);
    assert_in_range(used / N, 1, 700);
#else
    (void)before;
    (void)leaf_bytes;
#endif
}

// Whatever it resembles, a leaf is that of its spec, and each lets go of what it holds.
static void test_like(void **state) {
    static const char *const policies[] = {"a/p"};
    static const struct label labels[] = {{"app", "x"}, {"name", "one"}};
    static const struct named_port ports[] = {{"http", 80}};
    static const char *const search[] = {"corp.example", NULL};
    const struct workload_local local = {.netns = "n", .dns_search = search};
    const struct workload_common common = {.ns = "a",
                                           .canonical_name = "one",
                                           .owner_name = "one",
                                           .owner_type = "pod",
                                           .labels = labels,
                                           .n_labels = 2,
                                           .ports = ports,
                                           .n_ports = 1,
                                           .policies = policies,
                                           .n_policies = 1,
                                           .local = &local,
                                           .locality = {.region = "eu"}};
    const struct workload base = {.leaf.key = SLICE_LIT("c//Pod/a/one"),
                                  .name = "one",
                                  .node = "n",
                                  .common = &common,
                                  .capacity = 1};
    const struct workload_common nothing = {0};
    struct workload_common changed = common;
    struct workload other = base, bare = {.leaf.key = SLICE_LIT("c//Pod/a/two"),
                                          .name = "two",
                                          .common = &nothing};
    other.leaf.key = SLICE_LIT("c//Pod/a/three");
    other.name = "three";
    other.common = &changed;
    changed.ns = changed.identity = "b";
    const struct workload *const specs[] = {&base, &other, &bare};
    size_t n_texts = intern_count();
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        for (size_t k = 0; k < ARRAY_LEN(specs); k++) {
            struct workload *like = workload_new(specs[k]);
            struct workload *alone = workload_new(specs[i]);
            struct workload *made = workload_new_like(specs[i], like);
            assert_true(workload_equal(made, alone));
            assert_int_equal(made->common == like->common, i == k);
            assert_int_equal(leaf_size(made), leaf_size(alone));
            leaf_unref(like);
            leaf_unref(alone);
            assert_string_equal(made->ns, specs[i]->common->ns != NULL ? specs[i]->common->ns : "");
            leaf_unref(made);
        }
    }
    assert_int_equal(intern_count(), n_texts);
    assert_int_equal(workload_common_count(), 0);
}

// Pods that differ in their names only have the rest in common, also where it is their name.
static void test_common(void **state) {
    struct workload_common own = {.canonical_name = "web"};
    struct workload spec = {.common = &own};
    struct workload *made[3];
    static const char *const names[] = {"one", "two", "web"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        spec.leaf.key = slice_str(names[i]);
        spec.name = own.owner_name = own.app = names[i];
        made[i] = workload_new(&spec);
        assert_string_equal(workload_owner_name(made[i]), names[i]);
        assert_string_equal(workload_app(made[i]), names[i]);
        assert_string_equal(workload_canonical_name(made[i]), "web");
    }
    assert_ptr_equal(made[0]->common, made[1]->common);
    assert_ptr_not_equal(made[0]->common, made[2]->common); // its canonical name is its own
    assert_int_equal(workload_common_count(), 2);
    // A leaf's own is a spec too.
    struct workload *again = workload_new(made[1]);
    assert_true(workload_equal(again, made[1]));
    leaf_unref(again);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        leaf_unref(made[i]);
    }
    assert_int_equal(workload_common_count(), 0);
}

// Under an address: one leaf, several, one again; and one leaf under two addresses.
static void test_shared_address(void **state) {
    struct ip a = fx_ip("10.0.0.1"), b = fx_ip("10.0.0.2");
    fx_publish(FX_WORKLOAD("a", "x", "10.0.0.1"), NULL);
    fx_publish(FX_WORKLOAD("a", "w", "10.0.0.2,10.0.0.1"), NULL);
    assert_string_equal(snapshot_workload_by_ip_at(now(), &a, 0)->name, "w");
    assert_string_equal(snapshot_workload_by_ip_at(now(), &a, 1)->name, "x");
    assert_null(snapshot_workload_by_ip_at(now(), &a, 2));
    assert_string_equal(snapshot_workload_by_ip(now(), &b)->name, "w");
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/x");
    snapshot_publish(draft);
    assert_string_equal(snapshot_workload_by_ip_at(now(), &a, 0)->name, "w");
    assert_null(snapshot_workload_by_ip_at(now(), &a, 1));
    fx_publish(FX_WORKLOAD("a", "w", "10.0.0.1"), NULL); // one address less
    assert_null(snapshot_workload_by_ip(now(), &b));
    draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/w");
    snapshot_publish(draft);
    assert_int_equal(now()->workloads_by_ip.n_items, 0);
}

// Readers look up, keep references and let go while the writer replaces everything.
static atomic_bool is_over;

static void *reader(void *arg) {
    struct ip ip = fx_ip("10.0.0.1");
    struct workload *kept = NULL;
    uint64_t n = 0, generation = 0;
    snapshot_thread_register();
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        const struct snapshot *snap = snapshot_current();
        CHECK(snap->generation >= generation);
        generation = snap->generation;
        struct workload *w = snapshot_workload_by_ip(snap, &ip);
        CHECK(w != NULL && strcmp(w->ns, "a") == 0);
        struct service *s = snapshot_service_by_host(snap, SLICE_LIT("s.a.svc.cluster.local"), "");
        CHECK(s != NULL && s->n_endpoints == 1 && s->endpoints[0].workload == w);
        if (n % 64 == 0) {
            leaf_unref(kept);
            kept = w;
            leaf_ref(kept);
        }
        CHECK(strcmp(kept->name, "w") == 0);
        snapshot_quiescent();
        if (++n % 1000 == 0) {
            snapshot_thread_offline();
            snapshot_thread_online();
        }
    }
    leaf_unref(kept);
    snapshot_thread_unregister();
    return NULL;
}

static void test_readers(void **state) {
    enum { N_THREADS = 3, N_UPDATES = 2000 };
    pthread_t threads[N_THREADS];
    atomic_store(&is_over, false);
    for (int i = 0; i <= N_UPDATES; i++) {
        char node[16];
        snprintf(node, sizeof(node), "n%d", i % 3);
        struct workload *w = FX_WORKLOAD("a", "w", "10.0.0.1", .node = node);
        fx_publish(w,
                   FX_SERVICE(.ns = "a", .name = "s", .vips = "10.1.0.1", .ports = {80},
                              .members = {w}),
                   NULL);
        for (int t = 0; i == 0 && t < N_THREADS; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, reader, NULL), 0);
        }
    }
    assert_int_equal(now()->generation, N_UPDATES + 1);
    atomic_store(&is_over, true);
    for (int t = 0; t < N_THREADS; t++) {
        pthread_join(threads[t], NULL);
    }
}

// A root stays while a reader may hold it, and goes without anybody waiting for it.
static atomic_int step;

static void wait_for(int value) {
    while (atomic_load(&step) < value) {
        usleep(100);
    }
}

static void *holder(void *arg) {
    snapshot_thread_register();
    const struct snapshot *held = snapshot_current();
    atomic_store(&step, 1);
    wait_for(2); // another version is published
    CHECK(snapshot_workload_by_uid(held, "Kubernetes//Pod/a/w") != NULL);
    snapshot_quiescent();
    atomic_store(&step, 3);
    wait_for(4);
    snapshot_thread_unregister();
    return NULL;
}

static void test_reclaim(void **state) {
    pthread_t thread;
    fx_publish(FX_WORKLOAD("a", "w", "10.0.0.1"), NULL);
    atomic_store(&step, 0);
    assert_int_equal(pthread_create(&thread, NULL, holder, NULL), 0);
    wait_for(1);
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/w");
    snapshot_publish(draft);
    usleep(20000);
    snapshot_reclaim();
    assert_int_equal(leaf_count(), 1);
    atomic_store(&step, 2);
    wait_for(3);
    for (int i = 0; i < 1000 && leaf_count() > 0; i++) {
        usleep(1000);
        snapshot_reclaim();
    }
    assert_int_equal(leaf_count(), 0);
    atomic_store(&step, 4);
    pthread_join(thread, NULL);
}

// The control thread may be a reader as well: it does not hold up its own grace periods.
static void test_registered_writer(void **state) {
    snapshot_thread_register();
    fx_publish(FX_WORKLOAD("a", "w", "10.0.0.1"), NULL);
    struct snapshot *draft = snapshot_draft();
    snapshot_del_workload(draft, "Kubernetes//Pod/a/w");
    snapshot_publish(draft);
    for (int i = 0; i < 1000 && leaf_count() > 0; i++) {
        snapshot_reclaim();
        usleep(1000);
    }
    assert_int_equal(leaf_count(), 0);
    snapshot_thread_unregister();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_workloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_cost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_like, setup, teardown),
        cmocka_unit_test_setup_teardown(test_common, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reclaim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registered_writer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
