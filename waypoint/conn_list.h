// SPDX-License-Identifier: Apache-2.0
//
// Live connections as admin shows them: a copy that outlives them. Filled by workers one after the
// other, read by the control thread.
#pragma once

#include "waypoint/conn.h"

struct wconn_info {
    uint64_t id, age_ns, n_sent, n_received; // sent = towards the client
    struct addr client, dst, target, hbone_addr;
    bool is_accepted;
    uint32_t worker;
    char protocol[8]; // "http", "tcp"; "" = waits for its binding
    char source[128], destination[128]; // "ns/name", "" = unknown
    char service[256], client_id[256];
};

struct wconn_list {
    struct wconn_info *items;
    size_t n_items, n_alloc;
    size_t max; // more are only counted
    size_t n_skipped;
};

void wconn_list_init(struct wconn_list *list, size_t max);
void wconn_list_fini(struct wconn_list *list);
void wconn_list_add(struct wconn_list *list, const struct wconn *conn, uint64_t now);
