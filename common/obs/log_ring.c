// SPDX-License-Identifier: Apache-2.0
//
// A record is a header and the line, in one piece, a multiple of 16 bytes. Where the rest up to the
// end of the memory is too short for it, a header with the length SKIP fills that rest.
#include "common/obs/log_ring.h"

#include <stdlib.h>

#include "common/base/check.h"

struct record {
    uint64_t time_ns;
    uint32_t len;
    uint32_t unused;
};

#define SKIP UINT32_MAX

static size_t record_size(size_t len) {
    return (sizeof(struct record) + len + sizeof(struct record) - 1) & ~(sizeof(struct record) - 1);
}

void log_ring_init(struct log_ring *ring, size_t size) {
    CHECK(size >= 64 && (size & (size - 1)) == 0);
    *ring = (struct log_ring){.bytes = xmalloc(size), .size = size};
}

void log_ring_fini(struct log_ring *ring) {
    free(ring->bytes);
    ring->bytes = NULL;
}

static struct record *record_at(const struct log_ring *ring, size_t pos) {
    return (struct record *)(ring->bytes + (pos & (ring->size - 1)));
}

static bool has_room(struct log_ring *ring, size_t head, size_t need) {
    if (ring->size - (head - ring->cached_tail) >= need) {
        return true;
    }
    ring->cached_tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return ring->size - (head - ring->cached_tail) >= need;
}

bool log_ring_push(struct log_ring *ring, uint64_t time_ns, struct slice line) {
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t need = record_size(line.len);
    size_t to_end = ring->size - (head & (ring->size - 1));
    size_t skip = need > to_end ? to_end : 0;
    if (need > ring->size || !has_room(ring, head, skip + need)) {
        return false;
    }
    if (skip != 0) {
        record_at(ring, head)->len = SKIP;
        head += skip;
    }
    struct record *record = record_at(ring, head);
    record->time_ns = time_ns;
    record->len = (uint32_t)line.len;
    memcpy(record + 1, line.ptr, line.len);
    // Sequentially consistent: the producer looks next at the "consumer knows" flag, the consumer
    // clears that flag before it looks here; one of the two must see the other.
    atomic_store(&ring->head, head + need);
    return true;
}

bool log_ring_is_half_full(struct log_ring *ring) {
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return !has_room(ring, head, ring->size / 2);
}

bool log_ring_peek(struct log_ring *ring, uint64_t *ret_time_ns, struct slice *ret_line) {
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load(&ring->head);
    if (tail == head) {
        return false;
    }
    const struct record *record = record_at(ring, tail);
    if (record->len == SKIP) {
        tail += ring->size - (tail & (ring->size - 1));
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
        record = record_at(ring, tail); // published together with the skip
    }
    *ret_time_ns = record->time_ns;
    *ret_line = slice_make(record + 1, record->len);
    return true;
}

void log_ring_pop(struct log_ring *ring) {
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t need = record_size(record_at(ring, tail)->len);
    atomic_store_explicit(&ring->tail, tail + need, memory_order_release);
}
