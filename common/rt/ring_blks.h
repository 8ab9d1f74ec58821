// SPDX-License-Identifier: Apache-2.0
//
// The receive buffers of one io: a fixed number of hot blocks (BLK_RING) of RING_BLK_SIZE bytes of
// payload, with BLK_HEADROOM in front and BLK_TAILROOM behind. A block comes back when its last
// reference is dropped; the warmest is taken first. Memory is touched only when a block is used.
//
// Thread: the io's.
#pragma once

#include "common/base/blk.h"

enum {
    RING_BLK_SIZE = 4096,
    RING_BLK_STRIDE = (BLK_HEADROOM + RING_BLK_SIZE + BLK_TAILROOM + 63) / 64 * 64,
};

struct ring_blk_table;

struct ring_blks {
    uint8_t *mem;
    struct ring_blk_table *table;
    uint16_t *free; // ids that nobody has, a stack
    uint32_t n, n_free; // n: a power of two
};

// `n` up to 32768, rounded up to a power of two. 0 or -ENOMEM.
MUST_USE int ring_blks_init(struct ring_blks *blks, struct blk_pool *pool, unsigned n);
void ring_blks_fini(struct ring_blks *blks); // harmless after a failed init

// An id of a free block for its owner to keep; n_free > 0. It may only be taken, not given back.
uint16_t ring_blks_pop(struct ring_blks *blks);
uint8_t *ring_blks_payload(struct ring_blks *blks, uint16_t id);
// A popped id becomes a block with refs = 1.
struct blk *ring_blks_take(struct ring_blks *blks, uint16_t id);
