// SPDX-License-Identifier: Apache-2.0
//
// Parts of a snapshot as JSON, in the form of ztunnel's /config_dump (names and values of its
// serialised types).
//
// Thread: control.
#pragma once

#include "common/base/json_out.h"
#include "common/mesh/snapshot.h"

struct mesh_builder;
struct source_file;

// Leaves of a table in the order of their keys: heap array of *ret_n, the caller's.
void **proc_dump_sorted(const struct pmap *map, size_t *ret_n);

// proc_dump_mesh.c: each writes one array value.
void proc_dump_workloads(struct json_out *out, const struct snapshot *snap);
void proc_dump_services(struct json_out *out, const struct snapshot *snap);
// proc_dump_policy.c
void proc_dump_policies(struct json_out *out, const struct snapshot *snap);
// proc_dump_certs.c: ztunnel's certificates; and, for /status, one object for each identity.
void proc_dump_certs(struct json_out *out, const struct snapshot *snap);
void proc_dump_identities(struct json_out *out, const struct snapshot *snap, int64_t now_wall_s);
// proc_dump_status.c: members of an open object: "source"; "problems" and "waypointPolicies".
void proc_dump_source(struct json_out *out, const struct source_file *source);
void proc_dump_objects(struct json_out *out, struct mesh_builder *builder);
