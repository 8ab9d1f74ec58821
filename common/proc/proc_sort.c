// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_sort.h"

#include <stdlib.h>
#include <string.h>

enum { RUN = 256 }; // sorted at once, to begin with

void proc_sort_init(struct proc_sort *sort, void *items, size_t n, size_t size,
                    int (*compare)(const void *a, const void *b)) {
    *sort = (struct proc_sort){
        .items = items, .n = n, .size = size, .compare = compare, .is_done = n < 2};
}

void proc_sort_fini(struct proc_sort *sort) {
    free(sort->other);
    *sort = (struct proc_sort){.is_done = true};
}

static void *item(uint8_t *base, const struct proc_sort *sort, size_t i) {
    return base + i * sort->size;
}

// Insertion sort is stable, and runs are short.
static void sort_run(struct proc_sort *sort, size_t from, size_t to) {
    uint8_t *spare = sort->other;
    for (size_t i = from + 1; i < to; i++) {
        size_t low = from, high = i;
        while (low < high) { // behind all that are not greater
            size_t mid = low + (high - low) / 2;
            if (sort->compare(item(sort->items, sort, mid), item(sort->items, sort, i)) > 0) {
                high = mid;
            } else {
                low = mid + 1;
            }
        }
        if (low < i) {
            memcpy(spare, item(sort->items, sort, i), sort->size);
            memmove(item(sort->items, sort, low + 1), item(sort->items, sort, low),
                    (i - low) * sort->size);
            memcpy(item(sort->items, sort, low), spare, sort->size);
        }
    }
}

static void make_runs(struct proc_sort *sort) {
    size_t end = MIN(sort->from + PROC_SORT_STEP / 4, sort->n);
    for (; sort->from < end; sort->from += RUN) {
        sort_run(sort, sort->from, MIN(sort->from + RUN, sort->n));
    }
    if (sort->from >= sort->n) {
        sort->run = RUN;
        sort->from = 0;
        sort->is_done = sort->n <= RUN;
    }
}

static void begin_pair(struct proc_sort *sort) {
    sort->left = sort->at = sort->from;
    sort->right = MIN(sort->from + sort->run, sort->n);
}

// Merges on into `other`. True: the pair is whole.
static bool merge(struct proc_sort *sort, size_t *budget) {
    size_t middle = MIN(sort->from + sort->run, sort->n);
    size_t end = MIN(sort->from + 2 * sort->run, sort->n);
    for (; sort->at<end && * budget> 0; (*budget)--) {
        bool has_left = sort->left < middle, has_right = sort->right < end;
        bool takes_left =
            has_left && (!has_right || sort->compare(item(sort->items, sort, sort->left),
                                                     item(sort->items, sort, sort->right)) <= 0);
        size_t *from = takes_left ? &sort->left : &sort->right;
        memcpy(item(sort->other, sort, sort->at++), item(sort->items, sort, (*from)++), sort->size);
    }
    return sort->at == end;
}

static void end_pass(struct proc_sort *sort) {
    // The caller's memory must have the result: a copy is cheap beside the comparisons.
    memcpy(sort->items, sort->other, sort->n * sort->size);
    sort->run *= 2;
    sort->from = 0;
    sort->is_done = sort->run >= sort->n;
}

bool proc_sort_step(struct proc_sort *sort) {
    size_t budget = PROC_SORT_STEP;
    if (sort->is_done) {
        return false;
    }
    if (sort->other == NULL) {
        sort->other = xcalloc(sort->n, sort->size);
    }
    if (sort->run == 0) {
        make_runs(sort);
        if (sort->run != 0) {
            begin_pair(sort);
        }
        return !sort->is_done;
    }
    while (budget > 0 && merge(sort, &budget)) {
        sort->from += 2 * sort->run;
        if (sort->from >= sort->n) {
            end_pass(sort);
            if (sort->is_done) {
                return false;
            }
        }
        begin_pair(sort);
    }
    return true;
}
