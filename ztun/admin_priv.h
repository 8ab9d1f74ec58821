// SPDX-License-Identifier: Apache-2.0
//
// Shared by the admin_*.c files and their tests: parts of the state as JSON, in the form of
// ztunnel's /config_dump (names and values of its serialised types).
//
// Thread: control.
#pragma once

#include "common/proc/proc_admin.h"
#include "common/proc/proc_dump.h"
#include "ztun/flow_list.h"

struct control;
struct ztun_config;

enum { ADMIN_FLOWS_MAX = 20000 }; // flows of one answer; more are counted

// admin_config.c: an object.
void admin_write_config(struct json_out *out, const struct ztun_config *config);

// admin_flows.c: asks the workers one after the other for their flows, then calls done, which
// answers. The rest is done's to free with admin_flows_free.
struct admin_flows {
    struct mail mail;
    struct control *control;
    struct http_exchange *exchange;
    const struct http_query *query;
    void (*done)(struct admin_flows *flows);
    struct flow_list list; // sorted by pod, then id
    uint32_t n_asked;
};
void admin_flows_gather(struct control *control, struct http_exchange *exchange,
                        const struct http_query *query, void (*done)(struct admin_flows *flows));
void admin_flows_free(struct admin_flows *flows);
const char *admin_flow_protocol(const struct flow_info *flow); // "HBONE", "TCP"
// {"inbound": [...], "outbound": [...]} of one pod, from the sorted list.
void admin_write_pod_flows(struct json_out *out, const struct flow_list *list, const char *pod_uid);
