// SPDX-License-Identifier: Apache-2.0
//
// What MeshConfig says for all services: it counts where nothing else is said.
#include "common/l7/l7_lb.h"
#include "tests/unit/l7/l7_fixture.h"

static const struct locality_weight to_b[] = {{"r/b/*", 100}};
static const struct locality_distribute distribute[] = {{"r/a/*", to_b, 1}};
static const struct mesh_locality_lb locality = {.distribute = distribute, .n_distribute = 1};
static const struct mesh_config config = {.locality_lb = &locality,
                                          .connect_timeout_ms = 1500,
                                          .has_keepalive = true,
                                          .keepalive_probes = 3,
                                          .keepalive_time_ms = 60000,
                                          .keepalive_interval_ms = -1,
                                          .is_h2_upgraded = true};

static const struct l7_settings *settings_of(struct fx *fx) {
    const struct l7_subset *subset;
    return l7_policy_find(fx_policy(fx), "", 80, &subset);
}

static void test_alone(void **state) {
    struct fx fx;
    fx_init(&fx);
    fx.in.config = &config;
    const struct l7_settings *s = settings_of(&fx);
    assert_int_equal(s->pool.connect_timeout_ms, 1500);
    assert_true(s->pool.has_keepalive && s->pool.is_h2_upgraded);
    assert_int_equal(s->pool.keepalive_probes, 3);
    assert_int_equal(s->pool.keepalive_time_ms, 60000);
    assert_int_equal(s->pool.keepalive_interval_ms, 0);
    assert_int_equal(s->lb.locality.n_distribute, 1);
    assert_false(s->lb.locality.is_set);
    fx_fini(&fx);
}

static void test_nothing_is_said(void **state) {
    static const struct mesh_config none = {.connect_timeout_ms = -1};
    struct fx fx;
    fx_init(&fx);
    fx.in.config = &none;
    assert_null(fx_policy(&fx));
    assert_null(fx_routes(&fx));
    fx_fini(&fx);
}

// Value by value of the pool, locality as a whole.
static void test_rule_counts_first(void **state) {
    static const struct mesh_locality_lb other = {.enabled = TRI_FALSE};
    static const struct kobj_connection_pool pool = {.connect_timeout_ms = 200,
                                                     .max_connection_duration_ms = -1,
                                                     .tcp_idle_timeout_ms = -1,
                                                     .http_idle_timeout_ms = -1,
                                                     .ping_interval_ms = -1,
                                                     .ping_timeout_ms = -1,
                                                     .h2_upgrade = H2_UPGRADE_NO};
    static const struct kobj_load_balancer lb = {.locality = &other, .warmup_ms = -1};
    static const struct kobj_traffic_policy policy = {.connection_pool = &pool,
                                                      .load_balancer = &lb};
    const struct kobj_destination_rule rule = {.host = "web", .policy = &policy};
    struct fx fx;
    fx_init(&fx);
    fx.in.config = &config;
    fx_destination_rule(&fx, &rule);
    const struct l7_settings *s = settings_of(&fx);
    assert_int_equal(s->pool.connect_timeout_ms, 200);
    assert_false(s->pool.is_h2_upgraded);
    assert_int_equal(s->pool.keepalive_probes, 3); // it says nothing of these
    assert_true(s->lb.locality.is_set && s->lb.locality.is_disabled);
    assert_int_equal(s->lb.locality.n_distribute, 0);
    fx_fini(&fx);
}

// The order of places: DestinationRule, trafficDistribution, MeshConfig.
static void test_places(void **state) {
    const struct workload_common places[2] = {{.locality = {"r", "a", ""}, .hostname = ""},
                                              {.locality = {"r", "b", ""}, .hostname = ""}};
    struct workload hosts[2] = {{.common = &places[0], .node = ""},
                                {.common = &places[1], .node = ""}};
    const struct workload source = {.common = &places[0]};
    struct endpoint endpoints[2] = {{.workload = &hosts[0]}, {.workload = &hosts[1]}};
    struct l7_host_cell cells[2] = {0};
    struct l7_host list[2] = {{&endpoints[0], .weight = 1, .cell = &cells[0]},
                              {&endpoints[1], .weight = 1, .cell = &cells[1]}};
    struct fx fx;
    fx_init(&fx);
    fx.in.config = &config;
    struct l7_lb_cell cell = {0};
    struct l7_lb_spec spec = {.hosts = list,
                              .n_hosts = 2,
                              .service = &fx.service,
                              .settings = settings_of(&fx),
                              .source = &source,
                              .cell = &cell};
    struct rand rand;
    rand_seed(&rand, 1);
    for (int with_distribution = 0; with_distribution < 2; with_distribution++) {
        if (with_distribution == 1) {
            fx.service.lb_mode = LB_FAILOVER;
            fx.service.n_scopes = 2;
            fx.service.scopes[0] = SCOPE_REGION;
            fx.service.scopes[1] = SCOPE_ZONE;
        }
        struct l7_lb *lb = l7_lb_new(&spec);
        for (int i = 0; i < 20; i++) {
            const struct l7_lb_pick pick = {.rand = &rand};
            // The mesh sends zone a to zone b; the Service wants its own zone.
            assert_ptr_equal(l7_lb_pick(lb, &pick)->endpoint, &endpoints[!with_distribution]);
        }
        l7_lb_free(lb);
    }
    fx_fini(&fx);
}

static void test_retries(void **state) {
    static const struct kobj_vs_retry retry = {
        .attempts = 7, .per_try_timeout_ms = 30, .backoff_ms = -1, .retry_on = "5xx"};
    static const struct kobj_vs_retry off = {
        .attempts = 0, .per_try_timeout_ms = -1, .backoff_ms = -1, .retry_on = ""};
    struct mesh_config with = {.connect_timeout_ms = -1, .default_retry = &retry};
    struct fx_head head;
    struct l7_request request;
    struct l7_match match;
    fx_head(&head, "GET http web /");
    l7_request_init(&request, &head.head, 80, NULL);
    for (int has_rules = 0; has_rules < 2; has_rules++) {
        for (int is_off = 0; is_off < 2; is_off++) {
            struct fx fx;
            fx_init(&fx);
            with.default_retry = is_off ? &off : &retry;
            fx.in.config = &with;
            if (has_rules) {
                FX_VS(&fx, "vs", {.name = "a", FX_TO("a")});
            }
            const struct l7_route *route = fx_match(fx_routes(&fx), &request, &match);
            assert_int_equal(route->is_default, !has_rules);
            assert_int_equal(route->retry.attempts, is_off ? 0 : 7);
            assert_int_equal(route->retry.per_try_timeout_ms, is_off ? 0 : 30);
            fx_fini(&fx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_nothing_is_said),
        cmocka_unit_test(test_rule_counts_first),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_retries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
