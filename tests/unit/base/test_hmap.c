// SPDX-License-Identifier: Apache-2.0
#include "common/base/hmap.h"

#include "common/base/rand.h"
#include "tests/unit/base/unit.h"

struct item {
    struct hmap_node node;
    unsigned key;
    bool is_in;
    unsigned mark;
};

static struct item *find(const struct hmap *map, uint64_t hash, unsigned key) {
    HMAP_EACH_WITH_HASH(pos, map, hash) {
        struct item *item = HMAP_ITEM(pos, struct item, node);
        if (item->key == key) {
            return item;
        }
    }
    return NULL;
}

static uint64_t hash_good(unsigned key) {
    return hash_bytes(slice_make(&key, sizeof(key)));
}

static uint64_t hash_poor(unsigned key) {
    return key % 3;
}

enum { N = 5000 };

static void check_all(const struct hmap *map, struct item *items, unsigned mark) {
    size_t n = 0;
    HMAP_EACH_SAFE(pos, map) {
        struct item *item = HMAP_ITEM(pos, struct item, node);
        assert_true(item->is_in);
        assert_true(item->mark != mark); // seen once only
        item->mark = mark;
        n++;
    }
    assert_int_equal(n, map->n_items);
}

static void run_model(uint64_t (*hash)(unsigned key), unsigned n, int n_steps, uint64_t seed) {
    static struct item items[N];
    memset(items, 0, sizeof(items));
    struct rand rand;
    rand_seed(&rand, seed);
    struct hmap map;
    hmap_init(&map);
    size_t n_in = 0;
    for (int step = 0; step < n_steps; step++) {
        unsigned i = (unsigned)rand_below(&rand, n);
        struct item *item = &items[i];
        item->key = i;
        assert_ptr_equal(find(&map, hash(i), i), item->is_in ? item : NULL);
        bool is_growing = step / (n_steps / 4) % 2 == 0;
        if (!item->is_in && rand_chance(&rand, is_growing ? 9 : 2, 10)) {
            hmap_insert(&map, &item->node, hash(i));
            item->is_in = true;
            n_in++;
        } else if (item->is_in && rand_chance(&rand, is_growing ? 1 : 9, 10)) {
            hmap_remove(&map, &item->node);
            item->is_in = false;
            n_in--;
        }
        assert_int_equal(map.n_items, n_in);
        if (step % 499 == 0) {
            check_all(&map, items, (unsigned)step + 1);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        assert_ptr_equal(find(&map, hash(i), i), items[i].is_in ? &items[i] : NULL);
    }
    // Removing while walking.
    HMAP_EACH_SAFE(pos, &map) {
        struct item *item = HMAP_ITEM(pos, struct item, node);
        item->is_in = false;
        hmap_remove(&map, pos);
    }
    assert_int_equal(map.n_items, 0);
    assert_null(hmap_first(&map));
    assert_null(find(&map, hash(1), 1));
    assert_null(map.now.buckets); // an empty map holds no memory
    hmap_fini(&map);
}

static void test_model(void **state) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run_model(hash_good, N, 60000, seed);
        run_model(hash_poor, 100, 5000, seed);
    }
}

static void test_same_key(void **state) {
    struct hmap map;
    hmap_init(&map);
    struct item items[3] = {0};
    for (int i = 0; i < 3; i++) {
        hmap_insert(&map, &items[i].node, 99);
    }
    int n = 0;
    HMAP_EACH_WITH_HASH(pos, &map, 99) {
        n++;
    }
    assert_int_equal(n, 3);
    hmap_remove(&map, &items[1].node);
    n = 0;
    HMAP_EACH_WITH_HASH(pos, &map, 99) {
        assert_ptr_not_equal(pos, &items[1].node);
        n++;
    }
    assert_int_equal(n, 2);
    hmap_fini(&map);
    assert_null(hmap_find(&map, 99));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_same_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
