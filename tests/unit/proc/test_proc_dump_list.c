// SPDX-License-Identifier: Apache-2.0
//
// Dumps in steps: sorting, what a step does at most, and that a dump is that of its beginning.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/rand.h"
#include "common/proc/proc_dump.h"
#include "common/proc/proc_sort.h"
#include "tests/unit/base/unit.h"

// ---- sorting -----------------------------------------------------------------------------------

struct pair {
    uint32_t key, place;
};
static size_t n_compared;

static int by_key(const void *a, const void *b) {
    const struct pair *x = a, *y = b;
    n_compared++;
    return (x->key > y->key) - (x->key < y->key);
}

static void check_sort(struct rand *rand, size_t n, uint32_t n_keys) {
    struct pair *items = xcalloc(n + 1, sizeof(*items));
    struct proc_sort sort;
    for (size_t i = 0; i < n; i++) {
        items[i] = (struct pair){(uint32_t)rand_below(rand, n_keys), (uint32_t)i};
    }
    proc_sort_init(&sort, items, n, sizeof(*items), by_key);
    bool has_more = true;
    while (has_more) {
        n_compared = 0;
        has_more = proc_sort_step(&sort);
        assert_in_range(n_compared, 0, 3 * PROC_SORT_STEP);
    }
    assert_false(proc_sort_step(&sort)); // and stays so
    for (size_t i = 1; i < n; i++) {
        assert_true(items[i - 1].key < items[i].key ||
                    (items[i - 1].key == items[i].key && items[i - 1].place < items[i].place));
    }
    proc_sort_fini(&sort);
    free(items);
}

static void test_sort(void **state) {
    static const size_t sizes[] = {0,   1,   2,   3,    100,  255,  256,  257,
                                   511, 512, 513, 1023, 2049, 5000, 40000};
    struct rand rand;
    rand_seed(&rand, 7);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        check_sort(&rand, sizes[i], 1);
        check_sort(&rand, sizes[i], 10);
        check_sort(&rand, sizes[i], UINT32_MAX);
    }
}

// ---- lists -------------------------------------------------------------------------------------

enum { PODS = 20000, STEP_BYTES_MAX = 96 * 1024 };

static struct workload *pod(int i, const char *node) {
    char uid[64], name[32];
    struct ip ip = {.family = 4, .bytes = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
    snprintf(uid, sizeof(uid), "c//Pod/a/pod-%d", i);
    snprintf(name, sizeof(name), "pod-%d", i);
    const struct workload_common common = {.ns = "a"};
    struct workload spec = {.leaf.key = slice_str(uid),
                            .name = name,
                            .common = &common,
                            .node = node,
                            .ips = &ip,
                            .n_ips = 1,
                            .capacity = 1};
    return workload_new(&spec);
}

static struct service *service(const char *key, struct workload **pods, int n) {
    static const uint16_t target[] = {8080};
    const struct service_port port = {.port = 80, .name = "http"};
    struct endpoint *endpoints = xcalloc((size_t)n, sizeof(*endpoints));
    for (int i = 0; i < n; i++) {
        endpoints[i] = (struct endpoint){
            .workload = pods[i], .ip = pods[i]->ips[0], .target_ports = target, .weight = 1};
    }
    struct service spec = {.leaf.key = slice_str(key),
                           .name = key,
                           .ns = "a",
                           .hostname = key,
                           .ports = &port,
                           .n_ports = 1,
                           .endpoints = endpoints,
                           .n_endpoints = (uint32_t)n};
    struct service *leaf = service_new(&spec);
    free(endpoints);
    return leaf;
}

// All pods are in one service, every tenth in another one, too.
static int setup(void **state) {
    static const struct mesh_settings mesh = {.trust_domain = "cluster.local", .network = "n"};
    struct workload **pods = xcalloc(PODS, sizeof(struct workload *));
    snapshot_init(&mesh);
    struct snapshot *draft = snapshot_draft();
    for (int i = 0; i < PODS; i++) {
        pods[i] = pod(i, "n1");
        leaf_ref(pods[i]);
        snapshot_set_workload(draft, pods[i]);
    }
    snapshot_set_service(draft, service("a/all", pods, PODS));
    snapshot_set_service(draft, service("a/some", pods, PODS / 10));
    snapshot_publish(draft);
    for (int i = 0; i < PODS; i++) {
        leaf_unref(pods[i]);
    }
    free(pods);
    return 0;
}

static int teardown(void **state) {
    snapshot_fini();
    assert_int_equal(leaf_count(), 0);
    return 0;
}

// Writes a list as an answer in steps does, and looks at each step.
static json_t *written(struct proc_dump_list *list, size_t *ret_n_steps) {
    struct buf text, whole;
    struct json_out out;
    bool has_more = true;
    buf_init(&text, SIZE_MAX);
    buf_init(&whole, SIZE_MAX);
    json_out_init(&out, &text, false);
    for (*ret_n_steps = 0; has_more; (*ret_n_steps)++) {
        buf_clear(&text);
        has_more = proc_dump_list_step(list, &out);
        assert_in_range(text.len, 0, STEP_BYTES_MAX);
        buf_append(&whole, buf_slice(&text));
    }
    proc_dump_list_free(list);
    json_error_t error;
    json_t *value = json_loadb((const char *)whole.ptr, whole.len, 0, &error);
    if (value == NULL) {
        fail_msg("%s at %d", error.text, error.position);
    }
    buf_fini(&text);
    buf_fini(&whole);
    return value;
}

static void test_workloads(void **state) {
    size_t n_steps, i, n_in_two = 0;
    json_t *item;
    const char *last = "";
    json_t *list = written(proc_dump_list_new(PROC_DUMP_WORKLOADS, snapshot_current()), &n_steps);
    assert_int_equal(json_array_size(list), PODS);
    assert_true(n_steps > PODS / 16);
    json_array_foreach(list, i, item) {
        const char *uid = json_string_value(json_object_get(item, "uid"));
        const json_t *services = json_object_get(item, "services");
        assert_true(strcmp(last, uid) < 0);
        last = uid;
        assert_string_equal(json_string_value(json_array_get(services, 0)), "a/all");
        n_in_two += json_array_size(services) == 2;
    }
    assert_int_equal(n_in_two, PODS / 10);
    json_decref(list);
}

static void test_services(void **state) {
    size_t n_steps;
    json_t *list = written(proc_dump_list_new(PROC_DUMP_SERVICES, snapshot_current()), &n_steps);
    assert_int_equal(json_array_size(list), 2);
    assert_true(n_steps > PODS / 256); // the endpoints of a service are not written at once
    const json_t *all = json_object_get(json_array_get(list, 0), "endpoints");
    const json_t *some = json_object_get(json_array_get(list, 1), "endpoints");
    assert_int_equal(json_object_size(all), PODS);
    assert_int_equal(json_object_size(some), PODS / 10);
    json_decref(list);
}

// The mesh goes on while a dump is written: it stays that of its beginning, and keeps its leaves.
static void test_is_of_its_beginning(void **state) {
    size_t n_steps, i;
    json_t *item;
    struct proc_dump_list *list = proc_dump_list_new(PROC_DUMP_WORKLOADS, snapshot_current());
    struct snapshot *draft = snapshot_draft();
    for (int k = 0; k < PODS; k += 2) {
        char uid[64];
        snprintf(uid, sizeof(uid), "c//Pod/a/pod-%d", k);
        snapshot_del_workload(draft, uid);
    }
    snapshot_set_workload(draft, pod(1, "n2"));
    snapshot_del_service(draft, "a/all");
    snapshot_publish(draft);
    snapshot_reclaim();
    json_t *old = written(list, &n_steps);
    assert_int_equal(json_array_size(old), PODS);
    json_array_foreach(old, i, item) {
        assert_string_equal(json_string_value(json_object_get(item, "node")), "n1");
        assert_true(json_array_size(json_object_get(item, "services")) > 0);
    }
    json_decref(old);
    list = proc_dump_list_new(PROC_DUMP_WORKLOADS, snapshot_current());
    json_t *now = written(list, &n_steps);
    assert_int_equal(json_array_size(now), PODS / 2);
    json_decref(now);
    // One that is given up in the middle keeps nothing.
    list = proc_dump_list_new(PROC_DUMP_SERVICES, snapshot_current());
    struct buf text;
    struct json_out out;
    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, false);
    for (int k = 0; k < 3; k++) {
        assert_true(proc_dump_list_step(list, &out));
    }
    proc_dump_list_free(list);
    buf_fini(&text);
}

static void test_empty(void **state) {
    static const struct mesh_settings mesh = {.trust_domain = "cluster.local"};
    snapshot_init(&mesh);
    for (int kind = PROC_DUMP_WORKLOADS; kind <= PROC_DUMP_CERTS; kind++) {
        size_t n_steps;
        json_t *list =
            written(proc_dump_list_new((enum proc_dump_kind)kind, snapshot_current()), &n_steps);
        assert_int_equal(json_array_size(list), 0);
        json_decref(list);
    }
    snapshot_fini();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sort),
        cmocka_unit_test_setup_teardown(test_workloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_services, setup, teardown),
        cmocka_unit_test_setup_teardown(test_is_of_its_beginning, setup, teardown),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
