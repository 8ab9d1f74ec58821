// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kobj_schema.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/mesh/config_fixture.h"

static json_t *load(struct buf *buf) {
    json_error_t error;
    json_t *json = json_loadb((const char *)buf->ptr, buf->len, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        fail_msg("%d:%d: %s", error.line, error.column, error.text);
    }
    buf_fini(buf);
    return json;
}

// Each {"$ref": "#/definitions/X"} has its X; returns how many there are.
static unsigned check_refs(const json_t *root, json_t *value) {
    const char prefix[] = "#/definitions/";
    const char *key;
    json_t *item;
    size_t i;
    unsigned n = 0;

    json_object_foreach(value, key, item) {
        const char *ref = strcmp(key, "$ref") == 0 ? json_string_value(item) : NULL;
        if (ref != NULL && strcmp(ref, "#") != 0) {
            assert_memory_equal(ref, prefix, sizeof(prefix) - 1);
            const char *name = ref + sizeof(prefix) - 1;
            assert_non_null(json_object_get(json_object_get(root, "definitions"), name));
            assert_int_equal(json_object_size(value), 1); // draft 7 ignores what is beside it
            n++;
        }
        n += check_refs(root, item);
    }
    json_array_foreach(value, i, item) {
        n += check_refs(root, item);
    }
    return n;
}

static void test_references(void **state) {
    (void)state;
    const char *group, *versions;
    unsigned n_kinds = 0;
    struct buf buf;

    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        if (!kobj_schema_info((enum kobj_kind)kind, &group, &versions)) {
            continue;
        }
        buf_init(&buf, SIZE_MAX);
        kobj_schema_kind((enum kobj_kind)kind, &buf);
        json_t *json = load(&buf);
        assert_true(check_refs(json, json) >= 1); // metadata at least
        assert_string_equal(json_string_value(json_object_get(json, "title")),
                            kobj_kind_text((enum kobj_kind)kind));
        json_decref(json);
        n_kinds++;
    }
    buf_init(&buf, SIZE_MAX);
    kobj_schema_all(&buf);
    json_t *all = load(&buf);
    assert_true(check_refs(all, all) > 200);
    assert_int_equal(json_array_size(json_object_get(json_object_get(all, "else"), "allOf")),
                     n_kinds);
    json_decref(all);
    buf_init(&buf, SIZE_MAX);
    kobj_schema_mesh(&buf);
    json_t *mesh = load(&buf);
    assert_true(check_refs(mesh, mesh) >= 3);
    json_decref(mesh);
}

static void test_find(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum kobj_kind kind;
    } cases[] = {
        {"Pod", KOBJ_POD},
        {"virtualservice", KOBJ_VIRTUAL_SERVICE},
        {"networking.istio.io/VirtualService", KOBJ_VIRTUAL_SERVICE},
        {"Gateway", KOBJ_GATEWAY},
        {"gateway.networking.k8s.io/gateway", KOBJ_GATEWAY},
        {"networking.istio.io/Gateway", KOBJ_UNKNOWN}, // a kind that is not read
        {"apps/Pod", KOBJ_UNKNOWN},
        {"", KOBJ_UNKNOWN},
        {"EnvoyFilter", KOBJ_UNKNOWN},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(kobj_schema_find(cases[i].name), cases[i].kind);
    }
}

static void test_api_path(void **state) {
    static const struct {
        enum kobj_kind kind;
        const char *ns, *name, *want;
    } rows[] = {
        {KOBJ_NODE, "", "n1", "/api/v1/nodes/n1"},
        {KOBJ_SERVICE, "shop", "web", "/api/v1/namespaces/shop/services/web"},
        {KOBJ_ENDPOINTS, "shop", "web", "/api/v1/namespaces/shop/endpoints/web"},
        {KOBJ_GATEWAY, "a", "b", "/apis/gateway.networking.k8s.io/v1/namespaces/a/gateways/b"},
        {KOBJ_GATEWAY_CLASS, "", "b", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/b"},
        {KOBJ_SERVICE_ENTRY, "a", "b",
         "/apis/networking.istio.io/v1/namespaces/a/serviceentries/b"},
        {KOBJ_AUTHORIZATION_POLICY, "a", "b",
         "/apis/security.istio.io/v1/namespaces/a/authorizationpolicies/b"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *path = kobj_api_path(rows[i].kind, rows[i].ns, rows[i].name);
        assert_string_equal(path, rows[i].want);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_api_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
