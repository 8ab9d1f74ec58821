// SPDX-License-Identifier: Apache-2.0
//
// The three patches, as tables: target, patch, result.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/local_patch.h"

static json_t *parse(const char *text) {
    char plain[1024];
    size_t n = 0;
    for (; text[n] != '\0'; n++) { // ' for ", to be readable here
        assert_true(n + 1 < sizeof(plain));
        plain[n] = (char)(text[n] == '\'' ? '"' : text[n]);
    }
    plain[n] = '\0';
    json_error_t error;
    json_t *value = json_loads(plain, JSON_DECODE_ANY, &error);
    if (value == NULL) {
        fail_msg("%s: %s", text, error.text);
    }
    return value;
}

static void expect(json_t *have, const char *wanted) {
    json_t *want = parse(wanted);
    if (!json_equal(have, want)) {
        char *text = have != NULL ? json_dumps(have, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        fail_msg("%s, not %s", text != NULL ? text : "nothing", wanted);
    }
    json_decref(want);
    json_decref(have);
}

struct row {
    const char *target, *patch, *result;
};

// RFC 7386, with the examples of its appendix
static void test_merge(void **state) {
    static const struct row rows[] = {
        {"{'a': 'b'}", "{'a': 'c'}", "{'a': 'c'}"},
        {"{'a': 'b'}", "{'b': 'c'}", "{'a': 'b', 'b': 'c'}"},
        {"{'a': 'b'}", "{'a': null}", "{}"},
        {"{'a': 'b', 'b': 'c'}", "{'a': null}", "{'b': 'c'}"},
        {"{'a': ['b']}", "{'a': 'c'}", "{'a': 'c'}"},
        {"{'a': 'c'}", "{'a': ['b']}", "{'a': ['b']}"},
        {"{'a': {'b': 'c'}}", "{'a': {'b': 'd', 'c': null}}", "{'a': {'b': 'd'}}"},
        {"{'a': [{'b': 'c'}]}", "{'a': [1]}", "{'a': [1]}"},
        {"['a', 'b']", "['c', 'd']", "['c', 'd']"},
        {"{'a': 'b'}", "['c']", "['c']"},
        {"{'e': null}", "{'a': 1}", "{'e': null, 'a': 1}"},
        {"[1, 2]", "{'a': 'b', 'c': null}", "{'a': 'b'}"},
        {"{}", "{'a': {'bb': {'ccc': null}}}", "{'a': {'bb': {}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *target = parse(rows[i].target), *before = json_deep_copy(target);
        json_t *patch = parse(rows[i].patch);
        expect(patch_merge(target, patch), rows[i].result);
        assert_true(json_equal(target, before)); // it stays
        json_decref(target);
        json_decref(before);
        json_decref(patch);
    }
}

#define CTRS(items) "{'spec': {'containers': [" items "]}}"

static void test_strategic(void **state) {
    static const struct row rows[] = {
        // By name; what the patch does not name stays.
        {CTRS("{'name': 'a', 'image': 'x', 'env': [{'name': 'E', 'value': '1'}]}, {'name': 'b'}"),
         CTRS("{'name': 'a', 'image': 'y'}"),
         CTRS("{'name': 'a', 'image': 'y', 'env': [{'name': 'E', 'value': '1'}]}, {'name': 'b'}")},
        {CTRS("{'name': 'a'}"), CTRS("{'name': 'c', 'image': 'z'}"),
         CTRS("{'name': 'a'}, {'name': 'c', 'image': 'z'}")},
        {CTRS("{'name': 'a'}, {'name': 'b'}"), CTRS("{'name': 'a', '$patch': 'delete'}"),
         CTRS("{'name': 'b'}")},
        {CTRS("{'name': 'a'}, {'name': 'b'}"), CTRS("{'$patch': 'replace'}, {'name': 'c'}"),
         CTRS("{'name': 'c'}")},
        {CTRS("{'name': 'a'}"), CTRS("{'name': 'x', '$patch': 'delete'}"), CTRS("{'name': 'a'}")},
        // Lists in lists
        {CTRS("{'name': 'a', 'env': [{'name': 'E', 'value': '1'}]}"),
         CTRS("{'name': 'a', 'env': [{'name': 'F', 'value': '2'}]}"),
         CTRS("{'name': 'a', 'env': [{'name': 'E', 'value': '1'}, {'name': 'F', 'value': '2'}]}")},
        // Ports have one key in containers and another one in Services.
        {CTRS("{'name': 'a', 'ports': [{'containerPort': 1, 'name': 'x'}]}"),
         CTRS("{'name': 'a', 'ports': [{'containerPort': 1, 'name': 'y'}]}"),
         CTRS("{'name': 'a', 'ports': [{'containerPort': 1, 'name': 'y'}]}")},
        {"{'ports': [{'port': 80, 'targetPort': 1}]}", "{'ports': [{'port': 81}]}",
         "{'ports': [{'port': 80, 'targetPort': 1}, {'port': 81}]}"},
        // Other lists are replaced, directives of order are not kept.
        {"{'args': ['a'], 'x': 1}", "{'args': ['b'], '$setElementOrder/args': []}",
         "{'args': ['b'], 'x': 1}"},
        {"{'metadata': {'labels': {'a': '1', 'b': '2'}}}", "{'metadata': {'labels': {'a': null}}}",
         "{'metadata': {'labels': {'b': '2'}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *target = parse(rows[i].target), *patch = parse(rows[i].patch);
        expect(patch_strategic(target, patch), rows[i].result);
        json_decref(target);
        json_decref(patch);
    }
}

// RFC 6902. result NULL: an error that names the operation
static void test_json(void **state) {
    static const struct row rows[] = {
        {"{'foo': 'bar'}", "[{'op': 'add', 'path': '/baz', 'value': 'qux'}]",
         "{'baz': 'qux', 'foo': 'bar'}"},
        {"{'foo': ['bar', 'baz']}", "[{'op': 'add', 'path': '/foo/1', 'value': 'qux'}]",
         "{'foo': ['bar', 'qux', 'baz']}"},
        {"{'foo': ['bar']}", "[{'op': 'add', 'path': '/foo/-', 'value': ['abc']}]",
         "{'foo': ['bar', ['abc']]}"},
        {"{'foo': ['bar']}", "[{'op': 'add', 'path': '/foo/2', 'value': 1}]", NULL},
        {"{'foo': 1}", "[{'op': 'add', 'path': '/a/b', 'value': 1}]", NULL},
        {"{'foo': 1}", "[{'op': 'add', 'path': '/a'}]", NULL},
        {"{'a': 1, 'b': 2}", "[{'op': 'remove', 'path': '/a'}]", "{'b': 2}"},
        {"{'a': [1, 2, 3]}", "[{'op': 'remove', 'path': '/a/1'}]", "{'a': [1, 3]}"},
        {"{'a': 1}", "[{'op': 'remove', 'path': '/b'}]", NULL},
        {"{'a': [1]}", "[{'op': 'remove', 'path': '/a/1'}]", NULL},
        {"{'a': [1]}", "[{'op': 'remove', 'path': '/a/x'}]", NULL},
        {"{'a': 1}", "[{'op': 'replace', 'path': '/a', 'value': {'b': []}}]", "{'a': {'b': []}}"},
        {"{'a': [1, 2]}", "[{'op': 'replace', 'path': '/a/0', 'value': 7}]", "{'a': [7, 2]}"},
        {"{'a': 1}", "[{'op': 'replace', 'path': '/b', 'value': 1}]", NULL},
        {"{'a': {'b': 1}}", "[{'op': 'move', 'from': '/a/b', 'path': '/c'}]", "{'a': {}, 'c': 1}"},
        {"{'a': {'b': 1}}", "[{'op': 'copy', 'from': '/a', 'path': '/c'}]",
         "{'a': {'b': 1}, 'c': {'b': 1}}"},
        {"{'a': 1}", "[{'op': 'copy', 'from': '/x', 'path': '/c'}]", NULL},
        {"{'a': 1}", "[{'op': 'test', 'path': '/a', 'value': 1}]", "{'a': 1}"},
        {"{'a': 1}", "[{'op': 'test', 'path': '/a', 'value': 2}]", NULL},
        {"{'a/b': 1, 'm~n': 2}",
         "[{'op': 'remove', 'path': '/a~1b'}, {'op': 'replace', 'path': '/m~0n', 'value': 3}]",
         "{'m~n': 3}"},
        {"{'a': 1}", "[{'op': 'frob', 'path': '/a'}]", NULL},
        {"{'a': 1}", "[{'op': 'remove', 'path': 'a'}]", NULL},
        {"{'a': 1}", "[]", "{'a': 1}"},
        {"{'a': 1}", "{'a': 2}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *target = parse(rows[i].target), *before = json_deep_copy(target);
        json_t *patch = parse(rows[i].patch);
        char *error = NULL;
        json_t *result = patch_json(target, patch, &error);
        assert_true(json_equal(target, before)); // also after a failure half-way
        if (rows[i].result != NULL) {
            assert_null(error);
            expect(result, rows[i].result);
        } else if (result != NULL || error == NULL) {
            fail_msg("%zu: no error", i);
        }
        free(error);
        json_decref(target);
        json_decref(before);
        json_decref(patch);
    }
}

// An error names the operation that failed; the ones before it are not kept.
static void test_json_error(void **state) {
    json_t *target = parse("{'a': 1}");
    json_t *patch = parse("[{'op': 'remove', 'path': '/a'}, {'op': 'remove', 'path': '/b'}]");
    char *error = NULL;
    assert_null(patch_json(target, patch, &error));
    assert_string_equal(error, "operation 2, remove of \"/b\", cannot be done");
    expect(target, "{'a': 1}");
    free(error);
    json_decref(patch);
}

// A patch that nests deeply is copied in the end, not followed.
static void test_depth(void **state) {
    json_t *deep = json_integer(1);
    for (int i = 0; i < 500; i++) {
        deep = json_pack("{s:o}", "a", deep);
    }
    json_t *result = patch_merge(NULL, deep);
    assert_true(json_equal(result, deep));
    json_decref(result);
    json_decref(deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge), cmocka_unit_test(test_strategic),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_json_error),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
