// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/locality.h"

#include "tests/unit/mesh/mesh_fixture.h"

#define PLACE(r, z, s)                                                                             \
    { .region = (r), .zone = (z), .subzone = (s) }

static struct rand rng;

static int setup(void **state) {
    fx_init();
    rand_seed(&rng, 7);
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

static const struct locality_choice *pick(const struct service *service,
                                          const struct workload *source) {
    static struct locality_choice choice;
    struct locality_request request = {.source = source, .family = 4, .rand = &rng};
    locality_pick(service, &request, &choice);
    return &choice;
}

static void test_rank(void **state) {
    struct workload *source =
        FX_WORKLOAD("a", "c", "10.0.0.1", .node = "n1", .common.locality = PLACE("r", "z", "s"));
    const struct {
        struct locality place;
        const char *node, *network;
        uint8_t scopes[5];
        uint8_t n_scopes;
        unsigned rank;
    } cases[] = {
        {PLACE("r", "z", "s"), "n1", "", {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE}, 3, 3},
        {PLACE("r", "z2", "s"), "n1", "", {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE}, 3, 2},
        {PLACE("r2", "z", "s"), "n1", "", {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE}, 3, 1},
        {PLACE("r", "z", "s"), "n1", "other", {SCOPE_NETWORK, SCOPE_REGION, SCOPE_ZONE}, 3, 0},
        {PLACE("r", "z", "s2"), "n1", "", {SCOPE_ZONE, SCOPE_SUBZONE, SCOPE_NODE}, 3, 1},
        {PLACE("", "", ""), "n1", "", {SCOPE_NODE, SCOPE_CLUSTER}, 2, 2},
        {PLACE("", "", ""), "n2", "", {SCOPE_NODE, SCOPE_CLUSTER}, 2, 0},
        {PLACE("", "", ""), "n2", "", {0}, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload *w =
            FX_WORKLOAD("a", "s", "10.0.0.2", .node = cases[i].node,
                        .common.network = cases[i].network, .common.locality = cases[i].place);
        struct service service = {.n_scopes = cases[i].n_scopes};
        memcpy(service.scopes, cases[i].scopes, sizeof(cases[i].scopes));
        assert_int_equal(locality_rank(&service, source, w), cases[i].rank);
        leaf_unref(w);
    }
    leaf_unref(source);
}

// The same three endpoints (own node, own zone, elsewhere) under each mode and state of health.
static void test_modes(void **state) {
    const struct {
        const char *what;
        uint8_t mode;
        bool near_up, zone_up, far_up, allow_not_ready;
        const char *expect; // names that may be picked
    } cases[] = {
        {"standard takes all", LB_STANDARD, true, true, true, false, "near zone far"},
        {"standard takes healthy ones", LB_STANDARD, false, true, true, false, "zone far"},
        {"failover takes the best", LB_FAILOVER, true, true, true, false, "near"},
        {"failover to the zone", LB_FAILOVER, false, true, true, false, "zone"},
        {"failover to anywhere", LB_FAILOVER, false, false, true, false, "far"},
        {"failover without any", LB_FAILOVER, false, false, false, false, ""},
        {"strict takes full matches", LB_STRICT, true, true, true, false, "near"},
        {"strict without a match", LB_STRICT, false, true, true, false, ""},
        {"unhealthy ones if allowed", LB_FAILOVER, false, true, true, true, "near"},
    };
    struct workload *source =
        FX_WORKLOAD("a", "c", "10.0.0.1", .node = "n1", .common.locality = PLACE("r", "z", ""));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload *members[] = {
            FX_WORKLOAD("a", "near", "10.0.0.2", .node = "n1",
                        .common.locality = PLACE("r", "z", ""),
                        .is_terminating = !cases[i].near_up),
            FX_WORKLOAD("a", "zone", "10.0.0.3", .node = "n2",
                        .common.locality = PLACE("r", "z", ""),
                        .is_terminating = !cases[i].zone_up),
            FX_WORKLOAD("a", "far", "10.0.0.4", .node = "n3",
                        .common.locality = PLACE("r", "z2", ""),
                        .is_terminating = !cases[i].far_up),
        };
        struct service *service =
            FX_SERVICE(.ns = "a", .name = "s", .vips = "10.1.0.1", .ports = {80},
                       .members = {members[0], members[1], members[2]},
                       .more = {.lb_mode = cases[i].mode,
                                .n_scopes = cases[i].mode == LB_STANDARD ? 0 : 2,
                                .scopes = {SCOPE_ZONE, SCOPE_NODE},
                                .allow_not_ready = cases[i].allow_not_ready});
        unsigned seen[3] = {0};
        for (int n = 0; n < 300; n++) {
            const struct locality_choice *choice = pick(service, source);
            if (choice->endpoint == NULL) {
                assert_string_equal(cases[i].expect, "");
                continue;
            }
            assert_int_equal(choice->target_port, 8080);
            seen[choice->endpoint - service->endpoints]++;
        }
        for (int m = 0; m < 3; m++) {
            bool is_expected = strstr(cases[i].expect, members[m]->name) != NULL;
            if (is_expected != (seen[m] > 0)) {
                fail_msg("%s: endpoint %s was picked %u times", cases[i].what, members[m]->name,
                         seen[m]);
            }
            leaf_unref(members[m]);
        }
        leaf_unref(service);
    }
    leaf_unref(source);
}

static void test_weights(void **state) {
    struct workload *source = FX_WORKLOAD("a", "c", "10.0.0.1");
    struct workload *one = FX_WORKLOAD("a", "one", "10.0.0.2", .capacity = 1);
    struct workload *three = FX_WORKLOAD("a", "three", "10.0.0.3", .capacity = 3);
    struct service *service = FX_SERVICE(.ns = "a", .name = "s", .vips = "10.1.0.1", .ports = {80},
                                         .members = {one, three});
    assert_false(service->is_uniform);
    int n_three = 0;
    for (int i = 0; i < 10000; i++) {
        n_three += pick(service, source)->endpoint->workload == three;
    }
    assert_in_range(n_three, 7200, 7800);
    leaf_unref(service);
    leaf_unref(one);
    leaf_unref(three);
    leaf_unref(source);
}

static void test_tried_and_families(void **state) {
    struct workload *v4 = FX_WORKLOAD("a", "v4", "10.0.0.1");
    struct workload *dual = FX_WORKLOAD("a", "dual", "10.0.0.2,fd00::2");
    struct workload *v6 = FX_WORKLOAD("a", "v6", "fd00::3");
    struct service *service = FX_SERVICE(.ns = "a", .name = "s", .vips = "10.1.0.1", .ports = {80},
                                         .members = {dual, v6});
    struct ip tried[2] = {fx_ip("10.0.0.2"), fx_ip("fd00::3")};
    const struct {
        const struct workload *source;
        uint8_t family;
        size_t n_tried;
        const char *expect; // addresses that may be picked
    } cases[] = {
        {v4, 4, 0, "10.0.0.2"}, // cannot reach IPv6
        {v4, 4, 1, ""},          {dual, 4, 0, "10.0.0.2 fd00::3"}, {dual, 6, 0, "fd00::2 fd00::3"},
        {dual, 6, 1, "fd00::3"}, // tried by its other address
        {dual, 6, 2, ""},        {v6, 6, 0, "fd00::2 fd00::3"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int n = 0; n < 50; n++) {
            struct locality_request request = {
                .source = cases[i].source,
                .family = cases[i].family,
                .tried = tried,
                .n_tried = cases[i].n_tried,
                .rand = &rng,
            };
            struct locality_choice choice;
            locality_pick(service, &request, &choice);
            if (choice.endpoint == NULL) {
                assert_string_equal(cases[i].expect, "");
                continue;
            }
            char text[IP_TEXT_MAX];
            assert_non_null(strstr(cases[i].expect, ip_text(&choice.ip, text)));
        }
    }
    leaf_unref(service);
    leaf_unref(v4);
    leaf_unref(dual);
    leaf_unref(v6);
}

static void test_policy_mapping(void **state) {
    const struct {
        struct locality_policy policy;
        uint8_t mode, n_scopes, last;
        bool is_known;
    } cases[] = {
        {{0}, LB_STANDARD, 0, 0, true},
        {{.is_internal_local = true, .distribution = "PreferClose"}, LB_STRICT, 1, SCOPE_NODE, 1},
        {{.distribution = "PreferClose"}, LB_FAILOVER, 3, SCOPE_ZONE, true},
        {{.distribution = "PreferSameZone"}, LB_FAILOVER, 3, SCOPE_ZONE, true},
        {{.distribution = "PreferSameNode"}, LB_FAILOVER, 5, SCOPE_NODE, true},
        {{.annotation = "preferclose"}, LB_FAILOVER, 3, SCOPE_ZONE, true},
        {{.distribution = "PreferSameNode", .annotation = "PreferClose"}, LB_FAILOVER, 5, 4, true},
        {{.annotation = "Any", .ns_annotation = "PreferClose"}, LB_STANDARD, 0, 0, true},
        {{.ns_annotation = "PreferClose"}, LB_FAILOVER, 3, SCOPE_ZONE, true},
        {{.distribution = "Nonsense"}, LB_STANDARD, 0, 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct service service = {0};
        assert_int_equal(locality_set_policy(&cases[i].policy, &service), cases[i].is_known);
        assert_int_equal(service.lb_mode, cases[i].mode);
        assert_int_equal(service.n_scopes, cases[i].n_scopes);
        if (service.n_scopes > 0) {
            assert_int_equal(service.scopes[service.n_scopes - 1], cases[i].last);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rank, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tried_and_families, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policy_mapping, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
