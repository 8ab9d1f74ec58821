// SPDX-License-Identifier: Apache-2.0
//
// A chunk is aligned to its size, so that an object's chunk is found by masking its address.
#include "common/base/slab.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/asan.h"

enum {
    ALIGN = alignof(max_align_t),
    MIN_CHUNK = 16 * 1024,
    MIN_PER_CHUNK = 16,
};

struct free_object {
    struct free_object *next;
};

struct chunk {
    struct slab *slab;
    struct list link; // in slab->partial or slab->full
    struct free_object *free;
    uint32_t n_live;
    uint32_t n_made; // objects handed out at least once; the memory behind was never touched
    alignas(ALIGN) uint8_t objects[];
};

void slab_init(struct slab *slab, size_t object_size) {
    CHECK(object_size > 0 && object_size <= 1024 * 1024);
    size_t size = (object_size + ALIGN - 1) / ALIGN * ALIGN;
    size_t chunk_size = MIN_CHUNK;
    while (chunk_size < sizeof(struct chunk) + MIN_PER_CHUNK * size) {
        chunk_size *= 2;
    }
    *slab = (struct slab){
        .size = size,
        .chunk_size = chunk_size,
        .per_chunk = (uint32_t)((chunk_size - sizeof(struct chunk)) / size),
    };
    list_init(&slab->partial);
    list_init(&slab->full);
}

static void chunk_free(struct slab *slab, struct chunk *chunk) {
    list_del(&chunk->link);
    slab->n_bytes -= slab->chunk_size;
    slab->n_empty--;
    ASAN_UNPOISON(chunk, slab->chunk_size);
    free(chunk);
}

void slab_fini(struct slab *slab) {
    CHECK(slab->n_live == 0 && list_empty(&slab->full));
    while (!list_empty(&slab->partial)) {
        chunk_free(slab, LIST_ITEM(slab->partial.next, struct chunk, link));
    }
}

static struct chunk *chunk_new(struct slab *slab) {
    struct chunk *chunk = aligned_alloc(slab->chunk_size, slab->chunk_size);
    if (chunk == NULL) {
        check_failed(__FILE__, __LINE__, "out of memory");
    }
    *chunk = (struct chunk){.slab = slab};
    ASAN_POISON(chunk->objects, slab->chunk_size - sizeof(*chunk));
    list_push_back(&slab->partial, &chunk->link);
    slab->n_bytes += slab->chunk_size;
    slab->n_empty++;
    return chunk;
}

void *slab_alloc(struct slab *slab) {
    struct chunk *chunk = list_empty(&slab->partial)
                              ? chunk_new(slab)
                              : LIST_ITEM(slab->partial.next, struct chunk, link);
    void *object = chunk->free;
    if (object != NULL) {
        ASAN_UNPOISON(object, slab->size);
        chunk->free = chunk->free->next;
    } else {
        object = chunk->objects + chunk->n_made * slab->size;
        ASAN_UNPOISON(object, slab->size);
        chunk->n_made++;
    }
    slab->n_empty -= chunk->n_live == 0 ? 1 : 0;
    chunk->n_live++;
    slab->n_live++;
    if (chunk->n_live == slab->per_chunk) {
        list_del(&chunk->link);
        list_push_back(&slab->full, &chunk->link);
    }
    return object;
}

void *slab_zalloc(struct slab *slab) {
    return memset(slab_alloc(slab), 0, slab->size);
}

void slab_free(struct slab *slab, void *object) {
    if (object == NULL) {
        return;
    }
    struct chunk *chunk = (struct chunk *)((uintptr_t)object & ~(slab->chunk_size - 1));
    CHECK(chunk->slab == slab && chunk->n_live > 0);
    struct free_object *node = object;
    node->next = chunk->free;
    chunk->free = node;
    ASAN_POISON(object, slab->size);
    if (chunk->n_live == slab->per_chunk) {
        list_del(&chunk->link);
        list_push_front(&slab->partial, &chunk->link);
    }
    chunk->n_live--;
    slab->n_live--;
    if (chunk->n_live > 0) {
        return;
    }
    slab->n_empty++;
    if (slab->n_empty > 1) {
        chunk_free(slab, chunk);
        return;
    }
    // Chunks in use are filled first, so that this one may stay empty.
    list_del(&chunk->link);
    list_push_back(&slab->partial, &chunk->link);
}
