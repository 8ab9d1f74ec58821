// SPDX-License-Identifier: Apache-2.0
//
// The kinds by group and name: which are read, which are the waypoint's, which are known but not
// needed.
#pragma once

#include "common/mesh/kobj_priv.h"

struct kobj_type {
    uint8_t kind; // enum kobj_kind
    const char *group, *name; // "apps", "Deployment"
    const char *plural; // as the Kubernetes API has it in paths: "deployments"
    const char *versions; // accepted ones, with a space between each; the first is recommended
    bool is_namespaced;
    const struct schema_msg *msg;
};

// A kind that is read, or NULL.
const struct kobj_type *kobj_type_find(struct slice group, const char *name);
const struct kobj_type *kobj_type_get(enum kobj_kind kind); // NULL for those that are not read
// What a kind is that kobj_type_find does not know: KOBJ_WAYPOINT, KOBJ_UNUSED, KOBJ_UNKNOWN.
enum kobj_kind kobj_kind_other(struct slice group, const char *name);
// Of a kind that was retired: what to write instead. NULL for others.
const char *kobj_kind_retired(struct slice group, const char *name);
// What to say about a kind that kobj_kind_other knows as KOBJ_WAYPOINT.
const char *kobj_kind_note(struct slice group, const char *name);
// The API version of a kind that is read, "" for others and where several have the name.
const char *kobj_kind_version(const char *name, char out[128]);
// The nearest kind to a name that is not known, "" = none near.
const char *kobj_kind_hint(const char *name);
