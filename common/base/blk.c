// SPDX-License-Identifier: Apache-2.0
#include "common/base/blk.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/chain.h"

enum {
    BULK_ALIGN = 64,
    BULK_CAP = BLK_BULK_SLOTS * BLK_SLOT_SIZE,
};

_Static_assert(BLK_SLOT_SIZE >= BLK_HEADROOM + BLK_DATA_MAX + BLK_TAILROOM, "slot holds a record");
_Static_assert(BLK_SLOT_SIZE % BULK_ALIGN == 0, "slots keep the alignment of the block");
_Static_assert(sizeof(struct blk) <= BULK_ALIGN, "the header of a bulk block fits in front");

void blk_pool_init(struct blk_pool *pool, uint32_t max_bulk_free) {
    *pool = (struct blk_pool){.max_bulk_free = max_bulk_free};
}

void blk_pool_fini(struct blk_pool *pool) {
    CHECK(pool->stats.n_cold == 0 && pool->stats.cold_bytes == 0);
    CHECK(pool->stats.n_bulk == 0);
    CHECK(pool->live_segs == 0);
    while (pool->free_bulk != NULL) {
        struct blk *blk = pool->free_bulk;
        pool->free_bulk = blk->next_free;
        free(blk);
    }
    for (struct seg *seg = pool->free_segs; seg != NULL;) {
        struct seg *next = seg->next;
        free(seg);
        seg = next;
    }
    *pool = (struct blk_pool){0};
}

struct blk *blk_new_cold(struct blk_pool *pool, size_t cap) {
    CHECK(cap <= UINT32_MAX);
    struct blk *blk = xmalloc(sizeof(*blk) + cap);
    *blk = (struct blk){
        .base = (uint8_t *)(blk + 1),
        .cap = (uint32_t)cap,
        .refs = 1,
        .pool = pool,
        .kind = BLK_COLD,
    };
    pool->stats.n_cold++;
    pool->stats.cold_bytes += cap;
    return blk;
}

static struct blk *bulk_alloc(struct blk_pool *pool) {
    // One allocation: the header takes the first cache line, the data starts at the second.
    struct blk *blk = aligned_alloc(BULK_ALIGN, BULK_ALIGN + BULK_CAP);
    if (blk == NULL) {
        check_failed(__FILE__, __LINE__, "out of memory");
    }
    *blk = (struct blk){
        .base = (uint8_t *)blk + BULK_ALIGN,
        .cap = BULK_CAP,
        .pool = pool,
        .kind = BLK_BULK,
    };
    return blk;
}

struct blk *blk_new_bulk(struct blk_pool *pool) {
    struct blk *blk = pool->free_bulk;
    if (blk != NULL) {
        pool->free_bulk = blk->next_free;
        pool->stats.n_bulk_free--;
        blk->next_free = NULL;
    } else {
        blk = bulk_alloc(pool);
    }
    blk->refs = 1;
    pool->stats.n_bulk++;
    return blk;
}

void blk_free(struct blk *blk) {
    CHECK(blk->refs == 0);
    struct blk_pool *pool = blk->pool;
    switch ((enum blk_kind)blk->kind) {
    case BLK_COLD:
        pool->stats.n_cold--;
        pool->stats.cold_bytes -= blk->cap;
        free(blk);
        return;
    case BLK_BULK:
        pool->stats.n_bulk--;
        if (pool->stats.n_bulk_free >= pool->max_bulk_free) {
            free(blk);
            return;
        }
        // Last in, first out: the block used last is the one most likely still in the cache.
        blk->next_free = pool->free_bulk;
        pool->free_bulk = blk;
        pool->stats.n_bulk_free++;
        return;
    case BLK_RING:
        blk->release(blk);
        return;
    }
    check_failed(__FILE__, __LINE__, "block kind");
}
