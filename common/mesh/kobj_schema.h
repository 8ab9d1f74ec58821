// SPDX-License-Identifier: Apache-2.0
//
// JSON Schemas (draft 7) of the kinds that are read, made from the tables that read them, with
// what is known of labels and annotations. See schema_json.h for what is in them.
//
// Thread: any; pure.
#pragma once

#include "common/base/buf.h"
#include "common/mesh/kobj.h"

// What a kind is called: group ("" = core), versions with a space between each, the first one
// recommended. False for those that are not read.
bool kobj_schema_info(enum kobj_kind kind, const char **ret_group, const char **ret_versions);
// The kind of a name as "VirtualService", "virtualservice" or "networking.istio.io/VirtualService";
// KOBJ_UNKNOWN when there is none.
enum kobj_kind kobj_schema_find(const char *name);

// Appends a schema, a whole JSON text with an end of line.
void kobj_schema_kind(enum kobj_kind kind, struct buf *out); // of a kind that is read
// Of any object, and of Lists: which kind it is decides. Kinds that are not read are not looked at.
void kobj_schema_all(struct buf *out);
// Of the text `mesh` in the ConfigMap istio.
void kobj_schema_mesh(struct buf *out);
