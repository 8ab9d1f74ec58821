// SPDX-License-Identifier: Apache-2.0
//
// The local pods among the workloads that a commit changes, whatever the source: what becomes
// builder_changes.locals. Thread: control.
#pragma once

#include "common/mesh/builder.h"

struct builder_locals {
    struct builder_local *items;
    size_t n, cap;
};

// A workload came (old NULL), changed or went (leaf NULL). It is noted when it is, or was, a pod of
// `node` ("" = none is).
void builder_locals_note(struct builder_locals *locals, const char *node, struct workload *old,
                         struct workload *leaf);

// Of two leaves: the lists of policies that select them.
bool workload_same_policies(const struct workload *a, const struct workload *b);
