// SPDX-License-Identifier: Apache-2.0
//
// Gateways that are waypoints, as JSON trees. Pure.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

#define WAYPOINT_CLASS_ISTIO "istio-waypoint"
#define WAYPOINT_CLASS_ZTUN "ztun-waypoint"
// As kubectl takes it: there are other kinds of this name.
#define WAYPOINT_RESOURCE "gateways.gateway.networking.k8s.io"

struct waypoint_spec { // texts are borrowed
    const char *name;
    const char *ns; // "" = not said: it is left to whoever applies it
    const char *traffic, *revision; // NULL: no label
    const char *class_name;
    const char *service; // host name, or the name of a Service beside it
    const char *cluster_domain;
};

// The Gateway: listener HBONE on 15008, and the Service that has the waypoint's processes behind it
// as its one address of type Hostname.
json_t *waypoint_gateway(const struct waypoint_spec *spec);
// The name and the namespace of the Service that it names by its address. False: by none.
bool waypoint_service(const json_t *gateway, char name[64], char ns[64]);
// The Service has port 15008, on which the mesh reaches a waypoint.
bool waypoint_has_port(const json_t *service);
// By its class one that ztun can be.
bool waypoint_is_ours(const json_t *gateway);
// The condition of its status that says most: Programmed, else the first one that is not true,
// else the first one; NULL: it has none.
const json_t *waypoint_condition(const json_t *gateway);
bool waypoint_is_programmed(const json_t *gateway);
// Service, workload, all or none: its label, else what counts without.
const char *waypoint_traffic(const json_t *gateway);
// Sorted by namespace and name, only ours: a new array.
json_t *waypoint_list(const json_t *gateways);
