// SPDX-License-Identifier: Apache-2.0
//
// What `ztunctl local apply` refuses, and what --validate=ignore drops.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/arena.h"
#include "ctl/local_check.h"
#include "ctl/local_json.h"

#define VS(rule)                                                                                   \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: v, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n  - " rule "\n"
#define TO "destination: {host: web"

// Checks a text; the stored form as compact JSON, NULL when refused. The caller frees both.
static char *check(const char *yaml, enum lab_validation mode, char **ret_messages) {
    struct lab_check check = {.mode = mode, .action = "creating"};
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;

    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "x.yaml", slice_str(yaml), CONFIG_YAML, NULL);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
    json_t *doc = lab_check_doc(&check, "x.yaml", &root);
    assert_int_equal(check.n_refused, doc == NULL);
    char *text = doc != NULL ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(doc);
    config_errors_fini(&errors);
    arena_fini(&arena);
    *ret_messages = text_take(&check.messages);
    return text;
}

// Refused with messages that begin so and have this line of ours below (NULL: whatever).
static const struct {
    const char *yaml;
    enum lab_validation mode;
    const char *begin, *place;
} refused[] = {
    {VS("route: [{" TO ", weight: 1}}]"), LAB_VALIDATE_STRICT,
     "Error from server (BadRequest): error when creating \"x.yaml\": VirtualService in version "
     "\"v1\" cannot be handled as a VirtualService: strict decoding error: unknown field "
     "\"spec.http[0].route[0].destination.weight\"\n",
     "\n  x.yaml:7:39: VirtualService shop/v: spec.http[0].route[0].destination.weight: unknown "},
    {VS("route: [{" TO "}}]\n    a: 1\n    b: 2"), LAB_VALIDATE_STRICT,
     "Error from server (BadRequest): error when creating \"x.yaml\": VirtualService in version "
     "\"v1\" cannot be handled as a VirtualService: strict decoding error: unknown field "
     "\"spec.http[0].a\", unknown field \"spec.http[0].b\"\n",
     NULL},
    // Dropped, and what is left is not right, either: the weights are 0.
    {VS("route: [{" TO ", weight: 1}}, {" TO ", weight: 2}}]"), LAB_VALIDATE_IGNORE,
     "Error from server: error when creating \"x.yaml\": admission webhook "
     "\"validation.istio.io\" denied the request: configuration is invalid: spec.http[0].route: ",
     NULL},
    {VS("route: [{" TO "}, weight: 10%}]"), LAB_VALIDATE_STRICT,
     "The VirtualService \"v\" is invalid: spec.http[0].route[0].weight: Invalid value: "
     "\"string\": "
     "spec.http[0].route[0].weight in body must be of type integer: \"string\"\n",
     "\n  x.yaml:7:48: "},
    {"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
     "spec: {host: web, subsets: [{labels: {version: v1, name: v1}}]}",
     LAB_VALIDATE_IGNORE,
     "The DestinationRule \"d\" is invalid: spec.subsets[0].name: Required value\n",
     "`name` is inside of `labels`"},
    {"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
     "spec: {host: web, subsets: {a: b}}",
     LAB_VALIDATE_IGNORE,
     "The DestinationRule \"d\" is invalid: spec.subsets: Invalid value: \"object\": spec.subsets "
     "in "
     "body must be of type array: \"object\"\n",
     NULL},
    {"kind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [web]}", LAB_VALIDATE_STRICT,
     "error: error validating \"x.yaml\": error validating data: apiVersion not set; if you choose "
     "to ignore these errors, turn validation off with --validate=false\n",
     NULL},
    {"kind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [web]}", LAB_VALIDATE_IGNORE,
     "error: resource mapping not found for name: \"v\" namespace: \"\" from \"x.yaml\": no "
     "matches "
     "for kind \"VirtualService\" in version \"\"\n",
     NULL},
    {"apiVersion: networking.istio.io/v9\nkind: VirtualService\nmetadata: {name: v}\n",
     LAB_VALIDATE_STRICT, "error: resource mapping not found for name: \"v\"", NULL},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 70000}]}",
     LAB_VALIDATE_STRICT,
     "The Service \"s\" is invalid: spec.ports[0].port: ", "\n  x.yaml:4:23: "},
};

static void test_refused(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char *messages, *stored = check(refused[i].yaml, refused[i].mode, &messages);
        assert_null(stored);
        if (strncmp(messages, refused[i].begin, strlen(refused[i].begin)) != 0) {
            fail_msg("%zu: %s", i, messages);
        }
        if (refused[i].place != NULL && strstr(messages, refused[i].place) == NULL) {
            fail_msg("%zu: no %s in %s", i, refused[i].place, messages);
        }
        free(messages);
    }
}

// Stored in this form, with these messages.
static const struct {
    const char *yaml;
    enum lab_validation mode;
    const char *stored, *messages;
} taken[] = {
    {"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {prots: 1, ports: [{port: 80, "
     "name: http, tagret: 1}]}}",
     LAB_VALIDATE_WARN,
     "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\"},\"spec\":{"
     "\"ports\":[{\"name\":\"http\",\"port\":80}]}}",
     "Warning: unknown field \"spec.prots\"\nWarning: unknown field \"spec.ports[0].tagret\"\n"},
    {"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}], a.b/c: 1, "
     "d: {e: 1}}}",
     LAB_VALIDATE_IGNORE,
     "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\"},\"spec\":{"
     "\"ports\":[{\"port\":80}]}}",
     ""},
    // Nothing is checked.
    {"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {prots: 1}}", LAB_VALIDATE_NONE,
     "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\"},\"spec\":{"
     "\"prots\":1}}",
     ""},
    // A kind that is none of the mesh's.
    {"{apiVersion: acme.test/v1, kind: Widget, metadata: {name: w}, spec: {a: 1}}",
     LAB_VALIDATE_STRICT,
     "{\"apiVersion\":\"acme.test/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"w\"},\"spec\":{"
     "\"a\":1}}",
     NULL},
    // To the API server MeshConfig is a text.
    {"{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: "
     "{mesh: 'nosuch: 1'}}",
     LAB_VALIDATE_STRICT,
     "{\"apiVersion\":\"v1\",\"data\":{\"mesh\":\"nosuch: 1\"},\"kind\":\"ConfigMap\",\"metadata\":"
     "{\"name\":\"istio\",\"namespace\":\"istio-system\"}}",
     ""},
};

static void test_taken(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        char *messages, *stored = check(taken[i].yaml, taken[i].mode, &messages);
        if (stored == NULL || strcmp(stored, taken[i].stored) != 0 ||
            (taken[i].messages != NULL && strcmp(messages, taken[i].messages) != 0)) {
            fail_msg("%zu: %s %s", i, stored, messages);
        }
        free(stored);
        free(messages);
    }
}

static void test_warnings_of_valid_ones(void **state) {
    char *messages,
        *stored = check("{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: "
                        "{name: d}, spec: {host: web, trafficPolicy: {outlierDetection: "
                        "{consecutiveErrors: 1}}}}",
                        LAB_VALIDATE_STRICT, &messages);
    assert_non_null(stored);
    assert_non_null(strstr(messages,
                           "Warning: spec.trafficPolicy.outlierDetection.consecutiveErrors"
                           ": is ignored, by Istio too"));
    free(stored);
    free(messages);
}

// A patched object has no file.
static void test_json(void **state) {
    struct lab_check check = {.mode = LAB_VALIDATE_IGNORE, .action = "patching"};
    json_t *doc =
        json_loads("{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": "
                   "\"s\"}, \"spec\": {\"ports\": [{\"port\": 80, \"x\": 1}], \"y\": {}}}",
                   0, NULL);
    doc = lab_check_json(&check, doc);
    assert_non_null(doc);
    assert_null(js_get(doc, "spec.y"));
    assert_null(json_object_get(json_array_get(js_get(doc, "spec.ports"), 0), "x"));
    js_set(json_array_get(js_get(doc, "spec.ports"), 0), "port", json_integer(0));
    assert_null(lab_check_json(&check, doc));
    char *messages = text_take(&check.messages);
    assert_ptr_equal(strstr(messages, "The Service \"s\" is invalid: spec.ports[0].port: "),
                     messages);
    free(messages);
}

static void test_modes(void **state) {
    enum lab_validation mode = LAB_VALIDATE_NONE;
    assert_true(lab_validation_parse("false", &mode) && mode == LAB_VALIDATE_IGNORE);
    assert_true(lab_validation_parse("true", &mode) && mode == LAB_VALIDATE_STRICT);
    assert_true(lab_validation_parse("warn", &mode) && mode == LAB_VALIDATE_WARN);
    assert_false(lab_validation_parse("no", &mode));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_warnings_of_valid_ones),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
