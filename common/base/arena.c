// SPDX-License-Identifier: Apache-2.0
#include "common/base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "common/base/asan.h"

enum {
    ALIGN = alignof(max_align_t),
    FIRST_CHUNK = 1024,
    MAX_CHUNK = 64 * 1024, // larger objects get a chunk of their own
};

struct arena_chunk {
    struct arena_chunk *next;
    size_t cap;
    alignas(ALIGN) uint8_t bytes[];
};

void arena_init(struct arena *arena, size_t max) {
    *arena = (struct arena){.max = max};
}

static void chunks_free(struct arena_chunk *chunk) {
    while (chunk != NULL) {
        struct arena_chunk *next = chunk->next;
        ASAN_UNPOISON(chunk->bytes, chunk->cap);
        free(chunk);
        chunk = next;
    }
}

void arena_fini(struct arena *arena) {
    chunks_free(arena->chunks);
    arena_init(arena, arena->max);
}

static void use_chunk(struct arena *arena, struct arena_chunk *chunk) {
    ASAN_POISON(chunk->bytes, chunk->cap);
    arena->at = chunk->bytes;
    arena->end = chunk->bytes + chunk->cap;
}

void arena_reset(struct arena *arena) {
    struct arena_chunk *kept = arena->chunks;
    arena->n_bytes = 0;
    if (kept == NULL) {
        return;
    }
    chunks_free(kept->next);
    kept->next = NULL;
    if (kept->cap > MAX_CHUNK) {
        // One huge object must not make the arena huge for ever.
        arena_fini(arena);
        return;
    }
    use_chunk(arena, kept);
}

static struct arena_chunk *chunk_new(size_t cap) {
    struct arena_chunk *chunk = xmalloc(sizeof(*chunk) + cap);
    chunk->next = NULL;
    chunk->cap = cap;
    return chunk;
}

static void *alloc_slow(struct arena *arena, size_t size) {
    struct arena_chunk *newest = arena->chunks;
    if (newest != NULL && size > MAX_CHUNK / 4) {
        // Behind the newest chunk, whose free part stays in use.
        struct arena_chunk *own = chunk_new(size);
        own->next = newest->next;
        newest->next = own;
        return own->bytes;
    }
    size_t cap = newest != NULL ? MIN(newest->cap * 2, (size_t)MAX_CHUNK) : FIRST_CHUNK;
    struct arena_chunk *chunk = chunk_new(MAX(cap, size));
    chunk->next = newest;
    arena->chunks = chunk;
    use_chunk(arena, chunk);
    void *ptr = arena->at;
    ASAN_UNPOISON(ptr, size);
    arena->at += size;
    return ptr;
}

void *arena_alloc(struct arena *arena, size_t size) {
    size_t left = arena->max - arena->n_bytes;
    if (size > left || size > SIZE_MAX / 2) {
        return NULL;
    }
    size_t rounded = MAX((size + ALIGN - 1) / ALIGN * ALIGN, (size_t)ALIGN);
    arena->n_bytes += MIN(rounded, left);
    if (rounded > (size_t)(arena->end - arena->at)) {
        return alloc_slow(arena, rounded);
    }
    void *ptr = arena->at;
    ASAN_UNPOISON(ptr, size);
    arena->at += rounded;
    return ptr;
}

void *arena_zalloc(struct arena *arena, size_t size) {
    void *ptr = arena_alloc(arena, size);
    if (ptr != NULL) {
        memset(ptr, 0, size);
    }
    return ptr;
}

void *arena_array(struct arena *arena, size_t n, size_t size) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n, size, &n_bytes)) {
        return NULL;
    }
    return arena_zalloc(arena, n_bytes);
}

bool arena_copy(struct arena *arena, struct slice bytes, struct slice *ret_copy) {
    if (bytes.len == SIZE_MAX) {
        return false;
    }
    uint8_t *copy = arena_alloc(arena, bytes.len + 1);
    if (copy == NULL) {
        return false;
    }
    if (bytes.len > 0) {
        memcpy(copy, bytes.ptr, bytes.len);
    }
    copy[bytes.len] = '\0';
    *ret_copy = slice_make(copy, bytes.len);
    return true;
}

char *arena_strdup(struct arena *arena, struct slice text) {
    struct slice copy;
    return arena_copy(arena, text, &copy) ? (char *)copy.ptr : NULL;
}
