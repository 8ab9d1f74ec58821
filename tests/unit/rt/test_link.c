// SPDX-License-Identifier: Apache-2.0
//
// Two links joined by a connection, on every back end: integrity both ways in both modes, pauses,
// half-close, resets, slow readers, closing in each state.
#include "common/rt/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/rt/bed.h"

enum { PATTERN_LEN = 1000003 }; // prime: no block size hides a shift

static uint8_t *pattern; // PATTERN_LEN bytes, twice

static int make_pattern(void **state) {
    uint64_t rng = 1;
    pattern = malloc(2 * PATTERN_LEN);
    for (size_t i = 0; i < PATTERN_LEN; i++) {
        pattern[i] = pattern[i + PATTERN_LEN] = (uint8_t)rng_next(&rng);
    }
    return 0;
}

static int drop_pattern(void **state) {
    free(pattern);
    return 0;
}

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

static uint64_t record_size(struct end *end) {
    uint64_t state = end->record;
    uint64_t size = 1 + rng_below(&state, 16406);
    return MIN(size, end->peer->to_send - end->received);
}

static void check_bytes(struct end *end, const uint8_t *bytes, uint32_t len) {
    while (len > 0) {
        uint32_t n = MIN(len, (uint32_t)PATTERN_LEN);
        assert_memory_equal(bytes, pattern + end->received % PATTERN_LEN, n);
        end->received += n;
        bytes += n;
        len -= n;
    }
}

static void maybe_pause(struct end *end) {
    if (end->pause_percent > 0 && rng_below(&end->rng, 100) < end->pause_percent) {
        link_read(&end->link, false);
        end->n_pauses++;
        timer_set(&end->bed->loop.timers, &end->resume,
                  end->bed->loop.now + rng_below(&end->rng, 3) * NS_PER_MS);
    }
}

static void on_resume(struct timer *timer, uint64_t now) {
    struct end *end = CONTAINER_OF(timer, struct end, resume);
    link_read(&end->link, true);
}

static uint32_t on_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_true(link->want_read && !end->has_eof && !end->is_closed);
    assert_true(head <= off && off + len + tail <= blk->cap && len > 0);
    uint32_t n_used = len;
    if (link->mode == LINK_CONTIG) {
        n_used = 0;
        uint64_t received = end->received;
        for (;;) {
            uint64_t size = record_size(end);
            if (size == 0 || size > len - n_used) {
                *ret_need = end->hides_need ? 0 : (uint32_t)size;
                break;
            }
            check_bytes(end, blk->base + off + n_used, (uint32_t)size);
            n_used += (uint32_t)size;
            end->record++;
        }
        assert_true(end->received == received + n_used);
    } else {
        assert_true(head >= BLK_HEADROOM && tail >= BLK_TAILROOM);
        check_bytes(end, blk->base + off, len);
        memset(blk->base + off - head, 0xee, head); // it is ours
        memset(blk->base + off + len, 0xee, MIN(tail, BLK_TAILROOM));
        if (end->keeps_blocks && rng_below(&end->rng, 4) == 0) {
            chain_clear(&end->kept);
            chain_append(&end->kept, blk, off, len);
        }
    }
    maybe_pause(end);
    return n_used;
}

static void refill(struct end *end) {
    while (end->queued < end->to_send && link_queued(&end->link) < end->max_queue) {
        size_t n = 1 + rng_below(&end->rng, end->max_chunk);
        n = MIN(n, end->to_send - end->queued);
        n = MIN(n, (size_t)PATTERN_LEN);
        struct chain data;
        chain_init(&data, &end->bed->pool);
        chain_copy(&data, slice_make(pattern + end->queued % PATTERN_LEN, n));
        link_write(&end->link, &data);
        end->queued += n;
    }
    if (end->queued == end->to_send) {
        link_fin(&end->link);
    }
}

static void maybe_close(struct end *end) {
    if (end->has_eof && end->queued == end->to_send && link_queued(&end->link) == 0 &&
        end->link.sent_fin) {
        link_close(&end->link);
    }
}

static void on_eof(struct link *link) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_true(link->want_read && !end->has_eof && !end->is_closed);
    end->has_eof = true;
    if (end->close_on_eof) {
        link_close(link);
    }
    maybe_close(end);
}

static void on_sent(struct link *link, size_t len) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_true(!end->is_closed && len > 0);
    refill(end);
}

static void on_error(struct link *link, int err) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_true(!end->is_closed && end->err == 0 && err < 0);
    end->err = err;
}

static void on_closed(struct link *link) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_false(end->is_closed);
    end->is_closed = true;
    timer_clear(&end->bed->loop.timers, &end->resume);
    chain_clear(&end->kept);
}

static const struct link_handler handler = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void end_init(struct end *end, struct bed *bed, int fd, enum link_mode mode,
                     struct end *peer, uint64_t seed) {
    *end = (struct end){.bed = bed, .peer = peer, .rng = seed};
    end->max_chunk = 40000;
    end->max_queue = 256 * 1024;
    timer_init(&end->resume, on_resume);
    chain_init(&end->kept, &bed->pool);
    link_init(&end->link, &bed->loop, fd, mode, &handler);
}

static void pair_init(struct bed *bed, struct end ends[2], enum link_mode mode0,
                      enum link_mode mode1) {
    int fds[2];
    bed_pair(bed, fds);
    end_init(&ends[0], bed, fds[0], mode0, &ends[1], 100);
    end_init(&ends[1], bed, fds[1], mode1, &ends[0], 200);
}

static void run_until_closed(struct bed *bed, struct end ends[2], unsigned limit_s) {
    uint64_t end_at = bed->loop.now + limit_s * NS_PER_SEC;
    while (!ends[0].is_closed || !ends[1].is_closed) {
        loop_turn(&bed->loop, true);
        maybe_close(&ends[0]);
        maybe_close(&ends[1]);
        assert_true(bed->loop.now < end_at);
    }
}

static void transfer(struct bed *bed, struct end ends[2], uint64_t n0, uint64_t n1) {
    ends[0].to_send = n0;
    ends[1].to_send = n1;
    for (int i = 0; i < 2; i++) {
        link_read(&ends[i].link, true);
        refill(&ends[i]);
    }
    run_until_closed(bed, ends, 60);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends[i].err, 0);
        assert_true(ends[i].has_eof);
        assert_int_equal(ends[i].received, ends[1 - i].to_send);
    }
}

static const enum bed_kind kinds[] = {BED_URING, BED_URING_PLAIN, BED_FAKE_CALM};

static void test_integrity(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int modes = 0; modes < 4; modes++) {
            struct bed bed;
            bed_init(&bed, kinds[k], NULL, (uint64_t)modes);
            struct end ends[2];
            pair_init(&bed, ends, modes & 1 ? LINK_CONTIG : LINK_SLOTS,
                      modes & 2 ? LINK_CONTIG : LINK_SLOTS);
            uint64_t n = bed_is_fake(&bed) ? 4 << 20 : 60 << 20;
            transfer(&bed, ends, n, n / 2);
            bed_fini(&bed);
        }
    }
}

// One bed with everything drawn from `seed`.
static void run_mixed(enum bed_kind kind, uint64_t seed, uint64_t n_bytes) {
    struct bed bed;
    bed_init(&bed, kind, NULL, seed);
    struct end ends[2];
    uint64_t rng = seed;
    pair_init(&bed, ends, rng_below(&rng, 2) ? LINK_CONTIG : LINK_SLOTS,
              rng_below(&rng, 2) ? LINK_CONTIG : LINK_SLOTS);
    for (int i = 0; i < 2; i++) {
        ends[i].pause_percent = (unsigned)rng_below(&rng, 3) * 10;
        ends[i].hides_need = rng_below(&rng, 2) != 0;
        ends[i].keeps_blocks = rng_below(&rng, 2) != 0;
        ends[i].max_chunk = (uint32_t)(1000u << rng_below(&rng, 8));
        ends[i].link.is_small_only = rng_below(&rng, 8) == 0;
    }
    uint64_t n0 = rng_below(&rng, n_bytes), n1 = rng_below(&rng, n_bytes);
    transfer(&bed, ends, n0, n1);
    bed_fini(&bed);
}

static void test_mixed(void **state) {
    for (uint64_t seed = 0; seed < 30; seed++) {
        run_mixed(seed % 2 ? BED_URING : BED_URING_PLAIN, seed, 4 << 20);
    }
}

static void test_simulated(void **state) {
    const char *only = getenv("SEED");
    uint64_t first = only != NULL ? strtoull(only, NULL, 10) : 0;
    uint64_t n = only != NULL ? 1 : 300;
    for (uint64_t seed = first; seed < first + n; seed++) {
        print_message("\rseed %lu", (unsigned long)seed);
        run_mixed(BED_FAKE, seed, 400000);
    }
    print_message("\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integrity),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_simulated),
    };
    return cmocka_run_group_tests(tests, make_pattern, drop_pattern);
}
