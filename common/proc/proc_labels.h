// SPDX-License-Identifier: Apache-2.0
//
// Who the ends of a flow are, from its leaves: labels of the istio_tcp_* metrics (label set
// TRAFFIC), baggage. Slices borrow from the leaves.
//
// Thread: any.
#pragma once

#include "common/mesh/model.h"
#include "common/obs/metrics.h"
#include "common/proto/hbone.h"

// NULL: those labels stay as they are.
void proc_labels_ends(struct slice labels[METRIC_N_LABELS(TRAFFIC)], const struct workload *source,
                      const struct workload *destination, const struct service *service);
void proc_labels_baggage(const struct workload *workload, struct hbone_baggage *ret_baggage);
