// SPDX-License-Identifier: Apache-2.0
//
// What a flow leaves behind: metrics (ambient-protocols §8.1) and one access log line (§8.2).
#pragma once

#include "ztun/flow.h"

// The flow is joined: counts opened, logs "connection opened" at debug level.
void report_opened(struct flow *flow);
// The end: counts bytes, closed (or failed), logs "connection complete", or "connection failed" for a
// flow that was refused before it had two ends.
void report_closed(struct flow *flow);
