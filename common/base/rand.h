// SPDX-License-Identifier: Apache-2.0
//
// Randomness. `struct rand` is a fast generator (xoshiro256**) for load balancing, jitter and
// tests: the same seed gives the same sequence on every machine, so that pure modules take one as
// an argument and a failed test can be repeated. Not for secrets: those come from rand_os_bytes().
//
// Thread: a generator belongs to one thread; rand_os_bytes from any.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rand {
    uint64_t s[4];
};

void rand_seed(struct rand *rand, uint64_t seed);
void rand_seed_os(struct rand *rand);

uint64_t rand_u64(struct rand *rand);
// Even over [0, n); n > 0.
uint64_t rand_below(struct rand *rand, uint64_t n);
// Even over [min, max], both included.
uint64_t rand_range(struct rand *rand, uint64_t min, uint64_t max);
// True with probability numerator / denominator (denominator > 0).
bool rand_chance(struct rand *rand, uint64_t numerator, uint64_t denominator);
void rand_bytes(struct rand *rand, void *dst, size_t len);

// Cryptographic bytes from the kernel. Never fails: aborts when the kernel has none.
void rand_os_bytes(void *dst, size_t len);
