// SPDX-License-Identifier: Apache-2.0
//
// Ketama's ring and Maglev's table as Envoy builds them, so that the same hosts and keys meet here
// and there; and the turns of a weighted round robin.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#include "common/l7/l7_lb_priv.h"

enum { RING_MAX = 8 << 20, KEY_MAX = ADDR_TEXT_MAX + 24 };

static size_t host_key(const struct l7_lb *lb, uint32_t host, char key[KEY_MAX]) {
    return strlen(addr_text(&lb->hosts[host].addr, key));
}

void l7_table_fini(struct l7_table *table) {
    free(table->ring);
    free(table->slots);
    *table = (struct l7_table){0};
}

static int compare_ring(const void *a, const void *b) {
    const struct l7_ring_entry *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return (x->host > y->host) - (x->host < y->host);
}

void l7_table_make_ring(struct l7_table *table, const struct l7_lb *lb,
                        const struct l7_level *level, size_t min_size) {
    double sum = level->sums[level->n_live - 1], min_share = 1;
    for (uint32_t i = 0; i < level->n_live; i++) {
        min_share = MIN(min_share, level->weights[i] / sum);
    }
    double scale = MIN(ceil(min_share * (double)min_size) / min_share, (double)RING_MAX);
    size_t cap = (size_t)ceil(scale) + level->n_live;
    table->ring = xcalloc(cap, sizeof(*table->ring));
    // The targets are running sums, so that rounding does not make the ring larger.
    double target = 0;
    for (uint32_t i = 0; i < level->n_live; i++) {
        char key[KEY_MAX];
        size_t len = host_key(lb, level->live[i], key);
        target += scale * (level->weights[i] / sum);
        for (unsigned turn = 0; (double)table->n < target && table->n < cap; turn++) {
            int n = snprintf(key + len, sizeof(key) - len, "_%u", turn);
            table->ring[table->n++] = (struct l7_ring_entry){.hash = XXH64(key, len + (size_t)n, 0),
                                                             .host = level->live[i]};
        }
    }
    qsort(table->ring, table->n, sizeof(*table->ring), compare_ring);
}

struct maglev_host {
    uint64_t offset, skip, next;
    double weight, target;
};

void l7_table_make_maglev(struct l7_table *table, const struct l7_lb *lb,
                          const struct l7_level *level, size_t size) {
    struct maglev_host *hosts = xcalloc(level->n_live, sizeof(*hosts));
    double max = 0, sum = level->sums[level->n_live - 1];
    for (uint32_t i = 0; i < level->n_live; i++) {
        char key[KEY_MAX];
        size_t len = host_key(lb, level->live[i], key);
        hosts[i] = (struct maglev_host){.offset = XXH64(key, len, 0) % size,
                                        .skip = XXH64(key, len, 1) % (size - 1) + 1,
                                        .weight = level->weights[i] / sum};
        max = MAX(max, hosts[i].weight);
    }
    table->slots = xcalloc(size, sizeof(*table->slots));
    memset(table->slots, 0xff, size * sizeof(*table->slots));
    table->n = size;
    size_t n_set = 0;
    for (uint64_t round = 1; n_set < size; round++) {
        for (uint32_t i = 0; i < level->n_live && n_set < size; i++) {
            struct maglev_host *host = &hosts[i];
            // Who weighs a third of the heaviest has a turn in every third round.
            if ((double)round * host->weight < host->target) {
                continue;
            }
            host->target += max;
            uint64_t slot;
            do {
                slot = (host->offset + host->skip * host->next++) % size;
            } while (table->slots[slot] != UINT32_MAX);
            table->slots[slot] = level->live[i];
            n_set++;
        }
    }
    free(hosts);
}

struct turn {
    double at;
    uint32_t host;
};

static int compare_turns(const void *a, const void *b) {
    const struct turn *x = a, *y = b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    return (x->host > y->host) - (x->host < y->host);
}

// Weights as whole numbers of turns: as they are when they are whole and few, else in proportion.
static size_t count_turns(const struct l7_level *level, uint32_t *ret_turns) {
    size_t max = MAX((size_t)L7_LB_SCHEDULE_MAX, (size_t)level->n_live);
    double sum = level->sums[level->n_live - 1], factor = 1;
    bool is_whole = sum <= (double)max;
    for (uint32_t i = 0; i < level->n_live; i++) {
        is_whole = is_whole && level->weights[i] == floor(level->weights[i]);
    }
    if (!is_whole) {
        factor = (double)max / sum;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < level->n_live; i++) {
        double turns = round(level->weights[i] * factor);
        ret_turns[i] = turns >= 1 ? (uint32_t)turns : 1;
        n += ret_turns[i];
    }
    return n;
}

void l7_table_make_schedule(struct l7_table *table, const struct l7_level *level) {
    uint32_t *counts = xcalloc(level->n_live, sizeof(*counts));
    size_t n = count_turns(level, counts);
    struct turn *turns = xcalloc(n, sizeof(*turns));
    for (uint32_t i = 0; i < level->n_live; i++) {
        for (uint32_t k = 0; k < counts[i]; k++) {
            turns[table->n++] = (struct turn){(k + 0.5) / counts[i], level->live[i]};
        }
    }
    qsort(turns, n, sizeof(*turns), compare_turns);
    table->slots = xcalloc(n, sizeof(*table->slots));
    for (size_t i = 0; i < n; i++) {
        table->slots[i] = turns[i].host;
    }
    free(turns);
    free(counts);
}

uint32_t l7_table_find(const struct l7_table *table, uint64_t hash, unsigned attempt) {
    if (table->ring == NULL) {
        if (attempt > 0) {
            hash ^= UINT64_MAX - attempt + 1;
        }
        return table->slots[hash % table->n];
    }
    size_t low = 0, high = table->n; // the first entry that is not below is in [low, high]
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->ring[middle].hash < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return table->ring[(low + attempt) % table->n].host;
}
