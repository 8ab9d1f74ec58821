// SPDX-License-Identifier: Apache-2.0
//
// A running flow as bytes, for a successor process on the same machine (times are
// CLOCK_MONOTONIC).
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "ztun/flow.h"
#include "ztun/report.h"

enum { EXPORT_VERSION = 1, FLAG_MTLS = 1, FLAGS_ALL = 1, TEXT_MAX = 4096 };

// ---- writing

static void put_addr(struct buf *out, const struct addr *addr) {
    buf_put_u8(out, addr->ip.family);
    buf_append(out, slice_make(addr->ip.bytes, sizeof(addr->ip.bytes)));
    buf_put_u16(out, addr->port);
}

static void put_text(struct buf *out, struct slice text) {
    text = slice_head(text, TEXT_MAX);
    buf_put_u16(out, (uint16_t)text.len);
    buf_append(out, text);
}

static struct slice key_of(const struct leaf *leaf) {
    return leaf != NULL ? leaf->key : slice_make(NULL, 0);
}

bool flow_export(const struct flow *flow, struct buf *out) {
    if (!flow->is_joined || !flow->is_counted) {
        return false;
    }
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out, flow->kind);
    buf_put_u8(out, flow->is_mtls ? FLAG_MTLS : 0);
    buf_put_u64(out, flow->id);
    buf_put_u64(out, flow->started_ns);
    put_addr(out, &flow->src);
    put_addr(out, &flow->dst);
    put_addr(out, &flow->target);
    put_addr(out, &flow->hbone_addr);
    put_text(out, key_of(flow->source != NULL ? &flow->source->leaf : NULL));
    put_text(out, key_of(flow->destination != NULL ? &flow->destination->leaf : NULL));
    put_text(out, key_of(flow->service != NULL ? &flow->service->leaf : NULL));
    put_text(out, flow->peer_identity);
    return pipe_export(&flow->pipe, out);
}

void flow_release(struct flow *flow) {
    report_handed_over(flow);
    list_del(&flow->node);
    flow->zpod->worker->load->n_flows--;
    leaf_unref(flow->source);
    leaf_unref(flow->destination);
    leaf_unref(flow->service);
    free(flow->detail);
    free(flow->own_identity);
}

// ---- reading

static struct addr get_addr(struct cur *in) {
    struct addr addr = {.ip.family = cur_u8(in)};
    slice_copy(addr.ip.bytes, cur_bytes(in, sizeof(addr.ip.bytes)));
    addr.port = cur_u16(in);
    if (addr.ip.family != 0 && addr.ip.family != 4 && addr.ip.family != 6) {
        cur_fail(in);
    }
    return addr;
}

// A name with a NUL behind it; NULL when there is none.
static char *get_text(struct cur *in) {
    struct slice text = cur_bytes(in, cur_u16(in));
    if (text.len > TEXT_MAX || (text.len > 0 && memchr(text.ptr, 0, text.len) != NULL)) {
        cur_fail(in);
    }
    return cur_ok(in) && text.len > 0 ? xstrndup((const char *)text.ptr, text.len) : NULL;
}

static void find_ends(struct flow *flow, const char *source, const char *destination,
                      const char *service) {
    const struct snapshot *snap = snapshot_current();
    flow_set_ends(flow, source != NULL ? snapshot_workload_by_uid(snap, source) : NULL,
                  destination != NULL ? snapshot_workload_by_uid(snap, destination) : NULL,
                  service != NULL ? snapshot_service(snap, service) : NULL);
}

bool flow_import(struct flow *flow, struct cur *in, bool ret_has[2]) {
    uint8_t version = cur_u8(in), kind = cur_u8(in), flags = cur_u8(in);
    flow->id = cur_u64(in);
    flow->started_ns = cur_u64(in);
    flow->src = get_addr(in);
    flow->dst = get_addr(in);
    flow->target = get_addr(in);
    flow->hbone_addr = get_addr(in);
    char *source = get_text(in), *destination = get_text(in), *service = get_text(in);
    flow->own_identity = get_text(in);
    flow->is_mtls = (flags & FLAG_MTLS) != 0;
    if (flow->own_identity != NULL) {
        flow->peer_identity = slice_str(flow->own_identity);
    }
    bool ok = cur_ok(in) && version == EXPORT_VERSION && kind == flow->kind &&
              (flags & ~FLAGS_ALL) == 0 && flow->started_ns <= flow->zpod->worker->loop->now &&
              pipe_import(&flow->pipe, flow->pipe.pool, flow->pipe.done, in, ret_has);
    if (ok) {
        find_ends(flow, source, destination, service);
        flow->is_joined = true;
        report_taken_over(flow);
    } else {
        flow_release(flow);
    }
    free(source);
    free(destination);
    free(service);
    return ok;
}
