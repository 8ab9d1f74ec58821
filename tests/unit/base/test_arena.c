// SPDX-License-Identifier: Apache-2.0
#include "common/base/arena.h"

#include <stdalign.h>

#include "common/base/rand.h"
#include "common/base/slab.h"
#include "tests/unit/base/unit.h"

static void test_arena_caps(void **state) {
    for (size_t max = 0; max <= 64; max++) {
        struct arena arena;
        arena_init(&arena, max);
        size_t n = 0;
        while (arena_alloc(&arena, 8) != NULL) {
            n++;
        }
        // 16 bytes of each are counted, the last may fit without its padding.
        assert_int_equal(n, max / 16 + (max % 16 >= 8 ? 1 : 0));
        assert_true(arena.n_bytes <= max);
        assert_null(arena_alloc(&arena, 65));
        arena_fini(&arena);
    }
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    struct slice copy;
    assert_false(arena_copy(&arena, slice_make("", SIZE_MAX), &copy));
    arena_fini(&arena);
}

static void test_arena_memory(void **state) {
    struct rand rand;
    rand_seed(&rand, 3);
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    for (int round = 0; round < 20; round++) {
        enum { N = 300 };
        uint8_t *ptrs[N];
        size_t sizes[N];
        for (int i = 0; i < N; i++) {
            sizes[i] = rand_below(&rand, rand_chance(&rand, 1, 30) ? 100000 : 200);
            ptrs[i] = arena_alloc(&arena, sizes[i]);
            assert_int_equal((uintptr_t)ptrs[i] % alignof(max_align_t), 0);
            memset(ptrs[i], i, sizes[i]);
        }
        for (int i = 0; i < N; i++) {
            for (size_t j = 0; j < sizes[i]; j++) {
                assert_int_equal(ptrs[i][j], i & 0xff);
            }
        }
        arena_reset(&arena);
        assert_int_equal(arena.n_bytes, 0);
    }
    uint8_t *zeros = arena_array(&arena, 10, 30);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(zeros[i], 0);
    }
    assert_string_equal(arena_strdup(&arena, SLICE_LIT("text")), "text");
    assert_string_equal(arena_strdup(&arena, (struct slice){0}), "");
    arena_fini(&arena);
}

static void test_arena_huge_first(void **state) {
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    memset(arena_alloc(&arena, 1 << 20), 1, 1 << 20);
    arena_reset(&arena); // the huge chunk is not kept
    assert_null(arena.chunks);
    memset(arena_alloc(&arena, 100), 1, 100);
    arena_reset(&arena);
    assert_non_null(arena.chunks);
    arena_fini(&arena);
}

static void test_slab_sizes(void **state) {
    static const size_t sizes[] = {1, 8, 16, 17, 100, 700, 1024, 5000, 70000};
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        struct slab slab;
        slab_init(&slab, sizes[s]);
        enum { N = 100 };
        uint8_t *objects[N];
        for (int i = 0; i < N; i++) {
            objects[i] = i % 2 ? slab_alloc(&slab) : slab_zalloc(&slab);
            assert_int_equal((uintptr_t)objects[i] % alignof(max_align_t), 0);
            memset(objects[i], i, sizes[s]);
        }
        assert_int_equal(slab.n_live, N);
        for (int i = 0; i < N; i++) {
            assert_int_equal(objects[i][0], i);
            assert_int_equal(objects[i][sizes[s] - 1], i);
            slab_free(&slab, objects[i]);
        }
        slab_free(&slab, NULL);
        assert_int_equal(slab.n_live, 0);
        assert_int_equal(slab.n_bytes, slab.chunk_size); // one empty chunk is kept
        slab_fini(&slab);
        assert_int_equal(slab.n_bytes, 0);
    }
}

static void test_slab_reuse(void **state) {
    struct slab slab;
    slab_init(&slab, 64);
    void *a = slab_alloc(&slab);
    void *b = slab_alloc(&slab);
    slab_free(&slab, a);
    assert_ptr_equal(slab_alloc(&slab), a);
    slab_free(&slab, b);
    slab_free(&slab, a);
    slab_fini(&slab);
}

static void test_slab_model(void **state) {
    enum { N = 3000 };
    static uint64_t *live[N];
    struct rand rand;
    rand_seed(&rand, 11);
    struct slab slab;
    slab_init(&slab, 200);
    size_t n_live = 0;
    for (int step = 0; step < 100000; step++) {
        size_t i = rand_below(&rand, N);
        // Waves: mostly allocating, then mostly freeing.
        bool is_growing = step / 20000 % 2 == 0;
        if (live[i] == NULL && rand_chance(&rand, is_growing ? 9 : 1, 10)) {
            live[i] = slab_alloc(&slab);
            *live[i] = i;
            n_live++;
        } else if (live[i] != NULL && rand_chance(&rand, is_growing ? 1 : 9, 10)) {
            assert_true(*live[i] == i);
            slab_free(&slab, live[i]);
            live[i] = NULL;
            n_live--;
        }
        assert_int_equal(slab.n_live, n_live);
        assert_true(slab.n_empty <= 1);
    }
    for (size_t i = 0; i < N; i++) {
        slab_free(&slab, live[i]);
    }
    slab_fini(&slab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_caps),       cmocka_unit_test(test_arena_memory),
        cmocka_unit_test(test_arena_huge_first), cmocka_unit_test(test_slab_sizes),
        cmocka_unit_test(test_slab_reuse),       cmocka_unit_test(test_slab_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
