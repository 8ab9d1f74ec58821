// SPDX-License-Identifier: Apache-2.0
//
// One copy of what many workload leaves have in common (model.h).
//
// Equal contents have equal pointers while they live. Reference counted; thread: any (a worker may
// hold the last reference to a leaf). Finding one, and letting go of the last reference, is under
// one mutex that no packet path takes; counting is not.
#pragma once

#include "common/mesh/model.h"

// The shared copy of `spec` (texts may be NULL), with one reference for the caller. Cheaper when
// `like`, a shared copy that the caller has a reference on (or NULL), is equal.
const struct workload_common *workload_common_get(const struct workload_common *spec,
                                                  const struct workload_common *like);
void workload_common_unref(const struct workload_common *common);

size_t workload_common_count(void); // copies alive
