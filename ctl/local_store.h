// SPDX-License-Identifier: Apache-2.0
//
// The lab's objects, and the effective directory that shows them to the proxies: one JSON file per
// object, written under another name and renamed, only when its text changed. Thread: supervisor.
#pragma once

#include "ctl/local_lab.h"

// kubectl's defaults on a document: namespace, cluster-scoped kinds, Secret stringData.
void lab_store_default(json_t *doc);
// Borrowed; NULL when there is none. `ns` is "" for cluster-scoped kinds.
struct lab_object *lab_store_find(struct lab *lab, const char *kind, const char *ns,
                                  const char *name);
// Adds a new object; the reference to `doc` passes to the store. Gives it uid, creationTimestamp
// and generation. The caller has checked that there is none of that name, and the cap.
struct lab_object *lab_store_add(struct lab *lab, json_t *doc, bool is_user);
// Replaces the document of an object: keeps uid, creation time and status, counts the generation.
void lab_store_replace(struct lab *lab, struct lab_object *object, json_t *doc);
// The document was changed in place.
void lab_store_touch(struct lab *lab, struct lab_object *object);
void lab_store_remove(struct lab *lab, struct lab_object *object); // the file goes at once
// Writes what changed. Returns how many files.
int lab_store_flush(struct lab *lab);
void lab_store_clear(struct lab *lab);

// The controller among the ownerReferences, NULL = none.
const json_t *lab_owner(const json_t *doc);
bool lab_is_owned_by(const json_t *doc, const struct lab_object *owner);
json_t *lab_owner_references(const struct lab_object *owner); // new reference

#define LAB_OBJECT(node) LIST_ITEM(node, struct lab_object, link)
