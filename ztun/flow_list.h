// SPDX-License-Identifier: Apache-2.0
//
// Live flows as admin shows them: a copy that outlives the flows. Filled by workers one after the
// other, read by the control thread.
#pragma once

#include "ztun/flow.h"

struct flow_info {
    uint64_t id, age_ns, bytes_sent, bytes_received; // sent = towards the client
    struct addr src, dst, target, hbone_addr;
    uint8_t kind; // enum flow_kind
    bool is_mtls, is_joined;
    char pod_uid[160], source[128], destination[128]; // "ns/name", "" = unknown
    char service[256], peer_identity[256];
};

struct flow_list {
    struct flow_info *items;
    size_t n_items, n_alloc;
    size_t max; // more are only counted
    size_t n_skipped;
};

void flow_list_init(struct flow_list *list, size_t max);
void flow_list_fini(struct flow_list *list);
void flow_list_add(struct flow_list *list, const struct flow *flow, uint64_t now);
