// SPDX-License-Identifier: Apache-2.0
//
// Pages of the admin server that have a file of their own. Each answers exactly once, now or later.
#pragma once

#include "common/net/http_server.h"

struct control;

// admin_dump.c: the state in the form that istioctl ztunnel-config reads.
void admin_config_dump(struct control *control, struct http_exchange *exchange,
                       const struct http_query *query);
// admin_flows.c: live flows of all workers.
void admin_connections(struct control *control, struct http_exchange *exchange,
                       const struct http_query *query);
// admin_status.c: sources, served and pending pods, problems of objects.
void admin_status(struct control *control, struct http_exchange *exchange,
                  const struct http_query *query);
// admin_heap.c: heap profiles of jemalloc; CPU profiles are not ours.
void admin_heap(struct control *control, struct http_exchange *exchange,
                const struct http_query *query);
void admin_heap_profiling(struct control *control, struct http_exchange *exchange,
                          const struct http_query *query);
void admin_cpu_profile(struct control *control, struct http_exchange *exchange,
                       const struct http_query *query);
void admin_reply_text(struct http_exchange *exchange, int status, const char *text);
