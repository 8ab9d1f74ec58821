// SPDX-License-Identifier: Apache-2.0
//
// Which worker serves a new connection: asked once, after accept and before any byte of it is read.
// The kernel has spread a pod's connections over its listeners; from there one goes on to a worker
// that has a live tunnel for it, or to the least loaded one, when that is worth a mail.
//
// Load of a worker: its live flows, and its CPU time. PLACE_BUSY of load is a thread that computed
// all of the last 50 ms: flows that do much count for more than idle ones. Connections that are on
// their way count from the moment when they were sent. A tunnel that peers opened counts
// PLACE_TUNNEL where the next such tunnel is placed, and nothing for flows: its streams are flows.
//
// Who has a tunnel is a hint: a wrong one costs a new tunnel, no more. Entries are single words in
// buckets of one cache line, written without locks.
//
// All counts are hints for others and relaxed. Threads: any, except where said.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    PLACE_WORKERS_MAX = 64, // bits of a set
    PLACE_BUSY = 16, // load of a worker without an idle moment
    PLACE_TUNNEL = 4,
    // Flows of a key that go to another worker's tunnel before this worker opens its own: so many
    // moves cost about what a handshake does (docs/SCALING.md).
    PLACE_MOVES_MAX = 32,
    PLACE_BUCKETS = 4096, // power of two
    PLACE_WAYS = 8,
    PLACE_MEMORY = 256, // power of two
};

// What the others see of a worker. On cache lines of its own.
struct place_load {
    _Alignas(64) _Atomic uint32_t n_flows, n_tunnels; // written by the worker alone
    _Atomic uint32_t n_coming; // connections sent to it that it has not taken over yet
    _Atomic uint64_t busy; // placement_busy
};

struct place_bucket {
    _Alignas(64) _Atomic uint64_t ways[PLACE_WAYS]; // hash without its low 6 bits | worker; 0: free
};

struct placement {
    void *memory;
    uint32_t n_workers;
    atomic_bool is_closed; // the process stops: nothing moves any more
    struct place_load loads[PLACE_WORKERS_MAX];
    struct place_bucket buckets[PLACE_BUCKETS];
};

// A worker's memory of the keys whose flows it gave away.
struct place_memory {
    struct {
        uint64_t key;
        uint32_t n_moves;
    } slots[PLACE_MEMORY];
};

enum place_reason { PLACE_STAYS, PLACE_FOR_TUNNEL, PLACE_FOR_LOAD };

struct placement *placement_new(uint32_t n_workers); // 1 to PLACE_WORKERS_MAX
void placement_free(struct placement *placement); // NULL ok

// The worker has (or no longer has) a live tunnel with a free stream under this key's hash.
void placement_tunnel(struct placement *placement, uint32_t worker, uint64_t key, bool has_room);
// The workers that said so, as bits.
uint64_t placement_owners(const struct placement *placement, uint64_t key);

// The worker's thread computed for cpu_ns of the last `window_ns`; true for about 250 ms.
void placement_busy(struct placement *placement, uint32_t worker, uint64_t now_ns, uint64_t cpu_ns,
                    uint64_t window_ns);
uint32_t placement_load(const struct placement *placement, uint32_t worker, uint64_t now_ns);

// Where a flow that `here` accepted goes. key: hash of the tunnel pool key that it needs; 0: none.
// `memory` is that of `here`, whose thread calls.
uint32_t placement_for_flow(const struct placement *placement, struct place_memory *memory,
                            uint32_t here, uint64_t key, uint64_t now_ns,
                            enum place_reason *ret_reason);
// Where a tunnel that a peer opens goes.
uint32_t placement_for_tunnel(const struct placement *placement, uint32_t here, uint64_t now_ns,
                              enum place_reason *ret_reason);
