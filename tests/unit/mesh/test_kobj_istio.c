// SPDX-License-Identifier: Apache-2.0
//
// Istio's kinds: fields, and the rules of Istio's own validation.
#include "tests/unit/mesh/config_fixture.h"

#define HEAD(group, kind)                                                                          \
    "apiVersion: " group "/v1\nkind: " kind "\nmetadata: {name: a, namespace: ns}\n"
#define AUTHZ HEAD("security.istio.io", "AuthorizationPolicy")
#define PEER HEAD("security.istio.io", "PeerAuthentication")
#define ENTRY HEAD("networking.istio.io", "ServiceEntry")
#define WORKLOAD HEAD("networking.istio.io", "WorkloadEntry")
#define GROUP HEAD("networking.istio.io", "WorkloadGroup")

static void test_authz(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 AUTHZ
                 "spec:\n"
                 "  selector: {matchLabels: {app: web}}\n"
                 "  action: DENY\n"
                 "  rules:\n"
                 "  - from:\n"
                 "    - source: {principals: [cluster.local/ns/a/sa/b, \"*/sa/c\"], ipBlocks: "
                 "[10.0.0.0/8]}\n"
                 "    - source: {notNamespaces: [x], namespaces: []}\n"
                 "    to:\n"
                 "    - operation: {ports: [\"80\"], notPorts: [\"81\"]}\n"
                 "    when:\n"
                 "    - {key: source.ip, values: [1.2.3.4], notValues: [10.0.0.0/8]}\n"
                 "  - {}\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_authz_policy *p = f.objs[0]->authz;
    assert_true(p->has_selector);
    assert_string_equal(kobj_map_get(&p->selector, "app"), "web");
    assert_int_equal(p->action, AUTHZ_DENY);
    assert_int_equal(p->n_rules, 2);
    const struct kobj_authz_rule *rule = &p->rules[0];
    assert_int_equal(rule->pos.line, 8);
    assert_int_equal(rule->n_from, 2);
    assert_string_equal(rule->from[0].principals.items[1], "*/sa/c");
    assert_int_equal(rule->from[0].ip_blocks.pos.line, 9);
    assert_non_null(rule->from[1].namespaces.items);
    assert_int_equal(rule->from[1].namespaces.n, 0);
    assert_null(rule->from[1].principals.items);
    assert_string_equal(rule->to[0].not_ports.items[0], "81");
    assert_string_equal(rule->when[0].key, "source.ip");
    assert_int_equal(p->rules[1].n_from, 0);
    assert_false(kobj_authz_source_has_l7(&rule->from[0]));
    assert_false(kobj_authz_operation_has_l7(&rule->to[0]));
    fixture_fini(&f);
}

static void test_l7(void **state) {
    static const struct {
        const char *key;
        bool is_l7;
    } rows[] = {{"source.ip", false},
                {"source.namespace", false},
                {"source.principal", false},
                {"destination.port", false},
                {"destination.ip", false},
                {"source.serviceAccount", false},
                {"request.headers[x]", true},
                {"remote.ip", true},
                {"connection.sni", true},
                {"source.trustDomain", true},
                {"request.auth.claims[x]", true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(kobj_authz_condition_is_l7(rows[i].key), rows[i].is_l7);
    }
}

static void test_mesh_config(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: i}\n"
                 "data:\n"
                 "  mesh: |-\n"
                 "    accessLogFile: /dev/stdout\n"
                 "    accessLogEncoding: JSON\n"
                 "    trustDomain: td\n"
                 "    trust_domain_aliases: [old]\n"
                 "    rootNamespace: root\n"
                 "    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
                 "    enableAutoMtls: false\n"
                 "    localityLbSetting:\n"
                 "      enabled: true\n"
                 "      failover: [{from: a, to: b}]\n"
                 "      distribute: [{from: a/*, to: {a/x: 80, b/*: 20}}]\n"
                 "    defaultConfig:\n"
                 "      concurrency: 0\n"
                 "      discoveryAddress: istiod:15012\n"
                 "      proxyMetadata: {A: b}\n"
                 "      terminationDrainDuration: 5s\n"
                 "      tracing: {}\n"
                 "    extensionProviders: [{name: x}]\n"
                 "  meshNetworks: 'networks: {}'\n",
                 CONFIG_YAML);
    assert_messages(&f.errors,
                    "14:7: warning: ConfigMap i/istio: data.mesh.localityLbSetting: "
                    "does not concern L4, where a Service's trafficDistribution tells which "
                    "endpoints are near; only a waypoint looks at it\n");
    const struct mesh_config *m = f.objs[0]->config_map->mesh;
    assert_non_null(m);
    assert_string_equal(m->trust_domain, "td");
    assert_string_equal(m->trust_domain_aliases[0], "old");
    assert_string_equal(m->root_namespace, "root");
    assert_int_equal(m->outbound_mode, OUTBOUND_REGISTRY_ONLY);
    assert_true(m->has_outbound_mode);
    assert_int_equal(m->access_log_encoding, ACCESS_LOG_JSON);
    assert_int_equal(m->enable_auto_mtls, TRI_FALSE);
    assert_string_equal(m->locality_lb->distribute[0].to[1].key, "b/*");
    assert_int_equal(m->locality_lb->distribute[0].to[1].weight, 20);
    assert_true(m->defaults.has_concurrency);
    assert_int_equal(m->defaults.concurrency, 0);
    assert_int_equal(m->defaults.termination_drain_ms, 5000);
    assert_int_equal(m->defaults.drain_ms, -1);
    fixture_fini(&f);
}

static const char *no_format(bool is_json, const char *format) {
    static char text[100];
    snprintf(text, sizeof(text), "%s \"%s\"", is_json ? "JSON" : "text", format);
    return format[0] == 'b' ? text : NULL;
}

// Formats are for a higher layer to judge.
static void test_access_log_format(void **state) {
    static const struct {
        const char *mesh, *messages;
    } rows[] = {
        {"{accessLogFormat: good}", ""},
        {"{accessLogFormat: bad}",
         "6:23: ConfigMap default/istio: data.mesh.accessLogFormat: is not valid: text \"bad\"\n"},
        {"{accessLogEncoding: JSON, access_log_format: bad}",
         "6:50: ConfigMap default/istio: data.mesh.accessLogFormat: is not valid: JSON \"bad\"\n"},
    };
    kobj_access_log_problem = no_format;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config_fixture f;
        char text[400];
        snprintf(text, sizeof(text),
                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n"
                 "  mesh: |-\n    %s\n",
                 rows[i].mesh);
        fixture_init(&f);
        fixture_read(&f, text, CONFIG_YAML);
        assert_messages(&f.errors, rows[i].messages);
        fixture_fini(&f);
    }
    kobj_access_log_problem = NULL;
}

static void test_mesh_config_forms(void **state) {
    static const struct {
        const char *name, *data, *messages;
        bool has_mesh;
    } rows[] = {
        {"istio", "{mesh: ''}", "", true},
        {"istio-canary", "{mesh: 'trustDomain: x'}", "", true},
        {"other", "{mesh: 'not: [read'}", "", false},
        {"istio-ca-root-cert", "{root-cert.pem: x}", "", false},
        {"istio", "{mesh: 'trustDomian: x'}",
         "4:14: ConfigMap default/istio: data.mesh.trustDomian: unknown field (did you mean "
         "`trustDomain`?)\n",
         false},
        {"istio", "{mesh: 'accessLogFile: /tmp/x'}",
         "4:29: warning: ConfigMap default/istio: data.mesh.accessLogFile: is not /dev/stdout, the "
         "only place where access logs are written to: they go there\n",
         true},
        {"istio", "\n  mesh: |\n    a: [\n", NULL, false},
        {"istio", "{mesh: \"{a: 1, a: 2}\"}", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config_fixture f;
        char text[400];
        snprintf(text, sizeof(text),
                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: %s\n", rows[i].name,
                 rows[i].data);
        fixture_init(&f);
        fixture_read(&f, text, CONFIG_YAML);
        if (rows[i].messages != NULL) {
            assert_messages(&f.errors, rows[i].messages);
        } else {
            assert_true(f.errors.n_errors > 0);
        }
        assert_int_equal(f.n_objs, f.errors.n_errors == 0);
        if (f.n_objs > 0) {
            assert_int_equal(f.objs[0]->config_map->mesh != NULL, rows[i].has_mesh);
            // Lean objects lose their data, but not this.
            f.flags = KOBJ_LEAN;
            fixture_read(&f, text, CONFIG_YAML);
            assert_int_equal(f.objs[1]->config_map->mesh != NULL, rows[i].has_mesh);
            assert_int_equal(f.objs[1]->config_map->data.n, 0);
        }
        fixture_fini(&f);
    }
}

static void test_entries(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 ENTRY
                 "spec:\n"
                 "  hosts: [example.com, \"*.example.org\"]\n"
                 "  addresses: [240.0.0.1]\n"
                 "  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]\n"
                 "  location: MESH_EXTERNAL\n"
                 "  resolution: STATIC\n"
                 "  endpoints: [{address: 1.2.3.4, ports: {tls: 9443}, locality: r/z, weight: "
                 "5}]\n"
                 "  exportTo: [\".\"]\n"
                 "status: {addresses: [{value: 240.240.0.1, host: example.com}]}\n"
                 "---\n" WORKLOAD "spec: {address: 1.2.3.4, labels: {app: x}, serviceAccount: "
                 "sa, network: net}\n"
                 "---\n" GROUP "spec:\n"
                 "  metadata: {labels: {app: x}, annotations: {a: b}}\n"
                 "  template: {serviceAccount: sa, ports: {http: 80}}\n"
                 "  probe: {httpGet: {port: 80}, periodSeconds: 3}\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_service_entry *entry = f.objs[0]->service_entry;
    assert_int_equal(entry->n_hosts, 2);
    assert_int_equal(entry->resolution, SE_STATIC);
    assert_int_equal(entry->ports[0].target_port, 8443);
    assert_string_equal(entry->endpoints[0].ports[0].name, "tls");
    assert_int_equal(entry->endpoints[0].ports[0].port, 9443);
    assert_int_equal(entry->endpoints[0].weight, 5);
    assert_string_equal(entry->status_addresses[0], "240.240.0.1");
    assert_string_equal(f.objs[1]->workload_entry->service_account, "sa");
    assert_string_equal(kobj_map_get(&f.objs[2]->workload_group->labels, "app"), "x");
    assert_int_equal(f.objs[2]->workload_group->probe->period_s, 3);
    fixture_fini(&f);
}

static void test_peer_auth(void **state) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f,
                 PEER "spec:\n"
                      "  selector: {matchLabels: {app: web}}\n"
                      "  mtls: {mode: STRICT}\n"
                      "  portLevelMtls: {8080: {mode: PERMISSIVE}, \"81\": {mode: UNSET}}\n",
                 CONFIG_YAML);
    assert_messages(&f.errors, "");
    const struct kobj_peer_auth *p = f.objs[0]->peer_auth;
    assert_int_equal(p->mode, MTLS_STRICT);
    assert_int_equal(p->n_ports, 2);
    assert_int_equal(p->ports[0].port, 8080);
    assert_int_equal(p->ports[0].mode, MTLS_PERMISSIVE);
    assert_int_equal(p->ports[1].mode, MTLS_UNSET);
    fixture_fini(&f);
}

// A document, and the parts of messages that must come (NULL: none at all).
static const struct {
    const char *yaml;
    const char *parts[3];
} rules[] = {
    {AUTHZ, {NULL}},
    {AUTHZ "spec: {}\n", {NULL}},
    {AUTHZ "spec: {action: AUDIT, rules: [{}]}\n", {"AUDIT is not enforced on L4"}},
    {AUTHZ "spec: {action: CUSTOM, rules: [{}]}\n",
     {"spec.provider.name: is required", "CUSTOM is not enforced"}},
    {AUTHZ "spec: {action: CUSTOM, provider: {name: x}}\n", {"spec.rules: is required with"}},
    {AUTHZ "spec: {action: DENY}\n", {"spec.rules: is required with DENY"}},
    {AUTHZ "spec: {provider: {name: x}}\n", {"spec.provider: is for action CUSTOM only"}},
    {AUTHZ "spec: {action: deny}\n", {"(did you mean `DENY`?)"}},
    {AUTHZ "spec: {rules: [{from: []}]}\n", {"spec.rules[0].from: must not be empty"}},
    {AUTHZ "spec: {rules: [{from: [{}]}]}\n", {"spec.rules[0].from[0].source: is required"}},
    {AUTHZ "spec: {rules: [{from: [{source: {}}]}]}\n",
     {"spec.rules[0].from[0].source: must not be empty"}},
    {AUTHZ "spec: {rules: [{to: [{operation: {}}]}]}\n",
     {"spec.rules[0].to[0].operation: must not be empty"}},
    {AUTHZ "spec: {rules: [{from: [{source: {principals: [\"\"]}}]}]}\n",
     {"principals[0]: `` must not be empty"}},
    {AUTHZ "spec: {rules: [{from: [{source: {namespaces: [\"a*b\"]}}]}]}\n",
     {"in a place where it is taken literally"}},
    {AUTHZ "spec: {rules: [{from: [{source: {serviceAccounts: [a/b], namespaces: [c]}}]}]}\n",
     {"serviceAccounts cannot be set with namespaces or principals"}},
    {AUTHZ "spec: {rules: [{from: [{source: {serviceAccounts: [\"a/*\"]}}]}]}\n",
     {"wildcards are not allowed"}},
    {AUTHZ "spec: {rules: [{to: [{operation: {ports: [\"70000\"]}}]}]}\n",
     {"`70000` is not a port number"}},
    {AUTHZ "spec: {rules: [{when: [{key: source.ip}]}]}\n", {"needs `values` or `notValues`"}},
    {AUTHZ "spec: {rules: [{when: [{key: source.ip, values: [x]}]}]}\n",
     {"when[0].values[0]: `x` is not an IP address or CIDR"}},
    {AUTHZ "spec: {rules: [{when: [{key: destination.port, notValues: [x]}]}]}\n",
     {"when[0].notValues[0]: `x` is not a port number"}},
    {AUTHZ "spec: {rules: [{when: [{key: request.headers, values: [x]}]}]}\n",
     {"needs a name: request.headers[NAME]", "never matches"}},
    {AUTHZ "spec: {rules: [{when: [{key: \"destination.labels[x]\", values: [x]}]}]}\n",
     {"is replaced by the policy's selector"}},
    {AUTHZ "spec: {rules: [{to: [{operation: {paths: [/x]}}]}]}\n",
     {"spec.rules[0]: has fields that L4 cannot check, so it never matches"}},
    {AUTHZ "spec: {action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}\n",
     {"the rest of the rule denies"}},
    {AUTHZ "spec: {selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: x}]}\n",
     {"only one of `selector` and `targetRefs`"}},
    {AUTHZ "spec: {selector: {}}\n", {"has no labels"}},
    {AUTHZ "spec: {selector: {matchLabels: {a: \"b*\"}}}\n", {"must not hold `*`"}},
    {AUTHZ "spec: {targetRefs: [{kind: Pod, name: x}]}\n", {"`/Pod` cannot be a target"}},
    {AUTHZ "spec: {targetRefs: [{kind: Service, name: x, namespace: yy}]}\n",
     {"a policy targets its own namespace"}},
    // L7 fields are right where a waypoint enforces them.
    {AUTHZ "spec: {targetRefs: [{kind: Service, name: x}], rules: [{to: [{operation: {methods: "
           "[GET]}}]}]}\n",
     {NULL}},
    {PEER "spec: {mtls: {mode: BLAH}}\n", {"`BLAH` is none of"}},
    {PEER "spec: {mtls: {mode: DISABLE}}\n", {"DISABLE is taken as PERMISSIVE"}},
    {PEER "spec: {portLevelMtls: {80: {mode: STRICT}}}\n", {"needs a `selector`"}},
    {PEER "spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {}}\n",
     {"portLevelMtls: must not be empty"}},
    {PEER "spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}\n",
     {"`0` is not a port"}},
    {PEER "spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {abc: {mode: STRICT}}}\n",
     {"`abc` is not a port"}},
    {ENTRY, {"spec: is required"}},
    {ENTRY "spec: {}\n", {"spec.hosts: is required"}},
    {ENTRY "spec: {hosts: [\"*\"]}\n", {"`*` cannot be a host"}},
    {ENTRY "spec: {hosts: [\"*x\"]}\n", {"warning: ServiceEntry ns/a: spec.hosts[0]: `*x`"}},
    {ENTRY "spec: {hosts: [a.b]}\n",
     {"warning: ServiceEntry ns/a: spec.hosts: connections go by", "write `resolution: DNS`"}},
    {ENTRY "spec: {hosts: [\"*.a.b\"]}\n", {"write `resolution: DYNAMIC_DNS`"}},
    {ENTRY "spec: {hosts: [a.b], addresses: [1.2.3.4/99]}\n", {"is not an IP address or CIDR"}},
    {ENTRY "spec: {hosts: [a.b], addresses: [1.2.0.0/16], resolution: DNS}\n",
     {"CIDRs are allowed only with resolution NONE and STATIC"}},
    {ENTRY "spec: {hosts: [a.b], ports: [{name: a, number: 1}, {name: a, number: 2}]}\n",
     {"the name `a` is used twice"}},
    {ENTRY "spec: {hosts: [a.b], ports: [{name: a, number: 1}, {name: b, number: 1}]}\n",
     {"port 1 is there twice"}},
    {ENTRY "spec: {hosts: [a.b], ports: [{name: a, number: 99999}]}\n", {"out of range"}},
    {ENTRY "spec: {hosts: [a.b], ports: [{name: a, number: 1, protocol: SMTP}]}\n",
     {"`SMTP` is none of"}},
    {ENTRY "spec: {hosts: [a.b], endpoints: [{address: 1.2.3.4}]}\n",
     {"cannot be set with resolution NONE"}},
    {ENTRY "spec: {hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}\n",
     {"must be an IP address with resolution STATIC"}},
    {ENTRY "spec: {hosts: [\"*.b\"], resolution: DNS}\n", {"must be a full host name"}},
    {ENTRY "spec: {hosts: [\"*.b\", c.d], resolution: DYNAMIC_DNS}\n",
     {"spec.hosts[1]: must be a wildcard (*.example.com) with resolution DYNAMIC_DNS"}},
    {ENTRY "spec: {hosts: [\"*.b\"], resolution: DYNAMIC_DNS, addresses: [1.2.3.4], "
           "endpoints: [{address: 1.2.3.4}]}\n",
     {"spec.addresses: cannot be set with resolution DYNAMIC_DNS",
      "spec.endpoints: cannot be set with resolution DYNAMIC_DNS"}},
    {ENTRY "spec: {hosts: [\"*.b\"], resolution: DYNAMIC_DNS, ports: [{name: a, number: 1, "
           "protocol: grpc}, {name: b, number: 2, protocol: HTTPS}, {name: c, number: 3}]}\n",
     {"spec.ports[1].protocol: must be HTTP, HTTP2, GRPC or TLS",
      "spec.ports[2].protocol: must be HTTP, HTTP2, GRPC or TLS"}},
    {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
     "metadata: {name: a, namespace: ns, labels: {istio.io/use-waypoint: w}}\n"
     "spec: {hosts: [\"*.b\"], resolution: DYNAMIC_DNS, location: MESH_INTERNAL}\n",
     {"spec.location: must be MESH_EXTERNAL with resolution DYNAMIC_DNS and a waypoint"}},
    {ENTRY "spec: {hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, "
           "{address: c.d}]}\n",
     {"only one is allowed with resolution DNS_ROUND_ROBIN"}},
    {ENTRY "spec: {hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, "
           "endpoints: [{address: 1.2.3.4}]}\n",
     {"only one of `workloadSelector` and `endpoints`"}},
    {ENTRY "spec: {hosts: [a.b], resolution: STATIC, endpoints: [{address: 1.2.3.4, ports: {x: "
           "1}}]}\n",
     {"spec.ports has no port of this name"}},
    {WORKLOAD "spec: {}\n", {"spec.address: is required"}},
    {WORKLOAD "spec: {network: other}\n", {NULL}},
    {WORKLOAD "spec: {address: unix:///dir/}\n", {"is a directory"}},
    {WORKLOAD "spec: {address: unix://rel}\n", {"needs an absolute path"}},
    {WORKLOAD "spec: {address: unix://@foo, ports: {http: 80}}\n",
     {"cannot be set with a Unix socket"}},
    {WORKLOAD "spec: {address: 1.1.1.1, ports: {http: 99999}}\n", {"out of range"}},
    {WORKLOAD "spec: {address: 1.1.1.1, ports: {\"@\": 80}}\n", {"`@` is not a valid name"}},
    {WORKLOAD "spec: {address: \"a b\"}\n", {"is neither an IP address nor a host name"}},
    {GROUP "spec: {}\n", {"spec.template: is required"}},
    {GROUP "spec: {template: {}, probe: {}}\n", {"needs a handler"}},
};

static void test_rules(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        struct config_fixture f;
        fixture_init(&f);
        fixture_read(&f, rules[i].yaml, CONFIG_YAML);
        char *have = fixture_messages(&f.errors);
        bool is_right = rules[i].parts[0] != NULL || have[0] == '\0';
        for (size_t j = 0; j < ARRAY_LEN(rules[i].parts) && rules[i].parts[j] != NULL; j++) {
            is_right = is_right && strstr(have, rules[i].parts[j]) != NULL;
        }
        if (!is_right) {
            fail_msg("%s---\n%s", rules[i].yaml, have);
        }
        free(have);
        fixture_fini(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_authz),
        cmocka_unit_test(test_l7),
        cmocka_unit_test(test_mesh_config),
        cmocka_unit_test(test_mesh_config_forms),
        cmocka_unit_test(test_access_log_format),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_peer_auth),
        cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
