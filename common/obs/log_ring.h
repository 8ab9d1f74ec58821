// SPDX-License-Identifier: Apache-2.0
//
// A bounded queue of log lines from one thread to another, without locks. A line that does not fit
// is refused. An empty ring takes every line of up to half its size minus 16 bytes.
//
// Thread: log_ring_push and _is_half_full by one producer, log_ring_peek and log_ring_pop by one
// consumer.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct log_ring {
    uint8_t *bytes;
    size_t size; // a power of two
    // Positions grow for ever; the index is the position modulo the size. The padding keeps what
    // one side writes off the cache line that the other writes.
    uint8_t pad1[64];
    _Atomic size_t head; // producer's
    size_t cached_tail; // producer's last look at `tail`
    uint8_t pad2[64];
    _Atomic size_t tail; // consumer's
    uint8_t pad3[64];
};

void log_ring_init(struct log_ring *ring, size_t size);
void log_ring_fini(struct log_ring *ring);
// False: no room.
bool log_ring_push(struct log_ring *ring, uint64_t time_ns, struct slice line);
// Producer: more than half of it waits to be taken.
bool log_ring_is_half_full(struct log_ring *ring);
// The oldest line, valid until log_ring_pop. False: empty.
bool log_ring_peek(struct log_ring *ring, uint64_t *ret_time_ns, struct slice *ret_line);
void log_ring_pop(struct log_ring *ring);
