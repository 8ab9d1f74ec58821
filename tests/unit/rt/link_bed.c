// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/rt/link_bed.h"

#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "common/rt/link.h"
#include "tests/unit/rt/bed.h"

static uint8_t *pattern; // PATTERN_LEN bytes, twice

int make_pattern(void **state) {
    uint64_t rng = 1;
    pattern = malloc(2 * PATTERN_LEN);
    for (size_t i = 0; i < PATTERN_LEN; i++) {
        pattern[i] = pattern[i + PATTERN_LEN] = (uint8_t)rng_next(&rng);
    }
    return 0;
}

int drop_pattern(void **state) {
    free(pattern);
    return 0;
}

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

void end_refill(struct end *end) {
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

void end_maybe_close(struct end *end) {
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
    end_maybe_close(end);
}

static void on_sent(struct link *link, size_t len) {
    struct end *end = CONTAINER_OF(link, struct end, link);
    assert_true(!end->is_closed && len > 0);
    end_refill(end);
}

void end_on_error(struct link *link, int err) {
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
    .on_error = end_on_error,
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

void pair_init(struct bed *bed, struct end ends[2], enum link_mode mode0, enum link_mode mode1) {
    int fds[2];
    bed_pair(bed, fds);
    end_init(&ends[0], bed, fds[0], mode0, &ends[1], 100);
    end_init(&ends[1], bed, fds[1], mode1, &ends[0], 200);
}

void pair_run(struct bed *bed, struct end ends[2], unsigned limit_s) {
    uint64_t end_at = bed->loop.now + limit_s * NS_PER_SEC;
    while (!ends[0].is_closed || !ends[1].is_closed) {
        end_maybe_close(&ends[0]);
        end_maybe_close(&ends[1]);
        loop_turn(&bed->loop, true);
        assert_true(bed->loop.now < end_at);
    }
}

void pair_transfer(struct bed *bed, struct end ends[2], uint64_t n0, uint64_t n1) {
    ends[0].to_send = n0;
    ends[1].to_send = n1;
    for (int i = 0; i < 2; i++) {
        link_read(&ends[i].link, true);
        end_refill(&ends[i]);
    }
    pair_run(bed, ends, 60);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends[i].err, 0);
        assert_true(ends[i].has_eof);
        assert_int_equal(ends[i].received, ends[1 - i].to_send);
    }
}

const enum bed_kind link_kinds[LINK_N_KINDS] = {BED_URING, BED_URING_PLAIN, BED_EPOLL,
                                                BED_FAKE_CALM};

static uint64_t env_number(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

void for_seeds(uint64_t n, void (*fn)(uint64_t seed)) {
    uint64_t first = env_number("SEED", 0);
    n = getenv("SEED") != NULL ? 1 : env_number("SEEDS", n);
    for (uint64_t seed = first; seed < first + n; seed++) {
        print_message("\rseed %lu", (unsigned long)seed);
        fn(seed);
    }
    print_message("\n");
}

void pair_start(struct end ends[2], uint64_t n) {
    for (int i = 0; i < 2; i++) {
        ends[i].to_send = n;
        link_read(&ends[i].link, true);
        end_refill(&ends[i]);
    }
}
