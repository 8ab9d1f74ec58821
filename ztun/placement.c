// SPDX-License-Identifier: Apache-2.0
#include "ztun/placement.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/clock.h"

enum {
    WORKER_BITS = 6,
    BUSY_BITS = 10, // permille
    BUSY_VALID_MS = 250, // a worker that sleeps says nothing
    FULLY_BUSY = 1000,
};
static const uint64_t WORKER_MASK = (1U << WORKER_BITS) - 1;

// ---- who has a tunnel --------------------------------------------------------------------------

static uint64_t entry(uint64_t key, uint32_t worker) {
    uint64_t tag = key & ~WORKER_MASK;
    return (tag != 0 ? tag : WORKER_MASK + 1) | worker;
}

static uint32_t bucket_of(uint64_t key) {
    return (uint32_t)(key >> 32) & (PLACE_BUCKETS - 1);
}

static void add(struct place_bucket *bucket, uint64_t word) {
    for (int i = 0; i < PLACE_WAYS; i++) {
        if (atomic_load_explicit(&bucket->ways[i], memory_order_relaxed) == word) {
            return;
        }
    }
    for (int i = 0; i < PLACE_WAYS; i++) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong_explicit(&bucket->ways[i], &none, word,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            return;
        }
    }
    // Full: somebody's hint is lost.
    uint32_t victim = (uint32_t)(word >> WORKER_BITS ^ word) & (PLACE_WAYS - 1);
    atomic_store_explicit(&bucket->ways[victim], word, memory_order_relaxed);
}

void placement_tunnel(struct placement *placement, uint32_t worker, uint64_t key, bool has_room) {
    struct place_bucket *bucket = &placement->buckets[bucket_of(key)];
    uint64_t word = entry(key, worker);
    if (has_room) {
        add(bucket, word);
        return;
    }
    for (int i = 0; i < PLACE_WAYS; i++) {
        uint64_t mine = word;
        (void)atomic_compare_exchange_strong_explicit(&bucket->ways[i], &mine, 0,
                                                      memory_order_relaxed, memory_order_relaxed);
    }
}

uint64_t placement_owners(const struct placement *placement, uint64_t key) {
    const struct place_bucket *bucket = &placement->buckets[bucket_of(key)];
    uint64_t tag = entry(key, 0), owners = 0;
    for (int i = 0; i < PLACE_WAYS; i++) {
        uint64_t word = atomic_load_explicit(&bucket->ways[i], memory_order_relaxed);
        if ((word & ~WORKER_MASK) == tag) {
            owners |= UINT64_C(1) << (word & WORKER_MASK);
        }
    }
    return owners;
}

// ---- load --------------------------------------------------------------------------------------

void placement_busy(struct placement *placement, uint32_t worker, uint64_t now_ns, uint64_t cpu_ns,
                    uint64_t window_ns) {
    uint64_t permille =
        MIN(cpu_ns * FULLY_BUSY / MAX(window_ns, UINT64_C(1)), (uint64_t)FULLY_BUSY);
    uint64_t at_ms = now_ns / NS_PER_MS;
    atomic_store_explicit(&placement->loads[worker].busy, at_ms << BUSY_BITS | permille,
                          memory_order_relaxed);
}

static uint32_t busy_load(const struct place_load *load, uint64_t now_ns) {
    uint64_t busy = atomic_load_explicit(&load->busy, memory_order_relaxed);
    uint64_t permille = busy & ((1U << BUSY_BITS) - 1);
    bool is_valid = (busy >> BUSY_BITS) + BUSY_VALID_MS >= now_ns / NS_PER_MS;
    return is_valid ? (uint32_t)(permille * PLACE_BUSY / FULLY_BUSY) : 0;
}

uint32_t placement_load(const struct placement *placement, uint32_t worker, uint64_t now_ns) {
    const struct place_load *load = &placement->loads[worker];
    return atomic_load_explicit(&load->n_flows, memory_order_relaxed) +
           atomic_load_explicit(&load->n_coming, memory_order_relaxed) + busy_load(load, now_ns);
}

struct view {
    uint32_t n, sum, least; // least: the worker
    uint32_t loads[PLACE_WORKERS_MAX];
};

static void look(const struct placement *placement, uint32_t here, uint64_t now_ns,
                 bool with_tunnels, struct view *view) {
    view->n = placement->n_workers;
    view->sum = 0;
    view->least = here;
    for (uint32_t i = 0; i < view->n; i++) {
        // From here on, so that the same one is not everybody's choice.
        uint32_t worker = here + i < view->n ? here + i : here + i - view->n;
        uint32_t load = placement_load(placement, worker, now_ns);
        if (with_tunnels) {
            load += PLACE_TUNNEL *
                    atomic_load_explicit(&placement->loads[worker].n_tunnels, memory_order_relaxed);
        }
        view->loads[worker] = load;
        view->sum += load;
        if (load < view->loads[view->least]) {
            view->least = worker;
        }
    }
}

// ---- decisions ---------------------------------------------------------------------------------

// Worth a mail: three flows more than there, and an eighth. With two, one in four short flows moved
// on an otherwise idle node (decision 018).
static bool is_worth(const struct view *view, uint32_t here, uint32_t there) {
    return view->loads[here] >= view->loads[there] + 3 + view->loads[there] / 8;
}

// More than a quarter, and one flow, above the average; or twice what the least loaded has, and
// four. On an idle node that spreads a few heavy flows although each takes a tunnel of its own,
// which is cheap there; on a loaded one tunnels are shared.
static bool is_overloaded(const struct view *view, uint32_t worker) {
    uint64_t load = view->loads[worker];
    return 4 * view->n * load > UINT64_C(5) * view->sum + UINT64_C(4) * view->n ||
           load > UINT64_C(2) * view->loads[view->least] + 4;
}

static uint32_t least_of(const struct view *view, uint64_t owners, uint32_t here) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < view->n; i++) {
        uint32_t worker = here + i < view->n ? here + i : here + i - view->n;
        if ((owners >> worker & 1) != 0 &&
            (best == UINT32_MAX || view->loads[worker] < view->loads[best])) {
            best = worker;
        }
    }
    return best;
}

// Moving each flow of a key is cheap for a rare one and dear for a frequent one: after so many this
// worker gets a tunnel of its own.
static bool may_give_away(struct place_memory *memory, uint64_t key) {
    uint32_t i = (uint32_t)key & (PLACE_MEMORY - 1);
    if (memory->slots[i].key != key) {
        memory->slots[i].key = key;
        memory->slots[i].n_moves = 0;
    }
    if (memory->slots[i].n_moves >= PLACE_MOVES_MAX) {
        return false;
    }
    memory->slots[i].n_moves++;
    return true;
}

uint32_t placement_for_flow(const struct placement *placement, struct place_memory *memory,
                            uint32_t here, uint64_t key, uint64_t now_ns,
                            enum place_reason *ret_reason) {
    *ret_reason = PLACE_STAYS;
    if (placement->n_workers < 2) {
        return here;
    }
    struct view view;
    look(placement, here, now_ns, false, &view);
    uint64_t owners = key != 0 ? placement_owners(placement, key) : 0;
    uint32_t owner = owners != 0 ? least_of(&view, owners, here) : UINT32_MAX;
    bool is_owner = (owners >> here & 1) != 0;
    if (is_owner) {
        memory->slots[key & (PLACE_MEMORY - 1)].n_moves = 0;
        owner = is_worth(&view, here, owner) ? owner : here;
    }
    if (owner != UINT32_MAX && !is_overloaded(&view, owner)) {
        if (owner == here) {
            return here;
        }
        if (is_owner || may_give_away(memory, key)) {
            *ret_reason = PLACE_FOR_TUNNEL;
            return owner;
        }
    }
    if (!is_worth(&view, here, view.least)) {
        return here;
    }
    *ret_reason = PLACE_FOR_LOAD;
    return view.least;
}

uint32_t placement_for_tunnel(const struct placement *placement, uint32_t here, uint64_t now_ns,
                              enum place_reason *ret_reason) {
    *ret_reason = PLACE_STAYS;
    if (placement->n_workers < 2) {
        return here;
    }
    struct view view;
    look(placement, here, now_ns, true, &view);
    if (!is_worth(&view, here, view.least)) {
        return here;
    }
    *ret_reason = PLACE_FOR_LOAD;
    return view.least;
}

// ---- life --------------------------------------------------------------------------------------

struct placement *placement_new(uint32_t n_workers) {
    CHECK(n_workers >= 1 && n_workers <= PLACE_WORKERS_MAX);
    // Zero and on cache lines, without touching the pages of buckets that stay empty.
    enum { LINE = 64 };
    uint8_t *memory = xcalloc(1, sizeof(struct placement) + LINE);
    struct placement *placement = (void *)(memory + (LINE - (uintptr_t)memory % LINE));
    placement->memory = memory;
    placement->n_workers = n_workers;
    return placement;
}

void placement_free(struct placement *placement) {
    if (placement != NULL) {
        free(placement->memory);
    }
}
