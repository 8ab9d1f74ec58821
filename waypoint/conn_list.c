// SPDX-License-Identifier: Apache-2.0
#include "waypoint/conn_list.h"

#include <stdio.h>
#include <stdlib.h>

void wconn_list_init(struct wconn_list *list, size_t max) {
    *list = (struct wconn_list){.max = max};
}

void wconn_list_fini(struct wconn_list *list) {
    free(list->items);
    *list = (struct wconn_list){0};
}

static void put_workload(char *dst, size_t size, const struct workload *workload) {
    if (workload != NULL) {
        snprintf(dst, size, "%s/%s", workload->ns, workload->name);
    }
}

void wconn_list_add(struct wconn_list *list, const struct wconn *conn, uint64_t now) {
    if (list->n_items >= list->max) {
        list->n_skipped++;
        return;
    }
    if (list->n_items == list->n_alloc) {
        list->n_alloc = list->n_alloc == 0 ? 64 : 2 * list->n_alloc;
        list->items = xrealloc(list->items, list->n_alloc * sizeof(*list->items));
    }
    struct wconn_info *info = &list->items[list->n_items++];
    *info = (struct wconn_info){
        .id = conn->id,
        .age_ns = now - conn->started_ns,
        .client = conn->client,
        .dst = conn->dst,
        .target = conn->target,
        .hbone_addr = conn->hbone_addr,
        .is_accepted = conn->is_accepted,
        .worker = conn->worker->index,
    };
    if (conn->ops != NULL) {
        snprintf(info->protocol, sizeof(info->protocol), "%s", conn->ops->protocol);
        if (conn->ops->count != NULL) {
            conn->ops->count(conn, &info->n_sent, &info->n_received);
        }
    }
    put_workload(info->source, sizeof(info->source), conn->source);
    put_workload(info->destination, sizeof(info->destination), conn->destination);
    if (conn->service != NULL) {
        snprintf(info->service, sizeof(info->service), "%s", conn->service->hostname);
    }
    snprintf(info->client_id, sizeof(info->client_id), "%.*s", SLICE_ARG(conn->client_id));
}
