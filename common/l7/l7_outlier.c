// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_outlier.h"

bool l7_outlier_of_reset(enum l7_reset reset, enum l7_result *ret_result, uint16_t *ret_status) {
    switch (reset) {
    case L7_RESET_CONNECT_REFUSED:
    case L7_RESET_CONNECT_LOCAL:
        *ret_result = L7_RESULT_CONNECT_FAILED;
        *ret_status = 503;
        return true;
    case L7_RESET_CONNECT_TIMEOUT:
        *ret_result = L7_RESULT_TIMEOUT;
        *ret_status = 504;
        return true;
    case L7_RESET_TERMINATION:
    case L7_RESET_REMOTE:
    case L7_RESET_REMOTE_REFUSED:
    case L7_RESET_PROTOCOL_ERROR:
        *ret_result = L7_RESULT_STATUS;
        *ret_status = 500;
        return true;
    default:
        return false;
    }
}

// Counts a failure. True for the one that completes the streak, which starts again.
static bool streak(atomic_uint *count, uint32_t threshold) {
    if (threshold == 0) {
        return false;
    }
    unsigned n = atomic_load_explicit(count, memory_order_relaxed);
    unsigned next;
    do {
        next = n + 1 >= threshold ? 0 : n + 1;
    } while (!atomic_compare_exchange_weak_explicit(count, &n, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return next == 0;
}

static void end_streak(atomic_uint *count) {
    // Mostly it is 0 already: no write to a line that all workers read.
    if (atomic_load_explicit(count, memory_order_relaxed) != 0) {
        atomic_store_explicit(count, 0, memory_order_relaxed);
    }
}

static bool is_failure(const struct l7_outlier_policy *policy, uint16_t status) {
    if (policy->n_codes == 0) {
        return status >= 500 && status <= 599;
    }
    for (uint32_t i = 0; i < policy->n_codes; i++) {
        if (policy->codes[i] == status) {
            return true;
        }
    }
    return false;
}

static bool count_status(const struct l7_outlier_policy *policy, struct l7_host_cell *host,
                         uint16_t status) {
    if (!is_failure(policy, status)) {
        end_streak(&host->n_5xx);
        end_streak(&host->n_gateway);
        return false;
    }
    bool is_gateway = status >= 502 && status <= 504;
    if (!is_gateway) {
        end_streak(&host->n_gateway);
    }
    bool is_full = is_gateway && streak(&host->n_gateway, policy->consecutive_gateway);
    return streak(&host->n_5xx, policy->consecutive_5xx) || is_full;
}

static bool count_result(const struct l7_outlier_report *report) {
    const struct l7_outlier_policy *policy = report->policy;
    struct l7_host_cell *host = report->host;
    switch ((enum l7_result)report->result) {
    case L7_RESULT_STATUS:
        return count_status(policy, host, report->status);
    case L7_RESULT_TIMEOUT:
    case L7_RESULT_CONNECT_FAILED:
        if (policy->splits_local_origin) {
            return streak(&host->n_local, policy->consecutive_local_origin);
        }
        return count_status(policy, host, report->result == L7_RESULT_TIMEOUT ? 504 : 503);
    case L7_RESULT_CONNECTED:
        if (policy->splits_local_origin) {
            end_streak(&host->n_local);
        }
        return false;
    }
    return false;
}

// Takes a place among the ejected, if the percentage has one.
static bool take_place(const struct l7_outlier_policy *policy, struct l7_outlier *cluster,
                       uint32_t n_hosts) {
    unsigned n = atomic_load_explicit(&cluster->n_ejected, memory_order_relaxed);
    do {
        if (((uint64_t)n + 1) * 100 > (uint64_t)n_hosts * MIN(policy->max_ejection_percent, 100U)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&cluster->n_ejected, &n, n + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void move_generation(struct l7_lb_cell *lb) {
    atomic_fetch_add_explicit(&lb->generation, 1, memory_order_release);
}

bool l7_outlier_report(const struct l7_outlier_report *report) {
    const struct l7_outlier_policy *policy = report->policy;
    struct l7_host_cell *host = report->host;
    if (!policy->is_on || !count_result(report) ||
        !take_place(policy, report->cluster, report->n_hosts)) {
        return false;
    }
    // Before the flag, which a tick looks at first. That somebody else does the same now changes
    // nothing: it is the same moment.
    atomic_store_explicit(&host->ejected_at_ms, report->now_ms, memory_order_relaxed);
    if (atomic_exchange_explicit(&host->is_ejected, true, memory_order_acq_rel)) {
        // It is out already: what was on its way to it came back.
        atomic_fetch_sub_explicit(&report->cluster->n_ejected, 1, memory_order_relaxed);
        return false;
    }
    unsigned n = atomic_load_explicit(&host->n_ejections, memory_order_relaxed);
    if (n * policy->base_ejection_ms <= policy->max_ejection_ms) {
        atomic_store_explicit(&host->n_ejections, n + 1, memory_order_relaxed);
    }
    move_generation(report->lb);
    return true;
}

static void bring_back(struct l7_outlier *cluster, struct l7_host_cell *host) {
    end_streak(&host->n_5xx);
    end_streak(&host->n_gateway);
    end_streak(&host->n_local);
    if (atomic_exchange_explicit(&host->is_ejected, false, memory_order_relaxed)) {
        atomic_fetch_sub_explicit(&cluster->n_ejected, 1, memory_order_relaxed);
    }
}

size_t l7_outlier_tick(const struct l7_outlier_policy *policy, struct l7_outlier *cluster,
                       struct l7_lb_cell *lb, struct l7_host_cell *const *hosts, size_t n_hosts,
                       uint64_t now_ms) {
    size_t n_back = 0;
    for (size_t i = 0; i < n_hosts; i++) {
        struct l7_host_cell *host = hosts[i];
        unsigned n = atomic_load_explicit(&host->n_ejections, memory_order_relaxed);
        if (!atomic_load_explicit(&host->is_ejected, memory_order_acquire)) {
            if (n > 0) {
                atomic_store_explicit(&host->n_ejections, n - 1, memory_order_relaxed);
            }
            continue;
        }
        uint64_t out_ms = MIN(MAX(n, 1U) * policy->base_ejection_ms, policy->max_ejection_ms);
        uint64_t since_ms = atomic_load_explicit(&host->ejected_at_ms, memory_order_relaxed);
        if (!policy->is_on || now_ms >= since_ms + out_ms) {
            bring_back(cluster, host);
            n_back++;
        }
    }
    if (n_back > 0) {
        move_generation(lb);
    }
    return n_back;
}

void l7_outlier_forget(struct l7_outlier *cluster, struct l7_host_cell *host) {
    bring_back(cluster, host);
    atomic_store_explicit(&host->n_ejections, 0, memory_order_relaxed);
}
