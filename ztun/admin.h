// SPDX-License-Identifier: Apache-2.0
//
// Pages of the admin server that have a file of their own. Each answers exactly once, now or later.
// `arg` is the struct control.
#pragma once

#include "common/proc/proc_admin.h"

// admin_dump.c: the state in the form that istioctl ztunnel-config reads.
proc_admin_fn admin_config_dump;
// admin_flows.c: live flows of all workers.
proc_admin_fn admin_connections;
// admin_status.c: sources, served and pending pods, problems of objects.
proc_admin_fn admin_status;
