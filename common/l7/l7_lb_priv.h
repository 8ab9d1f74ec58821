// SPDX-License-Identifier: Apache-2.0
//
// The insides of a balancer.
#pragma once

#include "common/l7/l7_lb.h"

enum { L7_LB_SCHEDULE_MAX = 4096 }; // entries of a round robin by weight, unless hosts are more

struct l7_ring_entry {
    uint64_t hash;
    uint32_t host;
};

// What picks from a list of hosts by hash or by turn. Made when it is asked for the first time
// after a change.
struct l7_table {
    struct l7_ring_entry *ring; // RING
    uint32_t *slots; // MAGLEV: host by slot; ROUND_ROBIN with weights: host by turn
    size_t n;
};

struct l7_level {
    const char *name;
    uint32_t *hosts; // all, as indices of l7_lb.hosts
    uint32_t n_hosts;
    uint32_t weight; // of a group
    // As of the last refresh:
    uint32_t n_healthy;
    uint32_t *live; // who may be picked: the healthy ones, in panic all
    double *weights; // of `live`, with warm-up
    double *sums; // running sums of them
    uint32_t n_live;
    bool is_uniform; // all weights of `live` are the same
    bool is_panic, has_table;
    unsigned health; // 0 to 100: the share of its traffic that it can take
    uint64_t load; // its part of all levels' sum
    struct l7_table table;
};

struct l7_lb {
    struct l7_host *hosts;
    size_t n_hosts;
    const struct l7_settings *settings;
    struct l7_lb_cell *cell;
    struct l7_level *levels;
    size_t n_levels;
    bool is_grouped; // levels are weighted groups, not priorities
    bool is_fresh;
    unsigned generation; // of the cell, as of the last refresh
    uint64_t next_refresh_ms; // UINT64_MAX: none is warming up
    uint64_t load_sum;
};

// l7_lb_places.c. Distributes hosts over levels: ret_levels[i] of host i is a number (smaller ones
// are better), or L7_NO_LEVEL: not used from here. Numbers may have gaps.
enum { L7_NO_LEVEL = UINT32_MAX };
struct l7_places {
    const struct l7_distribute *distribute; // not NULL: levels are its groups, in order
};
void l7_lb_places(const struct l7_lb_spec *spec, uint32_t *ret_levels, struct l7_places *ret);

// l7_lb_table.c
void l7_table_make_ring(struct l7_table *table, const struct l7_lb *lb,
                        const struct l7_level *level, size_t min_size);
void l7_table_make_maglev(struct l7_table *table, const struct l7_lb *lb,
                          const struct l7_level *level, size_t size);
void l7_table_make_schedule(struct l7_table *table, const struct l7_level *level);
// The host of a hash; `attempt` leads to others.
uint32_t l7_table_find(const struct l7_table *table, uint64_t hash, unsigned attempt);
void l7_table_fini(struct l7_table *table);
