// SPDX-License-Identifier: Apache-2.0
#include "common/base/chain.h"

#include <stdlib.h>

enum {
    MAX_FREE_SEGS = 1024, // recycled nodes kept a pool: 24 KiB
    // Small copies get a block of 512 bytes with its header, so that the next ones fit behind.
    SMALL_COPY_CAP = 512 - sizeof(struct blk),
};

static struct seg *seg_new(struct blk_pool *pool, const struct seg *from) {
    struct seg *seg = pool->free_segs;
    if (seg != NULL) {
        pool->free_segs = seg->next;
        pool->n_free_segs--;
    } else {
        seg = xmalloc(sizeof(*seg));
    }
    *seg = *from;
    pool->live_segs++;
    return seg;
}

// Gives up the node only; the block reference stays with the caller.
static void seg_free(struct blk_pool *pool, struct seg *seg) {
    pool->live_segs--;
    if (pool->n_free_segs >= MAX_FREE_SEGS) {
        free(seg);
        return;
    }
    seg->next = pool->free_segs;
    pool->free_segs = seg;
    pool->n_free_segs++;
}

static void link_back(struct chain *chain, struct seg *seg) {
    seg->next = NULL;
    if (chain->tail != NULL) {
        chain->tail->next = seg;
    } else {
        chain->head = seg;
    }
    chain->tail = seg;
    chain->len += seg->len;
    chain->n_segs++;
}

static struct seg *unlink_front(struct chain *chain) {
    struct seg *seg = chain->head;
    chain->head = seg->next;
    if (chain->head == NULL) {
        chain->tail = NULL;
    }
    chain->len -= seg->len;
    chain->n_segs--;
    return seg;
}

void chain_init(struct chain *chain, struct blk_pool *pool) {
    *chain = (struct chain){.pool = pool};
}

void chain_clear(struct chain *chain) {
    while (chain->head != NULL) {
        struct seg *seg = unlink_front(chain);
        blk_unref(seg->blk);
        seg_free(chain->pool, seg);
    }
}

void chain_append(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len) {
    chain_give(chain, blk_ref(blk), off, len);
}

void chain_give(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len) {
    chain_give_room(chain, blk, off, len, 0, 0);
}

void chain_give_room(struct chain *chain, struct blk *blk, uint32_t off, uint32_t len,
                     uint16_t headroom, uint16_t tailroom) {
    chain_push(chain, &(struct seg){
                          .blk = blk,
                          .off = off,
                          .len = len,
                          .headroom = headroom,
                          .tailroom = tailroom,
                      });
}

void chain_push(struct chain *chain, const struct seg *seg) {
    CHECK(seg->headroom <= seg->off);
    CHECK((uint64_t)seg->off + seg->len + seg->tailroom <= seg->blk->cap);
    if (seg->len == 0) {
        blk_unref(seg->blk);
        return;
    }
    link_back(chain, seg_new(chain->pool, seg));
}

// All of the room behind the last segment is its own when nobody else holds the block. The
// tailroom for a record's end is kept, and so is one record's worth as the limit of a segment.
static bool fits_in_tail(const struct chain *chain, size_t len) {
    const struct seg *tail = chain->tail;
    if (tail == NULL || tail->blk->kind != BLK_COLD || !blk_is_exclusive(tail->blk)) {
        return false;
    }
    size_t end = (size_t)tail->off + tail->len;
    return end + len + BLK_TAILROOM <= tail->blk->cap && tail->len + len <= BLK_DATA_MAX;
}

static uint16_t room_behind(const struct seg *seg) {
    return (uint16_t)MIN(seg->blk->cap - seg->off - seg->len, (uint32_t)UINT16_MAX);
}

void chain_copy(struct chain *chain, struct slice bytes) {
    if (bytes.len == 0) {
        return;
    }
    if (fits_in_tail(chain, bytes.len)) {
        struct seg *tail = chain->tail;
        slice_copy(seg_ptr(tail) + tail->len, bytes);
        tail->len += (uint32_t)bytes.len;
        tail->tailroom = room_behind(tail);
        chain->len += bytes.len;
        return;
    }
    while (bytes.len > 0) {
        size_t len = MIN(bytes.len, (size_t)BLK_DATA_MAX);
        size_t cap = MAX(BLK_HEADROOM + len + BLK_TAILROOM, (size_t)SMALL_COPY_CAP);
        struct seg seg = {
            .blk = blk_new_cold(chain->pool, cap),
            .off = BLK_HEADROOM,
            .len = (uint32_t)len,
            .headroom = BLK_HEADROOM,
        };
        seg.tailroom = room_behind(&seg);
        slice_copy(seg_ptr(&seg), slice_head(bytes, len));
        chain_push(chain, &seg);
        bytes = slice_skip(bytes, len);
    }
}

void chain_copy_all(struct chain *chain, const struct chain *from) {
    for (const struct seg *seg = from->head; seg != NULL; seg = seg->next) {
        chain_copy(chain, seg_slice(seg));
    }
}

void chain_move_all(struct chain *to, struct chain *from) {
    CHECK(to != from && to->pool == from->pool);
    if (from->head == NULL) {
        return;
    }
    if (to->tail != NULL) {
        to->tail->next = from->head;
    } else {
        to->head = from->head;
    }
    to->tail = from->tail;
    to->len += from->len;
    to->n_segs += from->n_segs;
    chain_init(from, from->pool);
}

void chain_move(struct chain *to, struct chain *from, size_t n) {
    CHECK(to != from && to->pool == from->pool && n <= from->len);
    while (n > 0) {
        struct seg *seg = from->head;
        if (seg->len > n) {
            chain_give_room(to, blk_ref(seg->blk), seg->off, (uint32_t)n, seg->headroom, 0);
            chain_skip(from, n);
            return;
        }
        n -= seg->len;
        link_back(to, unlink_front(from));
    }
}

void chain_skip(struct chain *chain, size_t n) {
    CHECK(n <= chain->len);
    while (n > 0) {
        struct seg *seg = chain->head;
        if (seg->len > n) {
            // What was skipped may be held by someone else by now, so it is no headroom.
            seg->headroom = 0;
            seg->off += (uint32_t)n;
            seg->len -= (uint32_t)n;
            chain->len -= n;
            return;
        }
        n -= seg->len;
        unlink_front(chain);
        blk_unref(seg->blk);
        seg_free(chain->pool, seg);
    }
}

bool chain_pop(struct chain *chain, struct seg *ret_seg) {
    if (chain->head == NULL) {
        return false;
    }
    struct seg *seg = unlink_front(chain);
    *ret_seg = *seg;
    ret_seg->next = NULL;
    seg_free(chain->pool, seg);
    return true;
}

int chain_iovec(const struct chain *chain, struct iovec *iov, int max, size_t *ret_bytes) {
    int n = 0;
    size_t n_bytes = 0;
    for (const struct seg *seg = chain->head; seg != NULL && n < max; seg = seg->next) {
        iov[n++] = (struct iovec){.iov_base = seg_ptr(seg), .iov_len = seg->len};
        n_bytes += seg->len;
    }
    *ret_bytes = n_bytes;
    return n;
}

size_t chain_peek(const struct chain *chain, void *dst, size_t len) {
    size_t n_copied = 0;
    for (const struct seg *seg = chain->head; seg != NULL && n_copied < len; seg = seg->next) {
        size_t n = MIN(len - n_copied, (size_t)seg->len);
        memcpy((uint8_t *)dst + n_copied, seg_ptr(seg), n);
        n_copied += n;
    }
    return n_copied;
}

// Copies `first` and the hot segments right behind it, as many as make one record's worth, into
// one cold block. The segments behind `first` are dropped: fewer nodes, fewer iovecs.
static void merge_to_cold(struct chain *chain, struct seg *first) {
    size_t len = first->len;
    struct seg *end = first->next;
    while (end != NULL && blk_is_hot(end->blk) && len + end->len <= BLK_DATA_MAX) {
        len += end->len;
        end = end->next;
    }
    struct blk *cold = blk_new_cold(chain->pool, BLK_HEADROOM + len + BLK_TAILROOM);
    uint8_t *at = cold->base + BLK_HEADROOM;
    for (struct seg *seg = first; seg != end;) {
        struct seg *next = seg->next;
        slice_copy(at, seg_slice(seg));
        at += seg->len;
        blk_unref(seg->blk);
        if (seg != first) {
            if (chain->tail == seg) {
                chain->tail = first;
            }
            chain->n_segs--;
            seg_free(chain->pool, seg);
        }
        seg = next;
    }
    *first = (struct seg){
        .next = end,
        .blk = cold,
        .off = BLK_HEADROOM,
        .len = (uint32_t)len,
        .headroom = BLK_HEADROOM,
        .tailroom = BLK_TAILROOM,
    };
}

void chain_to_cold(struct chain *chain) {
    for (struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        if (blk_is_hot(seg->blk)) {
            merge_to_cold(chain, seg);
        }
    }
}

bool chain_cool(struct chain *chain) {
    bool is_hot = false;
    for (struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        bool is_bulk = seg->blk->kind == BLK_BULK;
        if (is_bulk && chain->pool->stats.n_bulk <= BLK_BULK_WARM) {
            is_hot = true;
        } else if (blk_is_hot(seg->blk)) {
            merge_to_cold(chain, seg);
        }
    }
    return is_hot;
}

size_t chain_capacity(const struct chain *chain) {
    size_t n_bytes = 0;
    const struct blk *last = NULL;
    for (const struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        if (seg->blk != last) {
            n_bytes += seg->blk->cap;
            last = seg->blk;
        }
    }
    return n_bytes;
}
