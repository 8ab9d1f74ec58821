// SPDX-License-Identifier: Apache-2.0
//
// Two links joined by a connection, on every back end: integrity both ways in both modes, pauses,
// half-close, resets, slow readers, closing in each state.
#include "common/rt/link.h"

#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/rt/bed.h"
#include "tests/unit/rt/link_bed.h"

// ---- Endings ----

static void test_half_close(void **state) {
    // One side ends at once and the other sends for long; and the other way round.
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        for (int who = 0; who < 2; who++) {
            struct bed bed;
            bed_init(&bed, link_kinds[k], NULL, 7);
            struct end ends[2];
            pair_init(&bed, ends, LINK_SLOTS, LINK_CONTIG);
            pair_transfer(&bed, ends, who ? 0 : 3 << 20, who ? 3 << 20 : 0);
            bed_fini(&bed);
        }
    }
}

enum ending { END_ABORT, END_CLOSE, END_NET_RESET, END_VANISH, N_ENDINGS };

static void end_somehow(struct bed *bed, struct end *end, enum ending how) {
    if (end->is_closed) {
        return;
    }
    switch (how) {
    case END_ABORT:
        link_abort(&end->link);
        break;
    case END_CLOSE:
        link_close(&end->link);
        break;
    case END_NET_RESET:
        bed_is_fake(bed) ? fake_reset(bed->net, end->link.fd) : link_abort(&end->link);
        break;
    default:
        bed_is_fake(bed) ? fake_vanish(bed->net, end->link.fd, NS_PER_SEC) : link_abort(&end->link);
        break;
    }
}

// At a random moment of a transfer both ways.
static void run_ending(enum bed_kind kind, uint64_t seed) {
    struct bed bed;
    bed_init(&bed, kind, NULL, seed);
    uint64_t rng = seed + 1000;
    struct end ends[2];
    pair_init(&bed, ends, rng_below(&rng, 2) ? LINK_CONTIG : LINK_SLOTS,
              rng_below(&rng, 2) ? LINK_CONTIG : LINK_SLOTS);
    for (int i = 0; i < 2; i++) {
        ends[i].pause_percent = (unsigned)rng_below(&rng, 2) * 20;
        ends[i].keeps_blocks = rng_below(&rng, 2) != 0;
        ends[i].max_chunk = (uint32_t)(1000u << rng_below(&rng, 8));
    }
    pair_start(ends, 1 + rng_below(&rng, 2 << 20));
    for (uint64_t n = rng_below(&rng, 200); n > 0 && !ends[0].is_closed; n--) {
        loop_turn(&bed.loop, bed_is_fake(&bed));
    }
    enum ending how = (enum ending)rng_below(&rng, N_ENDINGS);
    if (getenv("TRACE") != NULL && bed_is_fake(&bed)) {
        fake_set_trace(bed.net, stderr);
    }
    end_somehow(&bed, &ends[0], how);
    if (rng_below(&rng, 4) == 0) {
        end_somehow(&bed, &ends[1], END_ABORT);
    }
    // A paused or a stalled link does not notice a peer's end; its owner ends it some day.
    for (int i = 0; i < 3000 && !(ends[0].is_closed && ends[1].is_closed); i++) {
        loop_turn(&bed.loop, false);
        if (bed_is_fake(&bed)) {
            fake_skip(bed.net, NS_PER_MS);
        }
        end_maybe_close(&ends[0]);
        end_maybe_close(&ends[1]);
    }
    if (how != END_CLOSE && ends[1].is_closed && ends[1].has_eof) {
        // A flow that was cut never looks complete.
        assert_int_equal(ends[1].received, ends[0].to_send);
    }
    link_abort(&ends[1].link);
    bed_run(&bed, &ends[1].is_closed, 10);
    bed_run(&bed, &ends[0].is_closed, 10);
    bed_fini(&bed);
}

static void run_simulated_ending(uint64_t seed) {
    run_ending(BED_FAKE, seed);
}

static void test_endings(void **state) {
    for_seeds(1000, run_simulated_ending);
    for (uint64_t seed = 0; seed < 100; seed++) {
        run_ending(link_kinds[seed % LINK_N_REAL], seed);
    }
}

static void test_reset_seen(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        for (int is_bulk = 0; is_bulk < 2; is_bulk++) {
            struct bed bed;
            bed_init(&bed, link_kinds[k], NULL, 3);
            struct end ends[2];
            pair_init(&bed, ends, LINK_SLOTS, LINK_SLOTS);
            ends[1].link.is_bulk = is_bulk;
            link_read(&ends[0].link, true);
            link_read(&ends[1].link, true);
            bed_run_ms(&bed, 5);
            link_abort(&ends[0].link);
            bed_run(&bed, &ends[1].is_closed, 5);
            assert_true(ends[0].is_closed);
            assert_int_equal(ends[0].err, 0);
            assert_int_equal(ends[1].err, -ECONNRESET);
            assert_false(ends[1].has_eof);
            bed_fini(&bed);
        }
    }
}

static void test_close_unstarted(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        struct bed bed;
        bed_init(&bed, link_kinds[k], NULL, 3);
        struct end ends[2];
        pair_init(&bed, ends, LINK_SLOTS, LINK_SLOTS);
        link_close(&ends[0].link);
        link_close(&ends[0].link); // twice is once
        link_abort(&ends[1].link);
        assert_false(ends[0].is_closed); // never from inside the call
        bed_run(&bed, &ends[0].is_closed, 5);
        bed_run(&bed, &ends[1].is_closed, 5);
        bed_fini(&bed);
    }
}

// A link that is not reading notices in time that its peer is gone.
static void test_error_watch(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        struct bed bed;
        bed_init(&bed, link_kinds[k], NULL, 3);
        struct end paused[2], half[2], busy[2];
        pair_init(&bed, paused, LINK_SLOTS, LINK_SLOTS);
        pair_init(&bed, half, LINK_SLOTS, LINK_SLOTS);
        pair_init(&bed, busy, LINK_SLOTS, LINK_SLOTS);
        link_read(&paused[1].link, true);
        link_read(&paused[1].link, false);
        link_read(&half[1].link, true);
        half[0].to_send = half[1].to_send = UINT64_MAX;
        link_fin(&half[0].link); // and never more from half[1]
        link_read(&busy[1].link, true);
        bed_run_ms(&bed, 50);
        assert_true(half[1].has_eof);
        bed_run_ms(&bed, 2500); // the polls are armed
        // A pause that has lasted is ended, another has begun: nothing is left behind.
        link_read(&busy[1].link, false);
        bed_run_ms(&bed, 2500);
        link_read(&busy[1].link, true);
        bed_run_ms(&bed, 20);
        link_abort(&paused[0].link);
        link_abort(&half[0].link);
        bed_run(&bed, &paused[1].is_closed, 10);
        bed_run(&bed, &half[1].is_closed, 10);
        assert_int_equal(paused[1].err, -ECONNRESET);
        assert_true(half[1].err == -ECONNRESET || half[1].err == -EPIPE);
        assert_false(busy[1].is_closed);
        pair_transfer(&bed, busy, 100000, 100000);
        bed_fini(&bed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_close),  cmocka_unit_test(test_endings),
        cmocka_unit_test(test_reset_seen),  cmocka_unit_test(test_close_unstarted),
        cmocka_unit_test(test_error_watch),
    };
    return cmocka_run_group_tests(tests, make_pattern, drop_pattern);
}
