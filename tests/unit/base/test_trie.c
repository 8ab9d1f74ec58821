// SPDX-License-Identifier: Apache-2.0
#include "common/base/trie.h"

#include "common/base/buf.h"
#include "common/base/rand.h"
#include "tests/unit/base/unit.h"

static struct cidr cidr_of(const char *text) {
    struct cidr cidr = {0};
    assert_true(cidr_parse(slice_str(text), true, &cidr));
    return cidr;
}

static void set(struct trie *trie, const char *text) {
    struct cidr cidr = cidr_of(text);
    assert_null(trie_set(trie, &cidr, (void *)text));
}

static void test_match(void **state) {
    static const char *const prefixes[] = {
        "10.0.0.0/8",    "10.1.0.0/16",     "10.1.2.0/24", "10.1.2.3/32", "192.168.0.0/16",
        "2001:db8::/32", "2001:db8:1::/48", "::1/128",     "fe80::/10",
    };
    static const struct {
        const char *ip, *prefix;
    } rows[] = {
        {"10.1.2.3", "10.1.2.3/32"},
        {"10.1.2.4", "10.1.2.0/24"},
        {"10.1.3.4", "10.1.0.0/16"},
        {"10.2.3.4", "10.0.0.0/8"},
        {"11.0.0.0", NULL},
        {"192.168.255.255", "192.168.0.0/16"},
        {"192.169.0.0", NULL},
        {"::ffff:10.1.2.3", "10.1.2.3/32"},
        {"2001:db8:1:2::3", "2001:db8:1::/48"},
        {"2001:db8:2::", "2001:db8::/32"},
        {"2001:db9::", NULL},
        {"::1", "::1/128"},
        {"::2", NULL},
        {"::", NULL},
    };
    struct trie trie;
    trie_init(&trie);
    struct ip none = {0};
    assert_null(trie_match(&trie, &none));
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        set(&trie, prefixes[i]);
    }
    assert_int_equal(trie.n_items, ARRAY_LEN(prefixes));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip;
        assert_true(ip_parse(slice_str(rows[i].ip), &ip));
        const char *found = trie_match(&trie, &ip);
        assert_int_equal(found != NULL, rows[i].prefix != NULL);
        if (found != NULL) {
            assert_string_equal(found, rows[i].prefix);
        }
    }
    set(&trie, "0.0.0.0/0");
    struct ip ip = cidr_of("11.0.0.0").ip;
    assert_string_equal(trie_match(&trie, &ip), "0.0.0.0/0");
    ip = cidr_of("::").ip;
    assert_null(trie_match(&trie, &ip));
    trie_fini(&trie);
}

static bool collect(void *arg, const struct cidr *cidr, void *value) {
    char text[CIDR_TEXT_MAX];
    assert_string_equal(cidr_text(cidr, text), value);
    buf_printf(arg, "%s ", text);
    return true;
}

static bool only_first(void *arg, const struct cidr *cidr, void *value) {
    ++*(int *)arg;
    return false;
}

static void test_walks(void **state) {
    struct trie trie;
    trie_init(&trie);
    set(&trie, "10.1.2.0/24");
    set(&trie, "::/0");
    set(&trie, "10.0.0.0/8");
    set(&trie, "10.1.3.0/24");
    set(&trie, "9.0.0.0/8");
    struct buf text;
    buf_init(&text, 256);
    trie_each(&trie, collect, &text);
    assert_string_equal(buf_cstr(&text), "9.0.0.0/8 10.0.0.0/8 10.1.2.0/24 10.1.3.0/24 ::/0 ");
    buf_clear(&text);
    struct ip ip = cidr_of("10.1.3.7").ip;
    trie_match_each(&trie, &ip, collect, &text);
    assert_string_equal(buf_cstr(&text), "10.0.0.0/8 10.1.3.0/24 ");
    buf_fini(&text);
    int n = 0;
    trie_each(&trie, only_first, &n);
    trie_match_each(&trie, &ip, only_first, &n);
    assert_int_equal(n, 2);
    trie_fini(&trie);
}

// Random prefixes close together, against a linear search.

enum { N = 300 };

struct model {
    struct cidr cidrs[N];
    bool is_in[N];
};

static void random_cidr(struct rand *rand, uint8_t family, struct cidr *ret_cidr) {
    unsigned max_len = family == 4 ? 32 : 128;
    unsigned len = (unsigned)rand_below(rand, max_len + 1);
    struct cidr cidr = {.ip.family = family, .len = (uint8_t)len};
    for (unsigned i = 0; i < len; i++) {
        // Few ones: many common prefixes.
        if (rand_chance(rand, 1, 6)) {
            cidr.ip.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
        }
    }
    *ret_cidr = cidr;
}

static void check_model(const struct trie *trie, struct model *model, const struct ip *ip) {
    const struct cidr *best = NULL;
    for (int i = 0; i < N; i++) {
        const struct cidr *cidr = &model->cidrs[i];
        if (model->is_in[i] && cidr_contains(cidr, ip) && (best == NULL || cidr->len > best->len)) {
            best = cidr;
        }
    }
    assert_ptr_equal(trie_match(trie, ip), best);
}

static bool same_cidr(const struct cidr *a, const struct cidr *b) {
    return a->len == b->len && ip_eq(&a->ip, &b->ip);
}

static void run_model(uint8_t family, uint64_t seed) {
    static struct model model;
    memset(&model, 0, sizeof(model));
    struct rand rand;
    rand_seed(&rand, seed);
    for (int i = 0; i < N; i++) {
        bool is_new;
        do {
            random_cidr(&rand, family, &model.cidrs[i]);
            is_new = true;
            for (int j = 0; j < i; j++) {
                is_new = is_new && !same_cidr(&model.cidrs[i], &model.cidrs[j]);
            }
        } while (!is_new);
    }
    struct trie trie;
    trie_init(&trie);
    size_t n_in = 0;
    for (int step = 0; step < 4000; step++) {
        size_t i = rand_below(&rand, N);
        struct cidr *cidr = &model.cidrs[i];
        assert_ptr_equal(trie_get(&trie, cidr), model.is_in[i] ? cidr : NULL);
        bool is_growing = step / 1000 % 2 == 0;
        if (rand_chance(&rand, is_growing ? 3 : 1, 4)) {
            assert_ptr_equal(trie_set(&trie, cidr, cidr), model.is_in[i] ? cidr : NULL);
            n_in += !model.is_in[i];
            model.is_in[i] = true;
        } else {
            assert_ptr_equal(trie_del(&trie, cidr), model.is_in[i] ? cidr : NULL);
            n_in -= model.is_in[i];
            model.is_in[i] = false;
        }
        assert_int_equal(trie.n_items, n_in);
        struct cidr probe;
        random_cidr(&rand, family, &probe);
        check_model(&trie, &model, &probe.ip);
    }
    for (int i = 0; i < N; i++) {
        trie_del(&trie, &model.cidrs[i]);
    }
    assert_int_equal(trie.n_items, 0);
    assert_null(trie.v4); // removal leaves no forks behind
    assert_null(trie.v6);
    trie_fini(&trie);
}

static void test_model(void **state) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run_model(4, seed);
        run_model(6, seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
