// SPDX-License-Identifier: Apache-2.0
//
// The controller of Gateways whose class is a waypoint's (istio-waypoint, ztun-waypoint), as istiod
// plays it: a Deployment of our waypoint with the Gateway's name, its ServiceAccount and Service,
// and the Gateway's status. Thread: supervisor.
#pragma once

#include "ctl/local_lab.h"

void lab_gateway_reconcile(struct lab *lab);
// A waypoint's Gateway, that is, one that this controller serves.
bool lab_gateway_is_ours(const json_t *doc);
bool lab_gateway_is_programmed(const json_t *doc);
json_t *lab_gateway_status(const json_t *doc); // for `status`
