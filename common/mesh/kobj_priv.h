// SPDX-License-Identifier: Apache-2.0
//
// Tables of the kinds, each in its own file, for kobj.c.
#pragma once

#include "common/mesh/kobj.h"
#include "common/mesh/schema.h"

extern const struct schema_msg kobj_meta_msg, kobj_label_selector_msg, kobj_condition_msg;
extern const struct schema_msg kobj_meta_only_msg; // Namespace, ServiceAccount
extern const struct schema_msg kobj_node_msg, kobj_config_map_msg, kobj_secret_msg;
extern const struct schema_msg kobj_pod_msg, kobj_pod_spec_msg;
extern const struct schema_msg kobj_deployment_msg, kobj_replica_set_msg, kobj_stateful_set_msg;
extern const struct schema_msg kobj_service_msg, kobj_endpoint_slice_msg, kobj_endpoints_msg;
extern const struct schema_msg kobj_probe_msg; // Pod
extern const struct schema_msg kobj_workload_entry_msg, kobj_workload_group_msg,
    kobj_service_entry_msg;
extern const struct schema_msg kobj_authz_msg, kobj_peer_auth_msg;
extern const struct schema_msg mesh_config_msg, mesh_locality_msg;
extern const struct schema_msg kobj_retry_msg; // of VirtualServices and MeshConfig
extern const struct schema_msg kobj_virtual_service_msg, kobj_destination_rule_msg;
extern const struct schema_msg kobj_gateway_msg, kobj_gateway_class_msg, kobj_http_route_msg,
    kobj_grpc_route_msg, kobj_reference_grant_msg;

extern const struct schema_name kobj_protocol_names[];

// Fields that each object has and that kobj.c reads itself.
#define KOBJ_HEAD F_ANY("apiVersion"), F_ANY("kind"), F_ANY("metadata")

// What follows from other fields, on the finished object.
void kobj_pod_spec_finish(struct kobj_pod_spec *spec);
void kobj_pod_finish(struct kobj_pod *pod);
void kobj_service_finish(struct kobj_service *service);
void kobj_node_finish(struct kobj_node *node);
struct kobj_virtual_service;
void kobj_virtual_service_finish(struct kobj_virtual_service *vs);
struct kobj_route;
void kobj_route_finish(struct kobj_route *route);

// The mesh configuration in a ConfigMap: reads the text of data.mesh, a document of its own.
// NULL when there were errors (added). The tree is in `arena`.
const struct cfg_node *mesh_config_parse(struct schema_ctx *ctx, const struct cfg_pair *pair,
                                         struct arena *arena);
