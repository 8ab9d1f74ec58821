// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_node.h"

#include "common/mesh/xds.pb-c.h"
#include "tests/unit/mesh/xds_fixture.h"

static char error[XDS_NODE_ERROR_MAX];

static struct xds_node node_of(const char *const *env) {
    return (struct xds_node){.role = "ztunnel",
                             .ip = "10.0.0.9",
                             .pod = "ztunnel-x",
                             .ns = "istio-system",
                             .node_name = "node-1",
                             .cluster_id = "c1",
                             .cluster_domain = "cluster.local",
                             .env = env};
}

static const Xds__Value *find(const Xds__Struct *fields, const char *key) {
    const Xds__Value *value = NULL;
    for (size_t i = 0; i < fields->n_fields; i++) {
        ProtobufCBinaryData own = fields->fields[i]->key;
        if (slice_eq_str(slice_make(own.data, own.len), key)) {
            assert_null(value); // each once
            value = fields->fields[i]->value;
        }
    }
    return value;
}

static void assert_text(const Xds__Struct *fields, const char *key, const char *text) {
    const Xds__Value *value = find(fields, key);
    assert_non_null(value);
    assert_int_equal(value->kind_case, XDS__VALUE__KIND_TEXT);
    assert_slice_equal(slice_make(value->text.data, value->text.len), text);
}

// As Istio's agent adds them: fields of an object.
static void test_fields(void **state) {
    const char *const env[] = {"PATH=/bin",
                               "ISTIO_META_DNS_CAPTURE=true",
                               "ISTIO_META_NAME=somebody else",
                               "ISTIO_METAJSON_LABELS={\"a\":\"x\",\"n\":1.5,\"b\":true,\"z\":null,"
                               "\"o\":{\"k\":\"v\"},\"l\":[\"one\",2]}",
                               "ISTIO_META_EMPTY=",
                               "broken",
                               NULL};
    struct xds_node node = node_of(env);
    struct buf buf;
    buf_init(&buf, 1 << 16);
    node.role = "waypoint";
    assert_true(xds_node_encode(&node, &buf, error));
    Xds__Node *message = xds__node__unpack(NULL, buf.len, buf.ptr);
    assert_non_null(message);
    assert_slice_equal(slice_make(message->id.data, message->id.len),
                       "waypoint~10.0.0.9~ztunnel-x.istio-system~istio-system.svc.cluster.local");
    const Xds__Struct *meta = message->metadata;
    assert_text(meta, "NAME", "ztunnel-x");
    assert_text(meta, "NAMESPACE", "istio-system");
    assert_text(meta, "INSTANCE_IPS", "10.0.0.9");
    assert_text(meta, "NODE_NAME", "node-1");
    assert_text(meta, "CLUSTER_ID", "c1");
    assert_text(meta, "DNS_CAPTURE", "true");
    assert_text(meta, "EMPTY", "");
    assert_text(meta, "a", "x");
    assert_true(find(meta, "n")->number == 1.5);
    assert_true(find(meta, "b")->boolean);
    assert_int_equal(find(meta, "z")->kind_case, XDS__VALUE__KIND_NULL);
    assert_text(find(meta, "o")->fields, "k", "v");
    assert_int_equal(find(meta, "l")->list->n_values, 2);
    assert_true(find(meta, "l")->list->values[1]->number == 2);
    assert_int_equal(meta->n_fields, 13);
    xds__node__free_unpacked(message, NULL);
    buf_fini(&buf);
}

// As ztunnel adds them: a value under the key.
static void test_values(void **state) {
    const char *const env[] = {"ISTIO_META_DNS_CAPTURE=true", "ISTIO_METAJSON_LABELS={\"a\":\"x\"}",
                               "ISTIO_METAJSON_N=1.5",        "ISTIO_METAJSON_L=[\"one\",2]",
                               "ISTIO_METAJSON_S=\"t\"",      NULL};
    struct xds_node node = node_of(env);
    struct buf buf;
    buf_init(&buf, 1 << 16);
    assert_true(xds_node_encode(&node, &buf, error));
    Xds__Node *message = xds__node__unpack(NULL, buf.len, buf.ptr);
    assert_non_null(message);
    assert_slice_equal(slice_make(message->id.data, message->id.len),
                       "ztunnel~10.0.0.9~ztunnel-x.istio-system~istio-system.svc.cluster.local");
    const Xds__Struct *meta = message->metadata;
    assert_text(meta, "NAME", "ztunnel-x");
    assert_text(meta, "DNS_CAPTURE", "true");
    assert_text(find(meta, "LABELS")->fields, "a", "x");
    assert_true(find(meta, "N")->number == 1.5);
    assert_int_equal(find(meta, "L")->list->n_values, 2);
    assert_text(meta, "S", "t");
    assert_int_equal(meta->n_fields, 10);
    xds__node__free_unpacked(message, NULL);
    buf_fini(&buf);
}

static void test_errors(void **state) {
    static const struct {
        const char *variable, *error, *role;
    } cases[] = {
        {"ISTIO_METAJSON_X={", "ISTIO_METAJSON_X: is not a JSON object", "waypoint"},
        {"ISTIO_METAJSON_X=[1]", "ISTIO_METAJSON_X: is not a JSON object", "waypoint"},
        {"ISTIO_METAJSON_X=", "ISTIO_METAJSON_X: is not a JSON object", "waypoint"},
        {"ISTIO_METAJSON_X={", "ISTIO_METAJSON_X: is not JSON", "ztunnel"},
        {"ISTIO_METAJSON_X=", "ISTIO_METAJSON_X: is not JSON", "ztunnel"},
        {"ISTIO_META_X=\xff", "ISTIO_META_X: is not UTF-8", "ztunnel"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const env[] = {cases[i].variable, NULL};
        struct xds_node node = node_of(env);
        struct buf buf;
        buf_init(&buf, 1 << 16);
        node.role = cases[i].role;
        assert_false(xds_node_encode(&node, &buf, error));
        assert_string_equal(error, cases[i].error);
        assert_int_equal(buf.len, 0);
        buf_fini(&buf);
    }
    const char *const env[] = {NULL};
    struct xds_node node = node_of(env);
    struct buf buf;
    buf_init(&buf, 1 << 16);
    node.node_name = "\xc3";
    assert_false(xds_node_encode(&node, &buf, error));
    assert_string_equal(error, "NODE_NAME: is not UTF-8");
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
