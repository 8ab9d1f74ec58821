// SPDX-License-Identifier: Apache-2.0
#include "common/base/pmap.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/base/rand.h"
#include "tests/unit/base/unit.h"

struct item {
    char key[16];
    int refs;
    int version;
};

static int n_live;

static struct item *item_new(unsigned number, int version) {
    struct item *item = xcalloc(1, sizeof(*item));
    snprintf(item->key, sizeof(item->key), "key-%u", number);
    item->refs = 1;
    item->version = version;
    n_live++;
    return item;
}

static struct slice item_key(const void *value) {
    return slice_str(((const struct item *)value)->key);
}

static void item_ref(void *value) {
    ((struct item *)value)->refs++;
}

static void item_unref(void *value) {
    struct item *item = value;
    assert_true(item->refs > 0);
    if (--item->refs == 0) {
        memset(item, 0xdd, sizeof(*item));
        free(item);
        n_live--;
    }
}

static uint64_t hash_all_equal(struct slice key) {
    return 0x1234567890abcdef;
}

// Four values only, that differ in the last (4-bit) level.
static uint64_t hash_last_level(struct slice key) {
    return (hash_bytes(key) & 3) << 60;
}

static uint64_t hash_few(struct slice key) {
    return hash_bytes(key) % 7 * UINT64_C(0x0842108421084210);
}

static const struct pmap_type types[] = {
    {.key = item_key, .ref = item_ref, .unref = item_unref},
    {.key = item_key, .ref = item_ref, .unref = item_unref, .hash = hash_all_equal},
    {.key = item_key, .ref = item_ref, .unref = item_unref, .hash = hash_last_level},
    {.key = item_key, .ref = item_ref, .unref = item_unref, .hash = hash_few},
};

static struct slice key_of(unsigned number, char buf[16]) {
    snprintf(buf, 16, "key-%u", number);
    return slice_str(buf);
}

static void set(struct pmap *map, unsigned number, int version) {
    struct item *item = item_new(number, version);
    pmap_set(map, item);
    item_unref(item);
}

static int get(const struct pmap *map, unsigned number) {
    char buf[16];
    struct item *item = pmap_get(map, key_of(number, buf));
    return item != NULL ? item->version : -1;
}

static bool del(struct pmap *map, unsigned number) {
    char buf[16];
    return pmap_del(map, key_of(number, buf));
}

static void test_basics(void **state) {
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct pmap map = pmap_empty(&types[t]);
        assert_int_equal(get(&map, 1), -1);
        assert_false(del(&map, 1));
        pmap_unref(&map);
        set(&map, 1, 10);
        set(&map, 1, 11);
        assert_int_equal(map.n_items, 1);
        assert_int_equal(get(&map, 1), 11);
        struct pmap old = pmap_ref(map);
        set(&map, 2, 20);
        set(&map, 1, 12);
        assert_int_equal(get(&old, 1), 11);
        assert_int_equal(get(&old, 2), -1);
        assert_int_equal(get(&map, 1), 12);
        assert_int_equal(get(&map, 2), 20);
        assert_true(del(&map, 1));
        assert_false(del(&map, 1));
        assert_true(del(&map, 2));
        assert_int_equal(map.n_items, 0);
        assert_null(map.root);
        assert_int_equal(get(&old, 1), 11);
        pmap_unref(&old);
        pmap_unref(&map);
        assert_int_equal(n_live, 0);
    }
}

static bool stop_at(void *arg, void *value) {
    int *left = arg;
    return --*left > 0;
}

static void test_each_stops(void **state) {
    struct pmap map = pmap_empty(&types[0]);
    for (unsigned i = 0; i < 500; i++) {
        set(&map, i, 0);
    }
    for (int n = 1; n < 500; n += 37) {
        int left = n;
        pmap_each(&map, stop_at, &left);
        assert_int_equal(left, 0);
    }
    pmap_unref(&map);
    assert_int_equal(n_live, 0);
}

static struct slice text_key(const void *value) {
    return slice_str(value);
}

static void test_without_refs(void **state) {
    static const struct pmap_type type = {.key = text_key};
    struct pmap map = pmap_empty(&type);
    static const char a[] = "a", b[] = "b";
    pmap_set(&map, (void *)a);
    pmap_set(&map, (void *)b);
    assert_ptr_equal(pmap_get(&map, SLICE_LIT("a")), a);
    assert_true(pmap_del(&map, text_key(a)));
    assert_null(pmap_get(&map, SLICE_LIT("a")));
    pmap_unref(&map);
}

// Versions kept by "readers" against plain arrays.

enum { N_KEYS = 400, N_KEPT = 6 };

struct version {
    struct pmap map;
    int model[N_KEYS]; // -1 = absent
};

struct seen {
    const int *model;
    unsigned n;
};

static bool check_item(void *arg, void *value) {
    struct seen *seen = arg;
    const struct item *item = value;
    unsigned number = (unsigned)strtoul(item->key + 4, NULL, 10);
    assert_int_equal(seen->model[number], item->version);
    seen->n++;
    return true;
}

static void check_version(const struct version *version) {
    size_t n = 0;
    for (unsigned i = 0; i < N_KEYS; i++) {
        assert_int_equal(get(&version->map, i), version->model[i]);
        n += version->model[i] >= 0;
    }
    struct seen seen = {.model = version->model};
    pmap_each(&version->map, check_item, &seen);
    assert_int_equal(seen.n, n);
    assert_int_equal(version->map.n_items, n);
}

static void edit(struct version *head, struct rand *rand, int step, unsigned n_keys) {
    unsigned number = (unsigned)rand_below(rand, n_keys);
    // Phases of growth and of shrinking.
    if (rand_chance(rand, step / 500 % 2 == 0 ? 3 : 1, 4)) {
        set(&head->map, number, step);
        head->model[number] = step;
    } else {
        assert_int_equal(del(&head->map, number), head->model[number] >= 0);
        head->model[number] = -1;
    }
}

static void run_model(const struct pmap_type *type, uint64_t seed) {
    struct rand rand;
    rand_seed(&rand, seed);
    struct version *kept = xcalloc(N_KEPT, sizeof(*kept));
    struct version *head = xcalloc(1, sizeof(*head));
    // Collision chains are linear; fewer keys keep the test fast.
    unsigned n_keys = type->hash == NULL ? N_KEYS : 60;
    for (unsigned i = 0; i < N_KEPT; i++) {
        kept[i].map = pmap_empty(type);
        memset(kept[i].model, 0xff, sizeof(kept[i].model));
    }
    *head = kept[0];
    for (int step = 0; step < 4000; step++) {
        edit(head, &rand, step, n_keys);
        if (rand_chance(&rand, 1, 20)) {
            struct version *slot = &kept[rand_below(&rand, N_KEPT)];
            check_version(slot);
            pmap_unref(&slot->map);
            *slot = *head;
            slot->map = pmap_ref(head->map);
        }
    }
    check_version(head);
    for (unsigned i = 0; i < N_KEPT; i++) {
        check_version(&kept[i]);
        pmap_unref(&kept[i].map);
    }
    check_version(head);
    pmap_unref(&head->map);
    free(kept);
    free(head);
    assert_int_equal(n_live, 0);
}

static void test_model(void **state) {
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        for (uint64_t seed = 1; seed <= 5; seed++) {
            print_message("type %d seed %d\n", (int)t, (int)seed);
            run_model(&types[t], seed);
        }
    }
}

static void test_large(void **state) {
    enum { N = 50000 };
    struct pmap map = pmap_empty(&types[0]);
    for (unsigned i = 0; i < N; i++) {
        set(&map, i, (int)i);
    }
    struct pmap published = pmap_ref(map);
    for (unsigned i = 0; i < N; i += 2) {
        assert_true(del(&map, i));
    }
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(get(&published, i), (int)i);
        assert_int_equal(get(&map, i), i % 2 == 0 ? -1 : (int)i);
    }
    pmap_unref(&published);
    assert_int_equal(n_live, N / 2);
    pmap_unref(&map);
    assert_int_equal(n_live, 0);
}

// A reader without locks beside the writer, for the thread sanitizer: published versions must not
// be written to, however the writer goes on.

enum { N_VERSIONS = 2000, N_SHARED_KEYS = 300 };

static struct pmap *_Atomic published;
static _Atomic unsigned n_turns; // of the reader; it holds nothing between two turns
static _Atomic bool is_over;

static void *read_versions(void *arg) {
    while (!atomic_load(&is_over)) {
        const struct pmap *map = atomic_load(&published);
        int newest = -1;
        for (unsigned i = 0; i < N_SHARED_KEYS; i++) {
            newest = MAX(newest, get(map, i));
        }
        CHECK(newest >= 0);
        atomic_fetch_add(&n_turns, 1);
    }
    return NULL;
}

static void test_reader_beside_writer(void **state) {
    struct pmap map = pmap_empty(&types[0]);
    struct rand rand;
    rand_seed(&rand, 9);
    set(&map, 0, 0);
    struct pmap *current = xmalloc(sizeof(*current));
    *current = pmap_ref(map);
    atomic_store(&published, current);
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_versions, NULL), 0);
    for (int version = 1; version < N_VERSIONS; version++) {
        for (int i = 0; i < 5; i++) {
            unsigned number = (unsigned)rand_range(&rand, 1, N_SHARED_KEYS - 1);
            if (rand_chance(&rand, 2, 3)) {
                set(&map, number, version);
            } else {
                (void)del(&map, number);
            }
        }
        struct pmap *old = current;
        current = xmalloc(sizeof(*current));
        *current = pmap_ref(map);
        atomic_store(&published, current);
        // A grace period: the reader ended a turn that began after the store.
        unsigned seen = atomic_load(&n_turns);
        while (atomic_load(&n_turns) - seen < 2) {
            sched_yield();
        }
        pmap_unref(old);
        free(old);
    }
    atomic_store(&is_over, true);
    pthread_join(reader, NULL);
    pmap_unref(current);
    free(current);
    pmap_unref(&map);
    assert_int_equal(n_live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),       cmocka_unit_test(test_each_stops),
        cmocka_unit_test(test_without_refs), cmocka_unit_test(test_model),
        cmocka_unit_test(test_large),        cmocka_unit_test(test_reader_beside_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
