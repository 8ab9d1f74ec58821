// SPDX-License-Identifier: Apache-2.0
//
// The L7 part of the waypoint's dump: listeners, the rules of the services that are bound here, and
// the clusters that requests go to, with what is in use now: breakers, active requests,
// connections, ejections. Live numbers are the process's shared ones (cluster.h): no worker is
// asked.
//
// It is written in steps, a service each, so that a large mesh does not hold up the control
// thread: what is written is the snapshot of the beginning.
//
// Thread: control.
#pragma once

#include "common/base/json_out.h"
#include "common/mesh/snapshot.h"
#include "waypoint/config.h"

struct admin_l7;

// `is_listening`: the HBONE listener is open.
struct admin_l7 *admin_l7_new(const struct waypoint_config *config, const struct snapshot *snap,
                              bool is_listening);
void admin_l7_free(struct admin_l7 *dump); // NULL ok
// Writes the next piece of the members "listeners", "routes" and "clusters" of the object that is
// open in `out`, the same in all calls. False: that was the last one.
bool admin_l7_step(struct admin_l7 *dump, struct json_out *out);
