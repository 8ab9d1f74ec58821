// SPDX-License-Identifier: Apache-2.0
//
// Sorting in steps of bounded work: a merge sort whose caller goes on with it when it likes. Keeps
// the order of equal items. Thread: the caller's.
#pragma once

#include "common/base/check.h"

enum { PROC_SORT_STEP = 2048 }; // items that a step looks at, at most

struct proc_sort {
    uint8_t *items, *other; // of the caller; ours, as large
    size_t n, size; // items; bytes of one
    int (*compare)(const void *a, const void *b);
    size_t run; // items are sorted in runs of this length; 0: not at all
    size_t from; // the pair of runs that is being merged begins here
    size_t left, right; // of its runs: next items
    size_t at; // where the next merged item goes
    bool is_done;
};
// `items` stay the caller's, in the same memory.
void proc_sort_init(struct proc_sort *sort, void *items, size_t n, size_t size,
                    int (*compare)(const void *a, const void *b));
// False: it is sorted.
bool proc_sort_step(struct proc_sort *sort);
void proc_sort_fini(struct proc_sort *sort);
