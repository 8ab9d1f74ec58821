// SPDX-License-Identifier: Apache-2.0
#include "ztun/flow_list.h"

#include <stdio.h>
#include <stdlib.h>

void flow_list_init(struct flow_list *list, size_t max) {
    *list = (struct flow_list){.max = max};
}

void flow_list_fini(struct flow_list *list) {
    free(list->items);
    *list = (struct flow_list){0};
}

static void put_workload(char *dst, size_t size, const struct workload *workload) {
    if (workload != NULL) {
        snprintf(dst, size, "%s/%s", workload->ns, workload->name);
    }
}

void flow_list_add(struct flow_list *list, const struct flow *flow, uint64_t now) {
    if (list->n_items >= list->max) {
        list->n_skipped++;
        return;
    }
    if (list->n_items == list->n_alloc) {
        list->n_alloc = list->n_alloc == 0 ? 64 : 2 * list->n_alloc;
        list->items = xrealloc(list->items, list->n_alloc * sizeof(*list->items));
    }
    struct flow_info *info = &list->items[list->n_items++];
    *info = (struct flow_info){
        .id = flow->id,
        .age_ns = now - flow->started_ns,
        .bytes_sent = flow->pipe.n_bytes[PIPE_UP],
        .bytes_received = flow->pipe.n_bytes[PIPE_DOWN],
        .src = flow->src,
        .dst = flow->dst,
        .target = flow->target,
        .hbone_addr = flow->hbone_addr,
        .kind = flow->kind,
        .is_mtls = flow->is_mtls,
        .is_joined = flow->is_joined,
    };
    snprintf(info->pod_uid, sizeof(info->pod_uid), "%s", flow->zpod->pod->uid);
    put_workload(info->source, sizeof(info->source), flow->source);
    put_workload(info->destination, sizeof(info->destination), flow->destination);
    snprintf(info->service, sizeof(info->service), "%s", flow->hostname);
    snprintf(info->peer_identity, sizeof(info->peer_identity), "%.*s",
             SLICE_ARG(flow->peer_identity));
}
