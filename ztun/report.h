// SPDX-License-Identifier: Apache-2.0
//
// What a flow leaves behind: metrics (ambient-protocols §8.1) and one access log line (§8.2).
#pragma once

#include "ztun/flow.h"

// The flow is joined: counts opened, logs "connection opened" at debug level.
void report_opened(struct flow *flow);
// A flow goes to, or came from, another process: the gauge alone.
void report_handed_over(struct flow *flow);
void report_taken_over(struct flow *flow);
// The end: counts bytes, closed (or failed), logs "connection complete", or "connection failed" for
// a flow that was refused before it had two ends.
void report_closed(struct flow *flow);
// A connection to 15008 that never became a tunnel (handshake, identity, overload): one log line,
// and `failed` is counted. `detail` may be "".
void report_tunnel_failed(struct zpod *zpod, const struct addr *src, const struct addr *dst,
                          enum flow_end reason, const char *detail);
// The same of a SOCKS5 handshake that never became a flow.
void report_socks_failed(struct zpod *zpod, const struct addr *src, const struct addr *dst,
                         enum flow_end reason, const char *detail);
// A connection goes to an endpoint that is a host name, of which DNS gave the address.
void report_on_demand_dns(const struct flow *flow);
struct rbac_verdict;
// A flow that is allowed, but would be denied if dry-run policies counted: one log line.
// One line for what policies decided, as ztunnel has it, and one for each dry-run policy; at info
// with authz_policy_info_logging, else at debug. And where dry-run policies would deny.
void report_policies(const struct flow *flow, const struct rbac_verdict *verdict);
