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

// proc_dump_list.c: a table as one array value, in the order of keys. It is written in steps of
// bounded work (but for the first one, which takes the table's pointers), the same `out` in all of
// them; what is written is the snapshot of the beginning, which need not be current any more.
enum proc_dump_kind {
    PROC_DUMP_WORKLOADS,
    PROC_DUMP_SERVICES,
    PROC_DUMP_POLICIES,
    PROC_DUMP_CERTS,
};
struct proc_dump_list;
struct proc_dump_list *proc_dump_list_new(enum proc_dump_kind kind, const struct snapshot *snap);
void proc_dump_list_free(struct proc_dump_list *list); // NULL ok
// False: the array is whole.
bool proc_dump_list_step(struct proc_dump_list *list, struct json_out *out);

// Those leaves of a table that are wanted (`is_wanted` NULL: all) in the order of their keys, at
// once: heap array of *ret_n, the caller's.
void **proc_dump_sorted(const struct pmap *map, bool (*is_wanted)(void *arg, const void *leaf),
                        void *arg, size_t *ret_n);

// proc_dump_certs.c: for /status, one object for each identity.
void proc_dump_identities(struct json_out *out, const struct snapshot *snap, int64_t now_wall_s);
// proc_dump_config.c: members of an open object, the settings in effect.
struct proc_config;
void proc_dump_config(struct json_out *out, const struct proc_config *config);
// proc_dump_status.c: members of an open object: "source"; "problems" and "waypointPolicies".
void proc_dump_source(struct json_out *out, struct source_file *source);
void proc_dump_objects(struct json_out *out, struct mesh_builder *builder);
