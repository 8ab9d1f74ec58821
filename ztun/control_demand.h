// SPDX-License-Identifier: Apache-2.0
//
// The control thread's half of discovery on demand (demand.h): questions of the workers go to
// istiod, answers back to whoever asked. And what is wanted without a question: the workloads of
// the pods that are served.
#pragma once

#include "common/base/slice.h"

struct control;
struct ztun;

// From a worker, which has not asked for the name since it was answered.
void control_demand_send(struct ztun *ztun, uint32_t worker, const char *name);

// Control thread. Of proc_xds.
void control_demand_answered(void *arg, struct slice name, bool exists);
// The workload of a pod that is served, or will be; of no effect unless istiod is
// asked on demand.
void control_demand_pod(struct control *control, const char *uid);
