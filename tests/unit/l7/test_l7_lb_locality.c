// SPDX-License-Identifier: Apache-2.0
//
// Balancers: shares with chi-square bounds (fixed seeds), turns, tables, places, panic.
#include "common/l7/l7_lb.h"

#include "tests/unit/l7/l7_fixture.h"
#include "tests/unit/l7/l7_lb_bed.h"

// Places

struct client {
    struct workload_common common;
    struct workload workload;
};

static void client_at(struct client *client, const char *region, const char *zone,
                      const char *subzone) {
    client->common = (struct workload_common){
        .ns = "shop", .cluster = "", .network = "", .locality = {region, zone, subzone}};
    client->workload = (struct workload){.ns = "shop", .node = "n1", .common = &client->common};
}

static void levels_are(struct lb_bed *bed, const unsigned *percents, size_t n) {
    struct l7_lb_level levels[L7_LB_LEVELS_MAX];
    assert_int_equal(l7_lb_levels(bed->lb, bed->now_ms, levels, ARRAY_LEN(levels)), n);
    for (size_t i = 0; i < n; i++) {
        if (levels[i].percent != percents[i]) {
            fail_msg("level %zu has %u %%, not %u", i, levels[i].percent, percents[i]);
        }
    }
}

// 10 hosts here, 10 in the next zone: a level keeps everything while 72 % of it are well.
static void test_failover_spill(void **state) {
    struct place places[20];
    for (size_t i = 0; i < 20; i++) {
        places[i] = (struct place){.region = "r", .zone = i < 10 ? "a" : "b", .weight = 1};
    }
    const struct {
        size_t n_here, n_there; // ejected
        unsigned here, there; // percent
    } cases[] = {{0, 0, 100, 0},  {2, 0, 100, 0},  {3, 0, 98, 2}, {5, 0, 70, 30},
                 {10, 0, 0, 100}, {10, 5, 0, 100}, {9, 8, 34, 66}};
    struct client source;
    client_at(&source, "r", "a", "");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lb_bed bed;
        lb_bed_init(&bed, 20, places, L7_LB_RANDOM);
        bed.settings.outlier.is_on = true;
        bed.settings.panic_percent = 0;
        lb_bed_start(&bed, &source.workload);
        lb_eject(&bed, 0, cases[i].n_here, true);
        lb_eject(&bed, 10, cases[i].n_there, true);
        levels_are(&bed, (unsigned[]){cases[i].here, cases[i].there}, 2);
        int counts[HOSTS_MAX], n_here = 0;
        lb_count(&bed, 6000, counts);
        for (size_t k = 0; k < 10; k++) {
            n_here += counts[k];
        }
        int both[] = {n_here, 6000 - n_here};
        assert_shares(both, (double[]){cases[i].here / 100., cases[i].there / 100.}, 2);
        l7_lb_free(bed.lb);
    }
}

static void test_panic_levels(void **state) {
    struct place places[8];
    for (size_t i = 0; i < 8; i++) {
        places[i] = (struct place){.region = "r", .zone = i < 4 ? "a" : "b", .weight = 1};
    }
    struct client source;
    client_at(&source, "r", "a", "");
    struct lb_bed bed;
    lb_bed_init(&bed, 8, places, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    bed.settings.panic_percent = 50;
    lb_bed_start(&bed, &source.workload);
    // Here 1 of 4 (35 %), there all: together enough, no panic.
    lb_eject(&bed, 0, 3, true);
    struct l7_lb_level levels[2];
    l7_lb_levels(bed.lb, bed.now_ms, levels, 2);
    assert_true(!levels[0].is_panic && levels[0].percent == 35 && levels[1].percent == 65);
    // There 1 of 4 too: 35 + 35 of 70, and both in panic: by hosts, ill ones too.
    lb_eject(&bed, 4, 3, true);
    l7_lb_levels(bed.lb, bed.now_ms, levels, 2);
    assert_true(levels[0].is_panic && levels[1].is_panic && levels[0].percent == 50);
    int counts[HOSTS_MAX];
    lb_count(&bed, 8000, counts);
    static const double even[] = {.125, .125, .125, .125, .125, .125, .125, .125};
    assert_shares(counts, even, 8);
    l7_lb_free(bed.lb);
}

static const struct place corners[] = {
    {.region = "r1", .zone = "z1", .subzone = "s1", .node = "n1", .label = "v1", .weight = 1},
    {.region = "r1", .zone = "z1", .subzone = "s2", .node = "n2", .label = "v2", .weight = 1},
    {.region = "r1", .zone = "z2", .subzone = "s1", .node = "n3", .label = "v1", .weight = 1},
    {.region = "r2", .zone = "z1", .subzone = "s1", .node = "n4", .label = "v1", .weight = 1},
    {.region = "r3",
     .zone = "z9",
     .subzone = "s9",
     .node = "n5",
     .label = "v3",
     .network = "far",
     .weight = 1},
};

// Ejecting whoever is picked shows the order of all hosts; '|' stands between levels.
static void order_is(struct lb_bed *bed, const char *expect) {
    char text[64] = "";
    size_t len = 0;
    for (size_t n_out = 0; n_out < bed->n;) {
        bool is_seen[HOSTS_MAX] = {false};
        for (int i = 0; i < 200; i++) {
            int host = lb_pick(bed, NULL);
            if (host >= 0) {
                is_seen[host] = true;
            }
        }
        size_t n_before = n_out;
        for (size_t i = 0; i < bed->n; i++) {
            if (is_seen[i]) {
                len += (size_t)snprintf(text + len, sizeof(text) - len, "%zu", i);
                lb_eject(bed, i, 1, true);
                n_out++;
            }
        }
        if (n_out == n_before) {
            break;
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "|");
    }
    assert_string_equal(text, expect);
}

static void test_places(void **state) {
    static const struct l7_failover to_r3[] = {{"r1", "r3"}};
    static const char *const by_labels[] = {"topology.kubernetes.io/region", "version"};
    static const char *const by_value[] = {"version=v3"};
    static const char *const by_network[] = {"topology.istio.io/network", "version=v1"};
    const struct {
        const char *what;
        struct l7_locality_policy policy;
        struct service service; // scopes
        bool without_outlier;
        const char *order;
    } cases[] = {
        {"default", {.is_set = false}, {.n_scopes = 0}, false, "0|1|2|34|"},
        {"no outlier detection", {.is_set = false}, {.n_scopes = 0}, true, "01234|"},
        {"disabled", {.is_set = true, .is_disabled = true}, {.n_scopes = 0}, false, "01234|"},
        {"failover",
         {.is_set = true, .failover = to_r3, .n_failover = 1},
         {.n_scopes = 0},
         false,
         "0|1|2|4|3|"},
        {"labels",
         {.is_set = true, .failover_priority = by_labels, .n_failover_priority = 2},
         {.n_scopes = 0},
         false,
         "02|1|34|"},
        {"label with a value",
         {.is_set = true, .failover_priority = by_value, .n_failover_priority = 1},
         {.n_scopes = 0},
         false,
         "4|0123|"},
        {"another network is last",
         {.is_set = true, .failover_priority = by_network, .n_failover_priority = 2},
         {.n_scopes = 0},
         false,
         "023|1|4|"},
        {"labels, then failover",
         {.is_set = true,
          .failover_priority = by_value,
          .n_failover_priority = 1,
          .failover = to_r3,
          .n_failover = 1},
         {.n_scopes = 0},
         false,
         "4|0|1|2|3|"},
        {"trafficDistribution",
         {.is_set = false},
         {.lb_mode = LB_FAILOVER,
          .n_scopes = 3,
          .scopes = {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE}},
         true,
         "01|2|3|4|"},
        {"a rule's own setting comes before trafficDistribution",
         {.is_set = true},
         {.lb_mode = LB_FAILOVER, .n_scopes = 1, .scopes = {SCOPE_NODE}},
         false,
         "0|1|2|34|"},
        {"same node",
         {.is_set = false},
         {.lb_mode = LB_FAILOVER, .n_scopes = 1, .scopes = {SCOPE_NODE}},
         true,
         "0|1234|"},
        {"internalTrafficPolicy Local",
         {.is_set = false},
         {.lb_mode = LB_STRICT, .n_scopes = 1, .scopes = {SCOPE_NODE}},
         true,
         "0|"},
    };
    struct client source;
    client_at(&source, "r1", "z1", "s1");
    static const struct label label = {"version", "v1"};
    source.common.labels = &label;
    source.common.n_labels = 1;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lb_bed bed;
        lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
        bed.settings.lb.locality = cases[i].policy;
        bed.settings.outlier.is_on = !cases[i].without_outlier;
        bed.settings.panic_percent = 0;
        bed.service.lb_mode = cases[i].service.lb_mode;
        bed.service.n_scopes = cases[i].service.n_scopes;
        memcpy(bed.service.scopes, cases[i].service.scopes, sizeof(bed.service.scopes));
        lb_bed_start(&bed, &source.workload);
        order_is(&bed, cases[i].order);
        // Clients of one class: those that differ in nothing that counts.
        char key[128], other_key[128];
        struct workload other = source.workload;
        other.ns = "elsewhere";
        l7_lb_client_class(&bed.settings, &bed.service, &source.workload, key, sizeof(key));
        l7_lb_client_class(&bed.settings, &bed.service, &other, other_key, sizeof(other_key));
        assert_string_equal(key, other_key);
        l7_lb_free(bed.lb);
    }
}

static void test_unknown_client(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    bed.settings.panic_percent = 0;
    lb_bed_start(&bed, NULL);
    order_is(&bed, "01234|");
    l7_lb_free(bed.lb);
}

static void test_client_class(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    struct client source;
    client_at(&source, "r1", "z1", "s1");
    char key[64] = "x";
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source.workload, key, 64), 0);
    assert_string_equal(key, "");
    bed.settings.outlier.is_on = true;
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source.workload, key, 64), 9);
    assert_string_equal(key, "r1|z1|s1|");
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source.workload, key, 5), 4);
    assert_string_equal(key, "r1|z");
}

static void test_distribute(void **state) {
    static const struct l7_locality_weight to[] = {
        {"r1/z1/*", 80}, {"r1/z2/*", 15}, {"r2/*", 5}, {"r7/*", 0}};
    static const struct l7_distribute distribute[] = {{"r9/*", to, 1}, {"r1/z1/*", to, 4}};
    struct client source;
    client_at(&source, "r1", "z1", "s1");
    struct lb_bed bed;
    int counts[HOSTS_MAX];
    lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_ROUND_ROBIN);
    bed.settings.lb.locality =
        (struct l7_locality_policy){.is_set = true, .distribute = distribute, .n_distribute = 2};
    lb_bed_start(&bed, &source.workload); // no outlier detection is needed
    lb_count(&bed, 20000, counts);
    assert_shares(counts, (double[]){.4, .4, .15, .05, 0}, 5);
    levels_are(&bed, (unsigned[]){80, 15, 5, 0}, 4);
    // Half of a group's hosts: 70 % of its weight.
    lb_eject(&bed, 0, 1, true);
    lb_count(&bed, 20000, counts);
    assert_shares(counts, (double[]){0, 56. / 76, 15. / 76, 5. / 76, 0}, 5);
    l7_lb_free(bed.lb);
    // A client whom no `from` means has all of them.
    struct client elsewhere;
    client_at(&elsewhere, "r2", "z1", "");
    lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.lb.locality =
        (struct l7_locality_policy){.is_set = true, .distribute = distribute, .n_distribute = 2};
    lb_bed_start(&bed, &elsewhere.workload);
    order_is(&bed, "01234|");
    l7_lb_free(bed.lb);
}

static void test_remote_localities(void **state) {
    struct lb_bed bed;
    lb_bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    struct client source;
    client_at(&source, "r1", "z1", "s1");
    lb_bed_start(&bed, &source.workload);
    const struct l7_host_cell *tried[] = {&bed.cells[0], &bed.cells[1], &bed.cells[2],
                                          &bed.cells[3]};
    struct l7_lb_pick request = {.tried = tried, .n_tried = 1, .leaves_locality = true};
    assert_int_equal(lb_pick(&bed, &request), 0); // after two
    request.n_tried = 2;
    for (int i = 0; i < 50; i++) {
        assert_in_range(lb_pick(&bed, &request), 2, 4);
    }
    request.n_tried = 3;
    for (int i = 0; i < 50; i++) {
        assert_in_range(lb_pick(&bed, &request), 3, 4);
    }
    request.n_tried = 4; // all levels were tried: from the beginning
    assert_int_equal(lb_pick(&bed, &request), 0);
    l7_lb_free(bed.lb);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failover_spill),
        cmocka_unit_test(test_panic_levels),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_unknown_client),
        cmocka_unit_test(test_client_class),
        cmocka_unit_test(test_distribute),
        cmocka_unit_test(test_remote_localities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
