// SPDX-License-Identifier: Apache-2.0
//
// Two links joined by a connection, on every back end: integrity both ways in both modes, pauses,
// half-close, resets, slow readers, closing in each state.
#include "common/rt/link.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
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
        maybe_close(&ends[0]);
        maybe_close(&ends[1]);
        loop_turn(&bed->loop, true);
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

static const enum bed_kind kinds[] = {BED_URING, BED_URING_PLAIN, BED_EPOLL, BED_FAKE_CALM};
enum { N_REAL = 3 }; // the first ones: with the kernel's sockets

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
        run_mixed(kinds[seed % N_REAL], seed, 4 << 20);
    }
}

static uint64_t env_number(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

// Runs fn for a range of seeds; SEED=n in the environment: that one (TRACE=1: with its events),
// SEEDS=n: so many. The seed is the last line before a failure.
static void for_seeds(uint64_t n, void (*fn)(uint64_t seed)) {
    uint64_t first = env_number("SEED", 0);
    n = getenv("SEED") != NULL ? 1 : env_number("SEEDS", n);
    for (uint64_t seed = first; seed < first + n; seed++) {
        print_message("\rseed %lu", (unsigned long)seed);
        fn(seed);
    }
    print_message("\n");
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
                                                   .on_error = on_error,
                                                   .on_closed = on_talker_closed};

static void test_silent_sends(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        struct talker talkers[2];
        int fds[2];
        bed_init(&bed, kinds[k], NULL, 3);
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
                                                   .on_error = on_error,
                                                   .on_closed = on_talker_closed};

// What must get through any path leaves in small segments, also what was queued before; what comes
// later does not.
static void test_segments(void **state) {
    for (size_t k = 0; k < N_REAL; k++) {
        struct bed bed;
        struct talker talkers[2];
        int fds[2];
        bed_init(&bed, kinds[k], NULL, 3);
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

// ---- Endings ----

static void test_half_close(void **state) {
    // One side ends at once and the other sends for long; and the other way round.
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int who = 0; who < 2; who++) {
            struct bed bed;
            bed_init(&bed, kinds[k], NULL, 7);
            struct end ends[2];
            pair_init(&bed, ends, LINK_SLOTS, LINK_CONTIG);
            transfer(&bed, ends, who ? 0 : 3 << 20, who ? 3 << 20 : 0);
            bed_fini(&bed);
        }
    }
}

static void start(struct end ends[2], uint64_t n) {
    for (int i = 0; i < 2; i++) {
        ends[i].to_send = n;
        link_read(&ends[i].link, true);
        refill(&ends[i]);
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
    start(ends, 1 + rng_below(&rng, 2 << 20));
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
        maybe_close(&ends[0]);
        maybe_close(&ends[1]);
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
        run_ending(kinds[seed % N_REAL], seed);
    }
}

static void test_reset_seen(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int is_bulk = 0; is_bulk < 2; is_bulk++) {
            struct bed bed;
            bed_init(&bed, kinds[k], NULL, 3);
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
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 3);
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
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 3);
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
        transfer(&bed, busy, 100000, 100000);
        bed_fini(&bed);
    }
}

// ---- Memory and modes ----

static void test_slow_reader(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 9);
        struct end ends[2];
        pair_init(&bed, ends, LINK_SLOTS, LINK_SLOTS);
        ends[0].to_send = 64 << 20;
        refill(&ends[0]); // ends[1] reads nothing
        bed_run_ms(&bed, 200);
        assert_true(ends[0].queued < ends[0].to_send);
        assert_true(link_queued(&ends[0].link) > 0);
        // What waits is cold and as large as its bytes.
        assert_int_equal(bed.pool.stats.n_bulk, 0);
        assert_true(bed.pool.stats.cold_bytes < 2 * (ends[0].max_queue + ends[0].max_chunk));
        ends[1].to_send = 0;
        link_read(&ends[0].link, true);
        link_read(&ends[1].link, true);
        refill(&ends[1]);
        if (bed_is_fake(&bed)) {
            link_abort(&ends[0].link);
            link_abort(&ends[1].link);
        }
        run_until_closed(&bed, ends, 60);
        bed_fini(&bed);
    }
}

// A sender's hot blocks must not stay hot while they wait for a full socket.
static void test_hot_to_cold(void **state) {
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 9);
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
        run_until_closed(&bed, ends, 10);
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
        start(&ends[2 * i], 100000);
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
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (int mode = 0; mode < 2; mode++) {
            struct bed bed;
            bed_init(&bed, kinds[k], NULL, 9);
            struct end ends[2];
            pair_init(&bed, ends, LINK_SLOTS, mode ? LINK_CONTIG : LINK_SLOTS);
            ends[1].to_send = 0;
            ends[0].to_send = UINT64_MAX; // no FIN
            ends[0].max_queue = 0; // nothing by itself
            link_read(&ends[1].link, true);
            for (int round = 0; round < 3; round++) {
                ends[0].max_queue = 1 << 20;
                for (int i = 0; i < 10; i++) {
                    refill(&ends[0]);
                    bed_run_ms(&bed, 1);
                }
                assert_true(bed_is_fake(&bed) || ends[1].link.is_bulk);
                ends[0].max_queue = 1;
                bed_run_ms(&bed, bed_is_fake(&bed) ? 300 : 20);
                ends[0].max_chunk = 100;
                for (int i = 0; i < 500 && ends[1].link.is_bulk; i++) {
                    refill(&ends[0]);
                    bed_run_ms(&bed, 2);
                }
                assert_false(ends[1].link.is_bulk);
                ends[0].max_chunk = 40000;
            }
            ends[0].to_send = ends[0].queued;
            refill(&ends[0]);
            refill(&ends[1]);
            link_read(&ends[0].link, true);
            run_until_closed(&bed, ends, 10);
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
        start(&ends[2 * i], 1 << 20);
    }
    for (int i = 0; i < N; i++) {
        run_until_closed(&bed, &ends[2 * i], 30);
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
        start(&ends[2 * i], 1 << 20);
    }
    for (int i = 0; i < N; i++) {
        run_until_closed(&bed, &ends[2 * i], 30);
        assert_int_equal(ends[2 * i].received, 1 << 20);
        assert_int_equal(ends[2 * i + 1].received, 1 << 20);
    }
    bed_fini(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integrity),       cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_simulated),       cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_endings),         cmocka_unit_test(test_reset_seen),
        cmocka_unit_test(test_close_unstarted), cmocka_unit_test(test_error_watch),
        cmocka_unit_test(test_slow_reader),     cmocka_unit_test(test_hot_to_cold),
        cmocka_unit_test(test_idle_memory),     cmocka_unit_test(test_mode_switch),
        cmocka_unit_test(test_silent_sends),    cmocka_unit_test(test_no_buffers),
        cmocka_unit_test(test_overflow),        cmocka_unit_test(test_segments),
    };
    return cmocka_run_group_tests(tests, make_pattern, drop_pattern);
}
