// SPDX-License-Identifier: Apache-2.0
#include "ztun/flow.h"

#include <stdio.h>
#include <stdlib.h>

#include "ztun/report.h"

void flow_init(struct flow *flow, struct zpod *zpod, enum flow_kind kind,
               void (*pipe_done)(struct pipe *pipe), void (*free)(struct flow *flow),
               void (*cancel)(struct flow *flow, enum flow_end reason)) {
    struct zworker *worker = zpod->worker;
    *flow = (struct flow){
        .zpod = zpod,
        .free = free,
        .cancel = cancel,
        .id = ((uint64_t)worker->index << 48) | ++worker->last_flow_id,
        .started_ns = worker->loop->now,
        .kind = (uint8_t)kind,
        .checked = worker->recheck,
        .hostname = "",
    };
    pipe_init(&flow->pipe, worker->loop->pool, pipe_done);
    list_push_back(&zpod->flows, &flow->node);
    worker->load->n_flows++;
}

static void *keep(void *leaf) {
    if (leaf != NULL) {
        leaf_ref(leaf);
    }
    return leaf;
}

void flow_set_ends(struct flow *flow, struct workload *source, struct workload *destination,
                   struct service *service) {
    struct workload *old_source = flow->source, *old_destination = flow->destination;
    struct service *old_service = flow->service;
    flow->source = keep(source);
    flow->destination = keep(destination);
    flow->service = keep(service);
    flow->hostname = service != NULL ? service->hostname : "";
    leaf_unref(old_source);
    leaf_unref(old_destination);
    leaf_unref(old_service);
}

void flow_start(struct flow *flow) {
    flow->is_joined = true;
    report_opened(flow);
    pipe_start(&flow->pipe);
}

void flow_cut(struct flow *flow, enum flow_end reason) {
    if (flow->is_joined) {
        pipe_cut(&flow->pipe, reason);
    } else {
        flow->cancel(flow, reason);
    }
}

void flow_set_detail(struct flow *flow, const char *text) {
    char *copy = text != NULL && text[0] != 0 ? xstrndup(text, 200) : NULL;
    free(flow->detail);
    flow->detail = copy;
}

const char *flow_error_text(const struct flow *flow, char buf[256]) {
    const char *text = flow_end_text(flow->pipe.end);
    if (flow->detail == NULL) {
        return text;
    }
    snprintf(buf, 256, "%s: %s", text, flow->detail);
    return buf;
}

void flow_done(struct flow *flow) {
    struct zpod *zpod = flow->zpod;
    report_closed(flow);
    list_del(&flow->node);
    zpod->worker->load->n_flows--;
    leaf_unref(flow->source);
    leaf_unref(flow->destination);
    leaf_unref(flow->service);
    free(flow->detail);
    free(flow->own_identity);
    zpod->n_open++; // the flow's tunnel may be the last thing that keeps the pod
    flow->free(flow);
    zpod->n_open--;
    zpod_check_drained(zpod);
}
