// SPDX-License-Identifier: Apache-2.0
//
// Who may use the waypoint for what, by what is known of a connection: client's identity and
// address, and the address that it called. HTTP attributes are not evaluated: policies that have
// them deny (builder_policy.c).
//
// Thread: the worker's.
#pragma once

#include "common/mesh/rbac.h"

struct wconn;

void authz_check(const struct wconn *conn, const struct snapshot *snap,
                 struct rbac_verdict *ret_verdict);
