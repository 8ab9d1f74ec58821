// SPDX-License-Identifier: Apache-2.0
#include "common/rt/ring_blks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__) || defined(ZTUN_SANITIZED)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

// The blocks know where they belong by standing behind their owner.
struct ring_blk_table {
    struct ring_blks *blks;
    struct blk blk[];
};

static struct ring_blks *blks_of(struct blk *blk) {
    struct blk *first = blk - blk->ring_id;
    return ((struct ring_blk_table *)((char *)first - offsetof(struct ring_blk_table, blk)))->blks;
}

static void release(struct blk *blk) {
    struct ring_blks *blks = blks_of(blk);
    ASAN_POISON_MEMORY_REGION(blk->base, blk->cap); // a use after the release is found
    blks->free[blks->n_free++] = blk->ring_id;
}

static unsigned round_up_pow2(unsigned n) {
    unsigned rounded = 1;
    while (rounded < n) {
        rounded *= 2;
    }
    return rounded;
}

int ring_blks_init(struct ring_blks *blks, struct blk_pool *pool, unsigned n) {
    CHECK(n <= 32768); // ids have 16 bits, and the kernel's rings this limit
    n = round_up_pow2(n);
    *blks = (struct ring_blks){.n = n, .n_free = n};
    void *mem = mmap(NULL, (size_t)n * RING_BLK_STRIDE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) {
        return -ENOMEM;
    }
    blks->mem = mem;
    blks->table = xmalloc(sizeof(*blks->table) + n * sizeof(struct blk));
    blks->table->blks = blks;
    blks->free = xmalloc(n * sizeof(*blks->free));
    for (unsigned i = 0; i < n; i++) {
        blks->table->blk[i] = (struct blk){
            .base = blks->mem + (size_t)i * RING_BLK_STRIDE,
            .cap = RING_BLK_STRIDE,
            .pool = pool,
            .release = release,
            .kind = BLK_RING,
            .ring_id = (uint16_t)i,
        };
        blks->free[i] = (uint16_t)(n - 1 - i);
    }
    ASAN_POISON_MEMORY_REGION(blks->mem, (size_t)n * RING_BLK_STRIDE);
    return 0;
}

void ring_blks_fini(struct ring_blks *blks) {
    if (blks->mem != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(blks->mem, (size_t)blks->n * RING_BLK_STRIDE);
        munmap(blks->mem, (size_t)blks->n * RING_BLK_STRIDE);
    }
    free(blks->table);
    free(blks->free);
    *blks = (struct ring_blks){0};
}

uint16_t ring_blks_pop(struct ring_blks *blks) {
    CHECK(blks->n_free > 0);
    return blks->free[--blks->n_free];
}

uint8_t *ring_blks_payload(struct ring_blks *blks, uint16_t id) {
    return blks->table->blk[id].base + BLK_HEADROOM;
}

struct blk *ring_blks_take(struct ring_blks *blks, uint16_t id) {
    CHECK(id < blks->n);
    struct blk *blk = &blks->table->blk[id];
    CHECK(blk->refs == 0);
    blk->refs = 1;
    ASAN_UNPOISON_MEMORY_REGION(blk->base, blk->cap);
    return blk;
}
