// SPDX-License-Identifier: Apache-2.0
//
// A load balancer over hosts at places, and what it picks.
#pragma once

#include "common/l7/l7_lb.h"

enum { HOSTS_MAX = 40 };

struct place {
    const char *region, *zone, *subzone, *node, *network, *label;
    uint32_t weight;
};

struct lb_bed { // a cluster
    struct workload_common commons[HOSTS_MAX];
    struct workload workloads[HOSTS_MAX];
    struct label labels[HOSTS_MAX];
    struct endpoint endpoints[HOSTS_MAX];
    uint16_t ports[1];
    struct service service;
    struct l7_settings settings;
    struct l7_host hosts[HOSTS_MAX];
    struct l7_host_cell cells[HOSTS_MAX];
    struct l7_lb_cell cell;
    struct l7_lb *lb;
    struct rand rand;
    uint64_t now_ms;
    size_t n;
};

// n hosts, of weight 1 and nowhere without `places`; `kind`: the algorithm.
void lb_bed_init(struct lb_bed *bed, size_t n, const struct place *places, uint8_t kind);
// Makes the balancer; `source`: whose locality counts.
void lb_bed_start(struct lb_bed *bed, const struct workload *source);
void lb_eject(struct lb_bed *bed, size_t first, size_t n, bool is_ejected);
// The number of a host, -1: none.
int lb_pick(struct lb_bed *bed, const struct l7_lb_pick *more);
void lb_count(struct lb_bed *bed, int n_picks, int counts[HOSTS_MAX]);
// Chi-square of the counts against shares (which add up to 1), below the 99.9 % quantile of n - 1
// degrees of freedom (Wilson and Hilferty).
void assert_shares(const int *counts, const double *shares, size_t n);
