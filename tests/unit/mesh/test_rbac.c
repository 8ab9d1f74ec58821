// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/rbac.h"

#include <stdio.h>

#include "tests/unit/mesh/mesh_fixture.h"

#define ALICE "spiffe://cluster.local/ns/red/sa/alice"

#define STRINGS(...)                                                                               \
    (const struct string_match[]) {                                                                \
        __VA_ARGS__                                                                                \
    }
#define CIDRS(...)                                                                                 \
    (const struct cidr[]) {                                                                        \
        __VA_ARGS__                                                                                \
    }
#define PORTS(...)                                                                                 \
    (const uint16_t[]) {                                                                           \
        __VA_ARGS__                                                                                \
    }
#define ACCOUNTS(...)                                                                              \
    (const struct sa_match[]) {                                                                    \
        __VA_ARGS__                                                                                \
    }
#define EXACT(t)                                                                                   \
    { MATCH_EXACT, (t) }
#define PREFIX(t)                                                                                  \
    { MATCH_PREFIX, (t) }
#define SUFFIX(t)                                                                                  \
    { MATCH_SUFFIX, (t) }
#define PRESENT                                                                                    \
    { MATCH_PRESENCE, "" }
#define NET10                                                                                      \
    { .ip = {4, {10}}, .len = 8 }
#define NET11                                                                                      \
    { .ip = {4, {11}}, .len = 8 }
#define NETV6                                                                                      \
    { .ip = {6, {0xfd}}, .len = 8 }

static int setup(void **state) {
    fx_init();
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

static struct rbac_request request_of(const char *identity) {
    return (struct rbac_request){
        .source_ip = fx_ip("10.0.0.1"),
        .source_identity = slice_str(identity),
        .destination = fx_addr("11.0.0.9:80"),
    };
}

// One match in one clause in one rule: does it match alice, and does it match plaintext?
static void test_fields(void **state) {
    const struct {
        struct policy_match match;
        bool alice, plain;
    } cases[] = {
        {{0}, false, false}, // no field: false
        {{.principals = STRINGS(EXACT("cluster.local/ns/red/sa/alice")), .n_principals = 1}, 1, 0},
        {{.principals = STRINGS(EXACT(ALICE)), .n_principals = 1}, 0, 0}, // with spiffe://: no
        {{.principals = STRINGS(EXACT("x"), EXACT("cluster.local/ns/red/sa/alice")),
          .n_principals = 2},
         1,
         0},
        {{.principals = STRINGS(PREFIX("cluster.local/ns/red/")), .n_principals = 1}, 1, 0},
        {{.principals = STRINGS(PREFIX("cluster.local/ns/blue/")), .n_principals = 1}, 0, 0},
        {{.principals = STRINGS(PREFIX("")), .n_principals = 1}, 1, 0},
        {{.principals = STRINGS(SUFFIX("/sa/alice")), .n_principals = 1}, 1, 0},
        {{.principals = STRINGS(SUFFIX("/sa/bob")), .n_principals = 1}, 0, 0},
        {{.principals = STRINGS(PRESENT), .n_principals = 1}, 1, 0},
        {{.not_principals = STRINGS(PRESENT), .n_not_principals = 1}, 0, 1},
        {{.not_principals = STRINGS(EXACT("cluster.local/ns/red/sa/alice")), .n_not_principals = 1},
         0,
         1},
        {{.not_principals = STRINGS(EXACT("cluster.local/ns/red/sa/bob")), .n_not_principals = 1},
         1,
         1},
        // positive and negative of one field
        {{.principals = STRINGS(PRESENT),
          .n_principals = 1,
          .not_principals = STRINGS(SUFFIX("/sa/alice")),
          .n_not_principals = 1},
         0,
         0},
        {{.namespaces = STRINGS(EXACT("red")), .n_namespaces = 1}, 1, 0},
        {{.namespaces = STRINGS(PREFIX("re")), .n_namespaces = 1}, 1, 0},
        {{.namespaces = STRINGS(PRESENT), .n_namespaces = 1}, 1, 0},
        {{.not_namespaces = STRINGS(EXACT("red")), .n_not_namespaces = 1}, 0, 1},
        {{.service_accounts = ACCOUNTS({"red", "alice"}), .n_service_accounts = 1}, 1, 0},
        {{.service_accounts = ACCOUNTS({"blue", "alice"}), .n_service_accounts = 1}, 0, 0},
        {{.not_service_accounts = ACCOUNTS({"red", "alice"}), .n_not_service_accounts = 1}, 0, 1},
        {{.source_ips = CIDRS(NET10), .n_source_ips = 1}, 1, 1},
        {{.source_ips = CIDRS(NET11), .n_source_ips = 1}, 0, 0},
        {{.source_ips = CIDRS(NETV6, NET10), .n_source_ips = 2}, 1, 1},
        {{.not_source_ips = CIDRS(NET10), .n_not_source_ips = 1}, 0, 0},
        {{.not_source_ips = CIDRS(NETV6), .n_not_source_ips = 1}, 1, 1},
        {{.destination_ips = CIDRS(NET11), .n_destination_ips = 1}, 1, 1},
        {{.not_destination_ips = CIDRS(NET11), .n_not_destination_ips = 1}, 0, 0},
        {{.destination_ports = PORTS(80), .n_destination_ports = 1}, 1, 1},
        {{.destination_ports = PORTS(15008), .n_destination_ports = 1}, 0, 0},
        {{.destination_ports = PORTS(81, 80), .n_destination_ports = 2}, 1, 1},
        {{.not_destination_ports = PORTS(80), .n_not_destination_ports = 1}, 0, 0},
        // all fields must match
        {{.destination_ports = PORTS(80),
          .n_destination_ports = 1,
          .principals = STRINGS(PRESENT),
          .n_principals = 1},
         1,
         0},
        {{.destination_ports = PORTS(81),
          .n_destination_ports = 1,
          .principals = STRINGS(PRESENT),
          .n_principals = 1},
         0,
         0},
    };
    struct rbac_request alice = request_of(ALICE);
    struct rbac_request plain = request_of("");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct policy_clause clause = {.matches = &cases[i].match, .n_matches = 1};
        struct policy_rule rule = {.clauses = &clause, .n_clauses = 1};
        struct policy spec = {
            .leaf.key = SLICE_LIT("a/p"), .name = "p", .ns = "a", .rules = &rule, .n_rules = 1};
        struct policy *policy = policy_new(&spec);
        if ((rbac_policy_match(snapshot_current()->mesh, policy, &alice) == 0) != cases[i].alice ||
            (rbac_policy_match(snapshot_current()->mesh, policy, &plain) == 0) != cases[i].plain) {
            fail_msg("case %zu", i);
        }
        leaf_unref(policy);
    }
}

// Truth of single matches below: T matches the request, F does not.
#define T                                                                                          \
    { .destination_ports = PORTS(80), .n_destination_ports = 1 }
#define F                                                                                          \
    { .destination_ports = PORTS(1), .n_destination_ports = 1 }
#define E                                                                                          \
    { 0 }
#define CLAUSE(...)                                                                                \
    {                                                                                              \
        (const struct policy_match[]){__VA_ARGS__},                                                \
            ARRAY_LEN(((const struct policy_match[]){__VA_ARGS__}))                                \
    }
#define RULE(...)                                                                                  \
    {                                                                                              \
        (const struct policy_clause[]){__VA_ARGS__},                                               \
            ARRAY_LEN(((const struct policy_clause[]){__VA_ARGS__}))                               \
    }
#define NO_MATCHES                                                                                 \
    { NULL, 0 }
#define NO_CLAUSES                                                                                 \
    { NULL, 0 }

static void test_nesting(void **state) {
    const struct {
        struct policy_rule rules[3];
        uint16_t n_rules;
        int expect;
    } cases[] = {
        {{NO_CLAUSES}, 0, -1}, // no rules: never
        {{NO_CLAUSES}, 1, 0}, // rule without clauses: always
        {{RULE(NO_MATCHES)}, 1, 0}, // clause without matches: true
        {{RULE(CLAUSE(E))}, 1, -1}, // match without fields: false
        {{RULE(CLAUSE(T))}, 1, 0},
        {{RULE(CLAUSE(F))}, 1, -1},
        {{RULE(CLAUSE(F, T))}, 1, 0}, // matches: OR
        {{RULE(CLAUSE(E, T))}, 1, 0},
        {{RULE(CLAUSE(E, F))}, 1, -1},
        {{RULE(CLAUSE(T), CLAUSE(T))}, 1, 0}, // clauses: AND
        {{RULE(CLAUSE(T), CLAUSE(F))}, 1, -1},
        {{RULE(CLAUSE(T), NO_MATCHES)}, 1, 0},
        {{RULE(CLAUSE(T), CLAUSE(E))}, 1, -1},
        {{RULE(CLAUSE(F)), RULE(CLAUSE(T))}, 2, 1}, // rules: OR
        {{RULE(CLAUSE(F)), RULE(CLAUSE(F)), NO_CLAUSES}, 3, 2},
    };
    struct rbac_request request = request_of("");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct policy spec = {
            .leaf.key = SLICE_LIT("a/p"),
            .name = "p",
            .ns = "a",
            .rules = cases[i].rules,
            .n_rules = cases[i].n_rules,
        };
        struct policy *policy = policy_new(&spec);
        if (rbac_policy_match(snapshot_current()->mesh, policy, &request) != cases[i].expect) {
            fail_msg("case %zu", i);
        }
        leaf_unref(policy);
    }
}

static struct policy *policy(const char *ns, const char *name, uint8_t scope, uint8_t action,
                             bool does_match, bool is_dry_run) {
    char key[64];
    snprintf(key, sizeof(key), "%s/%s", ns, name);
    struct policy_rule rule = {0};
    struct policy spec = {
        .leaf.key = slice_str(key),
        .name = name,
        .ns = ns,
        .scope = scope,
        .action = action,
        .is_dry_run = is_dry_run,
        .rules = &rule,
        .n_rules = does_match ? 1 : 0,
    };
    return policy_new(&spec);
}

// Sets of policies over one workload in namespace "a" that selects "a/sel" and a missing one.
static void test_sets(void **state) {
    enum { G = POLICY_GLOBAL, N = POLICY_NAMESPACE, W = POLICY_WORKLOAD };
    enum { ALLOW = POLICY_ALLOW, DENY = POLICY_DENY };
    struct entry {
        const char *ns, *name;
        uint8_t scope, action;
        bool does_match, is_dry_run;
    };
    const struct {
        struct entry policies[4];
        bool is_allowed;
        const char *reason;
        const char *dry; // name of the dry-run policy that would deny
    } cases[] = {
        {{{0}}, true, "no allow policies", ""},
        {{{"a", "p", N, DENY, 0, 0}}, true, "no allow policies", ""},
        {{{"a", "p", N, DENY, 1, 0}}, false, "explicitly denied by: a/p (rule 0)", ""},
        {{{"b", "p", N, DENY, 1, 0}}, true, "no allow policies", ""}, // another namespace
        {{{"istio-system", "p", G, DENY, 1, 0}},
         false,
         "explicitly denied by: istio-system/p (rule 0)",
         ""},
        {{{"a", "sel", W, DENY, 1, 0}}, false, "explicitly denied by: a/sel (rule 0)", ""},
        {{{"a", "other", W, DENY, 1, 0}}, true, "no allow policies", ""}, // not selected
        {{{"a", "p", N, ALLOW, 1, 0}}, true, "allowed by: a/p (rule 0)", ""},
        {{{"a", "p", N, ALLOW, 0, 0}}, false, "allow policies exist, but none allowed", ""},
        {{{"a", "p", N, ALLOW, 0, 0}, {"a", "sel", W, ALLOW, 1, 0}},
         true,
         "allowed by: a/sel (rule 0)",
         ""},
        {{{"a", "p", N, ALLOW, 1, 0}, {"a", "q", N, DENY, 1, 0}},
         false,
         "explicitly denied by: a/q (rule 0)",
         ""}, // DENY first
        // dry-run decides nothing
        {{{"a", "p", N, DENY, 1, 1}}, true, "no allow policies", "p"},
        {{{"a", "p", N, DENY, 0, 1}}, true, "no allow policies", ""},
        {{{"a", "p", N, ALLOW, 0, 1}}, true, "no allow policies", "p"},
        {{{"a", "p", N, ALLOW, 1, 1}}, true, "no allow policies", ""},
        {{{"a", "p", N, ALLOW, 0, 1}, {"a", "q", N, ALLOW, 1, 0}},
         true,
         "allowed by: a/q (rule 0)",
         ""},
        {{{"a", "p", N, ALLOW, 1, 1}, {"a", "q", N, ALLOW, 0, 0}},
         false,
         "allow policies exist, but none allowed",
         ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload *w =
            FX_WORKLOAD("a", "w", "11.0.0.9", .common.n_policies = 2,
                        .common.policies = (const char *const[]){"a/gone", "a/sel"});
        fx_publish(w, NULL);
        for (const struct entry *e = cases[i].policies; e->name != NULL; e++) {
            fx_publish(policy(e->ns, e->name, e->scope, e->action, e->does_match, e->is_dry_run),
                       NULL);
        }
        struct rbac_request request = request_of(ALICE);
        struct rbac_verdict verdict;
        rbac_check(snapshot_current(), w, &request, &verdict);
        assert_string_equal(verdict.reason, cases[i].reason);
        assert_int_equal(verdict.is_allowed, cases[i].is_allowed);
        assert_int_equal(verdict.dry_run_denies, cases[i].dry[0] != '\0');
        if (cases[i].dry[0] != '\0') { // a DENY that matches, or an ALLOW that does not
            assert_int_equal(verdict.dry_deny != NULL,
                             verdict.dry_run_policy->action == POLICY_DENY);
            assert_null(verdict.dry_allow);
        }
        assert_string_equal(verdict.dry_run_policy != NULL ? verdict.dry_run_policy->name : "",
                            cases[i].dry);
        fx_fini();
        fx_init();
    }
}

// Policies may name any of the mesh's trust domains, and no other.
static void test_trust_domain_aliases(void **state) {
    static const struct {
        struct string_match match;
        const char *identity;
        bool expect;
    } cases[] = {
        {EXACT("cluster.local/ns/red/sa/alice"), ALICE, true},
        {EXACT("old/ns/red/sa/alice"), ALICE, true},
        {EXACT("older/ns/red/sa/alice"), ALICE, true},
        {EXACT("cluster.local/ns/red/sa/alice"), "spiffe://old/ns/red/sa/alice", true},
        {EXACT("older/ns/red/sa/alice"), "spiffe://old/ns/red/sa/alice", true},
        {PREFIX("older/ns/red/"), "spiffe://old/ns/red/sa/alice", true},
        {SUFFIX("/ns/red/sa/alice"), "spiffe://old/ns/red/sa/alice", true},
        {EXACT("old/ns/red/sa/bob"), ALICE, false},
        {EXACT("old/ns/blue/sa/alice"), ALICE, false},
        {EXACT("strange/ns/red/sa/alice"), ALICE, false},
        {EXACT("old/ns/red/sa/alice"), "spiffe://strange/ns/red/sa/alice", false},
        {EXACT("strange/ns/red/sa/alice"), "spiffe://strange/ns/red/sa/alice", true},
        {EXACT("old/ns/red/sa/alice"), "", false},
    };
    struct mesh_settings mesh = {.trust_domain = "cluster.local",
                                 .trust_domain_aliases = {"old", "older"}};
    struct mesh_settings plain = {.trust_domain = "cluster.local"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int is_not = 0; is_not < 2; is_not++) {
            struct policy_match match = {.principals = &cases[i].match, .n_principals = 1};
            if (is_not) {
                match =
                    (struct policy_match){.not_principals = &cases[i].match, .n_not_principals = 1};
            }
            struct policy_clause clause = {.matches = &match, .n_matches = 1};
            struct policy_rule rule = {.clauses = &clause, .n_clauses = 1};
            struct policy policy = {.name = "p", .ns = "a", .rules = &rule, .n_rules = 1};
            struct rbac_request request = request_of(cases[i].identity);
            bool is_match = rbac_policy_match(&mesh, &policy, &request) == 0;
            assert_int_equal(is_match, cases[i].expect != (is_not != 0));
            struct rbac_request alice = request_of(ALICE);
            bool names_own = cases[i].match.kind == MATCH_SUFFIX ||
                             strstr(cases[i].match.text, "cluster.local/ns/red/sa/al") != NULL;
            is_match = rbac_policy_match(&plain, &policy, &alice) == 0;
            assert_int_equal(is_match, names_own != (is_not != 0)); // as before without aliases
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trust_domain_aliases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nesting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sets, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
