// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <sys/mman.h>

#include "common/rt/uring_priv.h"

static size_t ring_bytes(unsigned n) {
    return n * sizeof(struct io_uring_buf);
}

static int open_ring(struct uring_bufs *bufs, struct io_uring *ring) {
    uint32_t n = bufs->blks.n;
    void *mem =
        mmap(NULL, ring_bytes(n), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) {
        return -ENOMEM;
    }
    bufs->ring = mem;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)bufs->ring,
        .ring_entries = n,
        .bgid = URING_BUF_GROUP,
    };
    int rc = io_uring_register_buf_ring(ring, &reg, 0);
    if (rc < 0) {
        return rc;
    }
    bufs->is_registered = true;
    io_uring_buf_ring_init(bufs->ring);
    return 0;
}

int uring_bufs_init(struct uring_bufs *bufs, struct io_uring *ring, struct blk_pool *pool,
                    unsigned n) {
    *bufs = (struct uring_bufs){0};
    int rc = ring_blks_init(&bufs->blks, pool, n);
    bufs->window = MIN(bufs->blks.n, (uint32_t)URING_WINDOW_MIN);
    if (rc == 0) {
        rc = open_ring(bufs, ring);
    }
    if (rc < 0) {
        uring_bufs_fini(bufs, ring);
    }
    return rc;
}

void uring_bufs_fini(struct uring_bufs *bufs, struct io_uring *ring) {
    if (bufs->is_registered) {
        io_uring_unregister_buf_ring(ring, URING_BUF_GROUP);
    }
    if (bufs->ring != NULL) {
        munmap(bufs->ring, ring_bytes(bufs->blks.n));
    }
    ring_blks_fini(&bufs->blks);
    *bufs = (struct uring_bufs){0};
}

struct blk *uring_bufs_take(struct uring_bufs *bufs, uint16_t id) {
    CHECK(bufs->n_given > 0);
    bufs->n_given--;
    return ring_blks_take(&bufs->blks, id);
}

void uring_bufs_refill(struct uring_bufs *bufs) {
    int mask = io_uring_buf_ring_mask(bufs->blks.n);
    int n = 0;
    while (bufs->n_given + (uint32_t)n < bufs->window && bufs->blks.n_free > 0) {
        uint16_t id = ring_blks_pop(&bufs->blks);
        io_uring_buf_ring_add(bufs->ring, ring_blks_payload(&bufs->blks, id), RING_BLK_SIZE, id,
                              mask, n++);
    }
    if (n > 0) {
        io_uring_buf_ring_advance(bufs->ring, n);
        bufs->n_given += (uint32_t)n;
    }
}

void uring_bufs_starved(struct uring_bufs *bufs) {
    bufs->is_starved = true;
    bufs->window = MIN(bufs->blks.n, bufs->window * 2);
}
