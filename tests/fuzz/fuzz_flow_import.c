// SPDX-License-Identifier: Apache-2.0
//
// A running flow's state (ztun/flow.h) with any damage: it is refused, or what was taken is told
// again as the same bytes. Whatever happens, the gauges come back.
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/obs/metrics.h"
#include "ztun/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct {
    struct blk_pool pool;
    struct loop loop;
    struct place_load load;
    struct zworker worker;
    struct zpod zpod;
    bool is_open;
} bed;

static void open_bed(void) {
    static const struct mesh_settings mesh = {.trust_domain = "cluster.local",
                                              .cluster_domain = "cluster.local",
                                              .cluster_id = "Kubernetes"};
    snapshot_init(&mesh);
    blk_pool_init(&bed.pool, 0);
    bed.loop.pool = &bed.pool;
    bed.loop.now = 1000000;
    bed.worker.loop = &bed.loop;
    bed.worker.load = &bed.load;
    bed.zpod.worker = &bed.worker;
    list_init(&bed.zpod.flows);
    bed.is_open = true;
}

static void on_done(struct pipe *pipe) {
    (void)pipe;
}

static void hold(struct duplex *end, bool on) {
    (void)end;
    (void)on;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const struct duplex_ops ops = {.hold = hold};
    struct flow flow;
    struct duplex ends[2] = {{.ops = &ops}, {.ops = &ops}};
    struct cur in = cur_make(slice_make(data, len));
    bool has[2];
    if (!bed.is_open) {
        open_bed();
    }
    int64_t n_open = metrics_total(METRIC_TCP_SOCKETS_OPEN);
    flow_init(&flow, &bed.zpod,
              len > 1 && data[1] == FLOW_OUTBOUND ? FLOW_OUTBOUND : FLOW_INBOUND_HBONE, on_done,
              NULL, NULL);
    if (flow_import(&flow, &in, has)) {
        struct buf again;
        buf_init(&again, 1 << 20);
        for (int side = 0; side < 2; side++) {
            if (has[side]) {
                pipe_attach(&flow.pipe, (enum pipe_side)side, &ends[side]);
            }
        }
        if (flow_export(&flow, &again)) { // of leaves that are not known the names are lost
            struct flow copy;
            struct cur second = cur_make(buf_slice(&again));
            flow_init(&copy, &bed.zpod, (enum flow_kind)flow.kind, on_done, NULL, NULL);
            CHECK(flow_import(&copy, &second, has));
            CHECK(copy.id == flow.id && copy.started_ns == flow.started_ns);
            flow_release(&copy);
        }
        buf_fini(&again);
        flow_release(&flow);
    }
    CHECK(metrics_total(METRIC_TCP_SOCKETS_OPEN) == n_open);
    CHECK(bed.load.n_flows == 0 && list_empty(&bed.zpod.flows));
    return 0;
}
