// SPDX-License-Identifier: Apache-2.0
//
// Outlier detection: hosts that fail several times in a row are left out for a while
// (DestinationRule outlierDetection, Envoy's arithmetic).
//
// - Results come from the workers (l7_outlier_report); the threshold's failure ejects at once,
// unless
//   (ejected + 1) / hosts would exceed maxEjectionPercent: with the default 10 % a cluster of fewer
//   than 10 hosts never loses one. A streak that could not eject starts again.
// - Returns are looked at once per interval (l7_outlier_tick): after base * n, at most
//   max_ejection_ms, where n counts the host's ejections and goes down by one in each interval that
//   it was well.
//
// The numbers are the process's: all workers share a cluster's struct l7_outlier and the hosts'
// cells (l7_lb.h). Thread: reports from any, ticks from one at a time; time is monotonic.
#pragma once

#include "common/l7/l7_lb.h"
#include "common/l7/l7_retry.h"

struct l7_outlier { // of one cluster
    atomic_uint n_ejected;
};

// How a request to a host ended.
enum l7_result {
    L7_RESULT_STATUS, // a response's head came, or a reset of the stream counts as 500
    L7_RESULT_TIMEOUT, // locally: as a 504 unless local origin is split
    L7_RESULT_CONNECT_FAILED, // locally: as a 503 unless local origin is split
    L7_RESULT_CONNECTED, // locally well: counts only when local origin is split
};
// What a reset says about the host. False: nothing (an overflow, a reset of our own).
bool l7_outlier_of_reset(enum l7_reset reset, enum l7_result *ret_result, uint16_t *ret_status);

struct l7_outlier_report {
    const struct l7_outlier_policy *policy;
    struct l7_outlier *cluster;
    struct l7_lb_cell *lb; // its generation moves with an ejection
    struct l7_host_cell *host;
    uint32_t n_hosts; // of the cluster, with those that are ejected
    uint8_t result; // enum l7_result
    uint16_t status; // STATUS
    uint64_t now_ms;
};
// True: this report ejected the host.
bool l7_outlier_report(const struct l7_outlier_report *report);

// Once per policy->interval_ms. Returns how many hosts came back. Without a policy (is_on false: it
// went) all come back.
size_t l7_outlier_tick(const struct l7_outlier_policy *policy, struct l7_outlier *cluster,
                       struct l7_lb_cell *lb, struct l7_host_cell *const *hosts, size_t n_hosts,
                       uint64_t now_ms);
// The host leaves the cluster.
void l7_outlier_forget(struct l7_outlier *cluster, struct l7_host_cell *host);
