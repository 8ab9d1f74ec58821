// SPDX-License-Identifier: Apache-2.0
#include "common/base/rand.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/check.h"

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rand_seed(struct rand *rand, uint64_t seed) {
    // splitmix64 spreads near seeds apart and never yields the all-zero state.
    for (size_t i = 0; i < ARRAY_LEN(rand->s); i++) {
        rand->s[i] = splitmix64(&seed);
    }
}

void rand_seed_os(struct rand *rand) {
    uint64_t seed;
    rand_os_bytes(&seed, sizeof(seed));
    rand_seed(rand, seed);
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

uint64_t rand_u64(struct rand *rand) {
    uint64_t *s = rand->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t rand_below(struct rand *rand, uint64_t n) {
    CHECK(n > 0);
    // Lemire's multiplication; the few values that would favour some results are drawn again.
    __uint128_t product = (__uint128_t)rand_u64(rand) * n;
    if ((uint64_t)product < n) {
        uint64_t threshold = -n % n;
        while ((uint64_t)product < threshold) {
            product = (__uint128_t)rand_u64(rand) * n;
        }
    }
    return (uint64_t)(product >> 64);
}

uint64_t rand_range(struct rand *rand, uint64_t min, uint64_t max) {
    CHECK(min <= max);
    uint64_t span = max - min;
    return span == UINT64_MAX ? rand_u64(rand) : min + rand_below(rand, span + 1);
}

bool rand_chance(struct rand *rand, uint64_t numerator, uint64_t denominator) {
    return rand_below(rand, denominator) < numerator;
}

void rand_bytes(struct rand *rand, void *dst, size_t len) {
    uint8_t *at = dst;
    while (len > 0) {
        uint64_t word = rand_u64(rand);
        size_t n = MIN(len, sizeof(word));
        memcpy(at, &word, n);
        at += n;
        len -= n;
    }
}

void rand_os_bytes(void *dst, size_t len) {
    uint8_t *at = dst;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        CHECK(n > 0 || (n < 0 && errno == EINTR));
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}
