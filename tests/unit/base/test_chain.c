// SPDX-License-Identifier: Apache-2.0
#include "common/base/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "tests/unit/base/unit.h"

static void test_blk_cold(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 2);
    static const size_t sizes[] = {0, 1, 100, 65536};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct blk *blk = blk_new_cold(&pool, sizes[i]);
        assert_int_equal(blk->cap, sizes[i]);
        assert_int_equal(pool.stats.cold_bytes, sizes[i]);
        assert_int_equal(pool.stats.n_cold, 1);
        assert_false(blk_is_hot(blk));
        memset(blk->base, 0xab, sizes[i]);
        blk_ref(blk);
        assert_false(blk_is_exclusive(blk));
        blk_unref(blk);
        assert_true(blk_is_exclusive(blk));
        blk_unref(blk);
        assert_int_equal(pool.stats.n_cold, 0);
    }
    blk_unref(NULL);
    blk_pool_fini(&pool);
}

static void test_blk_bulk(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 2);
    struct blk *blks[4];
    for (int i = 0; i < 4; i++) {
        blks[i] = blk_new_bulk(&pool);
        assert_int_equal((uintptr_t)blks[i]->base % 64, 0);
        assert_int_equal(blks[i]->cap, BLK_BULK_SLOTS * BLK_SLOT_SIZE);
        assert_true(blk_is_hot(blks[i]));
        memset(blks[i]->base, i, blks[i]->cap);
    }
    assert_int_equal(pool.stats.n_bulk, 4);
    for (int i = 0; i < 4; i++) {
        blk_unref(blks[i]);
    }
    // The first two given back were kept, the others freed; last in, first out.
    assert_int_equal(pool.stats.n_bulk, 0);
    assert_int_equal(pool.stats.n_bulk_free, 2);
    struct blk *again = blk_new_bulk(&pool);
    assert_ptr_equal(again, blks[1]);
    assert_int_equal(again->refs, 1);
    blk_unref(again);
    blk_pool_fini(&pool);
}

static unsigned n_released;

static void count_release(struct blk *blk) {
    n_released++;
}

static struct blk ring_blk(struct blk_pool *pool, uint8_t *memory, uint32_t cap) {
    return (struct blk){
        .base = memory,
        .cap = cap,
        .refs = 1,
        .pool = pool,
        .release = count_release,
        .kind = BLK_RING,
    };
}

static void assert_chain(const struct chain *chain, const char *text) {
    char copy[256];
    size_t n = chain_peek(chain, copy, sizeof(copy));
    assert_int_equal(n, strlen(text));
    assert_int_equal(chain->len, n);
    assert_memory_equal(copy, text, n);
}

static void test_ring_release(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 0);
    uint8_t memory[] = "0123456789";
    struct blk blk = ring_blk(&pool, memory, 10);
    struct chain chain, other;
    chain_init(&chain, &pool);
    chain_init(&other, &pool);
    n_released = 0;
    chain_append(&chain, &blk, 2, 6);
    chain_move(&other, &chain, 2);
    blk_unref(&blk);
    assert_chain(&other, "23");
    assert_chain(&chain, "4567");
    chain_skip(&chain, 4);
    assert_true(chain_empty(&chain));
    assert_int_equal(n_released, 0);
    chain_clear(&other);
    assert_int_equal(n_released, 1);
    // Nothing to append: the reference goes at once.
    blk.refs = 1;
    chain_give(&chain, &blk, 0, 0);
    assert_int_equal(n_released, 2);
    assert_true(chain_empty(&chain));
    blk_pool_fini(&pool);
}

static void test_copy_rooms(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 0);
    struct chain chain;
    chain_init(&chain, &pool);
    chain_copy(&chain, (struct slice){0});
    assert_true(chain_empty(&chain));

    // Small pieces gather in one block, up to its room without the tailroom.
    size_t n = 0;
    while (chain.n_segs < 2) {
        chain_copy(&chain, SLICE_LIT("x"));
        n++;
        const struct seg *seg = chain.tail;
        assert_true(seg->headroom >= BLK_HEADROOM && seg->tailroom >= BLK_TAILROOM);
        assert_true(seg->off + seg->len + seg->tailroom <= seg->blk->cap);
    }
    assert_true(n > 256);
    assert_int_equal(chain.len, n);
    chain_clear(&chain);

    // A block that someone else holds too is not written.
    chain_copy(&chain, SLICE_LIT("abc"));
    struct blk *held = blk_ref(chain.tail->blk);
    chain_copy(&chain, SLICE_LIT("def"));
    assert_int_equal(chain.n_segs, 2);
    assert_chain(&chain, "abcdef");
    blk_unref(held);
    chain_clear(&chain);

    // Large copies are cut so that every segment can be sealed as one record.
    size_t len = 3 * (size_t)BLK_DATA_MAX + 5;
    uint8_t *bytes = xcalloc(1, len);
    chain_copy(&chain, slice_make(bytes, len));
    assert_int_equal(chain.n_segs, 4);
    assert_int_equal(chain.len, len);
    for (const struct seg *seg = chain.head; seg != NULL; seg = seg->next) {
        assert_in_range(seg->len, 1, BLK_DATA_MAX);
        assert_true(seg->headroom >= BLK_HEADROOM && seg->tailroom >= BLK_TAILROOM);
    }
    assert_int_equal(chain.head->blk->cap, BLK_HEADROOM + BLK_DATA_MAX + BLK_TAILROOM);
    free(bytes);
    chain_clear(&chain);
    blk_pool_fini(&pool);
}

static void test_room_of_cut(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 1);
    struct chain a, b;
    chain_init(&a, &pool);
    chain_init(&b, &pool);
    chain_give_room(&a, blk_new_bulk(&pool), 14, 100, 14, 17);
    chain_move(&b, &a, 30);
    assert_int_equal(b.head->headroom, 14);
    assert_int_equal(b.head->tailroom, 0);
    assert_int_equal(a.head->headroom, 0);
    assert_int_equal(a.head->tailroom, 17);
    assert_int_equal(a.head->off, 44);
    struct seg seg;
    assert_true(chain_pop(&a, &seg));
    assert_int_equal(seg.len, 70);
    assert_null(seg.next);
    assert_false(chain_pop(&a, &seg));
    chain_push(&b, &seg);
    assert_int_equal(b.len, 100);
    assert_int_equal(b.tail->tailroom, 17);
    assert_int_equal(chain_capacity(&b), BLK_BULK_SLOTS * BLK_SLOT_SIZE);
    chain_clear(&b);
    blk_pool_fini(&pool);
}

// What waits for a short time stays where it is while few bulk blocks are in use.
static void test_cool(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 4);
    struct chain chain;
    chain_init(&chain, &pool);
    assert_false(chain_cool(&chain));
    chain_copy(&chain, SLICE_LIT("cold"));
    assert_false(chain_cool(&chain));
    for (int i = 0; i < BLK_BULK_WARM; i++) {
        struct blk *blk = blk_new_bulk(&pool);
        memset(blk->base, 'h', BLK_DATA_MAX);
        chain_give(&chain, blk, 0, BLK_DATA_MAX);
    }
    assert_true(chain_cool(&chain));
    assert_int_equal(pool.stats.n_bulk, BLK_BULK_WARM);
    assert_int_equal(pool.stats.n_cold, 1);
    // Two more are in use: as many are copied as there are too many, from the front.
    struct blk *others[2] = {blk_new_bulk(&pool), blk_new_bulk(&pool)};
    assert_true(chain_cool(&chain));
    assert_int_equal(pool.stats.n_bulk, BLK_BULK_WARM);
    assert_int_equal(pool.stats.n_cold, 3);
    assert_false(blk_is_hot(chain.head->next->next->blk));
    assert_true(blk_is_hot(chain.head->next->next->next->blk));
    blk_unref(others[0]);
    blk_unref(others[1]);
    // An entry of a ring is wanted back, whatever is in use.
    struct blk entry = {.cap = 8, .refs = 2, .pool = &pool, .kind = BLK_RING};
    uint8_t bytes[8] = "ring";
    entry.base = bytes;
    chain_give(&chain, &entry, 0, 4);
    assert_true(chain_cool(&chain));
    assert_int_equal(entry.refs, 1);
    assert_false(blk_is_hot(chain.tail->blk));
    chain_to_cold(&chain);
    assert_int_equal(pool.stats.n_bulk, 0);
    chain_clear(&chain);
    blk_pool_fini(&pool);
}

static void test_to_cold(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 4);
    struct chain chain;
    chain_init(&chain, &pool);
    chain_to_cold(&chain);
    // hot hot cold hot: the first two become one block of exact size.
    struct blk *hot = blk_new_bulk(&pool);
    memcpy(hot->base, "abcdefgh", 8);
    chain_append(&chain, hot, 0, 2);
    chain_append(&chain, hot, 2, 2);
    chain_copy(&chain, SLICE_LIT("--"));
    chain_append(&chain, hot, 4, 4);
    const struct blk *cold = chain.head->next->next->blk;
    chain_to_cold(&chain);
    assert_int_equal(hot->refs, 1);
    blk_unref(hot);
    assert_int_equal(pool.stats.n_bulk, 0);
    assert_int_equal(chain.n_segs, 3);
    assert_int_equal(chain.head->blk->cap, BLK_HEADROOM + 4 + BLK_TAILROOM);
    assert_ptr_equal(chain.head->next->blk, cold);
    assert_ptr_equal(chain.tail, chain.head->next->next);
    assert_chain(&chain, "abcd--efgh");
    chain_clear(&chain);

    // Runs of hot segments are cut at one record; a larger segment stays one.
    hot = blk_new_bulk(&pool);
    chain_append(&chain, hot, 0, BLK_DATA_MAX + 31);
    for (int i = 0; i < 3; i++) {
        chain_append(&chain, hot, 0, BLK_DATA_MAX / 2);
    }
    blk_unref(hot);
    chain_to_cold(&chain);
    assert_int_equal(chain.n_segs, 3);
    assert_int_equal(chain.head->len, BLK_DATA_MAX + 31);
    assert_int_equal(chain.head->next->len, BLK_DATA_MAX / 2 * 2);
    assert_int_equal(pool.stats.cold_bytes, chain_capacity(&chain));
    chain_clear(&chain);
    blk_pool_fini(&pool);
}

static void test_iovec(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 4);
    struct chain chain;
    chain_init(&chain, &pool);
    struct blk *hot = blk_new_bulk(&pool);
    for (uint32_t i = 1; i <= 5; i++) {
        chain_append(&chain, hot, i * 100, i);
    }
    for (int max = 0; max <= 7; max++) {
        struct iovec iov[7];
        size_t n_bytes;
        int n = chain_iovec(&chain, iov, max, &n_bytes);
        assert_int_equal(n, MIN(max, 5));
        assert_int_equal(n_bytes, n * (n + 1) / 2);
        for (int i = 0; i < n; i++) {
            assert_ptr_equal(iov[i].iov_base, hot->base + (i + 1) * 100);
            assert_int_equal(iov[i].iov_len, i + 1);
        }
    }
    blk_unref(hot);
    chain_clear(&chain);
    blk_pool_fini(&pool);
}

static void test_node_recycling(void **state) {
    struct blk_pool pool;
    blk_pool_init(&pool, 1);
    struct chain chain;
    chain_init(&chain, &pool);
    struct blk *hot = blk_new_bulk(&pool);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 3000; i++) {
            chain_append(&chain, hot, i, 1);
        }
        assert_int_equal(pool.live_segs, 3000);
        chain_clear(&chain);
        assert_int_equal(pool.live_segs, 0);
        assert_int_equal(pool.n_free_segs, 1024);
    }
    blk_unref(hot);
    blk_pool_fini(&pool);
}

// Random operations on two chains against plain byte arrays.

enum { MODEL_CAP = 1 << 20, N_CHAINS = 2 };

struct model {
    struct blk_pool pool;
    struct rand rand;
    struct chain chains[N_CHAINS];
    uint8_t *bytes[N_CHAINS];
    size_t len[N_CHAINS];
};

static void model_check(struct model *model, int which) {
    const struct chain *chain = &model->chains[which];
    assert_int_equal(chain->len, model->len[which]);
    size_t at = 0;
    uint32_t n_segs = 0;
    for (const struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        assert_true(seg->len > 0);
        assert_true(seg->headroom <= seg->off);
        assert_true(seg->off + seg->len + seg->tailroom <= seg->blk->cap);
        assert_memory_equal(seg_ptr(seg), model->bytes[which] + at, seg->len);
        at += seg->len;
        n_segs++;
        assert_true(seg->next != NULL || seg == chain->tail);
    }
    assert_int_equal(at, chain->len);
    assert_int_equal(n_segs, chain->n_segs);
}

static void model_add(struct model *model, int which, const uint8_t *bytes, size_t len) {
    assert_true(model->len[which] + len <= MODEL_CAP);
    memcpy(model->bytes[which] + model->len[which], bytes, len);
    model->len[which] += len;
}

static void model_drop(struct model *model, int which, size_t n) {
    memmove(model->bytes[which], model->bytes[which] + n, model->len[which] - n);
    model->len[which] -= n;
}

static void op_fill(struct model *model, int which) {
    struct chain *chain = &model->chains[which];
    if (rand_chance(&model->rand, 1, 2)) {
        uint8_t bytes[600];
        size_t len = rand_below(&model->rand, sizeof(bytes));
        rand_bytes(&model->rand, bytes, len);
        chain_copy(chain, slice_make(bytes, len));
        model_add(model, which, bytes, len);
        return;
    }
    struct blk *blk = blk_new_bulk(&model->pool);
    uint32_t len = (uint32_t)rand_below(&model->rand, 5000);
    uint32_t off = (uint32_t)rand_below(&model->rand, 1000);
    rand_bytes(&model->rand, blk->base + off, len);
    model_add(model, which, blk->base + off, len);
    if (rand_chance(&model->rand, 1, 2)) {
        chain_append(chain, blk, off, len);
        blk_unref(blk);
    } else {
        chain_give_room(chain, blk, off, len, (uint16_t)off, 17);
    }
}

static void op_move(struct model *model, int from) {
    int to = 1 - from;
    size_t n = rand_below(&model->rand, model->len[from] + 1);
    if (rand_chance(&model->rand, 1, 8)) {
        n = model->len[from];
        chain_move_all(&model->chains[to], &model->chains[from]);
    } else {
        chain_move(&model->chains[to], &model->chains[from], n);
    }
    model_add(model, to, model->bytes[from], n);
    model_drop(model, from, n);
}

static void op_drop(struct model *model, int which) {
    struct chain *chain = &model->chains[which];
    struct seg seg;
    if (rand_chance(&model->rand, 1, 3) && chain_pop(chain, &seg)) {
        model_drop(model, which, seg.len);
        blk_unref(seg.blk);
        return;
    }
    size_t max = MIN(model->len[which], (size_t)8000);
    size_t n = rand_below(&model->rand, max + 1);
    chain_skip(chain, n);
    model_drop(model, which, n);
}

static void run_model(uint64_t seed) {
    struct model model = {0};
    blk_pool_init(&model.pool, 8);
    rand_seed(&model.rand, seed);
    for (int i = 0; i < N_CHAINS; i++) {
        chain_init(&model.chains[i], &model.pool);
        model.bytes[i] = xmalloc(MODEL_CAP);
    }
    for (int step = 0; step < 2000; step++) {
        int which = (int)rand_below(&model.rand, N_CHAINS);
        switch (rand_below(&model.rand, 8)) {
        case 0:
        case 1:
        case 2:
            if (model.len[0] + model.len[1] < 100000) {
                op_fill(&model, which);
            }
            break;
        case 3:
            op_move(&model, which);
            break;
        case 4:
            chain_to_cold(&model.chains[which]);
            break;
        default:
            op_drop(&model, which);
            break;
        }
        model_check(&model, 0);
        model_check(&model, 1);
    }
    for (int i = 0; i < N_CHAINS; i++) {
        chain_clear(&model.chains[i]);
        assert_int_equal(model.chains[i].len, 0);
        free(model.bytes[i]);
    }
    blk_pool_fini(&model.pool); // CHECKs that nothing leaked
}

static void test_model(void **state) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        print_message("seed %d\n", (int)seed);
        run_model(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blk_cold),       cmocka_unit_test(test_blk_bulk),
        cmocka_unit_test(test_ring_release),   cmocka_unit_test(test_copy_rooms),
        cmocka_unit_test(test_room_of_cut),    cmocka_unit_test(test_to_cold),
        cmocka_unit_test(test_cool),           cmocka_unit_test(test_iovec),
        cmocka_unit_test(test_node_recycling), cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
