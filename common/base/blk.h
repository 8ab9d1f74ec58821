// SPDX-License-Identifier: Apache-2.0
//
// I/O blocks: reference-counted runs of memory with headroom and tailroom, and the per-worker pool
// they come from.
//
// Data path: payload is received BLK_HEADROOM bytes into a block, so that the 9-byte HTTP/2 DATA
// header and the 5-byte TLS record header fit in front and content type and AEAD tag fit behind
// (BLK_TAILROOM): it is sealed in place and sent as is.
//
// Hot and cold. Hot blocks (BLK_RING, BLK_BULK) are recycled and meant to stay in the L2 cache;
// they live within a turn or until one send accepted them. Whatever waits longer is copied to cold
// memory of exact size (blk_new_cold). Cold capacity is what the memory cap counts. While few bulk
// blocks are in use, what they hold may wait for some milliseconds without a copy (chain_cool).
//
// Thread: a pool and all its blocks belong to one worker; counts are not atomic.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/list.h"

enum {
    BLK_HEADROOM = 14, // 5 TLS record header + 9 HTTP/2 frame header
    BLK_TAILROOM = 17, // 1 TLS inner content type + 16 AEAD tag
    BLK_DATA_MAX = 16375, // largest DATA payload of one record: 2^14 - 9
    BLK_BULK_SLOTS = 4, // records received at once in bulk mode
    BLK_SLOT_SIZE = 16448, // HEADROOM + DATA_MAX + TAILROOM rounded up to 64
    BLK_BULK_WARM = 16, // bulk blocks in use (1 MiB) up to which those that wait are not copied
};

enum blk_kind {
    BLK_COLD, // malloc'ed, exact size
    BLK_BULK, // BLK_BULK_SLOTS * BLK_SLOT_SIZE bytes, recycled
    BLK_RING, // entry of a provided-buffer ring, memory owned by that ring
};

struct blk_pool;

struct blk {
    uint8_t *base; // first byte of the memory
    uint32_t cap; // bytes of memory
    uint32_t refs;
    struct blk_pool *pool;
    // BLK_RING: called when the last reference is dropped, gives the entry back to its ring.
    void (*release)(struct blk *blk);
    uint16_t kind; // enum blk_kind
    uint16_t ring_id; // BLK_RING: entry number
    struct blk *next_free; // while in the pool's free list
};

// Counters, all in bytes unless said; read by the owner thread.
struct blk_pool_stats {
    uint64_t cold_bytes; // capacity of live cold blocks
    uint64_t n_cold;
    uint64_t n_bulk; // live bulk blocks
    uint64_t n_bulk_free; // recycled bulk blocks kept
};

struct blk_pool {
    struct blk_pool_stats stats;
    struct blk *free_bulk;
    void *free_segs; // recycled chain nodes (chain.c)
    uint32_t n_free_segs;
    uint32_t max_bulk_free; // bulk blocks kept for reuse; more are freed
    uint64_t live_segs; // chain nodes in use
};

void blk_pool_init(struct blk_pool *pool, uint32_t max_bulk_free);
// CHECKs that no block and no chain node is live.
void blk_pool_fini(struct blk_pool *pool);

// A block with refs = 1. Cold: at least `cap` bytes of memory. Never NULL.
struct blk *blk_new_cold(struct blk_pool *pool, size_t cap);
struct blk *blk_new_bulk(struct blk_pool *pool);

static inline struct blk *blk_ref(struct blk *blk) {
    blk->refs++;
    return blk;
}
void blk_free(struct blk *blk); // at refs == 0 only; use blk_unref
static inline void blk_unref(struct blk *blk) {
    if (blk != NULL && --blk->refs == 0) {
        blk_free(blk);
    }
}
static inline bool blk_is_hot(const struct blk *blk) {
    return blk->kind != BLK_COLD;
}
// Only holder: its memory may be written by the caller.
static inline bool blk_is_exclusive(const struct blk *blk) {
    return blk->refs == 1;
}
