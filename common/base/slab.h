// SPDX-License-Identifier: Apache-2.0
//
// Fixed-size objects of one worker. Freed objects are reused first; a chunk of memory whose objects
// are all free goes back to the allocator (one is kept), so that memory after a burst shrinks.
//
// No cap of its own: who allocates compares slab.n_live with the limit it keeps. Thread: one.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/list.h"

struct slab {
    size_t size; // of an object, rounded up to the alignment of any type
    size_t n_live; // objects handed out
    size_t n_bytes; // memory held from the allocator
    size_t chunk_size; // a power of two, chunks are aligned to it
    uint32_t per_chunk;
    uint32_t n_empty; // chunks without live objects
    struct list partial; // chunks with free objects, the ones in use first
    struct list full;
};

void slab_init(struct slab *slab, size_t object_size);
// CHECKs that no object is live.
void slab_fini(struct slab *slab);

// Uninitialised / zeroed. Never NULL.
void *slab_alloc(struct slab *slab) __attribute__((returns_nonnull));
void *slab_zalloc(struct slab *slab) __attribute__((returns_nonnull));
// NULL is allowed. The object must come from this slab.
void slab_free(struct slab *slab, void *object);
