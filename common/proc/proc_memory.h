// SPDX-License-Identifier: Apache-2.0
//
// Memory of the process against its limit: at 80 % windows stop growing and the allocator gives
// back what it can, at 90 % nothing new is taken. Half of it is for bytes that wait for consumers.
//
// Thread: control, but for proc_memory_worker_tick.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct log_scope;

struct proc_memory {
    uint64_t limit; // bytes of resident memory; 0 = none
    bool allow_growth, refuse_new;
    const struct log_scope *scope;
};

// `configured` 0: 70 % of the cgroup's, none (0) if that has none.
uint64_t proc_memory_limit(uint64_t configured);
// The first window of a stream, in bytes: 256 KiB, in a small process less, not below 64 KiB.
uint32_t proc_memory_stream_window(uint64_t limit);
// What the tunnels of each of n workers may keep for consumers that do not read; 0 = no cap.
uint64_t proc_memory_parked_max(uint64_t limit, uint32_t n_workers);

// `limit` as proc_memory_limit gave it.
void proc_memory_init(struct proc_memory *memory, uint64_t limit, const struct log_scope *scope);
// Now and then: returns freed pages to the system, and looks at what is in use. True when
// allow_growth or refuse_new changed; the log tells of the latter.
bool proc_memory_check(struct proc_memory *memory);
// Each worker, once a second, with what its loop has completed so far: one that has little to do
// gives back what the allocator keeps for its thread, which is more than its idle flows need.
void proc_memory_worker_tick(uint64_t n_completions);
