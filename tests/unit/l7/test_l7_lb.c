// SPDX-License-Identifier: Apache-2.0
//
// Balancers: shares with chi-square bounds (fixed seeds), turns, tables, places, panic.
#include "common/l7/l7_lb.h"

#include "common/l7/l7_outlier.h"
#include "tests/unit/l7/l7_fixture.h"

enum { HOSTS_MAX = 40 };

struct place {
    const char *region, *zone, *subzone, *node, *network, *label;
    uint32_t weight;
};

struct bed { // a cluster
    struct workload workloads[HOSTS_MAX];
    struct label labels[HOSTS_MAX];
    struct endpoint endpoints[HOSTS_MAX];
    uint16_t ports[1];
    struct service service;
    struct l7_settings settings;
    struct l7_host hosts[HOSTS_MAX];
    struct l7_host_cell cells[HOSTS_MAX];
    struct l7_lb_cell cell;
    struct l7_lb *lb;
    struct rand rand;
    uint64_t now_ms;
    size_t n;
};

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static void bed_init(struct bed *bed, size_t n, const struct place *places, uint8_t kind) {
    const struct l7_subset *subset;
    memset(bed, 0, sizeof(*bed));
    bed->settings = *l7_policy_find(NULL, "", 80, &subset);
    bed->settings.lb.kind = kind;
    bed->ports[0] = 8080;
    bed->n = n;
    bed->now_ms = 1000000;
    rand_seed(&bed->rand, 4711);
    for (size_t i = 0; i < n; i++) {
        static const struct place nowhere = {.weight = 1};
        const struct place *place = places != NULL ? &places[i] : &nowhere;
        char text[32];
        snprintf(text, sizeof(text), "10.0.0.%zu", i + 1);
        bed->labels[i] = (struct label){"version", or_empty(place->label)};
        bed->workloads[i] = (struct workload){
            .ns = "shop",
            .hostname = "",
            .node = or_empty(place->node),
            .cluster = "",
            .network = or_empty(place->network),
            .locality = {or_empty(place->region), or_empty(place->zone), or_empty(place->subzone)},
            .labels = &bed->labels[i],
            .n_labels = 1};
        bed->endpoints[i] = (struct endpoint){.workload = &bed->workloads[i],
                                              .target_ports = bed->ports,
                                              .is_ready = true,
                                              .weight = place->weight};
        assert_true(ip_parse(slice_str(text), &bed->endpoints[i].ip));
    }
    bed->service =
        (struct service){.endpoints = bed->endpoints, .n_endpoints = (uint32_t)n, .n_ports = 1};
}

static void bed_start(struct bed *bed, const struct workload *source) {
    size_t n = l7_lb_hosts(&bed->service, NULL, 0, bed->hosts, HOSTS_MAX);
    assert_int_equal(n, bed->n);
    for (size_t i = 0; i < n; i++) {
        bed->hosts[i].cell = &bed->cells[i];
    }
    l7_lb_free(bed->lb);
    bed->lb = l7_lb_new(&(struct l7_lb_spec){.hosts = bed->hosts,
                                             .n_hosts = n,
                                             .service = &bed->service,
                                             .settings = &bed->settings,
                                             .source = source,
                                             .cell = &bed->cell});
}

static void eject(struct bed *bed, size_t first, size_t n, bool is_ejected) {
    for (size_t i = first; i < first + n; i++) {
        atomic_store(&bed->cells[i].is_ejected, is_ejected);
    }
    atomic_fetch_add(&bed->cell.generation, 1);
}

static int pick(struct bed *bed, const struct l7_lb_pick *more) {
    struct l7_lb_pick request = more != NULL ? *more : (struct l7_lb_pick){0};
    request.rand = &bed->rand;
    request.now_ms = bed->now_ms;
    const struct l7_host *host = l7_lb_pick(bed->lb, &request);
    return host != NULL ? (int)(host->cell - bed->cells) : -1;
}

static void count(struct bed *bed, int n_picks, int counts[HOSTS_MAX]) {
    memset(counts, 0, HOSTS_MAX * sizeof(*counts));
    for (int i = 0; i < n_picks; i++) {
        int host = pick(bed, NULL);
        assert_in_range(host, 0, HOSTS_MAX - 1);
        counts[host]++;
    }
}

// Chi-square of the counts against shares (which add up to 1), below the 99.9 % quantile of n - 1
// degrees of freedom (Wilson and Hilferty).
static void assert_shares(const int *counts, const double *shares, size_t n) {
    double chi = 0, total = 0;
    int degrees = -1;
    for (size_t i = 0; i < n; i++) {
        total += counts[i];
    }
    for (size_t i = 0; i < n; i++) {
        double expect = shares[i] * total;
        if (expect == 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        chi += (counts[i] - expect) * (counts[i] - expect) / expect;
        degrees++;
    }
    double k = degrees > 0 ? degrees : 1, t = 2.0 / (9 * k);
    double base = 1 - t + 3.09 * __builtin_sqrt(t);
    if (chi > k * base * base * base) {
        fail_msg("chi-square %.1f of %d degrees", chi, degrees);
    }
}

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
        struct bed bed;
        int counts[HOSTS_MAX];
        bed_init(&bed, 3, NULL, kinds[i].kind);
        bed_start(&bed, NULL);
        count(&bed, 12000, counts);
        assert_shares(counts, even, 3);
        l7_lb_free(bed.lb);
        bed_init(&bed, 3, weighted, kinds[i].kind);
        bed_start(&bed, NULL);
        count(&bed, 12000, counts);
        assert_shares(counts, kinds[i].weighted, 3);
        l7_lb_free(bed.lb);
    }
}

static void test_round_robin_is_exact(void **state) {
    struct bed bed;
    bed_init(&bed, 4, NULL, L7_LB_ROUND_ROBIN);
    bed_start(&bed, NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pick(&bed, NULL), i % 4);
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
        assert_int_equal(pick(&bed, NULL), i % 4);
    }
    bed.lb = workers[0];
    l7_lb_free(other);
    eject(&bed, 1, 1, true);
    int counts[HOSTS_MAX];
    count(&bed, 30, counts);
    assert_true(counts[0] == 10 && counts[1] == 0 && counts[2] == 10 && counts[3] == 10);
    l7_lb_free(bed.lb);
    // Weighted: in each round of 4, 3 and 1, and evenly spaced.
    bed_init(&bed, 2, (struct place[]){{.weight = 3}, {.weight = 1}}, L7_LB_ROUND_ROBIN);
    bed_start(&bed, NULL);
    int last = -10;
    for (int i = 0; i < 40; i++) {
        if (pick(&bed, NULL) == 1) {
            assert_true(last < 0 || i - last == 4);
            last = i;
        }
    }
    assert_true(last >= 36);
    l7_lb_free(bed.lb);
}

static void test_least_request(void **state) {
    struct bed bed;
    int counts[HOSTS_MAX];
    bed_init(&bed, 2, NULL, L7_LB_LEAST_REQUEST);
    bed_start(&bed, NULL);
    atomic_store(&bed.cells[0].active, 5);
    count(&bed, 4000, counts);
    // The busy one only when both draws are it.
    assert_shares(counts, (double[]){0.25, 0.75}, 2);
    l7_lb_free(bed.lb);
    // Under load, active requests follow the weights.
    bed_init(&bed, 3, (struct place[]){{.weight = 1}, {.weight = 1}, {.weight = 2}},
             L7_LB_LEAST_REQUEST);
    bed_start(&bed, NULL);
    for (int i = 0; i < 400; i++) {
        atomic_fetch_add(&bed.cells[pick(&bed, NULL)].active, 1);
    }
    assert_in_range(atomic_load(&bed.cells[0].active), 97, 103);
    assert_in_range(atomic_load(&bed.cells[2].active), 196, 204);
    l7_lb_free(bed.lb);
}

static int pick_hash(struct bed *bed, uint64_t hash) {
    return pick(bed, &(struct l7_lb_pick){.has_hash = true, .hash = hash});
}

// The same key stays; a host that goes moves hardly more than its own keys; shares are even.
static void test_hash_tables(void **state) {
    enum { KEYS = 4000 };
    static const uint8_t kinds[] = {L7_LB_RING, L7_LB_MAGLEV};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        static int before[KEYS];
        int counts[HOSTS_MAX] = {0}, n_moved = 0;
        bed_init(&bed, 5, NULL, kinds[k]);
        bed.settings.lb.table_size = kinds[k] == L7_LB_RING ? 4096 : 65537;
        bed_start(&bed, NULL);
        for (uint64_t i = 0; i < KEYS; i++) {
            before[i] = pick_hash(&bed, l7_lb_hash_bytes(slice_make(&i, sizeof(i))));
            counts[before[i]]++;
        }
        for (int i = 0; i < 5; i++) {
            assert_in_range(counts[i], KEYS / 5 * 8 / 10, KEYS / 5 * 12 / 10);
        }
        eject(&bed, 2, 1, true);
        for (uint64_t i = 0; i < KEYS; i++) {
            int now = pick_hash(&bed, l7_lb_hash_bytes(slice_make(&i, sizeof(i))));
            assert_int_not_equal(now, 2);
            n_moved += before[i] != 2 && now != before[i];
        }
        // A ring of fewer hosts has more points of each, to be as large.
        assert_in_range(n_moved, 0, kinds[k] == L7_LB_RING ? KEYS / 8 : KEYS / 20);
        eject(&bed, 2, 1, false);
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
                pick(&bed, &(struct l7_lb_pick){
                               .has_hash = true, .hash = i * hash, .tried = tried, .n_tried = 1});
            n_same += &bed.cells[now] == tried[0];
        }
        assert_in_range(n_same, 0, 4);
        l7_lb_free(bed.lb);
    }
}

// A ring's points are xxHash64 of "address_i": a key that is the hash of a host's point gets it.
static void test_ring_points(void **state) {
    struct bed bed;
    bed_init(&bed, 3, NULL, L7_LB_RING);
    bed.settings.lb.table_size = 1024;
    bed_start(&bed, NULL);
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
    struct bed bed;
    bed_init(&bed, 2, NULL, L7_LB_ROUND_ROBIN);
    bed_start(&bed, NULL);
    const struct l7_host_cell *tried[] = {&bed.cells[0], &bed.cells[1]};
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pick(&bed, &(struct l7_lb_pick){.tried = tried, .n_tried = 1}), 1);
    }
    assert_int_not_equal(pick(&bed, &(struct l7_lb_pick){.tried = tried, .n_tried = 2}), -1);
    l7_lb_free(bed.lb);
}

static void test_none(void **state) {
    struct bed bed;
    bed_init(&bed, 0, NULL, L7_LB_LEAST_REQUEST);
    bed_start(&bed, NULL);
    assert_int_equal(pick(&bed, NULL), -1);
    l7_lb_free(bed.lb);
    for (int panic = 0; panic <= 50; panic += 50) {
        bed_init(&bed, 3, NULL, L7_LB_MAGLEV);
        bed.settings.lb.table_size = 65537;
        bed.settings.panic_percent = (uint8_t)panic;
        bed_start(&bed, NULL);
        eject(&bed, 0, 3, true);
        // Panic takes hosts that are ill; without there are none.
        assert_int_equal(pick(&bed, NULL) >= 0, panic > 0);
        assert_int_equal(pick_hash(&bed, 7) >= 0, panic > 0);
        l7_lb_free(bed.lb);
    }
}

// Places

static struct workload client_at(const char *region, const char *zone, const char *subzone) {
    return (struct workload){.ns = "shop",
                             .node = "n1",
                             .cluster = "",
                             .network = "",
                             .locality = {region, zone, subzone}};
}

static void levels_are(struct bed *bed, const unsigned *percents, size_t n) {
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
    struct workload source = client_at("r", "a", "");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed bed;
        bed_init(&bed, 20, places, L7_LB_RANDOM);
        bed.settings.outlier.is_on = true;
        bed.settings.panic_percent = 0;
        bed_start(&bed, &source);
        eject(&bed, 0, cases[i].n_here, true);
        eject(&bed, 10, cases[i].n_there, true);
        levels_are(&bed, (unsigned[]){cases[i].here, cases[i].there}, 2);
        int counts[HOSTS_MAX], n_here = 0;
        count(&bed, 6000, counts);
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
    struct workload source = client_at("r", "a", "");
    struct bed bed;
    bed_init(&bed, 8, places, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    bed.settings.panic_percent = 50;
    bed_start(&bed, &source);
    // Here 1 of 4 (35 %), there all: together enough, no panic.
    eject(&bed, 0, 3, true);
    struct l7_lb_level levels[2];
    l7_lb_levels(bed.lb, bed.now_ms, levels, 2);
    assert_true(!levels[0].is_panic && levels[0].percent == 35 && levels[1].percent == 65);
    // There 1 of 4 too: 35 + 35 of 70, and both in panic: by hosts, ill ones too.
    eject(&bed, 4, 3, true);
    l7_lb_levels(bed.lb, bed.now_ms, levels, 2);
    assert_true(levels[0].is_panic && levels[1].is_panic && levels[0].percent == 50);
    int counts[HOSTS_MAX];
    count(&bed, 8000, counts);
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
static void order_is(struct bed *bed, const char *expect) {
    char text[64] = "";
    size_t len = 0;
    for (size_t n_out = 0; n_out < bed->n;) {
        bool is_seen[HOSTS_MAX] = {false};
        for (int i = 0; i < 200; i++) {
            int host = pick(bed, NULL);
            if (host >= 0) {
                is_seen[host] = true;
            }
        }
        size_t n_before = n_out;
        for (size_t i = 0; i < bed->n; i++) {
            if (is_seen[i]) {
                len += (size_t)snprintf(text + len, sizeof(text) - len, "%zu", i);
                eject(bed, i, 1, true);
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
    struct workload source = client_at("r1", "z1", "s1");
    static const struct label label = {"version", "v1"};
    source.labels = &label;
    source.n_labels = 1;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed bed;
        bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
        bed.settings.lb.locality = cases[i].policy;
        bed.settings.outlier.is_on = !cases[i].without_outlier;
        bed.settings.panic_percent = 0;
        bed.service.lb_mode = cases[i].service.lb_mode;
        bed.service.n_scopes = cases[i].service.n_scopes;
        memcpy(bed.service.scopes, cases[i].service.scopes, sizeof(bed.service.scopes));
        bed_start(&bed, &source);
        order_is(&bed, cases[i].order);
        // Clients of one class: those that differ in nothing that counts.
        char key[128], other_key[128];
        struct workload other = source;
        other.ns = "elsewhere";
        l7_lb_client_class(&bed.settings, &bed.service, &source, key, sizeof(key));
        l7_lb_client_class(&bed.settings, &bed.service, &other, other_key, sizeof(other_key));
        assert_string_equal(key, other_key);
        l7_lb_free(bed.lb);
    }
}

static void test_unknown_client(void **state) {
    struct bed bed;
    bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    bed.settings.panic_percent = 0;
    bed_start(&bed, NULL);
    order_is(&bed, "01234|");
    l7_lb_free(bed.lb);
}

static void test_client_class(void **state) {
    struct bed bed;
    bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    struct workload source = client_at("r1", "z1", "s1");
    char key[64] = "x";
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source, key, 64), 0);
    assert_string_equal(key, "");
    bed.settings.outlier.is_on = true;
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source, key, 64), 9);
    assert_string_equal(key, "r1|z1|s1|");
    assert_int_equal(l7_lb_client_class(&bed.settings, &bed.service, &source, key, 5), 4);
    assert_string_equal(key, "r1|z");
}

static void test_distribute(void **state) {
    static const struct l7_locality_weight to[] = {
        {"r1/z1/*", 80}, {"r1/z2/*", 15}, {"r2/*", 5}, {"r7/*", 0}};
    static const struct l7_distribute distribute[] = {{"r9/*", to, 1}, {"r1/z1/*", to, 4}};
    struct workload source = client_at("r1", "z1", "s1");
    struct bed bed;
    int counts[HOSTS_MAX];
    bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_ROUND_ROBIN);
    bed.settings.lb.locality =
        (struct l7_locality_policy){.is_set = true, .distribute = distribute, .n_distribute = 2};
    bed_start(&bed, &source); // no outlier detection is needed
    count(&bed, 20000, counts);
    assert_shares(counts, (double[]){.4, .4, .15, .05, 0}, 5);
    levels_are(&bed, (unsigned[]){80, 15, 5, 0}, 4);
    // Half of a group's hosts: 70 % of its weight.
    eject(&bed, 0, 1, true);
    count(&bed, 20000, counts);
    assert_shares(counts, (double[]){0, 56. / 76, 15. / 76, 5. / 76, 0}, 5);
    l7_lb_free(bed.lb);
    // A client whom no `from` means has all of them.
    struct workload elsewhere = client_at("r2", "z1", "");
    bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.lb.locality =
        (struct l7_locality_policy){.is_set = true, .distribute = distribute, .n_distribute = 2};
    bed_start(&bed, &elsewhere);
    order_is(&bed, "01234|");
    l7_lb_free(bed.lb);
}

static void test_remote_localities(void **state) {
    struct bed bed;
    bed_init(&bed, ARRAY_LEN(corners), corners, L7_LB_RANDOM);
    bed.settings.outlier.is_on = true;
    struct workload source = client_at("r1", "z1", "s1");
    bed_start(&bed, &source);
    const struct l7_host_cell *tried[] = {&bed.cells[0], &bed.cells[1], &bed.cells[2],
                                          &bed.cells[3]};
    struct l7_lb_pick request = {.tried = tried, .n_tried = 1, .leaves_locality = true};
    assert_int_equal(pick(&bed, &request), 0); // after two
    request.n_tried = 2;
    for (int i = 0; i < 50; i++) {
        assert_in_range(pick(&bed, &request), 2, 4);
    }
    request.n_tried = 3;
    for (int i = 0; i < 50; i++) {
        assert_in_range(pick(&bed, &request), 3, 4);
    }
    request.n_tried = 4; // all levels were tried: from the beginning
    assert_int_equal(pick(&bed, &request), 0);
    l7_lb_free(bed.lb);
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
            struct bed bed;
            int counts[HOSTS_MAX];
            bed_init(&bed, 2, NULL, kinds[k]);
            bed.settings.lb.warmup_ms = 50000;
            bed.settings.lb.warmup_min = .1;
            bed.settings.lb.warmup_aggression = cases[i].aggression;
            bed.cells[1].since_ms = bed.now_ms - cases[i].age_ms;
            bed_start(&bed, NULL);
            count(&bed, 8000, counts);
            double share = cases[i].weight / (1 + cases[i].weight);
            assert_shares(counts, (double[]){1 - share, share}, 2);
            // Time goes by without anything else changing.
            bed.now_ms += 50000;
            count(&bed, 8000, counts);
            assert_shares(counts, (double[]){.5, .5}, 2);
            l7_lb_free(bed.lb);
        }
    }
}

static void test_hosts(void **state) {
    struct bed bed;
    static const struct place places[] = {
        {.label = "v1", .weight = 0}, {.label = "v2"}, {.label = "v1"}, {.label = "v1"}};
    bed_init(&bed, 4, places, L7_LB_RANDOM);
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
    bed.workloads[0].hostname = "db.example";
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
        cmocka_unit_test(test_failover_spill),
        cmocka_unit_test(test_panic_levels),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_unknown_client),
        cmocka_unit_test(test_client_class),
        cmocka_unit_test(test_distribute),
        cmocka_unit_test(test_remote_localities),
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_hash_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
