// SPDX-License-Identifier: Apache-2.0
//
// Memory that is given up as a whole: one request, one decode, one leaf of a snapshot. Allocation
// is a pointer bump; nothing is freed singly. A maximum bounds what a peer can make us keep.
//
// Thread: one at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/slice.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; // newest first
    uint8_t *at, *end; // free part of the newest chunk
    size_t n_bytes; // asked for, with alignment
    size_t max; // largest n_bytes
};

// Allocates nothing yet. max = SIZE_MAX: no limit (for input that is bounded elsewhere).
void arena_init(struct arena *arena, size_t max);
void arena_fini(struct arena *arena);
// Gives up all objects; keeps one chunk for the next round.
void arena_reset(struct arena *arena);

// Uninitialised / zeroed memory aligned for any object; NULL when the maximum would be exceeded.
void *arena_alloc(struct arena *arena, size_t size) MUST_USE;
void *arena_zalloc(struct arena *arena, size_t size) MUST_USE;
// An array of zeroed items; also NULL when n * size overflows.
void *arena_array(struct arena *arena, size_t n, size_t size) MUST_USE;
#define ARENA_NEW(arena, type) ((type *)arena_zalloc((arena), sizeof(type)))

// Copies with a NUL behind the bytes (not counted in the length). False / NULL at the maximum.
bool arena_copy(struct arena *arena, struct slice bytes, struct slice *ret_copy) MUST_USE;
char *arena_strdup(struct arena *arena, struct slice text) MUST_USE;
