// SPDX-License-Identifier: Apache-2.0
//
// A waypoint under istiod: workloads and services are istiod's leaves (xds_store.h), and none is
// made of objects; objects add what istiod does not send. So a service or a workload is there once,
// whoever tells of it.
//
//   labels of workloads (subsets, and what metrics show)    Pod, WorkloadEntry, ServiceEntry
//   names of ports; a port's protocol, when the object says one    Service, ServiceEntry
//   whether it is external, or DYNAMIC_DNS                  ServiceEntry
//   what a waypoint's own Service is                        Gateway, GatewayClass
//
// L7 objects are compiled for istiod's services as for those of objects. AuthorizationPolicies that
// target something are the builder's, all others istiod's.
//
// All of it runs within builder_commit() but for the touches, which mark.
// Thread: control.
#pragma once

#include "common/mesh/builder.h"

struct xds_store;

// Before the first object. `store` outlives the builder; its changes are published by
// builder_commit() from then on, and xds_store_commit() must not be called.
void builder_set_istiod(struct mesh_builder *b, struct xds_store *store);

// What the store asks for while it merges.

// `leaf` as it came, or with what was added before: with what its object says now. One reference
// for the caller, on a new leaf or on `leaf`.
struct workload *builder_istiod_workload(struct mesh_builder *b, struct workload *leaf);
// As service_new(); protocols[i] is what istiod said of spec->ports[i].
struct service *builder_istiod_service(struct mesh_builder *b, const struct service *spec,
                                       const uint8_t *protocols);
// The leaf is in the draft; or the service with that key went.
void builder_istiod_published(struct mesh_builder *b, const struct service *leaf);
void builder_istiod_gone(struct mesh_builder *b, const char *key);
// The policy of that name is one with targets, of the builder's own.
bool builder_istiod_has_policy(struct mesh_builder *b, const char *key);
