// SPDX-License-Identifier: Apache-2.0
//
// DestinationRules merged: what wins for which port and subset.
#include "common/l7/l7_policy.h"

#include "tests/unit/l7/l7_fixture.h"

#define POOL(max) (&(const struct kobj_connection_pool){.max_connections = (max)})
#define LB(kind) (&(const struct kobj_load_balancer){.simple = (kind)})
static const struct kobj_outlier outlier_unset = {.consecutive_5xx = -1,
                                                  .consecutive_gateway = -1,
                                                  .consecutive_local_origin = -1,
                                                  .interval_ms = -1,
                                                  .base_ejection_ms = -1,
                                                  .max_ejection_percent = -1,
                                                  .min_health_percent = -1};

static const struct l7_settings *find(const struct l7_policy *policy, const char *subset,
                                      uint16_t port) {
    const struct l7_subset *found = NULL;
    const struct l7_settings *settings = l7_policy_find(policy, subset, port, &found);
    assert_true(settings == NULL || (found != NULL) == (subset[0] != '\0'));
    return settings;
}

static void test_defaults(void **state) {
    const struct l7_settings *s = find(NULL, "", 80);
    assert_int_equal(s->lb.kind, L7_LB_LEAST_REQUEST);
    assert_int_equal(s->pool.max_connections, L7_NO_LIMIT);
    assert_int_equal(s->pool.max_retries, L7_NO_LIMIT);
    assert_int_equal(s->pool.connect_timeout_ms, 10000);
    assert_int_equal(s->pool.idle_timeout_ms, 3600000);
    assert_false(s->outlier.is_on || s->tls.is_set || s->budget.is_on);
    assert_int_equal(s->panic_percent, 50);
    assert_null(find(NULL, "v1", 80));
    struct fx fx;
    fx_init(&fx);
    assert_null(fx_policy(&fx));
    fx_destination_rule(&fx, &(struct kobj_destination_rule){.host = "web"});
    const struct l7_policy *policy = fx_policy(&fx);
    assert_memory_equal(find(policy, "", 80), s, sizeof(*s));
    assert_null(find(policy, "v1", 80));
    assert_false(l7_policy_has_authz(policy) || l7_policy_has_authz(NULL));
    fx_fini(&fx);
}

static void test_authz_alone(void **state) {
    struct fx fx;
    fx_init(&fx);
    fx.in.n_authz = 1;
    const struct l7_policy *policy = fx_policy(&fx);
    assert_true(l7_policy_has_authz(policy));
    assert_int_equal(find(policy, "", 80)->pool.connect_timeout_ms, 10000);
    fx_fini(&fx);
}

static void test_levels(void **state) {
    struct kobj_port_policy ports[] = {{.port = 8080, .policy = {.connection_pool = POOL(2)}}};
    struct kobj_port_policy subset_ports[] = {
        {.port = 9090, .policy = {.load_balancer = LB(KOBJ_LB_RANDOM)}}};
    const struct kobj_retry_budget budget = {
        .ppm = 250000, .min_concurrency = 7, .interval_ms = -1};
    const struct kobj_traffic_policy whole = {.load_balancer = LB(KOBJ_LB_ROUND_ROBIN),
                                              .connection_pool = POOL(1),
                                              .outlier = &outlier_unset,
                                              .retry_budget = &budget,
                                              .ports = ports,
                                              .n_ports = 1};
    const struct kobj_traffic_policy own = {
        .connection_pool = POOL(3), .ports = subset_ports, .n_ports = 1};
    const struct kobj_subset subsets[] = {
        {.name = "v1", .labels = FX_MAP({"version", "v1"})},
        {.name = "v2", .labels = FX_MAP({"version", "v2"}), .policy = &own}};
    struct fx fx;
    fx_init(&fx);
    fx_destination_rule(&fx,
                        &(struct kobj_destination_rule){
                            .host = "web", .policy = &whole, .subsets = subsets, .n_subsets = 2});
    const struct l7_policy *policy = fx_policy(&fx);
    const uint32_t none = L7_NO_LIMIT;
    const struct {
        const char *subset;
        uint16_t port;
        uint8_t lb;
        uint32_t max_connections;
        bool has_outlier;
    } cases[] = {
        {"", 80, L7_LB_ROUND_ROBIN, 1, true},
        // A port's settings: what they leave out is the default, not the rule's.
        {"", 8080, L7_LB_LEAST_REQUEST, 2, false},
        {"v1", 80, L7_LB_ROUND_ROBIN, 1, true},
        {"v1", 8080, L7_LB_LEAST_REQUEST, 2, false},
        // A subset's block replaces, the others stay.
        {"v2", 80, L7_LB_ROUND_ROBIN, 3, true},
        {"v2", 8080, L7_LB_LEAST_REQUEST, 3, false},
        {"v2", 9090, L7_LB_RANDOM, none, false},
        {"", 9090, L7_LB_ROUND_ROBIN, 1, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct l7_settings *s = find(policy, cases[i].subset, cases[i].port);
        assert_int_equal(s->lb.kind, cases[i].lb);
        assert_int_equal(s->pool.max_connections, cases[i].max_connections);
        assert_int_equal(s->outlier.is_on, cases[i].has_outlier);
        assert_int_equal(s->panic_percent, cases[i].has_outlier ? 0 : 50);
        assert_true(s->budget.is_on && s->budget.min_concurrency == 7);
    }
    assert_null(find(policy, "v3", 80));
    const struct l7_subset *list, *v2;
    assert_int_equal(l7_policy_subsets(policy, &list), 2);
    assert_string_equal(list[0].name, "v1");
    l7_policy_find(policy, "v2", 80, &v2);
    static const struct label both[] = {{"app", "web"}, {"version", "v2"}};
#define WITH_LABELS(list, n)                                                                       \
    (struct workload) {                                                                            \
        .common = &(struct workload_common) {                                                      \
            .labels = (list), .n_labels = (n)                                                      \
        }                                                                                          \
    }
    assert_true(l7_subset_selects(v2, &WITH_LABELS(both, 2)));
    assert_false(l7_subset_selects(v2, &WITH_LABELS(both, 1)));
    assert_false(l7_subset_selects(&list[0], &WITH_LABELS(both, 2)));
    assert_true(l7_subset_selects(&(struct l7_subset){.name = "all"}, &(struct workload){0}));
    fx_fini(&fx);
}

static void test_several_rules(void **state) {
    const struct kobj_traffic_policy first = {.connection_pool = POOL(1)};
    const struct kobj_traffic_policy second = {.connection_pool = POOL(2),
                                               .load_balancer = LB(KOBJ_LB_RANDOM)};
    const struct kobj_subset of_one[] = {{.name = "v1", .labels = FX_MAP({"a", "1"})}};
    const struct kobj_subset of_two[] = {
        {.name = "v1", .labels = FX_MAP({"a", "2"})},
        {.name = "v2", .labels = FX_MAP({"a", "2"}), .policy = &second}};
    struct fx fx;
    fx_init(&fx);
    fx_destination_rule(&fx, &(struct kobj_destination_rule){.subsets = of_one, .n_subsets = 1});
    fx_destination_rule(&fx, &(struct kobj_destination_rule){.policy = &first});
    fx_destination_rule(&fx, &(struct kobj_destination_rule){
                                 .policy = &second, .subsets = of_two, .n_subsets = 2});
    const struct l7_policy *policy = fx_policy(&fx);
    const struct l7_subset *subset;
    assert_int_equal(find(policy, "", 80)->pool.max_connections, 1); // the first policy there is
    assert_int_equal(find(policy, "", 80)->lb.kind, L7_LB_LEAST_REQUEST); // as a whole
    assert_int_equal(l7_policy_find(policy, "v1", 80, &subset)->pool.max_connections, 1);
    assert_string_equal(subset->labels[0].value, "1");
    assert_int_equal(find(policy, "v2", 80)->lb.kind, L7_LB_RANDOM);
    assert_non_null(strstr(fx.problems, "\"v1\" is there already"));
    fx_fini(&fx);
}

static void test_blocks(void **state) {
    const struct kobj_consistent_hash hash = {.key = HASH_KEY_HEADER,
                                              .algorithm = HASH_MAGLEV,
                                              .name = "X-User",
                                              .cookie_path = "",
                                              .cookie_ttl_ms = -1,
                                              .table_size = 101};
    const struct locality_failover failover[] = {{"a", "b"}};
    const struct locality_weight to[] = {{"a/*", 80}, {"b/*", 20}};
    const struct locality_distribute distribute[] = {{"a/z/*", to, 2}};
    const struct mesh_locality_lb locality = {
        .failover = failover, .n_failover = 1, .distribute = distribute, .n_distribute = 1};
    const struct kobj_load_balancer lb = {
        .hash = &hash, .locality = &locality, .warmup_ms = 5000, .warmup_aggression = 1};
    const struct kobj_connection_pool pool = {.connect_timeout_ms = 500,
                                              .tcp_idle_timeout_ms = 7000,
                                              .http_idle_timeout_ms = -1,
                                              .max_connection_duration_ms = -1,
                                              .max_pending_requests = 1,
                                              .max_requests = 2,
                                              .max_requests_per_connection = 3,
                                              .max_retries = 4,
                                              .ping_interval_ms = -1,
                                              .ping_timeout_ms = -1,
                                              .h2_upgrade = H2_UPGRADE_YES};
    static const uint32_t codes[] = {429};
    struct kobj_outlier outlier = outlier_unset;
    outlier.consecutive_gateway = 0;
    outlier.base_ejection_ms = 400000;
    outlier.min_health_percent = 30;
    outlier.splits_local_origin = true;
    outlier.http_codes = codes;
    outlier.n_http_codes = 1;
    static const char *const sans[] = {"spiffe://x"};
    const struct kobj_client_tls tls = {.mode = TLS_MODE_SIMPLE,
                                        .sni = "s",
                                        .sans = sans,
                                        .n_sans = 1,
                                        .insecure_skip_verify = TRI_TRUE};
    const struct kobj_traffic_policy policy = {
        .load_balancer = &lb,
        .connection_pool = &pool,
        .outlier = &outlier,
        .tls = &tls,
        .proxy_protocol = PROXY_PROTOCOL_V2,
        .tunnel = &(struct kobj_tunnel){.protocol = "", .target_host = "h", .target_port = 1}};
    struct fx fx;
    fx_init(&fx);
    fx_destination_rule(&fx, &(struct kobj_destination_rule){.policy = &policy});
    const struct l7_settings *s = find(fx_policy(&fx), "", 80);
    assert_int_equal(s->lb.kind, L7_LB_MAGLEV);
    assert_int_equal(s->lb.hash_key, L7_HASH_HEADER);
    assert_string_equal(s->lb.hash_name, "x-user");
    assert_int_equal(s->lb.table_size, 101);
    assert_int_equal(s->lb.warmup_ms, 0); // not with hashes
    assert_string_equal(s->lb.locality.failover[0].to, "b");
    assert_string_equal(s->lb.locality.distribute[0].to[1].to, "b/*");
    assert_int_equal(s->pool.connect_timeout_ms, 500);
    assert_int_equal(s->pool.idle_timeout_ms, 7000); // tcp's, when http has none
    assert_int_equal(s->pool.max_pending, 1);
    assert_int_equal(s->pool.max_retries, 4);
    assert_int_equal(s->pool.max_connections, L7_NO_LIMIT);
    assert_true(s->pool.is_h2_upgraded);
    assert_int_equal(s->outlier.consecutive_5xx, 5);
    assert_int_equal(s->outlier.consecutive_gateway, 0);
    assert_int_equal(s->outlier.consecutive_local_origin, 5);
    assert_int_equal(s->outlier.interval_ms, 10000);
    assert_int_equal(s->outlier.max_ejection_percent, 10);
    assert_int_equal(s->outlier.max_ejection_ms, 400000);
    assert_int_equal(s->outlier.codes[0], 429);
    assert_int_equal(s->panic_percent, 30);
    assert_true(s->tls.is_set && s->tls.skips_verify && s->tls.n_sans == 1);
    assert_string_equal(s->tunnel_protocol, "CONNECT");
    assert_int_equal(s->proxy_protocol, PROXY_PROTOCOL_V2);
    assert_string_equal(fx.problems, "");
    fx_fini(&fx);
}

static void test_tables(void **state) {
    const struct {
        uint8_t algorithm;
        uint64_t size; // as configured
        uint32_t table_size;
        bool has_problem;
    } cases[] = {{HASH_RING, 0, 1024, false},
                 {HASH_RING, 1, 1, false},
                 {HASH_RING, 1 << 30, 8 << 20, false},
                 {HASH_MAGLEV, 0, 65537, false},
                 {HASH_MAGLEV, 5000011, 5000011, false},
                 {HASH_MAGLEV, 100, 65537, true},
                 {HASH_MAGLEV, 1, 65537, true},
                 {HASH_MAGLEV, 2, 2, false},
                 {HASH_MAGLEV, 10000019, 65537, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct kobj_consistent_hash hash = {.key = HASH_KEY_IP,
                                                  .algorithm = cases[i].algorithm,
                                                  .name = "",
                                                  .cookie_path = "",
                                                  .min_ring_size = cases[i].size,
                                                  .table_size = cases[i].size};
        const struct kobj_load_balancer lb = {.hash = &hash};
        const struct kobj_traffic_policy policy = {.load_balancer = &lb};
        struct fx fx;
        fx_init(&fx);
        fx_destination_rule(&fx, &(struct kobj_destination_rule){.policy = &policy});
        assert_int_equal(find(fx_policy(&fx), "", 80)->lb.table_size, cases[i].table_size);
        assert_int_equal(fx.problems[0] != '\0', cases[i].has_problem);
        fx_fini(&fx);
    }
}

// What a connection is made of, or bounds its life, makes another kind of it; nothing else does.
static void test_same_connections(void **state) {
    static const char *const sans[] = {"a"}, *const others[] = {"b"};
    struct l7_settings a = {.tunnel_protocol = "", .tunnel_host = ""}, b = a;
    assert_true(l7_settings_same_connections(&a, &b));
    b.pool.max_connections = b.pool.max_pending = b.pool.max_requests = 1;
    b.lb.kind = L7_LB_RANDOM;
    b.outlier.is_on = b.budget.is_on = true;
    assert_true(l7_settings_same_connections(&a, &b));
#define DIFFERS(field, value)                                                                      \
    do {                                                                                           \
        b = a;                                                                                     \
        b.field = (value);                                                                         \
        assert_false(l7_settings_same_connections(&a, &b));                                        \
        assert_false(l7_settings_same_connections(&b, &a));                                        \
    } while (0)
    DIFFERS(pool.max_requests_per_connection, 1);
    DIFFERS(pool.max_concurrent_streams, 1);
    DIFFERS(pool.idle_timeout_ms, 1);
    DIFFERS(pool.max_connection_duration_ms, 1);
    DIFFERS(pool.ping_interval_ms, 1);
    DIFFERS(pool.has_keepalive, true);
    DIFFERS(pool.is_h2_upgraded, true);
    DIFFERS(pool.use_client_protocol, true);
    DIFFERS(proxy_protocol, 1);
    DIFFERS(tunnel_protocol, "POST");
    b = a;
    b.tls.is_set = true;
    b.tls.mode = TLS_MODE_ISTIO_MUTUAL; // asks for nothing
    assert_true(l7_settings_same_connections(&a, &b));
    b.tls.mode = TLS_MODE_SIMPLE;
    assert_false(l7_settings_same_connections(&a, &b));
    a.tls.is_set = true;
    a.tls.mode = TLS_MODE_SIMPLE;
    DIFFERS(tls.is_set, false);
    DIFFERS(tls.mode, TLS_MODE_MUTUAL);
    DIFFERS(tls.sni, "x");
    DIFFERS(tls.credential_name, "x");
    DIFFERS(tls.skips_verify, true);
    DIFFERS(tls.credentials, &a);
    a.tls.sans = sans;
    a.tls.n_sans = 1;
    DIFFERS(tls.sans, others);
    DIFFERS(tls.n_sans, 0);
#undef DIFFERS
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),         cmocka_unit_test(test_authz_alone),
        cmocka_unit_test(test_levels),           cmocka_unit_test(test_several_rules),
        cmocka_unit_test(test_blocks),           cmocka_unit_test(test_tables),
        cmocka_unit_test(test_same_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
