// SPDX-License-Identifier: Apache-2.0
//
// Pairs of joined links that send a pattern to each other, both ways at once, and check it.
#pragma once

#include <linux/tcp.h>
#include <string.h>

#include "common/rt/link.h"
#include "tests/unit/rt/bed.h"

enum { PATTERN_LEN = 1000003 }; // prime: no block size hides a shift

// Of a group of tests.
int make_pattern(void **state);
int drop_pattern(void **state);

// One of two joined links. What it sends is the pattern, from its begin; what comes is compared.
struct end {
    struct link link;
    struct bed *bed;
    struct end *peer;
    uint64_t rng;
    uint64_t to_send, queued; // what is to be written, what was
    uint64_t received;
    uint64_t max_queue; // bytes kept queued in the link
    uint64_t record; // number of the next record (LINK_CONTIG)
    uint64_t record_left; // bytes to its end
    uint32_t max_chunk;
    unsigned pause_percent; // pauses after that share of the calls
    bool hides_need, keeps_blocks;
    bool has_eof, is_closed, close_on_eof;
    int err;
    unsigned n_pauses;
    struct timer resume;
    struct chain kept;
};

// Queues more, up to max_queue or over; FIN behind the last byte.
void end_refill(struct end *end);
// When both directions are done.
void end_maybe_close(struct end *end);
void end_on_error(struct link *link, int err);
void pair_init(struct bed *bed, struct end ends[2], enum link_mode mode0, enum link_mode mode1);
// Until both are closed, or the time is over, which fails.
void pair_run(struct bed *bed, struct end ends[2], unsigned limit_s);
// Sends so many bytes each way, and runs to the end.
void pair_transfer(struct bed *bed, struct end ends[2], uint64_t n0, uint64_t n1);

enum { LINK_N_KINDS = 4, LINK_N_REAL = 3 }; // the first ones: with the kernel's sockets
extern const enum bed_kind link_kinds[LINK_N_KINDS];

// Runs fn for a range of seeds; SEED=n in the environment: that one (TRACE=1: with its events),
// SEEDS=n: so many. The seed is the last line before a failure.
void for_seeds(uint64_t n, void (*fn)(uint64_t seed));
void pair_start(struct end ends[2], uint64_t n);
