// SPDX-License-Identifier: Apache-2.0
//
// A test bed: one loop on a back end, and pairs of connected sockets on it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// after the four that it needs
#include <cmocka.h>

#include "common/rt/fake.h"
#include "common/rt/loop.h"
#include "common/rt/uring.h"

enum bed_kind {
    BED_URING,
    BED_URING_PLAIN, // without the newer features
    BED_EPOLL,
    BED_FAKE, // the simulator, with the faults of fake_chaos(seed)
    BED_FAKE_CALM, // without faults
};

struct bed {
    enum bed_kind kind;
    struct blk_pool pool;
    struct fake_net *net; // BED_FAKE
    struct io *io;
    struct loop loop;
    int n_fds; // open descriptors of the process at the start
};

// uring: NULL = defaults. seed: of the simulator.
void bed_init(struct bed *bed, enum bed_kind kind, const struct uring_options *uring,
              uint64_t seed);
void bed_fini(struct bed *bed); // checks that nothing is left: ops, blocks, descriptors
void bed_pair(struct bed *bed, int ret_fds[2]); // connected TCP sockets
static inline bool bed_is_fake(const struct bed *bed) {
    return bed->net != NULL;
}
// Runs turns until *done; fails the test after limit_s seconds of the loop's time.
void bed_run(struct bed *bed, const bool *done, unsigned limit_s);
void bed_run_ms(struct bed *bed, unsigned ms); // for a while

int count_fds(void);

// A small generator of random numbers for tests.
static inline uint64_t rng_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
static inline uint64_t rng_below(uint64_t *state, uint64_t n) {
    return rng_next(state) % n;
}
