// SPDX-License-Identifier: Apache-2.0
// A running flow as bytes: who, what and how much come back, leaves are found by name, the gauge is
// right on both sides, and no damage to the bytes does more than a refusal.
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/mesh/builder.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/config_errors.h"
#include "common/mesh/kobj.h"
#include "common/obs/metrics.h"
#include "tests/unit/base/unit.h"
#include "ztun/flow.h"

static const char mesh[] =
    "apiVersion: v1\nkind: Namespace\n"
    "metadata: {name: demo, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, name: web, labels: {app: web}}\n"
    "spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c, image: i}]}\n"
    "status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, name: db}\n"
    "spec: {nodeName: n2, serviceAccountName: db, containers: [{name: c, image: i}]}\n"
    "status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: web}\n"
    "spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}\n";

static struct {
    struct mesh_builder *builder;
    struct arena arena;
    struct config_errors errors;
    struct blk_pool pool;
    struct loop loop;
    struct place_load load;
    struct zworker worker;
    struct zpod zpod;
    struct duplex ends[2];
} bed;

static int on_object(void *arg, const struct cfg_node *node) {
    struct kobj *obj = kobj_decode(node, "mesh.yaml", 0, &bed.arena, &bed.errors);
    assert_non_null(obj);
    builder_set(bed.builder, obj);
    kobj_unref(obj);
    return 0;
}

static int setup(void **state) {
    struct mesh_settings settings = {.trust_domain = "cluster.local",
                                     .cluster_domain = "cluster.local",
                                     .cluster_id = "Kubernetes"};
    struct builder_options options = {.mesh = settings, .node = "n1"};
    struct config_doc_reader reader;
    struct cfg_node root;
    struct builder_changes changes;
    arena_init(&bed.arena, SIZE_MAX);
    config_errors_init(&bed.errors);
    snapshot_init(&settings);
    bed.builder = builder_new(&options);
    config_doc_reader_init(&reader, "mesh.yaml", slice_str(mesh), CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &bed.arena, &bed.errors, &root) > 0) {
        config_doc_each(&root, &bed.arena, "mesh.yaml", &bed.errors, on_object, NULL);
    }
    assert_int_equal(bed.errors.n_errors, 0);
    builder_commit(bed.builder, &changes);
    builder_changes_fini(&changes);
    blk_pool_init(&bed.pool, 0);
    bed.loop.pool = &bed.pool;
    bed.loop.now = 1000;
    bed.worker.loop = &bed.loop;
    bed.worker.load = &bed.load;
    bed.zpod.worker = &bed.worker;
    list_init(&bed.zpod.flows);
    return 0;
}

static int teardown(void **state) {
    builder_free(bed.builder);
    snapshot_fini();
    config_errors_fini(&bed.errors);
    arena_fini(&bed.arena);
    blk_pool_fini(&bed.pool);
    assert_int_equal(leaf_count(), 0);
    return 0;
}

static void on_done(struct pipe *pipe) {
}

static void hold(struct duplex *end, bool on) {
}
static const struct duplex_ops ops = {.hold = hold};

static void init(struct flow *flow, enum flow_kind kind) {
    flow_init(flow, &bed.zpod, kind, on_done, NULL, NULL);
}

static struct addr address(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

// A flow in the middle of its life.
static void make(struct flow *flow) {
    const struct snapshot *snap = snapshot_current();
    struct ip web = address("10.0.0.1:1").ip, db = address("10.0.0.2:1").ip;
    struct ip vip = address("10.96.0.1:1").ip;
    init(flow, FLOW_INBOUND_HBONE);
    flow->src = address("10.0.0.2:4000");
    flow->dst = flow->hbone_addr = address("[fd00::1]:15008");
    flow->target = address("10.0.0.1:80");
    flow->is_mtls = true;
    flow->peer_identity = SLICE_LIT("spiffe://cluster.local/ns/demo/sa/db");
    flow_set_ends(flow, snapshot_workload_by_ip(snap, &db), snapshot_workload_by_ip(snap, &web),
                  snapshot_service_by_vip(snap, &vip));
    assert_non_null(flow->source);
    assert_non_null(flow->destination);
    assert_non_null(flow->service);
    for (int side = 0; side < 2; side++) {
        bed.ends[side] = (struct duplex){.ops = &ops};
        pipe_attach(&flow->pipe, (enum pipe_side)side, &bed.ends[side]);
    }
    flow_start(flow);
    flow->pipe.n_bytes[PIPE_DOWN] = 12345;
    flow->pipe.n_bytes[PIPE_UP] = UINT64_C(1) << 40;
    flow->pipe.got_fin[PIPE_DOWN] = flow->pipe.is_held[PIPE_UP] = true;
}

static int64_t n_open(void) {
    return metrics_total(METRIC_TCP_SOCKETS_OPEN);
}

static void test_round_trip(void **state) {
    struct flow flow, copy;
    struct buf out;
    bool has[2];
    make(&flow);
    uint64_t id = flow.id;
    assert_int_equal(n_open(), 1);
    buf_init(&out, 65536);
    assert_true(flow_export(&flow, &out));
    int64_t opened = metrics_total(METRIC_TCP_OPENED);
    flow_release(&flow);
    assert_int_equal(n_open(), 0);
    assert_int_equal(bed.load.n_flows, 0);

    bed.loop.now = 5000;
    init(&copy, FLOW_INBOUND_HBONE);
    struct cur in = cur_make(buf_slice(&out));
    assert_true(flow_import(&copy, &in, has));
    assert_true(cur_done(&in) && has[0] && has[1]);
    assert_int_equal(n_open(), 1);
    assert_int_equal(metrics_total(METRIC_TCP_OPENED), opened);
    assert_int_equal(copy.id, id);
    assert_int_equal(copy.started_ns, 1000);
    struct addr src = address("10.0.0.2:4000"), dst = address("[fd00::1]:15008");
    assert_true(addr_eq(&copy.src, &src) && addr_eq(&copy.dst, &dst));
    assert_true(addr_eq(&copy.hbone_addr, &dst));
    assert_true(copy.is_mtls && copy.is_joined);
    assert_true(slice_eq_str(copy.peer_identity, "spiffe://cluster.local/ns/demo/sa/db"));
    assert_string_equal(copy.source->name, "db");
    assert_string_equal(copy.destination->name, "web");
    assert_string_equal(copy.hostname, "web.demo.svc.cluster.local");
    assert_int_equal(copy.pipe.n_bytes[PIPE_DOWN], 12345);
    assert_int_equal(copy.pipe.n_bytes[PIPE_UP], UINT64_C(1) << 40);
    assert_true(copy.pipe.got_fin[PIPE_DOWN] && !copy.pipe.got_fin[PIPE_UP]);
    assert_true(copy.pipe.is_held[PIPE_UP] && !copy.pipe.is_held[PIPE_DOWN]);
    struct buf again;
    buf_init(&again, 65536);
    for (int side = 0; side < 2; side++) {
        pipe_attach(&copy.pipe, (enum pipe_side)side, &bed.ends[side]);
    }
    assert_true(flow_export(&copy, &again));
    assert_true(slice_eq(buf_slice(&again), buf_slice(&out)));
    flow_release(&copy);
    assert_int_equal(n_open(), 0);
    buf_fini(&again);
    buf_fini(&out);
    bed.loop.now = 1000;
}

// What the successor does not know (any more) is unknown; the flow lives.
static void test_unknown_names(void **state) {
    struct flow flow, copy;
    struct buf out;
    bool has[2];
    make(&flow);
    buf_init(&out, 65536);
    assert_true(flow_export(&flow, &out));
    flow_release(&flow);
    for (size_t i = 0; i + 4 <= out.len; i++) {
        if (memcmp(out.ptr + i, "demo", 4) == 0) {
            out.ptr[i] = 'x';
        }
    }
    init(&copy, FLOW_INBOUND_HBONE);
    struct cur in = cur_make(buf_slice(&out));
    assert_true(flow_import(&copy, &in, has));
    assert_null(copy.source);
    assert_null(copy.destination);
    assert_null(copy.service);
    assert_string_equal(copy.hostname, "");
    flow_release(&copy);
    buf_fini(&out);
}

static void test_damage(void **state) {
    struct flow flow, copy;
    struct buf out;
    bool has[2];
    make(&flow);
    buf_init(&out, 65536);
    assert_true(flow_export(&flow, &out));
    flow_release(&flow);
    for (size_t len = 0; len < out.len; len++) { // every truncation
        init(&copy, FLOW_INBOUND_HBONE);
        struct cur in = cur_make(slice_make(out.ptr, len));
        assert_false(flow_import(&copy, &in, has));
    }
    init(&copy, FLOW_OUTBOUND); // another kind
    struct cur other = cur_make(buf_slice(&out));
    assert_false(flow_import(&copy, &other, has));
    uint32_t n_refused = 0;
    for (size_t i = 0; i < 8 * out.len; i++) { // every bit
        out.ptr[i / 8] ^= (uint8_t)(1 << i % 8);
        init(&copy, FLOW_INBOUND_HBONE);
        struct cur in = cur_make(buf_slice(&out));
        if (flow_import(&copy, &in, has)) {
            flow_release(&copy);
        } else {
            n_refused++;
        }
        out.ptr[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    assert_in_range(n_refused, 50, 8 * out.len - 50);
    buf_fini(&out);
    assert_int_equal(n_open(), 0);
    assert_int_equal(bed.load.n_flows, 0);
    struct buf small; // an export that does not fit says so
    make(&flow);
    buf_init(&small, 100);
    assert_false(flow_export(&flow, &small));
    flow_release(&flow);
    buf_fini(&small);
}

static void test_not_joined(void **state) {
    struct flow flow;
    struct buf out;
    init(&flow, FLOW_OUTBOUND);
    buf_init(&out, 65536);
    assert_false(flow_export(&flow, &out));
    buf_fini(&out);
    flow_release(&flow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_not_joined),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
