// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <sys/mman.h>

#include "common/rt/uring_priv.h"

#if defined(__SANITIZE_ADDRESS__) || defined(ZTUN_SANITIZED)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

// The blocks know where they belong by standing behind their owner.
struct uring_blks {
    struct uring_bufs *bufs;
    struct blk blk[];
};

static struct uring_bufs *bufs_of(struct blk *blk) {
    struct blk *first = blk - blk->ring_id;
    return ((struct uring_blks *)((char *)first - offsetof(struct uring_blks, blk)))->bufs;
}

static void release(struct blk *blk) {
    struct uring_bufs *bufs = bufs_of(blk);
    ASAN_POISON_MEMORY_REGION(blk->base, blk->cap); // a use after the release is found
    bufs->free[bufs->n_free++] = blk->ring_id;
}

static size_t ring_bytes(unsigned n) {
    return n * sizeof(struct io_uring_buf);
}

static void *map_pages(size_t size) {
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mem != MAP_FAILED ? mem : NULL;
}

static unsigned round_up_pow2(unsigned n) {
    unsigned rounded = 1;
    while (rounded < n) {
        rounded *= 2;
    }
    return rounded;
}

int uring_bufs_init(struct uring_bufs *bufs, struct io_uring *ring, struct blk_pool *pool,
                    unsigned n) {
    CHECK(n <= 32768); // the kernel's limit
    *bufs = (struct uring_bufs){.n = round_up_pow2(n)};
    n = bufs->n;
    bufs->window = MIN(n, (uint32_t)URING_WINDOW_MIN);
    bufs->ring = map_pages(ring_bytes(n));
    bufs->mem = map_pages((size_t)n * URING_BUF_STRIDE);
    int rc = -ENOMEM;
    if (bufs->ring == NULL || bufs->mem == NULL) {
        goto fail;
    }
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)bufs->ring,
        .ring_entries = n,
        .bgid = URING_BUF_GROUP,
    };
    rc = io_uring_register_buf_ring(ring, &reg, 0);
    if (rc < 0) {
        goto fail;
    }
    io_uring_buf_ring_init(bufs->ring);

    bufs->blks = xmalloc(sizeof(*bufs->blks) + n * sizeof(struct blk));
    bufs->blks->bufs = bufs;
    bufs->free = xmalloc(n * sizeof(*bufs->free));
    for (unsigned i = 0; i < n; i++) {
        bufs->blks->blk[i] = (struct blk){
            .base = bufs->mem + (size_t)i * URING_BUF_STRIDE,
            .cap = URING_BUF_STRIDE,
            .pool = pool,
            .release = release,
            .kind = BLK_RING,
            .ring_id = (uint16_t)i,
        };
        bufs->free[i] = (uint16_t)(n - 1 - i);
    }
    bufs->n_free = n;
    ASAN_POISON_MEMORY_REGION(bufs->mem, (size_t)n * URING_BUF_STRIDE);
    return 0;
fail:
    uring_bufs_fini(bufs, NULL);
    return rc;
}

void uring_bufs_fini(struct uring_bufs *bufs, struct io_uring *ring) {
    if (ring != NULL && bufs->free != NULL) {
        io_uring_unregister_buf_ring(ring, URING_BUF_GROUP);
    }
    if (bufs->mem != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(bufs->mem, (size_t)bufs->n * URING_BUF_STRIDE);
        munmap(bufs->mem, (size_t)bufs->n * URING_BUF_STRIDE);
    }
    if (bufs->ring != NULL) {
        munmap(bufs->ring, ring_bytes(bufs->n));
    }
    free(bufs->blks);
    free(bufs->free);
    *bufs = (struct uring_bufs){0};
}

struct blk *uring_bufs_take(struct uring_bufs *bufs, uint16_t id) {
    CHECK(id < bufs->n && bufs->n_given > 0);
    struct blk *blk = &bufs->blks->blk[id];
    CHECK(blk->refs == 0);
    bufs->n_given--;
    blk->refs = 1;
    ASAN_UNPOISON_MEMORY_REGION(blk->base, blk->cap);
    return blk;
}

void uring_bufs_refill(struct uring_bufs *bufs) {
    int mask = io_uring_buf_ring_mask(bufs->n);
    int n = 0;
    while (bufs->n_given + (uint32_t)n < bufs->window && bufs->n_free > 0) {
        uint16_t id = bufs->free[--bufs->n_free];
        io_uring_buf_ring_add(bufs->ring, bufs->blks->blk[id].base + BLK_HEADROOM, URING_BUF_SIZE,
                              id, mask, n++);
    }
    if (n > 0) {
        io_uring_buf_ring_advance(bufs->ring, n);
        bufs->n_given += (uint32_t)n;
    }
}

void uring_bufs_starved(struct uring_bufs *bufs) {
    bufs->is_starved = true;
    bufs->window = MIN(bufs->n, bufs->window * 2);
}
