// SPDX-License-Identifier: Apache-2.0
//
// Figures of a larger mesh, printed: what a full build, one change and the memory cost. Asserted is
// that a change replaces no more leaves than it must.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "tests/unit/mesh/builder_fixture.h"

#ifdef ZTUN_SANITIZED
enum { N_PODS = 1000 };
#else
enum { N_PODS = 10000 };
#endif
enum { PODS_PER_APP = 10, N_NAMESPACES = 20 };

static void pod_yaml(struct buf *out, int i, int version) {
    int app = i / PODS_PER_APP;
    buf_printf(out,
               "---\napiVersion: v1\nkind: Pod\n"
               "metadata: {name: app%d-5d4f8c7b9f-%05d, namespace: ns%d, "
               "labels: {app: app%d, version: v%d, pod-template-hash: 5d4f8c7b9f}}\n"
               "spec: {nodeName: node%d, serviceAccountName: app%d, containers: [{name: c, "
               "image: i, ports: [{name: http, containerPort: 8080}]}]}\n"
               "status: {phase: Running, podIP: 10.%d.%d.%d}\n",
               app, i, app % N_NAMESPACES, app, version, i % 100, app, i >> 16, (i >> 8) & 255,
               i & 255);
}

static void set_yaml(struct mesh_builder *b, struct buf *yaml) {
    struct fx_objects objects;
    fx_decode(buf_cstr(yaml), &objects);
    for (size_t i = 0; i < objects.n; i++) {
        builder_set(b, objects.items[i]);
    }
    fx_objects_free(&objects);
    buf_clear(yaml);
}

static bool add_leaf(void *arg, void *value) {
    uintptr_t *sum = arg; // of the addresses: tells whether the same leaves are there
    *sum ^= (uintptr_t)value;
    return true;
}

static uintptr_t other_leaves(int pod) {
    uintptr_t sum = 0;
    char key[128];
    int app = pod / PODS_PER_APP;
    pmap_each(&snapshot_current()->workloads, add_leaf, &sum);
    pmap_each(&snapshot_current()->services, add_leaf, &sum);
    snprintf(key, sizeof(key), "Kubernetes//Pod/ns%d/app%d-5d4f8c7b9f-%05d", app % N_NAMESPACES,
             app, pod);
    sum ^= (uintptr_t)fx_find_workload(key);
    snprintf(key, sizeof(key), "ns%d/app%d.ns%d.svc.cluster.local", app % N_NAMESPACES, app,
             app % N_NAMESPACES);
    return sum ^ (uintptr_t)fx_find_service(key);
}

static void test_scale(void **state) {
    struct buf yaml;
    fx_init();
    buf_init(&yaml, 1 << 20);
    size_t before = mallinfo2().uordblks;
    struct mesh_builder *b = fx_builder("node1");
    for (int i = 0; i < N_PODS; i++) {
        pod_yaml(&yaml, i, 1);
        if (i % PODS_PER_APP == 0) {
            int app = i / PODS_PER_APP;
            buf_printf(&yaml,
                       "---\napiVersion: v1\nkind: Service\n"
                       "metadata: {name: app%d, namespace: ns%d}\n"
                       "spec: {clusterIP: 10.255.%d.%d, selector: {app: app%d}, "
                       "ports: [{port: 80, targetPort: http}]}\n",
                       app, app % N_NAMESPACES, app >> 8, app & 255, app);
        }
        set_yaml(b, &yaml);
    }
    uint64_t start = clock_mono_ns();
    fx_commit(b);
    uint64_t full_ns = clock_mono_ns() - start;
    assert_int_equal(snapshot_current()->workloads.n_items, N_PODS);
    assert_int_equal(snapshot_current()->services.n_items, N_PODS / PODS_PER_APP);
    size_t used = mallinfo2().uordblks - before;

    uint64_t worst_ns = 0, sum_ns = 0;
    enum { N_CHANGES = 50 };
    for (int i = 0; i < N_CHANGES; i++) {
        int pod = (i * 7919) % N_PODS;
        uintptr_t others = other_leaves(pod);
        pod_yaml(&yaml, pod, 2);
        struct fx_objects objects;
        fx_decode(buf_cstr(&yaml), &objects);
        start = clock_mono_ns();
        builder_set(b, objects.items[0]);
        fx_commit(b);
        uint64_t ns = clock_mono_ns() - start;
        worst_ns = MAX(worst_ns, ns);
        sum_ns += ns;
        assert_true(other_leaves(pod) == others);
        fx_objects_free(&objects);
        buf_clear(&yaml);
    }
    print_message("%d pods, %d services: built in %.1f ms; one pod's change %.0f us (worst %.0f); "
                  "%zu bytes a pod with its objects (0 under a sanitizer)\n",
                  N_PODS, N_PODS / PODS_PER_APP, (double)full_ns / 1e6,
                  (double)sum_ns / N_CHANGES / 1e3, (double)worst_ns / 1e3, used / N_PODS);
    buf_fini(&yaml);
    fx_builder_free(b);
    fx_fini();
}

// Many pods and selecting services in one namespace: what a load and a change cost follows from
// what matches, not from pods times services. All share one label, as those of a Helm chart do.
static void test_one_namespace(void **state) {
    enum { N_PODS_HERE = N_PODS * 2, N_SERVICES = N_PODS_HERE / 100 };
    struct buf yaml;
    fx_init();
    buf_init(&yaml, 1 << 20);
    struct mesh_builder *b = fx_builder("node1");
    uint64_t start_ns = 0, set_ns = 0;
    for (int i = 0; i < N_PODS_HERE + N_SERVICES; i++) {
        if (i < N_PODS_HERE) {
            buf_printf(&yaml,
                       "apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: a, labels: "
                       "{part-of: shop, app: app%d}}\nspec: {nodeName: n1, containers: [{name: c, "
                       "image: i}]}\nstatus: {phase: Running, podIP: 10.%d.%d.%d}\n",
                       i, i % N_SERVICES, i >> 16, (i >> 8) & 255, i & 255);
        } else {
            buf_printf(&yaml,
                       "apiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: a}\nspec: "
                       "{selector: {part-of: shop, app: app%d}, ports: [{port: 80}]}\n",
                       i - N_PODS_HERE, i - N_PODS_HERE);
        }
        struct fx_objects objects;
        fx_decode(buf_cstr(&yaml), &objects);
        start_ns = clock_mono_ns();
        builder_set(b, objects.items[0]);
        set_ns += clock_mono_ns() - start_ns;
        fx_objects_free(&objects);
        buf_clear(&yaml);
    }
    start_ns = clock_mono_ns();
    fx_commit(b);
    uint64_t commit_ns = clock_mono_ns() - start_ns;
    for (int i = 0; i < N_SERVICES; i++) {
        char key[64];
        snprintf(key, sizeof(key), "a/s%d.a.svc.cluster.local", i);
        assert_int_equal(fx_find_service(key)->n_endpoints, 100);
    }
    print_message("%d pods, %d services in one namespace: marked in %.1f ms, built in %.1f ms\n",
                  N_PODS_HERE, N_SERVICES, (double)set_ns / 1e6, (double)commit_ns / 1e6);
    buf_fini(&yaml);
    fx_builder_free(b);
    fx_fini();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_one_namespace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
