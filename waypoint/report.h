// SPDX-License-Identifier: Apache-2.0
//
// What a TCP connection leaves behind: istio_tcp_* metrics with reporter="waypoint", and one access
// log line. Of HTTP connections the exchanges are reported (elsewhere); here only what failed
// before it was anybody's.
//
// Thread: the worker's.
#pragma once

#include "waypoint/conn.h"

struct metric_series;

// A TCP connection has two ends: counts it as opened. The series is for report_tcp_end.
struct metric_series *report_tcp_opened(const struct wconn *conn);
// The bytes of a TCP connection that had been opened.
void report_tcp_end(const struct wconn *conn, struct metric_series *opened);
// wconn_done: the log line.
void report_end(const struct wconn *conn);
// A connection to the listener that never became a tunnel (handshake, identity, overload): one log
// line, and `failed` is counted. `detail` may be "".
void report_tunnel_failed(struct wworker *worker, const struct addr *src, const struct addr *dst,
                          enum flow_end reason, const char *detail);
// The connection is allowed, but would be denied if dry-run policies counted.
struct rbac_verdict;
void report_dry_run(const struct wconn *conn, const struct rbac_verdict *verdict);
