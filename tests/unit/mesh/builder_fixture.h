// SPDX-License-Identifier: Apache-2.0
//
// A builder fed with YAML.
#pragma once

#include "common/mesh/builder.h"
#include "common/mesh/kobj.h"
#include "tests/unit/mesh/mesh_fixture.h"

enum { FX_OBJECTS_MAX = 64 };
struct fx_objects {
    struct kobj *items[FX_OBJECTS_MAX];
    size_t n;
};
// Decodes all documents; any error fails the test.
void fx_decode(const char *yaml, struct fx_objects *ret_objects);
void fx_objects_free(struct fx_objects *objects);

struct mesh_builder *fx_builder(const char *node);
// With operations that compile texts: what they were called with is in the leaf, see fx_l7.
struct mesh_builder *fx_l7_builder(const char *node, const char *proxy_ns);
// "vs a/x@host ...; route a/y ...; delegate ..." of a service's routes; "dr ...; authz ..." of its
// policy. "-" = no entry.
const char *fx_l7_routes(const char *key);
const char *fx_l7_policy(const char *key);
// "routes KEY\n" and "policy KEY\n" for each call since the last one of this; sorted.
const char *fx_l7_calls(void);
// Sets all objects of the text and commits; the changes of the last call stay in fx_changes.
void fx_apply(struct mesh_builder *b, const char *yaml);
void fx_remove(struct mesh_builder *b, const char *yaml);
void fx_commit(struct mesh_builder *b);
extern struct builder_changes fx_changes;
void fx_builder_free(struct mesh_builder *b);

// All problems, one a line: "Kind ns/name: text".
const char *fx_problems(struct mesh_builder *b);

// Every leaf of the current snapshot as text, in order of keys.
char *fx_dump(void);

struct workload *fx_find_workload(const char *uid);
struct service *fx_find_service(const char *key);
struct policy *fx_find_policy(const char *key);
