// SPDX-License-Identifier: Apache-2.0
//
// Shared by the admin_*.c files and their tests: parts of the state as JSON, in the form of
// ztunnel's /config_dump (names and values of its serialised types).
//
// Thread: control.
#pragma once

#include "common/base/json_out.h"
#include "common/mesh/snapshot.h"
#include "common/net/http_server.h"
#include "ztun/flow_list.h"

struct control;
struct ztun_config;

enum {
    ADMIN_BODY_MAX = 1 << 30, // bytes of one answer
    ADMIN_FLOWS_MAX = 20000, // flows of one answer; more are counted
    ADMIN_GZIP_MIN = 1400, // smaller answers fit a packet as they are
};

// Answers with `body`, gzipped when the client takes that; 500 when it overflowed. Ends `body`.
void admin_reply(struct http_exchange *exchange, const struct http_query *query, int status,
                 const char *content_type, struct buf *body);
// A JSON body: `?pretty` in the query asks for line breaks.
void admin_json_init(struct json_out *out, struct buf *body, const struct http_query *query);

// Leaves of a table in the order of their keys: heap array of *ret_n, the caller's.
void **admin_sorted(const struct pmap *map, size_t *ret_n);

// admin_mesh.c: each writes one array value.
void admin_write_workloads(struct json_out *out, const struct snapshot *snap);
void admin_write_services(struct json_out *out, const struct snapshot *snap);
// admin_policy.c
void admin_write_policies(struct json_out *out, const struct snapshot *snap);
// admin_certs.c: ztunnel's certificates; and, for /status, one object for each identity.
void admin_write_certs(struct json_out *out, const struct snapshot *snap);
void admin_write_identities(struct json_out *out, const struct snapshot *snap, int64_t now_wall_s);
// admin_config.c: an object.
void admin_write_config(struct json_out *out, const struct ztun_config *config);

// A workload that this node's ztun serves or is about to.
bool admin_is_local(const struct workload *workload, const char *node);

// Why a local pod is not served yet.
struct admin_pending {
    const char *uid, *reason; // borrowed
};
struct admin_pendings {
    struct admin_pending *items;
    size_t n, cap;
};
// admin_status.c. Sorted by uid; the caller frees items.
void admin_pendings_get(const struct control *control, struct admin_pendings *ret);
const char *admin_pending_reason(const struct admin_pendings *pendings, const char *uid); // or NULL

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
