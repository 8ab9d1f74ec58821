// SPDX-License-Identifier: Apache-2.0
//
// ztun.io/use-waypoint: auto under istiod, which knows only names of waypoints: the label
// istio.io/use-waypoint of a service that needs one is written by server-side apply, with a field
// manager of our own. So what others have written is theirs: it is not touched, and only what we
// wrote is taken away.
//
// Pure. Objects are as the API has them, with managedFields.
#pragma once

#include <jansson.h>
#include <stdint.h>

enum auto_bind_action {
    AUTO_BIND_NOTHING,
    AUTO_BIND_SET,
    AUTO_BIND_REMOVE,
    AUTO_BIND_OTHERS, // somebody else's label says something else: it stays
};

// `wanted`: the waypoint's name, "" = none; `manager`: ours.
enum auto_bind_action auto_bind_decide(const json_t *object, const char *manager,
                                       const char *wanted);
// What is to be applied; a new reference.
json_t *auto_bind_body(const json_t *object, const char *wanted);

// Somebody takes away what was written: after the nth time this long nothing is written.
enum { AUTO_BIND_PAUSE_S = 60, AUTO_BIND_PAUSE_MAX_S = 3600 };
uint32_t auto_bind_pause_s(uint32_t n_losses);
