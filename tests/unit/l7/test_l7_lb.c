// SPDX-License-Identifier: Apache-2.0
//
// Balancers: shares with chi-square bounds (fixed seeds), turns, tables, places, panic.
#include "common/l7/l7_lb.h"

#include "tests/unit/l7/l7_fixture.h"
#include "tests/unit/l7/l7_lb_bed.h"

static void test_even_and_weighted(void **state) {
    static const struct place weighted[] = {{.weight = 1}, {.weight = 2}, {.weight = 5}};
    static const double even[] = {1. / 3, 1. / 3, 1. / 3}, shares[] = {1. / 8, 2. / 8, 5. / 8};
    const struct {
        uint8_t kind;
        const double *weighted;
    } kinds[] = {{L7_LB_LEAST_REQUEST, shares},
                 {L7_LB_RANDOM, even},
                 {L7_LB_ROUND_ROBIN, shares},
                 {L7_LB_RING, even},
                 {L7_LB_MAGLEV, even}}; // the last two without a key
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct lb_bed bed;
        int counts[HOSTS_MAX];
        lb_bed_init(&bed, 3, NULL, kinds[i].kind);
        lb_bed_start(&bed, NULL);
        lb_count(&bed, 12000, counts);
        assert_shares(counts, even, 3);
        l7_lb_free(bed.lb);
        lb_bed_init(&bed, 3, weighted, kinds[i].kind);
        lb_bed_start(&bed, NULL);
        lb_count(&bed, 12000, counts);
        assert_shares(counts, kinds[i].weighted, 3);
        l7_lb_free(bed.lb);
    }
}

static void test_round_robin_is_exact(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, 4, NULL, L7_LB_ROUND_ROBIN);
    lb_bed_start(&bed, NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(lb_pick(&bed, NULL), i % 4);
    }
    // Two workers, one cursor.
    struct l7_lb *other = l7_lb_new(&(struct l7_lb_spec){.hosts = bed.hosts,
                                                         .n_hosts = 4,
                                                         .service = &bed.service,
                                                         .settings = &bed.settings,
                                                         .cell = &bed.cell});
    struct l7_lb *workers[] = {bed.lb, other};
    for (int i = 0; i < 20; i++) {
        bed.lb = workers[i % 2];
        assert_int_equal(lb_pick(&bed, NULL), i % 4);
    }
    bed.lb = workers[0];
    l7_lb_free(other);
    lb_eject(&bed, 1, 1, true);
    int counts[HOSTS_MAX];
    lb_count(&bed, 30, counts);
    assert_true(counts[0] == 10 && counts[1] == 0 && counts[2] == 10 && counts[3] == 10);
    l7_lb_free(bed.lb);
    // Weighted: in each round of 4, 3 and 1, and evenly spaced.
    lb_bed_init(&bed, 2, (struct place[]){{.weight = 3}, {.weight = 1}}, L7_LB_ROUND_ROBIN);
    lb_bed_start(&bed, NULL);
    int last = -10;
    for (int i = 0; i < 40; i++) {
        if (lb_pick(&bed, NULL) == 1) {
            assert_true(last < 0 || i - last == 4);
            last = i;
        }
    }
    assert_true(last >= 36);
    l7_lb_free(bed.lb);
}

static void test_least_request(void **state) {
    struct lb_bed bed;
    int counts[HOSTS_MAX];
    lb_bed_init(&bed, 2, NULL, L7_LB_LEAST_REQUEST);
    lb_bed_start(&bed, NULL);
    atomic_store(&bed.cells[0].active, 5);
    lb_count(&bed, 4000, counts);
    // The busy one only when both draws are it.
    assert_shares(counts, (double[]){0.25, 0.75}, 2);
    l7_lb_free(bed.lb);
    // Under load, active requests follow the weights.
    lb_bed_init(&bed, 3, (struct place[]){{.weight = 1}, {.weight = 1}, {.weight = 2}},
                L7_LB_LEAST_REQUEST);
    lb_bed_start(&bed, NULL);
    for (int i = 0; i < 400; i++) {
        atomic_fetch_add(&bed.cells[lb_pick(&bed, NULL)].active, 1);
    }
    assert_in_range(atomic_load(&bed.cells[0].active), 97, 103);
    assert_in_range(atomic_load(&bed.cells[2].active), 196, 204);
    l7_lb_free(bed.lb);
}

static int pick_hash(struct lb_bed *bed, uint64_t hash) {
    return lb_pick(bed, &(struct l7_lb_pick){.has_hash = true, .hash = hash});
}

// The same key stays; a host that goes moves hardly more than its own keys; shares are even.
static void test_hash_tables(void **state) {
    enum { KEYS = 4000 };
    static const uint8_t kinds[] = {L7_LB_RING, L7_LB_MAGLEV};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct lb_bed bed;
        static int before[KEYS];
        int counts[HOSTS_MAX] = {0}, n_moved = 0;
        lb_bed_init(&bed, 5, NULL, kinds[k]);
        bed.settings.lb.table_size = kinds[k] == L7_LB_RING ? 4096 : 65537;
        lb_bed_start(&bed, NULL);
        for (uint64_t i = 0; i < KEYS; i++) {
            before[i] = pick_hash(&bed, l7_lb_hash_bytes(slice_make(&i, sizeof(i))));
            counts[before[i]]++;
        }
        for (int i = 0; i < 5; i++) {
            assert_in_range(counts[i], KEYS / 5 * 8 / 10, KEYS / 5 * 12 / 10);
        }
        lb_eject(&bed, 2, 1, true);
        for (uint64_t i = 0; i < KEYS; i++) {
            int now = pick_hash(&bed, l7_lb_hash_bytes(slice_make(&i, sizeof(i))));
            assert_int_not_equal(now, 2);
            n_moved += before[i] != 2 && now != before[i];
        }
        // A ring of fewer hosts has more points of each, to be as large.
        assert_in_range(n_moved, 0, kinds[k] == L7_LB_RING ? KEYS / 8 : KEYS / 20);
        lb_eject(&bed, 2, 1, false);
        for (uint64_t i = 0; i < KEYS; i++) {
            uint64_t hash = l7_lb_hash_bytes(slice_make(&i, sizeof(i)));
            assert_int_equal(pick_hash(&bed, hash), before[i]);
        }
        // A retry goes elsewhere.
        uint64_t hash = 12345;
        const struct l7_host_cell *tried[] = {&bed.cells[pick_hash(&bed, hash)]};
        int n_same = 0;
        for (uint64_t i = 0; i < 200; i++) {
            tried[0] = &bed.cells[pick_hash(&bed, i * hash)];
            int now =
                lb_pick(&bed,
                        &(struct l7_lb_pick){
                            .has_hash = true, .hash = i * hash, .tried = tried, .n_tried = 1});
            n_same += &bed.cells[now] == tried[0];
        }
        assert_in_range(n_same, 0, 4);
        l7_lb_free(bed.lb);
    }
}

// A ring's points are xxHash64 of "address_i": a key that is the hash of a host's point gets it.
static void test_ring_points(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, 3, NULL, L7_LB_RING);
    bed.settings.lb.table_size = 1024;
    lb_bed_start(&bed, NULL);
    for (int host = 0; host < 3; host++) {
        for (int i = 0; i < 341; i += 31) {
            char text[64];
            snprintf(text, sizeof(text), "10.0.0.%d:8080_%d", host + 1, i);
            assert_int_equal(pick_hash(&bed, l7_lb_hash_bytes(slice_str(text))), host);
        }
    }
    l7_lb_free(bed.lb);
    assert_true(l7_lb_hash_bytes(SLICE_LIT("")) ==
                0xef46db3751d8e999); // of the xxHash specification
}

// What is tried is avoided; alone it is taken again.
static void test_tried(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, 2, NULL, L7_LB_ROUND_ROBIN);
    lb_bed_start(&bed, NULL);
    const struct l7_host_cell *tried[] = {&bed.cells[0], &bed.cells[1]};
    for (int i = 0; i < 50; i++) {
        assert_int_equal(lb_pick(&bed, &(struct l7_lb_pick){.tried = tried, .n_tried = 1}), 1);
    }
    assert_int_not_equal(lb_pick(&bed, &(struct l7_lb_pick){.tried = tried, .n_tried = 2}), -1);
    l7_lb_free(bed.lb);
}

static void test_none(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, 0, NULL, L7_LB_LEAST_REQUEST);
    lb_bed_start(&bed, NULL);
    assert_int_equal(lb_pick(&bed, NULL), -1);
    l7_lb_free(bed.lb);
    for (int panic = 0; panic <= 50; panic += 50) {
        lb_bed_init(&bed, 3, NULL, L7_LB_MAGLEV);
        bed.settings.lb.table_size = 65537;
        bed.settings.panic_percent = (uint8_t)panic;
        lb_bed_start(&bed, NULL);
        lb_eject(&bed, 0, 3, true);
        // Panic takes hosts that are ill; without there are none.
        assert_int_equal(lb_pick(&bed, NULL) >= 0, panic > 0);
        assert_int_equal(pick_hash(&bed, 7) >= 0, panic > 0);
        l7_lb_free(bed.lb);
    }
}

static void test_warmup(void **state) {
    const struct {
        uint64_t age_ms;
        double aggression, weight; // of the new host
    } cases[] = {{0, 1, .1},        {5000, 1, .1}, {25000, 1, .5},
                 {25000, 2, .7071}, {50000, 1, 1}, {40000, 1, .8}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static const uint8_t kinds[] = {L7_LB_ROUND_ROBIN, L7_LB_LEAST_REQUEST};
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            struct lb_bed bed;
            int counts[HOSTS_MAX];
            lb_bed_init(&bed, 2, NULL, kinds[k]);
            bed.settings.lb.warmup_ms = 50000;
            bed.settings.lb.warmup_min = .1;
            bed.settings.lb.warmup_aggression = cases[i].aggression;
            bed.cells[1].since_ms = bed.now_ms - cases[i].age_ms;
            lb_bed_start(&bed, NULL);
            lb_count(&bed, 8000, counts);
            double share = cases[i].weight / (1 + cases[i].weight);
            assert_shares(counts, (double[]){1 - share, share}, 2);
            // Time goes by without anything else changing.
            bed.now_ms += 50000;
            lb_count(&bed, 8000, counts);
            assert_shares(counts, (double[]){.5, .5}, 2);
            l7_lb_free(bed.lb);
        }
    }
}

static void test_hosts(void **state) {
    struct lb_bed bed;
    static const struct place places[] = {
        {.label = "v1", .weight = 0}, {.label = "v2"}, {.label = "v1"}, {.label = "v1"}};
    lb_bed_init(&bed, 4, places, L7_LB_RANDOM);
    static const uint16_t no_port[] = {0};
    bed.endpoints[2].is_ready = false;
    bed.endpoints[3].target_ports = no_port;
    struct l7_host hosts[8];
    static const struct label v1 = {"version", "v1"};
    const struct l7_subset subset = {.name = "v1", .labels = &v1, .n_labels = 1};
    assert_int_equal(l7_lb_hosts(&bed.service, NULL, 0, hosts, 8), 2);
    assert_int_equal(hosts[0].weight, 1);
    assert_int_equal(hosts[0].addr.port, 8080);
    assert_int_equal(l7_lb_hosts(&bed.service, &subset, 0, hosts, 8), 1);
    bed.service.allow_not_ready = true;
    assert_int_equal(l7_lb_hosts(&bed.service, &subset, 0, hosts, 1), 2); // more than fit
    struct ip ips[2] = {bed.endpoints[0].ip, bed.endpoints[1].ip};
    bed.commons[0].hostname = "db.example";
    bed.workloads[0].ips = ips;
    bed.workloads[0].n_ips = 2;
    assert_int_equal(l7_lb_hosts(&bed.service, NULL, 0, hosts, 8), 4);
    assert_true(ip_eq(&hosts[1].addr.ip, &ips[1]));
}

static void test_hash_keys(void **state) {
    struct arena arena;
    arena_init(&arena, 4096);
    struct addr peer, local;
    assert_true(addr_parse(SLICE_LIT("10.1.1.1:555"), &peer));
    assert_true(addr_parse(SLICE_LIT("10.2.2.2:80"), &local));
    static const struct kobj_kv attributes[] = {{"SameSite", "Strict"}, {"Secure", ""}};
    const struct {
        struct l7_lb_policy policy;
        const char *request, *key; // what is hashed; NULL: nothing
    } cases[] = {
        {{.hash_key = L7_HASH_HEADER, .hash_name = "x-user"}, "GET http w /\nx-user: bob", "bob"},
        {{.hash_key = L7_HASH_HEADER, .hash_name = "x-user"}, "GET http w /", NULL},
        {{.hash_key = L7_HASH_HEADER, .hash_name = "x"}, "GET http w /\nx: 1\nx: 2", "1,2"},
        {{.hash_key = L7_HASH_QUERY, .hash_name = "u"}, "GET http w /?a=1&u=bob", "bob"},
        {{.hash_key = L7_HASH_QUERY, .hash_name = "u"}, "GET http w /", NULL},
        {{.hash_key = L7_HASH_IP, .hash_name = ""}, "GET http w /", "10.1.1.1"},
        {{.hash_key = L7_HASH_NONE, .hash_name = ""}, "GET http w /", NULL},
        {{.hash_key = L7_HASH_COOKIE, .hash_name = "u", .cookie_ttl_ms = -1},
         "GET http w /\ncookie: a=b; u=\"bob\"",
         "bob"},
        {{.hash_key = L7_HASH_COOKIE, .hash_name = "u", .cookie_ttl_ms = -1},
         "GET http w /\ncookie: ub=1\ncookie: u=bob;x",
         "bob"},
        {{.hash_key = L7_HASH_COOKIE, .hash_name = "u", .cookie_ttl_ms = -1},
         "GET http w /\ncookie: uu=bob",
         NULL},
    };
    struct fx_head head;
    struct l7_request request;
    struct slice cookie;
    uint64_t hash;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fx_head(&head, cases[i].request);
        l7_request_init(&request, &head.head, 80, NULL);
        bool has_key =
            l7_lb_hash(&cases[i].policy, &request, &peer, &local, &arena, &cookie, &hash);
        assert_int_equal(has_key, cases[i].key != NULL);
        assert_int_equal(cookie.len, 0);
        if (has_key) {
            assert_true(hash == l7_lb_hash_bytes(slice_str(cases[i].key)));
        }
    }
    // A cookie that is made, and comes back.
    const struct l7_lb_policy made = {.hash_key = L7_HASH_COOKIE,
                                      .hash_name = "u",
                                      .cookie_path = "/p",
                                      .cookie_ttl_ms = 60000,
                                      .cookie_attributes = attributes,
                                      .n_cookie_attributes = 2};
    fx_head(&head, "GET http w /");
    l7_request_init(&request, &head.head, 80, NULL);
    assert_true(l7_lb_hash(&made, &request, &peer, &local, &arena, &cookie, &hash));
    assert_true(slice_has_suffix(
        cookie, SLICE_LIT("; Max-Age=60; Path=/p; SameSite=Strict; Secure; HttpOnly")));
    char again[256];
    snprintf(again, sizeof(again), "GET http w /\ncookie: %.*s", SLICE_ARG(cookie));
    fx_head(&head, again);
    l7_request_init(&request, &head.head, 80, NULL);
    uint64_t second;
    assert_true(l7_lb_hash(&made, &request, &peer, &local, &arena, &cookie, &second));
    assert_true(second == hash && cookie.len == 0);
    arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_and_weighted),
        cmocka_unit_test(test_round_robin_is_exact),
        cmocka_unit_test(test_least_request),
        cmocka_unit_test(test_hash_tables),
        cmocka_unit_test(test_ring_points),
        cmocka_unit_test(test_tried),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_hash_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
