// SPDX-License-Identifier: Apache-2.0
//
// Labels of the istio_tcp_* metrics (label set TRAFFIC) from the leaves of a flow. Slices borrow
// from the leaves.
//
// Thread: any.
#pragma once

#include "common/mesh/model.h"
#include "common/obs/metrics.h"

// NULL: those labels stay as they are.
void proc_labels_ends(struct slice labels[METRIC_N_LABELS(TRAFFIC)], const struct workload *source,
                      const struct workload *destination, const struct service *service);
