// SPDX-License-Identifier: Apache-2.0
//
// A queue of byte segments, each a range of a reference-counted block. No cap of its own: who
// appends checks chain.len against the limit it keeps (each user documents its cap).
//
// An empty chain holds no memory. Nodes are recycled in the pool. Thread: the pool's worker.
#pragma once

#include <sys/uio.h>

#include "common/base/blk.h"
#include "common/base/slice.h"

struct seg {
    struct seg *next;
    struct blk *blk; // one reference held by the segment
    uint32_t off; // into blk->base
    uint32_t len;
    // Bytes in front of `off` / behind `off + len` that belong to this segment alone: a frame or
    // record header, or an AEAD tag, may be written there although the block is shared.
    uint16_t headroom, tailroom;
};

struct chain {
    struct seg *head, *tail;
    size_t len; // bytes in all segments
    uint32_t n_segs;
    struct blk_pool *pool;
};

static inline uint8_t *seg_ptr(const struct seg *seg) {
    return seg->blk->base + seg->off;
}
static inline struct slice seg_slice(const struct seg *seg) {
    return slice_make(seg->blk->base + seg->off, seg->len);
}

void chain_init(struct chain *chain, struct blk_pool *pool);
void chain_clear(struct chain *chain); // drops all segments
static inline bool chain_empty(const struct chain *chain) {
    return chain->head == NULL;
}

// Appends blk[off, off+len): takes a new reference (chain_append) or the caller's (chain_give).
// len may be 0 (nothing is appended; chain_give drops the reference).
void chain_append(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len);
void chain_give(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len);
// chain_give with the segment's own head- and tailroom (both are 0 with the calls above).
void chain_give_room(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len,
                     uint16_t headroom, uint16_t tailroom);
// Appends a copy of the bytes in cold memory, with BLK_HEADROOM in front and BLK_TAILROOM behind;
// small pieces are added to the last segment's block when it is cold, exclusive and has room. No
// segment made here is longer than BLK_DATA_MAX, so that each can be sealed as one record.
void chain_copy(struct chain *chain, struct slice bytes);
// All of `from` (not the chain itself), which stays as it is.
void chain_copy_all(struct chain *chain, const struct chain *from);
// Moves all / the first `n` bytes of `from` to the end of `to` (same pool). A segment that is cut
// in two shares its block: the front part keeps the headroom, the rest the tailroom.
// n <= from->len.
void chain_move_all(struct chain *to, struct chain *from);
void chain_move(struct chain *to, struct chain *from, size_t n);
// Drops the first n bytes (n <= len). A segment that is cut loses its headroom.
void chain_skip(struct chain *chain, size_t n);
// Removes the first segment; its block reference passes to the caller in ret_seg->blk
// (ret_seg->next is NULL). False when empty.
bool chain_pop(struct chain *chain, struct seg *ret_seg);
// Appends a popped or made segment, taking over its block reference.
void chain_push(struct chain *chain, const struct seg *seg);
// Fills up to max entries from the front; returns how many; *ret_bytes = bytes covered.
int chain_iovec(const struct chain *chain, struct iovec *iov, int max, size_t *ret_bytes);
// Copies up to len bytes from the front to dst without consuming; returns bytes copied.
size_t chain_peek(const struct chain *chain, void *dst, size_t len);
// Replaces every segment on a hot block by a copy in cold memory of exact size (see blk.h), with
// BLK_HEADROOM and BLK_TAILROOM. Hot segments in a row are joined up to BLK_DATA_MAX bytes.
void chain_to_cold(struct chain *chain);
// The same for what will wait only shortly, as a rule: bulk blocks are left alone while no more
// than BLK_BULK_WARM of them are in use. True: something hot is left, and the caller has to call
// chain_to_cold when it still waits after a while (loop_cool_later).
MUST_USE bool chain_cool(struct chain *chain);
// Capacity in bytes of the distinct-in-a-row blocks the chain holds: what a memory cap counts.
size_t chain_capacity(const struct chain *chain);
