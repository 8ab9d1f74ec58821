// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl explain`: what a flow from a pod to a destination would meet, found with the code
// that the proxy runs (route.h, rbac.h, locality.h) on a snapshot of the same configuration. The
// result is one JSON object; the text form is made from it.
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "common/base/rand.h"
#include "common/mesh/builder.h"
#include "common/mesh/config_store.h"
#include "common/mesh/route.h"

struct explain_live; // cmd_explain_live.h
struct explain_request; // cmd_explain_http.h

struct explain {
    const struct snapshot *snap;
    const struct config_store *store;
    const struct workload *source;
    const struct explain_request *request; // NULL: of a flow only
    struct explain_live *live; // with a request
    struct rand rand; // seeded: the same answer every time
    json_t *out;
};

// Fills explain->out. `from`: NS/POD (or NS/NAME of its Deployment or other owner; namespace
// `default` when there is none); `to`: HOST[:PORT], IP[:PORT]. False: *ret_error says why.
MUST_USE bool explain_run(struct explain *explain, const char *from, const char *to,
                          char **ret_error);
// The namespace of the waypoint that the destination is bound to, "" = none: what applies there
// depends on it (builder_options.proxy_namespace). After explain_run.
const char *explain_waypoint_ns(const struct explain *explain);
void explain_print(const json_t *out, FILE *file);

// ---- cmd_explain_capture.c ---------------------------------------------------------------------

struct workload *explain_find_pod(const struct snapshot *snap, const char *name, char **ret_error);
// Whether ztun captures what the pod sends (outbound) or what is sent to it, and why (heap).
bool explain_is_captured(const struct explain *explain, const struct workload *workload,
                         bool is_outbound, char **ret_reason);

// ---- cmd_explain_dns.c -------------------------------------------------------------------------

struct explain_dns {
    const struct service *service;
    char name[256]; // the host name that matched
    struct ip ip; // the first that fits the source's families; not set: none
};
// What the DNS proxy answers to the pod. False: not a name of the mesh.
bool explain_resolve(const struct snapshot *snap, const struct workload *client, const char *host,
                     struct explain_dns *ret);

// ---- cmd_explain_policy.c ----------------------------------------------------------------------

// {"policies": [{policy, action, rule, ...}], "allowed", "reason"}: a new object.
json_t *explain_policies(const struct snapshot *snap, const struct workload *destination,
                         const struct rbac_request *request);
// "from principals [...] to ports [...]" of a rule; the caller frees.
char *explain_rule_text(const struct policy_rule *rule);

// ---- cmd_explain_ends.c ------------------------------------------------------------------------

// Every endpoint of the service: in or out, why, and what the destination would say. New array.
// `chosen`: the workload that the flow went to.
json_t *explain_candidates(const struct explain *explain, const struct service *service, int port,
                           const struct addr *called, const struct workload *chosen,
                           bool is_captured, bool is_waypoint);
// What the destination's ztun says to a flow: by HBONE (`authority`), or plain. New object.
json_t *explain_inbound(const struct explain *explain, const struct workload *destination,
                        const struct addr *target, const char *authority);

// ---- cmd_explain_hops.c ------------------------------------------------------------------------

// Interfaces, redirection rules with counters, sockets of a namespace. New object.
json_t *explain_hop(const char *title, const char *netns);
void explain_print_hop(const json_t *hop, FILE *file);
