// SPDX-License-Identifier: Apache-2.0
//
// Two links joined by a connection, on every back end: integrity both ways in both modes, pauses,
// half-close, resets, slow readers, closing in each state.
#include "common/rt/link.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/unit/rt/bed.h"
#include "tests/unit/rt/link_bed.h"

static void test_integrity(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        for (int modes = 0; modes < 4; modes++) {
            struct bed bed;
            bed_init(&bed, link_kinds[k], NULL, (uint64_t)modes);
            struct end ends[2];
            pair_init(&bed, ends, modes & 1 ? LINK_CONTIG : LINK_SLOTS,
                      modes & 2 ? LINK_CONTIG : LINK_SLOTS);
            uint64_t n = bed_is_fake(&bed) ? 4 << 20 : 60 << 20;
            pair_transfer(&bed, ends, n, n / 2);
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
    pair_transfer(&bed, ends, n0, n1);
    bed_fini(&bed);
}

static void test_mixed(void **state) {
    for (uint64_t seed = 0; seed < 30; seed++) {
        run_mixed(link_kinds[seed % LINK_N_REAL], seed, 4 << 20);
    }
}

static void run_simulated(uint64_t seed) {
    run_mixed(BED_FAKE, seed, 400000);
}

static void test_simulated(void **state) {
    for_seeds(300, run_simulated);
}

// ---- Sends that end no wait ----

struct talker {
    struct link link;
    struct talker *peer;
    unsigned n_received, n_sent_calls;
    bool minds, is_closed;
};

static void talk(struct talker *talker) {
    struct chain data;
    chain_init(&data, talker->link.loop->pool);
    chain_copy(&data, SLICE_LIT("message"));
    link_write(&talker->link, &data);
}

static uint32_t on_message(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                           uint16_t head, uint16_t tail, uint32_t *ret_need) {
    struct talker *talker = CONTAINER_OF(link, struct talker, link);
    talker->n_received++;
    talk(talker);
    return len;
}

static void on_message_sent(struct link *link, size_t len) {
    assert_int_equal(len, 7);
    CONTAINER_OF(link, struct talker, link)->n_sent_calls++;
}

static bool minds_message_sent(const struct link *link) {
    return CONTAINER_OF(link, const struct talker, link)->minds;
}

static void on_talker_eof(struct link *link) {
    link_close(link);
}

static void on_talker_closed(struct link *link) {
    CONTAINER_OF(link, struct talker, link)->is_closed = true;
}

static const struct link_handler talker_handler = {.on_data = on_message,
                                                   .on_sent = on_message_sent,
                                                   .minds_sent = minds_message_sent,
                                                   .on_eof = on_talker_eof,
                                                   .on_error = end_on_error,
                                                   .on_closed = on_talker_closed};

static void test_silent_sends(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        struct bed bed;
        struct talker talkers[2];
        int fds[2];
        bed_init(&bed, link_kinds[k], NULL, 3);
        bed_pair(&bed, fds);
        for (int i = 0; i < 2; i++) {
            talkers[i] = (struct talker){.peer = &talkers[1 - i]};
            link_init(&talkers[i].link, &bed.loop, fds[i], LINK_SLOTS, &talker_handler);
            link_read(&talkers[i].link, true);
        }
        enum { N = 200 };
        talk(&talkers[0]);
        uint64_t n_turns = bed.loop.stats.n_turns;
        while (talkers[0].n_received < N) {
            loop_turn(&bed.loop, true);
        }
        if (!bed_is_fake(&bed)) { // a turn a message: no send has ended a wait
            assert_in_range(bed.loop.stats.n_turns - n_turns, 2 * N, 2 * N + 10);
        }
        assert_in_range(talkers[0].n_sent_calls, N, N + 1);
        // Somebody comes to mind when the send is submitted already: the loop does not wait.
        link_read(&talkers[1].link, false);
        bed_run_ms(&bed, 3);
        talk(&talkers[1]);
        link_read(&talkers[0].link, false);
        loop_turn(&bed.loop, false);
        unsigned n_before = talkers[1].n_sent_calls;
        talkers[1].minds = true;
        loop_turn(&bed.loop, true);
        bool is_silent = bed.io->ops->send_silently != NULL; // else it was told at once
        assert_int_equal(talkers[1].n_sent_calls, n_before + is_silent);
        link_close(&talkers[0].link);
        link_close(&talkers[1].link);
        while (!talkers[0].is_closed || !talkers[1].is_closed) {
            loop_turn(&bed.loop, true);
        }
        bed_fini(&bed);
    }
}

static uint32_t n_segments_out(int fd) {
    struct tcp_info info;
    socklen_t len = sizeof(info);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_data_segs_out;
}

static void on_any_sent(struct link *link, size_t len) {
}

static const struct link_handler writer_handler = {.on_data = on_message,
                                                   .on_sent = on_any_sent,
                                                   .on_eof = on_talker_eof,
                                                   .on_error = end_on_error,
                                                   .on_closed = on_talker_closed};

// What must get through any path leaves in small segments, also what was queued before; what comes
// later does not.
static void test_segments(void **state) {
    for (size_t k = 0; k < LINK_N_REAL; k++) {
        struct bed bed;
        struct talker talkers[2];
        int fds[2];
        bed_init(&bed, link_kinds[k], NULL, 3);
        bed_pair(&bed, fds);
        for (int i = 0; i < 2; i++) {
            talkers[i] = (struct talker){.peer = &talkers[1 - i]};
            link_init(&talkers[i].link, &bed.loop, fds[i], LINK_SLOTS, &writer_handler);
        }
        static const uint8_t bytes[3 * LINK_SEGMENT];
        struct link *link = &talkers[0].link;
        for (int i = 0; i < 3; i++) { // queued; segmented; as it comes
            struct chain data;
            chain_init(&data, bed.loop.pool);
            chain_copy(&data, slice_make(bytes, i == 0 ? 100 : sizeof(bytes)));
            if (i == 1) {
                link_write_segments(link, &data);
            } else {
                link_write(link, &data);
            }
            if (i > 0) {
                bed_run_ms(&bed, 3);
                assert_int_equal(link_queued(link), 0);
                assert_int_equal(n_segments_out(fds[0]), i == 1 ? 4 : 5);
            }
        }
        for (int i = 0; i < 2; i++) {
            link_close(&talkers[i].link);
        }
        while (!talkers[0].is_closed || !talkers[1].is_closed) {
            loop_turn(&bed.loop, true);
        }
        bed_fini(&bed);
    }
}

// ---- Memory and modes ----

static void test_slow_reader(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        struct bed bed;
        bed_init(&bed, link_kinds[k], NULL, 9);
        struct end ends[2];
        pair_init(&bed, ends, LINK_SLOTS, LINK_SLOTS);
        ends[0].to_send = 64 << 20;
        end_refill(&ends[0]); // ends[1] reads nothing
        bed_run_ms(&bed, 200);
        assert_true(ends[0].queued < ends[0].to_send);
        assert_true(link_queued(&ends[0].link) > 0);
        // What waits is cold and as large as its bytes.
        assert_int_equal(bed.pool.stats.n_bulk, 0);
        assert_true(bed.pool.stats.cold_bytes < 2 * (ends[0].max_queue + ends[0].max_chunk));
        ends[1].to_send = 0;
        link_read(&ends[0].link, true);
        link_read(&ends[1].link, true);
        end_refill(&ends[1]);
        if (bed_is_fake(&bed)) {
            link_abort(&ends[0].link);
            link_abort(&ends[1].link);
        }
        pair_run(&bed, ends, 60);
        bed_fini(&bed);
    }
}

// A sender's hot blocks must not stay hot while they wait for a full socket.
static void test_hot_to_cold(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        struct bed bed;
        bed_init(&bed, link_kinds[k], NULL, 9);
        struct end ends[2];
        pair_init(&bed, ends, LINK_SLOTS, LINK_SLOTS);
        ends[0].to_send = UINT64_MAX; // no FIN
        ends[0].max_queue = 0;
        for (int i = 0; i < 400; i++) {
            struct chain data;
            chain_init(&data, &bed.pool);
            struct blk *blk = blk_new_bulk(&bed.pool);
            memset(blk->base, 1, 60000);
            chain_give(&data, blk, 0, 60000);
            link_write(&ends[0].link, &data);
            loop_turn(&bed.loop, false);
            loop_turn(&bed.loop, false);
        }
        for (int i = 0; i < 100 && bed.pool.stats.n_bulk > 0; i++) {
            bed_run_ms(&bed, LOOP_COOL_MS); // a busy machine may hold the loop up
        }
        assert_true(link_queued(&ends[0].link) > 0);
        assert_int_equal(bed.pool.stats.n_bulk, 0);
        link_abort(&ends[0].link);
        link_abort(&ends[1].link);
        pair_run(&bed, ends, 10);
        bed_fini(&bed);
    }
}

static void run_idle_memory(enum bed_kind kind) {
    struct bed bed;
    bed_init(&bed, kind, NULL, 0);
    enum { N = 50 };
    static struct end ends[2 * N];
    for (int i = 0; i < N; i++) {
        pair_init(&bed, &ends[2 * i], LINK_CONTIG, LINK_CONTIG);
        pair_start(&ends[2 * i], 100000);
        ends[2 * i].link.want_fin = ends[2 * i + 1].link.want_fin = false; // stay open
    }
    bed_run_ms(&bed, 500);
    for (int i = 0; i < 2 * N; i++) {
        assert_int_equal(ends[i].received, 100000);
        assert_null(ends[i].link.send_state);
        assert_null(ends[i].link.stash);
        assert_null(ends[i].link.held);
    }
    assert_int_equal(bed.pool.stats.n_cold, 0);
    assert_int_equal(bed.pool.stats.n_bulk, 0);
    assert_int_equal(bed.pool.live_segs, 0);
    if (kind == BED_URING) {
        struct uring_stats stats;
        uring_get_stats(bed.io, &stats);
        assert_int_equal(stats.n_buffers_out, 0);
    }
    for (int i = 0; i < 2 * N; i++) {
        link_close(&ends[i].link);
    }
    bed_run_ms(&bed, 50);
    bed_fini(&bed);
}

static void test_idle_memory(void **state) {
    assert_true(sizeof(struct link) <= 288);
    run_idle_memory(BED_URING);
    run_idle_memory(BED_EPOLL);
}

static void test_mode_switch(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(link_kinds); k++) {
        for (int mode = 0; mode < 2; mode++) {
            struct bed bed;
            bed_init(&bed, link_kinds[k], NULL, 9);
            struct end ends[2];
            pair_init(&bed, ends, LINK_SLOTS, mode ? LINK_CONTIG : LINK_SLOTS);
            ends[1].to_send = 0;
            ends[0].to_send = UINT64_MAX; // no FIN
            ends[0].max_queue = 0; // nothing by itself
            link_read(&ends[1].link, true);
            for (int round = 0; round < 3; round++) {
                ends[0].max_queue = 1 << 20;
                for (int i = 0; i < 10; i++) {
                    end_refill(&ends[0]);
                    bed_run_ms(&bed, 1);
                }
                assert_true(bed_is_fake(&bed) || ends[1].link.is_bulk);
                ends[0].max_queue = 1;
                bed_run_ms(&bed, bed_is_fake(&bed) ? 300 : 20);
                ends[0].max_chunk = 100;
                for (int i = 0; i < 500 && ends[1].link.is_bulk; i++) {
                    end_refill(&ends[0]);
                    bed_run_ms(&bed, 2);
                }
                assert_false(ends[1].link.is_bulk);
                ends[0].max_chunk = 40000;
            }
            ends[0].to_send = ends[0].queued;
            end_refill(&ends[0]);
            end_refill(&ends[1]);
            link_read(&ends[0].link, true);
            pair_run(&bed, ends, 10);
            // The record that the end cut short was never whole.
            uint64_t missing = ends[0].queued - ends[1].received;
            assert_true(mode ? missing < 16406 : missing == 0);
            bed_fini(&bed);
        }
    }
}

// Many links and two ring blocks, some of which their readers keep.
static void run_no_buffers(enum bed_kind kind) {
    struct bed bed;
    bed_init(&bed, kind, &(struct uring_options){.n_buffers = 2}, 0);
    enum { N = 20 };
    static struct end ends[2 * N];
    for (int i = 0; i < N; i++) {
        pair_init(&bed, &ends[2 * i], i % 2 ? LINK_CONTIG : LINK_SLOTS, LINK_SLOTS);
        ends[2 * i].keeps_blocks = ends[2 * i + 1].keeps_blocks = true;
        ends[2 * i].max_chunk = ends[2 * i + 1].max_chunk = 3000;
        pair_start(&ends[2 * i], 1 << 20);
    }
    for (int i = 0; i < N; i++) {
        pair_run(&bed, &ends[2 * i], 30);
        assert_int_equal(ends[2 * i].received, 1 << 20);
        assert_int_equal(ends[2 * i + 1].received, 1 << 20);
    }
    if (kind == BED_URING) {
        struct uring_stats stats;
        uring_get_stats(bed.io, &stats);
        assert_true(stats.n_no_buffers > 0);
        assert_int_equal(stats.n_overflows, 0);
    }
    bed_fini(&bed);
}

static void test_no_buffers(void **state) {
    run_no_buffers(BED_URING);
    run_no_buffers(BED_EPOLL);
}

// A completion queue that is far too small loses nothing.
static void test_overflow(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, &(struct uring_options){.entries = 2, .cq_entries = 4}, 0);
    enum { N = 20 };
    static struct end ends[2 * N];
    for (int i = 0; i < N; i++) {
        pair_init(&bed, &ends[2 * i], LINK_SLOTS, LINK_SLOTS);
        pair_start(&ends[2 * i], 1 << 20);
    }
    for (int i = 0; i < N; i++) {
        pair_run(&bed, &ends[2 * i], 30);
        assert_int_equal(ends[2 * i].received, 1 << 20);
        assert_int_equal(ends[2 * i + 1].received, 1 << 20);
    }
    bed_fini(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integrity),   cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_simulated),   cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_hot_to_cold), cmocka_unit_test(test_idle_memory),
        cmocka_unit_test(test_mode_switch), cmocka_unit_test(test_silent_sends),
        cmocka_unit_test(test_no_buffers),  cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_segments),
    };
    return cmocka_run_group_tests(tests, make_pattern, drop_pattern);
}
