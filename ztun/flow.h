// SPDX-License-Identifier: Apache-2.0
//
// A flow: one captured application connection, from accept to its access log line. What outbound,
// inbound and plain inbound flows have in common: identity of both ends, byte counts, the pipe, the
// place in the pod's list, and the one report at the end.
//
// Thread: the worker's.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/net/pipe.h"
#include "ztun/zworker.h"

enum flow_kind { FLOW_OUTBOUND, FLOW_INBOUND_HBONE, FLOW_INBOUND_PLAIN };

struct metric_series;

struct flow {
    struct pipe pipe;
    struct list node; // zpod->flows
    struct zpod *zpod;
    void (*free)(struct flow *flow); // gives the memory back
    // Cuts what is under way before the pipe started (a dial, a request); set by the kind.
    void (*cancel)(struct flow *flow, enum flow_end reason);
    uint64_t id, started_ns; // monotonic
    struct addr src, dst; // the client; what it connected to
    struct addr target; // the chosen endpoint (inside a tunnel: the CONNECT authority)
    struct addr hbone_addr; // the tunnel's far end, or none
    struct workload *source, *destination; // references, NULL = unknown
    struct service *service; // reference or NULL
    const char *hostname; // dst.service, "" = none; lives in `service`, or is a literal
    struct slice peer_identity; // verified by TLS; lives in the tunnel or the workload
    struct metric_series *metrics; // counters of this flow's labels; NULL before opened
    uint32_t checked; // zworker.recheck that it was checked against
    uint8_t kind;
    bool is_mtls;
    bool is_counted; // "opened" was reported
    bool is_joined; // the pipe has started
    char *detail; // more about a failure, for the log; NULL = none
    char *own_identity; // what peer_identity points at in an imported flow; else NULL
};

void flow_init(struct flow *flow, struct zpod *zpod, enum flow_kind kind,
               void (*pipe_done)(struct pipe *pipe), void (*free)(struct flow *flow),
               void (*cancel)(struct flow *flow, enum flow_end reason));
static inline struct flow *flow_of_pipe(struct pipe *pipe) {
    return CONTAINER_OF(pipe, struct flow, pipe);
}
// Takes references.
void flow_set_ends(struct flow *flow, struct workload *source, struct workload *destination,
                   struct service *service);
// Joins the ends and counts the flow as opened.
void flow_start(struct flow *flow);
// Cuts the flow in whatever state it is.
void flow_cut(struct flow *flow, enum flow_end reason);
// The last step: counts, one log line, gives up references, frees.
void flow_done(struct flow *flow);
// Keeps a copy of the text (NULL or "": none).
void flow_set_detail(struct flow *flow, const char *text);
// Hand-over of a joined flow (flow_export.c): who and what it is, its counters and its pipe
// (pipe.h). Leaves go as names: uid of workloads, key of the service. The ends are exported beside.
struct buf;
struct cur;
MUST_USE bool flow_export(const struct flow *flow, struct buf *out);
// In place of its end, when its ends have been released: no report, no `free`; the memory is the
// caller's.
void flow_release(struct flow *flow);
// After flow_init with the same kind. Finds the leaves in the current snapshot (what has left is
// unknown from here on) and counts among the open ones, not as opened again. False: malformed; the
// flow is released then. The ends that ret_has names are to be attached.
MUST_USE bool flow_import(struct flow *flow, struct cur *in, bool ret_has[2]);
// Why it ended, as text for the log; "" when orderly.
const char *flow_error_text(const struct flow *flow, char buf[256]);
