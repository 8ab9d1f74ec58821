// SPDX-License-Identifier: Apache-2.0
// The parts of /config_dump and /status that are pure, from a snapshot that the builder made.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/mesh/builder.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/config_errors.h"
#include "common/mesh/kobj.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"
#include "tests/unit/base/unit.h"
#include "ztun/admin_priv.h"
#include "ztun/config.h"
#include "ztun/control.h"

static const char mesh[] =
    "apiVersion: v1\nkind: Namespace\n"
    "metadata: {name: demo, labels: {istio.io/dataplane-mode: ambient}}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, name: web-1, labels: {app: web},"
    " annotations: {ztun.io/netns: web1}}\n"
    "spec: {nodeName: n1, serviceAccountName: web, containers: [{name: c, image: i}]}\n"
    "status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}],"
    " conditions: [{type: Ready, status: \"True\"}]}\n---\n"
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, name: web-2, labels: {app: web}}\n"
    "spec: {nodeName: n2, serviceAccountName: web, containers: [{name: c, image: i}]}\n"
    "status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}],"
    " conditions: [{type: Ready, status: \"False\"}]}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: web}\n"
    "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd96::1'], selector: {app: web},"
    " trafficDistribution: PreferClose,"
    " publishNotReadyAddresses: true, ports: [{port: 80, targetPort: 8080}]}\n---\n"
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    "metadata: {namespace: demo, name: p, annotations: {istio.io/dry-run: \"true\"}}\n"
    "spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{from: [{source:"
    " {principals: ['*'], notNamespaces: [a], ipBlocks: [10.0.0.0/8]}}],"
    " to: [{operation: {ports: ['80'], notPorts: ['81']}}]}]}\n";

struct bed {
    struct mesh_builder *builder;
    struct arena arena;
    struct config_errors errors;
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct bed *bed = arg;
    struct kobj *obj = kobj_decode(node, "mesh.yaml", 0, &bed->arena, &bed->errors);
    assert_non_null(obj);
    builder_set(bed->builder, obj);
    kobj_unref(obj);
    return 0;
}

static int setup(void **state) {
    struct bed *bed = xcalloc(1, sizeof(*bed));
    struct mesh_settings settings = {.trust_domain = "cluster.local",
                                     .cluster_domain = "cluster.local",
                                     .root_namespace = "istio-system",
                                     .cluster_id = "Kubernetes",
                                     .network = "net1"};
    struct builder_options options = {.mesh = settings, .node = "n1"};
    struct config_doc_reader reader;
    struct cfg_node root;
    struct builder_changes changes;
    arena_init(&bed->arena, SIZE_MAX);
    config_errors_init(&bed->errors);
    snapshot_init(&settings);
    bed->builder = builder_new(&options);
    config_doc_reader_init(&reader, "mesh.yaml", slice_str(mesh), CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &bed->arena, &bed->errors, &root) > 0) {
        config_doc_each(&root, &bed->arena, "mesh.yaml", &bed->errors, on_object, bed);
    }
    assert_int_equal(bed->errors.n_errors, 0);
    builder_commit(bed->builder, &changes);
    builder_changes_fini(&changes);
    *state = bed;
    return 0;
}

static int teardown(void **state) {
    struct bed *bed = *state;
    builder_free(bed->builder);
    snapshot_fini();
    config_errors_fini(&bed->errors);
    arena_fini(&bed->arena);
    free(bed);
    assert_int_equal(leaf_count(), 0);
    return 0;
}

static json_t *parse(struct buf *text) {
    json_error_t error;
    json_t *value = json_loadb((const char *)text->ptr, text->len, 0, &error);
    if (value == NULL) {
        fail_msg("%s in %.*s", error.text, (int)text->len, text->ptr);
    }
    buf_fini(text);
    return value;
}

static json_t *written(enum proc_dump_kind kind) {
    struct buf text;
    struct json_out out;
    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, false);
    struct proc_dump_list *list = proc_dump_list_new(kind, snapshot_current());
    while (proc_dump_list_step(list, &out)) {
    }
    proc_dump_list_free(list);
    return parse(&text);
}

static void check_text(const json_t *value, const char *want) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_string_equal(text, want);
    free(text);
}

// ---- tables ------------------------------------------------------------------------------------

static void test_workloads(void **state) {
    json_t *list = written(PROC_DUMP_WORKLOADS);
    assert_int_equal(json_array_size(list), 2);
    check_text(json_array_get(list, 0),
               "{\"authorizationPolicies\":[\"demo/p\"],\"canonicalName\":\"web\","
               "\"canonicalRevision\":\"latest\",\"capacity\":1,\"clusterId\":\"Kubernetes\","
               "\"name\":\"web-1\",\"namespace\":\"demo\",\"network\":\"net1\","
               "\"networkMode\":\"Standard\",\"node\":\"n1\",\"protocol\":\"HBONE\","
               "\"serviceAccount\":\"web\",\"services\":[\"demo/web.demo.svc.cluster.local\"],"
               "\"status\":\"Healthy\",\"trustDomain\":\"cluster.local\","
               "\"uid\":\"Kubernetes//Pod/demo/web-1\",\"workloadIps\":[\"10.0.0.1\",\"fd00::1\"],"
               "\"workloadName\":\"web-1\",\"workloadType\":\"pod\"}");
    check_text(json_object_get(json_array_get(list, 1), "status"), "\"Unhealthy\"");
    json_decref(list);
}

static void test_services(void **state) {
    json_t *list = written(PROC_DUMP_SERVICES);
    assert_int_equal(json_array_size(list), 1);
    check_text(
        json_array_get(list, 0),
        "{\"canonical\":true,\"endpoints\":{\"Kubernetes//Pod/demo/web-1\":{\"port\":{\"80\":8080},"
        "\"status\":\"Healthy\",\"workloadUid\":\"Kubernetes//Pod/demo/web-1\"},"
        "\"Kubernetes//Pod/demo/web-2\":{\"port\":{\"80\":8080},\"status\":\"Unhealthy\","
        "\"workloadUid\":\"Kubernetes//Pod/demo/web-2\"}},"
        "\"hostname\":\"web.demo.svc.cluster.local\",\"ipFamilies\":\"Dual\","
        "\"loadBalancer\":{\"healthPolicy\":\"AllowAll\",\"mode\":\"Failover\","
        "\"routingPreferences\":[\"Network\",\"Region\",\"Zone\"]},"
        "\"name\":\"web\",\"namespace\":\"demo\",\"ports\":{\"80\":8080},\"subjectAltNames\":[],"
        "\"vips\":[\"net1/10.96.0.1\",\"net1/fd96::1\"],\"visibility\":\"Public\"}");
    json_decref(list);
}

static void test_policies(void **state) {
    json_t *list = written(PROC_DUMP_POLICIES);
    check_text(json_array_get(list, 0),
               "{\"action\":\"Deny\",\"dryRun\":true,\"name\":\"p\",\"namespace\":\"demo\","
               "\"rules\":[[[{\"destinationPorts\":[80],\"notDestinationPorts\":[81]}],"
               "[{\"notNamespaces\":[{\"Exact\":\"a\"}],"
               "\"principals\":[{\"Presence\":[]}],\"sourceIps\":[\"10.0.0.0/8\"]}]]],"
               "\"scope\":\"WorkloadSelector\"}");
    json_decref(list);
}

// ---- certificates ------------------------------------------------------------------------------

static void set_identity(const char *id, uint8_t state, const char *error, const char *chain,
                         const char *roots) {
    struct identity spec = {.leaf.key = slice_str(id),
                            .state = state,
                            .error = error,
                            .chain_pem = chain,
                            .roots_pem = roots};
    struct snapshot *draft = snapshot_draft();
    snapshot_set_identity(draft, identity_new(&spec));
    snapshot_publish(draft);
}

static void test_certs(void **state) {
    static const char id[] = "spiffe://cluster.local/ns/demo/sa/web";
    enum { NOW = 1767225600 }; // 2026-01-01T00:00:00Z
    struct tls_svid svid;
    char *cert = NULL, *key = NULL, *error = NULL;
    tls_ca_make_root(SLICE_LIT("cluster.local"), NOW, &cert, &key);
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(cert), .ca_key_pem = slice_str(key), .now_s = NOW};
    struct tls_ca *ca = tls_ca_new(&params, &error);
    assert_non_null(ca);
    assert_true(tls_ca_sign(ca, slice_str(id), NOW, 3600, &svid, &error));
    set_identity(id, IDENTITY_READY, "renewal failed", svid.cert_chain_pem, svid.roots_pem);
    set_identity("spiffe://x/a", IDENTITY_FAILED, "the CA is away", "", "");
    set_identity("spiffe://x/b", IDENTITY_PENDING, "", "", "");

    json_t *list = written(PROC_DUMP_CERTS), *chain, *roots;
    const char *text;
    assert_int_equal(json_array_size(list), 3);
    assert_int_equal(json_unpack(json_array_get(list, 0), "{s:s, s:o, s:o}", "state", &text,
                                 "certChain", &chain, "rootCerts", &roots),
                     0);
    assert_string_equal(text, "Available");
    assert_int_equal(json_array_size(chain), 1);
    assert_int_equal(json_array_size(roots), 1);
    assert_int_equal(json_unpack(json_array_get(chain, 0), "{s:s}", "expirationTime", &text), 0);
    assert_string_equal(text, "2026-01-01T01:00:00Z");
    assert_int_equal(json_unpack(json_array_get(chain, 0), "{s:s}", "pem", &text), 0);
    assert_memory_equal(text, "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t", 36); // -----BEGIN ...
    assert_int_equal(strlen(text) % 4, 0);
    check_text(json_array_get(list, 1), "{\"certChain\":[],\"identity\":\"spiffe://x/a\","
                                        "\"rootCerts\":[],"
                                        "\"state\":\"Unavailable: the CA is away\"}");
    json_decref(list);

    struct buf body;
    struct json_out out;
    buf_init(&body, SIZE_MAX);
    json_out_init(&out, &body, false);
    proc_dump_identities(&out, snapshot_current(), NOW + 600);
    list = parse(&body);
    json_int_t left;
    assert_int_equal(json_unpack(json_array_get(list, 0), "{s:I, s:s}", "secondsToExpiry", &left,
                                 "error", &text),
                     0);
    assert_int_equal(left, 3000);
    check_text(json_array_get(list, 2),
               "{\"identity\":\"spiffe://x/b\",\"state\":\"Initializing\"}");
    json_decref(list);
    tls_svid_fini(&svid);
    tls_ca_free(ca);
    tls_key_pem_free(key);
    free(cert);
}

// ---- flows -------------------------------------------------------------------------------------

static struct addr addr_of(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

static void test_flows(void **state) {
    struct flow_info items[] = {
        {.id = 1, .kind = FLOW_OUTBOUND, .is_mtls = true, .pod_uid = "a"},
        {.id = 2, .kind = FLOW_INBOUND_HBONE, .is_mtls = true, .pod_uid = "a", .service = "web"},
        {.id = 3, .kind = FLOW_INBOUND_PLAIN, .pod_uid = "b"},
        {.id = 4, .kind = FLOW_OUTBOUND, .pod_uid = "c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        items[i].src = addr_of("10.0.0.1:1000");
        items[i].dst = addr_of("10.96.0.1:80");
        items[i].target = addr_of("10.0.0.2:8080");
    }
    items[0].hbone_addr = items[1].hbone_addr = addr_of("10.0.0.2:15008");
    struct flow_list list = {.items = items, .n_items = ARRAY_LEN(items)};
    static const struct {
        const char *pod, *want;
    } rows[] = {
        {"a", "{\"inbound\":[{\"actualDst\":\"10.0.0.2:8080\",\"originalDst\":\"web\","
              "\"protocol\":\"HBONE\",\"src\":\"10.0.0.1:1000\"}],"
              "\"outbound\":[{\"actualDst\":\"10.0.0.2:15008\",\"originalDst\":\"10.96.0.1:80\","
              "\"protocol\":\"HBONE\",\"src\":\"10.0.0.1:1000\"}]}"},
        {"b", "{\"inbound\":[{\"actualDst\":\"10.0.0.2:8080\",\"originalDst\":\"\","
              "\"protocol\":\"TCP\",\"src\":\"10.0.0.1:1000\"}],\"outbound\":[]}"},
        {"c", "{\"inbound\":[],\"outbound\":[{\"actualDst\":\"10.0.0.2:8080\","
              "\"originalDst\":\"10.96.0.1:80\",\"protocol\":\"TCP\",\"src\":\"10.0.0.1:1000\"}]}"},
        {"", "{\"inbound\":[],\"outbound\":[]}"},
        {"zz", "{\"inbound\":[],\"outbound\":[]}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf text;
        struct json_out out;
        buf_init(&text, SIZE_MAX);
        json_out_init(&out, &text, false);
        admin_write_pod_flows(&out, &list, rows[i].pod);
        json_t *value = parse(&text);
        check_text(value, rows[i].want);
        json_decref(value);
    }
}

static void test_config(void **state) {
    static const char *const args[] = {"ztun", "--config=/etc/x", "--ca-dir=/ca", "--node=n1",
                                       "--pool-idle=1500ms"};
    char *argv[ARRAY_LEN(args)];
    struct ztun_config config;
    for (size_t i = 0; i < ARRAY_LEN(args); i++) {
        argv[i] = xstrdup(args[i]);
    }
    assert_int_equal(ztun_config_parse(&config, ARRAY_LEN(args), argv), 0);
    struct buf text;
    struct json_out out;
    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, true);
    admin_write_config(&out, &config);
    json_t *value = parse(&text);
    const char *path, *idle, *admin;
    assert_int_equal(json_unpack(value, "{s:s, s:s, s:s}", "configPath", &path,
                                 "poolUnusedReleaseTimeout", &idle, "adminAddr", &admin),
                     0);
    assert_string_equal(path, "/etc/x");
    assert_string_equal(idle, "1500ms");
    assert_string_equal(admin, "127.0.0.1:15000");
    assert_true(json_is_null(json_object_get(value, "crlPath")));
    json_decref(value);
    for (size_t i = 0; i < ARRAY_LEN(args); i++) {
        free(argv[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_workloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_services, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certs, setup, teardown),
        cmocka_unit_test(test_flows),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
