// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_lb.h"

#include <math.h>
#include <stdlib.h>

#include "common/l7/l7_lb_priv.h"

enum {
    DRAWS_MAX = 6, // the first one, and 5 for one that was not tried
    WARMUP_STEPS = 100, // of the weights, in a warm-up
    WARMUP_STEP_MIN_MS = 10,
    WARMUP_UNIT_MS = 1000, // a host counts as at least that old
};

size_t l7_lb_hosts(const struct service *service, const struct l7_subset *subset, size_t port,
                   struct l7_host *hosts, size_t cap) {
    size_t n = 0;
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        const struct endpoint *endpoint = &service->endpoints[i];
        const struct workload *workload = endpoint->workload;
        uint16_t target_port = endpoint->target_ports[port];
        if (target_port == 0 || !(endpoint->is_ready || service->allow_not_ready) ||
            (subset != NULL && !l7_subset_selects(subset, workload))) {
            continue;
        }
        bool is_name = workload->common->hostname[0] != '\0';
        size_t n_ips = is_name ? workload->n_ips : 1;
        for (size_t k = 0; k < n_ips; k++, n++) {
            if (n < cap) {
                hosts[n] = (struct l7_host){
                    .endpoint = endpoint,
                    .addr = {.ip = is_name ? workload->ips[k] : endpoint->ip, .port = target_port},
                    .weight = MAX(endpoint->weight, 1U)};
            }
        }
    }
    return n;
}

// Making

static int compare_numbers(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// Numbers with gaps become 0, 1, 2 ...; what is beyond the most levels there can be is in the last.
static size_t close_gaps(uint32_t *numbers, size_t n) {
    uint32_t *sorted = xcalloc(n, sizeof(*sorted));
    size_t n_used = 0, n_levels = 0;
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] != L7_NO_LEVEL) {
            sorted[n_used++] = numbers[i];
        }
    }
    qsort(sorted, n_used, sizeof(*sorted), compare_numbers);
    for (size_t i = 0; i < n_used; i++) {
        if (n_levels == 0 || sorted[n_levels - 1] != sorted[i]) {
            sorted[n_levels++] = sorted[i];
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] != L7_NO_LEVEL) {
            const uint32_t *at =
                bsearch(&numbers[i], sorted, n_levels, sizeof(*sorted), compare_numbers);
            numbers[i] = (uint32_t)MIN(at - sorted, (ptrdiff_t)L7_LB_LEVELS_MAX - 1);
        }
    }
    free(sorted);
    return MIN(n_levels, (size_t)L7_LB_LEVELS_MAX);
}

static void make_level(struct l7_lb *lb, const uint32_t *numbers, uint32_t number,
                       struct l7_level *level) {
    for (size_t i = 0; i < lb->n_hosts; i++) {
        level->n_hosts += numbers[i] == number;
    }
    level->name = "";
    level->hosts = xcalloc(level->n_hosts, sizeof(*level->hosts));
    level->live = xcalloc(level->n_hosts, sizeof(*level->live));
    level->weights = xcalloc(level->n_hosts, sizeof(*level->weights));
    level->sums = xcalloc(level->n_hosts, sizeof(*level->sums));
    uint32_t n = 0;
    for (size_t i = 0; i < lb->n_hosts; i++) {
        if (numbers[i] == number) {
            level->hosts[n++] = (uint32_t)i;
        }
    }
}

struct l7_lb *l7_lb_new(const struct l7_lb_spec *spec) {
    struct l7_lb *lb = xcalloc(1, sizeof(*lb));
    lb->hosts = xcalloc(spec->n_hosts, sizeof(*lb->hosts));
    lb->n_hosts = spec->n_hosts;
    lb->settings = spec->settings;
    lb->cell = spec->cell;
    if (spec->n_hosts == 0) {
        return lb;
    }
    memcpy(lb->hosts, spec->hosts, spec->n_hosts * sizeof(*lb->hosts));
    uint32_t *numbers = xcalloc(spec->n_hosts, sizeof(*numbers));
    struct l7_places places;
    l7_lb_places(spec, numbers, &places);
    lb->is_grouped = places.distribute != NULL;
    lb->n_levels = lb->is_grouped ? MIN(places.distribute->n_to, (uint32_t)L7_LB_LEVELS_MAX)
                                  : close_gaps(numbers, spec->n_hosts);
    lb->levels = xcalloc(lb->n_levels, sizeof(*lb->levels));
    for (size_t i = 0; i < lb->n_levels; i++) {
        make_level(lb, numbers, (uint32_t)i, &lb->levels[i]);
        if (lb->is_grouped) {
            lb->levels[i].name = places.distribute->to[i].to;
            lb->levels[i].weight = places.distribute->to[i].weight;
        }
    }
    free(numbers);
    return lb;
}

void l7_lb_free(struct l7_lb *lb) {
    if (lb == NULL) {
        return;
    }
    for (size_t i = 0; i < lb->n_levels; i++) {
        struct l7_level *level = &lb->levels[i];
        l7_table_fini(&level->table);
        free(level->hosts);
        free(level->live);
        free(level->weights);
        free(level->sums);
    }
    free(lb->levels);
    free(lb->hosts);
    free(lb);
}

// Health

static bool is_healthy(const struct l7_host *host) {
    return !atomic_load_explicit(&host->cell->is_ejected, memory_order_relaxed);
}

// The share of the weight that a host has while it warms up.
static double warmth(const struct l7_lb_policy *policy, const struct l7_host *host,
                     uint64_t now_ms) {
    uint64_t since_ms = host->cell->since_ms;
    uint64_t age_ms = now_ms > since_ms ? now_ms - since_ms : 0;
    if (policy->warmup_ms == 0 || age_ms >= policy->warmup_ms) {
        return 1;
    }
    double share = (double)MAX(age_ms, (uint64_t)WARMUP_UNIT_MS) / (double)policy->warmup_ms;
    double factor = pow(share, 1 / policy->warmup_aggression);
    return MIN(MAX(factor, policy->warmup_min), 1.0);
}

static void refresh_live(struct l7_lb *lb, struct l7_level *level, uint64_t now_ms) {
    const struct l7_lb_policy *policy = &lb->settings->lb;
    double sum = 0;
    level->n_live = 0;
    level->is_uniform = true;
    l7_table_fini(&level->table);
    level->has_table = false;
    for (uint32_t i = 0; i < level->n_hosts; i++) {
        const struct l7_host *host = &lb->hosts[level->hosts[i]];
        if (!level->is_panic && !is_healthy(host)) {
            continue;
        }
        double factor = warmth(policy, host, now_ms);
        if (factor < 1) {
            uint64_t step_ms = MAX(policy->warmup_ms / WARMUP_STEPS, (uint64_t)WARMUP_STEP_MIN_MS);
            lb->next_refresh_ms = MIN(lb->next_refresh_ms, now_ms + step_ms);
        }
        uint32_t at = level->n_live++;
        level->live[at] = level->hosts[i];
        level->weights[at] = host->weight * factor;
        sum += level->weights[at];
        level->sums[at] = sum;
        level->is_uniform = level->is_uniform && level->weights[at] == level->weights[0];
    }
}

// What part of its traffic each level can take, and whether all of them together take all of it.
static unsigned refresh_health(struct l7_lb *lb) {
    unsigned total = 0;
    for (size_t i = 0; i < lb->n_levels; i++) {
        struct l7_level *level = &lb->levels[i];
        level->n_healthy = 0;
        for (uint32_t k = 0; k < level->n_hosts; k++) {
            level->n_healthy += is_healthy(&lb->hosts[level->hosts[k]]);
        }
        uint64_t health = level->n_hosts > 0
                              ? (uint64_t)L7_LB_OVERPROVISION * level->n_healthy / level->n_hosts
                              : 0;
        level->health = (unsigned)MIN(health, 100U);
        total += level->health;
    }
    return MIN(total, 100U);
}

static bool is_below(uint64_t n_healthy, uint64_t n_hosts, unsigned percent) {
    return n_healthy * 100 < n_hosts * percent;
}

static void set_panic(struct l7_lb *lb, unsigned total_health) {
    unsigned percent = lb->settings->panic_percent;
    uint64_t n_healthy = 0, n_hosts = 0;
    for (size_t i = 0; i < lb->n_levels; i++) {
        n_healthy += lb->levels[i].n_healthy;
        n_hosts += lb->levels[i].n_hosts;
    }
    for (size_t i = 0; i < lb->n_levels; i++) {
        struct l7_level *level = &lb->levels[i];
        // Groups are parts of one level.
        level->is_panic = lb->is_grouped ? is_below(n_healthy, n_hosts, percent)
                                         : total_health < 100 &&
                                               is_below(level->n_healthy, level->n_hosts, percent);
    }
}

// Groups keep their weight while enough of their hosts are healthy.
static void set_group_loads(struct l7_lb *lb) {
    for (size_t i = 0; i < lb->n_levels; i++) {
        struct l7_level *level = &lb->levels[i];
        unsigned health = level->is_panic ? 100 : level->health;
        level->load = level->n_live > 0 ? (uint64_t)level->weight * health : 0;
        lb->load_sum += level->load;
    }
}

// Each priority takes what it can of what those before it leave; in percent of all that can be
// taken. When all are in panic: by the number of hosts.
static void set_priority_loads(struct l7_lb *lb, unsigned total_health) {
    size_t n_panic = 0;
    uint64_t left = 100;
    for (size_t i = 0; i < lb->n_levels; i++) {
        n_panic += lb->levels[i].is_panic;
    }
    for (size_t i = 0; i < lb->n_levels; i++) {
        struct l7_level *level = &lb->levels[i];
        if (n_panic == lb->n_levels) {
            level->load = level->n_hosts;
        } else {
            uint64_t part = total_health > 0 ? (uint64_t)level->health * 100 / total_health : 0;
            level->load = MIN(part, left);
            left -= level->load;
        }
        lb->load_sum += level->load;
    }
    // What integers lost goes to the first that takes anything.
    for (size_t i = 0; i < lb->n_levels && n_panic < lb->n_levels && lb->load_sum > 0; i++) {
        if (lb->levels[i].load > 0) {
            lb->levels[i].load += left;
            lb->load_sum += left;
            break;
        }
    }
}

static void refresh(struct l7_lb *lb, uint64_t now_ms) {
    unsigned generation = atomic_load_explicit(&lb->cell->generation, memory_order_acquire);
    if (lb->is_fresh && generation == lb->generation && now_ms < lb->next_refresh_ms) {
        return;
    }
    lb->is_fresh = true;
    lb->generation = generation;
    lb->next_refresh_ms = UINT64_MAX;
    lb->load_sum = 0;
    unsigned total_health = refresh_health(lb);
    set_panic(lb, total_health);
    for (size_t i = 0; i < lb->n_levels; i++) {
        refresh_live(lb, &lb->levels[i], now_ms);
    }
    if (lb->is_grouped) {
        set_group_loads(lb);
    } else {
        set_priority_loads(lb, total_health);
    }
}

// Picking

static void make_table(struct l7_lb *lb, struct l7_level *level) {
    if (level->has_table) {
        return;
    }
    level->has_table = true;
    size_t size = lb->settings->lb.table_size;
    switch (lb->settings->lb.kind) {
    case L7_LB_RING:
        l7_table_make_ring(&level->table, lb, level, size);
        break;
    case L7_LB_MAGLEV:
        l7_table_make_maglev(&level->table, lb, level, size);
        break;
    default:
        l7_table_make_schedule(&level->table, level);
    }
}

static uint32_t by_weight(const struct l7_level *level, struct rand *rand) {
    if (level->is_uniform) {
        return level->live[rand_below(rand, level->n_live)];
    }
    double at = (double)(rand_u64(rand) >> 11) * 0x1p-53 * level->sums[level->n_live - 1];
    uint32_t low = 0, high = level->n_live - 1; // the first sum above `at` is in [low, high]
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (level->sums[middle] <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return level->live[low];
}

static uint32_t by_turn(struct l7_lb *lb, struct l7_level *level) {
    size_t cursor_of = MIN((size_t)(level - lb->levels), (size_t)L7_LB_CURSORS - 1);
    uint64_t turn =
        atomic_fetch_add_explicit(&lb->cell->cursors[cursor_of], 1, memory_order_relaxed);
    if (level->is_uniform) {
        return level->live[turn % level->n_live];
    }
    make_table(lb, level);
    return level->table.slots[turn % level->table.n];
}

// Two by weight, then the one with fewer requests for its weight: idle hosts get their weight's
// share, busy ones less.
static uint32_t by_requests(struct l7_lb *lb, struct l7_level *level, struct rand *rand) {
    uint32_t a = by_weight(level, rand), b = by_weight(level, rand);
    const struct l7_host *first = &lb->hosts[a], *second = &lb->hosts[b];
    uint64_t n_first = atomic_load_explicit(&first->cell->active, memory_order_relaxed);
    uint64_t n_second = atomic_load_explicit(&second->cell->active, memory_order_relaxed);
    return n_second * first->weight < n_first * second->weight ? b : a;
}

static uint32_t draw_host(struct l7_lb *lb, struct l7_level *level, const struct l7_lb_pick *pick,
                          unsigned attempt) {
    switch (lb->settings->lb.kind) {
    case L7_LB_ROUND_ROBIN:
        return by_turn(lb, level);
    case L7_LB_RANDOM:
        return level->live[rand_below(pick->rand, level->n_live)];
    case L7_LB_RING:
    case L7_LB_MAGLEV:
        if (!pick->has_hash) {
            return level->live[rand_below(pick->rand, level->n_live)];
        }
        make_table(lb, level);
        return l7_table_find(&level->table, pick->hash, attempt);
    default:
        return by_requests(lb, level, pick->rand);
    }
}

static bool was_tried(const struct l7_lb_pick *pick, const struct l7_host_cell *cell) {
    for (size_t i = 0; i < pick->n_tried; i++) {
        if (pick->tried[i] == cell) {
            return true;
        }
    }
    return false;
}

// The levels (bits) of hosts that were tried, when a retry is to go elsewhere.
static uint64_t left_levels(const struct l7_lb *lb, const struct l7_lb_pick *pick) {
    enum { AFTER = 2 };
    uint64_t levels = 0;
    bool is_any_left = false;
    if (!pick->leaves_locality || pick->n_tried < AFTER) {
        return 0;
    }
    for (size_t i = 0; i < lb->n_levels; i++) {
        const struct l7_level *level = &lb->levels[i];
        for (uint32_t k = 0; k < level->n_hosts; k++) {
            if (was_tried(pick, lb->hosts[level->hosts[k]].cell)) {
                levels |= UINT64_C(1) << i;
                break;
            }
        }
        is_any_left = is_any_left || ((levels >> i & 1) == 0 && level->n_live > 0);
    }
    return is_any_left ? levels : 0;
}

// Levels that are left out leave their part to the others: those that have none of their own (full
// priorities before them had all) by their health.
static uint64_t load_without(const struct l7_lb *lb, size_t i, uint64_t without) {
    if ((without >> i & 1) != 0 || lb->levels[i].n_live == 0) {
        return 0;
    }
    return without != 0 && !lb->is_grouped ? lb->levels[i].health : lb->levels[i].load;
}

static struct l7_level *draw_level(struct l7_lb *lb, const struct l7_lb_pick *pick,
                                   uint64_t without) {
    uint64_t sum = 0, seen = 0;
    for (size_t i = 0; i < lb->n_levels; i++) {
        sum += load_without(lb, i, without);
    }
    if (sum == 0) {
        return NULL;
    }
    uint64_t at = lb->n_levels > 1 ? rand_below(pick->rand, sum) : 0;
    for (size_t i = 0; i < lb->n_levels; i++) {
        seen += load_without(lb, i, without);
        if (at < seen) {
            return &lb->levels[i];
        }
    }
    return NULL;
}

const struct l7_host *l7_lb_pick(struct l7_lb *lb, const struct l7_lb_pick *pick) {
    refresh(lb, pick->now_ms);
    uint64_t without = left_levels(lb, pick);
    const struct l7_host *host = NULL;
    for (unsigned attempt = 0; attempt < DRAWS_MAX; attempt++) {
        struct l7_level *level = draw_level(lb, pick, without);
        if (level == NULL) {
            return host;
        }
        host = &lb->hosts[draw_host(lb, level, pick, attempt)];
        if (!was_tried(pick, host->cell)) {
            break;
        }
    }
    return host;
}

size_t l7_lb_levels(struct l7_lb *lb, uint64_t now_ms, struct l7_lb_level *levels, size_t cap) {
    refresh(lb, now_ms);
    for (size_t i = 0; i < lb->n_levels && i < cap; i++) {
        const struct l7_level *level = &lb->levels[i];
        uint64_t load = load_without(lb, i, 0);
        levels[i] = (struct l7_lb_level){
            .name = level->name,
            .n_hosts = level->n_hosts,
            .n_healthy = level->n_healthy,
            .percent = lb->load_sum > 0 ? (unsigned)(load * 100 / lb->load_sum) : 0,
            .is_panic = level->is_panic};
    }
    return lb->n_levels;
}

bool l7_lb_level_of(const struct l7_lb *lb, size_t host, size_t *ret_level) {
    for (size_t i = 0; i < lb->n_levels; i++) {
        for (uint32_t k = 0; k < lb->levels[i].n_hosts; k++) {
            if (lb->levels[i].hosts[k] == host) {
                *ret_level = i;
                return true;
            }
        }
    }
    return false;
}
